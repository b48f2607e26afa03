"""`roost schedules`, and enqueueing in conversations and under keys, as commands."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from roost.core import outside
from tests.cli.conftest import Roost

RULES = """
[schedules.often]
cron = "* * * * *"
engine = "demo"
payload = { count = 1 }

[schedules.nightly]
cron = "0 3 * * *"
timezone = "Europe/Berlin"
engine = "demo"

[triggers.again]
engine = "demo"
when = "item.payload.count == `2`"
enqueue = "demo"
payload = { count = "`1`" }
"""


def enqueue(roost: Roost, *options: str) -> Any:
    return roost("enqueue", "--engine", "demo", "--payload", '{"count": 1}', *options)


def test_schedules_are_listed_paused_resumed_and_removed(roost: Roost) -> None:
    assert roost("schedules", "list", "--json").ok().document == []
    roost.write("roost.toml", RULES)
    assert "2 schedules" in roost("schedules", "apply").ok().err
    roost("schedules", "apply").ok()
    nightly, often = roost("schedules", "list", "--json").ok().document
    assert (nightly["name"], nightly["timezone"], nightly["missed"]) == ("nightly", "Europe/Berlin", "once")
    assert nightly["next_at"] > often["next_at"]
    roost("schedules", "pause", "often", "--reason", "too much").ok()
    [_, often] = roost("schedules", "list", "--json").ok().document
    assert (often["state"], often["reason"]) == ("paused", "too much")
    roost("schedules", "resume", "often").ok()
    roost("schedules", "remove", "nightly").ok()
    roost.work()
    assert "nightly" not in roost("schedules", "list").ok().out
    assert roost("schedules", "pause", "none").code == 3


@pytest.mark.slow
def test_worker_that_runs_until_idle_waits_for_what_comes_of_work_that_ended(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last commit and the enqueueing that its trigger asks for, all is seen as ended."""
    do_effect = outside.carry_out_one

    async def late(*args: Any) -> None:
        await asyncio.sleep(0.3)
        await do_effect(*args)

    monkeypatch.setattr(outside, "carry_out_one", late)
    roost.write("roost.toml", RULES)
    roost.enqueue({"count": 2})
    roost.work()
    done = roost("list", "--engine", "demo", "--json").ok().document["rows"]
    assert [row["state"] for row in done] == ["done", "done"]


@pytest.mark.slow
def test_worker_that_runs_until_idle_does_not_wait_for_schedules(roost: Roost) -> None:
    roost.write("roost.toml", RULES)
    work_id = roost.enqueue({"count": 2})
    roost.work()
    done = roost("list", "--engine", "demo", "--json").ok().document["rows"]
    assert {row["state"] for row in done} == {"done"}
    assert len(done) == 2
    [made] = [row["work_id"] for row in done if row["work_id"] != work_id]
    item = roost("status", made, "--json").ok().document["item"]
    assert item["triggered_by"] == [work_id, "again"]


def test_conversation_that_is_busy_rejects_queues_and_interrupts(roost: Roost) -> None:
    first = enqueue(roost, "--conversation", "chat").ok().out.strip()
    refused = enqueue(roost, "--conversation", "chat", "--if-busy", "reject")
    assert refused.code == 5
    assert first in refused.err
    second = enqueue(roost, "--conversation", "chat").ok().out.strip()
    third = enqueue(roost, "--conversation", "chat", "--if-busy", "interrupt").ok().out.strip()
    roost.work()
    states = [roost("status", w, "--json").ok().document["control"]["state"] for w in (first, second, third)]
    assert states == ["cancelled", "cancelled", "done"]
    assert len(roost.ids()) == 3  # the conversation itself is not listed as work


def test_lines_of_a_file_may_be_of_conversations(roost: Roost) -> None:
    lines = [{"payload": {"count": 1}, "conversation": "a"}, {"payload": {"count": 1}}] * 2
    roost.write("items.jsonl", "\n".join(json.dumps(line) for line in lines))
    ids = roost("enqueue", "--engine", "demo", "--file", "items.jsonl").ok().out.split()
    assert len(set(ids)) == 4
    roost.work()
    for work_id, line in zip(ids, lines, strict=True):
        item = roost("status", work_id, "--json").ok().document["item"]
        assert item["conversation"] == line.get("conversation")


def test_key_for_a_stated_time_is_the_same_work(roost: Roost) -> None:
    options = ("--idempotency-key", "order-17", "--idempotency-time", "24h")
    ids = {enqueue(roost, *options).ok().out.strip() for _ in range(2)}
    assert len(ids) == 1
    other = roost("enqueue", "--engine", "demo", "--payload", '{"count": 2}', *options)
    assert other.code == 5
    assert "another payload" in other.err


@pytest.mark.parametrize(
    "options",
    [
        ("--if-busy", "reject"),
        ("--idempotency-time", "1h"),
        ("--idempotency-key", "k", "--idempotency-time", "soon"),
        ("--conversation", "a", "--if-busy", "explode"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(roost: Roost, options: tuple[str, ...]) -> None:
    assert enqueue(roost, *options).code == 2
