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
import tempfile
from contextlib import suppress
from pathlib import Path

POLL_SECONDS = 0.5  # for processes that can't be reached: other containers, no Unix sockets
_PATH_MAX_BYTES = 90  # unix(7): a socket's path has at most 108 bytes, 104 on macOS
_HAS_SOCKETS = hasattr(socket, "AF_UNIX")


def wake_directory(home: Path) -> Path:
    """Where the sockets of all processes on `home` are; short enough for a socket's path."""
    directory = home / "wake"
    if len(os.fsencode(directory)) <= _PATH_MAX_BYTES - 25:
        return directory
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"roost-{os.getuid()}-{name}"


class Doorbell:
    """Rings in every process that works on the same home."""

    def __init__(self, home: Path) -> None:
        self._directory = wake_directory(home)
        self._event = asyncio.Event()
        self._sender: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._path: Path | None = None

    def next_ring(self) -> asyncio.Event:
        """Set at the next ring; get it before looking, so that no ring is missed."""
        return self._event

    def listen(self) -> None:
        """Hear rings of other processes from now on; idempotent."""
        if self._listener is not None or not _HAS_SOCKETS:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._directory.stat().st_uid != os.getuid():
            return  # somebody else made it; the poll must do
        path = self._directory / f"{os.getpid()}-{id(self) % 0xFFFF:x}"
        with suppress(FileNotFoundError):
            path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.setblocking(False)
        listener.bind(str(path))
        asyncio.get_running_loop().add_reader(listener.fileno(), self._heard)
        self._listener, self._path = listener, path

    def _heard(self) -> None:
        assert self._listener is not None
        with suppress(BlockingIOError):
            while True:
                self._listener.recv(16)
        self._ring_here()

    def _ring_here(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait, here and elsewhere; never blocks, never fails."""
        self._ring_here()
        if not _HAS_SOCKETS:
            return
        try:
            names = os.listdir(self._directory)
        except OSError:
            return  # nobody has ever listened
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
        for name in names:
            path = self._directory / name
            if path != self._path:
                self._send(path)

    def _send(self, path: Path) -> None:
        assert self._sender is not None
        try:
            self._sender.sendto(b"!", str(path))
        except ConnectionRefusedError:  # its process is gone
            with suppress(OSError):
                path.unlink()
        except OSError:
            pass  # its buffer is full: it is awake already

    async def wait(self, ring: asyncio.Event, seconds: float) -> None:
        """Wait for `ring`, at most `seconds` and at most until the next poll."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(seconds, POLL_SECONDS))):
                await ring.wait()

    def close(self) -> None:
        """Stop listening; idempotent."""
        if self._listener is not None:
            with suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
            if self._path is not None:
                with suppress(OSError):
                    self._path.unlink()
        if self._sender is not None:
            self._sender.close()
            self._sender = None
