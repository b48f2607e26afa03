"""The writes of the journal table: an entry is put where no other stands.

Each write is one of three: alone (`PutItem`), several in a call that fail or succeed each
by itself (`BatchExecuteStatement`), or several together with their index rows, all or none
(`TransactWriteItems`). Who lost gets the item that stands. All may be repeated: a repeated
write meets its own item, and the entry's id tells.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from botocore.exceptions import ClientError

from roost.errors import StorageError, StorageUnavailable
from roost.storage.aws.clients import Aws
from roost.storage.aws.faults import reasons_of, storage_errors
from roost.storage.aws.index import EXPIRING
from roost.storage.aws.items import key_of
from roost.storage.aws.replies import ask
from roost.storage.aws.table import Item, Table, gather

# DynamoDB Developer Guide, "Running batch operations with PartiQL for DynamoDB"
STATEMENTS_MAX = 25
_IS_FREE = {
    "ConditionExpression": "attribute_not_exists(#work)",  # no item has this key
    "ExpressionAttributeNames": {"#work": "work"},
}
_TELL = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}  # says who won, without another read
# DynamoDB API reference, "BatchStatementError": codes without the ending that the same
# faults have elsewhere
_FULL_CODES = {
    code: f"{code}Exception"
    for code in ("ProvisionedThroughputExceeded", "TransactionConflict", "ResourceNotFound", "AccessDenied")
}
_TAKEN = frozenset({"DuplicateItem", "ConditionalCheckFailed"})
# The row as it was left by who deleted its journal and died before that was all.
_IS_LEFT = "#position = :position AND #created_at = :created_at AND attribute_exists(#expiring)"


class WithRow(NamedTuple):
    """An entry's item and the `Put` of its index row (`AwsIndex.row_put`)."""

    item: Item
    row_put: Item


Put = Callable[[Item], Awaitable[Item | None]]
"""Puts an item if its key is free; gives what stands, or None."""


class Puts:
    """Writes items of the journal table."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._table = Table(aws, aws.names.journal)

    async def one(self, item: Item) -> Item | None:
        """Put one item if its key is free.

        Returns:
            None: it was put. Else the item that stands.

        Raises:
            StorageError: it failed, or nobody knows.
        """
        return await self._standing(await self._table.write_if("put_item", Item=item, **_IS_FREE), item)

    async def many(self, items: Sequence[Item]) -> list[Item | StorageError | None]:
        """Put several items in one call, each by itself; all keys differ, at most `STATEMENTS_MAX`.

        Returns:
            For each what `one` returns, or the error that it raises.

        Raises:
            StorageUnavailable: the call failed; for each, nobody knows.
        """
        statements = [_insert(self._table.name, item) for item in items]
        try:
            reply = await ask(
                self._aws, "dynamodb", "batch_execute_statement", "Responses", Statements=statements
            )
        except StorageUnavailable:
            raise
        except StorageError:  # the fault of one, maybe; it must not be that of all
            return await gather(self._alone(item, None) for item in items)
        failed = {
            number: response["Error"]
            for number, (_, response) in enumerate(zip(items, reply["Responses"], strict=True))
            if "Error" in response
        }
        outcomes: list[Item | StorageError | None] = [None] * len(items)
        if failed:
            standing = await self._taken(
                [(items[i], error) for i, error in failed.items() if _is_taken(error)]
            )
            found = await gather(self._outcome(items[i], error, standing) for i, error in failed.items())
            for number, outcome in zip(failed, found, strict=True):
                outcomes[number] = outcome
        return outcomes

    async def _taken(self, losers: Sequence[tuple[Item, Item]]) -> dict[str, Item]:
        """What stands at taken keys, by name of the key.

        AWS gives it with the error ("BatchStatementError"). What does not come so is read,
        all at once and consistently.
        """
        standing = {_name(item): error["Item"] for item, error in losers if error.get("Item")}
        unknown = [key_of(item) for item, _ in losers if _name(item) not in standing]
        if unknown:
            standing |= {_name(item): item for item in await self._table.get_many(unknown)}
        return standing

    async def _outcome(
        self, item: Item, error: Item, standing: dict[str, Item]
    ) -> Item | StorageError | None:
        if not _is_taken(error):
            return await self._alone(item, error)
        return standing.get(_name(item)) or await self._alone(item, None)  # it was deleted meanwhile

    async def _alone(self, item: Item, error: Item | None) -> Item | StorageError | None:
        """Put an item again, which failed in a call that it shared; `error` counts as the first try."""
        tries = [] if error is None else [_client_error(error)]

        async def put() -> Item | None:
            if tries:
                raise tries.pop()
            return await self.one(item)

        what = f"an INSERT into {self._table.name}"
        try:
            with storage_errors(what):
                return await self._aws.patience.call(what, put)
        except StorageError as failed:
            return failed

    async def with_rows(self, writes: Sequence[WithRow], behind: Put | None = None) -> list[Item | None]:
        """Put items, each with its index row, all in one transaction.

        An item whose key is taken is left out of it, with its row. A newer row stays: its
        item is then put alone.

        Args:
            behind: does that instead, as `one` does.

        Returns:
            For each what `one` returns.

        Raises:
            StorageUnavailable: a work item is being deleted; its id is free in a moment. Or it
                is gone, and the entry was to follow one of its own.
            StorageError: it failed; of those not yet written, nobody knows.
        """
        outcomes: dict[int, Item | None] = {}
        left = dict(enumerate(writes))
        while left and (reasons := await self._transact([*left.values()])):
            for number, item_reason, row_reason in zip([*left], reasons[::2], reasons[1::2], strict=True):
                if _is_lost(item_reason):
                    item = left.pop(number).item
                    outcomes[number] = await self._standing(item_reason.get("Item", {}), item)
                elif _is_lost(row_reason) and EXPIRING in (row := row_reason.get("Item", {})):
                    left[number] = await self._in_place_of(row, left[number])
                elif _is_lost(row_reason) and not _is_of(row_reason.get("Item", {}), left[number]):
                    what = "its work was deleted; or restored without its row: `roost aws reindex`"
                    raise StorageUnavailable(f"{_name(left[number].item)}: {what}")
                elif _is_lost(row_reason):
                    outcomes[number] = await (behind or self.one)(left.pop(number).item)
        return [outcomes.get(number) for number in range(len(writes))]

    async def _in_place_of(self, row: Item, write: WithRow) -> WithRow:
        """New work where a row is marked, if all of its journal is deleted; nothing is appended there.

        Raises:
            StorageUnavailable: it is not, or this is no new work, or others were quicker once.
        """
        item, row_put = write
        is_second = row_put["ConditionExpression"] == _IS_LEFT
        if is_second or item["position"] != {"N": "0"} or await self._has_entries(item["work"]):
            raise StorageUnavailable(f"{_name(item)}: the work item is just being deleted")
        seen = ("position", "created_at")
        return WithRow(
            item,
            {
                **row_put,
                "ConditionExpression": _IS_LEFT,
                "ExpressionAttributeNames": {f"#{name}": name for name in (*seen, EXPIRING)},
                "ExpressionAttributeValues": {f":{name}": row[name] for name in seen},
            },
        )

    async def _has_entries(self, work: Item) -> bool:
        found = await ask(
            self._aws,
            "dynamodb",
            "query",
            "Count",
            TableName=self._table.name,
            KeyConditionExpression="#work = :work",
            ExpressionAttributeNames={"#work": "work"},
            ExpressionAttributeValues={":work": work},
            Select="COUNT",
            ConsistentRead=True,
            Limit=1,
        )
        return bool(found["Count"])

    async def _transact(self, writes: Sequence[WithRow]) -> list[Item]:
        """Write all; or nothing, if conditions don't hold: then two reasons a write, for item and row."""
        actions = []
        for item, row_put in writes:
            actions.append({"Put": {"TableName": self._table.name, "Item": item, **_IS_FREE, **_TELL}})
            actions.append({"Put": {**row_put, **_TELL}})
        what = f"transact_write_items on {self._table.name}"
        dynamodb = await self._aws.clients.get("dynamodb")
        # One token for all tries: one that is repeated because its reply was lost succeeds again.
        call = partial(
            dynamodb.transact_write_items, TransactItems=actions, ClientRequestToken=self._aws.ids.unique()
        )
        with storage_errors(what):
            try:
                await self._aws.patience.call(what, call)
            except ClientError as error:
                reasons = reasons_of(error)
                if not any(map(_is_lost, reasons)):
                    raise
                return reasons
        return []

    async def _standing(self, found: Item | None, item: Item) -> Item | None:
        """What stands where `item` should go, if the refusal `found` came without it."""
        if found is None or found:
            return found
        read = await self._table.get_many([key_of(item)])
        if not read:
            raise StorageUnavailable(f"{_name(item)} was taken, and is free again")
        return read[0]


def _is_taken(error: Item) -> bool:
    return error.get("Code") in _TAKEN


def _is_lost(reason: Item) -> bool:
    return bool(reason.get("Code") == "ConditionalCheckFailed")


def _is_of(row: Item, write: WithRow) -> bool:
    """Whether a row that stands is of the work whose entry this is, and not of another of that id."""
    wanted = write.row_put["Item"]["created_at"]
    is_same = "created_at" in row and float(row["created_at"]["N"]) == float(wanted["N"])
    return is_same or (bool(row) and write.item["position"] == {"N": "0"})


def _insert(table: str, item: Item) -> Item:
    """The statement that inserts an item; it fails where the key is taken."""
    return {
        "Statement": _statement(table, tuple(item)),
        "Parameters": [*item.values()],
        **_TELL,
    }


@lru_cache(maxsize=256)
def _statement(table: str, names: tuple[str, ...]) -> str:
    """PartiQL for an item with these attributes; there are a few dozen sets of them at most."""
    pairs = ", ".join(f"'{name}': ?" for name in names)
    return f'INSERT INTO "{table}" VALUE {{{pairs}}}'


def _client_error(error: Item) -> ClientError:
    """The error of one statement as that of a call."""
    code = error.get("Code", "")
    full = {"Code": _FULL_CODES.get(code, code), "Message": error.get("Message", "")}
    return ClientError({"Error": full}, "BatchExecuteStatement")


def _name(item: Item) -> str:
    return f"{item['work']['S']}/{item['position']['N']}"
