"""`examples/agent.py` runs an agent of pydantic-ai step by step, offline."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from examples.agent import MAILING_LIST, Assistant
from roost.testing import EngineHarness, assert_crash_safe

PROMPT = {"prompt": "Lunch is at one."}


async def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Stands for the model: asks for the list, writes to all on it, and says so."""
    match sum(isinstance(message, ModelResponse) for message in messages):
        case 0:
            return ModelResponse([ToolCallPart("addresses", {}, tool_call_id="list")])
        case 1:
            text = "Lunch is at one."
            return ModelResponse(
                [ToolCallPart("send_mail", {"to": to, "text": text}, tool_call_id=to) for to in MAILING_LIST]
            )
        case _:
            return ModelResponse([TextPart(f"I told {len(MAILING_LIST)} people.")])


def test_each_request_and_each_round_of_tools_is_a_step(engine_harness: Callable[..., EngineHarness]) -> None:
    engine = Assistant(FunctionModel(reply))
    work = engine_harness(engine).enqueue("assistant", PROMPT)
    assert (work.state, work.result) == ("done", "I told 2 people.")
    assert [version.step for version in work.versions] == ["act", "think", "act", "think", "done"]
    assert engine.outbox == [f"{to}: Lunch is at one." for to in MAILING_LIST]
    assert dict(work.view.control.spent)["tokens"] > 0


def test_a_test_model_calls_every_tool(engine_harness: Callable[..., EngineHarness]) -> None:
    work = engine_harness(Assistant(TestModel())).enqueue("assistant", PROMPT)
    assert work.state == "done"
    assert "sent to a" in work.result


def test_an_agent_over_its_budget_stops_before_the_next_request(
    engine_harness: Callable[..., EngineHarness],
) -> None:
    work = engine_harness(Assistant(FunctionModel(reply))).enqueue("assistant", PROMPT, budget={"tokens": 10})
    assert work.snapshot.data["requests"] == 1
    row = work.view.row
    assert row is not None
    assert row.reason.startswith("budget used up: tokens")


@pytest.mark.slow
def test_wherever_the_worker_dies_the_answer_is_the_same() -> None:
    assert_crash_safe(
        lambda outbox: Assistant(FunctionModel(reply), outbox),
        PROMPT,
        outside=list,
        observe=lambda outbox: sorted(set(outbox)),
        ignore=["data.messages"],  # they carry the time of day
    )
