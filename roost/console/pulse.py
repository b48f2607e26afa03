"""The last hour, minute by minute, and the newest entries: what the feed of all journals says.

It reads the feed only when somebody looks, once for all who do, and a bounded number of
pages at a time. What it could not reach back to, it says (`covers_from`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from roost.clock import Clock
from roost.console.shared import Shared
from roost.core.client import Client
from roost.journal.entries import Claimed, Committed, Entry, Kind

REFRESH_SECONDS = 1.0
REFRESH_COST_FACTOR = 10.0
FIRST_ENTRIES = 2000  # how far back the first look goes
PAGE = 500
PAGES_MAX = 8  # that one refresh reads
KEPT_MAX = 2000  # entries that the feed of events can show
MINUTES = 60
_WORKERS_MAX = 500


@dataclass(slots=True)
class Seen:
    """A worker, as the feed shows it.

    Attributes:
        last_at: its latest entry.
        first_at: its earliest, as far as the feed was read.
    """

    first_at: float
    last_at: float
    engines: set[str] = field(default_factory=set)
    claims: int = 0
    commits: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Numbered:
    """An entry with its place in this process' feed; higher is newer."""

    number: int
    entry: Entry


class Pulse:
    """See the module.

    Args:
        client: reads the feed of the console's namespace.
    """

    def __init__(self, client: Client, clock: Clock, shared: Shared) -> None:
        self._client = client
        self._clock = clock
        self._shared = shared
        self._cursor: str | None = None
        self._minutes: dict[int, Counter[tuple[str, str]]] = {}
        self.count = 0
        self.entries: deque[Numbered] = deque(maxlen=KEPT_MAX)
        self.workers: dict[str, Seen] = {}
        self.covers_from = 0.0

    async def refresh(self) -> None:
        """Take in what was appended since."""
        await self._shared.get(
            "pulse", self._read, for_seconds=REFRESH_SECONDS, cost_factor=REFRESH_COST_FACTOR
        )

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
            minute = self._minutes.setdefault(int(entry.at // 60), Counter())
            minute[_what(entry), entry.control.engine] += 1
            self._see(entry)

    def _see(self, entry: Entry) -> None:
        """Workers write claims and all that follows under their own name."""
        event = entry.event
        lease = entry.control.lease
        name = event.worker_id if isinstance(event, Claimed) else lease.worker_id if lease else entry.actor
        if name != entry.actor or (name not in self.workers and not isinstance(event, Claimed)):
            return
        seen = self.workers.setdefault(name, Seen(entry.at, entry.at))
        seen.last_at = max(seen.last_at, entry.at)
        seen.engines.add(entry.control.engine)
        seen.claims += isinstance(event, Claimed)
        seen.commits += isinstance(event, Committed)
        seen.failures += event.kind is Kind.ATTEMPT_FAILED

    def _forget(self) -> None:
        oldest = int(self._clock.now() // 60) - MINUTES
        for minute in [minute for minute in self._minutes if minute < oldest]:
            del self._minutes[minute]
        while len(self.workers) > _WORKERS_MAX:
            del self.workers[min(self.workers, key=lambda name: self.workers[name].last_at)]

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
        """Engines that had entries in the last hour."""
        return sorted({engine for minute in self._minutes.values() for _, engine in minute})

    def newest(self, limit: int, *, after: int = 0) -> Sequence[Numbered]:
        """The newest entries, newest first, that came after a place."""
        found: list[Numbered] = []
        for numbered in reversed(self.entries):
            if numbered.number <= after or len(found) >= limit:
                break
            found.append(numbered)
        return found


def _what(entry: Entry) -> str:
    """What an entry counts as: how work ended, or its kind."""
    state = entry.control.state
    if state.is_terminal and entry.event.kind in _ENDS:
        return state.value
    return entry.event.kind.value


_ENDS = frozenset({Kind.COMMITTED, Kind.ATTEMPT_FAILED, Kind.FAILED, Kind.CANCELLED})
