"""What each role's code does in life, in every way that there is: what `test_roles` has it do."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from roost.core import operating, outside, schedules
from roost.core.bulk import Action
from roost.core.client import Client, NewWork
from roost.core.heartbeat import PROGRESS_SECONDS
from roost.core.operating import Operation, OperationEngine
from roost.core.parts import CoreSettings
from roost.core.sweeper import Sweeper
from roost.core.where import parse
from roost.core.worker import Worker
from roost.core.workspaces import HostWorkspaces
from roost.engine import EngineRegistry, current_step
from roost.engines.schedule import ScheduleEngine
from roost.errors import ConversationBusy, EnqueueConflict
from roost.journal.claims import Ask, Owner, Want
from roost.journal.events import Cancelled, Claimed, Released
from roost.journal.limits import SetCapacity
from roost.models import Child, Join, Lane, Snapshot, State, WaitFor, WorkItem
from roost.names import IfBusy, Order
from roost.rules import Schedule, Trigger
from roost.storage.aws.artifacts import MULTIPART_BYTES
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.limits import INLINE_MAX_BYTES
from roost.storage.ports import DeadLetter, Message
from roost.storage.query import IndexQuery
from roost.testing.contract.harness import first, follow
from roost.testing.contract.process import Scripted
from roost.wiring import Runtime

DEADLINE_SECONDS = 90.0
TRIGGERS = {
    "t": Trigger(
        engine="demo",
        on=(State.DONE, State.CANCELLED),
        enqueue="other",
        payload={"text": "snapshot.data.noise || item.payload.text"},
    )
}
SCHEDULES = {
    "s": Schedule(cron="0 0 1 1 *", engine="demo"),
    "often": Schedule(cron="* * * * *", engine="demo", payload={"does": "end"}),
}
CHANGED = {"s": Schedule(cron="0 0 2 1 *", engine="demo")}
TICK_SECONDS = 60.0  # of the schedule above
_numbers = count(1)


def noise(length: int) -> str:
    """A text that can't be compressed much."""
    return base64.b64encode(random.Random(length).randbytes(length)).decode()[:length]


LARGE = {"text": noise(4 * INLINE_MAX_BYTES)}

# --- enqueuer ----------------------------------------------------------------


async def enqueue(runtime: Runtime) -> None:
    """A program that enqueues, in every way that there is."""
    client = runtime.client
    await client.enqueue("demo", {"count": 1})
    for _ in range(2):
        await client.enqueue("demo", LARGE, idempotency_key="k", priority=1, delay_seconds=5.0)
    with pytest.raises(EnqueueConflict):
        await client.enqueue("demo", {"count": 2}, idempotency_key="k", priority=1)
    with pytest.raises(EnqueueConflict):
        await client.check_not_taken(NewWork("demo", {"count": 2}, idempotency_key="k", priority=1))
    await client.check_not_taken(NewWork("demo", {}, idempotency_key="free"))
    await client.enqueue_many([NewWork("demo", {"n": n}, priority=-1) for n in range(30)])
    for _ in range(2):
        await client.enqueue("demo", LARGE, idempotency_key="k", idempotency_seconds=60.0)


async def converse(runtime: Runtime, conversation: str) -> None:
    """Enqueue in a conversation, of which work runs, with a snapshot that is a blob."""
    client = runtime.client
    with pytest.raises(ConversationBusy):
        await client.enqueue("demo", {}, conversation=conversation, if_busy=IfBusy.REJECT)
    await client.enqueue("demo", LARGE, conversation=conversation)
    await client.enqueue("demo", {}, conversation=conversation, if_busy=IfBusy.FORK)
    await client.enqueue("demo", {}, conversation=conversation, if_busy=IfBusy.INTERRUPT)


# --- worker ------------------------------------------------------------------


async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    """Everything that an engine can do, by `does` in the payload."""
    context, does = current_step(), item.payload.get("does", "work")
    if does == "family" and not snapshot.version:
        children = [Child(engine="demo", payload={"does": "end"}, key=f"c{n}") for n in range(12)]
        children[0] = Child(engine="demo", payload={"does": "end", **LARGE}, key="large")
        return snapshot.next(spawn=children, wait_for=WaitFor(children=Join()))
    if does == "ask" and not snapshot.version:
        return snapshot.next(wait_for=WaitFor(signals=("approve",), timeout_seconds=1.0))
    if does == "work" and snapshot.data.get("n", 0) < 3:
        return await _work(snapshot, item)
    if does == "close":
        await context.close_key("api", 0.5)
    return snapshot.finish(data={"noise": LARGE["text"]})


async def _work(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    context, n = current_step(), snapshot.data.get("n", 0) + 1
    if n == 1:
        await asyncio.sleep(1.5 * PROGRESS_SECONDS)  # so that a heartbeat goes through
    await context.once("key", lambda: n)
    await context.artifacts.put("small", f"{item.work_id} {n}")
    if item.payload.get("is_large") and n == 1:
        await context.artifacts.put("large", noise(MULTIPART_BYTES + 1))
    other = os.urandom(len(LARGE["text"]) // 2).hex()  # so that no snapshot needs an earlier one
    return snapshot.next(data={"n": n, "noise": other}, delay=0.1 * (n == 2))


async def _edit(host: HostWorkspaces, snapshot: Snapshot, item: WorkItem) -> Snapshot:
    """Write into a workspace; then find it kept, though it is gone from this host."""
    context = current_step()
    if not snapshot.version:
        (await context.workspace() / "notes").write_text("done", encoding="utf-8")
        return snapshot.next()
    await host.workspaces.remove(item.work_id)
    assert (await context.workspace() / "notes").read_text(encoding="utf-8") == "done"
    return snapshot.finish()


def worker_of(runtime: Runtime) -> Worker:
    """A worker with triggers, that sweeps, expires and prunes often, and sees ticks when they are made."""

    async def on_this_host(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        host = runtime.parts.workspaces
        if host is not None and item.payload.get("does") == "edit":
            return await _edit(host, snapshot, item)
        return await step(snapshot, item)

    settings = replace(
        runtime.parts.settings,
        sweep_seconds=0.3,
        retention_seconds=0.5,
        keep_versions=1,
        wait_seconds=1.0,
        triggers=TRIGGERS,
    )
    parts = replace(runtime.parts, settings=settings)
    ticking = ScheduleEngine(_Later(runtime.parts.clock, TICK_SECONDS))
    engines = EngineRegistry([Scripted(on_this_host), OperationEngine(parts), ticking])
    return Worker(parts, engines, f"w{next(_numbers)}")


async def work(runtime: Runtime, until: Callable[[], Awaitable[bool]]) -> None:
    """What a worker's process does, until something is true."""
    for kept in (SCHEDULES, CHANGED):
        await schedules.keep(runtime.client, kept)
    async with working(worker_of(runtime)) as running, asyncio.timeout(DEADLINE_SECONDS):
        while not await until():
            assert not running.done()
            await asyncio.sleep(0.1)


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that runs, and drains at the end."""
    running = asyncio.create_task(worker.run())
    try:
        yield running
    finally:
        worker.drain()
        await running


async def ticks(client: Client) -> int:
    """For how many ticks schedules have enqueued work."""
    return sum(view.count for view in await schedules.list_schedules(client))


async def lose(runtime: Runtime) -> None:
    """Many appends at once whose positions are taken, as those of holders that lost their leases."""
    begun = [first(f"lost-{n}") for n in range(20)]
    await runtime.backend.journal.append_many(begun)
    for by in ("winner", "loser"):
        theirs = [follow(entry, Cancelled("enough"), by=by) for entry in begun]
        standing = await runtime.backend.journal.append_many(theirs)
        assert all(entry.actor == "winner" for entry in standing)


async def prepare_work(runtime: Runtime) -> None:
    """Work of every kind for workers, some that none of them has an engine for, and a foreign delivery."""
    client = runtime.client
    for n in range(12):
        resources = ("printer",) if n < 4 else ()
        await client.enqueue("demo", {"is_large": n == 0}, resources=resources)
    for does in ("family", "ask", "close", "edit"):
        await client.enqueue("demo", {"does": does}, resources=("api",) if does == "close" else ())
    for _ in range(3):
        await client.enqueue("demo", {"does": "end"}, conversation="talk", if_busy=IfBusy.QUEUE)
    await client.enqueue("demo", {"does": "end"}, family_budget={"steps": 99})
    await client.enqueue("other", {})
    await runtime.backend.queue.send([Message("unknown", 0)])
    late = await client.enqueue("demo", {}, delay_seconds=1000.0)
    await client.cancel(late, "enough")
    for action in (Action.PAUSE, Action.RESUME, Action.CANCEL, Action.RETRY, Action.PURGE):
        await _prepare_operation(runtime, action)


async def _prepare_operation(runtime: Runtime, action: Action) -> None:
    """An operation on work to which it can be done."""
    client, at = runtime.client, runtime.parts.clock.now()
    target = await client.enqueue("other", {}, labels={"action": action}, work_id=f"target-{action}")
    if action is Action.RESUME:
        await client.pause(target, "wait")
    if action in (Action.RETRY, Action.PURGE):
        await client.cancel(target, "enough")
    await operating.start(client, Operation(action=action, where=f"id:target-{action}", reason="all", at=at))


async def both_work(runtime: Runtime, until: Callable[[], Awaitable[bool]]) -> None:
    """Two workers of one process."""
    await asyncio.gather(work(runtime, until), work(runtime, until))
    await lose(runtime)


# --- sweeper -----------------------------------------------------------------


async def prepare_sweep(runtime: Runtime) -> str:
    """What somebody left undone: lost deliveries, claims of the dead, deadlines, half-done outboxes.

    Returns:
        The id of the work whose delivery is lost.
    """
    client, backend = runtime.client, runtime.backend
    lost = await client.enqueue("demo", {})
    await _lose_deliveries(runtime)
    at, claims = runtime.parts.clock.now(), backend.claims
    for work_id in ("late", "next"):
        deadline_at = at + 1.0 if work_id == "late" else None
        await client.enqueue("demo", work_id=work_id, delay_seconds=1000.0, deadline_at=deadline_at)
    owners = [Owner(work_id, 1) for work_id in ("holder", "late", "next")]
    for owner in owners:  # the first has the printer, the others wait for it
        await claims.acquire(Ask(owner, (Want("printer"),)), now=at, overtake_before=0.0)
    assert [call.work_id for call in await claims.release(owners[0], now=at)] == ["late"]
    await _die_in_an_end(runtime)
    await _die_before_a_charge(runtime)
    return lost


async def _die_before_a_charge(runtime: Runtime) -> None:
    """Give a lease up as who dies before what the attempt has spent is charged."""
    at = runtime.parts.clock.now()
    spent = first("spent", at=at, account="spent", family_budget=(("usd", 9.0),))
    entries = [spent, follow(spent, Claimed("dead", at), at=at)]
    entries.append(follow(entries[-1], Released("gone", spent=(("usd", 1.0),)), at=at))
    for entry in entries:
        await runtime.backend.journal.append(entry, with_row=True)


async def _die_in_an_end(runtime: Runtime) -> None:
    """End work as who dies before what follows from it: a trigger, over a payload that is a blob."""
    work_id = await runtime.client.enqueue("demo", LARGE, delay_seconds=1000.0)
    parts = replace(runtime.parts, settings=replace(runtime.parts.settings, triggers=TRIGGERS))
    tail = await parts.backend.journal.tail(work_id)
    assert tail is not None
    await parts.backend.journal.append(
        outside.follow(parts, tail, Cancelled("enough"), actor="dead"), with_row=True
    )


async def _lose_deliveries(runtime: Runtime) -> None:
    queue = runtime.backend.queue
    for delivery in await queue.receive(10, visibility_seconds=60, wait_seconds=5, lanes=list(Lane)):
        await queue.acknowledge([delivery])


async def sweep(runtime: Runtime) -> None:
    """What the sweeper does at three instants, each later than all that is due by then."""
    settings = replace(CoreSettings(), retention_seconds=0.1, triggers=TRIGGERS)
    for kept in (SCHEDULES, CHANGED):  # as the sweeper function does, beside which no worker may be
        await schedules.keep(runtime.client, kept)
    for later_seconds in (20.0, 40.0, 60.0):
        clock = _Later(runtime.parts.clock, later_seconds)
        sweeper = Sweeper(replace(runtime.parts, clock=clock, settings=settings), "sweeper")
        await sweeper.sweep()
        await sweeper.expire()


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


async def look(runtime: Runtime, work_id: str, namespace: str = "") -> None:
    """What the console and the command line show; the feed and all resources, if not of a namespace alone."""
    client, backend = runtime.client, runtime.backend
    assert isinstance(backend, AwsBackend)
    view = await client.status(work_id)
    await client.control(work_id)
    await client.control_after(work_id, 0)
    await client.list(IndexQuery())
    await client.find(parse("engine:demo -state:failed", 0.0))
    await client.list(IndexQuery(state=State.DONE, engine="demo"))
    await backend.index.counts(namespace)
    await client.history(work_id)
    await client.snapshot(work_id, 1)
    async for _ in client.events(work_id):
        break
    if not namespace:
        await client.engines_seen()
        await client.backlog()
        page = await client.feed(None, newest=True)
        await client.feed(page.cursor)
        await client.resources()
        await client.engines_seen()
        await client.find(parse("", 0.0).sorted(Order.DUE))
    await client.resource("printer")
    await client.control_after(work_id, 0)
    await client.paused()
    await client.explain(work_id)
    await client.resource("printer")
    await client.switches()
    await client.paused()
    await client.backlog()
    await client.balances()
    await client.dead_letters()
    await client.signals(work_id)
    await client.approvals(work_id)
    await client.tree(work_id)
    await client.deeds()
    await client.balances(work_id)
    await client.balances()
    await schedules.list_schedules(client)
    await backend.queue.backlog()
    digest = view.artifacts[0].digest
    await backend.artifacts.size(digest)
    assert b"".join([chunk async for chunk in backend.artifacts.read(digest)])
    await backend.artifacts.read_range(digest, 0, 1)
    await backend.artifacts.link(digest, seconds=60)


async def act(runtime: Runtime, work_id: str, ended: str, letters: Sequence[DeadLetter]) -> None:
    """What operators do, and programs that signal."""
    client = runtime.client
    await client.retry(work_id, "again", version=1)
    await client.pause(work_id, "wait")
    for _ in range(2):
        await client.signal(work_id, "approve", {"note": LARGE["text"]}, signal_id="s")
    await client.resume(work_id, "go on")
    await client.set_budget(work_id, {"steps": 100}, "enough for today")
    forked = await client.fork(work_id, 1, "another way")
    await _act_on_resources(client, work_id)
    await _act_on_all(client, forked)
    for number, letter in enumerate(letters):
        await client.end_dead_letters([letter], is_sent_again=number == 0)
    await client.cancel(forked, "enough")
    await client.cancel(work_id, "enough")
    await client.purge(ended)
    assert await client.deeds()
    root = await client.enqueue("demo", family_budget={"steps": 9})
    await client.set_family_budget(root, {"steps": 10}, "one more")
    assert await client.balances(root)


async def prepare_move(runtime: Runtime) -> None:
    """A namespace with work that has ended and work that has not, blobs, claims, limits, lines and rules."""
    client = runtime.client
    work_id = await prepare_done(runtime)
    await prepare_claims(runtime, work_id)
    await prepare_running(runtime, "talk")
    await client.enqueue("demo", LARGE, idempotency_key="k", idempotency_seconds=60.0)
    await client.enqueue("demo", LARGE, resources=("plotter",), family_budget={"steps": 9})
    await client.change_resource("plotter", SetCapacity(2))
    await schedules.keep(client, SCHEDULES)


async def prepare_claims(runtime: Runtime, work_id: str) -> None:
    """A resource that work holds, and other work waits for."""
    claims, at = runtime.backend.claims, runtime.parts.clock.now()
    holder = (await runtime.client.status(work_id)).item.work_id
    for owner in (holder, f"{holder}-2"):
        await claims.acquire(Ask(Owner(owner, 1), (Want("scanner"),)), now=at, overtake_before=0.0)


async def _act_on_resources(client: Client, work_id: str) -> None:
    await client.change_resource("plotter", SetCapacity(2))
    await client.evict("scanner", work_id)
    await client.change_resource("plotter", SetCapacity(None))


async def switch(client: Client) -> None:
    """What operators of all namespaces do: switches are for all."""
    await client.pause_engine("demo", "wait")
    await client.resume_engine("demo", "go on")
    await client.pause_lane(Lane.LOW, "wait")
    await client.resume_lane(Lane.LOW, "go on")
    await client.drain_worker("w", "a bad host")
    await client.keep_worker("w", "it was another")
    await client.set_daily_budget({"usd": 100}, "enough for a day")


async def _act_on_all(client: Client, work_id: str) -> None:
    """The same done to many, here and by workers, and schedules."""
    at = time.time()
    for action in Action:
        async for _ in client.bulk(action, parse(f"id:{work_id}", at), "all of them"):
            pass
        await client.bulk_ids(action, [work_id], "all of these")
    asked = await operating.start(client, Operation(action=Action.PAUSE, ids=(work_id,), at=at))
    await operating.look(client, asked)
    await operating.list_operations(client)
    await schedules.keep(client, SCHEDULES)
    await schedules.pause(client, "s", "wait")
    await schedules.resume(client, "s", "go on")


async def prepare_approval(runtime: Runtime) -> str:
    """The token of an approval that is asked for."""

    def asks(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.next(wait_for=current_step().ask("publish").wait())

    work_id = await runtime.client.enqueue("asking")
    worker = Worker(runtime.parts, EngineRegistry([Scripted(asks, "asking")]), f"w{next(_numbers)}")
    async with working(worker), asyncio.timeout(DEADLINE_SECONDS):
        while not (found := await runtime.client.approvals(work_id)):
            await asyncio.sleep(0.05)
    return found[0].token


async def prepare_places(runtime: Runtime, work_id: str) -> dict[str, str | int]:
    """What the addresses of the console's pages name."""
    operation = Operation(action=Action.PAUSE, ids=(work_id,), at=runtime.parts.clock.now())
    asked = await operating.start(runtime.client, operation)
    view = await runtime.client.status(work_id)
    return {
        "work_id": view.item.work_id,
        "operation": (await runtime.client.status(asked)).item.work_id,
        "digest": view.artifacts[0].digest,
        "place": 0,
        "version": 1,
        "token": await prepare_approval(runtime),
    }


async def prepare_done(runtime: Runtime) -> str:
    """The id of a work item that ended, with versions and artifacts; and dead letters."""
    work_id = await runtime.client.enqueue("demo", {}, resources=("printer",))
    await runtime.backend.queue.send([Message("unknown", 0), Message("unknown", 1)])
    worker = Worker(runtime.parts, EngineRegistry([Scripted(step)]), f"w{next(_numbers)}")
    async with working(worker), asyncio.timeout(DEADLINE_SECONDS):
        while (await runtime.client.control(work_id)).state is not State.DONE:
            await asyncio.sleep(0.1)
    return work_id


async def prepare_running(runtime: Runtime, conversation: str) -> str:
    """The id of work that sleeps in a conversation, with a snapshot that is a blob."""

    def sleeps(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.next(data={"noise": LARGE["text"]}, delay=1000.0)

    work_id = await runtime.client.enqueue("demo", conversation=conversation)
    worker = Worker(runtime.parts, EngineRegistry([Scripted(sleeps)]), f"w{next(_numbers)}")
    async with working(worker), asyncio.timeout(DEADLINE_SECONDS):
        while (await runtime.client.control(work_id)).state is not State.SCHEDULED:
            await asyncio.sleep(0.05)
    return work_id
