"""Numbers are squared by children, and the parent adds up what comes back."""

from __future__ import annotations

from roost import Child, Join, Snapshot, WaitFor, WorkItem, current_step


class FanOut:
    """Payload: {"numbers": […]}; of a child: {"number": …}, which must not be negative."""

    engine_id = "fan-out"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="spawn")

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if item.parent_id is not None:
            return self.square(snapshot, item.payload["number"])
        if snapshot.step == "spawn":
            children = [
                Child(engine="fan-out", key=f"n{number}", payload={"number": number})
                for number in item.payload["numbers"]
            ]
            return snapshot.next(
                "add", spawn=children, wait_for=WaitFor(children=Join(max_failed_percent=50))
            )
        came = current_step().children
        return snapshot.finish(
            data={
                "sum": sum(child.result for child in came if child.is_done),
                "failed": [child.key for child in came if not child.is_done],
                "is_enough": current_step().join_is_met,
            }
        )

    def square(self, snapshot: Snapshot, number: int) -> Snapshot:
        if number < 0:
            raise ValueError(f"{number} is negative")
        return snapshot.finish(result=number * number)
