"""The functions as processes on a stand-in: real events, crashes, time limits, and what stays."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from roost.config import AwsSettings, Settings
from roost.core.new_work import NewWork
from roost.core.schedules import list_schedules, remove
from roost.models import State
from roost.storage.aws.clients import Clients
from roost.storage.aws.names import Names
from roost.testing.standins import StandIn
from roost.wiring import Runtime, open_runtime
from tests.crash.fleet import check_done
from tests.hosting.service import EventSource, FunctionDied, container
from tests.hosting.shapes import schedule_event
from tests.standins.harness import SHARDS, make_stack, point_sdk_at

pytestmark = [pytest.mark.crash, pytest.mark.slow]
LEASE_SECONDS = 2
VISIBILITY_SECONDS = 600  # of the queue: nobody waits for it
_numbers = count(1)


@dataclass
class World:
    """A stack on a stand-in, a client, and the event source of its normal lane."""

    runtime: Runtime
    source: EventSource
    environ: dict[str, str]
    ledger: Path

    async def enqueue(self, *, steps: int, seconds: float, **more: object) -> str:
        payload = {"path": str(self.ledger), "steps": steps, "seconds": seconds, "delay": 0.0, **more}
        (work_id,) = await self.runtime.client.enqueue_many([NewWork("ledger", payload)])
        return work_id

    async def is_done(self, work_id: str) -> bool:
        return (await self.runtime.client.status(work_id)).control.state is State.DONE

    async def until_beat_in(self, work_id: str, version: int) -> None:
        """Until the step after a version runs, and a heartbeat went through: that writes the row."""
        while True:
            row = (await self.runtime.client.status(work_id)).row
            if row is not None and row.token is not None and row.version == version:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def world(ministack: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    point_sdk_at(ministack, monkeypatch)
    made = await make_stack(f"lambda{next(_numbers)}")
    assert made.bucket is not None
    settings = Settings(
        storage=f"aws:{made.stack}",
        aws=AwsSettings(stack=made.stack, bucket=made.bucket, shards=SHARDS),
        testing=True,
        clock_offset_seconds=ministack.ahead_seconds,
    )
    environ = {
        **os.environ,
        "ROOST_STORAGE": f"aws:{made.stack}",
        "ROOST_AWS__BUCKET": made.bucket,
        "ROOST_AWS__SHARDS": str(SHARDS),
        "ROOST_TESTING": "1",
        "ROOST_CLOCK_OFFSET_SECONDS": str(ministack.ahead_seconds),
        "ROOST_LEASE_SECONDS": str(LEASE_SECONDS),
        "ROOST_WORKER__ENGINES": "tests.crash.engines:Ledger",
    }
    clients = Clients(4)
    source = EventSource(
        clients, Names(made.stack, made.bucket, SHARDS), visibility_seconds=VISIBILITY_SECONDS
    )
    try:
        async with open_runtime(settings) as runtime:
            yield World(runtime, source, environ, tmp_path / "ledger.jsonl")
    finally:
        await clients.close()


async def test_a_warm_function_runs_batch_after_batch(world: World) -> None:
    async with container("lambda_worker", world.environ) as function:
        for _ in range(2):
            ids = [await world.enqueue(steps=3, seconds=0.01) for _ in range(3)]
            assert await world.source.drive(function, seconds=60) == 3
            for work_id in ids:
                await check_done(world.runtime, work_id, 3)
        assert await world.source.drive(function, seconds=60) == 0
    assert await world.runtime.backend.queue.backlog() == 0


@pytest.mark.soak
async def test_after_a_function_was_killed_in_a_step_another_goes_on(world: World) -> None:
    """After a lease, although the queue would hide the message for ten minutes."""
    gate = world.ledger.with_name("gate")
    work_id = await world.enqueue(steps=3, seconds=0.0, gate=str(gate), gated=1)
    async with container("lambda_worker", world.environ) as dying:
        driving = asyncio.create_task(world.source.drive(dying, seconds=60))
        await world.until_beat_in(work_id, 1)
        await dying.kill()
        with pytest.raises(FunctionDied):
            await driving
    gate.touch()
    began = time.monotonic()
    async with container("lambda_worker", world.environ) as function:
        while not await world.is_done(work_id):
            assert time.monotonic() - began < 90
            await world.source.drive(function, seconds=60)
            await asyncio.sleep(0.1)
    await check_done(world.runtime, work_id, 3)


@pytest.mark.soak
async def test_a_function_ends_before_its_time_is_over_and_the_next_goes_on(world: World) -> None:
    """Eight steps of 0.7 s; an invocation of 12 s has time for some of them."""
    work_id = await world.enqueue(steps=8, seconds=0.7)
    invocations = 0
    async with container("lambda_worker", world.environ) as function:
        while not await world.is_done(work_id):
            invocations += await world.source.drive(function, seconds=12)  # dies if it takes longer
            assert invocations < 5
    assert invocations >= 2
    await check_done(world.runtime, work_id, 8)


@pytest.mark.soak
async def test_the_sweeper_sends_a_lost_delivery_again(world: World) -> None:
    work_id = await world.enqueue(steps=1, seconds=0.0)
    lost = await world.source.batch()
    assert len(lost["Records"]) == 1
    await world.source.delete(lost, {"batchItemFailures": []})
    later = {
        **world.environ,
        "ROOST_CLOCK_OFFSET_SECONDS": str(float(world.environ["ROOST_CLOCK_OFFSET_SECONDS"]) + 10),
    }
    async with container("lambda_sweeper", later) as sweeper:
        for swept in (1, 0):
            answer = await sweeper.invoke(schedule_event(), seconds=60)
            assert answer["reply"] == {"swept": swept, "expired": 0}
    async with container("lambda_worker", later) as function:
        assert await world.source.drive(function, seconds=60) == 1
    await check_done(world.runtime, work_id, 1)


@pytest.mark.soak
async def test_the_sweeper_deletes_what_has_expired_and_keeps_schedules(world: World) -> None:
    work_id = await world.enqueue(steps=1, seconds=0.0)
    async with container("lambda_worker", world.environ) as function:
        await world.source.drive(function, seconds=60)
    assert await world.is_done(work_id)
    environ = {
        **world.environ,
        "ROOST_RETENTION_SECONDS": "0.1",
        "ROOST_SCHEDULES__NIGHTLY__CRON": "0 3 * * *",
        "ROOST_SCHEDULES__NIGHTLY__ENGINE": "report",
    }
    await asyncio.sleep(0.2)
    async with container("lambda_sweeper", environ) as sweeper:
        answer = await sweeper.invoke(schedule_event(), seconds=60)
    assert answer["reply"]["expired"] == 1
    assert await world.runtime.backend.journal.tail(work_id) is None
    [view] = await list_schedules(world.runtime.client)
    assert (view.name, view.rule.engine) == ("nightly", "report"), "no worker that is a process keeps it"
    await remove(world.runtime.client, "nightly", "seen")
