"""Entries and bodies as bytes, and back; also those of releases long gone."""

from __future__ import annotations

import json
import types
import typing
from base64 import b64decode
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, fields, replace
from pydantic_core import to_jsonable_python

from roost.errors import SchemaTooNew, StorageCorrupt
from roost.journal.entries import Body, Control, Encoding, Entry, Lease
from roost.journal.events import Event, Kind, Recorded, Signaled
from roost.models import State
from roost.storage.codec import (
    COMPRESS_MIN_BYTES,
    DELTA_DEPTH_MAX,
    FORMAT,
    Base,
    StoredEntry,
    decode_entry,
    encode_entry,
    pack,
    unpack,
)
from roost.testing.contract.samples import every_kind, of_lines

AT = 1_700_000_000.0
FIXTURES = Path(__file__).parent / "fixtures"
QUICK = settings(max_examples=60, deadline=None)

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_instants = st.floats(0, 1e11)


def _of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of an event or control state, every field drawn."""
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: _any(hints[field.name]) for field in fields(kind)})


def _any(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type, as far as it can be stored: no NaN, no lone surrogate."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return st.one_of(*map(_any, args))
    if origin is tuple:
        if args[-1] is ...:
            return st.lists(_any(args[0]), max_size=3).map(tuple)
        return st.tuples(*map(_any, args))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _of(hint)
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    known = {str: _texts, float: _instants}
    return known[hint] if hint in known else st.from_type(hint)


_events = st.one_of(*(_of(event) for event in Event.__args__))
_bodies = st.none() | st.builds(
    Body,
    st.sampled_from(Encoding),
    st.binary(max_size=40),
    base=st.none() | st.integers(0, 99),
    digest=st.none() | st.just("0" * 64),
    depth=st.integers(0, 15),
)
_entries = st.builds(
    Entry,
    st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True),
    st.integers(0, 10**6),
    _texts,
    _instants,
    _texts,
    _events,
    _of(Control),
    _bodies,
)


def _with_state(state: str) -> bytes:
    control = json.loads(encode_entry(every_kind()[0]).control)
    return json.dumps(control | {"state": state}).encode()


class TestEntries:
    @pytest.mark.slow
    @QUICK
    @given(_entries)
    def test_an_entry_reads_back_as_it_was(self, entry: Entry) -> None:
        stored = encode_entry(entry)
        assert decode_entry(stored) == entry
        assert decode_entry(StoredEntry(*stored)) == entry  # as from the columns of a table

    def test_every_kind_has_a_form(self) -> None:
        entries = [*every_kind(), *of_lines()]
        assert {entry.event.kind for entry in entries} == set(Kind)
        assert [decode_entry(encode_entry(entry)) for entry in entries] == entries

    def test_defaults_are_left_out(self) -> None:
        """Each step stores its control state: what is as usual takes no room."""
        plain = Control(State.QUEUED, "demo", 0, AT, AT)
        stored = encode_entry(Entry("w", 0, "e", AT, "client", Recorded("k"), plain))
        assert json.loads(stored.event) == {"key": "k"}
        assert set(json.loads(stored.control)) == {"state", "engine", "position", "created_at", "since"}
        assert stored.body is None
        assert stored.format == FORMAT

    def test_columns_say_what_lists_need(self) -> None:
        control = Control(State.RUNNING, "demo", 3, AT, AT, version=2, lease=Lease("w", 1, AT))
        stored = encode_entry(Entry("w", 3, "e", AT + 1, "worker", Signaled("s", "go"), control))
        assert (stored.kind, stored.version, stored.at, stored.actor) == ("signaled", 2, AT + 1, "worker")

    def test_a_newer_format_is_refused_by_name(self) -> None:
        stored = encode_entry(every_kind()[0])._replace(format=FORMAT + 1, kind="from the future", event=b"?")
        with pytest.raises(SchemaTooNew, match=rf"entry 0 of w has format {FORMAT + 1}"):
            decode_entry(stored)

    @pytest.mark.parametrize(
        ("later", "what"),
        [
            ({"kind": "mused"}, "'mused'"),
            ({"kind": "mused", "event": b"?", "control": b"?"}, "'mused'"),
            ({"event": b'{"engine":"demo","lane":"express"}'}, "'express'"),
            ({"control": _with_state("asleep")}, "'asleep'"),
            ({"body": b"x", "body_encoding": "rot13"}, "'rot13'"),
        ],
        ids=str,
    )
    def test_words_that_are_not_known_are_of_a_newer_roost(self, later: dict[str, Any], what: str) -> None:
        """Not damage, of which work is dead-lettered: an older worker may meet them at any time."""
        stored = encode_entry(every_kind()[0])._replace(**later)
        with pytest.raises(SchemaTooNew, match=rf"entry 0 of w .*{what}") as raised:
            decode_entry(stored)
        assert raised.value.hint == "Upgrade Roost."

    @pytest.mark.parametrize(
        "damage",
        [
            {"event": b""},
            {"event": b"{"},
            {"event": b"[]"},
            {"event": b"{}"},
            {"event": b'{"engine":7}'},
            {"event": b"\xff\xfe"},
            {"control": b"{}"},
            {"control": b"null"},
        ],
        ids=str,
    )
    def test_damaged_columns_are_corrupt_and_named(self, damage: dict[str, Any]) -> None:
        stored = encode_entry(every_kind()[0])._replace(**damage)
        with pytest.raises(StorageCorrupt, match=r"entry 0 of w"):
            decode_entry(stored)


def transcript(messages: int) -> bytes:
    """The JSON of a state that has grown by so many messages."""
    return json.dumps(
        [f"message {number} says {number * 7919 % 1009}" * 3 for number in range(messages)]
    ).encode()


class TestBodies:
    @QUICK
    @given(st.binary(max_size=3000), st.integers(1, 40))
    def test_any_bytes_read_back(self, raw: bytes, times: int) -> None:
        body = pack(raw * times)
        assert unpack(body, body.data) == raw * times

    def test_small_bodies_stay_plain(self) -> None:
        assert pack(b"x" * (COMPRESS_MIN_BYTES - 1)).encoding is Encoding.JSON
        assert pack(b"x" * COMPRESS_MIN_BYTES).encoding is Encoding.ZSTD

    def test_a_chain_of_deltas_reads_back_and_is_bounded(self) -> None:
        chain: list[tuple[Body, bytes]] = []
        base: Base | None = None
        for number in range(100):
            raw = transcript(60 + number)
            body = pack(raw, base)
            chain.append((body, raw))
            base = Base(number, raw, body.depth)
        for body, raw in chain:
            under = None if body.base is None else chain[body.base][1]
            assert unpack(body, body.data, under) == raw
        assert max(body.depth for body, _ in chain) == DELTA_DEPTH_MAX
        frames = [body.encoding for body, _ in chain]
        assert frames.count(Encoding.ZSTD) == -(-100 // (DELTA_DEPTH_MAX + 1))

    def test_what_little_changed_is_a_patch_and_what_does_not_pay_a_key_frame(self) -> None:
        base = Base(3, transcript(100), 0)
        other = json.dumps([number * 7919 % 99991 for number in range(4000)]).encode()
        assert pack(transcript(101), base).encoding is Encoding.PATCH
        assert pack(transcript(130), base).encoding is Encoding.DELTA
        assert pack(other, base).encoding is Encoding.ZSTD
        assert pack(transcript(101), Base(3, b"{}", 0)).encoding is Encoding.ZSTD

    @pytest.mark.parametrize("size_bytes", [2_000, 20_000, 200_000, 1_500_000, 5_000_000])
    def test_a_small_change_is_small_in_a_body_of_any_size(self, size_bytes: int) -> None:
        base = json.dumps([number * 7919 % 99991 for number in range(size_bytes // 7)]).encode()
        middle = len(base) // 2
        for times, encoding in ((5, Encoding.PATCH), (2_000, Encoding.DELTA)):
            raw = base[:middle] + b" 1234567," * times + base[middle:] + b" and an end"
            body = pack(raw, Base(3, base, 0))
            assert body.encoding is encoding or size_bytes < 20_000 < len(raw)
            assert len(body.data) < 150 + size_bytes / 5000 or encoding is Encoding.DELTA
            assert unpack(body, body.data, base) == raw

    @pytest.mark.parametrize("messages", [101, 130])
    def test_what_changed_without_its_base_is_corrupt(self, messages: int) -> None:
        body = pack(transcript(messages), Base(3, transcript(100), 0))
        with pytest.raises(StorageCorrupt, match="no base"):
            unpack(body, body.data)

    @QUICK
    @given(st.data())
    def test_damaged_bodies_never_end_in_another_error(self, data: st.DataObject) -> None:
        base = transcript(100)
        after = Base(3, base, 0)
        for body, under in (
            (pack(base), None),
            (pack(transcript(101), after), base),
            (pack(transcript(130), after), base),
        ):
            damaged = bytearray(body.data)
            damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
            cut = bytes(damaged)[: data.draw(st.integers(0, len(damaged)))]
            for bytes_ in (bytes(damaged), cut):
                with suppress(StorageCorrupt):
                    unpack(body, bytes_, under)

    def test_a_body_cut_off_is_corrupt(self) -> None:
        body = pack(transcript(100))
        for end in (0, 1, 10, len(body.data) - 1):
            with pytest.raises(StorageCorrupt):
                unpack(body, body.data[:end])

    def test_a_bomb_is_not_unpacked(self) -> None:
        body = pack(b"x" * ((64 << 20) + 1))
        assert len(body.data) < 100_000
        with pytest.raises(StorageCorrupt, match="larger"):
            unpack(body, body.data)


class TestReleasedFormats:
    """A fixture of every released format stays in the tests and must still load."""

    def test_there_is_one_of_each_format(self) -> None:
        found = [path.name for path in FIXTURES.glob("format*.json")]
        assert sorted(found) == [f"format{number}.json" for number in range(1, FORMAT + 1)]

    @pytest.mark.parametrize("path", sorted(FIXTURES.glob("format*.json")), ids=lambda path: path.stem)
    def test_its_entries_still_read(self, path: Path) -> None:
        stored = json.loads(path.read_text())
        entries = [decode_entry(_columns(columns)) for columns in stored["entries"]]
        assert (
            {entry.event.kind for entry in entries} >= set(Kind) if path.stem == f"format{FORMAT}" else True
        )
        shown = [to_jsonable_python(_shown(entry), fallback=asdict) for entry in entries]
        assert shown == stored["expected"]

    @pytest.mark.parametrize("path", sorted(FIXTURES.glob("format*.json")), ids=lambda path: path.stem)
    def test_its_bodies_still_read(self, path: Path) -> None:
        stored = json.loads(path.read_text())
        raws: list[bytes] = []
        for columns in stored["bodies"]:
            body = decode_entry(_columns(columns)).body
            assert body is not None
            raws.append(unpack(body, body.data, None if body.base is None else raws[body.base]))
        assert [json.loads(raw) for raw in raws] == stored["bodies_expected"]
        assert {columns["body_encoding"] for columns in stored["bodies"]} == set(Encoding)

    def test_a_field_that_this_release_does_not_know_is_no_obstacle(self) -> None:
        """Within one format only optional fields are added; an older reader skips them."""
        stored = encode_entry(every_kind()[0])
        event = json.loads(stored.event) | {"added_later": 1}
        again = decode_entry(stored._replace(event=json.dumps(event).encode()))
        assert again == every_kind()[0]


def _columns(columns: dict[str, Any]) -> StoredEntry:
    """A stored entry as the fixture has it: bytes in base 64."""
    return StoredEntry(
        **{
            **columns,
            "event": columns["event"].encode(),
            "control": columns["control"].encode(),
            "body": None if columns["body"] is None else b64decode(columns["body"]),
        }
    )


def _shown(entry: Entry) -> Entry:
    """Without its body's bytes, which `test_its_bodies_still_read` looks at."""
    return entry if entry.body is None else replace(entry, body=replace(entry.body, data=b""))
