"""The control state of a work item and the one table that moves it.

`apply(control, event) -> control` is pure: no clock, no I/O. Every entry carries the
control state after it, so the tail of a journal says all that is true now.

A lease is held exactly in state `running`. The table below names every event that a
state can meet; anything else raises `InvalidTransition`. `TABLE` is further down, after
the functions that it names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from roost.errors import RoostError
from roost.journal.entries import (
    AttemptFailed,
    Blocked,
    Cancelled,
    CancelRequested,
    Claimed,
    Committed,
    Control,
    Deferred,
    Enqueued,
    Entry,
    Event,
    Evicted,
    Failed,
    IndexRow,
    Kind,
    Lease,
    Recorded,
    Released,
    Retried,
    Signaled,
)
from roost.models import REASON_MAX_CHARS, State

MESSAGE_DELAY_MAX_SECONDS = 900.0  # Amazon SQS Developer Guide, "Message timers": 15 minutes
SEND_EARLY_SECONDS = 60.0  # long sleepers: the sweeper sends this early, the rest is message delay
LOST_DELIVERY_SECONDS = 5.0  # how long a delivery may be overdue before the sweeper looks
PARKED_LOOK_SECONDS = 3600.0  # who waits for a closed resource looks so often whether it was opened
LEASE_GRACE_SECONDS = 0.5  # after a lease's end, before the sweeper looks


class InvalidTransition(RoostError):
    """An event met a state that it can't meet; a bug, never a race."""

    def __init__(self, state: State | None, kind: Kind) -> None:
        super().__init__(f"a work item that is {state or 'not there'} can't be {kind}")
        self.state = state
        self.kind = kind


def apply(control: Control | None, event: Event, *, position: int, at: float) -> Control:
    """The control state after `event`.

    Args:
        control: the state before; None before the first entry.
        position: of the entry that `event` becomes.
        at: when it happens.

    Raises:
        InvalidTransition: the table has no such move.
    """
    state = None if control is None else control.state
    met_in, move = TABLE[event.kind]
    if state not in met_in:
        raise InvalidTransition(state, event.kind)
    return move(control, event, position, at)


def _text(kind: str, message: str) -> str:
    return f"{kind}: {message}"[:REASON_MAX_CHARS]


def _enqueued(control: None, event: Enqueued, position: int, at: float) -> Control:
    return Control(
        state=State.QUEUED if event.wake_at is None else State.SCHEDULED,
        engine=event.engine,
        position=position,
        created_at=at,
        since=at,
        lane=event.lane,
        wake_at=event.wake_at,
        deadline_at=event.deadline_at,
        sent_position=position,
    )


def _claimed(control: Control, event: Claimed, position: int, at: float) -> Control:
    lost = 1 if control.lease is not None else 0  # its holder ended without a word
    return replace(
        control,
        state=State.RUNNING,
        position=position,
        since=at,
        lease=Lease(event.worker_id, position, event.lease_until),
        last_token=None,
        interruptions=control.interruptions + lost,
        wake_at=None,
        waits=None,
        reason="",
    )


def _committed(control: Control, event: Committed, position: int, at: float) -> Control:
    assert control.lease is not None
    state, lease = _after_commit(control.lease, event)
    if control.signals and state is State.WAITING:
        state = State.QUEUED  # the holder looks at the signals itself; this is for the next
    return Control(
        state=state,
        engine=control.engine,
        position=position,
        created_at=control.created_at,
        since=control.since if lease else at,
        lane=control.lane,
        version=event.version,
        step=event.step,
        snapshot_position=position,
        lease=lease,
        last_token=None if lease else control.lease.token,
        wake_at=event.wake_at,
        waits=event.waits if state is State.WAITING else None,
        deadline_at=control.deadline_at,
        sent_position=control.sent_position if lease else position,
        signals=tuple(p for p in control.signals if p not in event.consumed) if control.signals else (),
        cancel_requested=control.cancel_requested,
    )


def _after_commit(lease: Lease, event: Committed) -> tuple[State, Lease | None]:
    if event.is_finished:
        return State.DONE, None
    if event.waits is not None:
        return State.WAITING, None
    if event.wake_at is not None:
        return State.SCHEDULED, None
    if event.lease_until is None:
        return State.QUEUED, None
    return State.RUNNING, Lease(lease.worker_id, lease.token, event.lease_until)


def _attempt_failed(control: Control, event: AttemptFailed, position: int, at: float) -> Control:
    state = State.FAILED if event.retry_at is None else State.SCHEDULED
    reason = _text(event.error.type, event.error.message)
    after = _leave(control, state, position, at, reason, wake_at=event.retry_at)
    return replace(after, failures=control.failures + 1)


def _recorded(control: Control, event: Recorded, position: int, at: float) -> Control:
    return replace(control, position=position, once=(*control.once, (event.key, position)))


def _deferred(control: Control, event: Deferred, position: int, at: float) -> Control:
    return _leave(control, State.SCHEDULED, position, at, event.reason, wake_at=event.wake_at)


def _blocked(control: Control, event: Blocked, position: int, at: float) -> Control:
    what = ", ".join(event.by) or f"its turn with {', '.join(event.limited)}"
    reason = f"waits for {what}"[:REASON_MAX_CHARS]
    return _leave(control, State.BLOCKED, position, at, reason, wake_at=event.wake_at)


def _released(control: Control, event: Released, position: int, at: float) -> Control:
    return _leave(control, State.QUEUED, position, at, event.reason)


def _evicted(control: Control, event: Evicted, position: int, at: float) -> Control:
    after = _leave(control, State.QUEUED, position, at, f"worker {event.worker_id} went silent")
    return replace(after, interruptions=control.interruptions + 1)


def _failed(control: Control, event: Failed, position: int, at: float) -> Control:
    return _leave(control, State.FAILED, position, at, _text(event.error.type, event.error.message))


def _cancelled(control: Control, event: Cancelled, position: int, at: float) -> Control:
    return _leave(control, State.CANCELLED, position, at, event.reason)


def _signaled(control: Control, event: Signaled, position: int, at: float) -> Control:
    after = replace(control, position=position, signals=(*control.signals, position))
    if control.state is State.WAITING and control.waits and event.name in control.waits.names:
        return replace(after, state=State.QUEUED, since=at, waits=None, sent_position=position)
    return after


def _cancel_requested(control: Control, event: CancelRequested, position: int, at: float) -> Control:
    after = replace(control, position=position, cancel_requested=True, reason=event.reason)
    if control.state is State.RUNNING:
        return after  # its holder takes it in at the next append
    return replace(after, sent_position=position)


def _retried(control: Control, event: Retried, position: int, at: float) -> Control:
    after = _leave(control, State.QUEUED, position, at, event.reason)
    return replace(after, failures=0, interruptions=0, cancel_requested=False, deadline_at=None)


def _leave(
    control: Control, state: State, position: int, at: float, reason: str, wake_at: float | None = None
) -> Control:
    """The lease is given up (if there was one) and `state` begins."""
    return replace(
        control,
        state=state,
        position=position,
        since=at,
        lease=None,
        last_token=control.last_token if control.lease is None else control.lease.token,
        wake_at=wake_at,
        waits=None,
        sent_position=position,
        reason=reason,
    )


_IDLE: frozenset[State | None] = frozenset({State.QUEUED, State.SCHEDULED, State.WAITING, State.BLOCKED})
_HELD: frozenset[State | None] = frozenset({State.RUNNING})
_ENDED: frozenset[State | None] = frozenset({State.DONE, State.FAILED, State.CANCELLED})

TABLE: dict[Kind, tuple[frozenset[State | None], Callable[[Any, Any, int, float], Control]]] = {
    Kind.ENQUEUED: (frozenset({None}), _enqueued),  # -> queued, scheduled
    Kind.CLAIMED: (_IDLE | _HELD, _claimed),  # -> running; from running it takes over an expired lease
    Kind.COMMITTED: (_HELD, _committed),  # -> running, queued, scheduled, waiting, done
    Kind.RECORDED: (_HELD, _recorded),  # -> running
    Kind.ATTEMPT_FAILED: (_HELD, _attempt_failed),  # -> scheduled, failed
    Kind.DEFERRED: (_HELD, _deferred),  # -> scheduled
    Kind.BLOCKED: (_HELD, _blocked),  # -> blocked
    Kind.RELEASED: (_HELD, _released),  # -> queued
    Kind.EVICTED: (_HELD, _evicted),  # -> queued
    Kind.FAILED: (_IDLE | _HELD, _failed),  # -> failed
    Kind.CANCELLED: (_IDLE | _HELD, _cancelled),  # -> cancelled
    Kind.SIGNALED: (_IDLE | _HELD, _signaled),  # stays; from waiting -> queued if it waited for it
    Kind.CANCEL_REQUESTED: (_IDLE | _HELD, _cancel_requested),  # stays
    Kind.RETRIED: (_ENDED, _retried),  # -> queued
}
"""The one table: which states (None: no journal yet) an event may meet, and what it makes of them."""


def due_at(control: Control, at: float) -> float | None:
    """When somebody should look at a work item again if nothing else happens.

    Args:
        control: its state.
        at: the instant of the entry that led to it.
    """
    if control.state.is_terminal:
        return None
    if control.cancel_requested and control.lease is None:
        return at + LOST_DELIVERY_SECONDS
    due = _due_in_state(control, at)
    if control.deadline_at is None:
        return due
    return control.deadline_at if due is None else min(due, max(control.deadline_at, at))


def _due_in_state(control: Control, at: float) -> float | None:
    match control.state:
        case State.RUNNING:
            assert control.lease is not None
            return control.lease.until + LEASE_GRACE_SECONDS
        case State.BLOCKED if control.wake_at is not None:
            return min(_due_before(control.wake_at, at), at + PARKED_LOOK_SECONDS)
        case State.SCHEDULED:
            return _due_before(control.wake_at or at, at)
        case State.WAITING:
            return control.waits.until if control.waits else at
        case _:
            return at + LOST_DELIVERY_SECONDS


def _due_before(wake_at: float, at: float) -> float:
    if is_sent_with_delay(wake_at, at):
        return wake_at + LOST_DELIVERY_SECONDS
    return wake_at - SEND_EARLY_SECONDS


def is_sent_with_delay(wake_at: float, now: float) -> bool:
    """Whether a wake-up is near enough to travel as the delay of a message."""
    return wake_at - now <= MESSAGE_DELAY_MAX_SECONDS


def project(entry: Entry) -> IndexRow:
    """The index row that reflects `entry`."""
    control = entry.control
    lease = control.lease
    return IndexRow(
        work_id=entry.work_id,
        engine=control.engine,
        state=control.state,
        lane=control.lane,
        position=entry.position,
        version=control.version,
        step=control.step,
        created_at=control.created_at,
        updated_at=entry.at,
        since=control.since,
        due_at=due_at(control, entry.at),
        token=lease.token if lease else None,
        worker_id=lease.worker_id if lease else None,
        lease_until=lease.until if lease else None,
        wake_at=control.wake_at,
        deadline_at=control.deadline_at,
        failures=control.failures,
        interruptions=control.interruptions,
        reason=control.reason,
    )
