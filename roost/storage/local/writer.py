"""One writing connection per process, in a thread of its own, with group commit.

Whatever is asked for while a commit is under way goes into the next one together, so
many lanes share one sync to the disk. A lock file makes writers of several processes
take turns: SQLite's own waiting sleeps and is unfair.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from roost.errors import StorageUnavailable
from roost.storage.local import schema
from roost.storage.local.lock import TurnLock

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Operation = Callable[[sqlite3.Connection], T]
"""Runs inside the transaction of its batch. It may run twice (what the first run wrote is
undone), so its only effects are on the connection and on what it returns."""


class Alike(Protocol[T_co]):
    """Operations of which many can run together, at a lower cost than one by one."""

    def __call__(self, db: sqlite3.Connection, /) -> T_co:
        """Run this one."""

    def run_all(self, db: sqlite3.Connection, operations: Sequence[Any], /) -> Sequence[T_co]:
        """Run operations of this class, in order; this one is the first. Gives their results."""


BATCH_MAX = 512

# What is wrong with one operation, not with the file; anything else of SQLite fails the batch.
_OWN_FAULTS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)


@dataclass(slots=True)
class _Task:
    operation: Operation[Any]
    is_alike: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    makes_visible: bool
    result: Any = None
    error: Exception | None = None

    def resolve(self) -> None:
        if self.future.done():
            return  # who waited went away; what was written stays written
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Runs operations in transactions, in the order in which they were given; of those that go
    into one transaction, first all that are alike.

    Args:
        path: the SQLite file.
        lock: gives the writers of all processes their turns; closed with the writer.
        ring: called in the writer's thread after a commit that made messages visible.
    """

    def __init__(self, path: Path, lock: TurnLock, ring: Callable[[], None]) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = lock
        self._ring = ring
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="roost-writer", daemon=True)
        self._is_closed = False

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, operation: Operation[T], *, makes_visible: bool = False) -> asyncio.Future[T]:
        """Ask for an operation; the future is done once its transaction is durable.

        Args:
            makes_visible: whoever waits for a message should look after the commit.

        Raises:
            StorageUnavailable: the writer is closed.
        """
        return self._submit(operation, False, makes_visible)

    def submit_alike(self, operation: Alike[T]) -> asyncio.Future[T]:
        """Like `submit`, for an operation that runs together with its like in a batch."""
        return self._submit(operation, True, False)

    def _submit(self, operation: Operation[T], is_alike: bool, makes_visible: bool) -> asyncio.Future[T]:
        if self._is_closed:
            raise StorageUnavailable(f"{self._path} is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Task(operation, is_alike, loop, future, makes_visible))
        return future

    async def close(self) -> None:
        """Finish what was asked for, then let go of the file; idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        if self._connection is not None:
            self._connection.close()
        self._lock.close()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            batch = [task]
            self._run(batch, takes_more=True)
            _deliver(batch)

    def _run(self, batch: list[_Task], *, takes_more: bool = False) -> None:
        """Commit a batch, or leave each of its operations with its error and nothing written.

        If one operation is at fault, all are undone and run again, each by itself: that
        is rare, and costs the usual case nothing.

        Args:
            takes_more: what is asked for until its turn comes joins the batch.
        """
        try:
            with self._lock.turn():
                if takes_more:
                    self._take_what_waits(batch)
                self._commit(batch)
        except Exception as error:  # noqa: BLE001  it goes to whoever asked; the thread must live on
            self._roll_back()
            if len(batch) > 1 and not _is_of_the_file(error):
                for task in batch:
                    self._run([task])
                return
            for task in batch:
                task.error = self._translate(error)
        else:
            if any(task.makes_visible for task in batch):
                self._ring()

    def _take_what_waits(self, batch: list[_Task]) -> None:
        """Add to a batch what else was asked for."""
        with suppress(Empty):
            while len(batch) < BATCH_MAX:
                task = self._queue.get_nowait()
                if task is None:
                    self._queue.put(None)  # seen too early: the batch comes first
                    return
                batch.append(task)

    def _commit(self, batch: list[_Task]) -> None:
        if self._connection is None:
            self._connection = schema.connect(self._path, is_reader=False)
        db = self._connection
        alike = [task for task in batch if task.is_alike]
        db.execute("BEGIN IMMEDIATE")
        if alike:
            _execute_together(db, alike)
        for task in batch:
            if not task.is_alike:
                task.result = task.operation(db)
        db.execute("COMMIT")

    def _roll_back(self) -> None:
        db = self._connection
        if db is None or not db.in_transaction:
            return  # not begun, or SQLite has rolled back by itself
        try:
            db.execute("ROLLBACK")
        except sqlite3.Error:
            self._connection = None  # the next batch opens the file again
            with suppress(sqlite3.Error):
                db.close()

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.Error):
            return schema.translate(error, self._path)
        if isinstance(error, OSError):
            return schema.translate_os(error, self._path)
        return error


def _execute_together(db: sqlite3.Connection, tasks: Sequence[_Task]) -> None:
    first: Any = tasks[0].operation
    results = first.run_all(db, [task.operation for task in tasks]) if len(tasks) > 1 else [first(db)]
    for task, result in zip(tasks, results, strict=True):
        task.result = result


def _is_of_the_file(error: Exception) -> bool:
    """Whether every operation would meet this error, not only the one that raised it."""
    if isinstance(error, sqlite3.Error):
        return not isinstance(error, _OWN_FAULTS)
    return isinstance(error, OSError | StorageUnavailable)


def _deliver(batch: list[_Task]) -> None:
    """Wake every event loop once with all of its results."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Task]] = {}
    for task in batch:
        by_loop.setdefault(task.loop, []).append(task)
    for loop, tasks in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, tasks)


def _resolve(tasks: list[_Task]) -> None:
    for task in tasks:
        task.resolve()
