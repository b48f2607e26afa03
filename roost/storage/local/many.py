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

TOGETHER_MAX = 256  # rows
SIZES = (TOGETHER_MAX, 64, 16, 4, 1)
INSERTED_MAX = 128  # rows; 256 take 0.3 us less for each, and 1.3 ms more to be made ready at the first call
_PADDED_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, TOGETHER_MAX)


def chunks(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split rows into as few chunks of one of `SIZES` as there can be, in order."""
    done = 0
    for size in SIZES:
        while len(rows) - done >= size:
            yield rows[done : done + size]
            done += size


def padded(rows: Sequence[tuple[Any, ...]], filler: tuple[Any, ...]) -> tuple[int, list[Any]]:
    """Up to `TOGETHER_MAX` rows as the parameters of one statement, and for how many rows that is.

    Args:
        filler: the rows that fill it up, which must lead to nothing where they are used.
    """
    size = next(size for size in _PADDED_SIZES if size >= len(rows))
    values = [value for row in rows for value in row]
    return size, values + list(filler) * (size - len(rows))


def insert_many(db: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, in order.

    Args:
        sql: with `FROM (VALUES {rows}) WHERE column1 != 0`, constant text: rows of zeros fill it up.
    """
    for start in range(0, len(rows), INSERTED_MAX):
        width = len(rows[0])
        size, values = padded(rows[start : start + INSERTED_MAX], (0,) * width)
        db.execute(filled(sql, size, width), values)


@cache
def insert(into: str, width: int) -> str:
    """The statement that inserts a row of `width` columns that is not there yet."""
    return f"INSERT INTO {into} VALUES {marks(1, width)} ON CONFLICT DO NOTHING"  # noqa: S608  constant text


def marks(count: int, width: int) -> str:
    """The parameters of a VALUES clause."""
    return ", ".join([f"({', '.join('?' * width)})"] * count)


def update_each(db: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> Sequence[bool]:
    """Update what each of some rows says; whether each of them met its row of the table.

    Args:
        sql: with `FROM (VALUES {rows})`, constant text; where it can't meet more than one row.
    """
    count = 0
    for chunk in chunks(rows):
        values = [value for row in chunk for value in row]
        count += db.execute(filled(sql, len(chunk), len(chunk[0])), values).rowcount
    if count == len(rows):
        return [True] * count
    alone = sql.format(rows=marks(1, len(rows[0])))
    return [db.execute(alone, row).rowcount == 1 for row in rows]


@cache
def filled(sql: str, count: int, width: int) -> str:
    """A statement for `count` rows of `width` columns, which stand for its `{rows}`."""
    return sql.format(rows=marks(count, width))
