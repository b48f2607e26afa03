"""What operators did that is in no history of a work item: who, what and why, in journals of their own.

A purge deletes the history that could tell of it; limits and evictions are of resources, which
have none. Each is one entry in the journal of its namespace and month, written before it is
done; so the journal expires as work does. Engines, lanes and days are in that of the switches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from roost.core import switches
from roost.core.parts import Parts
from roost.errors import StorageUnavailable
from roost.journal.control import apply
from roost.journal.entries import Entry
from roost.journal.events import DailySet, Operated, Switched
from roost.journal.limits import FOREVER_AT, Change, Close, Open, SetCapacity, SetRate
from roost.journal.lines import engine_target
from roost.names import operators_prefix

MONTHS_MAX = 24  # that are looked through
_TRIES = 100
_RACE_PAUSE_SECONDS = 0.02
_PAGE = 200
_DETAILS_MAX_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that an operator did.

    Attributes:
        what: such as `purge`, `evict`, `limits`, `pause`, `resume`, `daily budget`, `drop`.
        target: what it was done to.
        details: the ids of many, or what was set.
    """

    at: float
    actor: str
    what: str
    target: str
    reason: str
    details: str = ""


def journal_id(namespace: str, at: float) -> str:
    """The journal of a namespace for the month of an instant."""
    return f"{operators_prefix(namespace)}{datetime.fromtimestamp(at, UTC):%Y-%m}"


async def record(parts: Parts, namespace: str, event: Operated, *, actor: str) -> None:
    """Append what an operator is about to do.

    Raises:
        StorageUnavailable: too many operators act at once.
    """
    event = Operated(event.what, event.target, event.reason[:500], event.details[:_DETAILS_MAX_CHARS])
    for _ in range(_TRIES):
        at = parts.clock.now()
        name = journal_id(namespace, at)
        tail = await parts.backend.journal.tail(name)
        position = 0 if tail is None else tail.position + 1
        control = apply(tail.control if tail else None, event, position=position, at=at)
        entry = Entry(name, position, parts.ids.unique(), at, actor, event, control)
        if (await parts.backend.journal.append(entry, with_row=True)).entry_id == entry.entry_id:
            return
        await parts.clock.sleep(parts.ids.uniform(0.0, _RACE_PAUSE_SECONDS))
    raise StorageUnavailable("too many operators act at once", hint="Try again.")


async def read(parts: Parts, namespace: str, *, limit: int) -> list[Deed]:
    """The newest deeds of a namespace, newest first; pauses of lanes are everybody's."""
    found = await _of_operators(parts, namespace, limit)
    ours, after = engine_target("", namespace), -1
    thrown: list[Deed] = []
    while len(thrown) < limit:
        page = await parts.backend.journal.read(
            switches.JOURNAL_ID, after=after, limit=_PAGE, newest_first=True
        )
        thrown += [deed for entry in page if (deed := _of_switch(entry, namespace, ours)) is not None]
        if len(page) < _PAGE:
            break
        after = page[-1].position
    return sorted([*found, *thrown], key=lambda deed: -deed.at)[:limit]


async def _of_operators(parts: Parts, namespace: str, limit: int) -> list[Deed]:
    month = datetime.fromtimestamp(parts.clock.now(), UTC).replace(day=15)
    found: list[Deed] = []
    for _ in range(MONTHS_MAX):
        name, after = journal_id(namespace, month.timestamp()), -1
        while len(found) < limit:
            page: Sequence[Entry] = await parts.backend.journal.read(
                name, after=after, limit=_PAGE, newest_first=True
            )
            found += [_of(entry) for entry in page]
            if len(page) < _PAGE:
                break
            after = page[-1].position
        if len(found) >= limit:
            break
        month = month.replace(year=month.year - (month.month == 1), month=(month.month - 2) % 12 + 1)
    return found


def _of(entry: Entry) -> Deed:
    event = entry.event
    assert isinstance(event, Operated)
    return Deed(entry.at, entry.actor, event.what, event.target, event.reason, event.details)


def _of_switch(entry: Entry, namespace: str, ours: str) -> Deed | None:
    match entry.event:
        case Switched(target=target, is_paused=is_paused, reason=reason):
            if target.startswith("engine:") and not target.startswith(ours):
                return None
            what = "pause" if is_paused else "resume"
            shown = f"engine {target.removeprefix(ours)}" if target.startswith(ours) else target
            return Deed(entry.at, entry.actor, what, shown, reason)
        case DailySet(namespace=of, budget=budget, reason=reason) if of == namespace:
            details = ", ".join(f"{name} {limit:g}" for name, limit in budget) or "as the settings say"
            whose = namespace or "the default namespace"
            return Deed(entry.at, entry.actor, "daily budget", whose, reason, details)
    return None


def describe(change: Change) -> str:
    """A change of a resource's limits, in words."""
    match change:
        case SetCapacity(capacity):
            return "capacity as its users say" if capacity is None else f"capacity {capacity}"
        case SetRate(rate):
            return "no rate" if rate is None else f"{rate.count} starts in {rate.period_seconds:g} s"
        case Close(until) if until >= FOREVER_AT:
            return "closed until it is opened"
        case Close(until):
            return f"closed until {datetime.fromtimestamp(until, UTC):%Y-%m-%dT%H:%M:%SZ}"
        case Open():
            return "open"
