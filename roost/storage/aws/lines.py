"""The items behind the claims port: resources, their lines, and what each work item has.

Table: partition key `subject`, sort key `part`. Three kinds of items:

* `NAMESPACE/r#RESOURCE`, `head`: a resource that is held or waited for. `owners` maps work
  ids to fencing tokens, `waiting` is the length of its line, `next` the next number in it.
* `NAMESPACE/r#RESOURCE`, `wait#NUMBER`: one in its line: `work`, `since`, `called_at`.
* `NAMESPACE/w#WORK`, `claims`: what a work item has: `held` maps resources to tokens,
  `waits` maps them to its number in the line.

Heads and the items of work items carry a `revision`, a new unique one at each write. Who
changes an owner or a line writes the head, too, on the condition that its revision is the
one that was read. So what was decided by what was read is done only while all of it is
still true; an older fencing token can't slip in. A revision never comes back, not even
where an item was deleted and made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roost.errors import StorageCorrupt
from roost.models import NAMESPACE_MARK, namespace_of
from roost.storage.aws.table import Item, Table
from roost.storage.ports import Owner, ResourceView, Waiter

_HEAD = "head"
_WAIT = "wait#"  # sorts after the head, so a query of a resource begins with it
_CLAIMS = "claims"
_ORDER_DIGITS = 15
SHOWN_MAX = 1000  # waiters of a resource that `show` gives
_SCAN_PAGES_MAX = 1000  # of 1 MB


@dataclass(frozen=True, slots=True)
class Head:
    """A resource as read.

    Attributes:
        revision: None where it has no item: nobody holds it or waits for it.
        waiting: how many are in its line.
        next_order: the number in line of the next who joins.
    """

    subject: str
    resource: str
    revision: str | None = None
    owners: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    next_order: int = 0


@dataclass(frozen=True, slots=True)
class Having:
    """What a work item has, as read.

    Attributes:
        revision: None where it has no item: it has nothing.
        held: the token under which it holds a resource.
        waits: its number in the line of a resource.
    """

    subject: str
    revision: str | None = None
    held: Mapping[str, int] = field(default_factory=dict)
    waits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a line."""

    order: int
    waiter: Waiter


# --- reading -----------------------------------------------------------------


class Lines:
    """Reads the items of the claims table, strongly consistent."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def read(self, work_id: str, resources: Sequence[str]) -> tuple[list[Head], Having]:
        """Resources of a work item's namespace, in the order given, and what it has; in one call."""
        subject = _work_subject(work_id)
        heads, found = await self._read(work_id, resources, _key(subject, _CLAIMS))
        return heads, _having_of(subject, found.get(subject))

    async def heads(self, work_id: str, resources: Sequence[str]) -> list[Head]:
        """Resources of a work item's namespace, in the order given."""
        return (await self._read(work_id, resources))[0]

    async def _read(
        self, work_id: str, resources: Sequence[str], *keys: Item
    ) -> tuple[list[Head], dict[str, Item]]:
        namespace = namespace_of(work_id)
        subjects = {resource: _resource_subject(namespace, resource) for resource in resources}
        items = await self._table.get_many([*(_key(subject, _HEAD) for subject in subjects.values()), *keys])
        found = {item["subject"]["S"]: item for item in items}
        return [_head_of(subject, name, found.get(subject)) for name, subject in subjects.items()], found

    async def having(self, work_id: str) -> Having:
        """What a work item has."""
        subject = _work_subject(work_id)
        answer = await self._table.call("get_item", Key=_key(subject, _CLAIMS), ConsistentRead=True)
        return _having_of(subject, answer.get("Item"))

    async def first(self, head: Head, limit: int) -> list[Place]:
        """Up to `limit` of those in line, the first first."""
        if head.waiting == 0:
            return []
        answer = await self._table.call(
            "query",
            KeyConditionExpression="#subject = :subject AND begins_with(#part, :wait)",
            ExpressionAttributeNames={"#subject": "subject", "#part": "part"},
            ExpressionAttributeValues={":subject": {"S": head.subject}, ":wait": {"S": _WAIT}},
            ConsistentRead=True,
            Limit=limit,
        )
        return [_place_of(item) for item in answer["Items"]]

    async def view(self, namespace: str, resource: str) -> ResourceView | None:
        """A resource for people, with the first `SHOWN_MAX` of its line; None if it is free of both."""
        answer = await self._table.call(
            "query",
            KeyConditionExpression="#subject = :subject",
            ExpressionAttributeNames={"#subject": "subject"},
            ExpressionAttributeValues={":subject": {"S": _resource_subject(namespace, resource)}},
            ConsistentRead=True,
            Limit=1 + SHOWN_MAX,
        )
        if not answer["Items"]:
            return None
        head = _head_of("", resource, answer["Items"][0])
        owners = [Owner(work_id, token) for work_id, token in sorted(head.owners.items())]
        return ResourceView(resource, owners, [_place_of(item).waiter for item in answer["Items"][1:]])

    async def names(self, namespace: str) -> list[str]:
        """The resources of a namespace that are held or waited for, sorted.

        A scan: the table holds only what is held or waited for now, and people ask seldom,
        while a directory of all resources would add a write to each claim and each release.
        """
        prefix = _resource_subject(namespace, "")
        arguments: Item = {
            "FilterExpression": "#part = :head AND begins_with(#subject, :prefix)",
            "ProjectionExpression": "#subject",
            "ExpressionAttributeNames": {"#subject": "subject", "#part": "part"},
            "ExpressionAttributeValues": {":head": {"S": _HEAD}, ":prefix": {"S": prefix}},
            "ConsistentRead": True,
        }
        found: list[str] = []
        for _ in range(_SCAN_PAGES_MAX):
            page = await self._table.call("scan", **arguments)
            found += [item["subject"]["S"].removeprefix(prefix) for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                break
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        return sorted(found)


def _resource_subject(namespace: str, resource: str) -> str:
    """At most 63 + 3 + 1,024 bytes; a partition key may have 2,048."""
    return f"{namespace}{NAMESPACE_MARK}r#{resource}"


def _work_subject(work_id: str) -> str:
    namespace = namespace_of(work_id)
    return f"{namespace}{NAMESPACE_MARK}w#{work_id.removeprefix(namespace + NAMESPACE_MARK)}"


def _key(subject: str, part: str) -> Item:
    return {"subject": {"S": subject}, "part": {"S": part}}


def _place_key(subject: str, order: int) -> Item:
    return _key(subject, f"{_WAIT}{order:0{_ORDER_DIGITS}}")


def _head_of(subject: str, resource: str, item: Item | None) -> Head:
    if item is None:
        return Head(subject, resource)
    try:
        owners, waiting, order = _numbers(item["owners"]), int(item["waiting"]["N"]), int(item["next"]["N"])
        return Head(subject, resource, item["revision"]["S"], owners, waiting, order)
    except (KeyError, ValueError) as error:
        raise StorageCorrupt(f"the claims of resource {resource!r} can't be read: {error}") from error


def _having_of(subject: str, item: Item | None) -> Having:
    if item is None:
        return Having(subject)
    try:
        return Having(subject, item["revision"]["S"], _numbers(item["held"]), _numbers(item["waits"]))
    except (KeyError, ValueError) as error:
        raise StorageCorrupt(f"the claims at {subject!r} can't be read: {error}") from error


def _place_of(item: Item) -> Place:
    try:
        called_at = float(item["called_at"]["N"]) if "called_at" in item else None
        waiter = Waiter(item["work"]["S"], float(item["since"]["N"]), called_at)
        return Place(int(item["part"]["S"].removeprefix(_WAIT)), waiter)
    except (KeyError, ValueError) as error:
        raise StorageCorrupt(f"a waiter at {item.get('subject')} can't be read: {error}") from error


def _numbers(value: Item) -> dict[str, int]:
    return {name: int(number["N"]) for name, number in value["M"].items()}


def _map(numbers: Mapping[str, int]) -> Item:
    return {"M": {name: {"N": str(number)} for name, number in numbers.items()}}


# --- writing -----------------------------------------------------------------


class Change:
    """What one call changes: one transaction, on the condition that nothing has changed since the reads.

    Args:
        revision: new and unique: of all that it writes.
    """

    def __init__(self, table: Table, revision: str) -> None:
        self._table = table
        self._revision = revision
        self._actions: list[Item] = []

    def head(self, head: Head, *, owners: Mapping[str, int], waiting: int, next_order: int) -> None:
        """Write a resource; one that nobody holds or waits for is deleted."""
        content = {
            "owners": _map(owners),
            "waiting": {"N": str(waiting)},
            "next": {"N": str(next_order)},
        }
        self._replace(_key(head.subject, _HEAD), head.revision, content if owners or waiting else None)

    def having(self, having: Having, *, held: Mapping[str, int], waits: Mapping[str, int]) -> None:
        """Write what a work item has; nothing is deleted."""
        content = {"held": _map(held), "waits": _map(waits)}
        self._replace(_key(having.subject, _CLAIMS), having.revision, content if held or waits else None)

    def _replace(self, key: Item, read: str | None, content: Item | None) -> None:
        """Put, or delete for None, if the revision is still `read`."""
        condition: dict[str, Any] = {
            "TableName": self._table.name,
            "ConditionExpression": "attribute_not_exists(#revision)" if read is None else "#revision = :read",
            "ExpressionAttributeNames": {"#revision": "revision"},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if read is not None:
            condition["ExpressionAttributeValues"] = {":read": {"S": read}}
        if content is None:
            self._actions.append({"Delete": {"Key": key, **condition}})
        else:
            item = {**key, "revision": {"S": self._revision}, **content}
            self._actions.append({"Put": {"Item": item, **condition}})

    def join(self, head: Head, order: int, waiter: Waiter) -> None:
        """Put somebody into a line. The head's condition guards it, as it does the two below."""
        content = {"work": {"S": waiter.work_id}, "since": {"N": repr(waiter.since)}}
        item = _place_key(head.subject, order) | content
        self._actions.append({"Put": {"TableName": self._table.name, "Item": item}})

    def drop(self, head: Head, order: int) -> None:
        """Take somebody out of a line."""
        key = _place_key(head.subject, order)
        self._actions.append({"Delete": {"TableName": self._table.name, "Key": key}})

    def call(self, head: Head, place: Place, now: float) -> None:
        """Mark somebody in a line as called at `now`."""
        update = {
            "TableName": self._table.name,
            "Key": _place_key(head.subject, place.order),
            "UpdateExpression": "SET called_at = :now",
            "ConditionExpression": "attribute_exists(#part)",
            "ExpressionAttributeNames": {"#part": "part"},
            "ExpressionAttributeValues": {":now": {"N": repr(now)}},
        }
        self._actions.append({"Update": update})

    async def commit(self) -> bool:
        """Write it all, or nothing.

        Returns:
            False: what was read is not true any more. A write whose reply was lost and which
            met itself at the next try is known by its revision.
        """
        standing = await self._table.transact(self._actions, token=self._revision)
        return standing is None or {"S": self._revision} in [item.get("revision") for item in standing]
