"""The core on a backend: work that has to wait for resources, for as long as it takes."""

from __future__ import annotations

import asyncio

import pytest

from roost.core import outside
from roost.engine import RetryPolicy, current_step
from roost.errors import ConflictError, InputError, RetryLater
from roost.journal.events import Blocked, Cancelled
from roost.journal.limits import FOREVER_AT, Close, Open, Rate, SetCapacity, SetRate
from roost.models import Snapshot, State, WorkItem
from roost.names import Scope
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract, soon
from roost.testing.contract.process import Process, Scripted, Step, check_done, counts_to, finishes


class Held:
    """A step that runs until it is let go."""

    def __init__(self) -> None:
        self.entered: asyncio.Event = asyncio.Event()
        self.leave: asyncio.Event = asyncio.Event()

    async def __call__(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        self.entered.set()
        await self.leave.wait()
        return snapshot.finish()


def sleeps(seconds: float) -> Step:
    """A step that sleeps once, then finishes."""

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.finish() if snapshot.version else snapshot.next(delay=seconds)

    return step


class ParkingContract(Contract):
    """Work that can't have its resources burns no attempt and holds no lane; what frees them wakes it."""

    # --- capacity ------------------------------------------------------------

    async def test_as_many_run_as_a_resource_has_room_for(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        held, free = Held(), Process(harness, await harness.reopen(), Scripted(finishes), "b")
        process = Process(harness, backend, Scripted(held), "a")
        await process.client.change_resource("gpu", SetCapacity(2))
        sessions = []
        for _ in range(2):
            held.entered.clear()
            await process.client.enqueue("demo", resources=("gpu",))
            sessions.append(await process.begin(held.entered))
        third = await process.client.enqueue("demo", resources=("gpu",))
        await free.work()
        assert await free.state(third) is State.BLOCKED
        held.leave.set()
        await soon(asyncio.gather(*sessions))
        await free.work()  # a release has sent the delivery: no time passes
        check_done(await free.client.status(third), version=1)

    # --- scope work ----------------------------------------------------------

    async def test_scope_work_holds_while_the_work_sleeps(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        nap = 5 * harness.time_step_seconds
        process = Process(harness, backend, Scripted(sleeps(nap)))
        owner = await process.client.enqueue("demo", resources=("db",), resource_scope=Scope.WORK)
        await process.work()
        assert await process.state(owner) is State.SCHEDULED
        other = await process.client.enqueue("demo", resources=("db",))
        await process.work()
        tail = await process.tail(other)
        assert tail.event == Blocked((owner,))
        await harness.advance(nap)
        await harness.settle()
        await process.work()
        check_done(await process.client.status(owner), version=2)
        assert (await process.tail(other)).control.version == 1  # the end of its owner woke it

    async def test_scope_work_holds_over_waits_and_pauses(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return snapshot.finish() if snapshot.version or item.payload else snapshot.next(wait_for="go")

        process = Process(harness, backend, Scripted(step))
        owner = await process.client.enqueue("demo", resources=("db",), resource_scope=Scope.WORK)
        await process.work()
        assert await process.state(owner) is State.WAITING
        other = await process.client.enqueue("demo", {"at": "once"}, resources=("db",))
        await process.work()
        await process.client.pause(owner, "not now")
        await process.client.signal(owner, "go")
        await process.work()
        assert await process.state(other) is State.BLOCKED
        await process.client.resume(owner, "now")
        await process.work()
        check_done(await process.client.status(owner), version=2)
        check_done(await process.client.status(other), version=1)

    async def test_who_is_on_hold_keeps_nobody_waiting_in_line(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(sleeps(86400.0)))
        free = Process(harness, await harness.reopen(), Scripted(finishes), "b")
        owner = await process.client.enqueue("demo", resources=("db",), resource_scope=Scope.WORK)
        await process.work()
        first = await free.client.enqueue("demo", resources=("db",))
        second = await free.client.enqueue("demo", resources=("db",))
        await free.work()
        await free.client.pause(first, "not now")
        await free.client.evict("db", owner)
        await free.work()
        check_done(await free.client.status(second), version=1)
        await free.client.resume(first, "now")
        await free.work()
        check_done(await free.client.status(first), version=1)

    async def test_scope_work_ends_with_work_that_is_cancelled_in_its_sleep(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(sleeps(86400.0)))
        owner = await process.client.enqueue("demo", resources=("db",), resource_scope=Scope.WORK)
        await process.work()
        other = await process.client.enqueue("demo", resources=("db",))
        await process.work()
        await process.client.cancel(owner, "not needed")
        await process.work()
        assert await process.state(owner) is State.CANCELLED
        assert (await process.tail(other)).control.version == 1

    async def test_what_work_that_ended_still_holds_is_freed_by_who_wants_it(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Whoever ended it died before it gave the resources up."""
        process = Process(harness, backend, Scripted(sleeps(86400.0)))
        owner = await process.client.enqueue("demo", resources=("db",), resource_scope=Scope.WORK)
        await process.work()
        await outside.append(process.parts, await process.tail(owner), Cancelled("gone"), actor="test")
        assert [len(view.owners) for view in await backend.claims.show()] == [1]
        other = await process.client.enqueue("demo", resources=("db",))
        await process.work()
        assert (await process.tail(other)).control.version == 1

    async def test_an_operator_evicts_a_sleeping_owner(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(sleeps(86400.0)))
        owner = await process.client.enqueue("demo", resources=("db",), resource_scope=Scope.WORK)
        await process.work()
        other = await process.client.enqueue("demo", resources=("db",))
        await process.work()
        with pytest.raises(ConflictError):
            await process.client.evict("db", other)
        await process.client.evict("db", owner)
        await process.work()
        assert (await process.tail(other)).control.version == 1
        assert await process.state(owner) is State.SCHEDULED

    async def test_an_operator_evicts_a_running_owner_which_can_not_commit(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        held = Held()
        process = Process(harness, backend, Scripted(held), "a")
        other = Process(harness, await harness.reopen(), Scripted(finishes), "b")
        work_id = await process.client.enqueue("demo", resources=("db",))
        zombie = await process.begin(held.entered)
        await other.client.evict("db", work_id)
        assert not any(view.owners for view in await backend.claims.show())
        held.leave.set()
        await soon(zombie)
        await other.work()
        assert await other.kinds(work_id) == ["enqueued", "claimed", "evicted", "claimed", "committed"]

    # --- closed keys ---------------------------------------------------------

    async def test_a_step_closes_a_key_and_all_that_needs_it_parks(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """No attempt is burned, no lane held, nobody polls; each comes when it opens."""
        pause, met = 5 * harness.time_step_seconds, list[tuple[str, int]]()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            met.append((item.work_id, current_step().attempt))
            if len(met) == 1:
                await current_step().close_key("llm", pause)
                raise RetryLater(pause)
            return snapshot.finish()

        process = Process(harness, backend, Scripted(step, retry=RetryPolicy(max_attempts=1)))
        first = await process.client.enqueue("demo", resources=("llm",))
        await process.work()
        second = await process.client.enqueue("demo", resources=("llm",))
        await process.work()
        control = (await process.tail(second)).control
        assert control.state is State.BLOCKED
        assert control.wake_at == pytest.approx(harness.clock.now() + pause, abs=pause)
        assert "llm" in control.reason
        assert met == [(first, 1)]
        await harness.advance(1.5 * pause)
        await harness.settle()
        await process.work()
        await process.work()
        assert sorted(met[1:]) == sorted([(first, 1), (second, 1)])
        for work_id in (first, second):
            check_done(await process.client.status(work_id), version=1)
            assert (await process.kinds(work_id)).count("attempt_failed") == 0

    async def test_an_operator_opens_what_was_closed_for_ever(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        await process.client.change_resource("llm", Close(FOREVER_AT, "me"))
        work_id = await process.client.enqueue("demo", resources=("llm",))
        await process.work()
        assert await process.state(work_id) is State.BLOCKED
        assert await process.work() == 0
        await process.client.change_resource("llm", Open())
        await process.work()
        check_done(await process.client.status(work_id), version=1)

    async def test_a_key_that_a_step_closes_holds_for_its_own_next_step(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if snapshot.version == 0:
                await current_step().close_key("llm", 86400.0)
            return counts_to(3)(snapshot, item)  # type: ignore[return-value]

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo", resources=("llm",))
        await process.work()
        assert await process.kinds(work_id) == ["enqueued", "claimed", "committed", "blocked"]
        [view] = await process.client.resources()
        assert (list(view.owners), view.limits.closed_by) == ([], work_id)
        await process.client.change_resource("llm", Open())
        await process.work()
        check_done(await process.client.status(work_id), version=3)

    # --- rates ---------------------------------------------------------------

    async def test_a_rate_counts_each_step_and_parks_what_comes_too_early(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        period = 4 * harness.time_step_seconds
        process = Process(harness, backend, Scripted(counts_to(3)))
        await process.client.change_resource("llm", SetRate(Rate(2, 2 * period)))
        work_id = await process.client.enqueue("demo", resources=("llm",))
        await process.work()
        assert await process.kinds(work_id) == ["enqueued", "claimed", *["committed"] * 2, "blocked"]
        await harness.advance(1.5 * period)
        await harness.settle()
        await process.work()
        view = await process.client.status(work_id)
        check_done(view, version=3)
        assert (await process.kinds(work_id))[4:] == ["blocked", "claimed", "committed"]

    async def test_numbers_out_of_bounds_are_refused(self, backend: Backend, harness: BackendHarness) -> None:
        client = Process(harness, backend, Scripted(finishes)).client
        for change in (SetCapacity(0), SetCapacity(10**6), SetRate(Rate(0, 1.0)), SetRate(Rate(1, 0.0))):
            with pytest.raises(InputError):
                await client.change_resource("r", change)
        with pytest.raises(InputError):
            await client.enqueue("demo", resources=("r",), capacities={"other": 3})
        with pytest.raises(InputError):
            await client.enqueue("demo", resources=("r",), capacities={"r": 0})
