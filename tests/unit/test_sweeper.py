"""The sweeper deletes work whose retention time is over, now and then."""

from __future__ import annotations

import logging

import pytest

from roost.clock import SystemIds
from roost.core.client import Client
from roost.core.parts import CoreSettings, Parts
from roost.core.sweeper import EXPIRE_SECONDS, PAGE_ROWS, Sweeper
from roost.errors import WorkNotFound
from roost.journal.events import Cancelled
from roost.journal.projection import project
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
