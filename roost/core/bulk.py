"""The same done to many work items: chosen by a filter, part by part, with progress."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from roost.core.parts import Parts
from roost.errors import ConflictError, WorkNotFound
from roost.journal.entries import IndexRow
from roost.models import State
from roost.storage.ports import IndexQuery

log = logging.getLogger("roost.operations")

PART = 100  # rows that are looked at together
_AT_ONCE = 10  # work items that are acted on at a time


class Action(StrEnum):
    """What can be done to many."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    PURGE = "purge"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which work items are meant.

    Attributes:
        query: as for lists.
        unchanged_since: only those that are in their state since before this instant.
        reason: a part of the text that says why they are in their state.
    """

    query: IndexQuery
    unchanged_since: float | None = None
    reason: str = ""

    @property
    def is_everything(self) -> bool:
        """Whether it leaves nothing out."""
        return self == Selection(IndexQuery(namespace=self.query.namespace))

    def within(self, namespace: str, whole: Callable[[str], str]) -> Selection:
        """Itself in a namespace.

        Args:
            whole: makes an id one of the namespace.
        """
        query = self.query
        prefix = whole(query.id_prefix) if query.id_prefix else None
        parent_id = whole(query.parent_id) if query.parent_id else None
        return replace(self, query=replace(query, namespace=namespace, id_prefix=prefix, parent_id=parent_id))

    def matches(self, row: IndexRow) -> bool:
        """Whether a row that the query found is meant."""
        if self.unchanged_since is not None and row.since >= self.unchanged_since:
            return False
        return self.reason in row.reason


@dataclass(frozen=True, slots=True)
class Part:
    """What came of a part.

    Attributes:
        done: ids of those that it was done to; in a dry run, would be.
        skipped: (id, why) of those that it could not be done to.
        cursor: where the next part begins; None: this was the last.
    """

    done: Sequence[str]
    skipped: Sequence[tuple[str, str]] = ()
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run over all that match.

    Attributes:
        act: does it to one work item.
    """

    parts_: Parts = field(repr=False)
    action: Action
    selection: Selection
    act: Callable[[str], Awaitable[None]]

    async def parts(self, cursor: str | None, *, is_dry_run: bool) -> AsyncIterator[Part]:
        """Part by part."""
        query = self.selection.query
        query = replace(query, state=query.state or _ONLY_STATE.get(self.action))
        while True:
            page = await self.parts_.backend.index.list(query, cursor=cursor, limit=PART)
            rows = [row for row in page.rows if self.selection.matches(row) and self._applies(row)]
            ids = [row.work_id for row in rows]
            if is_dry_run:
                yield Part(ids, cursor=page.cursor)
            else:
                yield await self._do(ids, page.cursor)
            if page.cursor is None:
                return
            cursor = page.cursor

    def _applies(self, row: IndexRow) -> bool:
        """Whether it can be done to work in its state, as the row shows it."""
        if self.action is Action.RESUME:
            return row.state is State.PAUSED
        if self.action is Action.PAUSE and row.state is State.PAUSED:
            return False
        return row.state.is_terminal is (self.action in (Action.RETRY, Action.PURGE))

    async def _do(self, ids: Sequence[str], cursor: str | None) -> Part:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(work_id: str) -> str | None:
            async with gate:
                try:
                    await self.act(work_id)
                except (ConflictError, WorkNotFound) as error:  # it moved on since it was listed
                    return str(error)
            return None

        faults = await asyncio.gather(*(one(work_id) for work_id in ids))
        pairs = list(zip(ids, faults, strict=True))
        done = [work_id for work_id, fault in pairs if fault is None]
        return Part(done, [(work_id, fault) for work_id, fault in pairs if fault is not None], cursor)


_ONLY_STATE = {Action.RETRY: State.FAILED, Action.RESUME: State.PAUSED}
"""Which state is meant where none is given."""


def log_purged(work_id: str, actor: str) -> None:
    """Say who deleted what; its journal can't any more."""
    extra = {"event": "work.purged", "work_id": work_id, "actor": actor}
    log.info("%s was purged by %s", work_id, actor, extra=extra)
