"""What an idle worker costs: every call that it makes in an hour of virtual time."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from roost.core.parts import CoreSettings, Parts
from roost.core.worker import Worker
from roost.engine import EngineRegistry
from roost.journal.projection import project
from roost.models import Lane
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.clients import SQS_WAIT_MAX_SECONDS, Aws
from roost.storage.aws.cost import MONTH_SECONDS, idle_poller_usd, price
from roost.storage.aws.faults import Patience
from roost.storage.aws.index import row_item
from roost.storage.aws.lanes import EMPTY_POLLS, REST_SECONDS
from roost.storage.aws.names import Names
from roost.storage.ports import Message
from roost.testing.contract.harness import first
from roost.testing.contract.process import Scripted, finishes
from roost.testing.virtual_time import DAY_SECONDS, SeededIds, VirtualClock, run

HOUR_SECONDS = 3600.0
SHARDS = 4


class Quiet:
    """The clients of services in which there are index rows at most, and what is sent; long polls wait.

    Rows are found by the key of the index `due`, as in DynamoDB: in order, with a binary search.

    Attributes:
        calls: by operation and table or queue.
        read: how many rows were read.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._sent: list[dict[str, Any]] = []
        self._came = asyncio.Event()
        self._expired_up_to: dict[str, Any] = {}
        self._due: dict[str, list[tuple[float, str]]] = defaultdict(list)  # not in order until asked
        self._rows: dict[str, dict[str, Any]] = {}
        self._is_sorted = True
        self.read = 0

    async def get(self, service: str) -> Quiet:
        return self

    async def close(self) -> None: ...

    def _count(self, operation: str, name: str) -> None:
        self.calls[f"{operation} {name.rpartition('-')[2]}"] += 1

    def add(self, row: dict[str, Any]) -> None:
        """An item of the index table, there from the start."""
        work = row["work"]["S"]
        self._rows[work] = row
        self._due[row["due_key"]["S"]].append((float(row["due_at"]["N"]), work))
        self._is_sorted = False

    async def query(self, *, TableName: str, IndexName: str = "", **arguments: Any) -> dict[str, Any]:
        self._count("Query", IndexName or TableName)
        if IndexName != "due":
            return {"Items": [], "Count": 0}
        if not self._is_sorted:
            for partition in self._due.values():
                partition.sort()
            self._is_sorted = True
        assert (
            arguments["KeyConditionExpression"] == "#due_key = :due_key AND #due_at BETWEEN :start AND :now"
        )
        values = {
            name: next(iter(one.values())) for name, one in arguments["ExpressionAttributeValues"].items()
        }
        partition = self._due[values[":due_key"]]
        found = partition[
            bisect_left(partition, (float(values[":start"]), "")) : bisect_right(
                partition, (float(values[":now"]), "\U0010ffff")
            )
        ][: arguments["Limit"]]
        self.read += len(found)
        return {"Items": [self._rows[work] for _, work in found], "Count": len(found)}

    async def get_item(self, *, TableName: str, **_: Any) -> dict[str, Any]:
        self._count("GetItem", TableName)
        return {"ConsumedCapacity": {}, **self._expired_up_to}

    async def update_item(self, *, TableName: str, Key: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """A due row that is taken, or how far the looks for what expires have come."""
        self._count("UpdateItem", TableName)
        if Key["work"]["S"] == "#expiry":
            self._expired_up_to = {"Item": {**Key, "day": arguments["ExpressionAttributeValues"][":day"]}}
            return {}
        row = self._rows[Key["work"]["S"]]
        partition = self._due[row["due_key"]["S"]]
        partition.remove((float(row["due_at"]["N"]), row["work"]["S"]))
        row["due_at"] = arguments["ExpressionAttributeValues"][":due_at"]
        insort(partition, (float(row["due_at"]["N"]), row["work"]["S"]))
        return {}

    async def get_queue_url(self, *, QueueName: str) -> dict[str, Any]:
        return {"QueueUrl": QueueName}

    async def get_queue_attributes(self, *, QueueUrl: str, **_: Any) -> dict[str, Any]:
        self._count("GetQueueAttributes", QueueUrl)
        return {"Attributes": {"ApproximateNumberOfMessages": "0"}}

    async def send_message_batch(self, *, QueueUrl: str, Entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
        self._sent += Entries
        self._came.set()
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    async def delete_message_batch(self, *, Entries: Sequence[dict[str, Any]], **_: Any) -> dict[str, Any]:
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    async def receive_message(self, *, QueueUrl: str, WaitTimeSeconds: int, **_: Any) -> dict[str, Any]:
        self._count("ReceiveMessage", QueueUrl)
        if QueueUrl.endswith("normal") and not self._sent:
            try:
                async with asyncio.timeout(WaitTimeSeconds):
                    await self._came.wait()
            except TimeoutError:
                return {}
        elif not QueueUrl.endswith("normal"):
            await self._clock.sleep(WaitTimeSeconds)
            return {}
        self._came.clear()
        sent, self._sent = self._sent, []
        return {
            "Messages": [{"MessageId": "m", "ReceiptHandle": "r", "Body": one["MessageBody"]} for one in sent]
        }


def opened() -> tuple[AwsBackend, Quiet, VirtualClock, SeededIds]:
    clock, ids = VirtualClock(asyncio.get_running_loop()), SeededIds(random.Random(1))
    quiet = Quiet(clock)
    aws = Aws(quiet, Names("idle", "bucket", SHARDS), Patience(clock, ids), clock, ids)  # type: ignore[arg-type]
    return AwsBackend(aws, appends_in_flight=8), quiet, clock, ids


async def idle(
    workers: int,
    sleepers: int = 0,
    *,
    due_in_seconds: float = 10 * DAY_SECONDS,
    lanes: Sequence[Lane] = tuple(Lane),
) -> tuple[Any, int]:
    """The calls of idle workers in an hour, and the index rows that they read.

    Args:
        sleepers: work items that sleep; rows of the index.
        due_in_seconds: when the first of them wakes up; the others later.
    """
    backend, quiet, clock, ids = opened()
    for number in range(sleepers):
        wake_at = clock.now() + due_in_seconds + number
        row = project(first(f"sleeper{number}", at=clock.now(), wake_at=wake_at))
        quiet.add(row_item(row, SHARDS))
    settings = CoreSettings(
        sweep_seconds=backend.sweep_seconds, retention_seconds=30 * DAY_SECONDS, lanes=tuple(lanes)
    )
    parts, engines = Parts(backend, clock, ids, settings), EngineRegistry([Scripted(finishes)])
    fleet = [asyncio.create_task(Worker(parts, engines, f"idle{n}").run()) for n in range(workers)]
    await clock.sleep(2 * HOUR_SECONDS)  # past midnight, when the looks for what expires write their day
    quiet.calls.clear()
    await clock.sleep(HOUR_SECONDS)
    calls = dict(quiet.calls)
    assert not any(working.done() for working in fleet)
    for working in fleet:
        working.cancel()
    await asyncio.gather(*fleet, return_exceptions=True)
    await backend.close()
    return calls, quiet.read


@pytest.mark.parametrize(("lanes", "whole"), [(tuple(Lane), 0.182), ((Lane.NORMAL,), 0.083)])
def test_every_call_of_an_idle_worker_in_an_hour_and_their_dollars(
    lanes: Sequence[Lane], whole: float
) -> None:
    """Less than 0.05 USD a month for each lane that it polls, and less than 0.05 USD for all else."""
    calls, _ = run(partial(idle, 1, lanes=lanes))
    polls = {lane: calls.pop(f"ReceiveMessage {lane.value}") for lane in lanes}
    monthly = MONTH_SECONDS / HOUR_SECONDS
    polled = 0.0
    for count in polls.values():
        assert count == pytest.approx(HOUR_SECONDS / (SQS_WAIT_MAX_SECONDS + REST_SECONDS), abs=3)
        assert count * monthly * price("sqs_request") < 0.05
        polled += count * monthly * price("sqs_request")
    # The smallest read: half a unit, or one where it is strongly consistent.
    reads = {"Query due": 0.5, "Query marks": 0.5, "Query journal": 1.0, "GetItem index": 1.0}
    assert calls.keys() <= reads.keys(), calls
    usd = sum(count * reads[name] * price("dynamodb_read_unit") for name, count in calls.items()) * monthly
    assert usd == pytest.approx(0.034, abs=0.002), calls
    assert polled + usd == pytest.approx(whole, abs=0.005)


@pytest.mark.parametrize(
    ("workers", "sleepers"), [(1, 2000), pytest.param(3, 100_000, marks=pytest.mark.soak)]
)
def test_an_idle_fleet_makes_the_same_calls_however_much_sleeps(workers: int, sleepers: int) -> None:
    """Whole workers for an hour: what sleeps is neither asked for nor read."""
    assert run(partial(idle, workers, sleepers)) == run(partial(idle, workers))


def test_a_sleeper_whose_time_comes_is_read() -> None:
    """So the count above would show it."""
    calls, read = run(partial(idle, 1, 3, due_in_seconds=2.5 * HOUR_SECONDS))
    assert read >= 3
    assert calls["UpdateItem index"] >= 3


def test_an_idle_poller_costs_less_than_five_cents_a_month() -> None:
    assert 0.049 < idle_poller_usd() < 0.05


def test_a_message_that_comes_into_a_rest_waits_for_it_and_no_longer() -> None:
    async def send_now_and_then() -> list[float]:
        backend, _, clock, ids = opened()
        waited: list[float] = []
        for number in range(200):
            taking = asyncio.create_task(take(backend))
            polled_for = EMPTY_POLLS * SQS_WAIT_MAX_SECONDS
            await clock.sleep(polled_for + ids.uniform(0.0, SQS_WAIT_MAX_SECONDS + REST_SECONDS))
            sent_at = clock.monotonic()
            await backend.queue.send([Message(f"w{number}", 0)])
            await taking
            waited.append(clock.monotonic() - sent_at)
        await backend.close()
        return waited

    async def take(backend: AwsBackend) -> None:
        found: Sequence[Any] = ()
        while not found:
            found = await backend.queue.receive(
                1, visibility_seconds=30.0, wait_seconds=float(SQS_WAIT_MAX_SECONDS), lanes=[*Lane]
            )
        await backend.queue.acknowledge(found)

    waited = run(send_now_and_then)
    assert max(waited) <= 1.5 * REST_SECONDS
    assert 0.0 < sum(waited) / len(waited) < 0.06
    assert sorted(waited)[len(waited) // 2] == 0.0
