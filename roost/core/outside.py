"""Appends by those who don't hold the lease: client, sweeper, claims."""

from __future__ import annotations

from roost.core import outbox
from roost.core.parts import Parts
from roost.journal.control import apply
from roost.journal.entries import Body, Entry, Event


def follow(parts: Parts, tail: Entry, event: Event, *, actor: str, body: Body | None = None) -> Entry:
    """The entry that would follow `tail` with `event`."""
    at = parts.clock.now()
    position = tail.position + 1
    return Entry(
        work_id=tail.work_id,
        position=position,
        entry_id=parts.ids.unique(),
        at=at,
        actor=actor,
        event=event,
        control=apply(tail.control, event, position=position, at=at),
        body=body,
    )


async def append(
    parts: Parts, tail: Entry, event: Event, *, actor: str, body: Body | None = None
) -> Entry | None:
    """Append `event` after `tail`, and do what follows from it.

    The index row goes with the append: work that waits for ever, or has ended, has a row
    that no sweeper would look at, and who appends may die before the delivery is sent.
    While a lease is held, its end brings somebody; the row is then its holder's.

    Returns:
        The entry, or None if the position was taken: the caller reads the tail and
        decides anew.
    """
    entry = follow(parts, tail, event, actor=actor, body=body)
    is_held = entry.control.lease is not None
    standing = await parts.backend.journal.append(entry, with_row=not is_held)
    if standing.entry_id != entry.entry_id:
        return None
    if not is_held:
        await outbox.after(parts, entry)
    return entry
