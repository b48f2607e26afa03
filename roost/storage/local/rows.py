"""Columns of the tables `journal` and `works`, and the objects that they hold."""

from __future__ import annotations

import json
from typing import Any

from roost.journal.entries import Entry, IndexRow
from roost.models import Lane, State
from roost.storage.codec import StoredEntry, decode_entry

ENTRY_COLUMNS = ", ".join(StoredEntry._fields)
ROW_COLUMNS = (
    "work_id, engine, state, lane, position, version, step, created_at, updated_at, since, due_at, "
    "token, worker_id, lease_until, wake_at, deadline_at, failures, interruptions, reason, progress, "
    "labels, parent_id"
)

_COLUMNS = ROW_COLUMNS.split(", ")
_PROGRESS, _LABELS = _COLUMNS.index("progress"), _COLUMNS.index("labels")
PUT_ROW = (  # unless a newer one stands
    f"INSERT INTO works ({ROW_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS))}) ON CONFLICT (work_id) "  # noqa: S608  constant text
    f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])} "
    "WHERE excluded.position >= works.position"
)


def entry_of(values: tuple[Any, ...]) -> Entry:
    """The entry of a row of `ENTRY_COLUMNS`."""
    return decode_entry(StoredEntry(*values))


def row_values(row: IndexRow) -> tuple[Any, ...]:
    """An index row in the order of `ROW_COLUMNS`."""
    return (
        row.work_id,
        row.engine,
        row.state.value,
        row.lane.value,
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
    """The index row of a row of `ROW_COLUMNS`."""
    columns = list(values)
    columns[2], columns[3] = State(columns[2]), Lane(columns[3])
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
