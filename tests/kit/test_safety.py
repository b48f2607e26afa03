"""`assert_crash_safe` passes what is safe, and finds what is not, with a history that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count, pairwise
from typing import Any

import pytest

from examples.review import Review
from roost import Child, FailWork, Join, RetryPolicy, Snapshot, WaitFor, WorkItem, current_step
from roost.storage.ports import Delivery
from roost.testing import NoSubject, UnsafeEngine, assert_crash_safe
from roost.testing.driver import LabProcess
from roost.testing.faults import Cut, Fault, Run
from roost.testing.safety import Subject, _run, in_virtual_time, memory_world
from roost.testing.worlds import local_world


class Mailer:
    """Sends three mails, one a step, each with `once` or without."""

    engine_id = "mailer"
    retry = RetryPolicy(first_delay_seconds=1.0)

    def __init__(self, *, is_careful: bool = True) -> None:
        self.is_careful = is_careful
        self.sent: list[str] = []

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"n": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context = current_step()
        await context.artifacts.put("log.txt", f"mail {snapshot.data['n']}")
        key = context.idempotency_key
        await context.once("mail", lambda: self.send(key))
        data = {"n": snapshot.data["n"] + 1}
        return snapshot.finish(data=data) if data["n"] == 3 else snapshot.next(data=data, delay=5)

    def send(self, key: str) -> None:
        if not self.is_careful or key not in self.sent:  # as a service that deduplicates does
            self.sent.append(key)


class Forgetful:
    """Keeps its count in itself instead of in the snapshot."""

    engine_id = "forgetful"

    def __init__(self) -> None:
        self.count = 0

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        self.count += 1
        return snapshot.finish(data={"n": self.count}) if snapshot.version else snapshot.next()


class Parent:
    """Waits for an approval, then for two children."""

    engine_id = "parent"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context = current_step()
        if snapshot.version == 0:
            return snapshot.next(wait_for="approve")
        if snapshot.version == 1:
            children = [Child(engine="child", payload={"n": n}) for n in range(2)]
            data = {"by": context.signals[0].data}
            return snapshot.next(data=data, spawn=children, wait_for=WaitFor(children=Join()))
        return snapshot.finish(result=sum(child.result for child in context.children))


class ChildEngine:
    engine_id = "child"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.finish(result=item.payload["n"] + 1)


def sent(engine: Any) -> list[str]:
    return list(engine.sent)


def test_an_engine_whose_effects_are_deduplicated_is_safe() -> None:
    assert assert_crash_safe(Mailer, observe=sent) > 50


def test_an_effect_between_its_doing_and_its_record_is_found_to_be_done_twice() -> None:
    with pytest.raises(UnsafeEngine, match="outside: ") as caught:
        assert_crash_safe(lambda: Mailer(is_careful=False), observe=sent)
    findings = caught.value.findings
    lengths = [len(finding.history) for finding in findings]
    assert lengths == sorted(lengths)
    assert any("append recorded" in str(finding.cut) for finding in findings)


def test_what_is_kept_outside_the_snapshot_is_found() -> None:
    with pytest.raises(UnsafeEngine, match=r"data\.n: 2 in peace, [13] here") as caught:
        assert_crash_safe(Forgetful)
    differences = {finding.difference for finding in caught.value.findings}
    assert differences == {f"lab.data.n: 2 in peace, {n} here" for n in (1, 3)}, (
        "it ran twice, or was made anew"
    )


class Cached:
    """Works in any one process: what the first step found is needed by the second."""

    engine_id = "cached"

    def __init__(self) -> None:
        self.found = ""

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="find")

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.step == "find":
            self.found = "owls"
            return snapshot.next("tell")
        if not self.found:
            raise RuntimeError("nothing was found")
        return snapshot.finish(result=self.found)


def test_what_goes_with_the_memory_of_a_worker_is_found_and_explained() -> None:
    with pytest.raises(UnsafeEngine) as caught:
        assert_crash_safe(Cached)
    [finding] = caught.value.findings
    assert finding.fault is Fault.RESTART
    assert finding.difference == "lab is done in peace, failed here: RuntimeError: nothing was found"
    assert "snapshot.data" in finding.advice
    shown = str(finding).splitlines()
    here = next(number for number, line in enumerate(shown) if "-- here" in line)
    assert "committed        v1" in shown[here - 1]
    assert "claimed          v1" in shown[here + 1]


def test_what_lives_outside_outlives_workers_and_is_compared() -> None:
    class Sending(Mailer):
        def __init__(self, sent: list[str]) -> None:
            super().__init__()
            self.sent = sent

    assert assert_crash_safe(Sending, outside=list, observe=sorted) > 50

    class Careless(Sending):
        def send(self, key: str) -> None:
            self.sent.append("mail")

    with pytest.raises(UnsafeEngine, match="outside: ") as caught:
        assert_crash_safe(Careless, outside=list, observe=len)
    advice = {finding.advice for finding in caught.value.findings}
    assert all("idempotency_key" in text for text in advice)
    assert any(text.startswith("Step 'start' from version 1: the effect of `once`") for text in advice)


def test_a_key_that_differs_in_each_try_is_found_with_the_step_that_has_it() -> None:
    class WrongKey(Mailer):
        async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
            key = f"mail-{current_step().token}"
            await current_step().once(key, lambda: self.sent.append(key))
            return snapshot.finish()

    with pytest.raises(UnsafeEngine) as caught:
        assert_crash_safe(WrongKey, observe=lambda engine: len(engine.sent))
    at_commit = [
        finding
        for finding in caught.value.findings
        if finding.cut is not None and str(finding.cut) == "before append committed number 1"
    ]
    assert {finding.fault for finding in at_commit} == {Fault.KILL, Fault.STEAL}
    assert any("another key in each try" in finding.advice for finding in at_commit)


def test_a_key_that_differs_in_each_try_is_found_though_nobody_observes() -> None:
    """The journal tells: more effects were recorded than in peace."""
    keys = count()

    class WrongKey(ChildEngine):
        async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
            await current_step().once(f"mail-{next(keys)}", lambda: None)
            return snapshot.finish()

    with pytest.raises(UnsafeEngine, match="recorded 2 effects by `once`, and 1 in peace") as caught:
        assert_crash_safe(WrongKey)
    assert "another key in each try" in caught.value.findings[0].advice


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (lambda snapshot: snapshot.finish(data={"at": object()}), r"snapshot\.data\.at is of type object"),
        (lambda snapshot: snapshot.nothing, "AttributeError"),
    ],
)
def test_an_engine_that_fails_in_peace_is_no_subject(step: Any, told: str) -> None:
    class Broken(ChildEngine):
        async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return step(snapshot)  # type: ignore[no-any-return]  # whatever it is

    with pytest.raises(NoSubject, match=f"fails already, at version 0: .*{told}"):
        assert_crash_safe(Broken)


def test_an_end_that_is_a_failure_on_purpose_is_a_subject() -> None:
    class Gives(ChildEngine):
        async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
            raise FailWork("there is nothing to do")

    assert assert_crash_safe(Gives) > 5


@pytest.mark.parametrize("open_world", [memory_world, pytest.param(local_world, marks=pytest.mark.slow)])
def test_each_fault_really_happens(open_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each world; on a stand-in for AWS the same code hands out the deliveries."""
    sessions: list[tuple[str, str]] = []
    run = LabProcess.run

    async def watched(process: LabProcess, delivery: Delivery) -> None:
        sessions.append((process.name, delivery.work_id))
        await run(process, delivery)

    monkeypatch.setattr(LabProcess, "run", watched)
    tried = Subject(lambda: [Parent(), ChildEngine()], {}, signals={"approve": "me"})
    seen: dict[Fault | None, list[tuple[str, str]]] = {}

    async def try_all() -> None:
        claim = Cut("before", "append", "committed", 1)
        for fault in (None, Fault.REPEAT, Fault.REVERSE, Fault.LATE, Fault.STEAL, Fault.KILL):
            sessions.clear()
            cut = claim if fault in (Fault.STEAL, Fault.KILL) else None
            outcome, _ = await _run(tried, open_world, fault=fault, cut=cut)
            assert outcome.works["lab"]["state"] == "done", fault
            seen[fault] = [(name, work_id.partition(".")[2]) for name, work_id in sessions]

    if open_world is memory_world:
        in_virtual_time(try_all())
    else:
        asyncio.run(try_all())
    peace = seen[None]
    twice = seen[Fault.REPEAT]
    assert len(twice) > len(peace)
    assert any(one == other for one, other in pairwise(twice))
    children = [work_id for _, work_id in peace if work_id]
    assert [work_id for _, work_id in seen[Fault.REVERSE] if work_id] == children[::-1] != children
    assert seen[Fault.LATE] != peace
    first = peace[0][0]
    assert {name for name, _ in seen[Fault.STEAL]} != {first}, "another took over"
    assert {name for name, _ in seen[Fault.KILL]} != {first}, "another was started"


def test_work_that_waits_for_what_nobody_sends_is_no_subject() -> None:
    with pytest.raises(ValueError, match="waits for the signal 'approve'"):
        assert_crash_safe(Parent, others=[ChildEngine])


def test_what_may_differ_can_be_left_out() -> None:
    assert assert_crash_safe(Forgetful, ignore=["data.n"]) > 10


def test_signals_and_children_come_through_every_crash() -> None:
    runs = assert_crash_safe(Parent, others=[ChildEngine], signals={"approve": "me"})
    assert runs > 60


def test_approvals_come_through_every_crash() -> None:
    assert assert_crash_safe(Review, {"text": "x"}, signals={"reviewer": {"approved": True}}) > 20


def test_late_deliveries_come_after_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And some of them when the work has ended; else the fault would try nothing."""
    came: list[tuple[float, int]] = []
    hold_back = Run._hold_back

    def watched(run: Run, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        handed = hold_back(run, deliveries)
        now = run._driver.clock.now()
        came.extend((now, one.cause) for one in handed if one not in deliveries)
        return handed

    monkeypatch.setattr(Run, "_hold_back", watched)
    assert_crash_safe(Mailer, observe=sent)
    assert len(came) >= 2


def test_an_engine_that_differs_in_peace_is_no_subject() -> None:
    numbers = iter(range(100))

    class Unsteady(ChildEngine):
        async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return snapshot.finish(data={"n": next(numbers)})

    with pytest.raises(ValueError, match="two undisturbed runs differ"):
        assert_crash_safe(Unsteady)
