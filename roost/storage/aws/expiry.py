"""Finding the work whose retention time is over, to delete it (`deletion.py`).

Found by the index `marks`: the last entry of whatever ended has a mark in the bucket of its
day, and goes with its journal, so old buckets empty themselves and nothing else is written
for it. Marks that are left there are of work that lives, which is found by a later mark once it
ends: a bucket that was looked through is not looked through again, however long that sleeps.

Why not DynamoDB's own time to live for all of it, which costs nothing: it goes by an instant in
each item. An entry is written while the work lives, and work may sleep for longer than any
instant that could be written then. To add the instant to the entries once the work has ended
costs as many write units as to delete them. The last entry and the index row are written at the
end, and could carry one; but a journal that loses its last entry first shows work that ended as
work that goes on, and a row is what keeps an operator's retry and the deletion apart. So a sweep
deletes, at a retention time that may be changed afterwards, and time to live takes the row when
nothing depends on it any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from math import inf
from typing import Protocol

from msgspec.structs import replace

from roost.errors import StorageUnavailable
from roost.journal.entries import Entry, IndexRow
from roost.journal.projection import project
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.clients import Aws
from roost.storage.aws.deletion import Deletion, Ended
from roost.storage.aws.index import AwsIndex
from roost.storage.aws.items import day_of, mark_key
from roost.storage.aws.progress import Progress
from roost.storage.aws.replies import ask
from roost.storage.aws.table import Item, Partition, Table, gather, merge

DAYS_MAX = 400  # how far back the first look of all goes; later ones begin where it found marks
_DAYS_AT_ONCE = 32
_DAYS_OF_SKEW = 1  # a mark may be written to a day that is over: by a clock that is behind
_DELETES_MAX = 25  # DynamoDB API reference, "BatchWriteItem"
_FIRST_PAUSE_SECONDS = 0.05
_ROUNDS_MAX = 12


class Tail(Protocol):
    """`ports.Journal.tail`."""

    def __call__(self, work_id: str) -> Awaitable[Entry | None]:
        """See there."""


class Expiry:
    """Finds and deletes work that ended.

    Args:
        tail: reads the last entry of a journal.
    """

    def __init__(self, aws: Aws, index: AwsIndex, accounts: AwsAccounts, tail: Tail) -> None:
        self._aws = aws
        self._index = index
        self._deletion = Deletion(aws, index, accounts)
        self._tail = tail
        self._journal_table = Table(aws, aws.names.journal)
        self._progress = Progress(aws)

    async def expire(self, ended_before: float, limit: int) -> Sequence[str]:
        """See `ports.Journal.expire`."""
        last = day_of(ended_before)
        stored, noted = await self._progress.read()
        await self._finish(noted)
        day = stored or last - DAYS_MAX
        oldest: int | None = None  # of the days that are to be looked through again
        gone: list[str] = []
        while day <= last and len(gone) < limit:
            days = range(day, min(day + _DAYS_AT_ONCE, last + 1))
            marked = await gather(self._marks(one, 1) for one in days)
            for one, marks in zip(days, marked, strict=True):
                if marks and len(gone) < limit:
                    expired, is_over = await self._expire_day(one, ended_before, limit - len(gone))
                    gone += expired
                    if oldest is None and not (is_over and one < last - _DAYS_OF_SKEW):
                        oldest = one
            day = days.stop
        reached = last if oldest is None else oldest
        if reached > stored:
            await self._progress.store_day(reached)
        return gone

    async def _finish(self, noted: Sequence[str]) -> None:
        """Strike out what is over of what others, who may have died, were about to delete."""
        looks = await gather(map(self._deletion.finish, noted))
        over = [work_id for work_id, is_over in zip(noted, looks, strict=True) if is_over]
        await self._progress.strike_out(over)

    async def purge(self, work_id: str, position: int) -> bool:
        """See `ports.Journal.purge`. The row may lag behind the end that it is to show."""
        tail = await self._tail(work_id)
        if tail is None or tail.position != position or not tail.control.state.is_terminal:
            return False
        await self._index.put(replace(project(tail), due_at=None))
        row = await self._index.glance(work_id, consistent=True)
        ended = None if row is None else await self._deletion.ended(row, inf)
        return ended is not None and await self._deletion.delete(ended, is_noted=False)

    async def trim(self, work_id: str, before: int, limit: int) -> int:
        """See `ports.Journal.trim`. Finds the keys, and deletes them in batches."""
        found = await self._positions(work_id, before, limit)
        await self._delete_at(work_id, found)
        return len(found)

    async def _positions(self, work_id: str, before: int, limit: int) -> list[int]:
        """Positions above 0 and below `before` that have an entry, lowest first."""
        found: list[int] = []
        start: Item = {}
        while before > 1 and len(found) < limit:
            page = await ask(
                self._aws,
                "dynamodb",
                "query",
                "Count",
                TableName=self._journal_table.name,
                KeyConditionExpression="#work = :work AND #position BETWEEN :first AND :last",
                ExpressionAttributeNames={"#work": "work", "#position": "position"},
                ExpressionAttributeValues={
                    ":work": {"S": work_id},
                    ":first": {"N": "1"},
                    ":last": {"N": str(before - 1)},
                },
                ProjectionExpression="#position",
                ConsistentRead=True,
                Limit=limit - len(found),
                **start,
            )
            found += [int(item["position"]["N"]) for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        return found

    async def _delete_at(self, work_id: str, positions: Sequence[int]) -> None:
        for start in range(0, len(positions), _DELETES_MAX):
            batch = positions[start : start + _DELETES_MAX]
            await self._delete_entries(
                [{"work": {"S": work_id}, "position": {"N": str(number)}} for number in batch]
            )

    async def _expire_day(self, day: int, ended_before: float, limit: int) -> tuple[list[str], bool]:
        """Delete what a day's marks lead to, up to `limit`; gives the work ids, and whether nothing that
        is left will ever be found by them."""
        gone: list[str] = []
        is_over = True
        marks = self._partitions(day)
        while len(gone) < limit:
            found, _ = await merge(marks, limit, order=_mark_at)
            if not found:
                return gone, is_over
            newest = _newest_marks(found)
            rows = await gather(map(self._index.glance, newest))
            ended = [one for one in await gather(self._ended(row, ended_before) for row in rows) if one]
            deleted = await self._delete(ended[: limit - len(gone)])
            expired = [
                one.tail.work_id for one, is_deleted in zip(ended, deleted, strict=False) if is_deleted
            ]
            gone += expired
            left = [row for row in rows if row is None or row.work_id not in expired]
            is_over = is_over and all(row is not None and _lives_on(row, newest[row.work_id]) for row in left)
        return gone, False

    async def _ended(self, row: IndexRow | None, ended_before: float) -> Ended | None:
        return None if row is None else await self._deletion.ended(row, ended_before)

    async def _delete(self, ended: Sequence[Ended]) -> list[bool]:
        """Delete these; whoever dies in the midst leaves their ids to the next look."""
        ids = [one.tail.work_id for one in ended]
        await self._progress.note(ids)
        deleted = await gather(map(self._deletion.delete, ended))
        await self._progress.strike_out(ids)
        return deleted

    async def _marks(self, day: int, limit: int) -> list[Item]:
        found, _ = await merge(self._partitions(day), limit, order=_mark_at)
        return found

    def _partitions(self, day: int) -> list[Partition]:
        return [self._marks_of(mark_key(day, shard)) for shard in range(self._aws.names.shards)]

    def _marks_of(self, key: str) -> Partition:
        arguments = {
            "IndexName": "marks",
            "KeyConditionExpression": "#mark_key = :mark_key",
            "ExpressionAttributeNames": {"#mark_key": "mark_key"},
            "ExpressionAttributeValues": {":mark_key": {"S": key}},
        }
        return Partition(self._journal_table, arguments)

    async def _delete_entries(self, keys: Sequence[Item]) -> None:
        left = [{"DeleteRequest": {"Key": key}} for key in keys]
        pause = _FIRST_PAUSE_SECONDS
        for _ in range(_ROUNDS_MAX):
            answer = await self._journal_table.batch_write(left)
            left = answer.get("UnprocessedItems", {}).get(self._journal_table.name, [])
            if not left:
                return
            await self._aws.clock.sleep(self._aws.ids.uniform(pause / 2, pause))
            pause *= 2
        raise StorageUnavailable(f"{len(left)} deletes on {self._journal_table.name} stay unprocessed")


def _mark_at(item: Item) -> float:
    return float(item["mark_at"]["N"])


def _newest_marks(found: Sequence[Item]) -> dict[str, int]:
    """The position of the newest mark of each work item."""
    newest: dict[str, int] = {}
    for item in found:
        work_id, position = item["work"]["S"], int(item["position"]["N"])
        newest[work_id] = max(position, newest.get(work_id, 0))
    return newest


def _lives_on(row: IndexRow, marked: int) -> bool:
    """Whether the end of a work item will have, or has, a mark after this one; a row may lag behind."""
    return row.position >= marked if not row.state.is_terminal else row.position > marked
