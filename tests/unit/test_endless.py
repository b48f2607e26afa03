"""Work without an end: how much of its history is kept, and what copies of it need."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from roost.core import bundles, schedules
from roost.core.client import Client
from roost.core.moving import Move
from roost.core.parts import CoreSettings, Parts
from roost.core.worker import Worker
from roost.engine import EngineRegistry
from roost.engines.schedule import ScheduleEngine
from roost.journal import retention
from roost.journal.entries import Control, Entry
from roost.journal.events import Claimed, Committed
from roost.journal.values import Family
from roost.models import State
from roost.names import SCHEDULE_ENGINE
from roost.rules import Missed, Schedule
from roost.storage.aws.cost import bill_of
from roost.storage.memory import MemoryBackend
from roost.testing.contract.process import Scripted, finishes
from roost.testing.virtual_time import SeededIds, VirtualClock, run

SCHEDULE = "team/schedule:s"
MINUTELY = Schedule(cron="* * * * *", engine="demo", missed=Missed.ALL)
SETTINGS = CoreSettings(lease_seconds=30.0, sweep_seconds=20.0, retention_seconds=600.0)
CONTROL = Control(
    state=State.QUEUED, engine=SCHEDULE_ENGINE, position=90, created_at=0.0, since=0.0, snapshot_position=88
)


@pytest.mark.parametrize(
    ("control", "needed"),
    [
        (CONTROL, 88),
        (replace(CONTROL, snapshot_position=None), 90),
        (replace(CONTROL, outbox=(70, 89)), 70),
        (replace(CONTROL, signals=((60, "go"), (89, "go")), last_signal=89), 60),
        (replace(CONTROL, once=(("a", 89), ("b", -50))), 50),
        (replace(CONTROL, family=Family(batches=((1, 2),), reported=(89, -40))), 40),
        (replace(CONTROL, last_signal=3, sent_position=4, rewound=5), 88),
    ],
)
def test_what_work_goes_on_from_is_needed(control: Control, needed: int) -> None:
    assert retention.first_needed(control) == needed


def test_only_schedules_have_no_end() -> None:
    assert retention.is_endless(CONTROL)
    assert not retention.is_endless(replace(CONTROL, engine="demo"))


class World:
    """Storages in virtual time, and a worker for one of them that keeps a schedule of each minute."""

    def __init__(self) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.parts, self.other = [self._parts(seed) for seed in (1, 2)]

    def _parts(self, seed: int) -> Parts:
        ids = SeededIds(random.Random(seed))
        return Parts(MemoryBackend(self.clock), self.clock, ids, SETTINGS)

    def client(self, parts: Parts) -> Client:
        return Client(parts, namespace="team")

    async def tick(self, parts: Parts, minutes: int) -> None:
        """Have a worker run for so long."""
        await schedules.keep(self.client(parts), {"s": MINUTELY})
        worker = Worker(parts, EngineRegistry([Scripted(finishes), ScheduleEngine(self.clock)]), "w")
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await self.clock.sleep(60.0 * minutes)
            worker.drain()

    async def entries(self, parts: Parts) -> list[Entry]:
        return [entry async for entry in self.client(parts).events(SCHEDULE)]


@pytest.mark.slow
def test_a_schedule_of_each_minute_keeps_so_many_entries_and_no_more() -> None:
    """Those of a few hours, however long it runs."""

    async def story() -> None:
        world = World()
        counts = []
        for _ in range(3):
            await world.tick(world.parts, 250)
            counts.append(len(await world.entries(world.parts)))
        most = retention.ENTRIES_KEPT + 4 * retention.TRIM_EVERY
        assert counts[0] > retention.ENTRIES_KEPT
        assert max(counts) <= most < (await world.entries(world.parts))[-1].position
        [view] = await schedules.list_schedules(world.client(world.parts))
        assert view.count >= 740

    run(story)


def test_a_bundle_has_what_is_left_of_a_trimmed_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "TRIM_EVERY", 3)
    monkeypatch.setattr(retention, "ENTRIES_KEPT", 4)

    async def story() -> None:
        world = World()
        await world.tick(world.parts, 8)
        entries = await world.entries(world.parts)
        assert entries[1].position > 1
        path = tmp_path / "bundle"
        await bundles.save(world.client(world.parts), world.parts.backend, [SCHEDULE], path)
        assert await bundles.load(world.other.backend, path) == len(entries)
        assert await world.entries(world.other) == entries

    run(story)


def test_the_bill_of_a_trimmed_journal_is_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its entries is written in a transaction with its row."""
    monkeypatch.setattr(retention, "TRIM_EVERY", 3)
    monkeypatch.setattr(retention, "ENTRIES_KEPT", 4)

    async def story() -> None:
        world = World()
        await world.tick(world.parts, 8)
        entries = await world.entries(world.parts)
        bill = bill_of([entries])
        assert bill.steps == sum(isinstance(entry.event, Committed) for entry in entries) < 8
        claims = sum(isinstance(entry.event, Claimed) for entry in entries)
        assert bill.units["claim", "dynamodb_write_unit"] >= 4 * claims

    run(story)


def test_a_move_takes_a_trimmed_journal_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it goes on there, tick by tick."""
    monkeypatch.setattr(retention, "TRIM_EVERY", 3)
    monkeypatch.setattr(retention, "ENTRIES_KEPT", 4)

    async def story() -> None:
        world = World()
        await world.tick(world.parts, 8)
        move = Move(world.parts, world.other, "team", "there")
        await move.run(wait_seconds=60.0)
        [there] = await schedules.list_schedules(world.client(world.other))
        await world.tick(world.other, 8)
        [later] = await schedules.list_schedules(world.client(world.other))
        assert later.count >= there.count + 7
        assert there.count >= 7

    run(story)
