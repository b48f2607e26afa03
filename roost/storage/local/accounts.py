"""The accounts port on SQLite: each charge is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec

from roost.journal.accounts import DAYS_KEPT, Account, Balance, Charge
from roost.journal.values import Amounts
from roost.storage.local.schema import storage_errors
from roost.storage.local.writer import Writer

_NO_DAY = -1
_CHARGED = """
    INSERT INTO charged (work_id, position) VALUES (?1, ?2)
    ON CONFLICT (work_id) DO UPDATE SET position = excluded.position WHERE position < excluded.position"""
_ADD = """
    INSERT INTO accounts (namespace, root, day, name, spent) VALUES (?1, ?2, ?3, ?4, round(?5, 9))
    ON CONFLICT (namespace, root, day, name) DO UPDATE SET spent = round(spent + excluded.spent, 9)"""
_NEWEST_DAY = "SELECT max(day) FROM accounts WHERE namespace = ? AND root = ''"
_DROP_DAYS = "DELETE FROM accounts WHERE namespace = ? AND root = '' AND day <= ?"
_SPENT = "SELECT name, spent FROM accounts WHERE namespace = ? AND root = ? AND day = ? ORDER BY name"
_ALLOWED = "SELECT limits FROM account_limits WHERE namespace = ? AND root = ? AND day = ?"
_ALLOW = """
    INSERT INTO account_limits (namespace, root, day, limits, rank) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (namespace, root, day) DO UPDATE SET limits = excluded.limits, rank = excluded.rank
    WHERE rank <= excluded.rank"""
_limits = msgspec.json.Decoder(Amounts)


class LocalAccounts:
    """`ports.Accounts`."""

    def __init__(self, path: Path, writer: Writer, reader: sqlite3.Connection) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader

    async def charge(self, charge: Charge) -> Sequence[Balance]:
        return await self._writer.submit(lambda db: _charge(db, charge))

    async def show(self, accounts: Sequence[Account]) -> Sequence[Balance]:
        with storage_errors(self._path):
            return _show(self._reader, accounts)

    async def allow(self, account: Account, limits: Amounts, *, order: float) -> None:
        values = (*_key(account), msgspec.json.encode(limits).decode(), order)
        await self._writer.submit(lambda db: db.execute(_ALLOW, values).rowcount)


def _key(account: Account) -> tuple[str, str, int]:
    return account.namespace, account.root, _NO_DAY if account.day is None else account.day


def _charge(db: sqlite3.Connection, charge: Charge) -> list[Balance]:
    if db.execute(_CHARGED, (charge.work_id, charge.position)).rowcount:
        for account in charge.accounts:
            if account.day is None or _keeps(db, account.namespace, account.day):
                db.executemany(_ADD, [(*_key(account), *amount) for amount in charge.amounts])
    return _show(db, charge.accounts)


def _keeps(db: sqlite3.Connection, namespace: str, day: int) -> bool:
    """Whether a day is one of the last; days that are not any more are dropped."""
    newest = db.execute(_NEWEST_DAY, (namespace,)).fetchone()[0]
    oldest = max(day, day if newest is None else newest) - DAYS_KEPT
    db.execute(_DROP_DAYS, (namespace, oldest))
    return day > oldest


def _show(db: sqlite3.Connection, accounts: Sequence[Account]) -> list[Balance]:
    found = []
    for account in accounts:
        spent = tuple((name, amount) for name, amount in db.execute(_SPENT, _key(account)))
        allowed = db.execute(_ALLOWED, _key(account)).fetchone()
        found.append(Balance(account, spent, _limits.decode(allowed[0]) if allowed else None))
    return found


def forget(db: sqlite3.Connection, work_id: str) -> None:
    """Drop what is known of work that is deleted."""
    db.execute("DELETE FROM charged WHERE work_id = ?", (work_id,))
    db.execute("DELETE FROM accounts WHERE root = ?", (work_id,))
    db.execute("DELETE FROM account_limits WHERE root = ?", (work_id,))
