"""Deleting work whose retention time is over.

SQLite gives the number of a last row that was deleted to the next one that comes. Feed
and list cursors count on numbers that only grow, so the newest row of each table stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from roost.models import State
from roost.storage.local import accounts

_ENDED_STATES = ", ".join(f"'{state.value}'" for state in State if state.is_terminal)
_HAS_ENDED = f"""
    state IN ({_ENDED_STATES}) AND since < ? AND due_at IS NULL AND id < (SELECT max(id) FROM works)
    AND id <> (SELECT work FROM journal ORDER BY seq DESC LIMIT 1)"""  # noqa: S608  constant text
ENDED = f"SELECT id FROM works WHERE {_HAS_ENDED} AND id > ? AND id <= ? LIMIT ?"  # noqa: S608  constant text
WINDOW_ROWS = 20_000  # that one statement looks at, which the event loop waits for: some 10 ms
_DELETE = f"DELETE FROM works WHERE id = ? AND {_HAS_ENDED} RETURNING work_id"  # noqa: S608  constant text


_PURGE = f"""
    DELETE FROM works WHERE work_id = ? AND position = ? AND {_HAS_ENDED} RETURNING id"""  # noqa: S608  constant text
_PRUNE = """
    UPDATE journal SET body = NULL, body_encoding = NULL, body_base = NULL, body_digest = NULL, body_depth = 0
    WHERE work = (SELECT id FROM works WHERE work_id = ?1) AND position = ?2 AND position > 0
        AND NOT EXISTS (SELECT 1 FROM kept WHERE work_id = ?1 AND position = ?2)"""
_KEEP = """
    INSERT INTO kept SELECT work_id, position FROM journal
    WHERE work = (SELECT id FROM works WHERE work_id = ?) AND position = ? AND body_encoding IS NOT NULL
    ON CONFLICT DO NOTHING"""

_OF_WORK = ("kept", "claims", "waiters")
"""What goes with a journal. Who stands in line behind it finds out when it looks again."""

_TRIM = """
    DELETE FROM journal WHERE seq IN (
        SELECT seq FROM journal WHERE work = (SELECT id FROM works WHERE work_id = ?) AND position > 0
            AND position < ? ORDER BY position LIMIT ?)"""


def purge_one(db: sqlite3.Connection, work_id: str, position: int) -> bool:
    """Delete one work item, if it has ended at that position."""
    found = db.execute(_PURGE, (work_id, position, float("inf"))).fetchall()
    if found:
        db.execute("DELETE FROM journal WHERE work = ?", found[0])
        _forget(db, work_id)
    return bool(found)


def prune(db: sqlite3.Connection, work_id: str, positions: Sequence[int]) -> int:
    """Drop bodies; returns how many entries were there."""
    return db.executemany(_PRUNE, [(work_id, position) for position in positions]).rowcount


def keep(db: sqlite3.Connection, work_id: str, position: int) -> int:
    """Have a body stay, if it is there."""
    return db.execute(_KEEP, (work_id, position)).rowcount


def trim(db: sqlite3.Connection, work_id: str, before: int, limit: int) -> int:
    """Delete the oldest entries but the first; returns how many are gone. The newest is never among them."""
    return db.execute(_TRIM, (work_id, before, limit)).rowcount


def _forget(db: sqlite3.Connection, work_id: str) -> None:
    accounts.forget(db, work_id)
    for table in _OF_WORK:
        db.execute(f"DELETE FROM {table} WHERE work_id = ?", (work_id,))  # noqa: S608  constant text


def delete_ended(db: sqlite3.Connection, works: Sequence[int], ended_before: float) -> Sequence[str]:
    """Delete those of the rows that have still ended, with their journals; gives their work ids."""
    gone = []
    for work in works:
        found = db.execute(_DELETE, (work, ended_before)).fetchall()
        if found:
            db.execute("DELETE FROM journal WHERE work = ?", (work,))
            _forget(db, found[0][0])
            gone.append(found[0][0])
    return gone
