"""The core on a backend: forks, the same done to many, purges, pruned versions, dead letters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from roost.core import operating, versions
from roost.core.bulk import Action, Part
from roost.core.client import Client
from roost.core.operating import OperationEngine
from roost.core.where import parse
from roost.engine import EngineRegistry, RetryPolicy, current_step
from roost.errors import ConflictError, EnqueueConflict, FailWork, InputError, WorkNotFound
from roost.journal.entries import Entry
from roost.journal.events import Committed, Enqueued
from roost.journal.values import Fork
from roost.models import Lane, Snapshot, State, WorkItem
from roost.storage.codec import DELTA_DEPTH_MAX
from roost.storage.ports import Backend, Message
from roost.testing.contract.harness import BackendHarness, Contract
from roost.testing.contract.process import Process, Scripted, check_done, check_sound, counts_to, finishes

_TEXT = "".join(f"line {n}: {n * n % 97}; " for n in range(300))  # so that later versions are deltas


def _fails(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    raise FailWork(f"no use: {item.payload.get('why', 'none')}")


async def _all(process: Process, action: Action, where: str, **more: Any) -> list[Part]:
    chosen = parse(where, 0.0)
    return [part async for part in process.client.bulk(action, chosen, "in bulk", **more)]


class OperationsContract(Contract):
    """What operators do to histories and to many work items."""

    # --- forks ---------------------------------------------------------------

    async def test_a_fork_begins_from_a_version_and_leaves_its_origin_alone(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            number = snapshot.data.get("n", 0) + 1
            if number == 1:
                await current_step().artifacts.put("plan.md", "the plan")
            trail = [*snapshot.data.get("trail", []), item.payload["who"]]
            data = {"n": number, "trail": trail}
            return snapshot.finish(data=data) if number >= 4 else snapshot.next(data=data)

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo", {"who": "first"}, labels={"team": "x"}, priority=1)
        await process.work()
        before = await process.entries(work_id)
        changes = {"data.note.deep": [1], "payload.who": "second"}
        forked = await process.client.fork(work_id, 2, "try again", changes=changes, budget={"steps": 9})
        await process.work()
        view = await process.client.status(forked)
        check_done(view, version=2)
        assert view.snapshot is not None
        assert view.snapshot.data == {
            "n": 4,
            "trail": ["first", "first", "second", "second"],
            "note": {"deep": [1]},
        }
        assert [artifact.name for artifact in view.artifacts] == ["plan.md"]
        assert (view.item.forked_from, view.item.labels, view.item.priority) == (
            (work_id, 2),
            {"team": "x"},
            1,
        )
        first = (await process.entries(forked))[0]
        assert isinstance(first.event, Enqueued)
        assert first.event.fork == Fork(work_id, 2, "try again")
        assert await process.entries(work_id) == before
        check_sound(await process.entries(forked))
        # A fork of a fork, and the origin may go: the fork has all that it needs.
        again = await process.client.fork(forked, 1, "", changes={"data.n": 3}, work_id="mine")
        assert again == await process.client.fork(forked, 1, "", changes={"data.n": 3}, work_id="mine")
        await process.work()
        check_done(await process.client.status(again), version=1)
        with pytest.raises(EnqueueConflict):
            await process.client.fork(forked, 2, "", work_id="mine")

    async def test_a_fork_waits_for_what_its_version_waited_for(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if snapshot.version == 0 and "asked" not in snapshot.data:
                return snapshot.next(data={"asked": True}, wait_for="go")
            return snapshot.finish(data={"answer": current_step().signals[0].data})

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.client.signal(work_id, "go", "yes")
        await process.work()
        forked = await process.client.fork(work_id, 1, "what if not")
        await process.work()
        assert await process.state(forked) is State.WAITING
        await process.client.signal(forked, "go", "no")
        await process.work()
        view = await process.client.status(forked)
        assert view.snapshot is not None
        assert view.snapshot.data["answer"] == "no"

    @pytest.mark.parametrize("path", ["data", "step", "data..x", "data.n.x", "snapshot.data.x"])
    async def test_a_fork_refuses_changes_that_it_can_not_make(
        self, backend: Backend, harness: BackendHarness, path: str
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(1)))
        work_id = await process.client.enqueue("demo")
        await process.work()
        with pytest.raises(InputError):
            await process.client.fork(work_id, 1, "", changes={path: 1})
        with pytest.raises(InputError):
            await process.client.fork(work_id, 2, "")
        with pytest.raises(WorkNotFound):
            await process.client.fork("nobody", 1, "")

    # --- many ----------------------------------------------------------------

    async def test_failed_work_is_retried_by_filter_and_a_dry_run_changes_nothing(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(_fails, retry=RetryPolicy(max_attempts=1)))
        ids = [await process.client.enqueue("demo", {"why": "ab"[n % 2]}) for n in range(6)]
        await process.work()
        await harness.settle()
        chosen = 'reason:"*no use: a*"'
        dry = await _all(process, Action.RETRY, chosen, is_dry_run=True)
        assert [set(part.done) for part in dry] == [set(ids[::2])]
        assert {await process.state(work_id) for work_id in ids} == {State.FAILED}
        healed = Process(harness, backend, Scripted(finishes))
        parts = await _all(healed, Action.RETRY, chosen)
        assert [(set(part.done), part.skipped) for part in parts] == [(set(ids[::2]), [])]
        await healed.work()
        states = [await process.state(work_id) for work_id in ids]
        assert states == [State.DONE, State.FAILED] * 3
        assert "retried" in await process.kinds(ids[0])

    async def test_live_work_is_cancelled_by_filter_and_paused_work_resumed(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        ids = [
            await process.client.enqueue("demo", delay_seconds=900, labels={"team": "xy"[n % 2]})
            for n in range(4)
        ]
        await harness.settle()
        team_x = "label:team=x"
        [part] = await _all(process, Action.PAUSE, team_x)
        assert set(part.done) == {ids[0], ids[2]}
        await harness.settle()
        [part] = await _all(process, Action.RESUME, "")
        assert set(part.done) == {ids[0], ids[2]}
        await harness.settle()
        [part] = await _all(process, Action.CANCEL, team_x)
        await process.work()
        states = [await process.state(work_id) for work_id in ids]
        assert states == [State.CANCELLED, State.SCHEDULED] * 2

    async def test_an_operation_that_is_killed_goes_on_and_does_nothing_twice(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """In the midst of a page, some of it done: each is retried once, and the counts are true."""
        process = Process(harness, backend, Scripted(_fails, retry=RetryPolicy(max_attempts=1)))
        ids = [await process.client.enqueue("demo") for _ in range(4)]
        await process.work()
        await harness.settle()
        now = harness.clock.now()
        operation = operating.Operation(action=Action.RETRY, where="state:failed", at=now, actor="ann")
        work_id = await operating.start(process.client, operation, key="k")
        assert await operating.start(process.client, operation, key="k") == work_id
        killed = Process(harness, backend, Scripted(finishes), "killed")
        killed.parts = replace(killed.parts, settings=replace(killed.parts.settings, burst_steps=1))
        killed.engines = EngineRegistry([OperationEngine(process.parts)])
        [delivery] = await killed.receive()
        await killed.session(delivery).run()  # it has found its page
        before = Client(process.parts, actor=f"ann by {work_id}")
        await before.retry(ids[1], "done by the step that was killed")
        await process.work()  # fails again: to retry it once more would be wrong
        await harness.settle()
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=120.0)
        later.engines = EngineRegistry([OperationEngine(process.parts)])
        await later.sweeper.sweep()
        await later.work()
        view = await operating.look(process.client, work_id)
        assert (view.state, view.done, view.skipped) == (State.DONE, 4, 0)
        for one in ids:
            assert (await process.kinds(one)).count("retried") == 1

    # --- switches ------------------------------------------------------------

    async def test_work_of_a_paused_engine_is_not_begun_until_it_is_resumed(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(2)))
        before = [await process.client.enqueue("demo") for _ in range(2)]
        assert await process.client.pause_engine("demo", "bad release")
        assert not await process.client.pause_engine("demo", "again")
        await process.sweeper.sweep()
        assert await process.work() == len(before)  # thrown back, once each
        after = await process.client.enqueue("demo", deadline_at=harness.clock.now() + 7200)
        await process.work()
        await harness.settle()
        later = Process(harness, backend, Scripted(counts_to(2)), ahead_seconds=3600.0)
        await later.sweeper.sweep()
        assert await later.work() == 0  # nothing is sent for it again and again
        assert [await process.state(work_id) for work_id in (*before, after)] == [State.QUEUED] * 3
        explained = await process.client.explain(before[0])
        assert "bad release" in explained.text
        [switch] = await process.client.switches()
        assert (switch.target, switch.reason) == ("engine:/demo", "bad release")
        assert await process.client.resume_engine("demo", "fixed") == 3
        await process.work()
        assert {await process.state(work_id) for work_id in (*before, after)} == {State.DONE}
        assert await process.client.switches() == []
        thrown = [entry async for entry in process.client.events("roost-switches/all")]
        assert [(entry.event.kind, entry.actor) for entry in thrown] == [("switched", "client")] * 2

    async def test_work_of_a_paused_engine_still_ends_at_its_deadline(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        await process.client.pause_engine("demo", "")
        await process.sweeper.sweep()
        work_id = await process.client.enqueue("demo", deadline_at=harness.clock.now() + 600)
        await process.work()
        await harness.settle()
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=601.0)
        await later.sweeper.sweep()
        assert await process.state(work_id) is State.FAILED

    async def test_nothing_is_taken_from_a_paused_lane(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        await process.client.pause_lane(Lane.LOW, "nightly jobs must wait")
        known = process.switches
        await known.read()
        assert list(known.open_lanes(tuple(Lane))) == [Lane.HIGH, Lane.NORMAL]
        low = await process.client.enqueue("demo", priority=-1)
        await process.work()  # a delivery that was under way already is put back
        assert await process.state(low) is State.QUEUED
        assert "nightly" in (await process.client.explain(low)).text
        assert await process.client.resume_lane(Lane.LOW, "done")
        assert not await process.client.resume_lane(Lane.LOW, "done")
        await known.read()
        assert list(known.open_lanes(tuple(Lane))) == list(Lane)

    # --- purges --------------------------------------------------------------

    async def test_what_has_ended_can_be_purged_and_nothing_else(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(3)))
        gone = await process.client.enqueue("demo")
        await process.work()
        live = await process.client.enqueue("demo", delay_seconds=900)
        with pytest.raises(ConflictError):
            await process.client.purge(live)
        tail = await process.tail(gone)
        assert not await backend.journal.purge(gone, tail.position - 1)
        await process.client.purge(gone, "too old")
        [deed] = await process.client.deeds()
        assert (deed.actor, deed.what, deed.target, deed.reason) == ("client", "purge", gone, "too old")
        assert await backend.journal.tail(gone) is None
        assert await backend.index.get(gone) is None
        assert not await backend.journal.purge(gone, tail.position)
        with pytest.raises(WorkNotFound):
            await process.client.purge(gone)
        assert await process.state(live) is State.SCHEDULED

    # --- pruned versions -----------------------------------------------------

    async def test_pruning_drops_bodies_and_keeps_entries(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(4)))
        work_id = await process.client.enqueue("demo")
        await process.work()
        before = await process.entries(work_id)
        commits = [entry for entry in before if isinstance(entry.event, Committed)]
        pruned = [entry.position for entry in commits[:2]]
        for _ in range(2):
            await backend.journal.prune(work_id, [0, *pruned, 10_000])
        after = await process.entries(work_id)
        assert [entry.position for entry in after if entry.body is None] == [1, *pruned]
        assert [(e.entry_id, e.event, e.control) for e in after] == [
            (e.entry_id, e.event, e.control) for e in before
        ]
        assert after[0] == before[0]
        with pytest.raises(InputError, match="not kept"):
            await process.client.snapshot(work_id, 1)
        assert (await process.client.snapshot(work_id, 3)).data == {"n": 3}
        await backend.journal.prune("nobody", [1])
        assert await backend.journal.tail("nobody") is None

    async def test_old_versions_go_and_milestones_and_what_they_need_stay(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            number = snapshot.data.get("n", 0) + 1
            data = {"n": number, "text": _TEXT}
            if number == 40:
                return snapshot.finish(data=data)
            return snapshot.next(data=data, wait_for="go" if number == 3 else None)

        process = Process(harness, backend, Scripted(step))
        settings = replace(process.parts.settings, keep_versions=4)
        process.parts = replace(process.parts, settings=settings)
        work_id = await process.client.enqueue("demo")
        await process.client.signal(work_id, "go")
        await process.work()
        check_done(await process.client.status(work_id), version=40)
        kept = [one.version for one in await process.client.history(work_id) if one.is_kept]
        assert {3, 36, 37, 38, 39, 40} <= set(kept)
        assert len(kept) <= 4 + 4 + 2 * DELTA_DEPTH_MAX
        for version in kept:
            snapshot = await process.client.snapshot(work_id, version)
            assert (snapshot.data["n"], snapshot.data["text"]) == (version, _TEXT)
        gone = next(version for version in range(1, 40) if version not in kept)
        with pytest.raises(InputError, match="not kept"):
            await process.client.retry(work_id, "too old", version=gone)
        check_sound(await process.entries(work_id))
        await process.client.retry(work_id, "again", version=kept[-2])
        await process.work()
        check_done(await process.client.status(work_id), version=41)

    async def test_who_froze_while_it_pruned_drops_nothing_that_work_went_back_to(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """It had looked while it held the lease; the work ended and was put back meanwhile."""

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            number = snapshot.data.get("n", 0) + 1
            if number == 5:
                raise FailWork("no use")
            return snapshot.next(data={"n": number, "text": _TEXT})

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        commits = [one for one in await process.entries(work_id) if isinstance(one.event, Committed)]
        slept = [entry.position for entry in commits[:3]]
        assert commits[1].body is not None
        assert commits[1].body.base == commits[0].position, "what it goes back to is a delta"
        await process.client.retry(work_id, "from there", version=2)
        await backend.journal.prune(work_id, slept)
        goes_on = Process(harness, backend, Scripted(counts_to(4)))
        await goes_on.work()
        view = await process.client.status(work_id)
        check_done(view, version=6)
        assert view.snapshot is not None
        assert view.snapshot.data["n"] == 4
        assert [one.version for one in await process.client.history(work_id) if not one.is_kept] == [3]

    async def test_nobody_goes_back_to_what_was_dropped_meanwhile(
        self, backend: Backend, harness: BackendHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor to what is a delta of that; and the work stays as it was."""

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            number = snapshot.data.get("n", 0) + 1
            return snapshot.next(data={"n": number, "text": _TEXT}) if number < 4 else _fails(snapshot, item)

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        before = await process.entries(work_id)
        first, _, third = [one.position for one in before if isinstance(one.event, Committed)]
        await backend.journal.prune(work_id, [first])
        with pytest.raises(InputError, match="not kept"):
            await process.client.retry(work_id, "from there", version=2)
        find = versions.find

        async def finds(*about: Any) -> Entry:
            found = await find(*about)
            await backend.journal.prune(work_id, [third])
            return found

        monkeypatch.setattr(versions, "find", finds)
        with pytest.raises(InputError, match="not kept"):
            await process.client.retry(work_id, "from there", version=3)
        assert [one.entry_id for one in await process.entries(work_id)] == [one.entry_id for one in before]

    async def test_what_is_kept_stays_whoever_prunes(self, backend: Backend, harness: BackendHarness) -> None:
        process = Process(harness, backend, Scripted(counts_to(4)))
        work_id = await process.client.enqueue("demo")
        await process.work()
        before = await process.entries(work_id)
        commits = [entry for entry in before if isinstance(entry.event, Committed)]
        gone, kept = (entry.position for entry in commits[:2])
        for _ in range(2):
            assert await backend.journal.keep(work_id, kept) == before[kept]
            await backend.journal.prune(work_id, [gone, kept])
        assert await backend.journal.read(work_id, after=kept - 1, limit=1) == [before[kept]]
        assert await backend.journal.keep(work_id, 0) == before[0]
        claimed = next(entry for entry in before if entry.body is None)
        for nowhere in (gone, claimed.position, 10_000):
            assert await backend.journal.keep(work_id, nowhere) is None
        assert await backend.journal.keep("nobody", 1) is None

    # --- dead letters --------------------------------------------------------

    async def test_a_message_that_was_set_aside_is_shown_sent_again_or_dropped(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        for name in ("one", "two"):
            await backend.queue.send([Message(name, 3)])
        await process.work()
        letters = {letter.work_id: letter for letter in await process.client.dead_letters()}
        assert {name: (one.cause, one.reason) for name, one in letters.items()} == {
            "one": (3, "unknown work id"),
            "two": (3, "unknown work id"),
        }
        for receipt in ("none", "9" * 30, "\N{ARABIC-INDIC DIGIT ONE}"):
            other = structs.replace(letters["one"], receipt=receipt)
            await process.client.end_dead_letters([other], is_sent_again=False)  # there is no such message
        await process.client.end_dead_letters([letters["one"]], is_sent_again=True)
        await process.client.end_dead_letters([letters["two"]], is_sent_again=False)
        assert [delivery.work_id for delivery in await process.receive()] == ["one"]
        assert await process.client.dead_letters() == []
