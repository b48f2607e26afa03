"""`assert_crash_safe` passes what is safe, and finds what is not, with a history that shows it."""

from __future__ import annotations

from typing import Any

import pytest

from roost import Child, Join, RetryPolicy, Snapshot, WaitFor, WorkItem, current_step
from roost.testing import UnsafeEngine, assert_crash_safe


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
    with pytest.raises(UnsafeEngine, match=r"data\.n: 2 in peace, 3 here"):
        assert_crash_safe(Forgetful)


def test_what_may_differ_can_be_left_out() -> None:
    assert assert_crash_safe(Forgetful, ignore=["data.n"]) > 10


def test_signals_and_children_come_through_every_crash() -> None:
    runs = assert_crash_safe(Parent, others=[ChildEngine], signals={"approve": "me"})
    assert runs > 60


def test_an_engine_that_differs_in_peace_is_no_subject() -> None:
    numbers = iter(range(100))

    class Unsteady(ChildEngine):
        async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return snapshot.finish(data={"n": next(numbers)})

    with pytest.raises(ValueError, match="two undisturbed runs differ"):
        assert_crash_safe(Unsteady)
