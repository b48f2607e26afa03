"""The worker: receives deliveries, runs a session for each, sweeps, and drains.

At most `concurrency` sessions run at a time; a delivery is received only when a lane is
free, so that nothing lies in a worker's hands untouched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from roost.core import claims, outside
from roost.core.attempt import own_cancel
from roost.core.company import Company
from roost.core.cpu import driven
from roost.core.heartbeat import Heartbeat
from roost.core.holder import ABANDONED
from roost.core.parts import Parts
from roost.core.pulse import Health, Pulse
from roost.core.redact import describe
from roost.core.session import Session
from roost.core.sweeper import Sweeper
from roost.core.switches import Switches, throw
from roost.engine import EngineRegistry
from roost.errors import RoostError, StorageError
from roost.journal.claims import Owner
from roost.journal.events import Released, Switched
from roost.journal.lines import worker_target
from roost.journal.values import ErrorInfo
from roost.models import Lane
from roost.storage.ports import Delivery

log = logging.getLogger("roost.worker")

LOWER_FIRST_EVERY = 4  # every fourth look begins one lane lower, every sixteenth two
_FIRST_PAUSE_SECONDS = 0.1
ABANDON_SECONDS = 5.0  # what an interrupted step may take to end
LEAVE_SECONDS = 1.0  # what a session may take to end that is cancelled
_LONGEST_PAUSE_SECONDS = 30.0
ALL_PAUSED_SECONDS = 1.0  # how often a worker looks again while all its lanes are paused
RECEIVE_SILENCE_SECONDS = 300.0  # beyond a receive's own wait; storage that is away makes it long


class Worker:
    """Runs work items until told to stop.

    Args:
        engines: those that it can run; work for others is put back.
        worker_id: unique to this worker; written into claims.
        executor: runs engines that are plain functions.
    """

    def __init__(
        self, parts: Parts, engines: EngineRegistry, worker_id: str, *, executor: Executor | None = None
    ) -> None:
        self.worker_id = worker_id
        self.sessions: dict[Session, asyncio.Task[None]] = {}
        self._parts = parts
        self._engines = engines
        self._executor = executor
        self._task: asyncio.Task[Any] | None = None  # that it runs in
        self._draining = asyncio.Event()
        self._lane_free = asyncio.Event()
        self._company = Company(parts.settings.concurrency, self._lane_free.set)
        self._looks = 0
        self._switches = Switches(parts, self._drain_if_asked)
        self._heartbeat = Heartbeat(parts, self.sessions.keys())
        self._receiving = Pulse(parts.clock, "poll", parts.settings.wait_seconds + RECEIVE_SILENCE_SECONDS)
        self._has_received = False  # at the last try

    async def run(self) -> None:
        """Work until `drain` was called and every session has ended.

        Storage that fails is tried again with growing pauses; a worker never stops for it.
        """
        self._task = asyncio.current_task()
        log.info("worker %s runs %s", self.worker_id, ", ".join(self._engines.names()))
        try:
            async with asyncio.TaskGroup() as group:
                heartbeat = group.create_task(self._heartbeat.run())
                await self._read_switches()
                sweeper = Sweeper(self._parts, f"sweeper:{self.worker_id}", self._switches)
                sweeping = group.create_task(sweeper.run())
                receiving = group.create_task(self._receive())
                await self._draining.wait()
                receiving.cancel()
                self._receiving.rest()
                sweeping.cancel()
                await self._finish()
                heartbeat.cancel()
        finally:
            await self._leave_sessions()
        await self._tell_stopped()
        log.info("worker %s stopped", self.worker_id)

    async def run_batch(self, deliveries: Sequence[Delivery], *, seconds: float) -> None:
        """Run the sessions of deliveries that somebody else received, and no others.

        Args:
            seconds: within which it returns. Sessions are told to hand over the grace period
                before, and what still runs then is abandoned. Nothing is lost by that.
        """
        self._task = asyncio.current_task()
        await self._read_switches()
        steps_end = max(0.0, seconds - self._parts.settings.grace_seconds - ABANDON_SECONDS)
        try:
            async with asyncio.TaskGroup() as group:
                heartbeat = group.create_task(self._heartbeat.run())
                for delivery in deliveries:
                    self._start(delivery)
                if not await self._sessions_end(steps_end):
                    self.drain()
                    await self._finish()
                heartbeat.cancel()
        finally:
            await self._leave_sessions()

    def health(self) -> Health:
        """Whether it should be restarted, and whether it takes work; costs no call."""
        stuck = [pulse.name for pulse in (self._receiving, self._heartbeat.pulse) if pulse.is_stuck]
        if stuck:
            return Health(False, False, f"stuck: {', '.join(stuck)}")
        if self.is_draining:
            return Health(True, False, "draining")
        return Health(True, self._has_received, "" if self._has_received else "storage has not answered")

    @property
    def is_draining(self) -> bool:
        """Whether it was told to stop."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Stop receiving and give the leases back: sessions at their next commit, or when
        the grace period is over by abandoning the running step. Called again: at once."""
        if self.is_draining:
            self.abandon()
        self._draining.set()
        self._company.close()

    def _drain_if_asked(self) -> None:
        """Drain once an operator wants this worker to stop."""
        reason = self._switches.drain_reason(self.worker_id)
        if reason and not self.is_draining:
            extra = {"event": "worker.asked_to_stop", "worker_id": self.worker_id}
            log.info("worker %s is asked to stop: %s", self.worker_id, reason, extra=extra)
            self.drain()

    async def _tell_stopped(self) -> None:
        """Take back what asked this worker to stop: no other has its id, so it would stand for ever."""
        if not self._switches.drain_reason(self.worker_id):
            return
        event = Switched(worker_target(self.worker_id), False, "it has stopped", self.worker_id)
        try:
            await throw(self._parts, event, actor=self.worker_id)
        except StorageError as error:
            log.warning("can't tell that it stopped: %s", error, extra={"event": "switches.failed"})

    def abandon(self) -> None:
        """Interrupt every running step now, and give the leases back."""
        for session in self.sessions:
            session.abandon()

    async def _receive(self) -> None:
        """Receive as much as there are free lanes, again and again."""
        settings = self._parts.settings
        pause = _FIRST_PAUSE_SECONDS
        while True:
            free = self._company.may_run - len(self.sessions)
            if free <= 0:
                self._receiving.rest()
                self._lane_free.clear()
                await self._lane_free.wait()
                continue
            self._receiving.beat()
            lanes = self._lane_order()
            if not lanes:
                await self._parts.clock.sleep(ALL_PAUSED_SECONDS)
                continue
            try:
                deliveries = await self._parts.backend.queue.receive(
                    free,
                    visibility_seconds=settings.lease_seconds,
                    wait_seconds=settings.wait_seconds,
                    lanes=lanes,
                )
                pause, self._has_received = _FIRST_PAUSE_SECONDS, True
            except StorageError as error:
                self._has_received = False
                log.warning("receive failed, trying again: %s", error, extra={"event": "receive.failed"})
                await self._parts.clock.sleep(self._parts.ids.uniform(pause / 2, pause))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                continue
            for delivery in deliveries:
                self._start(delivery)

    async def _read_switches(self) -> None:
        """Know what is paused before any work is taken; a later sweep makes up for a failure."""
        try:
            await self._switches.read()
        except StorageError as error:
            log.warning("can't read what is paused: %s", error, extra={"event": "switches.failed"})

    def _lane_order(self) -> Sequence[Lane]:
        """The lanes, highest first; but now and then a lower one first, so that none is starved."""
        self._looks += 1
        lanes = self._switches.open_lanes(self._parts.settings.lanes)
        depths = range(len(lanes) - 1, 0, -1)
        first = next((depth for depth in depths if self._looks % LOWER_FIRST_EVERY**depth == 0), 0)
        return [*lanes[first:], *lanes[:first]]

    def _start(self, delivery: Delivery) -> None:
        session = Session(
            self._parts,
            self._engines,
            self.worker_id,
            delivery,
            is_draining=self._draining.is_set,
            switches=self._switches,
            executor=self._executor,
            company=self._company,
        )
        session.interruption.worker = self._task
        self.sessions[session] = asyncio.create_task(self._run(session), name=f"session:{delivery.work_id}")
        self._tell_lanes()

    def _tell_lanes(self) -> None:
        if self._parts.observer is not None:
            self._parts.observer.lanes(self._parts.settings.concurrency, len(self.sessions))

    async def _run(self, session: Session) -> None:
        """One session; whatever becomes of it, the worker goes on."""
        try:
            await driven(session.run(), session.meter)
        except RoostError as error:
            log.warning(
                "%s: session ended early, its delivery comes again: %s",
                session.work_id,
                error,
                extra={"event": "session.failed", "work_id": session.work_id},
            )
        except asyncio.CancelledError as error:
            if session.interruption.is_left:
                raise
            await self._outlive(session, error)
        except Exception as error:  # place 2 of 3: a bug in one session must not stop the others
            log.exception("%s: session failed", session.work_id, extra={"event": "session.bug"})
            await self._record(session, describe(error))
        finally:
            session.close()
            self._company.leave(session)
            del self.sessions[session]
            self._tell_lanes()
            self._lane_free.set()

    async def _outlive(self, session: Session, error: asyncio.CancelledError) -> None:
        """A step left something behind that cancelled its task when the step was over."""
        task = asyncio.current_task()
        assert task is not None
        while task.cancelling():
            task.uncancel()
        extra = {"event": "step.cancelled", "work_id": session.work_id}
        log.warning("%s: its task was cancelled, and not by Roost", session.work_id, extra=extra)
        await self._record(session, own_cancel(error))

    async def _record(self, session: Session, error: ErrorInfo) -> None:
        try:
            await session.record_failure(error)
        except RoostError as failure:
            log.warning("%s: the error could not be recorded: %s", session.work_id, failure)

    async def _finish(self) -> None:
        """Wait for the sessions, then abandon their steps, then leave them to their leases."""
        if not await self._sessions_end(self._parts.settings.grace_seconds):
            self.abandon()
            if not await self._sessions_end(ABANDON_SECONDS):
                await self._give_back()

    async def _give_back(self) -> None:
        """Give back the leases of steps that do not end though they were stopped."""
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                for session in list(self.sessions):
                    if session.token is not None:  # else it waits for storage, not for its step
                        await self._release(session, session.token)
        except (StorageError, TimeoutError) as error:
            log.warning("leases are left to their ends: %s", error, extra={"event": "step.deaf"})

    async def _release(self, session: Session, token: int) -> None:
        """End a lease in the place of its session, which finds its own next append refused."""
        tail = await self._parts.backend.journal.tail(session.work_id)
        lease = tail.control.lease if tail is not None else None
        if tail is None or lease is None or lease.token != token:
            return  # it is about to end, or was lost
        extra = {"event": "step.deaf", "work_id": session.work_id}
        log.warning("%s: its step does not end; giving its lease back", session.work_id, extra=extra)
        if await outside.append(self._parts, tail, Released(ABANDONED), actor=self.worker_id) is not None:
            await claims.release(self._parts, Owner(session.work_id, token))
            await self._parts.backend.queue.acknowledge([session.delivery])

    async def _leave_sessions(self) -> None:
        """Cancel what is left; leases that were not given back end by themselves.

        A step that swallows this, too, is left running: whoever waits for it may wait for ever.
        """
        left = list(self.sessions.values())
        for session, task in self.sessions.items():
            session.leave(task)
        if left:
            await asyncio.wait(left, timeout=LEAVE_SECONDS)

    async def _sessions_end(self, seconds: float) -> bool:
        """Wait until no session is left, at most `seconds`; whether none is."""
        try:
            async with asyncio.timeout(seconds):
                while self.sessions:
                    await asyncio.wait(self.sessions.values(), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            return False
        return True
