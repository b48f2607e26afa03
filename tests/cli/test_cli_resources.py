"""`roost resources`, and the options of `roost enqueue` that lead there."""

from __future__ import annotations

import asyncio
import json

import pytest

from roost.config import load_settings
from roost.journal.limits import FOREVER_AT
from roost.wiring import open_runtime
from tests.cli.conftest import Roost


def work_until(roost: Roost, work_id: str, state: str) -> None:
    """Run a worker until a work item is in a state, which need not be its end."""
    settings = load_settings({"home": roost.home})

    async def main() -> None:
        async with open_runtime(settings, engines="demo") as runtime:
            worker = runtime.worker()
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(worker.run())
                while (await runtime.client.status(work_id)).control.state != state:
                    await asyncio.sleep(0.01)
                worker.drain()

    asyncio.run(main())


@pytest.fixture
def sleeper(roost: Roost) -> str:
    """A work item that holds `llm:gpt` over its sleep, and one that waits for it."""
    owner = roost.enqueue(
        {"count": 2, "delay_seconds": 3600},
        *("--resource", "llm:gpt", "--resource", "disk", "--resource-scope", "work"),
    )
    work_until(roost, owner, "scheduled")
    return owner


def test_who_holds_and_who_waits_is_listed(roost: Roost, sleeper: str) -> None:
    waiting = roost.enqueue(None, "--resource", "llm:gpt")
    work_until(roost, waiting, "blocked")
    listed = roost("resources", "list", "--json").ok().document
    assert [view["resource"] for view in listed] == ["disk", "llm:gpt"]
    [owner] = listed[1]["owners"]
    assert (owner["work_id"], owner["scope"]) == (sleeper, "work")
    assert [waiter["work_id"] for waiter in listed[1]["waiters"]] == [waiting]
    assert listed[1]["limits"] == {"capacity": None, "rate": None, "closed_until": None, "closed_by": ""}
    assert sleeper in roost("resources", "list").ok().out
    shown = roost("resources", "show", "llm:gpt").ok().out
    assert f"1. {waiting}" in shown
    assert "scope work" in shown
    assert roost("resources", "show", "llm:gpt", "--json").ok().document == listed[1]


def test_a_resource_that_is_free_is_not_found(roost: Roost) -> None:
    assert roost("resources", "show", "nothing").code == 3
    assert roost("resources", "list", "--json").ok().document == []


def test_capacity_and_rate_are_set_and_taken_back(roost: Roost) -> None:
    roost("resources", "set", "llm:gpt", "--capacity", "5", "--rate", "60/1m").ok()
    limits = roost("resources", "show", "llm:gpt", "--json").ok().document["limits"]
    assert (limits["capacity"], limits["rate"]) == (5, {"count": 60, "period_seconds": 60.0})
    assert "capacity 5, 60 in 1 m" in roost("resources", "show", "llm:gpt").ok().out
    roost("resources", "set", "llm:gpt", "--capacity", "none", "--rate", "5/s").ok()
    limits = roost("resources", "show", "llm:gpt", "--json").ok().document["limits"]
    assert (limits["capacity"], limits["rate"]) == (None, {"count": 5, "period_seconds": 1.0})
    roost("resources", "set", "llm:gpt", "--rate", "none").ok()
    assert roost("resources", "show", "llm:gpt").code == 3


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--capacity", "0"],
        ["--capacity", "many"],
        ["--rate", "60"],
        ["--rate", "x/1m"],
        ["--rate", "0/1m"],
        ["--rate", "5/never"],
    ],
)
def test_what_is_no_setting_is_refused(roost: Roost, options: list[str]) -> None:
    assert roost("resources", "set", "r", *options).code == 2


def test_work_parks_while_a_resource_is_closed_and_goes_on_when_it_is_opened(roost: Roost) -> None:
    roost("resources", "close", "llm:gpt", "--for", "1h").ok()
    roost("resources", "close", "llm:gpt").ok()
    limits = roost("resources", "show", "llm:gpt", "--json").ok().document["limits"]
    assert (limits["closed_until"], limits["closed_by"]) == (FOREVER_AT, "an operator")
    assert "until it is opened" in roost("resources", "list").ok().out
    work_id = roost.enqueue(None, "--resource", "llm:gpt")
    work_until(roost, work_id, "blocked")
    roost("resources", "open", "llm:gpt").ok()
    work_until(roost, work_id, "done")


def test_an_owner_is_evicted(roost: Roost, sleeper: str) -> None:
    waiting = roost.enqueue(None, "--resource", "llm:gpt")
    work_until(roost, waiting, "blocked")
    assert roost("resources", "evict", "llm:gpt", waiting).code == 5
    roost("resources", "evict", "llm:gpt", sleeper).ok()
    work_until(roost, waiting, "done")
    assert roost("status", sleeper, "--json").ok().document["control"]["state"] == "scheduled"


def test_a_capacity_is_part_of_a_resource_option(roost: Roost) -> None:
    work_id = roost.enqueue(None, "--resource", "llm:gpt=5", "--resource", "a=1=1", "--resource", "b=c")
    item = roost("status", work_id, "--json").ok().document["item"]
    assert item["resources"] == ["llm:gpt", "a=1", "b=c"]
    assert item["capacities"] == {"llm:gpt": 5, "a=1": 1}
    assert item["resource_scope"] == "step"
    assert roost("enqueue", "--engine", "demo", "--payload", "{}", "--resource", "r=0").code == 2


def test_lines_of_a_file_have_capacities_and_a_scope(roost: Roost) -> None:
    line = {"payload": {"count": 1}, "resources": ["r"], "capacities": {"r": 3}, "resource_scope": "work"}
    roost.write("items.jsonl", json.dumps(line))
    work_id = roost("enqueue", "--engine", "demo", "--file", "items.jsonl").ok().out.strip()
    item = roost("status", work_id, "--json").ok().document["item"]
    assert (item["capacities"], item["resource_scope"]) == ({"r": 3}, "work")
    for wrong in ({"capacities": {"r": "3"}}, {"capacities": [3]}, {"resource_scope": "ever"}):
        roost.write("items.jsonl", json.dumps(line | wrong))
        assert roost("enqueue", "--engine", "demo", "--file", "items.jsonl").code == 2


# --- explain -------------------------------------------------------------------------


def test_explain_says_who_holds_what_is_waited_for(roost: Roost, sleeper: str) -> None:
    waiting = roost.enqueue(None, "--resource", "llm:gpt")
    work_until(roost, waiting, "blocked")
    document = roost("explain", waiting, "--json").ok().document
    assert set(document) == {"work_id", "cause", "text", "if_worker_dies", "next_at"}
    assert (document["work_id"], document["cause"]) == (waiting, "held")
    assert f"llm:gpt is held by {sleeper} until it ends; it is 1st in line" in document["text"]
    lines = roost("explain", waiting).ok().out.splitlines()
    assert lines == [document["text"], document["if_worker_dies"]]
    roost("resources", "close", "llm:gpt", "--for", "1h").ok()
    closed = roost("explain", waiting, "--json").ok().document
    assert (closed["cause"], closed["next_at"] is None) == ("closed", False)
    assert roost("explain", sleeper, "--json").ok().document["cause"] == "delayed"


def test_explain_of_work_that_nobody_takes_and_of_what_is_not_there(roost: Roost) -> None:
    work_id = roost.enqueue()
    assert roost("explain", work_id, "--json").ok().document["cause"] == "backlog"
    roost.work()
    assert roost("explain", work_id, "--json").ok().document["cause"] == "ended"
    assert roost("explain", "unknown").code == 3
