"""What was read moves on, or is gone, before it is acted on or shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from roost.core import bundles, operating, schedules
from roost.core.bulk import Action
from roost.core.client import Client
from roost.core.operating import Operation
from roost.errors import ConflictError, WorkNotFound
from roost.journal.control import apply
from roost.journal.entries import Control
from roost.journal.events import Blocked, Cancelled, Claimed, Enqueued, Kind, Retried
from roost.journal.projection import shown_state
from roost.models import Scope, Snapshot, State, WorkItem
from roost.rules import Schedule
from tests.unit.test_bulk import World
from tests.virtual import in_virtual_time

Act = Callable[[], Awaitable[object]]


def after_first(patch: pytest.MonkeyPatch, port: object, call: str, act: Act, of: str | None = None) -> None:
    """Have something happen after the first call of a port (`of` a work item), before its caller goes on."""
    real, is_first = getattr(port, call), True

    async def then_act(*args: Any, **kwargs: Any) -> Any:
        nonlocal is_first
        came = await real(*args, **kwargs)
        if is_first and of in (None, *args):
            is_first = False
            await act()
        return came

    patch.setattr(port, call, then_act)


def ended_while_parked() -> Control:
    control = apply(None, Enqueued("demo", account="w"), position=0, at=0.0)
    for position, event in enumerate(
        (Claimed("w", 9.0), Blocked((), 60.0, over="budget used up"), Cancelled("enough")), start=1
    ):
        control = apply(control, event, position=position, at=float(position))
    return control


def test_work_that_ended_while_it_was_parked_is_queued_when_it_is_retried() -> None:
    """Not shown as parked by a budget that nobody has looked at since."""
    control = apply(ended_while_parked(), Retried("again"), position=4, at=4.0)
    assert (control.over, shown_state(control)) == ("", State.QUEUED)


@in_virtual_time
async def test_a_list_of_operations_leaves_out_what_was_purged_while_it_was_made() -> None:
    world = World()
    world.is_mended = True
    client = world.client
    works = []
    async with world.working():
        for _ in range(2):
            operation = Operation(action=Action.CANCEL, ids=("nobody",), at=0.0)
            works.append(await operating.start(client, operation))
        await asyncio.sleep(5.0)
    with pytest.MonkeyPatch.context() as patch:
        after_first(patch, world.parts.backend.index, "list", lambda: client.purge(works[0]))
        assert [view.work_id for view in await operating.list_operations(client)] == [works[1]]


@in_virtual_time
async def test_a_list_of_schedules_leaves_out_what_was_purged_while_it_was_made() -> None:
    world = World()
    client = world.client
    rule = Schedule(cron="0 0 1 1 *", engine="demo")
    await schedules.keep(client, {"yearly": rule, "other": rule})

    async def removed() -> None:
        await schedules.remove(client, "yearly", "no use")
        await asyncio.sleep(5.0)
        await client.purge("schedule:yearly")

    async with world.working():
        with pytest.MonkeyPatch.context() as patch:
            after_first(patch, world.parts.backend.index, "list", removed)
            assert [view.name for view in await schedules.list_schedules(client)] == ["other"]


@in_virtual_time
async def test_the_origin_of_a_fork_may_be_gone_by_then() -> None:
    world = World()
    async with world.working():
        work_id = await world.failed()
    with pytest.MonkeyPatch.context() as patch:
        after_first(patch, world.parts.backend.journal, "tail", lambda: world.client.purge(work_id))
        with pytest.raises(WorkNotFound):
            await world.client.fork(work_id, 1, "what if")


@in_virtual_time
async def test_quick_work_that_keeps_one_version_is_shown_as_it_is_by_then() -> None:
    """The snapshot that its tail named was dropped before it could be read; nothing is corrupt."""
    world = World()
    world.is_mended = True
    journal = world.parts.backend.journal
    async with world.working():
        work_id = await world.client.enqueue("demo", {"steps": 3})
        await asyncio.sleep(5.0)
    entries = await journal.read(work_id)
    old = next(entry for entry in entries if entry.control.version == 1)
    await journal.prune(work_id, [old.position])
    with pytest.MonkeyPatch.context() as patch:
        real, seen = journal.tail, []

        async def lags(asked: str) -> Any:
            seen.append(asked)
            return old if len(seen) == 1 else await real(asked)

        patch.setattr(journal, "tail", lags)
        view = await world.client.status(work_id)
    assert (view.control.version, view.snapshot is not None) == (3, True)


@in_virtual_time
async def test_budgets_of_a_family_that_two_set_at_once_both_count() -> None:
    world = World()
    one, two = (Client(world.parts, actor=name) for name in ("one", "two"))
    work_id = await world.client.enqueue("demo", family_budget={"steps": 5}, delay_seconds=900.0)
    with pytest.MonkeyPatch.context() as patch:
        after_first(
            patch,
            world.parts.backend.accounts,
            "show",
            lambda: two.set_family_budget(work_id, {"usd": 2.0}, "money"),
        )
        await one.set_family_budget(work_id, {"steps": 9.0}, "time")
    [balance] = await world.client.balances(work_id)
    assert dict(balance.allowed or ()) == {"steps": 9.0, "usd": 2.0}


@in_virtual_time
async def test_a_budget_of_a_family_counts_whose_author_died_before_it_was_set() -> None:
    world = World()
    work_id = await world.client.enqueue("demo", family_budget={"steps": 5}, delay_seconds=900.0)
    with pytest.MonkeyPatch.context() as patch:

        async def dies(*args: Any, **kwargs: Any) -> None:
            raise ConnectionError

        patch.setattr(world.parts.backend.accounts, "allow", dies)
        with pytest.raises(ConnectionError):
            await world.client.set_family_budget(work_id, {"usd": 2.0}, "money")
    await world.client.set_family_budget(work_id, {"steps": 9.0}, "time")
    [balance] = await world.client.balances(work_id)
    assert dict(balance.allowed or ()) == {"steps": 9.0, "usd": 2.0}


@in_virtual_time
async def test_a_bundle_without_a_blob_that_is_gone_can_be_opened(tmp_path: Path) -> None:
    world = World()
    work_id = await world.client.enqueue("demo", {"text": "x" * 100})
    with pytest.MonkeyPatch.context() as patch:
        digest = "0" * 64

        async def digests(*args: Any) -> set[str]:
            return {digest}

        patch.setattr(bundles, "_digests", digests)
        await bundles.save(world.client, world.parts.backend, [work_id], tmp_path / "a.roost")
    assert await bundles.load(World().parts.backend, tmp_path / "a.roost") == 1


@in_virtual_time
async def test_what_ends_in_the_midst_of_a_retry_is_told_as_it_is() -> None:
    world = World()
    async with world.working():
        work_id = await world.failed()
        with pytest.MonkeyPatch.context() as patch:
            after_first(
                patch, world.parts.backend.journal, "tail", lambda: world.client.retry(work_id, "quicker")
            )
            with pytest.raises(ConflictError, match="it can't be retried"):
                await world.client.retry(work_id, "again")
        await asyncio.sleep(5.0)


@in_virtual_time
async def test_who_is_evicted_between_two_leases_does_not_hold_on_under_the_next() -> None:
    """It held the resource for its life, and was asleep when the operator looked."""
    world = World()
    world.is_mended = True
    holds = asyncio.Event()

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.version:
            holds.set()
            await asyncio.sleep(60.0)
            return snapshot.finish()
        return snapshot.next(delay=10.0)

    world.step = step  # type: ignore[method-assign]
    work_id = await world.client.enqueue("demo", resources=("db",), resource_scope=Scope.WORK)
    async with world.working():
        await asyncio.sleep(5.0)
        with pytest.MonkeyPatch.context() as patch:
            after_first(patch, world.parts.backend.journal, "tail", holds.wait, of=work_id)
            await world.client.evict("db", work_id, "needed elsewhere")
        entries = await world.parts.backend.journal.read(work_id)
        assert entries[-1].event.kind is Kind.EVICTED
        await asyncio.sleep(120.0)
    assert await world.state(work_id) is State.DONE
