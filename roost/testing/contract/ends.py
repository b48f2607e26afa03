"""The core on a backend: retries, ends, enqueueing twice, draining."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.engine import RetryPolicy, current_step
from roost.errors import EnqueueConflict, RetryLater
from roost.journal.events import Committed
from roost.journal.projection import project
from roost.models import Snapshot, State, WorkItem
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract, soon
from roost.testing.contract.process import (
    Process,
    Scripted,
    check_done,
    check_sound,
    counts_to,
    finishes,
    run_workers,
)

HAND_OVER_SECONDS = 5.0  # of real time; a lease is longer


class EndsContract(Contract):
    """How work ends, and how a worker does."""

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
        check_done(view, version=2)
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
        check_done(await process.client.status(work_id), version=2)

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
        check_done(await process.client.status(work_id), version=1)

    async def test_what_is_cancelled_ends_without_another_step(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(lambda s, item: s.next()))
        delays: list[dict[str, Any]] = [
            {},
            {"delay_seconds": 5 * harness.time_step_seconds},
            {"delay_seconds": 86400.0},
        ]
        for options in delays:
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
        assert await _work_at_once(b) == 1
        entries = await b.entries(work_id)
        check_sound(entries)
        assert {entry.actor for entry in entries if isinstance(entry.event, Committed)} == {"a", "b"}
        check_done(await b.client.status(work_id), version=9)

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
        assert await _work_at_once(b) == 1
        assert attempts == [1]
        assert await b.kinds(work_id) == ["enqueued", "claimed", "released", "claimed", "committed"]


async def _work_at_once(process: Process) -> int:
    """Run what was handed over, with no lease to wait for.

    A poll that the drained worker still has open may take the delivery, and gives it back.
    """
    async with asyncio.timeout(HAND_OVER_SECONDS):
        while not (done := await process.work()):  # noqa: ASYNC110  it is in another backend
            await asyncio.sleep(0.02)
    return done
