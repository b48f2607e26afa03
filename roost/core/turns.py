"""Turns in a conversation: what follows from the entries of its journal, and of the work in it.

A conversation has a journal of its own, which `journal/control.py` folds into a line: who
is first has the turn. All that changes the line is one append to that journal; what
follows from it (new work, the turn, a request to end) is done again by whoever finds it
undone. Each check below is made against the tail that the append after it relies on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct
from msgspec.structs import replace

from roost.core import new_work
from roost.core.parts import Parts
from roost.errors import StorageUnavailable
from roost.journal.control import apply
from roost.journal.effects import EndTurn, Interrupt, StartTurns, TakeTurn
from roost.journal.entries import Body, Control, Entry
from roost.journal.events import CancelRequested, Event, TurnEnded, TurnGiven, TurnTaken
from roost.journal.values import Place

_TRIES = 50  # lost races for a place in line; each means that somebody else took one
_RACE_PAUSE_SECONDS = 0.02

Wanted = tuple[TurnTaken, Body | None]
"""A place to take, and the body of the work that is to be enqueued for it."""


class Appending(Struct, frozen=True):
    """How to append to another journal, and to do what follows from it; see `core/outside.py`."""

    append_to: Callable[..., Awaitable[Entry | None]]
    after: Callable[[Parts, Entry], Awaitable[None]]


async def carry_out(
    parts: Parts, entry: Entry, effect: TakeTurn | EndTurn | Interrupt | StartTurns, appending: Appending
) -> None:
    """Do one effect of an entry; idempotent."""
    match effect:
        case TakeTurn():
            await _stand_in_line_again(parts, entry, appending)
        case EndTurn():
            await _leave_line(parts, entry, appending)
        case Interrupt():
            await _interrupt(parts, entry, appending)
        case StartTurns():
            await _enqueue(parts, entry)
            await give_turn(parts, entry.work_id, appending, actor=entry.actor)


async def take_place(
    parts: Parts,
    conversation: str,
    choose: Callable[[Entry | None], Awaitable[Wanted | None]],
    appending: Appending,
    *,
    actor: str,
) -> Entry | None:
    """Append what `choose` makes of a conversation's tail (None: it has none yet), and do what follows.

    `choose` may read other journals: should the conversation move meanwhile, it is asked again.

    Returns:
        The entry; None if `choose` wants no place.

    Raises:
        StorageUnavailable: too many others take one at the same time.
    """
    for _ in range(_TRIES):
        tail = await parts.backend.journal.tail(conversation)
        wanted = await choose(tail)
        if wanted is None:
            return None
        entry = _place_after(parts, conversation, tail, wanted, actor)
        standing = await parts.backend.journal.append(entry, with_row=True)
        if standing.entry_id == entry.entry_id:
            await appending.after(parts, entry)
            return entry
        await parts.clock.sleep(parts.ids.uniform(0.0, _RACE_PAUSE_SECONDS))
    raise StorageUnavailable(f"too many enqueue in {conversation!r} at once", hint="Try again.")


def _place_after(parts: Parts, conversation: str, tail: Entry | None, wanted: Wanted, actor: str) -> Entry:
    event, body = wanted
    position, at = 0 if tail is None else tail.position + 1, parts.clock.now()
    return Entry(
        work_id=conversation,
        position=position,
        entry_id=parts.ids.unique(),
        at=at,
        actor=actor,
        event=event,
        control=apply(tail.control if tail else None, event, position=position, at=at),
        body=body,
    )


def holds(control: Control, conversation: str, place: Place) -> bool:
    """Whether work has not ended, and stands in line in this very place."""
    turn = control.turn
    is_its = turn is not None and (turn.conversation, turn.asked_at) == (conversation, place.asked_at)
    return is_its and not control.state.is_terminal


async def give_turn(parts: Parts, conversation: str, appending: Appending, *, actor: str) -> None:
    """Give the turn to who is first in line, after those that have ended are out of it.

    Whoever is not first any more when the turn is given has ended, and can't be given it.
    """
    tail = await parts.backend.journal.tail(conversation)
    ended: list[tuple[str, int]] = []
    for place in tail.control.line if tail is not None else ():
        work = await work_in(parts, conversation, place)
        if work is not None and holds(work.control, conversation, place):
            if not ended:
                await _give(parts, conversation, place, appending, actor)
            break
        ended.append((place.work_id, place.asked_at))
    if ended:  # what follows from this entry gives the turn to the next
        await _end(parts, conversation, ended, appending, actor)


async def _give(parts: Parts, conversation: str, place: Place, appending: Appending, actor: str) -> None:
    def unless_given(tail: Entry) -> Event | None:
        turn = tail.control.turn
        is_due = turn is not None and not turn.is_given and holds(tail.control, conversation, place)
        return TurnGiven() if is_due else None

    await appending.append_to(parts, place.work_id, unless_given, actor=actor)


async def _end(
    parts: Parts, conversation: str, ended: list[tuple[str, int]], appending: Appending, actor: str
) -> None:
    def those_in_line(tail: Entry) -> Event | None:
        places = [(place.work_id, place.asked_at) for place in tail.control.line]
        found = tuple(place for place in ended if place in places)
        return TurnEnded(found) if found else None

    await appending.append_to(parts, conversation, those_in_line, actor=actor)


async def _leave_line(parts: Parts, entry: Entry, appending: Appending) -> None:
    turn = entry.control.turn
    assert turn is not None
    await _end(parts, turn.conversation, [(entry.work_id, turn.asked_at)], appending, entry.actor)


async def _stand_in_line_again(parts: Parts, entry: Entry, appending: Appending) -> None:
    """For work that an operator put back to life; if it ends meanwhile, `give_turn` finds out."""
    turn = entry.control.turn
    assert turn is not None

    async def unless_there(tail: Entry | None) -> Wanted | None:
        line = tail.control.line if tail is not None else ()
        if any((place.work_id, place.asked_at) == (entry.work_id, entry.position) for place in line):
            return None
        work = await parts.backend.journal.tail(entry.work_id)
        now = work.control.turn if work is not None and not work.control.state.is_terminal else None
        if now is None or now.asked_at != entry.position or now.is_given:
            return None  # it had its turn already
        return TurnTaken(entry.work_id, entry.position), None

    await take_place(parts, turn.conversation, unless_there, appending, actor=entry.actor)


async def _interrupt(parts: Parts, entry: Entry, appending: Appending) -> None:
    """Ask everybody who was in line before the place that `entry` took to end, now."""
    assert isinstance(entry.event, TurnTaken)
    event = CancelRequested(f"interrupted by {entry.event.work_id}", by=entry.at)
    for place in entry.control.line:
        if place.position == entry.position:
            break
        await work_in(parts, entry.work_id, place)
        await appending.append_to(
            parts, place.work_id, _unless_asked(entry.work_id, place, event), actor=entry.actor
        )


def _unless_asked(conversation: str, place: Place, event: CancelRequested) -> Callable[[Entry], Event | None]:
    def choose(tail: Entry) -> Event | None:
        control = tail.control
        is_asked = control.cancel_requested and control.cancel_by is not None
        return event if holds(control, conversation, place) and not is_asked else None

    return choose


async def _enqueue(parts: Parts, entry: Entry) -> None:
    """Enqueue the work that `entry` brought, unless it is there."""
    if not isinstance(entry.event, TurnTaken) or entry.event.work is None or entry.body is None:
        return
    work = entry.event.work
    assert work.turn is not None
    is_first = entry.control.line[0].position == entry.position
    event = replace(work, turn=replace(work.turn, is_given=is_first))
    now = parts.clock.now()
    first = new_work.entry_of(
        parts, event, entry.body, work_id=entry.event.work_id, at=now, actor=entry.actor
    )
    await new_work.store(parts, [first])


async def work_in(parts: Parts, conversation: str, place: Place) -> Entry | None:
    """The tail of the work in a place; enqueued now, if whoever took the place died before."""
    tail = await parts.backend.journal.tail(place.work_id)
    if tail is not None:
        return tail
    entry = await parts.backend.journal.get(conversation, place.position)
    if entry is not None:
        await _enqueue(parts, entry)
    return await parts.backend.journal.tail(place.work_id)
