"""The contract of a whole backend: the real core does its work on it, end to end."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from roost.clock import Clock, SystemIds
from roost.core.client import Client, NewWork, WorkView
from roost.core.parts import CoreSettings, Parts
from roost.core.session import Session
from roost.core.sweeper import Sweeper
from roost.core.worker import Worker
from roost.engine import EngineRegistry, RetryPolicy, current_step
from roost.errors import EnqueueConflict, RetryLater, StorageUnavailable, WorkNotFound
from roost.journal.control import project
from roost.journal.entries import Committed, Entry, Kind
from roost.models import Lane, Snapshot, State, WorkItem
from roost.storage.ports import Backend, Delivery, Owner
from roost.testing.contract.artifacts import read
from roost.testing.contract.harness import BackendHarness, Contract, soon

Step = Callable[[Snapshot, WorkItem], Snapshot | Awaitable[Snapshot]]
_ROUNDS_MAX = 50  # deliveries that `Process.work` follows before it gives up


class Scripted:
    """An engine whose step is a function of the test."""

    def __init__(self, step: Step, engine_id: str = "demo", retry: RetryPolicy | None = None) -> None:
        self.engine_id = engine_id
        self.retry = retry or RetryPolicy(first_delay_seconds=0.0)
        self._step = step

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        came = self._step(snapshot, item)
        return await came if inspect.isawaitable(came) else came


def counts_to(last: int) -> Step:
    """A step that counts up in the snapshot and finishes at `last`."""

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        number = snapshot.data.get("n", 0) + 1
        return snapshot.finish(data={"n": number}) if number == last else snapshot.next(data={"n": number})

    return step


def finishes(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    """A step that ends the work."""
    return snapshot.finish()


class Shifted:
    """A clock that is ahead of another, as that of another machine may be."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    def now(self) -> float:
        return self._clock.now() + self._seconds

    def monotonic(self) -> float:
        return self._clock.monotonic() + self._seconds

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


class Process:
    """What runs in one process, on a backend instance of its own, moved by hand.

    Args:
        engine: the one that it has.
        ahead_seconds: how far its clock is ahead of the queue's.
    """

    def __init__(
        self,
        harness: BackendHarness,
        backend: Backend,
        engine: Scripted,
        name: str = "worker",
        *,
        ahead_seconds: float = 0.0,
    ) -> None:
        clock = Shifted(harness.clock, ahead_seconds) if ahead_seconds else harness.clock
        self.lease_seconds = 4 * harness.time_step_seconds
        settings = CoreSettings(lease_seconds=self.lease_seconds, wait_seconds=harness.time_step_seconds * 10)
        self.name = name
        self.backend = backend
        self.parts = Parts(backend, clock, SystemIds(), settings)
        self.client = Client(self.parts)
        self.sweeper = Sweeper(self.parts, f"sweeper:{name}")
        self.engines = EngineRegistry([engine])

    async def receive(self, limit: int = 10) -> Sequence[Delivery]:
        return await self.backend.queue.receive(
            limit,
            visibility_seconds=self.lease_seconds,
            wait_seconds=0.0,
            lanes=(Lane.HIGH, Lane.NORMAL, Lane.LOW),
        )

    def session(self, delivery: Delivery) -> Session:
        return Session(self.parts, self.engines, self.name, delivery, is_draining=lambda: False)

    async def begin(self, entered: asyncio.Event) -> asyncio.Task[None]:
        """Take the one delivery and run its session until a step says that it is entered."""
        [delivery] = await self.receive()
        task = asyncio.create_task(self.session(delivery).run())
        waiting = asyncio.create_task(entered.wait())
        await soon(asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED))
        assert not task.done(), "the session ended before its step was entered"
        return task

    async def work(self) -> int:
        """Run sessions one after the other until no delivery is visible; how many."""
        done = 0
        while deliveries := await self.receive():
            for delivery in deliveries:
                await soon(self.session(delivery).run())
            done += len(deliveries)
            assert done < _ROUNDS_MAX, "deliveries without end"
        return done

    def worker(self) -> Worker:
        return Worker(self.parts, self.engines, self.name)

    async def tail(self, work_id: str) -> Entry:
        tail = await self.backend.journal.tail(work_id)
        assert tail is not None
        return tail

    async def state(self, work_id: str) -> State:
        return (await self.tail(work_id)).control.state

    async def entries(self, work_id: str) -> Sequence[Entry]:
        return [entry async for entry in self.client.events(work_id)]

    async def kinds(self, work_id: str) -> list[str]:
        return [entry.event.kind.value for entry in await self.entries(work_id)]


async def crash(session: asyncio.Task[None]) -> None:
    """End a session as a kill does: it writes nothing more."""
    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session


async def run_workers(workers: Sequence[Worker], done: asyncio.Event) -> None:
    """Run workers until `done` is set, then drain them."""
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.run())
        try:
            await soon(done.wait())
        finally:
            for worker in workers:
                worker.drain()


def check_sound(entries: Sequence[Entry]) -> None:
    """Invariants 1 and 2: positions and versions are contiguous."""
    assert [entry.position for entry in entries] == list(range(len(entries)))
    versions = [entry.event.version for entry in entries if isinstance(entry.event, Committed)]
    assert versions == list(range(1, len(versions) + 1))


class BackendContract(Contract):
    """Work gets done on it, whatever dies meanwhile."""

    # --- the bundle ----------------------------------------------------------

    async def test_check_finds_a_sound_backend_sound(self, backend: Backend) -> None:
        findings = await backend.check()
        assert findings
        for finding in findings:
            assert finding.name
            assert finding.detail
        assert all(finding.is_ok for finding in findings if finding.name != "disk")

    async def test_close_is_idempotent(self, backend: Backend, harness: BackendHarness) -> None:
        other = await harness.reopen()
        for _ in range(2):
            await other.close()

    async def test_two_stores_know_nothing_of_each_other(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        here = Process(harness, backend, Scripted(finishes))
        work_id = await here.client.enqueue("demo")
        there = Process(harness, await harness.open(), Scripted(finishes))
        assert await there.work() == 0
        with pytest.raises(WorkNotFound):
            await there.client.status(work_id)

    async def test_it_says_where_it_is_and_how_much_an_entry_holds(self, backend: Backend) -> None:
        assert backend.url.partition(":")[0].isalnum()
        assert backend.inline_max_bytes >= 1024

    # --- from enqueue to done ------------------------------------------------

    async def test_work_is_done_step_by_step(self, backend: Backend, harness: BackendHarness) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            artifact = await current_step().artifacts.put(f"{snapshot.version}.txt", item.payload["text"])
            assert artifact.size_bytes == 5
            return counts_to(3)(snapshot.next(note=f"at {snapshot.version}"), item)  # type: ignore[return-value]

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo", {"text": "hello"})
        assert await process.state(work_id) is State.QUEUED
        assert await process.work() == 1
        other = Process(harness, await harness.reopen(), Scripted(step))
        view = await other.client.status(work_id)
        _check_done(view, version=3)
        assert view.snapshot is not None
        assert view.snapshot.history == ["at 0", "at 1", "at 2"]
        assert [artifact.name for artifact in view.artifacts] == ["0.txt", "1.txt", "2.txt"]
        assert await read(other.backend.artifacts, view.artifacts[0].digest) == b"hello"
        assert [(await other.client.snapshot(work_id, n)).data for n in (1, 2, 3)] == [
            {"n": 1},
            {"n": 2},
            {"n": 3},
        ]
        check_sound(await other.entries(work_id))

    async def test_workers_share_the_work_and_do_each_once(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        count, ended, done = 24, list[str](), asyncio.Event()

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            after = counts_to(3)(snapshot, item)
            assert isinstance(after, Snapshot)
            if after.is_finished:
                ended.append(item.work_id)
            if len(ended) == count:
                done.set()
            return after

        a = Process(harness, backend, Scripted(step), "a")
        b = Process(harness, await harness.reopen(), Scripted(step), "b")
        work_ids = await a.client.enqueue_many(
            [NewWork("demo", {}, priority=number % 3 - 1) for number in range(count)]
        )
        await run_workers([a.worker(), b.worker()], done)
        assert sorted(ended) == sorted(work_ids)
        for work_id in work_ids:
            _check_done(await b.client.status(work_id), version=3)
            check_sound(await b.entries(work_id))

    async def test_an_idle_worker_takes_what_another_process_enqueues(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        done = asyncio.Event()

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            done.set()
            return snapshot.finish()

        idle = Process(harness, backend, Scripted(step))
        client = Process(harness, await harness.reopen(), Scripted(step)).client

        async def enqueue() -> None:
            await asyncio.sleep(0)
            await client.enqueue("demo")

        async with asyncio.TaskGroup() as group:
            group.create_task(enqueue())
            await run_workers([idle.worker()], done)
        await harness.settle()
        counts = {state: count for state, count in (await backend.index.counts()).items() if count}
        assert counts == {State.DONE: 1}

    async def test_a_body_too_large_for_an_entry_is_kept_all_the_same(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        text = "".join(
            hashlib.sha256(b"%d" % n).hexdigest() for n in range(2 * backend.inline_max_bytes // 64)
        )

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return snapshot.next(data={"text": text}) if snapshot.version == 0 else snapshot.finish()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo", {"text": text[: (1 << 20) - 100]})
        await process.work()
        view = await process.client.status(work_id)
        assert view.item.payload == {"text": text[: (1 << 20) - 100]}
        assert view.snapshot is not None
        assert view.snapshot.data == {"text": text}
        assert any(entry.body and entry.body.digest for entry in await process.entries(work_id))

    async def test_a_growing_snapshot_reads_back_at_every_version(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            lines = [
                *snapshot.data.get("lines", []),
                hashlib.sha256(b"%d" % snapshot.version).hexdigest() * 2,
            ]
            after = snapshot.next(data={"lines": lines})
            return after.finish() if len(lines) == 40 else after

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        for version in (1, 17, 23, 40):
            assert len((await process.client.snapshot(work_id, version)).data["lines"]) == version

    # --- delays --------------------------------------------------------------

    async def test_a_delayed_step_waits_for_its_time(self, backend: Backend, harness: BackendHarness) -> None:
        delay = 3 * harness.time_step_seconds

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return snapshot.finish() if snapshot.version else snapshot.next(delay=delay)

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        assert await process.state(work_id) is State.SCHEDULED
        await harness.advance(delay * 0.6)
        assert await process.work() == 0
        await harness.advance(delay * 0.6)
        await process.work()
        _check_done(await process.client.status(work_id), version=2)

    async def test_a_long_delay_sends_nothing_until_a_sweeper_finds_it_due(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        week = 7 * 86400.0
        process = Process(harness, backend, Scripted(finishes))
        work_id = await process.client.enqueue("demo", delay_seconds=week)
        await process.sweeper.sweep()
        assert await process.work() == 0
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=week - 100)
        await harness.settle()
        await later.sweeper.sweep()
        assert await later.work() == 0
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=week + 1)
        await later.sweeper.sweep()
        await later.work()
        _check_done(await process.client.status(work_id), version=1)

    # --- what dies -----------------------------------------------------------

    async def test_work_of_a_dead_worker_is_taken_over_after_its_lease(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entered = asyncio.Event()

        async def dies(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if snapshot.version == 1:
                entered.set()
                await asyncio.Event().wait()
            return counts_to(3)(snapshot, item)  # type: ignore[return-value]

        a = Process(harness, backend, Scripted(dies), "a")
        b = Process(harness, await harness.reopen(), Scripted(counts_to(3)), "b")
        work_id = await a.client.enqueue("demo")
        session = await a.begin(entered)
        assert await b.work() == 0
        await crash(session)
        await harness.advance(b.lease_seconds / 2)
        assert await b.work() == 0  # the lease is not over
        await harness.advance(b.lease_seconds)
        await b.work()
        entries = await b.entries(work_id)
        check_sound(entries)
        assert await b.kinds(work_id) == ["enqueued", "claimed", "committed", "claimed", *["committed"] * 2]
        assert entries[3].control.interruptions == 1
        assert entries[-1].control.interruptions == 0
        _check_done(await b.client.status(work_id), version=3)

    async def test_a_zombie_commit_is_refused_and_nothing_of_it_stays(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entered, thawed = asyncio.Event(), asyncio.Event()

        async def freezes(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await thawed.wait()
            return snapshot.finish(data={"by": "zombie"})

        a = Process(harness, backend, Scripted(freezes), "a")
        b = Process(
            harness, await harness.reopen(), Scripted(lambda s, item: s.finish(data={"by": "b"})), "b"
        )
        work_id = await a.client.enqueue("demo", resources=("db",))
        zombie = await a.begin(entered)
        await harness.advance(2 * a.lease_seconds)
        await b.work()
        before = await b.entries(work_id)
        thawed.set()
        await soon(zombie)
        assert await b.entries(work_id) == before
        view = await b.client.status(work_id)
        _check_done(view, version=1)
        assert view.snapshot is not None
        assert view.snapshot.data == {"by": "b"}
        assert await backend.claims.show() == []

    async def test_a_result_recorded_once_outlives_the_worker(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        charged, entered = list[str](), asyncio.Event()

        def charge() -> dict[str, Any]:
            charged.append("charge")
            return {"receipt": len(charged)}

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            receipt = await current_step().once("charge", charge)
            if not entered.is_set():
                entered.set()
                await asyncio.Event().wait()
            return snapshot.finish(data=receipt)

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await crash(await process.begin(entered))
        await harness.advance(2 * process.lease_seconds)
        await process.work()
        view = await process.client.status(work_id)
        assert view.snapshot is not None
        assert view.snapshot.data == {"receipt": 1}
        assert charged == ["charge"]

    async def test_a_lost_delivery_is_sent_again_by_a_sweeper(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        work_id = await process.client.enqueue("demo")
        await backend.queue.acknowledge(await process.receive())
        assert await process.work() == 0
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=60.0)
        await harness.settle()
        assert await later.sweeper.sweep() == 1
        await later.work()
        _check_done(await process.client.status(work_id), version=1)

    async def test_a_storage_that_fails_for_a_moment_delays_nothing_but_the_step(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Each call of the core fails once; an append fails after it was done, too."""
        flaky = Flaky(backend)
        process = Process(harness, flaky.backend, Scripted(counts_to(3)))
        process.parts = replace(process.parts, clock=Hasty(harness.clock))
        work_id = await Process(harness, backend, Scripted(finishes)).client.enqueue("demo")
        [delivery] = await process.receive()
        flaky.is_on = True
        await soon(process.session(delivery).run())
        flaky.is_on = False
        check_sound(await process.entries(work_id))
        _check_done(await process.client.status(work_id), version=3)
        assert flaky.failures >= 5

    # --- resources -----------------------------------------------------------

    async def test_a_held_resource_blocks_and_is_handed_over(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def holds(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await leave.wait()
            return snapshot.finish()

        a = Process(harness, backend, Scripted(holds), "a")
        b = Process(harness, await harness.reopen(), Scripted(finishes), "b")
        holder = await a.client.enqueue("demo", resources=("db", "disk"))
        session = await a.begin(entered)
        blocked = [await b.client.enqueue("demo", resources=("disk",)) for _ in range(2)]
        await b.work()
        assert [await b.state(work_id) for work_id in blocked] == [State.BLOCKED] * 2
        [view] = await b.backend.claims.show(resource="disk")
        assert [owner.work_id for owner in view.owners] == [holder]
        assert [waiter.work_id for waiter in view.waiters] == blocked
        leave.set()
        await soon(session)
        await b.work()  # the release has sent deliveries: no time passes
        for work_id in (holder, *blocked):
            _check_done(await b.client.status(work_id), version=1)
        assert await b.backend.claims.show() == []

    async def test_a_dead_owner_is_evicted_before_its_claim_is_taken(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entered = asyncio.Event()

        async def holds(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await asyncio.Event().wait()
            return snapshot

        a = Process(harness, backend, Scripted(holds, "holds"), "a")
        b = Process(harness, await harness.reopen(), Scripted(finishes), "b")
        dead = await a.client.enqueue("holds", resources=("db",))
        await crash(await a.begin(entered))
        waiting = await b.client.enqueue("demo", resources=("db",))
        await b.work()
        assert await b.state(waiting) is State.BLOCKED
        await harness.advance(2 * b.lease_seconds)
        later = Process(harness, backend, Scripted(finishes), "b", ahead_seconds=60.0)
        await harness.settle()
        await later.sweeper.sweep()
        await later.work()
        _check_done(await b.client.status(waiting), version=1)
        assert Kind.EVICTED.value in await b.kinds(dead)
        assert await backend.claims.show() == []

    async def test_a_zombie_does_not_take_its_claim_back(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """It was paused between its claim and its acquire, while another took the work over."""
        process = Process(harness, backend, Scripted(finishes))
        work_id = await process.client.enqueue("demo", resources=("db",))
        tail = await process.tail(work_id)
        newer = Owner(work_id, tail.position + 5)
        await backend.claims.acquire(newer, ["db"], now=0.0, overtake_before=0.0)
        await process.work()
        [view] = await backend.claims.show()
        assert list(view.owners) == [newer] or await process.state(work_id) is State.DONE

    # --- retries, ends -------------------------------------------------------

    async def test_a_failed_step_is_tried_again_with_its_own_snapshot(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        attempts: list[tuple[int, int]] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            attempts.append((snapshot.version, current_step().attempt))
            snapshot.data["dirt"] = True
            if current_step().attempt < 3:
                raise ValueError("not yet")
            assert snapshot.data.pop("dirt")
            return counts_to(2)(snapshot, item)  # type: ignore[return-value]

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        assert attempts == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
        view = await process.client.status(work_id)
        _check_done(view, version=2)
        assert view.snapshot is not None
        assert view.snapshot.data == {"n": 2}

    async def test_work_that_fails_for_good_is_dead_lettered_and_can_be_retried(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        is_fixed = False

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if snapshot.version == 1 and not is_fixed:
                raise ValueError("always")
            return counts_to(2)(snapshot, item)  # type: ignore[return-value]

        engine = Scripted(step, retry=RetryPolicy(max_attempts=3, first_delay_seconds=0.0))
        process = Process(harness, backend, engine)
        work_id = await process.client.enqueue("demo")
        await process.work()
        view = await process.client.status(work_id)
        assert (view.control.state, view.control.failures, view.control.version) == (State.FAILED, 3, 1)
        assert "always" in view.control.reason
        assert view.row == project(await process.tail(work_id))
        assert view.row.due_at is None
        is_fixed = True
        await process.client.retry(work_id, "fixed")
        await process.work()
        _check_done(await process.client.status(work_id), version=2)

    async def test_retry_later_burns_no_attempt(self, backend: Backend, harness: BackendHarness) -> None:
        asked: list[int] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            asked.append(current_step().attempt)
            if len(asked) < 4:
                raise RetryLater(0)
            return snapshot.finish()

        process = Process(harness, backend, Scripted(step, retry=RetryPolicy(max_attempts=2)))
        work_id = await process.client.enqueue("demo")
        await process.work()
        assert asked == [1, 1, 1, 1]
        _check_done(await process.client.status(work_id), version=1)

    async def test_what_is_cancelled_ends_without_another_step(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(lambda s, item: s.next()))
        for options in ({}, {"delay_seconds": 5 * harness.time_step_seconds}, {"delay_seconds": 86400.0}):
            work_id = await process.client.enqueue("demo", **options)
            await process.client.cancel(work_id, "not needed")
            await process.work()
            tail = await process.tail(work_id)
            assert (tail.control.state, tail.control.version) == (State.CANCELLED, 0)
            assert tail.control.reason == "not needed"

    async def test_a_running_step_that_is_cancelled_ends_at_its_commit(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await leave.wait()
            return snapshot.next()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        session = await process.begin(entered)
        await process.client.cancel(work_id, "enough")
        leave.set()
        await soon(session)
        assert await process.kinds(work_id) == [
            "enqueued",
            "claimed",
            "cancel_requested",
            "committed",
            "cancelled",
        ]

    async def test_a_deadline_ends_work_that_nobody_took(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        work_id = await process.client.enqueue("demo", deadline_at=harness.clock.now() + 3600)
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=3700.0)
        await harness.settle()
        await later.sweeper.sweep()
        tail = await later.tail(work_id)
        assert tail.control.state is State.FAILED
        assert "DeadlineExceeded" in tail.control.reason

    # --- enqueueing twice ----------------------------------------------------

    async def test_an_idempotency_key_gives_the_same_work_again(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        a = Process(harness, backend, Scripted(finishes))
        b = Process(harness, await harness.reopen(), Scripted(finishes))
        options: dict[str, Any] = {"idempotency_key": "order 7 \N{SNOWMAN}"}
        work_ids = await asyncio.gather(
            *((a, b)[n % 2].client.enqueue("demo", {"n": 1}, **options) for n in range(10))
        )
        assert len(set(work_ids)) == 1
        await a.work()
        assert await b.client.enqueue("demo", {"n": 1}, **options) == work_ids[0]
        assert await a.work() == 0
        assert await a.kinds(work_ids[0]) == ["enqueued", "claimed", "committed"]
        with pytest.raises(EnqueueConflict) as caught:
            await b.client.enqueue("demo", {"n": 2}, **options)
        assert caught.value.work_id == work_ids[0]

    # --- draining ------------------------------------------------------------

    async def test_a_drained_worker_hands_over_at_its_next_commit(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        drained = asyncio.Event()

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if snapshot.version == 2:
                drained.set()
                worker.drain()
            return counts_to(9)(snapshot, item)  # type: ignore[return-value]

        a = Process(harness, backend, Scripted(step), "a")
        b = Process(harness, await harness.reopen(), Scripted(counts_to(9)), "b")
        worker = a.worker()
        work_id = await a.client.enqueue("demo", resources=("db",))
        await run_workers([worker], drained)
        assert (await b.tail(work_id)).control.version == 3
        assert await b.state(work_id) is State.QUEUED
        assert await b.work() == 1  # at once: no lease to wait for
        entries = await b.entries(work_id)
        check_sound(entries)
        assert {entry.actor for entry in entries if isinstance(entry.event, Committed)} == {"a", "b"}
        _check_done(await b.client.status(work_id), version=9)

    async def test_an_abandoned_step_is_given_back_and_burns_no_attempt(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entered = asyncio.Event()

        async def hangs(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await asyncio.Event().wait()
            return snapshot

        attempts: list[int] = []

        def finishes_now(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            attempts.append(current_step().attempt)
            return snapshot.finish()

        a = Process(harness, backend, Scripted(hangs), "a")
        b = Process(harness, await harness.reopen(), Scripted(finishes_now), "b")
        work_id = await a.client.enqueue("demo")
        worker = a.worker()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await soon(entered.wait())
            worker.drain()
            worker.drain()  # again: at once
        assert await b.state(work_id) is State.QUEUED
        assert await b.work() == 1
        assert attempts == [1]
        assert await b.kinds(work_id) == ["enqueued", "claimed", "released", "claimed", "committed"]


class Hasty:
    """A clock whose sleeps end at once."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock.now
        self.monotonic = clock.monotonic

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Flaky:
    """A backend each of whose calls fails once, then works; appends are done before they fail."""

    def __init__(self, backend: Backend) -> None:
        from roost.storage.instrument import InstrumentedBackend

        self.is_on = False
        self.failures = 0
        self._failed: set[str] = set()
        self.backend: Backend = InstrumentedBackend(backend, self._hook)

    async def _hook(self, when: str, call: str, detail: str) -> None:
        if not self.is_on or call in ("tail", "index_get", "receive"):
            return  # those of opening a session: the delivery comes again
        if (when == "after") is (call == "append"):
            key = f"{call} {detail}"
            if key not in self._failed:
                self._failed.add(key)
                self.failures += 1
                raise StorageUnavailable(f"{key} failed on purpose")


def _check_done(view: WorkView, *, version: int) -> None:
    assert view.control.state is State.DONE
    assert view.control.version == version
    assert view.control.lease is None
    assert view.snapshot is not None
    assert view.snapshot.is_finished
    assert view.snapshot.version == version
    assert view.row is not None
    assert (view.row.state, view.row.position) == (State.DONE, view.control.position)
    assert view.row.due_at is None
