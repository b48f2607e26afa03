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
from roost.journal import budget, family, lines
from roost.journal.effects import effects
from roost.journal.entries import Control, Lease
from roost.journal.events import (
    AttemptFailed,
    Blocked,
    BudgetSet,
    Cancelled,
    CancelRequested,
    ChildEnded,
    Claimed,
    Committed,
    Deferred,
    Enqueued,
    Event,
    Evicted,
    Failed,
    Kind,
    Noted,
    Paused,
    Recorded,
    Released,
    Resumed,
    Retried,
    Settled,
    Signaled,
    TurnGiven,
)
from roost.journal.values import Amounts, Wait
from roost.models import REASON_MAX_CHARS, State


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
    met_in, move = TABLE.get(event.kind) or lines.TABLE[event.kind]
    if state not in met_in:
        raise InvalidTransition(state, event.kind)
    after = move(control, event, position, at)
    if control is not None and control.cancel_requested:
        after = _keep_why(control, event, after)
    if effects(event, after):
        return replace(after, outbox=(*after.outbox, position))
    return after


def _keep_why(control: Control, event: Event, after: Control) -> Control:
    """Why somebody wants work to end is its reason until it has ended: the end says so."""
    if event.kind is Kind.CANCEL_REQUESTED or not after.cancel_requested or after.state.is_terminal:
        return after
    return replace(after, reason=control.reason)


def _text(kind: str, message: str) -> str:
    return f"{kind}: {message}"[:REASON_MAX_CHARS] if message else kind


def _enqueued(control: None, event: Enqueued, position: int, at: float) -> Control:
    return Control(  # its first fields, in order: to look up their names takes a microsecond
        _first_state(event),
        event.engine,
        position,
        at,
        at,
        event.lane,
        event.wake_at,
        event.deadline_at,
        event.labels,
        event.parent,
        event.budget,
        event.account,
        event.family_budget,
        event.engine_version,
        event.turn,
        event.waits,
    )


def _first_state(event: Enqueued) -> State:
    if event.waits is not None:
        return State.WAITING
    return State.QUEUED if event.wake_at is None else State.SCHEDULED


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
        paused="" if control.paused_until is not None else control.paused,  # its time is over
        paused_until=None,
        paused_by="" if control.paused_until is not None else control.paused_by,
        is_daily=event.is_daily,
        over="",
        reason="",
    )


def _committed(control: Control, event: Committed, position: int, at: float) -> Control:
    assert control.lease is not None
    after = _take_in(control, event, position, at)
    state, lease = _after_commit(control.lease, event, after)
    return replace(
        after,
        state=state,
        since=control.since if lease else at,
        lease=lease,
        last_token=None if lease else control.lease.token,
        wake_at=event.wake_at if state is State.SCHEDULED else None,
        sent_position=control.sent_position if lease else position,
        reason="" if state is State.DONE else budget.warning(after) or event.warning,
    )


def _take_in(control: Control, event: Committed, position: int, at: float) -> Control:
    """The control state with what a commit brings, but for the state that it leads to.

    What a commit ends is left out: failures, interruptions and deferrals, recorded results, the
    effects of earlier entries (the holder did them before), and what it waited for.
    """
    signals, children = control.signals, control.family
    if event.consumed:
        seen = frozenset(event.consumed)
        signals = tuple(pending for pending in signals if pending[0] not in seen)
        children = family.take_in(children, seen) if children is not None else None
    if event.spawned:
        children = family.spawn(children, event.version, event.spawned, event.bound)
    spent = control.spent
    if control.budget or event.spent:
        own = budget.own_counts(control.budget, steps=1, seconds=event.duration_seconds)
        spent = budget.add(budget.add(spent, own), dict(event.spent))
    return Control(
        state=control.state,
        engine=control.engine,
        position=position,
        created_at=control.created_at,
        since=at,
        lane=control.lane,
        version=event.version,
        step=event.step,
        snapshot_position=position,
        waits=event.waits,
        deadline_at=control.deadline_at,
        signals=signals,
        last_signal=control.last_signal,
        cancel_requested=control.cancel_requested,
        cancel_by=control.cancel_by,
        paused=control.paused,
        paused_until=control.paused_until,
        paused_by=control.paused_by,
        labels=control.labels,
        parent=control.parent,
        family=children,
        budget=control.budget,
        spent=spent,
        account=control.account,
        family_budget=control.family_budget,
        is_daily=control.is_daily,
        engine_version=event.engine_version,
        turn=control.turn,
    )


def _after_commit(lease: Lease, event: Committed, after: Control) -> tuple[State, Lease | None]:
    if event.is_finished:
        return State.DONE, None
    if event.waits is not None and not is_woken(event.waits, after):
        return State.WAITING, None
    if event.wake_at is not None:
        return State.SCHEDULED, None
    if event.lease_until is None or budget.hold_of(after):
        return State.QUEUED, None
    return State.RUNNING, Lease(lease.worker_id, lease.token, event.lease_until)


def is_woken(waits: Wait, control: Control) -> bool:
    """Whether what work waits for is there: a signal of that name, or enough children."""
    if control.signals and any(name in waits.names for _, name in control.signals):
        return True
    return waits.join is not None and family.is_satisfied(waits.join, control.family)


def _attempt_failed(control: Control, event: AttemptFailed, position: int, at: float) -> Control:
    state = State.FAILED if event.retry_at is None else State.SCHEDULED
    reason = _text(event.error.type, event.error.message)
    after = _leave(control, state, position, at, reason, wake_at=event.retry_at)
    own = budget.own_counts(control.budget, steps=0, seconds=event.duration_seconds)
    spent = budget.add(budget.add(control.spent, own), dict(event.spent))
    return replace(after, failures=control.failures + 1, spent=spent)


def _recorded(control: Control, event: Recorded, position: int, at: float) -> Control:
    others = tuple(pair for pair in control.once if pair[0] != event.key)
    known = (event.key, -position if event.is_begun else position)
    return replace(control, position=position, once=(*others, known))


def _deferred(control: Control, event: Deferred, position: int, at: float) -> Control:
    after = _leave(control, State.SCHEDULED, position, at, event.reason, wake_at=event.wake_at)
    return _spend(replace(after, deferrals=control.deferrals + 1), event.spent)


def _spend(control: Control, spent: Amounts) -> Control:
    return replace(control, spent=budget.add(control.spent, dict(spent))) if spent else control


def _blocked(control: Control, event: Blocked, position: int, at: float) -> Control:
    what = ", ".join(event.by) or f"its turn with {', '.join(event.limited)}"
    reason = (event.over or f"waits for {what}")[:REASON_MAX_CHARS]
    after = _leave(control, State.BLOCKED, position, at, reason, wake_at=event.wake_at)
    blocked_at = at if control.blocked_at is None else control.blocked_at
    return replace(after, over=event.over, blocked_at=blocked_at)


def _released(control: Control, event: Released, position: int, at: float) -> Control:
    return _spend(_leave(control, State.QUEUED, position, at, event.reason), event.spent)


def _evicted(control: Control, event: Evicted, position: int, at: float) -> Control:
    why = event.reason or f"worker {event.worker_id} went silent"
    after = _leave(control, State.QUEUED, position, at, why)
    return replace(after, interruptions=control.interruptions + 1)


def _failed(control: Control, event: Failed, position: int, at: float) -> Control:
    reason = _text(event.error.type, event.error.message)
    after = _spend(_leave(control, State.FAILED, position, at, reason), event.spent)
    return replace(after, interruptions=after.interruptions + 1) if event.is_interrupted else after


def _cancelled(control: Control, event: Cancelled, position: int, at: float) -> Control:
    return _spend(_leave(control, State.CANCELLED, position, at, event.reason), event.spent)


def _signaled(control: Control, event: Signaled, position: int, at: float) -> Control:
    signals = (*control.signals, (position, event.name))
    after = replace(control, position=position, signals=signals, last_signal=position)
    return _wake(after, position, at)


def _child_ended(control: Control, event: ChildEnded, position: int, at: float) -> Control:
    is_done = event.state is State.DONE
    children = family.end(control.family, event.ordinal, position, is_done=is_done)
    return _wake(replace(control, position=position, family=children), position, at)


def _wake(control: Control, position: int, at: float) -> Control:
    """Work that waits goes on if what it waits for is there now."""
    if control.state is State.WAITING and control.waits is not None and is_woken(control.waits, control):
        return replace(control, state=State.QUEUED, since=at, sent_position=position)
    return control


def _cancel_requested(control: Control, event: CancelRequested, position: int, at: float) -> Control:
    after = replace(
        control, position=position, cancel_requested=True, cancel_by=event.by, reason=event.reason
    )
    if control.state is State.RUNNING:
        return after  # its holder takes it in at the next append
    return replace(after, sent_position=position)


def _retried(control: Control, event: Retried, position: int, at: float) -> Control:
    is_ready = control.waits is None or is_woken(control.waits, control)
    after = replace(
        _leave(control, State.QUEUED if is_ready else State.WAITING, position, at, event.reason),
        waits=_again(control.waits, at),
        failures=0,
        interruptions=0,
        deferrals=0,
        cancel_requested=False,
        cancel_by=None,
        deadline_at=None,
        paused="",
        paused_until=None,
        paused_by="",
        turn=lines.asks_again(control.turn, position),
    )
    return after if event.snapshot_position is None else _rewind(after, event, position, at)


def _rewind(control: Control, event: Retried, position: int, at: float) -> Control:
    """Back to an earlier version: it waits for what that one waited for, unless it is there."""
    waits = _anew(event.waits, at)
    is_ready = waits is None or is_woken(waits, control)
    return replace(
        control,
        state=State.QUEUED if is_ready else State.WAITING,
        snapshot_position=None if event.snapshot_position == -1 else event.snapshot_position,
        waits=waits,
        engine_version=event.engine_version,
        once=(),  # they were recorded by another step
        rewound=position,
    )


def _again(waits: Wait | None, at: float) -> Wait | None:
    """What work that is retried waits for: the same as before it ended, so that no retry leads past
    an approval. A wait that failed the work begins anew; one that is over otherwise stays over."""
    is_over = waits is not None and waits.until is not None and waits.until <= at
    return _anew(waits, at) if waits is not None and waits.fails and is_over else waits


def _anew(waits: Wait | None, at: float) -> Wait | None:
    """A wait that begins at `at`."""
    if waits is None:
        return None
    return replace(waits, until=None if waits.seconds is None else at + waits.seconds)


def _turn_given(control: Control, event: TurnGiven, position: int, at: float) -> Control:
    assert control.turn is not None
    after = replace(control, position=position, turn=replace(control.turn, is_given=True))
    return _go_on(after, position, at)


def _paused(control: Control, event: Paused, position: int, at: float) -> Control:
    return replace(
        control,
        position=position,
        paused=event.reason or "paused",
        paused_until=event.until,
        paused_by=event.by,
    )


def _resumed(control: Control, event: Resumed, position: int, at: float) -> Control:
    after = replace(control, position=position, paused="", paused_until=None, paused_by="")
    return _go_on(after, position, at)


def _budget_set(control: Control, event: BudgetSet, position: int, at: float) -> Control:
    if event.is_family:  # its effect sets them, and wakes who is parked for them
        return replace(control, position=position)
    limits = tuple(sorted((dict(control.budget) | dict(event.budget)).items()))
    after = replace(control, position=position, budget=limits)
    return after if control.state.is_terminal else _go_on(after, position, at)


def _noted(control: Control, event: Noted, position: int, at: float) -> Control:
    return replace(control, position=position, note=event.text)


def _settled(control: Control, event: Settled, position: int, at: float) -> Control:
    left = tuple(waiting for waiting in control.outbox if waiting > event.up_to)
    return replace(control, position=position, outbox=left)


def _go_on(control: Control, position: int, at: float) -> Control:
    """Work that may have been on hold: its deliveries were thrown away, so there is a new one.

    Who was blocked may have missed its turn, and asks again.
    """
    if control.state is State.RUNNING or budget.hold_of(control):
        return control
    if control.state is State.BLOCKED:
        return replace(control, state=State.QUEUED, since=at, sent_position=position, over="")
    return replace(control, sent_position=position)


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
        sent_position=position,
        reason=reason,
        blocked_at=None,
        over="",
    )


_IDLE: frozenset[State | None] = frozenset({State.QUEUED, State.SCHEDULED, State.WAITING, State.BLOCKED})
_HELD: frozenset[State | None] = frozenset({State.RUNNING})
_ENDED: frozenset[State | None] = frozenset({State.DONE, State.FAILED, State.CANCELLED})
_LIVE = _IDLE | _HELD

TABLE: dict[Kind, tuple[frozenset[State | None], Callable[[Any, Any, int, float], Control]]] = {
    Kind.ENQUEUED: (frozenset({None}), _enqueued),  # -> queued, scheduled
    Kind.CLAIMED: (_LIVE, _claimed),  # -> running; from running it takes over an expired lease
    Kind.COMMITTED: (_HELD, _committed),  # -> running, queued, scheduled, waiting, done
    Kind.RECORDED: (_HELD, _recorded),  # -> running
    Kind.ATTEMPT_FAILED: (_HELD, _attempt_failed),  # -> scheduled, failed
    Kind.DEFERRED: (_HELD, _deferred),  # -> scheduled
    Kind.BLOCKED: (_HELD, _blocked),  # -> blocked
    Kind.RELEASED: (_HELD, _released),  # -> queued
    Kind.EVICTED: (_HELD, _evicted),  # -> queued
    Kind.FAILED: (_LIVE, _failed),  # -> failed
    Kind.CANCELLED: (_LIVE, _cancelled),  # -> cancelled
    Kind.SIGNALED: (_LIVE, _signaled),  # stays; from waiting -> queued if it waited for it
    Kind.CANCEL_REQUESTED: (_LIVE, _cancel_requested),  # stays
    Kind.RETRIED: (_ENDED, _retried),  # -> queued, waiting
    Kind.CHILD_ENDED: (_LIVE | _ENDED, _child_ended),  # stays; from waiting -> queued if enough have ended
    Kind.PAUSED: (_LIVE, _paused),  # stays, and is not run
    Kind.RESUMED: (_LIVE, _resumed),  # stays; from blocked -> queued
    Kind.BUDGET_SET: (_LIVE | _ENDED, _budget_set),  # stays; from blocked -> queued
    Kind.NOTED: (_LIVE | _ENDED, _noted),  # stays
    Kind.SETTLED: (_LIVE | _ENDED, _settled),  # stays
    Kind.TURN_GIVEN: (_LIVE, _turn_given),  # stays, and may be run
}
"""The one table: which states (None: no journal yet) an event may meet, and what it makes of them."""
