"""Engines for crash tests: they write down what they do, with the fencing token."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from roost import Child, Join, Snapshot, WaitFor, WorkItem, current_step


def record(path: str, **fields: Any) -> None:
    """One line, appended at once, so that lines of several processes never mix."""
    line = json.dumps({"at": time.monotonic(), "pid": os.getpid(), **fields}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


class Ledger:
    """Takes `steps` steps of `seconds` each; writes begin and end of each to `path`.

    With a `gate`, the step after version `gated` (0, if it is not said) goes on when that file is there.
    """

    engine_id = "ledger"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"trail": []})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context, payload = current_step(), item.payload
        about = {
            "work": item.work_id,
            "resources": list(item.resources),
            "token": context.token,
            "version": snapshot.version,
        }
        record(payload["path"], what="begin", **about)
        await asyncio.sleep(payload["seconds"])
        while snapshot.version == payload.get("gated", 0) and not os.path.exists(payload.get("gate", "/")):
            await asyncio.sleep(0.01)
        record(payload["path"], what="end", **about)
        trail = [*snapshot.data["trail"], snapshot.version]
        if len(trail) >= payload["steps"]:
            await context.artifacts.put("trail.json", json.dumps(trail), content_type="application/json")
            return snapshot.finish(data={"trail": trail})
        return snapshot.next("go", data={"trail": trail}, delay=payload.get("delay", 0))


class Poison:
    """Ends its process in the first step, every time."""

    engine_id = "poison"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        record(
            item.payload["path"], what="begin", work=item.work_id, resources=[], token=current_step().token
        )
        os._exit(13)


class Tree:
    """Spawns `children` ledgers in its first step, and ends when they have."""

    engine_id = "tree"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.version:
            return snapshot.finish(result=[child.state for child in current_step().children])
        child = Child(engine="ledger", payload=item.payload["child"])
        return snapshot.next(spawn=[child] * item.payload["children"], wait_for=WaitFor(children=Join()))


class Gate:
    """Waits for two ledgers, then for the signal `go`, and ends with what it was told."""

    engine_id = "gate"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="spawn")

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context = current_step()
        if snapshot.step == "spawn":
            child = Child(engine="ledger", payload=item.payload["child"])
            return snapshot.next("ask", spawn=[child] * 2, wait_for=WaitFor(children=Join()))
        if snapshot.step == "ask":
            states = [child.state.value for child in context.children]
            return snapshot.next("end", data={"children": states}, wait_for="go")
        return snapshot.finish(data={**snapshot.data, "told": [signal.data for signal in context.signals]})
