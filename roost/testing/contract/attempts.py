"""The core on a backend: what counts as an attempt at a step, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from roost.engine import RetryPolicy, current_step
from roost.errors import RetryLater
from roost.journal.decide import NO_ENGINE_DELAY_SECONDS
from roost.journal.limits import Close, Open
from roost.models import Snapshot, State, WorkItem
from roost.storage.ports import Backend, Message
from roost.testing.contract.harness import BackendHarness, Contract, soon
from roost.testing.contract.process import (
    Flaky,
    Hasty,
    Process,
    Scripted,
    check_done,
    counts_to,
    finishes,
)

ONE = RetryPolicy(max_attempts=1, first_delay_seconds=0.0)
"""A single failed attempt would end the work."""


class Told:
    """A step that writes down the attempt that it was told, and does something the first times."""

    def __init__(self, first: Callable[[int], Awaitable[None]]) -> None:
        self.attempts: list[int] = []
        self._first = first

    async def __call__(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        self.attempts.append(current_step().attempt)
        await self._first(len(self.attempts))
        return snapshot.finish()


class AttemptsContract(Contract):
    """Only a step that raised, or took too long, is an attempt."""

    async def test_a_lost_lease_is_no_attempt(self, backend: Backend, harness: BackendHarness) -> None:
        entered = asyncio.Event()

        async def hangs_once(number: int) -> None:
            if number == 1:
                entered.set()
                await asyncio.Event().wait()

        told = Told(hangs_once)
        process = Process(harness, backend, Scripted(told, retry=ONE), "a")
        work_id = await process.client.enqueue("demo")
        await process.crash(await process.begin(entered))
        await harness.advance(2 * process.lease_seconds)
        await process.work()
        await self._check(process, work_id, told, [1, 1])
        assert (await process.kinds(work_id)).count("claimed") == 2

    async def test_a_throttle_is_no_attempt(self, backend: Backend, harness: BackendHarness) -> None:
        """Neither one of the storage, nor one that the engine met and said so."""

        async def throttled_once(number: int) -> None:
            if number == 1:
                raise RetryLater(0, "429")

        told, flaky = Told(throttled_once), Flaky(backend)
        process = Process(harness, flaky.backend, Scripted(told, retry=ONE))
        process.parts = replace(process.parts, clock=Hasty(harness.clock))
        work_id = await process.client.enqueue("demo", resources=("db",))
        flaky.is_on = True
        await process.work()
        flaky.is_on = False
        await process.work()
        assert {"append claimed", "append deferred", "append committed", "acquire"} <= flaky.failed
        await self._check(process, work_id, told, [1, 1])

    async def test_a_deploy_is_no_attempt(self, backend: Backend, harness: BackendHarness) -> None:
        """A worker that is told to stop twice gives its running step back."""
        entered = asyncio.Event()

        async def hangs_once(number: int) -> None:
            if number == 1:
                entered.set()
                await asyncio.Event().wait()

        told = Told(hangs_once)
        process = Process(harness, backend, Scripted(told, retry=ONE))
        work_id = await process.client.enqueue("demo")
        worker = process.worker()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await soon(entered.wait())
            worker.drain()
            worker.drain()
        await harness.settle()
        async with asyncio.timeout(10):
            while not await process.work():  # noqa: ASYNC110  a poll of the worker may still have it
                await asyncio.sleep(0.02)
        await self._check(process, work_id, told, [1, 1])

    async def test_a_wait_for_resources_is_no_attempt(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        async def nothing(number: int) -> None:
            pass

        told = Told(nothing)
        process = Process(harness, backend, Scripted(told, retry=ONE))
        work_id = await process.client.enqueue("demo", resources=("llm",))
        for _ in range(3):
            await process.client.change_resource("llm", Close(harness.clock.now() + 86400.0))
            await process.work()
            assert await process.state(work_id) is State.BLOCKED
            await process.client.change_resource("llm", Open())
            await process.client.change_resource("llm", Close(harness.clock.now() + 86400.0))
        await process.client.change_resource("llm", Open())
        await process.work()
        assert (await process.kinds(work_id)).count("blocked") >= 3
        await self._check(process, work_id, told, [1])

    async def test_a_redelivery_is_no_attempt(self, backend: Backend, harness: BackendHarness) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def waits(number: int) -> None:
            entered.set()
            await leave.wait()

        told = Told(waits)
        process = Process(harness, backend, Scripted(told, retry=ONE), "a")
        other = Process(harness, await harness.reopen(), Scripted(finishes, retry=ONE), "b")
        work_id = await process.client.enqueue("demo")
        session = await process.begin(entered)
        await backend.queue.send([Message(work_id, 0)] * 3)
        assert await other.work() == 3  # it is held: they are put back
        leave.set()
        await soon(session)
        await self._check(process, work_id, told, [1])
        assert await process.kinds(work_id) == ["enqueued", "claimed", "committed"]

    async def test_work_for_an_engine_that_a_worker_lacks_is_left_to_others(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """It is put back, not failed and not claimed; the delivery comes again."""
        other = Process(harness, await harness.reopen(), Scripted(finishes, "other"), "b")
        work_id = await other.client.enqueue("demo")
        for _ in range(3):
            assert await other.work() == 1
            await harness.advance(NO_ENGINE_DELAY_SECONDS + harness.time_step_seconds)
        assert await other.kinds(work_id) == ["enqueued"]

        async def nothing(number: int) -> None:
            pass

        told = Told(nothing)
        process = Process(harness, backend, Scripted(told, retry=ONE), "a")
        assert await process.work() == 1
        await self._check(process, work_id, told, [1])

    async def test_a_step_that_raises_is_an_attempt(self, backend: Backend, harness: BackendHarness) -> None:
        """The other side: a commit begins to count anew."""
        attempts: list[int] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            attempts.append(current_step().attempt)
            if attempts[-1] < 3:
                raise ValueError("no")
            return counts_to(2)(snapshot, item)  # type: ignore[return-value]

        policy = RetryPolicy(max_attempts=3, first_delay_seconds=0.0)
        process = Process(harness, backend, Scripted(step, retry=policy))
        work_id = await process.client.enqueue("demo")
        await process.work()
        assert attempts == [1, 2, 3, 1, 2, 3]
        check_done(await process.client.status(work_id), version=2)

    async def _check(self, process: Process, work_id: str, told: Told, attempts: list[int]) -> None:
        assert told.attempts == attempts
        assert "attempt_failed" not in await process.kinds(work_id)
        check_done(await process.client.status(work_id), version=1)
