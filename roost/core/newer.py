"""Work that a newer Roost wrote, met by a worker that can't read it: left alone, and told of once."""

from __future__ import annotations

import logging

from roost.errors import SchemaTooNew

log = logging.getLogger("roost.newer")

TOLD_MAX = 10_000  # work items that a process remembers having told of
LEFT_FIRST_SECONDS = 5.0  # for so long a delivery is left to newer workers, twice as long each time,
LEFT_LONGEST_SECONDS = 60.0  # up to this; so long a due row, too
REASON = "left to a worker of a newer Roost"


def left_seconds(received_count: int) -> float:
    """How long a delivery that came so often is left to others."""
    return min(LEFT_FIRST_SECONDS * 2.0 ** min(received_count - 1, 16), LEFT_LONGEST_SECONDS)


class Newer:
    """Tells of each such work item once for a process, however often it comes."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, work_id: str, error: SchemaTooNew) -> None:
        """Say that a work item is left to newer workers, and why."""
        if work_id in self._told:
            return
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told.add(work_id)
        extra = {"event": "work.newer", "work_id": work_id}
        log.warning("%s is left to workers of a newer Roost: %s", work_id, error, extra=extra)
