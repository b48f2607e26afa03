"""Why work is not moving, and what happens if its worker dies now: in a sentence each. Pure.

`explain(facts)` is what `roost explain`, the API and the console say. It looks at the
control state first, since that is the truth; the rest (row, claims, queue) says more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from roost import times
from roost.journal import accounts, family
from roost.journal.accounts import Balance
from roost.journal.budget import breach, warning
from roost.journal.claims import ResourceView, Waiter
from roost.journal.decide import WAITS_FOR_ENGINE, WAITS_FOR_ROOM, lease_until
from roost.journal.entries import Control, IndexRow
from roost.journal.events import Switch
from roost.journal.limits import FOREVER_AT
from roost.journal.values import Wait
from roost.names import APPROVAL_MARK, NAMESPACE_MARK, Scope, State

QUIET_SECONDS = 10.0  # ready work that nobody took for so long, with an empty queue, has no worker
_NAMES_MAX = 3  # owners that a sentence names


class Cause(StrEnum):
    """Why work is where it is."""

    ENDED = "ended"
    RUNNING = "running"
    SILENT = "silent"
    CANCELLING = "cancelling"
    OVERDUE = "overdue"
    PAUSED = "paused"
    OVER_BUDGET = "over_budget"
    TURN = "turn"
    DELAYED = "delayed"
    RETRYING = "retrying"
    WAITING = "waiting"
    CLOSED = "closed"
    RATE = "rate"
    HELD = "held"
    IN_LINE = "in_line"
    CALLED = "called"
    NO_WORKER = "no_worker"
    BACKLOG = "backlog"
    ROOM = "room"
    READY = "ready"


def may_be_switched_off(control: Control) -> bool:
    """Whether it matters that the engine or the lane is paused."""
    return control.state in (State.QUEUED, State.SCHEDULED, State.BLOCKED)


def is_due(control: Control, now: float) -> bool:
    """Whether all that work needs is a worker that takes it."""
    at = ready_at(control)
    return at is not None and at <= now


def ready_at(control: Control) -> float | None:
    """Since when, or from when on, all that work needs is a worker; None: something else must happen."""
    match control.state:
        case State.QUEUED:
            at = control.since
        case State.SCHEDULED:
            at = control.since if control.wake_at is None else control.wake_at
        case State.WAITING if control.waits is not None and control.waits.until is not None:
            at = control.waits.until
        case _:
            return None
    return max(at, control.paused_until or at)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a work item.

    Attributes:
        row: its index row, for how far heartbeats moved its lease.
        views: the resources that it asks for.
        backlog: deliveries that are visible and not taken; None: not asked.
        engines: those that some worker runs, as far as is known; None: unknown.
        switch: of its engine or lane, if that is paused.
        balances: how the accounts stand that it is charged to, with their limits.
    """

    work_id: str
    control: Control
    now: float
    row: IndexRow | None = None
    views: Sequence[ResourceView] = ()
    backlog: int | None = None
    engines: Collection[str] | None = None
    switch: Switch | None = None
    balances: Sequence[Balance] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer.

    Attributes:
        text: why it is where it is; one sentence.
        if_worker_dies: what follows if the worker that holds it dies now; one sentence.
        next_at: when that changes by itself, if that is known.
    """

    cause: Cause
    text: str
    if_worker_dies: str
    next_at: float | None = None


NOBODY = "No worker holds it, so nothing is lost if one dies."


def explain(facts: Facts) -> Explanation:
    """Say why the work is where it is, and warn of its deadline, and of budgets that are nearly used up."""
    said = _explain(facts)
    more = () if facts.control.state.is_terminal else _warnings(facts, said.cause)
    new = [words for words in more if words and words not in said.text]
    text = "; ".join([said.text.removesuffix("."), *new]) + "."
    return replace(said, text=_one_line(text))


def _warnings(facts: Facts, cause: Cause) -> Iterator[str]:
    deadline_at = facts.control.deadline_at
    if deadline_at is not None and cause is not Cause.OVERDUE:
        yield f"its deadline is {times.relative(deadline_at, facts.now)}"
    if cause is not Cause.OVER_BUDGET:
        yield warning(facts.control)
        yield accounts.warning(facts.balances)


def _one_line(text: str) -> str:
    """Reasons are texts of engines and people; errors have lines."""
    return " ".join(text.split())


def _explain(facts: Facts) -> Explanation:
    control = facts.control
    if control.state.is_terminal:
        return _ended(facts)
    if control.lease is not None:
        return _held(facts)
    if control.cancel_requested:
        text = f"It is to be cancelled ({control.reason}), and ends as soon as a worker looks at it."
        return Explanation(Cause.CANCELLING, text, NOBODY)
    if control.deadline_at is not None and control.deadline_at <= facts.now:
        text = (
            f"Its deadline was {times.relative(control.deadline_at, facts.now)}: it ends as failed "
            "as soon as a worker looks at it."
        )
        return Explanation(Cause.OVERDUE, text, NOBODY)
    on_hold = _on_hold(facts)
    if on_hold is not None:
        return on_hold
    match control.state:
        case State.SCHEDULED:
            return _scheduled(facts)
        case State.WAITING:
            return _waiting(facts)
        case State.BLOCKED:
            return _blocked(facts)
        case _:
            at = ready_at(control) or control.since
            return _ready(facts, f"it has been ready for {_ago(at, facts)}")


def _ended(facts: Facts) -> Explanation:
    control = facts.control
    reason = control.reason.removesuffix(".")
    why = f": {reason}" if reason and control.state is not State.DONE else ""
    note = f"; {control.note.removesuffix('.')}" if control.note else ""
    how = "It failed" if control.state is State.FAILED else f"It was {control.state}"
    text = f"{how} {_ago(control.since, facts)} ago, at version {control.version}{why}{note}."
    return Explanation(Cause.ENDED, text, "It has ended: nothing follows.")


def _ago(at: float, facts: Facts) -> str:
    return times.span(facts.now - at)


# --- held by a worker --------------------------------------------------------


def _held(facts: Facts) -> Explanation:
    control, until = facts.control, lease_until(facts.control, facts.row)
    assert control.lease is not None
    assert until is not None  # as there is a lease
    who = f"worker {control.lease.worker_id}"
    again = f"the step after version {control.version} is run again, by whoever takes it over"
    if until <= facts.now:
        text = f"{who.capitalize()} has gone silent: its lease ended {times.relative(until, facts.now)}."
        follows = f"It is taken for dead already; {again}; that is no failed attempt."
        return Explanation(Cause.SILENT, text, follows, facts.row.due_at if facts.row else None)
    follows = (
        f"Its lease ends {times.relative(until, facts.now)} if no heartbeat renews it; then {again}; "
        "that is no failed attempt."
    )
    if control.cancel_requested:
        by = control.cancel_by
        stops = f", or is interrupted {times.relative(by, facts.now)}" if by is not None else ""
        text = f"It is to be cancelled ({control.reason}): {who} runs its step to the end{stops}."
        return Explanation(Cause.CANCELLING, text, follows, by)
    text = (
        f"It moves: {who} runs the step after version {control.version} under fencing token "
        f"{control.lease.token}, for {_ago(control.since, facts)}{_tries(control)}{_progress(facts.row)}"
    )
    if control.paused:
        text += f"; then it is paused{_by(control.paused_by)} ({control.paused})"
    return Explanation(Cause.RUNNING, f"{text}.", follows)


def _by(who: str) -> str:
    return f" by {who}" if who else ""


def _tries(control: Control) -> str:
    counts = ((control.failures, "failed attempt"), (control.interruptions, "interruption"))
    tries = " and ".join(_count(number, what) for number, what in counts if number)
    return f", after {tries}" if tries else ""


def _progress(row: IndexRow | None) -> str:
    if row is None or row.progress is None:
        return ""
    fraction, text = row.progress
    if not fraction:
        return f'; it says "{text}"' if text else ""
    return f", {fraction:.0%} done{f' ({text})' if text else ''}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# --- on hold, asleep, waiting ------------------------------------------------


def _on_hold(facts: Facts) -> Explanation | None:
    control = facts.control
    if control.paused and (control.paused_until is None or control.paused_until > facts.now):
        return _paused(control, facts.now)
    if over := breach(control):
        text = f"It is on hold, {over}, until somebody raises the budget."
        return Explanation(Cause.OVER_BUDGET, text, NOBODY, control.deadline_at)
    if control.over:
        return _over(control)
    if control.turn is not None and not control.turn.is_given:
        text = "It waits for its turn: work that came before it in its conversation has not ended."
        return Explanation(Cause.TURN, text, NOBODY, control.deadline_at)
    if facts.switch is not None and control.state is not State.BLOCKED:
        return _switched_off(facts.switch, control)
    return None


def _paused(control: Control, now: float) -> Explanation:
    text, at = f"It is paused{_by(control.paused_by)} ({control.paused})", control.deadline_at
    if control.paused_until is None:
        return Explanation(Cause.PAUSED, f"{text} until somebody resumes it.", NOBODY, at)
    goes_on = f"{times.relative(control.paused_until, now)}, at {times.clock(control.paused_until)}"
    at = min(control.paused_until, control.paused_until if at is None else at)
    return Explanation(Cause.PAUSED, f"{text} and goes on {goes_on}.", NOBODY, at)


def _switched_off(switch: Switch, control: Control) -> Explanation:
    what, _, name = switch.target.partition(":")
    whose = f"Its {what} {name.rpartition(NAMESPACE_MARK)[2]} is paused{_by(switch.by)}"
    why = f" ({switch.reason})" if switch.reason else ""
    text = f"{whose}{why} until somebody resumes that."
    return Explanation(Cause.PAUSED, text, NOBODY, control.deadline_at)


def _over(control: Control) -> Explanation:
    """Parked for a budget of its family or of the day."""
    text = f"It is on hold, {control.over}, until somebody raises it"
    if control.is_daily and not control.over.startswith("budget of the family"):
        return Explanation(Cause.OVER_BUDGET, f"{text}, or a new day begins (UTC).", NOBODY, control.wake_at)
    return Explanation(Cause.OVER_BUDGET, f"{text}.", NOBODY, control.deadline_at)


def _scheduled(facts: Facts) -> Explanation:
    control = facts.control
    at = facts.now if control.wake_at is None else control.wake_at
    tries = f"{_count(control.failures, 'attempt')} at the step after version {control.version}"
    failed = f"{tries} failed ({control.reason}); " if control.failures else ""
    if is_due(control, facts.now):
        return _ready(facts, f"{failed}it has been due for {_ago(ready_at(control) or at, facts)}")
    when = f"{times.relative(at, facts.now)}, at {times.clock(at)}"
    if failed:
        return Explanation(Cause.RETRYING, f"{failed}the next is due {when}.", NOBODY, at)
    why = f" ({control.reason})" if control.reason else ""
    return Explanation(Cause.DELAYED, f"It sleeps{why} and goes on {when}.", NOBODY, at)


def _waiting(facts: Facts) -> Explanation:
    waits = facts.control.waits or Wait()
    signals = [name for name in waits.names if not name.startswith(APPROVAL_MARK)]
    parts = [f"signal {' or '.join(signals)}"] if signals else []
    parts += [f"approval {name.removeprefix(APPROVAL_MARK)}" for name in waits.names if name not in signals]
    if waits.join is not None:
        children = facts.control.family
        left, total = family.open_count(children), family.total(children)
        parts.append(f"its children, of which {left} of {total} have not ended")
    until = waits.until
    what = f"for {' or '.join(parts) or 'nothing that has a name'}"
    if until is not None and until <= facts.now:
        over = f"it has waited long enough {what}, since {_ago(until, facts)}"
        if not waits.fails:
            return _ready(facts, over)
        text = f"{_sentence(over)}: it ends as failed as soon as a worker looks at it."
        return Explanation(Cause.WAITING, text, NOBODY, until)
    end = ""
    if until is not None:
        follows = "it fails" if waits.fails else "it goes on without"
        end = f"; {follows} {times.relative(until, facts.now)}"
    text = f"It has waited for {_ago(facts.control.since, facts)} {what}{end}."
    return Explanation(Cause.WAITING, text, NOBODY, until)


# --- blocked by resources ----------------------------------------------------


def _blocked(facts: Facts) -> Explanation:
    for say in (_closed, _owned, _not_served, _called, _in_line):
        found = say(facts)
        if found is not None:
            return found
    text = (
        f"It was refused its resources {_ago(facts.control.since, facts)} ago "
        f"({facts.control.reason}); nothing stands in its way now, so it goes on at its next look."
    )
    return Explanation(Cause.CALLED, text, NOBODY, facts.row.due_at if facts.row else None)


def _not_served(facts: Facts) -> Explanation | None:
    """Nothing but a worker is missing, and none takes it."""
    if facts.switch is not None:
        return _switched_off(facts.switch, facts.control)
    if facts.row is not None and facts.row.reason.startswith(WAITS_FOR_ENGINE):
        return _no_worker(facts, f"it may have its resources since {_ago(facts.control.since, facts)}")
    return None


def _closed(facts: Facts) -> Explanation | None:
    shut = [
        (view.limits.closed_until, view)
        for view in facts.views
        if view.limits.closed_until is not None and view.limits.closed_until > facts.now
    ]
    if not shut:
        return None
    until, view = max(shut, key=lambda pair: pair[0])
    by = f" by {view.limits.closed_by}" if view.limits.closed_by else ""
    if until >= FOREVER_AT:
        text = f"Resource {view.resource} is closed{by} until somebody opens it; no attempt is burned."
        return Explanation(Cause.CLOSED, text, NOBODY)
    opens = times.relative(until, facts.now)
    text = f"Resource {view.resource} is closed{by} and opens {opens}; no attempt is burned."
    return Explanation(Cause.CLOSED, text, NOBODY, until)


def _owned(facts: Facts) -> Explanation | None:
    for view in facts.views:
        place = _place(view, facts.work_id)
        others = [owner for owner in view.owners if owner.work_id != facts.work_id]
        if not others or place is None or place[1].called_at is not None:
            continue
        shown = ", ".join(owner.work_id for owner in others[:_NAMES_MAX])
        more = f" and {len(others) - _NAMES_MAX} more" if len(others) > _NAMES_MAX else ""
        lasting = " until it ends" if any(owner.scope is Scope.WORK for owner in others) else ""
        holders = f"held by {shown}{more}{lasting}"
        text = f"Resource {view.resource} is {holders}; it is {_ordinal(place[0])} in line."
        return Explanation(Cause.HELD, text, NOBODY)
    return None


def _called(facts: Facts) -> Explanation | None:
    places = [(view, place[1]) for view in facts.views if (place := _place(view, facts.work_id)) is not None]
    turns = [(view, waiter) for view, waiter in places if waiter.called_at is not None]
    away = [(view, waiter) for view, waiter in turns if waiter.is_away(facts.now)]
    if away:
        return _timed(facts, away, max(waiter.called_at or 0.0 for _, waiter in away))
    if turns:
        view, waiter = turns[0]
        text = (
            f"Resource {view.resource} is free and it was called {_ago(waiter.called_at or 0.0, facts)} ago; "
            "a worker will take it."
        )
        return Explanation(Cause.CALLED, text, NOBODY)
    return None


def _timed(facts: Facts, away: Sequence[tuple[ResourceView, Waiter]], at: float) -> Explanation:
    rated = next((view for view, _ in away if view.limits.rate is not None), away[0][0])
    rate = rated.limits.rate
    what = f" ({rate.count} starts in {times.span(rate.period_seconds)})" if rate is not None else ""
    text = (
        f"It waits for its turn with resource {rated.resource}{what}, which comes "
        f"{times.relative(at, facts.now)}; no attempt is burned."
    )
    return Explanation(Cause.RATE, text, NOBODY, at)


def _in_line(facts: Facts) -> Explanation | None:
    for view in facts.views:
        place = _place(view, facts.work_id)
        if place is None or place[0] == 1:
            continue
        first = view.waiters[0]
        came = (
            "was called and has not come yet" if first.called_at is not None else "waits for more than that"
        )
        text = (
            f"It is {_ordinal(place[0])} in line for resource {view.resource}; "
            f"the first, {first.work_id}, {came}."
        )
        return Explanation(Cause.IN_LINE, text, NOBODY)
    return None


def _place(view: ResourceView, work_id: str) -> tuple[int, Waiter] | None:
    """The place in a line, counted from 1."""
    return next(
        ((number, waiter) for number, waiter in enumerate(view.waiters, 1) if waiter.work_id == work_id), None
    )


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


# --- ready -------------------------------------------------------------------


def _ready(facts: Facts, ready: str) -> Explanation:
    """Nothing but a worker is missing. `ready` says since when, and is made a sentence."""
    control, at = facts.control, facts.row.due_at if facts.row else None
    if facts.row is not None and facts.row.reason.startswith(WAITS_FOR_ENGINE):
        return _no_worker(facts, ready)
    if facts.row is not None and facts.row.reason.startswith(WAITS_FOR_ROOM):
        return Explanation(Cause.ROOM, f"{_sentence(ready)}, and {facts.row.reason}.", NOBODY)
    if facts.engines is not None and control.engine not in facts.engines:
        text = f"{_sentence(ready)}, but no worker that is known runs engine {control.engine}."
        return Explanation(Cause.NO_WORKER, text, NOBODY)
    is_long = facts.now - (ready_at(control) or control.since) > QUIET_SECONDS
    if facts.backlog:
        return _behind(facts, ready, facts.backlog, is_long=is_long)
    if facts.backlog == 0 and is_long:
        text = (
            f"{_sentence(ready)} while the queue is empty: it seems that no worker runs engine "
            f"{control.engine}; if one does, the sweeper sends it again."
        )
        return Explanation(Cause.NO_WORKER, text, NOBODY, at)
    why = f" ({control.reason})" if control.reason and control.state is State.QUEUED else ""
    return Explanation(Cause.READY, f"{_sentence(ready)}{why}; the next free worker takes it.", NOBODY)


def _behind(facts: Facts, ready: str, backlog: int, *, is_long: bool) -> Explanation:
    """Deliveries wait, its own among them."""
    waiting = "1 delivery waits" if backlog == 1 else f"{backlog} deliveries wait"
    text = f"{_sentence(ready)}; about {waiting} in the queue"
    if facts.engines is not None:
        return Explanation(Cause.BACKLOG, f"{text}, as the workers are busy.", NOBODY)
    if is_long:
        return Explanation(Cause.NO_WORKER, f"{text}, and no worker is known to be at work.", NOBODY)
    return Explanation(Cause.BACKLOG, f"{text}, its own among them.", NOBODY)


def _no_worker(facts: Facts, ready: str) -> Explanation:
    """A worker looked at it, and said what it lacks."""
    assert facts.row is not None
    text = f"{_sentence(ready)}, and {facts.row.reason}: none that looked at it has that."
    return Explanation(Cause.NO_WORKER, text, NOBODY, facts.row.due_at)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
