"""What `journal.explain` is told of a work item: one way to gather it, whoever asks.

The command line reads all of it anew; a console keeps some of it for all who look.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

from roost.journal.accounts import Balance
from roost.journal.claims import ResourceView
from roost.journal.entries import Control, IndexRow
from roost.journal.events import Switch
from roost.journal.explain import (
    QUIET_SECONDS,
    Explanation,
    Facts,
    explain,
    is_due,
    may_be_switched_off,
    ready_at,
)
from roost.journal.lines import engine_target, lane_target
from roost.models import State
from roost.names import namespace_of


class Looks(Protocol):
    """How to find out."""

    async def resource(self, name: str) -> Sequence[ResourceView]:
        """One resource of the work's namespace; none, if nobody holds or waits for it."""

    async def backlog(self) -> int:
        """About how many deliveries nobody took yet."""

    async def paused(self) -> Sequence[Switch]:
        """Lanes and engines that are paused."""

    async def engines_seen(self) -> Collection[str] | None:
        """Engines that live workers run, as far as is known; None: it is not."""

    async def balances(self, work_id: str) -> Sequence[Balance]:
        """How the accounts stand that work is charged to."""


async def why(
    looks: Looks,
    work_id: str,
    control: Control,
    row: IndexRow | None,
    resources: Sequence[str],
    now: float,
) -> Explanation:
    """Why work is where it is; looks at no more than its state calls for.

    Args:
        resources: that it asks for; they matter while it is blocked.
    """
    facts = Facts(work_id, control, now, row=row)
    if control.state is State.BLOCKED:
        found = [await looks.resource(name) for name in resources]
        facts = replace(facts, views=[view for views in found for view in views])
    if is_due(control, now):
        facts = replace(facts, backlog=await looks.backlog())
        if now - (ready_at(control) or now) > QUIET_SECONDS:
            facts = replace(facts, engines=await looks.engines_seen())
    if control.account or control.is_daily:
        facts = replace(facts, balances=await looks.balances(work_id))
    if may_be_switched_off(control):
        facts = replace(facts, switch=_switch_of(await looks.paused(), control, work_id))
    return explain(facts)


def _switch_of(known: Sequence[Switch], control: Control, work_id: str) -> Switch | None:
    targets = (engine_target(control.engine, namespace_of(work_id)), lane_target(control.lane))
    return next((one for target in targets for one in known if one.target == target), None)
