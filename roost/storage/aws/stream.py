"""The journal table's stream: where a reader is in it, and how it reads on.

A stream has shards. A shard takes records for some hours, then it is closed and others,
its children, go on. All records of one work item are in one line of shards, so a reader
that is done with a shard before it begins a child sees them in order (DynamoDB Developer
Guide, "Change data capture for DynamoDB Streams").
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from botocore.exceptions import ClientError

from roost.errors import InputError, StorageError
from roost.storage.aws.clients import Aws
from roost.storage.aws.faults import code_of
from roost.storage.aws.replies import ask
from roost.storage.aws.table import Item, gather

RECORDS_MAX = 1000  # DynamoDB Streams API reference, "GetRecords"
ROUNDS_MAX = 32  # in which one page reads of each shard
# "It might take multiple calls to get to a portion of the shard that contains stream records"
# (DynamoDB Streams API reference, "GetRecords"); who has read on from there knows that it is the end.
EMPTY_ANSWERS = 8
LISTING_SECONDS = 10.0  # how long a list of shards is good; DescribeStream is limited to 10 a second
_LIST_PAGES_MAX = 100  # of 100 shards
_ITERATORS_MAX = 512
_CLOCKS_DIFFER_SECONDS = 60.0  # the clocks of this machine and of AWS; AWS gives whole seconds

DONE = "done"
FROM_NOW = "now"
_CURSOR_MAX_CHARS = 1 << 20


class Position(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a reader is in the stream; what a cursor holds.

    Attributes:
        shards: by shard, the sequence number of the last record seen, `DONE`, or `FROM_NOW`
            (nothing seen, and what was there at `since` is not wanted). A shard that is not
            named is unread; or done, if one that descends from it is named.
        since: records that are older are not wanted, wherever they are; 0: all are.
        shown: by work item, the highest position that was shown by other means.
    """

    shards: dict[str, Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,60}|done|now)$")]] = {}
    since: float = 0.0
    shown: dict[str, int] = {}

    def encode(self) -> str:
        """As a cursor: URL-safe, good in any process for as long as the stream keeps records."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @staticmethod
    def decode(cursor: str) -> Position:
        """What `encode` gave.

        Raises:
            InputError: it gave no such thing.
        """
        try:
            if len(cursor) > _CURSOR_MAX_CHARS:
                raise ValueError("it is too long")
            padded = cursor + "=" * (-len(cursor) % 4)
            text = base64.b64decode(padded, altchars=b"-_", validate=True)
            return msgspec.json.decode(text, type=Position)
        except ValueError as error:  # msgspec's and base64's errors are ValueErrors
            raise InputError(
                f"{cursor[:80]!r} is no cursor", hint="Use the one that the page before gave, or none."
            ) from error


class Shard(msgspec.Struct, frozen=True):
    """A shard of the stream."""

    name: str
    parent: str | None
    is_closed: bool


class Stream:
    """Reads the stream, from anywhere on; keeps iterators, so that reading on is one call a shard."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._arn: str | None = None
        self._shards: dict[str, Shard] = {}
        self._listed_at = 0.0
        self._turn = 0
        self._iterators: OrderedDict[tuple[str, str, float], str] = OrderedDict()

    # --- where ---------------------------------------------------------------

    async def now(self) -> Position:
        """The position after all that was appended before the call.

        As long as this process reads on from it, it is exact. Another one that is given
        the cursor may also see what was appended up to a minute earlier.
        """
        shards = await self._list(again=True)
        since = self._aws.clock.now()
        places = {name: DONE if shard.is_closed else FROM_NOW for name, shard in shards.items()}
        await gather(
            self._open((name, FROM_NOW, since), ShardIteratorType="LATEST")
            for name, place in places.items()
            if place == FROM_NOW
        )
        return Position(_frontier(shards, places), since)

    async def read(self, position: Position, limit: int) -> tuple[list[Item], Position]:
        """The next records, and the position after them.

        Args:
            limit: at most so many come back; each shard that has some gets its share.

        Returns:
            New images of items that were put, those of one work item in order.
        """
        shards = await self._list(again=False)
        places = dict(position.shards)
        images: list[Item] = []
        empty: dict[str, int] = {}  # by shard, how many more empty answers say that it has no more
        for _ in range(ROUNDS_MAX):
            ready = [name for name in _ready(shards, places) if empty.get(name) != 0]
            left = limit - len(images)
            if not ready or left <= 0:
                break
            self._turn += 1  # with a small limit, not always the same shards
            chosen = [ready[(self._turn + number) % len(ready)] for number in range(min(left, len(ready)))]
            share = min(RECORDS_MAX, left // len(chosen))
            for name in chosen:
                empty.setdefault(name, self._empty_answers(name, places.get(name), position.since))
            pages = await gather(
                self._read_shard(name, places.get(name), position.since, share) for name in chosen
            )
            for name, (records, place) in zip(chosen, pages, strict=True):
                images += _wanted(records, position.since)
                if place is not None:
                    places[name] = place
                if len(records) < share and not shards[name].is_closed:
                    empty[name] = 0 if records else empty[name] - 1
            if DONE in [place for _, place in pages]:
                shards = await self._list(again=True)  # the children may be new
        return images, msgspec.structs.replace(position, shards=_frontier(shards, places))

    def _empty_answers(self, name: str, place: str | None, since: float) -> int:
        """How many empty answers are the end: one where this process has read on up to there."""
        return 1 if (name, place or "", since) in self._iterators else EMPTY_ANSWERS

    # --- calls ---------------------------------------------------------------

    async def _list(self, *, again: bool) -> dict[str, Shard]:
        """All shards of the last 24 hours by name, as listed lately."""
        now = self._aws.clock.monotonic()
        if self._shards and not again and now - self._listed_at < LISTING_SECONDS:
            return self._shards
        found: dict[str, Shard] = {}
        arn = await self._find_arn()
        start: dict[str, str] = {}
        for _ in range(_LIST_PAGES_MAX):
            reply = await ask(
                self._aws,
                "dynamodbstreams",
                "describe_stream",
                "StreamDescription",
                StreamArn=arn,
                **start,
            )
            description = reply["StreamDescription"]
            found |= {shard["ShardId"]: _shard_of(shard) for shard in description["Shards"]}
            if "LastEvaluatedShardId" not in description:
                break
            start = {"ExclusiveStartShardId": description["LastEvaluatedShardId"]}
        self._shards, self._listed_at = found, now
        return found

    async def _find_arn(self) -> str:
        if self._arn is None:
            table = self._aws.names.journal
            reply = await ask(self._aws, "dynamodb", "describe_table", "Table", TableName=table)
            self._arn = reply["Table"].get("LatestStreamArn")
            if self._arn is None:
                raise StorageError(
                    f"table {table} has no stream",
                    hint="Enable it with NEW_IMAGE; `roost aws doctor` checks.",
                )
        return self._arn

    async def _read_shard(
        self, name: str, place: str | None, since: float, limit: int
    ) -> tuple[list[Item], str | None]:
        """Records of one shard after `place`, and the place after them."""
        for is_new in (False, True):  # an iterator that was kept may be older than its 15 minutes
            iterator = await self._iterator(name, place, since, is_new=is_new)
            if iterator is None:
                return [], DONE  # trimmed since it was listed
            try:
                reply = await ask(
                    self._aws,
                    "dynamodbstreams",
                    "get_records",
                    "Records",
                    ShardIterator=iterator,
                    Limit=limit,
                )
            except StorageError as error:
                if is_new or _code(error) not in ("ExpiredIteratorException", "TrimmedDataAccessException"):
                    raise
                continue
            records: list[Item] = reply["Records"]
            after = records[-1]["dynamodb"]["SequenceNumber"] if records else place
            if reply.get("NextShardIterator") is None:
                return records, DONE
            self._keep((name, after or "", since), reply["NextShardIterator"])
            return records, after
        raise AssertionError("unreachable")

    async def _iterator(self, name: str, place: str | None, since: float, *, is_new: bool) -> str | None:
        """An iterator at a place of a shard; None if there is no such shard any more.

        Args:
            is_new: take none that was kept.
        """
        key = (name, place or "", since)
        kept = None if is_new else self._iterators.get(key)
        if kept is not None:
            return kept
        found = None
        if place is not None and place != FROM_NOW:
            found = await self._open(key, ShardIteratorType="AFTER_SEQUENCE_NUMBER", SequenceNumber=place)
        # Unread; or what comes next is older than 24 hours and gone; or the iterator of `now`
        # is another process' or was not used for 15 minutes, and `since` tells what is wanted.
        return found or await self._open(key, ShardIteratorType="TRIM_HORIZON")

    async def _open(self, key: tuple[str, str, float], **where: str) -> str | None:
        """A new iterator, which is kept; None if there is nothing any more at that place."""
        try:
            reply = await ask(
                self._aws,
                "dynamodbstreams",
                "get_shard_iterator",
                "ShardIterator",
                StreamArn=await self._find_arn(),
                ShardId=key[0],
                **where,
            )
        except StorageError as error:
            if _code(error) in ("ResourceNotFoundException", "TrimmedDataAccessException"):
                return None
            raise
        self._keep(key, reply["ShardIterator"])
        return str(reply["ShardIterator"])

    def _keep(self, key: tuple[str, str, float], iterator: str) -> None:
        self._iterators[key] = iterator
        self._iterators.move_to_end(key)
        if len(self._iterators) > _ITERATORS_MAX:
            self._iterators.popitem(last=False)


def _ready(shards: Mapping[str, Shard], places: Mapping[str, str]) -> list[str]:
    """Shards that are not done but for whose parents it is so."""
    done = {name for name, place in places.items() if place == DONE} | _ancestors(shards, places)
    return [
        name
        for name, shard in shards.items()
        if name not in done and (shard.parent is None or shard.parent not in shards or shard.parent in done)
    ]


def _frontier(shards: Mapping[str, Shard], places: Mapping[str, str]) -> dict[str, str]:
    """The places that say all: without shards that are gone, and without those that others imply."""
    implied = _ancestors(shards, places)
    return {name: place for name, place in places.items() if name in shards and name not in implied}


def _ancestors(shards: Mapping[str, Shard], names: Iterable[str]) -> set[str]:
    """The listed shards from which others descend."""
    found: set[str] = set()
    for name in names:
        shard = shards.get(name)
        while shard is not None and shard.name not in found:
            if shard.name != name:
                found.add(shard.name)
            shard = shards.get(shard.parent or "")
    return found


def _wanted(records: Sequence[Item], since: float) -> list[Item]:
    """The new images of what was put, not long before `since`; not of what expired or was changed."""
    start = since - _CLOCKS_DIFFER_SECONDS
    return [
        record["dynamodb"]["NewImage"]
        for record in records
        if record["eventName"] == "INSERT"
        and record["dynamodb"]["ApproximateCreationDateTime"].timestamp() >= start
    ]


def _shard_of(found: Item) -> Shard:
    is_closed = "EndingSequenceNumber" in found.get("SequenceNumberRange", {})
    return Shard(found["ShardId"], found.get("ParentShardId"), is_closed)


def _code(error: StorageError) -> str:
    """The SDK's code of an error that `ask` raised."""
    cause = error.__cause__
    return code_of(cause) if isinstance(cause, ClientError) else ""
