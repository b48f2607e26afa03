"""Engines of `steps.md`: an effect that is not made twice, a step in a thread, a typed one."""

from __future__ import annotations

from pydantic import BaseModel

from roost import Finish, Go, RetryPolicy, Snapshot, TypedEngine, WorkItem, current_step


class Mailer:
    """Sends one mail, then fails once; the retry does not send it again."""

    engine_id = "mailer"
    retry = RetryPolicy(first_delay_seconds=0.1)

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="send")

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context = current_step()
        mail = await context.once("mail", lambda: self._send(item.payload["to"]))
        if context.attempt == 1:
            raise ConnectionError("the line broke after the mail was sent")
        return snapshot.finish(data={"mail": mail})

    async def _send(self, to: str) -> str:
        self.sent.append(to)
        return f"sent to {to}"


class Sorter:
    """A plain function: it may block, as it runs in a thread."""

    engine_id = "sorter"

    def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"numbers": item.payload["numbers"]})

    def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context = current_step()
        context.progress(0.5, "sorting")
        numbers = context.wait(context.once("sorted", lambda: sorted(snapshot.data["numbers"])))
        return snapshot.finish(data={"numbers": numbers})


class Poem(BaseModel):
    """The payload."""

    topic: str
    lines: int = 3


class Draft(BaseModel):
    """The state between two steps."""

    lines: list[str] = []


class Poet(TypedEngine[Poem, Draft]):
    """Writes a line a step."""

    engine_id = "poet"

    async def begin(self, payload: Poem) -> Draft:
        return Draft()

    async def advance(self, state: Draft, payload: Poem) -> Go[Draft] | Finish[Draft]:
        state.lines.append(f"a line about {payload.topic}")
        return Finish(state) if len(state.lines) == payload.lines else Go(state, delay=0.1)
