"""Triggers: work that other work's end makes, once for each end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from roost.core import triggers
from roost.core.client import Client
from roost.core.triggers import triggered_id
from roost.engine import RetryPolicy
from roost.errors import FailWork
from roost.journal.events import Enqueued
from roost.models import Snapshot, State, WorkItem
from roost.rules import Trigger
from roost.storage.instrument import InstrumentedBackend
from roost.storage.memory import MemoryBackend
from roost.storage.query import IndexQuery
from roost.testing.contract import ManualHarness
from roost.testing.contract.process import Hasty, Process, Scripted

REPORT = Trigger(
    engine="demo",
    on=(State.DONE, State.FAILED, State.CANCELLED),
    enqueue="reporter",
    payload={"n": "snapshot.data.n", "topic": "item.payload.topic", "how": "state", "why": "error.type"},
    priority=1,
    resources=("printer",),
)


class Harness(ManualHarness):
    async def open(self) -> MemoryBackend:
        return MemoryBackend(self.clock)

    async def reopen(self) -> MemoryBackend:
        raise NotImplementedError

    async def damage(self, digest: str) -> None:
        raise NotImplementedError


class Died(Exception):
    """The process ended in the middle of a call."""


def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    if item.payload.get("fails"):
        raise FailWork("no")
    return snapshot.finish(data={"n": 5})


class World:
    """A memory backend, and processes with triggers of their own."""

    def __init__(self) -> None:
        self.harness = Harness()
        self.memory = MemoryBackend(self.harness.clock)

    def process(self, rules: dict[str, Trigger], hook: Any = None) -> Process:
        backend: Any = self.memory if hook is None else InstrumentedBackend(self.memory, hook)
        process = Process(self.harness, backend, Scripted(step, retry=RetryPolicy(max_attempts=1)))
        settings = replace(process.parts.settings, triggers=rules)
        process.parts = replace(process.parts, clock=Hasty(self.harness.clock), settings=settings)
        process.client = Client(process.parts)
        process.sweeper._parts = process.parts
        return process

    async def made(self, process: Process) -> list[WorkItem]:
        rows = (await process.client.list(IndexQuery(engine="reporter"))).rows
        return [(await process.client.status(row.work_id)).item for row in rows]


@pytest.fixture
def world() -> World:
    return World()


async def test_end_of_work_makes_other_work_with_its_payload(world: World) -> None:
    process = world.process({"report": REPORT})
    work_id = await process.client.enqueue("demo", {"topic": "owls"})
    await process.work()
    [item] = await world.made(process)
    assert item.payload == {"n": 5, "topic": "owls", "how": "done", "why": None}
    assert item.work_id == triggered_id(work_id, (await process.tail(work_id)).position, "report")
    assert (item.priority, item.resources, item.triggered_by) == (1, ("printer",), (work_id, "report"))


async def test_failed_and_cancelled_work_make_other_work_where_the_rule_says_so(world: World) -> None:
    process = world.process({"report": REPORT})
    await process.client.enqueue("demo", {"fails": True})
    await process.work()
    queued = await process.client.enqueue("demo")
    await process.client.cancel(queued, "enough")
    await process.work()
    found = sorted((item.payload["how"], item.payload["why"]) for item in await world.made(process))
    assert found == [("cancelled", None), ("failed", "FailWork")]


@pytest.mark.parametrize(
    "rule",
    [
        REPORT.model_copy(update={"engine": "other"}),
        REPORT.model_copy(update={"on": (State.FAILED,)}),
        REPORT.model_copy(update={"when": "snapshot.data.n > `9`"}),
        REPORT.model_copy(update={"when": "length(snapshot.data.n) > `9`"}),
    ],
)
async def test_rule_that_does_not_fit_makes_nothing(world: World, rule: Trigger) -> None:
    process = world.process({"report": rule})
    work_id = await process.client.enqueue("demo")
    await process.work()
    assert await process.state(work_id) is State.DONE
    assert await world.made(process) == []


async def test_without_a_rule_an_end_costs_nothing_more(world: World) -> None:
    calls: list[str] = []

    async def hook(when: str, call: str, detail: str) -> None:
        if when == "before":
            calls.append(call)

    plain, other = world.process({}), world.process({"r": REPORT.model_copy(update={"engine": "x"})}, hook)
    await plain.client.enqueue("demo")
    process = world.process({}, hook)
    await process.work()
    without = list(calls)
    calls.clear()
    await plain.client.enqueue("demo")
    await other.work()
    assert calls == without


async def test_work_that_ends_again_fires_again(world: World) -> None:
    process = world.process({"report": REPORT})
    work_id = await process.client.enqueue("demo")
    await process.work()
    await process.client.retry(work_id, "again")
    await process.work()
    assert len(await world.made(process)) == 2


@pytest.mark.parametrize("dies_after", range(40))
async def test_worker_that_dies_at_any_call_makes_the_work_once(world: World, dies_after: int) -> None:
    """Whoever goes on need not have the rule: it stands in the entry."""
    seen = 0

    async def hook(when: str, call: str, detail: str) -> None:
        nonlocal seen
        seen += 1
        if seen > dies_after:
            raise Died

    other = world.process({})
    work_id = await other.client.enqueue("demo")
    with suppress(Died):
        await world.process({"report": REPORT}, hook).work()
    for _ in range(6):
        await other.work()
        await world.harness.advance(40.0)
        await other.sweeper.sweep()
    tail = await other.tail(work_id)
    assert tail.control.state is State.DONE
    fired = getattr(tail.event, "fires", ())
    assert len(await world.made(other)) == len(fired)


async def test_triggers_that_go_round_in_a_circle_come_to_an_end(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(triggers, "DEPTH_MAX", 5)
    process = world.process({"again": Trigger(engine="demo", enqueue="demo")})
    await process.client.enqueue("demo")
    await process.work()
    rows = (await process.client.list(IndexQuery(engine="demo"))).rows
    assert len(rows) == 6
    assert "fires no more" in caplog.text


async def test_id_that_other_work_has_is_left_alone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    process = world.process({"report": REPORT})
    taken = await process.client.enqueue("else", work_id=triggered_id("w", 2, "report"))
    await process.client.enqueue("demo", work_id="w")
    await process.work()
    assert "other work has its id" in caplog.text
    first = await process.backend.journal.get(taken, 0)
    assert first is not None
    assert isinstance(first.event, Enqueued)
    assert first.event.engine == "else"


@pytest.mark.parametrize("work_id", ["w", "team/w", "x" * 128, "team/" + "x" * 128])
def test_ids_of_triggered_work_are_well_formed_and_stay_in_the_namespace(work_id: str) -> None:
    from roost.models import check_work_id, namespace_of

    made = triggered_id(work_id, 12345, "n" * 64)
    assert check_work_id(made) == made
    assert namespace_of(made) == namespace_of(work_id)
