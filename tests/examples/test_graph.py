"""`examples/graph.py` runs a graph of LangGraph super-step by super-step, offline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from roost.testing import EngineHarness, assert_crash_safe

pytestmark = pytest.mark.soak
ASKED = {"topic": "owls", "places": ["books", "papers"]}


@pytest.fixture
def example() -> Any:
    """The module; LangGraph takes seconds to import, so not where tests are only collected."""
    import examples.graph

    return examples.graph


def test_a_super_step_is_a_step_and_an_interrupt_a_wait(
    example: Any, engine_harness: Callable[..., EngineHarness]
) -> None:
    harness = engine_harness(example.Briefing())
    work = harness.enqueue("briefing", ASKED)
    assert [version.step for version in work.versions] == ["look", "write", "review", "review"]
    values = work.snapshot.data["graph"][""]["values"]
    assert values["text"] == {"json": "owls in books; owls in papers"}, "readable in each version"
    harness.advance(days=3)
    assert work.state == "waiting"
    assert work.snapshot.data["questions"][0]["value"] == {"publish": "owls in books; owls in papers"}
    work.signal("answer", "mention the barn")
    assert work.state == "waiting"
    work.signal("answer", "yes")
    assert (work.state, work.result) == ("done", "mention the barn; owls in books; owls in papers")
    once = [entry.event.key for entry in work.entries if entry.event.kind == "recorded"]
    assert sorted(once) == ["look:books", "look:papers"]


def test_nodes_that_ask_at_a_time_are_answered_one_by_one(
    example: Any, engine_harness: Callable[..., EngineHarness]
) -> None:
    """Among them one in a subgraph; what it did before it asked is kept with the wait."""
    from langgraph.graph import START, StateGraph
    from langgraph.types import interrupt

    ran: list[str] = []

    def asks(name: str) -> Callable[[Any], Any]:
        async def node(state: Any) -> dict[str, Any]:
            return {"found": [f"{name}: {interrupt(name)}"]}

        return node

    async def first(state: Any) -> dict[str, Any]:
        ran.append("first")
        return {"topic": state["topic"].upper()}

    inner = StateGraph(example.Brief)
    inner.add_node("first", first)
    inner.add_node("asks", asks("inner"))
    inner.add_edge(START, "first")
    inner.add_edge("first", "asks")

    async def end(state: Any) -> dict[str, Any]:
        return {"text": ", ".join(sorted(state["found"]))}

    graph = StateGraph(example.Brief)
    graph.add_node("outer", asks("outer"))
    graph.add_node("inner", inner.compile())
    graph.add_node("end", end)
    graph.add_edge(START, "outer")
    graph.add_edge(START, "inner")
    graph.add_edge(["outer", "inner"], "end")
    work = engine_harness(example.Briefing(graph)).enqueue("briefing", ASKED)
    asked = [question["value"] for question in work.snapshot.data["questions"]]
    assert (work.state, sorted(asked)) == ("waiting", ["inner", "outer"])
    work.signal("answer", "one")
    assert work.state == "waiting"
    work.signal("answer", "two")
    answers = dict(zip(asked, ("one", "two"), strict=True))
    assert work.result == f"inner: {answers['inner']}, outer: {answers['outer']}"
    assert ran == ["first"], "the subgraph went on from its own checkpoint"


def test_a_super_step_that_failed_is_repeated_and_its_searches_are_not(
    example: Any, engine_harness: Callable[..., EngineHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def search(topic: str, place: str) -> str:
        asked.append(place)
        if asked.count("papers") == 1 and place == "papers":
            raise ConnectionError
        return place

    monkeypatch.setattr(example, "search", search)
    harness = engine_harness(example.Briefing())
    work = harness.enqueue("briefing", ASKED)
    assert work.state == "scheduled"
    harness.advance(minutes=1)
    assert work.snapshot.data["questions"][0]["value"] == {"publish": "books; papers"}
    assert asked == ["books", "papers", "papers"]


def test_it_is_safe_to_crash(example: Any) -> None:
    assert_crash_safe(
        example.Briefing,
        ASKED,
        signals={"answer": "yes"},
        ignore=["data.graph", "data.questions"],  # checkpoints have ids and times of their own
    )
