"""The embedded default: SQLite and files in one directory, no server."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from roost.clock import Clock, SystemClock
from roost.errors import RoostError, SettingsError, StorageError
from roost.storage.local import schema
from roost.storage.local.accounts import LocalAccounts
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
_NO_NAME = re.compile(r"[\x00-\x1f\ud800-\udfff]")


class LocalBackend:
    """`ports.Backend`; made by `open_local`."""

    projects_on_append = True
    inline_max_bytes = 1 << 20
    sweep_seconds = 5.0

    def __init__(self, directory: Path, clock: Clock) -> None:
        path = directory / schema.FILE_NAME
        self.url = f"local:{directory}"
        self._directory = directory
        self._path = path
        self._bell = Doorbell(directory)
        self._reader = schema.connect(path, is_reader=True)
        same = schema.SameFile(path)
        self._writer = Writer(path, TurnLock(directory / "roost.lock"), self._bell.ring, same)
        self.journal = LocalJournal(path, same, self._writer, self._reader)
        self.index = LocalIndex(path, self._writer, self._reader)
        self.claims = LocalClaims(path, self._writer, self._reader)
        self.accounts = LocalAccounts(path, self._writer, self._reader)
        self.queue = LocalQueue(path, same, self._writer, self._reader, self._bell, clock)
        self.artifacts = LocalArtifacts(directory / "artifacts")

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()

    async def close(self) -> None:
        """Finish what was begun, then let go of the files; idempotent."""
        await self._writer.close()
        self._bell.close()
        self._reader.close()  # the last connection of all folds the WAL into the file

    async def check(self) -> Sequence[Finding]:
        """What `roost doctor` shows of this directory."""
        return [
            Finding("directory", os.access(self._directory, os.W_OK), str(self._directory)),
            await asyncio.to_thread(self._finding, "database", self._check_file),
            self._finding("schema", self._check_version),
            self._finding("disk", self._check_room),
            await self._check_durability(),
            await self._check_write(),
            await self._check_artifacts(),
        ]

    def _finding(self, name: str, look: Callable[[], Finding]) -> Finding:
        """What `look` finds; an error is a finding too."""
        try:
            with schema.storage_errors(self._path):
                return look()
        except StorageError as error:
            return Finding(name, False, str(error), error.hint)

    def _check_file(self) -> Finding:
        reader = schema.connect(self._path, is_reader=True)  # its own: this takes long, in a thread
        try:
            answer = str(reader.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            reader.close()
        hint = "" if answer == "ok" else "Stop the workers and restore the file from a backup."
        return Finding("database", answer == "ok", f"{self._path}: {answer}", hint)

    def _check_version(self) -> Finding:
        schema.check_version(self._reader, self._path)
        return Finding("schema", True, f"version {schema.VERSION}")

    def _check_room(self) -> Finding:
        free = shutil.disk_usage(self._directory).free
        is_enough = free >= FREE_MIN_BYTES
        return Finding("disk", is_enough, f"{free >> 20} MiB free", "" if is_enough else "Free some room.")

    async def _check_durability(self) -> Finding:
        """The settings of the connection that writes."""
        try:
            mode, level = await self._writer.submit(_durability)
        except RoostError as error:
            return Finding("durability", False, str(error), error.hint)
        is_full = level == 2  # SQLite documentation, "PRAGMA synchronous": 2 is FULL
        shown = f"journal_mode={mode}, synchronous={'FULL' if is_full else level}"
        is_ok = mode == "wal" and is_full
        hint = (
            "" if is_ok else "Put the directory on a local disk; WAL does not work on a network file system."
        )
        return Finding("durability", is_ok, f"{shown}, SQLite {sqlite3.sqlite_version}", hint)

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
        SettingsError: no directory can have that name.
    """
    directory = directory.expanduser().absolute()
    if _NO_NAME.search(str(directory)):
        raise SettingsError(
            f"{str(directory)!r} can't be a directory of Roost's",
            hint="Its name is to be UTF-8, without control characters.",
        )
    with schema.storage_errors(directory / schema.FILE_NAME):
        await asyncio.to_thread(_prepare, directory)
        backend = LocalBackend(directory, clock or SystemClock())
    backend.start()
    return backend


def _durability(db: sqlite3.Connection) -> tuple[str, int]:
    mode = str(db.execute("PRAGMA journal_mode").fetchone()[0])
    return mode, int(db.execute("PRAGMA synchronous").fetchone()[0])


def _prepare(directory: Path) -> None:
    """Make directory and file; a process that comes second finds them made."""
    schema.make_home(directory)
    lock = TurnLock(directory / "roost.lock")
    try:
        with lock.turn():
            schema.create(directory / schema.FILE_NAME)
    finally:
        lock.close()
