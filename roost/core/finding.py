"""Pages of work that a filter matches, in an order.

In the orders that a backend's index serves (`WorkIndex.orders`) a page goes on where the one before
ended, however much there is. So does what is due, which every index keeps in order. Any other order
is made of the newest `SCAN_MAX` work items, whole, at each page, and the answer says whether that
was all: so what a page costs is bounded on every backend, and no page is sorted by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from roost.core.where import Where
from roost.errors import StorageDenied
from roost.journal.entries import IndexRow
from roost.journal.limits import FOREVER_AT
from roost.models import Lane, State
from roost.names import Order
from roost.storage.ports import WorkIndex
from roost.storage.query import SORTS, Sort, Spot, spot_of

SCAN_MAX = 2000  # rows that one page of a filter looks at, where the index can't do all of it
SCAN_PAGE = 200
PASS_MAX = 500  # likewise, in an order for which each page of the index takes a pass over all rows
_PAGES_MAX = SCAN_MAX // SCAN_PAGE  # a backend's pages may be short where it filters by itself
_CUT = "!"  # in a cursor: the page goes on after this row


@dataclass(frozen=True, slots=True)
class Found:
    """A page of what a filter matches.

    Attributes:
        cursor: goes on after it; None: nothing follows.
        looked_at: rows of the index that were looked at for it.
        is_cut: there is older work, which was not looked at and so is not sorted in.
    """

    rows: Sequence[IndexRow]
    cursor: str | None
    looked_at: int
    is_cut: bool = False


def bounded(served: Collection[Order], *, is_fenced: bool) -> frozenset[Order]:
    """The orders in which only the newest `SCAN_MAX` work items come.

    Args:
        served: those of the backend's index.
        is_fenced: who asks may not read what is due, since that is of all namespaces.
    """
    whole = {*served} if is_fenced else {*served, Order.DUE}
    return frozenset(Order) - whole


async def find(index: WorkIndex, where: Where, *, cursor: str | None, limit: int) -> Found:
    """A page of what matches: at most `limit` rows, or what `SCAN_MAX` rows of the index hold.

    Args:
        where: within its namespace.

    Raises:
        InputError: the cursor is none.
    """
    if where.order in index.orders:
        return await _in_order(index, where, cursor, limit)
    if where.order is Order.DUE:
        with suppress(StorageDenied):  # a role that is fenced in its namespace sees no other's
            return await _due(index, where, cursor, limit)
    return await _sorted(index, where, cursor, limit)


# --- in an order of the index ------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where in a page of the index a page ended: the row, and what it was sorted by, if by anything."""

    work_id: str
    value: float | None

    def is_at(self, row: IndexRow, sort: Sort | None) -> bool:
        """Whether this is the row, where it was."""
        return row.work_id == self.work_id and (sort is None or sort.value(row) == self.value)


async def _in_order(index: WorkIndex, where: Where, cursor: str | None, limit: int) -> Found:
    sort = SORTS.get(where.order)
    found: list[IndexRow] = []
    looked_at = 0
    start, after = _begin(cursor)
    page_limit, most = _limits(where, limit)
    for _ in range(_PAGES_MAX):
        page = await index.list(where.query, cursor=start, limit=page_limit)
        looked_at += len(page.rows)
        for row in _past(page.rows, after, sort):
            if not where.matches(row):
                continue
            if len(found) == limit:
                return Found(found, _cut_after(found[-1], sort, start), looked_at)
            found.append(row)
        start, after = page.cursor, None
        if start is None or len(found) == limit or looked_at >= most:
            break
    return Found(found, start, looked_at)


def _limits(where: Where, limit: int) -> tuple[int, int]:
    """Rows of a page of the index, and of all that are looked at."""
    if not where.checks:
        return limit, 0
    if where.order in SORTS:
        return max(limit, PASS_MAX), 0
    return max(limit, SCAN_PAGE), SCAN_MAX


def _cut_after(row: IndexRow, sort: Sort | None, start: str | None) -> str:
    value = "" if sort is None else repr(sort.value(row))
    return f"{_CUT}{row.work_id}{_CUT}{value}{_CUT}{start or ''}"


def _begin(cursor: str | None) -> tuple[str | None, _Cut | None]:
    """The index's cursor, and the row after which to go on there.

    Raises:
        InputError: it is none.
    """
    if cursor is None or not cursor.startswith(_CUT):
        return cursor, None
    work_id, _, rest = cursor.removeprefix(_CUT).partition(_CUT)
    value, _, start = rest.partition(_CUT)
    return start or None, _Cut(work_id, spot_of(f"{value}{_CUT}").value if value else None)


def _past(rows: Sequence[IndexRow], after: _Cut | None, sort: Sort | None) -> Sequence[IndexRow]:
    """The rows after the one of a cut; if it has moved or is gone, those that don't sort before it."""
    if after is None:
        return rows
    place = next((n for n, row in enumerate(rows) if after.is_at(row, sort)), None)
    if place is not None:
        return rows[place + 1 :]
    if sort is None or after.value is None:
        return rows
    least = sort.rank(after.value)
    return [row for row in rows if sort.rank(sort.value(row) or 0.0) >= least]


# --- in orders of its own ----------------------------------------------------


async def _sorted(index: WorkIndex, where: Where, cursor: str | None, limit: int) -> Found:
    """A page of the newest work that matches, sorted as a whole."""
    sort, query = SORTS[where.order], replace(where.query, order=Order.NEWEST)
    after = _rank_of(cursor, sort)
    ranked: dict[tuple[float, str], IndexRow] = {}
    looked_at, start = 0, None
    for _ in range(_PAGES_MAX):
        page = await index.list(query, cursor=start, limit=SCAN_PAGE)
        looked_at += len(page.rows)
        for row in filter(where.matches, page.rows):
            value = sort.value(row)
            if value is not None:
                ranked[sort.rank(value), row.work_id] = row
        start = page.cursor
        if start is None:
            break
    left = [ranked[rank] for rank in sorted(ranked) if after is None or rank > after]
    more = _spot(left[limit - 1], sort).cursor if len(left) > limit else None
    return Found(left[:limit], more, looked_at, is_cut=start is not None)


def _rank_of(cursor: str | None, sort: Sort) -> tuple[float, str] | None:
    if cursor is None:
        return None
    spot = spot_of(cursor)
    return sort.rank(spot.value), spot.row


def _spot(row: IndexRow, sort: Sort) -> Spot:
    return Spot(sort.value(row) or 0.0, row.work_id)


async def _due(index: WorkIndex, where: Where, cursor: str | None, limit: int) -> Found:
    """A page of what matches of what is due at some time, in any namespace, soonest first."""
    spot = None if cursor is None else spot_of(cursor)
    found: list[IndexRow] = []
    looked_at = 0
    for _ in range(_PAGES_MAX):
        rows = await index.due(FOREVER_AT, limit=SCAN_PAGE, after=None if spot is None else _row_at(spot))
        for row in rows:
            looked_at += 1
            spot = _spot(row, SORTS[Order.DUE])
            if where.query.matches(row) and where.matches(row):
                found.append(row)
            if len(found) == limit:
                return Found(found, spot.cursor, looked_at)
        if len(rows) < SCAN_PAGE:
            return Found(found, None, looked_at)
    assert spot is not None  # of the last row of a full page
    return Found(found, spot.cursor, looked_at)


def _row_at(spot: Spot) -> IndexRow:
    """A row that stands for a place in the order of what is due; it need not be there any more."""
    return IndexRow(spot.row, "", State.QUEUED, Lane.NORMAL, 0, 0, "", 0.0, 0.0, 0.0, due_at=spot.value)
