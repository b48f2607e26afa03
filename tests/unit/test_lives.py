"""Work that was deleted, and new work with its id: neither sees anything of the other.

On the backends that see in each write whose it is; Amazon's pays for every look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from roost.clock import SystemClock, SystemIds
from roost.core import bodies, children, claims, ends, outside
from roost.core.parts import CoreSettings, Parts
from roost.engine import current_step
from roost.journal.claims import Acquired, Ask, Owner, Refused, Want
from roost.journal.entries import Entry
from roost.journal.events import Cancelled, Claimed, Committed, Signaled
from roost.journal.projection import project
from roost.journal.values import Parent
from roost.models import Child, Join, Snapshot, State, WaitFor, WorkItem
from roost.names import Scope
from roost.rules import Trigger
from roost.storage.ports import Backend
from roost.testing.contract.harness import AT, BackendHarness, append_all, first, follow
from roost.testing.contract.process import Process, Scripted, finishes
from tests.contract.test_local import LocalHarness
from tests.contract.test_memory import MemoryHarness


@pytest.fixture(params=["memory", "local"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BackendHarness]:
    made = LocalHarness(tmp_path) if request.param == "local" else MemoryHarness()
    yield made
    await made.close()


@pytest.fixture
async def backend(harness: BackendHarness) -> Backend:
    return await harness.open()


def _life(*, at: float, by: str = "worker") -> list[Entry]:
    """Enqueued, claimed, and committed twice; the lease is held."""
    entries = [first("w", at=at, by=by)]
    entries.append(follow(entries[-1], Claimed(by, at + 99), by=by))
    for version in (1, 2):
        entries.append(follow(entries[-1], Committed(version, "s", lease_until=at + 99), by=by))
    return entries


async def _live_again(backend: Backend, before: list[Entry], *, count: int) -> list[Entry]:
    """Delete work that has ended since, and enqueue its id anew; gives entries of the new life."""
    ended = follow(before[-1], Cancelled("enough"))
    await append_all(backend, [ended, first("newest")])
    await backend.index.put(structs.replace(project(ended), due_at=None))
    assert await backend.journal.purge("w", ended.position)
    after = _life(at=AT + 500, by="other")
    await append_all(backend, after[:count])
    return after


@pytest.mark.parametrize("count", [1, 2, 3, 4])
async def test_who_slept_through_a_deletion_appends_nothing_to_new_work_of_that_id(
    backend: Backend, count: int
) -> None:
    """Invariant 3, whatever position is free there: it would be the next, and a commit by nobody."""
    before = _life(at=AT)
    await append_all(backend, before)
    after = await _live_again(backend, before, count=count)
    for entry in (*before[1:], follow(before[-1], Cancelled("late"))):
        assert await backend.journal.append(entry) == after[count - 1]
        assert await backend.journal.append_many([entry]) == [after[count - 1]]
    assert await backend.journal.read("w") == after[:count]


async def test_together_with_others_a_stale_entry_alone_is_left_out(backend: Backend) -> None:
    before = _life(at=AT)
    await append_all(backend, before)
    after = await _live_again(backend, before, count=2)
    others = [first(f"o{number}") for number in range(5)]
    await append_all(backend, others)
    claims_of = [follow(one, Claimed("worker", AT + 99)) for one in others]
    stale = before[2]
    came = await asyncio.gather(*map(backend.journal.append, [*claims_of, stale]))
    assert came == [*claims_of, after[1]]
    assert await backend.journal.append(after[2]) == after[2]


async def test_a_row_is_not_written_for_deleted_work_nor_over_that_of_new_work(backend: Backend) -> None:
    """It would be listed for ever, and new work be taken for ended: not looked at, and deleted."""
    before = _life(at=AT)
    await append_all(backend, before)
    ended = project(follow(before[-1], Cancelled("enough")))
    after = await _live_again(backend, before, count=2)
    row = await backend.index.get("w")
    assert not await backend.index.put(structs.replace(ended, due_at=None))
    assert await backend.index.get("w") == row
    end = follow(after[1], Cancelled("enough"))
    await append_all(backend, [end, first("newer")])
    await backend.index.put(structs.replace(project(end), due_at=None))
    assert await backend.journal.purge("w", end.position)
    assert not await backend.index.put(structs.replace(ended, due_at=None))
    assert await backend.index.get("w") is None
    [new] = await backend.journal.append_many([first("w", at=AT + 900)])
    assert await backend.index.get("w") == project(new)


async def test_what_deleted_work_holds_and_waits_for_goes_with_it(backend: Backend) -> None:
    """Its holder died before he gave it up; new work of that id would be taken for the owner."""
    before = _life(at=AT)
    await append_all(backend, before)
    for work_id, name in (("w", "db"), ("x", "gpu")):
        ask = Ask(Owner(work_id, 1, Scope.WORK), (Want(name, 1),), 1)
        assert isinstance(await backend.claims.acquire(ask, now=AT, overtake_before=AT), Acquired)
    waits = Ask(Owner("w", 1), (Want("gpu", 1),), 1)
    assert isinstance(await backend.claims.acquire(waits, now=AT, overtake_before=AT), Refused)
    await _live_again(backend, before, count=2)
    views = await backend.claims.show()
    assert [(view.resource, [o.work_id for o in view.owners], list(view.waiters)) for view in views] == [
        ("gpu", ["x"], [])
    ]


@pytest.mark.parametrize("leaves", [True, False])
async def test_who_gives_up_what_deleted_work_held_leaves_alone_what_new_work_holds(
    backend: Backend, leaves: bool
) -> None:
    """Its worker is slow between the end and that; the new work's token is a lower number."""
    before = _life(at=AT)
    await append_all(backend, before)
    after = await _live_again(backend, before, count=2)
    ask = Ask(Owner("w", 1), (Want("db", 1),), 1)
    assert isinstance(await backend.claims.acquire(ask, now=AT, overtake_before=AT), Acquired)
    give_up = backend.claims.leave if leaves else backend.claims.release
    assert not await give_up(Owner("w", 4, created_at=AT), now=AT)
    assert [view.owners for view in await backend.claims.show()] == [[ask.owner]]
    await give_up(Owner("w", 4, created_at=after[0].control.created_at), now=AT)
    assert not await backend.claims.show()


async def test_a_claim_under_a_token_that_is_none_is_nobodys(
    backend: Backend, harness: BackendHarness
) -> None:
    """Who froze between claim and acquire takes it for deleted work: it must not block others for a life."""
    before = _life(at=AT)
    await append_all(backend, before)
    after = await _live_again(backend, before, count=4)
    ghost = Ask(Owner("w", 2, Scope.WORK), (Want("db", 1),), 2)
    assert isinstance(await backend.claims.acquire(ghost, now=AT, overtake_before=AT), Acquired)
    assert after[2].event.kind == "committed"  # position 2 is no claim there
    process = Process(harness, backend, Scripted(finishes))
    ask = Ask(Owner("x", 1), (Want("db", 1),), 1)
    assert isinstance(await claims.acquire(process.parts, ask), Acquired)


async def test_a_zombie_of_deleted_work_loses_its_lease_whatever_it_meets(
    backend: Backend, harness: BackendHarness
) -> None:
    """The new holder's token is the same number; a signal there would be taken in by its own holder."""
    entered, may_go_on = asyncio.Event(), asyncio.Event()

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if item.payload.get("zombie"):
            entered.set()
            await may_go_on.wait()
        return snapshot.finish(data={"by": item.payload})

    zombie = Process(harness, backend, Scripted(step), "zombie")
    work_id = await zombie.client.enqueue("demo", {"zombie": True}, work_id="w")
    begun = await zombie.begin(entered)
    tail = await zombie.tail(work_id)
    ended = follow(tail, Cancelled("enough"), by="operator")
    await append_all(backend, [ended, first("newest")])
    await backend.index.put(structs.replace(project(ended), due_at=None))
    assert await backend.journal.purge(work_id, ended.position)
    await harness.advance(1)
    await zombie.client.enqueue("demo", {"n": 2}, work_id="w")
    claimed = follow(await zombie.tail("w"), Claimed("other", AT + 999), by="other")
    await append_all(backend, [claimed, follow(claimed, Signaled("s", "go"))])
    may_go_on.set()
    await begun  # says that its lease was lost, and nothing else
    assert await zombie.kinds("w") == ["enqueued", "claimed", "signaled"]


async def _run_family(process: Process, parent: str) -> list[object]:
    await process.client.enqueue("demo", {"round": parent}, work_id="parent")
    await process.work()
    view = await process.client.status("parent")
    assert view.control.state is State.DONE, view.control
    return list(view.snapshot.data["came"]) if view.snapshot else []


@pytest.mark.parametrize("is_detached", [False, True])
async def test_new_work_of_an_id_has_children_of_its_own(
    backend: Backend, harness: BackendHarness, is_detached: bool
) -> None:
    """A child of the deleted parent, long done, would be waited for for ever, or never be started."""
    runs: list[object] = []

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if item.work_id != "parent":
            runs.append(item.payload["of"])
            return snapshot.finish(result=item.payload["of"])
        if snapshot.version == 0:
            child = Child(engine="demo", payload={"of": item.payload["round"]}, is_detached=is_detached)
            wait = None if is_detached else WaitFor(children=Join())
            return snapshot.next(spawn=[child], wait_for=wait)
        return snapshot.finish(data={"came": [child.result for child in current_step().children]})

    process = Process(harness, backend, Scripted(step))
    for name in ("first", "second"):
        came = await _run_family(process, name)
        assert came == ([] if is_detached else [name])
        await process.client.enqueue("demo", {"of": "newest"})
        await process.work()
        await process.client.purge("parent")
        await harness.advance(1)
    assert [one for one in runs if one != "newest"] == ["first", "second"]


async def test_a_child_of_deleted_work_tells_its_end_to_no_new_work(
    backend: Backend, harness: BackendHarness
) -> None:
    """Else the first child of the new parent counts as ended before it began."""

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if item.work_id.startswith("parent."):
            return snapshot.next(wait_for="go") if snapshot.version == 0 else snapshot.finish()
        return snapshot.finish().model_copy(update={"spawn": [Child(engine="demo")]})

    process = Process(harness, backend, Scripted(step))
    await process.client.enqueue("demo", work_id="parent")
    await process.work()
    child = "parent.1-0"
    assert await process.state(child) is State.WAITING
    await process.client.enqueue("demo", work_id="newest", delay_seconds=99)
    await process.client.purge("parent")
    await harness.advance(1)
    await process.client.enqueue("demo", work_id="parent", delay_seconds=99)
    await process.client.signal(child, "go")
    await process.work()
    assert await process.state(child) is State.DONE
    assert await process.kinds("parent") == ["enqueued"]


async def test_a_child_that_is_in_the_way_and_goes_on_is_told_as_failed(
    backend: Backend, harness: BackendHarness
) -> None:
    """It is not the new parent's; to wait for it would be to wait for ever."""
    met: list[str] = []

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if item.work_id.startswith("parent."):
            return snapshot.next(wait_for="go")
        if snapshot.version == 0:
            return snapshot.next(
                spawn=[Child(engine="demo")], wait_for=WaitFor(signals=["go"], children=Join())
            )
        met.extend(child.error for child in current_step().children)
        return snapshot.finish()

    process = Process(harness, backend, Scripted(step))
    for _ in range(2):
        await process.client.enqueue("demo", work_id="parent")
        await process.work()
        if await process.state("parent") is not State.DONE:
            await process.client.signal("parent", "go")
            await process.work()
        await process.client.enqueue("demo", work_id=f"newest-{len(met)}", delay_seconds=99)
        await process.client.purge("parent")
        await harness.advance(1)
    assert [error.partition(":")[0] for error in met] == ["EnqueueConflict"]


async def test_a_trigger_fires_for_new_work_of_an_id_too(backend: Backend, harness: BackendHarness) -> None:
    rule = Trigger.model_validate({"on": ["done"], "engine": "demo", "enqueue": "demo", "payload": {}})
    settings = CoreSettings(lease_seconds=4.0, wait_seconds=10.0, triggers={"next": rule})
    runs: list[str] = []

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        runs.append(item.work_id)
        return snapshot.finish()

    process = Process(harness, backend, Scripted(step), settings=settings)
    for _ in range(2):
        await process.client.enqueue("demo", work_id="w")
        [delivery] = await process.receive(1)
        await process.session(delivery).run()
        process.parts = Process(harness, backend, Scripted(step)).parts  # what it made triggers nothing
        await process.work()
        process.parts = Process(harness, backend, Scripted(step), settings=settings).parts
        await process.client.enqueue("demo", work_id=f"newest-{len(runs)}", delay_seconds=99)
        await process.client.purge("w")
        await harness.advance(1)
    assert len(runs) == 4, runs
    assert runs[:2] == runs[2:]


async def test_a_child_that_ended_and_was_deleted_is_not_started_again(
    backend: Backend, harness: BackendHarness
) -> None:
    """Its parent's holder died before it could say that it had started it; the next does it once more."""
    runs: list[str] = []

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        runs.append(item.work_id)
        if item.work_id == "parent" and snapshot.version == 0:
            return snapshot.next(spawn=[Child(engine="demo")])
        return snapshot.finish()

    process = Process(harness, backend, Scripted(step))
    await process.client.enqueue("demo", work_id="parent")
    first_claim = follow(await process.tail("parent"), Claimed("worker", AT + 1))
    await append_all(backend, [first_claim])
    snapshot = Snapshot.of(await _item(process), data={}).next("s", spawn=[Child(engine="demo")])
    dumped = bodies.dump_snapshot(snapshot, created_at=AT, now=AT)
    event = Committed(1, "s", lease_until=AT + 1, spawned=1, has_spawned=True)
    body = await bodies.store(backend, dumped.raw)
    spawned = follow(first_claim, event, body=body)
    await append_all(backend, [spawned])
    await outside.carry_out(process.parts, spawned)  # and then it dies
    [delivery] = [one for one in await process.receive() if one.work_id != "parent"]
    await process.session(delivery).run()
    await process.client.enqueue("demo", work_id="newest", delay_seconds=99)
    await process.client.purge("parent.1-0")
    await harness.advance(9)
    await process.work()
    assert await process.state("parent") is State.DONE
    assert runs == ["parent.1-0", "parent"]
    assert await backend.journal.tail("parent.1-0") is None


async def _item(process: Process) -> WorkItem:
    return (await process.client.status("parent")).item


async def test_a_detached_child_that_finds_another_in_its_way_is_noted(
    backend: Backend, harness: BackendHarness
) -> None:
    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if item.work_id != "parent":
            return snapshot.next(wait_for="never")
        return snapshot.finish().model_copy(update={"spawn": [Child(engine="demo", is_detached=True)]})

    process = Process(harness, backend, Scripted(step))
    for number in range(2):
        await process.client.enqueue("demo", work_id="parent")
        await process.work()
        await process.client.enqueue("demo", work_id=f"newest-{number}", delay_seconds=99)
        if number == 0:
            await process.client.purge("parent")
            await harness.advance(1)
    note = (await process.tail("parent")).control.note
    assert note == "can't be spawned: parent.1d0; other work has that id"


async def test_who_settles_late_settles_nothing_of_new_work(backend: Backend) -> None:
    """Else what the new work owes is taken for done: its children were never started."""
    parts = Parts(backend, SystemClock(), SystemIds(), CoreSettings())
    before = first("w", account="w", family_budget=(("usd", 9.0),))
    before = [before, follow(before, Claimed("worker", AT + 99))]
    before.append(follow(before[-1], Committed(1, "s", is_finished=True, spent=(("usd", 1.0),))))
    assert before[-1].control.outbox
    anew = first("w", at=AT + 50, account="w", family_budget=(("usd", 9.0),))
    after = [anew, follow(anew, Claimed("other", AT + 99))]
    after.append(follow(after[-1], Committed(1, "s", is_finished=True, spent=(("usd", 1.0),))))
    await append_all(backend, after)
    assert outside._settled(after[-1], before[-1]) is None
    await outside.after(parts, before[-1])
    assert await backend.journal.tail("w") == after[-1]
    row = await backend.index.get("w")
    assert row is None or row.due_at is not None or row.position < 2


async def test_who_makes_room_second_leaves_alone_what_came_since(backend: Backend) -> None:
    """Two workers do what a parent owes; the new child of the first may have ended by then, too."""
    parts = Parts(backend, SystemClock(), SystemIds(), CoreSettings())
    before = [first("w"), follow(first("w"), Cancelled("enough"))]
    await append_all(backend, [*before, first("newest")])
    await backend.index.put(structs.replace(project(before[-1]), due_at=None))
    assert await ends.make_room(parts, before[0])
    anew = first("w", at=AT + 50)
    since = [anew, follow(anew, Cancelled("enough"))]
    await append_all(backend, [*since, first("newer")])
    assert await ends.make_room(parts, before[0])
    assert await backend.journal.read("w") == since


def test_a_child_of_an_older_roost_is_the_same_child() -> None:
    """It does not say when its parent was enqueued."""
    ours = first("p.1-0", parent=Parent("p", 0, "", AT))
    assert children._is_the_same_child(ours, first("p.1-0", parent=Parent("p", 0)))
    assert not children._is_the_same_child(ours, first("p.1-0", parent=Parent("p", 0, "", AT + 1)))
