"""A coding agent in a git worktree of its own, which leaves its change as a patch.

The model reads, writes and runs the tests in the workspace of its work item; it is done when the
tests pass. One request to the model, or the tool calls that it asked for, is one step: a worker
that dies repeats one of these and no more. The tools may be repeated (a file is written whole), so
they need no `once`. With `workspace.save` another host goes on with what was committed.

    pip install 'roost-runtime[examples]'
    export ROOST_WORKSPACE__SOURCE=/path/of/a/repository ROOST_WORKSPACE__SAVE=true
    roost worker --engines coder:Coder
    WORK_ID=$(roost enqueue --any-engine --engine coder --payload '{"goal": "Make the tests pass."}')
    roost artifacts get "$WORK_ID" change.patch | git apply

What a model writes is run here. Give the worker a container, and no credentials that it could use.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ExternalToolset, ToolDefinition
from pydantic_ai.messages import ModelMessagesTypeAdapter, ToolCallPart
from pydantic_ai.models import Model
from pydantic_ai.models.test import TestModel

from roost import FailWork, RetryPolicy, Snapshot, WorkItem, current_step

REQUESTS_MAX = 40
TEXT_MAX = 20_000  # characters of a file, or of what a program printed, that the model is shown
RUN_SECONDS = 120.0


class Goal(BaseModel):
    """What the work is enqueued with; `tests` is the command that decides."""

    goal: str
    tests: list[str] = Field(default=["python3", "-m", "unittest", "-q"], min_length=1)


class Read(BaseModel):
    """Read a file, or list a folder."""

    path: str

    async def do(self, root: Path, goal: Goal) -> str:
        path = _inside(root, self.path)
        if path.is_dir():
            return "\n".join(sorted(f"{one.name}{'/' * one.is_dir()}" for one in path.iterdir()))
        return path.read_text(errors="replace")[:TEXT_MAX]


class Write(BaseModel):
    """Write a whole file."""

    path: str
    content: str

    async def do(self, root: Path, goal: Goal) -> str:
        path = _inside(root, self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.content)
        return f"{len(self.content)} characters written"


class RunTests(BaseModel):
    """Run the tests."""

    async def do(self, root: Path, goal: Goal) -> str:
        code, said = await run(root, *goal.tests)
        return f"exit code {code}\n{said}"


TOOLS: dict[str, type[Read | Write | RunTests]] = {"read": Read, "write": Write, "test": RunTests}
agent: Agent[None, str | DeferredToolRequests] = Agent(
    instructions="You change the code in a git repository until its tests pass, and then say what you did.",
    output_type=[str, DeferredToolRequests],  # a run ends where the model asks for tools: that is our step
    toolsets=[
        ExternalToolset(
            [ToolDefinition(name=name, parameters_json_schema=it.model_json_schema(), description=it.__doc__)]
        )
        for name, it in TOOLS.items()
    ],
)


class Coder:
    """Thinks, acts, and in the end checks; see the module.

    Args:
        model: of pydantic-ai, or its name (`anthropic:…`, `openai:…`).
    """

    engine_id = "coder"
    payload_model = Goal
    retry = RetryPolicy(max_attempts=5, first_delay_seconds=2.0)
    step_timeout_seconds = 600.0

    def __init__(self, model: Model | str | None = None) -> None:
        self._model = model or TestModel(call_tools=["read"])

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        goal = Goal.model_validate(item.payload)
        return Snapshot.of(item, step="think", data={"messages": [], "say": goal.goal, "requests": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        goal, root = Goal.model_validate(item.payload), await current_step().workspace()
        match snapshot.step:
            case "think":
                return await self._think(snapshot)
            case "act":
                return await _act(snapshot, root, goal)
            case _:
                return await _check(snapshot, root, goal)

    async def _think(self, snapshot: Snapshot) -> Snapshot:
        """Ask the model once; what it wants done is the next step."""
        data = dict(snapshot.data)
        if data["requests"] >= REQUESTS_MAX:
            raise FailWork(f"no passing tests after {REQUESTS_MAX} requests")
        results = data.pop("results", None)
        answer = await agent.run(
            data.pop("say", None),
            message_history=ModelMessagesTypeAdapter.validate_python(data["messages"]),
            deferred_tool_results=DeferredToolResults(calls=results) if results else None,
            model=self._model,
        )
        current_step().spend(tokens=answer.usage.total_tokens)
        data |= {
            "messages": ModelMessagesTypeAdapter.dump_python(answer.all_messages(), mode="json"),
            "requests": data["requests"] + 1,
        }
        if isinstance(answer.output, DeferredToolRequests):
            return _replaced(snapshot.next("act"), data | {"calls": _plain(answer.output.calls)})
        return _replaced(snapshot.next("check", note=answer.output[:200]), data)


async def _act(snapshot: Snapshot, root: Path, goal: Goal) -> Snapshot:
    """Do what the model asked for, in its order."""
    data = dict(snapshot.data)
    results = {call["id"]: await _call(call, root, goal) for call in data.pop("calls")}
    return _replaced(snapshot.next("think"), data | {"results": results})


async def _check(snapshot: Snapshot, root: Path, goal: Goal) -> Snapshot:
    """The tests have the last word: they pass, or the model hears why not."""
    code, said = await run(root, *goal.tests)
    if code:
        return _replaced(snapshot.next("think"), dict(snapshot.data) | {"say": f"The tests fail:\n{said}"})
    await run(root, "git", "add", "--all")
    _, patch = await run(root, "git", "diff", "--cached", "--binary", "HEAD", cut=False)
    await current_step().artifacts.put("change.patch", patch, content_type="text/x-diff")
    return snapshot.finish(result={"requests": snapshot.data["requests"], "patch_chars": len(patch)})


def _plain(calls: list[ToolCallPart]) -> list[dict[str, Any]]:
    return [{"id": call.tool_call_id, "tool": call.tool_name, "args": call.args_as_dict()} for call in calls]


def _replaced(after: Snapshot, data: dict[str, Any]) -> Snapshot:
    """`next` merges data; here what was used up goes."""
    after.data = data
    return after


async def _call(call: dict[str, Any], root: Path, goal: Goal) -> str:
    """What a tool says; a model's mistake is told to the model."""
    try:
        return await TOOLS[call["tool"]].model_validate(call["args"]).do(root, goal)
    except (ValidationError, OSError, ValueError) as error:
        return f"that did not work: {error}"


def _inside(root: Path, name: str) -> Path:
    """A path of the workspace, and of nothing else."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()) or ".git" in path.relative_to(root.resolve()).parts:
        raise ValueError(f"{name!r} is not a file of the workspace")
    return path


async def run(root: Path, *command: str, cut: bool = True) -> tuple[int, str]:
    """Run a program in the workspace: its exit code and what it printed; killed with all it started."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=root,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(RUN_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        return 124, f"stopped after {RUN_SECONDS:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    text = said.decode(errors="replace")
    return process.returncode or 0, text[-TEXT_MAX:] if cut else text
