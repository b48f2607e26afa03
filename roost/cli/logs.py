"""Log lines: plain on a terminal, JSON elsewhere."""

from __future__ import annotations

import copy
import json
import logging
import sys
import threading
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TextIO

from roost.cli.output import safe
from roost.core.observe import line_fields
from roost.core.step_log import as_it_is

log = logging.getLogger("roost.worker")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OWN = frozenset({"ts", "level", "event", "msg"})  # no field of a record takes their place


class JsonFormatter(logging.Formatter):
    """One flat JSON object a line: ts, level, event, msg, what the session is about, and the
    record's own fields; `roost.observe.names.LOG_FIELDS` lists them."""

    def __init__(self) -> None:
        super().__init__()
        self._version = version("roost-runtime")

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, object] = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),
            "msg": record.getMessage(),
        }
        fields |= line_fields()
        fields |= {
            key: value for key, value in vars(record).items() if key not in _STANDARD and key not in _OWN
        }
        if record.exc_info:
            fields["stack"] = self.formatException(record.exc_info)
        fields["roost_version"] = self._version
        return json.dumps(fields, ensure_ascii=False, default=str, allow_nan=False)


class ConsoleFormatter(logging.Formatter):
    """Time, level and message, with nothing in it that steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        message, work_id = record.getMessage(), line_fields().get("work_id")
        if work_id and str(work_id) not in message:  # an engine's own line: many work at a time
            message = f"{work_id}: {message}"
        if getattr(record, "event", "") == "step.failed":
            message += f"; `roost events {work_id or getattr(record, 'work_id', 'ID')}` says more"
        line = f"{time} {record.levelname.lower():7} {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return safe(line, keep_lines=True)


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes one line for a record, also for one whose arguments don't fit its text.

    `logging` would print a traceback of 50 lines instead, and the log would be JSON no more.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line; where a record can't be put together, what it holds, and where it was logged."""
        try:
            return super().format(record)
        except Exception as error:  # noqa: BLE001  an engine's __str__ may raise anything, and its arguments may not fit
            return super().format(_mended(record, error))


def _mended(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    """The record as text alone."""
    mended = copy.copy(record)
    text = as_it_is(record.msg, record.args)
    place = f"{record.pathname}:{record.lineno}"
    mended.msg = f"{text} [logged at {place}, whose text, arguments and fields don't fit: {_said(error)}]"
    mended.args = None
    for key in vars(record).keys() - _STANDARD:
        value = getattr(record, key)
        setattr(mended, key, value if isinstance(value, str | int | None) else as_it_is(value))
    return mended


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {as_it_is(error)}"


def set_up(level: str, style: str) -> None:
    """Send Roost's log to stderr, and what Python itself would write there.

    Warnings of loggers that an engine has not set up, its `warnings`, and errors that end its
    threads become lines of the log as well.

    Args:
        style: `console`, `json`, or `auto`: by whether a person reads stderr.
    """
    is_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    handler = LineHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if is_json else ConsoleFormatter())
    logger = logging.getLogger("roost")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
    _take_in_strays(handler.formatter)


def _take_in_strays(formatter: logging.Formatter | None) -> None:
    """Have lines where Python has tracebacks and warnings of its own form."""
    last = LineHandler(sys.stderr)  # of loggers without a handler: an engine's `basicConfig` still counts
    last.setFormatter(formatter)
    last.setLevel(logging.WARNING)
    logging.lastResort = last
    warnings.showwarning = _warned
    threading.excepthook = _thread_ended
    sys.unraisablehook = _unraisable


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What stands in for `warnings.showwarning`."""
    about = {"event": "python.warning"}
    log.warning("%s:%d: %s: %s", filename, lineno, category.__name__, message, extra=about)


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    """What stands in for `threading.excepthook`."""
    if ended.exc_type is SystemExit:
        return
    log.error(
        "a thread that a step started (%s) ended by an error: %s; its step does not see it",
        ended.thread.name if ended.thread else "unknown",
        ended.exc_type.__name__ if ended.exc_value is None else _said(ended.exc_value),
        exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback) if ended.exc_value else None,
        extra={"event": "step.thread_failed", "error_type": ended.exc_type.__name__},
    )


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """What stands in for `sys.unraisablehook`."""
    log.error(
        "an error that nobody can catch, %s: %s",
        what.err_msg or f"in {as_it_is(what.object)}",
        what.exc_type.__name__ if what.exc_value is None else _said(what.exc_value),
        exc_info=(what.exc_type, what.exc_value, what.exc_traceback) if what.exc_value else None,
        extra={"event": "python.unraisable", "error_type": what.exc_type.__name__},
    )
