"""The yardstick: SQLite alone, one row update and one insert per step, synchronous=FULL.

What it writes is what a step leaves behind for a program without deltas: the new state as
the current one (a row that is updated) and as a version of the history (a row that is
added). So a state of 20 kB is 40 kB here, in the log and again in the file. With the state
in the history alone it is a tenth faster for 500 bytes and a third for 20 kB; the benchmark
prints that as well, since Roost keeps a version once. It is not the bytes that Roost comes
to write: of a state of which little changes those are some hundred, however large it is,
and to find them is a part of its work. One process, its bytes ready made: it neither reads
nor writes JSON, and waits for nobody.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path


def commits_per_second(
    directory: Path, *, body_bytes: int, batch: int, seconds: float, is_once: bool = False
) -> float:
    """Steps per second that SQLite alone writes.

    Args:
        batch: steps a commit.
        is_once: the state is in the history alone; the row has its version only.
    """
    path = directory / f"raw-{body_bytes}-{batch}-{is_once}.db"
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE state (id TEXT PRIMARY KEY, version INTEGER, body BLOB)")
    db.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, id TEXT, version INTEGER, body BLOB)")
    for number in range(batch):
        db.execute("INSERT INTO state VALUES (?, 0, x'')", (f"work-{number}",))
    body, done, began = os.urandom(body_bytes), 0, time.perf_counter()
    current = b"" if is_once else body
    while time.perf_counter() - began < seconds:
        db.execute("BEGIN IMMEDIATE")
        for number in range(batch):
            db.execute(
                "UPDATE state SET version = ?, body = ? WHERE id = ?", (done, current, f"work-{number}")
            )
            db.execute("INSERT INTO event VALUES (NULL, ?, ?, ?)", (f"work-{number}", done, body))
        db.execute("COMMIT")
        done += batch
    rate = done / (time.perf_counter() - began)
    db.close()
    return rate
