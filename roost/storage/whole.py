"""What the ports' calls make of rows, messages, accounts and blobs, for backends that keep each whole.

`roost.journal.standing` does so for resources. Nothing here stores anything or has a clock: a backend
reads what a call is about, calls, and stores what it became, in one transaction. `memory` is made of
these, and `examples/folder_backend.py`; a backend whose storage can do it in place (a conditional
update, an index) does not need them.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from math import inf
from operator import attrgetter, itemgetter

from msgspec import Struct, field, structs

from roost.errors import ArtifactNotFound, StorageCorrupt, StorageError
from roost.journal import budget
from roost.journal.accounts import DAYS_KEPT, Account, Balance, Charge
from roost.journal.entries import IndexRow
from roost.journal.projection import MESSAGE_DELAY_MAX_SECONDS, LaneCount
from roost.journal.values import Amounts
from roost.names import Lane, Order, State, namespace_of
from roost.storage.ports import DeadLetter, Delivery, Message, Renewal
from roost.storage.query import SORTS, IndexPage, IndexQuery, Spot, number_of, spot_of

# --- rows of the work index --------------------------------------------------------


class Numbered(Struct, frozen=True):
    """A row, and the place of its work in the order in which work came."""

    number: int
    row: IndexRow


def renewed(row: IndexRow | None, renewal: Renewal) -> IndexRow | None:
    """A row after `WorkIndex.renew`; None: the lease is not (any more) the one that is renewed."""
    if row is None or row.token != renewal.token:
        return None
    return structs.replace(
        row,
        lease_until=max(row.lease_until or 0.0, renewal.lease_until),
        due_at=max(row.due_at or 0.0, renewal.due_at),
        progress=renewal.progress or row.progress,
    )


def may_put(standing: IndexRow | None, row: IndexRow) -> bool:
    """Whether `WorkIndex.put` writes a row."""
    if standing is None:
        return row.position == 0
    return standing.created_at == row.created_at and standing.position <= row.position


def may_take_due(standing: IndexRow | None, row: IndexRow) -> bool:
    """Whether `WorkIndex.take_due` with `row` finds the row as it was."""
    return standing is not None and (standing.due_at, standing.position) == (row.due_at, row.position)


def due(rows: Iterable[IndexRow], now: float, limit: int, after: IndexRow | None) -> list[IndexRow]:
    """What `WorkIndex.due` gives, of all rows."""
    passed = (-1.0, "") if after is None or after.due_at is None else (after.due_at, after.work_id)
    found = [
        (key, row)
        for row in rows
        if row.due_at is not None and row.due_at <= now and (key := (row.due_at, row.work_id)) > passed
    ]
    return [row for _, row in sorted(found, key=lambda one: one[0])[:limit]]


def page(rows: Iterable[Numbered], query: IndexQuery, cursor: str | None, limit: int) -> IndexPage:
    """What `WorkIndex.list` gives, of all rows, in any order."""
    rank_of = _ranker(query.order)
    after = (-inf, 0) if cursor is None else _rank_of(query.order, cursor)
    if (
        query.order is Order.NEWEST
    ):  # rows are mostly given as they came, and a heap likes the first ones first
        rows = reversed([*rows])
    ranked = (
        (rank, one)
        for one in rows
        if (rank := rank_of(one)) is not None and rank > after and query.matches(one.row)
    )
    found = heapq.nsmallest(limit + 1, ranked, key=itemgetter(0))
    rest = _cursor_after(query.order, found[limit - 1][1]) if len(found) > limit else None
    return IndexPage([one.row for _, one in found[:limit]], rest)


def _ranker(order: Order) -> Callable[[Numbered], tuple[float, int] | None]:
    """What sorts a row in an order, first what is lowest; None: it is not in it."""
    sort = SORTS.get(order)
    if sort is None:
        sign = 1 if order is Order.OLDEST else -1
        return lambda one: (0.0, sign * one.number)
    field, sign = attrgetter(sort.field), -1 if sort.is_descending else 1

    def rank(one: Numbered) -> tuple[float, int] | None:
        value = field(one.row)
        return None if value is None else (sign * value, -one.number)

    return rank


def _rank_of(order: Order, cursor: str) -> tuple[float, int]:
    """The rank of the row that a cursor of `_cursor_after` goes on after."""
    sort = SORTS.get(order)
    if sort is None:
        number = number_of(cursor)
        return 0.0, number if order is Order.OLDEST else -number
    spot = spot_of(cursor)
    return sort.rank(spot.value), -number_of(spot.row)


def _cursor_after(order: Order, one: Numbered) -> str:
    sort = SORTS.get(order)
    if sort is None:
        return str(one.number)
    return Spot(sort.value(one.row) or 0.0, str(one.number)).cursor


def counts(rows: Iterable[IndexRow], namespace: str) -> dict[State, int]:
    """What `WorkIndex.counts` gives, of all rows."""
    return dict(Counter(row.state for row in rows if namespace_of(row.work_id) == namespace))


def lane_counts(rows: Iterable[IndexRow], namespace: str) -> Sequence[LaneCount]:
    """What `WorkIndex.lane_counts` gives, of all rows."""
    created: dict[tuple[State, Lane], list[float]] = defaultdict(list)
    for row in rows:
        if namespace_of(row.work_id) == namespace:
            created[row.state, row.lane].append(row.created_at)
    return [LaneCount(state, lane, len(at), min(at)) for (state, lane), at in created.items()]


# --- the queue -----------------------------------------------------------------------


class Kept(Struct):
    """A message in the queue, or (with a reason) among the dead letters."""

    message: Message
    visible_at: float
    receipt: str = ""
    received_count: int = 0
    reason: str = ""

    @property
    def delivery(self) -> Delivery:
        """What a worker gets."""
        message = self.message
        return Delivery(message.work_id, message.cause, message.lane, self.receipt, self.received_count)


class Inbox(Struct):
    """All messages of a queue, by number. Its calls are those of `WorkQueue`, given the time.

    Attributes:
        last_number: the last that a message or a receipt got.
    """

    messages: dict[int, Kept] = field(default_factory=dict)
    dead: dict[int, Kept] = field(default_factory=dict)
    last_number: int = 0

    def send(self, messages: Sequence[Message], now: float) -> None:
        """See `WorkQueue`."""
        for message in messages:
            if not 0 <= message.delay_seconds <= MESSAGE_DELAY_MAX_SECONDS:
                raise StorageError(f"a message can't be delayed by {message.delay_seconds} s")
            self.messages[self._next_number()] = Kept(message, now + message.delay_seconds)

    def _next_number(self) -> int:
        self.last_number += 1
        return self.last_number

    def take(
        self, limit: int, now: float, visibility_seconds: float, lanes: Sequence[Lane]
    ) -> list[Delivery]:
        """What `WorkQueue.receive` gives without waiting."""
        order = {lane: place for place, lane in enumerate(lanes)}
        visible = sorted(
            (order[kept.message.lane], kept.visible_at, number)
            for number, kept in self.messages.items()
            if kept.visible_at <= now and kept.message.lane in order
        )
        taken = [(number, self.messages[number]) for _, _, number in visible[:limit]]
        for number, kept in taken:
            kept.visible_at = now + visibility_seconds
            kept.receipt = f"{number}-{self._next_number()}"
            kept.received_count += 1
        return [kept.delivery for _, kept in taken]

    def next_visible_at(self) -> float:
        """When the next message is visible; infinity where there is none."""
        return min((kept.visible_at for kept in self.messages.values()), default=float("inf"))

    def _in_hand(self, delivery: Delivery) -> tuple[int, Kept | None]:
        """The message, if this receipt is its newest."""
        number = _number_in(delivery.receipt)
        kept = self.messages.get(number)
        return number, kept if kept is not None and kept.receipt == delivery.receipt else None

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """See `WorkQueue`."""
        for delivery in deliveries:
            number, kept = self._in_hand(delivery)
            if kept is not None:
                del self.messages[number]

    def extend(self, deliveries: Sequence[Delivery], until: float) -> list[bool]:
        """See `WorkQueue`."""
        found = [self._in_hand(delivery)[1] for delivery in deliveries]
        for kept in found:
            if kept is not None:
                kept.visible_at = until
        return [kept is not None for kept in found]

    def put_back(self, delivery: Delivery, visible_at: float) -> None:
        """See `WorkQueue`."""
        _, kept = self._in_hand(delivery)
        if kept is not None:
            kept.visible_at, kept.receipt = visible_at, ""

    def reject(self, delivery: Delivery, reason: str) -> None:
        """See `WorkQueue`."""
        number, kept = self._in_hand(delivery)
        if kept is not None:
            kept.reason = reason
            self.dead[number] = self.messages.pop(number)

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """See `WorkQueue`."""
        return [
            DeadLetter(one.message.work_id, one.message.cause, one.message.lane, one.reason, "", str(number))
            for number, one in list(self.dead.items())[:limit]
        ]

    def end_dead_letter(self, letter: DeadLetter, now: float, *, is_sent_again: bool) -> None:
        """See `WorkQueue`."""
        kept = self.dead.pop(_number_in(letter.receipt), None)
        if kept is not None and is_sent_again:
            self.send([structs.replace(kept.message, delay_seconds=0.0)], now)

    def backlog(self, now: float) -> int:
        """See `WorkQueue`."""
        return sum(kept.visible_at <= now for kept in self.messages.values())


def _number_in(receipt: str) -> int:
    """The number of the message that a receipt names; 0 is none's."""
    number = receipt.partition("-")[0]
    return int(number) if number.isascii() and number.isdecimal() else 0


# --- accounts ------------------------------------------------------------------------


class Book(Struct):
    """An account.

    Attributes:
        allowed: limits that an operator set, and the highest order of those who did.
    """

    account: Account
    spent: Amounts = ()
    allowed: Amounts | None = None
    order: float = -1.0

    @property
    def balance(self) -> Balance:
        """How it stands."""
        return Balance(self.account, self.spent, self.allowed)


class Ledger(Struct):
    """Accounts by name, and up to which position each work item was charged. See `Accounts`."""

    books: dict[str, Book] = field(default_factory=dict)
    charged: dict[str, int] = field(default_factory=dict)

    def charge(self, charge: Charge) -> list[Balance]:
        """See `Accounts`."""
        if charge.position > self.charged.get(charge.work_id, -1):
            self.charged[charge.work_id] = charge.position
            for account in charge.accounts:
                self._add(account, charge.amounts)
        return self.show(charge.accounts)

    def _add(self, account: Account, amounts: Amounts) -> None:
        if account.day is not None:
            ours = [one.account for one in self.books.values() if one.account.namespace == account.namespace]
            oldest = max([account.day, *(one.day for one in ours if one.day is not None)]) - DAYS_KEPT
            for old in ours:
                if old.day is not None and old.day <= oldest:
                    del self.books[_name(old)]
            if account.day <= oldest:
                return
        book = self._book(account)
        book.spent = budget.add(book.spent, dict(amounts))

    def _book(self, account: Account) -> Book:
        return self.books.setdefault(_name(account), Book(account))

    def show(self, accounts: Sequence[Account]) -> list[Balance]:
        """See `Accounts`."""
        return [self.books.get(_name(account), Book(account)).balance for account in accounts]

    def allow(self, account: Account, limits: Amounts, order: float) -> None:
        """See `Accounts`."""
        book = self._book(account)
        if book.order <= order:
            book.allowed, book.order = limits, order

    def forget(self, work_id: str) -> None:
        """Drop what was known of work that is deleted."""
        self.charged.pop(work_id, None)
        self.books.pop(_name(Account(namespace_of(work_id), work_id)), None)


def _name(account: Account) -> str:
    return f"{account.namespace} {account.root} {'' if account.day is None else account.day}"


# --- blobs -----------------------------------------------------------------------------

CHUNK_BYTES = 1 << 16


async def gathered(chunks: AsyncIterator[bytes] | Iterable[bytes]) -> bytes:
    """All of what `ArtifactStore.put` is given."""
    parts = [chunk async for chunk in chunks] if isinstance(chunks, AsyncIterator) else list(chunks)
    return b"".join(parts)


def digest_of(content: bytes) -> str:
    """The name of a blob."""
    return hashlib.sha256(content).hexdigest()


def verified(digest: str, content: bytes | None) -> Iterator[bytes]:
    """What `ArtifactStore.read` gives of a blob, in chunks.

    Raises:
        ArtifactNotFound: there is none.
        StorageCorrupt: it has other bytes than were stored.
    """
    if content is None:
        raise ArtifactNotFound(f"no artifact {digest!r}")
    if digest_of(content) != digest:
        raise StorageCorrupt(f"artifact {digest} has other bytes than were stored")
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]
