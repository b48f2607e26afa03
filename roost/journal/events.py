"""The events of a journal, of one kind each."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from msgspec import Struct

from roost.journal.values import Amounts, Cause, ErrorInfo, Fire, Fork, LogLine, Parent, Turn, Wait
from roost.names import Lane, Scope, State


class Kind(StrEnum):
    """The kinds of entries."""

    ENQUEUED = "enqueued"
    CLAIMED = "claimed"
    COMMITTED = "committed"
    RECORDED = "recorded"
    ATTEMPT_FAILED = "attempt_failed"
    DEFERRED = "deferred"
    BLOCKED = "blocked"
    RELEASED = "released"
    EVICTED = "evicted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SIGNALED = "signaled"
    CANCEL_REQUESTED = "cancel_requested"
    RETRIED = "retried"
    CHILD_ENDED = "child_ended"
    PAUSED = "paused"
    RESUMED = "resumed"
    BUDGET_SET = "budget_set"
    SETTLED = "settled"
    TURN_TAKEN = "turn_taken"
    TURN_ENDED = "turn_ended"
    TURN_GIVEN = "turn_given"
    KEY_BOUND = "key_bound"
    SWITCHED = "switched"
    DAILY_SET = "daily_set"
    OPERATED = "operated"
    NOTED = "noted"


class Enqueued(Struct, frozen=True, omit_defaults=True, gc=False):
    """The work item exists. Its body is the payload, or with `fork` {payload, snapshot}.

    `engine_version` is that of the engine which made this snapshot, if it has one.
    `conversation` is the key of the conversation that it is of.
    A fork `waits` for what the version waited for that it began from.
    `account` is the work item that was enqueued with a budget for its family, which is
    `family_budget`; both go on to all that comes of it (`journal/accounts.py`).
    `trace` is where it was enqueued, as W3C's `traceparent`, if somebody traces.
    A detached child has `origin_at`, as `Parent` says.
    """

    kind: ClassVar[Kind] = Kind.ENQUEUED
    engine: str
    lane: Lane = Lane.NORMAL
    priority: int = 0
    resources: tuple[str, ...] = ()
    capacities: tuple[tuple[str, int], ...] = ()
    resource_scope: Scope = Scope.STEP
    labels: tuple[tuple[str, str], ...] = ()
    budget: Amounts = ()
    account: str = ""
    family_budget: Amounts = ()
    wake_at: float | None = None
    deadline_at: float | None = None
    idempotency_key: str | None = None
    parent: Parent | None = None
    conversation: str | None = None
    trace: str = ""
    fork: Fork | None = None
    waits: Wait | None = None
    engine_version: str | None = None
    cause: Cause | None = None
    turn: Turn | None = None
    origin_at: float | None = None


class Claimed(Struct, frozen=True, omit_defaults=True):
    """A worker took the lease; this entry's position is its fencing token.

    With `is_daily` its namespace has a budget for each day, which this lease is charged to.
    """

    kind: ClassVar[Kind] = Kind.CLAIMED
    worker_id: str
    lease_until: float
    engine_version: str | None = None
    is_daily: bool = False


class Committed(Struct, frozen=True, omit_defaults=True, gc=False):
    """A step is done. Its body is the snapshot after it.

    `lease_until` None gives the lease up with the commit. `consumed` are the positions
    of the signals and children's reports that the step has seen. `spawned` is how many
    children of the family the snapshot asks for, `bound` a bitmap (hexadecimal) of those
    that end with their parent, `has_spawned` whether it asks for any,
    detached ones too. `spent` is what the engine says that the step has used up. `fires`
    are triggers of the end of the work, here and in the other entries that end it.
    `warning` says that a budget of its family or of the day is nearly used up. `log` has the
    last lines that the attempt logged (`core/step_log.py`), here and in the other ends of one;
    and so `cpu_ms` the CPU that the code of this lease's steps used since the last that said so.
    """

    kind: ClassVar[Kind] = Kind.COMMITTED
    version: int
    step: str
    lease_until: float | None = None
    wake_at: float | None = None
    waits: Wait | None = None
    is_finished: bool = False
    duration_seconds: float = 0.0
    engine_version: str | None = None
    consumed: tuple[int, ...] = ()
    artifacts: tuple[str, ...] = ()
    spawned: int = 0
    has_spawned: bool = False
    spent: Amounts = ()
    fires: tuple[Fire, ...] = ()
    warning: str = ""
    log: tuple[LogLine, ...] = ()
    bound: str = ""
    cpu_ms: int = 0


class Recorded(Struct, frozen=True, omit_defaults=True):
    """A side effect inside a step was done once. Its body is the result.

    With `is_begun` it is about to be done, and must not be done again; there is no body.
    """

    kind: ClassVar[Kind] = Kind.RECORDED
    key: str
    is_begun: bool = False


class AttemptFailed(Struct, frozen=True, omit_defaults=True):
    """A step failed; it is tried again at `retry_at`, or never (None)."""

    kind: ClassVar[Kind] = Kind.ATTEMPT_FAILED
    error: ErrorInfo
    retry_at: float | None
    duration_seconds: float = 0.0
    spent: Amounts = ()
    fires: tuple[Fire, ...] = ()
    log: tuple[LogLine, ...] = ()
    cpu_ms: int = 0


class Deferred(Struct, frozen=True, omit_defaults=True):
    """A step asked to be tried later; no attempt is burned."""

    kind: ClassVar[Kind] = Kind.DEFERRED
    wake_at: float
    reason: str
    spent: Amounts = ()
    log: tuple[LogLine, ...] = ()
    cpu_ms: int = 0


class Blocked(Struct, frozen=True, omit_defaults=True):
    """The resources are not to be had; the lease is given up until they are. No attempt is burned.

    `by` holds them or comes first; or nothing but time stands in the way: then `limited`
    are those that are closed or whose rate is used up, and `wake_at` is the turn. Or a budget
    of its family or of the day is used up, as `over` says; at `wake_at` it looks again.
    """

    kind: ClassVar[Kind] = Kind.BLOCKED
    by: tuple[str, ...]
    wake_at: float | None = None
    limited: tuple[str, ...] = ()
    over: str = ""


class Released(Struct, frozen=True, omit_defaults=True):
    """The worker gave the lease back without a verdict; no attempt is burned."""

    kind: ClassVar[Kind] = Kind.RELEASED
    reason: str
    spent: Amounts = ()
    cpu_ms: int = 0


class Evicted(Struct, frozen=True, omit_defaults=True):
    """Somebody who needs a resource found the lease over and its holder silent.

    Or an operator took it away, be the holder silent or not; then there is a `reason`.
    """

    kind: ClassVar[Kind] = Kind.EVICTED
    token: int
    worker_id: str
    reason: str = ""


class Failed(Struct, frozen=True, omit_defaults=True):
    """The work item is dead-lettered.

    `is_interrupted`: it was held until then, by who ended without a word; that counts as well.
    """

    kind: ClassVar[Kind] = Kind.FAILED
    error: ErrorInfo
    spent: Amounts = ()
    fires: tuple[Fire, ...] = ()
    log: tuple[LogLine, ...] = ()
    cpu_ms: int = 0
    is_interrupted: bool = False


class Cancelled(Struct, frozen=True, omit_defaults=True):
    """The work item ended because somebody asked for it."""

    kind: ClassVar[Kind] = Kind.CANCELLED
    reason: str
    spent: Amounts = ()
    fires: tuple[Fire, ...] = ()
    log: tuple[LogLine, ...] = ()


class Signaled(Struct, frozen=True, omit_defaults=True):
    """Somebody outside sent a signal. Its body is the data.

    `recent` holds (id, position) of the signals before it, newest first, at most
    `RECENT_MAX`; the last of a full list continues there. So that a signal which is sent
    again is known by its id, at one read per `RECENT_MAX` signals.
    """

    kind: ClassVar[Kind] = Kind.SIGNALED
    signal_id: str
    name: str
    recent: tuple[tuple[str, int], ...] = ()


class CancelRequested(Struct, frozen=True, omit_defaults=True):
    """Somebody outside asked for the work to end; a step that still runs at `by` is interrupted."""

    kind: ClassVar[Kind] = Kind.CANCEL_REQUESTED
    reason: str
    by: float | None = None


class Retried(Struct, frozen=True, omit_defaults=True):
    """An operator put terminal work back to life.

    It goes on from its last snapshot, or from an earlier one at `snapshot_position` (-1:
    its beginning), which an engine of `engine_version` made, with what that one `waits`
    for; versions go on counting either way.
    """

    kind: ClassVar[Kind] = Kind.RETRIED
    reason: str
    snapshot_position: int | None = None
    waits: Wait | None = None
    engine_version: str | None = None


class ChildEnded(Struct, frozen=True, omit_defaults=True):
    """A child has ended. Its body is the report: what came of it."""

    kind: ClassVar[Kind] = Kind.CHILD_ENDED
    child_id: str
    ordinal: int
    state: State


class Paused(Struct, frozen=True, omit_defaults=True):
    """The work was put on hold `by` somebody, `until` an instant or until it is resumed.

    A step that runs is committed first.
    """

    kind: ClassVar[Kind] = Kind.PAUSED
    reason: str
    until: float | None = None
    by: str = ""


class Resumed(Struct, frozen=True, omit_defaults=True):
    """An operator let the work go on."""

    kind: ClassVar[Kind] = Kind.RESUMED
    reason: str


class BudgetSet(Struct, frozen=True, omit_defaults=True):
    """An operator set budgets anew; those that are not named stay.

    With `is_family` they are those of the family, all of them, and count for each of it.
    """

    kind: ClassVar[Kind] = Kind.BUDGET_SET
    budget: Amounts
    reason: str
    is_family: bool = False


class TurnTaken(Struct, frozen=True, omit_defaults=True):
    """In a conversation's journal: work stands in line, last. Its body is the body of `work`.

    Attributes:
        work: what to enqueue; None if the work is there already.
        interrupts: whoever is in line before it is asked to end.
    """

    kind: ClassVar[Kind] = Kind.TURN_TAKEN
    work_id: str
    asked_at: int = 0
    work: Enqueued | None = None
    interrupts: bool = False


class TurnEnded(Struct, frozen=True, omit_defaults=True):
    """In a conversation's journal: work that was in line has ended, whether it had the turn or not.

    `ended` are (work id, asked_at), see `Place`.
    """

    kind: ClassVar[Kind] = Kind.TURN_ENDED
    ended: tuple[tuple[str, int], ...]


class Switch(Struct, frozen=True, omit_defaults=True):
    """An engine or a lane that is paused: since when, by whom, and why."""

    target: str
    reason: str
    at: float
    by: str = ""


class Switched(Struct, frozen=True, omit_defaults=True):
    """An operator, `by`, paused an engine or a lane, or let it go on."""

    kind: ClassVar[Kind] = Kind.SWITCHED
    target: str
    is_paused: bool
    reason: str = ""
    by: str = ""


class DailySet(Struct, frozen=True, omit_defaults=True):
    """An operator set what a namespace may use up each day; empty: what the settings say."""

    kind: ClassVar[Kind] = Kind.DAILY_SET
    namespace: str
    budget: Amounts
    reason: str = ""


class KeyBound(Struct, frozen=True, omit_defaults=True):
    """In the journal of an idempotency key: it stands for new work until an instant.

    Its body is the body of `work`, which is enqueued for it. Without `work` the key stands for
    a request, and the body says what was asked and answered (`core/requests.py`).
    """

    kind: ClassVar[Kind] = Kind.KEY_BOUND
    work_id: str
    until: float
    work: Enqueued | None = None


class TurnGiven(Struct, frozen=True, omit_defaults=True):
    """In the journal of work: it has its turn in the conversation, and may run."""

    kind: ClassVar[Kind] = Kind.TURN_GIVEN


class Operated(Struct, frozen=True, omit_defaults=True):
    """In a journal of operators' deeds: what one is about to do, to what, and why."""

    kind: ClassVar[Kind] = Kind.OPERATED
    what: str
    target: str
    reason: str = ""
    details: str = ""


class Noted(Struct, frozen=True, omit_defaults=True):
    """Something about the work that its people should know; it changes nothing else."""

    kind: ClassVar[Kind] = Kind.NOTED
    text: str


class Settled(Struct, frozen=True, omit_defaults=True):
    """The effects of all entries up to `up_to` are known to be done."""

    kind: ClassVar[Kind] = Kind.SETTLED
    up_to: int


Event = (
    Enqueued
    | Claimed
    | Committed
    | Recorded
    | AttemptFailed
    | Deferred
    | Blocked
    | Released
    | Evicted
    | Failed
    | Cancelled
    | Signaled
    | CancelRequested
    | Retried
    | ChildEnded
    | Paused
    | Resumed
    | BudgetSet
    | Settled
    | TurnTaken
    | TurnEnded
    | TurnGiven
    | KeyBound
    | Switched
    | DailySet
    | Operated
    | Noted
)

Ending = Committed | AttemptFailed | Failed | Cancelled
"""The events that may end work."""

Logged = Ending | Deferred
"""The events that end an attempt, and keep what it logged."""

RECENT_MAX = 50  # signals that an entry remembers by id

OUTSIDER_KINDS = frozenset(
    {
        Kind.SIGNALED,
        Kind.CANCEL_REQUESTED,
        Kind.CHILD_ENDED,
        Kind.PAUSED,
        Kind.RESUMED,
        Kind.BUDGET_SET,
        Kind.SETTLED,
        Kind.TURN_GIVEN,
        Kind.NOTED,
    }
)
"""Kinds that somebody without the lease appends while it is held; the holder takes them in."""
