"""`examples/research.py` fans out under one rate, and joins what came."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from examples.research import Reader, Survey
from roost.journal.limits import Rate, SetRate
from roost.testing import EngineHarness, assert_crash_safe

Make = Callable[..., EngineHarness]


async def ask(question: str, source: str) -> str:
    if source == "down":
        raise ConnectionError("no answer")
    return source.upper()


def test_all_sources_are_joined_in_one_report(engine_harness: Make) -> None:
    harness = engine_harness(Survey(), Reader(ask))
    work = harness.enqueue("survey", {"question": "?", "sources": ["a", "b", "down"], "enough": 3})
    assert work.run_to_end().result == {"a": "A", "b": "B"}
    assert work.artifact("report.md") == b"# ?\n- a: A\n- b: B"
    assert 5 < harness.passed_seconds < 60, "the source that is down was tried three times"


def test_enough_answers_end_it_and_the_rest_is_cancelled(engine_harness: Make) -> None:
    harness = engine_harness(Survey(), Reader(ask))
    work = harness.enqueue("survey", {"question": "?", "sources": ["down", "a", "b"], "enough": 2})
    assert (work.state, work.result) == ("done", {"a": "A", "b": "B"})
    harness.advance(minutes=5)
    counts = harness.do(harness.driver.backend.index.counts())
    assert counts == {"done": 3, "cancelled": 1}


def test_the_children_share_one_rate(engine_harness: Make) -> None:
    harness = engine_harness(Survey(), Reader(ask))
    harness.do(harness.driver.client.change_resource("llm:small", SetRate(Rate(1, 60.0))))
    sources = [f"s{number}" for number in range(5)]
    surveys = [
        harness.enqueue("survey", {"question": question, "sources": sources, "enough": 5})
        for question in "?!"
    ]
    harness.advance(minutes=8.9)
    assert surveys[1].state == "waiting", "ten starts take nine minutes"
    assert [work.run_to_end().state for work in surveys] == ["done", "done"]


@pytest.mark.slow
def test_it_is_safe_to_crash() -> None:
    assert_crash_safe(
        Survey, {"question": "?", "sources": ["a", "b"], "enough": 2}, others=[lambda: Reader(ask)]
    )
