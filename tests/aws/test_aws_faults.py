"""Faults on the wire between real worker processes and AWS: all work is done, and nobody hears of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from roost.storage.aws.faults import is_passing
from roost.testing.standins import StandIn
from tests.aws.faults import KINDS, start_faults
from tests.aws.test_aws_kill import is_done, on_aws, work
from tests.crash.fleet import Fleet, check_done, overlaps, until
from tests.standins.harness import point_sdk_at

SHARE = 0.1
SECONDS = 240.0  # a bound for a busy machine; a quiet one takes a twentieth of it
STEPS = 5


@pytest.mark.parametrize("code", ["ThrottlingException", "AWS.SimpleQueueService.ThrottlingException"])
def test_throttling_passes_however_it_is_spelled(code: str) -> None:
    assert is_passing(ClientError({"Error": {"Code": code}}, "DeleteMessageBatch"))
    gone = "AWS.SimpleQueueService.NonExistentQueue"
    assert not is_passing(ClientError({"Error": {"Code": gone}}, "DeleteMessageBatch"))


async def roost(fleet: Fleet, *arguments: str) -> Any:
    """What a command prints as JSON; it must succeed and complain of nothing."""
    command = [sys.executable, "-m", "roost", *arguments, "--json"]
    environ = {**os.environ, **fleet.environ}
    done = await asyncio.to_thread(
        subprocess.run, command, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), (arguments, done.stderr)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "items", "workers"),
    [pytest.param(*one, marks=pytest.mark.soak) for one in ((1, 16, 2), (2, 60, 2), (3, 60, 3))],
)
async def test_all_work_is_done_over_a_bad_wire(
    ministack: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int, items: int, workers: int
) -> None:
    """A tenth of all calls fails: 500s, throttling, timeouts and resets, replies lost, cut off or late."""
    point_sdk_at(ministack, monkeypatch)
    with start_faults(ministack, tmp_path, seed=seed) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        async with on_aws(ministack, tmp_path, AWS_ENDPOINT_URL=wire.url, ROOST_DEBUG="1") as (
            fleet,
            runtime,
        ):
            wire.rain(SHARE)
            for _ in range(workers):
                fleet.start()
            works = [
                work(fleet, steps=STEPS, seconds=0.01, resources=(f"r{n % 3}",) if n % 3 == 0 else ())
                for n in range(items)
            ]
            ids = list(await runtime.client.enqueue_many(works))
            payload = json.dumps(work(fleet, steps=STEPS, seconds=0.01).payload)
            command = ("enqueue", "--engine", "ledger", "--payload", payload, "--any-engine")
            ids.append((await roost(fleet, *command))["work_id"])
            await until(lambda: is_done(runtime, ids), runtime, seconds=SECONDS)
            await asyncio.gather(roost(fleet, "list"), roost(fleet, "status", ids[-1]))
            wire.calm()
            seen = wire.seen()
            assert seen.keys() >= KINDS, seen
            assert seen["calls"] * SHARE * 0.5 < seen.total() - seen["calls"], "fewer faults than meant"
            for work_id in ids:
                await check_done(runtime, work_id, STEPS)
            assert overlaps(fleet.records(), fleet.killed_at) == []
            for pid in fleet.pids:
                assert fleet.is_alive(pid), fleet.log(pid)
                levels = {json.loads(line)["level"] for line in fleet.log(pid).splitlines()}
                assert levels <= {"info", "warning"}, fleet.log(pid)
