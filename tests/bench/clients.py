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
PAYLOAD_BYTES = 500
_START_SECONDS = 3.0  # in which all processes have come up


def batch_of_work(first: int) -> list[NewWork]:
    """`BATCH` work items; no two have the same payload, as in real life."""
    note = "x" * (PAYLOAD_BYTES - 50)
    return [
        NewWork("counter", {"steps": 1, "size": 500, "number": number, "note": f"{note}{number:06}"})
        for number in range(first, first + BATCH)
    ]


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
    async with open_runtime(Settings(home=home)) as runtime:
        await runtime.client.enqueue_many(batch_of_work(0))
        await asyncio.sleep(max(0.0, start - time.time()))
        began = time.time()
        for number in range(1, batches + 1):
            await runtime.client.enqueue_many(batch_of_work(number * BATCH))
        return began, time.time()
