"""The engines of the guides do what the guides say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from roost import Snapshot
from roost.journal.limits import Rate, SetRate
from roost.names import IfBusy
from roost.testing import EngineHarness

GUIDES = Path(__file__).parents[2] / "examples" / "guides"


def guide(name: str) -> ModuleType:
    """The module of a guide, loaded anew."""
    spec = importlib.util.spec_from_file_location(name, GUIDES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_step_that_met_a_429_parks_all_that_needs_the_model() -> None:
    with EngineHarness(guide("resources").Summarizer()) as harness:
        first = harness.enqueue("summarizer", {"pages": ["busy"]}, resources=("llm:small",))
        second = harness.enqueue("summarizer", {"pages": ["a", "b"]}, resources=("llm:small",))
        assert (first.state, second.state) == ("scheduled", "blocked")
        assert "closed by" in harness.do(harness.driver.client.explain(second.work_id)).text
        harness.advance(seconds=1.5)
        assert (first.state, second.state) == ("done", "done")
        assert "attempt_failed" not in (*first.kinds, *second.kinds)
        assert second.snapshot.data["summaries"] == ["A", "B"]


def test_a_rate_spaces_the_steps_of_a_burst() -> None:
    with EngineHarness(guide("resources").Summarizer()) as harness:
        harness.do(harness.driver.client.change_resource("llm:small", SetRate(Rate(1, 60.0))))
        work = harness.enqueue("summarizer", {"pages": ["a", "b", "c"]}, resources=("llm:small",))
        assert (work.state, work.snapshot.data["summaries"]) == ("blocked", ["A"])
        work.run_to_end()
        assert work.state == "done"
        began = [entry.at for entry in work.entries if entry.event.kind == "claimed"]
        assert [at - began[0] for at in began] == [0.0, 60.0, 120.0]


def test_a_second_message_forks_from_what_was_said_before() -> None:
    with EngineHarness(guide("flows").Chat()) as harness:
        first = harness.enqueue("chat", {"text": "owls", "thinks_seconds": 60}, conversation="room")
        second = harness.enqueue("chat", {"text": "bats"}, conversation="room", if_busy=IfBusy.FORK)
        second.run_to_end()
        assert (first.state, second.state) == ("cancelled", "done")
        assert second.snapshot.data["said"] == ["you: owls", "you: bats", "me: about bats"]


def test_the_chat_brings_the_snapshots_of_its_first_version_along() -> None:
    chat = guide("flows").Chat()
    old = Snapshot(work_id="w", engine="chat", engine_version="1", data={"said": "you: owls\nme: hm"})
    assert chat.migrate(old).data["said"] == ["you: owls", "me: hm"]


def test_a_looping_agent_parks_at_its_budget_and_goes_on_when_it_is_raised() -> None:
    with EngineHarness(guide("control").Looper()) as harness:
        work = harness.enqueue("looper", {}, budget={"usd": 3})
        harness.advance(seconds=1.0)
        row = work.view.row
        assert row is not None
        assert (row.state, row.reason) == ("paused", "budget used up: usd 3 of 3")
        client = harness.driver.client
        harness.do(client.set_budget(work.work_id, {"usd": 100}, "worth it"))
        harness.advance(seconds=1.0)
        assert work.state == "done"
        fork = harness.do(client.fork(work.work_id, 2, "cheaper", changes={"data.model": "small"}))
        harness.advance(seconds=1.0)
        words = harness.do(client.status(fork)).snapshot.data["words"]
        assert words == ["large-1", "large-2", "small-3", "small-4", "small-5", "small-6"]


def test_a_mail_is_sent_once_though_its_step_fails_after_it() -> None:
    mailer = guide("steps").Mailer()
    with EngineHarness(mailer) as harness:
        work = harness.enqueue("mailer", {"to": "ada@example.org"}).run_to_end()
        assert (work.state, mailer.sent) == ("done", ["ada@example.org"])
        assert work.kinds[1:4] == ["claimed", "recorded", "attempt_failed"]


def test_a_plain_function_is_a_step_and_waits_for_what_is_not() -> None:
    with EngineHarness(guide("steps").Sorter()) as harness:
        assert harness.enqueue("sorter", {"numbers": [3, 1, 2]}).snapshot.data == {"numbers": [1, 2, 3]}


def test_a_typed_engine_writes_a_line_a_step() -> None:
    with EngineHarness(guide("steps").Poet()) as harness:
        work = harness.enqueue("poet", {"topic": "owls"}).run_to_end()
        assert [len(snapshot.data["lines"]) for snapshot in work.versions] == [1, 2, 3]
