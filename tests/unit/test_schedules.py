"""Schedules: work at the ticks of a cron line, once each, whatever happens in between."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from roost.core import schedules
from roost.core.client import Client
from roost.engine import EngineRegistry
from roost.engines.schedule import ScheduleEngine
from roost.errors import WorkNotFound
from roost.models import State
from roost.rules import Missed, Schedule
from roost.storage.instrument import InstrumentedBackend
from roost.storage.memory import MemoryBackend
from roost.storage.query import IndexQuery
from roost.testing.contract import ManualHarness
from roost.testing.contract.process import Hasty, Process, Scripted, finishes

EVERY_TEN = Schedule(cron="*/10 * * * *", engine="demo", payload={"n": 1}, missed=Missed.ALL)
DAILY = Schedule(cron="0 3 * * *", engine="demo")


class Harness(ManualHarness):
    async def open(self) -> MemoryBackend:
        return MemoryBackend(self.clock)

    async def reopen(self) -> MemoryBackend:
        raise NotImplementedError

    async def damage(self, digest: str) -> None:
        raise NotImplementedError


class Died(Exception):
    """The process ended in the middle of a call."""


class World:
    def __init__(self) -> None:
        self.harness = Harness()
        self.memory = MemoryBackend(self.harness.clock)

    def process(self, hook: Any = None, *, ahead_seconds: float = 0.0) -> Process:
        backend: Any = self.memory if hook is None else InstrumentedBackend(self.memory, hook)
        process = Process(self.harness, backend, Scripted(finishes), ahead_seconds=ahead_seconds)
        process.parts = replace(process.parts, clock=Hasty(process.parts.clock))
        process.client = Client(process.parts)
        process.engines = EngineRegistry([Scripted(finishes), ScheduleEngine(process.parts.clock)])
        process.sweeper._parts = process.parts
        return process

    async def pass_time(self, process: Process, seconds: float, *, look_seconds: float = 20.0) -> None:
        for _ in range(int(seconds / look_seconds)):
            await process.sweeper.sweep()
            await process.work()
            await self.harness.advance(look_seconds)

    async def ticks(self, process: Process) -> list[str]:
        """The ticks that work was enqueued for, in order."""
        rows = (await process.client.list(IndexQuery(engine="demo"), limit=1000)).rows
        items = [(await process.client.status(row.work_id)).item for row in rows]
        return sorted(item.labels["tick"] for item in items)


@pytest.fixture
def world() -> World:
    return World()


async def test_each_tick_enqueues_work_once(world: World) -> None:
    process = world.process()
    await schedules.keep(process.client, {"often": EVERY_TEN})
    await world.pass_time(process, 3600.0)
    ticks = await world.ticks(process)
    assert len(set(ticks)) == len(ticks) == 6
    [view] = await schedules.list_schedules(process.client)
    assert (view.name, view.count, view.rule) == ("often", 6, EVERY_TEN)
    assert view.next_at is not None
    assert view.last_at is not None
    assert view.next_at - view.last_at == 600.0


async def test_tick_comes_on_time(world: World) -> None:
    """A delivery with a delay comes to the second, not when somebody sweeps."""
    process = world.process()
    await schedules.keep(process.client, {"daily": DAILY})
    await world.pass_time(process, 86400.0, look_seconds=30.0)
    [row] = (await process.client.list(IndexQuery(engine="demo"))).rows
    assert row.created_at % 86400 == pytest.approx(3 * 3600, abs=30.0)


async def test_work_at_a_tick_is_what_the_rule_says(world: World) -> None:
    process = world.process()
    rule = EVERY_TEN.model_copy(update={"priority": -1, "resources": ("printer",)})
    await schedules.keep(process.client, {"often": rule})
    await world.pass_time(process, 640.0)
    [row] = (await process.client.list(IndexQuery(engine="demo"))).rows
    item = (await process.client.status(row.work_id)).item
    assert (item.payload, item.priority, item.resources) == ({"n": 1}, -1, ("printer",))
    assert item.labels["schedule"] == "often"


async def test_many_workers_that_start_at_once_keep_one_schedule(world: World) -> None:
    process = world.process()
    others = [world.process() for _ in range(5)]
    await asyncio.gather(*(schedules.keep(one.client, {"often": EVERY_TEN}) for one in others))
    assert len(await schedules.list_schedules(process.client)) == 1
    for number in range(60):
        await others[number % 5].sweeper.sweep()
        await asyncio.gather(*(one.work() for one in others))
        await world.harness.advance(30.0)
    ticks = await world.ticks(process)
    assert len(set(ticks)) == len(ticks) == 3


async def test_clock_that_is_ahead_enqueues_no_tick_twice(world: World) -> None:
    right, ahead = world.process(), world.process(ahead_seconds=1500.0)
    await schedules.keep(right.client, {"often": EVERY_TEN})
    for number in range(100):
        process = (right, ahead)[number % 2]
        await process.sweeper.sweep()
        await process.work()
        await world.harness.advance(50.0)
    ticks = await world.ticks(right)
    assert len(set(ticks)) == len(ticks) >= 8


@pytest.mark.parametrize("dies_after", range(40))
async def test_worker_that_dies_at_any_call_of_a_tick_enqueues_it_once(world: World, dies_after: int) -> None:
    seen = 0

    async def hook(when: str, call: str, detail: str) -> None:
        nonlocal seen
        seen += 1
        if seen > dies_after:
            raise Died

    alive = world.process()
    await schedules.keep(alive.client, {"often": EVERY_TEN})
    await alive.work()
    view = (await schedules.list_schedules(alive.client))[0]
    assert view.next_at is not None
    await world.harness.advance(view.next_at - alive.parts.clock.now())
    await alive.sweeper.sweep()
    with suppress(Died):
        await world.process(hook).work()
    await world.pass_time(alive, 300.0)
    assert len(await world.ticks(alive)) == 1


# --- rules that change -----------------------------------------------------------


async def test_new_rule_is_in_force_at_once_also_while_the_old_one_sleeps(world: World) -> None:
    process = world.process()
    await schedules.keep(process.client, {"s": DAILY})
    await world.pass_time(process, 60.0)
    await schedules.keep(process.client, {"s": EVERY_TEN})
    await world.pass_time(process, 1300.0)
    assert len(await world.ticks(process)) == 2
    assert (await schedules.list_schedules(process.client))[0].rule == EVERY_TEN


async def test_rule_that_comes_back_is_in_force_again(world: World) -> None:
    process = world.process()
    for rule in (DAILY, EVERY_TEN, DAILY, EVERY_TEN):
        await schedules.keep(process.client, {"s": rule})
        await world.pass_time(process, 200.0)
        assert (await schedules.list_schedules(process.client))[0].rule == rule


async def test_same_rule_again_writes_nothing(world: World) -> None:
    process = world.process()
    await schedules.keep(process.client, {"s": DAILY})
    await process.work()
    position = (await process.tail("schedule:s")).position
    await schedules.keep(process.client, {"s": DAILY})
    assert (await process.tail("schedule:s")).position == position


# --- operators -------------------------------------------------------------------


@pytest.mark.parametrize(("missed", "count"), [(Missed.ALL, 6), (Missed.ONCE, 1), (Missed.SKIP, 0)])
async def test_pause_holds_ticks_back_and_resume_treats_them_as_missed(
    world: World, missed: Missed, count: int
) -> None:
    process = world.process()
    await schedules.keep(process.client, {"s": EVERY_TEN.model_copy(update={"missed": missed})})
    await process.work()
    await schedules.pause(process.client, "s", "later")
    view = (await schedules.list_schedules(process.client))[0]
    assert (view.state, view.reason) == (State.PAUSED, "later")
    first = view.next_at
    assert first is not None
    await world.harness.advance(first - process.parts.clock.now() + 5 * 600 + 120)
    await world.pass_time(process, 60.0)
    assert await world.ticks(process) == []
    await schedules.resume(process.client, "s", "now")
    await world.pass_time(process, 60.0)
    ticks = await world.ticks(process)
    assert len(ticks) == count
    assert all(a < b for a, b in pairwise(ticks))


async def test_removed_schedule_stays_removed_until_it_is_resumed(world: World) -> None:
    process = world.process()
    await schedules.keep(process.client, {"s": EVERY_TEN})
    await process.work()
    await schedules.remove(process.client, "s", "enough")
    await process.work()
    await schedules.keep(process.client, {"s": EVERY_TEN})
    assert await schedules.list_schedules(process.client) == []
    assert await schedules.asleep_count(process.client) == 0
    await schedules.resume(process.client, "s", "again")
    await world.pass_time(process, 700.0)
    assert len(await world.ticks(process)) >= 1


async def test_schedule_that_is_not_there_is_named(world: World) -> None:
    with pytest.raises(WorkNotFound, match="schedule:none"):
        await schedules.pause(world.process().client, "none", "x")
