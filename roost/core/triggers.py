"""Triggers: which of them an end of work meets, and the work that they make of it.

The rules stand in the entry that ended the work, so that whoever does what follows from
it does the same, whatever its own settings say; and the ids of the new work follow from
that entry, so that it is enqueued once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from roost import jsonio
from roost.core import bodies, ends, new_work
from roost.core.parts import Parts
from roost.errors import PayloadError
from roost.journal.entries import Control, Entry
from roost.journal.events import AttemptFailed, Ending, Enqueued, Failed
from roost.journal.values import Cause, Fire
from roost.models import Lane, WorkItem
from roost.names import ID_MAX_CHARS, NAMESPACE_MARK, REASON_MAX_CHARS
from roost.rules import Trigger

log = logging.getLogger("roost.triggers")

DEPTH_MAX = 100  # triggers in a row; beyond it they go round in a circle


def of_end(parts: Parts, control: Control) -> tuple[Fire, ...]:
    """The triggers that work meets which has ended as `control` says; their conditions come later."""
    return tuple(
        Fire(name, rule.enqueue, rule.when, tuple(rule.payload.items()), rule.priority, rule.resources)
        for name, rule in sorted(parts.settings.triggers.items())
        if rule.engine == control.engine and control.state in rule.on
    )


def triggered_id(work_id: str, position: int, trigger: str) -> str:
    """The id of the work that a trigger makes of the end at `position`."""
    namespace, mark, name = work_id.rpartition(NAMESPACE_MARK)
    text = f"{name}.{position}.{trigger}"
    if len(text) > ID_MAX_CHARS:
        text = f"triggered-{hashlib.sha256(f'{work_id} {position} {trigger}'.encode()).hexdigest()}"
    return f"{namespace}{mark}{text}"


async def fire(parts: Parts, entry: Entry) -> str:
    """Enqueue what the triggers of an end make of it; again, if need be.

    Returns:
        What of it came to nothing, and why; the same each time. Empty: nothing did.
    """
    assert isinstance(entry.event, Ending)
    first = await parts.backend.journal.get(entry.work_id, 0)
    if first is None or not isinstance(first.event, Enqueued):
        return ""  # expired meanwhile
    depth = 1 if first.event.cause is None else first.event.cause.depth + 1
    if depth > DEPTH_MAX:
        return _failed(entry, [f"it ended after {depth - 1} triggers in a row, and fires no more"])
    ended = await _document(parts, entry, first)
    faults: list[str] = []
    new: list[Entry] = []
    for rule in entry.event.fires:
        try:
            made = await _made(parts, entry, rule, ended, depth)
        except (ValueError, PayloadError) as error:
            faults.append(f"trigger {rule.name} makes nothing of it: {error}")
            continue
        if made is not None:
            new.append(made)
    for wanted, stands in zip(new, await new_work.store(parts, new), strict=True):
        if not _is_the_same(wanted, stands) and not await _stored_instead(parts, wanted, stands):
            faults.append(f"a trigger can't enqueue {wanted.work_id}: other work has its id")
    return _failed(entry, faults) if faults else ""


def _is_the_same(wanted: Entry, stands: Entry) -> bool:
    return _is_of_former(wanted, stands) and _cause(stands).origin_at in (None, _cause(wanted).origin_at)


def _is_of_former(wanted: Entry, stands: Entry) -> bool:
    """Whether the same trigger made both, at the end of work with the same id."""
    return replace(_cause(stands), origin_at=None) == replace(_cause(wanted), origin_at=None)


def _cause(entry: Entry) -> Cause:
    cause = entry.event.cause if isinstance(entry.event, Enqueued) else None
    return Cause("", 0, "") if cause is None else cause


async def _stored_instead(parts: Parts, wanted: Entry, stands: Entry) -> bool:
    """Store work instead of what a trigger made of deleted work with the id of this, if that has ended."""
    if not _is_of_former(wanted, stands) or not await ends.make_room(parts, stands):
        return False
    [again] = await new_work.store(parts, [wanted])
    return _is_the_same(wanted, again)


def _failed(entry: Entry, faults: Sequence[str]) -> str:
    text = "; ".join(faults)[:REASON_MAX_CHARS]
    extra = {"event": "trigger.failed", "work_id": entry.work_id}
    log.error("%s: %s", entry.work_id, text, extra=extra)
    return text


async def _made(parts: Parts, entry: Entry, rule: Fire, ended: dict[str, Any], depth: int) -> Entry | None:
    """The first entry of what a trigger makes of an end; None if its condition is not met.

    Raises:
        ValueError: an expression can't be worked out.
        PayloadError: what it gives is no payload.
    """
    trigger = Trigger.model_construct(when=rule.when, payload=dict(rule.payload))
    payload = trigger.payload_of(ended)
    if payload is None:
        return None
    raw = jsonio.dump(payload, what="payload", max_bytes=jsonio.PAYLOAD_MAX_BYTES)
    work_id, lane = triggered_id(entry.work_id, entry.position, rule.name), Lane.of(rule.priority)
    now = parts.clock.now()
    event = Enqueued(
        engine=rule.enqueue,
        lane=lane,
        priority=rule.priority,
        resources=tuple(dict.fromkeys(rule.resources)),
        cause=Cause(entry.work_id, entry.position, rule.name, depth, entry.control.created_at),
        account=entry.control.account,
        family_budget=entry.control.family_budget,
        trace=parts.observer.enqueuing(work_id, rule.enqueue, lane, now) if parts.observer else "",
    )
    body = await bodies.store(parts.backend, raw)
    return new_work.entry_of(parts, event, body, work_id=work_id, at=now, actor=entry.actor)


async def _document(parts: Parts, entry: Entry, first: Entry) -> dict[str, Any]:
    """What a trigger's expressions are over."""
    item: WorkItem = await bodies.load_item(parts.backend, first)
    error = entry.event.error if isinstance(entry.event, AttemptFailed | Failed) else None
    return {
        "item": item.model_dump(mode="json"),
        "snapshot": await _snapshot(parts, entry),
        "state": entry.control.state.value,
        "error": None if error is None else {"type": error.type, "message": error.message},
    }


async def _snapshot(parts: Parts, entry: Entry) -> dict[str, Any] | None:
    position = entry.control.snapshot_position
    if position is None:
        return None
    last = entry if position == entry.position else await parts.backend.journal.get(entry.work_id, position)
    if last is None:
        return None
    snapshot = bodies.load_snapshot(
        bodies.Dumped(await bodies.load(parts.backend, last)),
        work_id=entry.work_id,
        engine=entry.control.engine,
        version=entry.control.version,
        engine_version=entry.control.engine_version,
    )
    return snapshot.model_dump(mode="json")
