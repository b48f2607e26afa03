"""One answer for many who ask at once: what bounds the reads of any number of open tabs."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from roost.clock import Clock

T = TypeVar("T")

KEYS_MAX = 512


@dataclass(frozen=True, slots=True)
class _Kept:
    value: Any
    until: float


class Shared:
    """Keeps answers for a moment; of several who ask for the same, one asks the storage."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._asking: dict[Hashable, asyncio.Lock] = {}

    async def get(
        self, key: Hashable, ask: Callable[[], Awaitable[T]], *, for_seconds: float, cost_factor: float = 0.0
    ) -> T:
        """The answer under a key, asked for where it is not known or too old.

        Args:
            for_seconds: how long an answer is good.
            cost_factor: it is good for at least so many times as long as asking took.
        """
        lock = self._asking.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                kept = self._kept.get(key)
                if kept is not None and kept.until > self._clock.monotonic():
                    found: T = kept.value
                    return found
                return await self._ask(key, ask, for_seconds, cost_factor)
        finally:
            if not lock.locked():
                self._asking.pop(key, None)

    async def _ask(
        self, key: Hashable, ask: Callable[[], Awaitable[T]], for_seconds: float, cost_factor: float
    ) -> T:
        started = self._clock.monotonic()
        value = await ask()
        now = self._clock.monotonic()
        self._kept[key] = _Kept(value, now + max(for_seconds, cost_factor * (now - started)))
        self._kept.move_to_end(key)
        while len(self._kept) > KEYS_MAX:
            self._kept.popitem(last=False)
        return value

    def forget(self) -> None:
        """After a write of our own: the next who asks gets what is true then."""
        self._kept.clear()
