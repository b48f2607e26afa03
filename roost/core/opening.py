"""What a delivery leads to: a claim, or whatever else its work item asks for."""

from __future__ import annotations

import logging

from roost.core import claims, outbox, outside
from roost.core.company import Company, Place
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
from roost.storage.ports import Delivery, Message

log = logging.getLogger("roost.session")

PAUSED_LANE_SECONDS = 60.0  # for which a delivery that comes from a paused lane is put back
CLAIM_TRIES = 5  # lost races for one delivery before it is put back
_SOON_SECONDS = (0.05, 0.5)  # for which it is put back then

Decision = (
    decide.Claim
    | decide.PutBack
    | decide.NoEngine
    | decide.Discard
    | decide.Evict
    | decide.Fail
    | decide.Cancel
)
"""What to do with a delivery."""


class Opening(Holder):
    """Opens a session: decides what to do with its delivery, and claims the work item.

    Args:
        engines: those that this worker can run.
        switches: what its worker knows of what is paused; None: nothing.
        company: those that run in its worker; None: nobody does.
    """

    def __init__(
        self,
        parts: Parts,
        engines: EngineRegistry,
        worker_id: str,
        delivery: Delivery,
        switches: Switches | None = None,
        company: Company | None = None,
    ) -> None:
        super().__init__(parts, worker_id, delivery)
        self._company = company
        self._engines = engines
        self._switches = switches or Switches(parts)
        self._first: Entry | None = None  # the entry at position 0, if the claim met it
        self._has_said = False  # that it waits for room
        self._claimed: tuple[Control, Entry] | None = None  # for who watches: the tail, and the claim

    async def _open(self) -> EngineSpec | None:
        """Claim the work item, or do what else the delivery asks for (None)."""
        queue = self._parts.backend.queue
        tries_left = CLAIM_TRIES
        while tries_left:
            self.extended(self._parts.clock.monotonic())
            tail = await self._parts.backend.journal.tail(self.work_id)
            if tail is None:
                await queue.reject(self.delivery, "unknown work id")
                return None
            spec = self._spec_for(tail.control)
            decision = await self._decide(tail, spec)
            if decision is None:
                continue
            if await self._follow(decision, tail, spec):
                return spec if isinstance(decision, decide.Claim) else None
            tries_left -= 1
        await queue.put_back(self.delivery, self._parts.ids.uniform(*_SOON_SECONDS))
        return None

    async def _decide(self, tail: Entry, spec: EngineSpec | None) -> Decision | None:
        """What to do with the delivery; None: time has passed, so look at the tail again."""
        now = self._parts.clock.now
        lease = tail.control.lease
        is_over = lease is not None and lease.until <= now()
        row = await self._parts.backend.index.get(self.work_id) if is_over else None
        decision: Decision = decide.on_delivery(
            tail.control, row, cause=self.delivery.cause, now=now(), retry=spec.retry if spec else None
        )
        if isinstance(decision, decide.Claim | decide.NoEngine):
            decision = await self._unless_paused(tail.control, decision)
        if isinstance(decision, decide.Claim) and spec is not None:
            return await self._if_there_is_room(decision, tail, spec)
        return decision

    async def _if_there_is_room(
        self, decision: decide.Claim, tail: Entry, spec: EngineSpec
    ) -> decide.Claim | decide.Evict | decide.Discard | decide.PutBack | None:
        """The decision, unless it would run here in more company than it, or others, may have.

        Returns:
            None: it has waited, and is to be decided anew. Who waits holds no lease, so it is not
            counted should its worker end meanwhile.
        """
        if self._company is None:
            return decision
        most = decide.most_together(decision.interruptions, self._company.lanes, spec.retry.max_interruptions)
        place = self._company.ask(self, most)
        if place is Place.INSIDE:
            return decision
        if tail.control.lease is not None:
            return decide.Evict()
        if self.delivery.cause < tail.control.sent_position:
            return decide.Discard("a later delivery, or the sweeper, comes for it")
        if most is not None:
            why = decide.room_reason(decision.interruptions, most)
            if place is Place.NEXT:
                return await self._wait_for_room(tail, why)
            await outbox.show_reason(self._parts, tail, why)
        return self._no_room()

    def _no_room(self) -> decide.PutBack:
        return decide.PutBack(self._parts.ids.uniform(*_SOON_SECONDS), "its worker has no room for it")

    async def _wait_for_room(self, tail: Entry, why: str) -> decide.PutBack | None:
        """Wait for less company, the delivery in hand, unless that is gone or its worker stops.

        Other workers are offered the work meanwhile, by deliveries that are not the last one:
        whoever has room takes it, and none waits for it beside this one. The row is not due, so
        no sweeper sends more; should this worker die, it is, and the delivery comes again.
        """
        assert self._company is not None  # else there is room
        queue, seconds = self._parts.backend.queue, self._parts.settings.lease_seconds
        if not self._has_said:
            extra = {"event": "room.needed", "work_id": self.work_id}
            log.info(
                "%s waits until few enough run beside it; nothing new is taken", self.work_id, extra=extra
            )
            self._has_said = True
        await outbox.show_reason(self._parts, tail, why, due_at=self._parts.clock.now() + seconds)
        await queue.send([Message(self.work_id, tail.control.sent_position - 1, tail.control.lane)])
        if not await self._company.wait(seconds / 3):
            return self._no_room()
        [is_ours] = await queue.extend([self.delivery], seconds)
        return None if is_ours else self._no_room()

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

    async def _follow(self, decision: Decision, tail: Entry, spec: EngineSpec | None) -> bool:
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
            case decide.Evict():
                if not await claims.end_silent(self._parts, tail, actor=self.worker_id):
                    return False
                await queue.acknowledge([self.delivery])  # there is a later one
                return True
            case decide.Fail(error=error):
                return await self._end(tail, Failed(error, is_interrupted=tail.control.lease is not None))
            case decide.Cancel(reason=reason):
                return await self._end(tail, Cancelled(reason))

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
            created_at = tail.control.created_at
            await claims.release(self._parts, Owner(self.work_id, token, created_at=created_at))

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
