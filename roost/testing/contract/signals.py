"""The core on a backend: waits and signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from roost.core.client import Client
from roost.engine import current_step
from roost.errors import InputError
from roost.models import OnTimeout, Snapshot, State, WaitFor, WorkItem
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract
from roost.testing.contract.process import Process, Scripted, check_done


class Payment(BaseModel):
    """The shape of `paid`."""

    amount: int
    note: str = ""


class Shop(Scripted):
    """An engine that says what its signals look like."""

    signal_models: ClassVar[Mapping[str, Any]] = {
        "paid": Payment,
        "rated": {"type": "integer", "maximum": 5},
    }


def _shown() -> list[Any]:
    return [(signal.name, signal.data) for signal in current_step().signals]


class SignalsContract(Contract):
    """What somebody outside tells a work item."""

    async def test_a_signal_wakes_who_waits_and_is_seen_by_one_step(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        seen: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append(_shown())
            if snapshot.version == 0:
                return snapshot.next(wait_for=WaitFor(signals=("yes", "no")))
            return snapshot.finish() if snapshot.version == 2 else snapshot.next()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        assert await process.state(work_id) is State.WAITING
        first = await process.client.signal(work_id, "other", 1)
        assert await process.work() == 0
        sent = await process.client.signal(work_id, "yes", {"by": "me"}, signal_id="s1")
        again = await process.client.signal(work_id, "yes", {"by": "me"}, signal_id="s1")
        assert (sent.is_new, again.is_new, again.position) == (True, False, sent.position)
        await process.work()
        check_done(await process.client.status(work_id), version=3)
        assert seen == [[], [("yes", {"by": "me"})], []]
        tail = await process.tail(work_id)
        assert tail.control.signals == ((first.position, "other"),)

    async def test_a_signal_of_a_declared_shape_is_checked_before_it_is_stored(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """By whoever sends it: the wait carries the shape, so the sender need not have the engine."""
        seen: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append(_shown())
            if snapshot.version:
                return snapshot.finish()
            return snapshot.next("ship", wait_for=WaitFor(signals=("paid", "lost")))

        process = Process(harness, backend, Shop(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        before = await process.tail(work_id)
        assert before.control.waits is not None
        assert before.control.waits.is_typed
        for data, fault in (({"amount": "x"}, "amount"), ({"note": "n"}, "amount"), (None, "object")):
            with pytest.raises(
                InputError, match=f"signal 'paid' is not what was asked for.*{fault}"
            ) as caught:
                await process.client.signal(work_id, "paid", data)
            assert caught.value.hint == "Its fields: amount, note (may be left out)."
        assert (await process.tail(work_id)).position == before.position
        assert await process.client.signals(work_id) == []
        await process.client.signal(work_id, "other", "anything")  # nobody says what it looks like
        await process.client.signal(work_id, "paid", {"amount": 3})
        await process.work()
        check_done(await process.client.status(work_id), version=2)
        assert seen[1] == [("paid", {"amount": 3})]

    async def test_where_the_engine_is_installed_a_signal_is_checked_before_the_wait(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Shop(lambda snapshot, item: snapshot.finish()))
        work_id = await process.client.enqueue("demo")
        near = Client(process.parts, engines=process.engines)
        with pytest.raises(InputError, match="6 is greater than the maximum of 5"):
            await near.signal(work_id, "rated", 6)
        await near.signal(work_id, "rated", 5)
        assert [one.signal.data for one in await near.signals(work_id)] == [5]

    async def test_a_signal_may_come_before_the_wait(self, backend: Backend, harness: BackendHarness) -> None:
        seen: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append(_shown())
            return snapshot.finish() if snapshot.version else snapshot.next(wait_for="go")

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        for number in range(3):
            await process.client.signal(work_id, "go", number)
        await process.work()
        check_done(await process.client.status(work_id), version=2)
        assert seen == [[], [("go", 0), ("go", 1), ("go", 2)]]
        assert await process.kinds(work_id) == [
            "enqueued",
            *["signaled"] * 3,
            "claimed",
            "committed",
            "committed",
        ]

    async def test_a_failed_step_is_given_its_signals_again(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        seen: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append(_shown())
            if snapshot.version == 0:
                return snapshot.next(wait_for="go")
            if current_step().attempt < 3:
                raise ValueError("not yet")
            return snapshot.finish()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.client.signal(work_id, "go", None)
        await process.work()
        check_done(await process.client.status(work_id), version=2)
        assert seen == [[], *[[("go", None)]] * 3]

    async def test_a_wait_times_out_and_the_step_says_so_or_the_work_fails(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        timed_out: list[bool] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            timed_out.append(current_step().timed_out)
            if snapshot.version:
                return snapshot.finish()
            on_timeout = OnTimeout(item.payload["then"])
            return snapshot.next(
                wait_for=WaitFor(signals=("go",), timeout_seconds=3600, on_timeout=on_timeout)
            )

        process = Process(harness, backend, Scripted(step))
        later = Process(harness, backend, Scripted(step), ahead_seconds=3601.0)
        goes_on = await process.client.enqueue("demo", {"then": "go_on"})
        fails = await process.client.enqueue("demo", {"then": "fail"})
        await process.work()
        await harness.settle()
        await process.sweeper.sweep()
        assert await process.work() == 0
        await later.sweeper.sweep()
        await later.work()
        check_done(await process.client.status(goes_on), version=2)
        tail = await process.tail(fails)
        assert (tail.control.state, tail.control.version) == (State.FAILED, 1)
        assert "WaitTimeout" in tail.control.reason
        assert timed_out == [False, False, True]

    async def test_a_retry_does_not_lead_past_a_wait(self, backend: Backend, harness: BackendHarness) -> None:
        """Work that was cancelled while it waited for an approval goes on to wait for it."""
        seen: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append(_shown())
            return snapshot.finish() if snapshot.version else snapshot.next(wait_for="approved")

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        await process.client.cancel(work_id, "by mistake")
        await process.work()
        await process.client.retry(work_id, "it was one")
        await process.work()
        assert await process.state(work_id) is State.WAITING
        await process.client.signal(work_id, "approved", "yes")
        await process.work()
        check_done(await process.client.status(work_id), version=2)
        assert seen == [[], [("approved", "yes")]]
