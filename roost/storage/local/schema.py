"""The SQLite file: its tables, its version, and what its errors mean."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from roost.errors import (
    SchemaTooNew,
    StorageCorrupt,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
)

FILE_NAME = "roost.db"
VERSION = 1
BUSY_SECONDS = 30.0  # how long to wait for somebody outside Roost who holds the file
READ_BUSY_SECONDS = 2.0  # reads run on the event loop, and WAL readers wait for almost nothing
LOG_MAX_BYTES = 32 << 20  # of the log on disk, once nobody reads in it any more
FULL_BYTES = 64 << 10  # of free room: less than a file that processes share (-shm) takes
CACHE_KB = 512  # of each connection; the system's own cache is behind it, and all processes share that

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('version', '1');

-- The journals. seq is the order of all appends: one transaction writes at a time, so no
-- lower number ever shows up later, and a reader of the feed misses nothing.
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    work INTEGER NOT NULL REFERENCES works (id),
    work_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    entry_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    at REAL NOT NULL,
    actor TEXT NOT NULL,
    event BLOB NOT NULL,
    control BLOB NOT NULL,
    body BLOB,
    body_encoding TEXT,
    body_base INTEGER,
    body_digest TEXT,
    body_depth INTEGER NOT NULL,
    format INTEGER NOT NULL,
    UNIQUE (work, position)
);

-- The work index. id is the order in which work came, and the key of its journal.
CREATE TABLE works (
    id INTEGER PRIMARY KEY,
    work_id TEXT NOT NULL UNIQUE,
    engine TEXT NOT NULL,
    state TEXT NOT NULL,
    lane TEXT NOT NULL,
    position INTEGER NOT NULL,
    version INTEGER NOT NULL,
    step TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    since REAL NOT NULL,
    due_at REAL,
    token INTEGER,
    worker_id TEXT,
    lease_until REAL,
    wake_at REAL,
    deadline_at REAL,
    failures INTEGER NOT NULL,
    interruptions INTEGER NOT NULL,
    reason TEXT NOT NULL,
    progress TEXT,
    labels TEXT,
    parent_id TEXT
);
CREATE INDEX works_by_state ON works (state);
CREATE INDEX works_by_engine ON works (engine);
CREATE INDEX works_due ON works (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX works_by_parent ON works (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    work_id TEXT NOT NULL,
    cause INTEGER NOT NULL,
    lane TEXT NOT NULL,
    visible_at REAL NOT NULL,
    receipt TEXT NOT NULL,
    received_count INTEGER NOT NULL
);
CREATE INDEX deliveries_visible ON deliveries (lane, visible_at);
CREATE TABLE dead_deliveries (
    id INTEGER PRIMARY KEY, work_id TEXT NOT NULL, cause INTEGER NOT NULL, lane TEXT NOT NULL,
    reason TEXT NOT NULL, at REAL NOT NULL
);

-- Claims: who holds a resource, who is in line for it (id is the order of coming), what limits it.
CREATE TABLE claims (
    resource TEXT NOT NULL,
    work_id TEXT NOT NULL,
    token INTEGER NOT NULL,
    scope TEXT NOT NULL,
    capacity INTEGER NOT NULL,
    use INTEGER,
    PRIMARY KEY (resource, work_id)
) WITHOUT ROWID;
CREATE INDEX claims_by_owner ON claims (work_id);
CREATE TABLE waiters (
    id INTEGER PRIMARY KEY,
    resource TEXT NOT NULL,
    work_id TEXT NOT NULL,
    since REAL NOT NULL,
    called_at REAL,
    capacity INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    ticket_at REAL,
    is_timed INTEGER NOT NULL,
    UNIQUE (resource, work_id)
);
CREATE INDEX waiters_by_resource ON waiters (resource, id);
CREATE TABLE resource_limits (
    resource TEXT PRIMARY KEY,
    capacity INTEGER,
    rate_count INTEGER,
    rate_seconds REAL,
    closed_until REAL,
    closed_by TEXT NOT NULL,
    paced_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX waiters_by_work ON waiters (work_id);

-- Accounts: what families (root) and namespaces in a day (day; else -1) have used up, by name;
-- what operators allow them; and up to which position each work item was charged.
CREATE TABLE accounts (
    namespace TEXT NOT NULL, root TEXT NOT NULL, day INTEGER NOT NULL, name TEXT NOT NULL,
    spent REAL NOT NULL,
    PRIMARY KEY (namespace, root, day, name)
) WITHOUT ROWID;
CREATE INDEX accounts_by_root ON accounts (root);
CREATE TABLE account_limits (
    namespace TEXT NOT NULL, root TEXT NOT NULL, day INTEGER NOT NULL, limits TEXT NOT NULL,
    rank REAL NOT NULL,
    PRIMARY KEY (namespace, root, day)
) WITHOUT ROWID;
CREATE TABLE charged (work_id TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
"""
# Entries whose bodies stay, whoever prunes. Made in files of before, too, where nothing is in it yet.
_KEPT = """
CREATE TABLE IF NOT EXISTS kept (
    work_id TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (work_id, position)
) WITHOUT ROWID;
"""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise into Roost's errors, naming the place."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error
    except OSError as error:
        raise translate_os(error, path) from error


def translate(error: sqlite3.Error, path: Path) -> StorageError:
    """The error of Roost that an error of SQLite stands for.

    The names are those of SQLite's "Result and Error Codes".
    """
    code = getattr(error, "sqlite_errorname", "") or ""
    text = f"{path}: {error}"
    if code.startswith("SQLITE_FULL") or (code.startswith("SQLITE_IOERR") and _is_full(path)):
        return StorageFull(text, hint="The disk is full; free some room. What was acknowledged is kept.")
    if code.startswith(("SQLITE_READONLY", "SQLITE_PERM")):
        return StorageReadOnly(text, hint="Make the directory writable, or set ROOST_HOME to one that is.")
    if code.startswith("SQLITE_CANTOPEN"):
        return StorageReadOnly(text, hint="Check that the directory exists and is yours, or set ROOST_HOME.")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StorageUnavailable(text, hint="Another program holds the file; try again.")
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StorageCorrupt(text, hint=f"`roost doctor` checks {path}; restore it from a backup.")
    if text.rpartition(": ")[0].endswith(("no such column", "no such table")):
        hint = "Another Roost made this file, maybe one that was never released. Give ROOST_HOME a new place."
        return StorageError(text, hint=hint)
    return StorageUnavailable(text, hint="`roost doctor` checks the storage.")


def _is_full(path: Path) -> bool:
    """Whether there is no room beside a file: SQLite says so of its data only, not of what it shares."""
    try:
        return shutil.disk_usage(path.parent).free < FULL_BYTES
    except OSError:
        return False


def translate_os(error: OSError, path: Path) -> StorageError:
    """The error of Roost that an error of the file system stands for."""
    text = f"{error.filename or path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(text, hint="The disk is full; free some room. What was acknowledged is kept.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return StorageReadOnly(text, hint="ROOST_HOME must name a directory, with Roost's own files in it.")
    if error.errno == errno.ELOOP:
        return StorageReadOnly(
            text, hint="It is a symbolic link; Roost writes through none. Name its target."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StorageReadOnly(text, hint="Make the directory writable, or set ROOST_HOME to one that is.")
    return StorageUnavailable(text, hint="`roost doctor` checks the storage.")


def connect(path: Path, *, is_reader: bool) -> sqlite3.Connection:
    """A connection with Roost's settings; the file must exist."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=READ_BUSY_SECONDS if is_reader else BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        _configure(connection, is_reader)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, is_reader: bool) -> None:
    # Only FULL survives a power cut in WAL mode (SQLite documentation, "PRAGMA synchronous").
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KB}")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages: 16 MiB between two checkpoints
    # A long read of another program keeps the log from being begun anew, and it grows; not for ever.
    connection.execute(f"PRAGMA journal_size_limit = {LOG_MAX_BYTES}")
    if is_reader:
        connection.execute("PRAGMA query_only = ON")


def create(path: Path) -> None:
    """Make the file with its tables, or check the one that stands; the caller holds the lock.

    Raises:
        SchemaTooNew: a newer Roost made it.
    """
    _make_file(path)
    connection = connect(path, is_reader=False)
    try:
        is_made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
        if is_made:
            check_version(connection, path)  # before anything is changed
        connection.execute("PRAGMA journal_mode = WAL")
        if not is_made:
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        connection.execute(_KEPT)
    finally:
        connection.close()


def make_home(directory: Path) -> None:
    """Make the directory of a store, unless it is there; its name survives a power cut then.

    SQLite itself syncs the directory of its files, but not the names above it.
    """
    made = {one for one in (directory, *directory.parents) if not one.exists()}
    if not (directory / FILE_NAME).exists():
        made.add(directory)  # perhaps by one who was killed before it came to this
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in made:
        with suppress(PermissionError):  # not ours to read
            sync_directory(one.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    if os.name == "nt":
        return  # Windows can't open a directory
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_file(path: Path) -> None:
    """Make an empty file that its owner alone can read, unless there is one; it is never opened then.

    To close a file that this process has open elsewhere gives up all of its locks on it, and
    another process takes itself for the last user of the store and removes the log that is in
    use here (SQLite documentation, "How To Corrupt An SQLite Database File", 2.2).
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


class SameFile:
    """Whether a path still leads to the file that was opened there.

    Who moves the directory away, or puts a backup in its place, leaves a running process with a
    file that nobody else has: what it acknowledges would be lost. SQLite asks the same before it
    writes, but not in WAL mode (SQLite documentation, "Result and Error Codes", SQLITE_READONLY_DBMOVED).
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._number = os.stat(path).st_ino

    def check(self) -> None:
        """Look.

        Raises:
            StorageUnavailable: there is another file, or none.
        """
        with suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == self._number:
                return
        raise StorageUnavailable(
            f"{self._path} is not the file that was opened there: it was moved, deleted or replaced",
            hint="Put it back, or start this process again.",
        )


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that a newer Roost made.

    Raises:
        SchemaTooNew: it is newer; the message names both versions.
    """
    row = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    version = int(row[0]) if row else 0
    if version > VERSION:
        raise SchemaTooNew(
            f"{path} has schema version {version}; this Roost knows up to {VERSION}", hint="Upgrade Roost."
        )
