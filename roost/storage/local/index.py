"""The work index port on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roost.errors import SchemaTooNew
from roost.journal.entries import IndexRow
from roost.journal.projection import LaneCount
from roost.models import Lane, State
from roost.names import Order
from roost.storage.local.many import update_each
from roost.storage.local.rows import (
    LANE_TEXTS,
    PUT_ROW_AGAIN,
    ROW_COLUMNS,
    STATE_TEXTS,
    dump_labels,
    dump_progress,
    row_of,
    row_values,
)
from roost.storage.local.schema import storage_errors
from roost.storage.local.writer import Writer
from roost.storage.ports import Renewal
from roost.storage.query import SORTS, IndexPage, IndexQuery, Spot, number_of, spot_of

_SELECT = f"SELECT {ROW_COLUMNS} FROM works"  # noqa: S608  constant text
_STATES, _LANES = frozenset(STATE_TEXTS.values()), frozenset(LANE_TEXTS.values())
# Not those of a newer Roost, whose sweepers look at them. The plus keeps the index of states out of it.
_IS_KNOWN = f"+state IN {tuple(STATE_TEXTS.values())} AND +lane IN {tuple(LANE_TEXTS.values())}"
_RENEW = """
    UPDATE works SET lease_until = max(column1, lease_until), due_at = max(column2, ifnull(due_at, 0)),
        progress = ifnull(column3, progress)
    FROM (VALUES {rows}) WHERE work_id = column4 AND token = column5"""


class LocalIndex:
    """`ports.WorkIndex`."""

    orders = frozenset(Order)

    def __init__(self, path: Path, writer: Writer, reader: sqlite3.Connection) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader

    async def put(self, row: IndexRow) -> bool:
        values = row_values(row)
        return await self._writer.submit(lambda db: db.execute(PUT_ROW_AGAIN, values).rowcount == 1)

    async def get(self, work_id: str) -> IndexRow | None:
        rows = self._rows(f"{_SELECT} WHERE work_id = ?", (work_id,))
        return rows[0] if rows else None

    async def renew(self, renewals: Sequence[Renewal]) -> Sequence[bool]:
        values = [(r.lease_until, r.due_at, dump_progress(r.progress), r.work_id, r.token) for r in renewals]
        return await self._writer.submit(lambda db: update_each(db, _RENEW, values))

    async def due(self, now: float, *, limit: int = 100, after: IndexRow | None = None) -> Sequence[IndexRow]:
        passed = (after.due_at, after.work_id) if after is not None else (-1.0, "")
        return self._rows(
            f"{_SELECT} WHERE due_at IS NOT NULL AND due_at <= ? AND (due_at, work_id) > (?, ?) "
            f"AND {_IS_KNOWN} ORDER BY due_at, work_id LIMIT ?",
            (now, *passed, limit),
        )

    async def take_due(self, row: IndexRow, due_at: float | None) -> bool:
        values = (due_at, row.work_id, row.due_at, row.position)
        sql = "UPDATE works SET due_at = ? WHERE work_id = ? AND due_at IS ? AND position = ?"
        return await self._writer.submit(lambda db: db.execute(sql, values).rowcount == 1)

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        try:
            return self._list(query, cursor, limit)
        except SchemaTooNew:  # to look at the state of each row first takes a third longer
            return self._list(query, cursor, limit, _IS_KNOWN)

    def _list(self, query: IndexQuery, cursor: str | None, limit: int, *clauses: str) -> IndexPage:
        where, values = _where(query)
        where += clauses
        if cursor is not None:
            clause, passed = _after(query.order, cursor)
            where.append(clause)
            values += passed
        order = _order_by(query.order)
        # What is not in the order of an index is sorted whole, the ids alone: so 100,000 rows take
        # 20 to 50 ms, and no index of what changes with each step slows each step down.
        wanted = f"SELECT id FROM works WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ?"  # noqa: S608  constant text
        sql = f"SELECT id, {ROW_COLUMNS} FROM works WHERE id IN ({wanted}) ORDER BY {order}"  # noqa: S608  constant text
        with storage_errors(self._path):
            found = self._reader.execute(sql, (*values, limit + 1)).fetchall()
        rows = [row_of(row[1:]) for row in found[:limit]]
        more = _cursor_at(query.order, found[limit - 1][0], rows[-1]) if len(found) > limit else None
        return IndexPage(rows, more)

    async def counts(self, namespace: str = "") -> dict[State, int]:
        clause, values = _within(namespace)
        sql = f"SELECT state, count(*) FROM works WHERE {clause} GROUP BY state"  # noqa: S608  constant text
        with storage_errors(self._path):
            found = self._reader.execute(sql, values).fetchall()
        return {State(state): count for state, count in found if state in _STATES}

    async def lane_counts(self, namespace: str = "") -> Sequence[LaneCount]:
        clause, values = _within(namespace)
        sql = f"SELECT state, lane, count(*), min(created_at) FROM works WHERE {clause} GROUP BY state, lane"  # noqa: S608  constant text
        with storage_errors(self._path):
            found = self._reader.execute(sql, values).fetchall()
        return [
            LaneCount(State(state), Lane(lane), count, oldest)
            for state, lane, count, oldest in found
            if state in _STATES and lane in _LANES
        ]

    def _rows(self, sql: str, values: tuple[Any, ...]) -> Sequence[IndexRow]:
        with storage_errors(self._path):
            found = self._reader.execute(sql, values).fetchall()
        return [row_of(row) for row in found]


def _within(namespace: str) -> tuple[str, list[Any]]:
    """The condition that a row is of a namespace; nothing sorts between `a/` and `a0`."""
    if not namespace:
        return "instr(work_id, '/') = 0", []
    return "work_id > ? AND work_id < ?", [f"{namespace}/", f"{namespace}0"]


def _order_by(order: Order) -> str:
    """Newest first, or what is sorted by first and then newest first."""
    sort = SORTS.get(order)
    if sort is None:
        return "id" if order is Order.OLDEST else "id DESC"
    return f"{sort.field} {'DESC' if sort.is_descending else 'ASC'}, id DESC"


def _after(order: Order, cursor: str) -> tuple[str, list[Any]]:
    """The condition that a row comes after the one of a cursor, with its values."""
    sort = SORTS.get(order)
    if sort is None:
        return f"id {'>' if order is Order.OLDEST else '<'} ?", [number_of(cursor)]
    spot, name = spot_of(cursor), sort.field
    clause = f"({name} {'<' if sort.is_descending else '>'} ? OR ({name} = ? AND id < ?))"
    return clause, [spot.value, spot.value, number_of(spot.row)]


def _cursor_at(order: Order, number: int, row: IndexRow) -> str:
    sort = SORTS.get(order)
    return str(number) if sort is None else Spot(sort.value(row) or 0.0, str(number)).cursor


def _where(query: IndexQuery) -> tuple[list[str], list[Any]]:
    within, values = _within(query.namespace)
    clauses = [within, *(["due_at IS NOT NULL"] if query.order is Order.DUE else [])]
    for clause, value in (
        ("state = ?", query.state.value if query.state else None),
        ("engine = ?", query.engine),
        ("created_at > ?", query.created_after),
        ("parent_id = ?", query.parent_id),
        ("instr(labels, ?) > 0", None if query.label is None else dump_labels((query.label,))[1:-1]),
        ("work_id >= ?", query.id_prefix),
        ("work_id < ?", None if query.id_prefix is None else query.id_prefix + "\U0010ffff"),
    ):
        if value is not None:
            clauses.append(clause)
            values.append(value)
    return clauses, values
