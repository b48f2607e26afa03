"""Appends by those who don't hold the lease, and what follows from any entry.

An entry's effects (`journal/effects.py`) are appends to other journals, and those have
effects of their own; so both are here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from msgspec.structs import replace

from roost.core import accounts, children, keys, outbox, triggers, turns
from roost.core.parts import Parts
from roost.errors import StorageUnavailable
from roost.journal import family, lines
from roost.journal.accounts import Balance
from roost.journal.control import apply
from roost.journal.effects import (
    AllowFamily,
    CancelChildren,
    ChargeAccounts,
    Effect,
    EndTurn,
    EnqueueBound,
    FireTriggers,
    Interrupt,
    NotifyParent,
    SpawnChildren,
    StartTurns,
    TakeTurn,
    effects_of,
)
from roost.journal.entries import Body, Entry
from roost.journal.events import CancelRequested, ChildEnded, Ending, Event, Kind, Noted, Settled
from roost.journal.projection import project, project_over
from roost.journal.values import Family, Parent
from roost.models import State
from roost.names import REASON_MAX_CHARS

log = logging.getLogger("roost.outside")

_TRIES = 50  # lost races for one append; each means that the work item moved
_RACE_PAUSE_SECONDS = 0.02
_TOGETHER = 10  # children that are asked to end at the same time


def follow(
    parts: Parts,
    tail: Entry,
    event: Event,
    *,
    actor: str,
    body: Body | None = None,
    entry_id: str | None = None,
) -> Entry:
    """The entry that would follow `tail` with `event`."""
    at = parts.clock.now()
    position = tail.position + 1
    control = apply(tail.control, event, position=position, at=at)
    if isinstance(event, Ending) and control.state.is_terminal and parts.settings.triggers:
        event = replace(event, fires=triggers.of_end(parts, control))
        control = apply(tail.control, event, position=position, at=at)
    return Entry(
        work_id=tail.work_id,
        position=position,
        entry_id=entry_id or parts.ids.unique(),
        at=at,
        actor=actor,
        event=event,
        control=control,
        body=body,
    )


async def append(
    parts: Parts,
    tail: Entry,
    event: Event,
    *,
    actor: str,
    body: Body | None = None,
    entry_id: str | None = None,
) -> Entry | None:
    """Append `event` after `tail`, and do what follows from it.

    The index row goes with the append: work that waits for ever, or has ended, has a row
    that no sweeper would look at, and who appends may die before the delivery is sent.
    While a lease is held, its end brings somebody; the row is then its holder's.

    Args:
        entry_id: where the same append may be made by several, its id.

    Returns:
        The entry, or None if the position was taken: the caller reads the tail and
        decides anew.
    """
    entry = follow(parts, tail, event, actor=actor, body=body, entry_id=entry_id)
    is_held = entry.control.lease is not None
    standing = await parts.backend.journal.append(entry, with_row=not is_held)
    if standing.entry_id != entry.entry_id:
        return None
    if not is_held:
        await after(parts, entry, has_row=True)
        return entry
    if event.kind in _TOLD_AT_ONCE:
        await _tell_holder(parts, entry)
    if entry.position in entry.control.outbox:  # its holder does it again, should we die here
        await _do_all(parts, entry, entry)
    return entry


_TOLD_AT_ONCE = frozenset({Kind.CANCEL_REQUESTED, Kind.PAUSED, Kind.BUDGET_SET})
"""Kinds that a running step is not to be done with before its holder knows of them."""


async def _tell_holder(parts: Parts, entry: Entry) -> None:
    """Put the row ahead of the holder; its next heartbeat meets that, and reads the journal.

    What heartbeats made of the row is kept. Should one come in between, the next one mends it.
    """
    index = parts.backend.index
    if parts.backend.projects_on_append:
        return
    await index.put(project_over(entry, await index.get(entry.work_id)))


async def append_to(
    parts: Parts,
    work_id: str,
    choose: Callable[[Entry], Event | None],
    *,
    actor: str,
    body: Body | None = None,
) -> Entry | None:
    """Append what `choose` makes of the tail, however often the work item moves meanwhile.

    Returns:
        The entry, or None if there is no such work item or `choose` wants nothing of it.

    Raises:
        StorageUnavailable: the work item moves too fast; nothing was appended.
    """
    for _ in range(_TRIES):
        tail = await parts.backend.journal.tail(work_id)
        event = choose(tail) if tail is not None else None
        if tail is None or event is None:
            return None
        entry = await append(parts, tail, event, actor=actor, body=body)
        if entry is not None:
            return entry
        await parts.clock.sleep(parts.ids.uniform(0.0, _RACE_PAUSE_SECONDS))
    raise StorageUnavailable(f"work item {work_id!r} moves too fast", hint="Try again.")


async def after(parts: Parts, entry: Entry, *, has_row: bool = False) -> None:
    """Do what follows from an entry that left the work item without a holder.

    Effects come first: on a backend that does not write the row with the append, the row
    that stands is still due, so that a crash in here brings a sweeper; on others the row
    is due soon as long as `Control.outbox` has something in it.

    Args:
        has_row: the row was written with the entry. What earlier entries owe is then left to
            who is doing it: children report while their siblings are still being spawned. If
            nobody is, that row is due soon.
    """
    control = entry.control
    is_another_s = has_row and entry.position not in control.outbox
    if control.outbox and not is_another_s:
        await carry_out(parts, entry)
        if control.state.is_terminal and control.family is None and control.engine not in lines.ENGINES:
            await parts.backend.index.put(replace(project(entry), due_at=None))
            return
        settled = await append_to(parts, entry.work_id, lambda tail: _settled(tail, entry), actor=entry.actor)
        entry = settled or entry
        if settled is not None:
            return  # what follows from that entry is done
    if not has_row:
        await outbox.write_row(parts, entry)
    await outbox.send_next(parts, entry)


def _settled(tail: Entry, entry: Entry) -> Settled | None:
    """That all is done up to an entry; not of new work that has its id, since it was deleted."""
    is_its = tail.control.created_at == entry.control.created_at
    is_owed = any(position <= entry.position for position in tail.control.outbox)
    return Settled(entry.position) if is_its and is_owed else None


async def carry_out(parts: Parts, entry: Entry) -> Sequence[Balance]:
    """Do the effects of all entries that `entry` names as undone; each is idempotent.

    Returns:
        How the accounts stand that were charged; nothing, if none was.
    """
    balances: Sequence[Balance] = ()
    for position in entry.control.outbox:
        origin = (
            entry if position == entry.position else await parts.backend.journal.get(entry.work_id, position)
        )
        if origin is None:
            continue  # expired meanwhile
        balances = await _do_all(parts, origin, entry) or balances
    return balances


async def _do_all(parts: Parts, origin: Entry, tail: Entry) -> Sequence[Balance]:
    """Do the effects of one entry; gives how the accounts stand that it was charged to.

    Args:
        tail: the last entry of its journal that is known.
    """
    balances: Sequence[Balance] = ()
    for effect in effects_of(origin):
        if isinstance(effect, ChargeAccounts):
            balances = await accounts.charge(parts, origin)
        else:
            await carry_out_one(parts, origin, effect, tail)
    return balances


async def carry_out_one(parts: Parts, origin: Entry, effect: Effect, tail: Entry) -> None:
    """Do one effect of an entry, but for charges; idempotent. `tail` as for `_do_all`."""
    match effect:
        case AllowFamily():
            await accounts.allow(parts, origin)
        case TakeTurn() | EndTurn() | Interrupt() | StartTurns():
            await turns.carry_out(parts, origin, effect, turns.Appending(append_to, after))
        case EnqueueBound():
            await keys.enqueue_bound(parts, origin)
        case SpawnChildren():
            await _spawn(parts, origin, tail)
        case NotifyParent():
            await _notify_parent(parts, origin)
        case CancelChildren():
            await cancel_children(parts, origin, effect)
        case FireTriggers():
            await _fire(parts, origin)


async def _fire(parts: Parts, origin: Entry) -> None:
    """Fire triggers; that one came to nothing is noted in the history of what ended, once."""
    if text := await triggers.fire(parts, origin):
        await _note(parts, origin, text)


async def _note(parts: Parts, origin: Entry, text: str) -> None:
    note = Noted(text)
    await append_to(
        parts,
        origin.work_id,
        lambda tail: (
            note
            if tail.control.note != text and tail.control.created_at == origin.control.created_at
            else None
        ),
        actor=origin.actor,
    )


async def _spawn(parts: Parts, entry: Entry, tail: Entry) -> None:
    """Start the children; one whose id other work has is reported as failed, or noted if it is detached.

    One whose end is known by now is not started again: it may be deleted.
    """
    if tail.position != entry.position:  # it is not done for the first time
        tail = await parts.backend.journal.tail(entry.work_id) or tail
    spawned = await children.spawn(parts, entry, actor=entry.actor, known=tail.control.family)
    taken = {stands.work_id for stands in spawned}
    if not taken:
        return
    body = await children.report_of_taken_id(parts)
    for ordinal, work_id in family.children(entry.control.family or Family(), entry.work_id):
        if work_id in taken:
            taken.remove(work_id)
            _tell_taken(entry, work_id)
            parent = Parent(entry.work_id, ordinal, origin_at=entry.control.created_at)
            await _report(parts, parent, ChildEnded(work_id, ordinal, State.FAILED), body)
    if taken:
        text = f"can't be spawned: {', '.join(sorted(taken))}; other work has that id"[:REASON_MAX_CHARS]
        _tell_taken(entry, *sorted(taken))
        await _note(parts, entry, text)


def _tell_taken(entry: Entry, *work_ids: str) -> None:
    extra = {"event": "child.failed", "work_id": entry.work_id}
    for work_id in work_ids:
        log.error("%s can't be spawned by %s: other work has its id", work_id, entry.work_id, extra=extra)


async def _notify_parent(parts: Parts, entry: Entry) -> None:
    """Append a child's report to its parent's journal, once."""
    parent = entry.control.parent
    assert parent is not None
    body = await children.report(parts, entry)
    event = ChildEnded(entry.work_id, parent.ordinal, entry.control.state)
    await _report(parts, parent, event, body)


async def _report(parts: Parts, parent: Parent, event: ChildEnded, body: Body) -> None:
    def unless_known(tail: Entry) -> ChildEnded | None:
        if parent.origin_at not in (None, tail.control.created_at):
            return None  # its parent was deleted, and other work has that id now
        is_known = tail.control.family is not None and family.has_ended(tail.control.family, event.ordinal)
        return None if is_known else event

    await append_to(parts, parent.work_id, unless_known, actor=f"child:{event.child_id}", body=body)


async def cancel_children(
    parts: Parts, entry: Entry, effect: CancelChildren, only: Collection[str] | None = None
) -> None:
    """Ask the children that were open at `entry` to end, some at a time; `only` those, or all."""
    event = CancelRequested(effect.reason[:500], entry.control.cancel_by)
    found = family.open_children(entry.control.family, entry.work_id, only_bound=effect.only_bound)
    work_ids = [work_id for _, work_id in found if only is None or work_id in only]
    for start in range(0, len(work_ids), _TOGETHER):
        asking = [
            append_to(
                parts,
                work_id,
                lambda tail: _unless_ended(tail, entry, event),
                actor=f"parent:{entry.work_id}",
            )
            for work_id in work_ids[start : start + _TOGETHER]
        ]
        for asked in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(asked, BaseException):
                raise asked


def _unless_ended(tail: Entry, parent: Entry, event: CancelRequested) -> CancelRequested | None:
    control = tail.control
    link = control.parent
    is_ours = link is not None and link.work_id == parent.work_id
    is_ours = is_ours and link is not None and link.origin_at in (None, parent.control.created_at)
    if not is_ours or control.state.is_terminal or control.cancel_requested:
        return None
    return event
