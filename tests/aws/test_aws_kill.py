"""Real worker processes on the AWS backend, killed with signal 9, frozen, and told to stop."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from roost.config import AwsSettings, Settings
from roost.core.new_work import NewWork
from roost.journal.events import Kind
from roost.models import State
from roost.storage.ports import Message
from roost.testing.standins import StandIn
from roost.wiring import Runtime, open_runtime
from tests.crash.fleet import Fleet, check_done, journal, overlaps, until
from tests.standins.harness import SHARDS, make_stack, point_sdk_at

pytestmark = [pytest.mark.crash, pytest.mark.slow]
_numbers = count(1)


@asynccontextmanager
async def on_aws(ministack: StandIn, folder: Path, **environ: str) -> AsyncIterator[tuple[Fleet, Runtime]]:
    """Workers to come and a client, on a stack of their own."""
    made = await make_stack(f"kill{next(_numbers)}")
    assert made.bucket is not None
    offset = ministack.ahead_seconds
    surroundings = {
        **ministack.environ,
        "ROOST_STORAGE": f"aws:{made.stack}",
        "ROOST_AWS__BUCKET": made.bucket,
        "ROOST_AWS__SHARDS": str(SHARDS),
        "ROOST_TESTING": "1",
        "ROOST_CLOCK_OFFSET_SECONDS": str(offset),
        "ROOST_LEASE_SECONDS": "6",  # on a machine with much to do, a beat may be seconds late
        **environ,
    }
    settings = Settings(
        storage=f"aws:{made.stack}",
        aws=AwsSettings(stack=made.stack, bucket=made.bucket, shards=SHARDS),
        testing=True,
        clock_offset_seconds=offset,
    )
    with Fleet(folder, **surroundings) as fleet:
        async with open_runtime(settings) as runtime:
            yield fleet, runtime


WORKERS, ITEMS, LEAST_KILLS = 8, 40, 5


def work(
    fleet: Fleet, *, steps: int, seconds: float, resources: tuple[str, ...] = (), **more: object
) -> NewWork:
    payload = {"path": str(fleet.ledger), "steps": steps, "seconds": seconds, "delay": 0, **more}
    return NewWork("ledger", payload, resources=resources)


async def is_done(runtime: Runtime, work_ids: list[str]) -> bool:
    """Whether all are; asks no further than the first that is not."""
    for work_id in work_ids:
        state = (await runtime.client.control(work_id)).state
        assert state is not State.FAILED
        if state is not State.DONE:
            return False
    return True


@pytest.mark.soak
async def test_items_survive_workers_that_are_killed_and_deliveries_that_come_twice(
    ministack: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Kills of workers that have begun a step; ten interruptions of one step would end its work.

    The last step of each waits for its share of the kills, so that a quick machine is not done before.
    """
    point_sdk_at(ministack, monkeypatch)
    rng = random.Random(7)
    async with on_aws(ministack, tmp_path) as (fleet, runtime):
        works = [
            work(
                fleet,
                steps=6,
                seconds=rng.uniform(0.02, 0.1),
                resources=(f"r{n % 3}",) if n % 4 == 0 else (),
                gate=str(fleet.gate(f"kill-{n * LEAST_KILLS // ITEMS + 1}")),
                gated=5,
            )
            for n in range(ITEMS)
        ]
        ids = list(await runtime.client.enqueue_many(works))
        await runtime.backend.queue.send([Message(work_id, 0) for work_id in ids])  # each once more
        for _ in range(WORKERS):
            fleet.start()
        left, kills, end = set(ids), 0, time.monotonic() + 240
        while left:
            assert time.monotonic() < end, left
            await runtime.parts.clock.sleep(rng.uniform(0.5, 1.0))
            left -= {work_id for work_id in left if await is_done(runtime, [work_id])}
            busy = {line["pid"] for line in fleet.records()} - fleet.killed_at.keys()
            if busy and kills < 2 * LEAST_KILLS:  # who has just started is let live: some start slowly
                fleet.kill(rng.choice(sorted(busy)))
                fleet.start()
                kills += 1
                fleet.gate(f"kill-{kills}").touch()
        assert kills >= LEAST_KILLS
        for work_id in ids:
            await check_done(runtime, work_id, 6)
        assert overlaps(fleet.records(), fleet.killed_at) == []
        assert not any("Traceback" in fleet.log(pid) for pid in fleet.pids)


@pytest.mark.soak
async def test_a_frozen_worker_has_its_commit_refused(
    ministack: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_sdk_at(ministack, monkeypatch)
    async with on_aws(ministack, tmp_path) as (fleet, runtime):
        frozen = fleet.start()
        held = work(fleet, steps=2, seconds=0.0, gate=str(fleet.gate()))
        (work_id,) = await runtime.client.enqueue_many([held])
        await until(lambda: any(line["what"] == "begin" for line in fleet.records()), runtime)
        fleet.signal(frozen, signal.SIGSTOP)
        fleet.gate().touch()
        fleet.start()
        await until(lambda: is_done(runtime, [work_id]), runtime)
        fleet.signal(frozen, signal.SIGCONT)
        await until(lambda: "lease" in fleet.log(frozen) and "is lost" in fleet.log(frozen), runtime)
        await check_done(runtime, work_id, 2)


@pytest.mark.soak
async def test_a_worker_that_is_told_to_stop_hands_over_at_once(
    ministack: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The lease is a minute; nobody waits for its end."""
    point_sdk_at(ministack, monkeypatch)
    long = {"ROOST_LEASE_SECONDS": "60", "ROOST_WORKER__GRACE_SECONDS": "0.1"}
    async with on_aws(ministack, tmp_path, **long) as (fleet, runtime):
        first = fleet.start()
        held = work(fleet, steps=2, seconds=0.0, gate=str(fleet.gate()))
        (work_id,) = await runtime.client.enqueue_many([held])
        await until(lambda: any(line["what"] == "begin" for line in fleet.records()), runtime)
        fleet.start()
        fleet.signal(first, signal.SIGTERM)
        await until(lambda: not fleet.is_alive(first), runtime)
        fleet.gate().touch()
        await until(lambda: is_done(runtime, [work_id]), runtime, seconds=30)  # half the lease
        kinds = [entry.event.kind for entry in await journal(runtime, work_id)]
        assert kinds.count(Kind.CLAIMED) == 2
        assert Kind.ATTEMPT_FAILED not in kinds
        await check_done(runtime, work_id, 2)
