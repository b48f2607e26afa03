"""Operations on many: work moves on between the look and the act. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from roost.core import operating, outside
from roost.core.bulk import Action
from roost.core.client import Client
from roost.core.operating import Operation, OperationEngine
from roost.core.parts import CoreSettings, Parts
from roost.core.where import parse
from roost.core.worker import Worker
from roost.engine import EngineRegistry
from roost.errors import FailWork, StorageUnavailable
from roost.journal.entries import Entry
from roost.models import Child, Join, Snapshot, State, WaitFor, WorkItem
from roost.storage.memory import MemoryBackend
from roost.testing.contract.process import Scripted
from roost.testing.virtual_time import SeededIds, VirtualClock, run
from tests.virtual import in_virtual_time

SETTINGS = CoreSettings(lease_seconds=10.0, sweep_seconds=1.0)


class World:
    """A storage with a worker whose engine fails until it is mended."""

    def __init__(self) -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        self.parts = Parts(MemoryBackend(clock), clock, SeededIds(random.Random(1)), SETTINGS)
        self.client = Client(self.parts)
        self.is_mended = False
        self.runs = 0

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        self.runs += 1
        if item.payload.get("is_parent"):
            if snapshot.version:
                return snapshot.finish()
            return snapshot.next(spawn=[Child(engine="demo")], wait_for=WaitFor(children=Join()))
        if not self.is_mended:
            raise FailWork("no use")
        steps = item.payload.get("steps", 1)
        return snapshot.finish() if snapshot.version + 1 >= steps else snapshot.next()

    def worker(self, name: str) -> Worker:
        engines = EngineRegistry([Scripted(self.step), OperationEngine(self.parts)])
        return Worker(self.parts, engines, name)

    @asynccontextmanager
    async def working(self, name: str = "w") -> AsyncIterator[Worker]:
        worker = self.worker(name)
        running = asyncio.create_task(worker.run())
        yield worker
        worker.drain()
        await running

    async def failed(self, **payload: Any) -> str:
        work_id = await self.client.enqueue("demo", payload)
        await asyncio.sleep(5.0)
        assert await self.state(work_id) is State.FAILED
        return work_id

    async def state(self, work_id: str) -> State:
        return (await self.client.status(work_id)).control.state


@in_virtual_time
async def test_what_was_retried_and_is_done_meanwhile_is_not_retried_again() -> None:
    """The filter chose what had failed; a colleague was quicker with one of them."""
    world = World()
    async with world.working():
        works = [await world.failed() for _ in range(2)]
        world.is_mended = True
        act = OperationEngine._act

        async def late(self: OperationEngine, *args: Any) -> dict[str, Any]:
            await world.client.retry(works[0], "by hand")
            await asyncio.sleep(5.0)
            return await act(self, *args)

        operation = Operation(action=Action.RETRY, where="engine:demo", at=world.parts.clock.now())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OperationEngine, "_act", late)
            work_id = await operating.start(world.client, operation)
            await asyncio.sleep(30.0)
    assert [await world.state(one) for one in works] == [State.DONE] * 2
    assert world.runs == 4
    view = await operating.look(world.client, work_id)
    assert (view.state, view.done, view.skipped) == (State.DONE, 1, 1)
    assert view.skips == [(works[0], f"work item {works[0]!r} moved on: it does not match any more")]


@in_virtual_time
async def test_what_goes_on_meanwhile_is_not_purged_nor_cancelled() -> None:
    world = World()
    async with world.working():
        works = [await world.failed() for _ in range(2)]
        held = await world.client.enqueue("demo", delay_seconds=900.0)
        await world.client.pause(held, "stop")
        world.is_mended = True
        parts = world.client.bulk(Action.PURGE, parse("state:failed", world.parts.clock.now()), "old")
        read = world.parts.backend.index.list

        async def then_retried(*args: Any, **kwargs: Any) -> Any:
            page = await read(*args, **kwargs)
            await world.client.retry(works[0], "by hand")
            await world.client.resume(held, "go on")
            await asyncio.sleep(5.0)
            return page

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(world.parts.backend.index, "list", then_retried)
            [part] = [part async for part in parts]
    assert part.done == [works[1]]
    assert [one for one, _ in part.skipped] == [works[0]]
    assert await world.state(works[0]) is State.DONE


@in_virtual_time
async def test_work_that_no_worker_takes_is_chosen_by_what_its_row_says() -> None:
    """The reason is in no journal."""
    world = World()
    work_id = await world.client.enqueue("elsewhere")
    async with world.working():
        await asyncio.sleep(5.0)
        chosen = parse('reason:"waits for a worker*"', world.parts.clock.now())
        [part] = [part async for part in world.client.bulk(Action.CANCEL, chosen, "no such engine")]
    assert part.done == [work_id]


@in_virtual_time
async def test_an_operation_that_died_knows_quick_work_that_it_had_retried() -> None:
    """It ran many steps, and failed again, before another worker took the operation over."""
    world = World()
    async with world.working():
        work_id = await world.failed(steps=200)
    world.is_mended = True
    at = world.parts.clock.now()
    operation = await operating.start(world.client, Operation(action=Action.RETRY, ids=(work_id,), at=at))
    acted = asyncio.Event()
    act = OperationEngine._act

    async def and_die(self: OperationEngine, *args: Any) -> dict[str, Any]:
        await act(self, *args)
        acted.set()
        await asyncio.sleep(1e9)
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OperationEngine, "_act", and_die)
        dying = asyncio.create_task(world.worker("dies").run())
        await acted.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    async with world.working("next"):
        await asyncio.sleep(60.0)
    view = await operating.look(world.client, operation)
    assert (view.state, view.done, view.skipped) == (State.DONE, 1, 0)
    assert world.runs == 1 + 200


@in_virtual_time
async def test_when_one_fails_the_others_have_ended_before_the_error_is_told() -> None:
    """Else they would still act while the next try looks for what the first one did."""
    world = World()
    works = [await world.client.enqueue("demo", delay_seconds=900.0) for _ in range(3)]
    tail, acted = world.parts.backend.journal.tail, []

    async def slow(work_id: str) -> Entry | None:
        if work_id == works[0]:
            raise StorageUnavailable("away")
        await asyncio.sleep(1.0)
        acted.append(work_id)
        return await tail(work_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.parts.backend.journal, "tail", slow)
        with pytest.raises(StorageUnavailable):
            await world.client.bulk_ids(Action.CANCEL, works, "enough")
    assert acted == works[1:]


@pytest.mark.parametrize("how", ["purged", "expired"])
def test_nothing_that_still_has_to_tell_of_its_end_is_deleted(how: str) -> None:
    """A worker died between the end and the report; the parent waits for that."""

    async def main() -> None:
        world = World()
        world.is_mended = True
        told = asyncio.Event()
        after = outside.after

        async def dies(parts: Parts, entry: Entry, **more: Any) -> None:
            if entry.control.parent is not None and entry.control.state.is_terminal:
                told.set()
                await asyncio.sleep(1e9)
            await after(parts, entry, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(outside, "after", dies)
            dying = asyncio.create_task(world.worker("dies").run())
            parent = await world.client.enqueue("demo", {"is_parent": True})
            await told.wait()
            dying.cancel()
            await asyncio.gather(dying, return_exceptions=True)
        child = f"{parent}.1-0"
        if how == "purged":
            await world.client.purge(child)
        else:
            await world.parts.backend.journal.expire(world.parts.clock.now() + 1.0)
        async with world.working("next"):
            await asyncio.sleep(60.0)
        assert await world.state(parent) is State.DONE

    run(main)
