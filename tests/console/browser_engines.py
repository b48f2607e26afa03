"""Engines for the browser tests: real work, quick, with everything that pages show."""

from __future__ import annotations

import asyncio
import json

from pydantic import BaseModel, Field

from roost import Child, Join, RetryPolicy, Snapshot, WaitFor, WorkItem, current_step

STEPS = ("plan", "search", "read_sources", "rank", "summarise")


class Refund(BaseModel):
    """What answers an ask."""

    ok: bool = Field(title="Refund it?")
    amount: int = Field(title="Amount", ge=1, description="In euros.")
    note: str = Field("", title="Note", max_length=500)


class Research:
    """Reads "sources" step by step; `fail`, `slow`, `ask` and `later` name the step where it does;
    `stuck` is slow under the first lease only, `flaky` fails once.
    """

    engine_id = "research"
    engine_version = "3.2"
    retry = RetryPolicy(max_attempts=2, first_delay_seconds=0.2)

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        data = {"topic": item.payload.get("topic", ""), "sources": [], "budget": {"tokens_left": 100_000}}
        return Snapshot.of(item, step="plan", data=data)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        n = len(snapshot.data["sources"])
        await asyncio.sleep(0.02 + 0.02 * (n % 4))
        step = current_step()
        if snapshot.step == "asked":
            return snapshot.finish(data={"answer": step.signals[0].data})
        if n == item.payload.get("approve"):
            ask = step.ask("refund", reply=Refund)
            return snapshot.next("asked", data=snapshot.data, wait_for=ask.wait(timeout_seconds=86_400))
        step.progress(n / 12, f"{n} of 12 sources read")
        step.log.info("source %d of 12: https://source-%d.example/press", n + 1, n)
        if n == item.payload.get("slow") or (n == item.payload.get("stuck") and step.token == 1):
            await asyncio.sleep(600)
        if n == item.payload.get("flaky") and step.attempt == 1:
            raise TimeoutError("no answer from search.internal in 30 s")
        if n == item.payload.get("fail"):
            step.log.warning("search.internal is silent, the last answer was %d s ago", 30 + n)
            raise TimeoutError(f"no answer from search.internal in {30 + n} s")
        await _artifacts(n)
        if n >= 12:
            return snapshot.finish(data={"summary": "Three price lists were changed."})
        source = {"url": f"https://source-{n}.example/press", "score": round(0.91 - n / 30, 2)}
        left = snapshot.data["budget"]["tokens_left"] - 811 * (n + 1)
        after = snapshot.next(
            STEPS[n % len(STEPS)],
            data={"sources": [*snapshot.data["sources"], source], "budget": {"tokens_left": left}},
            delay=0.5 if n == 7 else 3000.0 if n == item.payload.get("later") else 0.0,
        )
        if n == item.payload.get("ask"):
            return after.model_copy(
                update={"wait_for": WaitFor(signals=("approve",), timeout_seconds=86_400)}
            )
        return after


PLAN = "# Plan\n\n1. Read **twelve** sources\n2. Rank them\n\n`code` and a [link](https://a.example)"
PATCH = "--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n-old\n+new\n same\n"


async def _artifacts(n: int) -> None:
    put = current_step().artifacts.put
    if n == 2:
        await put("plan.md", PLAN)
    if n == 4:
        sources = [{"url": f"https://source-{i}.example", "score": i} for i in range(9)]
        await put("sources.json", json.dumps(sources))
        await put("fix.patch", PATCH, content_type="text/x-patch")


class Survey:
    """Spawns four children of `research` and waits for them."""

    engine_id = "survey"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="spread")

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.step == "gather":
            return snapshot.finish(data={"children": 4})
        children = [Child(engine="research", payload={"topic": f"part {n}"}) for n in range(3)]
        children.append(Child(engine="research", payload={"topic": "slow part", "ask": 3}))
        after = snapshot.next("gather")
        return after.model_copy(update={"spawn": children, "wait_for": WaitFor(children=Join())})
