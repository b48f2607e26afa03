"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import time
from heapq import heappop, heappush
from itertools import count

from roost.testing.virtual_time import START_AT


class ManualClock:
    """A `Clock` that is moved by `advance`; sleepers wake as it passes their instant.

    For code that waits for real things as well (files, threads), where no virtual loop
    can be had. `run` lets it go on by itself, with the real time.

    Args:
        start_at: what the wall clock shows at first.
    """

    def __init__(self, start_at: float = START_AT) -> None:
        self._start_at = start_at
        self._passed_seconds = 0.0
        self._running_since: float | None = None
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = count()

    def now(self) -> float:
        return self._start_at + self.monotonic()

    def monotonic(self) -> float:
        if self._running_since is None:
            return self._passed_seconds
        return self._passed_seconds + time.monotonic() - self._running_since

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._passed_seconds + seconds, next(self._count), woken))
        if seconds <= 0:
            self.advance(0)
        await woken

    def advance(self, seconds: float) -> None:
        """Move on, and wake who slept until then, in the order of their instants."""
        self._passed_seconds += seconds
        while self._sleepers and self._sleepers[0][0] <= self._passed_seconds:
            _, _, woken = heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    def run(self) -> None:
        """Go on with the real time from here; who sleeps is woken by `advance` alone."""
        if self._running_since is None:
            self._running_since = time.monotonic()
