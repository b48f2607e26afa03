"""The work queue port on SQLite, with a doorbell instead of polling."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from roost.clock import Clock, Ids, SystemIds
from roost.errors import StorageError, StorageUnavailable
from roost.journal.projection import MESSAGE_DELAY_MAX_SECONDS
from roost.models import Lane
from roost.storage.local import together
from roost.storage.local.many import insert_many, update_each
from roost.storage.local.rows import LANE_TEXTS
from roost.storage.local.schema import SameFile, storage_errors
from roost.storage.local.wake import Doorbell
from roost.storage.local.writer import Writer
from roost.storage.ports import DeadLetter, Delivery, Message

_SEND = """
    INSERT INTO deliveries (receipt, received_count, work_id, cause, lane, visible_at)
    SELECT '', 0, * FROM (VALUES {rows}) WHERE column1 != 0"""
_IN_HAND = "WHERE id = ? AND receipt = ?"
_EXTEND = """
    UPDATE deliveries SET visible_at = column1
    FROM (VALUES {rows}) WHERE id = column2 AND receipt = column3"""
_VISIBLE = """
    SELECT json_group_array(json_array(id, work_id, cause, received_count)) FROM (
        SELECT id, work_id, cause, received_count FROM deliveries
        WHERE lane = ? AND visible_at <= ? ORDER BY visible_at LIMIT ?)"""
_TAKE = """
    UPDATE deliveries SET visible_at = column1, receipt = column2, received_count = column3
    FROM (VALUES {rows}) WHERE id = column4"""
_PUT_BACK = f"UPDATE deliveries SET visible_at = ?, receipt = '' {_IN_HAND}"  # noqa: S608  constant text


_END_DEAD = "DELETE FROM dead_deliveries WHERE id = ? RETURNING work_id, cause, lane"


class LocalQueue:
    """`ports.WorkQueue`. A receipt is the row's id and a part that no receive ever gave
    out before: SQLite uses the id of a deleted row again, so the id alone proves nothing."""

    def __init__(
        self,
        path: Path,
        same: SameFile,
        writer: Writer,
        reader: sqlite3.Connection,
        bell: Doorbell,
        clock: Clock,
    ) -> None:
        self._path = path
        self._same = same
        self._writer = writer
        self._reader = reader
        self._bell = bell
        self._clock = clock
        self._ids = SystemIds()

    async def send(self, messages: Sequence[Message]) -> None:
        now = self._clock.now()
        rows = []
        for message in messages:
            if not 0 <= message.delay_seconds <= MESSAGE_DELAY_MAX_SECONDS:
                raise StorageError(f"a message can't be delayed by {message.delay_seconds} s")
            visible_at = now + message.delay_seconds
            rows.append((message.work_id, message.cause, LANE_TEXTS[message.lane], visible_at))
        await self._writer.submit(lambda db: insert_many(db, _SEND, rows), makes_visible=True)

    async def receive(
        self, limit: int, *, visibility_seconds: float, wait_seconds: float, lanes: Sequence[Lane]
    ) -> Sequence[Delivery]:
        self._bell.listen()
        end = self._clock.monotonic() + wait_seconds
        while True:
            ring = self._bell.next_ring()
            next_at = self._next_visible_at(lanes)
            if next_at is not None and next_at <= self._clock.now():
                taken = await self._take(limit, visibility_seconds, lanes)
                if taken:
                    return taken
            left = end - self._clock.monotonic()
            if left <= 0:
                return []
            until_next = left if next_at is None else max(0.001, next_at - self._clock.now())
            await self._bell.wait(ring, min(left, until_next))

    def _next_visible_at(self, lanes: Sequence[Lane]) -> float | None:
        self._same.check()  # who only reads, and waits for news, would wait for ever
        sql = "SELECT min(visible_at) FROM deliveries WHERE lane = ?"
        with storage_errors(self._path):
            found = [self._reader.execute(sql, (lane.value,)).fetchone()[0] for lane in lanes]
        return min((at for at in found if at is not None), default=None)

    async def _take(self, limit: int, visibility_seconds: float, lanes: Sequence[Lane]) -> Sequence[Delivery]:
        take = _Take(limit, visibility_seconds, lanes, self._clock, self._ids)
        future = self._writer.submit(take)
        try:
            return await future
        except asyncio.CancelledError:
            self._give_back(take)
            raise

    def _give_back(self, take: _Take) -> None:
        """Who waited went away; what was taken for it becomes visible again.

        The writer keeps the order, so this runs after the take, whether or not it is done.
        """
        with suppress(StorageUnavailable):  # closed: the visibility timeout must do
            undone = self._writer.submit(take.undo, makes_visible=True)
            undone.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        await self._writer.submit_plain(together.acknowledge([_key(delivery) for delivery in deliveries]))

    async def extend(self, deliveries: Sequence[Delivery], visibility_seconds: float) -> Sequence[bool]:
        until = self._clock.now() + visibility_seconds
        rows = [(until, *_key(delivery)) for delivery in deliveries]
        return await self._writer.submit(lambda db: update_each(db, _EXTEND, rows))

    async def put_back(self, delivery: Delivery, delay_seconds: float) -> None:
        row = (self._clock.now() + delay_seconds, *_key(delivery))
        await self._writer.submit(lambda db: db.execute(_PUT_BACK, row).rowcount, makes_visible=True)

    async def reject(self, delivery: Delivery, reason: str) -> None:
        now = self._clock.now()

        def move(db: sqlite3.Connection) -> None:
            gone = db.execute(f"DELETE FROM deliveries {_IN_HAND}", _key(delivery))  # noqa: S608  constant text
            if gone.rowcount:
                row = (delivery.work_id, delivery.cause, delivery.lane.value, reason, now)
                db.execute("INSERT INTO dead_deliveries VALUES (NULL, ?, ?, ?, ?, ?)", row)

        await self._writer.submit(move)

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        sql = "SELECT id, work_id, cause, lane, reason FROM dead_deliveries ORDER BY id LIMIT ?"
        with storage_errors(self._path):
            found = self._reader.execute(sql, (limit,)).fetchall()
        return [
            DeadLetter(work_id, cause, Lane(lane), reason, "", str(number))
            for number, work_id, cause, lane, reason in found
        ]

    async def end_dead_letter(self, letter: DeadLetter, *, is_sent_again: bool) -> None:
        now, number = self._clock.now(), _number(letter.receipt)

        def end(db: sqlite3.Connection) -> None:
            gone = db.execute(_END_DEAD, (number,)).fetchone()
            if gone is not None and is_sent_again:
                insert_many(db, _SEND, [(*gone, now)])

        await self._writer.submit(end, makes_visible=True)

    async def backlog(self) -> int:
        sql = "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE lane = ? AND visible_at <= ? LIMIT 1000)"
        now = self._clock.now()
        with storage_errors(self._path):
            return sum(int(self._reader.execute(sql, (lane.value, now)).fetchone()[0]) for lane in Lane)


def _key(delivery: Delivery) -> tuple[int, str]:
    """The row's id and the receipt as stored; a receipt that is not of this queue names no row."""
    return _number(delivery.receipt.partition(".")[0]), delivery.receipt


def _number(receipt: str) -> int:
    """The row that a receipt names; -1: none."""
    return int(receipt) if receipt.isascii() and receipt.isdecimal() and len(receipt) < 19 else -1


class _Take:
    """The operation that takes visible messages, and the one that undoes it."""

    def __init__(
        self, limit: int, visibility_seconds: float, lanes: Sequence[Lane], clock: Clock, ids: Ids
    ) -> None:
        self._limit = limit
        self._visibility_seconds = visibility_seconds
        self._lanes = lanes
        self._clock = clock
        self._ids = ids
        self._taken: list[Delivery] = []

    def __call__(self, db: sqlite3.Connection) -> Sequence[Delivery]:
        self._taken = []
        now = self._clock.now()  # not when it was asked for: the wait for a turn is no part of the lease
        for lane in self._lanes:
            left = self._limit - len(self._taken)
            if left > 0:
                self._taken += self._visible(db, lane, now, left)
        until = now + self._visibility_seconds
        rows = [(until, taken.receipt, taken.received_count, _key(taken)[0]) for taken in self._taken]
        update_each(db, _TAKE, rows)
        return self._taken

    def _visible(self, db: sqlite3.Connection, lane: Lane, now: float, limit: int) -> Iterable[Delivery]:
        found = db.execute(_VISIBLE, (lane.value, now, limit)).fetchone()[0]  # one row: see `together`
        return [
            Delivery(work_id, cause, lane, f"{number}.{self._ids.unique()}", count + 1)
            for number, work_id, cause, count in json.loads(found)
        ]

    def undo(self, db: sqlite3.Connection) -> int:
        now = self._clock.now()
        return db.executemany(_PUT_BACK, [(now, *_key(delivery)) for delivery in self._taken]).rowcount
