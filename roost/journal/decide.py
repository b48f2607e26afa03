"""What to do with a delivery, a due row, or a lost position: decisions, as values.

Pure functions over the control state. `core` carries the decisions out.
"""

from __future__ import annotations

from math import inf

from msgspec import Struct

from roost.engine import RetryPolicy
from roost.journal.budget import hold_of, hold_until
from roost.journal.entries import Control, Entry, IndexRow
from roost.journal.events import OUTSIDER_KINDS, Kind
from roost.journal.projection import (
    LOST_DELIVERY_SECONDS,
    MESSAGE_DELAY_MAX_SECONDS,
    PARKED_LOOK_SECONDS,
    SEND_EARLY_SECONDS,
    blocked_look_seconds,
    due_at,
)
from roost.journal.values import ErrorInfo, Wait
from roost.models import REASON_MAX_CHARS, State
from roost.times import clock

_TAKEN_IN = OUTSIDER_KINDS | {Kind.RECORDED}
WAITS_FOR_ENGINE = "waits for a worker with engine"  # how a row says so
NO_ENGINE_DELAY_SECONDS = 5.0  # a work item whose engine this worker lacks is put back this long,
NO_ENGINE_LONGEST_SECONDS = 60.0  # and longer, up to this, while no other worker has taken it
WAITS_FOR_ROOM = "waits for a worker with room"  # how a row says so
ENDS_AT_ONCE = 1  # so many workers may end in one step before the next try is made in less company
LAST_ALONE = 2  # tries before a crash loop is taken for one, each with nothing beside it
DEFERRALS_AT_ONCE = 3  # so often a step may ask to be tried again at once; from then on it waits
DEFERRAL_FIRST_SECONDS = 0.1  # for so long at least, doubled each time,
DEFERRAL_LEAST_SECONDS = 1.0  # up to this: work may poll each second for ever, but not faster


class Claim(Struct, frozen=True):
    """Take the lease.

    Attributes:
        interruptions: leases since the last commit that ended without a word, with the one that is
            taken over.
    """

    interruptions: int = 0


class PutBack(Struct, frozen=True):
    """Somebody should look later: make the delivery visible again after the delay."""

    delay_seconds: float
    why: str


class NoEngine(Struct, frozen=True):
    """This worker lacks the engine, or a version that goes on from the snapshot: put it back, and say why."""

    delay_seconds: float
    why: str


class Discard(Struct, frozen=True):
    """The delivery has no use any more: acknowledge it."""

    why: str


class Fail(Struct, frozen=True):
    """Dead-letter the work item."""

    error: ErrorInfo


class Cancel(Struct, frozen=True):
    """End the work item as cancelled."""

    reason: str


class LookLater(Struct, frozen=True):
    """Nothing to do for a due row but to look again (None: never)."""

    due_at: float | None


class Settle(Struct, frozen=True):
    """Do what follows from entries whose effects may be undone."""


class Evict(Struct, frozen=True):
    """End a lease whose holder went silent: the work is on hold, or can't be claimed here and now."""


class Send(Struct, frozen=True):
    """Send a delivery, and look again at `due_at`."""

    delay_seconds: float
    due_at: float


def lease_until(control: Control, row: IndexRow | None) -> float | None:
    """Until when the lease is held: what the journal says, or a later heartbeat.

    Returns:
        Epoch seconds, or None if no lease is held.
    """
    if control.lease is None:
        return None
    if row is not None and row.token == control.lease.token and row.lease_until is not None:
        return max(control.lease.until, row.lease_until)
    return control.lease.until


def on_delivery(
    control: Control, row: IndexRow | None, *, cause: int, now: float, retry: RetryPolicy | None
) -> Claim | PutBack | NoEngine | Discard | Fail | Cancel:
    """What a worker does with a delivery.

    Args:
        control: the journal's tail.
        row: the index row, where a heartbeat may have moved the lease's end.
        cause: the entry that the delivery was sent for.
        retry: of the engine, if this worker has it; None if not.
    """
    if control.state.is_terminal:
        return Discard(f"already {control.state}")
    held_until = lease_until(control, row)
    if held_until is not None and held_until > now:
        return PutBack(held_until - now, "held by another worker")
    ended = _ended(control, now)
    if ended is not None:
        return ended
    is_stale = cause < control.sent_position
    if is_stale and _parked(control, now) is not None:
        return Discard("its turn is only to come")
    not_yet = _not_yet(control, now)
    if not_yet is not None:
        if is_stale or not_yet > MESSAGE_DELAY_MAX_SECONDS:
            return Discard("a later delivery or the sweeper comes for it")
        return PutBack(not_yet, f"{control.state} for {not_yet:.3f} s more")
    if retry is None:
        return _no_engine(control, now)
    interruptions = control.interruptions + (0 if held_until is None else 1)
    if interruptions >= retry.max_interruptions:
        return Fail(_crash_loop(control, interruptions))
    return Claim(interruptions)


def most_together(interruptions: int, lanes: int, max_interruptions: int) -> int | None:
    """How many work items may run in one worker at once, if one of them was interrupted so often.

    All that runs beside a step that kills its worker is interrupted with it, and nothing says which
    of them did it. With half the company after each further end, what is innocent soon runs without
    the one that is not, and commits; so does work that was only too much for its worker together.
    The last tries are made alone, so no work is dead-lettered for a death that it only shared.

    Args:
        interruptions: since its last commit.
        lanes: how many the worker runs at once.
        max_interruptions: of its engine.

    Returns:
        How many, itself among them; None: as many as there are.
    """
    if not interruptions:
        return None
    if max_interruptions - interruptions <= LAST_ALONE:
        return 1
    halvings = interruptions - ENDS_AT_ONCE
    return max(1, lanes >> min(halvings, lanes.bit_length())) if halvings > 0 else None


def room_reason(interruptions: int, most: int) -> str:
    """Why work that was interrupted so often is not run here and now, for its row."""
    beside = "alone" if most == 1 else f"beside {most - 1} other{'s' if most > 2 else ''} at most"
    return (
        f"{WAITS_FOR_ROOM}: {interruptions} workers in a row ended without a word in its step, "
        f"so it is run {beside}"
    )


def _no_engine(control: Control, now: float) -> NoEngine:
    waited = now - max(control.since, control.wake_at or 0.0)
    delay = min(max(waited / 4, NO_ENGINE_DELAY_SECONDS), NO_ENGINE_LONGEST_SECONDS)
    version = (
        "" if control.engine_version is None else f" {control.engine_version}, or one that migrates from it"
    )
    return NoEngine(delay, f"{WAITS_FOR_ENGINE} {control.engine}{version}"[:REASON_MAX_CHARS])


def _ended(control: Control, now: float) -> Fail | Cancel | None:
    """Whether work that nobody holds is over, whatever else it waits for."""
    if control.cancel_requested:
        return Cancel(control.reason)
    if control.deadline_at is not None and control.deadline_at <= now:
        return Fail(ErrorInfo("DeadlineExceeded", f"not done by its deadline, {clock(control.deadline_at)}"))
    if _has_waited_in_vain(control, now):
        what = describe(control.waits) if control.waits is not None else ""
        return Fail(ErrorInfo("WaitTimeout", f"what it waited for did not come in time: {what}"))
    return None


def _has_waited_in_vain(control: Control, now: float) -> bool:
    """Whether a wait that fails the work is over. Work on hold goes on being on hold, while it is."""
    waits = control.waits if control.state is State.WAITING else None
    if waits is None or not waits.fails or (hold_until(control) or 0.0) > now:
        return False
    return waits.until is not None and waits.until <= now


def describe(waits: Wait) -> str:
    """What work waits for, in words."""
    parts = []
    if waits.names:
        parts.append(f"signal {' or '.join(waits.names)}")
    if waits.join is not None:
        parts.append("its children")
    return " or ".join(parts)


def _not_yet(control: Control, now: float) -> float | None:
    """Seconds until work that nobody holds may go on; None: now."""
    held_until = hold_until(control)
    until = 0.0 if held_until is None else held_until
    if control.state is State.SCHEDULED:
        until = max(until, control.wake_at or 0.0)
    elif control.state is State.WAITING:
        waits_until = control.waits.until if control.waits is not None else None
        until = max(until, inf if waits_until is None else waits_until)
    return until - now if until > now else None


def _parked(control: Control, now: float) -> float | None:
    """Seconds until blocked work has its turn, if nothing but time stands in its way.

    A call by a release or an opening may come before, so a delivery for it is not put back.
    """
    if control.state is not State.BLOCKED or hold_of(control):
        return None
    if control.wake_at is None or control.wake_at <= now:
        return None
    return control.wake_at - now


def _send_parked(control: Control, parked: float, now: float) -> LookLater | Send:
    """Wake it in time for its turn; and now and then before, as an opening may have been missed."""
    assert control.wake_at is not None
    if parked <= SEND_EARLY_SECONDS * 2:
        return Send(parked, control.wake_at + LOST_DELIVERY_SECONDS)
    look_at = control.since + PARKED_LOOK_SECONDS
    if look_at <= now:
        return Send(0.0, min(control.wake_at - SEND_EARLY_SECONDS, now + PARKED_LOOK_SECONDS))
    return LookLater(min(control.wake_at - SEND_EARLY_SECONDS, look_at))


def _crash_loop(control: Control, interruptions: int) -> ErrorInfo:
    return ErrorInfo(
        "CrashLoop",
        f"{interruptions} workers in a row ended without a word in the step after version {control.version}: "
        "killed, out of memory, or frozen by a step that blocks the event loop (`loop.blocked` in the log)",
    )


def deferral_seconds(control: Control, asked_seconds: float) -> float:
    """How long a step waits that asks to be tried again after `asked_seconds`.

    As long as it asks for, but one that asks again and again must not spin: no attempt is burned,
    so nothing else would ever end that, and each round is two entries more in its journal.
    """
    more = control.deferrals - DEFERRALS_AT_ONCE
    if more < 0:
        return asked_seconds
    return max(asked_seconds, min(DEFERRAL_FIRST_SECONDS * 2.0 ** min(more, 32), DEFERRAL_LEAST_SECONDS))


def on_due(
    control: Control, row: IndexRow, *, now: float, has_backlog: bool
) -> LookLater | Send | Fail | Cancel | Settle | Evict:
    """What a sweeper does with a due row.

    Args:
        control: the journal's tail.
        row: the index row as it stands.
        has_backlog: whether the work queue has visible messages that nobody took; then
            a queued work item's delivery is likely among them and is not sent again.
    """
    if control.outbox and control.lease is None:
        return Settle()
    if control.state.is_terminal:
        return LookLater(None)
    held_until = lease_until(control, row)
    if held_until is not None and held_until > now:
        return LookLater(held_until + LOST_DELIVERY_SECONDS / 10)
    ended = _ended(control, now)
    if ended is not None:
        return ended
    if held_until is not None and (hold_until(control) or 0.0) > now:
        return Evict()
    parked = _parked(control, now)
    if parked is not None:
        return _send_parked(control, parked, now)
    not_yet = _not_yet(control, now)
    if not_yet is None:
        return _send_ready(control, now, has_backlog)
    if control.deadline_at is not None and control.deadline_at - now < not_yet:
        return _send_in_time(control.deadline_at - now, now)  # for its end
    if not_yet == inf or hold_of(control):
        return LookLater(due_at(control, now))
    return _send_in_time(not_yet, now)


def _send_in_time(seconds: float, now: float) -> LookLater | Send:
    """Have a delivery come in so many seconds; if they are many, somebody looks again before."""
    if seconds > SEND_EARLY_SECONDS * 2:
        return LookLater(now + seconds - SEND_EARLY_SECONDS)
    return Send(seconds, now + seconds + LOST_DELIVERY_SECONDS)


def _send_ready(control: Control, now: float, has_backlog: bool) -> LookLater | Send:
    """Ready work that nobody has taken: look later and later, as it waits longer."""
    later = now + _look_seconds(control, now)
    if control.deadline_at is not None:
        later = min(later, control.deadline_at)
    if has_backlog and control.state is State.QUEUED:
        return LookLater(later)
    return Send(0.0, later)


def _look_seconds(control: Control, now: float) -> float:
    """After how long somebody looks again at ready work."""
    if control.state is State.BLOCKED and control.wake_at is None:
        return blocked_look_seconds(control, now)
    since = control.since if control.wake_at is None else control.wake_at
    most = PARKED_LOOK_SECONDS if control.state is State.BLOCKED else MESSAGE_DELAY_MAX_SECONDS
    return min(max(now - since, LOST_DELIVERY_SECONDS), most)


def can_take_in(standing: Entry, token: int, created_at: float) -> bool:
    """Whether the holder of `token`, of work created then, may append after an entry that took its position.

    True for what outsiders append while the lease goes on, and for a result that this
    holder recorded itself without learning of it (its step was interrupted meanwhile);
    False once a newer claim, a release or an end stands there: the lease is gone. So it is once
    the work was deleted, and its id came into use anew.
    """
    control = standing.control
    is_held = control.lease is not None and control.lease.token == token and control.created_at == created_at
    return is_held and standing.event.kind in _TAKEN_IN
