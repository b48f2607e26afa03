"""The last hour, minute by minute, and the newest entries: what the feed of all journals says.

It reads the feed only when somebody looks, once for all who do, and a bounded number of
pages at a time. What it could not reach back to, it says (`covers_from`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from roost.clock import Clock
from roost.console.shared import Shared
from roost.core.client import Client
from roost.errors import StorageDenied
from roost.journal import budget
from roost.journal.entries import Entry
from roost.journal.events import Claimed, Committed, Enqueued, Kind, Noted

REFRESH_SECONDS = 1.0
REFRESH_COST_FACTOR = 10.0
DENIED_SECONDS = 60.0  # until a feed that was denied is asked for again
FIRST_ENTRIES = 2000  # how far back the first look goes
PAGE = 500
PAGES_MAX = 8  # that one refresh reads
KEPT_MAX = 2000  # entries that the feed of events can show
MINUTES = 60
_WORKERS_MAX = 500
_USES_MAX = 50  # of one blob that are named


@dataclass(slots=True)
class Seen:
    """A worker, as the feed shows it.

    Attributes:
        last_at: its latest entry.
        first_at: its earliest, as far as the feed was read.
        engines: of whose work it wrote, with the version that committed last there; empty: it has none.
    """

    first_at: float
    last_at: float
    engines: dict[str, str] = field(default_factory=dict)
    claims: int = 0
    commits: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Numbered:
    """An entry with its place in this process' feed; higher is newer."""

    number: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Use:
    """A version that names a blob."""

    work_id: str
    version: int
    engine: str
    at: float


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a work item that its people should know."""

    work_id: str
    at: float
    text: str


class Pulse:
    """See the module.

    Args:
        client: reads the feed of the console's namespace.

    Attributes:
        is_denied: the console's rights do not reach the feed, as those of a team's; nothing is known.
        notes: triggers that came to nothing in the last hour, by work id, the newest last.
        low: live work with a budget nearly used up, as of the last hour, likewise.
    """

    def __init__(self, client: Client, clock: Clock, shared: Shared) -> None:
        self._client = client
        self._clock = clock
        self._shared = shared
        self._cursor: str | None = None
        self._minutes: dict[int, Counter[tuple[str, str]]] = {}
        self.count = 0
        self.entries: deque[Numbered] = deque(maxlen=KEPT_MAX)
        self.acts: deque[Numbered] = deque(maxlen=KEPT_MAX)
        self.workers: dict[str, Seen] = {}
        self.artifacts: OrderedDict[str, list[Use]] = OrderedDict()
        self._versions: dict[int, Counter[tuple[str, str]]] = {}
        self.notes: OrderedDict[str, Notice] = OrderedDict()
        self.low: OrderedDict[str, Notice] = OrderedDict()
        self.covers_from = 0.0
        self.is_denied = False
        self._again_at = 0.0

    async def refresh(self) -> None:
        """Take in what was appended since."""
        now = self._clock.now()
        if now < self._again_at:
            return
        try:
            await self._shared.get(
                "pulse", self._read, for_seconds=REFRESH_SECONDS, cost_factor=REFRESH_COST_FACTOR
            )
            self.is_denied = False
        except StorageDenied:
            self.is_denied, self.covers_from, self._again_at = True, now, now + DENIED_SECONDS

    async def _read(self) -> bool:
        is_first = self._cursor is None
        limit = FIRST_ENTRIES if is_first else PAGE
        for _ in range(1 if is_first else PAGES_MAX):
            page = await self._client.feed(self._cursor, limit=limit, newest=is_first)
            if is_first:
                is_all = len(page.entries) < limit
                self.covers_from = 0.0 if is_all or not page.entries else page.entries[0].at
            self._take_in(page.entries)
            is_end = page.cursor == self._cursor or len(page.entries) < limit
            self._cursor = page.cursor
            if is_end:
                break
        self._forget()
        return True

    def _take_in(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.count += 1
            self.entries.append(Numbered(self.count, entry))
            if is_by_people(entry):
                self.acts.append(self.entries[-1])
            if isinstance(entry.event, Committed):
                self._committed(entry, entry.event)
            self._notice(entry)
            minute = self._minutes.setdefault(int(entry.at // 60), Counter())
            minute[_what(entry), entry.control.engine] += 1
            self._see(entry)

    def _committed(self, entry: Entry, event: Committed) -> None:
        """Which version of the engine it was, and which blobs it names."""
        engine = entry.control.engine
        minute = self._versions.setdefault(int(entry.at // 60), Counter())
        minute[engine, event.engine_version or ""] += 1
        for digest in event.artifacts:
            uses = self.artifacts.setdefault(digest, [])
            uses[:] = [use for use in uses if use.work_id != entry.work_id]
            uses.insert(0, Use(entry.work_id, event.version, engine, entry.at))
            del uses[_USES_MAX:]
            self.artifacts.move_to_end(digest)
        while len(self.artifacts) > KEPT_MAX:
            self.artifacts.popitem(last=False)

    def _notice(self, entry: Entry) -> None:
        """What is to be known of its work from now on; a retry, or a larger budget, ends that."""
        control, work_id = entry.control, entry.work_id
        if isinstance(entry.event, Noted):
            self.notes[work_id] = Notice(work_id, entry.at, entry.event.text)
            self.notes.move_to_end(work_id)
        elif entry.event.kind is Kind.RETRIED:
            self.notes.pop(work_id, None)
        own = "" if budget.breach(control) else budget.warning(control)
        words = own or (entry.event.warning if isinstance(entry.event, Committed) else "")
        if words and not control.state.is_terminal:
            self.low[work_id] = Notice(work_id, entry.at, words)
            self.low.move_to_end(work_id)
        elif control.state.is_terminal or control.over or entry.event.kind in _TELLING:
            self.low.pop(work_id, None)

    def _see(self, entry: Entry) -> None:
        """Workers write claims and all that follows under their own name."""
        event = entry.event
        lease = entry.control.lease
        name = event.worker_id if isinstance(event, Claimed) else lease.worker_id if lease else entry.actor
        if name != entry.actor or (name not in self.workers and not isinstance(event, Claimed)):
            return
        seen = self.workers.setdefault(name, Seen(entry.at, entry.at))
        seen.last_at = max(seen.last_at, entry.at)
        seen.engines.setdefault(entry.control.engine, "")
        if isinstance(event, Committed):
            seen.engines[entry.control.engine] = event.engine_version or ""
        seen.claims += isinstance(event, Claimed)
        seen.commits += isinstance(event, Committed)
        seen.failures += event.kind is Kind.ATTEMPT_FAILED

    def _forget(self) -> None:
        oldest = int(self._clock.now() // 60) - MINUTES
        for minute in [minute for minute in self._minutes if minute < oldest]:
            del self._minutes[minute]
            self._versions.pop(minute, None)
        for notices in (self.notes, self.low):
            for work_id in [one.work_id for one in notices.values() if one.at < oldest * 60]:
                del notices[work_id]
            while len(notices) > KEPT_MAX:
                notices.popitem(last=False)
        while len(self.workers) > _WORKERS_MAX:
            del self.workers[min(self.workers, key=lambda name: self.workers[name].last_at)]

    @property
    def read_up_to(self) -> float | None:
        """When the newest entry was written that the feed has given; None: it gave none."""
        return self.entries[-1].entry.at if self.entries else None

    def series(self, what: str, engine: str | None = None) -> list[int]:
        """How often something happened in each of the last 60 minutes, oldest first."""
        now = int(self._clock.now() // 60)
        return [
            sum(
                count
                for (kind, name), count in self._minutes.get(minute, Counter()).items()
                if kind == what and engine in (None, name)
            )
            for minute in range(now - MINUTES + 1, now + 1)
        ]

    def engines(self) -> list[str]:
        """Engines that had entries in the last hour, but for the journal of operators' deeds."""
        return sorted(
            {engine for minute in self._minutes.values() for kind, engine in minute if kind != Kind.OPERATED}
        )

    def versions(self, engine: str) -> list[tuple[str, int]]:
        """The versions of an engine that committed in the last hour, with how many steps."""
        found = sum(self._versions.values(), Counter())
        return sorted((version, count) for (name, version), count in found.items() if name == engine)

    def newest(self, limit: int, *, after: int = 0) -> Sequence[Numbered]:
        """The newest entries, newest first, that came after a place."""
        found: list[Numbered] = []
        for numbered in reversed(self.entries):
            if numbered.number <= after or len(found) >= limit:
                break
            found.append(numbered)
        return found


_TELLING = frozenset({Kind.COMMITTED, Kind.BUDGET_SET})
"""Kinds after which it is known anew whether a budget is nearly used up."""


def is_by_people(entry: Entry) -> bool:
    """Whether somebody outside did it, by hand or by a program, and not Roost in its own course."""
    event = entry.event
    if isinstance(event, Enqueued):
        return event.parent is None and event.cause is None
    if event.kind is Kind.EVICTED:  # workers do so, too
        return entry.actor.startswith(CONSOLE_ACTOR)
    return event.kind in _ACTS and not entry.actor.startswith(_OWN_ACTORS)


_ACTS = frozenset(
    {
        Kind.OPERATED,
        Kind.CANCEL_REQUESTED,
        Kind.RETRIED,
        Kind.PAUSED,
        Kind.RESUMED,
        Kind.BUDGET_SET,
        Kind.SIGNALED,
    }
)
CONSOLE_ACTOR = "console:"
_OWN_ACTORS = ("sweeper:", "child:", "parent:", "trigger:")


def _what(entry: Entry) -> str:
    """What an entry counts as: how work ended, or its kind."""
    state = entry.control.state
    if state.is_terminal and entry.event.kind in _ENDS:
        return state.value
    return entry.event.kind.value


_ENDS = frozenset({Kind.COMMITTED, Kind.ATTEMPT_FAILED, Kind.FAILED, Kind.CANCELLED})
