"""What a beat does while hundreds of sessions come and go."""

from __future__ import annotations

import asyncio
import weakref

from roost.core.heartbeat import FIRST_BEAT_SECONDS, Heartbeat
from roost.core.session import Session
from roost.models import Snapshot, WorkItem
from roost.storage.ports import DELIVERY_BATCH_MAX
from tests.unit.test_session import World


async def test_a_beat_neither_keeps_nor_renews_a_session_that_ends_meanwhile() -> None:
    """With hundreds in hand a beat takes seconds, in which many end; each has its snapshots."""
    world, entered, go_on = World(), asyncio.Semaphore(0), asyncio.Event()

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        entered.release()
        await go_on.wait()
        return snapshot.finish()

    sessions: dict[Session, asyncio.Task[None]] = {}
    for _ in range(DELIVERY_BATCH_MAX + 1):
        process, _, session = await world.enqueue(step)
        sessions[session] = asyncio.create_task(session.run())
        await entered.acquire()
    last, calls = weakref.ref(session), []
    del session

    async def end_the_last(when: str, call: str, detail: str) -> None:
        if (when, call) == ("before", "extend"):
            calls.append(call)
            world.hook = None
            go_on.set()
            await sessions.popitem()[1]
            await asyncio.sleep(0)  # the loop itself lets go of a task a turn later
            world.hook = end_the_last
            assert last() is None

    world.clock.advance(FIRST_BEAT_SECONDS)
    world.hook = end_the_last
    await Heartbeat(process.parts, sessions).beat()
    assert calls == ["extend"]
    await asyncio.gather(*sessions.values())
