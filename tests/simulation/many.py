"""What is done to many work items at once, and workers that are asked to stop; invariants 24 and 25.

In every tenth seed or so operators act on all works by a filter, in bulk or by an operation that
workers run, and ask workers to stop.

24. Operations. None acts twice on one work item, and of what one counts as done there are as many
    entries in its name; where clocks are not minutes apart, by which it knows how far to look back.
25. Workers. Who was asked to stop has stopped in the end.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from roost.core import operating
from roost.core.bulk import Action
from roost.core.client import Client
from roost.core.operating import Operation
from roost.core.requests import CLOCKS_SECONDS as CLOCKS_SECONDS
from roost.core.where import parse
from roost.journal.entries import Entry
from roost.journal.events import Kind
from roost.journal.lines import worker_target
from roost.names import OPERATION_ENGINE

from .invariants import Appended, Record, Violation
from .plan import Plan, PlannedDeed, draw_strike

DEEDS = ("bulk", "bulk", "operation", "operation", "operation", "drain", "drain")
ACTIONS = (Action.RETRY, Action.RETRY, Action.PAUSE, Action.RESUME, Action.CANCEL)
WHERE = ("id:work-*", "engine:sim", "state:failed", "-state:done id:work-*")
STRIKE_CALLS = ("list", "retried", "retried", "paused", "cancel_requested", "switched", "read", "committed")


def with_many(plan: Plan, seed: int) -> Plan:
    """The plan with what is done to many."""
    source = random.Random(f"many {seed}")
    if source.random() < 0.9:
        return plan
    deeds = tuple(
        PlannedDeed(
            source.choice(DEEDS),
            source.choice(WHERE),
            source.uniform(0.0, plan.chaos_seconds),
            float(source.randrange(len(ACTIONS))),
        )
        for _ in range(source.randint(2, 5))
    )
    strikes = tuple(
        draw_strike(source, source.choice(STRIKE_CALLS), may_jump=False) for _ in range(source.randint(1, 4))
    )
    faults = replace(plan.faults, strikes=plan.faults.strikes + strikes)
    return replace(plan, deeds=plan.deeds + deeds, faults=faults)


async def bulk(client: Client, deed: PlannedDeed, now: float) -> None:
    """Do it to all that match, part by part."""
    where = parse(deed.work_id, now)
    async for _ in client.bulk(ACTIONS[int(deed.number)], where, "all of them"):
        pass


async def begin(client: Client, deed: PlannedDeed, now: float) -> None:
    """Have workers do it."""
    operation = Operation(action=ACTIONS[int(deed.number)], where=deed.work_id, at=now)
    await operating.start(client, operation, key=f"{deed.after_seconds:.3f}")


def has_operations(plan: Plan) -> bool:
    """Whether workers of a plan must know how to run operations."""
    return any(deed.what == "operation" for deed in plan.deeds)


def is_operation(entry: Entry) -> bool:
    """Whether it is of an operation's own journal."""
    return entry.control.engine == OPERATION_ENGINE


def check_operations(history: Sequence[Record], done: Mapping[str, int]) -> list[Violation]:
    """24.

    Args:
        done: by operation, how many it counts as done.
    """
    found: list[Violation] = []
    acted: Counter[tuple[str, str]] = Counter()
    for entry in (record.entry for record in history if isinstance(record, Appended)):
        _, is_its, operation = entry.actor.partition(" by ")
        has_acted = bool(is_its) and entry.event.kind is not Kind.SETTLED  # whose deed that ends, not one
        acted[operation, entry.work_id] += has_acted
    found += [Violation(24, name, f"acts on {on} {n} times") for (name, on), n in acted.items() if n > 1]
    for name, count in done.items():
        times = sum(n for (operation, _), n in acted.items() if operation == name)
        if times != count:
            found.append(Violation(24, name, f"counts {count} as done, and acted on {times}"))
    return found


def check_workers(asked: Iterable[str], running: Iterable[str]) -> list[Violation]:
    """25.

    Args:
        asked: targets of switches by which workers were asked to stop.
        running: workers that run in the end.
    """
    asked = set(asked)
    return [
        Violation(25, name, "was asked to stop, and runs") for name in running if worker_target(name) in asked
    ]
