"""Each checker of signals, spawns and joins can fail: it finds what it is for, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from roost.journal.control import apply
from roost.journal.entries import Control, Entry
from roost.journal.events import (
    Cancelled,
    CancelRequested,
    ChildEnded,
    Claimed,
    Committed,
    Enqueued,
    Event,
    Settled,
    Signaled,
)
from roost.journal.values import Join, Parent, Wait
from roost.models import State

from .family_invariants import check_families
from .invariants import Appended, Record, Sent, Stepped, Violation

FIRST, SECOND = "work.1-0", "work.1-1"


class Book:
    """A history in the making: entries follow each other, one second apart."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._tails: dict[str, Entry] = {}

    def add(self, actor: str, event: Event, work_id: str = "work", **change: Any) -> Book:
        before = self._tails.get(work_id)
        position = 0 if before is None else before.position + 1
        at = float(len(self.records))
        control: Control = apply(before.control if before else None, event, position=position, at=at)
        control = structs.replace(control, **change)
        entry = Entry(work_id, position, f"{work_id}-{position}", at, actor, event, control)
        self._tails[work_id] = entry
        self.records.append(Appended(entry))
        return self

    def tell(self, *records: Record) -> Book:
        self.records += records
        return self

    def spawn(self, work_id: str, ordinal: int) -> Book:
        origin_at = self._tails["work"].control.created_at if "work" in self._tails else None
        parent = Parent("work", ordinal, origin_at=origin_at)
        return self.add("a", Enqueued(engine="sim", parent=parent), work_id)

    def finish(self, work_id: str) -> Book:
        self.add("b", Claimed("b", 999.0), work_id)
        return self.add("b", Committed(1, "done", is_finished=True), work_id)

    def check(self) -> list[Violation]:
        return check_families(self.records)


def numbers(violations: list[Violation]) -> set[int]:
    return {violation.invariant for violation in violations}


def asked(wait: Wait, **fields: Any) -> Book:
    """Work whose first step is committed with a wait."""
    book = Book().add("client", Enqueued(engine="sim")).add("a", Claimed("a", 999.0))
    book.tell(Stepped("work", 1, 0))
    return book.add("a", Committed(1, "one", waits=wait, **fields))


def signaled(**change: Any) -> Book:
    """Work that waits for one of two signals, and sees both of one name."""
    book = asked(Wait(("go", "stop"), 99.0))
    book.add("client", Signaled("s1", "go")).tell(Sent("work", "s1", 3, is_new=True))
    book.add("client", Signaled("s2", "go")).add("client", Signaled("s3", "note"))
    book.add("a", Claimed("a", 999.0))
    book.tell(replace(Stepped("work", 6, 1, signals=("s1", "s2")), **change))
    return book


def family(join: Join | None = None) -> Book:
    """Work with two children, the first of which is done."""
    book = asked(Wait(join=join or Join()), spawned=2, has_spawned=True)
    return book.spawn(FIRST, 0).spawn(SECOND, 1).add("a", Settled(2)).finish(FIRST)


def reported(join: Join | None = None) -> Book:
    return family(join).add("child", ChildEnded(FIRST, 0, State.DONE))


def joined(**change: Any) -> Book:
    """Both children are done, and a step has their results."""
    book = reported().finish(SECOND).add("child", ChildEnded(SECOND, 1, State.DONE))
    book.add("a", Claimed("a", 999.0))
    came = ((0, State.DONE, FIRST), (1, State.DONE, SECOND))
    return book.tell(replace(Stepped("work", 6, 1, children=came, join_is_met=True), **change))


def test_good_signals_and_joins_have_no_violation() -> None:
    assert not signaled().add("a", Committed(2, "two", is_finished=True, consumed=(3, 4))).check()
    assert not joined().add("a", Committed(2, "two", is_finished=True, consumed=(4, 5))).check()


# --- 7: signals ----------------------------------------------------------------


def test_signal_that_stands_twice_is_found() -> None:
    assert numbers(
        asked(Wait(("go",))).add("c", Signaled("s", "go")).add("c", Signaled("s", "go")).check()
    ) == {7}


def test_signal_acknowledged_before_it_stands_is_found() -> None:
    book = asked(Wait(("go",))).tell(Sent("work", "s", 3, is_new=True)).add("c", Signaled("s", "go"))
    assert numbers(book.check()) == {7}


@pytest.mark.parametrize(
    ("change", "consumed"),
    [
        pytest.param({}, (3,), id="seen, but not consumed"),
        pytest.param({}, (3, 4, 5), id="consumed, but not seen"),
        pytest.param({"signals": ("s2", "s1")}, (3, 4), id="out of order"),
        pytest.param({"signals": ("s1",)}, (3,), id="left out"),
        pytest.param({"signals": ("s1", "s2", "s3")}, (3, 4, 5), id="not waited for"),
        pytest.param({"signals": (), "timed_out": True}, (), id="overlooked all"),
        pytest.param({"timed_out": True}, (3, 4), id="timed out, too"),
        pytest.param({}, (3, 4, 1), id="consumed what is no signal"),
    ],
)
def test_signals_that_a_step_is_not_given_as_it_should_be_are_found(
    change: dict[str, Any], consumed: tuple[int, ...]
) -> None:
    book = signaled(**change).add("a", Committed(2, "two", is_finished=True, consumed=consumed))
    assert numbers(book.check()) == {7}


def test_signal_that_is_consumed_twice_is_found() -> None:
    book = signaled().add("a", Committed(2, "two", lease_until=999.0, consumed=(3, 4)))
    book.tell(Stepped("work", 6, 2, taken=("s1",))).add("a", Committed(3, "x", consumed=(3,)))
    assert numbers(book.check()) == {7}


def timed_out(wait: Wait) -> Book:
    book = asked(wait).add("a", Claimed("a", 999.0)).tell(Stepped("work", 3, 1, timed_out=True))
    return book.add("a", Committed(2, "two", is_finished=True))


def test_wait_that_is_over_before_its_time_or_was_to_fail_is_found() -> None:
    assert not timed_out(Wait(("go",), 3.0)).check()
    assert numbers(timed_out(Wait(("go",), 99.0)).check()) == {7}
    assert numbers(timed_out(Wait(("go",))).check()) == {7}
    assert numbers(timed_out(Wait(("go",), 3.0, fails=True)).check()) == {7}


# --- 8: spawns -----------------------------------------------------------------


def test_child_that_no_commit_asked_for_is_found() -> None:
    assert numbers(family().spawn("work.1-2", 2).check()) == {8}
    assert numbers(family().add("a", Enqueued(engine="sim"), "stray").check()) == {8}


def test_child_with_another_ordinal_is_found() -> None:
    book = asked(Wait(join=Join()), spawned=1, has_spawned=True).spawn(FIRST, 1)
    assert numbers(book.check()) == {8}


def test_child_that_is_never_spawned_is_found() -> None:
    book = asked(Wait(join=Join()), spawned=2, has_spawned=True).spawn(FIRST, 0)
    found = book.check()
    assert numbers(found) == {8}
    assert SECOND in {violation.where for violation in found}


def test_outbox_that_is_emptied_too_early_is_found() -> None:
    book = asked(Wait(join=Join()), spawned=1, has_spawned=True).add("a", Settled(2)).spawn(FIRST, 0)
    assert numbers(book.check()) == {8}


def test_report_that_is_never_given_is_found() -> None:
    assert numbers(family().check()) == {8}


def test_entry_that_forgets_what_it_owes_is_found() -> None:
    book = Book().add("client", Enqueued(engine="sim")).add("a", Claimed("a", 999.0))
    book.tell(Stepped("work", 1, 0))
    book.add("a", Committed(1, "one", spawned=1, has_spawned=True), outbox=()).spawn(FIRST, 0)
    assert numbers(book.check()) == {8}


def cancelled() -> Book:
    return reported().add("client", CancelRequested("no")).add("a", Cancelled("no"))


def test_children_that_a_cancelled_parent_leaves_alone_are_found() -> None:
    assert numbers(cancelled().add("a", Settled(6)).check()) == {8}
    asked_to_end = cancelled().add("parent:work", CancelRequested("its parent"), SECOND)
    assert not asked_to_end.add("a", Settled(6)).check()


# --- 11: joins -----------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(ChildEnded(FIRST, 0, State.DONE), id="again"),
        pytest.param(ChildEnded(SECOND, 1, State.DONE), id="before its end"),
        pytest.param(ChildEnded("other", 1, State.DONE), id="of another"),
    ],
)
def test_report_that_should_not_be_is_found(event: Event) -> None:
    assert numbers(reported().add("child", event).check()) == {11}


def test_report_of_another_end_is_found() -> None:
    book = family().add("child", ChildEnded(FIRST, 0, State.FAILED))
    assert numbers(book.check()) == {11}


@pytest.mark.parametrize(
    ("change", "consumed"),
    [
        pytest.param({}, (4,), id="seen, but not consumed"),
        pytest.param({"children": ((0, State.DONE, FIRST),)}, (4,), id="left out"),
        pytest.param({"join_is_met": False}, (4, 5), id="wrong verdict"),
        pytest.param({"timed_out": True}, (4, 5), id="timed out, too"),
        pytest.param(
            {"children": ((0, State.DONE, FIRST), (1, State.FAILED, None))}, (4, 5), id="other than it ended"
        ),
        pytest.param(
            {"children": ((0, State.DONE, FIRST), (1, State.DONE, FIRST))}, (4, 5), id="the result of another"
        ),
    ],
)
def test_results_that_a_step_is_not_given_as_it_should_be_are_found(
    change: dict[str, Any], consumed: tuple[int, ...]
) -> None:
    book = joined(**change).add("a", Committed(2, "two", is_finished=True, consumed=consumed))
    assert 11 in numbers(book.check())


def test_step_before_the_join_is_satisfied_is_found() -> None:
    book = reported().add("a", Claimed("a", 999.0))
    book.tell(Stepped("work", 5, 1, children=((0, State.DONE, FIRST),), join_is_met=True))
    book.add("a", Committed(2, "two", is_finished=True, consumed=(4,)))
    assert numbers(book.check()) == {11}


def test_rest_that_is_not_owed_its_cancelling_is_found() -> None:
    first = Join(need_done=1)
    book = family(first).add("child", ChildEnded(FIRST, 0, State.DONE), outbox=())
    assert numbers(book.check()) == {11}
    kept = family(Join(need_done=1, cancels_rest=False)).add("child", ChildEnded(FIRST, 0, State.DONE))
    assert not kept.check()
