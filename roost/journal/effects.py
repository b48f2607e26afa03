"""What an entry has others do: start children, tell the parent, cancel children. Pure.

An entry with effects is named in `Control.outbox` from then on, until they are known to
be done; `core/outbox.py` carries them out. Each is idempotent, for it is done again by
whoever finds it undone.
"""

from __future__ import annotations

from msgspec import Struct

from roost.journal import accounts, family
from roost.journal.entries import Control, Entry
from roost.journal.events import (
    AttemptFailed,
    BudgetSet,
    Cancelled,
    ChildEnded,
    Committed,
    Enqueued,
    Event,
    Failed,
    KeyBound,
    Retried,
    TurnEnded,
    TurnTaken,
)
from roost.names import State


class ChargeAccounts(Struct, frozen=True):
    """Add what the entry used up to the accounts of its family and of the day."""


class AllowFamily(Struct, frozen=True):
    """Set the limits of the family's account, and wake those who are parked for them."""


class SpawnChildren(Struct, frozen=True):
    """Enqueue the children that the snapshot in the entry's body asks for."""


class NotifyParent(Struct, frozen=True):
    """Report the end of the work to its parent."""


class CancelChildren(Struct, frozen=True):
    """Ask all children that are still open to end; or those that end with their parent."""

    reason: str
    only_bound: bool = False


class FireTriggers(Struct, frozen=True):
    """Enqueue the work that triggers make of this end."""


class TakeTurn(Struct, frozen=True):
    """Stand in line in the work's conversation again."""


class EndTurn(Struct, frozen=True):
    """Leave the line of the work's conversation."""


class Interrupt(Struct, frozen=True):
    """Ask all that are in line before this place to end."""


class StartTurns(Struct, frozen=True):
    """Enqueue the work that stands in line here, and give the turn to who is first."""


class EnqueueBound(Struct, frozen=True):
    """Enqueue the work that an idempotency key stands for."""


Effect = (
    ChargeAccounts
    | AllowFamily
    | SpawnChildren
    | NotifyParent
    | CancelChildren
    | FireTriggers
    | TakeTurn
    | EndTurn
    | Interrupt
    | StartTurns
    | EnqueueBound
)


def effects_of(entry: Entry) -> tuple[Effect, ...]:
    """What follows from an entry, in the order in which it is to be done."""
    return effects(entry.event, entry.control)


def effects(event: Event, after: Control) -> tuple[Effect, ...]:
    """What follows from `event`, with `after` as the state after it."""
    if event.kind is Enqueued.kind:
        return ()
    if event.kind in _OF_LINES:
        return _of_line(event)
    found: list[Effect] = []
    if (after.account or after.is_daily) and accounts.used_by(event):
        found.append(ChargeAccounts())
    if isinstance(event, BudgetSet) and event.is_family:
        found.append(AllowFamily())
    if after.turn is not None and isinstance(event, Retried):
        found.append(TakeTurn())
    if isinstance(event, Committed) and event.has_spawned:
        found.append(SpawnChildren())
    if after.state.is_terminal:
        found += _of_end(event, after) if event.kind in _ENDING else []
    elif event.kind in _MAY_SATISFY and _has_settled_join(event, after):
        found.append(CancelChildren("enough of its siblings have ended"))
    return tuple(found)


_ENDING = {Committed.kind, AttemptFailed.kind, Failed.kind, Cancelled.kind}
"""Kinds that can lead to an end; what outsiders append afterwards is none."""

_OF_LINES = {TurnTaken.kind, TurnEnded.kind, KeyBound.kind}
"""Kinds of the journals of conversations and keys."""

_MAY_SATISFY = {ChildEnded.kind, Committed.kind, Retried.kind}
"""Kinds after which a join may be satisfied that was not before."""


def _of_line(event: Event) -> tuple[Effect, ...]:
    if isinstance(event, KeyBound):
        return (EnqueueBound(),) if event.work is not None else ()
    if isinstance(event, TurnTaken) and event.interrupts:
        return Interrupt(), StartTurns()
    return (StartTurns(),)


def _of_end(event: Event, after: Control) -> list[Effect]:
    found: list[Effect] = []
    if after.turn is not None:
        found.append(EndTurn())
    if after.state is State.CANCELLED and family.open_count(after.family):
        found.append(CancelChildren(f"its parent was cancelled: {after.reason}"))
    elif family.has_open_bound(after.family):
        found.append(CancelChildren(f"its parent is {after.state}", only_bound=True))
    if after.parent is not None:
        found.append(NotifyParent())
    if isinstance(event, Committed | AttemptFailed | Failed | Cancelled) and event.fires:
        found.append(FireTriggers())
    return found


def _has_settled_join(event: Event, after: Control) -> bool:
    """Whether this very entry satisfied a join that cancels the rest, and there is a rest.

    A join counts until the step after it is committed, be that one queued or running because
    something else came first, a signal or the end of its time.
    """
    join = after.waits.join if after.waits is not None else None
    if join is None or not join.cancels_rest or not family.open_count(after.family):
        return False
    if isinstance(event, ChildEnded):
        before = family.before_end(after.family, event.ordinal)
        return family.is_satisfied(join, after.family) and not family.is_satisfied(join, before)
    return family.is_satisfied(join, after.family)
