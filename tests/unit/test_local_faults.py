"""What happens to the local store from outside: forks, killed writers, a file that is taken away."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roost.errors import StorageError, StorageFull, StorageUnavailable
from roost.journal.control import apply
from roost.journal.entries import Body, Encoding, Entry
from roost.journal.events import Cancelled, Claimed, Committed, Enqueued, Event
from roost.models import Lane
from roost.storage.codec import encode_entry
from roost.storage.local import LocalBackend, journal, open_local, schema
from roost.storage.local.appends import append_one
from roost.storage.local.lock import TurnLock
from roost.storage.ports import Message, Renewal

AT = 1_700_000_000.0

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    opened = await open_local(tmp_path / "home")
    yield opened
    await opened.close()


def enqueued(work_id: str) -> Entry:
    event = Enqueued(engine="demo")
    control = apply(None, event, position=0, at=AT)
    return Entry(work_id, 0, f"{work_id}-0", AT, "client", event, control, Body(Encoding.JSON, b"{}"))


def after(entry: Entry, event: Event) -> Entry:
    position, at = entry.position + 1, entry.at + 1
    control = apply(entry.control, event, position=position, at=at)
    return Entry(entry.work_id, position, f"{entry.work_id}-{position}", at, "worker", event, control)


async def test_who_asks_while_no_turn_comes_gets_the_same_error_and_none_waits_for_ever(
    backend: LocalBackend, tmp_path: Path
) -> None:
    """A look at the queue serves all that ask until its turn; if none comes, it ends them all."""
    first = [await backend.journal.append(enqueued(f"w{number}")) for number in range(4)]
    claims = [after(entry, Claimed("worker", AT + 30)) for entry in first]
    other = TurnLock(tmp_path / "home" / "roost.lock")
    backend._writer._lock._wait_seconds = 0.05
    with other.turn():
        asked = [asyncio.create_task(backend.journal.append(claims[0]))]
        await asyncio.sleep(0)
        while backend._writer._asked:  # until the writer waits for its turn with it
            await asyncio.sleep(0)
        asked += [asyncio.create_task(backend.journal.append(claim)) for claim in claims[1:]]
        done, waiting = await asyncio.wait(asked, timeout=20)
    assert not waiting
    assert {type(task.exception()) for task in done} == {StorageUnavailable}
    other.close()
    assert await asyncio.gather(*map(backend.journal.append, claims)) == claims


async def test_a_fault_of_the_file_is_met_once_for_all_who_asked(
    backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each of hundreds would wait in its turn for somebody who holds the file."""
    first = await backend.journal.append_many([enqueued(f"w{number}") for number in range(20)])
    claims = [after(entry, Claimed("worker", AT + 30)) for entry in first]
    await backend._writer.submit(lambda db: db.execute("PRAGMA busy_timeout = 1"))
    lock, turns = backend._writer._lock, []
    turn = lock.turn
    monkeypatch.setattr(lock, "turn", lambda: turns.append(1) or turn())
    with closing(sqlite3.connect(tmp_path / "home" / "roost.db", isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        answers = await asyncio.gather(*map(backend.journal.append, claims), return_exceptions=True)
    assert {type(answer) for answer in answers} == {StorageUnavailable}
    assert len(turns) == 1
    assert await asyncio.gather(*map(backend.journal.append, claims)) == claims


_FORK_IN_A_TURN = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from roost.storage.local.lock import TurnLock
lock = TurnLock(Path(sys.argv[1]))
lock._take()
if child := os.fork():
    print(child, flush=True)
    os.kill(os.getpid(), 9)
time.sleep(60)
"""


@needs_fork
@pytest.mark.slow
def test_a_turn_ends_with_its_process_though_a_child_of_it_lives_on(tmp_path: Path) -> None:
    """An engine may fork, as `multiprocessing` does, and its worker be killed in the middle of a write."""
    command = [sys.executable, "-c", _FORK_IN_A_TURN, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            process.wait(20)
            lock = TurnLock(tmp_path / "lock", wait_seconds=2.0)
            with lock.turn():
                os.kill(child, 0)  # it is there
            lock.close()
        finally:
            os.kill(child, signal.SIGKILL)


_WRITE_IN_A_CHILD = """
import asyncio, os, sys
from pathlib import Path
from types import SimpleNamespace
from roost.errors import StorageError, StorageFull, StorageUnavailable
from roost.storage.local import open_local

async def opened():
    backend = await open_local(Path(sys.argv[1]))
    await backend.queue.send([])
    return backend

async def write():
    try:
        await asyncio.wait_for(backend.queue.send([]), 20)
    except StorageUnavailable as error:
        print(error.hint, flush=True)

backend = asyncio.run(opened())
if os.fork() == 0:
    asyncio.run(write())
    os._exit(0)
os.wait()
asyncio.run(backend.close())
"""


@needs_fork
@pytest.mark.slow
def test_a_child_of_who_opened_it_is_refused_and_does_not_wait_for_ever(tmp_path: Path) -> None:
    """The thread that writes is not in the child."""
    command = [sys.executable, "-W", "ignore", "-c", _WRITE_IN_A_CHILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("A process opens it after it was forked.\n", "")


async def test_a_file_that_was_replaced_is_written_and_waited_on_no_more(
    backend: LocalBackend, tmp_path: Path
) -> None:
    """A backup was put back while a worker runs: what it acknowledged would be in no file any more."""
    home = tmp_path / "home"
    entry = await backend.journal.append(enqueued("w"))
    claim = after(entry, Claimed("worker", AT + 30))
    shutil.copy(home / "roost.db", tmp_path / "backup")
    (home / "roost.db").rename(tmp_path / "aside")
    await _is_refused(backend, claim)  # it is gone
    shutil.copy(tmp_path / "backup", home / "roost.db")
    await _is_refused(backend, claim)  # it is another
    (tmp_path / "aside").replace(home / "roost.db")
    assert await backend.journal.append(claim) == claim


class Disk:
    """What a power cut would leave: contents that were synced, and names in directories that were."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lost: set[tuple[str, Path]] = set()
        self._paths: dict[int, Path] = {}
        mkdir, replace, fsync, opened = Path.mkdir, Path.replace, os.fsync, os.open

        def make(path: Path, *args: Any, **options: Any) -> None:
            is_new = not path.exists()
            mkdir(path, *args, **options)
            if is_new:
                self.lost.add(("name", path))

        def rename(path: Path, target: Path) -> Path:
            self.lost.discard(("name", path))
            if ("content", path) in self.lost:
                self.lost.add(("content", target))
            self.lost.add(("name", target))
            return replace(path, target)

        def sync(descriptor: int) -> None:
            fsync(descriptor)
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            self.lost = {
                (what, of) for what, of in self.lost if (of if what == "content" else of.parent) != path
            }

        def open_(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                self.lost |= {("name", Path(path)), ("content", Path(path))}
            return opened(path, flags, *args, **options)

        patch.setattr(Path, "mkdir", make)
        patch.setattr(Path, "replace", rename)
        patch.setattr(os, "fsync", sync)
        patch.setattr(os, "open", open_)


@pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="the system does not say what a descriptor is of"
)
@pytest.mark.parametrize("is_there", [False, True], ids=["", "its directory was made by one who died"])
async def test_a_blob_that_was_put_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    home = tmp_path / "new" / "home"
    digest = hashlib.sha256(b"x").hexdigest()
    if is_there:
        home.parent.mkdir()
    disk = Disk(monkeypatch)
    if is_there:
        (home / "artifacts" / digest[:2]).mkdir(parents=True)
    backend = await open_local(home)
    blob = await backend.artifacts.put([b"x"])
    await backend.close()
    path = home / "artifacts" / digest[:2] / digest
    assert blob.digest == digest
    assert not {lost for lost in disk.lost if lost[1] in (path, *path.parents)}


async def test_a_log_that_grew_beside_a_long_read_is_cut_when_that_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the disk stays as full as a backup, or who looks around with `sqlite3`, once made it."""
    monkeypatch.setattr(schema, "LOG_MAX_BYTES", 200_000)
    backend = await open_local(tmp_path / "home")
    log = tmp_path / "home" / "roost.db-wal"

    async def write(name: str) -> None:
        await backend._writer.submit(lambda db: db.execute("PRAGMA wal_autocheckpoint = 20"))
        for number in range(40):
            many = [enqueued(f"{name}-{number}-{one}") for one in range(20)]
            await backend.journal.append_many(many)

    with closing(sqlite3.connect(tmp_path / "home" / "roost.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM works").fetchall()
        await write("beside")
        grown_bytes = log.stat().st_size
        reader.execute("COMMIT")
    await write("after")
    assert grown_bytes > 400_000
    assert log.stat().st_size <= 200_000
    await backend.close()


async def test_expiry_looks_at_many_works_in_windows(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page is full whatever window its rows are in, and the last says that there is no more."""
    monkeypatch.setattr(journal, "WINDOW_ROWS", 3)
    works = await backend.journal.append_many([enqueued(f"w{number:02}") for number in range(20)])
    ends = [after(works[number], Cancelled("enough")) for number in (0, 4, 5, 6, 11, 17)]
    await asyncio.gather(*map(backend.journal.append, ends))
    await backend.journal.append(enqueued("newest"))
    pages = [await backend.journal.expire(AT + 9, limit=4) for _ in range(3)]
    assert [list(page) for page in pages] == [["w00", "w04", "w05", "w06"], ["w11", "w17"], []]


async def _is_refused(backend: LocalBackend, entry: Entry) -> None:
    with pytest.raises(StorageUnavailable, match="moved, deleted or replaced"):
        await backend.journal.append(entry)
    with pytest.raises(StorageUnavailable, match="moved, deleted or replaced"):
        await backend.queue.receive(1, visibility_seconds=30, wait_seconds=20, lanes=[Lane.NORMAL])
    with pytest.raises(StorageUnavailable, match="moved, deleted or replaced"):
        await backend.journal.feed("0")


@pytest.mark.parametrize("together", [True, False], ids=["one statement", "a transaction"])
@pytest.mark.parametrize("room_bytes", [0, 20_000, 90_000], ids=["at once", "soon", "late"])
async def test_a_write_that_fails_half_way_is_undone_and_can_be_made_again(
    backend: LocalBackend, tmp_path: Path, together: bool, room_bytes: int
) -> None:
    """What was refused is not there, and the same append settles it, whichever way it was written."""
    resource = pytest.importorskip("resource")
    home = tmp_path / "home"
    first = await backend.journal.append_many([enqueued(f"w{number:02}") for number in range(60)])
    claims = [after(entry, Claimed("worker" * 300, AT + 30)) for entry in first]
    log_bytes = (home / "roost.db-wal").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log_bytes + room_bytes, before[1]))
    try:
        asked = [backend.journal.append(claim) for claim in claims]
        asked += [] if together else [backend.queue.send([Message("w00", 1, Lane.NORMAL)])]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {type(answer) for answer in answers} == {StorageUnavailable}
    other = await open_local(home)
    assert [await other.journal.tail(entry.work_id) for entry in first] == first
    assert await other.queue.backlog() == 0
    await other.close()
    assert await asyncio.gather(*map(backend.journal.append, claims)) == claims


@pytest.mark.parametrize("is_alone", [False, True], ids=["together", "alone"])
async def test_a_commit_does_not_take_back_what_a_heartbeat_gave(
    backend: LocalBackend, is_alone: bool
) -> None:
    """A clock that jumps back would else hand a living worker's lease to the next one."""
    entry = await backend.journal.append(enqueued("w"))
    entry = await backend.journal.append(after(entry, Claimed("worker", AT + 30)))
    assert await backend.index.renew([Renewal("w", entry.position, AT + 90, AT + 91, (0.5, "half"))]) == [
        True
    ]
    step = after(entry, Committed(1, "next", lease_until=AT + 60))
    if is_alone:
        await backend._writer.submit(lambda db: append_one(db, step, encode_entry(step)))
    else:
        await backend.journal.append(step)
    row = await backend.index.get("w")
    assert row is not None
    assert (row.position, row.lease_until, row.due_at) == (step.position, AT + 90, AT + 91)
    assert row.progress is None  # it was that of the step which is over


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["torn", "flipped"])
async def test_a_log_that_is_damaged_at_its_end_leaves_whole_commits(
    backend: LocalBackend, tmp_path: Path, damage: str
) -> None:
    """As after a power cut: what is left is what stood at some instant, an entry always with its row."""
    entries = [await backend.journal.append(enqueued("w"))]
    entries.append(await backend.journal.append(after(entries[0], Claimed("worker", AT + 30))))
    for version in range(1, 9):
        step = Committed(version, f"step {version}", lease_until=AT + 30 + version)
        entries.append(await backend.journal.append(after(entries[-1], step)))
    log = (tmp_path / "home" / "roost.db-wal").read_bytes()
    left = []
    for number, place in enumerate(range(len(log) // 4, len(log), len(log) // 13)):
        home = tmp_path / f"copy-{number}"
        home.mkdir()
        shutil.copy(tmp_path / "home" / "roost.db", home)
        flipped = log[:place] + bytes([log[place] ^ 1]) + log[place + 1 :]
        (home / "roost.db-wal").write_bytes(log[:place] if damage == "torn" else flipped)
        copy = await open_local(home)
        found = list(await copy.journal.read("w"))
        row = await copy.index.get("w")
        assert found == entries[: len(found)]
        assert (row.position if row else -1) == len(found) - 1
        again = [await copy.journal.append(entry) for entry in entries]
        assert again == entries  # it goes on from there
        await copy.close()
        left.append(len(found))
    assert left == sorted(left)
    assert len(set(left)) > 3


@pytest.mark.parametrize(
    ("free", "expected"), [(0, StorageFull), (60_000, StorageFull), (1 << 30, StorageUnavailable)]
)
def test_an_input_output_error_of_a_full_disk_says_that_it_is_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, expected: type[StorageError]
) -> None:
    """SQLite has no room for its shared memory, and calls that a `disk I/O error`."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_SHMSIZE"
    assert type(schema.translate(error, tmp_path / "roost.db")) is expected
