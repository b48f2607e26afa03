"""The doorbell: wakes who waits for a delivery, in this process and in others.

Each process that waits listens on a datagram socket of its own in a directory that only
this user can enter. A datagram says nothing but "look"; losing one costs at most the
fallback poll.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from roost.clock import SystemIds

POLL_SECONDS = 0.5  # for processes that can't be reached: other containers, no Unix sockets
_PATH_MAX_BYTES = 90  # unix(7): a socket's path has at most 108 bytes, 104 on macOS
_NAME_MAX_BYTES = 25
_HEARD_MAX = 64  # datagrams read at once; they all say the same
_HAS_SOCKETS = hasattr(socket, "AF_UNIX") and hasattr(os, "getuid")


def wake_directory(home: Path) -> Path:
    """Where the sockets of all processes on `home` are; short enough for a socket's path."""
    directory = home / "wake"
    if not _HAS_SOCKETS or len(os.fsencode(directory)) <= _PATH_MAX_BYTES - _NAME_MAX_BYTES:
        return directory
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"roost-{os.getuid()}-{name}"


class Doorbell:
    """Rings in every process that works on the same home."""

    def __init__(self, home: Path) -> None:
        self._directory = wake_directory(home)
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sender: socket.socket | None = None
        self._listener: socket.socket | None = None
        # Not the process id: two containers on one home can have the same.
        self._path = self._directory / SystemIds().unique()

    def next_ring(self) -> asyncio.Event:
        """Set at the next ring; get it before looking, so that no ring is missed."""
        return self._event

    def listen(self) -> None:
        """Hear rings from now on; idempotent. Where no socket can be, the poll must do."""
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        if _HAS_SOCKETS:
            with suppress(OSError, NotImplementedError):
                self._open_listener(self._loop)

    def _open_listener(self, loop: asyncio.AbstractEventLoop) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(self._directory):
            return
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listener.setblocking(False)
            listener.bind(str(self._path))
            loop.add_reader(listener.fileno(), self._heard)
        except (OSError, NotImplementedError):  # the loop has no readers, or the path is too long
            listener.close()
            raise
        self._listener = listener

    def _heard(self) -> None:
        assert self._listener is not None
        with suppress(BlockingIOError):
            for _ in range(_HEARD_MAX):
                self._listener.recv(16)
        self._ring_here()

    def _ring_here(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait, here and elsewhere; never blocks, never fails.

        Called by the writer's thread after a commit.
        """
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._ring_here)
        if _HAS_SOCKETS:
            with suppress(OSError):  # nobody has ever listened
                self._ring_elsewhere()

    def _ring_elsewhere(self) -> None:
        names = os.listdir(self._directory)
        if not names or not _is_private(self._directory):
            return
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
        for name in names:
            if name != self._path.name:
                self._send(self._directory / name)

    def _send(self, path: Path) -> None:
        assert self._sender is not None
        try:
            self._sender.sendto(b"!", str(path))
        except ConnectionRefusedError:  # its process is gone; or it is no socket: not ours to delete
            with suppress(OSError):
                if stat.S_ISSOCK(path.lstat().st_mode):
                    path.unlink()
        except OSError:
            pass  # its buffer is full: it is awake already

    async def wait(self, ring: asyncio.Event, seconds: float) -> None:
        """Wait for `ring`, at most `seconds` and at most until the next poll."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(seconds, POLL_SECONDS))):
                await ring.wait()

    def close(self) -> None:
        """Stop listening; idempotent. The writer's thread has ended before."""
        if self._listener is not None:
            with suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
            with suppress(OSError):
                self._path.unlink()
        if self._sender is not None:
            self._sender.close()
            self._sender = None


def _is_private(directory: Path) -> bool:
    """Whether this is a directory of this user (no link to one) that nobody else can write."""
    found = directory.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
