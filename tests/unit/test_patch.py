"""Patches of bodies: whatever changed, they make the body after of the body before, or say no."""

from __future__ import annotations

import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.errors import StorageCorrupt
from roost.storage.patch import EDITS_MAX, apply, diff

QUICK = settings(max_examples=200, deadline=None)
BIG = 1 << 30
WORDS = [f"w{number * 7919 % 1009}" for number in range(3000)]
STATE = json.dumps({"n": 0, "words": WORDS, "at": 1.5}).encode()


def changed(state: bytes = STATE, **fields: object) -> bytes:
    return json.dumps({**json.loads(state), **fields}).encode()


class TestDiff:
    @QUICK
    @given(st.binary(max_size=200), st.binary(max_size=200), st.integers(1, 30))
    def test_any_two_bodies(self, before: bytes, after: bytes, times: int) -> None:
        for one, other in ((before, after), (before * times, after + before * times), (after, before)):
            patch = diff(one, other, max_bytes=BIG)
            assert patch is None or apply(one, patch) == other

    @QUICK
    @given(
        st.lists(
            st.tuples(st.integers(0, len(STATE)), st.integers(0, 40), st.binary(max_size=40)), max_size=9
        )
    )
    def test_edits_anywhere(self, edits: list[tuple[int, int, bytes]]) -> None:
        after = STATE
        for start, count, new in edits:
            after = after[:start] + new + after[start + count :]
        patch = diff(STATE, after, max_bytes=BIG)
        assert patch is not None
        assert apply(STATE, patch) == after

    def test_changes_in_a_few_places_are_small(self) -> None:
        words = [*WORDS[:1000], "another", *WORDS[1001:2000], *WORDS[2003:], "and a last one"]
        patch = diff(STATE, changed(n=17, words=words, at=99.25), max_bytes=1024)
        assert patch is not None
        assert len(patch) < 250

    def test_what_did_not_change_takes_next_to_nothing(self) -> None:
        patch = diff(STATE, STATE, max_bytes=1024)
        assert patch is not None
        assert len(patch) < 12
        assert apply(STATE, patch) == STATE

    def test_more_than_it_may_have_is_none(self) -> None:
        longer = changed(words=[*WORDS, *(f"new{number}" for number in range(200))])
        assert diff(STATE, longer, max_bytes=1024) is None
        assert diff(STATE, longer, max_bytes=1 << 14) is not None
        assert diff(STATE, bytes(len(STATE)), max_bytes=1024) is None

    def test_too_many_places_are_none(self) -> None:
        words = [f"{word}!" if number % 50 == 0 else word for number, word in enumerate(WORDS)]
        assert len(WORDS) / 50 > EDITS_MAX
        assert diff(STATE, changed(words=words), max_bytes=BIG) is None


class TestApply:
    def test_a_patch_of_another_body_is_corrupt(self) -> None:
        patch = diff(STATE, changed(n=17), max_bytes=1024)
        assert patch is not None
        with pytest.raises(StorageCorrupt, match="another body"):
            apply(STATE[:-20], patch)

    @pytest.mark.parametrize(
        "edits", [[[-1, 2, b""]], [[0, -1, b""]], [[0, len(STATE) + 1, b""]], [[len(STATE), 1, b""]]], ids=str
    )
    def test_what_reaches_beyond_the_body_before_is_corrupt(self, edits: list[list[object]]) -> None:
        with pytest.raises(StorageCorrupt, match="another body"):
            apply(STATE, msgspec.msgpack.encode(edits))

    def test_a_bomb_is_not_made(self) -> None:
        edits = [[0, len(STATE), b""]] * ((64 << 20) // len(STATE) + 1)
        with pytest.raises(StorageCorrupt, match="more than Roost ever writes"):
            apply(STATE, msgspec.msgpack.encode(edits))

    @QUICK
    @given(st.data())
    def test_damage_never_ends_in_another_error(self, data: st.DataObject) -> None:
        patch = diff(STATE, changed(n=17, at=2.5), max_bytes=1024)
        assert patch is not None
        damaged = bytearray(patch)
        damaged[data.draw(st.integers(0, len(patch) - 1))] ^= data.draw(st.integers(1, 255))
        for bytes_ in (bytes(damaged), bytes(damaged)[: data.draw(st.integers(0, len(patch)))]):
            with suppress(StorageCorrupt):
                apply(STATE, bytes_)
