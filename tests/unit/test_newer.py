"""What a worker does with work that a newer Roost wrote, which it can't read: nothing, and says so once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from roost.core.newer import LEFT_LONGEST_SECONDS, Newer, left_seconds
from roost.errors import SchemaTooNew
from roost.journal.events import Kind
from roost.journal.projection import LOST_DELIVERY_SECONDS
from roost.models import Snapshot, State, WorkItem
from roost.storage.ports import Message
from roost.storage.query import IndexQuery
from roost.testing.contract.process import Process, Scripted, counts_to
from tests.contract.test_local import LocalHarness


class Old(LocalHarness):
    """A store of today's Roost, in which a newer one has been at work as well."""

    def newer_wrote(self, work_id: str, position: int | None = None, **columns: object) -> None:
        """Make an entry (the last) one that only a newer Roost can have written."""
        columns = columns or {"format": 2, "kind": "mused", "event": b"\xff", "control": b"\xff"}
        change = ", ".join(f"{name} = :{name}" for name in columns)
        which = "(SELECT max(position) FROM journal WHERE work_id = :work_id)"
        with closing(sqlite3.connect(self.home / "roost.db")) as db, db:
            db.execute(
                f"UPDATE journal SET {change} WHERE work_id = :work_id AND position = ifnull(:at, {which})",
                {**columns, "work_id": work_id, "at": position},
            )

    def rows(self) -> list[tuple[object, ...]]:
        """All of the journals, byte for byte."""
        with closing(sqlite3.connect(self.home / "roost.db")) as db:
            return db.execute("SELECT * FROM journal ORDER BY seq").fetchall()

    def update_works(self, change: str) -> None:
        with closing(sqlite3.connect(self.home / "roost.db")) as db, db:
            db.execute(f"UPDATE works SET {change}")


@pytest.fixture
def store(tmp_path: Path) -> Old:
    return Old(tmp_path)


@pytest.fixture
async def process(store: Old) -> AsyncIterator[Process]:
    backend = await store.open()
    yield Process(store, backend, Scripted(counts_to(3)))
    await store.close()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings about work that is left."""
    return [one.getMessage() for one in caplog.records if getattr(one, "event", "") == "work.newer"]


LATER = [{"format": 2}, {"kind": "mused"}, {"body": b"x", "body_encoding": "lz9"}, {}]


@pytest.mark.parametrize("columns", LATER, ids=str)
async def test_it_is_left_as_it_is_and_told_of_once(
    store: Old, process: Process, caplog: pytest.LogCaptureFixture, columns: dict[str, object]
) -> None:
    work_id = await process.client.enqueue("demo")
    store.newer_wrote(work_id, **columns)
    before = store.rows()
    for _ in range(20):  # deliveries and sweeps, for twenty minutes
        await process.work()
        await process.sweeper.sweep()
        store.clock.advance(LEFT_LONGEST_SECONDS)
    assert store.rows() == before
    [line] = told(caplog)
    assert f"{work_id} is left to workers of a newer Roost: entry 0 of {work_id}" in line
    assert await process.backend.queue.dead_letters(10) == []


async def test_its_delivery_is_there_for_newer_workers_ever_later(store: Old, process: Process) -> None:
    work_id = await process.client.enqueue("demo")
    store.newer_wrote(work_id)
    for count, seconds in enumerate((5.0, 10.0, 20.0, 40.0, 60.0, 60.0), start=1):
        [delivery] = await process.receive()
        assert delivery.received_count == count
        await process.session(delivery).run()
        store.clock.advance(seconds - 0.5)
        assert await process.receive() == []
        store.clock.advance(0.5)
    assert left_seconds(100_000) == LEFT_LONGEST_SECONDS


async def test_its_due_row_is_there_for_newer_sweepers_soon(store: Old, process: Process) -> None:
    work_id = await process.client.enqueue("demo")
    store.newer_wrote(work_id)
    store.clock.advance(LOST_DELIVERY_SECONDS * 2)
    assert await process.sweeper.sweep() == 1
    assert await process.sweeper.sweep() == 0
    store.clock.advance(LEFT_LONGEST_SECONDS + 1)
    assert [row.work_id for row in await process.backend.index.due(store.clock.now())] == [work_id]


async def test_a_snapshot_in_the_midst_that_can_not_be_read_costs_no_attempt(
    store: Old, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """It was claimed before that was known: it is given up for a minute, again and again, and never fails."""

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.next(delay=1.0)

    process.engines = Process(store, process.backend, Scripted(step)).engines
    work_id = await process.client.enqueue("demo")
    await process.work()
    await process.client.signal(work_id, "go")
    store.newer_wrote(work_id, 2, format=2)
    for _ in range(15):
        store.clock.advance(LEFT_LONGEST_SECONDS + 1)
        await process.backend.queue.send([Message(work_id, 1 << 20)])
        await process.work()
    control = await process.client.control(work_id)
    assert (control.state, control.failures, control.interruptions) == (State.SCHEDULED, 0, 0)
    kinds = [row[5] for row in store.rows()][3:]
    assert kinds == [Kind.SIGNALED, *[Kind.CLAIMED, Kind.DEFERRED] * 15]
    assert len(told(caplog)) == 1


async def test_a_word_from_outside_that_can_not_be_read_ends_the_session_and_nothing_else(
    store: Old, process: Process
) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        entered.set()
        await go.wait()
        return snapshot.finish()

    process.engines = Process(store, process.backend, Scripted(step)).engines
    work_id = await process.client.enqueue("demo")
    task = await process.begin(entered)
    await process.client.signal(work_id, "go")
    store.newer_wrote(work_id)
    before = store.rows()
    go.set()
    await task
    assert store.rows() == before
    assert await process.receive() == []  # its lease goes to its end


async def test_the_feed_goes_on_past_it(
    store: Old, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    for work_id in ("a", "b", "c"):
        await process.client.enqueue("demo", work_id=work_id)
    store.newer_wrote("b")
    for newest in (False, True):
        page = await process.client.feed(None, newest=newest)
        assert [entry.work_id for entry in page.entries] == ["a", "c"]
        assert (await process.client.feed(page.cursor)).entries == []
    assert "entry 0 of b has format 2" in caplog.text


async def test_rows_in_states_that_are_not_known_stop_no_sweep(store: Old, process: Process) -> None:
    for work_id in ("a", "b"):
        await process.client.enqueue("demo", work_id=work_id)
    store.update_works("state = 'dreaming' WHERE work_id = 'a'")
    store.update_works("due_at = 0")
    assert [row.work_id for row in await process.backend.index.due(store.clock.now())] == ["b"]
    assert await process.backend.index.counts() == {State.QUEUED: 1}
    assert [row.work_id for row in (await process.backend.index.list(IndexQuery())).rows] == ["b"]
    with pytest.raises(SchemaTooNew, match=r"index row of a .*'dreaming'"):
        await process.backend.index.get("a")


def test_what_was_told_is_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.core.newer.TOLD_MAX", 2)
    newer = Newer()
    for number in range(5):
        newer.tell(f"w{number}", SchemaTooNew("format 2"))
    assert len(newer._told) == 1
