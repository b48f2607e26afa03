"""The contract of `ports.WorkQueue`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from roost.errors import StorageError
from roost.journal.projection import MESSAGE_DELAY_MAX_SECONDS
from roost.models import Lane
from roost.storage.ports import DELIVERY_BATCH_MAX, Backend, Delivery, Message, WorkQueue
from roost.testing.contract.harness import DEADLINE_SECONDS, BackendHarness, Contract, soon

LANES = (Lane.HIGH, Lane.NORMAL, Lane.LOW)
_FEW = 5


async def take(
    queue: WorkQueue,
    limit: int = DELIVERY_BATCH_MAX,
    *,
    visibility_seconds: float = 30.0,
    wait_seconds: float = 0.0,
    lanes: Sequence[Lane] = LANES,
) -> list[Delivery]:
    return list(
        await queue.receive(
            limit, visibility_seconds=visibility_seconds, wait_seconds=wait_seconds, lanes=lanes
        )
    )


async def take_all(queue: WorkQueue, lanes: Sequence[Lane] = LANES) -> list[Delivery]:
    """Receive until there is none, as a queue may give fewer at once than it has."""
    taken: list[Delivery] = []
    while more := await take(queue, lanes=lanes):
        taken += more
    return taken


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.work_id for delivery in deliveries]


class QueueContract(Contract):
    """Deliveries with a visibility timeout; at least once."""

    # --- send ----------------------------------------------------------------

    async def test_a_message_is_delivered_with_its_ids(self, backend: Backend) -> None:
        await backend.queue.send([Message("w", 17, Lane.LOW)])
        [delivery] = await take(backend.queue)
        assert (delivery.work_id, delivery.cause, delivery.lane) == ("w", 17, Lane.LOW)
        assert delivery.received_count == 1

    async def test_what_was_sent_is_there_for_another_process(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        await backend.queue.send([Message("w", 0)])
        other = await harness.reopen()
        assert ids(await take(other.queue)) == ["w"]

    async def test_any_number_is_sent_at_once(self, backend: Backend) -> None:
        await backend.queue.send([])
        assert await take(backend.queue) == []
        names = [f"w{number:02}" for number in range(25)]
        await backend.queue.send([Message(name, 0) for name in names])
        assert sorted(ids(await take_all(backend.queue))) == names

    async def test_a_message_sent_twice_is_delivered_twice(self, backend: Backend) -> None:
        await backend.queue.send([Message("w", 0), Message("w", 0)])
        await backend.queue.send([Message("w", 0)])
        deliveries = await take_all(backend.queue)
        assert ids(deliveries) == ["w", "w", "w"]
        assert len({delivery.receipt for delivery in deliveries}) == 3

    async def test_a_message_is_not_visible_before_its_delay_is_over(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        step = harness.time_step_seconds
        await backend.queue.send([Message("later", 0, delay_seconds=3 * step), Message("now", 0)])
        assert ids(await take_all(backend.queue)) == ["now"]
        await harness.advance(2 * step)
        assert await take_all(backend.queue) == []
        await harness.advance(1.5 * step)
        assert ids(await take_all(backend.queue)) == ["later"]

    async def test_a_delay_beyond_the_most_is_refused(self, backend: Backend) -> None:
        await backend.queue.send([Message("w", 0, delay_seconds=MESSAGE_DELAY_MAX_SECONDS)])
        for delay in (MESSAGE_DELAY_MAX_SECONDS + 1, -1.0):
            with pytest.raises(StorageError):
                await backend.queue.send([Message("w", 0, delay_seconds=delay)])

    # --- receive -------------------------------------------------------------

    async def test_receive_gives_at_most_the_limit(self, backend: Backend) -> None:
        await backend.queue.send([Message(f"w{number}", 0) for number in range(4)])
        assert len(await take(backend.queue, 1)) == 1
        assert len(await take(backend.queue, 2)) <= 2
        assert 1 <= len(await take_all(backend.queue)) <= 3

    async def test_what_is_in_hand_is_invisible_until_its_timeout(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        step = harness.time_step_seconds
        other = await harness.reopen()
        await backend.queue.send([Message("w", 3)])
        [before] = await take(backend.queue, visibility_seconds=3 * step)
        assert await take(other.queue) == []
        await harness.advance(2 * step)
        assert await take(other.queue) == []
        await harness.advance(1.5 * step)
        [after] = await take(other.queue)
        assert (after.work_id, after.cause, after.received_count) == ("w", 3, 2)
        assert after.receipt != before.receipt

    async def test_no_message_is_in_two_hands(self, backend: Backend, harness: BackendHarness) -> None:
        other = await harness.reopen()
        names = [f"w{number:02}" for number in range(20)]
        await backend.queue.send([Message(name, 0) for name in names])
        taken = await asyncio.gather(
            *(take((backend, other)[n % 2].queue, 3) for n in range(10)),
        )
        seen = [work_id for deliveries in taken for work_id in ids(deliveries)]
        seen += ids(await take_all(backend.queue))
        assert sorted(seen) == names

    async def test_lanes_are_looked_at_in_the_order_given(self, backend: Backend) -> None:
        for lane in (Lane.LOW, Lane.NORMAL, Lane.HIGH):
            await backend.queue.send([Message(lane.value, 0, lane)])
        got = [ids(await take(backend.queue, 1))[0] for _ in LANES]
        assert got == ["high", "normal", "low"]
        for lane in LANES:
            await backend.queue.send([Message(f"{lane}-2", 0, lane)])
        reverse = [ids(await take(backend.queue, 1, lanes=LANES[::-1]))[0] for _ in LANES]
        assert reverse == ["low-2", "normal-2", "high-2"]

    async def test_only_the_lanes_given_are_received(self, backend: Backend) -> None:
        await backend.queue.send([Message(lane.value, 0, lane) for lane in LANES])
        assert ids(await take_all(backend.queue, [Lane.NORMAL])) == ["normal"]
        assert sorted(ids(await take_all(backend.queue, [Lane.LOW, Lane.HIGH]))) == ["high", "low"]

    async def test_a_lane_gives_its_messages_as_declared(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """In the order in which they became visible, where the queue is FIFO; else all of them."""
        step = harness.time_step_seconds
        await backend.queue.send([Message("last", 0, delay_seconds=2 * step)])
        for number in range(_FEW):
            await backend.queue.send([Message(f"w{number}", 0)])
        await harness.advance(3 * step)
        names = ids(await take_all(backend.queue))
        expected = [*(f"w{number}" for number in range(_FEW)), "last"]
        assert (names if harness.is_fifo else sorted(names)) == (
            expected if harness.is_fifo else sorted(expected)
        )

    # --- waiting -------------------------------------------------------------

    async def test_receive_returns_as_soon_as_something_is_sent(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        other = await harness.reopen()
        for queue in (backend.queue, other.queue):
            waiting = asyncio.create_task(take(queue, wait_seconds=10 * DEADLINE_SECONDS))
            await asyncio.sleep(0)
            await backend.queue.send([Message("w", 0)])
            assert ids(await soon(waiting)) == ["w"]

    async def test_receive_returns_as_soon_as_something_is_put_back(self, backend: Backend) -> None:
        await backend.queue.send([Message("w", 0)])
        [delivery] = await take(backend.queue)
        waiting = asyncio.create_task(take(backend.queue, wait_seconds=10 * DEADLINE_SECONDS))
        await asyncio.sleep(0)
        await backend.queue.put_back(delivery, 0)
        assert ids(await soon(waiting)) == ["w"]

    async def test_receive_that_waits_takes_what_becomes_visible(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        harness.run_clock()
        delay = harness.shortest_delay_seconds
        sent_at = harness.clock.monotonic()
        await backend.queue.send([Message("w", 0, delay_seconds=delay)])
        assert ids(await soon(take(backend.queue, wait_seconds=10 * DEADLINE_SECONDS))) == ["w"]
        assert harness.clock.monotonic() - sent_at >= delay * 0.9

    async def test_receive_gives_none_when_the_wait_is_over(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        harness.run_clock()
        wait = harness.shortest_delay_seconds
        started = harness.clock.monotonic()
        assert await soon(take(backend.queue, wait_seconds=wait)) == []
        assert harness.clock.monotonic() - started >= wait * 0.9

    async def test_receive_waits_for_its_own_lanes_only(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        harness.run_clock()
        await backend.queue.send([Message("high", 0, Lane.HIGH)])
        wait = harness.shortest_delay_seconds
        assert await soon(take(backend.queue, wait_seconds=wait, lanes=[Lane.LOW])) == []

    async def test_a_receive_that_is_cancelled_loses_nothing(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        waiting = asyncio.create_task(take(backend.queue, wait_seconds=10 * DEADLINE_SECONDS))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await backend.queue.send([Message("w", 0)])
        assert ids(await soon(take(backend.queue, wait_seconds=DEADLINE_SECONDS))) == ["w"]

    # --- acknowledge ---------------------------------------------------------

    async def test_what_is_acknowledged_never_comes_again(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        step = harness.time_step_seconds
        await backend.queue.send([Message(f"w{number:02}", 0) for number in range(12)])
        deliveries: list[Delivery] = []
        while more := await take(backend.queue, visibility_seconds=4 * step):
            deliveries += more
        await backend.queue.acknowledge([])
        await backend.queue.acknowledge([d for d in deliveries if d.work_id != "w05"])
        await harness.advance(5 * step)
        assert ids(await take_all(backend.queue)) == ["w05"]

    async def test_acknowledge_is_idempotent(self, backend: Backend) -> None:
        await backend.queue.send([Message("w", 0)])
        [delivery] = await take(backend.queue)
        for _ in range(2):
            await backend.queue.acknowledge([delivery])
        assert await take_all(backend.queue) == []

    async def test_a_stale_receipt_does_nothing(self, backend: Backend, harness: BackendHarness) -> None:
        step = harness.time_step_seconds
        other = await harness.reopen()
        await backend.queue.send([Message("w", 0)])
        [stale] = await take(backend.queue, visibility_seconds=2 * step)
        await harness.advance(3 * step)
        [current] = await take(other.queue, visibility_seconds=4 * step)
        await backend.queue.acknowledge([stale])
        await backend.queue.put_back(stale, 0)
        await backend.queue.reject(stale, "stale")
        extended = await backend.queue.extend([stale], 60 * step)
        if harness.detects_stale_receipts:
            assert list(extended) == [False]
            assert await take(backend.queue) == []  # still in the other's hands
            assert list(await other.queue.extend([current], 2 * step)) == [True]
            await harness.advance(3 * step)
            assert ids(await take(backend.queue)) == ["w"]  # and still there

    async def test_a_receipt_that_was_put_back_is_stale(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        step = harness.time_step_seconds
        await backend.queue.send([Message("w", 0)])
        [delivery] = await take(backend.queue)
        await backend.queue.put_back(delivery, 2 * step)
        if harness.detects_stale_receipts:
            assert list(await backend.queue.extend([delivery], 60 * step)) == [False]
            await backend.queue.acknowledge([delivery])
        await harness.advance(3 * step)
        assert ids(await take(backend.queue)) == ["w"]

    # --- extend --------------------------------------------------------------

    async def test_extend_keeps_a_delivery_from_now_on(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        step = harness.time_step_seconds
        await backend.queue.send([Message("w", 0)])
        [delivery] = await take(backend.queue, visibility_seconds=3 * step)
        await harness.advance(2 * step)
        assert list(await backend.queue.extend([delivery], 4 * step)) == [True]
        await harness.advance(3 * step)  # beyond the first timeout
        assert await take(backend.queue) == []
        await harness.advance(1.5 * step)
        assert ids(await take(backend.queue)) == ["w"]

    async def test_extend_may_shorten(self, backend: Backend, harness: BackendHarness) -> None:
        step = harness.time_step_seconds
        await backend.queue.send([Message("w", 0)])
        [delivery] = await take(backend.queue, visibility_seconds=30 * step)
        assert list(await backend.queue.extend([delivery], 2 * step)) == [True]
        await harness.advance(3 * step)
        assert ids(await take(backend.queue)) == ["w"]

    async def test_extend_answers_for_each_in_order(self, backend: Backend, harness: BackendHarness) -> None:
        await backend.queue.send([Message(f"w{number}", 0) for number in range(3)])
        deliveries = await take_all(backend.queue)
        assert await backend.queue.extend([], 30) == []
        await backend.queue.acknowledge([deliveries[1]])
        kept = list(await backend.queue.extend(deliveries, 30))
        assert (kept[0], kept[2]) == (True, True)
        if harness.detects_stale_receipts:
            assert kept[1] is False

    # --- put_back, reject, backlog -------------------------------------------

    async def test_put_back_makes_a_message_visible_after_the_delay(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        step = harness.time_step_seconds
        await backend.queue.send([Message("now", 0), Message("later", 4)])
        by_id = {delivery.work_id: delivery for delivery in await take_all(backend.queue)}
        await backend.queue.put_back(by_id["now"], 0)
        await backend.queue.put_back(by_id["later"], 3 * step)
        assert ids(await take_all(backend.queue)) == ["now"]
        await harness.advance(2 * step)
        assert await take_all(backend.queue) == []
        await harness.advance(1.5 * step)
        [again] = await take_all(backend.queue)
        assert (again.work_id, again.cause, again.received_count) == ("later", 4, 2)

    async def test_put_back_for_the_longest_delay(self, backend: Backend, harness: BackendHarness) -> None:
        await backend.queue.send([Message("w", 0)])
        [delivery] = await take(backend.queue)
        await backend.queue.put_back(delivery, MESSAGE_DELAY_MAX_SECONDS)
        await harness.advance(2 * harness.time_step_seconds)
        assert await take(backend.queue) == []

    async def test_what_is_rejected_is_out_of_the_way(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        step = harness.time_step_seconds
        await backend.queue.send([Message("theirs", 0)])
        [delivery] = await take(backend.queue, visibility_seconds=3 * step)
        await backend.queue.reject(delivery, "unknown work id \N{SNOWMAN}")
        await backend.queue.send([Message("ours", 0)])
        await harness.advance(4 * step)
        assert ids(await take_all(backend.queue)) == ["ours"]

    async def test_backlog_counts_what_is_visible_over_all_lanes(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        step = harness.time_step_seconds
        queue = backend.queue
        counted = [await queue.backlog()]
        await queue.send([Message(lane.value, 0, lane) for lane in LANES])
        await queue.send([Message("later", 0, delay_seconds=2 * step)])
        counted.append(await queue.backlog())
        [delivery] = await take(queue, 1, visibility_seconds=30 * step)
        counted.append(await queue.backlog())
        await harness.advance(3 * step)
        counted.append(await queue.backlog())
        await queue.put_back(delivery, 0)
        counted.append(await queue.backlog())
        if harness.backlog_is_exact:
            assert counted == [0, 3, 2, 3, 4]
        assert all(count >= 0 for count in counted)
