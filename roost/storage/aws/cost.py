"""What a journal costs on AWS: its entries as write units, read units and requests.

The rules are those of the budget in the backend's tests: what each transition calls is
counted there, so this page only turns sizes into units and units into dollars. It needs
no AWS account: a journal of any backend can be asked what it would cost there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from math import ceil
from typing import Any

from roost.journal.entries import Entry, Kind
from roost.models import State
from roost.storage.aws.items import item_of
from roost.storage.aws.limits import INLINE_MAX_BYTES
from roost.storage.ports import DELIVERY_BATCH_MAX

# DynamoDB Developer Guide, "DynamoDB read and write operations"
WRITE_UNIT_BYTES = 1024
READ_UNIT_BYTES = 4096
IN_TRANSACTION = 2
_ROW_UNITS = 1  # an index row is well below 1 kB
_NEW_ROW_INDEXES = 2  # it enters `state` and `due`
_MOVED_IN_AN_INDEX = 2  # a changed key is a delete and an insert


@dataclass(slots=True)
class Bill:
    """Units of each kind that is charged for, and how many steps they were for.

    Attributes:
        dynamodb_write_unit: of 1 kB.
        dynamodb_read_unit: of 4 kB, strongly consistent.
        sqs_request: a part of one where it is shared by a batch.
    """

    steps: int = 0
    works: int = 0
    units: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, count: float) -> None:
        """Charge for `count` units of `what`, a key of the price list."""
        self.units[what] = self.units.get(what, 0.0) + count

    def usd(self) -> float:
        """The total in dollars."""
        price = prices()["usd_per_million"]
        return float(sum(count * price[what] for what, count in self.units.items()) / 1e6)


@cache
def prices() -> dict[str, Any]:
    """The price list with its date and region."""
    text = resources.files("roost.storage.aws").joinpath("prices.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def bill_of(journals: Mapping[str, Sequence[Entry]], *, batch: int = DELIVERY_BATCH_MAX) -> Bill:
    """What journals cost, from their enqueueing on.

    Args:
        journals: the entries of each work item, from position 0, none left out.
        batch: how many work items share a call to SQS; 1 on an idle system, 10 on a busy one.
    """
    bill = Bill(works=len(journals))
    for entries in journals.values():
        for before, entry in zip([None, *entries], entries, strict=False):
            _charge(bill, before, entry, entries, batch)
    return bill


def _charge(bill: Bill, before: Entry | None, entry: Entry, entries: Sequence[Entry], batch: int) -> None:
    size = _write_units(bill, entry)
    control = entry.control
    if before is None:
        rows = _ROW_UNITS * IN_TRANSACTION + _NEW_ROW_INDEXES
        bill.add("dynamodb_write_unit", size * IN_TRANSACTION + rows)
        bill.add("sqs_request", 1 / batch)
        return
    if entry.event.kind is Kind.CLAIMED:
        bill.add("dynamodb_write_unit", size)
        bill.add("sqs_request", 1 / batch)  # the receive
        for read in _reads_of_a_claim(before, entries):
            bill.add("dynamodb_read_unit", ceil(entry_bytes(read) / READ_UNIT_BYTES))
        return
    if entry.event.kind is Kind.COMMITTED:
        bill.steps += 1
    bill.add("dynamodb_write_unit", size)
    if control.lease is None:
        _charge_for_settling(bill, before, entry, batch)


def _write_units(bill: Bill, entry: Entry) -> int:
    """Write units of the entry itself; a body that would be spilled is charged as a blob."""
    size = entry_bytes(entry)
    body = entry.body
    if body is not None and (body.digest is not None or len(body.data) > INLINE_MAX_BYTES):
        bill.add("s3_put", 1)
        size -= len(body.data)
    return ceil(size / WRITE_UNIT_BYTES)


def _reads_of_a_claim(tail: Entry, entries: Sequence[Entry]) -> Iterable[Entry]:
    """The tail, the payload, and the snapshot with the bodies that it is a delta of."""
    yield tail
    if tail.position != 0:
        yield entries[0]
    position = tail.control.snapshot_position
    while position is not None:
        entry = entries[position]
        if entry.position != tail.position:
            yield entry
        position = entry.body.base if entry.body else None


def _charge_for_settling(bill: Bill, before: Entry, entry: Entry, batch: int) -> None:
    """The mark in the feed, the index row, the acknowledgement, the next delivery."""
    mark, due = 1, 1 if entry.control.state.is_terminal else _MOVED_IN_AN_INDEX
    bill.add("dynamodb_write_unit", mark + _ROW_UNITS + _MOVED_IN_AN_INDEX + due)
    if before.control.lease is not None:
        bill.add("sqs_request", 1 / batch)
    if entry.control.state in (State.QUEUED, State.SCHEDULED):
        bill.add("sqs_request", 1 / batch)


def entry_bytes(entry: Entry) -> int:
    """The size of an entry as DynamoDB counts it."""
    return item_bytes(item_of(entry, 1))


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """The size of an item: names and values (DynamoDB Developer Guide, "Item sizes and formats").

    Args:
        item: text, numbers and bytes only, as the low-level API takes them.
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    [(kind, content)] = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return ceil(len(content.strip("-0.").replace(".", "")) / 2) + 1
        case "B":
            return len(content)
    raise AssertionError(kind)
