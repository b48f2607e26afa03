"""What changed for the worse, in words: the strip of the first page, and the API's overview."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from roost import times
from roost.console.desk import Desk
from roost.console.pages.fleet import Worker
from roost.console.pulse import Notice, Pulse
from roost.console.urls import segment
from roost.journal.accounts import Balance
from roost.journal.claims import ResourceView
from roost.journal.decide import WAITS_FOR_ENGINE
from roost.journal.entries import IndexRow
from roost.models import State

RECENT_MINUTES = 15
FAILING_SHARE = 0.2  # of attempts; below it failures are the retries' business
FAILING_MIN = 3
QUEUED_SECONDS = 120.0  # work that nobody took for so long
WAITERS_MIN = 3
ATTENTION_MAX = 9
ROWS_MAX = 200  # newest rows that are looked at, of work on hold and of work that sleeps
NEARLY = 0.8  # of a limit of the day, as the workers' own warning
BUDGET = "budget "  # how the reason of work begins that is parked for one


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that wants a look: what is so, more about it, and where to look."""

    text: str
    more: str
    href: str
    is_bad: bool = True
    sign: str = "warn"


async def needs_attention(
    desk: Desk, workers: Sequence[Worker], resources: Sequence[ResourceView], queued: Sequence[IndexRow]
) -> list[Attention]:
    """What changed for the worse; the worst first, a bounded number."""
    now, counts = desk.now, (await desk.reads.counts()).of
    paused = await desk.reads.some(State.PAUSED, ROWS_MAX) if counts[State.PAUSED] else ()
    asleep = await desk.reads.some(State.SCHEDULED, ROWS_MAX) if counts[State.SCHEDULED] else ()
    due = [row for row in asleep if row.wake_at is not None and row.wake_at <= now]
    found = [
        *_silent(workers, now),
        *_used_up(await desk.reads.today()),
        *_failing(desk.pulse),
        *_noted(list(desk.pulse.notes.values())),
        *_parked(paused),
        *_stuck([*queued, *due], None if desk.pulse.is_denied else workers, now),
        *_low(list(desk.pulse.low.values())),
        *_crowded(resources, now),
    ]
    return found[:ATTENTION_MAX]


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
            found.append(Attention(text, more, "/work?q=state:paused", is_bad=share >= 1, sign="paused"))
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


def _noted(notes: Sequence[Notice]) -> list[Attention]:
    """Triggers that came to nothing: nothing failed, and nothing goes on."""
    if not notes:
        return []
    newest = notes[-1]
    href = f"/work/{segment(newest.work_id)}" if len(notes) == 1 else "/events?kind=noted"
    text = f"A trigger came to nothing after {newest.work_id}"
    if len(notes) > 1:
        text = f"Triggers came to nothing after {len(notes)} work items"
    return [Attention(text, newest.text, href)]


def _parked(paused: Sequence[IndexRow]) -> list[Attention]:
    """Work that asks for a larger budget."""
    over = [row for row in paused if row.reason.startswith(BUDGET)]
    if not over:
        return []
    text = f"{_so_many(len(over), 'work item')} parked until somebody raises the budget"
    href = f"/work/{segment(over[0].work_id)}" if len(over) == 1 else "/work?q=state:paused+reason:budget*"
    return [Attention(text, f"{over[0].work_id}: {over[0].reason}.", href, sign="paused")]


def _low(low: Sequence[Notice]) -> list[Attention]:
    """Work that will soon be parked."""
    if not low:
        return []
    newest = low[-1]
    text = f"{_so_many(len(low), 'work item')} with a budget nearly used up"
    href = f"/work/{segment(newest.work_id)}" if len(low) == 1 else "/work?q=reason:*nearly*used*up*"
    return [Attention(text, f"{newest.work_id}: {newest.text}.", href, is_bad=False, sign="paused")]


def _so_many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _stuck(waiting: Sequence[IndexRow], workers: Sequence[Worker] | None, now: float) -> list[Attention]:
    """Work that nobody takes, by engine; `workers` None: nobody knows which there are."""
    by_engine: dict[str, list[IndexRow]] = {}
    for row in waiting:
        by_engine.setdefault(row.engine, []).append(row)
    known = {engine for worker in workers or () if worker.seen for engine in worker.seen.engines}
    found = []
    for engine, rows in by_engine.items():
        since = min(row.wake_at or row.since for row in rows)
        if now - since < QUEUED_SECONDS:
            continue
        lacks = next((row.reason for row in rows if row.reason.startswith(WAITS_FOR_ENGINE)), "")
        why = "Its workers are busy." if engine in known else "No worker was seen that runs it."
        why = why if workers is not None else "Workers can't be seen from here."
        if lacks:
            why = f"None that looked has what it needs: it {lacks}."
        text = f"{len(rows)} of {engine} wait, the oldest for {times.span(now - since)}"
        is_bad = bool(lacks) or engine not in known
        href = f"/work?q=engine:{engine}+-state:done" if lacks else f"/work?q=state:queued+engine:{engine}"
        found.append(Attention(text, why, href, is_bad=is_bad))
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
