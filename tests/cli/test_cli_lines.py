"""New work from JSON Lines: what a line may say, and that what was checked waits in little memory."""

from __future__ import annotations

import errno
import io
from typing import Any

import pytest

from roost.cli import lines
from roost.core.new_work import NewWork
from roost.errors import InputError, RoostError
from roost.names import IfBusy, Scope

NOW = 1000.0

EVERYTHING: dict[str, Any] = {
    "engine": "demo",
    "payload": {"count": 10**30, "text": "a\nb\u2028c"},
    "resources": ["r", "s"],
    "capacities": {"r": 2},
    "resource_scope": "work",
    "delay": "1m",
    "priority": -1,
    "deadline": "2h",
    "budget": {"usd": 2.5},
    "family_budget": {"steps": 100},
    "labels": {"team": "a"},
    "idempotency_key": "k",
    "conversation": "c",
    "if_busy": "fork",
}


def new_work(fields: dict[str, Any]) -> NewWork:
    return lines.Checker(NOW, None).new_work("line 7: ", fields)


def test_a_line_may_say_all_that_new_work_is() -> None:
    assert new_work(EVERYTHING) == NewWork(
        engine="demo",
        payload=EVERYTHING["payload"],
        resources=("r", "s"),
        capacities={"r": 2},
        resource_scope=Scope.WORK,
        delay_seconds=60.0,
        priority=-1,
        deadline_at=NOW + 7200,
        budget={"usd": 2.5},
        family_budget={"steps": 100},
        labels={"team": "a"},
        idempotency_key="k",
        conversation="c",
        if_busy=IfBusy.FORK,
    )
    assert new_work(
        {"engine": "demo", "idempotency_key": "k", "idempotency_time": "1h", "work_id": None}
    ) == (NewWork("demo", {}, idempotency_key="k", idempotency_seconds=3600.0))


def test_each_key_of_a_line_is_known() -> None:
    text = io.BytesIO(b'\n{"payload": {}, "budget": {"usd": 1}}\r\n  \n{"engine": "other"}')
    assert list(lines.read_lines(text, "demo")) == [
        ("line 2: ", {"engine": "demo", "payload": {}, "budget": {"usd": 1}}),
        ("line 4: ", {"engine": "other"}),
    ]
    with pytest.raises(InputError, match="line 1: unknown key 'budgets'"):
        list(lines.read_lines(io.BytesIO(b'{"budgets": 1}'), None))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("budget", "all"),
        ("budget", {"usd": "1"}),
        ("budget", {"usd": True}),
        ("family_budget", [1]),
        ("labels", {"a": 1}),
        ("capacities", {"r": 1.5}),
        ("resource_scope", "day"),
        ("if_busy", ["fork"]),
        ("idempotency_time", "soon"),
        ("conversation", 7),
    ],
)
def test_a_wrong_value_is_named_with_its_line(key: str, value: Any) -> None:
    with pytest.raises(RoostError, match=f"^line 7: .*{key.split('_')[0]}"):
        new_work({"engine": "demo", "idempotency_key": "k", key: value})


def test_a_line_without_an_end_is_not_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_MAX_BYTES", 1000)
    endless = io.BytesIO(b'{"payload": "' + b"x" * 100_000)
    with pytest.raises(InputError, match="line 1 has 1001 bytes, more than 1000"):
        list(lines.read_lines(endless, "demo"))
    assert endless.tell() == 1001


@pytest.mark.parametrize("limit", [10, 1 << 20])
def test_what_is_set_aside_comes_back_as_it_was(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "IN_MEMORY_MAX_BYTES", limit)
    works = [new_work(EVERYTHING), NewWork("demo", {}), new_work(EVERYTHING | {"priority": 2})]
    placed = [(f"line {number}: ", work) for number, work in enumerate(works)]
    with lines.set_aside(iter(placed)) as again:
        assert [list(again()), list(again())] == [placed, placed]


def test_nothing_is_given_before_all_is_checked() -> None:
    def faulty() -> Any:
        yield "line 1: ", NewWork("demo", {})
        raise InputError("line 2 is wrong")

    with pytest.raises(InputError, match="line 2"), lines.set_aside(faulty()) as _:
        pytest.fail("work was given")


def test_no_room_for_what_was_checked_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lines.tempfile, "SpooledTemporaryFile", lambda limit: Full())
    placed = [("line 1: ", NewWork("demo", {}))]
    with pytest.raises(InputError, match="No space left") as caught, lines.set_aside(placed):
        pytest.fail("work was given")
    assert "TMPDIR" in caught.value.hint
