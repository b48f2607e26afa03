"""The resource claims port on DynamoDB: read, decide, and write in one transaction.

The rules are in `journal/claims.py`. What the items are, and why an answer that was decided
by stale reads is never written, says `lines.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from msgspec import structs

from roost.errors import StorageError, StorageUnavailable
from roost.journal import claims as rules
from roost.journal import limits
from roost.journal.claims import (
    Acquired,
    Ask,
    Call,
    Grant,
    Holding,
    Line,
    Owner,
    Refusal,
    Refused,
    ResourceView,
    Waiter,
    Want,
)
from roost.models import RESOURCES_MAX
from roost.names import Scope
from roost.storage.aws.clients import Aws
from roost.storage.aws.lines import LINE_MAX, Change, Having, Head, Lines, Place
from roost.storage.aws.table import Table, gather

T = TypeVar("T")

TRIES = 24  # beyond the first, to carry out a call while others change the same resources
FEW = 8  # waiters that a release looks at first; more only if there is room for them
_CALL_ROUNDS_MAX = 20  # transactions in which a change calls those in line
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

    async def acquire(self, ask: Ask, *, now: float, overtake_before: float) -> Acquired | Refused:
        """See `ports.ResourceClaims.acquire`. One batched read and one transaction where nobody waits.

        Raises:
            StorageError: more than `RESOURCES_MAX` resources.
            StorageUnavailable: others kept changing the same resources.
        """
        if len(ask.wants) > RESOURCES_MAX:  # a transaction has room for three items each
            raise StorageError(f"{len(ask.wants)} resources at once; at most {RESOURCES_MAX} can be acquired")
        names = [want.resource for want in ask.wants]

        async def once(change: Change) -> Acquired | Refused | None:
            heads, having = await self._lines.read(ask.owner.work_id, names)
            places = await self._lines.own(heads, having)
            lines = await gather(
                self._line(ask.owner, want, head, places.get(head.resource), having)
                for want, head in zip(ask.wants, heads, strict=True)
            )
            decision = rules.decide(
                ask, [line for line, _ in lines], now=now, overtake_before=overtake_before
            )
            if isinstance(decision, Grant):
                before = {line.resource: before for line, before in lines}
                is_done = await _take(change, ask, heads, having, decision, before)
            else:
                is_done = await _stand(change, heads, having, decision, places)
            return decision.answer if is_done else None

        return await self._until_done(f"acquire for {ask.owner.work_id}", once)

    async def _line(
        self, owner: Owner, want: Want, head: Head, own: Place | None, having: Having
    ) -> tuple[Line, Sequence[Place]]:
        """A resource as one who asks for it sees it, and the places before its own."""
        line = Line(
            head.resource,
            [*head.holdings.values()],
            own=own.waiter if own else None,
            limits=head.limits,
            paced_at=head.paced_at,
        )
        if not rules.depends_on_line(owner, want, line):
            return line, ()
        order = having.waits.get(head.resource, head.next_order)
        places = await self._lines.first(head, LINE_MAX + 1, before=order)
        is_cut = len(places) > LINE_MAX
        before = [place.waiter for place in places[:LINE_MAX]]
        return structs.replace(line, before=before, is_cut=is_cut), places

    async def release(self, owner: Owner, *, now: float) -> Sequence[Call]:
        """See `ports.ResourceClaims.release`. Two reads and one transaction where nobody waits."""
        return await self._until_done(
            f"release of {owner.work_id}", lambda change: self._give_up(change, owner, now, leaves=False)
        )

    async def leave(self, owner: Owner, *, now: float) -> Sequence[Call]:
        """See `ports.ResourceClaims.leave`. One read where it has nothing."""
        owner = structs.replace(owner, scope=Scope.WORK)
        return await self._until_done(
            f"leave of {owner.work_id}", lambda change: self._give_up(change, owner, now, leaves=True)
        )

    async def _give_up(
        self, change: Change, owner: Owner, now: float, *, leaves: bool
    ) -> Sequence[Call] | None:
        """Take a work item out of what it holds, and out of its lines if it leaves; None: too late."""
        having = await self._lines.having(owner.work_id)
        waits = having.waits if leaves else {}
        older = {name for name, token in having.held.items() if token <= owner.token}
        if not older and not waits:
            return []
        heads = await self._lines.heads(owner.work_id, sorted({*older, *waits}))
        freed = {head.resource for head in heads if _gives_up(head, owner)}
        if not freed and not waits:
            return []
        changed = [head for head in heads if head.resource in freed or head.resource in waits]
        for head in changed:
            if head.resource in waits:
                change.drop(head, waits[head.resource])
        after = [_without(head, owner, freed, waits) for head in changed]
        for head in after:
            change.head(head)
        change.having(
            having,
            held={name: token for name, token in having.held.items() if name not in freed},
            waits={} if leaves else having.waits,
        )
        dropped = [waits.get(head.resource) for head in after]
        called = await self._call(change, after, now, dropped)
        return rules.calls(called) if await change.commit() else None

    async def _call(
        self, change: Change, heads: Sequence[Head], now: float, dropped: Sequence[int | None]
    ) -> list[Waiter]:
        """Add to a change that those in line are called for whom there is room.

        Args:
            dropped: the place in each line that the same change takes away.
        """
        looks = await gather(self._look(head, now, order) for head, order in zip(heads, dropped, strict=True))
        found: list[Waiter] = []
        for head, called in zip(heads, looks, strict=True):
            for place in called[: change.room]:
                change.place(head, place)
                found.append(place.waiter)
        return found

    async def _look(self, head: Head, now: float, dropped: int | None) -> list[Place]:
        """Whom to call, as they are then; looks at a few first, as there is seldom room for more."""
        called: list[Waiter] = []
        orders: dict[str, int] = {}
        for limit in (FEW, LINE_MAX):
            places = await self._lines.first(head, limit)
            line = [place for place in places if place.order != dropped]
            orders = {place.waiter.work_id: place.order for place in line}
            called, has_room = rules.call(
                [*head.holdings.values()], [place.waiter for place in line], head.limits, now
            )
            if not has_room or len(places) < limit:
                break
        return [Place(orders[waiter.work_id], waiter) for waiter in called]

    async def is_called(self, work_id: str, *, now: float) -> bool:
        """See `ports.ResourceClaims.is_called`. Three reads where it is in line, else one."""
        having = await self._lines.having(work_id)
        if not having.waits:
            return False
        heads = await self._lines.heads(work_id, sorted(having.waits))
        places = await self._lines.own(heads, having)
        return any(place.waiter.may_come(now) for place in places.values())

    async def change(
        self, resource: str, change: limits.Change, *, now: float, namespace: str = ""
    ) -> Sequence[Call]:
        """See `ports.ResourceClaims.change`. One read and one transaction where nobody waits."""

        async def once(write: Change) -> list[Waiter] | None:
            head = await self._lines.named(namespace, resource)
            after = replace(head, limits=limits.changed(head.limits, change))
            if limits.voids_turns(change):
                after = replace(after, paced_at=0.0, epoch=head.epoch + 1)
            if after.is_empty and head.revision is None:
                return []
            write.head(after)
            # Places that are read under the old epoch have turns that are void under the new one.
            called = await self._call(write, [after], now, [None])
            return called if await write.commit() else None

        found = await self._until_done(f"change of {resource!r}", once)
        called = found
        for _ in range(_CALL_ROUNDS_MAX):  # a transaction has room for so many only
            if len(called) < FEW:
                break
            called = await self._until_done(
                f"calls for {resource!r}", lambda write: self._call_more(write, namespace, resource, now)
            )
            found = [*found, *called]
        return rules.calls(found)

    async def _call_more(
        self, write: Change, namespace: str, resource: str, now: float
    ) -> list[Waiter] | None:
        head = await self._lines.named(namespace, resource)
        if head.revision is None:
            return []
        write.head(head)
        called = await self._call(write, [head], now, [None])
        return called if not called or await write.commit() else None

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


async def _take(
    change: Change,
    ask: Ask,
    heads: Sequence[Head],
    having: Having,
    grant: Grant,
    before: Mapping[str, Sequence[Place]],
) -> bool:
    """Make the work item the owner of all these, and take it out of their lines."""
    work_id = ask.owner.work_id
    wants = {want.resource: Holding(ask.owner, want.capacity, ask.use) for want in ask.wants}
    waits = {name: order for name, order in having.waits.items() if name not in wants}
    held = {**having.held, **dict.fromkeys(wants, ask.owner.token)}
    is_same = all(_same(head.holdings.get(work_id), wants[head.resource]) for head in heads)
    if is_same and held == having.held and waits == having.waits and not grant.paced_at:
        return True
    for head in heads:
        order = having.waits.get(head.resource)
        if order is not None:
            change.drop(head, order)
        change.head(
            replace(
                head,
                holdings={**head.holdings, work_id: wants[head.resource]},
                waiting=head.waiting - (order is not None),
                paced_at=grant.paced_at.get(head.resource, head.paced_at),
            )
        )
    change.having(having, held=held, waits=waits)
    for head in heads:
        orders = {place.waiter.work_id: place.order for place in before.get(head.resource, ())}
        # Beyond the room of a transaction they stay as they are: called, and not come.
        for waiter in [*grant.overtaken.get(head.resource, ())][: change.room]:
            change.place(head, Place(orders[waiter.work_id], waiter))
    return await change.commit()


def _same(standing: Holding | None, wanted: Holding) -> bool:
    """Whether a claim needs no write: a start is noted only where a rate counts it."""
    return standing is not None and structs.replace(standing, use=wanted.use) == wanted


async def _stand(
    change: Change,
    heads: Sequence[Head],
    having: Having,
    refusal: Refusal,
    places: Mapping[str, Place],
) -> bool:
    """Put the work item into the lines of all these; one write for all, or none if it stands so."""
    waits = dict(having.waits)
    is_changed = False
    for head in heads:
        standing, wanted = places.get(head.resource), refusal.places[head.resource]
        paced_at = refusal.paced_at.get(head.resource, head.paced_at)
        if standing is not None and standing.waiter == wanted and paced_at == head.paced_at:
            continue
        is_changed = True
        after = replace(head, paced_at=paced_at)
        order = waits.setdefault(head.resource, head.next_order)
        if standing is None:
            after = replace(after, waiting=head.waiting + 1, next_order=head.next_order + 1)
        change.head(after)
        change.place(head, Place(order, wanted))
    if not is_changed:
        return True
    if waits != having.waits:
        change.having(having, held=having.held, waits=waits)
    return await change.commit()


def _gives_up(head: Head, owner: Owner) -> bool:
    holding = head.holdings.get(owner.work_id)
    return holding is not None and rules.is_given_up(holding, owner)


def _without(head: Head, owner: Owner, freed: set[str], waits: Mapping[str, int]) -> Head:
    """A resource after its owner gave it up, or one in its line left it."""
    holdings = dict(head.holdings)
    if head.resource in freed:
        del holdings[owner.work_id]
    return replace(head, holdings=holdings, waiting=head.waiting - (head.resource in waits))
