"""`TypedEngine`: models for payload and state, on top of the two methods."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import BaseModel

from roost import Finish, Go, TypedEngine, current_step
from roost.testing import EngineHarness, WorkFailed, assert_crash_safe

Make = Callable[..., EngineHarness]


class Poem(BaseModel):
    topic: str
    lines: int = 3


class Draft(BaseModel):
    lines: list[str] = []
    approved_by: str | None = None


class Poet(TypedEngine[Poem, Draft]):
    engine_id = "poet"

    async def begin(self, payload: Poem) -> Draft:
        return Draft()

    async def advance(self, state: Draft, payload: Poem) -> Go[Draft] | Finish[Draft]:
        if signals := current_step().signals:
            state.approved_by = signals[0].data
            return Finish(state, result=len(state.lines), note="approved")
        state.lines.append(f"line {len(state.lines) + 1} about {payload.topic}")
        if len(state.lines) == payload.lines:
            return Go(state, step="approve", wait_for="approve")
        return Go(state, step="write", delay=60.0)


def test_it_runs_as_any_engine(engine_harness: Make) -> None:
    harness = engine_harness(Poet())
    work = harness.enqueue("poet", {"topic": "owls"})
    harness.advance(minutes=5)
    assert (work.state, work.snapshot.step) == ("waiting", "approve")
    work.signal("approve", "ada")
    assert work.result == 3
    assert work.snapshot.data == {"lines": [f"line {n} about owls" for n in (1, 2, 3)], "approved_by": "ada"}
    assert work.snapshot.history == ["approved"]


def test_its_payload_is_checked_at_enqueue(engine_harness: Make) -> None:
    from roost.errors import PayloadError

    with pytest.raises(PayloadError, match="topic"):
        engine_harness(Poet()).enqueue("poet", {"lines": 2})


def test_it_is_safe_to_crash() -> None:
    assert assert_crash_safe(Poet, {"topic": "owls"}, signals={"approve": "ada"}) > 30


def test_a_state_that_does_not_fit_says_what_to_do(engine_harness: Make) -> None:
    class Other(BaseModel):
        count: int

    class Changed(TypedEngine[Poem, Draft]):
        engine_id = "poet"

        async def begin(self, payload: Poem) -> Draft:
            return Draft()

    Changed.state_model = Other
    with pytest.raises(WorkFailed, match="does not fit Other"):
        engine_harness(Changed()).enqueue("poet", {"topic": "owls"})


def test_what_is_neither_go_nor_finish_is_refused(engine_harness: Make) -> None:
    class Wrong(Poet):
        async def advance(self, state: Draft, payload: Poem) -> Go[Draft] | Finish[Draft]:
            return state  # type: ignore[return-value]  # that is the mistake

    with pytest.raises(WorkFailed, match=r"returned Draft"):
        engine_harness(Wrong()).enqueue("poet", {"topic": "owls"})
