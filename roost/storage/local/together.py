"""What a busy worker writes, a whole batch in one statement.

A thread gives up the interpreter's lock for each statement, and beside a busy thread it
waits up to 5 ms to have it back (Python documentation, "sys.setswitchinterval"). In a
transaction of many statements all other processes wait along. So the rows of a batch go
into a view, and triggers do with each what there is to do: one statement, which is a
transaction of its own, whatever the batch is made of.

The view and its triggers are temporary: they belong to the connection, not to the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Generic, TypeVar

from msgspec import Struct

from roost.journal.entries import Entry
from roost.journal.events import Kind
from roost.journal.projection import project
from roost.storage.codec import StoredEntry
from roost.storage.local.appends import append_one, is_in_burst
from roost.storage.local.many import TOGETHER_MAX, marks, padded
from roost.storage.local.rows import (
    ENTRY_COLUMNS,
    ROW_COLUMNS,
    Bound,
    bound_entry,
    bound_row,
    given,
    missing_of,
    nulls_of,
    row_values,
)

T = TypeVar("T")
Row = tuple[Bound, ...]
"""A row of the view."""


# What a row of the view stands for; 0 fills a statement up, and does nothing.
_STEP = 1  # a commit inside a burst
_MOVE = 2  # any other entry that brings its whole index row
_ACKNOWLEDGED = 3


_ENTRY = ENTRY_COLUMNS.split(", ")
# Of the index row, what is not in the entry; what never changes after position 0 is left out.
_INDEX = (
    "state", "step", "since", "due_at", "token", "worker_id", "lease_until", "wake_at", "deadline_at",
    "failures", "interruptions", "reason",
)  # fmt: skip
_index_values = itemgetter(*[ROW_COLUMNS.split(", ").index(name) for name in _INDEX])
_COLUMNS = ["what", *_ENTRY, *(f"row_{name}" for name in _INDEX), "created_at"]
_NOTHING: Row = (0,) * len(_COLUMNS)

_INDEX_NULLS = nulls_of(_INDEX)


def _new(name: str, column: str | None = None) -> str:
    """A value of the row at hand, as SQL in a trigger."""
    return given(name, f"NEW.{column or name}")


_INSERT = f"""
    INSERT INTO journal (work, {ENTRY_COLUMNS}) SELECT id, {", ".join(map(_new, _ENTRY))}
    FROM works WHERE work_id = NEW.work_id AND position = NEW.position - 1 AND created_at = NEW.created_at
    ON CONFLICT DO NOTHING;"""  # noqa: S608  constant text
_UPDATE = """
    UPDATE works SET position = NEW.position, version = NEW.version, updated_at = NEW.at, progress = NULL, {}
    WHERE work_id = NEW.work_id AND changes() = 1;"""
# As `appends._UPDATE_RUNNING`.
_UPDATE_STEP = _UPDATE.format(
    "step = NEW.row_step, lease_until = max(NEW.row_lease_until, lease_until), failures = NEW.row_failures,"
    " interruptions = NEW.row_interruptions, reason = NEW.row_reason"
)
_UPDATE_MOVE = _UPDATE.format(", ".join(f"{name} = {_new(name, f'row_{name}')}" for name in _INDEX))
_TRIGGERS = {
    _STEP: _INSERT + _UPDATE_STEP,
    _MOVE: _INSERT + _UPDATE_MOVE,
    _ACKNOWLEDGED: "DELETE FROM deliveries WHERE id = NEW.position AND receipt = NEW.entry_id;",
}


def prepare(db: sqlite3.Connection) -> None:
    """Give the connection that writes what `write_together` needs."""
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute(f"CREATE TEMP VIEW batch AS SELECT {', '.join(f'0 AS {name}' for name in _COLUMNS)}")
    for what, body in _TRIGGERS.items():
        db.execute(
            f"CREATE TEMP TRIGGER batch_{what} INSTEAD OF INSERT ON batch"
            f" WHEN NEW.what = {what} BEGIN {body} END"
        )


class Plain(Struct, Generic[T]):  # frozen would take twice as long to make, and there is one for each step
    """An operation that is rows of the view, if it meets what it expects to meet.

    Attributes:
        rows: its rows.
        changes_count: how many rows of tables it changes then.
        result: what it gives then.
        alone: does it by itself, whatever it meets.
    """

    rows: Sequence[Row]
    changes_count: int
    result: T
    alone: Callable[[sqlite3.Connection], T]


def append(entry: Entry, values: StoredEntry) -> Plain[Entry] | None:
    """The append of an entry; None if more must be looked at than the last position of its journal."""
    if is_in_burst(entry):
        row: Row = (_STEP, *bound_entry(values), *_step_values(entry), entry.control.created_at)
    elif entry.position and (entry.control.lease is None or entry.event.kind is Kind.CLAIMED):
        moved = bound_row(_index_values(row_values(project(entry))), _INDEX_NULLS)
        row = (_MOVE, *bound_entry(values), *moved, entry.control.created_at)
    else:
        return None
    return Plain([row], 2, entry, lambda db: append_one(db, entry, values))


def _step_values(entry: Entry) -> Row:
    control = entry.control
    assert control.lease is not None
    counts = (control.failures, control.interruptions)
    return ("", control.step, 0, 0, 0, "", control.lease.until, 0, 0, *counts, control.reason)


def acknowledge(keys: Sequence[tuple[int, str]]) -> Plain[None]:
    """The end of deliveries: of rows that have these ids and receipts, if they still have them."""
    rest = _NOTHING[4:]
    rows: list[Row] = [(_ACKNOWLEDGED, "", number, receipt, *rest) for number, receipt in keys]
    return Plain(rows, len(rows), None, lambda db: None)


def write_together(db: sqlite3.Connection, plain: Sequence[Plain[Any]]) -> Sequence[bool]:
    """Do operations as rows of the view; whether each of them met what it expected to meet.

    Those that did not have changed nothing. Outside a transaction, up to `TOGETHER_MAX` rows
    are one.
    """
    rows = [row for operation in plain for row in operation.rows]
    before = db.total_changes
    for start in range(0, len(rows), TOGETHER_MAX):
        size, values = padded(rows[start : start + TOGETHER_MAX], _NOTHING)
        db.executemany(_insert(size), [values])  # `execute` gives up the lock once more, for the last id
    if db.total_changes - before == sum(operation.changes_count for operation in plain):
        return [True] * len(plain)
    missing = missing_of(db, [row[1:4] for row in rows if row[0] != _ACKNOWLEDGED])
    return [missing.isdisjoint(row[3] for row in operation.rows) for operation in plain]


@cache
def _insert(count: int) -> str:
    return f"INSERT INTO batch VALUES {marks(count, len(_COLUMNS))}"  # noqa: S608  constant text
