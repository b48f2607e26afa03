"""Why a work item is in its state, and what happens if its worker dies now, in words."""

from __future__ import annotations

from dataclasses import dataclass

from roost import times
from roost.console.told import waited_for
from roost.core.client import WorkView
from roost.journal import budget, family
from roost.journal.decide import lease_until
from roost.models import State


@dataclass(frozen=True, slots=True)
class Why:
    """The answer: what is so, and what follows."""

    text: str
    next: str = ""


def why(view: WorkView, now: float) -> Why:
    """Say it for a work item as it stands."""
    control = view.control
    hold = budget.hold_of(control)
    if hold and control.lease is None and not control.state.is_terminal:
        return Why(f"It is on hold: {hold}.", "Nothing runs it until somebody lets it go on.")
    match control.state:
        case State.RUNNING:
            return _running(view, now)
        case State.SCHEDULED:
            at = control.wake_at or now
            because = f" {control.reason}." if control.reason else ""
            return Why(f"It goes on {times.relative(at, now)}, at {times.clock(at)[11:19]} UTC.{because}")
        case State.QUEUED:
            return Why(
                f"It has waited for a worker for {times.span(now - control.since)}.",
                f"Any worker that runs engine {control.engine} takes it.",
            )
        case State.WAITING:
            return _waiting(view, now)
        case State.DONE:
            return Why(f"It finished at version {control.version}.")
        case _:
            because = control.reason.rstrip(".") or control.state.value
            return Why(f"{because}, {times.relative(control.since, now)}.")


def _waiting(view: WorkView, now: float) -> Why:
    waits = view.control.waits
    assert waits is not None
    left = family.open_count(view.control.family)
    children = f" {left} of {family.total(view.control.family)} are open." if waits.join else ""
    limit = ""
    if waits.until is not None:
        limit = f" It {'fails' if waits.fails else 'goes on without'} {times.relative(waits.until, now)}."
    return Why(f"It waits for {waited_for(waits)}.{children}{limit}")


def _running(view: WorkView, now: float) -> Why:
    lease = view.control.lease
    until = lease_until(view.control, view.row)
    assert lease is not None
    assert until is not None
    step = view.control.step or "init"
    if until < now:
        ended = times.relative(until, now)
        return Why(
            f"Worker {lease.worker_id} went silent in step {step}; its lease ended {ended}.",
            f"The next worker that looks repeats the step from version {view.control.version}.",
        )
    again = f"repeats this step from version {view.control.version}, about {times.relative(until, now)}"
    return Why(
        f"Step {step} runs on {lease.worker_id} since {times.span(now - view.control.since)}; "
        f"its lease ends {times.relative(until, now)} unless it is renewed.",
        f"Nothing blocks it. If the worker dies now, another one {again}.",
    )
