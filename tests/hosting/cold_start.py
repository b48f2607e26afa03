"""How long a function takes to start: `python -m tests.hosting.cold_start`.

Starts each function a few times, as Lambda does for a cold start, and prints the best and
the worst: the wall and CPU time until the handler is imported, and the CPU time of a first
and of a second invocation. The AWS backend is opened on a stand-in.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

import pytest

from roost.testing.standins import start_moto
from tests.hosting.service import container
from tests.hosting.shapes import schedule_event
from tests.standins.harness import SHARDS, make_stack, point_sdk_at

_RUNS = 5
_EVENTS = {"lambda_worker": {"Records": []}, "lambda_sweeper": schedule_event()}


async def measure(module: str, environ: dict[str, str]) -> list[tuple[float, float, float, float]]:
    """For each run: wall and CPU seconds of the import, CPU seconds of two invocations."""
    found = []
    for _ in range(_RUNS):
        began = time.monotonic()
        async with container(module, environ) as function:
            wall = time.monotonic() - began
            first, second = [await function.invoke(_EVENTS[module], seconds=60) for _ in range(2)]
        found.append((wall, function.init["init_cpu_seconds"], first["cpu_seconds"], second["cpu_seconds"]))
    return found


async def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        start_moto(Path(folder)) as standin,
        pytest.MonkeyPatch.context() as patch,
    ):
        point_sdk_at(standin, patch)
        made = await make_stack("cold")
        environ = {
            **os.environ,
            "ROOST_STORAGE": f"aws:{made.stack}",
            "ROOST_AWS__BUCKET": str(made.bucket),
            "ROOST_AWS__SHARDS": str(SHARDS),
        }
        print(
            f"{'best to worst of ' + str(_RUNS):24} init wall      init CPU       1st call CPU   2nd call CPU"
        )
        for module in _EVENTS:
            columns = zip(*await measure(module, environ), strict=True)
            print(f"{module:24} " + "   ".join(f"{min(one):.2f} to {max(one):.2f}" for one in columns))


if __name__ == "__main__":
    asyncio.run(main())
