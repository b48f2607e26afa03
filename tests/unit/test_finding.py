"""Orders of a list: whole over all pages, from bounded reads, and honest about what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from roost.core.finding import SCAN_MAX, SCAN_PAGE, Found, find, find_due
from roost.core.where import parse
from roost.errors import InputError
from roost.journal.entries import IndexRow
from roost.models import Lane, State
from roost.names import Order
from roost.storage.memory import MemoryIndex
from roost.storage.ports import IndexPage, IndexQuery

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


@dataclass
class Counted:
    """An index that counts what it is asked."""

    index: MemoryIndex = field(default_factory=MemoryIndex)
    calls: int = 0

    async def fill(self, rows: Sequence[IndexRow]) -> Counted:
        for one in rows:
            await self.index.put(one)
        return self

    async def list(self, query: IndexQuery, *, cursor: str | None, limit: int) -> IndexPage:
        self.calls += 1
        return await self.index.list(query, cursor=cursor, limit=limit)

    async def due(self, now: float, *, limit: int, after: IndexRow | None) -> Sequence[IndexRow]:
        self.calls += 1
        return await self.index.due(now, limit=limit, after=after)

    async def page(self, text: str, order: Order, cursor: str | None = None, limit: int = 7) -> Found:
        where = parse(text, NOW).sorted(order)
        if order is Order.DUE:
            return await find_due(self.due, where, cursor=cursor, limit=limit)
        return await find(self.list, where, cursor=cursor, limit=limit)

    async def all(self, text: str, order: Order) -> list[IndexRow]:
        rows: list[IndexRow] = []
        cursor: str | None = None
        while True:
            found = await self.page(text, order, cursor)
            rows += found.rows
            cursor = found.cursor
            if cursor is None:
                return rows


KEYS: dict[Order, Callable[[IndexRow], tuple[float, str]]] = {
    Order.DUE: lambda row: (row.due_at or 0.0, row.work_id),
    Order.UPDATED: lambda row: (-row.updated_at, row.work_id),
    Order.SINCE: lambda row: (row.since, row.work_id),
    Order.FAILURES: lambda row: (-row.failures, row.work_id),
}


@pytest.mark.parametrize("order", KEYS)
@pytest.mark.parametrize("text", ["", "attempts>0 -id:w0001*"])
async def test_all_pages_together_are_in_the_order(order: Order, text: str) -> None:
    rows = [row(number) for number in range(60)]
    found = await (await Counted().fill(rows)).all(text, order)
    matching = [one for one in rows if not text or (one.failures and not one.work_id.startswith("w0001"))]
    assert found == sorted(matching, key=KEYS[order])


async def test_what_is_due_is_of_the_namespace_alone_and_never_without_an_instant() -> None:
    rows = [row(0, due_at=None), row(1, due_at=NOW), row(2, work_id="a/x")]
    assert [one.work_id for one in await (await Counted().fill(rows)).all("", Order.DUE)] == ["w00001"]


@pytest.mark.parametrize("order", KEYS)
async def test_a_page_costs_bounded_reads_and_says_what_is_cut(order: Order) -> None:
    index = await Counted().fill([row(number) for number in range(SCAN_MAX + 50)])
    found = await index.page("id:w00003*", order) if order is Order.DUE else await index.page("", order)
    assert index.calls <= SCAN_MAX // SCAN_PAGE
    assert found.looked_at <= SCAN_MAX
    assert found.is_cut is (order is not Order.DUE)
    oldest = min(one.work_id for one in found.rows)
    assert order is Order.DUE or oldest >= f"w{50:05}"  # the newest SCAN_MAX alone are sorted


@pytest.mark.parametrize("order", KEYS)
@pytest.mark.parametrize("cursor", ["", "x", "nan!w", "inf!w", "1.5", "!w!"])
async def test_a_cursor_of_no_page_is_refused(order: Order, cursor: str) -> None:
    with pytest.raises(InputError, match="no cursor"):
        await Counted().page("", order, cursor)
