"""The public API as a user would write it; checked by mypy and pyright, never run.

`reveal_type(x)  # is T` says what an editor shows of `x`, and a line with an ignore is one that it
underlines: `tests/docs/test_packaging.py` asks pyright for both.
"""

from __future__ import annotations

from typing import assert_type, reveal_type

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
        reveal_type(payload)  # is Payload
        reveal_type(Draft())  # is Draft
        return Draft()

    async def advance(self, state: Draft, payload: Payload) -> Go[Draft] | Finish[Draft]:
        assert_type(state.lines, list[str])
        reveal_type(state)  # is Draft
        reveal_type(state.lines[0])  # is str
        reveal_type(Go(state))  # is Go[Draft]
        reveal_type(Finish(state).state)  # is Draft
        assert_type(current_step().signals, tuple[Signal, ...])
        if state.lines:
            return Finish(state, result=len(state.lines))
        children = [Child(engine="poet", payload={"url": payload.url})]
        return Go(state, spawn=children, wait_for=WaitFor(children=Join(need_done=1)))


poet: Engine = Poet()


async def called_by_hand(snapshot: Snapshot, item: WorkItem) -> None:
    reveal_type(await Poet().begin(Payload(url="/")))  # is Draft
    reveal_type(await Poet().advance(Draft(), Payload(url="/")))  # is Go[Draft] | Finish[Draft]
    reveal_type(await Poet().step(snapshot, item))  # is Snapshot
    reveal_type(current_step().children[0].is_done)  # is bool
    await Poet().advance(Payload(url="/"), Draft())  # type: ignore[arg-type]


class Mistaken(TypedEngine[Payload, Draft]):
    """What a checker must refuse; an ignore that ignores nothing is an error."""

    engine_id = "mistaken"

    async def begin(self, payload: Payload) -> Draft:
        payload.link  # type: ignore[attr-defined]  # noqa: B018
        return Draft(lines="one")  # type: ignore[arg-type]

    async def advance(self, state: Draft, payload: Payload) -> Go[Draft] | Finish[Draft]:
        if not state.lines:
            return Go(payload)  # type: ignore[arg-type]
        if state.lines[0] == 1:  # type: ignore[comparison-overlap]
            return state  # type: ignore[return-value]
        return Finish(state, status=1)  # type: ignore[arg-type]
