"""The items behind the claims port: resources, their lines, and what each work item has.

Table: partition key `subject`, sort key `part`. Three kinds of items:

* `NAMESPACE/r#RESOURCE`, `head`: a resource that is held, waited for or limited. `owners`
  maps work ids to their claims, `waiting` is the length of its line, `next` the next number
  in it; `capacity`, `rate_…` and `closed_until` are its limits, `paced_at` says when its rate
  is at rest. `epoch` counts the changes by which turns that were given out before are void.
* `NAMESPACE/r#RESOURCE`, `wait#NUMBER`: one in its line; its turn counts if its `epoch` is
  that of the head.
* `NAMESPACE/w#WORK`, `claims`: what a work item has: `held` maps resources to tokens,
  `waits` maps them to its number in the line.

Heads and the items of work items carry a `revision`, a new unique one at each write. Who
changes an owner or a line writes the head, too, on the condition that its revision is the
one that was read. So what was decided by what was read is done only while all of it is
still true; an older fencing token can't slip in. A revision never comes back, not even
where an item was deleted and made anew.

A head holds all owners, about 100 bytes each, and is written with each claim: a capacity in
the hundreds costs as many write units a claim (an item has at most 400 KB).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roost.errors import StorageCorrupt
from roost.journal.claims import Holding, Owner, ResourceView, Waiter
from roost.journal.limits import Limits, Rate
from roost.names import NAMESPACE_MARK, Scope, namespace_of
from roost.storage.aws.table import ACTIONS_MAX, Item, Table, number_of

_HEAD = "head"
_WAIT = "wait#"  # sorts after the head, so a query of a resource begins with it
_CLAIMS = "claims"
_ORDER_DIGITS = 15
_ORDER_MAX = 10**_ORDER_DIGITS - 1
LINE_MAX = 1000  # waiters of a resource that are looked at, or shown
_SCAN_PAGES_MAX = 1000  # of 1 MB


@dataclass(frozen=True, slots=True)
class Head:
    """A resource as read.

    Attributes:
        revision: None where it has no item: nobody holds it or waits for it, nothing limits it.
        holdings: its owners' claims, by work id.
        waiting: how many are in its line.
        next_order: the number in line of the next who joins.
    """

    subject: str
    resource: str
    revision: str | None = None
    holdings: Mapping[str, Holding] = field(default_factory=dict)
    waiting: int = 0
    next_order: int = 0
    limits: Limits = field(default_factory=Limits)
    paced_at: float = 0.0
    epoch: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not (self.holdings or self.waiting or self.limits.are_set)


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
        subject = work_subject(work_id)
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
        subject = work_subject(work_id)
        answer = await self._table.call("get_item", Key=_key(subject, _CLAIMS), ConsistentRead=True)
        return _having_of(subject, answer.get("Item"))

    async def named(self, namespace: str, resource: str) -> Head:
        """A resource of a namespace."""
        subject = _resource_subject(namespace, resource)
        answer = await self._table.call("get_item", Key=_key(subject, _HEAD), ConsistentRead=True)
        return _head_of(subject, resource, answer.get("Item"))

    async def own(self, heads: Sequence[Head], having: Having) -> dict[str, Place]:
        """The places of a work item in the lines of these, by resource; one call, if it has any."""
        orders = {
            head.subject: (head, having.waits[head.resource])
            for head in heads
            if head.resource in having.waits
        }
        if not orders:
            return {}
        items = await self._table.get_many([_place_key(subject, n) for subject, (_, n) in orders.items()])
        found = [(orders[item["subject"]["S"]][0], item) for item in items]
        return {head.resource: _place_of(item, head) for head, item in found}

    async def first(self, head: Head, limit: int, *, before: int = _ORDER_MAX + 1) -> list[Place]:
        """Up to `limit` of those in line before a number in it, the first first."""
        if head.waiting == 0 or before == 0:
            return []
        answer = await self._table.call(
            "query",
            KeyConditionExpression="#subject = :subject AND #part BETWEEN :first AND :last",
            ExpressionAttributeNames={"#subject": "subject", "#part": "part"},
            ExpressionAttributeValues={
                ":subject": {"S": head.subject},
                ":first": _place_key(head.subject, 0)["part"],
                ":last": _place_key(head.subject, before - 1)["part"],
            },
            ConsistentRead=True,
            Limit=limit,
        )
        return [_place_of(item, head) for item in answer["Items"]]

    async def view(self, namespace: str, resource: str) -> ResourceView | None:
        """A resource for people, with the first `LINE_MAX` of its line; None if there is nothing to show."""
        answer = await self._table.call(
            "query",
            KeyConditionExpression="#subject = :subject",
            ExpressionAttributeNames={"#subject": "subject"},
            ExpressionAttributeValues={":subject": {"S": _resource_subject(namespace, resource)}},
            ConsistentRead=True,
            Limit=1 + LINE_MAX,
        )
        if not answer["Items"]:
            return None
        head = _head_of("", resource, answer["Items"][0])
        owners = [holding.owner for _, holding in sorted(head.holdings.items())]
        waiters = [_place_of(item, head).waiter for item in answer["Items"][1:]]
        return ResourceView(resource, owners, waiters, head.limits)

    async def names(self, namespace: str) -> list[str]:
        """The resources of a namespace that are held, waited for or limited, sorted.

        A scan: the table holds only what is so now, and people ask seldom,
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


def work_subject(work_id: str) -> str:
    """The partition of what a work item has."""
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
        return Head(
            subject,
            resource,
            item["revision"]["S"],
            {work_id: _holding_of(work_id, claim["M"]) for work_id, claim in item["owners"]["M"].items()},
            int(item["waiting"]["N"]),
            int(item["next"]["N"]),
            _limits_of(item),
            float(item["paced_at"]["N"]),
            int(item["epoch"]["N"]),
        )
    except (KeyError, ValueError) as error:
        raise StorageCorrupt(f"the claims of resource {resource!r} can't be read: {error}") from error


def _holding_of(work_id: str, claim: Item) -> Holding:
    use = int(claim["use"]["N"]) if "use" in claim else None
    owner = Owner(work_id, int(claim["token"]["N"]), Scope(claim["scope"]["S"]))
    return Holding(owner, int(claim["capacity"]["N"]), use)


def _holding_item(holding: Holding) -> Item:
    claim = {
        "token": {"N": str(holding.owner.token)},
        "scope": {"S": holding.owner.scope.value},
        "capacity": {"N": str(holding.capacity)},
    }
    return {"M": claim if holding.use is None else {**claim, "use": {"N": str(holding.use)}}}


def _limits_of(item: Item) -> Limits:
    rate = None
    if "rate_count" in item:
        rate = Rate(int(item["rate_count"]["N"]), float(item["rate_seconds"]["N"]))
    capacity = int(item["capacity"]["N"]) if "capacity" in item else None
    closed_by = item["closed_by"]["S"] if "closed_by" in item else ""
    return Limits(capacity, rate, _float(item, "closed_until"), closed_by)


def _limits_item(limits: Limits) -> Item:
    item: Item = {}
    if limits.capacity is not None:
        item["capacity"] = {"N": str(limits.capacity)}
    if limits.rate is not None:
        item["rate_count"] = {"N": str(limits.rate.count)}
        item["rate_seconds"] = number_of(limits.rate.period_seconds)
    if limits.closed_until is not None:
        item["closed_until"] = number_of(limits.closed_until)
        item["closed_by"] = {"S": limits.closed_by}
    return item


def _float(item: Item, name: str) -> float | None:
    return float(item[name]["N"]) if name in item else None


def _having_of(subject: str, item: Item | None) -> Having:
    if item is None:
        return Having(subject)
    try:
        return Having(subject, item["revision"]["S"], _numbers(item["held"]), _numbers(item["waits"]))
    except (KeyError, ValueError) as error:
        raise StorageCorrupt(f"the claims at {subject!r} can't be read: {error}") from error


def _place_of(item: Item, head: Head) -> Place:
    try:
        waiter = Waiter(
            item["work"]["S"],
            float(item["since"]["N"]),
            _float(item, "called_at"),
            int(item["capacity"]["N"]),
            int(item["passed"]["N"]),
            _float(item, "ticket_at"),
            item["is_timed"]["BOOL"],
        )
        if int(item["epoch"]["N"]) != head.epoch:
            waiter = waiter.without_turn()
        return Place(int(item["part"]["S"].removeprefix(_WAIT)), waiter)
    except (KeyError, ValueError) as error:
        raise StorageCorrupt(f"a waiter at {item.get('subject')} can't be read: {error}") from error


def _place_item(waiter: Waiter, epoch: int) -> Item:
    item: Item = {
        "work": {"S": waiter.work_id},
        "since": number_of(waiter.since),
        "capacity": {"N": str(waiter.capacity)},
        "passed": {"N": str(waiter.passed)},
        "is_timed": {"BOOL": waiter.is_timed},
        "epoch": {"N": str(epoch)},
    }
    if waiter.called_at is not None:
        item["called_at"] = number_of(waiter.called_at)
    if waiter.ticket_at is not None:
        item["ticket_at"] = number_of(waiter.ticket_at)
    return item


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

    @property
    def room(self) -> int:
        """How many more writes there is room for."""
        return ACTIONS_MAX - len(self._actions)

    def head(self, head: Head) -> None:
        """Write a resource; one of which nothing is left is deleted."""
        content = {
            "owners": {"M": {name: _holding_item(holding) for name, holding in head.holdings.items()}},
            "waiting": {"N": str(head.waiting)},
            "next": {"N": str(head.next_order)},
            "paced_at": number_of(head.paced_at),
            "epoch": {"N": str(head.epoch)},
            **_limits_item(head.limits),
        }
        self._replace(_key(head.subject, _HEAD), head.revision, None if head.is_empty else content)

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

    def place(self, head: Head, place: Place) -> None:
        """Write a place in a line, new or changed. The head's condition guards it, as it does the next."""
        item = _place_key(head.subject, place.order) | _place_item(place.waiter, head.epoch)
        self._actions.append({"Put": {"TableName": self._table.name, "Item": item}})

    def drop(self, head: Head, order: int) -> None:
        """Take somebody out of a line."""
        key = _place_key(head.subject, order)
        self._actions.append({"Delete": {"TableName": self._table.name, "Key": key}})

    async def commit(self) -> bool:
        """Write it all, or nothing.

        Returns:
            False: what was read is not true any more. A write whose reply was lost and which
            met itself at the next try is known by its revision.
        """
        standing = await self._table.transact(self._actions, token=self._revision)
        return standing is None or {"S": self._revision} in [item.get("revision") for item in standing]
