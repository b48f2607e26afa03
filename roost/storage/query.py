"""What is asked of the work index: which rows, in which order, and where a page goes on.

The cursors here are for backends that know the place of each row; one whose storage has cursors
of its own gives those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from roost.errors import InputError
from roost.journal.entries import IndexRow
from roost.models import State
from roost.names import Order, namespace_of

_MARK = "!"  # in a cursor, between what rows are sorted by and which row it was


class Sort(Struct, frozen=True):
    """By which field of a row an order goes. Rows that have none are not in it."""

    field: str
    is_descending: bool = False

    def value(self, row: IndexRow) -> float | None:
        """What a row is sorted by."""
        found: float | None = getattr(row, self.field)
        return found

    def rank(self, value: float) -> float:
        """A value as a number that rises along the order."""
        return -value if self.is_descending else value


SORTS: Mapping[Order, Sort] = {
    Order.DUE: Sort("due_at"),
    Order.UPDATED: Sort("updated_at", is_descending=True),
    Order.SINCE: Sort("since"),
    Order.FAILURES: Sort("failures", is_descending=True),
}
"""The orders that are not that in which work came."""


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """Which rows of one namespace to list, and in which order; None matches all of it.

    A cursor is good for its order. `id_prefix` matches the start of the whole work id, `label` a
    name with its value.
    """

    state: State | None = None
    engine: str | None = None
    id_prefix: str | None = None
    created_after: float | None = None
    namespace: str = ""
    label: tuple[str, str] | None = None
    parent_id: str | None = None
    order: Order = Order.NEWEST

    def matches(self, row: IndexRow) -> bool:
        """Whether a row is asked for; what a backend that can't filter goes by."""
        return (
            namespace_of(row.work_id) == self.namespace
            and (self.state is None or row.state is self.state)
            and (self.engine is None or row.engine == self.engine)
            and (self.id_prefix is None or row.work_id.startswith(self.id_prefix))
            and (self.created_after is None or row.created_at > self.created_after)
            and (self.label is None or self.label in row.labels)
            and (self.parent_id is None or row.parent_id == self.parent_id)
        )


class IndexPage(Struct, frozen=True):
    """A page of the work index; `cursor` is None when there is no further row."""

    rows: Sequence[IndexRow]
    cursor: str | None


# --- cursors -----------------------------------------------------------------


class Spot(Struct, frozen=True):
    """Where a row stands in a sorted order: what it is sorted by, and which of those alike it is."""

    value: float
    row: str

    @property
    def cursor(self) -> str:
        """As a text; `spot_of` reads it."""
        return f"{self.value!r}{_MARK}{self.row}"


def spot_of(cursor: str) -> Spot:
    """What `Spot.cursor` gave.

    Raises:
        InputError: no page in such an order gave it out.
    """
    number, mark, row = cursor.partition(_MARK)
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not mark or not math.isfinite(value):
        raise _no_cursor(cursor)
    return Spot(value, row)


def number_of(cursor: str) -> int:
    """The number that a cursor, or a part of one, is: of a row in the order in which work came.

    Raises:
        InputError: no page gave it out.
    """
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):  # what SQLite's integers hold
        raise _no_cursor(cursor)
    return int(cursor)


def _no_cursor(cursor: str) -> InputError:
    return InputError(f"{cursor[:80]!r} is no cursor", hint="Use the one that the page before gave, or none.")
