"""Steps per second on the AWS backend with the network out of the way: `python -m tests.bench.aws`.

The whole core works against a load target that answers each call after 5 ms. Worker
processes are rated by the wall clock and by the CPU seconds that they use for a step, since
the load target and whatever else runs share the machine's cores with them.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from roost.config import AwsSettings, Settings
from roost.core.client import NewWork
from roost.core.parts import CoreSettings, Parts
from roost.core.worker import Worker
from roost.engine import EngineRegistry
from roost.models import Snapshot, WorkItem
from roost.wiring import open_runtime
from tests.bench.engines import Counter

LATENCY_MS = 5.0
STEPS = 50  # of a work item, in one burst
BYTES = 500


@dataclass(frozen=True)
class Mode:
    """A way of working: how many work items at a time, and how many calls may be under way."""

    name: str
    concurrency: int
    appends_in_flight: int


FEW = Mode("few, plain", concurrency=4, appends_in_flight=256)
PLAIN = Mode("many, plain", concurrency=16, appends_in_flight=256)
GROUP = Mode("group commit", concurrency=256, appends_in_flight=AwsSettings().appends_in_flight)


@dataclass(frozen=True)
class Rate:
    """What worker processes reached together."""

    steps: int
    wall_seconds: float
    cpu_seconds: float
    target_seconds: float  # of the load target's CPU

    @property
    def steps_per_second(self) -> float:
        return self.steps / self.wall_seconds

    @property
    def cpu_ms_per_step(self) -> float:
        return self.cpu_seconds / self.steps * 1000


class Ending(Counter):
    """The engine, which says when its last work item ends."""

    def __init__(self, items: int) -> None:
        self._left = items
        self.all_done = asyncio.Event()

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        after = await super().step(snapshot, item)
        if after.is_finished:
            self._left -= 1
            if not self._left:
                self.all_done.set()
        return after


@contextmanager
def load_target(latency_ms: float) -> Iterator[str]:
    """Run one; gives its URL."""
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        port = reservation.getsockname()[1]
    command = [sys.executable, "-m", "tests.bench.load_target", str(port), str(latency_ms)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


def calls(url: str) -> dict[str, int]:
    """How often each operation was called."""
    found: dict[str, int] = _spent(url)["calls"]
    return found


def _spent(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/calls", timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


_STACKS = itertools.count()  # one a worker: a poll that a former one left behind would take its messages


def run(url: str, mode: Mode, *, items: int, processes: int = 1) -> Rate:
    """Let worker processes do `items` work items each, on stacks of their own."""
    environ = {
        **os.environ,
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    command = [sys.executable, "-m", "tests.bench.aws", "--worker"]
    command += [str(number) for number in (mode.concurrency, mode.appends_in_flight, items)]
    started = [
        subprocess.Popen(
            [*command, f"bench{next(_STACKS)}"], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(processes)
    ]
    for process in started:  # all have enqueued before one begins
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    said, before = [], _spent(url)["cpu_seconds"]
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in started:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0
        said.append(json.loads(output))
    return Rate(
        items * STEPS * processes,
        max(one["wall_seconds"] for one in said),
        sum(one["cpu_seconds"] for one in said),
        _spent(url)["cpu_seconds"] - before,
    )


async def work(concurrency: int, appends_in_flight: int, items: int, stack: str) -> None:
    """One worker process: enqueue, wait for the word, work, and say what it took."""
    aws = AwsSettings(stack=stack, bucket=stack, appends_in_flight=appends_in_flight)
    async with open_runtime(Settings(storage=f"aws:{stack}", aws=aws)) as runtime:
        await runtime.client.enqueue_many([NewWork("counter", {"steps": STEPS, "size": BYTES})] * items)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        engine = Ending(items)
        settings = CoreSettings(concurrency=concurrency, sweep_seconds=30.0)
        parts = Parts(runtime.backend, runtime.parts.clock, runtime.parts.ids, settings)
        worker = Worker(parts, EngineRegistry([engine]), stack)
        wall, cpu = time.perf_counter(), time.process_time()
        running = asyncio.create_task(worker.run())
        await engine.all_done.wait()
        while worker.sessions:
            await asyncio.sleep(0.002)
        spent = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        worker.drain()
        await running
    print(json.dumps(spent))


def main(quick: bool) -> None:
    """Measure and print."""
    print(f"steps of {BYTES} bytes, {STEPS} in a burst; each call takes {LATENCY_MS:g} ms")
    print(
        "two processes do twice the work of one while there are cores for them, as those with few items\n"
        f"show; {os.cpu_count()} cores are here, of which the load target takes its part (cores: theirs); "
        "once all are used\nup, CPU ms/step says what a further core would bring"
    )
    columns = ("processes", "at a time", "steps/s", "x one", "CPU ms/step", "steps/s a core", "calls/step")
    print(f"{'':14}" + "".join(f"{column:>15}" for column in (*columns, "cores: ours", "cores: theirs")))
    for mode in (FEW, PLAIN, GROUP):
        alone = 0.0
        for processes in (1, 2):
            with load_target(LATENCY_MS) as url:
                rate = run(url, mode, items=mode.concurrency * (1 if quick else 4), processes=processes)
                made = sum(calls(url).values()) / rate.steps
            alone = alone or rate.steps_per_second
            ours, theirs = (spent / rate.wall_seconds for spent in (rate.cpu_seconds, rate.target_seconds))
            print(
                f"{mode.name:14}{processes:>15}{mode.concurrency:>15}{rate.steps_per_second:>15,.0f}"
                f"{rate.steps_per_second / alone:>15.2f}{rate.cpu_ms_per_step:>15.3f}"
                f"{1000 / rate.cpu_ms_per_step:>15,.0f}{made:>15.3f}"
                f"{ours:>15.2f}{theirs:>15.2f}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.aws")
    parser.add_argument(
        "--quick", action="store_true", help="small numbers: shows that it runs, not how fast"
    )
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        asyncio.run(work(*map(int, arguments.worker[:3]), arguments.worker[3]))
    else:
        main(arguments.quick)
