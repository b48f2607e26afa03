"""The roles of `roles.json` are given what their code calls: no action is missing, none is in vain.

Each role does here all that it does in life, on a stand-in; what the SDK's calls need is taken
note of and compared with what Terraform grants (it reads the same file).
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from roost.config import AwsSettings, Settings
from roost.core.client import NewWork
from roost.core.heartbeat import PROGRESS_SECONDS
from roost.core.parts import CoreSettings
from roost.core.sweeper import Sweeper
from roost.core.worker import Worker
from roost.engine import EngineRegistry, current_step
from roost.errors import EnqueueConflict
from roost.journal.claims import Ask, Owner, Want
from roost.journal.entries import Cancelled
from roost.journal.limits import SetCapacity
from roost.models import Lane, Snapshot, State, WorkItem
from roost.storage.aws.artifacts import MULTIPART_BYTES
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.limits import INLINE_MAX_BYTES
from roost.storage.aws.names import Names, roles
from roost.storage.ports import DeadLetter, IndexQuery, Message
from roost.testing.contract.harness import first, follow
from roost.testing.contract.process import Scripted
from roost.testing.standins import StandIn
from roost.wiring import Runtime, open_runtime
from tests.infra.actions import Recorder, Use, record
from tests.standins.harness import SHARDS, make_stack, point_sdk_at

pytestmark = pytest.mark.slow
LEASE_SECONDS = 4.0
DEADLINE_SECONDS = 60.0
_numbers = count(1)

Code = Callable[[Runtime], Awaitable[None]]


class World:
    """A stack, and a runtime on it that is nobody's role: it prepares and looks."""

    def __init__(self, settings: Settings, names: Names) -> None:
        self._settings = settings
        self._names = names

    @asynccontextmanager
    async def runtime(self) -> AsyncIterator[Runtime]:
        async with open_runtime(self._settings) as runtime:
            yield runtime

    async def uses(self, code: Code) -> set[Use]:
        """What some code needs."""
        recorder = Recorder(self._names)
        async with self.runtime() as runtime:
            assert isinstance(runtime.backend, AwsBackend)
            record(runtime.backend.aws.clients, recorder)
            await code(runtime)
        return recorder.used


@pytest.fixture
async def world(ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> World:
    point_sdk_at(ministack, monkeypatch)
    made = await make_stack(f"roles{next(_numbers)}")
    assert made.bucket is not None
    settings = Settings(
        storage=f"aws:{made.stack}",
        aws=AwsSettings(stack=made.stack, bucket=made.bucket, shards=SHARDS),
        lease_seconds=LEASE_SECONDS,
        testing=True,
        clock_offset_seconds=ministack.ahead_seconds,
    )
    monkeypatch.setattr("roost.storage.aws.expiry.DAYS_MAX", 4)
    monkeypatch.setattr("roost.core.sweeper.EXPIRE_SECONDS", 0.3)
    return World(settings, Names(made.stack, made.bucket, SHARDS))


def check(role: str, used: set[Use]) -> None:
    """Compare what a role uses with what it is given; a message says what to change."""
    given = {(part, action) for part, actions in roles()["roles"][role].items() for action in actions}
    unseen = {(part, action) for part, action in given if f"{action} on {part}" in roles()["unseen"]}
    lacking, in_vain = sorted(used - given), sorted(given - used - unseen)
    assert not lacking, f"{role} lacks {lacking}"
    assert not in_vain, f"{role} has in vain {in_vain}"


# --- enqueuer ----------------------------------------------------------------


async def enqueue(runtime: Runtime) -> None:
    """A program that enqueues, in every way that there is."""
    client, large = runtime.client, {"text": _noise(4 * INLINE_MAX_BYTES)}
    await client.enqueue("demo", {"count": 1})
    await client.enqueue("demo", large, idempotency_key="k", priority=1, delay_seconds=5.0)
    await client.enqueue("demo", large, idempotency_key="k", priority=1, delay_seconds=5.0)
    with pytest.raises(EnqueueConflict):
        await client.enqueue("demo", {"count": 2}, idempotency_key="k", priority=1)
    await client.enqueue_many([NewWork("demo", {"n": n}, priority=-1) for n in range(30)])


async def test_an_enqueuer_has_what_it_needs(world: World) -> None:
    check("enqueuer", await world.uses(enqueue))


# --- worker ------------------------------------------------------------------


async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    """Everything that an engine can do."""
    context = current_step()
    n = snapshot.data.get("n", 0) + 1
    if n == 1:
        await asyncio.sleep(1.5 * PROGRESS_SECONDS)  # so that a heartbeat goes through
    await context.once("key", lambda: n)
    await context.artifacts.put("small", f"{item.work_id} {n}")
    if item.payload.get("is_large") and n == 1:
        await context.artifacts.put("large", _noise(MULTIPART_BYTES + 1))
    data = {"n": n, "noise": _noise(4 * INLINE_MAX_BYTES)}
    return snapshot.finish(data=data) if n == 3 else snapshot.next(data=data, delay=0.1 * (n == 2))


def worker_of(runtime: Runtime) -> Worker:
    settings = replace(runtime.parts.settings, sweep_seconds=0.3, retention_seconds=0.5, wait_seconds=1.0)
    return Worker(
        replace(runtime.parts, settings=settings), EngineRegistry([Scripted(step)]), f"w{next(_numbers)}"
    )


async def work(runtime: Runtime, until: Callable[[], Awaitable[bool]]) -> None:
    worker = worker_of(runtime)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await until():
            assert not running.done()
            await asyncio.sleep(0.1)
    worker.drain()
    await running


async def lose(runtime: Runtime) -> None:
    """Many appends at once whose positions are taken, as those of holders that lost their leases."""
    begun = [first(f"lost-{n}") for n in range(20)]
    await runtime.backend.journal.append_many(begun)
    for by in ("winner", "loser"):
        theirs = [follow(entry, Cancelled("enough"), by=by) for entry in begun]
        standing = await runtime.backend.journal.append_many(theirs)
        assert all(entry.actor == "winner" for entry in standing)


@pytest.mark.soak
async def test_a_worker_has_what_it_needs(world: World) -> None:
    """Two that work and sweep: claims and lines for them, blobs, deliveries of no work, expiry."""
    async with world.runtime() as outside:
        for n in range(12):
            resources = ("printer",) if n < 4 else ()
            await outside.client.enqueue("demo", {"is_large": n == 0}, resources=resources)
        await outside.client.enqueue("other", {})  # no worker has this engine
        await outside.backend.queue.send([Message("unknown", 0)])
        late = await outside.client.enqueue("demo", {}, delay_seconds=1000.0)
        await outside.client.cancel(late, "enough")

        async def is_over() -> bool:
            counts = await outside.backend.index.counts()
            left = {state for state, number in counts.items() if number}
            return left <= {State.QUEUED} and counts.get(State.QUEUED) == 1  # all but `other` expired

        async def both(runtime: Runtime) -> None:
            await asyncio.gather(work(runtime, is_over), work(runtime, is_over))
            await lose(runtime)

        check("worker", await world.uses(both))


# --- sweeper -----------------------------------------------------------------


async def test_a_sweeper_has_what_it_needs(world: World) -> None:
    """Lost deliveries, cancelled sleepers, deadlines, and what has expired."""
    async with world.runtime() as outside:
        lost = await outside.client.enqueue("demo", {})
        for delivery in await outside.backend.queue.receive(
            10, visibility_seconds=60, wait_seconds=5, lanes=list(Lane)
        ):
            await outside.backend.queue.acknowledge([delivery])
        at, claims = outside.parts.clock.now(), outside.backend.claims
        for work_id in ("late", "next"):
            deadline_at = at + 1.0 if work_id == "late" else None
            await outside.client.enqueue(
                "demo", work_id=work_id, delay_seconds=1000.0, deadline_at=deadline_at
            )
        owners = [Owner(work_id, 1) for work_id in ("holder", "late", "next")]
        for owner in owners:  # the first has the printer, the others wait for it
            await claims.acquire(Ask(owner, (Want("printer"),)), now=at, overtake_before=0.0)
        assert [call.work_id for call in await claims.release(owners[0], now=at)] == ["late"]

        async def sweep(runtime: Runtime) -> None:
            settings = replace(CoreSettings(), retention_seconds=0.1)
            for later_seconds in (20.0, 40.0, 60.0):
                clock = _Later(runtime.parts.clock, later_seconds)
                sweeper = Sweeper(replace(runtime.parts, clock=clock, settings=settings), "sweeper")
                await sweeper.sweep()
                await sweeper.expire()

        check("sweeper", await world.uses(sweep))
        assert (await outside.client.status(lost)).control.state is State.QUEUED


class _Later:
    """A clock that is ahead."""

    def __init__(self, clock: Any, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    def now(self) -> float:
        return float(self._clock.now() + self._seconds)

    def monotonic(self) -> float:
        return float(self._clock.monotonic())

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


# --- console -----------------------------------------------------------------


async def look(runtime: Runtime, work_id: str) -> None:
    """What the console and the command line show."""
    client, backend = runtime.client, runtime.backend
    assert isinstance(backend, AwsBackend)
    view = await client.status(work_id)
    await client.list(IndexQuery())
    await client.list(IndexQuery(state=State.DONE, engine="demo"))
    await backend.index.counts()
    await client.history(work_id)
    await client.snapshot(work_id, 1)
    page = await client.feed(None, newest=True)
    await client.feed(page.cursor)
    await backend.claims.show()
    await backend.claims.show(resource="printer")
    await client.explain(work_id)
    await client.switches()
    await client.dead_letters()
    await backend.queue.backlog()
    await backend.index.due(runtime.parts.clock.now())
    digest = view.artifacts[0].digest
    await backend.artifacts.size(digest)
    assert b"".join([chunk async for chunk in backend.artifacts.read(digest)])
    await backend.artifacts.read_range(digest, 0, 1)
    await backend.artifacts.link(digest, seconds=60)


async def done_work(world: World) -> str:
    """The id of a work item that ended, with versions and artifacts."""
    async with world.runtime() as outside:
        work_id = await outside.client.enqueue("demo", {}, resources=("printer",))
        await outside.backend.queue.send([Message("unknown", 0), Message("unknown", 1)])

        async def is_done() -> bool:
            return (await outside.client.status(work_id)).control.state is State.DONE

        worker = Worker(outside.parts, EngineRegistry([Scripted(step)]), "w")
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await is_done():
                await asyncio.sleep(0.1)
        worker.drain()
        await running
    return work_id


async def test_a_console_that_only_looks_has_what_it_needs(world: World) -> None:
    work_id = await done_work(world)
    check("console_viewer", await world.uses(lambda runtime: look(runtime, work_id)))


async def act(runtime: Runtime, work_id: str, ended: str, letters: Sequence[DeadLetter]) -> None:
    """What operators do, and programs that signal."""
    client = runtime.client
    await client.retry(work_id, "again")
    await client.pause(work_id, "wait")
    await client.signal(work_id, "approve", {"note": _noise(4 * INLINE_MAX_BYTES)}, signal_id="s")
    await client.signal(work_id, "approve", {"note": _noise(4 * INLINE_MAX_BYTES)}, signal_id="s")
    await client.resume(work_id, "go on")
    await client.resources()
    await client.change_resource("plotter", SetCapacity(2))
    at, claims = runtime.parts.clock.now(), runtime.backend.claims
    for name in (work_id, "another"):
        ask = Ask(Owner(name, 1), (Want("scanner"),))
        await claims.acquire(ask, now=at, overtake_before=0.0)
    await client.evict("scanner", work_id)
    await client.change_resource("plotter", SetCapacity(None))
    await client.set_budget(work_id, {"steps": 100}, "enough for today")
    forked = await client.fork(work_id, 1, "another way")
    await client.pause_engine("demo", "wait")
    await client.resume_engine("demo", "go on")
    await client.pause_lane(Lane.LOW, "wait")
    await client.resume_lane(Lane.LOW, "go on")
    for number, letter in enumerate(letters):
        await client.end_dead_letter(letter, is_sent_again=number == 0)
    await client.cancel(forked, "enough")
    await client.cancel(work_id, "enough")
    await client.purge(ended)


@pytest.mark.soak
async def test_a_console_that_acts_has_what_it_needs(world: World) -> None:
    ended, work_id = await done_work(world), await done_work(world)

    async def operate(runtime: Runtime) -> None:
        letters = await runtime.client.dead_letters()
        assert letters
        await look(runtime, work_id)
        await act(runtime, work_id, ended, letters)
        await enqueue(runtime)

    check("console_operator", await world.uses(operate))


# --- the file ----------------------------------------------------------------


def test_a_reason_is_given_for_every_grant_that_no_call_shows() -> None:
    grants = {
        f"{action} on {part}"
        for parts in roles()["roles"].values()
        for part, actions in parts.items()
        for action in actions
    }
    for grant, reason in roles()["unseen"].items():
        assert grant in grants
        assert len(reason) > 20


def _noise(length: int) -> str:
    """A text that can't be compressed much."""
    return base64.b64encode(random.Random(length).randbytes(length)).decode()[:length]
