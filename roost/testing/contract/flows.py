"""The core on a backend: conversations, keys with a time, triggers, schedules, engine versions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from roost.core import schedules
from roost.core.client import Client
from roost.core.conversations import conversation_id
from roost.core.outside import carry_out
from roost.core.triggers import triggered_id
from roost.engine import EngineRegistry
from roost.engines.schedule import ScheduleEngine
from roost.errors import ConversationBusy
from roost.journal.events import Kind
from roost.models import Snapshot, State, WorkItem
from roost.names import IfBusy
from roost.rules import Schedule, Trigger
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract
from roost.testing.contract.process import Hasty, Process, Scripted, counts_to, finishes

_RIVALS = 8


def _pauses(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    return snapshot.next(data={"n": snapshot.data.get("n", 0) + 1}, delay=500.0)


def _hasty(process: Process) -> Client:
    """A client that does not pause after a race that it lost."""
    return Client(replace(process.parts, clock=Hasty(process.parts.clock)))


class _Versioned(Scripted):
    def __init__(self, version: str) -> None:
        super().__init__(_pauses)
        self.engine_version = version


class FlowsContract(Contract):
    """What starts work, and what work goes on from."""

    async def test_work_of_a_conversation_runs_one_after_the_other(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(2)))
        ids = [await process.client.enqueue("demo", {"n": n}, conversation="c") for n in range(3)]
        await process.work()
        assert [await process.state(work_id) for work_id in ids] == [State.DONE] * 3
        ended = [(await process.tail(work_id)).at for work_id in ids]
        for work_id, before in zip(ids[1:], ended, strict=False):
            claimed = [entry for entry in await process.entries(work_id) if entry.event.kind is Kind.CLAIMED]
            assert claimed[0].at >= before
        line = await backend.journal.tail(conversation_id("", "c"))
        assert line is not None
        assert (line.control.state, line.control.line) == (State.DONE, ())

    async def test_of_many_that_reject_at_once_on_several_instances_one_is_taken(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        others = [backend, await harness.reopen()]
        clients = [_hasty(Process(harness, one, Scripted(_pauses))) for one in others]
        came = await asyncio.gather(
            *(
                clients[number % 2].enqueue("demo", conversation="c", if_busy=IfBusy.REJECT)
                for number in range(_RIVALS)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(one, str) for one in came) == 1
        assert sum(isinstance(one, ConversationBusy) for one in came) == _RIVALS - 1

    async def test_fork_cancels_what_runs_and_goes_on_from_its_snapshot(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(_pauses))
        first = await process.client.enqueue("demo", conversation="c")
        await process.work()
        second = await process.client.enqueue("demo", conversation="c", if_busy=IfBusy.FORK)
        await process.work()
        assert await process.state(first) is State.CANCELLED
        view = await process.client.status(second)
        assert view.item.forked_from == (first, 1)
        assert view.snapshot is not None
        assert view.snapshot.data == {"n": 2}

    async def test_key_for_a_stated_time_gives_one_work_item_to_all(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        options: dict[str, Any] = {"idempotency_key": "k", "idempotency_seconds": 600.0}
        both = backend, await harness.reopen()
        clients = [_hasty(Process(harness, one, Scripted(finishes))) for one in both]
        ids = await asyncio.gather(*(clients[n % 2].enqueue("demo", **options) for n in range(_RIVALS)))
        assert len(set(ids)) == 1
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=601.0).client
        assert await later.enqueue("demo", **options) != ids[0]

    async def test_end_that_meets_a_trigger_makes_work_of_it(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(2)))
        rule = Trigger(engine="demo", enqueue="other", payload={"n": "snapshot.data.n"})
        process.parts = replace(process.parts, settings=replace(process.parts.settings, triggers={"t": rule}))
        work_id = await process.client.enqueue("demo")
        await process.work()
        made = triggered_id(work_id, (await process.tail(work_id)).position, "t")
        item = (await process.client.status(made)).item
        assert (item.engine, item.payload, item.triggered_by) == ("other", {"n": 2}, (work_id, "t"))
        row = await backend.index.get(work_id)
        assert row is not None
        assert (row.state, row.due_at) == (State.DONE, None)

    async def test_a_trigger_that_comes_to_nothing_is_noted_in_the_history_once(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(2)))
        bad = Trigger(engine="demo", enqueue="other", payload={"n": "length(snapshot.data.n)"})
        good = Trigger(engine="demo", enqueue="other", payload={})
        triggers = {"bad": bad, "good": good}
        process.parts = replace(process.parts, settings=replace(process.parts.settings, triggers=triggers))
        work_id = await process.client.enqueue("demo")
        await process.work()
        end = next(e for e in await process.entries(work_id) if e.control.state is State.DONE)
        await carry_out(process.parts, end)
        await harness.settle()
        await Process(harness, backend, Scripted(finishes), ahead_seconds=600.0).sweeper.sweep()
        notes = [e for e in await process.entries(work_id) if e.event.kind is Kind.NOTED]
        assert len(notes) == 1
        row = await backend.index.get(work_id)
        assert row is not None
        assert (row.state, row.due_at) == (State.DONE, None)
        assert "trigger bad makes nothing of it" in row.reason
        assert "trigger bad" in (await process.client.explain(work_id)).text
        made = triggered_id(work_id, end.position, "good")
        assert (await process.client.status(made)).item.triggered_by == (work_id, "good")

    async def test_schedule_enqueues_the_ticks_that_have_come(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        rule = Schedule(cron="0 * * * *", engine="demo", payload={"n": 1}, missed="all")  # type: ignore[arg-type]  # as in settings
        early = Process(harness, backend, Scripted(finishes))
        early.engines = EngineRegistry([Scripted(finishes), ScheduleEngine(early.parts.clock)])
        client = _hasty(early)
        await asyncio.gather(*(schedules.keep(client, {"s": rule}) for _ in range(3)))
        await early.work()
        late = Process(harness, backend, Scripted(finishes), ahead_seconds=3 * 3600.0)
        late.engines = EngineRegistry([Scripted(finishes), ScheduleEngine(late.parts.clock)])
        await harness.settle()
        await late.sweeper.sweep()
        await late.work()
        [view] = await schedules.list_schedules(late.client)
        assert view.count == 3
        kinds = await late.kinds("schedule:s")
        assert kinds.count("committed") == 2

    async def test_work_of_a_version_that_is_not_here_waits_and_its_row_says_so(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        new, old = (Process(harness, backend, _Versioned(version)) for version in ("2", "1"))
        work_id = await new.client.enqueue("demo")
        await new.work()
        position = (await new.tail(work_id)).position
        other = Process(harness, backend, _Versioned("1"), ahead_seconds=600.0)
        await harness.settle()
        await other.sweeper.sweep()
        assert await other.work() >= 1
        row = await backend.index.get(work_id)
        assert row is not None
        assert "engine demo 2" in row.reason
        assert (await old.tail(work_id)).position == position
