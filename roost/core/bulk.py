"""The same done to many work items: chosen by a filter, part by part, with progress."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from roost.core.parts import Parts
from roost.core.where import Where
from roost.errors import ConflictError, InputError, WorkNotFound
from roost.journal.entries import Entry, IndexRow
from roost.journal.projection import project
from roost.models import State
from roost.names import OWN_ENGINES
from roost.storage.query import IndexQuery

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
class How:
    """What an action may be told beside its reason.

    Attributes:
        by_seconds: of a cancel: a step that still runs then is interrupted.
        for_seconds: of a pause: it ends by itself then.
        version: of a retry: of the snapshot to go on from; 0: from the beginning.
    """

    by_seconds: float | None = None
    for_seconds: float | None = None
    version: int | None = None

    def check(self, action: Action) -> None:
        """Whether it is about that action.

        Raises:
            InputError: it is not.
        """
        fits = {Action.CANCEL: "by_seconds", Action.PAUSE: "for_seconds", Action.RETRY: "version"}
        for name in ("by_seconds", "for_seconds", "version"):
            if getattr(self, name) is not None and fits.get(action) != name:
                raise InputError(f"{name} is not for {action}")


AS_USUAL = How()


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a filter chooses for an action."""

    action: Action
    where: Where

    def query(self) -> IndexQuery:
        """What the index gives of it, and more."""
        query = self.where.query
        return replace(query, state=query.state or ONLY_STATE.get(self.action))

    def has(self, row: IndexRow) -> bool:
        """Whether it is of it."""
        is_found = self.query().matches(row) and self.where.matches(row)
        return is_found and applies(self.action, row) and is_meant(self.where, row)

    async def check(self, parts: Parts, tail: Entry) -> None:
        """Whether work is of it as it stands now, and not only when it was listed.

        Raises:
            ConflictError: it moved on.
        """
        if self.has(project(tail)):
            return
        row = await parts.backend.index.get(tail.work_id)  # may say more, such as which engine is missing
        if row is None or row.position < tail.position or not self.has(row):
            raise ConflictError(f"work item {tail.work_id!r} moved on: it does not match any more")


@dataclass(frozen=True, slots=True)
class Part:
    """What came of a part.

    Attributes:
        done: ids of those that it was done to; in a dry run, would be.
        skipped: (id, why) of those that it could not be done to.
        cursor: where the next part begins; None: this was the last.
        looked_at: rows that were looked at for it.
    """

    done: Sequence[str]
    skipped: Sequence[tuple[str, str]] = ()
    cursor: str | None = None
    looked_at: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One run over all that match.

    Attributes:
        act: does it to one work item.
    """

    parts_: Parts = field(repr=False)
    chosen: Chosen
    act: Callable[[str], Awaitable[None]]

    async def parts(self, cursor: str | None, *, is_dry_run: bool) -> AsyncIterator[Part]:
        """Part by part."""
        query = self.chosen.query()
        while True:
            page = await self.parts_.backend.index.list(query, cursor=cursor, limit=PART)
            ids = [row.work_id for row in page.rows if self.chosen.has(row)]
            if is_dry_run:
                yield Part(ids, cursor=page.cursor, looked_at=len(page.rows))
            else:
                part = await do(self.act, ids)
                yield replace(part, cursor=page.cursor, looked_at=len(page.rows))
            if page.cursor is None:
                return
            cursor = page.cursor


async def do(act: Callable[[str], Awaitable[None]], ids: Sequence[str]) -> Part:
    """Act on each, some at a time; one that it can't be done to, or not any more, is skipped.

    Raises:
        StorageError: of one of them; all that were begun have ended by then.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(work_id: str) -> str | None:
        async with gate:
            try:
                await act(work_id)
            except (ConflictError, InputError, WorkNotFound) as error:
                return str(error)
        return None

    came = await asyncio.gather(*(one(work_id) for work_id in ids), return_exceptions=True)
    faults = []
    for fault in came:
        if isinstance(fault, BaseException):
            raise fault
        faults.append(fault)
    pairs = list(zip(ids, faults, strict=True))
    done = [work_id for work_id, fault in pairs if fault is None]
    return Part(done, [(work_id, fault) for work_id, fault in pairs if fault is not None])


def is_meant(where: Where, row: IndexRow) -> bool:
    """Whether a filter means a row: Roost's own work, such as schedules, only by its engine."""
    return not row.engine.startswith(OWN_ENGINES) or where.query.engine == row.engine


def applies(action: Action, row: IndexRow) -> bool:
    """Whether an action can be done to work in its state, as its row shows it."""
    if action is Action.RESUME:
        return row.state is State.PAUSED
    if action is Action.PAUSE and row.state is State.PAUSED:
        return False
    return row.state.is_terminal is (action in (Action.RETRY, Action.PURGE))


ONLY_STATE = {Action.RETRY: State.FAILED, Action.RESUME: State.PAUSED}
"""Which state is meant where none is given."""


def log_purged(work_id: str, actor: str) -> None:
    """Say who deleted what; its journal can't any more."""
    extra = {"event": "work.purged", "work_id": work_id, "actor": actor}
    log.info("%s was purged by %s", work_id, actor, extra=extra)
