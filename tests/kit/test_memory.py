"""What a worker keeps of work that it is done with."""

from __future__ import annotations

import gc
from collections.abc import Callable

from roost import Snapshot, WorkItem, current_step
from roost.core.session import Session
from roost.testing import EngineHarness


class Talker:
    engine_id = "talker"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"n": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        step = current_step()
        step.log.info("step %d", snapshot.data["n"])
        step.progress(0.5, "half")
        await step.once("effect", lambda: 1)
        snapshot.data["n"] += 1
        return snapshot.finish() if snapshot.data["n"] == 3 else snapshot.next("more")


def test_a_session_goes_when_its_work_is_over_without_waiting_for_the_collector(
    engine_harness: Callable[..., EngineHarness],
) -> None:
    """A worker collects seldom; a session in a cycle would keep its snapshots until then."""
    harness = engine_harness(Talker())
    gc.collect()
    gc.disable()
    try:
        works = [harness.enqueue("talker") for _ in range(5)]
        harness.advance(days=1)
        assert {work.state for work in works} == {"done"}
        assert not [one for one in gc.get_objects() if isinstance(one, Session)]
    finally:
        gc.enable()
