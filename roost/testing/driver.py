"""Moves work by hand, in any backend: deliver what is visible, let time pass, kill who works.

There is no worker loop here, so nothing happens that the caller did not ask for: one
session after the other, in one task, in the time of a clock that the caller moves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from roost.clock import Clock, Ids
from roost.core.client import Client
from roost.core.parts import CoreSettings, Parts
from roost.core.session import Session
from roost.core.sweeper import Sweeper
from roost.core.tokens import Signer
from roost.core.workspaces import HostWorkspaces
from roost.engine import EngineRegistry
from roost.errors import RoostError
from roost.journal.entries import IndexRow
from roost.journal.projection import LEASE_GRACE_SECONDS
from roost.names import Lane, State
from roost.storage.instrument import Hook, InstrumentedBackend, When
from roost.storage.ports import Backend, Delivery

LEASE_SECONDS = 30.0
SIGNER = Signer(("of tests and of nobody else",))  # engines may ask for approvals
SESSIONS_MAX = 20_000  # between two instants; more mean that the work never comes to rest
_LANES = (Lane.HIGH, Lane.NORMAL, Lane.LOW)
_FAR = 1e13  # epoch seconds; after all that is due


Disturb = Callable[[Sequence[Delivery]], Sequence[Delivery]]


class Killed(BaseException):
    """The process that called ended here, as SIGKILL ends it. Not an `Exception`: nobody handles it."""


class Restless(RoostError):
    """Work that goes on and on at one instant, or is always due."""


class LabProcess:
    """One worker process on a backend; once dead, each of its calls is refused.

    Args:
        hook: sees each of its calls, before and after.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        clock: Clock,
        ids: Ids,
        engines: EngineRegistry,
        hook: Hook | None = None,
        workspaces: HostWorkspaces | None = None,
    ) -> None:
        self.name = name
        self.is_dead: bool = False
        self._hook = hook
        settings = CoreSettings(lease_seconds=LEASE_SECONDS, wait_seconds=0.0, approvals=SIGNER)
        self.parts: Parts = Parts(InstrumentedBackend(backend, self._call), clock, ids, settings, workspaces)
        self._engines = engines
        self._sweeper = Sweeper(self.parts, f"sweeper:{name}")

    async def _call(self, when: When, call: str, detail: str) -> None:
        if self.is_dead:
            raise Killed
        if self._hook is not None:
            await self._hook(when, call, detail)

    def kill(self) -> None:
        """End the process: whatever it still calls raises `Killed`."""
        self.is_dead = True

    async def receive(self) -> Sequence[Delivery]:
        """What is visible now."""
        return await self.parts.backend.queue.receive(
            10, visibility_seconds=LEASE_SECONDS, wait_seconds=0.0, lanes=_LANES
        )

    async def run(self, delivery: Delivery) -> None:
        """One session, to its end."""
        session = Session(self.parts, self._engines, self.name, delivery, is_draining=lambda: False)
        try:
            await session.run()
        finally:
            session.close()

    async def sweep(self) -> None:
        """Look at all that is due now."""
        await self._sweeper.sweep()


class Driver:
    """Work on one backend, and the processes that do it, one after the other.

    Args:
        backend: new and empty, or not.
        clock: moved by `pass_time`.
        pass_time: lets so many seconds pass.
        engines: what the processes can run.
        workspaces: where steps find theirs; None: there are none.
    """

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        ids: Ids,
        engines: Iterable[Any],
        *,
        pass_time: Callable[[float], Awaitable[None]],
        workspaces: HostWorkspaces | None = None,
    ) -> None:
        self.backend = backend
        self.clock = clock
        self.ids = ids
        self.engines: EngineRegistry = EngineRegistry(engines)
        parts = Parts(backend, clock, ids, CoreSettings(approvals=SIGNER))
        self.client: Client = Client(parts, engines=self.engines, actor="test")
        self._pass_time = pass_time
        self._workspaces = workspaces
        self._count = 0
        self.process: LabProcess = self.start()

    def start(self, hook: Hook | None = None) -> LabProcess:
        """Start a process, which does all work from now on."""
        self._count += 1
        name = f"worker-{self._count}"
        self.process = LabProcess(
            name, self.backend, self.clock, self.ids, self.engines, hook, self._workspaces
        )
        return self.process

    async def work(self, disturb: Disturb | None = None) -> None:
        """Do all that can be done at this instant.

        Args:
            disturb: makes of the deliveries received what the worker gets.

        Raises:
            Restless: it never ends.
        """
        for _ in range(SESSIONS_MAX):
            if not await self._one_round(disturb):
                return
        raise Restless(
            f"work goes on after {SESSIONS_MAX} sessions at one instant",
            hint="An engine asks for its next step at once, again and again, and never finishes.",
        )

    async def _one_round(self, disturb: Disturb | None) -> bool:
        """Run a session for each visible delivery; whether there was any."""
        process = self.process
        try:
            deliveries = await process.receive()
            for delivery in deliveries if disturb is None else disturb(deliveries):
                await process.run(delivery)
        except Killed:
            if self.process is process:
                self.start()
            return True
        return bool(deliveries)

    async def sweep(self) -> None:
        """Have the process look at what is due."""
        process = self.process
        try:
            await process.sweep()
        except Killed:
            if self.process is process:
                self.start()

    async def advance(self, seconds: float) -> None:
        """Let time pass, and do what comes due on the way, each thing at its instant."""
        end = self.clock.now() + seconds
        await self.work()
        while (next_at := await self.next_at()) is not None and next_at <= end:
            await self.jump_to(next_at)
        left = end - self.clock.now()
        if left > 0:
            await self._pass_time(left)
        await self.work()

    async def jump_to(self, instant: float) -> None:
        """Go to an instant, and do what is due there."""
        await self._pass_time(max(0.0, instant - self.clock.now()))
        await self.sweep()
        await self.work()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and do nothing."""
        await self._pass_time(seconds)

    async def next_at(self) -> float | None:
        """The next instant at which there is something to do; None if nothing is due ever."""
        rows = await self.backend.index.due(_FAR, limit=1000)
        now = self.clock.now()
        instants = [max(_instant(row), now + _LEAST_SECONDS) for row in rows]
        return min(instants, default=None)


_LEAST_SECONDS = 0.05  # a row that stays due is looked at again after so long


def _instant(row: IndexRow) -> float:
    assert row.due_at is not None
    if row.state in (State.SCHEDULED, State.BLOCKED) and row.wake_at is not None:
        return row.wake_at
    if row.state is State.RUNNING and row.lease_until is not None:
        return row.lease_until + LEASE_GRACE_SECONDS
    return row.due_at
