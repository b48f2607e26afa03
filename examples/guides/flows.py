"""Engines of the guide to flows: a chat in turns, a report that a trigger asks for, a coder."""

from __future__ import annotations

from roost import Snapshot, WorkItem, current_step


class Chat:
    """Answers one message; forked work goes on from what was said before it."""

    engine_id = "chat"
    engine_version = "2"

    def migrate(self, snapshot: Snapshot) -> Snapshot:
        """Version 1 kept its lines as one text."""
        said = snapshot.data["said"]
        return snapshot.next(data={"said": said.splitlines() if isinstance(said, str) else said})

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"said": [], "heard": ""})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        text, said = item.payload["text"], snapshot.data["said"]
        if snapshot.data["heard"] != item.work_id:  # also where the snapshot is that of other work
            heard = {"said": [*said, f"you: {text}"], "heard": item.work_id}
            return snapshot.next("answer", data=heard, delay=item.payload.get("thinks_seconds", 0.0))
        return snapshot.finish(data={"said": [*said, f"me: about {text}"]})


class Reporter:
    """Writes down what a trigger gave it."""

    engine_id = "reporter"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await current_step().artifacts.put("report.txt", f"{item.payload['count']} lines were said")
        return snapshot.finish()


class Coder:
    """Changes files in a git working tree of its own."""

    engine_id = "coder"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        path = await current_step().workspace()
        (path / "notes.txt").write_text(item.payload["text"])
        return snapshot.finish()
