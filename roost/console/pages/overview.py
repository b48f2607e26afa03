"""The first page: what changed for the worse, in words, and how much of everything there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from roost import times
from roost.console.desk import Desk, desk_of
from roost.console.pages import work
from roost.console.pages.fleet import Worker, all_workers, why_paused
from roost.console.pulse import Pulse
from roost.core.where import Where
from roost.journal.accounts import Balance
from roost.journal.claims import ResourceView
from roost.journal.entries import IndexRow
from roost.journal.lines import lane_target
from roost.models import Lane, State

RECENT_MINUTES = 15
FAILING_SHARE = 0.2  # of attempts; below it failures are the retries' business
FAILING_MIN = 3
QUEUED_SECONDS = 120.0  # work that nobody took for so long
WAITERS_MIN = 3
QUEUED_MAX = 1000
ATTENTION_MAX = 9
NEARLY = 0.8  # of a limit of the day, as the workers' own warning


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that wants a look: what is so, more about it, and where to look."""

    text: str
    more: str
    href: str
    is_bad: bool = True
    sign: str = "warn"


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
        attention=attention(desk, workers, resources, queued, await desk.reads.today())[:ATTENTION_MAX],
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


def attention(
    desk: Desk,
    workers: Sequence[Worker],
    resources: Sequence[ResourceView],
    queued: Sequence[IndexRow],
    today: Balance,
) -> list[Attention]:
    """What changed for the worse; the worst first."""
    now = desk.now
    return [
        *_silent(workers, now),
        *_used_up(today),
        *_failing(desk.pulse),
        *_stuck(queued, None if desk.pulse.is_denied else workers, now),
        *_crowded(resources, now),
    ]


def _silent(workers: Sequence[Worker], now: float) -> list[Attention]:
    return [
        Attention(
            f"Worker {worker.worker_id} went silent",
            f"{len(worker.rows)} leases ended {times.relative(worker.lease_until or now, now)}; "
            "others take over from the last committed version.",
            f"/work?q=worker:{quote(worker.worker_id)}",
        )
        for worker in workers
        if worker.state == "silent"
    ]


def _used_up(today: Balance) -> list[Attention]:
    """Limits of the day that are used up, or nearly so."""
    spent = dict(today.spent)
    found = []
    for name, limit in today.allowed or ():
        share = spent.get(name, 0.0) / limit
        if share >= NEARLY:
            text = f"The day's budget of {name} is {'used up' if share >= 1 else 'nearly used up'}"
            more = f"{spent[name]:g} of {limit:g}; work parks then, until midnight UTC or a higher limit."
            found.append(Attention(text, more, "/work?q=state:blocked", is_bad=share >= 1, sign="paused"))
    return found


def _failing(pulse: Pulse) -> list[Attention]:
    found = []
    for engine in pulse.engines():
        bad = sum(pulse.series("attempt_failed", engine)[-RECENT_MINUTES:])
        ended = sum(pulse.series("failed", engine)[-RECENT_MINUTES:])
        good = sum(pulse.series("committed", engine)[-RECENT_MINUTES:])
        good += sum(pulse.series("done", engine)[-RECENT_MINUTES:])
        tries = bad + ended + good
        if bad + ended >= FAILING_MIN and (bad + ended) / tries >= FAILING_SHARE:
            share = f"{(bad + ended) / tries:.0%}".replace("%", " %")
            text = f"{engine} fails {share} of its attempts"
            more = f"{ended} failed for good in {RECENT_MINUTES} minutes, {bad} were tried again."
            found.append(Attention(text, more, f"/work?q=state:failed+engine:{engine}", sign="failed"))
        elif ended:
            text = f"{ended} of {engine} failed for good in {RECENT_MINUTES} minutes"
            found.append(Attention(text, "Grouped by error under Failed.", "/failed", sign="failed"))
    return found


def _stuck(queued: Sequence[IndexRow], workers: Sequence[Worker] | None, now: float) -> list[Attention]:
    """Work that nobody takes, by engine; `workers` None: nobody knows which there are."""
    oldest: dict[str, float] = {}
    counts = Counter(row.engine for row in queued)
    for row in queued:
        oldest[row.engine] = min(oldest.get(row.engine, row.since), row.since)
    known = {engine for worker in workers or () if worker.seen for engine in worker.seen.engines}
    found = []
    for engine, since in oldest.items():
        if now - since < QUEUED_SECONDS:
            continue
        why = "Its workers are busy." if engine in known else "No worker was seen that runs it."
        why = why if workers is not None else "Workers can't be seen from here."
        text = f"{counts[engine]} of {engine} wait, the oldest for {times.span(now - since)}"
        found.append(
            Attention(text, why, f"/work?q=state:queued+engine:{engine}", is_bad=engine not in known)
        )
    return found


def _crowded(resources: Sequence[ResourceView], now: float) -> list[Attention]:
    found = []
    for view in sorted(resources, key=lambda one: -len(one.waiters)):
        if len(view.waiters) < WAITERS_MIN:
            break
        owner = view.owners[0].work_id if view.owners else "nobody"
        oldest = times.span(now - min(waiter.since for waiter in view.waiters))
        text = f"{len(view.waiters)} wait for {view.resource}"
        more = f"Held by {owner}; the first in line for {oldest}."
        found.append(Attention(text, more, "/resources", is_bad=False, sign="blocked"))
    return found
