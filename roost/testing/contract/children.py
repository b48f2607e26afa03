"""The core on a backend: children and joins."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from roost.engine import current_step
from roost.errors import FailWork
from roost.models import Child, Join, Snapshot, State, WaitFor, WorkItem
from roost.storage.instrument import InstrumentedBackend
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract
from roost.testing.contract.process import Process, Scripted, check_done, check_sound


class ChildrenContract(Contract):
    """Work that work spawns, and waits for."""

    async def test_children_start_with_the_commit_and_report_to_who_waits(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        came: list[Any] = []

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if item.parent_id is not None:
                await current_step().artifacts.put("n.txt", str(item.payload["n"]))
                return snapshot.finish(result=item.payload["n"] ** 2)
            if snapshot.version == 0:
                children = [Child(engine="demo", payload={"n": n}, key=f"k{n}") for n in range(5)]
                return snapshot.next(spawn=children, wait_for=WaitFor(children=Join()))
            came.extend(current_step().children)
            return snapshot.finish()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        view = await process.client.status(work_id)
        check_done(view, version=2)
        assert [(child.ordinal, child.key, child.result) for child in came] == [
            (n, f"k{n}", n * n) for n in range(5)
        ]
        assert all(child.is_done and child.artifacts[0].name == "n.txt" for child in came)
        entries = await process.entries(work_id)
        check_sound(entries)
        assert [entry.event.kind.value for entry in entries].count("child_ended") == 5
        for child in came:
            assert await process.kinds(child.work_id) == ["enqueued", "claimed", "committed"]

    async def test_the_first_child_that_is_done_is_enough_and_the_rest_is_cancelled(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        met: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if item.parent_id is not None:
                return snapshot.finish() if item.child_key == "quick" else snapshot.next(wait_for="never")
            if snapshot.version == 0:
                children = [Child(engine="demo", key=key) for key in ("slow", "quick", "slower")]
                return snapshot.next(spawn=children, wait_for=WaitFor(children=Join(need_done=1)))
            met.append((current_step().join_is_met, [child.key for child in current_step().children]))
            return snapshot.finish()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        check_done(await process.client.status(work_id), version=2)
        assert met[0][0] is True
        assert "quick" in met[0][1]
        states = [await process.state(f"{work_id}.1-{number}") for number in range(3)]
        assert states == [State.CANCELLED, State.DONE, State.CANCELLED]

    @pytest.mark.parametrize("is_killed", [False, True], ids=["", "killed"])
    async def test_a_join_that_comes_true_after_a_signal_woke_its_parent_cancels_the_rest(
        self, backend: Backend, harness: BackendHarness, is_killed: bool
    ) -> None:
        """The step after the wait runs because of the signal; its policy counts until it commits.

        Who reports the child may die before it asks the others to end: the commit does it then.
        """

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if item.parent_id is not None:
                ends = item.child_key == "quick" and snapshot.version
                return snapshot.finish() if ends else snapshot.next(wait_for="end")
            if snapshot.version == 0:
                children = [Child(engine="demo", key=key) for key in ("slow", "quick", "slower")]
                wait_for = WaitFor(signals=("look",), children=Join(need_done=1))
                return snapshot.next(spawn=children, wait_for=wait_for)
            await process.client.signal(f"{item.work_id}.1-1", "end")
            with suppress(_Died):
                await Process(harness, others, Scripted(step), "another").work()
            return snapshot.finish()

        others = InstrumentedBackend(backend, _die_after_a_report) if is_killed else backend

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        await process.client.signal(work_id, "look")
        await process.work()
        check_done(await process.client.status(work_id), version=2)
        states = {await process.state(f"{work_id}.1-{number}") for number in (0, 2)}
        assert states == {State.CANCELLED}
        assert await process.state(f"{work_id}.1-1") is State.DONE

    async def test_cancelling_a_parent_cancels_its_children_and_theirs(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if item.payload.get("depth", 0) == 2:
                return snapshot.next(wait_for="never")
            child = Child(engine="demo", payload={"depth": item.payload.get("depth", 0) + 1})
            return snapshot.next(spawn=[child, child], wait_for=WaitFor(children=Join()))

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        await process.client.cancel(work_id, "enough")
        await process.work()
        families = [work_id, f"{work_id}.1-0", f"{work_id}.1-1", f"{work_id}.1-0.1-1", f"{work_id}.1-1.1-0"]
        assert {await process.state(one) for one in families} == {State.CANCELLED}

    @pytest.mark.parametrize("ends", [State.DONE, State.FAILED])
    async def test_children_that_end_with_their_parent_are_cancelled_however_it_ends(
        self, backend: Backend, harness: BackendHarness, ends: State
    ) -> None:
        """The others go on; and of two commits that spawn, each child keeps what was said of it."""
        binds = [[True, False], [False, True]]

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if item.parent_id is not None:
                return snapshot.next(wait_for="never")
            if snapshot.version < 2:
                bound = binds[snapshot.version]
                return snapshot.next(spawn=[Child(engine="demo", ends_with_parent=one) for one in bound])
            if ends is State.FAILED:
                raise FailWork("it was told to")
            return snapshot.finish()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        assert await process.state(work_id) is ends
        states = [await process.state(f"{work_id}.{v}-{number}") for v in (1, 2) for number in (0, 1)]
        expected = {True: State.CANCELLED, False: State.WAITING}
        assert states == [expected[bound] for spawned in binds for bound in spawned]
        tail = await process.tail(f"{work_id}.1-0")
        assert tail.control.reason == f"its parent is {ends}"
        await process.client.cancel(f"{work_id}.1-1", "enough")

    async def test_children_that_a_crash_left_out_are_started_by_whoever_comes_next(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """The commit stands, and its process died before it did anything that follows."""

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if item.parent_id is not None or snapshot.version:
                return snapshot.finish()
            return snapshot.next(spawn=[Child(engine="demo")] * 3, wait_for=WaitFor(children=Join()))

        process = Process(harness, InstrumentedBackend(backend, _die_after_a_commit), Scripted(step))
        work_id = await process.client.enqueue("demo")
        [delivery] = await process.receive()
        with pytest.raises(_Died):
            await process.session(delivery).run()
        assert await process.backend.journal.tail(f"{work_id}.1-0") is None
        later = Process(harness, backend, Scripted(step), ahead_seconds=60.0)
        await harness.settle()
        await later.sweeper.sweep()
        await later.work()
        check_done(await later.client.status(work_id), version=2)


class _Died(BaseException):
    """The process ended, as a kill ends it."""


async def _die_after_a_report(when: str, call: str, detail: str) -> None:
    if (when, call, detail) == ("after", "append", "child_ended"):
        raise _Died


async def _die_after_a_commit(when: str, call: str, detail: str) -> None:
    if (when, call, detail) == ("after", "append", "committed"):
        raise _Died
