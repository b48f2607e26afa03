"""The shared memory backend of a simulated world, with a queue that keeps no promise it never made."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from msgspec.structs import replace as replace_row

from roost.clock import Clock
from roost.journal.control import MESSAGE_DELAY_MAX_SECONDS, project
from roost.journal.entries import Entry, IndexRow
from roost.models import Lane
from roost.storage.memory import MemoryBackend, MemoryIndex, MemoryJournal
from roost.storage.ports import Delivery, Message, WorkQueue

from .plan import Plan

Strikes = Callable[[str, float], bool]


class RecordingJournal(MemoryJournal):
    """Tells of each entry that was written; projects it into the index where the plan says so."""

    def __init__(self, index: MemoryIndex, projects: bool, appended: Callable[[Entry], None]) -> None:
        super().__init__(index)
        self._rows = index
        self._projects = projects
        self._appended = appended
        self._seen: set[str] = set()

    async def append(self, entry: Entry, *, with_row: bool = False) -> Entry:
        standing = await super().append(entry, with_row=with_row)
        if standing.entry_id == entry.entry_id and entry.entry_id not in self._seen:
            self._seen.add(entry.entry_id)
            self._appended(entry)
            if self._projects:
                await self._rows.put(await self._projected(entry))
        return standing

    async def _projected(self, entry: Entry) -> IndexRow:
        """The row of an entry; what heartbeats made of the lease that goes on is kept."""
        row, standing = project(entry), await self._rows.get(entry.work_id)
        if standing is None or row.token is None or standing.token != row.token:
            return row
        return replace_row(
            row,
            lease_until=max(row.lease_until or 0.0, standing.lease_until or 0.0),
            due_at=max(row.due_at or 0.0, standing.due_at or 0.0),
        )


class FaultyQueue:
    """Loses, repeats, delays and reorders deliveries, as `WorkQueue` allows a queue to do.

    Args:
        strikes: whether a fault happens now; called with its name and its likelihood.
    """

    def __init__(self, inner: WorkQueue, plan: Plan, source: random.Random, strikes: Strikes) -> None:
        self._inner = inner
        self._faults = plan.faults
        self._lease_seconds = plan.lease_seconds
        self._random = source
        self._strikes = strikes

    async def send(self, messages: Sequence[Message]) -> None:
        sent = []
        for message in messages:
            if self._strikes("lost", self._faults.lost):
                continue
            copies = 2 if self._strikes("duplicated", self._faults.duplicated) else 1
            sent += [self._delayed(message) for _ in range(copies)]
        await self._inner.send(sent)

    def _delayed(self, message: Message) -> Message:
        if not self._strikes("late", self._faults.late):
            return message
        late = message.delay_seconds + self._random.uniform(0.0, self._lease_seconds)
        return replace(message, delay_seconds=min(late, MESSAGE_DELAY_MAX_SECONDS))

    async def receive(
        self, limit: int, *, visibility_seconds: float, wait_seconds: float, lanes: Sequence[Lane]
    ) -> Sequence[Delivery]:
        if self._strikes("early", self._faults.early):
            visibility_seconds *= self._random.random()
        received = await self._inner.receive(
            limit, visibility_seconds=visibility_seconds, wait_seconds=wait_seconds, lanes=lanes
        )
        return self._random.sample(received, len(received)) if len(received) > 1 else received

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        await self._inner.acknowledge(
            [delivery for delivery in deliveries if not self._strikes("undeleted", self._faults.undeleted)]
        )

    async def extend(self, deliveries: Sequence[Delivery], visibility_seconds: float) -> Sequence[bool]:
        return await self._inner.extend(deliveries, visibility_seconds)

    async def put_back(self, delivery: Delivery, delay_seconds: float) -> None:
        await self._inner.put_back(delivery, delay_seconds)

    async def reject(self, delivery: Delivery, reason: str) -> None:
        await self._inner.reject(delivery, reason)

    async def backlog(self) -> int:
        return await self._inner.backlog()


class SharedBackend(MemoryBackend):
    """What all workers of a world share."""

    def __init__(
        self,
        clock: Clock,
        plan: Plan,
        source: random.Random,
        *,
        strikes: Strikes,
        appended: Callable[[Entry], None],
    ) -> None:
        super().__init__(clock, inline_max_bytes=plan.inline_max_bytes)
        self.projects_on_append = plan.projects_on_append
        self.journal = RecordingJournal(self.index, plan.projects_on_append, appended)
        self.queue: FaultyQueue = FaultyQueue(self.queue, plan, source, strikes)  # type: ignore[assignment]
