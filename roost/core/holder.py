"""What a session holds: the lease of one work item, and the end of its journal as it knows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from roost.core import outside
from roost.core.context import Interruption
from roost.core.observe import STORAGE_FAILED
from roost.core.parts import Parts
from roost.core.step_log import StepLines
from roost.errors import UNREADABLE, LeaseLost, StorageCorrupt, StorageError
from roost.journal import decide
from roost.journal.entries import Body, Control, Entry
from roost.journal.events import Committed, Event
from roost.storage.ports import Delivery

log = logging.getLogger("roost.session")

ABANDONED = "the worker is stopping"
CANCELLED = "it was to end by now"
_TAKE_IN_MAX = 10_000  # entries by outsiders that one append may meet


class Holder:
    """The lease of one work item, once it is claimed: appends under it, and knows until when.

    Attributes:
        token: the fencing token; None while no lease is held.
        held_until: monotonic instant up to which the last heartbeat holds; moved on by each.
        interruption: stops the step that runs.
        has_progress: the step said something of its progress that no heartbeat has shown.
        lines: what the running attempt logged.
        is_row_written: the index row is that of this lease.
    """

    def __init__(self, parts: Parts, worker_id: str, delivery: Delivery) -> None:
        self.delivery = delivery
        self.worker_id = worker_id
        self.interruption = Interruption()
        self.has_progress = False
        self.token: int | None = None
        self.is_row_written = parts.backend.projects_on_append
        self.held_until = 0.0
        self._parts = parts
        self.lines = StepLines(parts.clock)
        self._progress: tuple[float, str] | None = None
        self._has_told = False  # the step tells of its progress itself
        self._done_up_to = -1  # the effects of entries up to there were carried out
        self._last: Entry  # what was appended last; its control state is what is true

    def close(self) -> None:
        """The lease is no longer held, or left to its end."""
        self.token = None

    @property
    def work_id(self) -> str:
        """The work item that this is about."""
        return self.delivery.work_id

    @property
    def last_entry(self) -> Entry:
        """The last entry that this session appended."""
        return self._last

    @property
    def _control(self) -> Control:
        return self._last.control

    def take_progress(self) -> tuple[float, str] | None:
        """What the running step last said of its progress, for a heartbeat to show."""
        self.has_progress = False
        line = None if self._has_told else self.lines.last
        return self._progress if line is None else (0.0, line)

    def _report(self, fraction: float, text: str) -> None:
        """The running step says how far it is; a heartbeat shows it soon."""
        self._progress = (fraction, text)
        self.has_progress = self._has_told = True

    def _forget_progress(self) -> None:
        """The attempt is over."""
        self.lines.clear()
        self._progress, self.has_progress, self._has_told = None, False, False

    def heard(self, tail: Entry) -> None:
        """What a heartbeat read of the journal: somebody outside appended while a step runs."""
        if self.token is not None and tail.position > self._last.position and self.is_of_this_work(tail):
            self._last = tail

    def is_of_this_work(self, entry: Entry) -> bool:
        """Whether an entry under this work id is of the work that was claimed.

        It may have been deleted since, and the id, with positions from 0 on, be that of new work.
        """
        return entry.control.created_at == self._control.created_at

    def stop_if_cancelled(self) -> None:
        """Interrupt the step if somebody wanted the work to have ended by now."""
        by = self._control.cancel_by
        if self._control.cancel_requested and by is not None and by <= self._parts.clock.now():
            self.interruption.stop(CANCELLED)

    def extended(self, started: float) -> None:
        """A heartbeat that began at monotonic instant `started` went through."""
        self.held_until = started + self._parts.settings.lease_seconds

    def leave(self, task: asyncio.Task[None]) -> None:
        """End the session that runs in `task`, now; it writes nothing more."""
        self.interruption.was_left = True
        task.cancel()

    def abandon(self) -> None:
        """Stop the running step and give the lease back; no attempt is burned."""
        self.interruption.stop(ABANDONED)

    async def _append(self, event: Event, body: Body | None = None) -> Entry:
        """Append as the holder, after taking in what outsiders appended meanwhile.

        Raises:
            LeaseLost: somebody else holds the work item, or it ended.
        """
        if self.token is None:  # a thread of a step that was left asks
            raise LeaseLost(self.work_id, -1, "it was given up")
        before = self._last
        for _ in range(_TAKE_IN_MAX):
            if isinstance(event, Committed):
                await self._do_what_came(before)
            entry = outside.follow(self._parts, before, event, actor=self.worker_id, body=body)
            standing = await self._patiently(partial(self._parts.backend.journal.append, entry))
            if standing.entry_id == entry.entry_id:
                if entry.position > self._last.position:  # else a later append of this step was told sooner
                    self._last = entry
                return entry
            if not decide.can_take_in(standing, self.token, self._control.created_at):
                raise LeaseLost(
                    self.work_id,
                    self.token,
                    f"position {entry.position} is {standing.event.kind} by {standing.actor}",
                )
            before = standing
        raise LeaseLost(self.work_id, self.token, "too many signals at once")

    async def _do_what_came(self, before: Entry) -> None:
        """Do the effects of what outsiders appended meanwhile: a commit says of all that they are done."""
        outbox = before.control.outbox
        if outbox and any(position > self._done_up_to for position in outbox):
            await self._patiently(lambda: outside.carry_out(self._parts, before))
            self._done_up_to = before.position

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Try again while the lease may still be ours; then it is lost."""
        try:
            return await call()
        except UNREADABLE:
            raise
        except StorageError as error:
            log.warning("storage failed, trying again: %s", error)
        try:
            return await self._parts.patiently(call, until=self.held_until)
        except UNREADABLE:
            raise
        except StorageError as error:
            raise LeaseLost(self.work_id, self.token or -1, f"{STORAGE_FAILED}: {error}") from error

    async def _get(self, position: int) -> Entry:
        entry: Entry | None = await self._patiently(
            lambda: self._parts.backend.journal.get(self.work_id, position)
        )
        if entry is None:
            raise StorageCorrupt(f"entry {position} of {self.work_id} is missing")
        return entry
