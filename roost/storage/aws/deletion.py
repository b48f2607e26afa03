"""Deleting one journal whose work ended, so that at each instant its id is wholly there or free.

One write an item, in this order; a crash after any of them leaves what the next sweep goes on with:

1. The row is marked `expiring`, on the condition that it shows the end of the journal and is not
   due, and leaves the index `state`. From here on nobody appends: whatever comes after an
   end is written with its row, on the condition that this has no mark.
2. The entries go, the newest first, but for the last: as long as that is there, the tail says
   that the work has ended, and its mark in the index `marks` leads the next sweep here.
3. The last entry goes; and with it, in one transaction, what the accounts know of the work.
4. The row gets `expires_at`, and with it is as good as none: new work of that id takes its place,
   and DynamoDB's time to live deletes it, whenever that may be. What somebody who slept through
   all of this would append after an entry that is gone is refused, as there is no row for it.

So nothing depends on time to live: neither when it deletes, nor in which order, nor whether.
`expires_at` is on no item that means anything.

Who dies between 3 and 4 leaves a marked row without a journal. New work of that id sees that no
entry is left, and takes its place (`puts.py`). Sweeps find the others: whoever deletes many notes
their ids before, all together, and strikes them out afterwards (`progress.py`). Who deletes one
does 3 and 4 in one transaction, which costs two units more.

Each delete names the entry's id, and each write of the row what it was made for: somebody who
slept between two steps harms no newer work of the same id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from roost.journal.entries import Entry, IndexRow
from roost.models import State
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.clients import Aws
from roost.storage.aws.index import EXPIRING, AwsIndex
from roost.storage.aws.items import ENTRY_ATTRIBUTES, entry_of, key_of
from roost.storage.aws.names import EXPIRES_AT
from roost.storage.aws.replies import ask
from roost.storage.aws.table import Item, Table, gather, number_of

PAGE_ENTRIES = 100  # that are read, and then deleted, before the next


class Ended(NamedTuple):
    """A journal whose work has ended.

    Attributes:
        tail: its last entry, without its body.
        newest: items of its newest entries, the last one first, without their bodies.
        is_all: whether it has no others.
    """

    tail: Entry
    newest: list[Item]
    is_all: bool


class Deletion:
    """Reads journals of work that ended, and deletes them."""

    def __init__(self, aws: Aws, index: AwsIndex, accounts: AwsAccounts) -> None:
        self._aws = aws
        self._index = index
        self._accounts = accounts
        self._journal_table = Table(aws, aws.names.journal)
        self._index_table = Table(aws, aws.names.index)

    async def ended(self, row: IndexRow, ended_before: float) -> Ended | None:
        """A journal, if its row and its last entry say the same: that it ended before then. And owes
        nothing to anybody.

        Args:
            row: as it is, or was a moment ago: what is decided is decided by the condition of the mark.
        """
        if not row.state.is_terminal or row.since >= ended_before or row.due_at is not None:
            return None
        newest, is_all = await self._page(row.work_id, None)
        if not newest:
            return None
        tail = entry_of(newest[0])
        if tail.position != row.position or not tail.control.state.is_terminal:
            return None
        return Ended(tail, newest, is_all)

    async def delete(self, ended: Ended, *, is_noted: bool = True) -> bool:
        """Delete a journal and its row, see above. Returns False if the work came back to life.

        Args:
            is_noted: its id is where a sweep finds it if this process dies in the midst.
        """
        tail = ended.tail
        if not await self._mark(tail):
            return False
        last, *rest = ended.newest
        await self._delete_entries(rest)
        page, is_all = ended.newest, ended.is_all
        while not is_all:
            page, is_all = await self._page(tail.work_id, page[-1])
            await self._delete_entries(page)
        await self._delete_last(tail, last, is_noted=is_noted)
        return True

    async def _delete_last(self, tail: Entry, last: Item, *, is_noted: bool) -> None:
        """Delete the last entry, what goes together with it, and the row."""
        created_at = number_of(tail.control.created_at)
        together: list[Item] = []
        if tail.control.account or tail.control.is_daily:
            together += self._accounts.forgetting(tail.work_id, tail.control.account)
        if not is_noted:
            burial = self._burial(tail.work_id, last["position"], created_at)
            together.append({"Update": {"TableName": self._index_table.name, **burial}})
        if together:
            deletion = {"Delete": {"TableName": self._journal_table.name, **_deletion(last)}}
            await self._index_table.transact([deletion, *together], token=self._aws.ids.unique())
        else:
            await self._delete_entries([last])
        if is_noted:
            await self.bury(tail.work_id, last["position"], created_at)

    async def finish(self, work_id: str) -> bool:
        """Do what somebody may have left undone who noted to delete a journal.

        Returns:
            Whether that is over: the id is free, or its work goes on. Else there are entries left,
            and the mark of the last leads a sweep to them; or somebody is about to begin.
        """
        found = await self._index_table.call("get_item", Key={"work": {"S": work_id}}, ConsistentRead=True)
        row = found.get("Item", {})
        if not row or EXPIRES_AT in row:
            return True
        if EXPIRING not in row:
            return not State(row["state"]["S"]).is_terminal
        entries, _ = await self._page(work_id, None)
        return not entries and await self.bury(work_id, row["position"], row["created_at"])

    async def bury(self, work_id: str, position: Item, created_at: Item) -> bool:
        """Let go of a marked row, none of whose entries is left; False if it is another by now."""
        burial = self._burial(work_id, position, created_at)
        return await self._index_table.write_if("update_item", **burial) is None

    def _burial(self, work_id: str, position: Item, created_at: Item) -> Item:
        at = int(self._aws.clock.now())
        return {
            "Key": {"work": {"S": work_id}},
            "UpdateExpression": f"SET #{EXPIRES_AT} = :at",
            "ConditionExpression": f"{_IS_ITS_ROW} AND attribute_exists(#{EXPIRING})",
            "ExpressionAttributeNames": _names("position", "created_at", EXPIRING, EXPIRES_AT),
            "ExpressionAttributeValues": {
                ":position": position,
                ":created_at": created_at,
                ":at": number_of(at),
            },
        }

    async def _mark(self, tail: Entry) -> bool:
        """Mark the row if it shows this end of this work; not that of a later one of the same id."""
        standing = await self._index_table.write_if(
            "update_item",
            Key={"work": {"S": tail.work_id}},
            UpdateExpression=f"SET #{EXPIRING} = :yes REMOVE #state_key",
            ConditionExpression=f"{_IS_ITS_ROW} AND attribute_not_exists(#due_at)",
            ExpressionAttributeNames=_names("position", "created_at", EXPIRING, "state_key", "due_at"),
            ExpressionAttributeValues={
                ":position": number_of(tail.position),
                ":created_at": number_of(tail.control.created_at),
                ":yes": {"BOOL": True},
            },
        )
        return standing is None

    async def _page(self, work_id: str, after: Item | None) -> tuple[list[Item], bool]:
        """Entries without their bodies, the newest first, and whether those are all.

        Read units go by whole items: for a short journal it is one, as for its tail alone.
        """
        start = {} if after is None else {"ExclusiveStartKey": key_of(after)}
        page = await ask(
            self._aws,
            "dynamodb",
            "query",
            "Count",
            TableName=self._journal_table.name,
            KeyConditionExpression="#work = :work",
            ExpressionAttributeNames=_names(*ENTRY_ATTRIBUTES),
            ExpressionAttributeValues={":work": {"S": work_id}},
            ProjectionExpression=", ".join(f"#{name}" for name in ENTRY_ATTRIBUTES),
            ScanIndexForward=False,
            ConsistentRead=True,
            Limit=PAGE_ENTRIES,
            **start,
        )
        items: list[Item] = page["Items"]
        return items, "LastEvaluatedKey" not in page

    async def _delete_entries(self, items: Iterable[Item]) -> None:
        """Delete these very entries; none that took the place of one that is gone."""
        await gather(self._journal_table.write_if("delete_item", **_deletion(item)) for item in items)


def _deletion(item: Item) -> Item:
    """Of this very entry."""
    return {
        "Key": key_of(item),
        "ConditionExpression": "#entry = :entry",
        "ExpressionAttributeNames": {"#entry": "entry"},
        "ExpressionAttributeValues": {":entry": item["entry"]},
    }


_IS_ITS_ROW = "#position = :position AND #created_at = :created_at"


def _names(*names: str) -> dict[str, str]:
    return {f"#{name}": name for name in names}
