"""The list of work: filter, facets, pages by cursor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import Desk, desk_of, int_of
from roost.console.html import number
from roost.console.pulse import Pulse
from roost.console.reads import Rows
from roost.core import where as filters
from roost.core.finding import SCAN_MAX, bounded
from roost.core.where import Where, token
from roost.errors import InputError
from roost.journal.entries import IndexRow
from roost.models import Lane, State
from roost.names import Order

LIMIT, LIMIT_MAX = 50, 200
SAMPLE = 500  # newest rows that the facets count
FACETS = 8

COLUMNS: Mapping[str, str] = {
    "state": "State",
    "step": "Step, engine",
    "failures": "Failures",
    "next": "Holder, or what comes next",
    "created": "Created",
    "updated": "Updated",
    "lane": "Lane",
    "labels": "Labels",
    "worker": "Worker",
    "parent": "Parent",
    "deadline": "Deadline",
    "position": "Journal",
}
"""What a row can show beside its id, and what the column is called."""
ORDERS: Mapping[Order, str] = {
    Order.NEWEST: "newest first",
    Order.OLDEST: "oldest first",
    Order.DUE: "due next",
    Order.UPDATED: "changed last",
    Order.SINCE: "longest in its state",
    Order.FAILURES: "most failures",
}
SORTS: Mapping[str, tuple[Order, str]] = {
    "created": (Order.NEWEST, "↓"),
    "updated": (Order.UPDATED, "↓"),
    "state": (Order.SINCE, "↑"),
    "failures": (Order.FAILURES, "↓"),
    "next": (Order.DUE, "↑"),
}
"""By which order the head of a column sorts, and which way that goes."""
AGED = (State.QUEUED, State.WAITING, State.BLOCKED)  # whose age says that something is wrong
USUAL = ("state", "step", "failures", "next", "created")

Tab = tuple[str, int, str, bool, list[int], str, float | None]
"""Name, count, address, whether it is here, curve, note, and since when the oldest is in that state."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a column.

    Attributes:
        query: the address of its order.
        order: that order.
        arrow: which way it goes, if it is this one.
    """

    query: str
    order: Order
    arrow: str


Facet = tuple[str, Sequence[tuple[str, str, int]]]

SERIES: Mapping[State, str] = {
    State.QUEUED: "enqueued",
    State.RUNNING: "claimed",
    State.SCHEDULED: "deferred",
    State.WAITING: "signaled",
    State.BLOCKED: "blocked",
    State.DONE: "done",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.PAUSED: "paused",
}
"""Which happening the curve under a state's count shows."""


async def work(request: Request) -> Response:
    """`GET /work`."""
    desk = desk_of(request)
    text, cursor = request.query_params.get("q", ""), request.query_params.get("cursor") or None
    limit = int_of(request, "limit", LIMIT, low=1, high=LIMIT_MAX)
    wanted = request.query_params.get("sort", "")
    order = Order(wanted) if wanted in ORDERS else Order.NEWEST
    columns = _columns(request.query_params.getlist("cols"))
    kept = _View(order, None if columns == USUAL else ",".join(columns), limit)
    try:
        where, problem = filters.parse(text, desk.now).sorted(order), ""
        page = await desk.reads.rows(where, cursor=cursor, limit=limit)
    except InputError as error:
        where, problem = Where(text[: filters.TEXT_MAX_CHARS]), f"{error}. {error.hint}"
        page = Rows([], None, 0, desk.now)
    await desk.pulse.refresh()
    fresh = None if problem else await desk.looks.of(where, page, cursor)
    sample = await desk.reads.rows(filters.parse("", desk.now), limit=SAMPLE)
    return await desk.page(
        request,
        "work.html",
        where=where,
        problem=problem,
        page=page,
        fresh=fresh,
        cursor=cursor,
        limit=limit,
        tabs=await tabs(desk, where, kept.fields),
        columns=columns,
        all_columns=COLUMNS,
        kept=f"&{urlencode(kept.fields)}" if kept.fields else "",
        facets=facets(sample.rows),
        sampled=len(sample.rows),
        beside=partial(beside, columns=columns),
        order=order,
        orders=orders(desk),
        heads={name: _head(name, where, kept) for name in columns},
        first_query=kept.query(where),
        next_query=kept.query(where, page.cursor),
    )


def orders(desk: Desk) -> dict[Order, str]:
    """What each order is called; of one that is not made of all that matches, how much it is made of."""
    cut = bounded(desk.runtime.backend.index.orders, is_fenced=desk.pulse.is_denied)
    return {
        order: f"{text}, of the newest {number(SCAN_MAX)}" if order in cut else text
        for order, text in ORDERS.items()
    }


def beside(row: IndexRow, columns: Sequence[str]) -> str:
    """What stands below the id of a row: what is not usual about it and has no column of its own."""
    parts = [f"{row.lane} lane"] if row.lane is not Lane.NORMAL and "lane" not in columns else []
    if "labels" not in columns:
        parts += [f"{name}={value}" for name, value in row.labels]
    return " ".join(parts)


def _columns(given: Sequence[str]) -> tuple[str, ...]:
    """The columns of a `cols` parameter, each once, as they come; the usual ones without it."""
    names = [name for text in given[: len(COLUMNS)] for name in text.split(",") if name in COLUMNS]
    return tuple(dict.fromkeys(names)) or USUAL


@dataclass(frozen=True, slots=True)
class _View:
    """How the list is shown, whatever its filter; what is usual stays out of the address."""

    order: Order
    cols: str | None
    limit: int

    @property
    def fields(self) -> dict[str, str]:
        """Of the address."""
        sort = None if self.order is Order.NEWEST else self.order.value
        limit = None if self.limit == LIMIT else str(self.limit)
        return {
            name: value
            for name, value in (("cols", self.cols), ("sort", sort), ("limit", limit))
            if value is not None
        }

    def query(self, where: Where, cursor: str | None = None) -> str:
        """The address of a page, after the question mark."""
        more = {name: value for name, value in (("q", where.text), ("cursor", cursor)) if value}
        return urlencode({**more, **self.fields})


def _head(name: str, where: Where, view: _View) -> Head | None:
    """How the head of a column sorts; None: the list can't be sorted by it."""
    if name not in SORTS:
        return None
    order, arrow = SORTS[name]
    is_here = order is view.order
    if name == "created" and view.order in (Order.NEWEST, Order.OLDEST):  # the one that goes both ways
        order, arrow = (Order.OLDEST, "↓") if is_here else (Order.NEWEST, "↑")
        is_here = True
    return Head(replace(view, order=order).query(where), order, arrow if is_here else "")


async def tabs(desk: Desk, where: Where, view: Mapping[str, str] | None = None) -> list[Tab]:
    """The states as navigation: count, and the last hour as a curve.

    Args:
        view: how the lists behind them are shown.
    """
    counts = (await desk.reads.counts()).of
    bare = " ".join(token for token in where.tokens if not token.startswith("state:"))
    made: list[Tab] = [
        ("all", sum(counts.values()), _href(bare, view), bare == where.text, steps(desk.pulse), "", None)
    ]
    for state in State:
        token = f"state:{state}"
        series = desk.pulse.series(SERIES[state])
        note = _note(state, series)
        oldest = await desk.reads.oldest(state) if state in AGED and counts[state] else None
        href, is_here = _href(f"{bare} {token}", view), token in where.tokens
        made.append((state, counts[state], href, is_here, series, note, oldest.since if oldest else None))
    return made


def _href(text: str, view: Mapping[str, str] | None) -> str:
    query = urlencode({**({"q": text.strip()} if text.strip() else {}), **(view or {})})
    return f"/work?{query}" if query else "/work"


def steps(pulse: Pulse) -> list[int]:
    """Committed steps of each of the last 60 minutes, those that ended work included."""
    return [sum(pair) for pair in zip(pulse.series("committed"), pulse.series("done"), strict=True)]


def _note(state: State, series: list[int]) -> str:
    if state is State.FAILED and (recent := sum(series[-15:])):
        return f"+{recent} in 15 m"
    if state is State.DONE and (recent := sum(series)):
        return f"{recent} in 1 h"
    return ""


def facets(rows: Sequence[IndexRow]) -> list[Facet]:
    """What the newest rows have, most frequent first."""
    return [
        ("Engine", _facet("engine", rows, lambda row: row.engine)),
        ("Step", _facet("step", rows, lambda row: row.step)),
        ("Label", _labels(rows)),
        ("Lane", _facet("lane", rows, lambda row: row.lane.value)),
        ("Worker", _facet("worker", rows, lambda row: row.worker_id or "")),
    ]


def _labels(rows: Sequence[IndexRow]) -> list[tuple[str, str, int]]:
    counted = Counter(label for row in rows for label in row.labels)
    return [
        (f"{name}={value}", token("label", f"{name}={value}"), count)
        for (name, value), count in counted.most_common(FACETS)
    ]


def _facet(
    name: str, rows: Sequence[IndexRow], value: Callable[[IndexRow], str]
) -> list[tuple[str, str, int]]:
    counted = Counter(value(row) for row in rows)
    return [(text, token(name, text), count) for text, count in counted.most_common(FACETS) if text]
