"""The public API as a user would write it; checked by mypy, never run."""

from __future__ import annotations

from typing import assert_type

from pydantic import BaseModel

from roost import (
    Artifact,
    Engine,
    EngineRegistry,
    FailWork,
    RetryLater,
    RetryPolicy,
    Snapshot,
    State,
    StepContext,
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
