"""Strict JSON: what is refused, where the bounds are, and that the rest comes back equal."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost import jsonio
from roost.errors import PayloadError
from roost.jsonio import DEPTH_MAX, INT_DIGITS_MAX

MAX = 10_000
QUICK = settings(max_examples=100, deadline=None)


class Colour(StrEnum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


class Pair(NamedTuple):
    a: int
    b: int


def dump(value: Any, max_bytes: int = MAX) -> bytes:
    return jsonio.dump(value, what="payload", max_bytes=max_bytes)


def parse(text: str | bytes, max_bytes: int = MAX) -> Any:
    return jsonio.parse(text, what="payload", max_bytes=max_bytes)


def nested(depth: int, leaf: Any = 1) -> Any:
    for number in range(depth):
        leaf = [leaf] if number % 2 else {"a": leaf}
    return leaf


def nested_text(depth: int) -> str:
    return "[" * depth + "1" + "]" * depth


class TestDumpRefuses:
    @pytest.mark.parametrize(
        "bad",
        [
            float("nan"),
            float("inf"),
            float("-inf"),
            "\ud800",
            "a\udfffb",
            {"\ud800": 1},
            {1: 1},
            {None: 1},
            {True: 1},
            {1.5: 1},
            {("a",): 1},
            b"bytes",
            bytearray(b"bytes"),
            {1, 2},
            frozenset(),
            object(),
            1j,
            Decimal("1.5"),
            datetime(2026, 1, 1, tzinfo=UTC),
            range(3),
            iter([1]),
            UserDict(a=1),
            len,
            Exception("x"),
            10**INT_DIGITS_MAX,
            -(10 ** (INT_DIGITS_MAX - 1)),
        ],
        ids=lambda bad: type(bad).__name__,
    )
    def test_what_is_not_json_wherever_it_is(self, bad: Any) -> None:
        for value in (bad, [bad], {"a": [{"b": bad}]}, [1, "x" * 100, [[bad]]]):
            with pytest.raises(PayloadError, match="payload"):
                dump(value)

    def test_infinity_as_text_is_text(self) -> None:
        assert json.loads(dump(["Infinity", "NaN", {"Infinity": "-Infinity"}])) == [
            "Infinity",
            "NaN",
            {"Infinity": "-Infinity"},
        ]

    @pytest.mark.parametrize("depth", [DEPTH_MAX + 1, DEPTH_MAX + 10, 200, 1000, 100_000])
    def test_what_is_too_deep(self, depth: int) -> None:
        with pytest.raises(PayloadError, match="deep"):
            dump(nested(depth), 1 << 24)

    @pytest.mark.parametrize("text", [("]", "["), ("}", "{"), ('"]', '"['), ("\\]", "\\[")])
    def test_brackets_in_text_hide_no_depth(self, text: tuple[str, str]) -> None:
        value: Any = 1
        for _ in range(DEPTH_MAX + 1):
            value = [text[0], value, text[1]]
        with pytest.raises(PayloadError, match="deep"):
            dump(value)
        assert jsonio.load(dump(value[1])) == value[1]

    def test_what_contains_itself(self) -> None:
        loop: list[Any] = []
        loop.append({"again": loop})
        with pytest.raises(PayloadError):
            dump(loop)

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (
                {"a": [1, {"at": datetime(2026, 1, 1, tzinfo=UTC)}]},
                "payload.a[1].at is of type datetime, which is not JSON",
            ),
            ({"a": ({1, 2},)}, "payload.a[0] is of type set, which is not JSON"),
            (object(), "payload is of type object, which is not JSON"),
            ({"n": float("nan")}, "payload.n is nan, which is not JSON"),
        ],
    )
    def test_what_is_no_json_is_named_with_its_place(self, value: Any, told: str) -> None:
        with pytest.raises(PayloadError) as caught:
            jsonio.dump(value, what="payload", max_bytes=MAX)
        assert str(caught.value) == told
        assert caught.value.hint

    def test_a_key_that_is_no_text_is_named(self) -> None:
        with pytest.raises(PayloadError, match=r"payload\.a has the key 7, of type int; JSON keys are text"):
            dump({"a": {7: 1}})

    def test_the_size_is_bounded_to_the_byte(self) -> None:
        assert len(dump("x" * (MAX - 2))) == MAX
        assert len(dump("x" * (MAX - 3))) == MAX - 1
        with pytest.raises(PayloadError, match=f"{MAX + 1} bytes as JSON, more than {MAX}") as caught:
            dump("x" * (MAX - 1))
        assert "artifact" in caught.value.hint

    def test_bytes_are_counted_not_characters(self) -> None:
        with pytest.raises(PayloadError):
            dump("ü" * (MAX // 2))


class TestDumpTakes:
    @pytest.mark.parametrize(
        ("given_value", "read"),
        [
            ((1, (2, 3)), [1, [2, 3]]),
            (Pair(1, 2), [1, 2]),
            (Colour.RED, "red"),
            ({Colour.RED: Number.ONE}, {"red": 1}),
            (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
            (True, True),
            (10**100, 10**100),
            (10**INT_DIGITS_MAX - 1, 10**INT_DIGITS_MAX - 1),
            (-(10 ** (INT_DIGITS_MAX - 1)) + 1, -(10 ** (INT_DIGITS_MAX - 1)) + 1),
            (1e308, 1e308),
            (5e-324, 5e-324),
            (0.1 + 0.2, 0.1 + 0.2),
            ("a\x00b\x1f\u2028", "a\x00b\x1f\u2028"),
            ("\U0001f600", "\U0001f600"),
            ("][}{" * 99, "][}{" * 99),
            ({"": ""}, {"": ""}),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_json_can_hold_is_stored_as_its_base(self, given_value: Any, read: Any) -> None:
        body, loaded = jsonio.dump_and_load(given_value, what="payload", max_bytes=MAX)
        assert loaded == jsonio.load(body) == read
        assert type(loaded) is type(read)

    def test_nothing_of_minus_zero_is_lost(self) -> None:
        assert str(jsonio.load(dump(-0.0))) == "-0.0"

    def test_the_depth_allowed(self) -> None:
        for leaf in (1, "][", [], {}):
            deep = DEPTH_MAX - (leaf in ([], {}))
            assert jsonio.load(dump(nested(deep, leaf))) == nested(deep, leaf)

    def test_what_is_loaded_is_a_copy(self) -> None:
        value = {"a": [1]}
        _, loaded = jsonio.dump_and_load(value, what="payload", max_bytes=MAX)
        loaded["a"].append(2)
        assert value == {"a": [1]}


class TestParseRefuses:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "nul",
            "{",
            "[1,]",
            "{'a': 1}",
            '{"a": 1,}',
            "{a: 1}",
            "[1] [2]",
            '"open',
            '"a\nb"',
            "01",
            "+1",
            ".5",
            "1.",
            "0x10",
            "// comment\n1",
            "NaN",
            "[Infinity]",
            '{"a": -Infinity}',
            '{"a": 1, "a": 1}',
            '[{"b": {"a": 1, "x": 2, "a": 3}}]',
            '{"a": 1, "\\u0061": 2}',
            '"\\ud800"',
            '"\\udc00\\ud800"',
            '{"\\ud800": 1}',
            '"a\x00b"',
            "\x00",
            "\ufeff{}",
            '{"a": 1}'.encode("utf-16-le"),  # which is UTF-8, too, with a NUL after each character
            "[1]".encode("utf-32-be"),
            "{}".encode("utf-8-sig"),
            b"\xff\xfe",
            b'"\xc3"',
            b'"\xed\xa0\x80"',
            '"\ud800"',
            "1e999",
            "-1e999",
            "9" * (INT_DIGITS_MAX + 1),
            "-" + "9" * (INT_DIGITS_MAX + 1),
            "}" * 10,
            "]" * 100 + "[" * 100,
        ],
        ids=lambda text: ascii(text)[:30] if isinstance(text, str | bytes) else "",
    )
    def test_what_is_not_strict_json(self, text: str | bytes) -> None:
        with pytest.raises(PayloadError, match="payload"):
            parse(text)

    @pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 1000, 100_000])
    def test_what_is_too_deep_before_it_is_parsed(self, depth: int) -> None:
        with pytest.raises(PayloadError, match="deep"):
            parse(nested_text(depth), 1 << 24)
        with pytest.raises(PayloadError):
            parse("[" * depth, 1 << 24)

    def test_what_is_too_large_before_it_is_parsed(self) -> None:
        assert parse('"' + "x" * (MAX - 2) + '"') == "x" * (MAX - 2)
        for text in ('"' + "x" * (MAX - 1) + '"', "x" * (MAX + 1), " " * MAX + "1"):
            with pytest.raises(PayloadError, match=f"{MAX + 1} bytes, more than {MAX}"):
                parse(text)

    def test_an_error_says_where_it_is(self) -> None:
        with pytest.raises(PayloadError, match="line 2, column 8") as caught:
            parse('{\n  "a": nope}')
        assert "double quotes" in caught.value.hint
        with pytest.raises(PayloadError, match="key 'a' twice"):
            parse('{"a": 1, "b": 2, "a": 3}')
        with pytest.raises(PayloadError, match="payload has an integer of more than 4300 digits"):
            parse('{"a": ' + "9" * 4301 + "}")


class TestParseTakes:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ('{"a": [1, -2.5, true, null, "x"]}', {"a": [1, -2.5, True, None, "x"]}),
            (b'\n\t {"a" : 1 } \r\n', {"a": 1}),
            ('"\\ud83d\\ude00"', "\U0001f600"),
            ('"\\u0000\\"\\\\[{"', '\x00"\\[{'),
            ("9" * INT_DIGITS_MAX, 10**INT_DIGITS_MAX - 1),
            ("1E3", 1000.0),
            ("-0", 0),
            (nested_text(DEPTH_MAX), None),
            ('[{"a": 1}, {"a": 1}]', [{"a": 1}, {"a": 1}]),
        ],
        ids=lambda text: ascii(text)[:30] if isinstance(text, str | bytes) else "",
    )
    def test_what_is_strict_json(self, text: str | bytes, value: Any) -> None:
        parsed = parse(text)
        assert parsed == (json.loads(text) if value is None else value)

    def test_brackets_in_text_are_no_depth(self) -> None:
        text = json.dumps(["[" * 1000, '"[{\\"' * 100])
        assert parse(text) == json.loads(text)


class TestParseObject:
    def test_it_takes_an_object_only(self) -> None:
        assert jsonio.parse_object('{"a": 1}', what="payload") == {"a": 1}
        for text, named in (
            ("[]", "a list"),
            ('"a"', "text"),
            ("true", "true or false"),
            ("1", "a number"),
            ("1.5", "a number"),
            ("null", "null"),
        ):
            with pytest.raises(PayloadError, match=f"payload is {named}, not a JSON object"):
                jsonio.parse_object(text, what="payload")


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.mark.slow
@QUICK
@given(_json)
def test_what_is_dumped_is_loaded_equal(value: Any) -> None:
    body = dump(value, 1 << 20)
    assert jsonio.load(body) == value
    assert json.loads(body) == value
    assert parse(body, 1 << 20) == value


@pytest.mark.slow
@QUICK
@given(_json, st.booleans(), st.none() | st.integers(0, 3))
def test_what_any_other_writer_makes_is_parsed(value: Any, is_ascii: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
    assert parse(text, 1 << 20) == value


@QUICK
@given(st.binary(max_size=60) | st.text(st.sampled_from('[]{}":,\\u0123dD8 nulltrue1eE-.'), max_size=60))
def test_whatever_comes_in_is_parsed_or_refused(text: str | bytes) -> None:
    try:
        value = parse(text)
    except PayloadError:
        return
    assert jsonio.load(dump(value)) == value
