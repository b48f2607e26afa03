"""Columns of the tables `journal` and `works`, and the objects that they hold."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from roost.journal.entries import Entry, IndexRow
from roost.models import Lane, State
from roost.storage.codec import StoredEntry, decode_entry, unreadable
from roost.storage.local.many import TOGETHER_MAX, marks, padded

ENTRY_COLUMNS = ", ".join(StoredEntry._fields)
ROW_COLUMNS = (
    "work_id, engine, state, lane, position, version, step, created_at, updated_at, since, due_at, "
    "token, worker_id, lease_until, wake_at, deadline_at, failures, interruptions, reason, progress, "
    "labels, parent_id"
)

Bound = str | int | float | bytearray
"""What is bound in statements for many rows. sqlite3 looks for an adapter at each None and each
`bytes`, which takes ten times as long as to bind a number: neither is in there."""

NULLS: dict[str, tuple[Bound, str]] = {  # what is bound for NULL, and the same in SQL
    **dict.fromkeys(("body_encoding", "body_digest", "worker_id", "labels", "parent_id"), ("", "''")),
    **dict.fromkeys(("body_base", "due_at", "token", "lease_until", "wake_at", "deadline_at"), (-1, "-1")),
    "body": (bytearray(), "x''"),
}

STATE_TEXTS = {state: state.value for state in State}  # `value` of an enum's member is a call
LANE_TEXTS = {lane: lane.value for lane in Lane}
_COLUMNS = ROW_COLUMNS.split(", ")
_PROGRESS, _LABELS = _COLUMNS.index("progress"), _COLUMNS.index("labels")
_UPSERT = (
    f"ON CONFLICT (work_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])} "
    "WHERE excluded.position >= works.position"
)
PUT_ROW = (  # unless a newer one of the same work stands
    f"INSERT INTO works ({ROW_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608  constant text
    f"{_UPSERT} OR excluded.created_at <> works.created_at"
)
_NUMBERED = ", ".join(f"?{number + 1}" for number in range(len(_COLUMNS)))
PUT_ROW_AGAIN = f"""
    INSERT INTO works ({ROW_COLUMNS}) SELECT {_NUMBERED}
    WHERE ?{_COLUMNS.index("position") + 1} = 0 OR EXISTS (SELECT 1 FROM works WHERE work_id = ?1)
    {_UPSERT} AND excluded.created_at = works.created_at"""  # noqa: S608  constant text
"""As `PUT_ROW`, but not where the work was deleted, nor over new work of its id."""


def entry_of(values: tuple[Any, ...]) -> Entry:
    """The entry of a row of `ENTRY_COLUMNS`."""
    return decode_entry(StoredEntry(*values))


def given(name: str, value: str) -> str:
    """SQL for a column's value, where `value` is SQL for what was bound for it."""
    return f"nullif({value}, {NULLS[name][1]})" if name in NULLS else value


def bound_entry(values: StoredEntry) -> tuple[Bound, ...]:
    """The columns of an entry as they are bound."""
    return (
        *values[:7],
        bytearray(values.event),
        bytearray(values.control),
        bytearray(values.body or b""),
        values.body_encoding or "",
        -1 if values.body_base is None else values.body_base,
        values.body_digest or "",
        values.body_depth,
        values.format,
    )


def bound_row(values: Sequence[Any], nulls: Sequence[Bound]) -> list[Bound]:
    """Columns of an index row as they are bound.

    Args:
        nulls: what is bound where a column is empty.
    """
    return [null if value is None else value for value, null in zip(values, nulls, strict=True)]


def nulls_of(names: Iterable[str]) -> Sequence[Bound]:
    """What is bound where columns are empty."""
    return [NULLS[name][0] if name in NULLS else "" for name in names]


def row_values(row: IndexRow) -> tuple[Any, ...]:
    """An index row in the order of `ROW_COLUMNS`."""
    return (
        row.work_id,
        row.engine,
        STATE_TEXTS[row.state],
        LANE_TEXTS[row.lane],
        row.position,
        row.version,
        row.step,
        row.created_at,
        row.updated_at,
        row.since,
        row.due_at,
        row.token,
        row.worker_id,
        row.lease_until,
        row.wake_at,
        row.deadline_at,
        row.failures,
        row.interruptions,
        row.reason,
        dump_progress(row.progress),
        dump_labels(row.labels) if row.labels else None,
        row.parent_id,
    )


def row_of(values: tuple[Any, ...]) -> IndexRow:
    """The index row of a row of `ROW_COLUMNS`.

    Raises:
        SchemaTooNew: a newer Roost wrote it.
    """
    columns = list(values)
    try:
        columns[2], columns[3] = State(columns[2]), Lane(columns[3])
    except ValueError as error:
        raise unreadable(f"the index row of {columns[0]}", error) from error
    progress, labels = columns[_PROGRESS], columns[_LABELS]
    if progress is not None:
        fraction, text = json.loads(progress)
        columns[_PROGRESS] = (fraction, text)
    columns[_LABELS] = tuple(json.loads(labels).items()) if labels is not None else ()
    return IndexRow(*columns)


def dump_labels(labels: tuple[tuple[str, str], ...]) -> str:
    """Labels as a column; one of them is a part of the text that nothing else can be."""
    return json.dumps(dict(labels), ensure_ascii=False, separators=(",", ":"))


def dump_progress(progress: tuple[float, str] | None) -> str | None:
    """Progress as a column."""
    return None if progress is None else json.dumps(progress)


def missing_of(db: sqlite3.Connection, keys: Sequence[tuple[Any, ...]]) -> set[str]:
    """The ids of those entries that do not stand.

    Args:
        keys: work id, position and entry id of each.
    """
    missing: set[str] = set()
    for start in range(0, len(keys), TOGETHER_MAX):
        size, values = padded(keys[start : start + TOGETHER_MAX], ("", -1, ""))
        missing.update(entry_id for (entry_id,) in db.execute(_select_missing(size), values))
    return missing


@cache
def _select_missing(count: int) -> str:
    return f"""
        SELECT column3 FROM (VALUES {marks(count, 3)}) WHERE column3 != '' AND NOT EXISTS (
            SELECT 1 FROM works JOIN journal ON journal.work = works.id
            WHERE works.work_id = column1 AND journal.position = column2 AND journal.entry_id = column3)"""  # noqa: S608  constant text
