"""What an idle worker costs: every call that it makes in an hour of virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from roost.core.parts import CoreSettings, Parts
from roost.core.worker import Worker
from roost.engine import EngineRegistry
from roost.models import Lane
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.clients import SQS_WAIT_MAX_SECONDS, Aws
from roost.storage.aws.cost import MONTH_SECONDS, idle_poller_usd, price
from roost.storage.aws.faults import Patience
from roost.storage.aws.lanes import EMPTY_POLLS, REST_SECONDS
from roost.storage.aws.names import Names
from roost.storage.ports import Message
from roost.testing.contract.process import Scripted, finishes
from roost.testing.virtual_time import SeededIds, VirtualClock, run

HOUR_SECONDS = 3600.0
SHARDS = 4


class Nothing:
    """The clients of services in which there is nothing, but what is sent; long polls wait.

    Attributes:
        calls: by operation and table or queue.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._sent: list[dict[str, Any]] = []
        self._came = asyncio.Event()
        self._expired_up_to: dict[str, Any] = {}

    async def get(self, service: str) -> Nothing:
        return self

    async def close(self) -> None: ...

    def _count(self, operation: str, name: str) -> None:
        self.calls[f"{operation} {name.rpartition('-')[2]}"] += 1

    async def query(self, *, TableName: str, IndexName: str = "", **_: Any) -> dict[str, Any]:
        self._count("Query", IndexName or TableName)
        return {"Items": [], "Count": 0}

    async def get_item(self, *, TableName: str, **_: Any) -> dict[str, Any]:
        self._count("GetItem", TableName)
        return {"ConsumedCapacity": {}, **self._expired_up_to}

    async def put_item(self, *, TableName: str, Item: dict[str, Any]) -> dict[str, Any]:
        """How far the looks for what expires have come; nothing else is written."""
        self._count("PutItem", TableName)
        self._expired_up_to = {"Item": Item}
        return {}

    async def get_queue_url(self, *, QueueName: str) -> dict[str, Any]:
        return {"QueueUrl": QueueName}

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


def opened() -> tuple[AwsBackend, Nothing, VirtualClock, SeededIds]:
    clock, ids = VirtualClock(asyncio.get_running_loop()), SeededIds(random.Random(1))
    nothing = Nothing(clock)
    aws = Aws(nothing, Names("idle", "bucket", SHARDS), Patience(clock, ids), clock, ids)  # type: ignore[arg-type]
    return AwsBackend(aws, appends_in_flight=8), nothing, clock, ids


def test_every_call_of_an_idle_worker_in_an_hour_and_their_dollars() -> None:
    """Less than 0.05 USD a month for each lane that it polls, and less than 0.05 USD for all else."""

    async def idle() -> dict[str, int]:
        backend, nothing, clock, ids = opened()
        settings = CoreSettings(sweep_seconds=backend.sweep_seconds, retention_seconds=30 * 86_400.0)
        parts = Parts(backend, clock, ids, settings)
        working = asyncio.create_task(Worker(parts, EngineRegistry([Scripted(finishes)]), "idle").run())
        await clock.sleep(2 * HOUR_SECONDS)  # past midnight, when the looks for what expires write their day
        nothing.calls.clear()
        await clock.sleep(HOUR_SECONDS)
        calls = dict(nothing.calls)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await backend.close()
        return calls

    calls = run(idle)
    polls = {lane: calls.pop(f"ReceiveMessage {lane.value}") for lane in Lane}
    monthly = MONTH_SECONDS / HOUR_SECONDS
    for count in polls.values():
        assert count == pytest.approx(HOUR_SECONDS / (SQS_WAIT_MAX_SECONDS + REST_SECONDS), abs=3)
        assert count * monthly * price("sqs_request") < 0.05
    # The smallest read: half a unit, or one where it is strongly consistent.
    reads = {"Query due": 0.5, "Query marks": 0.5, "Query journal": 1.0, "GetItem index": 1.0}
    assert calls.keys() <= reads.keys(), calls
    usd = sum(count * reads[name] * price("dynamodb_read_unit") for name, count in calls.items()) * monthly
    assert usd == pytest.approx(0.034, abs=0.002), calls


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
