"""What a delivery leads to: a claim, or whatever else its work item asks for."""

from __future__ import annotations

import logging

from roost.core import claims, outbox, outside
from roost.core.holder import Holder
from roost.core.parts import Parts
from roost.core.switches import Switches
from roost.engine import EngineRegistry, EngineSpec
from roost.journal import decide
from roost.journal.claims import Owner
from roost.journal.entries import Control, Entry
from roost.journal.events import Cancelled, Claimed, Event, Failed
from roost.journal.projection import MESSAGE_DELAY_MAX_SECONDS
from roost.names import namespace_of
from roost.storage.ports import Delivery

log = logging.getLogger("roost.session")

PAUSED_LANE_SECONDS = 60.0  # for which a delivery that comes from a paused lane is put back
CLAIM_TRIES = 5  # lost races for one delivery before it is put back


class Opening(Holder):
    """Opens a session: decides what to do with its delivery, and claims the work item.

    Args:
        engines: those that this worker can run.
        switches: what its worker knows of what is paused; None: nothing.
    """

    def __init__(
        self,
        parts: Parts,
        engines: EngineRegistry,
        worker_id: str,
        delivery: Delivery,
        switches: Switches | None = None,
    ) -> None:
        super().__init__(parts, worker_id, delivery)
        self._engines = engines
        self._switches = switches or Switches(parts)
        self._first: Entry | None = None  # the entry at position 0, if the claim met it
        self._claimed: tuple[Control, Entry] | None = None  # for who watches: the tail, and the claim

    async def _open(self) -> EngineSpec | None:
        """Claim the work item, or do what else the delivery asks for (None)."""
        backend, now = self._parts.backend, self._parts.clock.now
        self.extended(self._parts.clock.monotonic())
        for _ in range(CLAIM_TRIES):
            tail = await backend.journal.tail(self.work_id)
            if tail is None:
                await backend.queue.reject(self.delivery, "unknown work id")
                return None
            spec = self._spec_for(tail.control)
            lease = tail.control.lease
            row = await backend.index.get(self.work_id) if lease and lease.until <= now() else None
            decision = decide.on_delivery(
                tail.control, row, cause=self.delivery.cause, now=now(), retry=spec.retry if spec else None
            )
            if isinstance(decision, decide.Claim | decide.NoEngine):
                decision = await self._unless_paused(tail.control, decision)
            if await self._follow(decision, tail, spec):
                return spec if isinstance(decision, decide.Claim) else None
        await backend.queue.put_back(self.delivery, self._parts.ids.uniform(0.05, 0.5))
        return None

    async def _unless_paused(
        self, control: Control, decision: decide.Claim | decide.NoEngine
    ) -> decide.Claim | decide.NoEngine | decide.Discard | decide.PutBack:
        """The decision, unless the work's engine or its delivery's lane is paused.

        The switches are read anew before work is thrown back: who resumes an engine sends its
        work new deliveries after that, so none of them is thrown back, too.
        """
        switches, lane = self._switches, self.delivery.lane
        if not (switches.engine_reason(control.engine, self.work_id) or switches.lane_reason(lane)):
            return decision
        await switches.read()
        if why := switches.engine_reason(control.engine, self.work_id):
            return decide.Discard(f"its engine is paused: {why}")
        if why := switches.lane_reason(lane):
            return decide.PutBack(PAUSED_LANE_SECONDS, f"its lane is paused: {why}")
        return decision

    def _is_switched_off(self) -> bool:
        """Whether the engine was paused since the work was claimed."""
        return bool(self._switches.engine_reason(self._control.engine, self.work_id))

    def _spec_for(self, control: Control) -> EngineSpec | None:
        """Which of the engines here runs it: new work begins with the newest version."""
        has_begun = control.snapshot_position is not None or control.engine_version is not None
        if has_begun:
            return self._engines.get_for(control.engine, control.engine_version)
        return self._engines.get(control.engine)

    async def _follow(self, decision: object, tail: Entry, spec: EngineSpec | None) -> bool:
        """Carry a decision out; False if the journal went on meanwhile."""
        queue = self._parts.backend.queue
        match decision:
            case decide.Claim():
                assert spec is not None
                return await self._claim(tail, spec)
            case decide.NoEngine(delay_seconds=delay, why=why):
                await outbox.show_reason(self._parts, tail, why)
                await queue.put_back(self.delivery, delay)
                return True
            case decide.PutBack(delay_seconds=delay):
                await self._free_what_was_left(tail)
                await queue.put_back(self.delivery, min(delay, MESSAGE_DELAY_MAX_SECONDS))
                return True
            case decide.Discard():
                await self._free_what_was_left(tail)
                await queue.acknowledge([self.delivery])
                return True
            case decide.Fail(error=error):
                return await self._end(tail, Failed(error, is_interrupted=tail.control.lease is not None))
            case decide.Cancel(reason=reason):
                return await self._end(tail, Cancelled(reason))
        raise AssertionError(decision)

    async def _free_what_was_left(self, tail: Entry) -> None:
        """Do what the holder of a lease that ended may have died before: effects, claims given up.

        Else they wait for due rows, which may look much later.
        """
        token = tail.control.last_token
        if tail.control.outbox and tail.control.lease is None:
            await outside.after(self._parts, tail)
        if tail.control.state.is_terminal:
            await claims.leave(self._parts, tail)
        elif token is not None:
            await claims.release(self._parts, Owner(self.work_id, token))

    async def _end(self, tail: Entry, event: Event) -> bool:
        """End a work item that nobody holds."""
        entry = await outside.append(self._parts, tail, event, actor=self.worker_id)
        if entry is None:
            return False
        await claims.leave(self._parts, entry)
        await self._parts.backend.queue.acknowledge([self.delivery])
        return True

    async def _claim(self, tail: Entry, spec: EngineSpec) -> bool:
        until = self._parts.clock.now() + self._parts.settings.lease_seconds
        is_daily = bool(self._switches.daily(namespace_of(self.work_id)))
        event = Claimed(self.worker_id, until, spec.engine_version, is_daily)
        entry = outside.follow(self._parts, tail, event, actor=self.worker_id)
        standing = await self._patiently(lambda: self._parts.backend.journal.append(entry))
        if standing.entry_id != entry.entry_id:
            return False
        self._last = entry
        self.token = entry.position
        self._first = tail if tail.position == 0 else None
        if self._parts.observer is not None:
            self._claimed = (tail.control, entry)
        if tail.control.lease is not None:
            if self._parts.observer is not None:
                self._parts.observer.taken_over("claim")
            log.warning(
                "took over %s from %s, which went silent",
                self.work_id,
                tail.control.lease.worker_id,
                extra={"event": "lease.takeover", "work_id": self.work_id, "token": self.token},
            )
        return True
