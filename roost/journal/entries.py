"""The data of a journal: events, the control state after each, and entries that hold both.

An entry is an event at a position, with the control state after it and, for some
kinds, a body (payload, snapshot, recorded result). Entries never change. How events
move the control state is in `control.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from msgspec import Struct

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


class ErrorInfo(Struct, frozen=True, omit_defaults=True):
    """What went wrong in a step; texts are cut and redacted before they get here."""

    type: str
    message: str
    traceback: str = ""


class Join(Struct, frozen=True, omit_defaults=True):
    """When work that waits for its children goes on: at the latest when all have ended.

    Attributes:
        need_done: it goes on once so many are done, or no longer can be.
        max_failed: it goes on once more than so many have ended otherwise than done.
        cancels_rest: children that are still open then are cancelled.
    """

    need_done: int | None = None
    max_failed: int | None = None
    cancels_rest: bool = True


class Wait(Struct, frozen=True, omit_defaults=True):
    """What work waits for: any one of these signals, or its children.

    Attributes:
        names: of signals.
        until: the instant at which it goes on without (None: never).
        fails: it fails then instead of going on.
        join: it waits for its children, too.
        seconds: how long it was to wait at most, from the commit on.
    """

    names: tuple[str, ...] = ()
    until: float | None = None
    fails: bool = False
    join: Join | None = None
    seconds: float | None = None


class Parent(Struct, frozen=True, omit_defaults=True):
    """Who spawned a work item, and which of its children this is, counted from 0."""

    work_id: str
    ordinal: int
    key: str = ""


class Fork(Struct, frozen=True, omit_defaults=True):
    """The committed version of another work item that this one began from, and why."""

    work_id: str
    version: int
    reason: str = ""


class Cause(Struct, frozen=True, omit_defaults=True):
    """The end of other work, and the trigger that made this of it; `depth` counts the triggers in a row."""

    work_id: str
    position: int
    trigger: str
    depth: int = 1


class Fire(Struct, frozen=True, omit_defaults=True):
    """Work to enqueue because this has ended: a trigger, as the settings had it when it ended.

    `when` and the values of `payload` are expressions, see `rules.Trigger`.
    """

    name: str
    enqueue: str
    when: str | None = None
    payload: tuple[tuple[str, str], ...] = ()
    priority: int = 0
    resources: tuple[str, ...] = ()


class Turn(Struct, frozen=True, omit_defaults=True):
    """That a work item is of a conversation, and waits for its turn there.

    Attributes:
        conversation: the id of the conversation's own journal.
        asked_at: position of the entry, in the work's journal, that asked for the turn:
            its enqueueing, or an operator's retry.
        is_given: it has the turn.
    """

    conversation: str
    asked_at: int = 0
    is_given: bool = False


class Place(Struct, frozen=True, omit_defaults=True):
    """A place in the line of a conversation.

    Attributes:
        work_id, asked_at: whose it is, see `Turn`.
        position: of the entry, in the conversation's journal, that took it.
    """

    work_id: str
    asked_at: int
    position: int


class Bound(Struct, frozen=True, omit_defaults=True):
    """What an idempotency key stands for, until when, and the entry of its journal that says so."""

    work_id: str
    until: float
    position: int


class Family(Struct, frozen=True, omit_defaults=True):
    """The children of a work item; `journal/family.py` reads it.

    Attributes:
        batches: (version, count): how many children each commit spawned.
        ended: a bitmap of those that have ended, by ordinal, in hexadecimal digits.
        reported: positions of the reports that no committed step has seen; those of
            children that ended otherwise than done are negative.
    """

    batches: tuple[tuple[int, int], ...] = ()
    ended: str = ""
    reported: tuple[int, ...] = ()


Amounts = tuple[tuple[str, float], ...]
"""Named amounts, by name: steps, attempts, seconds, and those that an engine reports itself."""


class Enqueued(Struct, frozen=True, omit_defaults=True, gc=False):
    """The work item exists. Its body is the payload, or with `fork` {payload, snapshot}.

    `engine_version` is that of the engine which made this snapshot, if it has one.
    `conversation` is the key of the conversation that it is of.
    A fork `waits` for what the version waited for that it began from.
    `account` is the work item that was enqueued with a budget for its family, which is
    `family_budget`; both go on to all that comes of it (`journal/accounts.py`).
    `trace` is where it was enqueued, as W3C's `traceparent`, if somebody traces.
    """

    kind: ClassVar = Kind.ENQUEUED
    engine: str
    lane: Lane = Lane.NORMAL
    priority: int = 0
    resources: tuple[str, ...] = ()
    capacities: tuple[tuple[str, int], ...] = ()
    resource_scope: Scope = Scope.STEP
    wake_at: float | None = None
    deadline_at: float | None = None
    idempotency_key: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    parent: Parent | None = None
    fork: Fork | None = None
    waits: Wait | None = None
    budget: Amounts = ()
    account: str = ""
    family_budget: Amounts = ()
    engine_version: str | None = None
    cause: Cause | None = None
    turn: Turn | None = None
    conversation: str | None = None
    trace: str = ""


class Claimed(Struct, frozen=True, omit_defaults=True):
    """A worker took the lease; this entry's position is its fencing token.

    With `is_daily` its namespace has a budget for each day, which this lease is charged to.
    """

    kind: ClassVar = Kind.CLAIMED
    worker_id: str
    lease_until: float
    engine_version: str | None = None
    is_daily: bool = False


class Committed(Struct, frozen=True, omit_defaults=True, gc=False):
    """A step is done. Its body is the snapshot after it.

    `lease_until` None gives the lease up with the commit. `consumed` are the positions
    of the signals and children's reports that the step has seen. `spawned` is how many
    children of the family the snapshot asks for, `has_spawned` whether it asks for any,
    detached ones too. `spent` is what the engine says that the step has used up. `fires`
    are triggers of the end of the work, here and in the other entries that end it.
    `warning` says that a budget of its family or of the day is nearly used up.
    """

    kind: ClassVar = Kind.COMMITTED
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


class Recorded(Struct, frozen=True, omit_defaults=True):
    """A side effect inside a step was done once. Its body is the result.

    With `is_begun` it is about to be done, and must not be done again; there is no body.
    """

    kind: ClassVar = Kind.RECORDED
    key: str
    is_begun: bool = False


class AttemptFailed(Struct, frozen=True, omit_defaults=True):
    """A step failed; it is tried again at `retry_at`, or never (None)."""

    kind: ClassVar = Kind.ATTEMPT_FAILED
    error: ErrorInfo
    retry_at: float | None
    duration_seconds: float = 0.0
    spent: Amounts = ()
    fires: tuple[Fire, ...] = ()


class Deferred(Struct, frozen=True, omit_defaults=True):
    """A step asked to be tried later; no attempt is burned."""

    kind: ClassVar = Kind.DEFERRED
    wake_at: float
    reason: str
    spent: Amounts = ()


class Blocked(Struct, frozen=True, omit_defaults=True):
    """The resources are not to be had; the lease is given up until they are. No attempt is burned.

    `by` holds them or comes first; or nothing but time stands in the way: then `limited`
    are those that are closed or whose rate is used up, and `wake_at` is the turn. Or a budget
    of its family or of the day is used up, as `over` says; at `wake_at` it looks again.
    """

    kind: ClassVar = Kind.BLOCKED
    by: tuple[str, ...]
    wake_at: float | None = None
    limited: tuple[str, ...] = ()
    over: str = ""


class Released(Struct, frozen=True, omit_defaults=True):
    """The worker gave the lease back without a verdict; no attempt is burned."""

    kind: ClassVar = Kind.RELEASED
    reason: str
    spent: Amounts = ()


class Evicted(Struct, frozen=True, omit_defaults=True):
    """Somebody who needs a resource found the lease over and its holder silent.

    Or an operator took it away, be the holder silent or not; then there is a `reason`.
    """

    kind: ClassVar = Kind.EVICTED
    token: int
    worker_id: str
    reason: str = ""


class Failed(Struct, frozen=True, omit_defaults=True):
    """The work item is dead-lettered."""

    kind: ClassVar = Kind.FAILED
    error: ErrorInfo
    spent: Amounts = ()
    fires: tuple[Fire, ...] = ()


class Cancelled(Struct, frozen=True, omit_defaults=True):
    """The work item ended because somebody asked for it."""

    kind: ClassVar = Kind.CANCELLED
    reason: str
    spent: Amounts = ()
    fires: tuple[Fire, ...] = ()


class Signaled(Struct, frozen=True, omit_defaults=True):
    """Somebody outside sent a signal. Its body is the data.

    `recent` holds (id, position) of the signals before it, newest first, at most
    `RECENT_MAX`; the last of a full list continues there. So that a signal which is sent
    again is known by its id, at one read per `RECENT_MAX` signals.
    """

    kind: ClassVar = Kind.SIGNALED
    signal_id: str
    name: str
    recent: tuple[tuple[str, int], ...] = ()


class CancelRequested(Struct, frozen=True, omit_defaults=True):
    """Somebody outside asked for the work to end; a step that still runs at `by` is interrupted."""

    kind: ClassVar = Kind.CANCEL_REQUESTED
    reason: str
    by: float | None = None


class Retried(Struct, frozen=True, omit_defaults=True):
    """An operator put terminal work back to life.

    It goes on from its last snapshot, or from an earlier one at `snapshot_position` (-1:
    its beginning), which an engine of `engine_version` made, with what that one `waits`
    for; versions go on counting either way.
    """

    kind: ClassVar = Kind.RETRIED
    reason: str
    snapshot_position: int | None = None
    waits: Wait | None = None
    engine_version: str | None = None


class ChildEnded(Struct, frozen=True, omit_defaults=True):
    """A child has ended. Its body is the report: what came of it."""

    kind: ClassVar = Kind.CHILD_ENDED
    child_id: str
    ordinal: int
    state: State


class Paused(Struct, frozen=True, omit_defaults=True):
    """The work was put on hold, `until` an instant or until it is resumed.

    A step that runs is committed first.
    """

    kind: ClassVar = Kind.PAUSED
    reason: str
    until: float | None = None


class Resumed(Struct, frozen=True, omit_defaults=True):
    """An operator let the work go on."""

    kind: ClassVar = Kind.RESUMED
    reason: str


class BudgetSet(Struct, frozen=True, omit_defaults=True):
    """An operator set budgets anew; those that are not named stay.

    With `is_family` they are those of the family, all of them, and count for each of it.
    """

    kind: ClassVar = Kind.BUDGET_SET
    budget: Amounts
    reason: str
    is_family: bool = False


class TurnTaken(Struct, frozen=True, omit_defaults=True):
    """In a conversation's journal: work stands in line, last. Its body is the body of `work`.

    Attributes:
        work: what to enqueue; None if the work is there already.
        interrupts: whoever is in line before it is asked to end.
    """

    kind: ClassVar = Kind.TURN_TAKEN
    work_id: str
    asked_at: int = 0
    work: Enqueued | None = None
    interrupts: bool = False


class TurnEnded(Struct, frozen=True, omit_defaults=True):
    """In a conversation's journal: work that was in line has ended, whether it had the turn or not.

    `ended` are (work id, asked_at), see `Place`.
    """

    kind: ClassVar = Kind.TURN_ENDED
    ended: tuple[tuple[str, int], ...]


class Switch(Struct, frozen=True, omit_defaults=True):
    """An engine or a lane that is paused: since when, by whom, and why."""

    target: str
    reason: str
    at: float


class Switched(Struct, frozen=True, omit_defaults=True):
    """An operator paused an engine or a lane, or let it go on."""

    kind: ClassVar = Kind.SWITCHED
    target: str
    is_paused: bool
    reason: str = ""


class DailySet(Struct, frozen=True, omit_defaults=True):
    """An operator set what a namespace may use up each day; empty: what the settings say."""

    kind: ClassVar = Kind.DAILY_SET
    namespace: str
    budget: Amounts
    reason: str = ""


class KeyBound(Struct, frozen=True, omit_defaults=True):
    """In the journal of an idempotency key: it stands for new work until an instant.

    Its body is the body of `work`, which is enqueued for it. Without `work` the key stands for
    a request, and the body says what was asked and answered (`core/requests.py`).
    """

    kind: ClassVar = Kind.KEY_BOUND
    work_id: str
    until: float
    work: Enqueued | None = None


class TurnGiven(Struct, frozen=True, omit_defaults=True):
    """In the journal of work: it has its turn in the conversation, and may run."""

    kind: ClassVar = Kind.TURN_GIVEN


class Operated(Struct, frozen=True, omit_defaults=True):
    """In a journal of operators' deeds: what one is about to do, to what, and why."""

    kind: ClassVar = Kind.OPERATED
    what: str
    target: str
    reason: str = ""
    details: str = ""


class Noted(Struct, frozen=True, omit_defaults=True):
    """Something about the work that its people should know; it changes nothing else."""

    kind: ClassVar = Kind.NOTED
    text: str


class Settled(Struct, frozen=True, omit_defaults=True):
    """The effects of all entries up to `up_to` are known to be done."""

    kind: ClassVar = Kind.SETTLED
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


class Encoding(StrEnum):
    """How a body is stored."""

    JSON = "json"
    ZSTD = "zstd"
    DELTA = "delta"
    """zstd with the body at position `base` as dictionary."""
    PATCH = "patch"
    """Copies of the body at position `base`, and what is new in between."""


class Body(Struct, frozen=True, omit_defaults=True, gc=False):
    """A payload, snapshot or result as stored.

    Attributes:
        encoding: how the bytes are to be read.
        data: the bytes; empty when they are spilled.
        base: position of the entry whose body this one is made of, for `DELTA` and `PATCH`.
        digest: of the blob that holds the bytes, when they are spilled.
        depth: how many bodies must be read before this one.
    """

    encoding: Encoding
    data: bytes
    base: int | None = None
    digest: str | None = None
    depth: int = 0


class Lease(Struct, frozen=True, omit_defaults=True, gc=False):
    """Who works on a work item, until when. `token` is the position of the claim."""

    worker_id: str
    token: int
    until: float


class Control(Struct, frozen=True, omit_defaults=True, gc=False):
    """All that is true of a work item now, its payload and snapshot apart.

    Attributes:
        position: of the entry that this is the state after.
        since: when the current state began.
        version, step: of the last committed snapshot; 0 and "" before the first.
        engine_version: of the engine that made this snapshot, if it has one.
        snapshot_position: where that snapshot is; None before the first.
        failures: failed attempts since the last commit.
        interruptions: leases since the last commit that ended without a word.
        wake_at: when scheduled work goes on.
        blocked_at: since when it has asked for its resources in vain, claims apart.
        last_token: of the lease that ended last, while none is held.
        waits: what the last commit waits for, or waited for until it was woken.
        sent_position: the last entry that had a delivery sent.
        signals: (position, name) of signals that no committed step has seen.
        last_signal: position of the newest signal, seen or not.
        once: results recorded in the current step: (key, position); the position is
            negative while the effect began, and has no result.
        cancel_requested: it ends as soon as nobody runs it; a step that runs at
            `cancel_by` is interrupted.
        paused: why it is on hold; empty: it is not.
        paused_until: when it goes on by itself; None: when it is resumed.
        rewound: position of the retry that went back to an earlier version, until the
            next commit: the step after it is not the one that its number had before.
        labels: (name, value), for finding it.
        parent: who spawned it.
        family: its children.
        outbox: positions of entries whose effects (`journal/effects.py`) may be undone.
        budget: what it may use up, by name.
        spent: what it has used up, by name.
        account: whose family it is charged to; empty: to none.
        family_budget: what that family began with.
        is_daily: the lease, or the last one, is charged to the namespace's day.
        over: the budget of its family or day that it is parked for, in words.
        switches: in the journal of switches, what is paused.
        daily: there, too: by namespace, what it may use up each day.
        reason: why it is in this state, for people.
        note: what was noted last, since the last commit.
        turn: its turn in a conversation, if it is of one.
        line: of a conversation itself: who is in line, the one that has the turn first.
        bound: of an idempotency key itself: what it stands for.
    """

    state: State
    engine: str
    position: int
    created_at: float
    since: float
    lane: Lane = Lane.NORMAL
    version: int = 0
    step: str = ""
    snapshot_position: int | None = None
    lease: Lease | None = None
    last_token: int | None = None
    failures: int = 0
    interruptions: int = 0
    wake_at: float | None = None
    waits: Wait | None = None
    deadline_at: float | None = None
    sent_position: int = 0
    signals: tuple[tuple[int, str], ...] = ()
    last_signal: int | None = None
    once: tuple[tuple[str, int], ...] = ()
    cancel_requested: bool = False
    cancel_by: float | None = None
    paused: str = ""
    paused_until: float | None = None
    rewound: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    parent: Parent | None = None
    family: Family | None = None
    outbox: tuple[int, ...] = ()
    budget: Amounts = ()
    spent: Amounts = ()
    account: str = ""
    family_budget: Amounts = ()
    is_daily: bool = False
    over: str = ""
    reason: str = ""
    note: str = ""
    engine_version: str | None = None
    turn: Turn | None = None
    line: tuple[Place, ...] = ()
    bound: Bound | None = None
    switches: tuple[Switch, ...] = ()
    blocked_at: float | None = None
    daily: tuple[tuple[str, Amounts], ...] = ()


class IndexRow(Struct, frozen=True, omit_defaults=True, gc=False):
    """A work item as lists show it: a projection of its control state.

    Attributes:
        position: of the entry that the row reflects.
        due_at: when somebody should look if nothing else has happened; None: never.
        token, worker_id, lease_until: the lease, as last renewed.
        progress: (fraction, text) of the running step, if it said so.
        parent_id: who spawned it.
    """

    work_id: str
    engine: str
    state: State
    lane: Lane
    position: int
    version: int
    step: str
    created_at: float
    updated_at: float
    since: float
    due_at: float | None = None
    token: int | None = None
    worker_id: str | None = None
    lease_until: float | None = None
    wake_at: float | None = None
    deadline_at: float | None = None
    failures: int = 0
    interruptions: int = 0
    reason: str = ""
    progress: tuple[float, str] | None = None
    labels: tuple[tuple[str, str], ...] = ()
    parent_id: str | None = None


class Entry(Struct, frozen=True, omit_defaults=True, gc=False):
    """One entry of a journal.

    Attributes:
        entry_id: unique to the try that wrote it; settles who won a position.
        at: epoch seconds by the writer's clock.
        actor: who wrote it: a worker id, `client`, `sweeper:…`, or an operator.
        control: the control state after this entry.
    """

    work_id: str
    position: int
    entry_id: str
    at: float
    actor: str
    event: Event
    control: Control
    body: Body | None = None
