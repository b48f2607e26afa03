"""Entries: an event at a position, with the control state after it and, for some kinds, a body.

A body is a payload, a snapshot or a recorded result. Entries never change. The events are in
`events.py`, how they move the control state is in `control.py`.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from roost.journal.events import Event, Switch
from roost.journal.values import Amounts, Bound, Family, Parent, Place, Turn, Wait
from roost.names import Lane, State


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
        deferrals: times since the last commit that a step asked to be tried later.
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
        paused_by: who put it on hold.
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
    wake_at: float | None = None
    deadline_at: float | None = None
    labels: tuple[tuple[str, str], ...] = ()
    parent: Parent | None = None
    budget: Amounts = ()
    account: str = ""
    family_budget: Amounts = ()
    engine_version: str | None = None
    turn: Turn | None = None
    waits: Wait | None = None
    version: int = 0
    step: str = ""
    snapshot_position: int | None = None
    lease: Lease | None = None
    last_token: int | None = None
    failures: int = 0
    interruptions: int = 0
    sent_position: int = 0
    signals: tuple[tuple[int, str], ...] = ()
    last_signal: int | None = None
    once: tuple[tuple[str, int], ...] = ()
    cancel_requested: bool = False
    cancel_by: float | None = None
    paused: str = ""
    paused_until: float | None = None
    rewound: int | None = None
    family: Family | None = None
    outbox: tuple[int, ...] = ()
    spent: Amounts = ()
    is_daily: bool = False
    over: str = ""
    reason: str = ""
    note: str = ""
    line: tuple[Place, ...] = ()
    bound: Bound | None = None
    switches: tuple[Switch, ...] = ()
    blocked_at: float | None = None
    paused_by: str = ""
    daily: tuple[tuple[str, Amounts], ...] = ()
    deferrals: int = 0


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
