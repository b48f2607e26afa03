"""Enqueueing in a conversation: what becomes of a second enqueue while the first work runs."""

from __future__ import annotations

import hashlib
import json

from msgspec.structs import replace

from roost import jsonio
from roost.core import bodies, outside, turns
from roost.core.parts import Parts
from roost.errors import ConversationBusy, InputError
from roost.journal.entries import Body, Entry
from roost.journal.events import Committed, Enqueued, TurnTaken
from roost.journal.values import Fork, Place, Turn
from roost.names import NAMESPACE_MARK, IfBusy

NAMESPACE = "roost-conversations"  # of the journals of all conversations; nobody else enqueues there
LINE_MAX = 1000  # work items that wait in one conversation; each entry of its journal names them all

_APPENDING = turns.Appending(outside.append_to, outside.after)


def conversation_id(namespace: str, key: str) -> str:
    """The id of a conversation's journal."""
    digest = hashlib.sha256(json.dumps([namespace, key]).encode()).hexdigest()
    return f"{NAMESPACE}{NAMESPACE_MARK}conversation:{digest[:40]}"


async def enqueue(parts: Parts, first: Entry, raw: bytes, conversation: str, if_busy: IfBusy) -> bool:
    """Take a place in line for new work, and enqueue it. Both are durable on return.

    Nothing happens if there is work of that id, in line or ended.

    Args:
        first: the new work's first entry, without its turn.
        raw: its payload as stored.
        conversation: the id of its journal.

    Returns:
        Whether the work is new.

    Raises:
        ConversationBusy: under `REJECT`, earlier work has not ended; or the line is full.
        InputError: under `FORK`, the earlier work is of another engine.
        StorageUnavailable: too many enqueue at once; nothing was stored.
    """

    work_id, event = first.work_id, first.event
    assert isinstance(event, Enqueued)

    async def place_after(tail: Entry | None) -> turns.Wanted | None:
        line = tail.control.line if tail is not None else ()
        if any(place.work_id == work_id for place in line):
            return None  # its first try got so far; what follows from it is done below
        if await parts.backend.journal.get(work_id, 0) is not None:
            return None
        running = await _first_alive(parts, conversation, line)
        work, body = replace(event, turn=Turn(conversation)), first.body
        if running is None:
            return TurnTaken(work_id, 0, work), body
        if if_busy is IfBusy.REJECT:
            raise ConversationBusy(running.work_id, "has not ended")
        if len(line) >= LINE_MAX:
            raise ConversationBusy(running.work_id, f"has {len(line) - 1} in line behind it")
        if if_busy is IfBusy.FORK:
            work, body = await _forked(parts, work, raw, running) or (work, body)
        return TurnTaken(work_id, 0, work, if_busy in (IfBusy.INTERRUPT, IfBusy.FORK)), body

    if await turns.take_place(parts, conversation, place_after, _APPENDING, actor=first.actor) is not None:
        return True
    await _finish(parts, conversation, work_id)
    return False


async def _first_alive(parts: Parts, conversation: str, line: tuple[Place, ...]) -> Entry | None:
    """The tail of the first work in line that has not ended; the line may lag behind."""
    for place in line:
        work = await turns.work_in(parts, conversation, place)
        if work is not None and turns.holds(work.control, conversation, place):
            return work
    return None


async def _finish(parts: Parts, conversation: str, work_id: str) -> None:
    """See that the work of a place that was taken before is enqueued."""
    tail = await parts.backend.journal.tail(conversation)
    for place in tail.control.line if tail is not None else ():
        if place.work_id == work_id:
            await turns.work_in(parts, conversation, place)


async def _forked(parts: Parts, work: Enqueued, raw: bytes, running: Entry) -> tuple[Enqueued, Body] | None:
    """The new work with the last snapshot of the one that runs; None if that has none."""
    control = running.control
    if control.engine != work.engine:
        raise InputError(
            f"{running.work_id} is of engine {control.engine!r}, so {work.engine!r} can't go on from it",
            hint="Enqueue with --if-busy interrupt or queue.",
        )
    last = (
        None
        if control.snapshot_position is None
        else await parts.backend.journal.get(running.work_id, control.snapshot_position)
    )
    if last is None or not isinstance(last.event, Committed):
        return None
    snapshot = jsonio.load(await bodies.load(parts.backend, last))
    both = {"payload": jsonio.load(raw), "snapshot": snapshot}
    whole = jsonio.dump(both, what="fork", max_bytes=jsonio.PAYLOAD_MAX_BYTES + jsonio.SNAPSHOT_MAX_BYTES)
    fork = Fork(running.work_id, last.event.version)
    forked = replace(work, fork=fork, engine_version=last.event.engine_version)
    return forked, await bodies.store(parts.backend, whole)
