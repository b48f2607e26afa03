"""The journal port on SQLite. An append also projects the index row, in its transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from roost.journal.entries import Entry
from roost.names import NAMESPACE_MARK, operators_prefix
from roost.storage.codec import encode_entry, those_readable
from roost.storage.local import together
from roost.storage.local.appends import SELECT_ENTRY, append_one
from roost.storage.local.arrivals import appending_many
from roost.storage.local.expiry import ENDED, WINDOW_ROWS, delete_ended, keep, prune, purge_one, trim
from roost.storage.local.rows import ENTRY_COLUMNS, entry_of
from roost.storage.local.schema import SameFile, storage_errors
from roost.storage.local.writer import Writer
from roost.storage.ports import TRIM_MAX, FeedPage
from roost.storage.query import number_of

LOOK_BACK_MAX = 100_000  # entries, for the newest of one namespace
_WINDOW_GROWS = 8


class LocalJournal:
    """`ports.Journal`."""

    def __init__(self, path: Path, same: SameFile, writer: Writer, reader: sqlite3.Connection) -> None:
        self._path = path
        self._same = same
        self._writer = writer
        self._reader = reader

    async def append(self, entry: Entry, *, with_row: bool = False) -> Entry:
        values = encode_entry(entry)
        if (plain := together.append(entry, values)) is not None:
            return await self._writer.submit_plain(plain)
        return await self._writer.submit(lambda db: append_one(db, entry, values))

    async def append_many(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        return await self._writer.submit(appending_many(entries))

    async def tail(self, work_id: str) -> Entry | None:
        return self._one(f"{SELECT_ENTRY} ORDER BY position DESC LIMIT 1", work_id)

    async def get(self, work_id: str, position: int) -> Entry | None:
        return self._one(f"{SELECT_ENTRY} AND position = ?", work_id, position)

    def _one(self, sql: str, *values: str | int) -> Entry | None:
        with storage_errors(self._path):
            found = self._reader.execute(sql, values).fetchone()
        return None if found is None else entry_of(found)

    async def read(
        self, work_id: str, *, after: int = -1, limit: int = 100, newest_first: bool = False
    ) -> Sequence[Entry]:
        if newest_first:
            below = 1 << 62 if after < 0 else after
            where, values = "AND position < ? ORDER BY position DESC", (work_id, below, limit)
        else:
            where, values = "AND position > ? ORDER BY position", (work_id, after, limit)
        with storage_errors(self._path):
            found = self._reader.execute(f"{SELECT_ENTRY} {where} LIMIT ?", values).fetchall()
        return [entry_of(values) for values in found]

    async def feed(
        self, cursor: str | None, *, limit: int = 100, newest: bool = False, namespace: str | None = None
    ) -> FeedPage:
        self._same.check()  # who follows it would see nothing new for ever
        if cursor is None and newest:
            return self._newest(limit, namespace)
        after = number_of(cursor) if cursor is not None else 0
        with storage_errors(self._path):
            found = self._reader.execute(
                f"SELECT seq, {ENTRY_COLUMNS} FROM journal WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608  constant text
                (after, limit),
            ).fetchall()
        entries = those_readable(lambda values: entry_of(values[1:]), found)
        return FeedPage(entries, str(found[-1][0] if found else after))

    def _newest(self, limit: int, namespace: str | None) -> FeedPage:
        """The newest page; of one namespace in windows that grow, up to `LOOK_BACK_MAX` entries."""
        condition, values = ("", ()) if namespace is None else _fed_by(namespace)
        with storage_errors(self._path):
            top = self._reader.execute("SELECT max(seq) FROM journal").fetchone()[0] or 0
            window = min(limit, LOOK_BACK_MAX) if condition else top
            while True:
                found = self._reader.execute(
                    f"SELECT {ENTRY_COLUMNS} FROM journal WHERE seq > ? {condition}"  # noqa: S608  constant text
                    " ORDER BY seq DESC LIMIT ?",
                    (top - window, *values, limit),
                ).fetchall()
                if len(found) == limit or window >= min(top, LOOK_BACK_MAX):
                    break
                window = min(window * _WINDOW_GROWS, LOOK_BACK_MAX)
        return FeedPage(those_readable(entry_of, reversed(found)), str(top))

    async def purge(self, work_id: str, position: int) -> bool:
        return await self._writer.submit(lambda db: purge_one(db, work_id, position))

    async def prune(self, work_id: str, positions: Sequence[int]) -> None:
        await self._writer.submit(lambda db: prune(db, work_id, positions))

    async def keep(self, work_id: str, position: int) -> Entry | None:
        await self._writer.submit(lambda db: keep(db, work_id, position))
        standing = await self.get(work_id, position)
        return standing if standing is not None and standing.body is not None else None

    async def trim(self, work_id: str, before: int, *, limit: int = TRIM_MAX) -> int:
        return await self._writer.submit(lambda db: trim(db, work_id, before, limit))

    async def expire(self, ended_before: float, *, limit: int = 100) -> Sequence[str]:
        found = await self._ended(ended_before, limit)
        if not found:
            return []
        return await self._writer.submit(lambda db: delete_ended(db, found, ended_before))

    async def _ended(self, ended_before: float, limit: int) -> list[int]:
        """Rows of work that has ended; in windows, between which others on the event loop have their turn."""
        with storage_errors(self._path):
            top = self._reader.execute("SELECT max(id) FROM works").fetchone()[0] or 0
        found: list[int] = []
        for low in range(0, top, WINDOW_ROWS):
            values = (ended_before, low, low + WINDOW_ROWS, limit - len(found))
            with storage_errors(self._path):
                found += [work for (work,) in self._reader.execute(ENDED, values).fetchall()]
            if len(found) == limit:
                break
            await asyncio.sleep(0)  # noqa: TID251  no time passes
        return found


def _fed_by(namespace: str) -> tuple[str, tuple[str, ...]]:
    """The condition for entries that `names.feeds` says are a namespace's; no namespace has a wildcard."""
    own = "work_id GLOB ?" if namespace else "instr(work_id, ?) = 0"
    value = f"{namespace}{NAMESPACE_MARK}*" if namespace else NAMESPACE_MARK
    return f"AND ({own} OR work_id GLOB ?)", (value, f"{operators_prefix(namespace)}*")
