"""What time does on AWS: steps longer than a message is held, long sleeps, expired messages, progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from roost.core.heartbeat import PROGRESS_SECONDS, Heartbeat
from roost.engine import current_step
from roost.journal.events import Kind
from roost.journal.projection import SEND_EARLY_SECONDS
from roost.models import Snapshot, State, WorkItem
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.queue import VISIBILITY_MAX_SECONDS
from roost.testing.contract.harness import soon
from roost.testing.contract.process import Process, Scripted, Step, finishes
from tests.standins.harness import AwsHarness, point_sdk_at

pytestmark = pytest.mark.slow

DAY_SECONDS = 86_400.0


class Stack:
    """A stack on a stand-in whose clock is moved."""

    def __init__(self, harness: AwsHarness, backend: AwsBackend) -> None:
        self.harness = harness
        self.backend = backend

    def process(self, step: Step, name: str = "worker") -> Process:
        return Process(self.harness, self.backend, Scripted(step), name)


@pytest_asyncio.fixture(params=["ministack", pytest.param("moto", marks=pytest.mark.soak)])
async def stack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    standin = request.getfixturevalue(request.param)
    point_sdk_at(standin, monkeypatch)
    harness = AwsHarness(standin)
    backend = await harness.open()
    assert isinstance(backend, AwsBackend)
    yield Stack(harness, backend)
    await harness.close()


class Long:
    """A step that goes on until it is told to end, and says how far it is."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.ends = asyncio.Event()

    async def __call__(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        current_step().progress(0.4, "reading")
        self.entered.set()
        await self.ends.wait()
        return snapshot.finish(data={"ended": True})


async def test_a_step_longer_than_a_message_can_be_held_goes_on(stack: Stack) -> None:
    """AWS: at most twelve hours from the receive, heartbeats included (SQS API reference,
    "ChangeMessageVisibility"); then extending fails, and the message is seen again.

    Its row says that the lease is live: whoever gets the message puts it back. Once the work has
    ended the message is discarded. The stand-ins would hold it for longer, so it is let go by hand.
    """
    long = Long()
    process, other = stack.process(long), stack.process(finishes, "other")
    work_id = await process.client.enqueue("demo")
    [delivery] = await process.receive()
    session = process.session(delivery)
    running = asyncio.create_task(session.run())
    await soon(long.entered.wait())
    heartbeat, third = Heartbeat(process.parts, [session]), process.lease_seconds / 3
    await heartbeat.beat()
    await stack.harness.advance(third)
    await heartbeat.beat()
    # Twelve hours pass, of which the last thirds of a lease are looked at.
    held_until = session.held_until
    await stack.backend.queue.put_back(delivery, 0.0)
    for _ in range(4):
        await stack.harness.advance(third)
        await heartbeat.beat()  # what it extends is gone
        for again in await other.receive():
            await soon(other.session(again).run())
        await other.sweeper.sweep()
    assert session.held_until > held_until, "the row keeps the lease"
    assert not running.done()
    kinds = [entry.event.kind for entry in await process.entries(work_id)]
    assert kinds == [Kind.ENQUEUED, Kind.CLAIMED], "nobody took it over"
    long.ends.set()
    await soon(running)
    assert await process.state(work_id) is State.DONE
    await stack.harness.advance(process.lease_seconds + 1)
    await other.work()
    kinds = [entry.event.kind for entry in await process.entries(work_id)]
    assert kinds == [Kind.ENQUEUED, Kind.CLAIMED, Kind.COMMITTED]
    await stack.harness.advance(VISIBILITY_MAX_SECONDS)
    assert await other.work() == 0, "its message is gone"


async def test_progress_shows_at_the_next_beat_within_two_seconds(stack: Stack) -> None:
    """The heartbeat's loop looks each second; DynamoDB gives a row back as soon as it is written."""
    long = Long()
    process = stack.process(long)
    work_id = await process.client.enqueue("demo")
    [delivery] = await process.receive()
    session = process.session(delivery)
    running = asyncio.create_task(session.run())
    await soon(long.entered.wait())
    assert PROGRESS_SECONDS <= 1.0
    await stack.harness.advance(PROGRESS_SECONDS)
    await Heartbeat(process.parts, [session]).beat()
    row = await stack.backend.index.get(work_id)
    assert row is not None
    assert row.progress == (0.4, "reading")
    long.ends.set()
    await soon(running)


async def test_work_wakes_up_on_time_after_days(stack: Stack) -> None:
    """The sweeper sends a little early, and the message's own delay does the rest."""
    began: list[float] = []

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        began.append(stack.harness.clock.now())
        if snapshot.version:
            return snapshot.finish()
        return snapshot.next(data={"n": 1}, delay=3 * DAY_SECONDS)

    process = stack.process(step)
    work_id = await process.client.enqueue("demo")
    await process.work()
    wake_at = (await process.tail(work_id)).control.wake_at
    assert wake_at is not None
    for _ in range(3):  # swept daily, and no message waits for it
        await stack.harness.advance(DAY_SECONDS - SEND_EARLY_SECONDS)
        await process.sweeper.sweep()
        assert await stack.backend.queue.backlog() == 0
    await stack.harness.advance(wake_at - stack.harness.clock.now() - SEND_EARLY_SECONDS + 1.0)
    await process.sweeper.sweep()
    await stack.harness.advance(wake_at - stack.harness.clock.now() - 3.0)
    assert await process.work() == 0, "not before its time"
    for _ in range(6):  # a queue that is long-polled; here second by second
        await stack.harness.advance(1.0)
        await process.work()
    assert await process.state(work_id) is State.DONE
    assert 0.0 <= began[1] - wake_at <= 2.5, "a delay is of whole seconds, and the looks here, too"


async def test_work_outlives_its_message(stack: Stack) -> None:
    """AWS: a message is deleted after the queue's retention time, 14 days at most (SQS Developer Guide).

    The row of work that is queued is due again and again; a sweeper sends another message.
    """
    process = stack.process(finishes)
    work_id = await process.client.enqueue("demo")
    await stack.harness.advance(15 * DAY_SECONDS)
    gone = await process.receive()  # a stand-in may keep it; AWS does not
    await stack.backend.queue.acknowledge(gone)
    assert await process.work() == 0
    await process.sweeper.sweep()
    await process.work()
    assert await process.state(work_id) is State.DONE
