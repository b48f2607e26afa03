"""An engine that shares a model with others: it is told to slow down, and closes the door behind it."""

from __future__ import annotations

from roost import RetryLater, RetryPolicy, Snapshot, WorkItem, current_step

MODEL = "llm:small"


class TooManyRequests(Exception):
    """What a client of the model raises at a 429."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("429")
        self.retry_after = retry_after


class Summarizer:
    """Summarizes one page a step; enqueue it with `--resource llm:small`."""

    engine_id = "summarizer"
    retry = RetryPolicy(max_attempts=1)  # being told to wait is no failed attempt

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"pages": item.payload["pages"], "summaries": []})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        done = snapshot.data["summaries"]
        try:
            summary = await summarize(snapshot.data["pages"][len(done)])
        except TooManyRequests as error:
            # All work that needs the model parks until then, not only this item.
            await current_step().close_key(MODEL, error.retry_after)
            raise RetryLater(after=error.retry_after, reason="the model is busy") from None
        after = snapshot.next(data={"summaries": [*done, summary]})
        return after.finish() if len(after.data["summaries"]) == len(after.data["pages"]) else after


_asked: list[str] = []


async def summarize(page: str) -> str:
    """Stands for the model; it is busy once, at the page that says so."""
    _asked.append(page)
    if page == "busy" and _asked.count(page) == 1:
        raise TooManyRequests(retry_after=1.0)
    return page.upper()
