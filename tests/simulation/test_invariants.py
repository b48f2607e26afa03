"""Each checker can fail: it finds what it is for, and nothing in a journal that is well."""

from __future__ import annotations

from msgspec.structs import replace

from roost.journal.claims import Owner
from roost.journal.control import apply
from roost.journal.entries import Control, Entry
from roost.journal.events import (
    AttemptFailed,
    Claimed,
    Committed,
    Enqueued,
    Event,
    Evicted,
    Recorded,
    Retried,
)
from roost.journal.projection import project
from roost.journal.values import ErrorInfo
from roost.models import State

from .invariants import (
    Appended,
    Began,
    Effect,
    Ended,
    Record,
    Violation,
    check_artifacts,
    check_done,
    check_ended,
    check_fencing,
    check_final,
    check_history,
    check_index,
    check_leases,
    check_once,
    check_owners,
    check_positions,
    check_reasons,
    check_snapshots,
    check_versions,
)

ENQUEUED = Enqueued(engine="sim")


def journal(*steps: tuple[str, Event], work_id: str = "work") -> list[Entry]:
    """Entries by (actor, event), one second after another."""
    entries: list[Entry] = []
    control: Control | None = None
    for position, (actor, event) in enumerate(steps):
        control = apply(control, event, position=position, at=float(position))
        entry_id = f"{work_id}-{position}"
        entries.append(Entry(work_id, position, entry_id, float(position), actor, event, control))
    return entries


def finished(work_id: str = "work") -> list[Entry]:
    """A work item with two steps, the second by another worker after the first went silent."""
    return journal(
        ("client", ENQUEUED),
        ("a", Claimed("a", 2.5)),
        ("a", Committed(1, "one", lease_until=2.9)),
        ("b", Claimed("b", 33.0)),
        ("b", Recorded("mail")),
        ("b", Committed(2, "done", is_finished=True)),
        work_id=work_id,
    )


def wrote(entries: list[Entry]) -> list[Record]:
    return [Appended(entry) for entry in entries]


def numbers(violations: list[Violation]) -> list[int]:
    return [violation.invariant for violation in violations]


def test_good_journal_has_no_violation() -> None:
    entries = finished()
    assert not check_history(wrote(entries))
    assert not check_ended(entries[-1:])
    assert not check_done(entries[-1:], {"work": 2})
    assert not check_index(entries[-1:], {"work": project(entries[-1])})


def test_positions_with_a_gap_or_a_double_are_found() -> None:
    entries = finished()
    assert numbers(check_positions(entries[:2] + entries[3:])) == [1, 1, 1]
    assert numbers(check_positions(entries[:3] + entries[2:])) == [1, 1, 1, 1]


def test_version_committed_twice_or_left_out_is_found() -> None:
    again = journal(
        ("client", ENQUEUED),
        ("a", Claimed("a", 31.0)),
        ("a", Committed(1, "one", lease_until=32.0)),
        ("a", Committed(1, "one", lease_until=33.0)),
    )
    assert numbers(check_versions(again)) == [2]
    assert numbers(check_versions([*again[:2], replace(again[2], event=Committed(2, "two"))])) == [2]


def test_snapshot_that_skipped_a_step_is_found() -> None:
    assert not check_snapshots({("work", 2): [1, 2]})
    assert numbers(check_snapshots({("work", 2): [1, 1], ("work", 3): [1, 3]})) == [2, 2]


def test_work_done_too_early_is_found() -> None:
    assert numbers(check_done(finished()[-1:], {"work": 3})) == [2]


def test_commit_of_a_zombie_is_found() -> None:
    zombie = journal(
        ("client", ENQUEUED),
        ("a", Claimed("a", 1.5)),
        ("b", Claimed("b", 32.0)),
        ("a", Committed(1, "one", lease_until=33.0)),
    )
    assert numbers(check_fencing(zombie)) == [3]


def test_commit_under_an_older_claim_of_the_same_worker_is_found() -> None:
    """Two sessions of one worker: the actor is the same, but not what it knows."""
    entries = journal(
        ("client", ENQUEUED),
        ("a", Claimed("a", 1.5)),
        ("a", Claimed("a", 32.0)),
        ("a", Committed(1, "one", lease_until=33.0)),
    )
    knows = apply(entries[1].control, entries[3].event, position=3, at=3.0)
    assert numbers(check_fencing([*entries[:3], replace(entries[3], control=knows)])) == [3]


def test_impossible_move_is_found() -> None:
    entries = finished()
    stray = replace(entries[2], position=6, control=replace(entries[2].control, position=6))
    assert 3 in numbers(check_fencing([*entries, stray]))


def test_eviction_of_another_holder_is_found() -> None:
    entries = journal(("client", ENQUEUED), ("a", Claimed("a", 1.5)), ("claims", Evicted(7, "b")))
    assert numbers(check_fencing(entries)) == [3]


def test_lease_taken_while_it_lasts_is_found() -> None:
    taken = journal(("client", ENQUEUED), ("a", Claimed("a", 31.0)), ("b", Claimed("b", 32.0)))
    assert numbers(check_leases(taken)) == [0]
    assert not check_leases(finished())


def claimed(work_id: str, *, token: int = 1) -> Record:
    """The entry with which a worker claims a work item."""
    claims = [(worker, Claimed(worker, 0.0)) for worker in "abc"[:token]]
    return Appended(journal(("client", ENQUEUED), *claims, work_id=work_id)[-1])


def began(attempt: int, work_id: str, owner: Owner | None, *, token: int = 1) -> Began:
    return Began(attempt, work_id, token, (("db", owner),))


def test_two_live_owners_of_a_resource_are_found() -> None:
    x, y = Owner("x", 1), Owner("y", 1)
    overlap: list[Record] = [claimed("x"), claimed("y"), began(1, "x", x), began(2, "y", y)]
    assert numbers(check_owners(overlap)) == [4]
    in_turn: list[Record] = [*overlap[:3], Ended(1), *overlap[3:]]
    assert not check_owners(in_turn)


def test_zombie_is_no_live_owner() -> None:
    history: list[Record] = [
        claimed("x"),
        claimed("y"),
        began(1, "x", Owner("x", 1)),
        claimed("x", token=2),
        began(2, "y", Owner("y", 1)),
    ]
    assert not check_owners(history)


def test_two_live_steps_of_one_work_item_are_found() -> None:
    history: list[Record] = [claimed("x"), Began(1, "x", 1), Began(2, "x", 1)]
    assert numbers(check_owners(history)) == [4]


def test_step_without_its_claim_is_found() -> None:
    assert numbers(check_owners([claimed("x"), began(1, "x", Owner("y", 3))])) == [4]
    assert numbers(check_owners([claimed("x"), began(1, "x", None)])) == [4]


def test_claim_stolen_during_a_step_is_found() -> None:
    stolen: list[Record] = [
        claimed("x"),
        began(1, "x", Owner("x", 1)),
        Ended(1, (("db", Owner("x", 0)),)),
    ]
    assert numbers(check_owners(stolen)) == [4]


def test_work_that_never_ends_is_found() -> None:
    assert numbers(check_ended(finished()[3:4])) == [5]


def test_entry_after_the_end_is_found() -> None:
    entries = finished()
    assert numbers(check_final([*entries, entries[1]])) == [6]
    retried = journal(*((entry.actor, entry.event) for entry in entries), ("client", Retried("again")))
    assert not check_final(retried)


def test_repeated_side_effect_is_found() -> None:
    entries = finished()
    recorded = wrote(entries[:5])
    assert not check_once([*wrote(entries[:4]), Effect("work", 3, "mail"), recorded[4]])
    assert numbers(check_once([*recorded, Effect("work", 3, "mail")])) == [8]
    assert not check_once([*recorded, Effect("work", 1, "mail")])  # a zombie can't know
    assert numbers(check_once([*recorded, recorded[4]])) == [8]


def test_index_row_that_lags_is_found() -> None:
    entries = finished()
    tail, row = entries[-1], project(entries[-1])
    assert numbers(check_index([tail], {})) == [9]
    assert numbers(check_index([tail], {"work": project(entries[-2])})) == [9]
    assert numbers(check_index([tail], {"work": replace(row, due_at=99.0)})) == [9]
    held = project(entries[1])
    assert not check_index([entries[1]], {"work": replace(held, lease_until=99.0, due_at=99.5)})
    assert numbers(check_index([entries[1]], {"work": replace(held, state=State.QUEUED)})) == [9]


def test_other_bytes_of_an_artifact_are_found() -> None:
    put = {"d1": b"one", "d2": b"two"}
    assert not check_artifacts(put, {"d1": b"one", "d2": OSError("gone")})
    assert numbers(check_artifacts(put, {"d1": b"won", "d3": b"three"})) == [10, 10]


def test_unexpected_failure_is_found() -> None:
    failed = journal(
        ("client", ENQUEUED),
        ("a", Claimed("a", 31.0)),
        ("a", AttemptFailed(ErrorInfo("KeyError", "a bug"), 5.0)),
    )
    assert numbers(check_reasons(wrote(failed), {"ValueError"})) == [0]
    assert not check_reasons(wrote(failed), {"KeyError"})
