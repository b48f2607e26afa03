"""Log lines: plain on a terminal, JSON elsewhere."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from importlib.metadata import version

from roost.cli.output import safe
from roost.core.observe import line_fields

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
        return json.dumps(fields, ensure_ascii=False, default=str)


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


def set_up(level: str, style: str) -> None:
    """Send Roost's log to stderr.

    Args:
        style: `console`, `json`, or `auto`: by whether a person reads stderr.
    """
    is_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if is_json else ConsoleFormatter())
    logger = logging.getLogger("roost")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
