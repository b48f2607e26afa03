"""`examples/review.py` escalates: who does not answer in time is not heard any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from examples.review import Review
from roost.errors import ConflictError
from roost.journal.events import Committed, Signaled
from roost.testing import EngineHarness, Work

Make = Callable[..., EngineHarness]


def ask(harness: EngineHarness) -> tuple[Work, str]:
    """A text that waits for its reviewer, and the reviewer's token."""
    work = harness.enqueue("review", {"text": "hello", "hours": 24})
    [first] = work.approvals
    assert first.name == "reviewer"
    return work, first.token


def test_who_is_late_is_refused_and_the_next_in_line_has_another_token(engine_harness: Make) -> None:
    harness = engine_harness(Review())
    work, late = ask(harness)
    harness.advance(days=1.1)
    [second] = work.approvals
    assert (second.name, second.token != late) == ("manager", True)
    with pytest.raises(ConflictError, match="no longer asked for"):
        harness.do(harness.driver.client.approve(late, {"approved": True}, "rob"))
    work.approve("manager", {"approved": True}, by="ann")
    assert (work.state, work.snapshot.data["by"]) == ("done", "ann")


def test_who_was_asked_and_who_answered_and_when_is_in_the_history(engine_harness: Make) -> None:
    harness = engine_harness(Review())
    began = harness.now
    work, _ = ask(harness)
    harness.advance(days=1.5)
    work.approve("manager", {"approved": False}, by="ann")
    assert work.snapshot.history == [
        "reviewer is asked",
        "reviewer did not answer in time; manager is asked",
        "ann declined",
    ]
    asked = [entry.at - began for entry in work.entries if isinstance(entry.event, Committed)]
    assert [round(at / 86400, 3) for at in asked] == [0.0, 1.0, 1.5], "escalated on time"
    [answer] = [entry for entry in work.entries if isinstance(entry.event, Signaled)]
    assert (answer.actor, answer.event.name) == ("ann", "approval:manager")
    assert round((answer.at - began) / 86400, 3) == 1.5


def test_nobody_left_to_ask_fails_the_work(engine_harness: Make) -> None:
    harness = engine_harness(Review())
    work, _ = ask(harness)
    harness.advance(days=3)
    assert (work.state, work.reason) == ("failed", "FailWork: nobody answered")
