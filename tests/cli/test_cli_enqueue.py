"""`roost enqueue`: what it takes, what it prints, and that mistakes store nothing."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from roost.cli.enqueue import read_input
from roost.errors import InputError
from tests.cli.conftest import Roost

DEEP = '{"a":' * 1000 + "1" + "}" * 1000


def test_prints_the_id_and_nothing_else(roost: Roost) -> None:
    result = roost("enqueue", "--engine", "demo", "--payload", '{"count": 2}').ok()
    assert result.out.split() == roost.ids()


def test_payload_comes_from_text_file_or_stdin(roost: Roost) -> None:
    path = roost.write("payload.json", '{"count": 4}')
    for value, stdin in (('{"count": 4}', b""), (f"@{path}", b""), ("-", b'{"count": 4}')):
        work_id = roost("enqueue", "--engine", "demo", "--payload", value, stdin=stdin).ok().out.strip()
        assert roost("status", work_id, "--json").document["item"]["payload"] == {"count": 4}


def test_no_payload_is_an_empty_object(roost: Roost) -> None:
    work_id = roost("enqueue", "--engine", "demo").ok().out.strip()
    assert roost("status", work_id, "--json").document["item"]["payload"] == {}


def test_every_option_reaches_the_item(roost: Roost) -> None:
    roost.enqueue(
        None, "--resource", "a", "--resource", "domain:b c", "--priority", "3", "--work-id", "mine",
        "--delay", "1h", "--deadline", "2h",
    )  # fmt: skip
    shown = roost("status", "mine", "--json").document
    item, control = shown["item"], shown["control"]
    assert item["resources"] == ["a", "domain:b c"]
    assert item["priority"] == 3
    assert item["deadline_at"] == pytest.approx(item["created_at"] + 7200, abs=5)
    assert control["state"] == "scheduled"
    assert control["lane"] == "high"
    assert control["wake_at"] == pytest.approx(item["created_at"] + 3600, abs=5)


def test_deadline_can_be_an_instant(roost: Roost) -> None:
    roost.enqueue(None, "--work-id", "later", "--deadline", "2100-01-01T00:00:00Z")
    assert roost("status", "later", "--json").document["item"]["deadline_at"] == 4102444800


def test_same_key_gives_the_same_work(roost: Roost) -> None:
    ids = {roost.enqueue(None, "--idempotency-key", "order 7") for _ in range(2)}
    assert len(ids) == 1
    assert roost.ids() == list(ids)


def test_same_id_with_other_content_is_a_conflict(roost: Roost) -> None:
    roost.enqueue({"count": 1}, "--work-id", "one")
    roost.enqueue({"count": 1}, "--work-id", "one")
    result = roost("enqueue", "--engine", "demo", "--payload", '{"count": 2}', "--work-id", "one")
    assert result.code == 5
    assert result.out == ""
    assert "one" in result.err
    assert roost("status", "one", "--json").document["item"]["payload"] == {"count": 1}


def test_json_output(roost: Roost) -> None:
    shown = roost("enqueue", "--engine", "demo", "--json").ok().document
    assert [shown["work_id"]] == roost.ids()


BAD_PAYLOADS = {
    "malformed": '{"count": 1',
    "bare word": "{count: 1}",
    "empty": "",
    "list": "[1]",
    "text": '"x"',
    "number": "1",
    "null": "null",
    "NaN": '{"count": NaN}',
    "infinity": '{"count": -Infinity}',
    "overflow": '{"count": 1e999}',
    "lone surrogate": '{"a": "\\ud800"}',
    "not UTF-8": '{"a": "\udcff"}',
    "duplicate key": '{"a": 1, "a": 2}',
    "1000 deep": DEEP,
    "huge integer": '{"a": ' + "9" * 5000 + "}",
    "two documents": "{} {}",
    "wrong field": '{"count": "three"}',
    "unknown field": '{"cuont": 3}',
    "out of bounds": '{"count": -1}',
}


@pytest.mark.parametrize("name", BAD_PAYLOADS)
def test_bad_payload_is_one_error_and_stores_nothing(roost: Roost, name: str) -> None:
    result = roost("enqueue", "--engine", "demo", "--payload", BAD_PAYLOADS[name])
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("Error: ")
    assert len(result.err.splitlines()) <= 2
    assert len(result.err) < 1000
    assert roost.ids() == []


def test_too_large_payload_is_refused(roost: Roost) -> None:
    body = json.dumps({"text": "x" * (1 << 20)}).encode()
    result = roost("enqueue", "--engine", "x", "--any-engine", "--payload", "-", stdin=body)
    assert result.code == 2
    assert "1048576" in result.err
    assert roost.ids() == []


class Endless(io.RawIOBase):
    """What gives zeros for ever, as /dev/zero or a pipe may; but no test waits for that."""

    read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.read_bytes += len(buffer)
        assert self.read_bytes < 16 << 20, "it is read to its end, which never comes"
        buffer[:] = bytes(len(buffer))
        return len(buffer)


@pytest.mark.parametrize("option", ["--payload", "--data"])
def test_input_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    """It was read until there was no memory left."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    with pytest.raises(InputError, match=f"{option} has more than 1048576 bytes"):
        read_input("-", option)


def test_bytes_on_stdin_that_are_not_text_are_refused(roost: Roost) -> None:
    result = roost("enqueue", "--engine", "demo", "--payload", "-", stdin=b'\xff\xfe{"a":1}')
    assert result.code == 2
    assert "UTF-8" in result.err


@pytest.mark.parametrize(
    "options",
    [
        ["--resource", "a\x00b"],
        ["--resource", "a\nb"],
        ["--resource", ""],
        ["--resource", "x" * 1025],
        ["--resource", "\udcff"],
        [option for n in range(33) for option in ("--resource", f"r{n}")],
        ["--work-id", "a\x00b"],
        ["--work-id", "a/b"],
        ["--work-id", ""],
        ["--work-id", "x" * 129],
        ["--idempotency-key", "k\x00"],
        ["--idempotency-key", ""],
        ["--idempotency-key", "k", "--work-id", "w"],
        ["--delay", "soon"],
        ["--delay", "-5"],
        ["--delay", "inf"],
        ["--delay", "99999d"],
        ["--delay", "9" * 400],
        ["--deadline", "yesterday"],
        ["--deadline", "2001-01-01"],
        ["--deadline", "0001-01-01"],
        ["--deadline", "0s"],
        ["--priority", "high"],
        ["--payload", "@missing.json"],
        ["--deadline", "2030-02-30"],
        ["--label", "a=1", "--label", "a=2"],
        ["--budget", "steps=1", "--budget", "steps=2"],
        ["--budget", "steps=nan"],
        ["--budget", "steps=inf"],
        ["--deadline", "4000d"],
        ["--resource", "a=-1"],
        ["--resource", "a=1.5"],
        ["--resource", "a=99999999999"],
        ["--resource", "=3"],
        ["--payload", "@"],
        ["--payload", "@."],
    ],
)
def test_bad_option_is_one_error_and_stores_nothing(roost: Roost, options: list[str]) -> None:
    result = roost("enqueue", "--engine", "demo", *options)
    assert result.code == 2
    assert result.out == ""
    assert result.err
    assert roost.ids() == []


def test_engine_must_be_named(roost: Roost) -> None:
    result = roost("enqueue", "--payload", "{}")
    assert result.code == 2
    assert "--engine" in result.err


def test_unknown_engine_names_the_installed_ones(roost: Roost) -> None:
    result = roost("enqueue", "--engine", "nope")
    assert result.code == 3
    assert "demo" in result.err
    assert "--any-engine" in result.err
    assert roost.ids() == []


def test_any_engine_enqueues_for_workers_elsewhere(roost: Roost) -> None:
    work_id = roost("enqueue", "--engine", "elsewhere", "--any-engine").ok().out.strip()
    assert roost("status", work_id, "--json").document["item"]["engine"] == "elsewhere"


@pytest.mark.parametrize("engine", ["a b", "a\x00b", "x" * 129, "\udcff"])
def test_malformed_engine_id_is_refused(roost: Roost, engine: str) -> None:
    assert roost("enqueue", "--any-engine", "--engine", engine).code == 2
    assert roost.ids() == []


def test_module_and_attribute_is_not_taken_for_an_engine_id(roost: Roost) -> None:
    """Work under that name would wait for ever: workers serve engine ids."""
    roost.write("my_engine.py", "from roost.engines.demo import DemoEngine\n")
    result = roost("enqueue", "--engine", "roost.engines.demo:DemoEngine")
    if result.code == 0:
        assert roost("status", result.out.strip(), "--json").document["item"]["engine"] == "demo"
    else:
        assert result.code in (2, 3)
        assert roost.ids() == []


# --- many items ---------------------------------------------------------------------


def _lines(*items: object) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def test_file_enqueues_a_line_each_in_order(roost: Roost) -> None:
    content = _lines(
        {"payload": {"count": 1}},
        {"engine": "demo", "payload": {"count": 2}, "work_id": "two", "priority": -1, "resources": ["r"]},
        {"payload": {"count": 3}, "delay": "1h", "idempotency_key": "k"},
        {"payload": {"count": 4}, "delay": 60, "deadline": "2h"},
    )
    result = roost("enqueue", "--engine", "demo", "--file", "-", stdin=content + b"\n\n").ok()
    ids = result.out.split()
    shown = [roost("status", work_id, "--json").document for work_id in ids]
    assert [view["item"]["payload"]["count"] for view in shown] == [1, 2, 3, 4]
    assert [view["control"]["state"] for view in shown] == ["queued", "queued", "scheduled", "scheduled"]
    assert ids[1] == "two"
    assert shown[1]["item"]["resources"] == ["r"]


def test_file_of_many_batches(roost: Roost) -> None:
    path = roost.write("items.jsonl", _lines(*({"payload": {"count": 1}} for _ in range(2500))))
    result = roost("enqueue", "--engine", "demo", "--file", str(path)).ok()
    assert len(set(result.out.split())) == 2500


def test_empty_file_enqueues_nothing(roost: Roost) -> None:
    assert roost("enqueue", "--engine", "demo", "--file", "-", stdin=b"").ok().out == ""
    assert roost("enqueue", "--engine", "demo", "--file", "-", "--json", stdin=b"").ok().document == []


@pytest.mark.parametrize(
    "third",
    [
        "{",
        "[]",
        "null",
        '{"payload": []}',
        '{"payload": null}',
        '{"payload": {"count": "x"}}',
        '{"payload": {"count": NaN}}',
        '{"payload": ' + DEEP + "}",
        '{"payload": {}, "engine": "nope"}',
        '{"payload": {}, "engine": 7}',
        '{"payload": {}, "engin": "demo"}',
        '{"payload": {}, "work_id": 7}',
        '{"payload": {}, "work_id": "a b"}',
        '{"payload": {}, "idempotency_key": 7}',
        '{"payload": {}, "idempotency_key": {"a": 1}}',
        '{"payload": {}, "priority": "high"}',
        '{"payload": {}, "priority": 1.5}',
        '{"payload": {}, "priority": true}',
        '{"payload": {}, "resources": "r"}',
        '{"payload": {}, "resources": {"r": 1}}',
        '{"payload": {}, "resources": [1]}',
        '{"payload": {}, "resources": ["a\\u0000b"]}',
        '{"payload": {}, "delay": "soon"}',
        '{"payload": {}, "delay": -1}',
        '{"payload": {}, "delay": [1]}',
        '{"payload": {}, "delay": true}',
        '{"payload": {}, "deadline": "2001-01-01"}',
        '{"payload": {}, "deadline": {}}',
        '{"payload": {}, "deadline": true}',
        '{"payload": {}, "deadline": 1893456000}',
        '{"payload": {}, "budget": 5}',
        '{"payload": {}, "family_budget": {"usd": "much"}}',
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_stored(roost: Roost, third: str) -> None:
    content = b'{"payload": {"count": 1}}\n{"payload": {}}\n' + third.encode() + b'\n{"payload": {}}\n'
    result = roost("enqueue", "--engine", "demo", "--file", "-", stdin=content)
    assert result.code in (2, 3)
    assert "line 3" in result.err
    assert result.out == ""
    assert roost.ids() == []


def test_a_line_may_have_all_that_help_says(roost: Roost) -> None:
    content = _lines(
        {"payload": {}, "budget": {"steps": 10}, "family_budget": {"usd": 2.5}, "delay": 1e-6, "deadline": 60}
    )
    work_id = roost("enqueue", "--engine", "demo", "--file", "-", stdin=content).ok().out.strip()
    assert roost("status", work_id, "--json").document["item"]["budget"] == {"steps": 10.0}


def test_a_byte_order_mark_is_no_part_of_a_file(roost: Roost) -> None:
    """Editors on Windows write one."""
    line = b"\xef\xbb\xbf" + _lines({"payload": {"count": 1}})
    assert roost("enqueue", "--engine", "demo", "--file", "-", stdin=line).ok().out
    assert roost("enqueue", "--engine", "demo", "--payload", "-", stdin=b'\xef\xbb\xbf{"count": 1}').ok().out


@pytest.mark.parametrize("own", [{"work_id": "w"}, {"idempotency_key": "w"}])
def test_one_id_for_two_lines_is_refused_before_any_is_stored(roost: Roost, own: dict[str, str]) -> None:
    """Else the ids of the lines that were stored would be lost, and the file could not be used again."""
    content = _lines({"payload": {}}, {"payload": {"count": 1}, **own}, {"payload": {"count": 2}, **own})
    result = roost("enqueue", "--engine", "demo", "--file", "-", stdin=content)
    assert (result.code, result.out, roost.ids()) == (2, "", [])
    assert "line 3: 'w' is of line 2" in result.err
    same = _lines({"payload": {"count": 1}, **own}, {"payload": {"count": 1}, **own})
    first, second = roost("enqueue", "--engine", "demo", "--file", "-", stdin=same).ok().out.split()
    assert first == second


@pytest.mark.parametrize("own", [{"work_id": "w"}, {"idempotency_key": "w"}])
def test_a_line_whose_id_is_taken_is_named_before_any_is_stored(roost: Roost, own: dict[str, str]) -> None:
    content = _lines({"payload": {"count": 1}, **own})
    (taken,) = roost("enqueue", "--engine", "demo", "--file", "-", stdin=content).ok().out.split()
    content = _lines({"payload": {}}, {"payload": {"count": 2}, **own}, {"payload": {}})
    result = roost("enqueue", "--engine", "demo", "--file", "-", stdin=content)
    assert (result.code, result.out, roost.ids()) == (5, "", [taken])
    assert result.err.startswith("Error: line 2: ")


def test_file_and_payload_together_are_refused(roost: Roost) -> None:
    """Options that a file's lines hold must not be silently ignored."""
    content = _lines({"payload": {"count": 1}})
    for options in (["--payload", "{}"], ["--resource", "r"], ["--delay", "5s"], ["--work-id", "w"]):
        result = roost("enqueue", "--engine", "demo", "--file", "-", *options, stdin=content)
        assert result.code == 2
        assert roost.ids() == []


def test_missing_file_is_named(roost: Roost) -> None:
    result = roost("enqueue", "--engine", "demo", "--file", "missing.jsonl")
    assert result.code == 2
    assert "missing.jsonl" in result.err
