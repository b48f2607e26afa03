"""`EngineHarness`: an engine runs to its end in memory, in the time that the test gives it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.review import Review
from roost import Child, FailWork, Join, RetryLater, RetryPolicy, Snapshot, WaitFor, WorkItem, current_step
from roost.errors import InputError
from roost.testing import EngineHarness, WorkFailed
from roost.testing.golden import GoldenDiffers, check_golden, replay

Make = Callable[..., EngineHarness]
DAY_SECONDS = 86400.0


class Scripted:
    """An engine whose step is a function of the test."""

    engine_id = "demo"
    retry = RetryPolicy(max_attempts=3, first_delay_seconds=60.0)

    def __init__(self, step: Callable[[Snapshot, WorkItem], Any], engine_id: str = "demo") -> None:
        self.engine_id = engine_id
        self._step = step

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"n": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        came = self._step(snapshot, item)
        return came if isinstance(came, Snapshot) or not hasattr(came, "__await__") else await came


def counts_with_a_day_between(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    data = {"n": snapshot.data["n"] + 1}
    return snapshot.finish(data=data) if data["n"] == 4 else snapshot.next(data=data, delay=DAY_SECONDS)


def test_days_pass_in_no_time_and_each_step_at_its_instant(engine_harness: Make) -> None:
    instants: list[float] = []

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        instants.append(harness.passed_seconds)
        return counts_with_a_day_between(snapshot, item)

    harness = engine_harness(Scripted(step))
    work = harness.enqueue("demo")
    assert (work.state, work.snapshot.data) == ("scheduled", {"n": 1})
    harness.advance(days=2.5)
    assert [snapshot.data["n"] for snapshot in work.versions] == [1, 2, 3]
    assert work.run_to_end().snapshot.data == {"n": 4}
    assert instants == pytest.approx([0, DAY_SECONDS, 2 * DAY_SECONDS, 3 * DAY_SECONDS], abs=0.2)


def test_a_signal_wakes_the_work_inside_the_call(engine_harness: Make) -> None:
    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.version == 0:
            return snapshot.next(wait_for=WaitFor(signals=("yes",), timeout_seconds=3600))
        return snapshot.finish(data={"timed_out": current_step().timed_out})

    harness = engine_harness(Scripted(step))
    answered, silent = harness.enqueue("demo"), harness.enqueue("demo")
    answered.signal("other")
    answered.signal("yes", 1)
    assert answered.state == "done"
    assert answered.snapshot.data["timed_out"] is False
    assert [signal.name for signal in answered.pending_signals] == ["other"]
    harness.advance(minutes=59)
    assert silent.state == "waiting"
    harness.advance(hours=1)
    assert silent.snapshot.data["timed_out"] is True


def test_an_approval_is_asked_for_and_given(engine_harness: Make) -> None:
    harness = engine_harness(Review())
    work = harness.enqueue("review", {"text": "hello", "hours": 48})
    harness.advance(days=3)
    assert [ask.name for ask in work.approvals] == ["manager"], "the reviewer did not answer in two days"
    with pytest.raises(InputError):
        work.approve("manager", {"approved": "perhaps"})
    with pytest.raises(KeyError):
        work.approve("reviewer", {"approved": True})
    work.approve("manager", {"approved": True}, by="ann")
    assert (work.state, work.snapshot.data["by"]) == ("done", "ann")


def test_children_run_with_their_own_engines(engine_harness: Make) -> None:
    def parent(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.version == 0:
            children = [Child(engine="child", payload={"n": n}) for n in range(3)]
            return snapshot.next(spawn=children, wait_for=WaitFor(children=Join()))
        return snapshot.finish(result=[child.result for child in current_step().children])

    def child(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.finish(result=item.payload["n"] * 10)

    harness = engine_harness(Scripted(parent), Scripted(child, "child"))
    work = harness.enqueue("demo").run_to_end()
    assert work.result == [0, 10, 20]
    assert harness.work(f"{work.work_id}.1-2").kinds == ["enqueued", "claimed", "committed"]


def test_a_plain_function_runs_in_its_thread(engine_harness: Make) -> None:
    class Plain:
        engine_id = "plain"

        def init_snapshot(self, item: WorkItem) -> Snapshot:
            return Snapshot.of(item)

        def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
            context = current_step()
            done = context.wait(context.once("effect", lambda: 42))
            return snapshot.finish(result=done)

    assert engine_harness(Plain()).enqueue("plain").run_to_end().result == 42


def test_what_fails_says_why(engine_harness: Make) -> None:
    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        raise FailWork("no such customer") if item.payload.get("bad") else RetryLater(after=10)

    harness = engine_harness(Scripted(step))
    with pytest.raises(WorkFailed, match="no such customer"):
        harness.enqueue("demo", {"bad": True}).run_to_end()
    with pytest.raises(WorkFailed, match="scheduled"):
        harness.enqueue("demo").run_to_end(days=0.01)


def test_a_wait_that_nobody_ends_is_named(engine_harness: Make) -> None:
    work = engine_harness(Scripted(lambda s, item: s.next(wait_for="approval"))).enqueue("demo")
    with pytest.raises(WorkFailed, match="waits for approval"):
        work.run_to_end()


def test_what_is_no_json_fails_the_test_at_once(engine_harness: Make) -> None:
    engine = Scripted(lambda s, item: s.next(data={"when": object()}))
    with pytest.raises(WorkFailed, match="EngineContractError"):
        engine_harness(engine).enqueue("demo")
    assert engine_harness(engine, allow_broken_contract=True).enqueue("demo").state == "failed"


def test_artifacts_can_be_read(engine_harness: Make) -> None:
    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await current_step().artifacts.put("report.md", "# done")
        return snapshot.finish()

    work = engine_harness(Scripted(step)).enqueue("demo")
    assert work.artifact("report.md") == b"# done"
    with pytest.raises(KeyError):
        work.artifact("other")


class TestGolden:
    def test_a_run_is_written_down_and_then_held_against(self, tmp_path: Path, engine_harness: Make) -> None:
        path = tmp_path / "golden" / "count.json"
        engine = Scripted(counts_with_a_day_between)
        for _ in range(2):
            check_golden(engine_harness(engine).enqueue("demo").run_to_end(), path)
        written = json.loads(path.read_text())
        assert [version["data"] for version in written["versions"]] == [{"n": n} for n in range(1, 5)]
        assert replay(engine, path) == []

    def test_a_run_that_differs_is_shown_where(self, tmp_path: Path, engine_harness: Make) -> None:
        path = tmp_path / "count.json"
        check_golden(engine_harness(Scripted(counts_with_a_day_between)).enqueue("demo").run_to_end(), path)

        def other(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            after = counts_with_a_day_between(snapshot, item)
            if after.data["n"] == 3:
                after.data["extra"] = True
            return after

        work = engine_harness(Scripted(other)).enqueue("demo").run_to_end()
        with pytest.raises(GoldenDiffers, match=r"version 3: data\.extra is True, was None"):
            check_golden(work, path)
        check_golden(work, path, ignore=["data.extra"])
        assert len(replay(Scripted(other), path)) == 1
        check_golden(work, path, update=True)
        check_golden(work, path)

    def test_the_fixture_writes_beside_the_test(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
            from roost.engines.demo import build_demo

            def test_it(engine_harness, golden):
                work = engine_harness(build_demo()).enqueue("demo", {"count": 2}).run_to_end()
                golden(work, "demo")
            """
        )
        for options in ([], [], ["--roost-update-golden"]):
            pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:asyncio", *options).assert_outcomes(
                passed=1
            )
        assert (pytester.path / "golden" / "demo.json").exists()
