"""One writing connection per process, in a thread of its own, with group commit.

Whatever is asked for while a commit is under way goes into the next one together, so
many lanes share one sync to the disk. A lock file makes writers of several processes
take turns: SQLite's own waiting sleeps and is unfair.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from roost.errors import RoostError, StorageError, StorageUnavailable
from roost.storage.local import schema
from roost.storage.local.lock import TurnLock

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
"""Runs inside the transaction of its batch; it must raise before it writes, or not at all."""

BATCH_MAX = 512


@dataclass(slots=True)
class _Task:
    operation: Operation[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    def resolve(self) -> None:
        if self.future.cancelled():
            return  # who waited went away; what was written stays written
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Runs operations in transactions, in the order in which they were given.

    Args:
        path: the SQLite file.
        lock: gives the writers of all processes their turns; closed with the writer.
    """

    def __init__(self, path: Path, lock: TurnLock) -> None:
        self._path = path
        self._connection = schema.connect(path, is_reader=False)
        self._lock = lock
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="roost-writer", daemon=True)
        self._is_closed = False

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Ask for an operation; the future is done once its transaction is durable.

        Raises:
            StorageUnavailable: the writer is closed.
        """
        if self._is_closed:
            raise StorageUnavailable(f"{self._path} is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Task(operation, loop, future))
        return future

    async def close(self) -> None:
        """Finish what was asked for, then let go of the file; idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()
        self._lock.close()

    def _work(self) -> None:
        is_open = True
        while is_open:
            task = self._queue.get()
            batch: list[_Task] = []
            while task is not None:
                batch.append(task)
                if len(batch) >= BATCH_MAX:
                    break
                try:
                    task = self._queue.get_nowait()
                except Empty:
                    break
            is_open = task is not None
            if batch:
                self._commit(batch)
                _deliver(batch)

    def _commit(self, batch: list[_Task]) -> None:
        """Run a batch in one transaction; on an error of the file all of it is undone."""
        try:
            with self._lock.turn():
                self._connection.execute("BEGIN IMMEDIATE")
                for task in batch:
                    try:
                        task.result = task.operation(self._connection)
                    except RoostError as error:
                        task.error = error
                self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._undo(batch, error)

    def _undo(self, batch: list[_Task], error: sqlite3.Error | OSError) -> None:
        failure: StorageError
        if isinstance(error, OSError):
            failure = schema.translate_os(error, self._path)
        else:
            failure = schema.translate(error, self._path)
        for task in batch:
            task.error = failure
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                # SQLite has rolled back by itself; a new connection forgets the rest.
                self._connection.close()
                self._connection = schema.connect(self._path, is_reader=False)


def _deliver(batch: list[_Task]) -> None:
    """Wake every event loop once with all of its results."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Task]] = {}
    for task in batch:
        by_loop.setdefault(task.loop, []).append(task)
    for loop, tasks in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, tasks)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _resolve(tasks: list[_Task]) -> None:
    for task in tasks:
        task.resolve()
