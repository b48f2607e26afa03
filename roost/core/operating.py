"""Tracked operations: the same done to many work items, by a work item of its own.

An operation is the work item `operation:…` of the built-in engine `roost.operation`. Its steps
come in pairs: one commits which work items are next and where the filter goes on after them,
the next acts on just these. So a process that dies in the midst repeats at most one page, and
knows by its own entries in their journals, and by their ids, which of them it has seen to: none
is acted on twice, and the counts are true. Every worker runs operations; `roost.driving` does where none is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from roost.core.bulk import Action, Chosen, How, Part, Run
from roost.core.client import Client, WorkView, views
from roost.core.parts import Parts
from roost.core.requests import Request
from roost.core.where import TEXT_MAX_CHARS, Where, parse
from roost.engine import RetryPolicy, current_step
from roost.errors import InputError, WorkNotFound
from roost.journal.budget import hold_of
from roost.models import NAMESPACE_MARK, Snapshot, WorkItem, namespace_of
from roost.names import OPERATION_ENGINE, REASON_MAX_CHARS, State, check_work_id
from roost.storage.query import IndexQuery

PREFIX = "operation:"
IDS_MAX = 1000
PAGE = 100  # work items that one step acts on
SKIPS_MAX = 100  # of those that could not be acted on, named with their reasons
PRIORITY = 1000  # operations go before the work that they are about
_AT_ONCE = 10
_LOOK_BACK_MAX = 10_000  # newest entries of a journal in which an operation looks for its own
_LOOK_PAGE = 50
_CLOCKS_SECONDS = 300.0  # how far the clocks of two processes may be apart


class Operation(BaseModel):
    """What is to be done, to which work items.

    Attributes:
        where: a filter; ids: or these.
        actor: who asked for it; in the journals with the operation's id.
        at: the instant that ages in the filter count from, in epoch seconds.
        by_seconds, for_seconds, version: see `bulk.How`.
        expected: how many there were when somebody looked, for the progress bar.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action
    where: Annotated[str, Field(max_length=TEXT_MAX_CHARS)] = ""
    ids: Annotated[tuple[str, ...], Field(max_length=IDS_MAX)] = ()
    reason: Annotated[str, Field(max_length=REASON_MAX_CHARS)] = ""
    actor: str = "client"
    at: float
    by_seconds: Annotated[float, Field(ge=0)] | None = None
    for_seconds: Annotated[float, Field(ge=0)] | None = None
    version: Annotated[int, Field(ge=0)] | None = None
    expected: Annotated[int, Field(ge=0)] | None = None

    @property
    def how(self) -> How:
        """What the action is told beside the reason."""
        return How(self.by_seconds, self.for_seconds, self.version)


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation as it stands.

    Attributes:
        state: of its work item; `paused` while it is on hold.
        done, skipped, looked_at: work items that it acted on, could not act on, and looked at.
        skips: (id, why) of the first that it could not act on.
        version: of its work item; each even one is a part that was acted on.
    """

    work_id: str
    operation: Operation
    state: State
    reason: str
    created_at: float
    since: float
    done: int
    skipped: int
    looked_at: int
    skips: Sequence[tuple[str, str]]
    version: int


class OperationEngine:
    """Runs operations.

    The snapshot's data: `page` (ids that are next; null: to be looked for), `cursor` (of the
    filter, or the number of ids passed), `is_last`, `token` (of the lease under which the
    page was committed), `part` (`done` and `skipped` of the last page), and the totals.

    Args:
        parts: with which it acts.
    """

    engine_id = OPERATION_ENGINE
    payload_model = Operation
    retry = RetryPolicy(max_attempts=20, max_interruptions=1_000_000)

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        """Nothing is done yet."""
        data: dict[str, Any] = {"page": None, "cursor": None, "is_last": False, "token": 0, "skips": []}
        return Snapshot.of(item, step="look", data=data | {"done": 0, "skipped": 0, "looked_at": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        """Look for the next page, or act on it."""
        operation = Operation.model_validate(item.payload)
        _tell_progress(operation, snapshot.data)
        if snapshot.data["page"] is None:
            return snapshot.next("act", data=snapshot.data | await self._look(operation, item, snapshot.data))
        after = snapshot.data | await self._act(operation, item, snapshot.data)
        if snapshot.data["is_last"]:
            return snapshot.finish(result={"done": after["done"], "skipped": after["skipped"]}, data=after)
        return snapshot.next("look", data=after)

    # --- looking -------------------------------------------------------------

    async def _look(self, operation: Operation, item: WorkItem, data: Mapping[str, Any]) -> dict[str, Any]:
        token = current_step().token
        if operation.ids:
            start = data["cursor"] or 0
            page = list(operation.ids[start : start + PAGE])
            is_last = start + PAGE >= len(operation.ids)
            found = {"page": page, "cursor": start + PAGE, "looked_at": data["looked_at"] + len(page)}
            return found | {"is_last": is_last, "token": token, "part": None}
        where = self._where(operation, item)
        run = Run(self._parts, Chosen(operation.action, where), _nothing)
        part = await anext(run.parts(data["cursor"], is_dry_run=True))
        looked_at = data["looked_at"] + part.looked_at
        found = {"page": list(part.done), "cursor": part.cursor, "looked_at": looked_at}
        return found | {"is_last": part.cursor is None, "token": token, "part": None}

    def _where(self, operation: Operation, item: WorkItem) -> Where:
        namespace = namespace_of(item.work_id)
        return parse(operation.where, operation.at).within(namespace, lambda text: _whole(namespace, text))

    # --- acting --------------------------------------------------------------

    async def _act(self, operation: Operation, item: WorkItem, data: Mapping[str, Any]) -> dict[str, Any]:
        context = current_step()
        actor = f"{operation.actor} by {item.work_id}"
        namespace, request = namespace_of(item.work_id), await self._request(item)
        client = Client(self._parts, actor=actor, namespace=namespace, request=request)
        is_first_try = context.token == data["token"] and context.attempt == 1
        page: Sequence[str] = data["page"]
        before: Sequence[str] = []
        if not is_first_try:
            before = await self._seen_to(page, actor, operation)
        left = [work_id for work_id in page if work_id not in set(before)]
        where = parse(operation.where, operation.at) if operation.where else None
        part = await client.bulk_ids(operation.action, left, operation.reason, how=operation.how, where=where)
        done, skipped = [*before, *part.done], [list(pair) for pair in part.skipped]
        return {
            "page": None,
            "part": {"done": done, "skipped": skipped},
            "done": data["done"] + len(done),
            "skipped": data["skipped"] + len(skipped),
            "skips": [*data["skips"], *skipped][:SKIPS_MAX],
        }

    async def _request(self, item: WorkItem) -> Request:
        """As which it acts: each of its entries has an id that follows from the operation.

        So who lost the lease and is still at it, and who took it over, act together once.
        """
        begun = await self._parts.backend.journal.get(item.work_id, 0)
        if begun is None:
            raise WorkNotFound(item.work_id)
        return Request(begun, digest="")

    async def _seen_to(self, page: Sequence[str], actor: str, operation: Operation) -> list[str]:
        """Those of a page that an earlier try of this step has acted on."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def is_seen_to(work_id: str) -> bool:
            async with gate:
                return await self._is_seen_to(work_id, actor, operation)

        seen = await asyncio.gather(*(is_seen_to(work_id) for work_id in page))
        return [work_id for work_id, is_so in zip(page, seen, strict=True) if is_so]

    async def _is_seen_to(self, work_id: str, actor: str, operation: Operation) -> bool:
        """Whether an entry is ours, since the operation began; quick work may have gone far since."""
        journal, after, seen = self._parts.backend.journal, -1, 0
        while seen < _LOOK_BACK_MAX:
            found = await journal.read(work_id, after=after, limit=_LOOK_PAGE, newest_first=True)
            if not found:
                return not seen and operation.action is Action.PURGE
            if any(entry.actor == actor for entry in found):
                return True
            seen, after = seen + len(found), found[-1].position
            if not after or found[-1].at < operation.at - _CLOCKS_SECONDS:
                return False
        return False


async def _nothing(work_id: str) -> None:
    """What a dry run does."""


def _whole(namespace: str, work_id: str) -> str:
    if not namespace or NAMESPACE_MARK in work_id:
        return work_id
    return f"{namespace}{NAMESPACE_MARK}{work_id}"


def _tell_progress(operation: Operation, data: Mapping[str, Any]) -> None:
    total = len(operation.ids) or operation.expected
    handled = data["done"] + data["skipped"]
    if total:
        current_step().progress(min(handled / total, 1.0), f"{handled} of {total}")


# --- from outside ------------------------------------------------------------------


async def start(client: Client, operation: Operation, *, key: str | None = None) -> str:
    """Begin an operation; durable on return. Gives the id of its work item.

    Args:
        key: the same key begins it once.

    Raises:
        InputError: neither a filter nor ids are given, or both, or one is not well-formed; or
            what the action is told is of another.
    """
    operation.how.check(operation.action)
    if bool(operation.ids) is bool(operation.where.strip()):
        raise InputError(
            "an operation needs a filter or ids, and not both",
            hint="An empty filter would mean all work; `id:*` says so if that is meant.",
        )
    parse(operation.where, operation.at)
    for work_id in operation.ids:
        check_work_id(work_id)
    payload = operation.model_dump(mode="json")
    work_id = f"{PREFIX}{key}" if key else f"{PREFIX}{client.new_id()}"
    return await client.enqueue(OPERATION_ENGINE, payload, work_id=work_id, priority=PRIORITY)


async def look(client: Client, work_id: str) -> OperationView:
    """An operation as it stands.

    Raises:
        WorkNotFound: there is none of that id.
    """
    view = await client.status(work_id)
    if view.item.engine != OPERATION_ENGINE:
        raise WorkNotFound(work_id)
    return view_of(view)


def view_of(view: WorkView) -> OperationView:
    """What its work item says of an operation."""
    data = view.snapshot.data if view.snapshot is not None else {}
    hold = "" if view.control.state.is_terminal else hold_of(view.control)
    return OperationView(
        work_id=view.item.work_id,
        operation=Operation.model_validate(view.item.payload),
        state=State.PAUSED if hold else view.control.state,
        reason=hold or view.control.reason,
        created_at=view.item.created_at,
        since=view.control.since,
        done=data.get("done", 0),
        skipped=data.get("skipped", 0),
        looked_at=data.get("looked_at", 0),
        skips=[(work_id, why) for work_id, why in data.get("skips", [])],
        version=view.control.version,
    )


async def list_operations(client: Client, *, limit: int = 50) -> list[OperationView]:
    """Operations of the client's namespace, newest first."""
    page = await client.list(IndexQuery(engine=OPERATION_ENGINE), limit=limit)
    return [view_of(view) for view in await views(client, page.rows)]


async def part_of(client: Client, work_id: str, version: int) -> Part | None:
    """What came of the page that a version of an operation acted on; None: it looked for one.

    Raises:
        InputError: there is no such version.
    """
    part = (await client.snapshot(work_id, version)).data.get("part")
    if part is None:
        return None
    return Part(part["done"], [(skipped, why) for skipped, why in part["skipped"]])
