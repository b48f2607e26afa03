"""Journal entries told to people: a headline, a line of detail, a sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roost import times
from roost.journal.entries import Entry
from roost.journal.events import (
    AttemptFailed,
    Blocked,
    BudgetSet,
    Cancelled,
    CancelRequested,
    ChildEnded,
    Claimed,
    Committed,
    DailySet,
    Deferred,
    Enqueued,
    Event,
    Evicted,
    Failed,
    KeyBound,
    Kind,
    Logged,
    Noted,
    Operated,
    Paused,
    Recorded,
    Released,
    Resumed,
    Retried,
    Settled,
    Signaled,
    Switched,
    TurnGiven,
    TurnTaken,
)
from roost.journal.projection import waited_for
from roost.journal.values import Amounts, ErrorInfo, LogLine
from roost.models import State

FOLD_MIN = 5  # so many plain commits in a row are shown as one line

GROUPS: dict[str, frozenset[Kind]] = {
    "steps": frozenset(
        {Kind.COMMITTED, Kind.ATTEMPT_FAILED, Kind.FAILED, Kind.DEFERRED, Kind.RECORDED, Kind.CANCELLED}
    ),
    "leases": frozenset({Kind.CLAIMED, Kind.RELEASED, Kind.BLOCKED, Kind.EVICTED}),
    "signals": frozenset({Kind.SIGNALED, Kind.CHILD_ENDED}),
    "people": frozenset(
        {Kind.ENQUEUED, Kind.CANCEL_REQUESTED, Kind.RETRIED, Kind.PAUSED, Kind.RESUMED, Kind.BUDGET_SET}
    ),
}
"""Kinds by what a reader looks for; a kind that is not named shows under `all` only."""


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a journal.

    Attributes:
        sign: the icon.
        shade: the colour, a state's name or empty.
        head, code, detail: what happened, in parts.
        error: with its traceback, where a step failed.
        gap: how long after the entry before, in words.
        log: what the attempt that ended here logged last.
    """

    entry: Entry
    sign: str
    shade: str
    head: str
    code: str = ""
    detail: str = ""
    error: ErrorInfo | None = None
    gap: str = ""
    log: Sequence[LogLine] = ()


@dataclass(frozen=True, slots=True)
class Fold:
    """Plain commits in a row that are shown as one line."""

    lines: Sequence[Told]

    @property
    def text(self) -> str:
        """What is folded away."""
        first, last = self.lines[-1].entry.control.version, self.lines[0].entry.control.version
        return f"{len(self.lines)} commits: v{first} to v{last}"


def tell(entry: Entry, before: Entry | None = None) -> Told:
    """One entry in words; `before` is the one that it follows."""
    gap = "" if before is None else times.span(max(entry.at - before.at, 0.0))
    sign, shade, head, code, detail, error = _parts(entry.event, entry, before)
    log = entry.event.log if isinstance(entry.event, Logged) else ()
    return Told(entry, sign, shade, head, code, detail, error, gap, log)


_Parts = tuple[str, str, str, str, str, ErrorInfo | None]


def _parts(event: Event, entry: Entry, before: Entry | None) -> _Parts:
    match event:
        case Enqueued():
            return "queued", "", "enqueued", event.engine, _enqueued(event, entry.at), None
        case Claimed():
            lease = times.span(round(event.lease_until - entry.at, 1))
            return "key", "running", "claimed", f"token {entry.position}", f"lease of {lease}", None
        case Committed():
            return _committed(event, entry, before)
        case AttemptFailed():
            again = "never again" if event.retry_at is None else f"again {_in(event.retry_at, entry.at)}"
            number = entry.control.failures
            return "failed", "failed", f"attempt {number} failed", event.error.type, again, event.error
        case Failed():
            return "failed", "failed", "failed", event.error.type, event.error.message, event.error
        case Recorded():
            return "save", "", "recorded", event.key, "a side effect that no retry repeats", None
        case _:
            return _without_verdict(event, entry)


def _without_verdict(event: Event, entry: Entry) -> _Parts:
    match event:
        case Deferred():
            return (
                "scheduled",
                "scheduled",
                f"deferred, {_in(event.wake_at, entry.at)}",
                "",
                event.reason,
                None,
            )
        case Blocked():
            what = f"held by {', '.join(event.by)}" if event.by else f"its turn: {', '.join(event.limited)}"
            if event.over:
                return "paused", "paused", "parked", "", event.over, None
            return "blocked", "blocked", "blocked", "", what, None
        case Released():
            return "key", "", "released", "", event.reason, None
        case Evicted():
            why = event.reason or f"{event.worker_id} went silent"
            return "warn", "failed", "evicted", f"token {event.token}", why, None
        case _:
            return _from_outside(event)


def _from_outside(event: Event) -> _Parts:
    match event:
        case Signaled():
            return "signal", "waiting", "signal", event.name, "", None
        case Cancelled() | CancelRequested() | Retried():
            sign = "retry" if isinstance(event, Retried) else "cancelled"
            return sign, "cancelled", event.kind.value.replace("_", " "), "", event.reason, None
        case ChildEnded():
            return event.state.value, event.state.value, f"child {event.state}", event.child_id, "", None
        case Paused() | Resumed():
            return "paused", "paused", event.kind.value, "", event.reason, None
        case BudgetSet():
            whose = "budget of the family set" if event.is_family else "budget set"
            return "key", "", whose, _amounts(event.budget), event.reason, None
        case Noted():
            return "warn", "failed", "noted", "", event.text, None
        case TurnGiven():
            return "running", "", "its turn", "", "in its conversation", None
        case _:
            return _of_fleet(event)


def _of_fleet(event: Event) -> _Parts:
    match event:
        case Switched():
            sign = "paused" if event.is_paused else "running"
            verb = "paused" if event.is_paused else "resumed"
            return sign, "paused", verb, event.target.replace(":/", " ").replace(":", " "), event.reason, None
        case Operated():
            return "key", "", event.what, event.target, _joined(event.reason, event.details), None
        case DailySet():
            allowed = _amounts(event.budget) or "as the settings say"
            return "key", "", "daily budget", allowed, event.reason, None
        case TurnTaken() | KeyBound():
            return "plus", "", event.kind.value.replace("_", " "), event.work_id, "", None
        case Settled():
            return "all", "", "settled", "", f"what followed from entry {event.up_to} is done", None
        case _:
            return "all", "", event.kind.value.replace("_", " "), "", "", None


def _joined(*texts: str) -> str:
    return " · ".join(text for text in texts if text)


def _amounts(amounts: Amounts) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in amounts)


def _enqueued(event: Enqueued, at: float) -> str:
    parts = [f"{event.lane} lane"]
    if event.wake_at is not None:
        parts.append(f"not before {times.span(event.wake_at - at)}")
    if event.resources:
        parts.append(f"needs {', '.join(event.resources)}")
    if event.parent is not None:
        parts.append(f"child of {event.parent.work_id}")
    if event.fork is not None:
        parts.append(f"forked from {event.fork.work_id} v{event.fork.version}")
    if event.cause is not None:
        parts.append(f"by trigger {event.cause.trigger} of {event.cause.work_id}")
    if event.conversation is not None:
        parts.append(f"conversation {event.conversation}")
    if event.budget:
        parts.append(f"budget {_amounts(event.budget)}")
    if event.family_budget:
        parts.append(f"budget of the family {_amounts(event.family_budget)}")
    if event.idempotency_key is not None:
        parts.append(f"key {event.idempotency_key}")
    return " · ".join(parts)


def _committed(event: Committed, entry: Entry, before: Entry | None) -> _Parts:
    was = before.control.step if before is not None and before.control.step else "start"
    sign, shade = "save", "done"
    details = [f"took {times.span(event.duration_seconds)}"] if event.duration_seconds else []
    if event.is_finished:
        sign, details = "done", [*details, "finished"]
    elif event.waits is not None:
        sign, shade = "waiting", "waiting"
        details.append(f"waits for {waited_for(event.waits)}")
    elif event.wake_at is not None:
        sign, shade = "scheduled", "scheduled"
        details.append(f"goes on {_in(event.wake_at, entry.at)}")
    if event.spawned:
        details.append(f"spawned {event.spawned}")
    if event.spent:
        details.append(f"spent {_amounts(event.spent)}")
    if event.cpu_ms:
        details.append(f"{times.span(event.cpu_ms / 1000)} of CPU")
    return sign, shade, f"committed v{event.version}", f"{was} → {event.step}", " · ".join(details), None


def _in(at: float, start: float) -> str:
    return f"after {times.span(max(at - start, 0.0))}"


def fold(lines: Sequence[Told]) -> list[Told | Fold]:
    """Rows of plain commits as one line each; the newest line is never folded."""
    out: list[Told | Fold] = []
    run: list[Told] = []
    for place, line in enumerate(lines):
        if place and _is_plain(line):
            run.append(line)
            continue
        out += _folded(run)
        out.append(line)
        run = []
    return [*out, *_folded(run)]


def _folded(run: list[Told]) -> list[Told | Fold]:
    return [Fold(run)] if len(run) >= FOLD_MIN else list(run)


def _is_plain(line: Told) -> bool:
    return line.entry.event.kind is Kind.COMMITTED and line.entry.control.state is State.RUNNING
