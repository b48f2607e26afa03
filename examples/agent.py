"""An LLM agent with tools, on pydantic-ai: one model request, or one round of tool calls, a step.

The conversation is the snapshot. A worker that dies loses at most one request to the model; what
a tool did is recorded under the id of its call, so a retry does not do it again. The agent is an
ordinary one of pydantic-ai; `TestModel` and `FunctionModel` stand in for a model in tests.

    pip install 'roost-runtime[examples]'
    roost worker --engines agent:Assistant
    roost enqueue --any-engine --engine assistant --budget tokens=20000 \\
      --payload '{"prompt": "Tell everybody on the list that lunch is at one."}'
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.models import Model
from pydantic_ai.models.test import TestModel

from roost import RetryPolicy, Snapshot, WorkItem, current_step

REQUESTS_MAX = 20
MAILING_LIST = ["ada@example.org", "bob@example.org"]

agent: Agent[list[str], str] = Agent(deps_type=list[str], instructions="You send mail for the office.")


@agent.tool
async def addresses(run: RunContext[list[str]]) -> list[str]:
    """Who is on the mailing list."""
    return MAILING_LIST


@agent.tool
async def send_mail(run: RunContext[list[str]], to: str, text: str) -> str:
    """Send a mail to one address."""

    def send() -> str:
        # `deps` stands for a mail service; one that deduplicates would take the id of the call.
        run.deps.append(f"{to}: {text}")
        return f"sent to {to}"

    return str(await current_step().once(f"tool:{run.tool_call_id}", send))


class Prompt(BaseModel):
    """What the work is enqueued with."""

    prompt: str


class Assistant:
    """Runs the agent step by step until it answers.

    Args:
        model: of pydantic-ai, or its name (`anthropic:…`, `openai:…`).
        outbox: where mail goes.
    """

    engine_id = "assistant"
    payload_model = Prompt
    retry = RetryPolicy(max_attempts=5, first_delay_seconds=2.0)
    step_timeout_seconds = 300.0

    def __init__(self, model: Model | str | None = None, outbox: list[str] | None = None) -> None:
        self._model = model or TestModel()
        self.outbox: list[str] = [] if outbox is None else outbox

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="think", data={"messages": [], "requests": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        messages = ModelMessagesTypeAdapter.validate_python(snapshot.data["messages"])
        if snapshot.data["requests"] >= REQUESTS_MAX:
            return snapshot.finish(status="gave_up", note=f"no answer after {REQUESTS_MAX} requests")
        prompt = None if messages else item.payload["prompt"]
        messages, answer = await self._advance(messages, prompt)
        data: dict[str, Any] = {
            "messages": ModelMessagesTypeAdapter.dump_python(messages, mode="json"),
            "requests": snapshot.data["requests"] + (snapshot.step == "think"),
        }
        if answer is not None:
            return snapshot.finish(data=data, result=answer)
        return snapshot.next("act" if snapshot.step == "think" else "think", data=data)

    async def _advance(
        self, messages: list[ModelMessage], prompt: str | None
    ) -> tuple[list[ModelMessage], str | None]:
        """Go on from a conversation by one request or one round of tool calls, or to the answer."""
        async with agent.iter(prompt, message_history=messages, model=self._model, deps=self.outbox) as run:
            node = run.next_node
            while not Agent.is_end_node(node):
                before, node = node, await run.next(node)
                if Agent.is_model_request_node(before):
                    usage = run.usage
                    current_step().spend(
                        tokens=usage.total_tokens,
                        input_tokens=usage.input_tokens,
                        output_tokens=usage.output_tokens,
                    )
                    if Agent.is_call_tools_node(node) and node.model_response.tool_calls:
                        return run.all_messages(), None
                elif Agent.is_call_tools_node(before) and Agent.is_model_request_node(node):
                    return [*run.all_messages(), node.request], None  # what the tools returned
            return run.all_messages(), node.data.output
