"""One conversation, one work item at a time: what a second enqueue does, and who comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from roost.core.client import Client
from roost.core.conversations import conversation_id
from roost.errors import ConversationBusy, EnqueueConflict, IdentifierError, InputError, StorageUnavailable
from roost.journal.entries import Entry
from roost.journal.events import Kind, TurnTaken
from roost.models import Snapshot, State, WorkItem
from roost.names import IfBusy
from roost.storage.instrument import InstrumentedBackend
from roost.storage.memory import MemoryBackend
from roost.testing.contract import ManualHarness
from roost.testing.contract.process import Hasty, Process, Scripted, counts_to, finishes

LINE = conversation_id("", "chat")
KEY = {"conversation": "chat"}


class Harness(ManualHarness):
    async def open(self) -> MemoryBackend:
        return MemoryBackend(self.clock)

    async def reopen(self) -> MemoryBackend:
        raise NotImplementedError

    async def damage(self, digest: str) -> None:
        raise NotImplementedError


class Died(Exception):
    """The program ended in the middle of a call."""


class World:
    """A memory backend, a client and a worker, each of which may die before or after any call."""

    def __init__(self) -> None:
        self.harness = Harness()
        self.memory = MemoryBackend(self.harness.clock)
        self.dies_after: int | None = None
        self._seen = 0

    async def _hook(self, when: str, call: str, detail: str) -> None:
        self._seen += 1
        if self.dies_after is not None and self._seen > self.dies_after:
            raise Died(f"{when} {call} {detail}")

    def process(self, step: Callable[..., Any] = finishes, *, dies_after: int | None = None) -> Process:
        backend: Any = self.memory
        if dies_after is not None:
            self.dies_after, self._seen = dies_after, 0
            backend = InstrumentedBackend(self.memory, self._hook)
        process = Process(self.harness, backend, Scripted(step))
        process.parts = replace(process.parts, clock=Hasty(self.harness.clock))
        process.client = Client(process.parts)
        process.sweeper._parts = process.parts
        return process

    async def settle(self, process: Process, rounds: int = 40) -> None:
        """Let time pass, with a worker and a sweeper at work."""
        for _ in range(rounds):
            await process.work()
            await self.harness.advance(20.0)
            await process.sweeper.sweep()

    async def line(self) -> list[str]:
        tail = await self.memory.journal.tail(LINE)
        return [place.work_id for place in tail.control.line] if tail else []


@pytest.fixture
def world() -> World:
    return World()


async def begin(process: Process, work_id: str) -> None:
    """Have one work item run its first step; it goes on after a delay."""
    [delivery] = await process.receive()
    assert delivery.work_id == work_id
    await process.session(delivery).run()


def pauses(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    """A step that counts, and goes on in ten minutes."""
    return snapshot.next(data={"n": snapshot.data.get("n", 0) + 1, "last": item.payload}, delay=600.0)


# --- alone -----------------------------------------------------------------------


async def test_first_work_of_a_conversation_runs_at_once_and_leaves_the_line(world: World) -> None:
    process = world.process()
    work_id = await process.client.enqueue("demo", **KEY)
    assert await world.line() == [work_id]
    await process.work()
    assert await process.state(work_id) is State.DONE
    assert await world.line() == []
    assert (await process.client.status(work_id)).item.conversation == "chat"


async def test_conversations_and_namespaces_do_not_wait_for_each_other(world: World) -> None:
    process = world.process()
    other = Client(process.parts, namespace="team")
    ids = [
        await process.client.enqueue("demo", conversation="a"),
        await process.client.enqueue("demo", conversation="b"),
        await other.enqueue("demo", conversation="a"),
    ]
    assert await process.work() == 3
    assert {await process.state(work_id) for work_id in ids} == {State.DONE}


# --- queue -----------------------------------------------------------------------


async def test_second_work_waits_for_the_first_and_then_runs(world: World) -> None:
    process = world.process(counts_to(2))
    one = await process.client.enqueue("demo", **KEY)
    two = await process.client.enqueue("demo", **KEY)
    row = await world.memory.index.get(two)
    assert row is not None
    assert (row.state, row.due_at) == (State.BLOCKED, None)
    assert "turn" in row.reason
    await process.work()
    assert [await process.state(work_id) for work_id in (one, two)] == [State.DONE, State.DONE]
    ended, began = (await process.tail(one)).at, (await process.entries(two))[2]
    assert began.event.kind is Kind.CLAIMED
    assert began.at >= ended


async def test_turns_go_in_the_order_of_enqueueing(world: World) -> None:
    ran: list[str] = []

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        ran.append(item.work_id)
        return snapshot.finish()

    process = world.process(step)
    ids = [await process.client.enqueue("demo", **KEY) for _ in range(6)]
    await process.work()
    assert ran == ids


async def test_work_that_is_cancelled_in_line_is_passed_over(world: World) -> None:
    process = world.process(pauses)
    one, two, three = [await process.client.enqueue("demo", **KEY) for _ in range(3)]
    await begin(process, one)
    await process.client.cancel(two, "no more")
    await process.work()
    assert await process.state(two) is State.CANCELLED
    assert await world.line() == [one, three]
    await process.client.cancel(one, "enough")
    await process.work()
    assert await world.line() == [three]
    assert (await process.tail(three)).control.version == 1


async def test_work_that_fails_passes_the_turn_on(world: World) -> None:
    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        raise ValueError("no")

    process = world.process(step)
    one, two = [await process.client.enqueue("demo", **KEY) for _ in range(2)]
    await world.settle(process)
    assert [await process.state(work_id) for work_id in (one, two)] == [State.FAILED, State.FAILED]
    assert await world.line() == []


async def test_a_deadline_ends_work_in_line(world: World) -> None:
    process = world.process(pauses)
    one = await process.client.enqueue("demo", **KEY)
    two = await process.client.enqueue("demo", **KEY, deadline_at=process.parts.clock.now() + 50)
    await begin(process, one)
    await world.harness.advance(60.0)
    await process.sweeper.sweep()
    assert await process.state(two) is State.FAILED
    assert await world.line() == [one]


# --- reject ----------------------------------------------------------------------


async def test_reject_is_an_error_that_names_what_runs_and_stores_nothing(world: World) -> None:
    process = world.process(pauses)
    one = await process.client.enqueue("demo", **KEY)
    with pytest.raises(ConversationBusy) as caught:
        await process.client.enqueue("demo", **KEY, if_busy=IfBusy.REJECT)
    assert caught.value.work_id == one
    assert await world.line() == [one]


async def test_reject_takes_work_once_the_first_has_ended(world: World) -> None:
    process = world.process()
    await process.client.enqueue("demo", **KEY)
    await process.work()
    two = await process.client.enqueue("demo", **KEY, if_busy=IfBusy.REJECT)
    assert await world.line() == [two]


async def test_of_many_that_reject_at_once_one_is_taken(world: World) -> None:
    process = world.process(pauses)
    enqueues = [process.client.enqueue("demo", **KEY, if_busy=IfBusy.REJECT) for _ in range(10)]
    came = await asyncio.gather(*enqueues, return_exceptions=True)
    taken = [one for one in came if isinstance(one, str)]
    assert len(taken) == 1
    assert sum(isinstance(one, ConversationBusy) for one in came) == 9
    assert await world.line() == taken


# --- interrupt, fork -------------------------------------------------------------


async def test_interrupt_cancels_all_that_came_before_and_runs_next(world: World) -> None:
    process = world.process(pauses)
    one, two = [await process.client.enqueue("demo", **KEY) for _ in range(2)]
    await begin(process, one)
    three = await process.client.enqueue("demo", {"new": True}, **KEY, if_busy=IfBusy.INTERRUPT)
    await process.work()
    assert [await process.state(w) for w in (one, two)] == [State.CANCELLED, State.CANCELLED]
    assert "interrupted by" in (await process.tail(one)).control.reason
    tail = await process.tail(three)
    assert tail.control.version == 1
    view = await process.client.status(three)
    assert view.snapshot is not None
    assert view.snapshot.data["n"] == 1


async def test_interrupt_asks_for_the_running_step_to_stop_now(world: World) -> None:
    process = world.process(pauses)
    one = await process.client.enqueue("demo", **KEY)
    await process.client.enqueue("demo", **KEY, if_busy=IfBusy.INTERRUPT)
    control = (await process.tail(one)).control
    assert control.state is State.CANCELLED or control.cancel_by is not None


async def test_fork_goes_on_from_the_last_snapshot_with_the_new_payload(world: World) -> None:
    process = world.process(pauses)
    one = await process.client.enqueue("demo", {"text": "first"}, **KEY)
    await begin(process, one)
    two = await process.client.enqueue("demo", {"text": "second"}, **KEY, if_busy=IfBusy.FORK)
    await process.work()
    assert await process.state(one) is State.CANCELLED
    view = await process.client.status(two)
    assert view.snapshot is not None
    assert view.snapshot.data == {"n": 2, "last": {"text": "second"}}
    assert view.item.forked_from == (one, 1)


async def test_fork_of_work_without_a_snapshot_begins_anew(world: World) -> None:
    process = world.process(pauses)
    await process.client.enqueue("demo", **KEY)
    two = await process.client.enqueue("demo", **KEY, if_busy=IfBusy.FORK)
    await process.work()
    assert (await process.client.status(two)).item.forked_from is None
    assert (await process.tail(two)).control.version == 1


async def test_fork_into_another_engine_is_refused(world: World) -> None:
    process = world.process(pauses)
    await process.client.enqueue("demo", **KEY)
    with pytest.raises(InputError, match="can't go on"):
        await process.client.enqueue("other", **KEY, if_busy=IfBusy.FORK)


# --- ids, keys, retries ----------------------------------------------------------


async def test_same_key_in_a_conversation_is_the_same_work(world: World) -> None:
    process = world.process(pauses)
    ids = [await process.client.enqueue("demo", {"n": 1}, **KEY, idempotency_key="m1") for _ in range(3)]
    assert len(set(ids)) == 1
    assert await world.line() == ids[:1]
    with pytest.raises(EnqueueConflict, match="payload"):
        await process.client.enqueue("demo", {"n": 2}, **KEY, idempotency_key="m1")
    with pytest.raises(EnqueueConflict, match="conversation"):
        await process.client.enqueue("demo", {"n": 1}, conversation="else", idempotency_key="m1")


async def test_same_key_after_the_work_has_ended_takes_no_second_place(world: World) -> None:
    process = world.process()
    work_id = await process.client.enqueue("demo", **KEY, idempotency_key="m1")
    await process.work()
    assert await process.client.enqueue("demo", **KEY, idempotency_key="m1") == work_id
    assert await world.line() == []


async def test_work_that_is_retried_stands_in_line_again(world: World) -> None:
    fails = True

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if fails and item.payload.get("first"):
            raise ValueError("no")
        return pauses(snapshot, item)

    process = world.process(step)
    one = await process.client.enqueue("demo", {"first": True}, **KEY)
    for _ in range(5):
        await process.work()
        await world.harness.advance(400.0)
    assert await process.state(one) is State.FAILED
    two = await process.client.enqueue("demo", **KEY)
    await process.work()
    fails = False
    await process.client.retry(one, "once more")
    await process.work()
    assert (await process.tail(one)).control.version == 0
    assert await world.line() == [two, one]
    await process.client.cancel(two, "enough")
    await process.work()
    assert (await process.tail(one)).control.version == 1


async def test_retry_of_an_idle_conversation_runs_at_once(world: World) -> None:
    process = world.process(finishes)
    one = await process.client.enqueue("demo", **KEY)
    await process.work()
    await process.client.retry(one, "once more")
    await process.work()
    assert await process.state(one) is State.DONE
    assert await world.line() == []


@pytest.mark.parametrize("options", [{"if_busy": IfBusy.REJECT}, {"conversation": "a\nb"}])
async def test_options_that_make_no_sense_are_refused(world: World, options: dict[str, Any]) -> None:
    with pytest.raises((InputError, IdentifierError)):
        await world.process().client.enqueue("demo", **options)


async def test_namespace_of_lines_takes_no_work(world: World) -> None:
    client = Client(world.process().parts, namespace="roost-conversations")
    with pytest.raises(IdentifierError):
        await client.enqueue("demo")


# --- deaths ----------------------------------------------------------------------


async def enqueue_three(process: Process) -> None:
    for policy in (IfBusy.QUEUE, IfBusy.QUEUE, IfBusy.INTERRUPT):
        await process.client.enqueue("demo", **KEY, if_busy=policy)


@pytest.mark.parametrize("dies_after", range(0, 90, 4))
async def test_client_that_dies_at_any_call_leaves_no_place_that_blocks(
    world: World, dies_after: int
) -> None:
    """Whatever was enqueued ends, the line empties, and others get their turn."""
    with suppress(Died):
        await enqueue_three(world.process(dies_after=dies_after))
    alive = world.process()
    last = await alive.client.enqueue("demo", **KEY)
    await world.settle(alive, rounds=8)
    assert await alive.state(last) is State.DONE
    assert await world.line() == []
    places = [entry async for entry in alive.client.events(LINE) if isinstance(entry.event, TurnTaken)]
    for entry in places:
        assert (await alive.tail(_taken_by(entry))).control.state.is_terminal


@pytest.mark.parametrize("dies_after", range(0, 90, 5))
async def test_worker_that_dies_at_any_call_hands_the_turn_on_later(world: World, dies_after: int) -> None:
    alive = world.process()
    ids = [await alive.client.enqueue("demo", **KEY) for _ in range(2)]
    with suppress(Died):
        await world.process(dies_after=dies_after).work()
    await world.settle(alive, rounds=10)
    assert {await alive.state(work_id) for work_id in ids} == {State.DONE}
    assert await world.line() == []


def _taken_by(entry: Entry) -> str:
    assert isinstance(entry.event, TurnTaken)
    return entry.event.work_id


async def test_enqueue_that_failed_midway_can_be_made_again(world: World) -> None:
    """The place is taken, the work is not there yet; the same call finishes it."""

    async def fail(when: str, call: str, detail: str) -> None:
        if call == "append_many":
            raise StorageUnavailable("not now")

    alive = world.process(pauses)
    flaky = Client(replace(alive.parts, backend=InstrumentedBackend(world.memory, fail)))
    with pytest.raises(StorageUnavailable):
        await flaky.enqueue("demo", **KEY, work_id="w1")
    assert await world.line() == ["w1"]
    assert await alive.client.enqueue("demo", **KEY, work_id="w1") == "w1"
    assert await world.line() == ["w1"]
    await alive.work()
    assert (await alive.tail("w1")).control.version == 1
