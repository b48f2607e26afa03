"""Every tenth call to AWS fails, hangs, or is done and its reply lost: all work is done all the same.

The faults come through the SDK's own events, where its retries do not see them, so the
product meets each one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from roost.clock import SystemClock, SystemIds
from roost.core.client import Client
from roost.core.new_work import NewWork
from roost.core.parts import CoreSettings, Parts
from roost.core.worker import Worker
from roost.engine import EngineRegistry, current_step
from roost.journal.claims import Owner
from roost.models import Snapshot, State, WorkItem
from roost.storage.aws.backend import AwsBackend, open_aws
from roost.testing.contract.ends import check_done, check_sound
from roost.testing.contract.process import Scripted, counts_to
from roost.testing.standins import StandIn
from tests.standins.harness import make_stack, point_sdk_at

pytestmark = pytest.mark.slow

SERVICES = ("dynamodb", "sqs", "s3")
SHARE = 0.1
STEPS = 4


class _Http:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


class Weather:
    """Faults on a share of the calls of a backend's clients.

    Attributes:
        is_bad: whether there are any now.
        seen: how many there were of each kind.
    """

    def __init__(self, seed: int) -> None:
        self.is_bad = False
        self.seen: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lost: dict[int, bool] = defaultdict(bool)

    async def over(self, backend: AwsBackend) -> None:
        for service in SERVICES:
            events = (await backend.aws.clients.get(service)).meta.events
            events.register(f"before-call.{service}", self._before)
            events.register(f"after-call.{service}", self._after)

    async def _before(self, model: Any, context: dict[str, Any], **_: Any) -> Any:
        if not self.is_bad or self._random.random() >= SHARE:
            return None
        fault = self._random.choice(("error", "throttle", "reset", "timeout", "delay", "lost"))
        self.seen[fault] += 1
        match fault:
            case "error":
                return _failed(500, "InternalServerError")
            case "throttle":
                return _failed(400, "ThrottlingException")
            case "reset":
                raise ConnectionClosedError(endpoint_url="http://127.0.0.1")
            case "timeout":
                raise ReadTimeoutError(endpoint_url="http://127.0.0.1")
            case "delay":
                await asyncio.sleep(self._random.uniform(0.01, 0.2))
            case "lost":
                context["reply is lost"] = True
        return None

    def _after(self, http_response: Any, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        if context.pop("reply is lost", False):
            http_response.status_code = 500
            parsed.clear()
            parsed.update(_failed(500, "InternalServerError")[1])


def _failed(status: int, code: str) -> tuple[_Http, dict[str, Any]]:
    error = {"Code": code, "Message": "made up"}
    return _Http(status), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}


class Holders:
    """Who is inside a step with a resource; more than one at a time is a bug."""

    def __init__(self) -> None:
        self.now: dict[str, Owner] = {}
        self.clashes: list[str] = []

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        mine = Owner(item.work_id, current_step().token)
        for resource in item.resources:
            if resource in self.now:
                self.clashes.append(f"{resource}: {self.now[resource]} and {mine}")
            self.now[resource] = mine
        await asyncio.sleep(0.002)
        for resource in item.resources:
            self.now.pop(resource, None)
        after = counts_to(STEPS)(snapshot, item)
        assert isinstance(after, Snapshot)
        return after


@pytest_asyncio.fixture
async def processes(ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Parts]]:
    """What three processes have: backends of their own on one stack."""
    point_sdk_at(ministack, monkeypatch)
    settings = await make_stack(f"weather{random.randrange(10**6)}")
    clock, core = SystemClock(ministack.ahead_seconds), CoreSettings(lease_seconds=6.0, sweep_seconds=2.0)
    backends = [await open_aws(settings, clock=clock) for _ in range(3)]
    yield [Parts(backend, clock, SystemIds(), core) for backend in backends]
    for backend in backends:
        await backend.close()


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
async def test_all_work_is_done_in_any_weather(
    processes: list[Parts], seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    holders, weather = Holders(), Weather(seed)
    for parts in processes:
        assert isinstance(parts.backend, AwsBackend)
        await weather.over(parts.backend)
    engines = EngineRegistry([Scripted(holders.step)])
    client = Client(processes[0])
    workers = [Worker(parts, engines, f"worker{n}") for n, parts in enumerate(processes[1:])]
    weather.is_bad = True
    with caplog.at_level(logging.WARNING):
        running = [asyncio.create_task(worker.run()) for worker in workers]
        ids: list[str] = []
        async with asyncio.timeout(180):
            for number in range(30):
                resources = ("printer",) if number % 3 == 0 else ()
                new = NewWork("demo", {"n": number}, resources=resources, idempotency_key=f"key{number}")
                ids += await client.enqueue_many([new])
            for work_id in ids:
                while not (await client.status(work_id)).control.state.is_terminal:
                    await asyncio.sleep(0.05)
        weather.is_bad = False
        for worker in workers:
            worker.drain()
        await asyncio.gather(*running)
    assert len(weather.seen) == 6, weather.seen
    assert not holders.clashes
    for work_id in ids:
        view = await client.status(work_id)
        assert view.control.state is State.DONE
        check_done(view, version=STEPS)
        check_sound([entry async for entry in client.events(work_id)])
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
