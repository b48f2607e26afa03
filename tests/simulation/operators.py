"""What operators do in a run: hold and let go, cancel by a time, go back, fork, set budgets, evict.

Every third seed has some of it. In the end, when nothing fails any more, an operator lets
everything go on that is still on hold, so that all work can end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from roost.core.client import Client
from roost.errors import InputError
from roost.journal.budget import hold_of
from roost.journal.entries import Control
from roost.testing.virtual_time import START_AT

from . import many
from .histories import rewind
from .operator_invariants import FORKER
from .plan import Plan, PlannedDeed, draw_strike

if TYPE_CHECKING:
    from .world import World

ENGINE = "sim"
FORKS_MAX = 6
ENOUGH = 1e9
DEEDS = (
    *("pause", "pause", "pause", "resume", "resume", "cancel", "cancel", "retry", "retry", "retry"),
    *("fork", "fork", "budget", "budget", "engine_off", "engine_on"),
)
STRIKE_CALLS = (
    *("paused", "resumed", "resumed", "budget_set", "retried", "retried", "cancel_requested", "switched"),
    *(
        "cancel_requested",
        "append_many",
        "append_many",
        "get",
        "read",
        "index_put",
        "index_get",
        "send",
        "list",
    ),
)
_LET_GO_ROUNDS_MAX = 50


def with_operators(plan: Plan, seed: int) -> Plan:
    """The plan with what operators do in it."""
    if seed % 3:
        return plan
    source = random.Random(f"operators {seed}")
    deeds = tuple(_draw_deed(source, plan) for _ in range(source.randint(1, 8)))
    forks = 0
    evictions = [work for work in plan.works if work.resources]
    if evictions:
        count = source.randint(0, 3)
        deeds += tuple(
            PlannedDeed("evict", source.choice(evictions).work_id, source.uniform(0.0, plan.chaos_seconds))
            for _ in range(count)
        )
    kept = []
    for deed in deeds:
        forks += deed.what == "fork"
        if forks <= FORKS_MAX:
            kept.append(deed)
    strikes = tuple(
        draw_strike(source, source.choice(STRIKE_CALLS), may_jump=False) for _ in range(source.randint(0, 4))
    )
    works = tuple(
        replace(work, deadline_after_seconds=source.uniform(1.0, 10 * plan.lease_seconds))
        if source.random() < 0.2
        else work
        for work in plan.works
    )
    faults = replace(plan.faults, strikes=plan.faults.strikes + strikes)
    return replace(plan, works=works, deeds=tuple(kept), faults=faults)


def _draw_deed(source: random.Random, plan: Plan) -> PlannedDeed:
    what = source.choice(DEEDS)
    seconds = plan.lease_seconds * source.choice((0.0, 0.2, 1.0, 3.0))
    number = {
        "pause": source.choice((0.0, seconds)),
        "cancel": seconds,
        "budget": float(source.randint(1, 3)),
    }.get(what, float(source.randint(0, 3)))
    work = source.choice(plan.works)
    return PlannedDeed(what, work.work_id, source.uniform(0.0, plan.chaos_seconds), number)


async def do(
    world: World,
    client_as: Callable[[str], Client],
    try_it: Callable[..., Awaitable[bool]],
    deed: PlannedDeed,
) -> None:
    """Do it once, at its time; a program that dies or fails on the way leaves it half done.

    Who forks has a name of its own, by which it is seen what a fork writes, and where.
    """
    await asyncio.sleep(deed.after_seconds)
    fork_id = f"{deed.work_id}-fork-{round(deed.after_seconds * 1e6)}"
    if deed.what == "fork":
        world.works[fork_id] = world.works[deed.work_id]
        world.step_counts[fork_id] = world.step_counts[deed.work_id]

    async def act() -> None:
        try:
            await _act(
                world, client_as(f"{FORKER}{fork_id}" if deed.what == "fork" else "client"), deed, fork_id
            )
        except InputError:
            world.report.counts["no such version"] += 1

    await try_it(act)


async def _act(world: World, client: Client, deed: PlannedDeed, fork_id: str) -> None:
    work_id, number, now = deed.work_id, deed.number, START_AT + world.now()
    match deed.what:
        case "pause":
            await client.pause(work_id, "hold on", for_seconds=number or None)
        case "resume":
            await client.resume(work_id, "go on")
        case "cancel":
            await client.cancel(work_id, "enough", by_seconds=number)
        case "retry":
            await client.retry(work_id, "from there", version=int(number))
        case "bulk":
            await many.bulk(client, deed, now)
        case "operation":
            await many.begin(client, deed, now)
        case "drain":
            await client.drain_worker(world.processes[int(number) % len(world.processes)].name, "old host")
        case "rewind":
            await rewind(world, client, deed)
        case "fork":
            await client.fork(work_id, max(1, int(number)), "what if", work_id=fork_id)
            world.report.counts["forked"] += 1
        case "budget":
            await client.set_budget(work_id, {"steps": number}, "not so much")
        case "family":
            await client.set_family_budget(work_id, {"steps": number}, "so much for all of it")
        case "day":
            await client.set_daily_budget({"steps": 3 * number}, "a quiet day")
        case "evict":
            await client.evict(world.works[work_id].resources[0], work_id, "taken away")
        case "engine_off":
            await client.pause_engine(ENGINE, "bad release")
        case "engine_on":
            await client.resume_engine(ENGINE, "fixed")


async def let_go(world: World, client: Client) -> None:
    """Let all go on that is on hold, and lift every budget."""
    await client.resume_engine(ENGINE, "at last")
    await client.set_daily_budget({}, "no limit")
    for work_id in filter(None, dict.fromkeys(tail.control.account for tail in world.tails.values())):
        await world.outsider.attempt(partial(client.set_family_budget, work_id, {"steps": ENOUGH}, "at last"))
    for _ in range(_LET_GO_ROUNDS_MAX):
        live = [tail for tail in world.tails.values() if not tail.control.state.is_terminal]
        held = [
            tail
            for tail in live
            if hold_of(tail.control) or dict(tail.control.budget).get("steps", ENOUGH) < ENOUGH
        ]
        if not held:
            if not any(map(many.is_operation, live)):
                return
            await asyncio.sleep(world.plan.lease_seconds)  # it may put more on hold
        for tail in held:
            await _lift(world, client, world.id_of(tail.work_id))


def _has_limit(control: Control) -> bool:
    return any(limit < ENOUGH for _, limit in control.budget)


async def _lift(world: World, client: Client, work_id: str) -> None:
    process = world.outsider
    await process.attempt(lambda: client.set_budget(work_id, {"steps": ENOUGH}, "all it needs"))
    await process.attempt(lambda: client.resume(work_id, "at last"))
