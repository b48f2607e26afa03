"""Schedules: what comes next, what came last. They are work items, and are paused as such."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import Desk, desk_of
from roost.core.schedules import ScheduleView, list_schedules

LIST_SECONDS = 2.0
COST_FACTOR = 30.0  # each is read from its journal


async def schedules(request: Request) -> Response:
    """`GET /schedules`."""
    desk = desk_of(request)
    return await desk.page(request, "schedules.html", schedules=await all_schedules(desk))


async def all_schedules(desk: Desk) -> Sequence[ScheduleView]:
    """All schedules, one read for all who ask."""
    return await desk.shared.get(
        "schedules",
        lambda: list_schedules(desk.runtime.client),
        for_seconds=LIST_SECONDS,
        cost_factor=COST_FACTOR,
    )
