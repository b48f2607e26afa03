"""The shared memory backend of a simulated world, with a queue that keeps no promise it never made."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from roost.clock import Clock
from roost.journal.claims import Acquired, Ask, Call, Owner, Refused
from roost.journal.entries import Entry
from roost.journal.limits import Change, Open, SetRate
from roost.journal.projection import MESSAGE_DELAY_MAX_SECONDS, project_over
from roost.models import Lane
from roost.names import Scope
from roost.storage.memory import MemoryAccounts, MemoryBackend, MemoryClaims, MemoryIndex, MemoryJournal
from roost.storage.ports import TRIM_MAX, Delivery, Message, WorkQueue

from .budgets import RecordingAccounts, Stands
from .invariants import Dropped
from .lines import Called, Denied, Granted, LineRecord, Over, Stand, Voided
from .plan import Plan

Strikes = Callable[[str, float], bool]


class RecordingJournal(MemoryJournal):
    """Tells of each entry that was written; projects it into the index where the plan says so."""

    def __init__(
        self,
        index: MemoryIndex,
        accounts: MemoryAccounts,
        claims: MemoryClaims,
        projects: bool,
        appended: Callable[[Entry], None],
        dropped: Callable[[Dropped], None],
    ) -> None:
        super().__init__(index, accounts, claims)
        self._dropped = dropped
        self._rows = index
        self._projects = projects
        self._appended = appended
        self._seen: set[str] = set()
        self.trimmed_count = 0

    async def prune(self, work_id: str, positions: Sequence[int]) -> None:
        before = self._with_body(work_id)
        await super().prune(work_id, positions)
        if gone := before - self._with_body(work_id):
            self._dropped(Dropped(work_id, tuple(sorted(gone))))

    def _with_body(self, work_id: str) -> set[int]:
        return {entry.position for entry in self._entries.get(work_id, []) if entry.body is not None}

    async def trim(self, work_id: str, before: int, *, limit: int = TRIM_MAX) -> int:
        count = await super().trim(work_id, before, limit=limit)
        self.trimmed_count += count
        return count

    async def append(self, entry: Entry, *, with_row: bool = False) -> Entry:
        standing = await super().append(entry, with_row=with_row)
        if standing.entry_id == entry.entry_id and entry.entry_id not in self._seen:
            self._seen.add(entry.entry_id)
            self._appended(entry)
            if self._projects:
                await self._rows.put(project_over(entry, await self._rows.get(entry.work_id)))
        return standing


class RecordingClaims(MemoryClaims):
    """Tells of each call that changed a line, as plain data."""

    def __init__(self, index: MemoryIndex, told: Callable[[LineRecord], None]) -> None:
        super().__init__(index)
        self._told = told

    def stand(self, resource: str) -> Stand:
        """A resource as it is now."""
        line = self._standing.get(("", resource))
        if line is None:
            return Stand()
        return Stand(
            tuple((h.owner.work_id, h.owner.scope == "work", h.capacity) for h in line.holdings),
            tuple((waiter.work_id, waiter.capacity) for waiter in line.waiters),
            line.limits.capacity,
            line.limits.rate,
        )

    async def acquire(self, ask: Ask, *, now: float, overtake_before: float) -> Acquired | Refused:
        names = tuple(want.resource for want in ask.wants)
        before = {name: self.stand(name) for name in names}
        uses = self._uses(ask.owner.work_id)
        answer = await super().acquire(ask, now=now, overtake_before=overtake_before)
        if isinstance(answer, Refused):
            self._told(Denied(ask.owner.work_id, now, names, answer.retry_at))
            return answer
        after = {name: self.stand(name) for name in names}
        starts = tuple(name for name in names if after[name].rate is not None and uses.get(name) != ask.use)
        self._told(Granted(ask.owner.work_id, ask.owner.token, now, overtake_before, before, after, starts))
        return answer

    def _uses(self, work_id: str) -> dict[str, int | None]:
        """The last start that was counted under each claim of a work item."""
        return {
            name: holding.use
            for (_, name), line in self._standing.items()
            for holding in line.holdings
            if holding.owner.work_id == work_id
        }

    async def release(self, owner: Owner, *, now: float) -> Sequence[Call]:
        if owner.scope is Scope.WORK:  # an operator takes away what it held for its life
            self._told(Over(owner.work_id, owner.token))
        marks = self._marks()
        called = await super().release(owner, now=now)
        self._tell_calls(marks)
        return called

    async def leave(self, owner: Owner, *, now: float) -> Sequence[Call]:
        marks = self._marks()
        called = await super().leave(owner, now=now)
        self._tell_calls(marks)
        return called

    async def change(
        self, resource: str, change: Change, *, now: float, namespace: str = ""
    ) -> Sequence[Call]:
        if isinstance(change, SetRate | Open):
            self._told(Voided(resource))
        marks = self._marks()
        called = await super().change(resource, change, now=now, namespace=namespace)
        self._tell_calls(marks)
        return called

    def _marks(self) -> dict[tuple[str, str], float | None]:
        return {
            (name, waiter.work_id): waiter.called_at
            for (_, name), line in self._standing.items()
            for waiter in line.waiters
        }

    def _tell_calls(self, before: dict[tuple[str, str], float | None]) -> None:
        for (name, work_id), at in self._marks().items():
            if at is not None and before.get((name, work_id)) != at:
                self._told(Called(name, work_id, at))


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
        told: Callable[[LineRecord], None],
        charged: Callable[[Stands], None],
        dropped: Callable[[Dropped], None],
    ) -> None:
        super().__init__(clock, inline_max_bytes=plan.inline_max_bytes)
        self.projects_on_append = plan.projects_on_append
        self.accounts = RecordingAccounts(charged)
        self.claims: RecordingClaims = RecordingClaims(self.index, told)
        self.journal = RecordingJournal(
            self.index, self.accounts, self.claims, plan.projects_on_append, appended, dropped
        )
        self.queue: FaultyQueue = FaultyQueue(self.queue, plan, source, strikes)  # type: ignore[assignment]
