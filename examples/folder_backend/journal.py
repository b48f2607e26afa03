"""The journal, a file for each entry, and the work index, a file for each row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from msgspec import structs

from roost.errors import StorageError
from roost.journal.entries import Entry, IndexRow
from roost.journal.projection import LaneCount, project
from roost.journal.retention import is_endless
from roost.names import Order, State, feeds
from roost.storage import ports, whole
from roost.storage.codec import StoredEntry, decode_entry, encode_entry
from roost.storage.query import IndexPage, IndexQuery, number_of
from roost.storage.whole import Ledger, Numbered

from .files import Files, Folder, digest_of


def _entry(work_id: str, position: int) -> str:
    return f"journal/{digest_of(work_id)}/{position:012d}"


def _kept(work_id: str, position: int) -> str:
    return f"kept/{digest_of(work_id)}/{position:012d}"


def _row(work_id: str) -> str:
    return f"rows/{digest_of(work_id)}"


def _positions(files: Files, work_id: str) -> list[int]:
    """Where entries stand, lowest first: all up to the last, unless the journal was trimmed."""
    return [int(name.rpartition("/")[2]) for name in files.names(f"journal/{digest_of(work_id)}")]


def _read(files: Files, work_id: str, position: int) -> Entry | None:
    stored = files.get(_entry(work_id, position), StoredEntry) if position >= 0 else None
    return None if stored is None else decode_entry(stored)


def _tail(files: Files, work_id: str) -> Entry | None:
    positions = _positions(files, work_id)
    return _read(files, work_id, positions[-1]) if positions else None


def _append(files: Files, entry: Entry, with_row: bool) -> Entry:
    tail = _tail(files, entry.work_id)
    last = -1 if tail is None else tail.position
    if tail is not None and entry.position and entry.control.created_at != tail.control.created_at:
        return tail  # of new work with that id
    if tail is not None and entry.position <= last:
        # Ours, at an earlier try, or a competitor's: its id says which. What was trimmed is the tail's.
        return _read(files, entry.work_id, entry.position) or tail
    if entry.position > last + 1 and not is_endless(entry.control):
        raise StorageError(f"a gap before position {entry.position} of {entry.work_id}")
    files.put(_entry(entry.work_id, entry.position), encode_entry(entry))
    files.put(f"feed/{_number(files):012d}.{digest_of(entry.work_id)}.{entry.position:012d}", True)
    if with_row or entry.position == 0:
        _show(files, project(entry))
    return entry


def _place(name: str) -> tuple[int, str]:
    """What a name in the feed says: its number, and the entry's name."""
    number, digest, position = name.removeprefix("feed/").split(".")
    return int(number), f"journal/{digest}/{position}"


def _fed(files: Files, name: str) -> Entry:
    stored = files.get(_place(name)[1], StoredEntry)
    assert stored is not None  # both go together
    return decode_entry(stored)


def _number(files: Files) -> int:
    """One that no transaction before got, and larger than all of those."""
    number = (files.get("number", int) or 0) + 1
    files.put("number", number)
    return number


def _show(files: Files, row: IndexRow) -> None:
    """Write the row of an entry that was appended."""
    standing = files.get(_row(row.work_id), Numbered)
    if standing is None or standing.row.created_at != row.created_at or standing.row.position <= row.position:
        files.put(_row(row.work_id), Numbered(standing.number if standing else _number(files), row))


def _put_row(files: Files, row: IndexRow) -> bool:
    standing = files.get(_row(row.work_id), Numbered)
    if not whole.may_put(standing.row if standing else None, row):
        return False
    files.put(_row(row.work_id), Numbered(standing.number if standing else _number(files), row))
    return True


def _replace(files: Files, standing: Numbered, row: IndexRow | None) -> bool:
    if row is not None:
        files.put(_row(row.work_id), Numbered(standing.number, row))
    return row is not None


def _renew(files: Files, renewal: ports.Renewal) -> bool:
    standing = files.get(_row(renewal.work_id), Numbered)
    return standing is not None and _replace(files, standing, whole.renewed(standing.row, renewal))


def _drop(files: Files, work_id: str, positions: Sequence[int]) -> None:
    """Remove entries, and their places in the feed."""
    gone = {_entry(work_id, position) for position in positions}
    for name in (*gone, *(name for name in files.names("feed") if _place(name)[1] in gone)):
        files.put(name, None)


def _forget(files: Files, work_id: str) -> None:
    _drop(files, work_id, _positions(files, work_id))
    for name in (_row(work_id), *files.names(f"kept/{digest_of(work_id)}")):
        files.put(name, None)
    ledger = files.get("accounts", Ledger) or Ledger()
    ledger.forget(work_id)
    files.put("accounts", ledger)


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
                positions = [one for one in reversed(positions) if after < 0 or one < after]
            else:
                positions = [one for one in positions if one > after]
            found = (_read(files, work_id, position) for position in positions[:limit])
            return [entry for entry in found if entry is not None]

    async def get(self, work_id: str, position: int) -> Entry | None:
        with self._folder.transaction() as files:
            return _read(files, work_id, position)

    async def feed(
        self, cursor: str | None, *, limit: int = 100, newest: bool = False, namespace: str | None = None
    ) -> ports.FeedPage:
        after = 0 if cursor is None else number_of(cursor)
        with self._folder.transaction() as files:
            names = [name for name in files.names("feed") if _place(name)[0] > after]
            if cursor is None and newest:
                newest_first = (_fed(files, name) for name in reversed(names))
                found = (one for one in newest_first if namespace is None or feeds(one.work_id, namespace))
                entries, seen = [*islice(found, limit)][::-1], names[-1:]
            else:
                seen = names[:limit]
                entries = [_fed(files, name) for name in seen]
            return ports.FeedPage(entries, str(_place(seen[-1])[0] if seen else after))

    async def prune(self, work_id: str, positions: Sequence[int]) -> None:
        with self._folder.transaction() as files:
            for position in positions:
                entry = _read(files, work_id, position)
                is_kept = files.get(_kept(work_id, position), bool)
                if position > 0 and entry is not None and not is_kept:
                    files.put(_entry(work_id, position), encode_entry(structs.replace(entry, body=None)))

    async def keep(self, work_id: str, position: int) -> Entry | None:
        with self._folder.transaction() as files:
            entry = _read(files, work_id, position)
            if entry is None or entry.body is None:
                return None
            files.put(_kept(work_id, position), True)
            return entry

    async def trim(self, work_id: str, before: int, *, limit: int = ports.TRIM_MAX) -> int:
        with self._folder.transaction() as files:
            found = [one for one in _positions(files, work_id) if 0 < one < before][:limit]
            _drop(files, work_id, found)
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
            rows = {one.row.work_id: one.row for one in files.all("rows", Numbered)}
            tails = [tail for work_id in rows if (tail := _tail(files, work_id)) is not None]
            ended = [tail.work_id for tail in tails if _is_over(tail, rows[tail.work_id], ended_before)]
            ended = ended[:limit]
            for work_id in ended:
                _forget(files, work_id)
            return ended


def _is_over(tail: Entry, row: IndexRow, ended_before: float) -> bool:
    """Whether work ended before an instant, and its row says that nothing is left to do for others."""
    ended = tail.control.state.is_terminal and tail.control.since < ended_before
    return ended and row.position >= tail.position and row.due_at is None


class FolderIndex:
    """A file for each row."""

    orders = frozenset(Order)

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def put(self, row: IndexRow) -> bool:
        with self._folder.transaction() as files:
            return _put_row(files, row)

    async def get(self, work_id: str) -> IndexRow | None:
        with self._folder.transaction() as files:
            standing = files.get(_row(work_id), Numbered)
            return None if standing is None else standing.row

    async def renew(self, renewals: Sequence[ports.Renewal]) -> Sequence[bool]:
        with self._folder.transaction() as files:
            return [_renew(files, renewal) for renewal in renewals]

    async def due(self, now: float, *, limit: int = 100, after: IndexRow | None = None) -> Sequence[IndexRow]:
        return whole.due((one.row for one in self._all()), now, limit, after)

    async def take_due(self, row: IndexRow, due_at: float | None) -> bool:
        with self._folder.transaction() as files:
            standing = files.get(_row(row.work_id), Numbered)
            if standing is None or not whole.may_take_due(standing.row, row):
                return False
            return _replace(files, standing, structs.replace(standing.row, due_at=due_at))

    def _all(self) -> Sequence[Numbered]:
        with self._folder.transaction() as files:
            return files.all("rows", Numbered)

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        return whole.page(self._all(), query, cursor, limit)

    async def counts(self, namespace: str = "") -> dict[State, int]:
        return whole.counts((one.row for one in self._all()), namespace)

    async def lane_counts(self, namespace: str = "") -> Sequence[LaneCount]:
        return whole.lane_counts((one.row for one in self._all()), namespace)
