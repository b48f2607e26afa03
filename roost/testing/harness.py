"""For engine authors: run engines to their end in memory, in milliseconds, in virtual time.

    def test_it_asks_before_it_sends(engine_harness):
        harness = engine_harness(Mailer())
        work = harness.enqueue("mailer", {"to": "ada@example.org"})
        assert work.state == "waiting"
        work.signal("approve", {"by": "me"})
        assert work.state == "done"

Everything runs inside the calls: after each, all that can be done at that instant is done.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeVar

from roost.core.approvals import OpenApproval
from roost.core.client import WorkView
from roost.core.inbox import Inbox
from roost.journal.entries import Entry
from roost.journal.events import Committed
from roost.models import Signal, Snapshot
from roost.names import State
from roost.storage.memory import MemoryBackend
from roost.storage.query import IndexQuery
from roost.testing.driver import Driver
from roost.testing.virtual_time import DAY_SECONDS, START_AT, SeededIds, VirtualClock, VirtualTimeLoop

T = TypeVar("T")

RUN_DAYS_MAX = 400.0


class WorkFailed(AssertionError):
    """Work failed where the test did not expect it; says why."""


class EngineHarness:
    """Some engines, a backend in memory, and a clock that the test moves.

    Args:
        engines: instances; all that the work needs, those of children too.
        seed: of ids and jitter.
        allow_broken_contract: an engine that returns what Roost can't store (a snapshot
            that is not JSON, say) is left to fail; else the test fails at once.
    """

    def __init__(self, *engines: Any, seed: int = 0, allow_broken_contract: bool = False) -> None:
        self._loop = VirtualTimeLoop()
        self._clock = VirtualClock(self._loop)
        self._allow_broken_contract = allow_broken_contract
        self.driver: Driver = Driver(
            MemoryBackend(self._clock),
            self._clock,
            SeededIds(random.Random(seed)),
            engines,
            pass_time=asyncio.sleep,
        )

    def __enter__(self) -> EngineHarness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the loop; the harness is of no use afterwards."""
        if not self._loop.is_closed():
            self._loop.close()

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the harness' own loop.

        Raises:
            RuntimeError: a loop is running already: the test must be a plain function.
        """
        return self._loop.run_until_complete(call)

    @property
    def now(self) -> float:
        """Epoch seconds of the virtual clock."""
        return self._clock.now()

    @property
    def passed_seconds(self) -> float:
        """Virtual seconds since the harness was made."""
        return self._clock.now() - START_AT

    def enqueue(self, engine: str, payload: dict[str, Any] | None = None, **options: Any) -> Work:
        """Enqueue work and do what can be done of it now.

        Args:
            options: as those of `Client.enqueue`.
        """
        work = Work(self, self.do(self.driver.client.enqueue(engine, payload, **options)))
        self.settle()
        return work

    def work(self, work_id: str) -> Work:
        """A work item by its id; a child, say."""
        return Work(self, work_id)

    def settle(self) -> None:
        """Do all that can be done at this instant."""
        self.do(self.driver.work())
        self._check_contract()

    def advance(
        self, *, seconds: float = 0.0, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """Let time pass; everything that comes due on the way is done at its instant."""
        self.do(self.driver.advance(seconds + 60 * minutes + 3600 * hours + DAY_SECONDS * days))
        self._check_contract()

    def _check_contract(self) -> None:
        if self._allow_broken_contract:
            return
        page = self.do(self.driver.client.list(IndexQuery(state=State.FAILED), limit=1000))
        for row in page.rows:
            if row.reason.startswith("EngineContractError"):
                raise WorkFailed(f"{row.work_id} ({row.engine}): {row.reason}")


class Work:
    """One work item of a harness; each property is of this instant."""

    def __init__(self, harness: EngineHarness, work_id: str) -> None:
        self.harness = harness
        self.work_id = work_id

    @property
    def view(self) -> WorkView:
        """Item, control state, snapshot and index row."""
        return self.harness.do(self.harness.driver.client.status(self.work_id))

    @property
    def state(self) -> State:
        """Where it is."""
        return self.view.control.state

    @property
    def reason(self) -> str:
        """Why it is there."""
        return self.view.control.reason

    @property
    def snapshot(self) -> Snapshot:
        """The last committed snapshot.

        Raises:
            WorkFailed: there is none yet; says what became of the work.
        """
        view = self.view
        if view.snapshot is None:
            state, reason = view.control.state, view.control.reason
            raise WorkFailed(f"{self.work_id} is {state}, with no snapshot: {reason}")
        return view.snapshot

    @property
    def result(self) -> Any:
        """What it left for whoever spawned it."""
        return self.snapshot.result

    @property
    def versions(self) -> Sequence[Snapshot]:
        """Every committed snapshot, first to last."""
        client = self.harness.driver.client
        return [
            self.harness.do(client.snapshot(self.work_id, entry.event.version))
            for entry in self.entries
            if isinstance(entry.event, Committed)
        ]

    @property
    def entries(self) -> Sequence[Entry]:
        """Its journal."""
        return self.harness.do(self._entries())

    async def _entries(self) -> Sequence[Entry]:
        return [entry async for entry in self.harness.driver.client.events(self.work_id)]

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of its entries: `enqueued`, `claimed`, `committed`, …"""
        return [entry.event.kind.value for entry in self.entries]

    def artifact(self, name: str) -> bytes:
        """The bytes of the newest artifact of a name.

        Raises:
            KeyError: it has none of that name.
        """
        found = {artifact.name: artifact for artifact in self.snapshot.artifacts}
        return self.harness.do(self._read(found[name].digest))

    async def _read(self, digest: str) -> bytes:
        return b"".join([chunk async for chunk in self.harness.driver.backend.artifacts.read(digest)])

    @property
    def pending_signals(self) -> Sequence[Signal]:
        """The signals that no step has seen, in order."""
        return self.harness.do(self._pending_signals())

    async def _pending_signals(self) -> Sequence[Signal]:
        driver = self.harness.driver
        control = (await driver.client.status(self.work_id)).control
        given = await Inbox(driver.process.parts, self.work_id).read(control)
        return [*given.signals, *(signal for _, signal in given.pending)]

    def signal(self, name: str, data: Any = None, *, signal_id: str | None = None) -> None:
        """Send it a signal, and do what follows at once."""
        self.harness.do(self.harness.driver.client.signal(self.work_id, name, data, signal_id=signal_id))
        self.harness.settle()

    @property
    def approvals(self) -> Sequence[OpenApproval]:
        """What it asks for now, by `current_step().ask`."""
        return self.harness.do(self.harness.driver.client.approvals(self.work_id))

    def approve(self, name: str, reply: Any = None, *, by: str = "test") -> None:
        """Answer what it asks for, and do what follows at once.

        Raises:
            KeyError: it asks for nothing of that name.
            InputError: the reply does not have the shape that was asked for.
        """
        tokens = {ask.name: ask.token for ask in self.approvals}
        self.harness.do(self.harness.driver.client.approve(tokens[name], reply, by))
        self.harness.settle()

    def cancel(self, reason: str = "the test says so") -> None:
        """Ask it to end, and do what follows at once."""
        self.harness.do(self.harness.driver.client.cancel(self.work_id, reason))
        self.harness.settle()

    def run_to_end(self, *, days: float = RUN_DAYS_MAX) -> Work:
        """Let time pass until it has ended well.

        Raises:
            WorkFailed: it ended otherwise, or not within so many days, or waits for a signal.
        """
        self.harness.do(self._run_to_end(days * DAY_SECONDS))
        state, reason = self.state, self.reason
        if state is not State.DONE:
            raise WorkFailed(f"{self.work_id} is {state}: {reason or self._waits()}")
        return self

    async def _run_to_end(self, seconds: float) -> None:
        driver = self.harness.driver
        end = driver.clock.now() + seconds
        await driver.work()
        while not (await driver.client.status(self.work_id)).control.state.is_terminal:
            next_at = await driver.next_at()
            if next_at is None or next_at > end:
                return
            await driver.jump_to(next_at)

    def _waits(self) -> str:
        waits = self.view.control.waits
        return f"it waits for {', '.join(waits.names)}" if waits is not None else "nothing makes it go on"
