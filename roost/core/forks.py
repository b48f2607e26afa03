"""Forks: new work that begins from a committed version of other work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from roost import jsonio
from roost.core import bodies, new_work, versions
from roost.core.new_work import NewWork
from roost.core.parts import Parts
from roost.errors import EnqueueConflict, InputError, WorkNotFound
from roost.journal import values
from roost.journal.control import apply
from roost.journal.entries import Entry
from roost.journal.events import Committed, Enqueued

_BODY_MAX_BYTES = jsonio.PAYLOAD_MAX_BYTES + jsonio.SNAPSHOT_MAX_BYTES
_OVER = ("finished_at", "result", "spawn", "delay", "wait_for")  # were for the commit they came with
_ROOTS = ("data", "payload")


@dataclass(frozen=True, slots=True)
class Fork:
    """What to fork, and what is to be different; see `Operations.fork`."""

    work_id: str
    version: int
    changes: Mapping[str, Any]
    options: Mapping[str, Any]
    reason: str


async def fork(parts: Parts, asked: Fork, new_id: str, *, actor: str) -> str:
    """Enqueue the fork under `new_id`; its snapshot travels with its first entry."""
    first = await parts.backend.journal.get(asked.work_id, 0)
    if first is None:
        raise WorkNotFound(asked.work_id)
    origin = await versions.find(parts, asked.work_id, asked.version)
    snapshot = jsonio.load(await bodies.load(parts.backend, origin))
    item = await bodies.load_item(parts.backend, first)
    payload = dict(item.payload)
    for name in _OVER:
        snapshot.pop(name, None)
    for path, value in asked.changes.items():
        _set({"data": snapshot["data"], "payload": payload}, path, value)
    work = NewWork(
        **{
            "engine": item.engine,
            "payload": payload,
            "resources": item.resources,
            "capacities": item.capacities,
            "resource_scope": item.resource_scope,
            "labels": item.labels,
            "budget": item.budget,
            "family_budget": dict(first.control.family_budget),  # an account of its own, from zero
            "priority": item.priority,
            "work_id": new_id,
            **asked.options,
        }
    )
    new_work.check_new_work(work, parts.clock.now())
    raw = jsonio.dump({"payload": payload, "snapshot": snapshot}, what="fork", max_bytes=_BODY_MAX_BYTES)
    body = await bodies.store(parts.backend, raw)
    entry = new_work.first_entry(parts, work, body, work_id=new_id, actor=actor)
    entry = _with_origin(entry, asked, origin)
    [stands] = await new_work.store(parts, [entry])
    if stands.entry_id != entry.entry_id:
        event = stands.event
        if not isinstance(event, Enqueued) or event.fork != _origin(asked):
            raise EnqueueConflict(new_id, f"work id {new_id!r} already stands for other work")
    return new_id


def _origin(asked: Fork) -> values.Fork:
    return values.Fork(asked.work_id, asked.version, asked.reason)


def _with_origin(entry: Entry, asked: Fork, origin: Entry) -> Entry:
    assert isinstance(entry.event, Enqueued)
    made_by = origin.event.engine_version if isinstance(origin.event, Committed) else None
    event = replace(
        entry.event,
        fork=_origin(asked),
        waits=versions.waits_again(origin, entry.at),
        engine_version=made_by,
    )
    return replace(entry, event=event, control=apply(None, event, position=0, at=entry.at))


def _set(roots: Mapping[str, Any], path: str, value: Any) -> None:
    """Set what a path of names names; objects on the way are made where there are none.

    Raises:
        InputError: it begins elsewhere, or goes through what is no object.
    """
    first, *names = path.split(".")
    if first not in _ROOTS or not names or not all(names):
        raise InputError(
            f"{path!r} can't be set", hint="Write data.NAME or payload.NAME, NAME.NAME for deeper."
        )
    place = roots[first]
    for name in names[:-1]:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise InputError(f"{path!r} can't be set: {name!r} is no object")
    place[names[-1]] = value
