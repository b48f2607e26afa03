"""The first page: what changed for the worse, in words, and how much of everything there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from roost.console.attention import needs_attention
from roost.console.desk import desk_of
from roost.console.pages import work
from roost.console.pages.fleet import all_workers, why_paused
from roost.console.pulse import Pulse
from roost.core.where import Where
from roost.journal.entries import IndexRow
from roost.journal.lines import lane_target
from roost.models import Lane, State

QUEUED_MAX = 1000


@dataclass(frozen=True, slots=True)
class Depth:
    """Queued work of one lane; `oldest_at` is when the longest waiting began to."""

    lane: Lane
    count: int
    oldest_at: float | None


async def overview(request: Request) -> Response:
    """`GET /`."""
    desk = desk_of(request)
    await desk.pulse.refresh()
    workers = await all_workers(desk)
    resources = await desk.reads.resources() or ()
    queued = await desk.reads.some(State.QUEUED, QUEUED_MAX)
    pulse = desk.pulse
    switches = why_paused(await desk.reads.switches())
    steps = work.steps(pulse)
    return await desk.page(
        request,
        "overview.html",
        tabs=await work.tabs(desk, Where("")),
        attention=await needs_attention(desk, workers, resources, queued),
        charts=[
            ("Steps", steps, "done", "committed in the last hour"),
            ("Failed attempts", pulse.series("attempt_failed"), "failed", "in the last hour"),
            ("Enqueued", pulse.series("enqueued"), "queued", "in the last hour"),
        ],
        engines=_engines(pulse),
        lanes=depths(queued),
        today=await desk.reads.today(),
        paused_lanes={lane: paused for lane in Lane if (paused := switches.get(lane_target(lane), ""))},
        queued_max=QUEUED_MAX,
        backlog=await desk.reads.backlog(),
        workers=workers,
        resources=[view for view in resources if view.waiters][:8],
        covers_from=pulse.covers_from,
        as_of=(await desk.reads.counts()).as_of,
        read_up_to=pulse.read_up_to,
        hour_ago=desk.now - 3600,
    )


def depths(queued: Sequence[IndexRow]) -> list[Depth]:
    """Queued work by lane."""
    counts = Counter(row.lane for row in queued)
    return [
        Depth(lane, counts[lane], min((row.since for row in queued if row.lane is lane), default=None))
        for lane in Lane
    ]


def _engines(pulse: Pulse) -> list[tuple[str, int, int, int, int]]:
    """Engines with what they did in the last hour: enqueued, steps, failed attempts, failed."""
    kinds = ("enqueued", "committed", "attempt_failed", "failed")
    return [(name, *(sum(pulse.series(kind, name)) for kind in kinds)) for name in pulse.engines()]  # type: ignore[misc]  # four kinds
