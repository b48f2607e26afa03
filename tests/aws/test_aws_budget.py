"""The call budget of DESIGN.md: which calls to AWS each transition makes, and no others.

Real sessions, heartbeats, workers and sweepers on a stand-in; counted are the calls of the
SDK's clients, of all services.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from roost.core.client import NewWork
from roost.core.heartbeat import FIRST_BEAT_SECONDS, Heartbeat
from roost.core.session import Session
from roost.models import Snapshot, WorkItem
from roost.storage.aws import batching
from roost.storage.aws.backend import AwsBackend
from roost.testing.contract.harness import soon
from roost.testing.contract.process import Process, Scripted, Step, counts_to, finishes
from roost.testing.standins import StandIn
from tests.aws.meter import Meter
from tests.standins.harness import SHARDS, AwsHarness, point_sdk_at

pytestmark = pytest.mark.slow

ENQUEUE = {"TransactWriteItems index+journal": 1, "SendMessageBatch normal": 1}
CLAIM = {"Query journal": 1, "PutItem journal": 1}
STEP = {"PutItem journal": 1}
SETTLE = {"PutItem index": 1, "DeleteMessageBatch normal": 1}
SEND = {"SendMessageBatch normal": 1}


class OnAws:
    """One process on a stack of its own, and the meter of its calls."""

    def __init__(self, harness: AwsHarness, backend: AwsBackend, meter: Meter) -> None:
        self.harness = harness
        self.backend = backend
        self.meter = meter

    def process(self, step: Step) -> Process:
        return Process(self.harness, self.backend, Scripted(step))

    async def session(self, process: Process) -> Session:
        """A session for the one delivery that is there; the receives are not counted."""
        [delivery] = await process.receive()
        self.meter.taken()
        return process.session(delivery)


@pytest_asyncio.fixture
async def aws(ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OnAws]:
    point_sdk_at(ministack, monkeypatch)
    harness = AwsHarness(ministack)
    backend = await harness.open()
    assert isinstance(backend, AwsBackend)
    yield OnAws(harness, backend, await Meter(backend).begin())
    await harness.close()


def plus(*parts: dict[str, int]) -> dict[str, int]:
    """The sum of calls."""
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def watched(meter: Meter, step: Step) -> tuple[Step, list[dict[str, int]]]:
    """The step, and the calls since the step before, at each one's beginning."""
    seen: list[dict[str, int]] = []

    def watching(snapshot: Snapshot, item: WorkItem) -> Any:
        seen.append(meter.taken())
        return step(snapshot, item)

    return watching, seen


def goes_on_after(seconds: float) -> Step:
    """A step that is followed by a pause, and then by the last one."""

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.version:
            return snapshot.finish()
        return snapshot.next(data={"n": 1}, delay=seconds)

    return step


# --- one work item -----------------------------------------------------------


async def test_enqueueing_is_one_transaction_and_one_send(aws: OnAws) -> None:
    await aws.process(finishes).client.enqueue("demo", {"n": 1})
    assert aws.meter.taken() == ENQUEUE


async def test_many_new_items_share_transactions_and_sends(aws: OnAws) -> None:
    await aws.process(finishes).client.enqueue_many([NewWork("demo", {"n": n}) for n in range(50)])
    assert aws.meter.taken() == {"TransactWriteItems index+journal": 2, "SendMessageBatch normal": 5}


async def test_a_claim_is_one_read_and_one_append(aws: OnAws) -> None:
    step, seen = watched(aws.meter, finishes)
    process = aws.process(step)
    await process.client.enqueue("demo", {})
    await (await aws.session(process)).run()
    assert seen == [CLAIM]


async def test_a_step_of_a_burst_is_one_conditional_write_and_nothing_else(aws: OnAws) -> None:
    step, seen = watched(aws.meter, counts_to(6))
    process = aws.process(step)
    await process.client.enqueue("demo", {})
    await (await aws.session(process)).run()
    assert seen == [CLAIM, STEP, STEP, STEP, STEP, STEP]


async def test_settling_is_one_row_and_one_delete(aws: OnAws) -> None:
    step, _ = watched(aws.meter, counts_to(3))
    process = aws.process(step)
    await process.client.enqueue("demo", {})
    await (await aws.session(process)).run()
    assert aws.meter.taken() == plus(STEP, SETTLE)  # the last step, and what follows it


@pytest.mark.parametrize(("seconds", "more"), [(5.0, SEND), (900.0, SEND), (901.0, {})])
async def test_work_that_continues_later_is_sent_with_a_delay_if_that_is_short(
    aws: OnAws, seconds: float, more: dict[str, int]
) -> None:
    step, _ = watched(aws.meter, goes_on_after(seconds))
    process = aws.process(step)
    await process.client.enqueue("demo", {})
    await (await aws.session(process)).run()
    assert aws.meter.taken() == plus(STEP, SETTLE, more)


async def test_a_later_claim_reads_payload_and_snapshot_too(aws: OnAws) -> None:
    step, seen = watched(aws.meter, goes_on_after(5.0))
    process = aws.process(step)
    await process.client.enqueue("demo", {})
    await (await aws.session(process)).run()
    await aws.harness.advance(6.0)
    await (await aws.session(process)).run()
    assert seen[1:] == [plus(CLAIM, {"Query journal": 2})]


async def test_resources_are_claimed_and_released_in_one_transaction_each(aws: OnAws) -> None:
    step, seen = watched(aws.meter, finishes)
    process = aws.process(step)
    await process.client.enqueue_many([NewWork("demo", {}, resources=("gpu", "licence"))])
    await (await aws.session(process)).run()
    acquire = {"BatchGetItem claims": 1, "TransactWriteItems claims": 1}
    assert seen == [plus(CLAIM, acquire)]
    release = {"GetItem claims": 1, "BatchGetItem claims": 1, "TransactWriteItems claims": 1}
    assert aws.meter.taken() == plus(STEP, SETTLE, release)


# --- heartbeats --------------------------------------------------------------


class Held:
    """Sessions of which each is inside a step that does not end by itself."""

    def __init__(self, aws: OnAws, count: int) -> None:
        self.aws = aws
        self.count = count
        self.sessions: list[Session] = []
        self._entered = asyncio.Semaphore(0)
        self._go_on = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.process = aws.process(self._step)

    async def _step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        self._entered.release()
        await self._go_on.wait()
        return snapshot.finish()

    async def begin(self) -> None:
        await self.process.client.enqueue_many([NewWork("demo", {"n": n}) for n in range(self.count)])
        while len(self.sessions) < self.count:
            self.sessions += [self.process.session(one) for one in await self.process.receive()]
        self._tasks = [asyncio.create_task(session.run()) for session in self.sessions]
        for _ in self.sessions:
            await soon(self._entered.acquire())
        self.aws.meter.taken()

    async def end(self) -> None:
        self._go_on.set()
        await soon(asyncio.gather(*self._tasks))


@pytest_asyncio.fixture
async def holding(aws: OnAws) -> AsyncIterator[Callable[[int], Any]]:
    held: list[Held] = []

    async def begin(count: int) -> Held:
        one = Held(aws, count)
        held.append(one)
        await one.begin()
        return one

    yield begin
    for one in held:
        await one.end()


@pytest.mark.parametrize(("sessions", "batches"), [(1, 1), (10, 1), (11, 2)])
async def test_a_heartbeat_is_a_batched_extension_and_a_row_for_each_lease_and_third_of_it(
    aws: OnAws, holding: Callable[[int], Any], sessions: int, batches: int
) -> None:
    held = await holding(sessions)
    heartbeat = Heartbeat(held.process.parts, held.sessions)
    await heartbeat.beat()
    assert aws.meter.taken() == {}, "work that is over in a second writes no row while it runs"
    await aws.harness.advance(FIRST_BEAT_SECONDS)
    beat = {"ChangeMessageVisibilityBatch normal": batches, "PutItem index": sessions}
    await heartbeat.beat()
    assert aws.meter.taken() == beat
    third = held.process.lease_seconds / 3
    for _ in range(3):
        await heartbeat.beat()  # too early
        assert aws.meter.taken() == {}
        await aws.harness.advance(third)
        await heartbeat.beat()
        assert aws.meter.taken() == beat


async def test_ten_items_that_settle_at_once_share_one_delete(
    aws: OnAws, holding: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "COMPANY_SECONDS", 5.0)  # "at once" lasts longer on a busy machine
    held = await holding(10)
    await held.end()
    calls = aws.meter.taken()
    assert calls.pop("DeleteMessageBatch normal") == 1
    assert calls.pop("PutItem index") == 10
    appends = {"PutItem journal", "BatchExecuteStatement journal"}  # those that wait share a call
    assert set(calls) <= appends
    assert sum(calls.values()) <= 10


# --- sweeps ------------------------------------------------------------------


async def test_what_sleeps_costs_no_calls(aws: OnAws) -> None:
    """The queries of a sweep are as many as there are shards, however many sleep."""

    async def sweeps() -> dict[str, int]:
        for _ in range(3):
            assert await process.sweeper.sweep() == 0
        return aws.meter.taken()

    process = aws.process(finishes)
    aws.meter.taken()
    alone = await sweeps()
    assert alone == {"Query index": 3 * SHARDS}
    later = [NewWork("demo", {"n": n}, delay_seconds=86_400.0) for n in range(500)]
    await process.client.enqueue_many(later)
    assert "SendMessageBatch normal" not in aws.meter.taken()
    assert await sweeps() == alone
