"""The core on a backend: what operators do is on record, each with who did it and why."""

from __future__ import annotations

from typing import Any

from roost.core import operating
from roost.core.bulk import Action
from roost.core.client import Client
from roost.core.operating import OperationEngine
from roost.engine import EngineRegistry, RetryPolicy
from roost.errors import FailWork
from roost.journal.events import Enqueued
from roost.journal.limits import Close, Open, Rate, SetCapacity, SetRate
from roost.models import Lane, Snapshot, State, WorkItem
from roost.names import Scope
from roost.storage.ports import Backend, Message
from roost.testing.contract.harness import BackendHarness, Contract
from roost.testing.contract.process import Process, Scripted, counts_to, finishes

ANN = "ann"
WHY = "the vendor asked for it"
LAST_GOOD = 2  # version


async def _last(process: Process, work_id: str) -> tuple[str, str, Any]:
    """The kind of the newest entry of a journal, who wrote it, and why."""
    entry = await process.tail(work_id)
    reason = entry.event.fork.reason if isinstance(entry.event, Enqueued) and entry.event.fork else None
    return entry.event.kind.value, entry.actor, getattr(entry.event, "reason", reason)


def _third_step_fails(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    if snapshot.data.get("n") == LAST_GOOD:
        raise FailWork("not yet")
    return snapshot.next(data={"n": snapshot.data.get("n", 0) + 1})


def _three_at_least(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    number = snapshot.data.get("n", 0) + 1
    return (snapshot.next if number <= LAST_GOOD else snapshot.finish)(data={"n": number})


class DeedsContract(Contract):
    """Who and why, of every act."""

    async def test_each_act_on_a_work_item_is_an_entry_with_who_and_why(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(_three_at_least))
        ann = Client(process.parts, actor=ANN)
        ended = await ann.enqueue("demo", family_budget={"steps": 100})
        await process.work()
        live = await ann.enqueue("demo", delay_seconds=900)
        await ann.pause(live, WHY, for_seconds=60)
        assert await _last(process, live) == ("paused", ANN, WHY)
        control = (await process.tail(live)).control
        assert (control.paused, control.paused_by) == (WHY, ANN)
        assert f"It is paused by {ANN} ({WHY}) and goes on in" in (await ann.explain(live)).text
        await ann.resume(live, WHY)
        assert await _last(process, live) == ("resumed", ANN, WHY)
        assert (await process.tail(live)).control.paused_by == ""
        await ann.set_budget(live, {"usd": 3}, WHY)
        assert await _last(process, live) == ("budget_set", ANN, WHY)
        await ann.set_family_budget(ended, {"steps": 200}, WHY)
        told = [e for e in await process.entries(ended) if e.event.kind == "budget_set"]
        assert [(entry.actor, getattr(entry.event, "reason", "")) for entry in told] == [(ANN, WHY)]
        await ann.cancel(live, WHY, by_seconds=5)
        assert await _last(process, live) == ("cancel_requested", ANN, WHY)
        forked = await ann.fork(ended, 1, WHY)
        assert await _last(process, forked) == ("enqueued", ANN, WHY)
        await ann.retry(ended, WHY)
        assert await _last(process, ended) == ("retried", ANN, WHY)
        await process.work()
        await ann.retry(ended, WHY, version=1)
        assert await _last(process, ended) == ("retried", ANN, WHY)

    async def test_what_no_history_of_work_tells_is_kept_with_who_and_why(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """In the list of deeds, and in the feed that is followed live; not in that of other namespaces."""
        process = Process(harness, backend, Scripted(counts_to(1)))
        ann = Client(process.parts, actor=ANN)
        gone = await ann.enqueue("demo")
        await process.work()
        held = await ann.enqueue("demo", resources=("db",), resource_scope=Scope.WORK, work_id="held")
        process.engines = EngineRegistry([Scripted(lambda snapshot, item: snapshot.next(wait_for="go"))])
        await process.work()
        await backend.queue.send([Message("nobody", 3)])
        await process.work()
        closed_until = harness.clock.now() + 60
        await ann.purge(gone, WHY)
        for change in (SetCapacity(2), SetRate(Rate(5, 60.0)), Close(closed_until, ANN), Open()):
            await ann.change_resource("db", change, WHY)
        await ann.evict("db", held, WHY)
        await ann.pause_engine("demo", WHY)
        [switch] = await ann.switches()
        assert (switch.by, switch.reason) == (ANN, WHY)
        await ann.resume_engine("demo", WHY)
        await ann.pause_lane(Lane.LOW, WHY)
        await ann.resume_lane(Lane.LOW, WHY)
        await ann.set_daily_budget({"usd": 9}, WHY)
        letters = await ann.dead_letters()
        await ann.end_dead_letters(letters, is_sent_again=True, reason=WHY)
        found = await ann.deeds()
        assert {(deed.actor, deed.reason) for deed in found} == {(ANN, WHY)}
        assert sorted((deed.what, deed.target) for deed in found) == sorted(
            [
                ("purge", gone),
                *[("limits", "db")] * 4,
                ("evict", "db"),
                ("pause", "engine demo"),
                ("resume", "engine demo"),
                ("pause", "lane:low"),
                ("resume", "lane:low"),
                ("daily budget", "the default namespace"),
                ("send again", "1 messages set aside"),
            ]
        )
        assert [deed.at for deed in found] == sorted((deed.at for deed in found), reverse=True)
        await harness.settle()
        feed = await ann.feed(None, limit=200, newest=True)
        live = [entry for entry in feed.entries if entry.event.kind == "operated"]
        assert sorted(getattr(entry.event, "what", "") for entry in live) == sorted(
            ["purge", *["limits"] * 4, "evict", "send again"]
        )
        assert {(entry.actor, getattr(entry.event, "reason", "")) for entry in live} == {(ANN, WHY)}
        other = Client(process.parts, actor=ANN, namespace="other")
        assert {deed.target for deed in await other.deeds()} == {"lane:low"}
        others = await other.feed(None, limit=200, newest=True)
        assert [entry for entry in others.entries if entry.event.kind == "operated"] == []

    async def test_many_are_retried_from_an_earlier_version_by_an_operation_that_is_named_in_each(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Those that have no such version are skipped, and it says so."""
        process = Process(harness, backend, Scripted(_third_step_fails, retry=RetryPolicy(max_attempts=1)))
        ids = [await process.client.enqueue("demo", {"n": n}) for n in range(3)]
        await process.work()
        short = await process.client.enqueue("demo")
        await process.client.cancel(short, "before it began")
        await process.work()
        await harness.settle()
        operation = operating.Operation(
            action=Action.RETRY, ids=(*ids, short), reason=WHY, actor=ANN, at=harness.clock.now(), version=1
        )
        work_id = await operating.start(process.client, operation)
        process.engines = EngineRegistry([OperationEngine(process.parts)])
        [delivery] = await process.receive()
        await process.session(delivery).run()
        view = await operating.look(process.client, work_id)
        assert (view.state, view.done, view.skipped) == (State.DONE, 3, 1)
        assert [(skipped, "no version 1" in why) for skipped, why in view.skips] == [(short, True)]
        for one in ids:
            kind, actor, why = await _last(process, one)
            assert (kind, actor, why) == ("retried", f"{ANN} by {work_id}", WHY)
        process.engines = EngineRegistry([Scripted(counts_to(2))])
        await process.work()
        view_of_one = await process.client.status(ids[0])
        assert view_of_one.snapshot is not None
        assert (view_of_one.control.version, view_of_one.snapshot.data) == (3, {"n": 2})

    async def test_many_are_purged_and_held_by_operations_that_say_who_and_why(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        done = [await process.client.enqueue("demo") for _ in range(2)]
        await process.work()
        live = [await process.client.enqueue("demo", delay_seconds=900) for _ in range(2)]
        await harness.settle()
        process.engines.add(OperationEngine(process.parts))
        now = harness.clock.now()
        asked: dict[str, Any] = {"reason": WHY, "actor": ANN, "at": now}
        purge = operating.Operation(action=Action.PURGE, where="state:done -engine:roost.operation", **asked)
        hold = operating.Operation(action=Action.PAUSE, where="state:scheduled", for_seconds=3600, **asked)
        purging = await operating.start(process.client, purge)
        holding = await operating.start(process.client, hold)
        await process.work()
        for work_id in done:
            assert await backend.journal.tail(work_id) is None
        [deed] = await process.client.deeds()
        assert (deed.actor, deed.what, deed.reason) == (f"{ANN} by {purging}", "purge", WHY)
        assert set(deed.details.split()) == set(done)
        for work_id in live:
            assert await _last(process, work_id) == ("paused", f"{ANN} by {holding}", WHY)
            assert ((await process.tail(work_id)).control.paused_until or 0.0) >= now + 3600
