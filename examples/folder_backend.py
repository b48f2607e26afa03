"""A complete storage backend in one file: a directory of JSON files, shared by processes of one host.

It is written to be read, beside `guides/backends.md`, and is right rather than fast: one file lock
around each call, and a list of rows reads them all. Every port is here, and all of
`roost.testing.contract` is green on it.

    [project.entry-points."roost.backends"]
    folder = "folder_backend:open_url"        # then: storage = "folder:/var/lib/roost"
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from roost.clock import Clock
from roost.errors import ArtifactNotFound, InputError, StorageCorrupt, StorageError
from roost.journal.accounts import DAYS_KEPT, Account, Balance, Charge
from roost.journal.budget import add
from roost.journal.claims import Acquired, Ask, Call, Owner, Refused, ResourceView, calls
from roost.journal.entries import Entry, IndexRow
from roost.journal.limits import Change
from roost.journal.projection import MESSAGE_DELAY_MAX_SECONDS, project
from roost.journal.retention import is_endless
from roost.journal.standing import Standing, acquire, give_up
from roost.journal.values import Amounts
from roost.names import Lane, Scope, State, feeds, namespace_of
from roost.storage.codec import StoredEntry, decode_entry, encode_entry
from roost.storage.ports import (
    TRIM_MAX,
    Blob,
    DeadLetter,
    Delivery,
    FeedPage,
    Finding,
    IndexPage,
    IndexQuery,
    Message,
    Renewal,
)

T = TypeVar("T")
POLL_SECONDS = 0.02  # how often `receive` looks while it waits
CHUNK_BYTES = 1 << 16


def _digest(text: str) -> str:
    """A file name for any id."""
    return hashlib.sha256(text.encode()).hexdigest()[:40]


# --- files that change together ------------------------------------------------


class Files:
    """What one transaction sees, and what it will write. Names are paths below the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.changes: dict[str, Any] = {}  # None: the file goes

    def get(self, name: str, kind: type[T]) -> T | None:
        """The value of a file."""
        if name in self.changes:
            value = self.changes[name]
            return None if value is None else msgspec.convert(value, kind)
        try:
            return msgspec.json.decode((self.root / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise StorageCorrupt(f"{self.root / name} is not what was written: {error}") from error

    def put(self, name: str, value: Any) -> None:
        """Write a file with the transaction; None removes it."""
        self.changes[name] = None if value is None else msgspec.to_builtins(value)

    def names(self, folder: str) -> list[str]:
        """The files of a folder, in order of their names."""
        try:
            found = {f"{folder}/{name}" for name in os.listdir(self.root / folder)}
        except FileNotFoundError:
            found = set()
        for name, value in self.changes.items():
            if name.rpartition("/")[0] == folder:
                found = found - {name} if value is None else found | {name}
        return sorted(found)

    def all(self, folder: str, kind: type[T]) -> list[T]:
        """The values of a folder's files."""
        return [value for name in self.names(folder) if (value := self.get(name, kind)) is not None]

    def number(self) -> int:
        """A number that no transaction before got, and larger than all of those."""
        number = (self.get("number", int) or 0) + 1
        self.put("number", number)
        return number


class Folder:
    """A folder in which several files change together, or none.

    A transaction is one file, `redo`: once that is there, it has happened. Who takes the lock
    next carries out what a process that died in between has left.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def transaction(self) -> Iterator[Files]:
        """Files to read and change; written when the block ends without an error."""
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back by the kernel if the process dies
            redo = self.root / "redo"
            if redo.exists():
                self._carry_out(msgspec.json.decode(redo.read_bytes()))
            files = Files(self.root)
            yield files
            if files.changes:
                write_whole(redo, msgspec.json.encode(files.changes))
                self._carry_out(files.changes)

    def _carry_out(self, changes: dict[str, Any]) -> None:
        """Idempotent: done twice it comes to the same."""
        for name, value in changes.items():
            if value is None:
                (self.root / name).unlink(missing_ok=True)
            else:
                write_whole(self.root / name, msgspec.json.encode(value))
        (self.root / "redo").unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file durably: afterwards it has all of the content, or it is as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# --- the journal -----------------------------------------------------------------


class Placed(msgspec.Struct):
    """An entry as it is stored, with its place in the feed."""

    number: int
    entry: StoredEntry


class Place(msgspec.Struct):
    """What the feed holds at a number."""

    work_id: str
    position: int


def _entry_name(work_id: str, position: int) -> str:
    return f"journal/{_digest(work_id)}/{position:012d}"


def _placed(files: Files, work_id: str, position: int) -> Placed | None:
    return files.get(_entry_name(work_id, position), Placed) if position >= 0 else None


def _positions(files: Files, work_id: str) -> list[int]:
    """Where entries stand, lowest first; all up to the last, unless the journal was trimmed."""
    return [int(name.rpartition("/")[2]) for name in files.names(f"journal/{_digest(work_id)}")]


def _tail(files: Files, work_id: str) -> Entry | None:
    positions = _positions(files, work_id)
    return _read(files, work_id, positions[-1]) if positions else None


class FolderJournal:
    """A file for each entry; the lock makes "is it free?" and "take it" one."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def append(self, entry: Entry, *, with_row: bool = False) -> Entry:
        with self._folder.transaction() as files:
            return _append(files, entry, with_row)

    async def append_many(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        return [await self.append(entry) for entry in entries]

    async def tail(self, work_id: str) -> Entry | None:
        with self._folder.transaction() as files:
            return _tail(files, work_id)

    async def read(
        self, work_id: str, *, after: int = -1, limit: int = 100, newest_first: bool = False
    ) -> Sequence[Entry]:
        with self._folder.transaction() as files:
            positions = _positions(files, work_id)
            if newest_first:
                positions = [position for position in reversed(positions) if after < 0 or position < after]
            else:
                positions = [position for position in positions if position > after]
            found = (_read(files, work_id, position) for position in positions[:limit])
            return [entry for entry in found if entry is not None]

    async def get(self, work_id: str, position: int) -> Entry | None:
        with self._folder.transaction() as files:
            return _read(files, work_id, position)

    async def feed(
        self, cursor: str | None, *, limit: int = 100, newest: bool = False, namespace: str | None = None
    ) -> FeedPage:
        after = 0 if cursor is None else _number(cursor)
        with self._folder.transaction() as files:
            names = [name for name in files.names("feed") if int(name[5:]) > after]
            if cursor is None and newest:
                newest_first = (_fed(files, name) for name in reversed(names))
                found = (one for one in newest_first if one and _is_of(one, namespace))
                entries, last = [*islice(found, limit)][::-1], names[-1:]
            else:
                last = names[:limit]
                entries = [one for name in last if (one := _fed(files, name))]
            return FeedPage(entries, str(int(last[-1][5:]) if last else after))

    async def prune(self, work_id: str, positions: Sequence[int]) -> None:
        with self._folder.transaction() as files:
            for position in positions:
                placed = _placed(files, work_id, position)
                if position > 0 and placed is not None:
                    entry = structs.replace(decode_entry(placed.entry), body=None)
                    files.put(_entry_name(work_id, position), Placed(placed.number, encode_entry(entry)))

    async def trim(self, work_id: str, before: int, *, limit: int = TRIM_MAX) -> int:
        with self._folder.transaction() as files:
            found = [position for position in _positions(files, work_id) if 0 < position < before][:limit]
            for position in found:
                placed = _placed(files, work_id, position)
                assert placed is not None
                files.put(f"feed/{placed.number:012d}", None)
                files.put(_entry_name(work_id, position), None)
            return len(found)

    async def purge(self, work_id: str, position: int) -> bool:
        with self._folder.transaction() as files:
            tail = _tail(files, work_id)
            if tail is None or tail.position != position or not tail.control.state.is_terminal:
                return False
            _forget(files, work_id)
            return True

    async def expire(self, ended_before: float, *, limit: int = 100) -> Sequence[str]:
        with self._folder.transaction() as files:
            gone: list[str] = []
            for ranked in files.all("rows", Ranked):
                work_id = ranked.row.work_id
                tail = _tail(files, work_id)
                if tail is None or len(gone) == limit:
                    continue
                if tail.control.state.is_terminal and tail.control.since < ended_before:
                    _forget(files, work_id)
                    gone.append(work_id)
            return gone


def _append(files: Files, entry: Entry, with_row: bool) -> Entry:
    standing = _read(files, entry.work_id, entry.position)
    if standing is not None:
        return standing  # ours, at an earlier try, or a competitor's: its id says which
    tail = _tail(files, entry.work_id)
    last = -1 if tail is None else tail.position
    if tail is not None and entry.position < last:
        return tail  # what stood there was trimmed
    if entry.position > last + 1 and not is_endless(entry.control):
        raise StorageError(f"a gap before position {entry.position} of {entry.work_id}")
    number = files.number()
    files.put(_entry_name(entry.work_id, entry.position), Placed(number, encode_entry(entry)))
    files.put(f"feed/{number:012d}", Place(entry.work_id, entry.position))
    if with_row or entry.position == 0:
        _put_row(files, project(entry))
    return entry


def _read(files: Files, work_id: str, position: int) -> Entry | None:
    placed = _placed(files, work_id, position)
    return None if placed is None else decode_entry(placed.entry)


def _fed(files: Files, name: str) -> Entry | None:
    """The entry that a name in the feed stands for; None: it has expired."""
    place = files.get(name, Place)
    assert place is not None
    return _read(files, place.work_id, place.position)


def _is_of(entry: Entry, namespace: str | None) -> bool:
    return namespace is None or feeds(entry.work_id, namespace)


def _forget(files: Files, work_id: str) -> None:
    for position in _positions(files, work_id):
        placed = _placed(files, work_id, position)
        if placed is not None:
            files.put(f"feed/{placed.number:012d}", None)
    for name in files.names(f"journal/{_digest(work_id)}"):
        files.put(name, None)
    files.put(_row_name(work_id), None)
    files.put(_charged_name(work_id), None)
    files.put(_book_name(Account(namespace_of(work_id), work_id)), None)


# --- the work index --------------------------------------------------------------


class Ranked(msgspec.Struct):
    """A row, and when its work came."""

    number: int
    row: IndexRow


def _row_name(work_id: str) -> str:
    return f"rows/{_digest(work_id)}"


def _put_row(files: Files, row: IndexRow) -> bool:
    standing = files.get(_row_name(row.work_id), Ranked)
    if standing is not None and standing.row.position > row.position:
        return False
    files.put(_row_name(row.work_id), Ranked(standing.number if standing else files.number(), row))
    return True


class FolderIndex:
    """A file for each row."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def put(self, row: IndexRow) -> bool:
        with self._folder.transaction() as files:
            return _put_row(files, row)

    async def get(self, work_id: str) -> IndexRow | None:
        with self._folder.transaction() as files:
            ranked = files.get(_row_name(work_id), Ranked)
            return None if ranked is None else ranked.row

    async def renew(self, renewals: Sequence[Renewal]) -> Sequence[bool]:
        with self._folder.transaction() as files:
            return [_renew(files, renewal) for renewal in renewals]

    async def due(self, now: float, *, limit: int = 100, after: IndexRow | None = None) -> Sequence[IndexRow]:
        passed = (-1.0, "") if after is None or after.due_at is None else (after.due_at, after.work_id)
        found = []
        for ranked in self._all():
            row = ranked.row
            if row.due_at is not None and row.due_at <= now and (row.due_at, row.work_id) > passed:
                found.append((row.due_at, row.work_id, row))
        return [row for _, _, row in sorted(found, key=lambda one: one[:2])[:limit]]

    def _all(self) -> list[Ranked]:
        with self._folder.transaction() as files:
            return files.all("rows", Ranked)

    async def take_due(self, row: IndexRow, due_at: float | None) -> bool:
        with self._folder.transaction() as files:
            ranked = files.get(_row_name(row.work_id), Ranked)
            if ranked is None or (ranked.row.due_at, ranked.row.position) != (row.due_at, row.position):
                return False
            taken = structs.replace(ranked.row, due_at=due_at)
            files.put(_row_name(row.work_id), Ranked(ranked.number, taken))
            return True

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        sign = 1 if query.oldest_first else -1
        after = float("-inf") if cursor is None else sign * _number(cursor)
        ranked = sorted(self._all(), key=lambda one: sign * one.number)
        found = [one for one in ranked if sign * one.number > after and query.matches(one.row)]
        rows = [one.row for one in found[:limit]]
        return IndexPage(rows, str(found[limit - 1].number) if len(found) > limit else None)

    async def counts(self, namespace: str = "") -> dict[State, int]:
        rows = (ranked.row for ranked in self._all())
        return dict(Counter(row.state for row in rows if namespace_of(row.work_id) == namespace))


def _renew(files: Files, renewal: Renewal) -> bool:
    ranked = files.get(_row_name(renewal.work_id), Ranked)
    if ranked is None or ranked.row.token != renewal.token:
        return False
    row = structs.replace(
        ranked.row,
        lease_until=max(ranked.row.lease_until or 0.0, renewal.lease_until),
        due_at=max(ranked.row.due_at or 0.0, renewal.due_at),
        progress=renewal.progress or ranked.row.progress,
    )
    files.put(_row_name(row.work_id), Ranked(ranked.number, row))
    return True


def _number(cursor: str) -> int:
    """The number in a cursor.

    Raises:
        InputError: no page of this backend gave it out.
    """
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise InputError(f"{cursor[:80]!r} is no cursor", hint="Use the one that the page before gave.")
    return int(cursor)


# --- resource claims ---------------------------------------------------------------


class Claimed(msgspec.Struct):
    """A resource as it is stored."""

    namespace: str
    name: str
    standing: Standing


class FolderClaims:
    """A file for each resource; `roost.journal.standing` makes of it what the rules say."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def acquire(self, ask: Ask, *, now: float, overtake_before: float) -> Acquired | Refused:
        namespace = namespace_of(ask.owner.work_id)
        with self._folder.transaction() as files:
            asked = {want.resource: _standing(files, namespace, want.resource) for want in ask.wants}
            answer = acquire(asked, ask, now=now, overtake_before=overtake_before)
            for name, standing in asked.items():
                _keep(files, Claimed(namespace, name, standing))
            return answer

    async def release(self, owner: Owner, *, now: float) -> Sequence[Call]:
        return self._give_up(owner, now, leaves=False)

    async def leave(self, owner: Owner, *, now: float) -> Sequence[Call]:
        return self._give_up(replace(owner, scope=Scope.WORK), now, leaves=True)

    def _give_up(self, owner: Owner, now: float, *, leaves: bool) -> Sequence[Call]:
        with self._folder.transaction() as files:
            claimed = files.all("claims", Claimed)
            changed, called = give_up((one.standing for one in claimed), owner, now=now, leaves=leaves)
            for one in claimed:
                if any(one.standing is standing for standing in changed):
                    _keep(files, one)
            return called

    async def is_called(self, work_id: str, *, now: float) -> bool:
        with self._folder.transaction() as files:
            return any(one.standing.is_called(work_id, now) for one in files.all("claims", Claimed))

    async def change(
        self, resource: str, change: Change, *, now: float, namespace: str = ""
    ) -> Sequence[Call]:
        with self._folder.transaction() as files:
            standing = _standing(files, namespace, resource)
            standing.change(change)
            called = calls(standing.call(now))
            _keep(files, Claimed(namespace, resource, standing))
            return called

    async def show(
        self, *, limit: int = 100, resource: str | None = None, namespace: str = ""
    ) -> Sequence[ResourceView]:
        with self._folder.transaction() as files:
            claimed = sorted(files.all("claims", Claimed), key=lambda one: one.name)
        wanted = [one for one in claimed if one.namespace == namespace and resource in (None, one.name)]
        return [one.standing.view(one.name) for one in wanted[:limit]]


def _claim_name(namespace: str, resource: str) -> str:
    return f"claims/{_digest(f'{namespace}/{resource}')}"


def _standing(files: Files, namespace: str, resource: str) -> Standing:
    claimed = files.get(_claim_name(namespace, resource), Claimed)
    return claimed.standing if claimed is not None else Standing()


def _keep(files: Files, claimed: Claimed) -> None:
    name = _claim_name(claimed.namespace, claimed.name)
    files.put(name, None if claimed.standing.is_empty else claimed)


# --- the queue ---------------------------------------------------------------------


class Stored(msgspec.Struct):
    """A message in the queue, or (with a reason) among the dead letters."""

    number: int
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


def _message_name(number: int | str) -> str:
    return f"queue/{int(number):012d}"


class FolderQueue:
    """A file for each message."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    async def send(self, messages: Sequence[Message]) -> None:
        now = self._clock.now()
        with self._folder.transaction() as files:
            for message in messages:
                if not 0 <= message.delay_seconds <= MESSAGE_DELAY_MAX_SECONDS:
                    raise StorageError(f"a message can't be delayed by {message.delay_seconds} s")
                _put_message(files, Stored(files.number(), message, now + message.delay_seconds))

    async def receive(
        self, limit: int, *, visibility_seconds: float, wait_seconds: float, lanes: Sequence[Lane]
    ) -> Sequence[Delivery]:
        end = self._clock.monotonic() + wait_seconds
        while True:
            taken = self._take(limit, visibility_seconds, lanes)
            if taken or self._clock.monotonic() >= end:
                return taken
            await asyncio.sleep(POLL_SECONDS)

    def _take(self, limit: int, visibility_seconds: float, lanes: Sequence[Lane]) -> list[Delivery]:
        now = self._clock.now()
        with self._folder.transaction() as files:
            messages = files.all("queue", Stored)
            visible = [one for one in messages if one.visible_at <= now and one.message.lane in lanes]
            visible.sort(key=lambda one: (lanes.index(one.message.lane), one.visible_at, one.number))
            for stored in visible[:limit]:
                stored.visible_at = now + visibility_seconds
                stored.receipt = f"{stored.number}-{files.number()}"
                stored.received_count += 1
                _put_message(files, stored)
            return [stored.delivery for stored in visible[:limit]]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        with self._folder.transaction() as files:
            for delivery in deliveries:
                if (stored := _in_hand(files, delivery)) is not None:
                    files.put(_message_name(stored.number), None)

    async def extend(self, deliveries: Sequence[Delivery], visibility_seconds: float) -> Sequence[bool]:
        until = self._clock.now() + visibility_seconds
        with self._folder.transaction() as files:
            found = [_in_hand(files, delivery) for delivery in deliveries]
            for stored in found:
                if stored is not None:
                    stored.visible_at = until
                    _put_message(files, stored)
            return [stored is not None for stored in found]

    async def put_back(self, delivery: Delivery, delay_seconds: float) -> None:
        with self._folder.transaction() as files:
            if (stored := _in_hand(files, delivery)) is not None:
                stored.visible_at, stored.receipt = self._clock.now() + delay_seconds, ""
                _put_message(files, stored)

    async def reject(self, delivery: Delivery, reason: str) -> None:
        with self._folder.transaction() as files:
            if (stored := _in_hand(files, delivery)) is not None:
                files.put(_message_name(stored.number), None)
                stored.reason = reason
                files.put(f"dead/{stored.number:012d}", stored)

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        with self._folder.transaction() as files:
            dead = files.all("dead", Stored)[:limit]
        return [
            DeadLetter(
                one.message.work_id, one.message.cause, one.message.lane, one.reason, "", str(one.number)
            )
            for one in dead
        ]

    async def end_dead_letter(self, letter: DeadLetter, *, is_sent_again: bool) -> None:
        with self._folder.transaction() as files:
            dead = files.all("dead", Stored)
            stored = next((one for one in dead if str(one.number) == letter.receipt), None)
            if stored is None:
                return
            files.put(f"dead/{stored.number:012d}", None)
            if is_sent_again:
                message = replace(stored.message, delay_seconds=0.0)
                _put_message(files, Stored(files.number(), message, self._clock.now()))

    async def backlog(self) -> int:
        now = self._clock.now()
        with self._folder.transaction() as files:
            return sum(stored.visible_at <= now for stored in files.all("queue", Stored))


def _put_message(files: Files, stored: Stored) -> None:
    files.put(_message_name(stored.number), stored)


def _in_hand(files: Files, delivery: Delivery) -> Stored | None:
    """The message, if this receipt is its newest."""
    stored = files.get(_message_name(delivery.receipt.partition("-")[0]), Stored)
    return stored if stored is not None and stored.receipt == delivery.receipt else None


# --- accounts --------------------------------------------------------------------------


class Book(msgspec.Struct):
    """An account, as it is stored."""

    namespace: str
    day: int | None = None
    spent: Amounts = ()
    allowed: Amounts | None = None
    order: float = -1.0


class FolderAccounts:
    """A file for each account, and one for each work item that was charged to any."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def charge(self, charge: Charge) -> Sequence[Balance]:
        with self._folder.transaction() as files:
            name = _charged_name(charge.work_id)
            position = files.get(name, int)
            if position is None or position < charge.position:
                files.put(name, charge.position)
                for account in charge.accounts:
                    _add(files, account, charge.amounts)
            return [_balance(files, account) for account in charge.accounts]

    async def show(self, accounts: Sequence[Account]) -> Sequence[Balance]:
        with self._folder.transaction() as files:
            return [_balance(files, account) for account in accounts]

    async def allow(self, account: Account, limits: Amounts, *, order: float) -> None:
        with self._folder.transaction() as files:
            book = _book(files, account)
            if book.order <= order:
                files.put(_book_name(account), structs.replace(book, allowed=limits, order=order))


def _charged_name(work_id: str) -> str:
    return f"charged/{_digest(work_id)}"


def _book_name(account: Account) -> str:
    return f"accounts/{_digest(f'{account.namespace} {account.root} {account.day}')}"


def _book(files: Files, account: Account) -> Book:
    return files.get(_book_name(account), Book) or Book(account.namespace, account.day)


def _balance(files: Files, account: Account) -> Balance:
    book = _book(files, account)
    return Balance(account, book.spent, book.allowed)


def _add(files: Files, account: Account, amounts: Amounts) -> None:
    if account.day is not None:
        books = [book for book in files.all("accounts", Book) if book.namespace == account.namespace]
        days = [book.day for book in books if book.day is not None]
        oldest = max([account.day, *days]) - DAYS_KEPT
        for day in days:
            if day <= oldest:
                files.put(_book_name(Account(account.namespace, day=day)), None)
        if account.day <= oldest:
            return
    book = _book(files, account)
    files.put(_book_name(account), structs.replace(book, spent=add(book.spent, dict(amounts))))


# --- artifacts, and all of it together -----------------------------------------------


class FolderArtifacts:
    """A file for each blob, named by its digest."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, chunks: AsyncIterator[bytes] | Iterable[bytes]) -> Blob:
        parts = [chunk async for chunk in chunks] if isinstance(chunks, AsyncIterator) else list(chunks)
        content = b"".join(parts)
        digest = hashlib.sha256(content).hexdigest()
        write_whole(self._root / digest, content)
        return Blob(digest, len(content))

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        if await self.size(digest) is None:
            raise ArtifactNotFound(f"no artifact {digest!r}")
        content = (self._root / digest).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise StorageCorrupt(f"artifact {digest} has other bytes than were stored")
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]

    async def size(self, digest: str) -> int | None:
        path = self._root / digest
        is_digest = len(digest) == 64 and digest.isalnum()  # never a path
        return path.stat().st_size if is_digest and path.is_file() else None


class FolderBackend:
    """All ports on one folder.

    Args:
        root: made if it is not there.
        clock: decides when messages are visible.
    """

    projects_on_append = False
    inline_max_bytes = 1 << 20
    sweep_seconds = 5.0

    def __init__(self, root: Path, clock: Clock) -> None:
        folder = Folder(root)
        self.url = f"folder:{root}"
        self.root = root
        self.journal = FolderJournal(folder)
        self.index = FolderIndex(folder)
        self.claims = FolderClaims(folder)
        self.accounts = FolderAccounts(folder)
        self.queue = FolderQueue(folder, clock)
        self.artifacts = FolderArtifacts(root / "artifacts")

    async def check(self) -> Sequence[Finding]:
        is_writable = os.access(self.root, os.W_OK)
        return [Finding("folder", is_writable, str(self.root), "" if is_writable else "Make it writable.")]

    async def close(self) -> None:
        """Nothing is held between two calls."""


async def open_url(url: str, settings: object, clock: Clock) -> FolderBackend:
    """The entry point of scheme `folder`."""
    return FolderBackend(Path(url.partition(":")[2]).expanduser(), clock)
