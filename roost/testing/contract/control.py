"""The core on a backend: what operators ask of work, deadlines, and budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from roost.core.heartbeat import Heartbeat
from roost.core.session import Session
from roost.engine import current_step
from roost.errors import ConflictError, InputError
from roost.journal.events import Cancelled, Failed
from roost.models import Snapshot, State, WorkItem
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract, soon
from roost.testing.contract.process import Process, Scripted, check_done, check_sound, counts_to, finishes


class _Long:
    """An engine's step that runs until it is told to return, or is interrupted."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.may_end = asyncio.Event()
        self.cancel_requested: Callable[[], bool]

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context = current_step()
        context.spend(usd=0.5)
        self.cancel_requested = lambda: context.cancel_requested
        self.entered.set()
        await self.may_end.wait()
        return snapshot.next()


async def _begin(process: Process, long: _Long) -> tuple[Session, asyncio.Task[None], Heartbeat]:
    """A session inside its step, and the heartbeat that keeps its lease."""
    [delivery] = await process.receive()
    session = process.session(delivery)
    task = asyncio.create_task(session.run())
    await soon(long.entered.wait())
    heartbeat = Heartbeat(process.parts, [session])
    await heartbeat.beat()
    return session, task, heartbeat


class ControlContract(Contract):
    """What operators ask of single work items."""

    # --- cancelling ----------------------------------------------------------

    async def test_work_that_nobody_runs_is_cancelled_at_once(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        work_id = await process.client.enqueue("demo", delay_seconds=1000)
        await process.client.cancel(work_id, "enough")
        await process.work()
        tail = await process.tail(work_id)
        assert (tail.control.state, tail.control.reason) == (State.CANCELLED, "enough")
        with pytest.raises(ConflictError):
            await process.client.cancel(work_id, "again")

    async def test_a_running_step_sees_within_a_heartbeat_that_it_should_end(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        long = _Long()
        process = Process(harness, backend, Scripted(long.step))
        work_id = await process.client.enqueue("demo")
        _, task, heartbeat = await _begin(process, long)
        await process.client.cancel(work_id, "enough")
        await harness.advance(process.lease_seconds / 3)
        await heartbeat.beat()
        assert long.cancel_requested()
        long.may_end.set()
        await soon(task)
        assert await process.kinds(work_id) == [
            "enqueued",
            "claimed",
            "cancel_requested",
            "committed",
            "cancelled",
        ]

    async def test_a_step_that_runs_beyond_the_limit_is_interrupted_and_the_work_cancelled(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        long = _Long()
        process = Process(harness, backend, Scripted(long.step))
        work_id = await process.client.enqueue("demo")
        _, task, heartbeat = await _begin(process, long)
        await process.client.cancel(work_id, "enough", by_seconds=process.lease_seconds / 2)
        await harness.advance(process.lease_seconds / 3)
        await heartbeat.beat()
        assert not task.done()
        await harness.advance(process.lease_seconds / 4)
        await heartbeat.beat()
        await soon(task)
        tail = await process.tail(work_id)
        assert tail.event == Cancelled("enough", (("usd", 0.5),))
        assert (tail.control.version, tail.control.spent) == (0, (("usd", 0.5),))
        assert await process.work() == 0

    async def test_what_outsiders_append_does_not_end_a_lease_that_heartbeats_keep(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """The row that says how far heartbeats moved the lease must not fall back to the claim's."""
        long = _Long()
        process = Process(harness, backend, Scripted(long.step))
        other = Process(harness, await harness.reopen(), Scripted(finishes), "other")
        work_id = await process.client.enqueue("demo")
        _, task, heartbeat = await _begin(process, long)
        for _ in range(4):
            await harness.advance(process.lease_seconds / 3)
            await heartbeat.beat()
        await process.client.cancel(work_id, "enough")
        await process.client.signal(work_id, "hello")
        await harness.settle()
        await other.sweeper.sweep()
        await other.work()
        long.may_end.set()
        await soon(task)
        await process.work()
        kinds = await process.kinds(work_id)
        assert (kinds.count("claimed"), kinds[-2:]) == (1, ["committed", "cancelled"])

    # --- pauses --------------------------------------------------------------

    async def test_a_pause_with_an_end_is_over_by_itself(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=3601.0)
        work_id = await process.client.enqueue("demo")
        await process.client.pause(work_id, "tonight", for_seconds=3600)
        await process.work()
        await harness.settle()
        await process.sweeper.sweep()
        assert await process.work() == 0
        assert await process.state(work_id) is State.QUEUED
        await later.sweeper.sweep()
        await later.work()
        check_done(await process.client.status(work_id), version=1)
        assert (await process.tail(work_id)).control.paused == ""

    async def test_a_pause_lets_the_running_step_commit_and_stops_the_next(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        long = _Long()
        process = Process(harness, backend, Scripted(long.step))
        work_id = await process.client.enqueue("demo")
        _, task, _ = await _begin(process, long)
        await process.client.pause(work_id, "look first")
        long.may_end.set()
        await soon(task)
        view = await process.client.status(work_id)
        assert (view.control.version, view.control.lease) == (1, None)
        assert view.row is not None
        assert (view.row.state, view.row.reason) == (State.PAUSED, "look first")
        assert await process.work() == 0

    # --- retries -------------------------------------------------------------

    async def test_a_retry_from_an_earlier_version_goes_on_from_its_snapshot(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        keys: list[str] = []

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            context = current_step()
            keys.append(context.idempotency_key)
            await context.once("effect", lambda: len(keys))
            number = snapshot.data.get("n", 0) + 1
            if number == 3:
                return snapshot.finish(data={"n": number})
            return snapshot.next(data={"n": number})

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        await process.client.retry(work_id, "from the first", version=1)
        await process.work()
        view = await process.client.status(work_id)
        check_done(view, version=5)
        assert view.snapshot is not None
        assert view.snapshot.data == {"n": 3}
        assert [(await process.client.snapshot(work_id, v)).data["n"] for v in range(1, 6)] == [1, 2, 3, 2, 3]
        assert len(set(keys)) == len(keys) == 5
        check_sound(await process.entries(work_id))
        await process.client.retry(work_id, "from the beginning", version=0)
        await process.work()
        check_done(await process.client.status(work_id), version=8)
        with pytest.raises(InputError):
            await process.client.retry(work_id, "no such version", version=9)

    async def test_a_retry_from_a_version_that_waited_waits_again(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        seen: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append([signal.data for signal in current_step().signals])
            return snapshot.finish() if snapshot.version else snapshot.next(wait_for="go")

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.client.signal(work_id, "go", "first")
        await process.work()
        await process.client.retry(work_id, "ask again", version=1)
        await process.work()
        assert await process.state(work_id) is State.WAITING
        await process.client.signal(work_id, "go", "second")
        await process.work()
        check_done(await process.client.status(work_id), version=3)
        assert seen == [[], ["first"], ["second"]]

    # --- deadlines -----------------------------------------------------------

    async def test_work_that_nobody_runs_fails_at_its_deadline(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """A delivery comes for it; no sweep is needed."""

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return snapshot.next(wait_for="never")

        process = Process(harness, backend, Scripted(step))
        deadline_at = harness.clock.now() + 2 * harness.time_step_seconds
        works = [await process.client.enqueue("demo", deadline_at=deadline_at) for _ in range(2)]
        await process.work()
        await process.client.pause(works[1], "not even then")
        await harness.advance(2.5 * harness.time_step_seconds)
        await process.work()
        for work_id in works:
            tail = await process.tail(work_id)
            assert isinstance(tail.event, Failed)
            assert tail.event.error.type == "DeadlineExceeded"
            assert deadline_at <= tail.at < deadline_at + 2 * harness.time_step_seconds

    async def test_a_far_deadline_is_kept_by_the_sweeper(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return snapshot.next(wait_for="never")

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo", deadline_at=harness.clock.now() + 86400)
        await process.work()
        await harness.settle()
        later = Process(harness, backend, Scripted(step), ahead_seconds=86401.0)
        await later.sweeper.sweep()
        await later.work()
        assert (await process.tail(work_id)).control.reason.startswith("DeadlineExceeded")

    async def test_a_deadline_interrupts_the_step_that_runs(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        long = _Long()
        process = Process(harness, backend, Scripted(long.step))
        work_id = await process.client.enqueue("demo", deadline_at=harness.clock.now() + 1.0)
        await process.work()
        tail = await process.tail(work_id)
        assert isinstance(tail.event, Failed)
        assert tail.event.error.type == "DeadlineExceeded"
        assert tail.control.spent == (("usd", 0.5),)

    # --- budgets -------------------------------------------------------------

    async def test_work_over_its_budget_parks_and_loses_nothing(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(7)))
        work_id = await process.client.enqueue("demo", budget={"steps": 3})
        await process.work()
        view = await process.client.status(work_id)
        assert (view.control.state, view.control.version) == (State.QUEUED, 3)
        assert view.row is not None
        assert (view.row.state, view.row.reason) == (State.PAUSED, "budget used up: steps 3 of 3")
        assert view.row.due_at is None
        await process.client.set_budget(work_id, {"steps": 6}, "a little more")
        await process.work()
        assert (await process.tail(work_id)).control.version == 6
        await process.client.set_budget(work_id, {"steps": 100}, "all it needs")
        await process.work()
        view = await process.client.status(work_id)
        check_done(view, version=7)
        assert view.snapshot is not None
        assert view.snapshot.data == {"n": 7}

    async def test_what_failed_attempts_spend_counts_and_the_soft_mark_warns(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            current_step().spend(usd=0.9)
            if current_step().attempt < 3:
                raise ValueError("paid for nothing")
            return snapshot.finish()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo", budget={"usd": 1.8, "attempts": 100})
        await process.work()
        control = (await process.tail(work_id)).control
        assert control.spent == (("attempts", 2.0), ("usd", 1.8))
        assert (control.failures, control.version) == (2, 0)
        await process.client.set_budget(work_id, {"usd": 3}, "once more")
        await process.work()
        control = (await process.tail(work_id)).control
        assert control.spent == (("attempts", 3.0), ("usd", 2.7))
        assert control.state is State.DONE

    async def test_the_soft_mark_is_shown_before_the_hard_stop(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(10)))
        work_id = await process.client.enqueue("demo", budget={"steps": 5})
        await process.work()
        reasons = [e.control.reason for e in await process.entries(work_id) if e.event.kind == "committed"]
        assert reasons[:3] == ["", "", ""]
        assert reasons[3] == "budget nearly used up: steps 4 of 5"
