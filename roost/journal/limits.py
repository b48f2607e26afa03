"""What limits a resource, whoever asks for it, and how operators and steps change that. Pure."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from roost.errors import InputError

CAPACITY_MAX = 1000  # owners of one resource; a backend may keep them all in one item
FOREVER_AT = 253402300799.0  # the end of the year 9999, and of the calendar: closed until somebody opens it
PERIOD_MAX = 366 * 86400.0  # seconds; beyond it a rate is a mistake
RATE_MAX = 1_000_000  # starts in a period


class Rate(Struct, frozen=True):
    """At most `count` starts at once, and as many in each period after that."""

    count: int
    period_seconds: float

    @property
    def spacing_seconds(self) -> float:
        """Between two starts of a long row."""
        return self.period_seconds / self.count


class Limits(Struct, frozen=True):
    """What holds for a resource, whoever asks for it; None: nothing set.

    Attributes:
        capacity: how many owners it may have.
        rate: how often a step may start with it.
        closed_until: nobody may start with it before this instant.
        closed_by: the work item or person that closed it.
    """

    capacity: int | None = None
    rate: Rate | None = None
    closed_until: float | None = None
    closed_by: str = ""

    @property
    def are_set(self) -> bool:
        """Whether there is anything to keep of them."""
        return self != Limits()


class SetCapacity(Struct, frozen=True):
    """How many owners a resource may have; None: as many as they themselves say."""

    capacity: int | None


class SetRate(Struct, frozen=True):
    """How often a step may start with a resource; None: as often as one likes."""

    rate: Rate | None


class Close(Struct, frozen=True):
    """Nobody may start with a resource before an instant; the latest of several stands."""

    until: float
    by: str = ""


class Open(Struct, frozen=True):
    """A resource is not closed any more."""


Change = SetCapacity | SetRate | Close | Open


def check_change(change: Change) -> None:
    """Whether it can be taken.

    Raises:
        InputError: a number is out of its bounds.
    """
    match change:
        case SetCapacity(capacity) if capacity is not None and not 1 <= capacity <= CAPACITY_MAX:
            raise InputError(
                f"a capacity of {capacity} is not within 1 and {CAPACITY_MAX}",
                hint="To let nobody have it, close it.",
            )
        case SetRate(Rate(count, seconds)) if not (0 < count <= RATE_MAX and 0 < seconds <= PERIOD_MAX):
            raise InputError(
                f"{count} starts in {seconds} s are no rate",
                hint=f"Give 1 to {RATE_MAX} starts in a period of up to {PERIOD_MAX:.0f} s.",
            )
        case Close(until) if not 0 < until <= FOREVER_AT:
            raise InputError("the instant until which it is closed is out of bounds")


def changed(limits: Limits, change: Change) -> Limits:
    """The limits after a change."""
    match change:
        case SetCapacity(capacity):
            return replace(limits, capacity=capacity)
        case SetRate(rate):
            return replace(limits, rate=rate)
        case Close(until, by) if until > (limits.closed_until or 0.0):
            return replace(limits, closed_until=until, closed_by=by)
        case Close():
            return limits
        case Open():
            return replace(limits, closed_until=None, closed_by="")


def voids_turns(change: Change) -> bool:
    """Whether turns and tickets that were given out under the old limits are void."""
    return isinstance(change, SetRate | Open)
