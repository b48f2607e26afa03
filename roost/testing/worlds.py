"""Worlds of the crash laboratory on storage that is real: SQLite, and AWS on a stand-in.

Their clock stands still until it is moved, and who sleeps by it moves it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

from roost.clock import SystemClock, SystemIds
from roost.config import AwsSettings
from roost.core.workspaces import HostWorkspaces
from roost.storage.local import open_local
from roost.testing.safety import World
from roost.testing.standins import StandIn, start_ministack
from roost.testing.virtual_time import START_AT
from roost.workspace import Origin, Workspaces

OpenWorld = Callable[[], AbstractAsyncContextManager[World]]
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


@asynccontextmanager
async def local_world(origin: Origin = EMPTY) -> AsyncIterator[World]:
    """A world on SQLite and files, in a directory of its own.

    Args:
        origin: where workspaces come from; they are clones, so that it is not touched.
    """
    clock = LeapingClock()
    with tempfile.TemporaryDirectory(prefix="roost-lab-") as directory:
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
def pointed_at_a_standin() -> Iterator[StandIn]:
    """A stand-in for AWS that runs meanwhile, and the SDK of this process pointed at it.

    Raises:
        StandInFailed: none can be installed or started.
    """
    with (
        tempfile.TemporaryDirectory(prefix="roost-lab-") as directory,
        start_ministack(Path(directory)) as standin,
    ):
        before = dict(os.environ)
        os.environ.update(standin.environ)
        try:
            yield standin
        finally:
            os.environ.clear()
            os.environ.update(before)
