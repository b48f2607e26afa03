"""Fan-out research: a child for each source, a join that takes what came, one shared rate limit.

The survey starts a child a source and goes on when enough have answered; what is still open is
cancelled. All children, of all surveys and on all workers, share the model: at most four ask at
a time, and an operator may set a rate while they run.

    roost resources set llm:small --rate 60/1m
    roost worker --engines research:Survey,research:Reader
    roost enqueue --any-engine --engine survey \\
      --payload '{"question": "Where do owls sleep?", "sources": ["a", "b", "c"], "enough": 2}'
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import BaseModel, Field

from roost import Child, FailWork, Join, RetryPolicy, Snapshot, WaitFor, WorkItem, current_step

MODEL = "llm:small"
ASK_AT_A_TIME = 4
PATIENCE_SECONDS = 3600.0


class Question(BaseModel):
    """What a survey is enqueued with; `enough`: so many answers will do."""

    question: str
    sources: list[str] = Field(min_length=1, max_length=100)
    enough: int = Field(default=1, ge=1)


class Survey:
    """Asks all sources at once, joins, and writes a report."""

    engine_id = "survey"
    payload_model = Question

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="ask")

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        asked = Question.model_validate(item.payload)
        if snapshot.step == "ask":
            # The children are started by the commit: a crash starts none, or all of them once.
            wait = WaitFor(children=Join(need_done=asked.enough), timeout_seconds=PATIENCE_SECONDS)
            return snapshot.next(
                "report", spawn=[_reader(asked, source) for source in asked.sources], wait_for=wait
            )
        context = current_step()
        answers = {child.key: child.result for child in context.children if child.is_done}
        missing = [source for source in asked.sources if source not in answers]
        if not answers:
            raise FailWork("no source had an answer")
        lines = [f"# {asked.question}", *(f"- {source}: {text}" for source, text in sorted(answers.items()))]
        await context.artifacts.put("report.md", "\n".join(lines))
        return snapshot.finish(result=answers, note=f"{len(answers)} answers, none of {missing}")


def _reader(asked: Question, source: str) -> Child:
    return Child(
        engine="reader",
        key=source,
        payload={"question": asked.question, "source": source},
        resources=(MODEL,),
        capacities={MODEL: ASK_AT_A_TIME},
    )


Ask = Callable[[str, str], Awaitable[str]]


async def ask(question: str, source: str) -> str:
    """Stands for a search and a model."""
    return f"what {source} says of {question!r}"


class Reader:
    """Asks one source. It holds the model only while a step of it runs."""

    engine_id = "reader"
    retry = RetryPolicy(max_attempts=3, first_delay_seconds=5.0)

    def __init__(self, ask: Ask = ask) -> None:
        self._ask = ask

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="read")

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        question, source = item.payload["question"], item.payload["source"]
        answer = await current_step().once("ask", lambda: self._ask(question, source))
        return snapshot.finish(result=answer)
