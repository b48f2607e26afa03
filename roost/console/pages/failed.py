"""Failed work, grouped by engine, step and like error."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import desk_of
from roost.console.reads import FAILED_MAX
from roost.models import State

SHOWN = 5  # of each group


async def failed(request: Request) -> Response:
    """`GET /failed`."""
    desk = desk_of(request)
    groups = await desk.reads.groups()
    counts = await desk.reads.counts()
    return await desk.page(
        request,
        "failed.html",
        groups=groups,
        total=counts[State.FAILED],
        looked_at=sum(len(group.rows) for group in groups),
        limit=FAILED_MAX,
        shown=SHOWN,
    )
