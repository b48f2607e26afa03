"""What journals cost on AWS: entries turned into write units, read units and requests, and into dollars.

Which calls a transition makes is held by the call budget's tests; here their items are made
again from the entries, sized as DynamoDB does it, and charged for by a dated price list. So a
journal of any backend can be asked what it would cost on AWS, without an account.

Charged for is what happens from enqueueing to the last entry: the entry and its mark, the
index row with what it costs in each secondary index, resource claims, heartbeats, wake-ups
by the sweeper, what a claim reads, and the requests to SQS and S3. Left out is what does not
belong to one work item: idle polls (`idle_poller_usd`), storage, and what people look at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from math import ceil
from typing import Any, Literal

from msgspec.structs import replace

from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Claimed, Enqueued, Kind
from roost.journal.projection import LEASE_GRACE_SECONDS, LOST_DELIVERY_SECONDS, is_sent_with_delay, project
from roost.journal.retention import is_endless
from roost.models import State
from roost.storage.aws.clients import SQS_WAIT_MAX_SECONDS
from roost.storage.aws.index import row_item
from roost.storage.aws.items import item_of
from roost.storage.aws.lanes import REST_SECONDS
from roost.storage.aws.limits import INLINE_MAX_BYTES
from roost.storage.aws.names import definition
from roost.storage.aws.table import Item

Unit = Literal["dynamodb_write_unit", "dynamodb_read_unit", "sqs_request", "s3_put", "s3_get"]
Part = Literal[
    "enqueue",
    "claim",
    "burst step",
    "last step",
    "heartbeat",
    "other entries",
    "settle",
    "resources",
    "wake-up",
]

Key = Sequence[Mapping[str, str]]
"""A key in the stack's definition: `name` and `type` of each of its attributes."""

# DynamoDB Developer Guide, "DynamoDB read and write operations": a write unit is 1 kB, a
# strongly consistent read unit 4 kB; "Amazon DynamoDB Transactions": two units a kB.
WRITE_UNIT_BYTES = 1024
READ_UNIT_BYTES = 4096
IN_TRANSACTION = 2
MONTH_SECONDS = 30 * 86_400
FIRST_BEAT_SECONDS = 1.0  # work that is over sooner has no row of its own while it runs
_BEATS_A_LEASE = 3
_TAKEN = ("a" * 13, "b" * 13)  # a sweeper's two ids of one wake-up, as long as `Ids.unique` makes them
_SHARDS = 1  # keys are a digit longer at most
_CLAIM_ITEM_BYTES = 300  # of a resource or of what a work item has, names apart


@dataclass(slots=True)
class Bill:
    """What was charged for.

    Attributes:
        works, steps: what it was for: work items, and committed steps.
        burst_steps: those of the steps after which the lease was kept.
        units: how many of each unit by part; a fraction of a request where a batch shares it.
        calls: how many calls to AWS; a transaction or a batch is one.
    """

    works: int = 0
    steps: int = 0
    burst_steps: int = 0
    units: dict[tuple[Part, Unit], float] = field(default_factory=dict)
    calls: float = 0.0

    def add(self, part: Part, unit: Unit, count: float) -> None:
        """Charge for `count` of a unit; each of these is a call, but of DynamoDB, which counts sizes."""
        if unit not in ("dynamodb_write_unit", "dynamodb_read_unit"):
            self.calls += count
        if count:
            self.units[part, unit] = self.units.get((part, unit), 0) + count

    def count(self, unit: Unit, *parts: Part) -> float:
        """How many of a unit were charged for; of all parts, if none is named."""
        return sum(
            number for (part, one), number in self.units.items() if one == unit and part in (parts or (part,))
        )

    def usd(self, *parts: Part) -> float:
        """Dollars; of all parts, if none is named."""
        chosen = {key: number for key, number in self.units.items() if not parts or key[0] in parts}
        return sum(number * price(unit) for (_, unit), number in chosen.items())

    @property
    def parts(self) -> list[Part]:
        """The parts that cost anything, in the order in which they first did."""
        return list(dict.fromkeys(part for part, _ in self.units))


@cache
def prices() -> dict[str, Any]:
    """The price list with its date, region and sources."""
    text = resources.files("roost.storage.aws").joinpath("prices.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def price(unit: Unit) -> float:
    """Dollars for one of a unit."""
    return float(prices()["usd_per_million"][unit]) / 1e6


def idle_poller_usd() -> float:
    """A month of one long poll after the other on one queue; an idle worker has one for each lane."""
    return MONTH_SECONDS / (SQS_WAIT_MAX_SECONDS + REST_SECONDS) * price("sqs_request")


# --- journals ----------------------------------------------------------------


def bill_of(journals: Iterable[Sequence[Entry]], *, batch: int = 1) -> Bill:
    """What journals cost, from their enqueueing to their last entry.

    Args:
        journals: the entries of each work item, from position 0, none left out but what was
            trimmed; that is not charged for, nor its trimming.
        batch: how many work items share a request to SQS: 1 where little is going on, up
            to `DELIVERY_BATCH_MAX` under load.
    """
    bill = Bill()
    for entries in journals:
        bill.works += 1
        _Journal(bill, entries, 1 / batch).charge()
    return bill


class _Journal:
    """Charges for one journal, entry by entry.

    Args:
        request: what part of a request to SQS falls to one delivery.
    """

    def __init__(self, bill: Bill, entries: Sequence[Entry], request: float) -> None:
        self._bill = bill
        self._entries = {entry.position: entry for entry in entries}
        self._request = request
        self._row: Item | None = None
        self._resources: tuple[str, ...] = ()
        self._claimed: Entry | None = None

    def charge(self) -> None:
        """Charge for all."""
        before: Entry | None = None
        for entry in self._entries.values():
            if before is None:
                self._enqueued(entry)
            elif entry.event.kind is Kind.CLAIMED:
                self._claim(before, entry)
            else:
                self._entry(before, entry)
            before = entry

    def _enqueued(self, entry: Entry) -> None:
        if isinstance(entry.event, Enqueued):
            self._resources = entry.event.resources
        self._put("enqueue", entry, times=IN_TRANSACTION)
        self._put_row("enqueue", project(entry), times=IN_TRANSACTION)
        self._send("enqueue", entry)

    def _claim(self, before: Entry, entry: Entry) -> None:
        self._bill.add("claim", "sqs_request", self._request)  # the receive
        self._append("claim", entry)
        self._read("claim", entry_item(before))
        for read in self._bodies_of_a_claim(before):
            self._read("claim", entry_item(read))
            if is_spilled(read):
                self._bill.add("claim", "s3_get", 1)
        if before.control.lease is not None:  # the holder went silent: its row says until when it held
            self._read("claim", self._row or {})
        self._claimed = entry
        self._resource_units("acquire")

    def _entry(self, before: Entry, entry: Entry) -> None:
        """Any other entry: by the holder of the lease, or by somebody outside."""
        is_held, goes_on = before.control.lease is not None, entry.control.lease is not None
        part: Part = "other entries"
        if entry.event.kind is Kind.COMMITTED:
            part = "burst step" if goes_on else "last step"
            self._bill.steps += 1
            self._bill.burst_steps += goes_on
        if is_held:
            self._append(part, entry)
        else:
            self._put(part, entry, times=IN_TRANSACTION)
        if goes_on:
            return
        if is_held:
            self._beats(before, entry)
            self._put_row("settle", project(entry))
            self._bill.add("settle", "sqs_request", self._request)  # the delivery is deleted
            self._resource_units("release")
        else:
            self._put_row("other entries", project(entry), times=IN_TRANSACTION)
        self._send("settle" if is_held else "other entries", entry)

    def _append(self, part: Part, entry: Entry) -> None:
        """Under a lease: alone, but with its row where there is no end."""
        times = IN_TRANSACTION if is_endless(entry.control) else 1
        self._put(part, entry, times=times)
        if times > 1:
            self._put_row(part, project(entry), times=times)

    def _read(self, part: Part, item: Item) -> None:
        self._bill.calls += 1
        self._bill.add(part, "dynamodb_read_unit", read_units(item))

    def _put(self, part: Part, entry: Entry, *, times: int = 1) -> None:
        self._bill.calls += 1  # with its row, if that is in the same transaction
        self._bill.add(
            part, "dynamodb_write_unit", put_units("journal", None, entry_item(entry), times=times)
        )
        if is_spilled(entry):
            self._bill.add(part, "s3_put", 1)

    def _put_row(self, part: Part, row: IndexRow, *, times: int = 1, taken: str | None = None) -> None:
        self._bill.calls += times == 1
        item = row_item(row, _SHARDS) | ({} if taken is None else {"taken": {"S": taken}})
        self._bill.add(part, "dynamodb_write_unit", put_units("index", self._row, item, times=times))
        self._row = item

    def _send(self, part: Part, entry: Entry) -> None:
        """The next delivery; or, after a long sleep, the sweeper that sends it."""
        control = entry.control
        if control.state is State.SCHEDULED and not is_sent_with_delay(control.wake_at or 0.0, entry.at):
            self._wake_up(entry)
        elif control.state in (State.QUEUED, State.SCHEDULED):
            self._bill.add(part, "sqs_request", self._request)

    def _wake_up(self, entry: Entry) -> None:
        """A sweeper takes the due row, reads the tail, says when to look next, and sends."""
        self._read("wake-up", entry_item(entry))
        row = replace(project(entry), due_at=(entry.control.wake_at or 0.0) + LOST_DELIVERY_SECONDS)
        for taken in _TAKEN:
            self._put_row("wake-up", row, taken=taken)
        self._bill.add("wake-up", "sqs_request", self._request)

    def _beats(self, before: Entry, last: Entry) -> None:
        """The heartbeats of a lease: the first within moments, then every third of the lease."""
        claim = self._claimed
        if claim is None or not isinstance(claim.event, Claimed):
            return
        third = (claim.event.lease_until - claim.at) / _BEATS_A_LEASE
        held_seconds = last.at - claim.at
        if held_seconds < FIRST_BEAT_SECONDS:
            return
        beats = 1 + int((held_seconds - FIRST_BEAT_SECONDS) / third)
        for beat in range(beats):
            until = claim.event.lease_until + beat * third
            row = replace(project(claim), lease_until=until, due_at=until + LEASE_GRACE_SECONDS)
            self._put_row("heartbeat", row)
        self._bill.add("heartbeat", "sqs_request", beats * self._request)

    def _bodies_of_a_claim(self, tail: Entry) -> Iterator[Entry]:
        """Entries that are read for their bodies: payload, and snapshot with what it is a delta of."""
        if tail.position != 0:
            yield self._entries[0]
        position = tail.control.snapshot_position
        while position is not None and (entry := self._entries.get(position)) is not None:
            yield entry
            position = entry.body.base if entry.body else None

    def _resource_units(self, what: Literal["acquire", "release"]) -> None:
        """One transaction over all resources, and what it was decided by."""
        if not self._resources:
            return
        heads = [len(name.encode()) + _CLAIM_ITEM_BYTES for name in self._resources]
        having = sum(len(name.encode()) for name in self._resources) + _CLAIM_ITEM_BYTES
        written = sum(ceil(size / WRITE_UNIT_BYTES) for size in [*heads, having])
        self._bill.add("resources", "dynamodb_write_unit", written * IN_TRANSACTION)
        self._bill.calls += 2 if what == "acquire" else 3  # as `claims` has them, where nobody waits
        reads = len(heads) + 1
        self._bill.add("resources", "dynamodb_read_unit", reads)


# --- items -------------------------------------------------------------------


def entry_item(entry: Entry) -> Item:
    """The item of an entry as the backend would write it, whatever backend it was read from."""
    if is_spilled(entry) and entry.body is not None and entry.body.digest is None:
        entry = replace(entry, body=replace(entry.body, data=b"", digest="0" * 64))
    return item_of(entry, _SHARDS)


def is_spilled(entry: Entry) -> bool:
    """Whether the body is or would be a blob."""
    body = entry.body
    return body is not None and (body.digest is not None or len(body.data) > INLINE_MAX_BYTES)


def put_units(table: str, before: Item | None, after: Item, *, times: int = 1) -> int:
    """Write units of a put or an update, with those of the table's secondary indexes.

    An index is written where the item enters it, leaves it, or changes in what is projected;
    a changed key is two writes, a deletion and an insertion (DynamoDB Developer Guide, "Using
    Global Secondary Indexes", "Write capacity units"). A transaction doubles the item's own.

    Args:
        table: as it is called in the stack's definition.
        before: the item that stands, if one does.
        times: 2 in a transaction.
    """
    spec = definition()["tables"][table]
    own = max(write_units(after), write_units(before or {}))
    return own * times + sum(
        _index_units(spec["key"], index, before or {}, after) for index in spec["indexes"].values()
    )


def _index_units(table_key: Key, index: Mapping[str, Any], before: Item, after: Item) -> int:
    old, new = _projected(table_key, index, before), _projected(table_key, index, after)
    if old == new:
        return 0
    if old and new and all(old[name] == new[name] for name in _names(index["key"])):
        return max(write_units(old), write_units(new))
    return sum(write_units(item) for item in (old, new) if item)


def _projected(table_key: Key, index: Mapping[str, Any], item: Item) -> Item:
    """What an index holds of an item; nothing, where it lacks a key of the index."""
    if not all(name in item for name in _names(index["key"])):
        return {}
    if index["projection"] == "ALL":
        return item
    return {name: item[name] for name in _names([*table_key, *index["key"]])}


def _names(key: Key) -> list[str]:
    """Of the attributes of a key, as the stack's definition lists them."""
    return [part["name"] for part in key]


def write_units(item: Item) -> int:
    """Write units of an item, at least one."""
    return max(1, ceil(item_bytes(item) / WRITE_UNIT_BYTES))


def read_units(item: Item) -> int:
    """Units of a strongly consistent read of one item, at least one."""
    return max(1, ceil(item_bytes(item) / READ_UNIT_BYTES))


def item_bytes(item: Item) -> int:
    """The size of an item, names and values (DynamoDB Developer Guide, "Item sizes and formats")."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    [(kind, content)] = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":  # about a byte for two significant digits, and one
            digits = content.partition("e")[0].strip("-0.").replace(".", "")
            return ceil(len(digits) / 2) + 1
        case "B":
            return len(content)
        case "BOOL":
            return 1
        case "SS":
            return sum(len(one.encode()) for one in content)
        case "M":  # 3 bytes, and one for each member
            return 3 + sum(1 + len(name.encode()) + _value_bytes(one) for name, one in content.items())
    raise AssertionError(kind)
