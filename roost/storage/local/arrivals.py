"""New work, many items in two statements. Enqueueing in batches writes little else.

What is the same for all new work stands in the SQL: to bind it for each item took a
third of the time of storing it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter

from roost.journal.entries import Entry
from roost.journal.events import Kind
from roost.journal.projection import project
from roost.storage.codec import FORMAT, StoredEntry
from roost.storage.local.appends import append_one
from roost.storage.local.many import chunks, marks
from roost.storage.local.rows import ROW_COLUMNS, bound_entry, bound_row, given, nulls_of, row_values

_SAME_IN_ROWS = {
    **dict.fromkeys(("position", "version", "failures", "interruptions"), "0"),
    **dict.fromkeys(("step", "reason"), "''"),
    **dict.fromkeys(("token", "worker_id", "lease_until", "progress"), "NULL"),
}
_SAME_IN_ENTRIES = {
    **dict.fromkeys(("position", "version", "body_depth"), "0"),
    "kind": f"'{Kind.ENQUEUED.value}'",
    "body_base": "NULL",
    "format": str(FORMAT),
}


def _others(columns: Iterable[str], same: Mapping[str, str]) -> Sequence[int]:
    """The columns that are bound for each item, by number."""
    return [number for number, name in enumerate(columns) if name not in same]


_ROW = _others(ROW_COLUMNS.split(", "), _SAME_IN_ROWS)
_ENTRY = _others(StoredEntry._fields, _SAME_IN_ENTRIES)
_of_row = itemgetter(*_ROW)
_of_entry = itemgetter(*_ENTRY)
_ROW_NULLS = nulls_of([ROW_COLUMNS.split(", ")[number] for number in _ROW])


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
    rows = [
        value for entry, _ in pairs for value in bound_row(_of_row(row_values(project(entry))), _ROW_NULLS)
    ]
    if db.execute(_insert_rows(count), rows).rowcount == count:
        values = [value for _, stored in pairs for value in _of_entry(bound_entry(stored))]
        if db.execute(_insert_entries(count), values).rowcount == count:
            db.execute("RELEASE chunk")
            return [entry for entry, _ in pairs]
    db.execute("ROLLBACK TO chunk")
    db.execute("RELEASE chunk")
    return [append_one(db, *pair) for pair in pairs]


@cache
def _insert_rows(count: int) -> str:
    names, values = _columns(ROW_COLUMNS.split(", "), _SAME_IN_ROWS)
    return f"""
        INSERT INTO works ({names}) SELECT {values} FROM (VALUES {marks(count, len(_ROW))})
        WHERE true ON CONFLICT DO NOTHING"""  # noqa: S608  constant text


@cache
def _insert_entries(count: int) -> str:
    names, values = _columns(StoredEntry._fields, _SAME_IN_ENTRIES)
    return f"""
        INSERT INTO journal (work, {names})
        SELECT works.id, {values} FROM (VALUES {marks(count, len(_ENTRY))}) AS given
        CROSS JOIN works ON works.work_id = given.column1
        WHERE true ON CONFLICT DO NOTHING"""  # noqa: S608  constant text


def _columns(columns: Sequence[str], same: Mapping[str, str]) -> tuple[str, str]:
    """The names of columns, and their values: column1, column2, … of VALUES, or what is the same."""
    bound = [name for name in columns if name not in same]
    values = [
        same[name] if name in same else given(name, f"column{bound.index(name) + 1}") for name in columns
    ]
    return ", ".join(columns), ", ".join(values)
