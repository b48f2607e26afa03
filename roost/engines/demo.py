"""The engine `demo`: counts. For trying Roost out, and for its own tests and measurements."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from roost.models import Snapshot, WorkItem

COUNT_MAX = 100_000
DELAY_SECONDS_MAX = 86_400.0  # a day


class DemoPayload(BaseModel):
    """What a demo work item is enqueued with.

    Attributes:
        count: how many steps there are.
        delay_seconds: the wait between two steps; none before the first or after the last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    count: int = Field(default=3, ge=1, le=COUNT_MAX)
    delay_seconds: float = Field(default=0.0, ge=0, le=DELAY_SECONDS_MAX)


class DemoEngine:
    """Counts one up per step; `data` is {"count": counted so far, "of": the total}."""

    engine_id = "demo"
    payload_model = DemoPayload

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        """Nothing counted yet."""
        payload = DemoPayload.model_validate(item.payload)
        return Snapshot.of(item, step="count", data={"count": 0, "of": payload.count})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        """Count one up; finish at the total."""
        payload = DemoPayload.model_validate(item.payload)
        count = snapshot.data["count"] + 1
        if count >= payload.count:
            return snapshot.finish(data={"count": count})
        return snapshot.next(data={"count": count}, delay=payload.delay_seconds)


def build_demo() -> DemoEngine:
    """The engine `demo`; it has no options."""
    return DemoEngine()
