"""Conversations and who is in line there; and the workspaces of this host."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import Desk, desk_of
from roost.core import conversations
from roost.journal.events import Enqueued, TurnTaken
from roost.models import State, namespace_of
from roost.storage.query import IndexQuery

SHOWN = 50
LINE_SHOWN = 5
LIST_SECONDS = 2.0
COST_FACTOR = 30.0  # each is read from its journal


@dataclass(frozen=True, slots=True)
class Conversation:
    """One in which somebody is in line.

    Attributes:
        key: as it was enqueued with; empty: its work is gone.
        line: work items, first come first; the first has the turn.
    """

    key: str
    line: Sequence[str]
    since: float


async def lines(request: Request) -> Response:
    """`GET /conversations`."""
    desk = desk_of(request)
    found = await all_open(desk)
    return await desk.page(request, "conversations.html", found=found, line_shown=LINE_SHOWN, limit=SHOWN)


async def all_open(desk: Desk) -> Sequence[Conversation]:
    """Conversations of the console's namespace in which somebody is in line; one read for all who ask."""

    async def ask() -> Sequence[Conversation]:
        return await _open(desk)

    return await desk.shared.get("lines", ask, for_seconds=LIST_SECONDS, cost_factor=COST_FACTOR)


async def _open(desk: Desk) -> Sequence[Conversation]:
    query = IndexQuery(namespace=conversations.NAMESPACE, state=State.WAITING)
    page = await desk.runtime.backend.index.list(query, limit=SHOWN)
    read = await asyncio.gather(*(_read(desk, row.work_id) for row in page.rows))
    return [one for one in read if one is not None and namespace_of(one.line[0]) == desk.settings.namespace]


async def _read(desk: Desk, journal_id: str) -> Conversation | None:
    tail = await desk.runtime.backend.journal.tail(journal_id)
    if tail is None or not tail.control.line:
        return None
    line = [place.work_id for place in tail.control.line]
    first = await desk.runtime.backend.journal.get(line[0], 0)
    event = first.event if first is not None else None
    if isinstance(tail.event, TurnTaken) and event is None:
        event = tail.event.work
    key = event.conversation if isinstance(event, Enqueued) else None
    return Conversation(key or "", line, tail.control.since)


@dataclass(frozen=True, slots=True)
class Workspace:
    """One on this host."""

    work_id: str
    path: Path
    source: str
    base: str
    touched_at: float


async def workspaces(request: Request) -> Response:
    """`GET /workspaces`: those of the host that the console runs on."""
    desk = desk_of(request)
    here = desk.runtime.parts.workspaces
    found = []
    if here is not None:
        for record, touched_at in list(here.workspaces.left())[:SHOWN]:
            path = here.workspaces.path(record.work_id)
            found.append(Workspace(record.work_id, path, record.source, record.base, touched_at))
    found.sort(key=lambda one: -one.touched_at)
    return await desk.page(request, "workspaces.html", found=found, limit=SHOWN)
