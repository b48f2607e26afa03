"""Log lines of steps, and what makes like errors alike."""

from __future__ import annotations

import hashlib
import logging
import re

from roost.journal.entries import Entry
from roost.journal.events import AttemptFailed, Blocked, Committed, Failed

log = logging.getLogger("roost.session")

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8,}\b|\d+")
_QUOTED = re.compile(r"'[^']{0,200}'|\"[^\"]{0,200}\"")


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
        log.warning("%s: step failed: %s", entry.work_id, event.error.type, extra=fields)
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
