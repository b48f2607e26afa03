"""Log lines of steps: those that are written, those that stay with an attempt; and what makes
like errors alike."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from roost import times
from roost.clock import Clock
from roost.core.redact import clean
from roost.journal.entries import Entry
from roost.journal.events import AttemptFailed, Blocked, Committed, Failed
from roost.journal.values import LogLine

log = logging.getLogger("roost.session")

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8,}\b|\d+")
_QUOTED = re.compile(r"'[^']{0,200}'|\"[^\"]{0,200}\"")


LINES_MAX = 50
LINE_MAX_CHARS = 500
KEPT_MAX_CHARS = 4000
KEPT_COMMITTED_MAX_CHARS = 1000  # of a step that went well; DynamoDB charges a write by the kilobyte


class StepLines:
    """The last lines that the running attempt logged, for the entry that ends it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: deque[LogLine] = deque(maxlen=LINES_MAX)

    def clear(self) -> None:
        """Another attempt begins."""
        self._lines.clear()

    def add(self, level: str, text: str) -> None:
        """One more line, without what looks like a secret; from any thread."""
        line = LogLine(round(self._clock.now(), 3), level, clean(text, LINE_MAX_CHARS))
        self._lines.append(line)

    @property
    def last(self) -> str | None:
        """The text of the last line; None if there is none yet."""
        return self._lines[-1].text if self._lines else None

    def kept(self, max_chars: int = KEPT_MAX_CHARS) -> tuple[LogLine, ...]:
        """The newest of them that fit, oldest first."""
        if not self._lines:
            return ()
        kept: list[LogLine] = []
        for line in reversed(tuple(self._lines)):
            max_chars -= len(line.text)
            if max_chars < 0:
                break
            kept.append(line)
        return tuple(reversed(kept))


class StepLogger(logging.LoggerAdapter[logging.Logger]):
    """The logger of a step: it writes as any other does, and what it writes stays with the attempt.

    Lines from `INFO` on stay whether or not somebody listens to the logger; others, if somebody does.
    """

    def __init__(self, logger: logging.Logger, extra: Mapping[str, object], lines: StepLines) -> None:
        super().__init__(logger, extra)
        self._lines = lines

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Write a line; see `logging.Logger.log`."""
        if level >= logging.INFO or self.isEnabledFor(level):
            self._lines.add(logging.getLevelName(level).lower(), _text(msg, args))
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, msg, *args, **kwargs)


def _text(msg: object, args: tuple[object, ...]) -> str:
    """A message with its arguments; logging never fails a step, so where they don't fit, as it is."""
    try:
        return str(msg) % _mapped(args) if args else str(msg)
    except Exception:  # noqa: BLE001  an engine's __str__ may do anything; `logging` swallows it as well
        return as_it_is(msg, args)


def as_it_is(msg: object, args: object = None) -> str:
    """A message whose arguments don't fit it, with them beside it; never raises."""
    try:
        text = str(msg)
        return f"{text} {args!r}" if args else text
    except Exception:  # noqa: BLE001  as above
        return msg if isinstance(msg, str) else type(msg).__name__


def _mapped(args: tuple[object, ...]) -> object:
    """One mapping stands for named arguments, as for `logging`."""
    return args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args


def fingerprint(engine: str, step: str, reason: str) -> str:
    """10 hexadecimal digits: alike for errors that differ in numbers, ids and quoted values only."""
    shape = _QUOTED.sub("…", _NUMBERS.sub("#", reason))
    return hashlib.sha256(f"{engine}\n{step}\n{shape}".encode()).hexdigest()[:10]


def log_step(entry: Entry, seconds: float) -> None:
    """A line for a step that failed; and one for each that was committed, for who debugs."""
    event, control = entry.event, entry.control
    if isinstance(event, AttemptFailed | Failed):
        fields = {
            "event": "step.failed",
            "position": entry.position,
            "duration_ms": round(seconds * 1000, 3),
            "error_type": event.error.type,
            "error_fingerprint": fingerprint(control.engine, control.step, control.reason),
        }
        follows = "the work has failed"
        if isinstance(event, AttemptFailed):
            fields["attempt"] = control.failures  # which the entry has counted already
            if event.retry_at is not None:
                follows = f"it is tried again {times.relative(event.retry_at, entry.at)}"
        reason = " ".join(control.reason.split()).removesuffix(".")
        log.warning("%s: step failed: %s; %s", entry.work_id, reason, follows, extra=fields)
    elif isinstance(event, Committed) and log.isEnabledFor(logging.DEBUG):
        fields = {
            "event": "step.committed",
            "version": event.version,
            "step": event.step,
            "position": entry.position,
            "duration_ms": round(seconds * 1000, 3),
            "bytes": len(entry.body.data) if entry.body is not None else 0,
        }
        log.debug("%s: version %d is committed", entry.work_id, event.version, extra=fields)


def log_blocked(entry: Entry) -> None:
    """A line for work that has to wait for resources, for who debugs."""
    if isinstance(entry.event, Blocked) and log.isEnabledFor(logging.DEBUG):
        by, limited = ", ".join(entry.event.by), ", ".join(entry.event.limited)
        about = {"event": "claims.blocked", "position": entry.position, "resource": limited, "by": by}
        log.debug("%s: its resources are not to be had", entry.work_id, extra=about)
