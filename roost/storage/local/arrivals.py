"""New work, many items in two statements. Enqueueing in batches writes little else.

What is the same for all new work stands in the SQL: to bind it for each item took a
third of the time of storing it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from roost.journal.entries import Body, Entry, IndexRow
from roost.journal.events import Kind
from roost.journal.projection import project
from roost.storage.codec import ENCODINGS, FORMAT, encode_entry, to_json
from roost.storage.local.appends import append_one
from roost.storage.local.many import INSERTED_MAX, filled, padded
from roost.storage.local.rows import LANE_TEXTS, STATE_TEXTS, Bound, dump_labels, given

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
_ROW = (
    *("work_id", "engine", "state", "lane", "created_at", "updated_at", "since"),
    *("due_at", "wake_at", "deadline_at", "labels", "parent_id"),
)
_ENTRY = ("work_id", "entry_id", "at", "actor", "event", "control", "body", "body_encoding", "body_digest")


def _names(bound: Sequence[str], same: Mapping[str, str]) -> str:
    return ", ".join([*bound, *same])


def _values(bound: Sequence[str], same: Mapping[str, str]) -> str:
    """What is bound (column1, column2, … of VALUES), and then what is the same."""
    columns = [given(name, f"column{number}") for number, name in enumerate(bound, start=1)]
    return ", ".join([*columns, *same.values()])


_INSERT_ROWS = f"""
    INSERT INTO works ({_names(_ROW, _SAME_IN_ROWS)}) SELECT {_values(_ROW, _SAME_IN_ROWS)}
    FROM (VALUES {{rows}}) WHERE column1 != 0 ON CONFLICT DO NOTHING"""  # noqa: S608  constant text
_INSERT_ENTRIES = f"""
    INSERT INTO journal (work, {_names(_ENTRY, _SAME_IN_ENTRIES)})
    SELECT works.id, {_values(_ENTRY, _SAME_IN_ENTRIES)}
    FROM (VALUES {{rows}}) AS given CROSS JOIN works ON works.work_id = given.column1
    WHERE column1 != 0 ON CONFLICT DO NOTHING"""  # noqa: S608  constant text


def appending_many(entries: Sequence[Entry]) -> Callable[[sqlite3.Connection], Sequence[Entry]]:
    """Appends entries of different work items: new work many at once, anything else one by one."""
    if not all(_is_plain(entry) for entry in entries):
        return lambda db: _one_by_one(db, entries)
    chunks = [_Chunk(entries[start : start + INSERTED_MAX]) for start in range(0, len(entries), INSERTED_MAX)]
    return lambda db: list(chain.from_iterable(chunk.append(db) for chunk in chunks))


def _one_by_one(db: sqlite3.Connection, entries: Sequence[Entry]) -> Sequence[Entry]:
    return [append_one(db, entry, encode_entry(entry)) for entry in entries]


def _is_plain(entry: Entry) -> bool:
    """Whether all is so of it that is the same for new work; not of forks, nor of whose turn is to come."""
    control = entry.control
    is_first = entry.position == 0 and entry.event.kind is Kind.ENQUEUED
    return is_first and control.turn is None and control.waits is None


class _Chunk:
    """Up to `INSERTED_MAX` first entries, and what is bound for them."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._appended = entries
        self._size, self._rows = padded([_row(project(entry)) for entry in entries], (0,) * len(_ROW))
        _, self._entries = padded([_entry(entry) for entry in entries], (0,) * len(_ENTRY))

    def append(self, db: sqlite3.Connection) -> Sequence[Entry]:
        """Insert all; if something stands for one of them, each by itself."""
        count = len(self._appended)
        if (
            db.execute(filled(_INSERT_ROWS, self._size, len(_ROW)), self._rows).rowcount == count
            and db.execute(filled(_INSERT_ENTRIES, self._size, len(_ENTRY)), self._entries).rowcount == count
        ):
            return self._appended
        return _one_by_one(db, self._appended)  # those that are in stand for themselves


def _row(row: IndexRow) -> tuple[Bound, ...]:
    """The index row of new work, as it is bound for `_ROW`."""
    return (
        row.work_id,
        row.engine,
        STATE_TEXTS[row.state],
        LANE_TEXTS[row.lane],
        row.created_at,
        row.updated_at,
        row.since,
        -1 if row.due_at is None else row.due_at,
        -1 if row.wake_at is None else row.wake_at,
        -1 if row.deadline_at is None else row.deadline_at,
        dump_labels(row.labels) if row.labels else "",
        row.parent_id or "",
    )


def _entry(entry: Entry) -> tuple[Bound, ...]:
    """A first entry, as it is bound for `_ENTRY`."""
    body = entry.body
    return (
        entry.work_id,
        entry.entry_id,
        entry.at,
        entry.actor,
        bytearray(to_json(entry.event)),
        bytearray(to_json(entry.control)),
        *((_NO_BODY, "", "") if body is None else _body(body)),
    )


_NO_BODY = bytearray()


def _body(body: Body) -> tuple[Bound, ...]:
    return bytearray(body.data), ENCODINGS[body.encoding], body.digest or ""
