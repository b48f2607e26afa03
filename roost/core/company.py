"""Who runs beside whom in one worker process.

A step that takes its process with it takes all that runs beside it, and nothing says whose
doing it was. So work whose workers ended without a word again and again runs with less and
less company (`journal.decide.most_together`), in the end alone: then it was its own doing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from math import inf


class Place(Enum):
    """What becomes of who asks to run here."""

    INSIDE = auto()
    NEXT = auto()
    """There is too much company: nobody else comes in before it does."""
    FULL = auto()
    """Another worker may have room."""


class Company:
    """Those who run in a worker, and at most one who waits until they are few enough.

    Args:
        lanes: how many run at once where nobody minds.
        changed: is called when more may come in than before.
    """

    def __init__(self, lanes: int, changed: Callable[[], None] = lambda: None) -> None:
        self.lanes = lanes
        self._changed = changed
        self._inside: set[object] = set()
        self._most: dict[object, int] = {}  # of those inside who mind: how many may be, with them
        self._next: object | None = None
        self._next_most = 0
        self._has_room = asyncio.Event()
        self._is_closed = False

    @property
    def may_run(self) -> int:
        """How many the worker may have in hand now; 0: somebody waits for its company to go."""
        return 0 if self._next is not None else int(min(self.lanes, self._limit()))

    def ask(self, guest: object, most: int | None) -> Place:
        """Come in, if those inside and the guest can stand each other; else wait, if nobody else does.

        Args:
            most: how many may run here at once, the guest among them; None: it minds nobody.
        """
        self._inside.discard(guest)
        self._most.pop(guest, None)
        if self._next is None or self._next is guest:
            if self._fits(inf if most is None else most):
                self._come_in(guest, most)
                return Place.INSIDE
            if most is not None and not self._is_closed:
                self._next, self._next_most = guest, most
                self._has_room.clear()
                return Place.NEXT
        return Place.FULL

    async def wait(self, seconds: float) -> bool:
        """As the one that waits: until there may be room, at most so long; False: it is in vain."""
        try:
            async with asyncio.timeout(seconds):
                await self._has_room.wait()
        except TimeoutError:
            pass
        return not self._is_closed

    def moved_on(self, guest: object) -> None:
        """What made it mind its company is past: its step was committed."""
        if self._most.pop(guest, None) is not None:
            self._tell()

    def leave(self, guest: object) -> None:
        """It has ended, here at least."""
        self._inside.discard(guest)
        self._most.pop(guest, None)
        if self._next is guest:
            self._next = None
        self._tell()

    def close(self) -> None:
        """Nobody waits any more: the worker is to stop."""
        self._is_closed = True
        self._has_room.set()

    def _come_in(self, guest: object, most: int | None) -> None:
        self._inside.add(guest)
        if most is not None:
            self._most[guest] = most
        if self._next is guest:
            self._next = None
            self._tell()

    def _limit(self) -> float:
        return min(self._most.values()) if self._most else inf

    def _fits(self, most: float) -> bool:
        return len(self._inside) < min(most, self._limit())

    def _tell(self) -> None:
        self._changed()
        if self._next is not None and self._fits(self._next_most):
            self._has_room.set()
