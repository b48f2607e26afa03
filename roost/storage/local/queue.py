"""The work queue port on SQLite, with a doorbell instead of polling."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from roost.clock import Clock
from roost.errors import StorageError
from roost.journal.control import MESSAGE_DELAY_MAX_SECONDS
from roost.models import Lane
from roost.storage.local.schema import storage_errors
from roost.storage.local.wake import Doorbell
from roost.storage.local.writer import Writer
from roost.storage.ports import Delivery, Message

_IN_HAND = "WHERE id = ? AND receipt = ?"


class LocalQueue:
    """`ports.WorkQueue`. A receipt is the row's id and a count that each receive and
    put-back moves on, so an old one never matches."""

    def __init__(
        self, path: Path, writer: Writer, reader: sqlite3.Connection, bell: Doorbell, clock: Clock
    ) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._bell = bell
        self._clock = clock

    async def send(self, messages: Sequence[Message]) -> None:
        now = self._clock.now()
        rows = []
        for message in messages:
            if not 0 <= message.delay_seconds <= MESSAGE_DELAY_MAX_SECONDS:
                raise StorageError(f"a message can't be delayed by {message.delay_seconds} s")
            rows.append((message.work_id, message.cause, message.lane.value, now + message.delay_seconds))
        sql = "INSERT INTO deliveries VALUES (NULL, ?, ?, ?, ?, 0, 0)"
        await self._writer.submit(lambda db: db.executemany(sql, rows).rowcount)
        self._bell.ring()

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
        sql = "SELECT min(visible_at) FROM deliveries WHERE lane = ?"
        with storage_errors(self._path):
            found = [self._reader.execute(sql, (lane.value,)).fetchone()[0] for lane in lanes]
        return min((at for at in found if at is not None), default=None)

    async def _take(self, limit: int, visibility_seconds: float, lanes: Sequence[Lane]) -> Sequence[Delivery]:
        now = self._clock.now()
        future = self._writer.submit(lambda db: _take(db, limit, now, visibility_seconds, lanes))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(self._give_back)
            raise

    def _give_back(self, future: asyncio.Future[Sequence[Delivery]]) -> None:
        """Who waited went away; what was taken for it becomes visible again."""
        if future.cancelled() or future.exception() is not None or not future.result():
            return
        now = self._clock.now()
        rows = [(now, *_key(delivery)) for delivery in future.result()]
        sql = f"UPDATE deliveries SET visible_at = ?, receipt = receipt + 1 {_IN_HAND}"  # noqa: S608  constant text
        self._writer.submit(lambda db: db.executemany(sql, rows).rowcount).add_done_callback(
            lambda done: self._bell.ring() if not done.cancelled() and done.exception() is None else None
        )

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        rows = [_key(delivery) for delivery in deliveries]
        sql = f"DELETE FROM deliveries {_IN_HAND}"  # noqa: S608  constant text
        await self._writer.submit(lambda db: db.executemany(sql, rows).rowcount)

    async def extend(self, deliveries: Sequence[Delivery], visibility_seconds: float) -> Sequence[bool]:
        until = self._clock.now() + visibility_seconds
        rows = [(until, *_key(delivery)) for delivery in deliveries]
        sql = f"UPDATE deliveries SET visible_at = ? {_IN_HAND}"  # noqa: S608  constant text
        return await self._writer.submit(lambda db: [db.execute(sql, row).rowcount == 1 for row in rows])

    async def put_back(self, delivery: Delivery, delay_seconds: float) -> None:
        row = (self._clock.now() + delay_seconds, *_key(delivery))
        sql = f"UPDATE deliveries SET visible_at = ?, receipt = receipt + 1 {_IN_HAND}"  # noqa: S608  constant text
        await self._writer.submit(lambda db: db.execute(sql, row).rowcount)
        self._bell.ring()

    async def reject(self, delivery: Delivery, reason: str) -> None:
        now = self._clock.now()

        def move(db: sqlite3.Connection) -> None:
            gone = db.execute(f"DELETE FROM deliveries {_IN_HAND}", _key(delivery))  # noqa: S608  constant text
            if gone.rowcount:
                row = (delivery.work_id, delivery.cause, delivery.lane.value, reason, now)
                db.execute("INSERT INTO dead_deliveries VALUES (NULL, ?, ?, ?, ?, ?)", row)

        await self._writer.submit(move)

    async def backlog(self) -> int:
        sql = "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE lane = ? AND visible_at <= ? LIMIT 1000)"
        now = self._clock.now()
        with storage_errors(self._path):
            return sum(int(self._reader.execute(sql, (lane.value, now)).fetchone()[0]) for lane in Lane)


def _key(delivery: Delivery) -> tuple[int, int]:
    number, _, receipt = delivery.receipt.partition(".")
    return int(number), int(receipt)


def _take(
    db: sqlite3.Connection, limit: int, now: float, visibility_seconds: float, lanes: Sequence[Lane]
) -> Sequence[Delivery]:
    taken: list[Delivery] = []
    for lane in lanes:
        rows = db.execute(
            "SELECT id, work_id, cause, receipt, received_count FROM deliveries "
            "WHERE lane = ? AND visible_at <= ? ORDER BY visible_at LIMIT ?",
            (lane.value, now, limit - len(taken)),
        ).fetchall()
        taken += [
            Delivery(work_id, cause, lane, f"{number}.{receipt + 1}", count + 1)
            for number, work_id, cause, receipt, count in rows
        ]
    db.executemany(
        "UPDATE deliveries SET visible_at = ?, receipt = receipt + 1, received_count = received_count + 1 "
        "WHERE id = ?",
        [(now + visibility_seconds, _key(delivery)[0]) for delivery in taken],
    )
    return taken
