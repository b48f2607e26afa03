"""The whole core on a backend: what a user sees must be the same on every one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from roost.clock import SystemIds
from roost.core.client import Client
from roost.core.parts import CoreSettings, Parts
from roost.core.sweeper import Sweeper
from roost.core.worker import Worker
from roost.engine import EngineRegistry, RetryPolicy, current_step
from roost.errors import EnqueueConflict, FailWork, RetryLater
from roost.journal.entries import Kind
from roost.models import Lane, Snapshot, State, WorkItem
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract

Script = Callable[[Snapshot], Awaitable[Snapshot]]


class Scripted:
    """Does in each step what the test says."""

    engine_id = "scripted"
    retry = RetryPolicy(max_attempts=3, first_delay_seconds=1.0, max_interruptions=3)

    def __init__(self, script: Script) -> None:
        self._script = script

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"n": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return await self._script(snapshot)


async def count_to_three(snapshot: Snapshot) -> Snapshot:
    """Three steps without a pause."""
    n = snapshot.data["n"] + 1
    return snapshot.finish(data={"n": n}) if n == 3 else snapshot.next("go", data={"n": n})


class Fleet:
    """A client, and workers that run until nothing is left to do now."""

    def __init__(self, harness: BackendHarness, backend: Backend, script: Script) -> None:
        self._harness = harness
        self._backend: Backend | None = backend
        self._engines = EngineRegistry([Scripted(script)])

    async def parts(self) -> Parts:
        """The backend as one process sees it."""
        backend, self._backend = self._backend or await self._harness.reopen(), None
        return Parts(
            backend, self._harness.clock, SystemIds(), CoreSettings(wait_seconds=0.0, lease_seconds=30)
        )

    async def client(self) -> Client:
        return Client(await self.parts(), engines=self._engines)

    async def work(self, worker_id: str = "worker") -> None:
        """Sweep, and run every delivery that is visible, until there is none."""
        parts = await self.parts()
        await Sweeper(parts, "sweeper").sweep()
        worker = Worker(parts, self._engines, worker_id)
        while deliveries := await parts.backend.queue.receive(
            10, visibility_seconds=30, wait_seconds=0, lanes=list(Lane)
        ):
            for delivery in deliveries:
                worker._start(delivery)
            while worker.sessions:
                await asyncio.wait(worker.sessions.values())


async def kinds(client: Client, work_id: str) -> list[Kind]:
    """The kinds of a work item's entries."""
    return [entry.event.kind async for entry in client.events(work_id)]


Fleets = Callable[[Script], Fleet]


class EndToEndContract(Contract):
    """Bind it in a class of your own, with a fixture `harness` that gives a `BackendHarness`."""

    @pytest.fixture
    def fleets(self, harness: BackendHarness, backend: Backend) -> Fleets:
        """Makes fleets that follow a script."""
        return lambda script: Fleet(harness, backend, script)

    async def test_an_engine_runs_to_its_end_under_one_lease(
        self, harness: BackendHarness, fleets: Fleets
    ) -> None:
        fleet = fleets(count_to_three)
        client = await fleet.client()
        work_id = await client.enqueue("scripted", {"deep": {"ü": [1, 2.5, None, True, 10**30]}})
        await fleet.work()
        view = await client.status(work_id)
        assert view.control.state is State.DONE
        assert view.item.payload == {"deep": {"ü": [1, 2.5, None, True, 10**30]}}
        assert view.snapshot is not None
        assert view.snapshot.data == {"n": 3}
        assert await kinds(client, work_id) == [Kind.ENQUEUED, Kind.CLAIMED, *[Kind.COMMITTED] * 3]
        row = await (await fleet.parts()).backend.index.get(work_id)
        assert row is not None
        assert (row.state, row.due_at) == (State.DONE, None)

    async def test_a_delay_of_months_is_kept_to_the_second(
        self, harness: BackendHarness, fleets: Fleets
    ) -> None:
        async def twice(snapshot: Snapshot) -> Snapshot:
            n = snapshot.data["n"] + 1
            return (
                snapshot.finish(data={"n": n}) if n == 2 else snapshot.next(data={"n": n}, delay=100 * 86400)
            )

        fleet = fleets(twice)
        client = await fleet.client()
        work_id = await client.enqueue("scripted")
        await fleet.work()
        assert (await client.status(work_id)).control.state is State.SCHEDULED
        await harness.advance(100 * 86400 - 60)
        await fleet.work()
        await harness.advance(59)
        await fleet.work()
        assert (await client.status(work_id)).control.version == 1
        await harness.advance(1.5)
        await fleet.work()
        assert (await client.status(work_id)).control.state is State.DONE

    async def test_a_failing_step_is_tried_again_and_then_dead_lettered(
        self, harness: BackendHarness, fleets: Fleets
    ) -> None:
        async def fail(snapshot: Snapshot) -> Snapshot:
            raise ValueError(f"attempt {current_step().attempt}")

        fleet = fleets(fail)
        client = await fleet.client()
        work_id = await client.enqueue("scripted")
        for _ in range(5):
            await fleet.work()
            await harness.advance(10)
        view = await client.status(work_id)
        assert (view.control.state, view.control.failures) == (State.FAILED, 3)
        assert view.control.reason == "ValueError: attempt 3"
        assert (await kinds(client, work_id)).count(Kind.ATTEMPT_FAILED) == 3
        await client.retry(work_id, "mended")
        assert (await client.status(work_id)).control.state is State.QUEUED

    async def test_retry_later_burns_no_attempt_and_fail_work_ends_at_once(
        self, harness: BackendHarness, fleets: Fleets
    ) -> None:
        async def later(snapshot: Snapshot) -> Snapshot:
            assert current_step().attempt == 1
            if harness.clock.now() < started + 50:
                raise RetryLater(after=20, reason="busy")
            raise FailWork("hopeless")

        started = harness.clock.now()
        fleet = fleets(later)
        client = await fleet.client()
        work_id = await client.enqueue("scripted")
        for _ in range(4):
            await fleet.work()
            await harness.advance(20.5)
        found = await kinds(client, work_id)
        assert found.count(Kind.DEFERRED) == 3
        assert found[-1] is Kind.FAILED
        assert "hopeless" in (await client.status(work_id)).control.reason

    async def test_work_of_a_dead_worker_is_taken_over_after_its_lease(
        self, harness: BackendHarness, fleets: Fleets
    ) -> None:
        died = False

        async def die_once(snapshot: Snapshot) -> Snapshot:
            nonlocal died
            if not died and snapshot.data["n"] == 1:
                died = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.Event().wait()
            return await count_to_three(snapshot)

        fleet = fleets(die_once)
        client = await fleet.client()
        work_id = await client.enqueue("scripted")
        await fleet.work("first")
        await fleet.work("second")
        assert (await client.status(work_id)).control.version == 1
        await harness.advance(31)
        await fleet.work("second")
        view = await client.status(work_id)
        assert (view.control.state, view.control.version) == (State.DONE, 3)

    async def test_resources_are_handed_over_in_order(self, harness: BackendHarness, fleets: Fleets) -> None:
        order: list[str] = []
        gate = asyncio.Event()

        async def hold(snapshot: Snapshot) -> Snapshot:
            order.append(snapshot.work_id)
            if len(order) == 1:
                await gate.wait()
            return snapshot.finish()

        fleet = fleets(hold)
        client = await fleet.client()
        ids = [await client.enqueue("scripted", resources=("shared",)) for _ in range(3)]
        first = asyncio.create_task(fleet.work("one"))
        async with asyncio.timeout(20):
            while (await client.status(ids[0])).control.state is not State.RUNNING or [
                (await client.status(work_id)).control.state for work_id in ids[1:]
            ] != [State.BLOCKED] * 2:
                await asyncio.wait([first], timeout=0.005)
            gate.set()
            await first
            await fleet.work("one")
        assert order == ids
        assert [(await client.status(work_id)).control.state for work_id in ids] == [State.DONE] * 3
        assert list(await (await fleet.parts()).backend.claims.show()) == []

    async def test_a_key_gives_one_work_item_and_other_content_is_refused(
        self, harness: BackendHarness, fleets: Fleets
    ) -> None:
        fleet = fleets(count_to_three)
        client, other = await fleet.client(), await fleet.client()
        ids = await asyncio.gather(
            *(
                (client if n % 2 else other).enqueue("scripted", {"a": 1}, idempotency_key="k")
                for n in range(8)
            )
        )
        assert len(set(ids)) == 1
        await fleet.work()
        assert await client.enqueue("scripted", {"a": 1}, idempotency_key="k") == ids[0]
        with pytest.raises(EnqueueConflict) as caught:
            await client.enqueue("scripted", {"a": 2}, idempotency_key="k")
        assert caught.value.work_id == ids[0]

    async def test_cancelled_work_ends_before_its_next_step(
        self, harness: BackendHarness, fleets: Fleets
    ) -> None:
        async def sleepy(snapshot: Snapshot) -> Snapshot:
            return snapshot.next(delay=3600)

        fleet = fleets(sleepy)
        client = await fleet.client()
        work_id = await client.enqueue("scripted")
        await fleet.work()
        await client.cancel(work_id, "not wanted")
        await fleet.work()
        view = await client.status(work_id)
        assert (view.control.state, view.control.reason) == (State.CANCELLED, "not wanted")

    async def test_a_deadline_ends_work_that_nobody_works_on(
        self, harness: BackendHarness, fleets: Fleets
    ) -> None:
        async def sleepy(snapshot: Snapshot) -> Snapshot:
            return snapshot.next(delay=3600)

        fleet = fleets(sleepy)
        client = await fleet.client()
        work_id = await client.enqueue("scripted", deadline_at=harness.clock.now() + 60)
        await fleet.work()
        await harness.advance(61)
        await fleet.work()
        view = await client.status(work_id)
        assert view.control.state is State.FAILED
        assert "DeadlineExceeded" in view.control.reason

    async def test_a_recorded_effect_and_an_artifact_survive_a_retry(
        self, harness: BackendHarness, fleets: Fleets
    ) -> None:
        effects: list[int] = []

        def charge() -> dict[str, int]:
            effects.append(1)
            return {"receipt": 7}

        async def effect(snapshot: Snapshot) -> Snapshot:
            context = current_step()
            value = await context.once("charge", charge)
            await context.artifacts.put("receipt.json", str(value))
            if context.attempt < 3:
                raise OSError("after the effect")
            return snapshot.finish(data=value)

        fleet = fleets(effect)
        client = await fleet.client()
        work_id = await client.enqueue("scripted")
        for _ in range(3):
            await fleet.work()
            await harness.advance(10)
        view = await client.status(work_id)
        assert view.control.state is State.DONE
        assert effects == [1]
        assert view.snapshot is not None
        assert view.snapshot.data["receipt"] == 7
        assert [artifact.name for artifact in view.artifacts] == ["receipt.json"]

    async def test_a_big_state_is_stored_whole(self, harness: BackendHarness, fleets: Fleets) -> None:
        async def grow(snapshot: Snapshot) -> Snapshot:
            n = snapshot.data["n"] + 1
            text = [*snapshot.data.get("text", []), f"{n} " * 60_000]
            done = n == 4
            return (
                snapshot.finish(data={"n": n, "text": text})
                if done
                else snapshot.next(data={"n": n, "text": text})
            )

        fleet = fleets(grow)
        client = await fleet.client()
        work_id = await client.enqueue("scripted")
        await fleet.work()
        for version in range(1, 5):
            snapshot = await client.snapshot(work_id, version)
            assert snapshot.data["text"] == [f"{n} " * 60_000 for n in range(1, version + 1)]
