"""The yardstick: SQLite alone, one row update and one insert per step, synchronous=FULL."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path


def commits_per_second(directory: Path, *, body_bytes: int, batch: int, seconds: float) -> float:
    """Steps per second that SQLite alone writes, `batch` of them a commit."""
    path = directory / f"raw-{body_bytes}-{batch}.db"
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE state (id TEXT PRIMARY KEY, version INTEGER, body BLOB)")
    db.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, id TEXT, version INTEGER, body BLOB)")
    for number in range(batch):
        db.execute("INSERT INTO state VALUES (?, 0, x'')", (f"work-{number}",))
    body, done, began = os.urandom(body_bytes), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        db.execute("BEGIN IMMEDIATE")
        for number in range(batch):
            db.execute("UPDATE state SET version = ?, body = ? WHERE id = ?", (done, body, f"work-{number}"))
            db.execute("INSERT INTO event VALUES (NULL, ?, ?, ?)", (f"work-{number}", done, body))
        db.execute("COMMIT")
        done += batch
    rate = done / (time.perf_counter() - began)
    db.close()
    return rate
