"""The one seam for whoever watches: what the core tells, and to whom.

`Parts.observer` is None unless somebody watches, and then each of these costs one check.
What is stored is seen by wrapping the storage (`storage/instrument.py`); here is only what
can't be seen there: sessions, steps, leases, sweeps. `roost.observe` makes traces and
metrics of both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from roost.errors import LeaseLost
from roost.journal.entries import Control, Entry
from roost.journal.events import (
    AttemptFailed,
    Blocked,
    Cancelled,
    Committed,
    Deferred,
    Enqueued,
    Event,
    Failed,
)
from roost.journal.values import Amounts, ErrorInfo
from roost.names import Lane, State

if TYPE_CHECKING:
    from roost.clock import Clock

STEP_TIMEOUT = "StepTimeout"
"""The type of the error of an attempt that took too long."""

STORAGE_FAILED = "storage failed"
NO_HEARTBEAT = "no heartbeat went through for the length of the lease"
"""Why a lease is lost where nobody took it."""

_TOKENS = {"input_tokens": "input", "output_tokens": "output"}
"""Amounts that are tokens of a language model, and of which kind."""

log_fields: ContextVar[Callable[[], Mapping[str, object]]] = ContextVar("roost_log_fields")
"""Gives the fields that each log line of a session has: set by the session, read when a line is
written."""


def line_fields() -> dict[str, object]:
    """What each log line that is written now has: of the session, and of the span, if anybody traces."""
    session = log_fields.get(None)
    fields = {} if session is None else {key: value for key, value in session().items() if value is not None}
    traces = sys.modules.get("roost.observe.traces")
    return fields if traces is None else fields | traces.ids()


class Held(Struct, frozen=True):
    """A lease that a worker holds, or held."""

    work_id: str
    engine: str
    engine_version: str | None
    lane: Lane
    worker_id: str
    token: int


class Began(Struct, frozen=True):
    """How a session began.

    Attributes:
        at: epoch seconds; of the claim.
        ready_at: since when it could have begun; None where another lease came before.
        blocked_seconds: how long it had been without its resources, if it was.
        trace: the trace context of the enqueueing, as W3C's `traceparent`; may be empty.
        last_token: of the lease before, if there was one.
    """

    at: float
    ready_at: float | None
    blocked_seconds: float | None
    trace: str
    last_token: int | None


class StepEnd(Struct, frozen=True):
    """How an attempt at a step ended.

    Attributes:
        at: epoch seconds; of the entry that says so, if there is one.
        outcome: one of `STEP_OUTCOMES`.
        version: committed, or that would have been.
        position: of that entry.
        seconds: that the engine took.
        error_type: of the error, if it is one.
        snapshot_bytes, stored_bytes: the committed snapshot's, as JSON and as stored.
        spent: what the engine reported with `spend`.
    """

    at: float
    outcome: str
    version: int
    position: int | None
    seconds: float
    error_type: str = ""
    snapshot_bytes: int | None = None
    stored_bytes: int | None = None
    spent: Amounts = ()


class TokensUsed(Struct, frozen=True):
    """Tokens of a language model, as a step reported them.

    Attributes:
        provider, model: as OpenTelemetry's conventions for generative AI call them; may be empty.
        counts: by kind, `input` and `output`.
    """

    provider: str
    model: str
    counts: tuple[tuple[str, float], ...]


STEP_OUTCOMES = ("committed", "failed", "timeout", "deferred", "released", "cancelled", "lost")
SESSION_ENDS = (
    "done",
    "failed",
    "cancelled",
    "retry",
    "delay",
    "wait",
    "blocked",
    "burst",
    "drain",
    "lost",
    "error",
)


class Observer(Protocol):
    """Is told what happens. Calls come from the event loop: they neither wait nor raise."""

    def enqueuing(self, work_id: str, engine: str, lane: Lane, at: float) -> str:
        """A work item is about to be stored; gives its trace context, or an empty text."""

    def enqueued(self, entry: Entry, *, is_new: bool, at: float) -> None:
        """It is stored, or (not `is_new`) stood there before."""

    def session_began(self, held: Held, began: Began) -> None:
        """A work item was claimed. What follows in this task, up to its end, belongs to it."""

    def session_ended(self, held: Held, end: str, at: float) -> None:
        """It ended as one of `SESSION_ENDS`."""

    def step_began(self, held: Held, version: int, attempt: int, at: float) -> None:
        """An attempt at a step begins. What follows in this task belongs to it."""

    def step_entered(self, held: Held, step: str, at: float) -> None:
        """The engine is about to be called."""

    def step_ended(self, held: Held, step: str, end: StepEnd) -> None:
        """The attempt is over."""

    def recorded(self, held: Held, key: str, position: int, began_at: float, at: float) -> None:
        """A side effect was done once and its result is stored."""

    def tokens_used(self, held: Held, used: TokensUsed) -> None:
        """An attempt that ends now reported tokens of a language model."""

    def claims_changed(self, held: Held, *, has_them: bool) -> None:
        """A session has all its resources, or gave them up."""

    def lease_lost(self, reason: str) -> None:
        """A worker lost a lease: `taken`, `silent` (its own heartbeat failed) or `storage`."""

    def loop_blocked(self, seconds: float) -> None:
        """The worker's event loop stood still for so long."""

    def budget_reached(self, engine: str, whose: str, mark: str) -> None:
        """Work reached a mark, `low` or `used_up`, of the budget of an `item`, `family` or `day`."""

    def taken_over(self, reason: str) -> None:
        """Work was taken from a worker that went silent: by a `claim`, or to `evict` it."""

    def renewed(self, reason: str, count: int) -> None:
        """A heartbeat renewed so many leases: they were `due`, or their steps told of `progress`."""

    def swept(self, lag_seconds: float, repaired: Mapping[str, int]) -> None:
        """A sweep ended: how late it was for the row due first, and what was done how often."""

    def lanes(self, count: int, busy: int) -> None:
        """How many work items this worker can run at a time, and runs."""


class Told:
    """Tells an observer of one session, step by step.

    Args:
        tail: the entry before the claim.
        claim: the claim.
        first: the entry at position 0.
    """

    def __init__(
        self,
        observer: Observer,
        clock: Clock,
        held: Held,
        *,
        tail: Control,
        claim: Entry,
        first: Entry,
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._held = held
        self._step: str | None = None  # of the attempt under way
        self._version = 0
        self._began_at = 0.0
        self._sizes: tuple[int, int] | None = None
        self._once: dict[str, float] = {}
        self._tokens: list[TokensUsed] = []
        self._has_claims = False
        observer.session_began(held, began_of(tail, claim, first))

    def step_began(self, control: Control) -> None:
        """An attempt begins."""
        self._step, self._version = control.step, control.version + 1
        self._began_at, self._sizes = self._clock.now(), None
        self._once.clear()
        self._observer.step_began(self._held, self._version, control.failures + 1, self._began_at)

    def step_entered(self, step: str) -> None:
        """The engine is about to be called."""
        self._step = step
        self._observer.step_entered(self._held, step, self._clock.now())

    def sizes(self, snapshot_bytes: int, stored_bytes: int) -> None:
        """Of the snapshot that is about to be committed."""
        self._sizes = (snapshot_bytes, stored_bytes)

    def step_ended(self, entry: Entry, seconds: float) -> None:
        """An entry says how the attempt ended."""
        sizes = self._sizes or (None, None)
        outcome, error = outcome_of(entry.event)
        spent: Amounts = getattr(entry.event, "spent", ())
        self._end_step(
            StepEnd(
                entry.at, outcome, self._version, entry.position, seconds, error, sizes[0], sizes[1], spent
            )
        )

    def tokens_used(self, amounts: Mapping[str, float], provider: str, model: str) -> None:
        """The step reported, maybe from a thread, what it used up; tokens are told at its end."""
        counts = tuple((kind, amounts[name]) for name, kind in _TOKENS.items() if name in amounts)
        if counts:
            self._tokens.append(TokensUsed(provider, model, counts))

    def once_began(self, key: str) -> None:
        """A side effect is about to be done."""
        self._once[key] = self._clock.now()

    def once_ended(self, key: str, position: int) -> None:
        """Its result is stored."""
        now = self._clock.now()
        self._observer.recorded(self._held, key, position, self._once.pop(key, now), now)

    def claims(self, *, has_them: bool) -> None:
        """The session has its resources, or gave them up."""
        if has_them != self._has_claims:
            self._has_claims = has_them
            self._observer.claims_changed(self._held, has_them=has_them)

    def ended(self, end: str) -> None:
        """The session is over; an attempt under way is lost with it."""
        now = self._clock.now()
        if self._step is not None:
            outcome = "lost" if end == "lost" else "failed"
            self._end_step(StepEnd(now, outcome, self._version, None, now - self._began_at))
        self.claims(has_them=False)
        self._observer.session_ended(self._held, end, now)

    def _end_step(self, end: StepEnd) -> None:
        step, self._step = self._step or "", None
        tokens, self._tokens = self._tokens, []
        for used in tokens:
            self._observer.tokens_used(self._held, used)
        self._observer.step_ended(self._held, step, end)


def why_lost(error: LeaseLost) -> str:
    """The reason of a lost lease, as one of a few."""
    if error.by.startswith(STORAGE_FAILED):
        return "storage"
    return "silent" if error.by == NO_HEARTBEAT else "taken"


def began_of(tail: Control, claim: Entry, first: Entry) -> Began:
    """How a session began that claimed after `tail`."""
    ready_at = None if tail.lease is not None else max(tail.since, min(tail.wake_at or 0.0, claim.at))
    return Began(
        at=claim.at,
        ready_at=ready_at,
        blocked_seconds=claim.at - tail.since if tail.state is State.BLOCKED else None,
        trace=first.event.trace if isinstance(first.event, Enqueued) else "",
        last_token=tail.last_token if tail.lease is None else tail.lease.token,
    )


def outcome_of(event: Event) -> tuple[str, str]:
    """The outcome of an attempt that ended with `event`, and the type of its error."""
    match event:
        case Committed():
            return "committed", ""
        case AttemptFailed(error=ErrorInfo(type=name)) | Failed(error=ErrorInfo(type=name)):
            return ("timeout" if name == STEP_TIMEOUT else "failed"), name
        case Deferred():
            return "deferred", ""
        case Cancelled():
            return "cancelled", ""
    return "released", ""


def end_of(entry: Entry, *, is_draining: bool) -> str:
    """How a session ended whose last entry is this."""
    match entry.event:
        case Committed(is_finished=True):
            return "done"
        case Failed():
            return "failed"
        case Cancelled():
            return "cancelled"
        case AttemptFailed():
            return "failed" if entry.control.state.is_terminal else "retry"
        case Blocked():
            return "blocked"
        case Committed(waits=waits) if waits is not None:
            return "wait"
        case Committed(wake_at=wake_at) if wake_at is not None:
            return "delay"
        case Deferred():
            return "delay"
    return "drain" if is_draining else "burst"
