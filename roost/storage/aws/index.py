"""The work index port on DynamoDB: one item a work item, found through two sparse indexes.

Table: partition key `work`. The fields of `IndexRow` are attributes of the same names;
most that have their default value are left out. Beside them:

* `state_key`, `created`: keys of the index `state`, which lists a namespace's work of one
  state by age;
* `due_key`: with `due_at` the key of the index `due`; it is there while `due_at` is;
* `taken`: which call of `take_due` set `due_at` last;
* `expiring`: the work ended long ago, and its journal is being deleted (`expiry.py`);
* `expires_at`: it is deleted, and DynamoDB's time to live takes what is left: the row, which
  is in neither index by then and is as good as none.

Both indexes are spread over `Names.shards` partitions. They follow the table within
moments; whatever is decided is decided by a condition on the table's own item.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import msgspec

from roost.errors import InputError, SchemaTooNew
from roost.journal.entries import IndexRow
from roost.journal.projection import LaneCount
from roost.models import Lane, State, namespace_of
from roost.names import Order
from roost.storage.aws.clients import Aws
from roost.storage.aws.names import EXPIRES_AT, due_key, shard_of, state_key
from roost.storage.aws.table import Item, Partition, Table, gather, merge, number_of
from roost.storage.codec import unreadable
from roost.storage.ports import Renewal
from roost.storage.query import IndexPage, IndexQuery

EXPIRING = "expiring"
_IS_NOT_NEWER = "#position <= :position AND attribute_not_exists(#expiring)"
_NO_NEWER_ROW = f"attribute_not_exists(#work) OR attribute_exists(#expires_at) OR ({_IS_NOT_NEWER})"
_RENEW_TRIES = 4  # the second one moves what the first found behind; more only where others renew, too
COUNT_PAGES_MAX = 10_000  # of 1 MB a partition
_CREATED = re.compile(r"\d{10}\.\d{6}#[!-~]{1,400}")  # as `_created_key` writes it
_BEFORE_ALL, _AFTER_ALL = "0", "~"  # texts that no `created` is beyond


class AwsIndex:
    """`ports.WorkIndex`."""

    orders = frozenset({Order.NEWEST, Order.OLDEST})  # another index would cost a write with each step

    def __init__(self, aws: Aws) -> None:
        self._ids = aws.ids
        self._shards = aws.names.shards
        self._table = Table(aws, aws.names.index)

    # --- one row -------------------------------------------------------------

    def row_put(self, row: IndexRow) -> Item:
        """The `Put` of a row with its entry: refused if a newer row stands.

        And, but for new work, if there is none of this very work: whoever writes read an entry
        of a journal that was deleted meanwhile.
        """
        put = self._put_if_not_newer(row)
        if row.position > 0:
            put["ConditionExpression"] = f"#created_at = :created_at AND {_IS_NOT_NEWER}"
            put["ExpressionAttributeNames"] = _names("created_at", "position", EXPIRING)
            put["ExpressionAttributeValues"] |= _values({"created_at": row.created_at})
        return {"TableName": self._table.name, **put}

    async def put(self, row: IndexRow) -> bool:
        """See `ports.WorkIndex.put`. One conditional write."""
        return await self._table.write_if("put_item", **self._put_if_not_newer(row)) is None

    def _put_if_not_newer(self, row: IndexRow) -> Item:
        return {
            "Item": row_item(row, self._shards),
            "ConditionExpression": _NO_NEWER_ROW,
            "ExpressionAttributeNames": _names("work", "position", EXPIRING, EXPIRES_AT),
            "ExpressionAttributeValues": _values({"position": row.position}),
        }

    async def get(self, work_id: str) -> IndexRow | None:
        """See `ports.WorkIndex.get`."""
        return await self.glance(work_id, consistent=True)

    async def glance(self, work_id: str, *, consistent: bool = False) -> IndexRow | None:
        """The row, maybe as it was a moment ago, for half the price."""
        found = await self._table.call("get_item", Key={"work": {"S": work_id}}, ConsistentRead=consistent)
        item = found.get("Item", {})
        return row_of(item) if item and EXPIRES_AT not in item else None

    async def renew(self, renewals: Sequence[Renewal]) -> Sequence[bool]:
        """See `ports.WorkIndex.renew`. One conditional write each, several at a time."""
        return await gather(self._renew(renewal) for renewal in renewals)

    async def _renew(self, renewal: Renewal) -> bool:
        """Move forward what is behind; an update expression has no `max`."""
        moves = {"lease_until": renewal.lease_until, "due_at": renewal.due_at}
        for _ in range(_RENEW_TRIES):
            if not moves and renewal.progress is None:
                return True
            standing = await self._table.write_if("update_item", **self._renewal(renewal, moves))
            if standing is None:
                return True
            row = row_of(standing) if standing else None
            if row is None or row.token != renewal.token:
                return False
            moves = {name: at for name, at in moves.items() if (getattr(row, name) or 0.0) < at}
        return False

    def _renewal(self, renewal: Renewal, moves: dict[str, float]) -> Item:
        """The update that moves `moves`, if the token is the one given and each of them is behind."""
        values: dict[str, str | float] = dict(moves)
        if "due_at" in moves:
            values["due_key"] = due_key(shard_of(renewal.work_id, self._shards))
        if renewal.progress is not None:
            values["progress"] = json.dumps(renewal.progress)
        clauses = ["#token = :token"]
        clauses += [f"(attribute_not_exists(#{name}) OR #{name} <= :{name})" for name in moves]
        return {
            "Key": {"work": {"S": renewal.work_id}},
            "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in values),
            "ConditionExpression": " AND ".join(clauses),
            "ExpressionAttributeNames": _names(*values, "token"),
            "ExpressionAttributeValues": _values({**values, "token": renewal.token}),
        }

    # --- due rows ------------------------------------------------------------

    async def due(self, now: float, *, limit: int = 100, after: IndexRow | None = None) -> Sequence[IndexRow]:
        """See `ports.WorkIndex.due`. One query a shard; rows that are due at one instant come by shard."""
        last = None if after is None or after.due_at is None else (after.due_at, after.work_id)
        while items := await self._due_items(now, limit, last):
            rows = [row for item in items if (row := _known_row(item)) is not None]
            if rows:
                return rows
            last = (float(items[-1]["due_at"]["N"]), items[-1]["work"]["S"])
        return []

    async def _due_items(self, now: float, limit: int, after: tuple[float, str] | None) -> Sequence[Item]:
        shards = {due_key(shard): shard for shard in range(self._shards)}
        partitions = [self._due_partition(shard, now, after) for shard in shards.values()]
        items, _ = await merge(
            [part for part in partitions if part is not None],
            limit,
            order=lambda item: (float(item["due_at"]["N"]), shards[item["due_key"]["S"]]),
        )
        return items

    def _due_partition(self, shard: int, now: float, after: tuple[float, str] | None) -> Partition | None:
        """The due rows of one shard that come after the row due at an instant, of an id; None if none can."""
        start, seen = 0.0, None
        if after is not None:
            start, work_id = after
            own = shard_of(work_id, self._shards)
            if shard < own:  # those of the same instant came before `after`
                start = math.nextafter(start, math.inf)
            elif shard == own:
                keys: dict[str, str | float] = {
                    "due_key": due_key(shard),
                    "due_at": start,
                    "work": work_id,
                }
                seen = {name: _attribute(value) for name, value in keys.items()}
        if start > now:
            return None
        arguments = {
            "IndexName": "due",
            "KeyConditionExpression": "#due_key = :due_key AND #due_at BETWEEN :start AND :now",
            "ExpressionAttributeNames": _names("due_key", "due_at"),
            "ExpressionAttributeValues": _values({"due_key": due_key(shard), "start": start, "now": now}),
        }
        return Partition(self._table, arguments, after=seen)

    async def take_due(self, row: IndexRow, due_at: float | None) -> bool:
        """See `ports.WorkIndex.take_due`. One conditional write."""
        taken = self._ids.unique()  # tells our own write, whose reply was lost, from another taker's
        values: dict[str, str | float] = {"position": row.position, "taken": taken}
        is_as_seen = "attribute_not_exists(#due_at)"
        if row.due_at is not None:
            values["seen"], is_as_seen = row.due_at, "#due_at = :seen"
        change = "SET #taken = :taken REMOVE #due_at, #due_key"
        if due_at is not None:
            values |= {"due_at": due_at, "due_key": due_key(shard_of(row.work_id, self._shards))}
            change = "SET #taken = :taken, #due_at = :due_at, #due_key = :due_key"
        standing = await self._table.write_if(
            "update_item",
            Key={"work": {"S": row.work_id}},
            UpdateExpression=change,
            ConditionExpression=f"#position = :position AND {is_as_seen} AND attribute_not_exists(#expiring)",
            ExpressionAttributeNames=_names("position", "taken", "due_at", "due_key", EXPIRING),
            ExpressionAttributeValues=_values(values),
        )
        return standing is None or standing.get("taken") == _attribute(taken)

    # --- lists ---------------------------------------------------------------

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        """See `ports.WorkIndex.list`. One query or more for each state and shard.

        A page may be short, or empty, although its cursor goes on, after much that the query
        filters out. A work item whose state changes meanwhile may be missed once.
        """
        before = None if cursor is None else _created_of(cursor)
        keys = self._state_keys(query.namespace, State if query.state is None else [query.state])
        arguments = _list_arguments(query, before)
        items, end = await merge(
            [Partition(self._table, _of_state(key, arguments)) for key in keys],
            limit,
            order=lambda item: item["created"]["S"],
            newest_first=query.order is Order.NEWEST,
        )
        rows: dict[str, IndexRow] = {}
        for row in map(row_of, items):  # one whose state changed between two queries comes twice
            if row.work_id not in rows or rows[row.work_id].position < row.position:
                rows[row.work_id] = row
        return IndexPage([*rows.values()], None if end is None else _cursor_of(end["created"]["S"]))

    async def counts(self, namespace: str = "") -> dict[State, int]:
        """See `ports.WorkIndex.counts`. Reads the namespace's rows: 128 read units a megabyte."""
        numbers = iter(await gather(self._count(key) for key in self._state_keys(namespace, State)))
        return {state: sum(islice(numbers, self._shards)) for state in State}

    async def lane_counts(self, namespace: str = "") -> Sequence[LaneCount]:
        """See `ports.WorkIndex.lane_counts`. As many queries as `counts`, which read as much."""
        parts = iter(await gather(self._count_lanes(key) for key in self._state_keys(namespace, State)))
        found = []
        for state in State:
            shards = [*islice(parts, self._shards)]
            for lane in Lane:
                created = [shard[lane] for shard in shards if lane in shard]
                if created:
                    count, oldest = sum(count for count, _ in created), min(at for _, at in created)
                    found.append(LaneCount(state, lane, count, oldest))
        return found

    async def _count_lanes(self, key: str) -> dict[Lane, tuple[int, float]]:
        """Of one partition: by lane how many rows, and when the oldest was created."""
        arguments = _of_state(key, _list_arguments(IndexQuery(order=Order.OLDEST), None))
        arguments["ProjectionExpression"] = "#lane, #created_at"
        arguments["ExpressionAttributeNames"] |= _names("lane", "created_at")
        found: dict[Lane, tuple[int, float]] = {}
        async for page in self._pages(arguments):
            for item in page["Items"]:
                lane = Lane(item["lane"]["S"])
                count, oldest = found.get(lane, (0, float(item["created_at"]["N"])))
                found[lane] = (count + 1, oldest)
        return found

    def _state_keys(self, namespace: str, states: Iterable[State]) -> Iterator[str]:
        """The partitions of the index `state`: all shards of the first state, then of the next."""
        for state in states:
            for shard in range(self._shards):
                yield state_key(namespace, state, shard)

    async def _count(self, key: str) -> int:
        arguments = _of_state(key, _list_arguments(IndexQuery(), None)) | {"Select": "COUNT"}
        return sum([page["Count"] async for page in self._pages(arguments)])

    async def _pages(self, arguments: Item) -> AsyncIterator[Item]:
        """The pages of a query that counts, at most `COUNT_PAGES_MAX`."""
        for _ in range(COUNT_PAGES_MAX):
            page = await self._table.call("query", **arguments)
            yield page
            if "LastEvaluatedKey" not in page:
                break
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]


# --- items and expressions ---------------------------------------------------


def row_item(row: IndexRow, shards: int) -> Item:
    """The item of an index row.

    Args:
        shards: over how many partitions the indexes are spread (`Names.shards`).
    """
    fields = msgspec.to_builtins(row)
    work_id = fields.pop("work_id")
    if row.progress is not None:
        fields["progress"] = json.dumps(row.progress)
    if row.labels:
        fields["labels"] = _labels(row.labels)
    shard = shard_of(work_id, shards)
    fields |= {
        "work": work_id,
        "state_key": state_key(namespace_of(work_id), row.state, shard),
        "created": f"{_instant(row.created_at)}#{work_id}",  # sorts as the instants do; no two are alike
    }
    if row.due_at is not None:
        fields["due_key"] = due_key(shard)
    return {name: _attribute(value) for name, value in fields.items()}


def row_of(item: Item) -> IndexRow:
    """The index row of an item of the table, or of one of its indexes.

    Raises:
        SchemaTooNew: a newer Roost wrote it.
        StorageCorrupt: it is no such item.
    """
    fields = {name: next(iter(value.values())) for name, value in item.items()}
    try:
        fields["work_id"] = fields["work"]
        if "progress" in fields:
            fields["progress"] = json.loads(fields["progress"])
        if "labels" in fields:
            fields["labels"] = tuple(json.loads(fields["labels"]).items())
        return msgspec.convert(fields, IndexRow, strict=False)  # numbers come as texts
    except (KeyError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise unreadable(f"index row {fields.get('work')!r}", error) from error


def _known_row(item: Item) -> IndexRow | None:
    """The index row of an item; None if a newer Roost wrote it, whose sweepers look at it."""
    try:
        return row_of(item)
    except SchemaTooNew:
        return None


def _list_arguments(query: IndexQuery, before: str | None) -> Item:
    """The arguments of a query on the index `state`, save for the partition.

    Args:
        before: `created` of the row that the page before ended with, whichever way.
    """
    is_rising = query.order is Order.OLDEST
    start = _BEFORE_ALL if query.created_after is None else _instant(query.created_after)
    end = _AFTER_ALL
    if before is not None:
        start, end = (max(before, start), end) if is_rising else (start, max(before, start))
    clauses: list[tuple[str, str, str | float]] = []
    if before is not None:  # `created` is a key and so can't be filtered, and BETWEEN includes its ends
        clauses.append(("#work <> :last", "work", before.partition("#")[2]))
    if query.engine is not None:
        clauses.append(("#engine = :engine", "engine", query.engine))
    if query.id_prefix:
        clauses.append(("begins_with(#work, :prefix)", "work", query.id_prefix))
    if query.created_after is not None:
        clauses.append(("#created_at > :after", "created_at", query.created_after))
    if query.parent_id is not None:
        clauses.append(("#parent_id = :parent", "parent_id", query.parent_id))
    if query.label is not None:
        clauses.append(("contains(#labels, :label)", "labels", _labels((query.label,))[1:-1]))
    values = {clause.partition(":")[2].rstrip(")"): value for clause, _, value in clauses}
    arguments: Item = {
        "IndexName": "state",
        "ScanIndexForward": is_rising,
        "KeyConditionExpression": "#state_key = :state_key AND #created BETWEEN :start AND :end",
        "ExpressionAttributeNames": _names("state_key", "created", *(name for _, name, _ in clauses)),
        "ExpressionAttributeValues": _values({"start": start, "end": end, **values}),
    }
    if clauses:
        arguments["FilterExpression"] = " AND ".join(clause for clause, _, _ in clauses)
    return arguments


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    """Labels as an attribute; one of them is a part of the text that nothing else can be."""
    return json.dumps(dict(labels), ensure_ascii=False, separators=(",", ":"))


def _of_state(key: str, arguments: Item) -> Item:
    """The arguments for one partition."""
    values = arguments["ExpressionAttributeValues"] | _values({"state_key": key})
    return arguments | {"ExpressionAttributeValues": values}


def _instant(at: float) -> str:
    """An instant as a text; texts sort as instants do, to the microsecond."""
    return f"{at:017.6f}"


def _cursor_of(created: str) -> str:
    return base64.urlsafe_b64encode(created.encode()).decode().rstrip("=")


def _created_of(cursor: str) -> str:
    """What `_cursor_of` was given.

    Raises:
        InputError: no page of this backend gave it out.
    """
    try:
        created = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        created = ""
    if not _CREATED.fullmatch(created):
        raise InputError(
            f"{cursor[:80]!r} is no cursor", hint="Use the one that the page before gave, or none."
        )
    return created


def _names(*names: str) -> dict[str, str]:
    """Placeholders for attribute names; many of them are reserved words."""
    return {f"#{name}": name for name in names}


def _values(values: Mapping[str, str | float]) -> Item:
    """Placeholders for values."""
    return {f":{name}": _attribute(value) for name, value in values.items()}


def _attribute(value: str | float) -> dict[str, str]:
    """A text or number as the low-level API has it."""
    return {"S": value} if isinstance(value, str) else number_of(value)
