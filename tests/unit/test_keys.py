"""Idempotency keys that stand for a stated time: races, the end of the time, and deaths midway."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from roost.core.client import Client
from roost.core.keys import key_id
from roost.errors import EnqueueConflict, InputError
from roost.models import State
from roost.storage.instrument import InstrumentedBackend
from roost.storage.memory import MemoryBackend
from roost.testing.contract import ManualHarness
from roost.testing.contract.process import Hasty, Process, Scripted, finishes

HOUR = {"idempotency_key": "order-17", "idempotency_seconds": 3600.0}


class Harness(ManualHarness):
    async def open(self) -> MemoryBackend:
        return MemoryBackend(self.clock)

    async def reopen(self) -> MemoryBackend:
        raise NotImplementedError

    async def damage(self, digest: str) -> None:
        raise NotImplementedError


class Died(Exception):
    """The program ended in the middle of a call."""


@pytest.fixture
async def process() -> Process:
    harness = Harness()
    made = Process(harness, MemoryBackend(harness.clock), Scripted(finishes))
    made.parts = replace(made.parts, clock=Hasty(harness.clock))
    made.client = Client(made.parts)
    made.harness = harness  # type: ignore[attr-defined]
    return made


async def test_key_stands_for_its_work_for_the_stated_time_and_then_for_new_work(process: Process) -> None:
    harness: Any = process.harness  # type: ignore[attr-defined]
    first = await process.client.enqueue("demo", {"n": 1}, **HOUR)
    await process.work()
    await harness.advance(3599.0)
    assert await process.client.enqueue("demo", {"n": 1}, **HOUR) == first
    await harness.advance(2.0)
    second = await process.client.enqueue("demo", {"n": 2}, **HOUR)
    assert second != first
    assert await process.client.enqueue("demo", {"n": 2}, **HOUR) == second
    await process.work()
    assert await process.state(second) is State.DONE


async def test_same_key_with_another_payload_is_an_error_that_names_the_work(process: Process) -> None:
    first = await process.client.enqueue("demo", {"n": 1}, **HOUR)
    with pytest.raises(EnqueueConflict, match=r"order-17.*another payload") as caught:
        await process.client.enqueue("demo", {"n": 2}, **HOUR)
    assert caught.value.work_id == first


async def test_keys_of_engines_and_namespaces_are_apart(process: Process) -> None:
    other = Client(process.parts, namespace="team")
    ids = {
        await process.client.enqueue("demo", **HOUR),
        await process.client.enqueue("other", **HOUR),
        await other.enqueue("demo", **HOUR),
    }
    assert len(ids) == 3


async def test_of_many_at_once_all_get_the_same_work(process: Process) -> None:
    ids = await asyncio.gather(*(process.client.enqueue("demo", **HOUR) for _ in range(0, 20, 2)))
    assert len(set(ids)) == 1
    assert await process.work() == 1


async def test_at_the_end_of_the_time_many_at_once_get_the_same_new_work(process: Process) -> None:
    harness: Any = process.harness  # type: ignore[attr-defined]
    first = await process.client.enqueue("demo", **HOUR)
    await harness.advance(3601.0)
    ids = await asyncio.gather(*(process.client.enqueue("demo", **HOUR) for _ in range(0, 20, 2)))
    assert len({first, *ids}) == 2


@pytest.mark.parametrize("dies_after", range(0, 20, 2))
async def test_client_that_dies_midway_leaves_one_work_at_most(process: Process, dies_after: int) -> None:
    harness: Any = process.harness  # type: ignore[attr-defined]
    seen = 0

    async def hook(when: str, call: str, detail: str) -> None:
        nonlocal seen
        seen += 1
        if seen > dies_after:
            raise Died

    dying = Client(replace(process.parts, backend=InstrumentedBackend(process.backend, hook)))
    with suppress(Died):
        await dying.enqueue("demo", **HOUR)
    work_id = await process.client.enqueue("demo", **HOUR)
    for _ in range(4):
        await process.work()
        await harness.advance(10.0)
        await process.sweeper.sweep()
    assert await process.state(work_id) is State.DONE
    rows = (await process.client.list(_everything())).rows
    assert [row.work_id for row in rows] == [work_id]


async def test_key_is_kept_as_long_as_it_stands_and_then_expires(process: Process) -> None:
    now = process.parts.clock.now()
    await process.client.enqueue("demo", **HOUR)
    journal_id = key_id("", "demo", "order-17")
    assert journal_id not in await process.backend.journal.expire(now + 3600)
    assert journal_id in await process.backend.journal.expire(now + 3700)


@pytest.mark.parametrize(
    "options",
    [
        {"idempotency_seconds": 60.0},
        {"idempotency_key": "k", "idempotency_seconds": 0.0},
        {"idempotency_key": "k", "idempotency_seconds": float("nan")},
        {"idempotency_key": "k", "idempotency_seconds": 60.0, "conversation": "c"},
    ],
)
async def test_options_that_make_no_sense_are_refused(process: Process, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        await process.client.enqueue("demo", **options)


def _everything() -> Any:
    from roost.storage.query import IndexQuery

    return IndexQuery()
