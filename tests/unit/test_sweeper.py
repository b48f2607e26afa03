"""The sweeper deletes work whose retention time is over; and no work that is damaged is in its way."""

from __future__ import annotations

import logging

import pytest

from roost.clock import SystemIds
from roost.core.client import Client
from roost.core.parts import CoreSettings, Parts
from roost.core.sweeper import EXPIRE_SECONDS, PAGE_ROWS, Sweeper
from roost.errors import RoostError, SchemaTooNew, StorageCorrupt, WorkNotFound
from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Cancelled
from roost.journal.projection import project
from roost.models import Lane
from roost.storage.memory import MemoryBackend
from roost.testing.clock import ManualClock
from roost.testing.contract.harness import append_all, first, follow

RETENTION_SECONDS = 1000.0


def parts_with(retention_seconds: float | None) -> tuple[Parts, ManualClock]:
    clock = ManualClock()
    settings = CoreSettings(retention_seconds=retention_seconds)
    return Parts(MemoryBackend(clock), clock, SystemIds(), settings), clock


async def end(parts: Parts, work_id: str) -> None:
    begun = first(work_id, at=parts.clock.now())
    ended = follow(begun, Cancelled("enough"), at=parts.clock.now())
    await append_all(parts.backend, [begun, ended])
    await parts.backend.index.put(project(ended))


async def test_work_goes_when_its_time_is_over(caplog: pytest.LogCaptureFixture) -> None:
    parts, clock = parts_with(RETENTION_SECONDS)
    sweeper, client = Sweeper(parts, "sweeper"), Client(parts)
    await end(parts, "w")
    assert await sweeper.expire() == 0
    clock.advance(RETENTION_SECONDS + 1)
    with caplog.at_level(logging.INFO, "roost.sweeper"):
        assert await sweeper.expire() == 1
    assert "1 work items expired" in caplog.text
    with pytest.raises(WorkNotFound):
        await client.status("w")


async def test_it_looks_now_and_then_only() -> None:
    parts, clock = parts_with(RETENTION_SECONDS)
    sweeper = Sweeper(parts, "sweeper")
    await end(parts, "w")
    clock.advance(RETENTION_SECONDS - EXPIRE_SECONDS / 4)
    assert await sweeper.expire() == 0
    clock.advance(EXPIRE_SECONDS / 3)
    assert await sweeper.expire() == 0  # its time is over, but the next look has not come
    clock.advance(EXPIRE_SECONDS * 1.5)
    assert await sweeper.expire() == 1


async def test_one_look_goes_through_all_pages() -> None:
    parts, clock = parts_with(RETENTION_SECONDS)
    for number in range(2 * PAGE_ROWS + 3):
        await end(parts, f"w{number}")
    clock.advance(RETENTION_SECONDS + 1)
    assert await Sweeper(parts, "sweeper").expire() == 2 * PAGE_ROWS + 3


async def test_without_a_retention_time_all_is_kept() -> None:
    parts, clock = parts_with(None)
    await end(parts, "w")
    clock.advance(1e9)
    assert await Sweeper(parts, "sweeper").expire() == 0
    assert await parts.backend.journal.tail("w") is not None


@pytest.mark.parametrize("error", [StorageCorrupt("damaged"), SchemaTooNew("format 9"), RoostError("a bug")])
async def test_work_that_can_not_be_read_does_not_hide_the_others(
    error: RoostError, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, clock = parts_with(None)
    client, tail = Client(parts), parts.backend.journal.tail
    for work_id in ("a", "b"):
        await client.enqueue("demo", work_id=work_id)
    await parts.backend.queue.receive(2, visibility_seconds=1e6, wait_seconds=0, lanes=list(Lane))

    async def damaged(work_id: str) -> Entry | None:
        if work_id == "a":
            raise error
        return await tail(work_id)

    monkeypatch.setattr(parts.backend.journal, "tail", damaged)
    clock.advance(60.0)
    sweeper = Sweeper(parts, "sweeper")
    assert await sweeper.sweep() == 2
    [sent] = await parts.backend.queue.receive(2, visibility_seconds=30, wait_seconds=0, lanes=list(Lane))
    assert sent.work_id == "b"
    clock.advance(60.0)
    is_left = isinstance(error, SchemaTooNew)  # to newer sweepers, who may be late for it
    assert await sweeper.sweep() == 1 + is_left  # it is looked at again, but not at each sweep


async def test_a_page_of_rows_that_can_not_be_helped_does_not_hide_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts, clock = parts_with(None)
    client, take_due = Client(parts), parts.backend.index.take_due
    for number in range(PAGE_ROWS):
        await client.enqueue("demo", work_id=f"stuck-{number}")
    clock.advance(1.0)
    await client.enqueue("demo", work_id="behind")
    receive = parts.backend.queue.receive
    while await receive(PAGE_ROWS, visibility_seconds=1e6, wait_seconds=0, lanes=list(Lane)):
        pass

    async def take(row: IndexRow, due_at: float | None) -> bool:
        return not row.work_id.startswith("stuck") and await take_due(row, due_at)

    monkeypatch.setattr(parts.backend.index, "take_due", take)
    clock.advance(60.0)
    await Sweeper(parts, "sweeper").sweep()
    sent = await receive(9, visibility_seconds=30, wait_seconds=0, lanes=list(Lane))
    assert [delivery.work_id for delivery in sent] == ["behind"]
