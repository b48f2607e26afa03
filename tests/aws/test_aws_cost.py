"""What work costs on AWS: the bill of a journal is that of the calls made for it, and keeps to its bars."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from roost.clock import Clock, SystemIds
from roost.core import heartbeat
from roost.core.client import Client, NewWork
from roost.core.parts import CoreSettings, Parts
from roost.core.worker import Worker
from roost.engine import EngineRegistry
from roost.journal.entries import Entry
from roost.models import Snapshot, State, WorkItem
from roost.storage.aws import batching, cost
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.cost import Bill, bill_of, entry_item, item_bytes, price
from roost.testing.contract.harness import soon
from roost.testing.contract.process import Process, Scripted, Step, counts_to, finishes
from roost.testing.standins import StandIn
from tests.aws.meter import Meter
from tests.standins.harness import AwsHarness, point_sdk_at

pytestmark = pytest.mark.slow

MILLION = 1_000_000
WORKS = 120
PACE = 10  # of `Slower`


class Shop:
    """A stack with a meter, and a second backend for looking, which is not counted."""

    def __init__(self, harness: AwsHarness, backend: AwsBackend, meter: Meter, eye: Client) -> None:
        self.harness = harness
        self.backend = backend
        self.meter = meter
        self._eye = eye

    def process(self, step: Step) -> Process:
        return Process(self.harness, self.backend, Scripted(step))

    async def bill(self, work_ids: Sequence[str], **options: int) -> Bill:
        return bill_of([await self.journal(work_id) for work_id in work_ids], **options)

    async def journal(self, work_id: str) -> list[Entry]:
        return [entry async for entry in self._eye.events(work_id)]

    async def are_done(self, count: int) -> None:
        while (await self._eye._parts.backend.index.counts()).get(State.DONE, 0) < count:
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def shop(ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    point_sdk_at(ministack, monkeypatch)
    harness = AwsHarness(ministack)
    backend = await harness.open()
    assert isinstance(backend, AwsBackend)
    looking = Process(harness, await harness.reopen(), Scripted(finishes))
    yield Shop(harness, backend, await Meter(backend).begin(), looking.client)
    await harness.close()


def pauses(seconds: float) -> Step:
    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.finish() if snapshot.version else snapshot.next(data={"n": 1}, delay=seconds)

    return step


def spills(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    """A large state that can't be compressed, a pause, and the end."""
    if snapshot.version:
        return snapshot.finish()
    return snapshot.next(data={"text": noise(40_000)}, delay=5.0)


def fails_once(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    if FAILED.pop(item.work_id, None) is None:
        FAILED[item.work_id] = True
        raise ValueError("once")
    return snapshot.finish()


FAILED: dict[str, bool] = {}


def noise(length: int) -> str:
    return base64.b64encode(hashlib.shake_256(b"noise").digest(length)).decode()[:length]


def chat(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    """A transcript that is 20 kB from the start and grows by a message a step."""
    messages = snapshot.data.get("messages") or [f"{n}: {noise(390 + n)[n:]}" for n in range(50)]
    messages = [*messages, f"{len(messages)}: {noise(700)[len(messages) :][:400]}"]
    data = {"messages": messages}
    return snapshot.finish(data=data) if snapshot.version == 29 else snapshot.next(data=data)


# --- the bill is that of the calls -------------------------------------------


@pytest.mark.parametrize(
    ("step", "pauses_seconds", "options"),
    [
        (finishes, (), {}),
        (counts_to(6), (), {}),
        (pauses(5.0), (6.0,), {}),
        (pauses(1000.0), (1000.0,), {}),
        (spills, (6.0,), {}),
        (fails_once, (1.0,), {}),
        (finishes, (), {"resources": ("gpu", "licence")}),
    ],
    ids=[
        "one step",
        "a burst",
        "a pause",
        "a long pause",
        "a spilled state",
        "a failed attempt",
        "resources",
    ],
)
async def test_the_bill_of_a_journal_is_that_of_its_calls(
    shop: Shop, step: Step, pauses_seconds: tuple[float, ...], options: dict[str, Any]
) -> None:
    """Units of DynamoDB and S3 exactly; requests to SQS save for the looks that found nothing."""
    process = shop.process(step)
    [work_id] = await process.client.enqueue_many([NewWork("demo", {"n": 1}, **options)])
    await process.work()
    for seconds in pauses_seconds:
        await shop.harness.advance(seconds)
        await process.sweeper.sweep()
        await process.work()
    bill = await shop.bill([work_id])
    calls = shop.meter.taken()
    shop.meter.units["dynamodb_read_unit"] -= calls.get("Query index", 0) / 2  # a sweep's; of nobody's work
    sweeps = len(pauses_seconds)  # each reads what is paused
    shop.meter.units["dynamodb_read_unit"] -= sweeps
    counted = ("dynamodb_write_unit", "dynamodb_read_unit", "s3_put", "s3_get")
    assert {unit: bill.count(unit) for unit in counted} == {unit: shop.meter.units[unit] for unit in counted}
    requests = {name: count for name, count in calls.items() if name.endswith("normal")}
    looks = requests.pop("ReceiveMessage normal")
    requests.pop("GetQueueAttributes normal", None)  # a sweep's
    claims = sum(entry.event.kind.value == "claimed" for entry in await shop.journal(work_id))
    assert looks >= claims
    assert bill.count("sqs_request") == sum(requests.values()) + claims
    queues = (" high", " normal", " low")
    others = sum(n for name, n in calls.items() if not name.endswith(queues) and name != "Query index")
    assert bill.calls == others - sweeps + bill.count("sqs_request")


def test_the_first_beat_is_charged_when_it_comes() -> None:
    assert cost.FIRST_BEAT_SECONDS == heartbeat.FIRST_BEAT_SECONDS


# --- bars --------------------------------------------------------------------


async def test_a_further_step_of_a_burst_at_a_kilobyte_stored_costs_less_than_80_cents_a_million(
    shop: Shop,
) -> None:
    """Counted calls, and items that are all but full, of states of 600 bytes; Step Functions: 25 USD."""

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        usd.append(shop.meter.usd())
        data = {"text": noise(600 + snapshot.version)}
        return snapshot.finish(data=data) if snapshot.version == 9 else snapshot.next(data=data)

    usd: list[float] = []
    process = shop.process(step)
    [work_id] = await process.client.enqueue_many([NewWork("demo", {})])
    await process.work()
    stored = [item_bytes(entry_item(entry)) for entry in (await shop.journal(work_id))[2:11]]
    assert min(stored) > 900
    assert max(stored) <= 1024
    each = [after - before for before, after in itertools.pairwise(usd)]
    assert max(each) * MILLION <= 0.80
    bill = await shop.bill([work_id])
    assert bill.usd("burst step") == pytest.approx(sum(each))


class Slower:
    """A clock by which a busy machine is as quick as an idle one: it goes at a tenth of the pace."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now, self._monotonic = clock.now(), clock.monotonic()

    def now(self) -> float:
        return self._now + (self._clock.now() - self._now) / PACE

    def monotonic(self) -> float:
        return self._monotonic + (self._clock.monotonic() - self._monotonic) / PACE

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds * PACE)


async def test_a_million_one_step_items_cost_less_than_9_usd(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real worker with its default settings under load; all of its calls are counted."""
    monkeypatch.setattr(batching, "COMPANY_SECONDS", batching.COMPANY_SECONDS * PACE)
    ids, settings = SystemIds(), CoreSettings(sweep_seconds=0.5)
    parts = Parts(shop.backend, Slower(shop.harness.clock), ids, settings)
    client = Client(parts)
    await client.enqueue_many([NewWork("demo", {"n": number}) for number in range(WORKS)])
    worker = Worker(parts, EngineRegistry([Scripted(finishes)]), "worker")
    running = asyncio.create_task(worker.run())
    await soon(shop.are_done(WORKS))
    worker.drain()
    await soon(running)
    usd = shop.meter.usd() / WORKS * MILLION
    assert 8.0 <= usd <= 9.0, (usd, shop.meter.units, shop.meter.taken())


async def test_a_million_one_step_items_one_at_a_time_cost_less_than_9_50_usd(shop: Shop) -> None:
    """The next is enqueued when the one before is done, so that no request to SQS is shared.

    The long polls of the other lanes are left out: they are an idle worker's.
    """
    parts = Parts(shop.backend, shop.harness.clock, SystemIds(), CoreSettings(sweep_seconds=60.0))
    client, worker = Client(parts), Worker(parts, EngineRegistry([Scripted(finishes)]), "worker")
    running = asyncio.create_task(worker.run())
    few = 6
    for number in range(few):
        await client.enqueue("demo", {"n": number})
        await soon(shop.are_done(number + 1))
    worker.drain()
    await soon(running)
    calls = shop.meter.taken()
    requests = {name: count for name, count in calls.items() if name.endswith(" normal")}
    assert requests.pop("ReceiveMessage normal") <= few + 2, "a look before the first, a poll after the last"
    assert requests == {"SendMessageBatch normal": few, "DeleteMessageBatch normal": few}
    units = shop.meter.units
    table_usd = units["dynamodb_write_unit"] * price("dynamodb_write_unit")
    table_usd += (units["dynamodb_read_unit"] - calls.get("Query index", 0) / 2) * price("dynamodb_read_unit")
    alone, shared_by_two = 3 * price("sqs_request"), 1.5 * price("sqs_request")
    assert (table_usd / few + alone) * MILLION == pytest.approx(9.45, abs=0.05), (units, calls)
    assert (table_usd / few + shared_by_two) * MILLION < 9.0


async def test_a_million_one_step_items_that_expire_cost_4_56_usd(shop: Shop) -> None:
    """Three entries and a row each; the looks at the marks of days are an idle worker's."""
    process = shop.process(finishes)
    count = 4
    work_ids = await process.client.enqueue_many([NewWork("demo", {"n": n}) for n in range(count)])
    await process.work()
    assert [len(await shop.journal(work_id)) for work_id in work_ids] == [3] * count
    shop.meter.taken()
    shop.meter.units.clear()
    gone = await shop.backend.journal.expire(shop.harness.clock.now() + 1, limit=100)
    assert sorted(gone) == sorted(work_ids)
    calls = shop.meter.taken()
    assert calls["DeleteItem journal"] == 3 * count
    # Marked, and left to the time to live; once for all: noted and struck out, and the day.
    once = calls["UpdateItem index"] - 2 * count
    assert once in (2, 3)
    # The mark and the copy in `state`, three entries and the mark of the last, the row once more.
    assert shop.meter.units["dynamodb_write_unit"] == 7 * count + once
    looks = calls["GetItem index"] + calls["Query journal"]
    shard_looks = looks - 1 - 2 * count  # at the marks of days
    assert shop.meter.units["dynamodb_read_unit"] == 1.5 * count + 0.5 * (shard_looks + 1)
    each = 7 * price("dynamodb_write_unit") + 1.5 * price(
        "dynamodb_read_unit"
    )  # of the row, and of the entries
    assert each * MILLION == pytest.approx(4.5625)
    assert calls["GetItem index"] == count + 1


async def test_a_transcript_that_grows_by_a_message_a_step_takes_one_and_a_half_units_a_step(
    shop: Shop,
) -> None:
    """20 kB, a message of 400 bytes a step, with the key frames that bound what a read needs."""
    units: list[float] = []

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        units.append(shop.meter.units["dynamodb_write_unit"])
        return chat(snapshot, item)

    process = shop.process(step)
    [work_id] = await process.client.enqueue_many([NewWork("demo", {})])
    await process.work()
    [view] = [await process.client.status(work_id)]
    assert view.snapshot is not None
    size = len(str(view.snapshot.data))
    assert size > 20_000
    per_step = (units[-1] - units[1]) / (len(units) - 2)
    assert per_step <= 1.5


def test_prices_are_dated_and_complete() -> None:
    listed = cost.prices()
    assert listed["date"] >= "2026-11-23"
    assert listed["usd_per_million"].keys() == listed["sources"].keys()
    assert price("dynamodb_write_unit") == 0.625e-6
