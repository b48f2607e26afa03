"""The journal port on DynamoDB: an entry is an item, and an append is one conditional write.

How an entry becomes an item says `items.py`; `puts.py` has the writes, `group.py` lets those
of different work items share a call, `feed.py` reads the table's stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roost.errors import StorageCorrupt
from roost.journal.entries import Entry
from roost.journal.projection import project
from roost.journal.retention import is_endless
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.clients import Aws
from roost.storage.aws.expiry import Expiry
from roost.storage.aws.feed import Feed
from roost.storage.aws.group import GroupCommit
from roost.storage.aws.index import AwsIndex
from roost.storage.aws.items import BODY_ATTRIBUTES, KEPT, entry_of, item_of, size_of
from roost.storage.aws.puts import Puts, WithRow
from roost.storage.aws.replies import ask
from roost.storage.aws.table import Item, Table, gather
from roost.storage.ports import TRIM_MAX, FeedPage

# DynamoDB API reference, "TransactWriteItems": 100 actions, 4 MB. Fewer, since one conflict
# has a whole transaction made again.
TRANSACTION_WRITES_MAX = 25
TRANSACTION_BYTES_MAX = 3 << 20
_ROW_BYTES_MAX = 8 << 10
_HAS_BODY = "(attribute_exists(#body) OR attribute_exists(#encoding))"


class AwsJournal:
    """`ports.Journal`. A gap before a position is not looked for: it would cost a read.

    Args:
        index: takes the rows that are written with their entries.
        in_flight: see `AwsSettings.appends_in_flight`.
    """

    def __init__(self, aws: Aws, index: AwsIndex, accounts: AwsAccounts, *, in_flight: int) -> None:
        self._aws = aws
        self._index = index
        self._puts = Puts(aws)
        self._group = GroupCommit(self._puts, in_flight)
        self._feed = Feed(aws, index, self.read)
        self._expiry = Expiry(aws, index, accounts, self.tail)
        self._table = Table(aws, aws.names.journal)

    # --- append --------------------------------------------------------------

    async def append(self, entry: Entry, *, with_row: bool = False) -> Entry:
        """See `ports.Journal.append`. One `PutItem`, or a part of one `BatchExecuteStatement`;
        with the row one transaction. A reply that was lost is settled without a read."""
        if entry.position > 0 and is_endless(entry.control):
            return await self._append_endless(entry)
        if with_row or entry.position == 0:
            return _stands(entry, (await self._puts.with_rows([self._with_row(entry)]))[0])
        return _stands(entry, await self._group.put(item_of(entry, self._aws.names.shards)))

    async def _append_endless(self, entry: Entry) -> Entry:
        """Append to a journal that is trimmed: what was deleted leaves positions that look free.

        So each entry is written with its row, and who is behind the row is behind the tail.
        """

        async def behind(item: Item) -> Item | None:
            tail = await self.tail(entry.work_id)
            if tail is not None and tail.position > entry.position:
                return item_of(tail, self._aws.names.shards)
            return await self._puts.one(item)  # the row is ahead of a journal that is being copied

        return _stands(entry, (await self._puts.with_rows([self._with_row(entry)], behind))[0])

    async def append_many(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """See `ports.Journal.append_many`. New work goes in transactions of up to
        `TRANSACTION_WRITES_MAX`, a few at a time."""
        new = [entry for entry in entries if entry.position == 0]
        later = [entry for entry in entries if entry.position > 0]
        first = await gather(self._append_new(chunk) for chunk in self._chunks(new))
        stand = iter([entry for chunk in first for entry in chunk])
        then = iter(await gather(self.append(entry) for entry in later))
        return [next(stand if entry.position == 0 else then) for entry in entries]

    async def _append_new(self, chunk: Sequence[tuple[Entry, WithRow]]) -> list[Entry]:
        outcomes = await self._puts.with_rows([write for _, write in chunk])
        return [_stands(entry, standing) for (entry, _), standing in zip(chunk, outcomes, strict=True)]

    def _with_row(self, entry: Entry) -> WithRow:
        return WithRow(item_of(entry, self._aws.names.shards), self._index.row_put(project(entry)))

    def _chunks(self, entries: Sequence[Entry]) -> Iterator[list[tuple[Entry, WithRow]]]:
        """Entries and their writes, as many together as go into a transaction."""
        chunk: list[tuple[Entry, WithRow]] = []
        size_bytes = 0
        for entry in entries:
            write = self._with_row(entry)
            write_bytes = size_of(write.item) + _ROW_BYTES_MAX
            size_bytes += write_bytes
            if len(chunk) == TRANSACTION_WRITES_MAX or (chunk and size_bytes > TRANSACTION_BYTES_MAX):
                yield chunk
                chunk, size_bytes = [], write_bytes
            chunk.append((entry, write))
        if chunk:
            yield chunk

    # --- read ----------------------------------------------------------------

    async def tail(self, work_id: str) -> Entry | None:
        """See `ports.Journal.tail`. One consistent query."""
        found = await self.read(work_id, limit=1, newest_first=True)
        return found[0] if found else None

    async def get(self, work_id: str, position: int) -> Entry | None:
        """See `ports.Journal.get`. A query, not `GetItem`: that gives a damaged reply and no
        item the same looks (see `replies.ask`), and costs as much."""
        found = await self._query(work_id, "=", position, limit=1, newest_first=False)
        return found[0] if found else None

    async def read(
        self, work_id: str, *, after: int = -1, limit: int = 100, newest_first: bool = False
    ) -> Sequence[Entry]:
        """See `ports.Journal.read`. One consistent query a megabyte."""
        if newest_first and after >= 0:
            return await self._query(work_id, "<", after, limit=limit, newest_first=True)
        return await self._query(
            work_id, ">", -1 if newest_first else after, limit=limit, newest_first=newest_first
        )

    async def _query(
        self, work_id: str, compare: str, position: int, *, limit: int, newest_first: bool
    ) -> list[Entry]:
        found = await self._query_items(work_id, compare, position, limit=limit, newest_first=newest_first)
        return [entry_of(item) for item in found]

    async def _query_items(
        self, work_id: str, compare: str, position: int, *, limit: int, newest_first: bool
    ) -> list[Item]:
        items: list[Item] = []
        start: Item = {}
        while len(items) < limit:  # each page has an item, or is the last
            page = await ask(
                self._aws,
                "dynamodb",
                "query",
                "Count",
                TableName=self._aws.names.journal,
                ConsistentRead=True,
                KeyConditionExpression=f"#work = :work AND #position {compare} :position",
                ExpressionAttributeNames={"#work": "work", "#position": "position"},
                ExpressionAttributeValues={":work": {"S": work_id}, ":position": {"N": str(position)}},
                ScanIndexForward=not newest_first,
                Limit=limit - len(items),
                **start,
            )
            items += page["Items"]
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        return items

    # --- the rest ------------------------------------------------------------

    async def feed(
        self, cursor: str | None, *, limit: int = 100, newest: bool = False, namespace: str | None = None
    ) -> FeedPage:
        """See `ports.Journal.feed`, and `Feed`: it goes back 24 hours."""
        return await self._feed.page(cursor, limit=limit, newest=newest, namespace=namespace)

    async def purge(self, work_id: str, position: int) -> bool:
        """See `ports.Journal.purge`, and `Expiry`."""
        return await self._expiry.purge(work_id, position)

    async def prune(self, work_id: str, positions: Sequence[int]) -> None:
        """See `ports.Journal.prune`. One update each, several at a time."""
        await gather(self._prune(work_id, position) for position in positions if position > 0)

    async def _prune(self, work_id: str, position: int) -> None:
        names = {f"#{name}": name for name in BODY_ATTRIBUTES}
        await self._table.write_if(
            "update_item",
            Key={"work": {"S": work_id}, "position": {"N": str(position)}},
            UpdateExpression=f"REMOVE {', '.join(names)}",
            ConditionExpression="attribute_exists(#work) AND attribute_not_exists(#kept)",
            ExpressionAttributeNames={**names, "#work": "work", "#kept": KEPT},
        )

    async def keep(self, work_id: str, position: int) -> Entry | None:
        """See `ports.Journal.keep`. A query, and the item put anew with a mark that `prune` heeds.

        Not an update, for which who retries work would need one permission more; an item never
        changes but for its body, which goes, and then it is not put.
        """
        items = await self._query_items(work_id, "=", position, limit=1, newest_first=False)
        if not items or (entry := entry_of(items[0])).body is None:
            return None
        standing = await self._table.write_if(
            "put_item",
            Item={**items[0], KEPT: {"BOOL": True}},
            ConditionExpression=f"#entry = :entry AND {_HAS_BODY}",
            ExpressionAttributeNames={f"#{name}": name for name in ("entry", "body", "encoding")},
            ExpressionAttributeValues={":entry": items[0]["entry"]},
        )
        return entry if standing is None else None

    async def trim(self, work_id: str, before: int, *, limit: int = TRIM_MAX) -> int:
        """See `ports.Journal.trim`, and `Expiry`."""
        return await self._expiry.trim(work_id, before, limit)

    async def expire(self, ended_before: float, *, limit: int = 100) -> Sequence[str]:
        """See `ports.Journal.expire`, and `Expiry`."""
        return await self._expiry.expire(ended_before, limit)

    async def close(self) -> None:
        """Wait for appends whose callers went away."""
        await self._group.close()


def _stands(entry: Entry, standing: Item | None) -> Entry:
    """The entry that stands, given what `Puts` says of the item of `entry`."""
    if standing is None:
        return entry
    found = entry_of(standing)
    is_there = found.position == entry.position
    is_past_it = found.position > entry.position and is_endless(found.control)
    if found.work_id != entry.work_id or not (is_there or is_past_it):
        raise StorageCorrupt(f"entry {entry.position} of {entry.work_id} gave that of another position")
    return entry if found.entry_id == entry.entry_id else found
