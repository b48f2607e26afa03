"""Whether a loop still goes round: what `roost worker --health-port` asks."""

from __future__ import annotations

from msgspec import Struct

from roost.clock import Clock


class Pulse:
    """Knows when a loop was last seen going round.

    Args:
        name: of the loop, for people.
        silence_max_seconds: after so long without a beat it counts as stuck.
    """

    def __init__(self, clock: Clock, name: str, silence_max_seconds: float) -> None:
        self.name = name
        self.silence_max_seconds = silence_max_seconds
        self._clock = clock
        self._last: float | None = None  # monotonic; None: nothing is expected

    def beat(self) -> None:
        """The loop goes round now, and is to do so again."""
        self._last = self._clock.monotonic()

    def rest(self) -> None:
        """The loop waits for something of its own, or has ended; nothing is expected until the next beat."""
        self._last = None

    @property
    def is_stuck(self) -> bool:
        """Whether it has been silent for too long."""
        return self._last is not None and self._clock.monotonic() - self._last > self.silence_max_seconds


class Health(Struct, frozen=True):
    """What a worker says of itself.

    Attributes:
        is_live: its loops go round; if not, only a restart helps.
        is_ready: it takes work now: storage answers, and it is not draining.
        why: what is wrong, for people; empty where nothing is.
    """

    is_live: bool
    is_ready: bool
    why: str = ""
