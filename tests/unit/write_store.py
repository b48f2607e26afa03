"""Writes the store of the current format anew: `python -m tests.unit.write_store`.

What a release has written never changes, so this is only for a format that none has written yet. Work
is in it at all the places where an upgrade may find it. `store1.sql` is the file as SQL; `store1.json`
is all else that older and newer processes share: blobs, items and rows as they are on DynamoDB,
messages, a bundle; the words and fields that the format is made of; and how the work ended when it
went on at once.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import tempfile
import typing
import zipfile
from base64 import b64encode
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from roost import Child, Join, Snapshot, WaitFor, WorkItem, current_step
from roost.core import bundles, switches
from roost.core.client import Client
from roost.engine import RetryPolicy
from roost.errors import FailWork
from roost.journal.entries import Control, Encoding, IndexRow
from roost.journal.events import DailySet, Event, Kind
from roost.journal.limits import SetCapacity
from roost.models import Artifact, Scope
from roost.names import Lane, State
from roost.storage.aws.index import row_item
from roost.storage.aws.items import item_of
from roost.storage.aws.queue import message_entry
from roost.storage.codec import FORMAT
from roost.storage.ports import Backend, Message
from roost.storage.query import IndexQuery
from roost.testing.contract.process import Process
from roost.testing.virtual_time import SeededIds
from tests.contract.test_local import LocalHarness

FIXTURES = Path(__file__).parent / "fixtures"
SHARDS = 2
LONG_SECONDS = 3600.0
INLINE_MAX_BYTES = 900
SAMPLES = ("held", "large")  # the work whose entries are in the bundle, and among the items of DynamoDB


class Walker:
    """Does the words of the payload's plan, one a step; `trail` has those that were done.

    Args:
        entered: set when a step comes to `hold`, and stays there; None: none stays.
    """

    engine_id = "demo"
    retry: RetryPolicy = RetryPolicy(first_delay_seconds=60.0)

    def __init__(self, entered: asyncio.Event | None = None) -> None:
        self._entered = entered

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"trail": [], "said": []})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        plan, context = item.payload["plan"], current_step()
        word = plan[snapshot.version] if snapshot.version < len(plan) else "end"
        said = [signal.data for signal in context.signals] + [str(child.state) for child in context.children]
        data = {"trail": [*snapshot.data["trail"], word], "said": [*snapshot.data["said"], *said]}
        match word:
            case "hold":
                data["once"] = await context.once("k", lambda: {"is_first": self._entered is not None})
                if self._entered is not None:
                    self._entered.set()
                    await asyncio.Event().wait()
            case "fail" if context.attempt == 1:
                raise ValueError("on purpose")
            case "dead":
                raise FailWork("on purpose")
            case "artifact":
                await context.artifacts.put("note.txt", "a note", content_type="text/plain")
            case "spend":
                context.spend(usd=2.0)
                context.log.info("spent")
            case "large":
                data["text"] = _text(snapshot.version)
            case "sleep":
                return snapshot.next("go", data=data, delay=LONG_SECONDS)
            case "wait":
                return snapshot.next("go", data=data, wait_for="go")
            case "spawn":
                children = [Child(engine="demo", payload={"plan": [word]}) for word in ("go", "sleep")]
                return snapshot.next("go", data=data, spawn=children, wait_for=WaitFor(children=Join()))
            case "end":
                return snapshot.finish(data=data, result=data["trail"])
        return snapshot.next("go", data=data)


def _text(version: int) -> str:
    """First a text that is compressed, then a little more of it, then much more."""
    source = random.Random(7)
    return " ".join(f"{source.getrandbits(32):08x}" for _ in range((120, 121, 160, 600)[version]))


async def build(process: Process, entered: asyncio.Event) -> None:
    """Work at all the places where an upgrade may find it."""
    client = process.client

    async def enqueue(work_id: str | None, *plan: str, **options: Any) -> None:
        await client.enqueue("demo", {"plan": list(plan)}, work_id=work_id, **options)

    await client.change_resource("pool", SetCapacity(2), "two may")
    await client.pause_engine("other", "not today")
    await switches.throw(process.parts, DailySet("", (("usd", 1000.0),), "enough"), actor="ops")
    await enqueue("asleep", "go", "sleep", labels={"team": "ü"}, priority=1)
    for work_id in ("waits", "told"):
        await enqueue(work_id, "wait", deadline_at=process.parts.clock.now() + 1e6)
    await enqueue("parent", "spawn", family_budget={"usd": 50.0})
    await enqueue("owner", "go", "sleep", resources=("db", "pool"), resource_scope=Scope.WORK)
    await process.work()
    await enqueue("blocked", "go", resources=("db",))
    await enqueue("paused", "sleep")
    await enqueue("later", "fail")
    await enqueue("dead", "dead")
    await enqueue("done", "artifact", "spend")
    await enqueue("large", "large", "large", "large", "large", "sleep")
    await enqueue("parked", "spend", "go", budget={"usd": 1.0})
    await enqueue("again", "go", "go", "dead")
    await enqueue("talk-1", "sleep", conversation="c")
    await enqueue("talk-2", "go", conversation="c")
    await enqueue(None, "go", idempotency_key="k", idempotency_seconds=1e6)
    await process.work()
    await client.pause("paused", "wait for me")
    await enqueue("held", "go", "hold")
    held = await process.begin(entered)
    await client.signal("held", "unheard", {"n": 1})
    await process.crash(held)
    await client.signal("told", "go", {"from": "before"})
    await client.retry("again", "from the first", version=1)
    await enqueue("queued", "go", priority=-1)


async def go_on(process: Process, advance: Any) -> dict[str, Any]:
    """Let all the work of `build` go on to its end; how each ended."""
    client = process.client
    await client.signal("waits", "go", {"from": "after"})
    await client.resume("paused", "go on")
    await client.set_budget("parked", {"usd": 100.0}, "more")
    for _ in range(12):
        await process.work()
        advance(LONG_SECONDS)
        await process.sweeper.sweep()
    await process.work()
    return {
        row.work_id: await _end(client, row) for row in await rows(process.backend) if "/" not in row.work_id
    }


async def _end(client: Client, row: IndexRow) -> dict[str, Any]:
    view = await client.status(row.work_id)
    data = {} if view.snapshot is None else view.snapshot.data
    return {
        "state": view.control.state,
        "version": view.control.version,
        **{k: data.get(k) for k in ("trail", "said", "once")},
    }


async def rows(backend: Backend) -> list[IndexRow]:
    """The rows of all journals, the namespaces of Roost's own too."""
    found = []
    for namespace in ("", "roost-keys", "roost-conversations", "roost-switches", "roost-operators"):
        found += (await backend.index.list(IndexQuery(namespace=namespace), limit=100)).rows
    return sorted(found, key=lambda row: row.work_id)


# --- writing it down ---------------------------------------------------------


def dump(path: Path) -> str:
    """The tables of an SQLite file and what is in them, as SQL; bytes that are text stay readable."""
    lines = []
    with closing(sqlite3.connect(path)) as db:
        for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"):
            lines.append(f"{sql};")
        for (table,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid"
        ).fetchall():
            found = db.execute(f"SELECT * FROM {table}").fetchall()
            lines += [f"INSERT INTO {table} VALUES ({', '.join(map(_literal, row))});" for row in found]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return f"x'{value.hex()}'"
        return f"CAST({_literal(text)} AS BLOB)" if text.isprintable() else f"x'{value.hex()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else repr(value)


def vocabulary() -> dict[str, Any]:
    """The words of the format, and the fields of each of its values."""
    words = {enum.__name__: sorted(enum) for enum in (Kind, State, Lane, Scope, Encoding)}
    found: dict[str, list[str]] = {}
    left: list[Any] = [Control, IndexRow, *typing.get_args(Event)]
    while left:
        one = left.pop()
        if isinstance(one, type) and issubclass(one, Struct):
            if one.__name__ not in found:
                found[one.__name__] = [field.name for field in fields(one)]
                left += typing.get_type_hints(one).values()
        else:
            left += typing.get_args(one)
    models = {
        model.__name__: list(model.model_fields) for model in (Snapshot, Child, WaitFor, Join, Artifact)
    }
    return {"words": words, "fields": dict(sorted({**found, **models}.items()))}


def plain(value: Any) -> Any:
    """An item as JSON: bytes in base 64."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return b64encode(value).decode() if isinstance(value, bytes) else value


async def rest(client: Client, backend: Backend, home: Path) -> dict[str, Any]:
    """All but the tables, of the store as it stands."""
    entries = [entry for work_id in SAMPLES async for entry in client.events(work_id)]
    bundle = home / "bundle"
    await bundles.save(client, backend, SAMPLES, bundle)
    with zipfile.ZipFile(bundle) as file:
        lines = file.read(bundles.JOURNALS).decode().splitlines()
    blobs = {
        path.name: b64encode(path.read_bytes()).decode()
        for path in sorted((home / "artifacts").rglob("*"))
        if path.is_file()
    }
    samples = [row for row in await rows(backend) if row.work_id in SAMPLES]
    messages = [Message("held", 7), Message("team/held", 7, Lane.HIGH, 3.5)]
    return {
        "blobs": blobs,
        "bundle": lines,
        "items": [plain(item_of(entry, SHARDS)) for entry in entries],
        "rows": [row_item(row, SHARDS) for row in samples],
        "messages": [message_entry(message) for message in messages],
        **vocabulary(),
    }


async def write(directory: Path) -> None:
    """Write both files anew."""
    harness = LocalHarness(directory)
    backend = await harness.open()
    backend.inline_max_bytes = INLINE_MAX_BYTES
    entered = asyncio.Event()
    process = Process(harness, backend, Walker(entered))
    process.parts = replace(process.parts, ids=SeededIds(random.Random(1)))
    process.client = Client(process.parts)
    await build(process, entered)
    home = harness.home
    found = await rest(process.client, backend, home)
    await harness.close()
    sql = dump(home / "roost.db")
    again = Process(harness, await harness.reopen(), Walker(), "next")
    found["expected"] = await go_on(again, harness.manual_clock.advance)
    await harness.close()
    (FIXTURES / f"store{FORMAT}.sql").write_text(sql)
    (FIXTURES / f"store{FORMAT}.json").write_text(json.dumps(found, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(write(Path(made)))
