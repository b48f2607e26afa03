"""Engines of the examples as worker processes load them, with models that follow a script."""

from __future__ import annotations

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from examples.coder import Coder

WRONG, RIGHT = "def add(a, b):\n    return a - b\n", "def add(a, b):\n    return a + b\n"


async def repair(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Stands for the model: looks, gets it wrong, says it is done, and is told that it is not."""
    match sum(isinstance(message, ModelResponse) for message in messages):
        case 0:
            return ModelResponse(
                [
                    ToolCallPart("read", {"path": "."}, tool_call_id="list"),
                    ToolCallPart("read", {"path": "calc.py"}, tool_call_id="look"),
                    ToolCallPart("read", {"path": "../outside"}, tool_call_id="out"),
                ]
            )
        case 1:
            return ModelResponse(
                [
                    ToolCallPart("write", {"path": "calc.py", "content": WRONG}, tool_call_id="w"),
                    ToolCallPart("test", {}, tool_call_id="t"),
                ]
            )
        case 2:
            return ModelResponse([TextPart("It works now.")])
        case 3:
            return ModelResponse(
                [ToolCallPart("write", {"path": "calc.py", "content": RIGHT}, tool_call_id="w2")]
            )
        case _:
            return ModelResponse([TextPart("Now it does.")])


def coder() -> Coder:
    return Coder(FunctionModel(repair))
