"""Engines and lanes that operators have paused, workers that they asked to stop, and what namespaces
may use up each day: one journal, read by every worker as it sweeps.

An engine is paused within a namespace, a lane for all, as the lanes are shared. Work of a
paused engine is thrown back without a claim: its delivery is acknowledged, and who resumes
the engine sends new ones. Work in a paused lane stays in its queue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from roost.core.parts import Parts
from roost.errors import InputError, StorageUnavailable
from roost.journal.control import apply
from roost.journal.entries import Control, Entry, IndexRow
from roost.journal.events import DailySet, Switch, Switched
from roost.journal.lines import engine_target, lane_target, worker_target
from roost.journal.values import Amounts
from roost.models import Lane, State
from roost.names import namespace_of
from roost.storage.ports import Message
from roost.storage.query import IndexQuery

JOURNAL_ID = "roost-switches/all"
STATE_MAX_BYTES = 200_000  # of what each entry here carries; an item of DynamoDB has room for twice that
_TRIES = 50
_RACE_PAUSE_SECONDS = 0.02
_PAGE = 200


class Switches:
    """What a worker knows of them.

    Args:
        on_read: is called whenever they were read.
    """

    def __init__(self, parts: Parts, on_read: Callable[[], None] | None = None) -> None:
        self._parts = parts
        self._on_read = on_read
        self._known: tuple[Switch, ...] = ()
        self._daily: dict[str, Amounts] = {}

    async def read(self) -> tuple[Switch, ...]:
        """Read them; strongly consistent, one call."""
        tail = await self._parts.backend.journal.tail(JOURNAL_ID)
        self._known = tail.control.switches if tail is not None else ()
        self._daily = dict(tail.control.daily) if tail is not None else {}
        if self._on_read is not None:
            self._on_read()
        return self._known

    def daily(self, namespace: str) -> Amounts:
        """What a namespace may use up in a day; empty: as much as it likes."""
        return self._daily.get(namespace) or self._parts.settings.daily_budget

    def open_lanes(self, lanes: Sequence[Lane]) -> Sequence[Lane]:
        """Those of the lanes that are not paused."""
        if not self._known:
            return lanes
        return [lane for lane in lanes if not self.lane_reason(lane)]

    @property
    def has_paused_lane(self) -> bool:
        """Whether any lane is paused."""
        return any(self.lane_reason(lane) for lane in Lane) if self._known else False

    def lane_reason(self, lane: Lane) -> str:
        """Why a lane is paused; empty: it is not."""
        return self._reason(lane_target(lane))

    def engine_reason(self, engine: str, work_id: str) -> str:
        """Why the engine of a work item is paused; empty: it is not."""
        return self._reason(engine_target(engine, namespace_of(work_id))) if self._known else ""

    def drain_reason(self, worker_id: str) -> str:
        """Why a worker is asked to stop; empty: it is not."""
        return self._reason(worker_target(worker_id)) if self._known else ""

    def _reason(self, target: str) -> str:
        return next((switch.reason or "paused" for switch in self._known if switch.target == target), "")


async def throw(parts: Parts, event: Switched | DailySet, *, actor: str) -> bool:
    """Append to the journal of switches; False if it stood so already.

    Raises:
        InputError: more is paused, or has a budget of its own, than one entry can hold.
        StorageUnavailable: too many throw switches at once.
    """
    for _ in range(_TRIES):
        tail = await parts.backend.journal.tail(JOURNAL_ID)
        if _stands(tail, event):
            return False
        position, at = 0 if tail is None else tail.position + 1, parts.clock.now()
        control = apply(tail.control if tail else None, event, position=position, at=at)
        _check_room(tail.control if tail else None, control)
        entry = Entry(JOURNAL_ID, position, parts.ids.unique(), at, actor, event, control)
        stands = await parts.backend.journal.append(entry, with_row=True)
        if stands.entry_id == entry.entry_id:
            return True
        await parts.clock.sleep(parts.ids.uniform(0.0, _RACE_PAUSE_SECONDS))
    raise StorageUnavailable("too many throw switches at once", hint="Try again.")


def _check_room(before: Control | None, after: Control) -> None:
    """Raises InputError: what all who sweep read at once would be too much."""
    if max(STATE_MAX_BYTES, _size(before)) < _size(after):
        raise InputError(
            f"what is paused and what namespaces may use up in a day takes more than {STATE_MAX_BYTES} bytes",
            hint="Resume what need not be paused, give shorter reasons, or set one budget for all "
            "namespaces ([budgets] daily).",
        )


def _size(control: Control | None) -> int:
    return 0 if control is None else len(msgspec.json.encode((control.switches, control.daily)))


def _stands(tail: Entry | None, event: Switched | DailySet) -> bool:
    """Whether it is so already."""
    if isinstance(event, DailySet):
        return (dict(tail.control.daily).get(event.namespace, ()) if tail else ()) == event.budget
    standing = tail.control.switches if tail is not None else ()
    return any(switch.target == event.target for switch in standing) is event.is_paused


async def wake_engine(parts: Parts, engine: str, namespace: str) -> int:
    """Send a delivery for all work of an engine that could run now; returns how many.

    Whoever does it may die on the way: the sweepers find the rest by its due rows.
    """
    sent = 0
    for state in (State.QUEUED, State.SCHEDULED, State.BLOCKED):
        query, cursor = IndexQuery(state=state, engine=engine, namespace=namespace), None
        while True:
            page = await parts.backend.index.list(query, cursor=cursor, limit=_PAGE)
            now = parts.clock.now()
            messages = [
                Message(row.work_id, row.position, row.lane) for row in page.rows if _is_ready(row, now)
            ]
            if messages:
                await parts.backend.queue.send(messages)
            sent, cursor = sent + len(messages), page.cursor
            if cursor is None:
                break
    return sent


def _is_ready(row: IndexRow, now: float) -> bool:
    return row.wake_at is None or row.wake_at <= now
