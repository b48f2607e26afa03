"""Each checker of what operators do can fail: it finds what it is for, and nothing in a good run."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from roost.core.attempt import DEADLINE
from roost.journal.events import (
    Cancelled,
    CancelRequested,
    Claimed,
    Committed,
    Enqueued,
    Failed,
    Noted,
    Paused,
    Resumed,
    Retried,
)
from roost.journal.values import ErrorInfo, Fork

from .invariants import check_snapshots
from .operator_invariants import bases, check_deadlines, check_forks, check_holds, check_operators
from .test_invariants import journal, numbers, wrote

ENQUEUED = Enqueued(engine="sim")
HURRIED = Enqueued(engine="sim", deadline_at=2.5)
OVER = Failed(ErrorInfo(DEADLINE, "too late"))


def test_work_that_fails_at_its_deadline_is_well() -> None:
    entries = journal(("client", HURRIED), ("a", Claimed("a", 9.0)), ("client", Paused("x")), ("a", OVER))
    assert not check_operators(wrote(entries), are_clocks_right=True)
    assert not check_deadlines(entries, slack_seconds=1.0)


def test_work_that_fails_before_its_deadline_or_without_one_is_found() -> None:
    early = journal(("client", HURRIED), ("a", Claimed("a", 9.0)), ("a", OVER))
    assert numbers(check_deadlines(early)) == [18]
    assert not check_deadlines(early, are_clocks_right=False)
    assert numbers(check_deadlines(journal(("client", ENQUEUED), ("sweeper", OVER)))) == [18]


def test_claim_after_the_deadline_is_found() -> None:
    late = journal(
        ("client", HURRIED), ("client", Paused("x")), ("client", Resumed("x")), ("a", Claimed("a", 9.0))
    )
    assert numbers(check_deadlines(late)) == [18]


def test_work_that_goes_on_after_its_deadline_is_found() -> None:
    entries = journal(("client", HURRIED), ("a", Claimed("a", 9.0)), ("client", Paused("x")), ("a", OVER))
    late = [*entries[:3], replace(entries[3], at=9.0)]
    assert not check_deadlines(late)
    assert numbers(check_deadlines(late, slack_seconds=1.0)) == [18]


def forked(*, version: int = 1) -> list[object]:
    origin = wrote(
        journal(("client", ENQUEUED), ("a", Claimed("a", 9.0)), ("a", Committed(1, "one", lease_until=9.0)))
    )
    fork = Enqueued(engine="sim", fork=Fork("work", version))
    return [
        *origin,
        *wrote(
            journal(("client", fork), ("a", Claimed("a", 9.0)), ("a", Committed(1, "two")), work_id="fork")
        ),
    ]


def test_fork_of_a_committed_version_is_well() -> None:
    assert not check_forks(forked())  # type: ignore[arg-type]


def test_fork_of_what_was_never_committed_is_found() -> None:
    assert numbers(check_forks(forked(version=2))) == [19]  # type: ignore[arg-type]


def test_fork_that_is_started_twice_is_found() -> None:
    history = forked()
    assert numbers(check_forks([*history, history[3]])) == [19]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("actor", "event"),
    [("forker:fork", Noted("somebody was here")), ("client", Noted("fork began from version 1"))],
    ids=["written by who forks", "names the fork"],
)
def test_origin_that_is_touched_by_its_fork_is_found(actor: str, event: Noted) -> None:
    """Its journal is as if the fork had never been."""
    committed = ("a", Committed(1, "one", lease_until=9.0))
    touched = wrote(journal(("client", ENQUEUED), ("a", Claimed("a", 9.0)), committed, (actor, event)))
    assert numbers(check_forks([*forked()[:3], touched[3], *forked()[3:]])) == [19]  # type: ignore[list-item]


def test_fork_and_retry_go_on_from_the_version_that_they_name() -> None:
    retried = journal(
        ("client", ENQUEUED),
        ("a", Claimed("a", 9.0)),
        ("a", Committed(1, "one", lease_until=9.0)),
        ("a", Committed(2, "two", is_finished=True)),
        ("client", Retried("again", 2)),
        ("a", Claimed("a", 9.0)),
        ("a", Committed(3, "three", is_finished=True)),
    )
    made_from = bases(wrote(retried))
    assert made_from == {("work", 1): None, ("work", 2): ("work", 1), ("work", 3): ("work", 1)}
    good = {("work", 1): [1], ("work", 2): [1, 2], ("work", 3): [1, 3]}
    assert not check_snapshots(good, made_from)
    assert numbers(check_snapshots({**good, ("work", 3): [1, 2, 3]}, made_from)) == [2]
    from_fork = bases(forked())  # type: ignore[arg-type]
    assert from_fork["fork", 1] == ("work", 1)
    assert not check_snapshots({("work", 1): [1], ("fork", 1): [1, 1]}, from_fork)
    assert numbers(check_snapshots({("work", 1): [1], ("fork", 1): [1]}, from_fork)) == [2]


def test_claim_of_work_on_hold_is_found() -> None:
    held = journal(("client", ENQUEUED), ("client", Paused("x")), ("a", Claimed("a", 9.0)))
    assert numbers(check_holds(held)) == [20]
    over = journal(("client", ENQUEUED), ("client", Paused("x", 1.5)), ("a", Claimed("a", 9.0)))
    assert not check_holds(over)
    resumed = journal(
        ("client", ENQUEUED), ("client", Paused("x")), ("client", Resumed("x")), ("a", Claimed("a", 9.0))
    )
    assert not check_holds(resumed)


def test_lease_that_is_kept_on_hold_is_found() -> None:
    entries = journal(
        ("client", ENQUEUED), ("a", Claimed("a", 9.0)), ("a", Committed(1, "one", lease_until=9.0))
    )
    kept = replace(entries[2], control=replace(entries[2].control, paused="x"))
    assert not check_holds(entries)
    assert numbers(check_holds([*entries[:2], kept])) == [20]


def test_cancel_that_nobody_asked_for_is_found() -> None:
    assert numbers(check_holds(journal(("client", ENQUEUED), ("a", Cancelled("why"))))) == [20]
    asked = journal(("client", ENQUEUED), ("client", CancelRequested("why")), ("a", Cancelled("why")))
    assert not check_holds(asked)
