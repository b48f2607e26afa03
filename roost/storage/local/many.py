"""Many rows in one SQL statement.

A statement for many rows costs a fraction of one for each, and the thread that runs it
asks for the interpreter's lock once. Few sizes, so that SQLite keeps them prepared.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

SIZES = (64, 16, 4, 1)
PADDED_SIZES = (2, 4, 8, 16, 32, 64)


def chunks(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split rows into as few chunks of one of `SIZES` as there can be, in order."""
    done = 0
    for size in SIZES:
        while len(rows) - done >= size:
            yield rows[done : done + size]
            done += size


def padded(rows: Sequence[tuple[Any, ...]]) -> tuple[int, list[Any]]:
    """Rows as the parameters of one statement, for one of `PADDED_SIZES`, and that size.

    What is missing to it are rows of NULL, which must lead to nothing where they are used.
    """
    size = next(size for size in PADDED_SIZES if size >= len(rows))
    values = [value for row in rows for value in row]
    return size, values + [None] * ((size - len(rows)) * len(rows[0]))


def insert_many(db: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Insert rows that are not there yet, in order; returns how many were new.

    Args:
        into: the table with its columns, constant text.
    """
    count = 0
    for chunk in chunks(rows):
        values = [value for row in chunk for value in row]
        count += db.execute(insert(into, len(chunk), len(chunk[0])), values).rowcount
    return count


@cache
def insert(into: str, count: int, width: int) -> str:
    """The statement that inserts `count` rows of `width` columns that are not there yet."""
    return f"INSERT INTO {into} VALUES {marks(count, width)} ON CONFLICT DO NOTHING"  # noqa: S608  constant text


def marks(count: int, width: int) -> str:
    """The parameters of a VALUES clause."""
    return ", ".join([f"({', '.join('?' * width)})"] * count)
