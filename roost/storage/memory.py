"""The `memory` backend: every port on dicts. For tests and simulation; the verified fake.

It is the plainest reading of `ports.py`. Nothing here awaits, so each call is atomic.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import count, islice
from operator import itemgetter

from msgspec import structs

from roost.clock import Clock, SystemClock
from roost.errors import StorageError
from roost.journal.accounts import Account, Balance, Charge
from roost.journal.claims import Acquired, Ask, Call, Owner, Refused, ResourceView, calls
from roost.journal.entries import Entry, IndexRow
from roost.journal.limits import Change
from roost.journal.projection import LaneCount, project
from roost.journal.retention import is_endless
from roost.journal.standing import Standing, acquire, give_up
from roost.journal.values import Amounts
from roost.names import Lane, Order, Scope, State, feeds, namespace_of
from roost.storage import whole
from roost.storage.ports import TRIM_MAX, Blob, DeadLetter, Delivery, FeedPage, Finding, Message, Renewal
from roost.storage.query import IndexPage, IndexQuery, number_of
from roost.storage.whole import Inbox, Ledger, Numbered


class MemoryJournal:
    """Journals as lists; the feed is the order of all appends."""

    def __init__(self, index: MemoryIndex, accounts: MemoryAccounts, claims: MemoryClaims) -> None:
        self._index = index
        self._accounts = accounts
        self._claims = claims
        self._entries: dict[str, list[Entry]] = {}
        self._feed: list[Entry] = []
        self._kept: set[tuple[str, int]] = set()

    async def append(self, entry: Entry, *, with_row: bool = False) -> Entry:
        entries = self._entries.get(entry.work_id, [])
        last = entries[-1].position if entries else -1
        if entries and entry.position > 0 and not _is_of_same_work(entry, entries[-1]):
            return entries[-1]
        if entry.position <= last:
            return _at(entries, entry.position) or entries[-1]
        if entry.position > last + 1 and not is_endless(entry.control):
            raise StorageError(f"a gap before position {entry.position} of {entry.work_id}")
        self._entries.setdefault(entry.work_id, entries).append(entry)
        self._feed.append(entry)
        if with_row or entry.position == 0:
            self._index.show(project(entry))
        return entry

    async def append_many(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        return [await self.append(entry) for entry in entries]

    async def tail(self, work_id: str) -> Entry | None:
        entries = self._entries.get(work_id)
        return entries[-1] if entries else None

    async def read(
        self, work_id: str, *, after: int = -1, limit: int = 100, newest_first: bool = False
    ) -> Sequence[Entry]:
        entries = self._entries.get(work_id, [])
        if newest_first:
            stop = len(entries) if after < 0 else _count_up_to(entries, after - 1)
            return entries[max(0, stop - limit) : stop][::-1]
        start = _count_up_to(entries, after)
        return entries[start : start + limit]

    async def get(self, work_id: str, position: int) -> Entry | None:
        return _at(self._entries.get(work_id, []), position)

    async def feed(
        self, cursor: str | None, *, limit: int = 100, newest: bool = False, namespace: str | None = None
    ) -> FeedPage:
        start = number_of(cursor) if cursor is not None else 0
        if cursor is None and newest:
            entries = (
                one for one in reversed(self._feed) if namespace is None or feeds(one.work_id, namespace)
            )
            page = [*islice(filter(self._stands, entries), limit)]
            return FeedPage(page[::-1], str(len(self._feed)))
        page = self._feed[start : start + limit]
        return FeedPage([entry for entry in page if self._stands(entry)], str(start + len(page)))

    def _stands(self, entry: Entry) -> bool:
        """Whether an entry of the feed has not expired."""
        return _at(self._entries.get(entry.work_id, []), entry.position) is entry

    async def purge(self, work_id: str, position: int) -> bool:
        entries = self._entries.get(work_id, [])
        if not entries or entries[-1].position != position or not entries[-1].control.state.is_terminal:
            return False
        self._forget(work_id)
        return True

    def _forget(self, work_id: str) -> None:
        del self._entries[work_id]
        self._kept = {one for one in self._kept if one[0] != work_id}
        self._index.forget(work_id)
        self._accounts.forget(work_id)
        self._claims.forget(work_id)

    async def prune(self, work_id: str, positions: Sequence[int]) -> None:
        entries = self._entries.get(work_id, [])
        for position in positions:
            standing = _at(entries, position)
            if standing is not None and position > 0 and (work_id, position) not in self._kept:
                pruned = structs.replace(standing, body=None)
                self._feed = [pruned if entry is standing else entry for entry in self._feed]
                entries[_count_up_to(entries, position) - 1] = pruned

    async def keep(self, work_id: str, position: int) -> Entry | None:
        standing = _at(self._entries.get(work_id, []), position)
        if standing is None or standing.body is None:
            return None
        self._kept.add((work_id, position))
        return standing

    async def trim(self, work_id: str, before: int, *, limit: int = TRIM_MAX) -> int:
        entries = self._entries.get(work_id, [])
        count = min(max(0, _count_up_to(entries, before - 1) - 1), limit)
        del entries[1 : 1 + count]
        return count

    async def expire(self, ended_before: float, *, limit: int = 100) -> Sequence[str]:
        ended = [
            work_id
            for work_id, entries in self._entries.items()
            if entries[-1].control.state.is_terminal
            and entries[-1].control.since < ended_before
            and not self._index.owes(entries[-1])
        ][:limit]
        for work_id in ended:
            self._forget(work_id)
        return ended


def _is_of_same_work(entry: Entry, tail: Entry) -> bool:
    return entry.control.created_at == tail.control.created_at


def _count_up_to(entries: Sequence[Entry], position: int) -> int:
    """How many entries are at a position or before it: all are there, or those after 0 begin later."""
    if position < 0 or not entries:
        return 0
    return min(max(1, position + 1 - _trimmed(entries)), len(entries))


def _at(entries: Sequence[Entry], position: int) -> Entry | None:
    found = entries[_count_up_to(entries, position) - 1] if entries and position >= 0 else None
    return found if found is not None and found.position == position else None


def _trimmed(entries: Sequence[Entry]) -> int:
    return entries[-1].position + 1 - len(entries)


class MemoryIndex:
    """Index rows in a dict, in the order in which the work came."""

    orders = frozenset(Order)

    def __init__(self) -> None:
        self._rows: dict[str, IndexRow] = {}
        self._order: dict[str, int] = {}
        self._numbers = count()

    async def put(self, row: IndexRow) -> bool:
        if not whole.may_put(self._rows.get(row.work_id), row):
            return False
        self._set(row)
        return True

    def show(self, row: IndexRow) -> None:
        """Write the row of an entry that was appended, unless a newer one of the same work stands."""
        standing = self._rows.get(row.work_id)
        if standing is None or standing.created_at != row.created_at or standing.position <= row.position:
            self._set(row)

    def _set(self, row: IndexRow) -> None:
        self._rows[row.work_id] = row
        self._order.setdefault(row.work_id, next(self._numbers))

    def forget(self, work_id: str) -> None:
        """Remove a row, with its journal."""
        self._rows.pop(work_id, None)
        self._order.pop(work_id, None)

    def owes(self, tail: Entry) -> bool:
        """Whether the row of what ended does not say yet that nothing is left to do."""
        row = self._rows.get(tail.work_id)
        return row is not None and (row.position < tail.position or row.due_at is not None)

    async def get(self, work_id: str) -> IndexRow | None:
        return self._rows.get(work_id)

    async def renew(self, renewals: Sequence[Renewal]) -> Sequence[bool]:
        return [self._renew(renewal) for renewal in renewals]

    def _renew(self, renewal: Renewal) -> bool:
        row = whole.renewed(self._rows.get(renewal.work_id), renewal)
        if row is not None:
            self._rows[row.work_id] = row
        return row is not None

    async def due(self, now: float, *, limit: int = 100, after: IndexRow | None = None) -> Sequence[IndexRow]:
        return whole.due(self._rows.values(), now, limit, after)

    async def take_due(self, row: IndexRow, due_at: float | None) -> bool:
        standing = self._rows.get(row.work_id)
        if standing is None or not whole.may_take_due(standing, row):
            return False
        self._rows[row.work_id] = structs.replace(standing, due_at=due_at)
        return True

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        rows = (Numbered(self._order[row.work_id], row) for row in self._rows.values())
        return whole.page(rows, query, cursor, limit)

    async def counts(self, namespace: str = "") -> dict[State, int]:
        return whole.counts(self._rows.values(), namespace)

    async def lane_counts(self, namespace: str = "") -> Sequence[LaneCount]:
        return whole.lane_counts(self._rows.values(), namespace)


class MemoryClaims:
    """Resources in a dict."""

    def __init__(self, index: MemoryIndex) -> None:
        self._index = index
        self._standing: dict[tuple[str, str], Standing] = {}  # by namespace and name

    async def acquire(self, ask: Ask, *, now: float, overtake_before: float) -> Acquired | Refused:
        namespace = namespace_of(ask.owner.work_id)
        asked = {
            want.resource: self._standing.setdefault((namespace, want.resource), Standing())
            for want in ask.wants
        }
        return acquire(asked, ask, now=now, overtake_before=overtake_before)

    async def release(self, owner: Owner, *, now: float) -> Sequence[Call]:
        return await self._give_up(owner, now, leaves=False)

    async def leave(self, owner: Owner, *, now: float) -> Sequence[Call]:
        return await self._give_up(structs.replace(owner, scope=Scope.WORK), now, leaves=True)

    async def _give_up(self, owner: Owner, now: float, *, leaves: bool) -> Sequence[Call]:
        row = await self._index.get(owner.work_id)
        if row is not None and owner.created_at not in (None, row.created_at):
            return []
        _, called = give_up(self._standing.values(), owner, now=now, leaves=leaves)
        self._drop_empty()
        return called

    def _drop_empty(self) -> None:
        self._standing = {key: one for key, one in self._standing.items() if not one.is_empty}

    def forget(self, work_id: str) -> None:
        """Drop what deleted work holds and waits for; who comes next finds it free."""
        for one in self._standing.values():
            one.holdings = [holding for holding in one.holdings if holding.owner.work_id != work_id]
            one.waiters = [waiter for waiter in one.waiters if waiter.work_id != work_id]
        self._drop_empty()

    async def is_called(self, work_id: str, *, now: float) -> bool:
        return any(one.is_called(work_id, now) for one in self._standing.values())

    async def change(
        self, resource: str, change: Change, *, now: float, namespace: str = ""
    ) -> Sequence[Call]:
        one = self._standing.setdefault((namespace, resource), Standing())
        one.change(change)
        called = calls(one.call(now))
        if one.is_empty:
            del self._standing[namespace, resource]
        return called

    async def show(
        self, *, limit: int = 100, resource: str | None = None, namespace: str = ""
    ) -> Sequence[ResourceView]:
        found = [
            one.view(name)
            for (within, name), one in sorted(self._standing.items(), key=itemgetter(0))
            if within == namespace and resource in (None, name) and not one.is_empty
        ]
        return found[:limit]


class MemoryQueue:
    """An inbox; an event wakes who waits for a message."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._inbox = Inbox()
        self._changed = asyncio.Event()

    async def send(self, messages: Sequence[Message]) -> None:
        self._inbox.send(messages, self._clock.now())
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def receive(
        self, limit: int, *, visibility_seconds: float, wait_seconds: float, lanes: Sequence[Lane]
    ) -> Sequence[Delivery]:
        end = self._clock.monotonic() + wait_seconds
        while True:
            changed = self._changed
            taken = self._inbox.take(limit, self._clock.now(), visibility_seconds, lanes)
            left = end - self._clock.monotonic()
            if taken or left <= 0:
                return taken
            pause = max(0.0, min(left, self._inbox.next_visible_at() - self._clock.now()))
            try:
                async with asyncio.timeout(pause):
                    await changed.wait()
            except TimeoutError:
                pass

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._inbox.acknowledge(deliveries)

    async def extend(self, deliveries: Sequence[Delivery], visibility_seconds: float) -> Sequence[bool]:
        return self._inbox.extend(deliveries, self._clock.now() + visibility_seconds)

    async def put_back(self, delivery: Delivery, delay_seconds: float) -> None:
        self._inbox.put_back(delivery, self._clock.now() + delay_seconds)
        self._wake()

    async def reject(self, delivery: Delivery, reason: str) -> None:
        self._inbox.reject(delivery, reason)

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        return self._inbox.dead_letters(limit)

    async def end_dead_letter(self, letter: DeadLetter, *, is_sent_again: bool) -> None:
        self._inbox.end_dead_letter(letter, self._clock.now(), is_sent_again=is_sent_again)
        self._wake()

    async def pending_count(self) -> int:
        """How many messages there are: visible, delayed and in hand."""
        return len(self._inbox.messages)

    async def backlog(self) -> int:
        return self._inbox.backlog(self._clock.now())


class MemoryAccounts:
    """A ledger."""

    def __init__(self) -> None:
        self._ledger = Ledger()

    @property
    def spent(self) -> dict[Account, Amounts]:
        """What each account was charged."""
        return {book.account: book.spent for book in self._ledger.books.values() if book.spent}

    async def charge(self, charge: Charge) -> Sequence[Balance]:
        return self._ledger.charge(charge)

    async def show(self, accounts: Sequence[Account]) -> Sequence[Balance]:
        return self._ledger.show(accounts)

    async def allow(self, account: Account, limits: Amounts, *, order: float) -> None:
        self._ledger.allow(account, limits, order)

    def forget(self, work_id: str) -> None:
        """Drop what was known of work that is deleted."""
        self._ledger.forget(work_id)


class MemoryArtifacts:
    """Blobs in a dict."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    async def put(self, chunks: AsyncIterator[bytes] | Iterable[bytes]) -> Blob:
        content = await whole.gathered(chunks)
        digest = whole.digest_of(content)
        self._blobs[digest] = content
        return Blob(digest, len(content))

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        for chunk in whole.verified(digest, self._blobs.get(digest)):
            yield chunk

    async def size(self, digest: str) -> int | None:
        content = self._blobs.get(digest)
        return None if content is None else len(content)


class MemoryBackend:
    """All ports in one process' memory.

    Args:
        clock: decides when messages are visible.
        inline_max_bytes: stored bodies above it are spilled; small in tests.
    """

    projects_on_append = False
    sweep_seconds = 5.0

    def __init__(self, clock: Clock | None = None, *, inline_max_bytes: int = 1 << 20) -> None:
        self.url = "memory:"
        self.inline_max_bytes = inline_max_bytes
        self.index = MemoryIndex()
        self.claims = claims = MemoryClaims(self.index)
        self.accounts = accounts = MemoryAccounts()
        self.journal = MemoryJournal(self.index, accounts, claims)
        self.queue = MemoryQueue(clock or SystemClock())
        self.artifacts = MemoryArtifacts()

    async def check(self) -> Sequence[Finding]:
        return [Finding("memory", True, "gone when the process ends")]

    async def close(self) -> None:
        pass


async def open_url(url: str, settings: object, clock: Clock) -> MemoryBackend:
    """The entry point of scheme `memory`; gone when the process ends."""
    return MemoryBackend(clock)
