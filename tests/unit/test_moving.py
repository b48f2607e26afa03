"""Moving a namespace from one storage to another, while another one goes on. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from roost.core.client import Client
from roost.core.moving import Move
from roost.core.parts import CoreSettings, Parts
from roost.core.worker import Worker
from roost.engine import EngineRegistry, current_step
from roost.errors import ConflictError
from roost.journal.events import Cancelled, Committed
from roost.journal.limits import SetCapacity
from roost.models import Child, Join, Scope, Snapshot, State, WaitFor, WorkItem
from roost.rules import Trigger
from roost.storage.memory import MemoryBackend
from roost.storage.query import IndexQuery
from roost.testing.contract.process import Scripted
from roost.testing.virtual_time import SeededIds, VirtualClock, run
from tests.virtual import in_virtual_time

SETTINGS = CoreSettings(
    lease_seconds=10.0,
    sweep_seconds=1.0,
    triggers={"t": Trigger(engine="demo", on=tuple(s for s in State if s.is_terminal), enqueue="after")},
)
LAST = 20


class World:
    """Two storages with a worker each, and what the steps of all work did."""

    def __init__(self) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.steps: Counter[tuple[str, int]] = Counter()
        ids = SeededIds(random.Random(1))
        self.old, self.new = [Parts(MemoryBackend(self.clock), self.clock, ids, SETTINGS) for _ in range(2)]
        self.workers = [self._worker(parts, name) for parts, name in ((self.old, "o"), (self.new, "n"))]

    def _worker(self, parts: Parts, name: str) -> Worker:
        engines = EngineRegistry([Scripted(self._step), Scripted(self._step, "after")])
        return Worker(parts, engines, name)

    async def _step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await asyncio.sleep(1.0)
        self.steps[item.work_id, snapshot.version] += 1
        does = item.payload.get("does", "count")
        if does == "family" and not snapshot.version:
            children = [Child(engine="demo", payload={"does": "count"}, key=f"c{n}") for n in range(3)]
            return snapshot.next(spawn=children, wait_for=WaitFor(children=Join()))
        if does == "ask" and not snapshot.version:
            return snapshot.next(wait_for="go")
        if does != "count" or snapshot.version + 1 == LAST:
            seen = [signal.data for signal in current_step().signals]
            return snapshot.finish(data={"seen": seen, "n": snapshot.version})
        await current_step().artifacts.put("note", f"{item.work_id} {snapshot.version}")
        return snapshot.next(data={"text": "x" * 40 * snapshot.version}, delay=30.0 * (snapshot.version == 5))

    def client(self, parts: Parts, namespace: str = "search") -> Client:
        return Client(parts, namespace=namespace)

    def move(self) -> Move:
        return Move(self.old, self.new, "search", "new")

    async def enqueue(self) -> dict[str, str]:
        """Work of every kind in the namespace, and some of another."""
        client = self.client(self.old)
        works = {name: await client.enqueue("demo", {"does": name}) for name in ("ask", "count")}
        works["family"] = await client.enqueue("demo", {"does": "family"}, family_budget={"steps": 1000})
        works["held"] = await client.enqueue("demo", resources=("printer",), resource_scope=Scope.WORK)
        works["behind"] = await client.enqueue("demo", resources=("printer",))
        works["sleeper"] = await client.enqueue("demo", {"does": "end"}, delay_seconds=500.0)
        works["first"] = await client.enqueue("demo", conversation="talk")
        works["second"] = await client.enqueue("demo", {"does": "end"}, conversation="talk")
        works["paused"] = await client.enqueue("demo", {"does": "end"}, delay_seconds=50.0)
        await client.pause(works["paused"], "by ann")
        works["other"] = await self.client(self.old, "billing").enqueue("demo")
        return works

    async def check(self, works: dict[str, str]) -> None:
        """Everything ended where it belongs, each step was committed once and run once."""
        for name, work_id in works.items():
            parts = self.old if name == "other" else self.new
            control = (await self.client(parts, "").status(work_id)).control
            assert (control.state is State.DONE) is (name != "paused"), (name, control)
            assert control.paused == ("by ann" if name == "paused" else "")
            entries = await parts.backend.journal.read(work_id, limit=1000)
            assert [entry.position for entry in entries] == list(range(len(entries)))
            versions = [entry.event.version for entry in entries if isinstance(entry.event, Committed)]
            assert versions == list(range(1, len(versions) + 1))
        [balance] = await self.client(self.new).balances(works["family"])
        # charged here or there, each once: itself, its children, and what the trigger made of all four
        assert dict(balance.spent)["steps"] == 2 + 3 * LAST + 4 * LAST
        twice = {key for key, count in self.steps.items() if count > 1}
        assert not twice


async def workers(world: World) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(worker.run()) for worker in world.workers]


def before_each(move: Move, name: str, act: Callable[[str], Coroutine[Any, Any, None]]) -> list[str]:
    """Have `act` run before a part of a move; gives a list for what it has seen."""
    part = getattr(move, name)

    async def both(work_id: str) -> None:
        await act(work_id)
        await part(work_id)

    setattr(move, name, both)
    return []


async def drain(world: World, running: list[asyncio.Task[None]]) -> None:
    for worker in world.workers:
        worker.drain()
    await asyncio.gather(*running)


@in_virtual_time
async def test_live_work_goes_on_at_its_new_place_and_nothing_is_lost_or_done_twice() -> None:
    world = World()
    running = await workers(world)
    works = await world.enqueue()
    await asyncio.sleep(8.0)  # steps run, work sleeps, waits and holds
    moved = await world.move().run(wait_seconds=60.0)
    assert moved.work >= len(works)
    assert moved.resumed >= 6
    await world.client(world.new).signal(works["ask"], "go", "yes")
    await asyncio.sleep(1500.0)
    await drain(world, running)
    await world.check(works)
    asked = await world.client(world.new).status(works["ask"])
    assert asked.snapshot is not None
    assert asked.snapshot.data["seen"] == ["yes"]


@in_virtual_time
async def test_what_is_left_behind_has_ended_and_nothing_followed_from_that() -> None:
    """No trigger, no report to a parent, and no claim; those of the other place are the true ones."""
    world = World()
    running = await workers(world)
    works = await world.enqueue()
    await asyncio.sleep(8.0)
    await world.move().run(wait_seconds=60.0)
    await world.client(world.new).signal(works["ask"], "go", "yes")
    await asyncio.sleep(1500.0)
    await drain(world, running)
    for name, work_id in works.items():
        tail = await world.old.backend.journal.tail(work_id)
        assert tail is not None
        if name != "other":
            assert isinstance(tail.event, Cancelled)
            assert tail.event.reason == "moved to new"
    listed = (await world.client(world.old).list(IndexQuery(), limit=1000)).rows
    assert {row.state for row in listed} == {State.CANCELLED}
    assert not [row for row in listed if row.engine == "after"]
    assert not await world.client(world.old).resources()
    there = (await world.client(world.new).list(IndexQuery(), limit=1000)).rows
    ended = [row for row in there if row.engine == "demo" and row.state.is_terminal]
    assert len([row for row in there if row.engine == "after"]) == len(ended) == 11


@in_virtual_time
async def test_a_signal_that_comes_in_the_midst_is_seen_at_the_new_place() -> None:
    world = World()
    running = await workers(world)
    works = await world.enqueue()
    await asyncio.sleep(8.0)
    move = world.move()
    end = move._end

    async def signal_first(work_id: str) -> None:
        if work_id == works["ask"] and not signals:
            signals.append(await world.client(world.old).signal(work_id, "go", "late"))
        await end(work_id)

    signals: list[Any] = []
    move._end = signal_first  # type: ignore[method-assign]
    await move.run(wait_seconds=60.0)
    await asyncio.sleep(1500.0)
    await drain(world, running)
    asked = await world.client(world.new).status(works["ask"])
    assert asked.snapshot is not None
    assert asked.snapshot.data["seen"] == ["late"]


@pytest.mark.parametrize("after", [1, 7, 40, 90])
def test_a_move_that_broke_off_is_made_again(after: int) -> None:
    async def main() -> None:
        world = World()
        running = await workers(world)
        works = await world.enqueue()
        await asyncio.sleep(8.0)
        move, calls = world.move(), 0
        append = world.new.backend.journal.append

        async def breaks(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == after:
                raise ConnectionError
            return await append(*args, **kwargs)

        world.new.backend.journal.append = breaks  # type: ignore[method-assign]
        try:
            await move.run(wait_seconds=60.0)
        except ConnectionError:
            await world.move().run(wait_seconds=60.0)
        world.new.backend.journal.append = append  # type: ignore[method-assign]
        await world.client(world.new).signal(works["ask"], "go", "yes")
        await asyncio.sleep(1500.0)
        await drain(world, running)
        await world.check(works)

    run(main)


@in_virtual_time
async def test_work_that_is_held_in_its_last_step_ends_and_is_moved_so() -> None:
    """Its journal says that it is on hold, and that it is done: there is nothing to resume."""
    world = World()
    running = await workers(world)
    work_id = await world.client(world.old).enqueue("demo", {"does": "end"})
    await asyncio.sleep(0.5)  # in its only step
    moved = await world.move().run(wait_seconds=60.0)
    await drain(world, running)
    assert (moved.work, moved.resumed) == (2, 1), "its trigger's work goes on"
    assert (await world.client(world.new).status(work_id)).control.state is State.DONE
    assert set(world.steps.values()) == {1}


@in_virtual_time
async def test_nobody_runs_or_ends_a_copy_before_its_original_has_ended() -> None:
    """Those that were to end, or to go on by themselves, while much else was copied."""
    world = World()
    client = world.client(world.old)
    until = await client.enqueue("demo", {"does": "end"})
    await client.pause(until, "by ann", for_seconds=5.0)
    cancelled = await client.enqueue("demo", {"does": "end"}, delay_seconds=900.0)
    late = await client.enqueue("demo", deadline_at=world.clock.now() + 7.0, delay_seconds=900.0)
    running = await workers(world)
    move = world.move()

    async def first(work_id: str) -> None:
        if not seen:
            seen.append(work_id)
            await client.cancel(cancelled, "enough")
            await asyncio.sleep(60.0)

    seen = before_each(move, "_end", first)
    await move.run(wait_seconds=60.0)
    await asyncio.sleep(1500.0)
    await drain(world, running)
    assert world.steps == {(until, 0): 1, (f"{late}.2.t", 0): 1, (f"{cancelled}.3.t", 0): 1} | {
        key: 1 for key in world.steps if key[0].endswith(".t")
    }
    ends = {until: State.DONE, cancelled: State.CANCELLED, late: State.FAILED}
    for work_id, state in ends.items():
        assert (await world.client(world.new).status(work_id)).control.state is state
    after = [row for row in (await world.client(world.new).list(IndexQuery())).rows if row.engine == "after"]
    assert len(after) == 3


@in_virtual_time
async def test_children_that_come_while_the_rest_is_held_report_at_the_new_place() -> None:
    """A step under way spawned them after everything else was listed; their parent left before they ended."""
    world = World()
    running = await workers(world)
    parent = await world.client(world.old).enqueue("demo", {"does": "family"})
    await asyncio.sleep(0.5)  # in the step that spawns
    move = world.move()

    end = move._end

    async def and_wait(work_id: str) -> None:
        await end(work_id)
        if work_id == parent:
            await asyncio.sleep(100.0)  # they end, and report to what was left behind

    move._end = and_wait  # type: ignore[method-assign]
    await move.run(wait_seconds=60.0)
    await asyncio.sleep(1500.0)
    await drain(world, running)
    view = await world.client(world.new).status(parent)
    assert view.control.state is State.DONE
    assert set(world.steps.values()) == {1}


@pytest.mark.parametrize("how", ["cancel", "parent"])
def test_who_ends_when_its_kin_is_gone_tells_it_at_the_new_place(how: str) -> None:
    """A child that is cancelled after its parent has left, and a parent after its children."""

    async def main() -> None:
        world = World()
        client = world.client(world.old)
        running = await workers(world)
        parent = await client.enqueue("demo", {"does": "family"})
        await asyncio.sleep(4.5)
        children = [f"{parent}.1-{number}" for number in range(3)]
        order = [parent, *children] if how == "cancel" else [*children, parent]
        move = world.move()
        end = move._end

        async def in_order(work_id: str) -> None:
            if work_id != order[0]:
                return
            await end(order[0])
            for work_id in order[1:3]:
                await end(work_id)
            await client.cancel(order[3], "enough")
            await asyncio.sleep(20.0)

        move._end = in_order  # type: ignore[method-assign]
        again = move._hold

        async def hold(rows: Any) -> None:
            if move.moved.work:
                move._end = end  # type: ignore[method-assign]
            await again(rows)

        move._hold = hold  # type: ignore[method-assign]
        await move.run(wait_seconds=60.0)
        await asyncio.sleep(1500.0)
        await drain(world, running)
        states = [(await world.client(world.new).status(work_id)).control.state for work_id in order]
        expected = [State.DONE] * 3 if how == "cancel" else [State.CANCELLED] * 3
        assert states == [*expected, State.CANCELLED]
        assert set(world.steps.values()) == {1}

    run(main)


@in_virtual_time
async def test_what_an_operator_cancelled_is_moved_whatever_the_reason_says() -> None:
    world = World()
    work_id = await world.client(world.old).enqueue("demo", delay_seconds=900.0)
    running = await workers(world)
    await world.client(world.old).cancel(work_id, "moved to another team")
    await asyncio.sleep(20.0)
    await world.move().run(wait_seconds=60.0)
    await drain(world, running)
    assert (await world.client(world.new).status(work_id)).control.state is State.CANCELLED


@in_virtual_time
async def test_a_copy_that_was_left_behind_is_not_put_back_to_life() -> None:
    world = World()
    work_id = await world.client(world.old).enqueue("demo", delay_seconds=900.0)
    await world.move().run(wait_seconds=60.0)
    with pytest.raises(ConflictError, match="moved to new"):
        await world.client(world.old).retry(work_id, "again")


@in_virtual_time
async def test_work_whose_worker_died_comes_to_rest_when_its_lease_is_over() -> None:
    world = World()
    first = asyncio.create_task(world.workers[0].run())
    work_id = await world.client(world.old).enqueue("demo", {"does": "end"})
    await asyncio.sleep(0.5)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    world.workers[0] = world._worker(world.old, "next")
    running = await workers(world)
    await world.move().run(wait_seconds=60.0)
    await asyncio.sleep(60.0)
    await drain(world, running)
    assert (await world.client(world.new).status(work_id)).control.state is State.DONE


@in_virtual_time
async def test_what_does_not_come_to_rest_is_not_moved() -> None:
    world = World()
    running = asyncio.create_task(world.workers[0].run())
    work_id = await world.client(world.old).enqueue("demo")
    await asyncio.sleep(0.5)
    running.cancel()  # a worker that died in a step
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ConflictError, match="do not come to rest"):
        await world.move().run(wait_seconds=5.0)
    assert await world.new.backend.journal.tail(work_id) is None


@in_virtual_time
async def test_a_namespace_that_is_in_use_at_the_target_is_not_mixed() -> None:
    world = World()
    for parts in (world.old, world.new):
        await world.client(parts).enqueue("demo", work_id="same", delay_seconds=100.0)
    with pytest.raises(ConflictError, match="has another entry 0"):
        await world.move().run(wait_seconds=5.0)


@in_virtual_time
async def test_limits_of_resources_move_too() -> None:
    world = World()
    await world.client(world.old).change_resource("api", SetCapacity(3))
    await world.move().run(wait_seconds=5.0)
    [view] = await world.client(world.new).resources("api")
    assert view.limits.capacity == 3
