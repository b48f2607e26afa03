"""The core on a backend: waits and signals, children and joins, pauses."""

from __future__ import annotations

from typing import Any

import pytest

from roost.engine import current_step
from roost.models import Child, Join, OnTimeout, Snapshot, State, WaitFor, WorkItem
from roost.storage.instrument import InstrumentedBackend
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract
from roost.testing.contract.process import Process, Scripted, check_done, check_sound, finishes


def _shown() -> list[Any]:
    return [(signal.name, signal.data) for signal in current_step().signals]


class DirectivesContract(Contract):
    """What a snapshot can ask for besides its next step."""

    # --- signals -------------------------------------------------------------

    async def test_a_signal_wakes_who_waits_and_is_seen_by_one_step(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        seen: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append(_shown())
            if snapshot.version == 0:
                return snapshot.next(wait_for=WaitFor(signals=("yes", "no")))
            return snapshot.finish() if snapshot.version == 2 else snapshot.next()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        assert await process.state(work_id) is State.WAITING
        first = await process.client.signal(work_id, "other", 1)
        assert await process.work() == 0
        sent = await process.client.signal(work_id, "yes", {"by": "me"}, signal_id="s1")
        again = await process.client.signal(work_id, "yes", {"by": "me"}, signal_id="s1")
        assert (sent.is_new, again.is_new, again.position) == (True, False, sent.position)
        await process.work()
        check_done(await process.client.status(work_id), version=3)
        assert seen == [[], [("yes", {"by": "me"})], []]
        tail = await process.tail(work_id)
        assert tail.control.signals == ((first.position, "other"),)

    async def test_a_signal_may_come_before_the_wait(self, backend: Backend, harness: BackendHarness) -> None:
        seen: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append(_shown())
            return snapshot.finish() if snapshot.version else snapshot.next(wait_for="go")

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        for number in range(3):
            await process.client.signal(work_id, "go", number)
        await process.work()
        check_done(await process.client.status(work_id), version=2)
        assert seen == [[], [("go", 0), ("go", 1), ("go", 2)]]
        assert await process.kinds(work_id) == [
            "enqueued",
            *["signaled"] * 3,
            "claimed",
            "committed",
            "committed",
        ]

    async def test_a_failed_step_is_given_its_signals_again(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        seen: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append(_shown())
            if snapshot.version == 0:
                return snapshot.next(wait_for="go")
            if current_step().attempt < 3:
                raise ValueError("not yet")
            return snapshot.finish()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.client.signal(work_id, "go", None)
        await process.work()
        check_done(await process.client.status(work_id), version=2)
        assert seen == [[], *[[("go", None)]] * 3]

    async def test_a_wait_times_out_and_the_step_says_so_or_the_work_fails(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        timed_out: list[bool] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            timed_out.append(current_step().timed_out)
            if snapshot.version:
                return snapshot.finish()
            on_timeout = OnTimeout(item.payload["then"])
            return snapshot.next(
                wait_for=WaitFor(signals=("go",), timeout_seconds=3600, on_timeout=on_timeout)
            )

        process = Process(harness, backend, Scripted(step))
        later = Process(harness, backend, Scripted(step), ahead_seconds=3601.0)
        goes_on = await process.client.enqueue("demo", {"then": "go_on"})
        fails = await process.client.enqueue("demo", {"then": "fail"})
        await process.work()
        await harness.settle()
        await process.sweeper.sweep()
        assert await process.work() == 0
        await later.sweeper.sweep()
        await later.work()
        check_done(await process.client.status(goes_on), version=2)
        tail = await process.tail(fails)
        assert (tail.control.state, tail.control.version) == (State.FAILED, 1)
        assert "WaitTimeout" in tail.control.reason
        assert timed_out == [False, False, True]

    # --- children ------------------------------------------------------------

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

    # --- pauses --------------------------------------------------------------

    async def test_what_is_paused_is_not_run_until_it_is_resumed(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        work_id = await process.client.enqueue("demo")
        await process.client.pause(work_id, "wait for the release")
        await process.work()
        view = await process.client.status(work_id)
        assert (view.control.state, view.control.version) == (State.QUEUED, 0)
        assert view.row is not None
        assert (view.row.state, view.row.due_at) == (State.PAUSED, None)
        await process.client.resume(work_id, "released")
        await process.work()
        check_done(await process.client.status(work_id), version=1)


class _Died(BaseException):
    """The process ended, as a kill ends it."""


async def _die_after_a_commit(when: str, call: str, detail: str) -> None:
    if (when, call, detail) == ("after", "append", "committed"):
        raise _Died
