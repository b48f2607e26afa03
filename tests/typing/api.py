"""The public API as a user would write it; checked by mypy, never run."""

from __future__ import annotations

from typing import assert_type

from pydantic import BaseModel

from roost import (
    Artifact,
    Child,
    Engine,
    EngineRegistry,
    FailWork,
    Finish,
    Go,
    Join,
    RetryLater,
    RetryPolicy,
    Signal,
    Snapshot,
    State,
    StepContext,
    TypedEngine,
    WaitFor,
    WorkItem,
    current_step,
)


class Payload(BaseModel):
    url: str


class Typed:
    engine_id = "typed"
    payload_model = Payload
    retry = RetryPolicy(max_attempts=3, first_delay_seconds=0.5)
    step_timeout_seconds = 30.0

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="fetch", data={"tries": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context = current_step()
        assert_type(context, StepContext)
        assert_type(context.token, int)
        assert_type(context.attempt, int)
        if context.cancel_requested:
            raise FailWork("asked to stop")
        if snapshot.data["tries"] == 0:
            raise RetryLater(after=1.5, reason="not yet")
        artifact = await context.artifacts.put("page.html", b"<p>", content_type="text/html")
        assert_type(artifact, Artifact)
        return snapshot.finish(data={"digest": artifact.digest})


engine: Engine = Typed()
registry = EngineRegistry([Typed()])
assert_type(State.DONE.is_terminal, bool)


class Draft(BaseModel):
    lines: list[str] = []


class Poet(TypedEngine[Payload, Draft]):
    engine_id = "poet"

    async def begin(self, payload: Payload) -> Draft:
        assert_type(payload.url, str)
        return Draft()

    async def advance(self, state: Draft, payload: Payload) -> Go[Draft] | Finish[Draft]:
        assert_type(state.lines, list[str])
        assert_type(current_step().signals, tuple[Signal, ...])
        if state.lines:
            return Finish(state, result=len(state.lines))
        children = [Child(engine="poet", payload={"url": payload.url})]
        return Go(state, spawn=children, wait_for=WaitFor(children=Join(need_done=1)))


poet: Engine = Poet()


class Mistaken(TypedEngine[Payload, Draft]):
    """What a checker must refuse; an ignore that ignores nothing is an error."""

    engine_id = "mistaken"

    async def begin(self, payload: Payload) -> Draft:
        payload.link  # type: ignore[attr-defined]  # noqa: B018
        return Draft(lines="one")  # type: ignore[arg-type]

    async def advance(self, state: Draft, payload: Payload) -> Go[Draft] | Finish[Draft]:
        if not state.lines:
            return Go(payload)  # type: ignore[arg-type]
        return Finish(state, status=1)  # type: ignore[arg-type]
