"""The work index port on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roost.journal.entries import IndexRow
from roost.models import State
from roost.storage.local.rows import (
    PUT_ROW,
    ROW_COLUMNS,
    cursor_of,
    dump_labels,
    dump_progress,
    row_of,
    row_values,
)
from roost.storage.local.schema import storage_errors
from roost.storage.local.writer import Writer
from roost.storage.ports import IndexPage, IndexQuery, Renewal

_SELECT = f"SELECT {ROW_COLUMNS} FROM works"  # noqa: S608  constant text
_RENEW = """
    UPDATE works SET lease_until = max(?, lease_until), due_at = max(?, ifnull(due_at, 0)),
        progress = ifnull(?, progress)
    WHERE work_id = ? AND token = ?"""


class LocalIndex:
    """`ports.WorkIndex`."""

    def __init__(self, path: Path, writer: Writer, reader: sqlite3.Connection) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader

    async def put(self, row: IndexRow) -> bool:
        values = row_values(row)
        return await self._writer.submit(lambda db: db.execute(PUT_ROW, values).rowcount == 1)

    async def get(self, work_id: str) -> IndexRow | None:
        rows = self._rows(f"{_SELECT} WHERE work_id = ?", (work_id,))
        return rows[0] if rows else None

    async def renew(self, renewals: Sequence[Renewal]) -> Sequence[bool]:
        values = [(r.lease_until, r.due_at, dump_progress(r.progress), r.work_id, r.token) for r in renewals]
        return await self._writer.submit(lambda db: [db.execute(_RENEW, row).rowcount == 1 for row in values])

    async def due(self, now: float, *, limit: int = 100, after: IndexRow | None = None) -> Sequence[IndexRow]:
        passed = (after.due_at, after.work_id) if after is not None else (-1.0, "")
        return self._rows(
            f"{_SELECT} WHERE due_at IS NOT NULL AND due_at <= ? AND (due_at, work_id) > (?, ?) "
            "ORDER BY due_at, work_id LIMIT ?",
            (now, *passed, limit),
        )

    async def take_due(self, row: IndexRow, due_at: float | None) -> bool:
        values = (due_at, row.work_id, row.due_at, row.position)
        sql = "UPDATE works SET due_at = ? WHERE work_id = ? AND due_at IS ? AND position = ?"
        return await self._writer.submit(lambda db: db.execute(sql, values).rowcount == 1)

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        where, values = _where(query)
        if cursor is not None:
            where.append("id > ?" if query.oldest_first else "id < ?")
            values.append(cursor_of(cursor))
        order = "ASC" if query.oldest_first else "DESC"
        sql = f"SELECT id, {ROW_COLUMNS} FROM works WHERE {' AND '.join(where)} ORDER BY id {order} LIMIT ?"  # noqa: S608  constant text
        with storage_errors(self._path):
            found = self._reader.execute(sql, (*values, limit + 1)).fetchall()
        page = found[:limit]
        return IndexPage([row_of(row[1:]) for row in page], str(page[-1][0]) if len(found) > limit else None)

    async def counts(self, namespace: str = "") -> dict[State, int]:
        clause, values = _within(namespace)
        sql = f"SELECT state, count(*) FROM works WHERE {clause} GROUP BY state"  # noqa: S608  constant text
        with storage_errors(self._path):
            found = self._reader.execute(sql, values).fetchall()
        return {State(state): count for state, count in found}

    def _rows(self, sql: str, values: tuple[Any, ...]) -> Sequence[IndexRow]:
        with storage_errors(self._path):
            found = self._reader.execute(sql, values).fetchall()
        return [row_of(row) for row in found]


def _within(namespace: str) -> tuple[str, list[Any]]:
    """The condition that a row is of a namespace; nothing sorts between `a/` and `a0`."""
    if not namespace:
        return "instr(work_id, '/') = 0", []
    return "work_id > ? AND work_id < ?", [f"{namespace}/", f"{namespace}0"]


def _where(query: IndexQuery) -> tuple[list[str], list[Any]]:
    within, values = _within(query.namespace)
    clauses = [within]
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
