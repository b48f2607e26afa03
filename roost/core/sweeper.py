"""The sweeper: looks at due rows, and does what somebody left undone.

Delays of days, timeouts, deadlines, lost deliveries and half-done outboxes all end here.
Any number of workers sweep; a compare-and-swap on `due_at` gives each row to one.
"""

from __future__ import annotations

import logging
from collections import Counter

from msgspec.structs import replace

from roost.core import claims, outside
from roost.core.newer import LEFT_LONGEST_SECONDS
from roost.core.parts import Parts
from roost.core.switches import JOURNAL_ID as SWITCHES
from roost.core.switches import Switches
from roost.errors import UNREADABLE, RoostError, SchemaTooNew, StorageError
from roost.journal import decide
from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Cancelled, Event, Failed
from roost.journal.projection import LOST_DELIVERY_SECONDS, MESSAGE_DELAY_MAX_SECONDS, project_over
from roost.storage.ports import Message

log = logging.getLogger("roost.sweeper")

PAGE_ROWS = 100
EXPIRE_SECONDS = 600.0  # mean time between two looks of one worker for work to expire
EXPIRE_MAX = 10_000  # at one look
SWEPT: dict[type, str] = {
    decide.LookLater: "looked",
    decide.Send: "sent",
    decide.Settle: "settled",
    decide.Fail: "failed",
    decide.Cancel: "cancelled",
    decide.Evict: "evicted",
}
"""What a sweep does with a due row, for who counts it."""
SWEEP_ROWS_MAX = 1000  # a sweep that finds more leaves the rest to the next


class Sweeper:
    """Sweeps at jittered intervals.

    Args:
        actor: written into the entries it appends.
        switches: what its worker knows of what is paused; read anew at each sweep.
    """

    def __init__(self, parts: Parts, actor: str, switches: Switches | None = None) -> None:
        self._parts = parts
        self._actor = actor
        self._switches = switches or Switches(parts)
        self._expire_at = 0.0  # monotonic
        self._tidy_at = 0.0

    async def run(self) -> None:
        """Sweep until cancelled; a failing backend is tried again at the next interval."""
        seconds = self._parts.settings.sweep_seconds
        while True:
            await self._parts.clock.sleep(self._parts.ids.uniform(0.5, 1.5) * seconds)
            try:
                await self.sweep()
                await self.expire()
                await self.tidy()
            except StorageError as error:
                log.warning("sweep failed, trying again: %s", error, extra={"event": "sweep.failed"})

    async def sweep(self) -> int:
        """Look at every row that is due now, up to `SWEEP_ROWS_MAX`; returns how many."""
        await self._read_switches()
        now = self._parts.clock.now()
        seen, last, lag_seconds = 0, None, 0.0
        repaired: Counter[str] = Counter()
        has_backlog: bool | None = None
        while seen < SWEEP_ROWS_MAX:
            rows = await self._parts.backend.index.due(now, limit=PAGE_ROWS, after=last)
            if not rows:
                break
            if has_backlog is None:
                # What lies in a paused lane says nothing of the deliveries of others.
                is_open = not self._switches.has_paused_lane
                has_backlog = is_open and await self._parts.backend.queue.backlog() > 0
            for row in rows:
                lag_seconds = max(lag_seconds, now - (row.due_at or now))
                repaired[await self._look_if_readable(row, now, has_backlog)] += 1
            seen, last = seen + len(rows), rows[-1]
        if self._parts.observer is not None:
            self._parts.observer.swept(lag_seconds, repaired)
        return seen

    async def _read_switches(self) -> None:
        """Know what is paused by now; what a newer Roost says of it is for newer workers."""
        try:
            await self._switches.read()
        except SchemaTooNew as error:
            self._parts.newer.tell(SWITCHES, error)

    async def expire(self) -> int:
        """Delete work whose retention time is over, if the time for it has come; returns how many."""
        retention_seconds, now = self._parts.settings.retention_seconds, self._parts.clock.monotonic()
        if retention_seconds is None or now < self._expire_at:
            return 0
        self._expire_at = now + self._parts.ids.uniform(0.5, 1.5) * EXPIRE_SECONDS
        before, total = self._parts.clock.now() - retention_seconds, 0
        while total < EXPIRE_MAX:
            gone = await self._parts.backend.journal.expire(before, limit=PAGE_ROWS)
            total += len(gone)
            if len(gone) < PAGE_ROWS:
                break
        if total:
            log.info("%d work items expired", total, extra={"event": "work.expired", "count": total})
        return total

    async def tidy(self) -> int:
        """Remove workspaces of this host that have had their time, now and then; returns how many."""
        workspaces, now = self._parts.workspaces, self._parts.clock.monotonic()
        if workspaces is None or now < self._tidy_at:
            return 0
        self._tidy_at = now + self._parts.ids.uniform(0.5, 1.5) * EXPIRE_SECONDS
        return await workspaces.tidy_all(self._parts.backend.journal, self._parts.clock.now())

    async def _look_if_readable(self, row: IndexRow, now: float, has_backlog: bool) -> str:
        """Like `_look`; work that can't be read, or is of a newer Roost, stands in nobody's way."""
        try:
            return await self._look(row, now, has_backlog)
        except RoostError as error:
            if isinstance(error, StorageError) and not isinstance(error, UNREADABLE):
                raise  # it is the same for all rows
            if isinstance(error, SchemaTooNew):
                self._parts.newer.tell(row.work_id, error)
                await self._look_after(row, now, LEFT_LONGEST_SECONDS)  # a newer sweeper may come first then
                return "unreadable"
            extra = {"event": "sweep.unreadable", "work_id": row.work_id}
            log.warning("%s can't be looked at: %s", row.work_id, error, extra=extra)
            await self._look_after(row, now, MESSAGE_DELAY_MAX_SECONDS)
            return "unreadable"

    async def _look_after(self, row: IndexRow, now: float, seconds: float) -> None:
        """Have a row that was taken be due again in a while."""
        taken = replace(row, due_at=now + LOST_DELIVERY_SECONDS)
        await self._parts.backend.index.take_due(taken, now + seconds)

    async def _look(self, row: IndexRow, now: float, has_backlog: bool) -> str:
        """Take one due row and do what it asks for; says what that was."""
        taken = replace(row, due_at=now + LOST_DELIVERY_SECONDS)
        if not await self._parts.backend.index.take_due(row, taken.due_at):
            return "taken"  # another sweeper has it, or the work went on
        tail = await self._parts.backend.journal.tail(row.work_id)
        if tail is None:
            log.warning("the index has a row of %s, which has no journal", row.work_id)
            return "orphan"
        decision = decide.on_due(tail.control, row, now=now, has_backlog=has_backlog)
        match decision:
            case decide.LookLater(due_at=due_at):
                await self._write(tail, taken, due_at)
            case decide.Send() if (look_at := self._not_before(tail, now)) is not None:
                await self._write(tail, taken, look_at)
                return SWEPT[decide.LookLater]
            case decide.Send(delay_seconds=delay, due_at=due_at):
                await self._write(tail, taken, due_at)
                await self._parts.backend.queue.send([Message(row.work_id, tail.position, row.lane, delay)])
            case decide.Settle():
                await outside.after(self._parts, tail)
            case decide.Fail(error=error):
                await self._end(tail, Failed(error, is_interrupted=tail.control.lease is not None))
            case decide.Cancel(reason=reason):
                await self._end(tail, Cancelled(reason))
            case decide.Evict():
                await claims.end_silent(self._parts, tail, actor=self._actor)
        return SWEPT[type(decision)]

    def _not_before(self, tail: Entry, now: float) -> float | None:
        """When to look again at work whose engine or lane is paused; None: it is not, or must end soon."""
        control = tail.control
        is_paused = self._switches.engine_reason(control.engine, tail.work_id) or self._switches.lane_reason(
            control.lane
        )
        if not is_paused or control.cancel_requested:
            return None
        look_at = now + MESSAGE_DELAY_MAX_SECONDS
        if control.deadline_at is None:
            return look_at
        return min(look_at, control.deadline_at) if control.deadline_at > now else None

    async def _write(self, tail: Entry, taken: IndexRow, due_at: float | None) -> None:
        """Bring the row up to the tail, with the time at which to look next."""
        if tail.position > taken.position:
            await self._parts.backend.index.put(replace(project_over(tail, taken), due_at=due_at))
        else:
            await self._parts.backend.index.take_due(taken, due_at)

    async def _end(self, tail: Entry, event: Event) -> None:
        """End work that nobody holds; a lost race leaves it to the next look."""
        entry = await outside.append(self._parts, tail, event, actor=self._actor)
        if entry is not None:
            await claims.leave(self._parts, entry)
