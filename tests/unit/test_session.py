"""One lease: what a session takes in, what stops it, and what it never writes."""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from msgspec import structs

from roost.core import claims, outside
from roost.core.heartbeat import FIRST_BEAT_SECONDS, LEASE_MARGIN, Heartbeat
from roost.core.opening import CLAIM_TRIES
from roost.core.session import Session
from roost.engine import RetryPolicy, current_step
from roost.errors import SchemaTooNew, StorageCorrupt, StorageUnavailable
from roost.journal.claims import Ask, Owner, Want
from roost.journal.entries import Body, Encoding, Entry, IndexRow
from roost.journal.events import Cancelled, CancelRequested, Claimed, Committed, Event, Evicted, Signaled
from roost.journal.projection import MESSAGE_DELAY_MAX_SECONDS, project
from roost.models import Artifact, Lane, Snapshot, State, WorkItem
from roost.storage.instrument import InstrumentedBackend
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Delivery, Message
from roost.testing.clock import ManualClock
from roost.testing.contract import BackendHarness, ManualHarness
from roost.testing.contract.process import Hasty, Process, Scripted, Step, counts_to, finishes

Hook = Callable[[str, str, str], Awaitable[None]]


class Harness(ManualHarness):
    async def open(self) -> MemoryBackend:
        return MemoryBackend(self.clock)

    async def reopen(self) -> MemoryBackend:
        raise NotImplementedError

    async def damage(self, digest: str) -> None:
        raise NotImplementedError


@dataclass
class World:
    """A memory backend with a hook, one process on it, and one work item."""

    hook: Hook | None = None
    harness: BackendHarness = field(default_factory=Harness)

    def __post_init__(self) -> None:
        self.clock: ManualClock = self.harness.clock  # type: ignore[assignment]
        self.memory = MemoryBackend(self.clock, inline_max_bytes=4096)
        self.backend = InstrumentedBackend(self.memory, self._call)

    async def _call(self, when: str, call: str, detail: str) -> None:
        if self.hook is not None:
            await self.hook(when, call, detail)

    def process(self, step: Step, **options: Any) -> Process:
        process = Process(self.harness, self.backend, Scripted(step, **options))
        process.parts = replace(process.parts, clock=Hasty(self.clock))
        return process

    async def enqueue(self, step: Step = finishes, **options: Any) -> tuple[Process, str, Session]:
        """A process, a work item, and the session of its delivery, not yet run."""
        process = self.process(step)
        work_id = await process.client.enqueue("demo", **options)
        [delivery] = await process.receive()
        return process, work_id, process.session(delivery)

    async def append(self, work_id: str, *events: Event) -> Entry:
        """Append as somebody else, past any hook."""
        for event in events:
            tail = await self.memory.journal.tail(work_id)
            assert tail is not None
            parts = replace(Process(self.harness, self.memory, Scripted(finishes)).parts)
            body = Body(Encoding.JSON, b"{}") if isinstance(event, Signaled) else None
            entry = outside.follow(parts, tail, event, actor="other", body=body)
            assert await self.memory.journal.append(entry) == entry
        return entry

    async def messages(self) -> list[Delivery]:
        """What the queue would give now, and later."""
        self.clock.advance(1e6)
        return list(
            await self.memory.queue.receive(100, visibility_seconds=1, wait_seconds=0, lanes=list(Lane))
        )


@pytest.fixture
async def world() -> World:
    return World()


class TestTakingIn:
    async def test_what_outsiders_append_while_a_step_runs_is_taken_in(self, world: World) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if snapshot.version == 0:
                await world.append(item.work_id, Signaled("a", "go"), Signaled("b", "go"))
            return counts_to(2)(snapshot, item)  # type: ignore[return-value]

        process, work_id, session = await world.enqueue(step)
        await session.run()
        assert await process.kinds(work_id) == [
            "enqueued",
            "claimed",
            "signaled",
            "signaled",
            "committed",
            "committed",
        ]
        assert (await process.tail(work_id)).control.signals == ((2, "go"), (3, "go"))

    async def test_a_request_to_cancel_is_taken_in_and_ends_it_after_the_commit(self, world: World) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            await world.append(item.work_id, CancelRequested("enough"))
            return snapshot.next()

        process, work_id, session = await world.enqueue(step)
        await session.run()
        tail = await process.tail(work_id)
        assert (tail.control.state, tail.control.version) == (State.CANCELLED, 1)
        assert await world.messages() == []

    async def test_what_a_failed_attempt_meets_is_taken_in_too(self, world: World) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            await world.append(item.work_id, CancelRequested("enough"))
            raise ValueError("bad")

        process, work_id, session = await world.enqueue(step)
        await session.run()
        assert await process.kinds(work_id) == ["enqueued", "claimed", "cancel_requested", "attempt_failed"]
        await process.work()  # the next delivery ends it, due or not
        assert await process.state(work_id) is State.CANCELLED


class TestLosingTheLease:
    @pytest.mark.parametrize(
        ("events", "state"),
        [
            ((Claimed("other", math.inf),), State.RUNNING),
            ((Evicted(1, "worker"),), State.QUEUED),
            ((Cancelled("by an operator"),), State.CANCELLED),
            ((Evicted(1, "worker"), Claimed("other", math.inf), Committed(1, "theirs")), State.QUEUED),
            ((Signaled("s", "go"), Claimed("other", math.inf)), State.RUNNING),
        ],
        ids=lambda value: "+".join(event.kind for event in value) if isinstance(value, tuple) else "",
    )
    async def test_the_commit_is_refused_and_nothing_is_settled(
        self, world: World, events: tuple[Event, ...], state: State
    ) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            await world.append(item.work_id, *events)
            calls.clear()
            return snapshot.finish(data={"by": "zombie"})

        calls: list[str] = []

        async def count(when: str, call: str, detail: str) -> None:
            calls.append(call)

        process, work_id, session = await world.enqueue(step, resources=("db",))
        world.hook = count
        await session.run()
        world.hook = None
        assert set(calls) <= {"append"}  # tried, refused, and not a word more
        assert [entry.event for entry in await process.entries(work_id)][2:] == list(events)
        assert await process.state(work_id) is state
        assert len(await world.messages()) == 1  # its delivery is neither deleted nor put back

    async def test_a_claim_that_was_lost_is_looked_at_again(self, world: World) -> None:
        """Another worker claims between this one's look and its claim."""

        async def rival(when: str, call: str, detail: str) -> None:
            if (when, call, detail) == ("before", "append", "claimed"):
                world.hook = None
                await world.append(work_id, Claimed("other", world.clock.now() + 7))

        process, work_id, session = await world.enqueue()
        world.hook = rival
        await session.run()
        assert await process.kinds(work_id) == ["enqueued", "claimed"]
        assert (await process.tail(work_id)).actor == "other"
        world.clock.advance(6.5)
        assert await process.receive() == []  # put back until that lease ends
        world.clock.advance(1)
        assert len(await process.receive()) == 1

    async def test_a_storm_of_claims_is_left_to_the_others(self, world: World) -> None:
        async def rivals(when: str, call: str, detail: str) -> None:
            if (when, call, detail) == ("before", "append", "claimed"):
                await world.append(work_id, Signaled("s", "go"))

        process, work_id, session = await world.enqueue()
        world.hook = rivals
        await session.run()
        world.hook = None
        assert await process.kinds(work_id) == ["enqueued", *["signaled"] * CLAIM_TRIES]
        assert len(await world.messages()) == 1

    async def test_a_lost_heartbeat_stops_the_step_and_nothing_is_written(self, world: World) -> None:
        entered = asyncio.Event()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await asyncio.Event().wait()
            return snapshot

        process, work_id, session = await world.enqueue(step)
        task = asyncio.create_task(session.run())
        await entered.wait()

        async def fail(when: str, call: str, detail: str) -> None:
            raise StorageUnavailable("the network is gone")

        world.hook = fail
        heartbeat = Heartbeat(process.parts, [session])
        world.clock.advance(FIRST_BEAT_SECONDS)
        await heartbeat.beat()
        margin = process.lease_seconds * LEASE_MARGIN
        world.clock.advance(session.held_until - 2 * margin - world.clock.monotonic())
        await heartbeat.beat()
        assert not session.interruption.why
        world.clock.advance(1.5 * margin)  # others may not take it yet: the step has time to stop
        await heartbeat.beat()
        assert session.interruption.why
        await task
        world.hook = None
        assert "no heartbeat" in str(session.interruption.why)
        assert await process.kinds(work_id) == ["enqueued", "claimed"]

    async def test_work_that_is_over_in_a_moment_has_no_row_while_it_runs(self, world: World) -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await go_on.wait()
            return snapshot.finish()

        process, work_id, session = await world.enqueue(step)
        task = asyncio.create_task(session.run())
        await entered.wait()
        heartbeat = Heartbeat(process.parts, [session])
        seen = []
        for passed in (0.0, FIRST_BEAT_SECONDS / 2, FIRST_BEAT_SECONDS / 2):
            world.clock.advance(passed)
            await heartbeat.beat()
            row = await world.memory.index.get(work_id)
            assert row is not None
            seen.append(row.state)
        go_on.set()
        await task
        assert seen == [State.QUEUED, State.QUEUED, State.RUNNING]

    async def test_a_heartbeat_that_finds_another_holder_stops_the_step(self, world: World) -> None:
        entered = asyncio.Event()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await asyncio.Event().wait()
            return snapshot

        process, work_id, session = await world.enqueue(step)
        task = asyncio.create_task(session.run())
        await entered.wait()
        theirs = await world.append(work_id, Claimed("other", world.clock.now() + 99))
        await world.memory.index.put(project(theirs))
        world.clock.advance(FIRST_BEAT_SECONDS)
        await Heartbeat(process.parts, [session]).beat()
        await task
        assert session.interruption.why == "another worker holds the lease"
        assert (await process.tail(work_id)) == theirs

    async def test_a_journal_that_can_not_be_read_stops_its_own_step_alone(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A newer Roost may have sent it a signal, say; the leases of the others are renewed all the same."""
        entered: asyncio.Queue[str] = asyncio.Queue()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            await entered.put(item.work_id)
            await asyncio.Event().wait()
            return snapshot

        process, newer, session = await world.enqueue(step)
        other = await process.client.enqueue("demo")
        [delivery] = await process.receive()
        sessions = [session, process.session(delivery)]
        tasks = [asyncio.create_task(one.run()) for one in sessions]
        assert {await entered.get(), await entered.get()} == {newer, other}
        tail = world.memory.journal.tail

        async def of_another_format(work_id: str) -> Entry | None:
            if work_id == newer:
                raise SchemaTooNew(f"entry 2 of {newer} has format 2")
            return await tail(work_id)

        monkeypatch.setattr(world.memory.journal, "tail", of_another_format)
        monkeypatch.setattr(world.memory.index, "put", self._is_behind)
        world.clock.advance(FIRST_BEAT_SECONDS)
        await Heartbeat(process.parts, sessions).beat()
        await asyncio.wait_for(tasks[0], 5)
        assert "format 2" in str(sessions[0].interruption.why)
        assert sessions[1].interruption.why is None
        assert sessions[1].held_until == world.clock.monotonic() + process.lease_seconds
        tasks[1].cancel()

    async def _is_behind(self, row: IndexRow) -> bool:
        return False

    async def test_an_abandoned_step_gives_the_lease_back(self, world: World) -> None:
        entered = asyncio.Event()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await asyncio.Event().wait()
            return snapshot

        process, work_id, session = await world.enqueue(step)
        task = asyncio.create_task(session.run())
        await entered.wait()
        session.abandon()
        await task
        tail = await process.tail(work_id)
        assert (tail.control.state, tail.control.failures, tail.control.interruptions) == (State.QUEUED, 0, 0)
        assert [message.cause for message in await world.messages()] == [tail.position]


class Large(dict[str, Any]):
    """Part of a state, of which it can be seen when it is gone."""


async def test_a_returned_state_is_gone_before_its_commit_is_waited_for(world: World) -> None:
    """Many lanes wait for the disk at a time, and states may be large."""
    part: weakref.ref[Large]
    held: list[bool] = []

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        nonlocal part
        large = Large(words=["w"] * 100)
        part = weakref.ref(large)
        return snapshot.next("again", data={"large": large})

    async def look(when: str, call: str, detail: str) -> None:
        if (when, detail) == ("before", "committed"):
            held.append(part() is not None)

    _, _, session = await world.enqueue(step)
    session._parts = replace(session._parts, settings=replace(session._parts.settings, burst_steps=3))
    world.hook = look
    await session.run()
    assert held == [False] * 3


class TestAmbiguousAppends:
    @pytest.mark.parametrize("kind", ["claimed", "committed", "recorded", "attempt_failed", "failed"])
    async def test_a_lost_reply_is_settled_by_the_entrys_id(self, world: World, kind: str) -> None:
        """The append was done, its reply lost; the second try learns that the first one won."""
        failed: list[str] = []

        async def lose_the_reply(when: str, call: str, detail: str) -> None:
            if (when, detail) == ("after", kind) and not failed:
                failed.append(kind)
                raise StorageUnavailable("the reply is lost")

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if kind == "attempt_failed":
                raise ValueError("bad")
            if kind == "failed":
                return snapshot.next(data={"bad": math.nan})
            await current_step().once("k", lambda: 1)
            return snapshot.finish()

        process, work_id, session = await world.enqueue(step)
        world.hook = lose_the_reply
        await session.run()
        world.hook = None
        kinds = await process.kinds(work_id)
        assert failed == [kind]
        assert kinds.count(kind) == 1
        assert [entry.position for entry in await process.entries(work_id)] == list(range(len(kinds)))

    async def test_a_backend_that_comes_back_within_the_lease_costs_nothing(self, world: World) -> None:
        failures = iter(range(4))

        async def fails_at_first(when: str, call: str, detail: str) -> None:
            if (when, detail) == ("before", "committed") and next(failures, None) is not None:
                raise StorageUnavailable("the network is slow")

        process, work_id, session = await world.enqueue()
        world.hook = fails_at_first
        await session.run()
        assert next(failures, None) is None
        assert await process.kinds(work_id) == ["enqueued", "claimed", "committed"]

    async def test_a_backend_that_stays_away_costs_the_lease_not_the_work(self, world: World) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            world.hook = fail
            return snapshot.finish()

        async def fail(when: str, call: str, detail: str) -> None:
            world.clock.advance(1)
            raise StorageUnavailable("away")

        process, work_id, session = await world.enqueue(step)
        began = world.clock.monotonic()
        await session.run()
        assert world.clock.monotonic() <= began + process.lease_seconds + 1  # the last try began before
        world.hook = None
        assert await process.kinds(work_id) == ["enqueued", "claimed"]
        world.clock.advance(100)
        again = world.process(finishes)
        await again.work()
        assert await again.state(work_id) is State.DONE


class TestBlocked:
    async def test_a_release_between_refusal_and_entry_is_not_missed(self, world: World) -> None:
        """The call of the release came while this one still held its lease, and to nothing."""
        holder = Owner("holder", 1)

        async def release(when: str, call: str, detail: str) -> None:
            if (when, detail) == ("before", "blocked"):
                world.hook = None
                await claims.release(process.parts, holder)
                # That delivery is received by somebody who sees a live lease, and gets lost.
                await world.memory.queue.acknowledge(await process.receive())

        process, work_id, session = await world.enqueue(resources=("db",))
        await self._hold(world, holder)
        world.hook = release
        await session.run()
        assert await process.kinds(work_id) == ["enqueued", "claimed", "blocked"]
        await process.work()
        assert await process.state(work_id) is State.DONE

    async def test_a_resource_that_is_held_wakes_nobody(self, world: World) -> None:
        process, work_id, session = await world.enqueue(resources=("db",))
        await self._hold(world, Owner("holder", 1))
        await session.run()
        tail = await process.tail(work_id)
        assert tail.control.state is State.BLOCKED
        assert "holder" in tail.control.reason
        assert await process.receive() == []

    async def test_who_holds_or_wants_it_and_can_not_be_read_harms_nobody(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its journal is damaged; work that meets it in a line is not."""
        process, work_id, session = await world.enqueue(resources=("db",))
        await self._hold(world, Owner("holder", 1))
        tail = world.memory.journal.tail

        async def damaged(name: str) -> Entry | None:
            if name in ("holder", "first"):
                raise StorageCorrupt(f"entry 1 of {name} can't be read")
            return await tail(name)

        for place in (Owner("first", 1), Owner(work_id, 0)):
            ask = Ask(place, (Want("db"),))
            await world.memory.claims.acquire(ask, now=world.clock.now(), overtake_before=0.0)
        monkeypatch.setattr(world.memory.journal, "tail", damaged)
        await session.run()
        assert await process.state(work_id) is State.BLOCKED
        await claims.release(process.parts, Owner("holder", 1))  # calls "first", which can't be woken
        world.clock.advance(process.lease_seconds + 60.0)
        await process.sweeper.sweep()
        await process.work()
        assert await process.state(work_id) is State.DONE

    async def _hold(self, world: World, holder: Owner) -> None:
        """Let another work item that lives hold the resource."""
        other = world.process(finishes)
        await other.client.enqueue("demo", work_id=holder.work_id)
        await world.memory.queue.acknowledge(await other.receive())
        await world.append(holder.work_id, Claimed("other", world.clock.now() + 1e6))
        ask = Ask(holder, (Want("db"),))
        await world.memory.claims.acquire(ask, now=world.clock.now(), overtake_before=0.0)


_STORED = b'{"updated_at": 1.0, "created_at": 1.0, "status": "running", "data": {}, %b}'
"""A snapshot as it is stored, but for a part."""


class TestBrokenStores:
    async def test_a_corrupt_snapshot_ends_the_work_and_says_why(self, world: World) -> None:
        process, work_id, session = await world.enqueue(
            lambda s, item: s.next(data={"text": "x" * 5000}, delay=1)
        )
        await session.run()
        entries = world.memory.journal._entries[work_id]
        broken = entries[-1].body
        assert broken is not None
        entries[-1] = structs.replace(entries[-1], body=structs.replace(broken, data=b"not zstd"))
        world.clock.advance(2)
        await process.work()
        tail = await process.tail(work_id)
        assert tail.control.state is State.FAILED
        assert "StorageCorrupt" in tail.control.reason
        assert await world.messages() == []

    @pytest.mark.parametrize(
        "damaged",
        [
            b'{"step": "start", "da\x00',
            b'{"step": "\xff"}',
            b"[]",
            b"{}",
            b'{"step": 7}',
            b'{"delya": 1}',
            _STORED % b'"step": 7',
            _STORED % b'"step": "a", "delay": "soon"',
            _STORED % b'"step": "a", "delay": "soon", "a_later_field": 1',
        ],
    )
    async def test_a_snapshot_that_is_no_longer_one_ends_the_work_and_says_why(
        self, world: World, damaged: bytes
    ) -> None:
        process, work_id, session = await world.enqueue(lambda s, item: s.next(delay=1))
        await session.run()
        entries = world.memory.journal._entries[work_id]
        entries[-1] = structs.replace(entries[-1], body=Body(Encoding.JSON, damaged))
        world.clock.advance(2)
        await process.work()
        tail = await process.tail(work_id)
        assert tail.control.state is State.FAILED
        assert tail.control.reason.startswith("StorageCorrupt: ")

    async def test_a_payload_that_is_no_longer_one_ends_the_work_and_says_why(self, world: World) -> None:
        process, work_id, session = await world.enqueue(finishes)
        entries = world.memory.journal._entries[work_id]
        entries[0] = structs.replace(entries[0], body=Body(Encoding.JSON, b'{"a": '))
        await session.run()
        tail = await process.tail(work_id)
        assert tail.control.state is State.FAILED
        assert tail.control.reason.startswith("StorageCorrupt: ")

    async def test_a_body_whose_blob_is_gone_ends_the_work_and_says_why(self, world: World) -> None:
        noise = [f"{number * 7919 % 99991:x}" for number in range(6000)]
        process, work_id, session = await world.enqueue(lambda s, item: s.next(data={"n": noise}, delay=1))
        await session.run()
        assert world.memory.artifacts._blobs
        world.memory.artifacts._blobs.clear()
        world.clock.advance(2)
        await process.work()
        tail = await process.tail(work_id)
        assert tail.control.state is State.FAILED
        assert "StorageCorrupt: the blob of a body is missing" in tail.control.reason

    async def test_what_a_step_returns_and_can_not_be_stored_ends_the_work(self, world: World) -> None:
        for bad in ({"x": math.nan}, {"x": {1, 2}}, {1: 2}, {"x": "\ud800"}, {"x": "y" * (17 << 20)}):
            process, work_id, session = await world.enqueue(
                lambda s, item, bad=bad: s.model_copy(update={"data": bad})
            )
            await session.run()
            tail = await process.tail(work_id)
            assert tail.control.state is State.FAILED
            assert tail.control.reason.startswith("EngineContractError: ")

    async def test_an_artifact_that_was_never_stored_is_in_no_commit(self, world: World) -> None:
        """A step can make one up, or read its digest from elsewhere."""

        def names_it(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            artifact = Artifact(name="report", digest="0" * 64, size_bytes=1)
            return snapshot.model_copy(update={"artifacts": [artifact], "is_finished": True})

        process, work_id, session = await world.enqueue(names_it)
        await session.run()
        tail = await process.tail(work_id)
        assert (tail.control.state, tail.control.version) == (State.FAILED, 0)
        assert "'report', which was never stored" in tail.control.reason

    async def test_a_delivery_for_no_work_is_rejected(self, world: World) -> None:
        process = world.process(finishes)
        await world.memory.queue.send([Message("nobody", 0)])
        await process.work()
        assert [one.reason for one in await world.memory.queue.dead_letters(9)] == ["unknown work id"]

    @pytest.mark.parametrize("by", ["delivery", "sweeper"])
    async def test_the_interruptions_are_those_that_the_error_tells_of(self, world: World, by: str) -> None:
        """The last lease that ended without a word is one more of them."""
        process = world.process(finishes, retry=RetryPolicy(max_interruptions=2))
        work_id = await process.client.enqueue("demo", deadline_at=world.clock.now() + 1e5)
        for _ in range(2):
            world.clock.advance(1000.0)
            await world.append(work_id, Claimed("gone", world.clock.now()))
        world.clock.advance(1000.0 if by == "delivery" else 1e5)
        await (process.work() if by == "delivery" else process.sweeper.sweep())
        control = (await process.tail(work_id)).control
        assert (control.state, control.interruptions) == (State.FAILED, 2)
        assert control.reason.startswith("CrashLoop: 2 " if by == "delivery" else "DeadlineExceeded")

    async def test_a_bug_of_roost_is_a_failed_attempt_not_a_crash(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(self: Session, *given: Any) -> None:
            raise ZeroDivisionError("a bug")

        process, work_id, session = await world.enqueue()
        monkeypatch.setattr(Session, "_commit", broken)
        worker = process.worker()
        worker._start(session.delivery)
        while worker.sessions:
            await asyncio.wait(worker.sessions.values())
        tail = await process.tail(work_id)
        assert (tail.control.state, tail.control.failures) == (State.SCHEDULED, 1)
        assert tail.control.reason == "ZeroDivisionError: a bug"


class TestBursts:
    async def test_steps_of_a_burst_share_one_lease_and_touch_nothing_else(self, world: World) -> None:
        calls: list[str] = []

        async def count(when: str, call: str, detail: str) -> None:
            if when == "before":
                calls.append(detail or call)

        _, _, session = await world.enqueue(counts_to(10))
        world.hook = count
        await session.run()
        assert calls == ["tail", "claimed", *["committed"] * 10, "index_put", "acknowledge"]

    async def test_a_lease_is_handed_on_after_the_burst(self, world: World) -> None:
        process = world.process(counts_to(7))
        settings = replace(process.parts.settings, burst_steps=3)
        process.parts = replace(process.parts, settings=settings)
        work_id = await process.client.enqueue("demo")
        assert await process.work() == 3
        kinds = await process.kinds(work_id)
        assert kinds == ["enqueued", *["claimed", *["committed"] * 3] * 2, "claimed", "committed"]

    async def test_a_lease_is_handed_on_after_some_time_too(self, world: World) -> None:
        """Else work whose steps are long would keep its lane from all others for hundreds of them."""

        def takes_time(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            world.clock.advance(8.0)
            return counts_to(9)(snapshot, item)  # type: ignore[return-value]

        process, work_id, session = await world.enqueue(takes_time)
        await session.run()
        tail = await process.tail(work_id)
        assert (tail.control.state, tail.control.version) == (State.QUEUED, 3)  # of 20 seconds

    async def test_a_failed_step_waits_longer_each_time(self, world: World) -> None:
        def fails(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            raise ValueError("bad")

        process = world.process(fails, retry=RetryPolicy(max_attempts=4, first_delay_seconds=10))
        work_id = await process.client.enqueue("demo")
        waits: list[float] = []
        for _ in range(4):
            await process.work()
            wake_at = (await process.tail(work_id)).control.wake_at
            waits.append(0.0 if wake_at is None else wake_at - world.clock.now())
            world.clock.advance(waits[-1])
        assert [5 <= waits[0] <= 10, 10 <= waits[1] <= 20, 20 <= waits[2] <= 40] == [True] * 3
        assert await process.state(work_id) is State.FAILED

    async def test_a_deadline_cuts_the_step_short(self, world: World) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            world.clock.advance(1)  # now it is over
            await asyncio.Event().wait()
            return snapshot

        process, work_id, session = await world.enqueue(step, deadline_at=world.clock.now() + 0.02)
        await session.run()
        tail = await process.tail(work_id)
        assert tail.control.state is State.FAILED
        assert "DeadlineExceeded" in tail.control.reason

    async def test_a_failure_when_the_deadline_is_over_is_the_last_and_says_what_it_was(
        self, world: World
    ) -> None:
        def late(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            world.clock.advance(10.0)
            raise ValueError("no answer")

        process, work_id, session = await world.enqueue(late, deadline_at=world.clock.now() + 5.0)
        await session.run()
        tail = await process.tail(work_id)
        assert tail.control.state is State.FAILED
        assert tail.control.reason.startswith("DeadlineExceeded: ")
        assert tail.control.reason.endswith("no answer")

    async def test_a_long_delay_is_put_back_for_no_longer_than_a_message_can_wait(self, world: World) -> None:
        process, work_id, session = await world.enqueue()
        await world.append(work_id, Claimed("other", world.clock.now() + 1e6))
        await session.run()
        world.clock.advance(MESSAGE_DELAY_MAX_SECONDS - 1)
        assert await process.receive() == []
        world.clock.advance(2)
        assert len(await process.receive()) == 1
