"""Pages of work that a filter matches, in an order.

The index lists work by age, and what is due by when it is; in these orders a page goes on where
the one before ended, however much there is. Any other order is made of the newest `SCAN_MAX`
work items, whole, at each page: so what a page costs is bounded on every backend, and no page
is sorted by itself.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from roost.core.where import Where
from roost.errors import InputError
from roost.journal.entries import IndexRow
from roost.journal.limits import FOREVER_AT
from roost.models import Lane, State
from roost.names import Order
from roost.storage.ports import IndexPage, IndexQuery

SCAN_MAX = 2000  # rows that one page of a filter looks at, where the index can't do all of it
SCAN_PAGE = 200
_PAGES_MAX = SCAN_MAX // SCAN_PAGE  # a backend's pages may be short where it filters by itself
_CUT = "!"  # in a cursor: the page goes on after this row

_KEYS: Mapping[Order, Callable[[IndexRow], float]] = {
    Order.UPDATED: lambda row: -row.updated_at,
    Order.SINCE: lambda row: row.since,
    Order.FAILURES: lambda row: -row.failures,
}
"""What the rows are sorted by that no index sorts."""


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


class ListRows(Protocol):
    """Gives a page of the index, as `Client.list` does."""

    def __call__(self, query: IndexQuery, *, cursor: str | None, limit: int) -> Awaitable[IndexPage]: ...


class DueRows(Protocol):
    """Gives what is due, of all namespaces, as `WorkIndex.due` does."""

    def __call__(
        self, now: float, *, limit: int, after: IndexRow | None
    ) -> Awaitable[Sequence[IndexRow]]: ...


async def find(list_rows: ListRows, where: Where, *, cursor: str | None, limit: int) -> Found:
    """A page of what matches: at most `limit` rows, or what `SCAN_MAX` rows of the index hold.

    Args:
        where: in any order but `due`.

    Raises:
        InputError: the cursor is none.
    """
    if where.order in _KEYS:
        return await _sorted(list_rows, where, _KEYS[where.order], cursor, limit)
    found: list[IndexRow] = []
    looked_at = 0
    start, after = _begin(cursor)
    page_limit = max(limit, SCAN_PAGE) if where.checks else limit
    for _ in range(_PAGES_MAX):
        page = await list_rows(where.query, cursor=start, limit=page_limit)
        rows = _past(page.rows, after)
        looked_at += len(page.rows)
        for row in rows:
            if not where.matches(row):
                continue
            if len(found) == limit:
                return Found(found, f"{_CUT}{found[-1].work_id}{_CUT}{start or ''}", looked_at)
            found.append(row)
        start, after = page.cursor, None
        if start is None or len(found) == limit or looked_at >= SCAN_MAX or not where.checks:
            break
    return Found(found, start, looked_at)


def _begin(cursor: str | None) -> tuple[str | None, str | None]:
    """The index's cursor, and the row after which to go on there."""
    if cursor is None or not cursor.startswith(_CUT):
        return cursor, None
    after, _, start = cursor.removeprefix(_CUT).partition(_CUT)
    return start or None, after


def _past(rows: Sequence[IndexRow], after: str | None) -> Sequence[IndexRow]:
    """The rows after the one of an id; all, if that one is gone."""
    place = next((n for n, row in enumerate(rows) if row.work_id == after), -1)
    return rows[place + 1 :]


# --- in orders of its own ----------------------------------------------------


async def _sorted(
    list_rows: ListRows,
    where: Where,
    key: Callable[[IndexRow], float],
    cursor: str | None,
    limit: int,
) -> Found:
    """A page of the newest work that matches, sorted as a whole."""
    after = _place_of(cursor)
    rows: list[IndexRow] = []
    looked_at, start = 0, None
    for _ in range(_PAGES_MAX):
        page = await list_rows(where.query, cursor=start, limit=SCAN_PAGE)
        looked_at += len(page.rows)
        rows += filter(where.matches, page.rows)
        start = page.cursor
        if start is None:
            break
    places = {(key(row), row.work_id): row for row in rows}
    left = sorted(place for place in places if after is None or place > after)
    more = _cursor_of(left[limit - 1]) if len(left) > limit else None
    return Found([places[place] for place in left[:limit]], more, looked_at, is_cut=start is not None)


async def find_due(due: DueRows, where: Where, *, cursor: str | None, limit: int) -> Found:
    """A page of what matches of what is due at some time, soonest first.

    Args:
        where: within its namespace.

    Raises:
        InputError: the cursor is none.
    """
    place = _place_of(cursor)
    found: list[IndexRow] = []
    looked_at = 0
    for _ in range(_PAGES_MAX):
        rows = await due(FOREVER_AT, limit=SCAN_PAGE, after=None if place is None else _row_at(place))
        for row in rows:
            looked_at += 1
            place = (row.due_at or 0.0, row.work_id)
            if where.query.matches(row) and where.matches(row):
                found.append(row)
            if len(found) == limit:
                return Found(found, _cursor_of(place), looked_at)
        if len(rows) < SCAN_PAGE:
            return Found(found, None, looked_at)
    assert place is not None  # of the last row of a full page
    return Found(found, _cursor_of(place), looked_at)


_Place = tuple[float, str]
"""Where a row stands in an order: what it is sorted by, and its id."""


def _row_at(place: _Place) -> IndexRow:
    """A row that stands for a place in the order of what is due; it need not be there any more."""
    return IndexRow(place[1], "", State.QUEUED, Lane.NORMAL, 0, 0, "", 0.0, 0.0, 0.0, due_at=place[0])


def _cursor_of(place: _Place) -> str:
    return f"{place[0]!r}{_CUT}{place[1]}"


def _place_of(cursor: str | None) -> _Place | None:
    """What `_cursor_of` was given.

    Raises:
        InputError: no page in such an order gave it out.
    """
    if cursor is None:
        return None
    number, mark, work_id = cursor.partition(_CUT)
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not mark or not math.isfinite(value):
        raise InputError(
            f"{cursor[:80]!r} is no cursor", hint="Use the one that the page before gave, or none."
        )
    return value, work_id
