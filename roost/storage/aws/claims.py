"""The resource claims port on DynamoDB: read, decide, and write in one transaction.

What the items are, and why an answer that was decided by stale reads is never written,
says `lines.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from roost.errors import StorageError, StorageUnavailable
from roost.models import RESOURCES_MAX
from roost.storage.aws.clients import Aws
from roost.storage.aws.lines import Change, Having, Head, Lines, Place
from roost.storage.aws.table import Table, gather
from roost.storage.ports import Acquired, Owner, Refused, ResourceView, Waiter

T = TypeVar("T")

TRIES = 24  # beyond the first, to carry out a call while others change the same resources
AHEAD_MAX = 100  # of those in line for one resource that `acquire` looks at
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.5


class AwsClaims:
    """`ports.ResourceClaims`."""

    def __init__(self, aws: Aws) -> None:
        self._clock = aws.clock
        self._ids = aws.ids
        self._table = Table(aws, aws.names.claims)
        self._lines = Lines(self._table)
        self._contended = asyncio.Lock()

    async def acquire(
        self, owner: Owner, resources: Sequence[str], *, now: float, overtake_before: float
    ) -> Acquired | Refused:
        """See `ports.ResourceClaims.acquire`. One batched read and one transaction where nobody waits.

        `Refused.ahead` names at most the first `AHEAD_MAX` in the line of a resource.

        Raises:
            StorageError: more than `RESOURCES_MAX` resources.
            StorageUnavailable: others kept changing the same resources.
        """
        names = list(dict.fromkeys(resources))
        if len(names) > RESOURCES_MAX:  # a transaction has room for three items each
            raise StorageError(f"{len(names)} resources at once; at most {RESOURCES_MAX} can be acquired")

        async def once(change: Change) -> Acquired | Refused | None:
            heads, having = await self._lines.read(owner.work_id, names)
            refused = await self._refusal(owner, heads, overtake_before)
            if refused is None:
                is_done = await _take(change, owner, heads, having)
            else:
                is_done = await _join(change, Waiter(owner.work_id, now), heads, having)
            return (refused or Acquired()) if is_done else None

        return await self._until_done(f"acquire for {owner.work_id}", once)

    async def _refusal(self, owner: Owner, heads: Sequence[Head], overtake_before: float) -> Refused | None:
        """Who stands in the way, if anybody does."""
        standing = [Owner(*pair) for head in heads for pair in head.owners.items()]
        owners = [other for other in standing if other.work_id != owner.work_id or other.token > owner.token]
        lines = await gather(self._lines.first(head, AHEAD_MAX) for head in heads if not head.owners)
        ahead = [work_id for line in lines for work_id in _ahead(line, owner.work_id, overtake_before)]
        return Refused(owners, list(dict.fromkeys(ahead))) if owners or ahead else None

    async def release(self, owner: Owner, *, now: float) -> Sequence[str]:
        """See `ports.ResourceClaims.release`. Two reads and one transaction where nobody waits."""

        async def once(change: Change) -> list[str] | None:
            having = await self._lines.having(owner.work_id)
            names = [name for name, token in sorted(having.held.items()) if token == owner.token]
            if not names:
                return []
            heads = await self._lines.heads(owner.work_id, names)
            called = await self._give_up(change, owner, heads, having, now)
            return called if await change.commit() else None

        return await self._until_done(f"release of {owner.work_id}", once)

    async def _give_up(
        self, change: Change, owner: Owner, heads: Sequence[Head], having: Having, now: float
    ) -> list[str]:
        """Add to a change that the owner has left these resources. Returns who is called."""
        lines = await gather(self._lines.first(head, 1) for head in heads)
        called = []
        for head, line in zip(heads, lines, strict=True):
            owners = {work_id: token for work_id, token in head.owners.items() if work_id != owner.work_id}
            change.head(head, owners=owners, waiting=head.waiting, next_order=head.next_order)
            if not owners:
                called += _call(change, head, line, now)
        names = {head.resource for head in heads}
        held = {name: token for name, token in having.held.items() if name not in names}
        change.having(having, held=held, waits=having.waits)
        return list(dict.fromkeys(called))

    async def leave(self, work_id: str, *, now: float) -> Sequence[str]:
        """See `ports.ResourceClaims.leave`. One read where it is in no line."""

        async def once(change: Change) -> list[str] | None:
            having = await self._lines.having(work_id)
            if not having.waits:
                return []
            heads = await self._lines.heads(work_id, sorted(having.waits))
            called = await self._drop_out(change, heads, having, now)
            return called if await change.commit() else None

        return await self._until_done(f"leave of {work_id}", once)

    async def _drop_out(self, change: Change, heads: Sequence[Head], having: Having, now: float) -> list[str]:
        """Add to a change that a work item has left these lines. Returns who is called."""
        lines = await gather(self._lines.first(head, 2) for head in heads)
        called = []
        for head, line in zip(heads, lines, strict=True):
            order = having.waits[head.resource]
            change.drop(head, order)
            change.head(head, owners=head.owners, waiting=head.waiting - 1, next_order=head.next_order)
            if not head.owners:
                called += _call(change, head, [place for place in line if place.order != order], now)
        change.having(having, held=having.held, waits={})
        return list(dict.fromkeys(called))

    async def show(
        self, *, limit: int = 100, resource: str | None = None, namespace: str = ""
    ) -> Sequence[ResourceView]:
        """See `ports.ResourceClaims.show`. Of a long line only its beginning is shown.

        One query for a resource that is named; else a scan of the table, for people.
        """
        names = [resource] if resource is not None else await self._lines.names(namespace)
        views = await gather(self._lines.view(namespace, name) for name in names[:limit])
        return [view for view in views if view is not None]

    async def _until_done(self, what: str, once: Callable[[Change], Awaitable[T | None]]) -> T:
        """Try until the answer of `once` is not None, with growing, jittered pauses.

        Of this process, one call at a time tries again: of a crowd that wants one resource,
        each would lose to all others else, and pay for it.

        Args:
            once: reads, decides and commits the change it is given; None if it was too late.

        Raises:
            StorageUnavailable: `TRIES` are used up.
        """
        done = await once(self._change())
        if done is not None:
            return done
        async with self._contended:
            pause = _FIRST_PAUSE_SECONDS
            for _ in range(TRIES):
                done = await once(self._change())
                if done is not None:
                    return done
                await self._clock.sleep(self._ids.uniform(0.0, pause))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        raise StorageUnavailable(f"{what}: others kept changing the same resources")

    def _change(self) -> Change:
        return Change(self._table, self._ids.unique())


async def _take(change: Change, owner: Owner, heads: Sequence[Head], having: Having) -> bool:
    """Make the work item the owner of all these, and take it out of their lines."""
    names = {head.resource for head in heads}
    waits = {name: order for name, order in having.waits.items() if name not in names}
    held = {**having.held, **dict.fromkeys(names, owner.token)}
    if held == having.held and waits == having.waits:
        return True
    for head in heads:
        order = having.waits.get(head.resource)
        if order is not None:
            change.drop(head, order)
        owners = {**head.owners, owner.work_id: owner.token}
        waiting = head.waiting - (order is not None)
        change.head(head, owners=owners, waiting=waiting, next_order=head.next_order)
    change.having(having, held=held, waits=waits)
    return await change.commit()


async def _join(change: Change, waiter: Waiter, heads: Sequence[Head], having: Having) -> bool:
    """Put the work item into the lines of these in which it is not; one write for all, or none."""
    joined = {head.resource: head for head in heads if head.resource not in having.waits}
    if not joined:
        return True
    for head in joined.values():
        change.join(head, head.next_order, waiter)
        change.head(head, owners=head.owners, waiting=head.waiting + 1, next_order=head.next_order + 1)
    orders = {name: head.next_order for name, head in joined.items()}
    change.having(having, held=having.held, waits={**having.waits, **orders})
    return await change.commit()


def _call(change: Change, head: Head, line: Sequence[Place], now: float) -> list[str]:
    """Mark the first in line, if there is one, as called; its work id."""
    if not line:
        return []
    change.call(head, line[0], now)
    return [line[0].waiter.work_id]


def _ahead(line: Sequence[Place], work_id: str, overtake_before: float) -> list[str]:
    """Who comes before `work_id` on a free resource and may not be overtaken."""
    ahead = []
    for place in line:
        if place.waiter.work_id == work_id:
            break
        if place.waiter.called_at is None or place.waiter.called_at >= overtake_before:
            ahead.append(place.waiter.work_id)
    return ahead
