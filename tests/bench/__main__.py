"""Run the benchmarks: `python -m tests.bench [--quick]`. Everything is on this machine's disk.

Other programs on the machine make all figures worse, ratios least: the raw commits that a
rate is compared with are measured right before and after it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from roost.core.new_work import NewWork
from roost.models import Lane, State
from roost.storage.query import IndexQuery
from roost.wiring import Runtime
from tests.bench.clients import BATCH, PAYLOAD_BYTES, batch_of_work, enqueued_per_second
from tests.bench.memory import memory
from tests.bench.raw import commits_per_second
from tests.bench.workers import Used, memory_of, opened, run_workers, worker


async def steps(root: Path, *, size: int, items: int, count: int, concurrency: int, processes: int) -> Used:
    home = root / f"steps-{size}-{concurrency}-{processes}"
    async with opened(home) as runtime:
        await runtime.client.enqueue_many([NewWork("counter", {"steps": count, "size": size})] * items)
    return run_workers(home, processes, concurrency)


async def start_cpu(root: Path) -> float:
    """CPU seconds that a worker takes to start and stop with nothing to do."""
    home = root / "start"
    async with opened(home):
        pass
    return min(run_workers(home, 1, 8).cpu_seconds for _ in range(3))


async def step_rates(root: Path, quick: bool) -> None:
    base = await start_cpu(root)
    print("\nsteps per second (10 steps an item); raw is SQLite alone, 64 steps a commit")
    print("(raw has the state as current and in the history, once: in the history alone)")
    names = ("concurrency", "processes", "steps/s", "raw/s", "of raw", "of once", "CPU ms/step", "peak MB")
    print(f"{'':12}" + "".join(f"{name:>14}" for name in names))
    for size in (500, 20_000):
        print(f"{size:>7} bytes")
        for concurrency, processes in ((1, 1), (32, 1), (256, 1), (32, 2), (256, 2)):
            items = (200 if concurrency == 1 else 3000) // (
                15 if quick else 1
            )  # else ends and starts weigh too much
            before, once = raw_rate(root, size, quick), raw_rate(root, size, quick, is_once=True)
            used = await steps(
                root, size=size, items=items, count=10, concurrency=concurrency, processes=processes
            )
            raw = (before + raw_rate(root, size, quick)) / 2
            rate = items * 10 / used.seconds
            cpu = (used.cpu_seconds - base * processes) / (items * 10) * 1000
            print(
                f"{'':12}{concurrency:>14}{processes:>14}{rate:>14,.0f}{raw:>14,.0f}{rate / raw:>14.1%}"
                f"{rate / once:>14.1%}{cpu:>14.3f}{used.peak_mb:>14.1f}"
            )


def raw_rate(root: Path, size: int, quick: bool, *, is_once: bool = False) -> float:
    seconds = 0.2 if quick else 0.7
    return commits_per_second(root, body_bytes=size, batch=64, seconds=seconds, is_once=is_once)


async def latencies(root: Path, quick: bool) -> None:
    home, number = root / "latency", 40 if quick else 300
    alone = commits_per_second(root, body_bytes=500, batch=1, seconds=0.5)
    async with opened(home) as runtime:
        process = worker(home)
        try:
            await finished(runtime, await runtime.client.enqueue("counter", {"steps": 1, "size": 500}))
            waits = []
            for _ in range(number):
                at = time.time()
                work_id = await runtime.client.enqueue("counter", {"steps": 1, "size": 500})
                await finished(runtime, work_id)
                waits.append([e async for e in runtime.client.events(work_id)][1].at - at)
                await asyncio.sleep(0.01)
            work_id = await runtime.client.enqueue("counter", {"steps": number, "size": 500})
            await finished(runtime, work_id)
            times = [entry.at async for entry in runtime.client.events(work_id)][2:]
            gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
            idle = process_cpu(process.pid)
            await asyncio.sleep(2 if quick else 10)
            share = (process_cpu(process.pid) - idle) / (2 if quick else 10)
            held = memory_of(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)
    print("\nlatency on an idle system, two processes")
    print(f"  one raw commit                         {1000 / alone:8.3f} ms")
    print(f"  enqueue -> claimed by the other, p50   {quantile(waits, 0.5) * 1000:8.3f} ms")
    print(f"  enqueue -> claimed by the other, p99   {quantile(waits, 0.99) * 1000:8.3f} ms")
    between = quantile(gaps, 0.5)
    print(
        f"  between two steps, p50                 {between * 1000:8.3f} ms"
        f" = {between * alone:.1f} raw commits"
    )
    print(
        f"  idle worker: CPU {share:.2%} of a core, {held.own:.1f} MB its own, {held.resident:.1f} resident"
    )


async def finished(runtime: Runtime, work_id: str) -> None:
    while not (await runtime.client.control(work_id)).state.is_terminal:
        await asyncio.sleep(0.002)


def process_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quantile(values: list[float], part: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[int(part * 100) - 1]


async def backlog(root: Path, quick: bool) -> None:
    print(f"\nwith many waiting items: enqueue {BATCH:,} of {PAYLOAD_BYTES} bytes each, claim 10, list 50")
    print(f"{'waiting':>10}{'enqueued/s':>14}{'claims/s':>14}{'list ms':>12}{'failed list ms':>16}")
    async with opened(root / "backlog") as runtime:
        waiting, client = 0, runtime.client  # which is loaded now, not with the first batch
        for target in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
            seconds, before = 0.0, waiting
            while waiting < target:
                works = batch_of_work(waiting)
                began = time.perf_counter()
                await client.enqueue_many(works)
                seconds += time.perf_counter() - began
                waiting += BATCH
            rate = (waiting - before) / seconds
            print(f"{waiting:>10,}{rate:>14,.0f}{await claims(runtime):>14,.0f}", end="")
            print(f"{await listing(runtime, None):>12.2f}{await listing(runtime, State.FAILED):>16.2f}")
    for clients in (1, 2):
        before = raw_rate(root, PAYLOAD_BYTES, quick)
        rate = enqueued_per_second(root / f"clients-{clients}", clients, 5 if quick else 30)
        raw = (before + raw_rate(root, PAYLOAD_BYTES, quick)) / 2
        print(
            f"{rate:,.0f}/s enqueued by {clients} at a time, in batches of {BATCH:,}"
            f" = {rate / raw:.0%} of raw's {raw:,.0f}/s"
        )


async def claims(runtime: Runtime) -> float:
    """Deliveries taken a second, ten at a time, from a full queue: the median of some short rounds."""
    return statistics.median([await claims_once(runtime) for _ in range(5)])


async def claims_once(runtime: Runtime) -> float:
    """The rate of 500; given back afterwards."""
    began, taken = time.perf_counter(), []
    for _ in range(50):
        taken += await runtime.backend.queue.receive(
            10, visibility_seconds=60, wait_seconds=0, lanes=list(Lane)
        )
    rate = len(taken) / (time.perf_counter() - began)
    for delivery in taken:
        await runtime.backend.queue.put_back(delivery, 0)
    return rate


async def listing(runtime: Runtime, state: State | None) -> float:
    times = []
    for _ in range(20):
        began = time.perf_counter()
        await runtime.client.list(IndexQuery(state=state), limit=50)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument(
        "--quick", action="store_true", help="small numbers: shows that it runs, not how fast"
    )
    parser.add_argument("--only", choices=["steps", "memory", "latency", "backlog"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="roost-bench-") as name:
        # As on a machine where Roost is installed: bytecode is on disk, whatever the environment says.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{name}/bytecode"
        await start_cpu(Path(name))  # writes it
        parts = {"steps": step_rates, "memory": memory, "latency": latencies, "backlog": backlog}
        for part, measure in parts.items():
            if arguments.only in (None, part):
                await measure(Path(name), arguments.quick)


if __name__ == "__main__":
    asyncio.run(main())
