"""A work queue whose deliveries somebody else received, and deletes: Lambda, for a worker function."""

from __future__ import annotations

from collections.abc import Sequence

from roost.models import Lane
from roost.storage.ports import (
    Accounts,
    ArtifactStore,
    Backend,
    DeadLetter,
    Delivery,
    Finding,
    Journal,
    Message,
    ResourceClaims,
    WorkIndex,
    WorkQueue,
)


class HandedQueue:
    """`ports.WorkQueue` for the deliveries of one batch.

    Who handed them over deletes those that are done; to acknowledge one is to take note of
    it. What is put back, or was begun and not finished, is not done and comes again.

    Attributes:
        done: receipts of deliveries that are not needed any more.
    """

    def __init__(self, inner: WorkQueue) -> None:
        self.done: set[str] = set()
        self._inner = inner

    async def send(self, messages: Sequence[Message]) -> None:
        await self._inner.send(messages)

    async def receive(
        self, limit: int, *, visibility_seconds: float, wait_seconds: float, lanes: Sequence[Lane]
    ) -> Sequence[Delivery]:
        """Nothing: whoever handed the batch over receives."""
        return []

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self.done.update(delivery.receipt for delivery in deliveries)

    async def extend(self, deliveries: Sequence[Delivery], visibility_seconds: float) -> Sequence[bool]:
        return await self._inner.extend(deliveries, visibility_seconds)

    async def put_back(self, delivery: Delivery, delay_seconds: float) -> None:
        await self._inner.put_back(delivery, delay_seconds)

    async def reject(self, delivery: Delivery, reason: str) -> None:
        """Move it to the dead-letter queue; deleting it there and then saves a second delivery."""
        await self._inner.reject(delivery, reason)
        self.done.add(delivery.receipt)

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        return await self._inner.dead_letters(limit)

    async def end_dead_letter(self, letter: DeadLetter, *, is_sent_again: bool) -> None:
        await self._inner.end_dead_letter(letter, is_sent_again=is_sent_again)

    async def backlog(self) -> int:
        return await self._inner.backlog()


class HandedBackend:
    """`ports.Backend` with the queue of one batch; opened and closed by who opened `inner`."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.handed = HandedQueue(inner.queue)
        self.url = inner.url
        self.projects_on_append = inner.projects_on_append
        self.inline_max_bytes = inner.inline_max_bytes
        self.sweep_seconds = inner.sweep_seconds
        self.journal: Journal = inner.journal
        self.index: WorkIndex = inner.index
        self.claims: ResourceClaims = inner.claims
        self.accounts: Accounts = inner.accounts
        self.queue: WorkQueue = self.handed
        self.artifacts: ArtifactStore = inner.artifacts

    async def check(self) -> Sequence[Finding]:
        return await self._inner.check()

    async def close(self) -> None:
        """Nothing: `inner` goes on."""
