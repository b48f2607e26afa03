"""Time, ids and randomness: the one seam through which they enter Roost.

Everything else takes a `Clock` and an `Ids`, so that the whole runtime also runs in
a deterministic simulation. A linter bans the usual calls elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from typing import Protocol


def secret() -> str:
    """43 characters that nobody can guess; for tokens, which no simulation needs to repeat."""
    return secrets.token_urlsafe(32)


def thread_cpu() -> float:
    """CPU seconds that this thread has used; no simulation has them."""
    return time.thread_time()


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """The wall clock: UTC epoch seconds. May jump; safety never rests on it."""

    def monotonic(self) -> float:
        """Seconds that only go forward; for durations within this process."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of this clock's time."""


class Ids(Protocol):
    """Where ids and randomness come from."""

    def work_id(self) -> str:
        """A new work id that sorts by time of creation."""

    def unique(self) -> str:
        """A short id that no other process ever makes."""

    def uniform(self, low: float, high: float) -> float:
        """A random number between `low` and `high`."""


class SystemClock:
    """The clock of this machine.

    Args:
        offset_seconds: added to the wall clock; only tests use it.
    """

    def __init__(self, offset_seconds: float = 0.0) -> None:
        self._offset_seconds = offset_seconds

    def now(self) -> float:
        return time.time() + self._offset_seconds

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_TIME_DIGITS = 9  # 45 bits of milliseconds reach the year 3084
_RANDOM_DIGITS = 13  # 65 bits


_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


def _base32(number: int, digits: int) -> str:
    """The last `digits` digits of a number, two of them at a time."""
    out = [_PAIRS[number >> shift & 1023] for shift in range(5 * (digits - digits % 2) - 10, -1, -10)]
    if digits % 2:
        out.insert(0, _ALPHABET[number >> 5 * (digits - 1) & 31])
    return "".join(out)


_pid = os.getpid()  # to ask the system at each id took a third of the time of making one


def _know_pid() -> None:
    global _pid
    _pid = os.getpid()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_know_pid)


class SystemIds:
    """Ids from the system's randomness.

    A work id is 22 characters: nine of time in milliseconds, thirteen that are random
    at the first id of a millisecond and counted up after it, so ids of one process
    sort in the order they were made.
    """

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._prefix = _base32(self._random.getrandbits(60), 12)
        self._count = 0
        self._pid = self._prefix_pid = _pid
        self._time_ms = 0
        self._tail = 0
        self._stem = ""  # of the last id: all but its last two digits

    def work_id(self) -> str:
        time_ms = int(time.time() * 1000)
        self._tail += 1
        if time_ms > self._time_ms or self._pid != _pid:
            self._pid = _pid
            self._time_ms = max(time_ms, self._time_ms)
            self._tail = self._random.getrandbits(62)  # leaves room to count up
            self._stem = self._make_stem()
        elif self._tail & 1023 == 0:
            self._stem = self._make_stem()
        return self._stem + _PAIRS[self._tail & 1023]

    def _make_stem(self) -> str:
        return _base32(self._time_ms, _TIME_DIGITS) + _base32(self._tail >> 10, _RANDOM_DIGITS - 2)

    def unique(self) -> str:
        self._count += 1
        if self._prefix_pid != _pid:  # forked: two writers of one id would both have won
            self._prefix, self._prefix_pid = _base32(self._random.getrandbits(60), 12), _pid
        return f"{self._prefix}{self._count}"

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)
