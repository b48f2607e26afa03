"""The embedded default: SQLite and files in one directory, no server."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from roost.clock import Clock, SystemClock
from roost.errors import RoostError
from roost.storage.local import schema
from roost.storage.local.artifacts import LocalArtifacts
from roost.storage.local.claims import LocalClaims
from roost.storage.local.index import LocalIndex
from roost.storage.local.journal import LocalJournal
from roost.storage.local.lock import TurnLock
from roost.storage.local.queue import LocalQueue
from roost.storage.local.wake import Doorbell
from roost.storage.local.writer import Writer
from roost.storage.ports import Finding

FREE_MIN_BYTES = 256 << 20  # `doctor` warns below it


class LocalBackend:
    """`ports.Backend`; made by `open_local`."""

    projects_on_append = True
    inline_max_bytes = 1 << 20

    def __init__(self, directory: Path, clock: Clock) -> None:
        path = directory / "roost.db"
        self.url = f"local:{directory}"
        self._directory = directory
        self._path = path
        self._writer = Writer(path, TurnLock(directory / "roost.lock"))
        self._reader = schema.connect(path, is_reader=True)
        self._bell = Doorbell(directory)
        self.journal = LocalJournal(path, self._writer, self._reader)
        self.index = LocalIndex(path, self._writer, self._reader)
        self.claims = LocalClaims(path, self._writer, self._reader)
        self.queue = LocalQueue(path, self._writer, self._reader, self._bell, clock)
        self.artifacts = LocalArtifacts(directory / "artifacts")
        self._writer.start()

    async def close(self) -> None:
        """Finish what was begun, then let go of the files; idempotent."""
        await self._writer.close()
        self._bell.close()
        self._reader.close()

    async def check(self) -> Sequence[Finding]:
        """What `roost doctor` shows of this directory."""
        return [
            Finding("directory", os.access(self._directory, os.W_OK), str(self._directory)),
            await self._check_file(),
            self._check_settings(),
            self._check_room(),
            await self._check_write(),
            await self._check_artifacts(),
        ]

    async def _check_file(self) -> Finding:
        try:
            answer = str(self._reader.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            answer = str(error)
        hint = "" if answer == "ok" else "Stop the workers and restore the file from a backup."
        return Finding("database", answer == "ok", f"{self._path}: {answer}", hint)

    def _check_settings(self) -> Finding:
        mode = str(self._reader.execute("PRAGMA journal_mode").fetchone()[0])
        level = int(self._reader.execute("PRAGMA synchronous").fetchone()[0])
        is_full = level == 2  # SQLite documentation, "PRAGMA synchronous": 2 is FULL
        shown = f"journal_mode={mode}, synchronous={'FULL' if is_full else level}"
        return Finding("durability", mode == "wal" and is_full, f"{shown}, SQLite {sqlite3.sqlite_version}")

    def _check_room(self) -> Finding:
        free = shutil.disk_usage(self._directory).free
        is_enough = free >= FREE_MIN_BYTES
        return Finding("disk", is_enough, f"{free >> 20} MiB free", "" if is_enough else "Free some room.")

    async def _check_write(self) -> Finding:
        sql = "INSERT INTO meta VALUES ('doctor', '1') ON CONFLICT (key) DO UPDATE SET value = value"
        try:
            await self._writer.submit(lambda db: db.execute(sql).rowcount)
        except RoostError as error:
            return Finding("write", False, str(error), error.hint)
        return Finding("write", True, "a commit went through")

    async def _check_artifacts(self) -> Finding:
        try:
            blob = await self.artifacts.put([b"roost doctor\n"])
            async for _ in self.artifacts.read(blob.digest):
                pass
        except RoostError as error:
            return Finding("artifacts", False, str(error), error.hint)
        return Finding("artifacts", True, "written, read back and verified")


async def open_local(directory: Path, *, clock: Clock | None = None) -> LocalBackend:
    """Open the store in `directory`; make it where there is none.

    Raises:
        SchemaTooNew: a newer Roost made it.
        StorageReadOnly: the directory can't be made or written.
        StorageError: the file can't be opened.
    """
    directory = directory.expanduser().absolute()
    with schema.storage_errors(directory):
        await asyncio.to_thread(_prepare, directory)
        return LocalBackend(directory, clock or SystemClock())


def _prepare(directory: Path) -> None:
    """Make directory and file; a process that comes second finds them made."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = TurnLock(directory / "roost.lock")
    try:
        with lock.turn():
            schema.create(directory / "roost.db")
    finally:
        lock.close()
