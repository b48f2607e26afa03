"""Idempotency keys that stand for their work for a stated time.

Such a key has a journal of its own. Each entry binds the key to new work until an instant,
and is the one place where it is decided: of several that enqueue under the key at the same
time, one entry stands, and the others find it. A key without a stated time needs none of
this: the id of its work follows from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable

from roost.core import new_work
from roost.core.parts import Parts
from roost.errors import StorageUnavailable
from roost.journal.control import apply
from roost.journal.entries import Body, Entry
from roost.journal.events import KeyBound
from roost.names import NAMESPACE_MARK

NAMESPACE = "roost-keys"  # of the journals of all keys; nobody else enqueues there
_TRIES = 50
_RACE_PAUSE_SECONDS = 0.02


def key_id(namespace: str, engine: str, key: str) -> str:
    """The id of a key's journal."""
    digest = hashlib.sha256(json.dumps([namespace, engine, key]).encode()).hexdigest()
    return f"{NAMESPACE}{NAMESPACE_MARK}key:{digest[:40]}"


async def bind(
    parts: Parts,
    journal_id: str,
    event: KeyBound,
    body: Body,
    after: Callable[[Parts, Entry], Awaitable[None]],
    *,
    actor: str,
) -> str:
    """Bind a key as `event` says, unless it stands for other work now. Durable, and enqueued, on return.

    Args:
        after: does what follows from an entry, see `core/outside.py`.

    Returns:
        The id of the work that the key stands for.

    Raises:
        StorageUnavailable: too many bind it at once; nothing was stored.
    """
    for _ in range(_TRIES):
        tail = await parts.backend.journal.tail(journal_id)
        bound = tail.control.bound if tail is not None else None
        if tail is not None and bound is not None and bound.until > parts.clock.now():
            if tail.control.outbox:  # who bound it may have died before the work was enqueued
                await after(parts, tail)
            return bound.work_id
        position, at = 0 if tail is None else tail.position + 1, parts.clock.now()
        entry = Entry(
            work_id=journal_id,
            position=position,
            entry_id=parts.ids.unique(),
            at=at,
            actor=actor,
            event=event,
            control=apply(tail.control if tail else None, event, position=position, at=at),
            body=body,
        )
        standing = await parts.backend.journal.append(entry, with_row=True)
        if standing.entry_id == entry.entry_id:
            await after(parts, entry)
            return event.work_id
        await parts.clock.sleep(parts.ids.uniform(0.0, _RACE_PAUSE_SECONDS))
    raise StorageUnavailable(f"too many enqueue under {journal_id!r} at once", hint="Try again.")


async def enqueue_bound(parts: Parts, entry: Entry) -> None:
    """Enqueue the work of a binding, unless it is there."""
    assert isinstance(entry.event, KeyBound)
    work, work_id = entry.event.work, entry.event.work_id
    assert work is not None
    assert entry.body is not None
    now = parts.clock.now()
    first = new_work.entry_of(parts, work, entry.body, work_id=work_id, at=now, actor=entry.actor)
    await new_work.store(parts, [first])
