"""An engine in one file: a fake research agent that asks, thinks, and writes a report.

Run it without packaging it, from this folder:

    roost worker --engines my_engine:Researcher
    roost enqueue --any-engine --engine researcher --payload '{"topic": "kingfishers"}'
"""

from __future__ import annotations

from pydantic import BaseModel

from roost import FailWork, RetryLater, RetryPolicy, Snapshot, WorkItem, current_step


class Topic(BaseModel):
    """What the engine is enqueued with."""

    topic: str
    questions: int = 3


class Researcher:
    """Asks one question a step; every answer is durable before the next is asked."""

    engine_id = "researcher"
    payload_model = Topic
    retry = RetryPolicy(max_attempts=3, first_delay_seconds=0.2)
    step_timeout_seconds = 60.0

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="ask", data={"answers": []})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        topic = Topic.model_validate(item.payload)
        if topic.topic == "nothing":
            raise FailWork("there is nothing to find out about nothing")
        answers = snapshot.data["answers"]
        if snapshot.step == "ask":
            # `once` records the answer: if this step runs again, nobody is asked (or paid) twice.
            answer = await current_step().once("ask", lambda: ask(topic.topic, len(answers)))
            answers = [*answers, answer]
            step = "ask" if len(answers) < topic.questions else "report"
            return snapshot.next(step, data={"answers": answers}, delay=0.1)
        report = "\n".join([f"# {topic.topic}", *answers])
        await current_step().artifacts.put("report.md", report)
        return snapshot.finish(note=f"{len(answers)} answers")


async def ask(topic: str, number: int) -> str:
    """Stands for a model or a search engine, which may be busy."""
    if number == 1 and current_step().attempt == 1 and topic == "busy":
        raise RetryLater(after=0.2, reason="the model is busy")
    return f"- answer {number + 1} about {topic}"
