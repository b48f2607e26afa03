"""The journal port on SQLite. An append also projects the index row, in its transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from roost.errors import StorageError
from roost.journal.control import project
from roost.journal.entries import Entry, Kind
from roost.models import State
from roost.storage.codec import StoredEntry, encode_entry
from roost.storage.local.rows import ENTRY_COLUMNS, PUT_ROW, ROW_COLUMNS, cursor_of, entry_of, row_values
from roost.storage.local.schema import storage_errors
from roost.storage.local.writer import Writer
from roost.storage.ports import FeedPage

_MARKS = ", ".join("?" * (1 + len(StoredEntry._fields)))
_INSERT_ENTRY = f"INSERT INTO journal (work, {ENTRY_COLUMNS}) VALUES ({_MARKS}) ON CONFLICT DO NOTHING"  # noqa: S608  constant text
_SELECT_ENTRY = f"SELECT {ENTRY_COLUMNS} FROM journal WHERE work = (SELECT id FROM works WHERE work_id = ?)"  # noqa: S608  constant text
_COLUMNS = ROW_COLUMNS.split(", ")
_INSERT_ROW = (
    f"INSERT INTO works ({ROW_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS))}) ON CONFLICT DO NOTHING"  # noqa: S608  constant text
)
# Not what never changes after position 0: an UPDATE writes each index that it names a column of.
_CONSTANT = ("work_id", "engine", "lane", "created_at")
_CHANGING = [number for number, name in enumerate(_COLUMNS) if name not in _CONSTANT]
_UPDATE_ROW = (
    f"UPDATE works SET {', '.join(f'{_COLUMNS[number]} = ?' for number in _CHANGING)} "  # noqa: S608  constant text
    "WHERE id = ? AND position = ?"
)
# A commit inside a burst. State, engine and due_at stay as they are, so no index is touched:
# due_at is raised by heartbeats and takes; one that is too early only
# makes a sweeper look, see a live lease in the journal's tail, and move it.
_UPDATE_RUNNING = """
    UPDATE works SET position = ?, version = ?, step = ?, updated_at = ?, lease_until = max(?, lease_until),
        failures = ?, interruptions = ?, reason = ?, progress = NULL
    WHERE id = ? AND position = ?"""
_WORK = "SELECT id FROM works WHERE work_id = ?"
_BURST_KINDS = frozenset({Kind.COMMITTED, Kind.RECORDED})


class LocalJournal:
    """`ports.Journal`."""

    def __init__(self, path: Path, writer: Writer, reader: sqlite3.Connection) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader

    async def append(self, entry: Entry, *, with_row: bool = False) -> Entry:
        values = encode_entry(entry)
        return await self._writer.submit(lambda db: _append(db, entry, values))

    async def append_many(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        rows = [encode_entry(entry) for entry in entries]
        return await self._writer.submit(lambda db: _append_many(db, entries, rows))

    async def tail(self, work_id: str) -> Entry | None:
        return self._one(f"{_SELECT_ENTRY} ORDER BY position DESC LIMIT 1", work_id)

    async def get(self, work_id: str, position: int) -> Entry | None:
        return self._one(f"{_SELECT_ENTRY} AND position = ?", work_id, position)

    def _one(self, sql: str, *values: str | int) -> Entry | None:
        with storage_errors(self._path):
            found = self._reader.execute(sql, values).fetchone()
        return None if found is None else entry_of(found)

    async def read(
        self, work_id: str, *, after: int = -1, limit: int = 100, newest_first: bool = False
    ) -> Sequence[Entry]:
        if newest_first:
            below = 1 << 62 if after < 0 else after
            where, values = "AND position < ? ORDER BY position DESC", (work_id, below, limit)
        else:
            where, values = "AND position > ? ORDER BY position", (work_id, after, limit)
        with storage_errors(self._path):
            found = self._reader.execute(f"{_SELECT_ENTRY} {where} LIMIT ?", values).fetchall()
        return [entry_of(values) for values in found]

    async def feed(self, cursor: str | None, *, limit: int = 100, newest: bool = False) -> FeedPage:
        after = cursor_of(cursor) if cursor is not None else 0
        with storage_errors(self._path):
            if cursor is None and newest:
                top = self._reader.execute("SELECT max(seq) FROM journal").fetchone()[0] or 0
                after = max(0, top - limit)
            found = self._reader.execute(
                f"SELECT seq, {ENTRY_COLUMNS} FROM journal WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608  constant text
                (after, limit),
            ).fetchall()
        return FeedPage([entry_of(values[1:]) for values in found], str(found[-1][0] if found else after))


def _append(db: sqlite3.Connection, entry: Entry, values: StoredEntry) -> Entry:
    """Insert an entry if its position is free, and project it; else what stands."""
    if entry.position == 0:
        row = db.execute(_INSERT_ROW, row_values(project(entry)))
        return _enter(db, entry, values, row.lastrowid if row.rowcount else None)
    work = db.execute(_WORK, (entry.work_id,)).fetchone()
    if work is None:
        raise _gap(entry)
    if db.execute(_INSERT_ENTRY, (*work, *values)).rowcount == 0:
        return _standing(db, entry)
    if not _project(db, entry, work[0]):
        _catch_up(db, entry, work[0])
    return entry


def _enter(db: sqlite3.Connection, entry: Entry, values: StoredEntry, new: int | None) -> Entry:
    """Insert an entry at position 0, whose row is new with this id, or stood before (None)."""
    if new is not None:
        db.execute(_INSERT_ENTRY, (new, *values))
        return entry
    work = db.execute(_WORK, (entry.work_id,)).fetchone()
    if db.execute(_INSERT_ENTRY, (*work, *values)).rowcount == 0:
        return _standing(db, entry)
    db.execute(PUT_ROW, row_values(project(entry)))  # a row without a journal, by `WorkIndex.put`
    return entry


def _catch_up(db: sqlite3.Connection, entry: Entry, work: int) -> None:
    """The row is not that of the entry before: a row ahead of its journal stands, a gap is refused."""
    before = "SELECT 1 FROM journal WHERE work = ? AND position = ?"
    if db.execute(before, (work, entry.position - 1)).fetchone() is None:
        raise _gap(entry)  # the writer undoes the insert
    db.execute(PUT_ROW, row_values(project(entry)))


def _gap(entry: Entry) -> StorageError:
    return StorageError(f"a gap before position {entry.position} of {entry.work_id}")


def _standing(db: sqlite3.Connection, entry: Entry) -> Entry:
    found = db.execute(f"{_SELECT_ENTRY} AND position = ?", (entry.work_id, entry.position)).fetchone()
    return entry_of(found)


def _project(db: sqlite3.Connection, entry: Entry, work: int) -> bool:
    """Write the index row; False if the entry before this one is not the last."""
    control = entry.control
    if control.state is not State.RUNNING or entry.event.kind not in _BURST_KINDS:
        row = row_values(project(entry))
        values = [row[number] for number in _CHANGING]
        return db.execute(_UPDATE_ROW, (*values, work, entry.position - 1)).rowcount == 1
    assert control.lease is not None
    updated = db.execute(
        _UPDATE_RUNNING,
        (
            entry.position,
            control.version,
            control.step,
            entry.at,
            control.lease.until,
            control.failures,
            control.interruptions,
            control.reason,
            work,
            entry.position - 1,
        ),
    )
    return updated.rowcount == 1


def _append_many(
    db: sqlite3.Connection, entries: Sequence[Entry], rows: Sequence[StoredEntry]
) -> Sequence[Entry]:
    """Insert new work all at once; anything else one by one."""
    if not all(entry.position == 0 for entry in entries) or len({e.work_id for e in entries}) < len(entries):
        return [_append(db, entry, values) for entry, values in zip(entries, rows, strict=True)]
    last = db.execute("SELECT ifnull(max(id), 0) FROM works").fetchone()[0]
    inserted = db.executemany(_INSERT_ROW, [row_values(project(entry)) for entry in entries])
    if inserted.rowcount == len(entries):  # none stood, and ids were given in order
        db.executemany(_INSERT_ENTRY, [(last + 1 + n, *values) for n, values in enumerate(rows)])
        return entries
    new = dict(db.execute("SELECT work_id, id FROM works WHERE id > ?", (last,)))
    return [_enter(db, entry, row, new.get(entry.work_id)) for entry, row in zip(entries, rows, strict=True)]
