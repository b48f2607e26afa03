"""How far the index, which lists come from, is behind the journals: measured, by a few reads.

A row is looked up in its journal: what stands there after the row's position, the row does not
show. Rows that move most are taken, and of the newest list also work that the feed knows of and the
list lacks. It writes nothing, and one look answers all who have the same list open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roost.clock import Clock
from roost.console.pulse import Pulse
from roost.console.reads import Rows
from roost.console.shared import Shared
from roost.core.where import Where
from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Enqueued
from roost.models import State
from roost.names import Order
from roost.storage.ports import Backend

ROWS_MAX = 3  # of a list that are looked up, each by one read
LOOK_SECONDS = 5.0  # how long a look is good for all who have the list open
LOOK_COST_FACTOR = 20.0
RECENT_MAX = 200  # newest entries of the feed that are held against a list


@dataclass(frozen=True, slots=True)
class Freshness:
    """How a list stands to the journals.

    Attributes:
        lag_seconds: how long ago the first was written of what the rows that were looked up don't
            show; 0: they show all.
        looked_up: how many; 0 where nothing need be.
        is_together: each append writes its row in its own transaction, so no row is ever behind.
    """

    lag_seconds: float
    looked_up: int = 0
    is_together: bool = False

    @property
    def lag_ms(self) -> int:
        """In whole milliseconds."""
        return round(self.lag_seconds * 1000)


class Looks:
    """Measures, at a bounded cost: `ROWS_MAX` reads and one, for each list in `LOOK_SECONDS`."""

    def __init__(self, backend: Backend, pulse: Pulse, clock: Clock, shared: Shared) -> None:
        self._backend = backend
        self._pulse = pulse
        self._clock = clock
        self._shared = shared

    async def of(self, where: Where, page: Rows, cursor: str | None) -> Freshness | None:
        """How fresh a page of a list is; None: it has no row that would show it."""
        if self._backend.projects_on_append:
            return Freshness(0.0, is_together=True)

        async def look() -> Freshness | None:
            return await self._look(page, is_newest=_is_newest(where) and cursor is None)

        key = ("freshness", where.text, where.order, cursor, len(page.rows))
        return await self._shared.get(key, look, for_seconds=LOOK_SECONDS, cost_factor=LOOK_COST_FACTOR)

    async def _look(self, page: Rows, *, is_newest: bool) -> Freshness | None:
        lags = [await self._lag(row, page.as_of) for row in movers(page.rows)]
        if is_newest:
            entry = lacking(page, [one.entry for one in self._pulse.newest(RECENT_MAX)])
            # One that has no row was dropped since; else the list lacks a row that is there.
            if entry is not None and await self._backend.index.get(entry.work_id) is not None:
                lags.append(page.as_of - entry.at)
        return Freshness(max(lags), len(lags)) if lags else None

    async def _lag(self, row: IndexRow, as_of: float) -> float:
        after = await self._backend.journal.read(row.work_id, after=row.position, limit=1)
        return max(as_of - after[0].at, 0.0) if after else 0.0


def _is_newest(where: Where) -> bool:
    """Whether a list is to have all work, the newest first."""
    return not where.text and where.order is Order.NEWEST


def movers(rows: Sequence[IndexRow]) -> list[IndexRow]:
    """Rows that are most likely behind: work that runs, the longest unwritten first; then what moved last."""
    running = sorted((row for row in rows if row.state is State.RUNNING), key=lambda row: row.updated_at)
    others = sorted((row for row in rows if row.state is not State.RUNNING), key=lambda row: -row.updated_at)
    chosen = [*running[: ROWS_MAX - 1], *others]
    return chosen[:ROWS_MAX]


def lacking(page: Rows, entries: Sequence[Entry]) -> Entry | None:
    """What was enqueued first of the work that a list of the newest lacks, read after it was enqueued."""
    shown = {row.work_id for row in page.rows}
    since = page.rows[-1].created_at if page.rows and page.cursor is not None else 0.0
    found = [
        entry
        for entry in entries
        if isinstance(entry.event, Enqueued)
        and entry.work_id not in shown
        and since < entry.control.created_at
        and entry.at < page.as_of
    ]
    return min(found, key=lambda entry: entry.at, default=None)
