"""When a search of the laboratory ends, by real time, whatever the tried work does meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class Monotonic(Protocol):
    """What is asked of a clock here."""

    def monotonic(self) -> float:
        """Seconds since some instant."""


class TimeIsUp(BaseException):
    """The run under way is cut here. Not an `Exception`: no engine handles it."""


class Deadline:
    """An instant by which all is over.

    Args:
        clock: a real one; that of the work that is tried stands still or leaps.
        seconds: from now.
    """

    def __init__(self, clock: Monotonic, seconds: float) -> None:
        self._clock = clock
        self._at = clock.monotonic() + seconds

    @property
    def left_seconds(self) -> float:
        """How long there is yet; not below 0."""
        return max(0.0, self._at - self._clock.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether nothing new may begin."""
        return self.left_seconds <= 0

    def share(self, part: float) -> Deadline:
        """An earlier one: that part (0 to 1) of the time that is left."""
        return Deadline(self._clock, self.left_seconds * part)

    def check(self) -> None:
        """Cut the run that asks, if the time is up.

        Raises:
            TimeIsUp: it is.
        """
        if self.is_over:
            raise TimeIsUp


@contextmanager
def at_the_latest(seconds: float, end: Callable[[], None]) -> Iterator[None]:
    """Call `end` from a thread unless the context closes within so many seconds.

    For what checks no deadline: a step that waits for something else, or never gives the
    loop back. `end` is to end the process.
    """
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def process_age_seconds() -> float:
    """How long this process has run, imports included; 0 where the system does not say (proc(5))."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began_at = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # `starttime`, the 22nd with the first two
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - began_at)
    except (OSError, AttributeError, ValueError, IndexError):
        return 0.0
