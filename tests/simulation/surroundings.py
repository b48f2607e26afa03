"""What is around a world while it runs: logs, the heartbeat's pace, how small a delta may be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING
from unittest.mock import patch

from roost.core import heartbeat, redact
from roost.storage import codec, frames

if TYPE_CHECKING:
    from .world import Report


DELTA_MIN_BYTES = 16
ZSTD_BITS_MIN = 12  # a smaller window is none


@contextmanager
def surroundings(report: Report) -> Iterator[None]:
    """Keep logs out of the way, but errors in the report; beat no faster than leases need."""
    logger, keeper = logging.getLogger("roost"), _Keeper(report)
    before = logger.level, logger.propagate, heartbeat.PROGRESS_SECONDS
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(keeper)
    heartbeat.PROGRESS_SECONDS = report.plan.lease_seconds  # so that idle hours cost little real time
    try:
        with (
            patch.object(redact.traceback, "format_tb", _no_lines),  # a twentieth of a run
            _deltas() if report.plan.keep_versions is not None else nullcontext(),
        ):
            yield
    finally:
        logger.level, logger.propagate, heartbeat.PROGRESS_SECONDS = before
        logger.setLevel(logger.level)
        logger.removeHandler(keeper)


def _no_lines(trace: TracebackType | None, limit: int | None = None) -> list[str]:
    return []


@contextmanager
def _deltas() -> Iterator[None]:
    """Make a delta of every snapshot that is like the one before, however small both are."""
    options = frames._delta_options
    rules = patch.multiple(
        codec,
        COMPRESS_MIN_BYTES=DELTA_MIN_BYTES,
        DELTA_WORTH=0.9,
        DELTA_DEPTH_MAX=1,  # so that most versions can go
    )
    with rules, patch.object(frames, "_delta_options", lambda bits: options(max(bits, ZSTD_BITS_MIN))):
        yield


class _Keeper(logging.Handler):
    def __init__(self, report: Report) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report.bugs.append(logging.Formatter().format(record))
