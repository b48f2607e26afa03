"""The worker function: batches, partial failures, and the end of its time. In virtual time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import pytest

from roost.core.parts import CoreSettings, Parts
from roost.engine import EngineRegistry, RetryPolicy
from roost.errors import InputError, StorageUnavailable
from roost.hosting import lambda_worker
from roost.hosting.container import LINE_FIELDS
from roost.hosting.handed import HandedBackend
from roost.hosting.lambda_worker import ABANDON_SECONDS, GRACE_SHARE, REPLY_SECONDS, STEP_SHARE
from roost.journal.events import Kind
from roost.journal.projection import LOST_DELIVERY_SECONDS
from roost.models import Lane, Snapshot, State, WorkItem
from roost.storage.aws.messages import lane_of
from roost.storage.instrument import InstrumentedBackend
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Delivery, Message
from roost.testing.contract.process import Scripted, Step, finishes
from roost.testing.virtual_time import SeededIds, VirtualClock
from roost.wiring import Runtime
from tests.hosting.shapes import Context, queue_arn, sqs_event, sqs_record
from tests.virtual import in_virtual_time

SETTINGS = CoreSettings(lease_seconds=30.0, burst_seconds=900.0, grace_seconds=20.0)
VISIBILITY_SECONDS = 600.0  # of the queue; the lease is what counts


class World:
    """A memory backend, and Lambda in front of it: receives, invokes, deletes what was not refused."""

    def __init__(self, step: Step = finishes, *, timeout_seconds: float = 120.0, **engine: Any) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.timeout_seconds = timeout_seconds
        self.hook: Callable[[str, str, str], Awaitable[None]] | None = None
        backend = InstrumentedBackend(MemoryBackend(self.clock), self._call)
        parts = Parts(backend, self.clock, SeededIds(random.Random(1)), SETTINGS)
        self.backend = backend
        self.runtime = Runtime(backend, parts, EngineRegistry([Scripted(step, **engine)]))
        self.client = self.runtime.client
        self.spent_seconds: list[float] = []

    async def _call(self, when: str, call: str, detail: str) -> None:
        if self.hook is not None:
            await self.hook(when, call, detail)

    async def receive(self) -> list[Delivery]:
        return list(
            await self.backend.queue.receive(
                10, visibility_seconds=VISIBILITY_SECONDS, wait_seconds=0, lanes=list(Lane)
            )
        )

    async def invoke(self, event: dict[str, Any]) -> list[str]:
        """One invocation; the ids of messages that it refused."""
        began = self.clock.monotonic()
        context = Context(lambda: began + self.timeout_seconds - self.clock.monotonic())
        handed = [*lambda_worker._records(event)]
        failures = await lambda_worker.run_batch(self.runtime, handed, context)
        self.spent_seconds.append(self.clock.monotonic() - began)
        return failures

    async def deliver(self, *more: dict[str, Any]) -> list[int]:
        """Receive, invoke with `more` records, delete; the places of those refused."""
        deliveries = await self.receive()
        event = sqs_event(deliveries)
        event["Records"] += more
        failures = await self.invoke(event)
        ids = [record["messageId"] for record in event["Records"]]
        done = [one for one, message_id in zip(deliveries, ids, strict=False) if message_id not in failures]
        await self.backend.queue.acknowledge(done)
        return [ids.index(failure) for failure in failures]

    async def kinds(self, work_id: str) -> list[Kind]:
        return [entry.event.kind for entry in await self.backend.journal.read(work_id, limit=1000)]


@in_virtual_time
async def test_a_batch_is_run_and_nothing_of_it_comes_again() -> None:
    world = World()
    ids = [await world.client.enqueue("demo") for _ in range(3)]
    assert await world.deliver() == []
    for work_id in ids:
        assert (await world.client.status(work_id)).control.state is State.DONE
    await asyncio.sleep(2 * VISIBILITY_SECONDS)
    assert await world.receive() == []


@in_virtual_time
async def test_each_line_of_a_session_has_its_fields_whichever_logger_it_comes_from() -> None:
    """Lambda's runtime writes what a record has beside its own attributes."""
    own = logging.getLogger("a.library")
    told: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record)

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        own.warning("hello", extra={"lane": "of its own"})
        return snapshot.finish()

    world = World(step)
    work_id = await world.client.enqueue("demo")
    handler = Kept()
    handler.addFilter(LINE_FIELDS)
    own.addHandler(handler)
    try:
        await world.deliver()
        own.warning("outside of any session")
    finally:
        own.removeHandler(handler)
    inside, outside = (vars(record) for record in told)
    wanted = {"work_id": work_id, "engine": "demo", "token": 1, "attempt": 1}
    assert wanted.items() <= inside.items()
    assert (inside["version"], inside["lane"]) == (0, "of its own")
    assert "work_id" not in outside
    assert outside["roost_version"] == inside["roost_version"] == version("roost-runtime")


@in_virtual_time
async def test_a_batch_runs_side_by_side() -> None:
    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await asyncio.sleep(10)
        return snapshot.finish()

    world = World(step)
    for _ in range(10):
        await world.client.enqueue("demo")
    assert await world.deliver() == []
    assert world.spent_seconds[0] < 11


@in_virtual_time
async def test_what_is_held_elsewhere_is_refused_and_comes_again_when_its_lease_is_over() -> None:
    """The queue's own visibility timeout is far longer."""

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await asyncio.sleep(20)
        return snapshot.finish()

    world = World(step)
    work_id = await world.client.enqueue("demo")
    first = asyncio.create_task(world.deliver())
    await asyncio.sleep(5)
    await world.backend.queue.send([Message(work_id, 0)])
    assert await world.deliver() == [0]
    assert await first == []
    await asyncio.sleep(SETTINGS.lease_seconds + LOST_DELIVERY_SECONDS)
    [again] = await world.receive()
    assert again.received_count == 2


@in_virtual_time
async def test_a_message_that_is_not_ours_is_refused_and_the_others_are_run() -> None:
    world = World()
    work_id = await world.client.enqueue("demo")
    bodies = ("[" * 100_000, "{}", '{"v":2,"work":"w","cause":0}')
    foreign = [sqs_record(body, receipt="r") for body in bodies]
    assert await world.deliver(*foreign) == [1, 2, 3]
    assert (await world.client.status(work_id)).control.state is State.DONE


@in_virtual_time
async def test_work_that_nobody_knows_is_not_delivered_again() -> None:
    """It goes to the dead letters, as a worker that is a process has it."""
    world = World()
    await world.backend.queue.send([Message("unknown", 0)])
    assert await world.deliver() == []
    await asyncio.sleep(2 * VISIBILITY_SECONDS)
    assert await world.receive() == []


@in_virtual_time
async def test_a_session_whose_storage_fails_is_refused_alone() -> None:
    world = World()
    good, bad = [await world.client.enqueue("demo", work_id=name) for name in ("good", "bad")]

    async def fail(when: str, call: str, detail: str) -> None:
        names = asyncio.current_task()
        if call == "tail" and names is not None and names.get_name() == "session:bad":
            raise StorageUnavailable("away")

    world.hook = fail
    assert await world.deliver() == [1]
    world.hook = None
    assert (await world.client.status(good)).control.state is State.DONE
    assert (await world.client.status(bad)).control.state is State.QUEUED


@in_virtual_time
async def test_it_steps_on_until_its_time_is_nearly_over_and_hands_over_at_a_commit() -> None:
    entered: list[int] = []

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        entered.append(snapshot.version)
        await asyncio.sleep(10)
        return snapshot.finish() if snapshot.version == 20 else snapshot.next("on")

    world = World(step)
    work_id = await world.client.enqueue("demo")
    while (await world.client.status(work_id)).control.state is not State.DONE:
        assert await world.deliver() == []
    kinds = await world.kinds(work_id)
    assert entered == list(range(21)), "no step ran twice"
    assert kinds.count(Kind.CLAIMED) == len(world.spent_seconds) == 3
    assert Kind.RELEASED not in kinds
    assert max(world.spent_seconds) <= world.timeout_seconds - REPLY_SECONDS


@in_virtual_time
async def test_a_step_that_still_runs_at_the_end_is_abandoned_and_costs_no_attempt() -> None:
    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await asyncio.sleep(0 if snapshot.version == 1 and len(world.spent_seconds) else 70)
        return snapshot.finish() if snapshot.version == 1 else snapshot.next("on")

    world = World(step)
    work_id = await world.client.enqueue("demo")
    assert await world.deliver() == []
    assert (await world.kinds(work_id))[-1] is Kind.RELEASED
    assert world.spent_seconds[0] <= world.timeout_seconds - REPLY_SECONDS
    assert await world.deliver() == []
    assert (await world.client.status(work_id)).control.state is State.DONE
    assert Kind.ATTEMPT_FAILED not in await world.kinds(work_id)


@in_virtual_time
async def test_a_step_that_no_invocation_is_long_enough_for_fails_and_says_so() -> None:
    """Else it would be begun and abandoned for ever."""

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await asyncio.sleep(1000)
        raise AssertionError

    world = World(step, retry=RetryPolicy(max_attempts=2, first_delay_seconds=0.0))
    work_id = await world.client.enqueue("demo")
    for _ in range(4):
        await world.deliver()
        await asyncio.sleep(60)
    view = await world.client.status(work_id)
    assert view.control.state is State.FAILED
    seconds = STEP_SHARE * (world.timeout_seconds - REPLY_SECONDS - ABANDON_SECONDS)
    assert f"the step took longer than {seconds:.1f} s" in view.control.reason


@in_virtual_time
async def test_a_heartbeat_keeps_the_lease_of_a_long_step() -> None:
    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await asyncio.sleep(3 * SETTINGS.lease_seconds)
        return snapshot.finish()

    world = World(step)
    work_id = await world.client.enqueue("demo")
    task = asyncio.create_task(world.deliver())
    await asyncio.sleep(2 * SETTINGS.lease_seconds)
    assert await world.receive() == []
    assert await task == []
    assert (await world.client.status(work_id)).control.state is State.DONE


@in_virtual_time
async def test_an_invocation_with_hardly_any_time_returns_in_time() -> None:
    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await asyncio.sleep(1000)
        raise AssertionError

    world = World(step, timeout_seconds=30.0)
    await world.client.enqueue("demo")
    await world.deliver()
    assert world.spent_seconds[0] <= 29.0
    assert world.spent_seconds[0] >= 30 * (1 - GRACE_SHARE) - ABANDON_SECONDS - REPLY_SECONDS


@in_virtual_time
async def test_an_invocation_with_no_time_left_refuses_all_and_loses_nothing() -> None:
    """The runtime was frozen, and thawed at the end of its time."""
    entered: list[int] = []

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        entered.append(snapshot.version)
        await asyncio.sleep(1.0)
        return snapshot.finish()

    world = World(step, timeout_seconds=0.0)
    work_id = await world.client.enqueue("demo")
    await world.deliver()
    assert world.spent_seconds[0] <= 1.0
    world.timeout_seconds = 120.0
    while (await world.client.status(work_id)).control.state is not State.DONE:
        await asyncio.sleep(SETTINGS.lease_seconds)
        await world.deliver()
    kinds = await world.kinds(work_id)
    assert kinds.count(Kind.COMMITTED) == 1
    assert Kind.ATTEMPT_FAILED not in kinds


@in_virtual_time
async def test_a_record_that_comes_twice_in_a_batch_runs_once() -> None:
    """SQS delivers at least once; both copies may be of one batch."""
    entered: list[int] = []

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        entered.append(snapshot.version)
        await asyncio.sleep(1.0)
        return snapshot.finish()

    world = World(step)
    work_id = await world.client.enqueue("demo")
    await world.backend.queue.send([Message(work_id, 0)])
    failures = await world.deliver()
    assert entered == [0]
    assert len(failures) <= 1, "the copy may be put back until the lease ends; it is done then"
    await asyncio.sleep(2 * VISIBILITY_SECONDS)
    assert await world.deliver() == []
    assert entered == [0]
    assert await world.receive() == []


@in_virtual_time
async def test_a_batch_that_is_delivered_again_after_its_end_does_nothing() -> None:
    """Lambda could not delete it, or deleted it too late."""
    entered: list[int] = []

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        entered.append(snapshot.version)
        return snapshot.finish()

    world = World(step)
    for _ in range(3):
        await world.client.enqueue("demo")
    event = sqs_event(await world.receive())
    assert await world.invoke(event) == []
    assert await world.invoke(event) == []
    assert entered == [0, 0, 0]


@in_virtual_time
async def test_a_handed_queue_receives_nothing_itself() -> None:
    world = World()
    await world.client.enqueue("demo")
    handed = HandedBackend(world.backend)
    assert await handed.queue.receive(10, visibility_seconds=1, wait_seconds=0, lanes=list(Lane)) == []
    assert await handed.queue.backlog() == 1
    await handed.close()
    assert await handed.check() == await world.backend.check()


@pytest.mark.parametrize("lane", list(Lane))
def test_the_lane_is_that_of_the_queue(lane: Lane) -> None:
    assert lane_of(queue_arn(lane, stack="my-stack")) is lane


@pytest.mark.parametrize("arn", ["arn:aws:sqs:us-east-1:1:roost-dead", "", "normal:other"])
def test_a_queue_that_is_no_lane_is_refused(arn: str) -> None:
    with pytest.raises(InputError, match="no lane"):
        lane_of(arn)


def test_two_invocations_never_share_a_name() -> None:
    one, other = Context(lambda: 1.0), Context(lambda: 1.0)
    assert lambda_worker._worker_id(one) != lambda_worker._worker_id(other)
