"""What a backend author gives the suite: how to open the backend, and how it differs."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from roost.clock import Clock
from roost.journal.control import apply
from roost.journal.entries import Body, Encoding, Entry
from roost.journal.events import Enqueued, Event
from roost.storage.ports import Backend
from roost.testing.clock import ManualClock
from roost.testing.virtual_time import START_AT

T = TypeVar("T")

DEADLINE_SECONDS = 20.0  # of real time, for what has to happen at all
AT = START_AT  # an instant, where any will do


class BackendHarness(ABC):
    """Opens a backend for tests, and passes the time that its queue goes by.

    Attributes:
        clock: the time that the queue goes by.
        time_step_seconds: tests wait for small multiples of it; 1 where the clock is a
            manual one, the resolution of the queue where time is real.
        shortest_delay_seconds: the shortest delay of a message that is kept to; tests
            wait for it in real time.
        is_fifo: a lane gives its messages in the order in which they became visible.
        detects_stale_receipts: an old receipt does nothing. A queue without it (Amazon SQS:
            "DeleteMessage", a standard queue may accept an older receipt) can only promise
            that using one is no error.
        feed_is_global: the feed is in the order of all appends; else only within each journal.
        backlog_is_exact: `backlog` counts; else it is a guess.
    """

    clock: Clock
    time_step_seconds: float = 1.0
    shortest_delay_seconds: float = 0.02
    is_fifo: bool = True
    detects_stale_receipts: bool = True
    feed_is_global: bool = True
    backlog_is_exact: bool = True

    def __init__(self) -> None:
        self._opened: list[Backend] = []

    @abstractmethod
    async def open(self) -> Backend:
        """A backend on storage that is new and empty; each call has storage of its own."""

    @abstractmethod
    async def reopen(self) -> Backend:
        """A second backend on the storage of the last `open`: what another process sees."""

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Let so much time of the queue pass."""

    @abstractmethod
    async def damage(self, digest: str) -> None:
        """Flip a bit of a stored blob, behind the back of the port."""

    def run_clock(self) -> None:  # noqa: B027  there may be nothing to do
        """Let `clock` go on with the real time from here; nothing to do where it does."""

    async def settle(self) -> None:  # noqa: B027  there may be nothing to do
        """Wait until lists, due rows, counts and the feed show all that was written."""

    def keep(self, backend: Backend) -> Backend:
        """Remember a backend, to be closed at the end of the test."""
        self._opened.append(backend)
        return backend

    async def close(self) -> None:
        """Close all that was opened."""
        while self._opened:
            await self._opened.pop().close()


class ManualHarness(BackendHarness):
    """A harness of a backend that takes a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.manual_clock: ManualClock = ManualClock()
        self.clock: Clock = self.manual_clock

    async def advance(self, seconds: float) -> None:
        self.manual_clock.advance(seconds)

    def run_clock(self) -> None:
        self.manual_clock.run()


@pytest.mark.asyncio
class Contract:
    """Gives tests a `backend`, new and empty. The binding module has the fixture `harness`."""

    @pytest_asyncio.fixture
    async def backend(self, harness: BackendHarness) -> AsyncIterator[Backend]:
        try:
            yield await harness.open()
        finally:
            await harness.close()


async def soon(awaitable: Awaitable[T]) -> T:
    """What has to happen within `DEADLINE_SECONDS`.

    Raises:
        TimeoutError: it did not.
    """
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await awaitable


def first(
    work_id: str, *, at: float = AT, by: str = "client", body: bytes = b'{"n":1}', **fields: Any
) -> Entry:
    """The entry at position 0 of a new journal; `fields` are those of `Enqueued`."""
    event = Enqueued(**{"engine": "demo", **fields})
    control = apply(None, event, position=0, at=at)
    return Entry(work_id, 0, f"{by}/{work_id}/0", at, by, event, control, Body(Encoding.JSON, body))


def follow(
    entry: Entry, event: Event, *, by: str = "worker", at: float | None = None, body: Body | None = None
) -> Entry:
    """The entry with `event` after `entry`."""
    position, at = entry.position + 1, entry.at + 1 if at is None else at
    control = apply(entry.control, event, position=position, at=at)
    return Entry(entry.work_id, position, f"{by}/{entry.work_id}/{position}", at, by, event, control, body)


async def append_all(backend: Backend, entries: Sequence[Entry]) -> None:
    """Append entries one after the other, and see that each one won."""
    for entry in entries:
        assert await backend.journal.append(entry) == entry
