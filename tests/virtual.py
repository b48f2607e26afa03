"""Tests whose whole body runs in virtual time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from roost.testing.virtual_time import run


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test as pytest calls it, with the same fixtures."""

    def call(**fixtures: Any) -> None:
        run(lambda: test(**fixtures))

    call.__name__, call.__doc__ = test.__name__, test.__doc__
    call.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return call
