"""A lock file: processes take turns, and the system ends a turn whose process dies."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

from roost.clock import SystemClock
from roost.errors import StorageUnavailable

try:
    import fcntl
except ImportError:  # not on Windows; there SQLite's own busy handler waits
    fcntl = None  # type: ignore[assignment]  # checked where it is used

TURN_SECONDS = 30.0  # a process that is frozen in its turn must not freeze all others with it
_FIRST_PAUSE_SECONDS = 0.0001  # a turn is mostly one sync to the disk, 0.3 to 3 ms
_LONGEST_PAUSE_SECONDS = 0.0005
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag


class TurnLock:
    """An exclusive lock on a file, for the writers of all processes.

    Args:
        path: made if it is not there; its content means nothing.
        wait_seconds: how long to wait for a turn.

    Attributes:
        is_closed: it gives no more turns.
    """

    def __init__(self, path: Path, *, wait_seconds: float = TURN_SECONDS) -> None:
        self._path = path
        self._wait_seconds = wait_seconds
        self._clock = SystemClock()
        self._pause = threading.Event()  # never set: its `wait` is how a thread sleeps here
        self.is_closed = False
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | _NO_FOLLOW, 0o600)
        _open_locks.add(self)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for this process' turn.

        Raises:
            StorageUnavailable: it has not come in `wait_seconds`.
        """
        if fcntl is None:
            yield
            return
        self._take()
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _take(self) -> None:
        """Lock the file. A blocking flock can't be given up again, so this tries and sleeps."""
        if self._try():
            return
        end = self._clock.monotonic() + self._wait_seconds
        pause = _FIRST_PAUSE_SECONDS
        while not self._try():
            if self._clock.monotonic() >= end:
                raise StorageUnavailable(
                    f"{self._path}: another process has been writing for {self._wait_seconds:g} s",
                    hint=f"A process may be frozen in the middle of a write; `fuser {self._path}` names it.",
                )
            self._pause.wait(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go of the file; idempotent."""
        if not self.is_closed:
            self.is_closed = True
            os.close(self._descriptor)


_open_locks: WeakSet[TurnLock] = WeakSet()


def _let_go() -> None:
    """A child does not keep what its parent has open: flock(2) ends with the last copy of the
    descriptor, so a turn in which the parent is killed would go on for as long as the child lives."""
    for lock in list(_open_locks):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
