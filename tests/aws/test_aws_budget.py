"""The call budget of DESIGN.md: which calls to AWS each transition makes, and no others.

Real sessions, heartbeats, workers and sweepers on a stand-in; counted are the calls of the
SDK's clients, of all services.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from roost.clock import Clock, SystemIds
from roost.core.client import NewWork
from roost.core.heartbeat import FIRST_BEAT_SECONDS, Heartbeat
from roost.core.parts import CoreSettings, Parts
from roost.core.session import Session
from roost.core.sweeper import Sweeper
from roost.journal.projection import project
from roost.models import Snapshot, WorkItem
from roost.storage.aws import batching
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.index import row_item
from roost.storage.aws.table import PARALLEL
from roost.testing.contract.harness import first, soon
from roost.testing.contract.process import Process, Scripted, Step, counts_to, finishes
from roost.testing.standins import StandIn
from roost.testing.virtual_time import DAY_SECONDS
from tests.aws.meter import Meter
from tests.standins.harness import SHARDS, AwsHarness, StandInClock, point_sdk_at

pytestmark = pytest.mark.slow

ENQUEUE = {"TransactWriteItems index+journal": 1, "SendMessageBatch normal": 1}
CLAIM = {"Query journal": 1, "PutItem journal": 1}
STEP = {"PutItem journal": 1}
SETTLE = {"PutItem index": 1, "DeleteMessageBatch normal": 1}
SEND = {"SendMessageBatch normal": 1}


class OnAws:
    """One process on a stack of its own, and the meter of its calls."""

    def __init__(self, standin: StandIn, harness: AwsHarness, backend: AwsBackend, meter: Meter) -> None:
        self.standin = standin
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
    yield OnAws(ministack, harness, backend, await Meter(backend).begin())
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


async def test_who_waits_for_news_of_an_entry_reads_nothing_of_it(aws: OnAws) -> None:
    """One query of one read unit a look, however large the snapshot in the last entry is."""
    process = aws.process(goes_on_after(DAY_SECONDS))
    work_id = await process.client.enqueue("demo", {"text": "x" * 200})
    await (await aws.session(process)).run()
    control = await process.client.control(work_id)
    aws.meter.taken()
    before = aws.meter.units["dynamodb_read_unit"]
    assert await process.client.control_after(work_id, control.position) is None
    assert aws.meter.taken() == {"Query journal": 1}
    assert aws.meter.units["dynamodb_read_unit"] == before + 1


# --- heartbeats --------------------------------------------------------------


class Still:
    """The clock of a stand-in, but real time does not pass: only what it is moved on by."""

    def __init__(self, clock: StandInClock, standin: StandIn) -> None:
        self._standin = standin
        self._now = clock.now() - standin.ahead_seconds
        self._monotonic = clock.monotonic() - standin.ahead_seconds
        self.sleep = clock.sleep

    def now(self) -> float:
        return self._now + self._standin.ahead_seconds

    def monotonic(self) -> float:
        return self._monotonic + self._standin.ahead_seconds


class Held:
    """Sessions of which each is inside a step that does not end by itself."""

    def __init__(self, aws: OnAws, count: int) -> None:
        self.aws = aws
        self.count = count
        self.sessions: list[Session] = []
        self._entered = asyncio.Semaphore(0)
        self._go_on = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        aws.harness.clock = Still(aws.harness.aws_clock, aws.standin)
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
    await aws.harness.advance(FIRST_BEAT_SECONDS * 1.001)
    beat = {"ChangeMessageVisibilityBatch normal": batches, "PutItem index": sessions}
    await heartbeat.beat()
    assert aws.meter.taken() == beat
    third = held.process.lease_seconds / 3 * 1.001  # sums of instants are not exact
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


# --- idleness ----------------------------------------------------------------

SWEEPS = 4  # of each worker
SLEEPERS = 2000
IDLE_SECONDS = 60.0  # of real time; a stand-in walks over all rows for each query


async def seed_sleepers(backend: AwsBackend, count: int) -> None:
    """Index rows of work that sleeps for a day, which is all that an idle fleet could come upon."""
    dynamodb = await backend.aws.clients.get("dynamodb")
    at = backend.aws.clock.now()
    rows = (
        row_item(project(first(f"sleeper{n}", at=at, wake_at=at + 86_400.0)), SHARDS) for n in range(count)
    )
    requests = ({"PutRequest": {"Item": row}} for row in rows)
    while chunk := [*itertools.islice(requests, 25 * PARALLEL)]:
        batches = [chunk[start : start + 25] for start in range(0, len(chunk), 25)]
        name = backend.aws.names.index
        written = await asyncio.gather(
            *(dynamodb.batch_write_item(RequestItems={name: batch}) for batch in batches)
        )
        assert not any(one["UnprocessedItems"] for one in written)


class Ticking:
    """A clock by which sweepers have their turns at once, `SWEEPS` of them, and then never again."""

    def __init__(self, clock: Clock, sweep_seconds: float) -> None:
        self.now = clock.now
        self.monotonic = clock.monotonic
        self.slept = 0
        self.is_over = asyncio.Event()
        self._clock = clock
        self._sweep_seconds = sweep_seconds

    async def sleep(self, seconds: float) -> None:
        if seconds < self._sweep_seconds / 2:  # a heartbeat's, and others' in between
            await self._clock.sleep(seconds)
            return
        self.slept += 1
        if self.slept > SWEEPS:
            self.is_over.set()
            await asyncio.Event().wait()


async def idle(aws: OnAws, workers: int) -> dict[str, int]:
    """The calls of idle workers' sweepers, `SWEEPS` sweeps of each, and of their heartbeats."""
    settings = CoreSettings(sweep_seconds=1000.0, retention_seconds=86_400.0)
    clocks = [Ticking(aws.harness.clock, settings.sweep_seconds) for _ in range(workers)]
    running = []
    for clock in clocks:
        parts = Parts(aws.backend, clock, SystemIds(), settings)
        running.append(asyncio.create_task(Sweeper(parts, "idle").run()))
        running.append(asyncio.create_task(Heartbeat(parts, []).run()))
    async with asyncio.timeout(IDLE_SECONDS):
        await asyncio.gather(*(clock.is_over.wait() for clock in clocks))
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return aws.meter.taken()


@pytest.mark.soak
async def test_an_idle_fleet_asks_as_often_however_much_sleeps(aws: OnAws) -> None:
    """No query of a sweep finds a row, and nothing else is asked, save the long polls.

    Those know of nothing but messages: `test_an_idle_receiver_makes_one_long_poll_a_lane`.
    With ten times as many rows the stand-in walks over them, for one query, longer than a client
    waits; DynamoDB goes by the key, and finds none.
    """
    await idle(aws, 1)  # the first look of all for what has expired goes back further
    aws.meter.units.clear()
    alone, alone_units = await idle(aws, 3), dict(aws.meter.units)
    await seed_sleepers(aws.backend, SLEEPERS)
    aws.meter.taken()
    aws.meter.units.clear()
    assert await idle(aws, 3) == alone
    assert aws.meter.units == alone_units
    assert alone["Query index"] == 3 * SWEEPS * SHARDS
