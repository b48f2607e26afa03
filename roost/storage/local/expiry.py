"""Deleting work whose retention time is over.

SQLite gives the number of a last row that was deleted to the next one that comes. Feed
and list cursors count on numbers that only grow, so the newest row of each table stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from roost.models import State

_ENDED_STATES = ", ".join(f"'{state.value}'" for state in State if state.is_terminal)
_HAS_ENDED = f"""
    state IN ({_ENDED_STATES}) AND since < ? AND id < (SELECT max(id) FROM works)
    AND id <> (SELECT work FROM journal ORDER BY seq DESC LIMIT 1)"""  # noqa: S608  constant text
ENDED = f"SELECT id FROM works WHERE {_HAS_ENDED} LIMIT ?"  # noqa: S608  constant text
_DELETE = f"DELETE FROM works WHERE id = ? AND {_HAS_ENDED} RETURNING work_id"  # noqa: S608  constant text


def delete_ended(db: sqlite3.Connection, works: Sequence[int], ended_before: float) -> Sequence[str]:
    """Delete those of the rows that have still ended, with their journals; gives their work ids."""
    gone = []
    for work in works:
        found = db.execute(_DELETE, (work, ended_before)).fetchall()
        if found:
            db.execute("DELETE FROM journal WHERE work = ?", (work,))
            gone.append(found[0][0])
    return gone
