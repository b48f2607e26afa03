"""Clients that enqueue at the same time, each in a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from roost.config import Settings
from roost.core.new_work import NewWork
from roost.wiring import open_runtime

BATCH = 1000  # items
_START_SECONDS = 3.0  # in which all processes have come up


def enqueued_per_second(home: Path, clients: int, batches: int) -> float:
    """Items a second that `clients` processes enqueue together on one file, `BATCH` at a time."""
    context = multiprocessing.get_context("spawn")  # a fork would take this process' threads' locks along
    with ProcessPoolExecutor(clients, mp_context=context) as pool:
        start = time.time() + _START_SECONDS
        runs = [pool.submit(_enqueue, home, batches, start) for _ in range(clients)]
        spans = [run.result() for run in runs]
    seconds = max(end for _, end in spans) - min(began for began, _ in spans)
    return clients * batches * BATCH / seconds


def _enqueue(home: Path, batches: int, start: float) -> tuple[float, float]:
    """Enqueue from `start` on; when it began and ended, in epoch seconds."""
    return asyncio.run(_enqueue_batches(home, batches, start))


async def _enqueue_batches(home: Path, batches: int, start: float) -> tuple[float, float]:
    works = [NewWork("counter", {"steps": 1, "size": 500})] * BATCH
    async with open_runtime(Settings(home=home)) as runtime:
        await runtime.client.enqueue_many(works)
        await asyncio.sleep(max(0.0, start - time.time()))
        began = time.time()
        for _ in range(batches):
            await runtime.client.enqueue_many(works)
        return began, time.time()
