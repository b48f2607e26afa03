"""What an index row shows of a work item, and when somebody should look at it again. Pure.

`project(entry)` is the row that reflects an entry; `due_at` is in it.
"""

from __future__ import annotations

from math import inf

from msgspec import Struct
from msgspec.structs import replace

from roost.journal import budget
from roost.journal.entries import Control, Entry, IndexRow
from roost.journal.values import Wait
from roost.names import APPROVAL_MARK, REASON_MAX_CHARS, Lane, State

MESSAGE_DELAY_MAX_SECONDS = 900.0  # Amazon SQS Developer Guide, "Message timers": 15 minutes
SEND_EARLY_SECONDS = 60.0  # long sleepers: the sweeper sends this early, the rest is message delay
LOST_DELIVERY_SECONDS = 5.0  # how long a delivery may be overdue before the sweeper looks
BLOCKED_LOOK_SECONDS = 60.0  # who waits for a resource asks so often by itself, at first sooner
PARKED_LOOK_SECONDS = 3600.0  # who waits for a closed resource looks so often whether it was opened
LEASE_GRACE_SECONDS = 0.5  # after a lease's end, before the sweeper looks


class LaneCount(Struct, frozen=True):
    """How many work items of a namespace are in a state and lane.

    Attributes:
        oldest_at: when the oldest of them was enqueued, in epoch seconds.
    """

    state: State
    lane: Lane
    count: int
    oldest_at: float


def due_at(control: Control, at: float) -> float | None:
    """When somebody should look at a work item again if nothing else happens.

    Args:
        control: its state.
        at: the instant of the entry that led to it.
    """
    if control.outbox and control.lease is None:
        return at + LOST_DELIVERY_SECONDS
    if control.state.is_terminal:
        return None
    if control.cancel_requested and control.lease is None:
        return at + LOST_DELIVERY_SECONDS
    due = _due_in_state(control, at)
    if control.lease is None and (hold_until := budget.hold_until(control)) is not None:
        due = None if hold_until == inf else hold_until
    if control.deadline_at is None or control.lease is not None:
        return due  # a holder ends itself; if it does not, its lease does
    at_deadline = max(_due_before(control.deadline_at, at), at)
    return at_deadline if due is None else min(due, at_deadline)


def _due_in_state(control: Control, at: float) -> float | None:
    match control.state:
        case State.QUEUED:
            return at + LOST_DELIVERY_SECONDS
        case State.RUNNING:
            assert control.lease is not None
            return control.lease.until + LEASE_GRACE_SECONDS
        case State.BLOCKED if control.wake_at is not None:
            return min(_due_before(control.wake_at, at), at + PARKED_LOOK_SECONDS)
        case State.BLOCKED:
            return at + blocked_look_seconds(control, at)
        case State.SCHEDULED:
            return _due_before(control.wake_at or at, at)
        case State.WAITING:
            until = control.waits.until if control.waits is not None else at
            return None if until is None else _due_before(until, at)
        case _:
            return at + LOST_DELIVERY_SECONDS


def blocked_look_seconds(control: Control, now: float) -> float:
    """After how long blocked work asks again: a release calls it, and this is for calls that are lost.

    Later and later, as it is blocked longer: a crowd that asks again and again is in the way of
    those whose turn it is, and each question is paid for.
    """
    blocked_at = now if control.blocked_at is None else control.blocked_at
    return min(max(LOST_DELIVERY_SECONDS, now - blocked_at), BLOCKED_LOOK_SECONDS)


def _due_before(wake_at: float, at: float) -> float:
    if is_sent_with_delay(wake_at, at):
        return wake_at + LOST_DELIVERY_SECONDS
    return wake_at - SEND_EARLY_SECONDS


def shown_state(control: Control) -> State:
    """The state as lists show it: work that is on hold, or parked, is paused; or blocked, if nothing
    but its turn is missing."""
    return _shown(control, _why_idle(control))


def _shown(control: Control, why: str) -> State:
    if not why:
        return control.state
    if control.over:
        return State.PAUSED
    is_next = control.turn is not None and not budget.hold_of(replace(control, turn=None))
    return State.BLOCKED if is_next else State.PAUSED


def _why_idle(control: Control) -> str:
    """Why work that nobody runs is on hold, or parked; empty: it is not."""
    is_idle = control.lease is None and not control.state.is_terminal
    return (budget.hold_of(control) or control.over) if is_idle else ""


def waited_for(waits: Wait) -> str:
    """What work waits for, in words."""
    names = [
        f"approval {name.removeprefix(APPROVAL_MARK)}" if name.startswith(APPROVAL_MARK) else f"signal {name}"
        for name in waits.names
    ]
    return " or ".join([*names, "its children"] if waits.join is not None else names)


def _reason(control: Control, why: str) -> str:
    """Why it is in its state, for lists."""
    reason = why or control.reason
    if not reason and control.waits is not None and control.state is State.WAITING:
        what = waited_for(control.waits)
        reason = f"waits for {what}" if what else ""
    return reason or control.note[:REASON_MAX_CHARS]


def is_sent_with_delay(wake_at: float, now: float) -> bool:
    """Whether a wake-up is near enough to travel as the delay of a message."""
    return wake_at - now <= MESSAGE_DELAY_MAX_SECONDS


def project(entry: Entry) -> IndexRow:
    """The index row that reflects `entry`."""
    control = entry.control
    lease, why = control.lease, _why_idle(control)
    return IndexRow(  # its fields in order: to look up their names takes a microsecond
        entry.work_id,
        control.engine,
        _shown(control, why),
        control.lane,
        entry.position,
        control.version,
        control.step,
        control.created_at,
        entry.at,  # updated_at
        control.since,
        due_at(control, entry.at),
        lease.token if lease else None,
        lease.worker_id if lease else None,
        lease.until if lease else None,
        control.wake_at,
        control.deadline_at,
        control.failures,
        control.interruptions,
        _reason(control, why),
        None,  # progress
        control.labels,
        control.parent.work_id if control.parent else None,
    )


def project_over(entry: Entry, row: IndexRow | None) -> IndexRow:
    """The index row that reflects `entry`, in the place of `row`: what heartbeats made of the same lease
    is kept, which no entry says."""
    made = project(entry)
    if row is None or made.token is None or row.token != made.token:
        return made
    return replace(
        made,
        lease_until=max(made.lease_until or 0.0, row.lease_until or 0.0),
        due_at=max(made.due_at or 0.0, row.due_at or 0.0),
        progress=row.progress,
    )
