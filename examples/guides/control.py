"""The engine of `control.md`: an agent that goes on as long as it is let."""

from __future__ import annotations

from roost import Snapshot, WorkItem, current_step

STEPS = 6


class Looper:
    """Writes a word a step, with the model that its state names, and says what each cost."""

    engine_id = "looper"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="think", data={"model": "large", "words": []})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        model = snapshot.data["model"]
        current_step().spend(usd=1.0 if model == "large" else 0.1)
        words = [*snapshot.data["words"], f"{model}-{len(snapshot.data['words']) + 1}"]
        if len(words) >= STEPS:
            return snapshot.finish(data={"words": words})
        return snapshot.next("think", data={"words": words})
