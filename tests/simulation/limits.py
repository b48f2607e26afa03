"""What one seed makes happen to resources: capacities, scopes, rates, closings; a draw of its own."""

from __future__ import annotations

import random
from dataclasses import replace

from roost.journal.limits import FOREVER_AT, Change, Close, Open, Rate, SetCapacity, SetRate

from .plan import RESOURCES, Plan, PlannedWork


def with_limits(plan: Plan, seed: int) -> Plan:
    """The plan with capacities, scopes, rates and closed resources; a draw of its own."""
    source = random.Random(f"limits {seed}")
    if source.random() < 0.4:
        return plan
    works = tuple(_draw_limits(source, work, plan.lease_seconds) for work in plan.works)
    changes: tuple[Change, ...] = (
        *(SetCapacity(most) for most in (1, 2, 3, None)),
        *(SetRate(rate) for rate in (Rate(1, 20.0), Rate(2, 60.0), Rate(5, 5.0), None)),
        *(Close(FOREVER_AT, "an operator"), Open()),
    )
    drawn = [
        (source.uniform(0.0, plan.chaos_seconds), source.choice(RESOURCES), source.choice(changes))
        for _ in range(source.choice((0, 0, 2, 4)))
    ]
    return replace(plan, works=works, limits=tuple(sorted(drawn, key=lambda change: change[0])))


def _draw_limits(source: random.Random, work: PlannedWork, lease_seconds: float) -> PlannedWork:
    steps = list(work.steps)
    if work.resources and source.random() < 0.2:
        number = source.randrange(len(steps))
        closing = ("close", lease_seconds * source.choice((0.1, 1.0, 2.0)), source.choice(work.resources))
        steps[number] = (*steps[number], closing)
    return replace(
        work,
        steps=tuple(steps),
        capacities=tuple(
            (name, source.choice((1, 2, 3))) for name in work.resources if source.random() < 0.5
        ),
        holds_for_life=source.random() < 0.3,
    )
