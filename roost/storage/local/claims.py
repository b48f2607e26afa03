"""The resource claims port on SQLite: each call is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from roost.models import NAMESPACE_MARK, namespace_of
from roost.storage.local.schema import storage_errors
from roost.storage.local.writer import Writer
from roost.storage.ports import Acquired, Owner, Refused, ResourceView, Waiter

_KEYS = """
    SELECT resource FROM claims WHERE resource >= ?1 AND resource < ?2 UNION
    SELECT resource FROM waiters WHERE resource >= ?1 AND resource < ?2 ORDER BY resource LIMIT ?3"""


class LocalClaims:
    """`ports.ResourceClaims`."""

    def __init__(self, path: Path, writer: Writer, reader: sqlite3.Connection) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader

    async def acquire(
        self, owner: Owner, resources: Sequence[str], *, now: float, overtake_before: float
    ) -> Acquired | Refused:
        keys = [_key(namespace_of(owner.work_id), resource) for resource in resources]
        return await self._writer.submit(lambda db: _acquire(db, owner, keys, now, overtake_before))

    async def release(self, owner: Owner, *, now: float) -> Sequence[str]:
        return await self._writer.submit(lambda db: _release(db, owner, now))

    async def leave(self, work_id: str, *, now: float) -> Sequence[str]:
        return await self._writer.submit(lambda db: _leave(db, work_id, now))

    async def show(
        self, *, limit: int = 100, resource: str | None = None, namespace: str = ""
    ) -> Sequence[ResourceView]:
        if resource is None:  # all that begin with the mark; nothing sorts between `a/` and `a0`
            span = (_key(namespace, ""), f"{namespace}0")
        else:
            span = (_key(namespace, resource), _key(namespace, resource) + "\0")
        with storage_errors(self._path):
            keys = self._reader.execute(_KEYS, (*span, limit)).fetchall()
            return [_view(self._reader, key) for (key,) in keys]


def _key(namespace: str, resource: str) -> str:
    """A resource as it is stored. No namespace has the mark, so no two are stored alike."""
    return f"{namespace}{NAMESPACE_MARK}{resource}"


def _view(db: sqlite3.Connection, key: str) -> ResourceView:
    owner = _owner(db, key)
    return ResourceView(key.partition(NAMESPACE_MARK)[2], [owner] if owner else [], _waiters(db, key))


def _owner(db: sqlite3.Connection, resource: str) -> Owner | None:
    found = db.execute("SELECT work_id, token FROM claims WHERE resource = ?", (resource,)).fetchone()
    return Owner(*found) if found else None


def _waiters(db: sqlite3.Connection, resource: str) -> list[Waiter]:
    sql = "SELECT work_id, since, called_at FROM waiters WHERE resource = ? ORDER BY id"
    return [Waiter(*row) for row in db.execute(sql, (resource,))]


def _acquire(
    db: sqlite3.Connection, owner: Owner, resources: Sequence[str], now: float, overtake_before: float
) -> Acquired | Refused:
    owners: list[Owner] = []
    ahead: list[str] = []
    for resource in resources:
        standing = _owner(db, resource)
        if standing is None:
            ahead += _ahead(_waiters(db, resource), owner.work_id, overtake_before)
        elif standing.work_id != owner.work_id or standing.token > owner.token:
            owners.append(standing)
    if owners or ahead:
        db.executemany(
            "INSERT INTO waiters (resource, work_id, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            [(resource, owner.work_id, now) for resource in resources],
        )
        return Refused(owners, list(dict.fromkeys(ahead)))
    db.executemany(
        "INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT (resource) DO UPDATE SET token = excluded.token",
        [(resource, owner.work_id, owner.token) for resource in resources],
    )
    db.executemany(
        "DELETE FROM waiters WHERE resource = ? AND work_id = ?",
        [(resource, owner.work_id) for resource in resources],
    )
    return Acquired()


def _ahead(waiters: Sequence[Waiter], work_id: str, overtake_before: float) -> list[str]:
    """Who comes before `work_id` on a free resource and may not be overtaken."""
    ahead = []
    for waiter in waiters:
        if waiter.work_id == work_id:
            break
        if waiter.called_at is None or waiter.called_at >= overtake_before:
            ahead.append(waiter.work_id)
    return ahead


def _release(db: sqlite3.Connection, owner: Owner, now: float) -> Sequence[str]:
    freed = db.execute(
        "DELETE FROM claims WHERE work_id = ? AND token = ? RETURNING resource", (owner.work_id, owner.token)
    ).fetchall()
    return _call_first(db, [row[0] for row in freed], now)


def _leave(db: sqlite3.Connection, work_id: str, now: float) -> Sequence[str]:
    left = db.execute("DELETE FROM waiters WHERE work_id = ? RETURNING resource", (work_id,)).fetchall()
    return _call_first(db, [row[0] for row in left if _owner(db, row[0]) is None], now)


def _call_first(db: sqlite3.Connection, resources: Sequence[str], now: float) -> Sequence[str]:
    """Mark the first in line of each resource as called; their work ids."""
    called = []
    for resource in sorted(resources):
        found = db.execute(
            "UPDATE waiters SET called_at = ? WHERE id = (SELECT min(id) FROM waiters WHERE resource = ?) "
            "RETURNING work_id",
            (now, resource),
        ).fetchall()
        called += [row[0] for row in found]
    return list(dict.fromkeys(called))
