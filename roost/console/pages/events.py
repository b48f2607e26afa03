"""The live feed of all journals."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from roost.console import told
from roost.console.desk import desk_of, int_of
from roost.console.pulse import KEPT_MAX, Numbered

LIMIT = 100


async def events(request: Request) -> Response:
    """`GET /events`, with `engine`, `kind`, `actor` as filters."""
    desk = desk_of(request)
    await desk.pulse.refresh()
    limit = int_of(request, "limit", LIMIT, low=1, high=KEPT_MAX)
    wanted = {name: request.query_params.get(name, "").strip() for name in ("engine", "kind", "actor")}
    found = [numbered for numbered in desk.pulse.newest(KEPT_MAX) if _matches(numbered, wanted)]
    return await desk.page(
        request,
        "events.html",
        lines=[(numbered.number, told.tell(numbered.entry)) for numbered in found[:limit]],
        more=len(found) > limit,
        limit=limit,
        wanted=wanted,
        kinds=sorted({numbered.entry.event.kind.value for numbered in desk.pulse.entries}),
        engines=desk.pulse.engines(),
        kept=len(desk.pulse.entries),
        kept_max=KEPT_MAX,
    )


def _matches(numbered: Numbered, wanted: dict[str, str]) -> bool:
    entry = numbered.entry
    return (
        wanted["engine"] in ("", entry.control.engine)
        and wanted["kind"] in ("", entry.event.kind.value)
        and wanted["actor"] in entry.actor
    )
