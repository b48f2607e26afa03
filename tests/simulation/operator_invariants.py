"""Invariants of what operators do, of deadlines and of forks, as checkers over plain data.

18. Deadlines. Work that has a deadline D and is not over: nobody claims it at or after D, by
    the clock of who claims; it fails of its deadline at or after D, never before, by the clock
    of who writes that; and where no clock is wrong and nothing fails, no entry but that one
    follows D by more than a stated slack, whatever the work waits for, be it on hold or not.
19. Forks. A fork begins from a version of its origin that was committed before; it is started
    once; the first version that it commits was made from that snapshot (`check_snapshots`);
    and the journal of its origin is as if it had never been: no entry names it but as the holder
    of a resource, none is by who started it.
20. Holds. Work that is on hold is not claimed before its hold is over, by the clock of who
    claims; a lease under which it became so is given up with the next commit. Work ends as
    cancelled only if somebody asked for that since it was last put back to life.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from roost.core.attempt import DEADLINE
from roost.journal.budget import hold_until
from roost.journal.entries import Entry
from roost.journal.events import Blocked, Committed, Enqueued, Failed, Kind

from .invariants import Appended, Record, Violation, at_entry, journals

CLOCK_SLACK_SECONDS = 0.001
FORKER = "forker:"  # how the name of who starts a fork begins; its id follows


def check_deadlines(
    entries: Sequence[Entry], *, are_clocks_right: bool = True, slack_seconds: float | None = None
) -> list[Violation]:
    """18, for one journal.

    Args:
        are_clocks_right: no clock runs faster or slower, or is set anew.
        slack_seconds: how long after its deadline work may go on; None: not looked at.
    """
    found: list[Violation] = []
    for before, entry in pairwise(entries):
        deadline_at = before.control.deadline_at
        if isinstance(entry.event, Failed) and entry.event.error.type == DEADLINE:
            is_early = deadline_at is None or entry.at < deadline_at - CLOCK_SLACK_SECONDS
            if are_clocks_right and is_early:
                found.append(
                    Violation(18, at_entry(entry), f"fails of its deadline {deadline_at} at {entry.at}")
                )
        if deadline_at is None or before.control.state.is_terminal:
            continue
        if entry.event.kind is Kind.CLAIMED and entry.at >= deadline_at:
            found.append(Violation(18, at_entry(entry), f"is claimed after its deadline {deadline_at}"))
        if slack_seconds is not None and entry.at > deadline_at + slack_seconds:
            found.append(Violation(18, at_entry(entry), f"comes long after its deadline {deadline_at}"))
    return found


def check_forks(history: Iterable[Record]) -> list[Violation]:
    """19: of what is written down in journals."""
    found: list[Violation] = []
    committed: set[tuple[str, int]] = set()
    begun: set[str] = set()
    history = list(history)
    for entry in (record.entry for record in history if isinstance(record, Appended)):
        if isinstance(entry.event, Committed):
            committed.add((entry.work_id, entry.event.version))
        if not isinstance(entry.event, Enqueued) or entry.event.fork is None:
            continue
        fork = entry.event.fork
        if (fork.work_id, fork.version) not in committed:
            found.append(Violation(19, at_entry(entry), f"is forked from {fork}, which is not committed"))
        if entry.work_id in begun or entry.position != 0:
            found.append(Violation(19, at_entry(entry), "is started again"))
        begun.add(entry.work_id)
    return found + _check_origins(journals(history))


def _check_origins(by_id: Mapping[str, Sequence[Entry]]) -> list[Violation]:
    """That origins know nothing of their forks."""
    found: list[Violation] = []
    for fork_id, entries in by_id.items():
        event = entries[0].event
        fork = event.fork if isinstance(event, Enqueued) else None
        for entry in by_id.get(fork.work_id, ()) if fork is not None else ():
            if entry.actor == f"{FORKER}{fork_id}":
                found.append(Violation(19, at_entry(entry), f"is by who started its fork {fork_id}"))
            elif fork_id.encode() in _without_holders(entry):
                found.append(Violation(19, at_entry(entry), f"names its fork {fork_id}"))
    return found


def _without_holders(entry: Entry) -> bytes:
    """An entry without who holds the resource that its work waits for: that may be a fork as anybody."""
    event = None if isinstance(entry.event, Blocked) else entry.event
    return msgspec.json.encode([event, msgspec.structs.replace(entry.control, reason="")])


def check_holds(entries: Sequence[Entry]) -> list[Violation]:
    """20, for one journal."""
    found: list[Violation] = []
    for before, entry in pairwise(entries):
        kind = entry.event.kind
        held_until = hold_until(before.control)
        if kind is Kind.CLAIMED and held_until is not None and entry.at < held_until:
            found.append(
                Violation(20, at_entry(entry), f"is claimed, while it is on hold until {held_until}")
            )
        if (
            kind is Kind.COMMITTED
            and hold_until(entry.control) is not None
            and entry.control.lease is not None
        ):
            found.append(Violation(20, at_entry(entry), "keeps its lease, though it is on hold"))
        if kind is Kind.CANCELLED and not before.control.cancel_requested:
            found.append(Violation(20, at_entry(entry), "is cancelled, and nobody asked for it"))
    return found


def bases(history: Iterable[Record]) -> dict[tuple[str, int], tuple[str, int] | None]:
    """The version from which each committed one was made; None: the beginning.

    By the control state that its step began from: the version before, save after a retry
    from an earlier one, and in a fork.
    """
    found: dict[tuple[str, int], tuple[str, int] | None] = {}
    for entries in journals(history).values():
        first = entries[0].event
        fork = first.fork if isinstance(first, Enqueued) else None
        beginning = (fork.work_id, fork.version) if fork is not None else None
        at = {e.position: e.event.version for e in entries if isinstance(e.event, Committed)}
        for before, entry in pairwise(entries):
            if isinstance(entry.event, Committed):
                position = before.control.snapshot_position
                base = beginning if position is None else (entry.work_id, at[position])
                found[entry.work_id, entry.event.version] = base
    return found


def check_operators(history: Sequence[Record], *, are_clocks_right: bool) -> list[Violation]:
    """All of it."""
    found = check_forks(history)
    for entries in journals(history).values():
        found += check_deadlines(entries, are_clocks_right=are_clocks_right) + check_holds(entries)
    return found
