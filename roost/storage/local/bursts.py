"""Commits inside bursts, many in one statement.

They are nearly all that a busy worker writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from roost.journal.entries import Entry
from roost.storage.codec import StoredEntry
from roost.storage.local.appends import append_one
from roost.storage.local.many import PADDED_SIZES, marks, padded
from roost.storage.local.rows import ENTRY_COLUMNS

_WIDTH = len(StoredEntry._fields)
_ROW_WIDTH = 9
_IS_INSERTED = """
    SELECT 1 FROM works JOIN journal ON journal.work = works.id AND journal.position = works.position + 1
    WHERE journal.entry_id = ? AND works.work_id = ? AND journal.position = ?"""


@dataclass(frozen=True, slots=True)
class Step:
    """The append of one such commit; `writer.Alike`."""

    entry: Entry
    values: StoredEntry

    def __call__(self, db: sqlite3.Connection) -> Entry:
        return append_one(db, self.entry, self.values)

    def run_all(self, db: sqlite3.Connection, steps: Sequence[Step]) -> Sequence[Entry]:
        size = PADDED_SIZES[-1]
        return [
            entry
            for start in range(0, len(steps), size)
            for entry in _run_together(db, steps[start : start + size])
        ]


def _run_together(db: sqlite3.Connection, steps: Sequence[Step]) -> Sequence[Entry]:
    """Append all in two statements; if some of them are not plain, those each by itself."""
    if len(steps) == 1:
        return [steps[0](db)]
    size, values = padded([step.values for step in steps])
    plain = steps
    if db.execute(_insert(size), values).rowcount != len(steps):
        plain = [step for step in steps if _is_inserted(db, step)]
    if plain:
        size, values = padded([_row(step.entry) for step in plain])
        db.execute(_update(size), values)
    done = {id(step) for step in plain}
    return [step.entry if id(step) in done else step(db) for step in steps]


def _is_inserted(db: sqlite3.Connection, step: Step) -> bool:
    """Whether an entry was inserted just now: it stands, and its index row is that of the one before."""
    entry = step.entry
    return db.execute(_IS_INSERTED, (entry.entry_id, entry.work_id, entry.position)).fetchone() is not None


@cache
def _insert(count: int) -> str:
    """Inserts entries whose index row is that of the entry before."""
    return f"""
        INSERT INTO journal (work, {ENTRY_COLUMNS})
        SELECT works.id, given.* FROM (VALUES {marks(count, _WIDTH)}) AS given
        CROSS JOIN works ON works.work_id = given.column1 AND works.position = given.column2 - 1
        WHERE true ON CONFLICT DO NOTHING"""  # noqa: S608  constant text


@cache
def _update(count: int) -> str:
    """As `appends._UPDATE_RUNNING`, for many."""
    return f"""
        UPDATE works SET position = given.column2, version = given.column3, step = given.column4,
            updated_at = given.column5, lease_until = max(given.column6, lease_until),
            failures = given.column7, interruptions = given.column8, reason = given.column9, progress = NULL
        FROM (VALUES {marks(count, _ROW_WIDTH)}) AS given WHERE works.work_id = given.column1"""  # noqa: S608  constant text


def _row(entry: Entry) -> tuple[str | int | float, ...]:
    control = entry.control
    assert control.lease is not None
    return (
        entry.work_id,
        entry.position,
        control.version,
        control.step,
        entry.at,
        control.lease.until,
        control.failures,
        control.interruptions,
        control.reason,
    )
