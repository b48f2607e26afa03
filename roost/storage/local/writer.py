"""One writing connection per process, in a thread of its own, with group commit.

Whatever is asked for while a commit is under way goes into the next one together, so
many lanes share one sync to the disk. A lock file makes writers of several processes
take turns: SQLite's own waiting sleeps and is unfair.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from msgspec import Struct

from roost.errors import StorageUnavailable
from roost.storage.local import schema, together
from roost.storage.local.lock import TurnLock
from roost.storage.local.many import TOGETHER_MAX
from roost.storage.local.together import Plain

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
"""Runs inside the transaction of its batch. It may run twice (what the first run wrote is
undone), so its only effects are on the connection and on what it returns."""


BATCH_MAX = 512
LOOK_COUNT = 128  # so many operations are worth a turn, also while the event loop has more to do

# What is wrong with one operation, not with the file; anything else of SQLite fails the batch.
_OWN_FAULTS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)


class _Task(Struct):
    operation: Operation[Any]
    plain: Plain[Any] | None
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
    into one transaction, first all that are plain.

    Args:
        path: the SQLite file.
        lock: gives the writers of all processes their turns; closed with the writer.
        ring: called in the writer's thread after a commit that made messages visible.
        same: looked at in each turn.
    """

    def __init__(self, path: Path, lock: TurnLock, ring: Callable[[], None], same: schema.SameFile) -> None:
        self._path = path
        self._same = same
        self._connection: sqlite3.Connection | None = None
        self._lock = lock
        self._ring = ring
        self._asked: deque[_Task] = deque()
        self._looks: SimpleQueue[bool] = SimpleQueue()  # the thread looks at what is asked; False: and ends
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
        return self._submit(operation, None, makes_visible)

    def submit_plain(self, operation: Plain[T]) -> asyncio.Future[T]:
        """Like `submit`, for an operation that is done together with all others of its kind."""
        return self._submit(operation.alone, operation, makes_visible=False)

    def _submit(
        self, operation: Operation[T], plain: Plain[T] | None, makes_visible: bool
    ) -> asyncio.Future[T]:
        if self._is_closed or self._lock.is_closed:
            hint = "" if self._is_closed else "A process opens it after it was forked."
            raise StorageUnavailable(f"{self._path} is closed", hint=hint)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._asked.append(_Task(operation, plain, loop, future, makes_visible))
        waiting_count = len(self._asked)
        if plain is None or waiting_count == LOOK_COUNT:
            self._looks.put(True)
        elif waiting_count == 1:
            loop.call_soon(self._looks.put, True)  # behind all that is ready now, and may ask, too
        return future

    async def close(self) -> None:
        """Finish what was asked for, then let go of the file; idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._looks.put(False)
        await asyncio.to_thread(self._thread.join)
        if self._connection is not None:
            self._connection.close()
        self._lock.close()

    def _work(self) -> None:
        while self._looks.get():
            self._write_what_is_asked()
        self._write_what_is_asked()

    def _write_what_is_asked(self) -> None:
        """Commit a batch of all that is asked for; what comes meanwhile has a look of its own."""
        is_cut = True
        while is_cut and self._asked:
            batch = [self._asked.popleft()]
            self._run(batch, takes_more=True)
            _deliver(batch)
            is_cut = len(batch) == BATCH_MAX

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
                    takes_more = False
                self._commit(batch)
        except Exception as error:  # noqa: BLE001  it goes to whoever asked; the thread must live on
            if takes_more:  # no turn came; who asked after the first relies on the same look
                self._take_what_waits(batch)
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
        while self._asked and len(batch) < BATCH_MAX:
            batch.append(self._asked.popleft())

    def _commit(self, batch: list[_Task]) -> None:
        self._same.check()
        if self._connection is None:
            self._connection = _connect(self._path)
        db = self._connection
        plain = [task.plain for task in batch if task.plain is not None]
        rest = [task for task in batch if task.plain is None]
        is_one_statement = not rest and sum(len(operation.rows) for operation in plain) <= TOGETHER_MAX
        if is_one_statement:  # and so a transaction by itself
            rest = _write_together(db, batch)
            if not rest:
                return
        db.execute("BEGIN IMMEDIATE")
        if not is_one_statement:
            rest = [*_write_together(db, batch), *rest]
        for task in rest:
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


def _connect(path: Path) -> sqlite3.Connection:
    connection = schema.connect(path, is_reader=False)
    together.prepare(connection)
    return connection


def _write_together(db: sqlite3.Connection, batch: Sequence[_Task]) -> list[_Task]:
    """Do all that is plain in one statement; what of it has to be done by itself."""
    pairs = [(task, task.plain) for task in batch if task.plain is not None]
    are_done = together.write_together(db, [plain for _, plain in pairs])
    left = []
    for (task, plain), is_done in zip(pairs, are_done, strict=True):
        if is_done:
            task.result = plain.result
        else:
            left.append(task)
    return left


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
