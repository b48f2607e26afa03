"""The resource claims port on SQLite: each call is one transaction.

The rules are in `journal/claims.py`; here is what they read and write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from roost.journal.claims import (
    Acquired,
    Ask,
    Call,
    Grant,
    Holding,
    Line,
    Owner,
    Refusal,
    Refused,
    ResourceView,
    Waiter,
    call,
    calls,
    decide,
    is_given_up,
)
from roost.journal.limits import Change, Limits, Rate, changed, voids_turns
from roost.names import NAMESPACE_MARK, Scope, namespace_of
from roost.storage.local.schema import storage_errors
from roost.storage.local.writer import Writer

LINE_MAX = 1000  # of those in one line that are looked at, or shown

_KEYS = """
    SELECT resource FROM claims WHERE resource >= ?1 AND resource < ?2 UNION
    SELECT resource FROM waiters WHERE resource >= ?1 AND resource < ?2 UNION
    SELECT resource FROM resource_limits WHERE resource >= ?1 AND resource < ?2 ORDER BY resource LIMIT ?3"""
_LINE = """
    SELECT work_id, since, called_at, capacity, passed, ticket_at, is_timed FROM waiters
    WHERE resource = ?1 AND id < ?2 ORDER BY id LIMIT ?3"""
_PLACE = """
    SELECT id, work_id, since, called_at, capacity, passed, ticket_at, is_timed FROM waiters
    WHERE resource = ? AND work_id = ?"""
_STAND = """
    INSERT INTO waiters (resource, work_id, since, called_at, capacity, passed, ticket_at, is_timed)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (resource, work_id) DO UPDATE SET
    called_at = excluded.called_at, is_timed = excluded.is_timed,
    passed = excluded.passed, ticket_at = excluded.ticket_at"""
_LIMITS = """
    SELECT capacity, rate_count, rate_seconds, closed_until, closed_by, paced_at FROM resource_limits
    WHERE resource = ?"""
_END = 1 << 62  # no place in line is beyond it


class LocalClaims:
    """`ports.ResourceClaims`."""

    def __init__(self, path: Path, writer: Writer, reader: sqlite3.Connection) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader

    async def acquire(self, ask: Ask, *, now: float, overtake_before: float) -> Acquired | Refused:
        return await self._writer.submit(lambda db: _acquire(db, ask, now, overtake_before))

    async def release(self, owner: Owner, *, now: float) -> Sequence[Call]:
        return await self._writer.submit(lambda db: calls(_call(db, _give_up(db, owner), now)))

    async def leave(self, owner: Owner, *, now: float) -> Sequence[Call]:
        return await self._writer.submit(lambda db: _leave(db, owner, now))

    async def is_called(self, work_id: str, *, now: float) -> bool:
        with storage_errors(self._path):
            found = self._reader.execute(
                "SELECT 1 FROM waiters WHERE work_id = ? AND called_at IS NOT NULL "
                "AND (called_at <= ? OR NOT is_timed)",
                (work_id, now),
            )
            return found.fetchone() is not None

    async def change(
        self, resource: str, change: Change, *, now: float, namespace: str = ""
    ) -> Sequence[Call]:
        key = _key(namespace, resource)
        return await self._writer.submit(lambda db: _change(db, key, change, now))

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


# --- reading -----------------------------------------------------------------


def _key(namespace: str, resource: str) -> str:
    """A resource as it is stored. No namespace has the mark, so no two are stored alike."""
    return f"{namespace}{NAMESPACE_MARK}{resource}"


def _view(db: sqlite3.Connection, key: str) -> ResourceView:
    owners = [holding.owner for holding in _holdings(db, key)]
    name = key.partition(NAMESPACE_MARK)[2]
    return ResourceView(name, owners, _waiters(db, key), _limits(db, key)[0])


def _holdings(db: sqlite3.Connection, key: str) -> list[Holding]:
    sql = "SELECT work_id, token, scope, capacity, use FROM claims WHERE resource = ? ORDER BY work_id"
    return [
        Holding(Owner(work_id, token, Scope(scope)), capacity, use)
        for work_id, token, scope, capacity, use in db.execute(sql, (key,))
    ]


def _waiters(db: sqlite3.Connection, key: str, before: int = _END) -> list[Waiter]:
    """Those in line before a place, first first; one more than `LINE_MAX` if there are more."""
    return [_waiter(row) for row in db.execute(_LINE, (key, before, LINE_MAX + 1))]


def _waiter(row: tuple[Any, ...]) -> Waiter:
    work_id, since, called_at, capacity, passed, ticket_at, is_timed = row
    return Waiter(work_id, since, called_at, capacity, passed, ticket_at, bool(is_timed))


def _limits(db: sqlite3.Connection, key: str) -> tuple[Limits, float]:
    """What limits a resource, and when its rate is at rest."""
    found = db.execute(_LIMITS, (key,)).fetchone()
    if found is None:
        return Limits(), 0.0
    capacity, rate_count, rate_seconds, closed_until, closed_by, paced_at = found
    rate = None if rate_count is None else Rate(rate_count, rate_seconds)
    return Limits(capacity, rate, closed_until, closed_by), paced_at


def _line(db: sqlite3.Connection, key: str, work_id: str) -> Line:
    """A resource as one who asks for it sees it; the key stands for its name."""
    limits, paced_at = _limits(db, key)
    found = db.execute(_PLACE, (key, work_id)).fetchone()
    before = _waiters(db, key, found[0] if found else _END)
    own = _waiter(found[1:]) if found else None
    is_cut = len(before) > LINE_MAX
    return Line(key, _holdings(db, key), before[:LINE_MAX], own, limits, paced_at, is_cut)


# --- changing ----------------------------------------------------------------


def _acquire(db: sqlite3.Connection, ask: Ask, now: float, overtake_before: float) -> Acquired | Refused:
    namespace = namespace_of(ask.owner.work_id)
    wants = tuple(replace(want, resource=_key(namespace, want.resource)) for want in ask.wants)
    ask = replace(ask, wants=wants)
    lines = [_line(db, want.resource, ask.owner.work_id) for want in wants]
    decision = decide(ask, lines, now=now, overtake_before=overtake_before)
    db.executemany(
        "UPDATE resource_limits SET paced_at = ? WHERE resource = ?",
        [(paced_at, key) for key, paced_at in decision.paced_at.items()],
    )
    if isinstance(decision, Grant):
        _take(db, ask, decision)
        return decision.answer
    _stand(db, decision)
    limited = [key.partition(NAMESPACE_MARK)[2] for key in decision.answer.limited]
    return replace(decision.answer, limited=limited)


def _take(db: sqlite3.Connection, ask: Ask, grant: Grant) -> None:
    owner = ask.owner
    db.executemany(
        "REPLACE INTO claims (resource, work_id, token, scope, capacity, use) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (want.resource, owner.work_id, owner.token, owner.scope, want.capacity, ask.use)
            for want in ask.wants
        ],
    )
    for key, waiters in grant.overtaken.items():
        _update(db, key, waiters)
    db.executemany(
        "DELETE FROM waiters WHERE resource = ? AND work_id = ?",
        [(want.resource, owner.work_id) for want in ask.wants],
    )


def _stand(db: sqlite3.Connection, refusal: Refusal) -> None:
    for key, place in refusal.places.items():
        db.execute(_STAND, (key, *_values(place)))


def _values(waiter: Waiter) -> tuple[Any, ...]:
    return (
        waiter.work_id,
        waiter.since,
        waiter.called_at,
        waiter.capacity,
        waiter.passed,
        waiter.ticket_at,
        waiter.is_timed,
    )


def _update(db: sqlite3.Connection, key: str, waiters: Sequence[Waiter]) -> None:
    """Write how waiters in a line are called now, and how often they were overtaken."""
    db.executemany(
        "UPDATE waiters SET called_at = ?, is_timed = ?, passed = ? WHERE resource = ? AND work_id = ?",
        [(w.called_at, w.is_timed, w.passed, key, w.work_id) for w in waiters],
    )


def _give_up(db: sqlite3.Connection, owner: Owner) -> list[str]:
    """Delete the claims that are over; returns of which resources."""
    if not _is_of_its_work(db, owner):
        return []
    sql = "SELECT resource, token, scope FROM claims WHERE work_id = ?"
    keys = [
        key
        for key, token, scope in db.execute(sql, (owner.work_id,)).fetchall()
        if is_given_up(Holding(Owner(owner.work_id, token, Scope(scope))), owner)
    ]
    sql = "DELETE FROM claims WHERE resource = ? AND work_id = ?"
    db.executemany(sql, [(key, owner.work_id) for key in keys])
    return keys


def _is_of_its_work(db: sqlite3.Connection, owner: Owner) -> bool:
    """Whether no other work has the owner's id by now."""
    if owner.created_at is None:
        return True
    found = db.execute("SELECT created_at FROM works WHERE work_id = ?", (owner.work_id,)).fetchone()
    return found is None or found == (owner.created_at,)


def _leave(db: sqlite3.Connection, owner: Owner, now: float) -> list[Call]:
    if not _is_of_its_work(db, owner):
        return []
    sql = "DELETE FROM waiters WHERE work_id = ? RETURNING resource"
    left = [key for (key,) in db.execute(sql, (owner.work_id,)).fetchall()]
    return calls(_call(db, [*left, *_give_up(db, replace(owner, scope=Scope.WORK))], now))


def _call(db: sqlite3.Connection, keys: Iterable[str], now: float) -> list[Waiter]:
    """Mark those in each line as called for whom there is room."""
    found: list[Waiter] = []
    for key in sorted(set(keys)):
        called, _ = call(_holdings(db, key), _waiters(db, key)[:LINE_MAX], _limits(db, key)[0], now)
        _update(db, key, called)
        found += called
    return found


def _change(db: sqlite3.Connection, key: str, change: Change, now: float) -> list[Call]:
    limits, paced_at = _limits(db, key)
    limits = changed(limits, change)
    if voids_turns(change):
        paced_at = 0.0
        db.execute(
            "UPDATE waiters SET called_at = NULL, is_timed = 0, ticket_at = NULL WHERE resource = ?", (key,)
        )
    rate_count, rate_seconds = (
        (limits.rate.count, limits.rate.period_seconds) if limits.rate else (None, None)
    )
    db.execute(
        "REPLACE INTO resource_limits VALUES (?, ?, ?, ?, ?, ?, ?)",
        (key, limits.capacity, rate_count, rate_seconds, limits.closed_until, limits.closed_by, paced_at),
    )
    if not limits.are_set:
        db.execute("DELETE FROM resource_limits WHERE resource = ?", (key,))
    return calls(_call(db, [key], now))
