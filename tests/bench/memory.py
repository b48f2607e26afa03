"""What a worker holds in memory: idle, and at its most while it works."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from roost.core.new_work import NewWork
from tests.bench.workers import DEFINED, Memory, memory_of, opened, run_workers, worker

_IDLE_SECONDS = 2.0  # in which all workers have come up
_STEPS = 10


AT_WORK = (  # bytes of the state, items at a time, workers
    *((500, 8, 1), (500, 8, 2), (500, 32, 1), (500, 256, 1)),
    *((20_000, 8, 1), (20_000, 8, 2), (20_000, 32, 1), (20_000, 256, 1)),
)


async def memory(root: Path, quick: bool) -> None:
    """Print it, each the median of all workers of some rounds."""
    rounds, items = (1, 60) if quick else (3, 600)
    print("\nmemory of a worker, in MB of 1,000,000 bytes; at work the most that was seen")
    for name, meaning in DEFINED.items():
        print(f"  {name:10}{meaning}")
    print(f"{'':28}{'workers':>10}" + "".join(f"{name:>12}" for name in DEFINED))
    for workers in (1, 2):
        idle = [_idle(root / f"idle-{workers}-{n}", workers) for n in range(rounds)]
        _print("idle", workers, list(chain.from_iterable(idle)))
    for size, concurrency, workers in AT_WORK:
        found: list[Memory] = []
        for n in range(rounds):
            home = root / f"memory-{size}-{concurrency}-{workers}-{n}"
            async with opened(home) as runtime:
                work = NewWork("counter", {"steps": _STEPS, "size": size})
                await runtime.client.enqueue_many([work] * max(items, 2 * concurrency))
            found += _at_work(home, concurrency, workers)
        _print(f"{concurrency} items of {size:,} bytes", workers, found)


def _idle(home: Path, workers: int) -> Sequence[Memory]:
    processes = [worker(home) for _ in range(workers)]
    try:
        time.sleep(_IDLE_SECONDS)
        return [memory_of(process.pid) for process in processes]
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


def _at_work(home: Path, concurrency: int, workers: int) -> Sequence[Memory]:
    most: dict[int, Memory] = {}

    def look(pid: int) -> None:
        most.setdefault(pid, Memory()).raise_to(memory_of(pid))

    run_workers(home, workers, concurrency, look)
    return list(most.values())


def _print(what: str, workers: int, found: Sequence[Memory]) -> None:
    medians = [statistics.median(getattr(one, name) for one in found) for name in DEFINED]
    print(f"{what:>28}{workers:>10}" + "".join(f"{median:>12.1f}" for median in medians))
