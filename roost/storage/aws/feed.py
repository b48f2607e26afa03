"""The feed: entries of all journals, from the journal table's stream.

The stream keeps 24 hours. Where the newest entries are wanted, it is not read at all up
to there: the index `marks`, the rows that are due next and the newest rows name the work
items that may have them.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from roost.errors import UNREADABLE
from roost.journal.entries import Entry
from roost.names import NAMESPACE_MARK, OPERATORS, State, operators_prefix
from roost.storage.aws.clients import Aws
from roost.storage.aws.index import AwsIndex
from roost.storage.aws.items import day_of, entry_of, mark_key
from roost.storage.aws.names import due_key, namespace_of
from roost.storage.aws.stream import Position, Stream
from roost.storage.aws.table import ROUNDS_MAX, Item, Partition, Table, gather, merge
from roost.storage.codec import tell_left_out, those_readable
from roost.storage.ports import FeedPage
from roost.storage.query import IndexQuery

MARK_DAYS_MAX = 8  # how far back marks are looked for
NAMESPACE_ROUNDS = 8  # of pages, in which a namespace's marks of a day are looked for among all; see `merge`
NAMESPACES_MAX = 16  # whose newest rows are looked at
_CLOCKS_DIFFER_SECONDS = 300.0  # writers' clocks ahead of ours
_TAIL_ENTRIES = 8  # of each work item at first; then doubling


_Placed = tuple[float, str, int, Entry]
"""Sorts as the page does: by instant, work item and position."""


class _Line:
    """The newest entries of one work item, newest first, as far as they were read."""

    def __init__(self) -> None:
        self.entries: list[_Placed] = []

    def add(self, older: Iterable[Entry]) -> None:
        """Add the ones before. None is placed after its follower, though clocks may say so."""
        at = self.entries[-1][0] if self.entries else math.inf
        for entry in older:
            at = min(at, entry.at)
            self.entries.append((at, entry.work_id, entry.position, entry))


@dataclass(frozen=True, slots=True)
class _Of:
    """Whose entries are wanted: a namespace's, as `names.feeds` has it, or, with None, everybody's."""

    namespace: str | None

    @property
    def rounds(self) -> int:
        """How long to go on over others' items."""
        return ROUNDS_MAX if self.namespace is None else NAMESPACE_ROUNDS

    def filtered(self, arguments: Item) -> Item:
        """The arguments of a query that gives no others."""
        if self.namespace is None:
            return arguments
        own = "begins_with(#work, :own)" if self.namespace else "NOT contains(#work, :own)"
        values = {":own": f"{self.namespace}{NAMESPACE_MARK}", ":operators": operators_prefix(self.namespace)}
        return arguments | {
            "FilterExpression": f"{own} OR begins_with(#work, :operators)",
            "ExpressionAttributeNames": {**arguments["ExpressionAttributeNames"], "#work": "work"},
            "ExpressionAttributeValues": {
                **arguments["ExpressionAttributeValues"],
                **{name: {"S": value} for name, value in values.items()},
            },
        }


class Read(Protocol):
    """`ports.Journal.read`."""

    def __call__(
        self, work_id: str, *, after: int = -1, limit: int = 100, newest_first: bool = False
    ) -> Awaitable[Sequence[Entry]]:
        """See there."""


class Feed:
    """Pages of the feed.

    Args:
        read: reads one journal.
    """

    def __init__(self, aws: Aws, index: AwsIndex, read: Read) -> None:
        self._aws = aws
        self._index = index
        self._read = read
        self._stream = Stream(aws)
        self._journal_table = Table(aws, aws.names.journal)
        self._index_table = Table(aws, aws.names.index)

    async def page(
        self, cursor: str | None, *, limit: int, newest: bool, namespace: str | None = None
    ) -> FeedPage:
        """See `ports.Journal.feed`. Begins 24 hours ago; in order within each work item.

        Raises:
            InputError: the cursor is none of this backend.
        """
        if cursor is None and newest:
            return await self._newest(limit, namespace)
        position = Position() if cursor is None else Position.decode(cursor)
        images, after = await self._stream.read(position, limit)
        shown = dict(position.shown)
        entries = []
        for entry in those_readable(entry_of, images):
            if entry.position <= shown.get(entry.work_id, -1):
                continue
            shown.pop(entry.work_id, None)  # those of one work item come in order
            entries.append(entry)
        return FeedPage(entries, replace(after, shown=shown).encode())

    async def _newest(self, limit: int, namespace: str | None) -> FeedPage:
        """The newest entries; the cursor goes on in the stream.

        The place in the stream is taken first: what is appended while the page is put
        together comes after it, and what of that is on the page already is left out there.
        """
        position = await self._stream.now()
        entries = await self._newest_of(await self._candidates(limit, namespace), limit)
        shown: dict[str, int] = {}
        for entry in entries:
            shown[entry.work_id] = max(entry.position, shown.get(entry.work_id, 0))
        return FeedPage(entries, replace(position, shown=shown).encode())

    async def _newest_of(self, work_ids: Iterable[str], limit: int) -> list[Entry]:
        """The newest entries of some work items, oldest first."""
        lines = {work_id: _Line() for work_id in work_ids}
        asked, count = list(lines), _TAIL_ENTRIES
        newest: list[_Placed] = []
        while asked:
            found = await gather(self._older(work_id, lines[work_id], count) for work_id in asked)
            for work_id, entries in zip(asked, found, strict=True):
                lines[work_id].add(entries)
            newest = sorted(placed for line in lines.values() for placed in line.entries)[-limit:]
            # Of a work item whose entries are all on the page, older ones may belong there, too.
            asked = [
                work_id
                for work_id, entries in zip(asked, found, strict=True)
                if len(entries) == count and (len(newest) < limit or lines[work_id].entries[-1] >= newest[0])
            ]
            count *= 2
        return [entry for *_, entry in newest]

    async def _older(self, work_id: str, line: _Line, count: int) -> Sequence[Entry]:
        """Entries before those that are known, newest first."""
        after = line.entries[-1][2] if line.entries else -1
        try:
            return await self._read(work_id, after=after, limit=count, newest_first=True)
        except UNREADABLE as error:
            tell_left_out(error)
            return []

    # --- which work items ----------------------------------------------------

    async def _candidates(self, limit: int, namespace: str | None) -> set[str]:
        """Work items of which the newest entries may be.

        A lease that ended and a word from outside left a mark; work under a lease and new
        work is due soon. New work that is due late is among its namespace's newest rows; where
        all namespaces are asked for, it is missed if nothing else of its own was found.
        """
        of = _Of(namespace)
        marked, due = await gather([self._marked(limit, of), self._due_next(limit, of)])
        found = {*marked, *due}
        if namespace is None:
            namespaces = sorted({"", *map(namespace_of, found)})[:NAMESPACES_MAX]
            queries = [IndexQuery(namespace=name) for name in namespaces]
        else:  # what runs may be older than the newest, and others' rows may hide when it is due
            queries = [IndexQuery(namespace=namespace, state=state) for state in (None, State.RUNNING)]
            queries.append(IndexQuery(namespace=OPERATORS, id_prefix=operators_prefix(namespace)))
        pages = await gather(self._index.list(query, limit=limit) for query in queries)
        return found | {row.work_id for page in pages for row in page.rows}

    async def _marked(self, limit: int, of: _Of) -> list[str]:
        """The works of the newest marks."""
        today = day_of(self._aws.clock.now() + _CLOCKS_DIFFER_SECONDS)
        found: list[Item] = []
        for day in range(today, today - MARK_DAYS_MAX, -1):
            marks, _ = await merge(
                [self._marks_of(mark_key(day, shard), of) for shard in range(self._aws.names.shards)],
                limit - len(found),
                order=lambda item: float(item["mark_at"]["N"]),
                newest_first=True,
                rounds=of.rounds,
            )
            found += marks
            if len(found) >= limit:
                break
        return [item["work"]["S"] for item in found]

    def _marks_of(self, key: str, of: _Of) -> Partition:
        arguments = {
            "IndexName": "marks",
            "ScanIndexForward": False,
            "KeyConditionExpression": "#mark_key = :mark_key",
            "ExpressionAttributeNames": {"#mark_key": "mark_key"},
            "ExpressionAttributeValues": {":mark_key": {"S": key}},
        }
        return Partition(self._journal_table, of.filtered(arguments))

    async def _due_next(self, limit: int, of: _Of) -> list[str]:
        """The works that are due next."""
        rows, _ = await merge(
            [self._due_of(due_key(shard), of) for shard in range(self._aws.names.shards)],
            limit,
            order=lambda item: float(item["due_at"]["N"]),
            rounds=of.rounds,
        )
        return [item["work"]["S"] for item in rows]

    def _due_of(self, key: str, of: _Of) -> Partition:
        names = {"#due_key": "due_key", "#due_at": "due_at"}
        arguments = {
            "IndexName": "due",
            "KeyConditionExpression": "#due_key = :due_key AND #due_at >= :now",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {
                ":due_key": {"S": key},
                ":now": {"N": repr(self._aws.clock.now())},
            },
        }
        return Partition(self._index_table, of.filtered(arguments))
