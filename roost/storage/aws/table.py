"""One DynamoDB table: calls with patience, conditional writes as values, and merged queries."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from roost.errors import StorageUnavailable
from roost.storage.aws.clients import Aws
from roost.storage.aws.faults import code_of, reasons_of, storage_errors

T = TypeVar("T")

Item = dict[str, Any]
"""An item as the low-level API has it: attribute name -> {"S": "…"}, {"N": "…"}, {"M": {…}}."""

PARALLEL = 16  # calls of one operation that are under way at a time
ACTIONS_MAX = 100  # DynamoDB API reference, "TransactWriteItems"
KEYS_MAX = 100  # DynamoDB API reference, "BatchGetItem"
ROUNDS_MAX = 12  # in which one operation reads pages of each partition; the pages double in size
_PAGE_ROWS_MIN = 8
_ALWAYS_THERE = {
    "get_item": "ConsumedCapacity",
    "query": "Count",
    "batch_get_item": "Responses",
    "batch_write_item": "UnprocessedItems",
}
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0


class Table:
    """A table of the stack.

    Args:
        name: the table's name in AWS.
    """

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self.name = name

    async def call(self, operation: str, **arguments: Any) -> Item:
        """Make a call of the DynamoDB client on this table.

        Args:
            operation: the client's method, such as `get_item`.

        Raises:
            StorageError: it failed.
        """
        with storage_errors(f"{operation} on {self.name}"):
            return await self._call(operation, TableName=self.name, **arguments)

    async def write_if(self, operation: str, **arguments: Any) -> Item | None:
        """Make one write that has a `ConditionExpression`.

        Returns:
            None: it was written. Else the condition did not hold, and this is the item that
            stands; an empty one if there is none.

        Raises:
            StorageError: it failed for another reason.
        """
        with storage_errors(f"{operation} on {self.name}"):
            try:
                await self._call(
                    operation,
                    TableName=self.name,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **arguments,
                )
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise
                standing: Item = error.response.get("Item", {})
                return standing
        return None

    async def transact(self, actions: Sequence[Item], *, token: str) -> list[Item] | None:
        """Write items in one transaction, all or none.

        Args:
            actions: as `TransactWriteItems` has them, at most `ACTIONS_MAX`; those with a
                condition should ask for ALL_OLD.
            token: the client request token: with it, a call that is repeated because its
                reply was lost succeeds again instead of meeting its own writes.

        Returns:
            None: all was written. Else a condition did not hold and nothing was written;
            these are the items that stand where one did not hold.

        Raises:
            StorageError: it failed for another reason.
        """
        what = f"transact_write_items on {self.name}"
        with storage_errors(what):
            try:
                await self._call("transact_write_items", TransactItems=actions, ClientRequestToken=token)
            except ClientError as error:
                reasons = reasons_of(error)
                if all(reason.get("Code") != "ConditionalCheckFailed" for reason in reasons):
                    raise
                return [reason["Item"] for reason in reasons if "Item" in reason]
        return None

    async def get_many(self, keys: Sequence[Item]) -> list[Item]:
        """The items with these keys that there are, in no order; strongly consistent each by itself.

        Args:
            keys: all different, at most `KEYS_MAX`.

        Raises:
            StorageUnavailable: the table gives them too slowly.
        """
        asked = list(keys)
        found: list[Item] = []
        pause = _FIRST_PAUSE_SECONDS
        for _ in range(ROUNDS_MAX):
            request = {self.name: {"Keys": asked, "ConsistentRead": True}}
            with storage_errors(f"batch_get_item on {self.name}"):
                answer = await self._call("batch_get_item", RequestItems=request)
            found += answer["Responses"].get(self.name, [])
            asked = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if not asked:
                return found
            await self._aws.clock.sleep(self._aws.ids.uniform(pause / 2, pause))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        raise StorageUnavailable(f"batch_get_item on {self.name}: {len(asked)} keys stay unprocessed")

    async def batch_write(self, requests: Sequence[Item]) -> Item:
        """One `BatchWriteItem` on this table: puts and deletes without conditions.

        Returns:
            The reply, whose `UnprocessedItems` are to be asked for again.

        Raises:
            StorageError: it failed.
        """
        with storage_errors(f"batch_write_item on {self.name}"):
            return await self._call("batch_write_item", RequestItems={self.name: list(requests)})

    async def _call(self, operation: str, **arguments: Any) -> Item:
        """A call whose reply is looked at: the SDK takes one that was cut off for an empty one."""
        has = _ALWAYS_THERE.get(operation)
        if operation == "get_item":  # "no item" must not look like half a reply
            arguments["ReturnConsumedCapacity"] = "TOTAL"
        dynamodb = await self._aws.clients.get("dynamodb")

        async def call() -> Item:
            reply: Item = await getattr(dynamodb, operation)(**arguments)
            if has is not None and has not in reply:
                raise ResponseParserError(f"the reply has no {has}")
            return reply

        return await self._aws.patience.call(f"{operation} on {self.name}", call)


async def gather(calls: Iterable[Awaitable[T]]) -> list[T]:
    """The results of calls, at most `PARALLEL` of which are under way at a time."""
    gate = asyncio.Semaphore(PARALLEL)
    asked = list(calls)

    async def one(call: Awaitable[T]) -> T:
        async with gate:
            return await call

    try:
        return await asyncio.gather(*(one(call) for call in asked))
    except asyncio.CancelledError:
        for call in asked:  # those that never began must not warn
            if inspect.iscoroutine(call) and inspect.getcoroutinestate(call) == inspect.CORO_CREATED:
                call.close()
        raise


def number_of(value: float) -> Item:
    """A number as an attribute, in the form that DynamoDB gives back; a float keeps all its digits.

    So a transaction that is repeated under its token is the same to the letter.
    """
    return {"N": str(int(value)) if value == int(value) else repr(value)}


class Partition:
    """The answer of one query, read page by page.

    Args:
        table: to ask.
        arguments: of `Query`, save for `Limit`.
        after: key of the item after which to begin; it need not be there any more.
    """

    def __init__(self, table: Table, arguments: Item, *, after: Item | None = None) -> None:
        self._table = table
        self._arguments = arguments
        self._seen = after
        self.items: deque[Item] = deque()
        self.is_read = False

    @property
    def next(self) -> Item | None:
        """What comes next: an item, or, until the next page is read, the key after which it is.

        None after the last item.
        """
        return self.items[0] if self.items else self._seen

    async def read(self, limit: int) -> None:
        """Read one more page; it may be empty although more come (its rows were filtered out)."""
        start = {} if self._seen is None else {"ExclusiveStartKey": self._seen}
        page = await self._table.call("query", Limit=limit, **start, **self._arguments)
        self.items.extend(page["Items"])
        self._seen = page.get("LastEvaluatedKey")
        self.is_read = self._seen is None


async def merge(
    partitions: Sequence[Partition],
    limit: int,
    *,
    order: Callable[[Item], Any],
    newest_first: bool = False,
    rounds: int = ROUNDS_MAX,
) -> tuple[list[Item], Item | None]:
    """The first items of several partitions that are each in the same order.

    Reads a page of those partitions only of which the next item is not known yet.

    Args:
        limit: at most so many items.
        order: by what they are sorted: of an item or of a key.
        newest_first: highest first.
        rounds: in which pages of each partition are read, at most.

    Returns:
        The items; and the item or key after which to go on, if more may follow. That is
        the last item, unless filters left so few that `rounds` did not suffice.
    """
    found: list[Item] = []
    choose = max if newest_first else min
    page_rows = max(_PAGE_ROWS_MIN, 2 * limit // max(1, len(partitions)))
    for _ in range(rounds):
        await gather(part.read(page_rows) for part in partitions if not part.items and not part.is_read)
        page_rows *= 2
        while open_parts := [part for part in partitions if part.next is not None]:
            first = choose(open_parts, key=lambda part: order(part.next or {}))
            if not first.items:
                break
            if len(found) == limit:
                return found, found[-1]
            found.append(first.items.popleft())
        if not open_parts:
            return found, None
    return found, first.next
