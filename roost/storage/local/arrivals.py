"""New work, many items in two statements. Enqueueing in batches writes little else.

What is the same for all new work stands in the SQL: to bind it for each item took a
third of the time of storing it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any

from roost.journal.control import due_at
from roost.journal.entries import Entry, Kind
from roost.storage.codec import FORMAT, StoredEntry
from roost.storage.local.appends import append_one
from roost.storage.local.many import chunks, marks

_ROW_WIDTH = 8
_ENTRY_WIDTH = 9


def append_many(
    db: sqlite3.Connection, entries: Sequence[Entry], stored: Sequence[StoredEntry]
) -> Sequence[Entry]:
    """Append entries of different work items: new work many at once, anything else one by one."""
    pairs = list(zip(entries, stored, strict=True))
    if not all(_is_new(entry) for entry in entries):
        return [append_one(db, *pair) for pair in pairs]
    return [entry for chunk in chunks(pairs) for entry in _append_chunk(db, chunk)]


def _is_new(entry: Entry) -> bool:
    return entry.position == 0 and entry.event.kind is Kind.ENQUEUED


def _append_chunk(db: sqlite3.Connection, pairs: Sequence[tuple[Entry, StoredEntry]]) -> Sequence[Entry]:
    """Insert all; if something stands for one of them, undo that and append each by itself."""
    count = len(pairs)
    if count == 1:
        return [append_one(db, *pairs[0])]
    db.execute("SAVEPOINT chunk")
    rows = [value for entry, _ in pairs for value in _row(entry)]
    if db.execute(_insert_rows(count), rows).rowcount == count:
        values = [value for _, stored in pairs for value in _entry(stored)]
        if db.execute(_insert_entries(count), values).rowcount == count:
            db.execute("RELEASE chunk")
            return [entry for entry, _ in pairs]
    db.execute("ROLLBACK TO chunk")
    db.execute("RELEASE chunk")
    return [append_one(db, *pair) for pair in pairs]


def _row(entry: Entry) -> tuple[Any, ...]:
    """Of what `control.project` gives, all that is not the same for all new work."""
    control = entry.control
    return (
        entry.work_id,
        control.engine,
        control.state.value,
        control.lane.value,
        entry.at,
        due_at(control, entry.at),
        control.wake_at,
        control.deadline_at,
    )


def _entry(stored: StoredEntry) -> tuple[Any, ...]:
    """Of the columns of an entry, all that is not the same for all new work."""
    return (
        stored.work_id,
        stored.entry_id,
        stored.at,
        stored.actor,
        stored.event,
        stored.control,
        stored.body,
        stored.body_encoding,
        stored.body_digest,
    )


@cache
def _insert_rows(count: int) -> str:
    return f"""
        INSERT INTO works (work_id, engine, state, lane, created_at, updated_at, since, due_at, wake_at,
            deadline_at, position, version, step, failures, interruptions, reason)
        SELECT column1, column2, column3, column4, column5, column5, column5, column6, column7,
            column8, 0, 0, '', 0, 0, ''
        FROM (VALUES {marks(count, _ROW_WIDTH)}) WHERE true ON CONFLICT DO NOTHING"""  # noqa: S608  constant text


@cache
def _insert_entries(count: int) -> str:
    return f"""
        INSERT INTO journal (work, work_id, position, version, kind, entry_id, at, actor, event, control,
            body, body_encoding, body_digest, body_depth, format)
        SELECT works.id, column1, 0, 0, '{Kind.ENQUEUED.value}', column2, column3, column4, column5, column6,
            column7, column8, column9, 0, {FORMAT}
        FROM (VALUES {marks(count, _ENTRY_WIDTH)}) CROSS JOIN works ON works.work_id = column1
        WHERE true ON CONFLICT DO NOTHING"""  # noqa: S608  constant text
