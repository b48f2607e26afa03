"""The engine of the rehearsals, in the version that the environment says."""

from __future__ import annotations

import os

from roost import Snapshot, WorkItem
from tests.crash.engines import Ledger


class Counting(Ledger):
    """Writes down what it does; a later version goes on from what an earlier one left."""

    engine_id = "counting"
    engine_version = os.environ.get("COUNTING_VERSION", "1")

    def migrate(self, snapshot: Snapshot) -> Snapshot:
        return snapshot

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        after = await super().step(snapshot, item)
        return after.model_copy(update={"data": {**after.data, "version": self.engine_version}})
