"""Journals that are no work: lines of conversations, what keys stand for, what operators did.

Nobody runs them; each is the one place in which its question is decided, by an append at
a position that is free for one only. Their control state has an engine of its own, and is
`done` while there is nothing to wait for, so that they expire as work does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from roost.journal.entries import Control
from roost.journal.events import DailySet, KeyBound, Kind, Operated, Switch, Switched, TurnEnded, TurnTaken
from roost.journal.values import Bound, Place, Turn, Wait
from roost.names import NAMESPACE_MARK, REASON_MAX_CHARS, Lane, State

CONVERSATION_ENGINE = "roost.conversation"
KEY_ENGINE = "roost.key"
SWITCH_ENGINE = "roost.switches"
OPERATOR_ENGINE = "roost.operators"
ENGINES = frozenset({CONVERSATION_ENGINE, KEY_ENGINE, SWITCH_ENGINE, OPERATOR_ENGINE})


def _turn_taken(control: Control | None, event: TurnTaken, position: int, at: float) -> Control:
    """Into the journal of a conversation; the first one begins it."""
    before = control or Control(
        state=State.DONE, engine=CONVERSATION_ENGINE, position=position, created_at=at, since=at
    )
    line = (*before.line, Place(event.work_id, event.asked_at, position))
    return _in_line(before, line, position, at)


def _turn_ended(control: Control, event: TurnEnded, position: int, at: float) -> Control:
    line = tuple(place for place in control.line if (place.work_id, place.asked_at) not in event.ended)
    return _in_line(control, line, position, at)


def _in_line(control: Control, line: tuple[Place, ...], position: int, at: float) -> Control:
    """A conversation waits while anyone is in line, and is done while nobody is, so that it may expire."""
    reason = f"it is the turn of {line[0].work_id}; {len(line) - 1} in line behind it" if line else ""
    return replace(
        control,
        state=State.WAITING if line else State.DONE,
        position=position,
        since=at,
        waits=Wait() if line else None,
        line=line,
        reason=reason[:REASON_MAX_CHARS],
    )


def _key_bound(control: Control | None, event: KeyBound, position: int, at: float) -> Control:
    """Into the journal of a key, which is done at once, and expires some time after its last binding."""
    return Control(
        state=State.DONE,
        engine=KEY_ENGINE,
        position=position,
        created_at=control.created_at if control else at,
        since=event.until,
        outbox=control.outbox if control else (),
        bound=Bound(event.work_id, event.until, position),
    )


def engine_target(engine: str, namespace: str) -> str:
    """What a switch calls an engine of a namespace."""
    return f"engine:{namespace}{NAMESPACE_MARK}{engine}"


def worker_target(worker_id: str) -> str:
    """How switches name a worker: one that is asked to stop."""
    return f"worker:{worker_id}"


def lane_target(lane: Lane) -> str:
    """What a switch calls a lane."""
    return f"lane:{lane.value}"


def _switched(control: Control | None, event: Switched, position: int, at: float) -> Control:
    """Into the journal of switches, which waits while anything is paused, or a day has a budget."""
    before = control or Control(
        state=State.DONE, engine=SWITCH_ENGINE, position=position, created_at=at, since=at
    )
    switches = tuple(switch for switch in before.switches if switch.target != event.target)
    if event.is_paused:
        switches = (*switches, Switch(event.target, event.reason, at, event.by))
    return _of_switches(replace(before, switches=switches), position, at)


def _daily_set(control: Control | None, event: DailySet, position: int, at: float) -> Control:
    """Into the journal of switches, too, so that workers read both at once."""
    before = control or Control(
        state=State.DONE, engine=SWITCH_ENGINE, position=position, created_at=at, since=at
    )
    daily = dict(before.daily)
    daily.pop(event.namespace, None)
    if event.budget:
        daily[event.namespace] = event.budget
    return _of_switches(replace(before, daily=tuple(sorted(daily.items()))), position, at)


def _of_switches(control: Control, position: int, at: float) -> Control:
    paused = len(control.switches)
    is_set = bool(paused or control.daily)
    return replace(
        control,
        state=State.WAITING if is_set else State.DONE,
        position=position,
        since=at,
        waits=Wait() if is_set else None,
        reason=f"{paused} paused" if paused else "",
    )


def _operated(control: Control | None, event: Operated, position: int, at: float) -> Control:
    """Into a journal of operators' deeds, which expires some time after the last of them."""
    created_at = at if control is None else control.created_at
    return Control(
        state=State.DONE, engine=OPERATOR_ENGINE, position=position, created_at=created_at, since=at
    )


def asks_again(turn: Turn | None, position: int) -> Turn | None:
    """Work of a conversation that is put back to life stands in line again."""
    return None if turn is None else replace(turn, asked_at=position, is_given=False)


_CONVERSATION: frozenset[State | None] = frozenset({State.WAITING, State.DONE})

TABLE: dict[Kind, tuple[frozenset[State | None], Callable[[Any, Any, int, float], Control]]] = {
    Kind.TURN_TAKEN: (_CONVERSATION | {None}, _turn_taken),  # -> waiting
    Kind.TURN_ENDED: (_CONVERSATION, _turn_ended),  # -> waiting, done
    Kind.KEY_BOUND: (frozenset({None, State.DONE}), _key_bound),  # -> done
    Kind.SWITCHED: (_CONVERSATION | {None}, _switched),  # -> waiting, done
    Kind.OPERATED: (frozenset({None, State.DONE}), _operated),  # -> done
    Kind.DAILY_SET: (_CONVERSATION | {None}, _daily_set),  # -> waiting, done
}
"""What these journals meet, as `control.TABLE` has it for work; `settled` is in that one."""
