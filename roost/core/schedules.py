"""Schedules from outside: kept as the settings have them, listed, put on hold.

A schedule is the work item `schedule:NAME` of the built-in engine `roost.schedule`; all
that is here goes by way of the client, as for any work.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roost.core.client import Client, WorkView, views
from roost.errors import ConflictError, EnqueueConflict
from roost.journal.budget import hold_of
from roost.names import SCHEDULE_ENGINE, State
from roost.rules import SET_SIGNAL, Schedule
from roost.storage.query import IndexQuery

log = logging.getLogger("roost.schedules")

PREFIX = "schedule:"
_PAGE = 200


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule as it stands.

    Attributes:
        rule: what it does.
        state: of its work item; `paused` while it is on hold.
        next_at, last_at: the tick that comes next, and the last that was enqueued.
        count: how many ticks were enqueued.
        is_asleep: nothing is to be done for it before its next tick.
    """

    name: str
    work_id: str
    rule: Schedule
    state: State
    reason: str
    next_at: float | None
    last_at: float | None
    count: int
    is_asleep: bool


def schedule_id(name: str) -> str:
    """The work id of a schedule, without its namespace."""
    return f"{PREFIX}{name}"


async def keep(client: Client, schedules: Mapping[str, Schedule]) -> None:
    """Have every schedule of the settings run, as the settings have it now.

    Idempotent, and safe from any number of workers at once. A schedule that an operator
    removed stays so; one that is no longer in the settings goes on until it is removed.
    """
    for name, rule in schedules.items():
        fields = rule.model_dump(mode="json")
        try:
            await client.enqueue(SCHEDULE_ENGINE, fields, work_id=schedule_id(name))
        except EnqueueConflict:
            await _set(client, name, rule, fields)
            continue
        view = await client.status(schedule_id(name))
        if view.snapshot is not None:  # it may have had another rule since
            await _set(client, name, rule, fields)


async def _set(client: Client, name: str, rule: Schedule, fields: dict[str, Any]) -> None:
    view = await client.status(schedule_id(name))
    if view.control.state.is_terminal or _rule_of(view) == rule:
        return
    digest = hashlib.sha256(rule.model_dump_json().encode()).hexdigest()[:16]
    try:  # the version makes it another signal, should the same rule come back later
        signal_id = f"{digest}-{view.control.version}"
        await client.signal(schedule_id(name), SET_SIGNAL, fields, signal_id=signal_id)
    except ConflictError:
        log.warning("schedule %s ended while its rule was set", name, extra={"event": "schedule.ended"})


def _rule_of(view: WorkView) -> Schedule:
    return Schedule.model_validate(view.snapshot.data["rule"] if view.snapshot else view.item.payload)


async def list_schedules(client: Client) -> list[ScheduleView]:
    """All schedules of the client's namespace that have not been removed, by name."""
    found: list[ScheduleView] = []
    cursor = None
    while True:
        page = await client.list(IndexQuery(engine=SCHEDULE_ENGINE), cursor=cursor, limit=_PAGE)
        rows = [row for row in page.rows if row.state is not State.CANCELLED]
        found += [_view(view) for view in await views(client, rows)]
        cursor = page.cursor
        if cursor is None:
            return sorted(found, key=lambda view: view.name)


def _view(view: WorkView) -> ScheduleView:
    data = view.snapshot.data if view.snapshot is not None else {}
    rule = _rule_of(view)
    hold = "" if view.control.state.is_terminal else hold_of(view.control)
    return ScheduleView(
        name=view.item.work_id.rpartition(PREFIX)[2],
        work_id=view.item.work_id,
        rule=rule,
        state=State.PAUSED if hold else view.control.state,
        reason=hold or view.control.reason,
        next_at=data["next_at"] if data else rule.next_tick(view.item.created_at),
        last_at=data.get("last_at"),
        count=data.get("count", 0),
        is_asleep=bool(hold)
        or (view.control.state in (State.SCHEDULED, State.WAITING) and not view.control.cancel_requested),
    )


async def asleep_count(client: Client) -> int:
    """How many schedules that are not paused wait for their next tick; they never end by themselves."""
    views = await list_schedules(client)
    return sum(view.is_asleep and view.state is not State.PAUSED for view in views)


async def pause(client: Client, name: str, reason: str) -> None:
    """Put a schedule on hold. Ticks that come meanwhile were missed, when it goes on.

    Raises:
        WorkNotFound: there is no such schedule.
        ConflictError: it was removed.
    """
    await client.pause(schedule_id(name), reason)


async def resume(client: Client, name: str, reason: str) -> None:
    """Let a schedule go on that is on hold, or was removed.

    Raises:
        WorkNotFound: there is no such schedule.
    """
    view = await client.status(schedule_id(name))
    if view.control.state.is_terminal:
        await client.retry(schedule_id(name), reason)
    else:
        await client.resume(schedule_id(name), reason)


async def remove(client: Client, name: str, reason: str) -> None:
    """End a schedule; work that it has enqueued goes on.

    Raises:
        WorkNotFound: there is no such schedule.
        ConflictError: it was removed already.
    """
    await client.cancel(schedule_id(name), reason)
