"""Amounts that work uses up, and the limits at which it parks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from roost.journal.entries import Control
from roost.journal.values import Amounts

STEPS, ATTEMPTS, SECONDS = "steps", "attempts", "seconds"
"""What Roost counts itself: committed steps, tries at a step, seconds inside steps."""

LOW, USED_UP = "low", "used_up"
"""The marks of a budget: what metrics and logs call them."""

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
    near = nearly_used_up(control.budget, control.spent)
    return f"budget nearly used up: {near}" if near else ""


def nearly_used_up(limits: Amounts, spent: Amounts) -> str:
    """Which of the limits are near or reached, such as `steps 8 of 10`; empty: none."""
    return _beyond(limits, spent, SOFT_PART)


def used_up(limits: Amounts, spent: Amounts) -> str:
    """Which of the limits are reached, such as `steps 10 of 10`; empty: none."""
    return _beyond(limits, spent, 1.0)


def _beyond(limits: Amounts, spent: Amounts, part: float) -> str:
    by_name = dict(spent)
    return ", ".join(
        f"{name} {by_name[name]:g} of {limit:g}"
        for name, limit in limits
        if name in by_name and by_name[name] >= limit * part
    )


def breach(control: Control) -> str:
    """Why work is over its budget, in words; empty if it is not."""
    if not control.budget:
        return ""
    over = used_up(control.budget, control.spent)
    return f"budget used up: {over}" if over else ""


def hold_of(control: Control) -> str:
    """Why work is on hold: paused, over its budget, or not its turn; empty if it is not."""
    if not _may_be_on_hold(control):
        return ""
    return control.paused or breach(control) or _not_its_turn(control)


def _may_be_on_hold(control: Control) -> bool:
    """Whether there is anything that could hold it; most work has none of it, and is asked often."""
    return bool(control.paused or control.budget or control.turn is not None)


def _not_its_turn(control: Control) -> str:
    return "waits for its turn in its conversation" if control.turn and not control.turn.is_given else ""


def hold_until(control: Control) -> float | None:
    """Until when work is on hold: infinity if somebody must act, None if it is not on hold."""
    if not _may_be_on_hold(control):
        return None
    if breach(control) or _not_its_turn(control):
        return inf
    if not control.paused:
        return None
    return inf if control.paused_until is None else control.paused_until
