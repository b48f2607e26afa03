"""A process of Roost on a backend, as the contract tests drive it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence

import pytest

from roost.clock import Clock, SystemIds
from roost.core.client import Client, WorkView
from roost.core.parts import CoreSettings, Parts
from roost.core.session import Session
from roost.core.sweeper import Sweeper
from roost.core.switches import Switches
from roost.core.tokens import Signer
from roost.core.worker import Worker
from roost.engine import EngineRegistry, RetryPolicy
from roost.errors import StorageUnavailable
from roost.journal.entries import Entry
from roost.journal.events import Committed
from roost.models import Lane, Snapshot, State, WorkItem
from roost.storage.instrument import InstrumentedBackend
from roost.storage.ports import Backend, Delivery
from roost.testing.contract.harness import BackendHarness, soon

Step = Callable[[Snapshot, WorkItem], Snapshot | Awaitable[Snapshot]]
_BEFORE_THE_CLAIM = ("tail", "index_get", "receive")  # when these fail, the delivery comes again
_ROUNDS_MAX = 50  # deliveries that `Process.work` follows before it gives up


class Scripted:
    """An engine whose step is a function of the test."""

    def __init__(self, step: Step, engine_id: str = "demo", retry: RetryPolicy | None = None) -> None:
        self.engine_id = engine_id
        self.retry: RetryPolicy = retry or RetryPolicy(first_delay_seconds=0.0)
        self._step = step

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        came = self._step(snapshot, item)
        return await came if inspect.isawaitable(came) else came


def counts_to(last: int) -> Step:
    """A step that counts up in the snapshot and finishes at `last`."""

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        number = snapshot.data.get("n", 0) + 1
        return snapshot.finish(data={"n": number}) if number == last else snapshot.next(data={"n": number})

    return step


def finishes(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    """A step that ends the work."""
    return snapshot.finish()


class Shifted:
    """A clock that is ahead of another, as that of another machine may be."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    def now(self) -> float:
        return self._clock.now() + self._seconds

    def monotonic(self) -> float:
        return self._clock.monotonic() + self._seconds

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


class Process:
    """What runs in one process, on a backend instance of its own, moved by hand.

    Args:
        engine: the one that it has.
        ahead_seconds: how far its clock is ahead of the queue's.
        settings: None: those of the tests.
    """

    def __init__(
        self,
        harness: BackendHarness,
        backend: Backend,
        engine: Scripted,
        name: str = "worker",
        *,
        ahead_seconds: float = 0.0,
        settings: CoreSettings | None = None,
    ) -> None:
        clock = Shifted(harness.clock, ahead_seconds) if ahead_seconds else harness.clock
        self.lease_seconds: float = 4 * harness.time_step_seconds
        settings = settings or CoreSettings(
            lease_seconds=self.lease_seconds,
            wait_seconds=harness.time_step_seconds * 10,
            approvals=Signer(("the secret of the tests",)),
        )
        self.name = name
        self.backend = backend
        self.parts: Parts = Parts(backend, clock, SystemIds(), settings)
        self.client: Client = Client(self.parts)
        self.switches: Switches = Switches(self.parts)
        self.sweeper: Sweeper = Sweeper(self.parts, f"sweeper:{name}", self.switches)
        self.engines: EngineRegistry = EngineRegistry([engine])
        self._begun: dict[asyncio.Task[None], Session] = {}

    async def receive(self, limit: int = 10) -> Sequence[Delivery]:
        return await self.backend.queue.receive(
            limit,
            visibility_seconds=self.lease_seconds,
            wait_seconds=0.0,
            lanes=(Lane.HIGH, Lane.NORMAL, Lane.LOW),
        )

    def session(self, delivery: Delivery) -> Session:
        return Session(
            self.parts, self.engines, self.name, delivery, is_draining=lambda: False, switches=self.switches
        )

    async def begin(self, entered: asyncio.Event) -> asyncio.Task[None]:
        """Take the one delivery and run its session until a step says that it is entered."""
        [delivery] = await self.receive()
        session = self.session(delivery)
        task = asyncio.create_task(session.run())
        self._begun[task] = session
        waiting = asyncio.create_task(entered.wait())
        await soon(asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED))
        assert not task.done(), "the session ended before its step was entered"
        return task

    async def crash(self, begun: asyncio.Task[None]) -> None:
        """End a session that has begun as a kill does: it writes nothing more."""
        self._begun[begun].leave(begun)
        with pytest.raises(asyncio.CancelledError):
            await begun

    async def work(self) -> int:
        """Run sessions one after the other until no delivery is visible; how many."""
        done = 0
        while deliveries := await self.receive():
            for delivery in deliveries:
                await soon(self.session(delivery).run())
            done += len(deliveries)
            assert done < _ROUNDS_MAX, "deliveries without end"
        return done

    def worker(self) -> Worker:
        return Worker(self.parts, self.engines, self.name)

    async def tail(self, work_id: str) -> Entry:
        tail = await self.backend.journal.tail(work_id)
        assert tail is not None
        return tail

    async def state(self, work_id: str) -> State:
        return (await self.tail(work_id)).control.state

    async def entries(self, work_id: str) -> Sequence[Entry]:
        return [entry async for entry in self.client.events(work_id)]

    async def kinds(self, work_id: str) -> list[str]:
        return [entry.event.kind.value for entry in await self.entries(work_id)]


async def run_workers(workers: Sequence[Worker], done: asyncio.Event) -> None:
    """Run workers until `done` is set, then drain them."""
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.run())
        try:
            await soon(done.wait())
        finally:
            for worker in workers:
                worker.drain()


def check_sound(entries: Sequence[Entry]) -> None:
    """Invariants 1 and 2: positions and versions are contiguous."""
    assert [entry.position for entry in entries] == list(range(len(entries)))
    versions = [entry.event.version for entry in entries if isinstance(entry.event, Committed)]
    assert versions == list(range(1, len(versions) + 1))


class Hasty:
    """A clock whose sleeps end at once."""

    def __init__(self, clock: Clock) -> None:
        self.now: Callable[[], float] = clock.now
        self.monotonic: Callable[[], float] = clock.monotonic

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Flaky:
    """A backend each of whose calls fails once, then works; appends are done before they fail."""

    def __init__(self, backend: Backend) -> None:
        self.is_on = False
        self.failed: set[str] = set()
        self.backend: Backend = InstrumentedBackend(backend, self._hook)

    async def _hook(self, when: str, call: str, detail: str) -> None:
        if not self.is_on or (when == "after") is not (call == "append"):
            return
        name = f"{call} {detail}".strip()
        if name not in self.failed and name not in _BEFORE_THE_CLAIM:
            self.failed.add(name)
            raise StorageUnavailable(f"{name} fails on purpose")


def check_done(view: WorkView, *, version: int) -> None:
    assert view.control.state is State.DONE
    assert view.control.version == version
    assert view.control.lease is None
    assert view.snapshot is not None
    assert view.snapshot.is_finished
    assert view.snapshot.version == version
    assert view.row is not None
    assert (view.row.state, view.row.position) == (State.DONE, view.control.position)
    assert view.row.due_at is None
