"""Worlds of the crash laboratory on storage that is real: SQLite, and AWS on a stand-in.

Their clock stands still until it is moved, and who sleeps by it moves it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path

from msgspec.structs import replace

from roost.clock import SystemClock, SystemIds
from roost.config import AwsSettings
from roost.core.workspaces import HostWorkspaces
from roost.storage.local import open_local
from roost.testing.safety import World
from roost.testing.standins import StandIn
from roost.testing.virtual_time import START_AT
from roost.workspace import Origin, Workspaces

OpenWorld = Callable[[], AbstractAsyncContextManager[World]]
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  each file is in a new directory of its own
EMPTY = Origin()  # a new repository without files


class LeapingClock:
    """A clock that leaps over every sleep.

    Args:
        leap: told of each; moves other clocks along.
    """

    def __init__(self, start_at: float = START_AT, leap: Callable[[float], None] | None = None) -> None:
        self._start_at = start_at
        self._passed_seconds = 0.0
        self._leap = leap

    def now(self) -> float:
        return self._start_at + self._passed_seconds

    def monotonic(self) -> float:
        return self._passed_seconds

    async def sleep(self, seconds: float) -> None:
        self._passed_seconds += max(0.0, seconds)
        if self._leap is not None and seconds > 0:
            self._leap(seconds)


def in_memory(needs_bytes: int = 1 << 30) -> str | None:
    """A directory for temporary files that are in memory, with room; None: the usual one.

    Nobody cuts the power in the laboratory, so nothing there need wait for a disk.
    """
    with suppress(OSError):
        if os.access(_SHARED_MEMORY, os.W_OK) and shutil.disk_usage(_SHARED_MEMORY).free >= needs_bytes:
            return _SHARED_MEMORY
    return None


@asynccontextmanager
async def local_world(origin: Origin = EMPTY, root: Path | None = None) -> AsyncIterator[World]:
    """A world on SQLite and files, in a directory of its own.

    Args:
        origin: where workspaces come from; they are clones, so that it is not touched.
        root: in which that directory is; None: that of temporary files.
    """
    clock = LeapingClock()
    with tempfile.TemporaryDirectory(prefix="roost-lab-", dir=root) as directory:
        backend = await open_local(Path(directory), clock=clock)
        here = Workspaces(Path(directory) / "workspaces", SystemClock())
        workspaces = HostWorkspaces(here, replace(origin, is_worktree=False), saves=True)
        try:
            yield World(backend, clock, SystemIds(), clock.sleep, workspaces=workspaces)
        finally:
            await backend.close()


@asynccontextmanager
async def aws_worlds(standin: StandIn) -> AsyncIterator[OpenWorld]:
    """Worlds on one stack of a stand-in; each has a work id of its own.

    The SDK of this process must be pointed at the stand-in (`pointed_at`).
    """
    from roost.storage.aws import open_aws
    from roost.storage.aws.admin import create_stack
    from roost.storage.aws.clients import Clients
    from roost.storage.aws.names import Names

    settings = AwsSettings(stack="lab", bucket="lab-blobs", shards=1)
    clients = Clients(8)
    try:
        await create_stack(clients, Names("lab", "lab-blobs", 1))
    finally:
        await clients.close()
    clock = LeapingClock(time.time(), standin.advance)
    backend = await open_aws(settings, clock=clock, connections=8)
    numbers = count(1)

    @asynccontextmanager
    async def open_world() -> AsyncIterator[World]:
        yield World(backend, clock, SystemIds(), clock.sleep, work_id=f"lab-{next(numbers)}")

    try:
        yield open_world
    finally:
        await backend.close()


@contextmanager
def pointed_at(standin: StandIn) -> Iterator[None]:
    """The SDK of this process pointed at a stand-in, meanwhile."""
    before = dict(os.environ)
    os.environ.update(standin.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
