"""What is special to the local backend: its file, its writer thread, its doorbell, its blobs.

The contract of the ports is tested elsewhere, for every backend alike.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from roost.errors import (
    ArtifactNotFound,
    InputError,
    SchemaTooNew,
    StorageCorrupt,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
)
from roost.journal.claims import Acquired, Ask, Owner, Want
from roost.journal.control import apply
from roost.journal.entries import Body, Encoding, Entry
from roost.journal.events import Cancelled, Claimed, Committed, Enqueued, Event, Retried
from roost.journal.projection import project
from roost.models import Lane
from roost.storage.local import LocalBackend, open_local
from roost.storage.local.artifacts import LEFT_BEHIND_SECONDS
from roost.storage.local.lock import TurnLock
from roost.storage.local.wake import wake_directory
from roost.storage.ports import Delivery, Message
from roost.storage.query import IndexQuery

DEADLINE_SECONDS = 20.0
LANES = [Lane.HIGH, Lane.NORMAL, Lane.LOW]
AT = 1_700_000_000.0

needs_posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="file modes and sockets of POSIX")


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    opened = await open_local(tmp_path / "home")
    yield opened
    await opened.close()


@pytest.fixture
def turn(backend: LocalBackend, tmp_path: Path) -> Iterator[TurnLock]:
    """The lock of another process; while it has its turn, the writer of `backend` waits."""
    lock = TurnLock(tmp_path / "home" / "roost.lock")
    yield lock
    lock.close()


def enqueued(work_id: str, body: bytes = b"{}") -> Entry:
    event = Enqueued(engine="demo")
    control = apply(None, event, position=0, at=AT)
    return Entry(work_id, 0, f"{work_id}-0", AT, "client", event, control, Body(Encoding.JSON, body))


def after(entry: Entry, event: Event) -> Entry:
    position, at = entry.position + 1, entry.at + 1
    control = apply(entry.control, event, position=position, at=at)
    return Entry(entry.work_id, position, f"{entry.work_id}-{position}", at, "worker", event, control)


async def receive(backend: LocalBackend, wait_seconds: float = DEADLINE_SECONDS) -> list[Delivery]:
    return list(
        await backend.queue.receive(10, visibility_seconds=30, wait_seconds=wait_seconds, lanes=LANES)
    )


class TestWriter:
    async def test_what_waits_together_is_committed_together(
        self, backend: LocalBackend, turn: TurnLock
    ) -> None:
        statements: list[str] = []
        await backend._writer.submit(lambda db: db.set_trace_callback(statements.append))
        statements.clear()
        entries = [enqueued(f"w{number}") for number in range(200)]
        with turn.turn():
            tasks = [asyncio.create_task(backend.journal.append(entry)) for entry in entries]
            await asyncio.sleep(0)  # every append has been handed to the writer
        assert await asyncio.gather(*tasks) == entries
        assert statements.count("COMMIT") == 1

    async def test_what_workers_write_is_one_statement_whatever_it_is(
        self, backend: LocalBackend, turn: TurnLock
    ) -> None:
        """A claim, commits inside bursts, the end of work and of deliveries: with no BEGIN around it."""
        first = await backend.journal.append_many([enqueued(f"w{number:02}") for number in range(40)])
        await backend.queue.send([Message(entry.work_id, 0, Lane.NORMAL) for entry in first[:9]])
        deliveries = await receive(backend)
        claims = [after(entry, Claimed("worker", AT + 30)) for entry in first]
        await asyncio.gather(*map(backend.journal.append, claims[1:]))
        steps = [after(entry, Committed(1, "next", lease_until=AT + 60)) for entry in claims[2:]]
        end = after(claims[1], Committed(1, "end", is_finished=True))
        statements: list[str] = []
        await backend._writer.submit(lambda db: db.set_trace_callback(statements.append))
        statements.clear()
        with turn.turn():
            tasks = [asyncio.create_task(backend.journal.append(e)) for e in (claims[0], end, *steps)]
            tasks.append(asyncio.create_task(backend.queue.acknowledge(deliveries)))
            await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [claims[0], end, *steps, None]
        (statement,) = set(statements)  # it is told again for each row's trigger
        assert statement.startswith("INSERT INTO batch")
        for entry in (claims[0], end):
            assert await backend.index.get(entry.work_id) == project(entry)
        assert await backend.queue.backlog() == 0
        assert await receive(backend, wait_seconds=0) == []

    async def test_a_bad_entry_in_a_batch_fails_alone(self, backend: LocalBackend, turn: TurnLock) -> None:
        """One would leave a gap, one can't be stored as text; an acknowledgement is stale."""
        first = await backend.journal.append_many([enqueued(f"w{number:02}") for number in range(40)])
        held = [await backend.journal.append(after(e, Claimed("worker", AT + 30))) for e in first]
        steps = [after(entry, Committed(1, "next", lease_until=AT + 60)) for entry in held]
        far = after(steps[3], Committed(2, "far", lease_until=AT + 60))
        asked = [*steps[:3], far, replace(steps[4], actor="\ud800"), *steps[5:]]
        with turn.turn():
            tasks = [asyncio.create_task(backend.journal.append(entry)) for entry in asked]
            stale = backend.queue.acknowledge([Delivery("w00", 0, Lane.NORMAL, "7.gone")])
            tasks.append(asyncio.create_task(stale))
            await asyncio.sleep(0)
        *stand, nothing = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(stand[3], StorageError)
        assert isinstance(stand[4], UnicodeEncodeError)
        assert nothing is None
        for number, entry in enumerate(steps):
            is_bad = number in (3, 4)
            assert is_bad or stand[number] == entry
            assert await backend.journal.tail(entry.work_id) == (held[number] if is_bad else entry)
            row = await backend.index.get(entry.work_id)
            assert row is not None
            assert row.position == (1 if is_bad else 2)

    async def test_an_operation_at_fault_fails_alone_and_leaves_nothing(
        self, backend: LocalBackend, turn: TurnLock
    ) -> None:
        entries = [enqueued(f"w{number}") for number in range(20)]
        with turn.turn():
            before = [asyncio.create_task(backend.journal.append(entry)) for entry in entries[:10]]
            bad = backend.claims.acquire(
                Ask(Owner("w", 1), (Want("good"), Want("\ud800"))), now=AT, overtake_before=0
            )
            at_fault = asyncio.create_task(bad)
            behind = [asyncio.create_task(backend.journal.append(entry)) for entry in entries[10:]]
            await asyncio.sleep(0)
        assert await asyncio.gather(*before, *behind) == entries
        with pytest.raises(UnicodeEncodeError):
            await at_fault
        assert await backend.claims.show() == []
        assert [e.work_id for e in (await backend.journal.feed(None)).entries] == [e.work_id for e in entries]

    async def test_an_operation_whose_caller_went_away_is_done(
        self, backend: LocalBackend, turn: TurnLock
    ) -> None:
        with turn.turn():
            task = asyncio.create_task(backend.journal.append(enqueued("w")))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await backend.journal.append(enqueued("other"))).work_id == "other"
        assert await backend.journal.tail("w") is not None

    async def test_a_frozen_process_does_not_freeze_the_others(
        self, backend: LocalBackend, turn: TurnLock
    ) -> None:
        backend._writer._lock._wait_seconds = 0.01
        with turn.turn(), pytest.raises(StorageUnavailable, match="another process"):
            await backend.journal.append(enqueued("w"))
        assert await backend.journal.append(enqueued("w")) == enqueued("w")

    async def test_a_locked_file_is_unavailable_and_then_works(
        self, backend: LocalBackend, tmp_path: Path
    ) -> None:
        await backend._writer.submit(lambda db: db.execute("PRAGMA busy_timeout = 10"))
        with closing(sqlite3.connect(tmp_path / "home" / "roost.db", isolation_level=None)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match="locked"):
                await backend.journal.append(enqueued("w"))
            foreign.execute("ROLLBACK")
        assert await backend.journal.append(enqueued("w")) == enqueued("w")

    async def test_a_full_disk_keeps_what_was_acknowledged_and_works_again(
        self, backend: LocalBackend
    ) -> None:
        await backend.journal.append(enqueued("kept"))
        pages = await backend._writer.submit(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
        await backend._writer.submit(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 8}").fetchall())
        big = enqueued("big", b"x" * 100_000)
        with pytest.raises(StorageFull) as caught:
            await backend.journal.append(big)
        assert "free some room" in caught.value.hint
        assert await backend.journal.tail("kept") == enqueued("kept")
        assert await backend.journal.tail("big") is None
        assert await backend.index.get("big") is None
        await backend._writer.submit(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchall())
        assert await backend.journal.append(big) is big

    async def test_close_finishes_what_was_asked_for(self, tmp_path: Path) -> None:
        backend = await open_local(tmp_path)
        task = asyncio.create_task(backend.journal.append(enqueued("w")))
        await asyncio.sleep(0)
        await backend.close()
        assert await task == enqueued("w")
        await backend.close()
        with pytest.raises(StorageUnavailable, match="closed"):
            await backend.journal.append(enqueued("late"))
        with pytest.raises(StorageUnavailable):
            await backend.journal.tail("w")
        assert not (tmp_path / "roost.db-wal").exists()


class TestFile:
    async def test_a_newer_schema_is_refused_by_both_versions(self, tmp_path: Path) -> None:
        await (await open_local(tmp_path)).close()
        with closing(sqlite3.connect(tmp_path / "roost.db")) as db, db:
            db.execute("UPDATE meta SET value = '99' WHERE key = 'version'")
        with pytest.raises(SchemaTooNew, match=r"version 99.* up to 1") as caught:
            await open_local(tmp_path)
        assert "Upgrade" in caught.value.hint

    async def test_tables_that_another_roost_made_are_told_as_such(self, tmp_path: Path) -> None:
        """As of a file from before the first release, whose columns were others under the same number."""
        backend = await open_local(tmp_path)
        with closing(sqlite3.connect(tmp_path / "roost.db")) as db, db:
            db.execute("ALTER TABLE works RENAME COLUMN labels TO marks")
        with pytest.raises(StorageError, match="no such column: labels") as caught:
            await backend.index.get("w")
        assert "Another Roost made this file" in caught.value.hint
        await backend.close()

    async def test_a_file_that_is_no_database_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "roost.db").write_bytes(b"not a database " * 1000)
        with pytest.raises(StorageCorrupt, match=r"roost\.db") as caught:
            await open_local(tmp_path)
        assert "doctor" in caught.value.hint

    async def test_a_second_opening_in_one_process_does_not_take_the_first_one_s_locks(
        self, tmp_path: Path
    ) -> None:
        """Else whoever closes next removes the log that the first goes on writing to."""
        first = await open_local(tmp_path)
        await first.journal.append(enqueued("a"))
        await (await open_local(tmp_path)).close()
        look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM works').fetchone()"
        subprocess.run([sys.executable, "-S", "-c", look, str(tmp_path / "roost.db")], check=True, timeout=30)
        assert (tmp_path / "roost.db-wal").exists(), "another process took itself for the last user"
        await first.journal.append(enqueued("b"))
        with closing(sqlite3.connect(tmp_path / "roost.db")) as other:
            assert other.execute("SELECT count(*) FROM works").fetchone() == (2,)
        await first.close()

    async def test_damaged_pages_are_a_finding(self, tmp_path: Path) -> None:
        backend = await open_local(tmp_path)
        await backend.journal.append_many([enqueued(f"w{number}", b"x" * 900) for number in range(100)])
        await backend.close()
        path = tmp_path / "roost.db"
        with closing(sqlite3.connect(path)) as db:
            sql = "SELECT rootpage FROM sqlite_master WHERE name IN ('journal', 'works')"
            pages = [page for (page,) in db.execute(sql)]
        with path.open("r+b") as file:
            for page in pages:
                file.seek((page - 1) * 4096)
                file.write(b"\xff" * 4096)
        backend = await open_local(tmp_path)
        try:
            findings = {finding.name: finding for finding in await backend.check()}
            assert not findings["database"].is_ok
            assert str(path) in findings["database"].detail
            with pytest.raises(StorageCorrupt, match=r"roost\.db"):
                await backend.journal.append(enqueued("w"))
        finally:
            await backend.close()

    async def test_a_sound_store_has_no_finding(self, backend: LocalBackend) -> None:
        findings = {finding.name: finding for finding in await backend.check()}
        assert {"directory", "database", "schema", "disk", "durability", "write", "artifacts"} == set(
            findings
        )
        assert "journal_mode=wal, synchronous=FULL" in findings["durability"].detail
        assert all(finding.is_ok for name, finding in findings.items() if name != "disk")

    async def test_a_path_that_is_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        for path in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(StorageReadOnly) as caught:
                await open_local(path)
            assert "directory" in caught.value.hint
        assert (tmp_path / "file").read_text() == "mine"

    @needs_posix
    async def test_a_database_behind_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "roost.db").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StorageReadOnly) as caught:
            await open_local(tmp_path / "home")
        assert "link" in caught.value.hint
        assert not (tmp_path / "elsewhere").exists()

    @needs_posix
    @pytest.mark.slow
    def test_a_read_only_directory_is_refused_with_a_hint(self) -> None:
        """In a process of its own: root may write anywhere, so root tries it as nobody."""
        with tempfile.TemporaryDirectory() as name:
            Path(name).chmod(0o555)
            code = _TRY_TO_OPEN.format(path=sys.path, home=name)
            done = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                timeout=DEADLINE_SECONDS,
                check=True,
                cwd="/",
            )
            assert done.stdout.split("|") == ["StorageReadOnly", f"{name}/roost.lock", "True\n"]
            assert os.listdir(name) == []

    @needs_posix
    async def test_nobody_else_may_read(self, backend: LocalBackend, tmp_path: Path) -> None:
        await backend.journal.append(enqueued("w"))
        await backend.artifacts.put([b"x"])
        await receive(backend, wait_seconds=0)
        for path in [tmp_path / "home", *(tmp_path / "home").rglob("*")]:
            mode = path.lstat().st_mode
            if not stat.S_ISSOCK(mode):  # who can't enter its directory can't reach a socket
                assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path

    async def test_two_backends_share_one_home(self, backend: LocalBackend, tmp_path: Path) -> None:
        other = await open_local(tmp_path / "home")
        try:
            mine, theirs = enqueued("w"), replace(enqueued("w"), entry_id="theirs")
            stand = await asyncio.gather(backend.journal.append(mine), other.journal.append(theirs))
            assert stand[0] == stand[1]
            assert await backend.journal.tail("w") == await other.journal.tail("w") == stand[0]
        finally:
            await other.close()


_TRY_TO_OPEN = """
import asyncio, os, sys
from pathlib import Path
sys.path[:] = {path!r}
from roost.errors import RoostError
from roost.storage.local import open_local
asyncio.run(asyncio.to_thread(int))  # imports what comes late, while this user may read it
if os.getuid() == 0:
    os.setuid(65534)
try:
    asyncio.run(open_local(Path({home!r})))
except RoostError as error:
    print(type(error).__name__, str(error).partition(":")[0], bool(error.hint), sep="|")
"""


class TestJournal:
    async def test_the_row_is_written_with_the_entry(self, backend: LocalBackend) -> None:
        entry = await backend.journal.append(enqueued("w"))
        assert await backend.index.get("w") == project(entry)
        entry = await backend.journal.append(after(entry, Claimed("worker", AT + 30)))
        assert await backend.index.get("w") == project(entry)

    async def test_a_commit_in_a_burst_moves_all_of_the_row_but_its_due_time(
        self, backend: LocalBackend
    ) -> None:
        entry = await backend.journal.append(enqueued("w"))
        entry = await backend.journal.append(after(entry, Claimed("worker", AT + 30)))
        due_at = project(entry).due_at
        entry = await backend.journal.append(after(entry, Committed(0, "next", lease_until=AT + 60)))
        assert await backend.index.get("w") == replace(project(entry), due_at=due_at)

    async def test_many_commits_at_once_are_as_one_by_one(self, backend: LocalBackend) -> None:
        """91 rows are one statement, filled up to 128; some have lost, moved or come twice."""
        names = [f"w{number:02}" for number in range(91)]
        first = await backend.journal.append_many([enqueued(name) for name in names])
        held = [await backend.journal.append(after(e, Claimed("worker", AT + 30))) for e in first]
        steps = [after(entry, Committed(0, "next", lease_until=AT + 60)) for entry in held]
        theirs = replace(after(held[70], Claimed("rival", AT + 90)), entry_id="theirs")
        rival = await backend.journal.append(theirs)
        await backend.index.put(replace(project(steps[75]), position=9))  # ahead of its journal
        again, follows = steps[3], after(steps[5], Committed(1, "far", lease_until=AT + 60))
        asked = [*steps, again, follows]
        stand = await asyncio.gather(*(backend.journal.append(entry) for entry in asked))
        assert stand == [rival if entry == steps[70] else entry for entry in asked]
        for number, name in enumerate(names):
            tail = await backend.journal.tail(name)
            assert tail == {5: follows, 70: rival}.get(number, steps[number])
            row = await backend.index.get(name)
            if number == 75:
                assert row.position == 9
            else:
                due_at = project(tail if number == 70 else held[number]).due_at
                assert row == replace(project(tail), due_at=due_at)

    async def test_a_gap_among_many_fails_alone(self, backend: LocalBackend) -> None:
        first = await backend.journal.append_many([enqueued(name) for name in "abcd"])
        held = [await backend.journal.append(after(e, Claimed("worker", AT + 30))) for e in first]
        steps = [after(entry, Committed(0, "next", lease_until=AT + 60)) for entry in held]
        lost = after(steps[2], Committed(1, "far", lease_until=AT + 60))
        asked = [steps[0], steps[1], lost, steps[3]]
        stand = await asyncio.gather(*map(backend.journal.append, asked), return_exceptions=True)
        assert [stand[0], stand[1], stand[3]] == [steps[0], steps[1], steps[3]]
        assert isinstance(stand[2], StorageError)
        assert await backend.journal.tail("c") == held[2]

    async def test_a_gap_is_refused_and_not_written(self, backend: LocalBackend) -> None:
        entry = await backend.journal.append(enqueued("w"))
        lost = after(entry, Claimed("worker", AT + 30))
        with pytest.raises(StorageError, match="gap before position 2"):
            await backend.journal.append(after(lost, Committed(0, "s")))
        with pytest.raises(StorageError, match="gap before position 1"):
            await backend.journal.append(replace(lost, work_id="unknown"))
        assert await backend.journal.tail("w") == entry

    async def test_a_row_may_come_before_its_journal(self, backend: LocalBackend) -> None:
        """A row put by hand, or left by an expiry that was cut short, is no entry."""
        for name, entries in (("a", [enqueued("a")]), ("b", [enqueued("b"), enqueued("c")])):
            await backend.index.put(project(enqueued(name)))
            assert await backend.journal.append_many(entries) == entries
            assert await backend.journal.append(enqueued(name)) == enqueued(name)

    async def test_append_many_gives_each_what_stands(self, backend: LocalBackend) -> None:
        standing = await backend.journal.append(enqueued("b"))
        rivals = [replace(enqueued(name), entry_id=f"rival-{name}") for name in "abc"]
        assert await backend.journal.append_many(rivals) == [rivals[0], standing, rivals[2]]
        assert await backend.journal.append_many([]) == []

    async def test_numbers_that_cursors_count_on_never_come_again(self, backend: LocalBackend) -> None:
        """SQLite would give the numbers of the newest rows to what comes next."""
        for name in "abc":
            entry = await backend.journal.append(enqueued(name))
            await backend.journal.append(after(entry, Cancelled("enough")))
        revived = await backend.journal.append(enqueued("d"))
        await backend.journal.append(after(await backend.journal.tail("a"), Retried("again")))
        await backend.journal.append(after(await backend.journal.tail("a"), Cancelled("no")))
        cursor = (await backend.journal.feed(None)).cursor
        assert await backend.journal.expire(AT + 1e9) == ["b", "c"]  # "a" holds the newest entry
        live = await backend.journal.append(enqueued("e"))
        await backend.journal.append(after(revived, Cancelled("no")))
        page = await backend.journal.feed(cursor)
        assert [entry.work_id for entry in page.entries] == ["e", "d"]
        assert await backend.journal.expire(AT + 1e9) == ["a"]
        await backend.journal.append(after(await backend.journal.append(enqueued("f")), Cancelled("no")))
        await backend.journal.append(after(live, Claimed("worker", AT + 30)))
        assert await backend.journal.expire(AT + 1e9) == ["d"]  # "f" has the newest row

    async def test_append_many_keeps_the_order(self, backend: LocalBackend) -> None:
        names = [f"w{number}" for number in range(150)]
        entries = [enqueued(name) for name in names]
        assert await backend.journal.append_many(entries) == entries
        assert [entry.work_id for entry in (await backend.journal.feed(None, limit=200)).entries] == names
        page = await backend.index.list(IndexQuery(), limit=200)
        assert [row.work_id for row in page.rows] == names[::-1]

    async def test_a_cursor_from_elsewhere_is_refused(self, backend: LocalBackend) -> None:
        for cursor in ("x", "-1", "9" * 30):
            with pytest.raises(InputError):
                await backend.journal.feed(cursor)
            with pytest.raises(InputError):
                await backend.index.list(IndexQuery(), cursor=cursor)


class TestQueue:
    async def test_an_old_receipt_does_not_fit_a_new_message(self, backend: LocalBackend) -> None:
        """SQLite gives the id of a deleted row to the next one."""
        await backend.queue.send([Message("old", 0)])
        [old] = await receive(backend)
        await backend.queue.acknowledge([old])
        await backend.queue.send([Message("new", 0)])
        [new] = await receive(backend)
        await backend.queue.acknowledge([old])
        await backend.queue.put_back(old, 0)
        assert await backend.queue.extend([old, new], 30) == [False, True]

    async def test_a_foreign_receipt_names_nothing(self, backend: LocalBackend) -> None:
        foreign = [Delivery("w", 0, Lane.NORMAL, receipt) for receipt in ("", "x", "1", "-1.x", "9" * 40)]
        await backend.queue.send([Message("w", 0)])
        await backend.queue.acknowledge(foreign)
        assert await backend.queue.extend(foreign, 30) == [False] * len(foreign)
        assert len(await receive(backend)) == 1

    async def test_a_cancelled_receive_gives_back_what_it_took(
        self, backend: LocalBackend, turn: TurnLock
    ) -> None:
        await backend.queue.send([Message("w", 0)])
        with turn.turn():
            task = asyncio.create_task(receive(backend))
            await asyncio.sleep(0)  # it has asked the writer for the message
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        [delivery] = await receive(backend)
        assert (delivery.work_id, delivery.received_count) == ("w", 2)

    async def test_a_receive_cancelled_before_a_close_loses_nothing(self, tmp_path: Path) -> None:
        backend = await open_local(tmp_path)
        await backend.queue.send([Message("w", 0)])
        task = asyncio.create_task(receive(backend))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await backend.close()
        backend = await open_local(tmp_path)
        try:
            assert len(await receive(backend, wait_seconds=0)) == 1
        finally:
            await backend.close()

    async def test_every_waiting_receiver_is_woken(self, backend: LocalBackend) -> None:
        waiting = [
            asyncio.create_task(
                backend.queue.receive(
                    1, visibility_seconds=30, wait_seconds=DEADLINE_SECONDS, lanes=[Lane.NORMAL]
                )
            )
            for _ in range(5)
        ]
        await asyncio.sleep(0)
        await backend.queue.send([Message(f"w{number}", 0) for number in range(5)])
        taken = [delivery.work_id for got in await asyncio.gather(*waiting) for delivery in got]
        assert sorted(taken) == [f"w{number}" for number in range(5)]


@needs_posix
class TestDoorbell:
    @pytest.mark.slow
    async def test_a_send_wakes_another_process(self, backend: LocalBackend, tmp_path: Path) -> None:
        """The other process polls once a minute here, so only the doorbell can have woken it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _RECEIVE_ONE.format(path=sys.path, home=str(tmp_path / "home")),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.stdout.readline() == b"listening\n"
            await backend.queue.send([Message("w", 0)])
            assert await process.stdout.readline() == b"received w\n"
            assert await process.wait() == 0

    async def test_a_dead_socket_is_cleared_away_and_a_file_is_not(
        self, backend: LocalBackend, tmp_path: Path
    ) -> None:
        await receive(backend, wait_seconds=0)
        directory = wake_directory(tmp_path / "home")
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        dead.bind(str(directory / "dead"))
        dead.close()
        (directory / "file").write_text("mine")
        await backend.queue.send([Message("w", 0)])
        assert not (directory / "dead").exists()
        assert (directory / "file").read_text() == "mine"

    async def test_a_long_path_has_its_sockets_elsewhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as short:
            monkeypatch.setattr(tempfile, "tempdir", short)
            home = tmp_path / ("x" * 100)
            backend = await open_local(home)
            try:
                await receive(backend, wait_seconds=0)
                directory = wake_directory(home)
                assert directory.parent == Path(short)
                assert stat.S_IMODE(directory.stat().st_mode) == 0o700
                assert len(os.listdir(directory)) == 1
            finally:
                await backend.close()
            assert os.listdir(directory) == []

    async def test_a_directory_of_somebody_else_is_not_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "trap").mkdir()
        (tmp_path / "home").mkdir(mode=0o700)
        wake_directory(tmp_path / "home").symlink_to(tmp_path / "trap")
        backend = await open_local(tmp_path / "home")
        try:
            await backend.queue.send([Message("w", 0)])
            assert len(await receive(backend, wait_seconds=0)) == 1
        finally:
            await backend.close()
        assert os.listdir(tmp_path / "trap") == []


_RECEIVE_ONE = """
import asyncio, sys
from pathlib import Path
sys.path[:] = {path!r}
from roost.models import Lane
from roost.storage.local import open_local, wake

async def main():
    wake.POLL_SECONDS = 60.0
    backend = await open_local(Path({home!r}))
    backend._bell.listen()
    print("listening", flush=True)
    got = await backend.queue.receive(1, visibility_seconds=30, wait_seconds=60, lanes=[Lane.NORMAL])
    print("received", got[0].work_id, flush=True)
    await backend.close()

asyncio.run(main())
"""


async def read_into(got: list[bytes], backend: LocalBackend, digest: str) -> None:
    async for chunk in backend.artifacts.read(digest):
        got.append(chunk)  # noqa: PERF401  what came before an error counts


class TestArtifacts:
    async def test_what_a_killed_writer_left_is_swept_a_day_later(
        self, backend: LocalBackend, tmp_path: Path
    ) -> None:
        """By the first put of a process; a blob that is being written stays."""
        directory = tmp_path / "home" / "artifacts"
        directory.mkdir()
        left, at_work = directory / ".new-left", directory / ".new-at-work"
        for path in (left, at_work):
            path.write_bytes(b"half of a bl")
        now = left.stat().st_mtime
        os.utime(left, (now, now - LEFT_BEHIND_SECONDS - 60))
        os.utime(at_work, (now, now - LEFT_BEHIND_SECONDS + 60))
        blob = await backend.artifacts.put([b"abc"])
        assert {path.name for path in directory.rglob("*") if path.is_file()} == {at_work.name, blob.digest}

    async def test_a_flipped_byte_is_never_given_out_whole(
        self, backend: LocalBackend, tmp_path: Path
    ) -> None:
        content = os.urandom(700_000)
        blob = await backend.artifacts.put([content])
        [path] = (tmp_path / "home" / "artifacts").rglob(blob.digest)
        damaged = bytearray(content)
        damaged[-1] ^= 1
        path.write_bytes(damaged)
        got: list[bytes] = []
        with pytest.raises(StorageCorrupt, match=blob.digest):
            await read_into(got, backend, blob.digest)
        assert 0 < len(b"".join(got)) < len(content)
        assert content.startswith(b"".join(got))

        assert await backend.artifacts.put([content]) == blob  # and a new put heals it
        healed: list[bytes] = []
        await read_into(healed, backend, blob.digest)
        assert b"".join(healed) == content

    async def test_the_same_content_is_one_file(self, backend: LocalBackend, tmp_path: Path) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(1000):
                yield b"abc"

        first = await backend.artifacts.put([b"abc" * 1000])
        assert await backend.artifacts.put(pieces()) == first
        assert first.digest == hashlib.sha256(b"abc" * 1000).hexdigest()
        assert await backend.artifacts.size(first.digest) == first.size_bytes == 3000
        files = [path for path in (tmp_path / "home" / "artifacts").rglob("*") if path.is_file()]
        assert [path.name for path in files] == [first.digest]

    async def test_a_put_that_breaks_off_leaves_nothing(self, backend: LocalBackend, tmp_path: Path) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"x" * 1_000_000
            raise ConnectionError("the source went away")

        with pytest.raises(ConnectionError):  # as it is: the storage has not failed
            await backend.artifacts.put(pieces())
        assert [path for path in (tmp_path / "home" / "artifacts").rglob("*") if path.is_file()] == []

    async def test_a_digest_never_becomes_another_path(self, backend: LocalBackend, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        for digest in ("../../secret", "a" * 63, "A" * 64, "a" * 64 + "\n", "", "é" * 64):
            assert await backend.artifacts.size(digest) is None
            with pytest.raises(ArtifactNotFound):
                await anext(aiter(backend.artifacts.read(digest)))

    @needs_posix
    async def test_a_link_at_a_blobs_place_is_replaced_not_followed(
        self, backend: LocalBackend, tmp_path: Path
    ) -> None:
        digest = hashlib.sha256(b"abc").hexdigest()
        place = tmp_path / "home" / "artifacts" / digest[:2] / digest
        place.parent.mkdir(parents=True, mode=0o700)
        (tmp_path / "target").write_text("xyz")
        place.symlink_to(tmp_path / "target")
        await backend.artifacts.put([b"abc"])
        assert (tmp_path / "target").read_text() == "xyz"
        assert place.read_bytes() == b"abc"


async def test_claims_outlive_the_process(tmp_path: Path) -> None:
    backend = await open_local(tmp_path)
    owner = Owner("w", 3)
    ask = Ask(owner, (Want("a"), Want("b")))
    assert await backend.claims.acquire(ask, now=AT, overtake_before=0) == Acquired()
    await backend.close()
    backend = await open_local(tmp_path)
    try:
        assert [view.owners for view in await backend.claims.show()] == [[owner], [owner]]
    finally:
        await backend.close()
