"""How much CPU the code of steps uses.

An asynchronous step runs in pieces, between which others run in the same thread. So the thread's
CPU time is read where the engine's code is entered and left, and where it stops and goes on: a
session is run by `driven`, which sees each stop. What a step has tasks, processes or threads of its
own do is not seen from there; of a plain function, which runs in a thread, all is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Meter:
    """CPU that the steps of one lease used.

    It is told in whole milliseconds. What is less stays for the next that is told, so that sums
    are right, and the entries of steps that use next to nothing grow by nothing.

    Args:
        read: CPU seconds of the thread that asks.

    Attributes:
        began: what it read where the piece that runs began; None: no engine's code is entered.
    """

    __slots__ = ("began", "read", "seconds")

    def __init__(self, read: Callable[[], float]) -> None:
        self.read = read
        self.seconds = 0.0
        self.began: float | None = None

    def take_ms(self) -> int:
        """Whole milliseconds that were not told yet."""
        if self.seconds < 0.001:
            return 0
        whole = int(self.seconds * 1000)
        self.seconds -= whole / 1000
        return whole

    def leave(self) -> None:
        """An engine's code, entered at `began`, gave or raised something."""
        assert self.began is not None
        self.seconds += self.read() - self.began
        self.began = None

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a plain function, in whichever thread this is."""
        began = self.read()
        try:
            return function(*args)
        finally:
            self.seconds += self.read() - began


def driven(coroutine: Coroutine[Any, Any, T], meter: Meter | None) -> Awaitable[T]:
    """A coroutine whose stops a meter sees, to be awaited in its place."""
    return coroutine if meter is None else _Driven(coroutine, meter)


class _Driven(Generator[Any, Any, T]):
    """What `await` runs in place of a coroutine."""

    __slots__ = ("_coroutine", "_meter")

    def __init__(self, coroutine: Coroutine[Any, Any, T], meter: Meter) -> None:
        self._coroutine = coroutine
        self._meter = meter

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def __next__(self) -> Any:
        meter = self._meter
        if meter.began is not None:
            meter.began = meter.read()
        try:
            return self._coroutine.send(None)
        finally:
            if meter.began is not None:
                meter.seconds += meter.read() - meter.began

    def send(self, value: Any) -> Any:
        return self._go_on(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        return self._go_on(self._coroutine.throw, *error)

    def _go_on(self, how: Callable[..., Any], *args: Any) -> Any:
        meter = self._meter
        if meter.began is not None:
            meter.began = meter.read()
        try:
            return how(*args)
        finally:
            if meter.began is not None:
                meter.seconds += meter.read() - meter.began

    def close(self) -> None:
        self._coroutine.close()
