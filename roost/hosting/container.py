"""What lives as long as a Lambda container: one event loop, and one opened runtime on it.

Lambda freezes a container between two invocations and thaws it with its connections, some
of which are dead by then; the storage ports make a call again that met one.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Generic, Protocol, TypeVar

from roost.config import load_settings
from roost.core.observe import line_fields
from roost.wiring import Runtime, open_runtime

T = TypeVar("T")
Kept = TypeVar("Kept")

FLUSH_SECONDS = 0.5  # for OpenTelemetry at the end of an invocation; of what handlers keep back for it


class _LineFields(logging.Filter):
    """Gives each log line of a session its fields, whichever logger it comes from.

    Lambda's own runtime writes the lines, as JSON with all that a record has beside (awslambdaric,
    `lambda_runtime_log_utils.JsonFormatter`); it knows nothing of sessions.
    """

    def __init__(self) -> None:
        super().__init__()
        self._version = version("roost-runtime")

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in {**line_fields(), "roost_version": self._version}.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


LINE_FIELDS = _LineFields()


class LambdaContext(Protocol):
    """What is read of the context object that Lambda gives a handler."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """How long the invocation may go on, in milliseconds."""


class Container(Generic[Kept]):
    """Runs invocations one after the other, as Lambda does.

    Args:
        make: makes of the runtime what invocations work with, and what is kept between them.
        actor: written into entries that the runtime's client appends.
        has_engines: load those that `worker.engines` names.
    """

    def __init__(self, make: Callable[[Runtime], Kept], *, actor: str, has_engines: bool) -> None:
        self._make = make
        self._actor = actor
        self._has_engines = has_engines
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._runtime: Runtime | None = None
        self._kept: Kept | None = None

    def run(self, use: Callable[[Kept], Awaitable[T]]) -> T:
        """Do one invocation's work; the first one opens the runtime.

        Raises:
            RoostError: it can't be opened; the next invocation tries again.
        """
        return self._runner.run(self._use(use))

    async def _use(self, use: Callable[[Kept], Awaitable[T]]) -> T:
        if self._runtime is None or self._kept is None:
            self._runtime = await self._open()
            self._kept = self._make(self._runtime)
        try:
            return await use(self._kept)
        finally:
            if self._runtime.watching is not None:  # what is kept beyond this stays in a frozen process
                self._runtime.watching.flush(_to_log, FLUSH_SECONDS)

    async def _open(self) -> Runtime:
        settings = load_settings()
        logging.getLogger("roost").setLevel(settings.log_level.upper())
        for handler in logging.getLogger().handlers:  # the runtime's
            handler.addFilter(LINE_FIELDS)
        engines = settings.worker.engines if self._has_engines else None
        return await self._stack.enter_async_context(
            open_runtime(settings, engines=engines, actor=self._actor, is_function=True)
        )

    def close(self) -> None:
        """Close the runtime and the loop. Lambda itself never asks for it."""
        self._runner.run(self._stack.aclose())
        self._runner.close()


def _to_log(line: str) -> None:
    """What a function prints is its log; CloudWatch takes metrics from lines that are its format."""
    sys.stdout.write(f"{line}\n")


def remaining_seconds(context: LambdaContext) -> float:
    """How long the invocation may go on."""
    return context.get_remaining_time_in_millis() / 1000
