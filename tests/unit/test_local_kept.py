"""Versions that stay, in a file of SQLite that was made before there were any."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from roost.journal.control import apply
from roost.journal.entries import Body, Control, Encoding, Entry
from roost.journal.events import Cancelled, Claimed, Committed, Enqueued, Event
from roost.storage.local import open_local

EVENTS: tuple[Event, ...] = (
    Enqueued("demo"),
    Claimed("w", 60.0),
    Committed(1, "one", lease_until=60.0),
    Committed(2, "two", lease_until=60.0),
    Cancelled("enough"),
)


def journal(work_id: str) -> list[Entry]:
    entries: list[Entry] = []
    control: Control | None = None
    for position, event in enumerate(EVENTS):
        control = apply(control, event, position=position, at=float(position))
        body = Body(Encoding.JSON, b"{}") if isinstance(event, Enqueued | Committed) else None
        entry_id = f"{work_id}-{position}"
        entries.append(Entry(work_id, position, entry_id, float(position), "w", event, control, body))
    return entries


async def test_a_file_of_before_gets_what_it_lacks(tmp_path: Path) -> None:
    home = tmp_path / "home"
    opened = await open_local(home)
    for entry in journal("w"):
        await opened.journal.append(entry)
    await opened.close()
    with closing(sqlite3.connect(home / "roost.db")) as db:
        db.execute("DROP TABLE kept")
        db.commit()
    opened = await open_local(home)
    kept = await opened.journal.keep("w", 2)
    assert kept == journal("w")[2]
    await opened.journal.prune("w", [2, 3])
    assert [entry.body is None for entry in await opened.journal.read("w", after=1)] == [False, True, True]
    await opened.close()


async def test_new_work_of_an_id_keeps_nothing_of_the_old(tmp_path: Path) -> None:
    opened = await open_local(tmp_path / "home")
    for work_id in ("w", "newest"):
        for entry in journal(work_id):
            await opened.journal.append(entry)
    assert await opened.journal.keep("w", 2) is not None
    row = await opened.index.get("w")
    assert row is not None
    assert await opened.index.take_due(row, None)
    assert await opened.journal.purge("w", 4)
    for entry in journal("w"):
        await opened.journal.append(entry)
    await opened.journal.prune("w", [2])
    pruned = await opened.journal.get("w", 2)
    assert pruned is not None
    assert pruned.body is None
    await opened.close()
