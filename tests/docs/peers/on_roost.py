"""Two steps on Roost; the process dies in the second, after its effects.

roost enqueue --any-engine --engine two-steps --payload '{}' --work-id w
roost worker --engines on_roost:TwoSteps --until-idle       # twice
"""

import os

from common import die_once, note

from roost import Snapshot, WorkItem, current_step

FOLDER = os.environ["PEERS_FOLDER"]


class TwoSteps:
    """Notes `one`, then (by `once`) `paid`, then `two`."""

    engine_id = "two-steps"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="one")

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.step == "one":
            note(FOLDER, "one")
            return snapshot.next("two")
        await current_step().once("paid", self.pay)
        note(FOLDER, "two")
        die_once(FOLDER)
        note(FOLDER, "end")
        return snapshot.finish()

    async def pay(self) -> None:
        note(FOLDER, "paid")
