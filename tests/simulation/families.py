"""What one seed makes happen, with families and signals: who waits, who spawns, who is told what.

In every other seed some work waits for signals, spawns children and waits for those, by
every policy; and strikes hit the moments that belong to it. A step's last operations say
what comes after it:

    wait    for so many seconds, for any of the names; it fails at the timeout with "!"
    spawn   so many children, which follow the script of that number; "detach" likewise, and
            "bind" those that end with their parent
    join    for so many seconds (0: for ever), by a policy, or when one of the names comes
    take    the pending signals of that name
"""

from __future__ import annotations

import random
from dataclasses import replace

from .budgets import with_budgets
from .histories import with_histories
from .limits import with_limits
from .many import with_many
from .operators import with_operators
from .plan import (
    CHILDREN_MAX,
    Operation,
    Plan,
    PlannedSignal,
    PlannedWork,
    draw_alone,
    draw_delay,
    draw_step,
    draw_strike,
)

NAMES = ("go", "stop", "note")
POLICIES = ("all", "all", "first", "two", "tolerant", "half", "keep")
STRIKE_CALLS = (
    *("signaled", "signaled", "child_ended", "child_ended", "child_ended", "settled", "settled"),
    *("append_many", "append_many", "cancel_requested", "committed", "committed", "cancelled", "failed"),
    *("tail", "get", "read", "send", "index_put", "claimed", "acknowledge", "retried"),
)

Script = tuple[tuple[Operation, ...], ...]


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    plan = with_limits(draw_alone(seed), seed)
    plan = plan if seed % 2 else with_families(plan, random.Random(f"family {seed}"))
    plan = with_budgets(with_operators(plan, seed), seed)
    return with_many(with_histories(plan, seed), seed)


def with_families(plan: Plan, source: random.Random) -> Plan:
    """The plan with waits, children and signals in it."""
    script_count = source.randint(1, 3)
    scripts = tuple(
        _draw_script(source, plan.lease_seconds, number, script_count) for number in range(script_count)
    )
    works = tuple(
        _with_family(source, plan, work, script_count) if source.random() < 0.7 else work
        for work in plan.works
    )
    signals = tuple(_draw_signal(source, number, works, plan) for number in range(source.randint(0, 8)))
    strikes = tuple(
        draw_strike(source, source.choice(STRIKE_CALLS), may_jump=False) for _ in range(source.randint(0, 5))
    )
    faults = replace(plan.faults, strikes=plan.faults.strikes + strikes)
    return replace(plan, works=works, scripts=scripts, signals=signals, faults=faults)


def _draw_script(source: random.Random, lease_seconds: float, number: int, count: int) -> Script:
    """What a child does: a step or two, with children of its own while there are later scripts."""
    steps = [draw_step(source, lease_seconds) for _ in range(source.choice((1, 1, 2)))]
    return tuple(_with_end(source, step, lease_seconds, range(number + 1, count), 0.3) for step in steps)


def _with_family(source: random.Random, plan: Plan, work: PlannedWork, script_count: int) -> PlannedWork:
    steps = tuple(
        _with_end(source, step, plan.lease_seconds, range(script_count), 0.6) for step in work.steps
    )
    is_cancelled = source.random() < 0.15 and work.cancel_after_seconds is None
    after = source.uniform(0.0, plan.chaos_seconds) if is_cancelled else work.cancel_after_seconds
    return replace(work, steps=steps, cancel_after_seconds=after)


def _with_end(
    source: random.Random, step: tuple[Operation, ...], lease_seconds: float, scripts: range, chance: float
) -> tuple[Operation, ...]:
    """A step that ends with a wait, a spawn or both, instead of a delay."""
    if source.random() > chance:
        return step
    kept = tuple(operation for operation in step if operation[0] != "delay")
    return (*kept, *_draw_end(source, lease_seconds, scripts))


def _draw_end(source: random.Random, lease_seconds: float, scripts: range) -> list[Operation]:
    timeout = draw_delay(source, lease_seconds)
    names = ",".join(source.sample(NAMES, source.choice((1, 1, 2))))
    taken: list[Operation] = [("take", 0.0, source.choice(NAMES))] if source.random() < 0.2 else []
    if not scripts or source.random() < 0.35:
        return [*taken, ("wait", timeout, names + source.choice(("", "", "!")))]
    policy = source.choice(POLICIES)
    count = source.randint(2 if policy == "two" else 1, CHILDREN_MAX)
    spawn = "spawn" if int(timeout * 1000) % 3 else "bind"  # a draw more would make all seeds others
    ends: list[Operation] = [*taken, (spawn, float(count), str(source.choice(scripts)))]
    if source.random() < 0.15:
        ends.append(("detach", 1.0, str(source.choice(scripts))))
    if source.random() < 0.8:
        is_patient = source.random() < 0.6
        with_signal = f",{names}" if source.random() < 0.2 else ""
        ends.append(("join", 0.0 if is_patient else timeout, policy + with_signal))
    return ends


def _draw_signal(
    source: random.Random, number: int, works: tuple[PlannedWork, ...], plan: Plan
) -> PlannedSignal:
    """For some work item, or a child that it may have by then."""
    work_id = source.choice(works).work_id
    if source.random() < 0.25:
        work_id = f"{work_id}.{source.randint(1, 3)}-{source.randint(0, 2)}"
    return PlannedSignal(
        work_id=work_id,
        name=source.choice(NAMES),
        signal_id=f"signal-{number}",
        after_seconds=source.uniform(0.0, plan.chaos_seconds),
        again_count=source.choice((0, 0, 1, 2)),
    )


def smooth(script: Script, delay_seconds: float) -> Script:
    """The same with no delay and no wait that is longer."""
    return tuple(tuple(_smooth_operation(*operation, delay_seconds) for operation in step) for step in script)


def _smooth_operation(what: str, number: float, text: str, delay_seconds: float) -> Operation:
    match what:
        case "delay" | "wait" | "join":
            return what, min(number, delay_seconds), text
    return what, number, text
