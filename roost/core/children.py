"""Children: what starts them, and what their parent is told when they end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from roost import jsonio
from roost.core import bodies, ends, new_work
from roost.core.new_work import NewWork, check_new_work
from roost.core.parts import Parts
from roost.engine import EngineRegistry
from roost.errors import PayloadError
from roost.journal import family
from roost.journal.entries import Body, Entry
from roost.journal.events import Enqueued
from roost.journal.values import Family, Parent
from roost.models import Child, State, read_known

_TOGETHER = 100  # children that are stored by one call

REPORT_ERROR_CHARS = 2000


async def spawn(parts: Parts, entry: Entry, *, actor: str, known: Family | None) -> Sequence[Entry]:
    """Enqueue the children that the snapshot in `entry` asks for; again, if need be.

    Args:
        known: the family as it is now; those of it that have ended are left out.

    Returns:
        What stands where a child's id was taken by other work.
    """
    fields = jsonio.load(await bodies.load(parts.backend, entry))
    children = [read_known(Child, child) for child in fields.get("spawn", ())]
    firsts = [
        await _first_entry(parts, entry, child, work_id, ordinal, actor)
        for child, (work_id, ordinal) in zip(children, _ids(entry, children), strict=True)
        if known is None or ordinal is None or not family.has_ended(known, ordinal)
    ]
    taken: list[Entry] = []
    for start in range(0, len(firsts), _TOGETHER):
        taken += await _store(parts, firsts[start : start + _TOGETHER])
    return taken


def _ids(entry: Entry, children: Sequence[Child]) -> list[tuple[str, int | None]]:
    """The work id of each child, and its ordinal in the family; None if it is detached."""
    version = entry.control.version
    before = entry.control.family
    first = family.total(before) - sum(not child.is_detached for child in children)
    ids: list[tuple[str, int | None]] = []
    numbers = {True: 0, False: 0}
    for child in children:
        number = numbers[child.is_detached]
        numbers[child.is_detached] += 1
        work_id = family.child_id(entry.work_id, version, number, is_detached=child.is_detached)
        ids.append((work_id, None if child.is_detached else first + number))
    return ids


async def _first_entry(
    parts: Parts, parent: Entry, child: Child, work_id: str, ordinal: int | None, actor: str
) -> Entry:
    origin_at = parent.control.created_at
    link = None if ordinal is None else Parent(parent.work_id, ordinal, child.key, origin_at)
    work = new_work_of(child)
    # It was checked before the commit; by now its deadline may be over, which its own journal says.
    raw = jsonio.dump(child.payload, what="payload", max_bytes=jsonio.PAYLOAD_MAX_BYTES)
    body = await bodies.store(parts.backend, raw)
    first = new_work.first_entry(
        parts, work, body, work_id=work_id, actor=actor, parent=link, spawner=parent.control
    )
    if link is not None:
        return first
    assert isinstance(first.event, Enqueued)
    return replace(first, event=replace(first.event, origin_at=origin_at))


def new_work_of(child: Child) -> NewWork:
    """The new work that a child is."""
    return NewWork(
        engine=child.engine,
        payload=child.payload,
        resources=child.resources,
        capacities=child.capacities,
        resource_scope=child.resource_scope,
        delay_seconds=child.delay_seconds,
        priority=child.priority,
        deadline_at=child.deadline_at,
        labels=child.labels,
        budget=child.budget,
    )


async def _store(parts: Parts, firsts: Sequence[Entry]) -> list[Entry]:
    """Store children; returns what stands in the way.

    A child of deleted work that had the parent's id makes room, if it has ended.
    """
    taken: list[Entry] = []
    again: list[Entry] = []
    for first, stands in zip(firsts, await new_work.store(parts, firsts), strict=True):
        if not _is_the_same_child(first, stands):
            makes_room = _is_of_former_parent(first, stands) and await ends.make_room(parts, stands)
            (again if makes_room else taken).append(first if makes_room else stands)
    if again:
        standing = await new_work.store(parts, again)
        pairs = zip(again, standing, strict=True)
        taken += [stands for first, stands in pairs if not _is_the_same_child(first, stands)]
    return taken


def _is_the_same_child(first: Entry, stands: Entry) -> bool:
    assert isinstance(first.event, Enqueued)
    event = stands.event
    if not isinstance(event, Enqueued) or _place(event) != _place(first.event):
        return False
    return _origin_at(event) in (None, _origin_at(first.event))  # None: of an older Roost


def _is_of_former_parent(first: Entry, stands: Entry) -> bool:
    """Whether that differs which says when the parent was enqueued, and nothing else."""
    assert isinstance(first.event, Enqueued)
    event = stands.event
    return isinstance(event, Enqueued) and _place(event) == _place(first.event)


def _place(event: Enqueued) -> tuple[str, int, str] | None:
    parent = event.parent
    return None if parent is None else (parent.work_id, parent.ordinal, parent.key)


def _origin_at(event: Enqueued) -> float | None:
    return event.origin_at if event.parent is None else event.parent.origin_at


async def report(parts: Parts, entry: Entry) -> Body:
    """The body of a child's report: what came of it, from its last entry."""
    control = entry.control
    found: dict[str, Any] = {"error": "", "result": None, "artifacts": []}
    if control.parent is not None and control.parent.key:
        found["key"] = control.parent.key
    if control.state is not State.DONE:
        found["error"] = control.reason[:REPORT_ERROR_CHARS]
    if control.snapshot_position is not None:
        is_last = control.snapshot_position == entry.position
        last = entry if is_last else await parts.backend.journal.get(entry.work_id, control.snapshot_position)
        if last is not None:
            fields = jsonio.load(await bodies.load(parts.backend, last))
            found["result"] = fields.get("result")
            found["artifacts"] = fields.get("artifacts", [])
    return await bodies.store(
        parts.backend, jsonio.dump(found, what="report", max_bytes=jsonio.SNAPSHOT_MAX_BYTES)
    )


async def report_of_taken_id(parts: Parts) -> Body:
    """The report of a child that could not be enqueued, since other work has its id."""
    error = "EnqueueConflict: other work has the child's id"
    found: dict[str, Any] = {"error": error, "result": None, "artifacts": []}
    return await bodies.store(parts.backend, jsonio.dump(found, what="report", max_bytes=1 << 16))


def check_children(children: Sequence[Child], before: int, engines: EngineRegistry, now: float) -> None:
    """Check what can be checked before the commit that spawns them.

    Args:
        before: how many children there are already.
        engines: payloads are checked against those of them that have a `payload_model`.

    Raises:
        InputError: says what is wrong.
    """
    attached = sum(not child.is_detached for child in children)
    if attached + before > family.CHILDREN_MAX or len(children) > family.CHILDREN_MAX:
        raise PayloadError(f"more than {family.CHILDREN_MAX} children of one work item")
    for child in children:
        check_new_work(new_work_of(child), now)
        spec = engines.get(child.engine)
        if spec is not None:
            spec.check_payload(child.payload)
