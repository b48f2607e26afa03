"""How entries get into the SQLite file: each with its index row, in the same transaction."""

from __future__ import annotations

import sqlite3

from roost.errors import StorageError
from roost.journal.entries import Entry
from roost.journal.events import Kind
from roost.journal.projection import project
from roost.journal.retention import is_endless
from roost.models import State
from roost.storage.codec import StoredEntry
from roost.storage.local.many import insert
from roost.storage.local.rows import ENTRY_COLUMNS, PUT_ROW, ROW_COLUMNS, entry_of, row_values

_COLUMNS = ROW_COLUMNS.split(", ")
_INTO_JOURNAL = f"journal (work, {ENTRY_COLUMNS})"
_INTO_WORKS = f"works ({ROW_COLUMNS})"
_INSERT_ENTRY = insert(_INTO_JOURNAL, 1 + len(StoredEntry._fields))
_INSERT_ROW = insert(_INTO_WORKS, len(_COLUMNS))
SELECT_ENTRY = f"SELECT {ENTRY_COLUMNS} FROM journal WHERE work = (SELECT id FROM works WHERE work_id = ?)"  # noqa: S608  constant text
# Not what never changes after position 0: an UPDATE writes each index that it names a column of.
_CONSTANT = ("work_id", "engine", "lane", "created_at", "labels", "parent_id")
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
_UPDATE_HELD = _UPDATE_RUNNING.replace(", progress = NULL", "")  # somebody outside; the step goes on
_WORK = "SELECT id FROM works WHERE work_id = ?"
_WORK_AND_AGE = "SELECT id, created_at FROM works WHERE work_id = ?"
_TAIL = f"{SELECT_ENTRY} ORDER BY position DESC LIMIT 1"
BURST_KINDS = frozenset({Kind.COMMITTED, Kind.RECORDED})


def is_in_burst(entry: Entry) -> bool:
    """Whether an entry is a commit after which its worker goes on under the same lease."""
    return entry.control.state is State.RUNNING and entry.event.kind in BURST_KINDS


def append_one(db: sqlite3.Connection, entry: Entry, values: StoredEntry) -> Entry:
    """Insert an entry if its position is free, and project it; else what stands."""
    if entry.position == 0:
        return _append_first(db, entry, values)
    found = db.execute(_WORK_AND_AGE, (entry.work_id,)).fetchone()
    if found is None:
        raise _gap(entry)
    work, created_at = found
    if created_at != entry.control.created_at:  # newer work of the same id
        return entry_of(db.execute(_TAIL, (entry.work_id,)).fetchone())
    if db.execute(_INSERT_ENTRY, (work, *values)).rowcount == 0:
        return _standing(db, entry)
    if _project(db, entry, work):
        return entry
    return _catch_up(db, entry, work)


def _append_first(db: sqlite3.Connection, entry: Entry, values: StoredEntry) -> Entry:
    row = row_values(project(entry))
    new = db.execute(_INSERT_ROW, row)
    if new.rowcount == 1:
        db.execute(_INSERT_ENTRY, (new.lastrowid, *values))
        return entry
    work = db.execute(_WORK, (entry.work_id,)).fetchone()
    if db.execute(_INSERT_ENTRY, (*work, *values)).rowcount == 0:
        return _standing(db, entry)
    db.execute(PUT_ROW, row)  # a row without a journal, by `WorkIndex.put`
    return entry


def _catch_up(db: sqlite3.Connection, entry: Entry, work: int) -> Entry:
    """The row is not that of the entry before: a row ahead of its journal stands, a gap is refused.

    Where a journal without an end was trimmed, there is nothing but later entries.
    """
    before = "SELECT 1 FROM journal WHERE work = ? AND position = ?"
    if is_endless(entry.control):
        last = db.execute(_TAIL, (entry.work_id,)).fetchone()
        if (tail := entry_of(last)).position > entry.position:
            db.execute("DELETE FROM journal WHERE work = ? AND position = ?", (work, entry.position))
            return tail
    elif db.execute(before, (work, entry.position - 1)).fetchone() is None:
        raise _gap(entry)  # the writer undoes the insert
    db.execute(PUT_ROW, row_values(project(entry)))
    return entry


def _gap(entry: Entry) -> StorageError:
    return StorageError(f"a gap before position {entry.position} of {entry.work_id}")


def _standing(db: sqlite3.Connection, entry: Entry) -> Entry:
    found = db.execute(f"{SELECT_ENTRY} AND position = ?", (entry.work_id, entry.position)).fetchone()
    return entry_of(found)


def _project(db: sqlite3.Connection, entry: Entry, work: int) -> bool:
    """Write the index row; False if the entry before this one is not the last."""
    control = entry.control
    if control.lease is None or entry.event.kind is Kind.CLAIMED:
        row = row_values(project(entry))
        values = [row[number] for number in _CHANGING]
        return db.execute(_UPDATE_ROW, (*values, work, entry.position - 1)).rowcount == 1
    updated = db.execute(
        _UPDATE_RUNNING if is_in_burst(entry) else _UPDATE_HELD,
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
