"""Stores of every released format, and of those to come: read, gone on with, and left alone.

Older and newer processes share a store while an upgrade goes on, and one that a release wrote is
opened by all later ones. `write_store.py` wrote the stores here.
"""

from __future__ import annotations

import json
import sqlite3
import zipfile
from base64 import b64decode
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import fields

from roost.cli.remote_client import RemoteClient
from roost.core import bundles
from roost.errors import InputError, SchemaTooNew
from roost.journal import entries, events, values
from roost.journal.control import TABLE, apply
from roost.journal.entries import Entry
from roost.models import Lane
from roost.storage.aws.index import row_of
from roost.storage.aws.items import entry_of
from roost.storage.aws.messages import delivery_of
from roost.storage.codec import FORMAT, StoredEntry, decode_entry, encode_entry
from roost.storage.local.rows import ENTRY_COLUMNS
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Backend
from roost.testing.clock import ManualClock
from roost.testing.contract.process import Process, check_sound
from tests.contract.test_local import LocalHarness
from tests.simulation.invariants import check_index
from tests.unit.write_store import FIXTURES, SAMPLES, Walker, go_on, vocabulary

NUMBERS = range(1, FORMAT + 1)

HARMLESS: dict[str, str] = dict.fromkeys(
    ("Parent.origin_at", "Cause.origin_at", "Enqueued.origin_at"),
    "without it an id is taken for that of the work which is there now, as older workers take it",
)
"""Fields that came into a format after its store was written, each with why it is no harm that an older
worker, which does not know it, leaves it out of the entry that it writes next. Is it one? Then the field
is a new format."""


def rest(number: int) -> dict[str, Any]:
    """What is stored of a format beside its tables."""
    found: dict[str, Any] = json.loads((FIXTURES / f"store{number}.json").read_text())
    return found


class Stored(LocalHarness):
    """Opens a store that was written before."""

    def write(self, number: int) -> None:
        """Put the tables of a format in their place."""
        self.home.mkdir(parents=True)
        with closing(sqlite3.connect(self.home / "roost.db")) as db:
            db.executescript(f"BEGIN; {(FIXTURES / f'store{number}.sql').read_text()} COMMIT;")

    def query(self, sql: str, *values: object) -> list[Any]:
        """Ask, or change, behind the back of the port."""
        with closing(sqlite3.connect(self.home / "roost.db")) as db, db:
            db.execute("PRAGMA synchronous = OFF")
            return db.execute(sql, values).fetchall()

    def entries(self) -> list[StoredEntry]:
        rows = self.query(f"SELECT {ENTRY_COLUMNS} FROM journal ORDER BY seq")
        return [StoredEntry(*row) for row in rows]

    def tables(self) -> dict[str, list[Any]]:
        """The columns of each table, by name, and the indexes."""
        found = self.query("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'index')")
        return {
            name: sorted(row[1:] for row in self.query(f"PRAGMA {kind}_info({name})")) for name, kind in found
        }

    async def process(self, number: int) -> Process:
        """A process of today on it, with its blobs."""
        backend = await self.reopen()
        for digest, content in rest(number)["blobs"].items():
            assert (await backend.artifacts.put([b64decode(content)])).digest == digest
        return Process(self, backend, Walker(), "today")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Stored]:
    opened = Stored(tmp_path)
    yield opened
    await opened.close()


def json_of(stored: StoredEntry) -> StoredEntry:
    """An entry with its documents as values: the order of fields says nothing."""
    return stored._replace(
        event=json.loads(stored.event), control=json.loads(stored.control), body=stored.body or b""
    )


class TestReleased:
    def test_there_is_one_of_each_format(self) -> None:
        for kind in ("sql", "json"):
            found = sorted(path.name for path in FIXTURES.glob(f"store*.{kind}"))
            assert found == [f"store{number}.{kind}" for number in NUMBERS]

    @pytest.mark.parametrize("number", NUMBERS)
    def test_its_entries_are_stored_again_as_they_were(self, store: Stored, number: int) -> None:
        """Or an older worker beside this one would not find what it knows."""
        store.write(number)
        for stored in store.entries():
            again = encode_entry(decode_entry(stored))
            assert json_of(again) == json_of(stored)._replace(format=FORMAT)

    @pytest.mark.parametrize("number", NUMBERS)
    def test_its_control_states_follow_by_the_table_of_today(self, store: Stored, number: int) -> None:
        """What an older worker made of an entry is what this one would have: neither overrules the other."""
        store.write(number)
        journals: dict[str, list[Entry]] = defaultdict(list)
        for stored in store.entries():
            journals[stored.work_id].append(decode_entry(stored))
        seen = 0
        for journal in journals.values():
            for before, entry in zip([None, *journal], journal, strict=False):
                if entry.event.kind in TABLE:
                    control = before.control if before else None
                    assert apply(control, entry.event, position=entry.position, at=entry.at) == entry.control
                    seen += 1
        assert seen > 50

    @pytest.mark.parametrize("number", NUMBERS)
    async def test_all_its_work_goes_on_to_its_end(self, store: Stored, number: int) -> None:
        store.write(number)
        process = await store.process(number)
        assert await go_on(process, store.manual_clock.advance) == rest(number)["expected"]
        for work_id in rest(number)["expected"]:
            check_sound(await process.entries(work_id))
            row = await process.backend.index.get(work_id)
            assert row is not None
            assert check_index([await process.tail(work_id)], {work_id: row}) == []
        assert await process.client.resources() == await process.client.resources("pool")  # all is given up
        assert all(finding.is_ok for finding in await process.backend.check())

    @pytest.mark.parametrize("number", NUMBERS)
    async def test_it_has_the_tables_of_a_new_one_once_it_is_opened(
        self, store: Stored, tmp_path: Path, number: int
    ) -> None:
        """A table or column that comes later is made in files of before, too."""
        store.write(number)
        await store.process(number)
        new = Stored(tmp_path / "new")
        await new.open()
        assert store.tables() == new.tables()
        await new.close()

    @pytest.mark.parametrize("number", NUMBERS)
    def test_its_items_rows_and_messages_still_read(self, store: Stored, number: int) -> None:
        store.write(number)
        found = rest(number)
        here = [decode_entry(stored) for stored in store.entries() if stored.work_id in SAMPLES]
        by_work = sorted(here, key=lambda entry: (entry.work_id, entry.position))
        assert [entry_of(_item(item)) for item in found["items"]] == by_work
        rows = [row_of(row) for row in found["rows"]]
        assert {row.work_id for row in rows} == set(SAMPLES)
        assert [(row.state, row.position) for row in rows] == [
            (entry.control.state, entry.position)
            for entry in by_work
            if entry.position == max(one.position for one in by_work if one.work_id == entry.work_id)
        ]
        read = [
            delivery_of(one["MessageBody"], Lane.HIGH, receipt="r", received_count=1)
            for one in found["messages"]
        ]
        assert [(one.work_id, one.cause) for one in read] == [("held", 7), ("team/held", 7)]

    @pytest.mark.parametrize("number", NUMBERS)
    async def test_its_bundles_still_open(self, store: Stored, tmp_path: Path, number: int) -> None:
        store.write(number)
        backend = await _loaded(tmp_path, rest(number)["bundle"], rest(number)["blobs"])
        for stored in store.entries():
            if stored.work_id in SAMPLES:
                assert await backend.journal.get(stored.work_id, stored.position) == decode_entry(stored)


def _item(item: dict[str, Any]) -> dict[str, Any]:
    """An item as the SDK gives it."""
    return {name: {"B": b64decode(value["B"])} if "B" in value else value for name, value in item.items()}


async def _loaded(tmp_path: Path, lines: list[str], blobs: dict[str, str]) -> Backend:
    path = tmp_path / "bundle"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(bundles.JOURNALS, "\n".join(lines))
        for digest, content in blobs.items():
            file.writestr(f"blobs/{digest}", b64decode(content))
    backend = MemoryBackend(ManualClock())
    await bundles.load(backend, path)
    return backend


class TestTheWordsAndFieldsOfToday:
    """They are those of the newest format; so whoever changes them decides what older workers make of it."""

    def test_no_word_is_new(self) -> None:
        """An older worker can't read one: it is a new format, which leaves the work to newer workers."""
        assert vocabulary()["words"] == rest(FORMAT)["words"]

    def test_no_field_is_gone(self) -> None:
        now = vocabulary()["fields"]
        for name, known in rest(FORMAT)["fields"].items():
            assert set(known) <= set(now[name]), name

    def test_a_field_that_is_new_may_be_left_out_and_its_loss_is_said(self) -> None:
        known = rest(FORMAT)["fields"]
        new = {
            f"{name}.{field}"
            for name, there in vocabulary()["fields"].items()
            for field in there
            if name in known and field not in known[name]
        }
        assert new == HARMLESS.keys()
        for name in new:
            owner, _, field = name.partition(".")
            struct = next(
                vars(module)[owner] for module in (entries, events, values) if owner in vars(module)
            )
            assert not next(one.required for one in fields(struct) if one.name == field), name


def later(value: Any) -> Any:
    """A document to which a newer Roost has added a field in each of its objects."""
    if isinstance(value, list):
        return [later(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {"a_later_field": {"with": ["anything"]}, **{name: later(one) for name, one in value.items()}}


def later_body(stored: StoredEntry) -> bytes | None:
    """A snapshot to which fields were added, and to what it holds that is not the engine's."""
    if stored.kind != "committed" or stored.body_encoding != "json" or not stored.body:
        return stored.body
    snapshot = json.loads(stored.body)
    for name in ("artifacts", "wait_for"):
        if name in snapshot:
            snapshot[name] = later(snapshot[name])
    for child in snapshot.get("spawn", ()):
        child["a_later_field"] = 1
    return json.dumps({"a_later_field": 1, **snapshot}).encode()


class TestToCome:
    """A newer Roost has been at work in the store, within today's format."""

    def test_fields_that_are_not_known_are_skipped_and_lost_by_who_writes_the_entry_again(
        self, store: Stored
    ) -> None:
        store.write(FORMAT)
        for stored in store.entries():
            newer = stored._replace(
                event=json.dumps(later(json.loads(stored.event))).encode(),
                control=json.dumps(later(json.loads(stored.control))).encode(),
            )
            assert decode_entry(newer) == decode_entry(stored)
            assert json_of(encode_entry(decode_entry(newer))) == json_of(stored)

    async def test_work_with_such_fields_tables_and_columns_goes_on_to_its_end(self, store: Stored) -> None:
        store.write(FORMAT)
        for stored in store.entries():
            documents = [
                json.dumps(later(json.loads(one))).encode() for one in (stored.event, stored.control)
            ]
            store.query(
                "UPDATE journal SET event = ?, control = ?, body = ? WHERE work_id = ? AND position = ?",
                *documents,
                later_body(stored),
                stored.work_id,
                stored.position,
            )
        store.query("CREATE TABLE later (id INTEGER PRIMARY KEY)")
        for table in ("journal", "works", "deliveries", "waiters", "accounts", "kept"):
            store.query(f"ALTER TABLE {table} ADD COLUMN a_later_column TEXT")
        process = await store.process(FORMAT)
        assert await go_on(process, store.manual_clock.advance) == rest(FORMAT)["expected"]
        [(control,)] = store.query("SELECT control FROM journal ORDER BY seq DESC LIMIT 1")
        assert b"a_later_field" not in control

    async def test_a_bundle_with_columns_that_are_not_known_opens(
        self, store: Stored, tmp_path: Path
    ) -> None:
        found = rest(FORMAT)
        lines = [json.dumps([*json.loads(line), "later"]) for line in found["bundle"]]
        backend = await _loaded(tmp_path, lines, found["blobs"])
        assert (await backend.journal.tail("held")) is not None

    async def test_a_bundle_of_a_later_format_is_refused_as_such(self, tmp_path: Path) -> None:
        columns = json.loads(rest(FORMAT)["bundle"][0])
        columns[StoredEntry._fields.index("format")] = FORMAT + 1
        with pytest.raises(SchemaTooNew, match="entry 0 of held has format"):
            await _loaded(tmp_path, [json.dumps([*columns, "later"])], {})

    @pytest.mark.parametrize("line", ["[]", "{}", '["w", 0]', "7"])
    async def test_a_bundle_with_lines_that_are_none_is_no_bundle(self, tmp_path: Path, line: str) -> None:
        with pytest.raises(InputError, match="is no bundle"):
            await _loaded(tmp_path, [line], {})

    async def test_switches_that_a_newer_roost_threw_stop_no_sweep(
        self, store: Stored, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.write(FORMAT)
        store.query("UPDATE journal SET format = ? WHERE work_id = 'roost-switches/all'", FORMAT + 1)
        process = await store.process(FORMAT)
        store.manual_clock.advance(1e5)
        for _ in range(3):
            await process.sweeper.sweep()
        assert caplog.text.count("is left to workers of a newer Roost") == 1
        assert process.backend.journal is not None
        await process.work()
        assert await process.state("queued") == "done"

    async def test_a_console_of_a_newer_roost_is_understood_as_far_as_may_be(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its answers have fields that this one does not know, and events of kinds that came later."""
        about = {"actor": "a", "at": 1.0, "state": "queued", "engine": "demo", "version": 0, "has_body": True}
        told = {"work_id": "w", "position": 0, "kind": "enqueued", "detail": {"engine": "demo"}, **about}
        answers = {
            "/api/v1/events": {"entries": [{**told, "kind": "mused"}, later(told)], "next": "2", "later": 1},
            "/api/v1/work/w": {
                "item": {"work_id": "w", "engine": "demo", "created_at": 1.0, "a_later_field": 1},
                "control": later({name: about.get(name, 0) for name in ("state", "engine", "position")})
                | {"created_at": 1.0, "since": 1.0},
                "artifacts": [],
                "row": None,
            },
            "/api/v1/work/w/payload": {"payload": {"n": 1}},
        }
        transport = httpx2.MockTransport(lambda asked: httpx2.Response(200, json=answers[asked.url.path]))
        async with httpx2.AsyncClient(transport=transport, base_url="http://console") as web:
            client = RemoteClient(web)
            page = await client.feed(None)
            assert [entry.event.kind for entry in page.entries] == ["enqueued"]
            assert "of a kind not known here: 'mused'" in caplog.text
            assert (await client.status("w")).item.payload == {"n": 1}
