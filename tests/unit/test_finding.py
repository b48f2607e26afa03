"""Orders of a list: whole over all pages, from bounded reads, and honest about what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from roost.core.finding import SCAN_MAX, SCAN_PAGE, Found, bounded, find
from roost.core.where import parse
from roost.errors import InputError, StorageDenied
from roost.journal.entries import IndexRow
from roost.models import Lane, State
from roost.names import Order
from roost.storage.memory import MemoryIndex
from roost.storage.query import IndexPage, IndexQuery

NOW = 1_000_000.0


def row(number: int, **fields: object) -> IndexRow:
    """One that changed, was tried and is due in orders of their own."""
    usual: dict[str, object] = {
        "work_id": f"w{number:05}",
        "engine": "demo",
        "state": State.SCHEDULED,
        "lane": Lane.NORMAL,
        "position": 1,
        "version": 0,
        "step": "",
        "created_at": NOW + number,
        "updated_at": NOW + number * 7 % 100,
        "since": NOW + number * 11 % 100,
        "due_at": NOW + number * 13 % 100,
        "failures": number % 3,
    }
    return IndexRow(**{**usual, **fields})  # type: ignore[arg-type]  # each is of its field


class Counted(MemoryIndex):
    """An index that counts what it is asked, and serves all orders or those alone that DynamoDB does."""

    def __init__(self, orders: frozenset[Order]) -> None:
        super().__init__()
        self.orders = orders  # type: ignore[misc]  # of this one
        self.calls = 0
        self.is_denied = False

    async def fill(self, rows: Sequence[IndexRow]) -> Counted:
        for one in rows:
            self.show(one)
        return self

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        assert query.order in self.orders
        self.calls += 1
        return await super().list(query, cursor=cursor, limit=limit)

    async def due(self, now: float, *, limit: int = 100, after: IndexRow | None = None) -> Sequence[IndexRow]:
        self.calls += 1
        if self.is_denied:
            raise StorageDenied("what is due is of all namespaces")
        return await super().due(now, limit=limit, after=after)

    async def page(self, text: str, order: Order, cursor: str | None = None, limit: int = 7) -> Found:
        return await find(self, parse(text, NOW).sorted(order), cursor=cursor, limit=limit)

    async def all(self, text: str, order: Order) -> list[IndexRow]:
        rows: list[IndexRow] = []
        cursor: str | None = None
        while True:
            found = await self.page(text, order, cursor)
            rows += found.rows
            cursor = found.cursor
            if cursor is None:
                return rows


ALL = frozenset(Order)
BY_AGE = frozenset({Order.NEWEST, Order.OLDEST})
KEYS: dict[Order, Callable[[IndexRow], float]] = {
    Order.DUE: lambda row: row.due_at or 0.0,
    Order.UPDATED: lambda row: -row.updated_at,
    Order.SINCE: lambda row: row.since,
    Order.FAILURES: lambda row: -row.failures,
}


@pytest.mark.parametrize("orders", [ALL, BY_AGE], ids=["all", "by_age"])
@pytest.mark.parametrize("order", KEYS)
@pytest.mark.parametrize("text", ["", "attempts>0 -id:w0001*"])
async def test_all_pages_together_are_in_the_order(orders: frozenset[Order], order: Order, text: str) -> None:
    rows = [row(number) for number in range(60)]
    found = await (await Counted(orders).fill(rows)).all(text, order)
    matching = [one for one in rows if not text or (one.failures and not one.work_id.startswith("w0001"))]
    assert sorted(found, key=lambda one: one.work_id) == matching
    assert [KEYS[order](one) for one in found] == sorted(map(KEYS[order], matching))


@pytest.mark.parametrize("orders", [ALL, BY_AGE], ids=["all", "by_age"])
async def test_what_is_due_is_of_the_namespace_alone_and_never_without_an_instant(
    orders: frozenset[Order],
) -> None:
    rows = [row(0, due_at=None), row(1, due_at=NOW), row(2, work_id="a/x")]
    found = await (await Counted(orders).fill(rows)).all("", Order.DUE)
    assert [one.work_id for one in found] == ["w00001"]


@pytest.mark.parametrize("order", KEYS)
async def test_a_page_costs_bounded_reads_and_says_what_is_cut(order: Order) -> None:
    index = await Counted(BY_AGE).fill([row(number) for number in range(SCAN_MAX + 50)])
    found = await index.page("id:w00003*", order) if order is Order.DUE else await index.page("", order)
    assert index.calls <= SCAN_MAX // SCAN_PAGE
    assert found.looked_at <= SCAN_MAX
    assert found.is_cut is (order is not Order.DUE)
    oldest = min(one.work_id for one in found.rows)
    assert order is Order.DUE or oldest >= f"w{50:05}"  # the newest SCAN_MAX alone are sorted
    assert (order in bounded(index.orders, is_fenced=False)) is found.is_cut


@pytest.mark.parametrize("order", KEYS)
async def test_where_the_index_serves_the_order_the_oldest_work_is_sorted_in(order: Order) -> None:
    """And a filter that the index can't do looks at so many rows a page, in one pass over them."""
    first = row(0, updated_at=NOW + 1000, since=NOW - 1000, failures=1000, due_at=NOW - 1000)
    index = await Counted(ALL).fill([first, *(row(number) for number in range(1, SCAN_MAX + 50))])
    found = await index.page("-lane:low", order)
    assert found.rows[0] == first
    assert index.calls == 1
    assert not found.is_cut
    assert not bounded(index.orders, is_fenced=True)


async def test_who_may_not_read_what_is_due_gets_it_of_the_newest() -> None:
    rows = [row(number) for number in range(SCAN_MAX + 1)]
    index = await Counted(BY_AGE).fill(rows)
    index.is_denied = True
    found = await index.page("", Order.DUE)
    assert [one.due_at for one in found.rows] == sorted(one.due_at or 0.0 for one in rows[1:])[:7]
    assert found.is_cut
    assert Order.DUE in bounded(index.orders, is_fenced=True)


async def test_a_row_that_moved_after_it_ended_a_page_brings_nothing_twice() -> None:
    """Its place in the order tells where to go on, also where a filter is done row by row."""
    index = await Counted(ALL).fill([row(number, updated_at=NOW + number) for number in range(20)])
    found = await index.page("-lane:low", Order.UPDATED)
    last = found.rows[-1]
    await index.put(row(int(last.work_id[1:]), position=2, updated_at=NOW + 99))
    rest = await index.page("-lane:low", Order.UPDATED, found.cursor, limit=50)
    assert [one.work_id for one in rest.rows] == [f"w{number:05}" for number in range(12, -1, -1)]


@pytest.mark.parametrize("orders", [ALL, BY_AGE], ids=["all", "by_age"])
@pytest.mark.parametrize("order", KEYS)
@pytest.mark.parametrize("cursor", ["", "x", "nan!w", "inf!w", "1.5", "!w!x!y"])
async def test_a_cursor_of_no_page_is_refused(orders: frozenset[Order], order: Order, cursor: str) -> None:
    with pytest.raises(InputError, match="no cursor"):
        await Counted(orders).page("", order, cursor)
