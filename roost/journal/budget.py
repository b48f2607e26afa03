"""Amounts that work uses up, and the limits at which it parks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from roost.journal.entries import Amounts, Control

STEPS, ATTEMPTS, SECONDS = "steps", "attempts", "seconds"
"""What Roost counts itself: committed steps, tries at a step, seconds inside steps."""

SOFT_PART = 0.8  # of a limit: from here on the work is warned about


def add(spent: Amounts, more: Mapping[str, float]) -> Amounts:
    """What was spent, and more of it; sorted by name."""
    if not more:
        return spent
    total = dict(spent)
    for name, amount in more.items():
        total[name] = round(total.get(name, 0.0) + amount, 9)
    return tuple(sorted(total.items()))


def own_counts(budget: Amounts, *, steps: int, seconds: float) -> dict[str, float]:
    """What Roost counts of one try at a step, as far as there is a limit on it."""
    if not budget:
        return {}
    own = {STEPS: float(steps), ATTEMPTS: 1.0, SECONDS: seconds}
    return {name: own[name] for name, _ in budget if own.get(name)}


def warning(control: Control) -> str:
    """What of its budget work has nearly used up, in words; empty if there is enough left."""
    if not control.budget:
        return ""
    spent = dict(control.spent)
    near = [
        f"{name} {spent[name]:g} of {limit:g}"
        for name, limit in control.budget
        if spent.get(name, 0.0) >= limit * SOFT_PART
    ]
    return f"budget nearly used up: {', '.join(near)}" if near else ""


def breach(control: Control) -> str:
    """Why work is over its budget, in words; empty if it is not."""
    if not control.budget:
        return ""
    spent = dict(control.spent)
    over = [
        f"{name} {spent[name]:g} of {limit:g}"
        for name, limit in control.budget
        if _is_over(spent, name, limit)
    ]
    return f"budget used up: {', '.join(over)}" if over else ""


def _is_over(spent: Mapping[str, float], name: str, limit: float) -> bool:
    return name in spent and spent[name] >= limit


def hold_of(control: Control) -> str:
    """Why work is on hold: paused, over its budget, or not its turn; empty if it is not."""
    return control.paused or breach(control) or _not_its_turn(control)


def _not_its_turn(control: Control) -> str:
    return "waits for its turn in its conversation" if control.turn and not control.turn.is_given else ""


def hold_until(control: Control) -> float | None:
    """Until when work is on hold: infinity if somebody must act, None if it is not on hold."""
    if breach(control) or _not_its_turn(control):
        return inf
    if not control.paused:
        return None
    return inf if control.paused_until is None else control.paused_until
