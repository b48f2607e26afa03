"""Lanes: high work goes first, and low work is never starved by it."""

from __future__ import annotations

import asyncio
import random

from roost.core.client import Client
from roost.core.new_work import NewWork
from roost.core.parts import CoreSettings, Parts
from roost.core.worker import LOWER_FIRST_EVERY, Worker
from roost.engine import EngineRegistry
from roost.models import Snapshot, WorkItem
from roost.names import Lane
from roost.storage.memory import MemoryBackend
from roost.testing.contract.process import Scripted
from roost.testing.virtual_time import SeededIds, VirtualClock, run

ITEMS = 150  # of each lane: more than is taken


async def taken(count: int, concurrency: int) -> list[str]:
    """The lanes of the first work items that a worker runs, while all its lanes have a backlog."""
    clock = VirtualClock(asyncio.get_running_loop())
    settings = CoreSettings(lease_seconds=30.0, wait_seconds=5.0, concurrency=concurrency)
    parts = Parts(MemoryBackend(clock), clock, SeededIds(random.Random(1)), settings)
    client, lanes = Client(parts), []

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        lanes.append(Lane.of(item.priority).value)
        await clock.sleep(1.0)
        return snapshot.finish()

    await client.enqueue_many([NewWork("demo", {}, priority=n % 3 - 1) for n in range(3 * ITEMS)])
    working = asyncio.create_task(Worker(parts, EngineRegistry([Scripted(step)]), "w").run())
    while len(lanes) < count:
        await clock.sleep(1.0)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return lanes[:count]


def test_low_work_is_begun_while_others_have_a_backlog_without_end() -> None:
    """Every fourth look begins at `normal`, every sixteenth at `low`."""
    lanes = run(lambda: taken(48, 1))
    assert [place for place, lane in enumerate(lanes, 1) if lane == "low"] == [16, 32, 48]
    normal = [place for place, lane in enumerate(lanes, 1) if lane == "normal"]
    assert normal == [place for place in range(4, 48, LOWER_FIRST_EVERY) if place % 16]
    assert lanes.count("high") == 36


def test_a_worker_with_many_places_starves_none_either() -> None:
    """A look fills all that are free; so of 20 looks that take eight, one brings low work alone."""
    lanes = run(lambda: taken(160, 8))
    assert {lane: lanes.count(lane) for lane in ("high", "normal", "low")} == {
        "high": 120,
        "normal": 32,
        "low": 8,
    }
