"""`roost cancel`, `pause`, `resume`, `retry`, `purge`, `budget`, `fork`, `diff` and `dlq`."""

from __future__ import annotations

import getpass
import re
from typing import Any

import pytest

from tests.cli.conftest import Roost

pytestmark = pytest.mark.slow


def state(roost: Roost, work_id: str) -> str:
    text: str = roost("status", work_id, "--json").ok().document["control"]["state"]
    return text


def events(roost: Roost, work_id: str) -> list[dict[str, Any]]:
    return roost("events", work_id, "--json").ok().documents


def test_cancel_says_who_and_why(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    work_id = roost.enqueue(None, "--delay", "1h")
    assert roost("cancel", work_id, "--reason", "no longer needed", "--by", "30s").ok().out == f"{work_id}\n"
    asked = events(roost, work_id)[-1]
    assert (asked["kind"], asked["actor"]) == ("cancel_requested", getpass.getuser())
    assert asked["detail"]["reason"] == "no longer needed"
    assert asked["detail"]["by"] == pytest.approx(asked["at"] + 30, abs=1)
    roost.work()
    assert state(roost, work_id) == "cancelled"
    assert roost("cancel", work_id).code == 5
    monkeypatch.setenv("ROOST_ACTOR", "deploy-bot")
    roost("retry", work_id, "--reason", "after all").ok()
    assert events(roost, work_id)[-1]["actor"] == "deploy-bot"


def test_pause_and_resume(roost: Roost) -> None:
    work_id = roost.enqueue()
    roost("pause", work_id, "--reason", "wait").ok()
    roost("worker", "--engines", "demo", "--until-idle").ok()
    [row] = roost("list", "--state", "paused", "--json").ok().document["rows"]
    assert (row["work_id"], row["reason"]) == (work_id, "wait")
    roost("resume", work_id).ok()
    roost.work()
    assert state(roost, work_id) == "done"


def test_a_filter_needs_a_yes_where_nobody_can_be_asked(roost: Roost) -> None:
    ids = {roost.enqueue(None, "--delay", "1h") for _ in range(3)}
    dry = roost("cancel", "--engine", "demo", "--dry-run", "--json").ok()
    assert set(dry.documents[0]["done"]) == ids
    refused = roost("cancel", "--engine", "demo")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert all(state(roost, work_id) == "scheduled" for work_id in ids)
    done = roost("cancel", "--engine", "demo", "--yes").ok()
    assert set(done.out.split()) == ids
    assert "3 cancelled" in done.err
    roost.work()
    assert {state(roost, work_id) for work_id in ids} == {"cancelled"}


def test_neither_ids_nor_a_filter_or_both_is_wrong_usage(roost: Roost) -> None:
    for verb in ("cancel", "pause", "resume", "retry", "purge"):
        assert roost(verb).code == 2
        assert roost(verb, "some-id", "--state", "failed").code == 2


def test_work_is_retried_from_a_version_and_purged(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 4})
    roost.work()
    roost("retry", work_id, "--from", "1", "--reason", "from the first").ok()
    assert events(roost, work_id)[-1]["detail"]["reason"] == "from the first"
    roost.work()
    data = roost("status", work_id, "--json").ok().document["snapshot"]
    assert (data["version"], data["data"]["count"]) == (7, 4)
    other = roost.enqueue()  # storage keeps the newest
    roost.work()
    purged = roost("purge", work_id, "nobody", "--reason", "too old", "--json")
    assert purged.code == 5
    assert purged.documents[0]["done"] == [work_id]
    assert purged.documents[0]["skipped"][0][0] == "nobody"
    [deed] = roost("audit", "--json").ok().document
    assert (deed["what"], deed["reason"]) == ("purge", "too old")
    assert work_id in deed["details"] + deed["target"]
    assert "too old" in roost("audit").ok().out
    assert roost("status", work_id).code == 3
    assert state(roost, other) == "done"


def test_dlq_lists_shows_and_acts_on_failed_work(roost: Roost) -> None:
    work_id = roost.enqueue(None, "--deadline", "1s", "--delay", "1h")
    roost.work()
    [row] = roost("dlq", "list", "--json").ok().document["rows"]
    assert row["work_id"] == work_id
    [error] = roost("dlq", "show", work_id, "--json").ok().document
    assert error["error"]["type"] == "DeadlineExceeded"
    assert roost("dlq", "retry").code == 2
    assert roost("dlq", "retry", "--yes", "--reason", "no deadline now").ok().out.split() == [work_id]
    roost.work()
    assert state(roost, work_id) == "done"
    assert roost("dlq", "list", "--json").ok().document["rows"] == []
    assert roost("dlq", "list", "--messages", "--json").ok().document == []
    assert roost("dlq", "drop", "--messages", "--yes", "--json").ok().document["messages"] == 0


def test_a_budget_parks_and_more_lets_go_on(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 4}, "--budget", "steps=2")
    roost.work()
    assert roost("budget", work_id, "--json").ok().document == {"steps": {"spent": 2.0, "limit": 2.0}}
    [row] = roost("list", "--state", "paused", "--json").ok().document["rows"]
    assert row["reason"] == "budget used up: steps 2 of 2"
    assert roost("budget", work_id, "--set", "steps").code == 2
    roost("budget", work_id, "--set", "steps=50", "--reason", "worth it").ok()
    roost.work()
    assert state(roost, work_id) == "done"


def test_budgets_of_a_family_and_of_a_day(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 4}, "--family-budget", "steps=2")
    roost.work()
    assert roost("budget", work_id, "--family", "--json").ok().document["steps"] == {
        "spent": 2.0,
        "limit": 2.0,
    }
    [row] = roost("list", "--state", "paused", "--json").ok().document["rows"]
    assert row["reason"] == f"budget of the family of {work_id} used up: steps 2 of 2"
    assert "until somebody raises it" in roost("explain", work_id).ok().out
    roost("budget", work_id, "--family", "--set", "steps=50", "--reason", "worth it").ok()
    roost.work()
    assert state(roost, work_id) == "done"
    assert roost("budget", "--day", "--json").ok().document == {}
    assert roost("budget", "--day", "--set", "steps=7", "--json").ok().document == {
        "steps": {"spent": 0.0, "limit": 7.0}
    }
    assert roost("budget", "--day", "--clear", "--json").ok().document == {}
    assert roost("budget").code == roost("budget", work_id, "--day").code == 2


def test_fork_and_diff(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 3})
    roost.work()
    forked = roost("fork", work_id, "--at", "1", "--set", "data.extra=5", "--set", "data.text=plain").ok()
    new_id = forked.out.strip()
    roost.work()
    document = roost("status", new_id, "--json").ok().document
    assert document["item"]["forked_from"] == [work_id, 1]
    assert document["snapshot"]["data"]["extra"] == 5
    assert document["snapshot"]["data"]["text"] == "plain"
    assert state(roost, new_id) == "done"
    changes = roost("diff", work_id, "1", "2", "--json").ok().document
    assert changes == roost("history", work_id, "1", "2", "--json").ok().document
    assert any(change["path"].startswith("/data") for change in changes)
    assert roost("fork", work_id, "--at", "99").code == 2
    assert roost("fork", work_id, "--at", "1", "--set", "nothing").code == 2


def test_an_engine_and_a_lane_are_paused_and_resumed(roost: Roost) -> None:
    roost("pause", "--engine", "demo", "--reason", "bad release").ok()
    roost("pause", "--lane", "low").ok()
    shown = roost("switches", "--json").ok().document
    assert [(one["target"], one["reason"]) for one in shown] == [
        ("engine:/demo", "bad release"),
        ("lane:low", ""),
    ]
    work_id = roost.enqueue()
    assert roost("pause", "--engine", "demo", "--lane", "low").code == 2
    assert roost("resume", work_id, "--engine", "demo").code == 2
    assert "1 work items woken" in roost("resume", "--engine", "demo").ok().err
    roost("resume", "--lane", "low").ok()
    roost.work()
    assert state(roost, work_id) == "done"
    assert roost("switches", "--json").ok().document == []
    [paused] = [one for one in events(roost, "roost-switches/all") if one["detail"]["is_paused"]][:1]
    assert paused["actor"] == getpass.getuser()


def test_many_are_retried_from_a_version_and_held_for_a_while(roost: Roost) -> None:
    ids = {roost.enqueue({"count": 3}) for _ in range(3)}
    roost.work()
    options = ("--state", "done", "--from", "1", "--reason", "the second step is mended")
    shown = roost("retry", *options, "--dry-run").ok()
    assert set(shown.out.split()) == ids
    roost("retry", *options, "--yes").ok()
    for work_id in ids:
        last = roost("events", work_id, "-n", "1", "--json").ok().document
        assert (last["kind"], last["detail"]["reason"]) == ("retried", "the second step is mended")
        assert " by operation:" in last["actor"]
    held = roost("pause", "--where", "state:queued", "--for", "2h", "--reason", "tonight", "--yes").ok()
    assert set(held.out.split()) == ids
    explained = roost("explain", next(iter(ids))).ok().out
    assert re.search(r"\(tonight\) and goes on in (2 h|1 h 59 m)", explained)
    roost("resume", "--state", "paused", "--yes").ok()
    roost.work()
    assert {roost("status", work_id, "--json").document["control"]["version"] for work_id in ids} == {5}
    refused = roost("pause", "--engine", "demo", "--for", "2h")
    assert (refused.code, "not for an engine or a lane" in refused.err) == (2, True)
