"""Resource claims of a session: take all or none, and free what dead owners left."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from msgspec.structs import replace

from roost.core import outside
from roost.core.parts import Parts
from roost.errors import UNREADABLE, ConflictError, StorageError
from roost.journal.budget import hold_of
from roost.journal.claims import Acquired, Ask, Call, Owner, Refused, Want
from roost.journal.decide import lease_until
from roost.journal.entries import Control, Entry
from roost.journal.events import Evicted, Kind
from roost.journal.limits import Change
from roost.journal.projection import LOST_DELIVERY_SECONDS, MESSAGE_DELAY_MAX_SECONDS
from roost.models import WorkItem
from roost.names import Scope, namespace_of
from roost.storage.ports import Message

log = logging.getLogger("roost.claims")

_TRIES = 10  # each further try has freed something; more than a few means a storm
_LOOKS_MAX = 8  # owners, and as many waiters, that one who is refused looks at
_WAKE_MAX = 1000  # work items that one call wakes; those left over have due rows


def ask_of(item: WorkItem, token: int, use: int) -> Ask:
    """What a work item asks for under a fencing token, for the start after position `use`."""
    wants = tuple(Want(name, item.capacities.get(name, 1)) for name in sorted(item.resources))
    return Ask(Owner(item.work_id, token, item.resource_scope), wants, use)


async def acquire(parts: Parts, ask: Ask) -> Acquired | Refused:
    """Take what is asked for, evicting owners that are dead.

    An owner is dead when its lease is over (its journal says so), or ran out by the
    clock; then it is evicted in its own journal first, so that it can't commit any more,
    and only then is its claim taken away. One of scope `work` is dead when its work ended.
    """
    for _ in range(_TRIES):
        now = parts.clock.now()
        answer = await parts.backend.claims.acquire(
            ask, now=now, overtake_before=now - parts.settings.lease_seconds
        )
        if isinstance(answer, Acquired):
            return answer
        freed = False
        for other in _some(parts, answer.owners):
            freed |= await _free_if_dead(parts, other)
        for work_id in answer.ahead[:_LOOKS_MAX]:
            freed |= await _leave_if_away(parts, work_id)
        if not freed:
            return answer
    return answer


def _some(parts: Parts, owners: Sequence[Owner]) -> Sequence[Owner]:
    """A few of many owners, others each time: so all are looked at, but not all by each."""
    if len(owners) <= _LOOKS_MAX:
        return owners
    start = int(parts.ids.uniform(0, len(owners)))
    return [*owners[start:], *owners[:start]][:_LOOKS_MAX]


async def end_silent(parts: Parts, tail: Entry, *, actor: str) -> bool:
    """End the lease of a holder that went silent, and give up what it held under it.

    Returns:
        False: its journal went on; it is alive, or somebody else ends it.
    """
    assert tail.control.lease is not None
    event = Evicted(tail.control.lease.token, tail.control.lease.worker_id)
    if await outside.append(parts, tail, event, actor=actor) is None:
        return False
    if parts.observer is not None:
        parts.observer.taken_over("evict")
    await release(parts, Owner(tail.work_id, event.token, created_at=tail.control.created_at))
    return True


async def release(parts: Parts, owner: Owner) -> None:
    """Give up what `owner` holds, and wake who comes next."""
    await wake(parts, await parts.backend.claims.release(owner, now=parts.clock.now()))


async def leave(parts: Parts, entry: Entry) -> None:
    """Give up all that work holds which ended with `entry`, take it out of all lines, and
    wake who comes next."""
    await _leave(parts, Owner(entry.work_id, entry.position, Scope.WORK, entry.control.created_at))


async def _leave(parts: Parts, owner: Owner) -> None:
    await wake(parts, await parts.backend.claims.leave(owner, now=parts.clock.now()))


async def change(parts: Parts, resource: str, what: Change, *, namespace: str) -> None:
    """Change the limits of a resource, and wake those for whom there is room now."""
    called = await parts.backend.claims.change(resource, what, now=parts.clock.now(), namespace=namespace)
    await wake(parts, called)


async def evict(parts: Parts, resource: str, work_id: str, reason: str, *, actor: str) -> None:
    """Take a resource, and all else that it holds, away from an owner, be it alive or not.

    A lease under which it holds them ends: its worker can't commit any more, and the work
    goes on from its last snapshot, when it has its resources again.

    Raises:
        ConflictError: the work item does not hold the resource, or moves too fast.
    """
    for _ in range(_TRIES):
        owners = await _owners(parts, resource, work_id)
        if not owners:
            raise ConflictError(
                f"{work_id} does not hold {resource!r}", hint="`roost resources show` says who does."
            )
        tail = await parts.backend.journal.tail(work_id)
        lease = tail.control.lease if tail is not None else None
        if tail is not None and lease is not None:
            event = Evicted(lease.token, lease.worker_id, reason)
            if await outside.append(parts, tail, event, actor=actor) is None:
                continue  # it moved on meanwhile
        await release(parts, replace(owners[0], scope=Scope.WORK))
        if lease is not None or not await _owners(parts, resource, work_id):
            return  # else it was claimed since, and holds it under that lease
    raise ConflictError(f"{work_id} moves too fast to be evicted", hint="Try again.")


async def _owners(parts: Parts, resource: str, work_id: str) -> list[Owner]:
    """As whom a work item holds a resource."""
    views = await parts.backend.claims.show(resource=resource, limit=1, namespace=namespace_of(work_id))
    return [owner for view in views for owner in view.owners if owner.work_id == work_id]


async def wake(parts: Parts, calls: Sequence[Call]) -> None:
    """Send a delivery to each; a crash before it leaves them to their due rows.

    Who has ended meanwhile, or is on hold, does not come: it is taken out of its lines, and
    the next is woken in its place. Who was on hold asks again when it goes on.
    """
    left, now = deque(calls), parts.clock.now()
    messages: list[Message] = []
    while left and len(messages) < _WAKE_MAX:
        call = left.popleft()
        try:
            tail = await parts.backend.journal.tail(call.work_id)
        except UNREADABLE as error:
            _tell_unreadable(call.work_id, error)  # those behind it overtake it
            continue
        owner = _who_does_not_come(call.work_id, tail)
        if owner is not None:
            left.extend(await parts.backend.claims.leave(owner, now=now))
        if tail is None or owner is not None:
            continue
        delay = min(max(0.0, call.at - now), MESSAGE_DELAY_MAX_SECONDS)
        messages.append(Message(call.work_id, tail.position, tail.control.lane, delay))
    if messages:
        await parts.backend.queue.send(messages)


_ANY_TOKEN = 1 << 53  # above every position
_NO_TOKEN = -1  # below every position: nothing that is held is given up


def _who_does_not_come(work_id: str, tail: Entry | None) -> Owner | None:
    """As whom a waiter that will not come leaves its lines; None: it will."""
    if tail is None or tail.control.state.is_terminal:
        return Owner(work_id, tail.position if tail else _ANY_TOKEN)
    if tail.control.lease is None and hold_of(tail.control):
        return Owner(work_id, _NO_TOKEN)
    return None


def _tell_unreadable(work_id: str, error: StorageError) -> None:
    extra = {"event": "claims.unreadable", "work_id": work_id}
    log.warning("%s wants or holds a resource, and can't be read: %s", work_id, error, extra=extra)


async def _free_if_dead(parts: Parts, other: Owner) -> bool:
    """Take the claim of `other` away if it is dead. Returns whether it was."""
    try:
        tail = await parts.backend.journal.tail(other.work_id)
    except UNREADABLE as error:
        _tell_unreadable(other.work_id, error)
        return False  # nobody knows
    if tail is None or tail.control.state.is_terminal or tail.position < other.token:
        # ended; or expired, and its id came into use anew: no journal forgets a position
        await _leave(parts, Owner(other.work_id, max(other.token, tail.position if tail else 0)))
        return True
    if other.scope is Scope.WORK and await _has_claimed(parts, other):
        return False
    if _holds(tail.control, other):
        row = await parts.backend.index.get(other.work_id)
        until = lease_until(tail.control, row)
        if until is not None and until + LOST_DELIVERY_SECONDS / 10 > parts.clock.now():
            return False
        return await end_silent(parts, tail, actor="claims")
    await release(parts, other)
    return True


async def _has_claimed(parts: Parts, owner: Owner) -> bool:
    """Whether the token of an owner is a claim in its journal as it is now; else it is of deleted work."""
    entry = await parts.backend.journal.get(owner.work_id, owner.token)
    return entry is not None and entry.event.kind is Kind.CLAIMED


def _holds(control: Control, owner: Owner) -> bool:
    return control.lease is not None and control.lease.token == owner.token


async def _leave_if_away(parts: Parts, work_id: str) -> bool:
    """Take a waiter that will not come out of its lines. Returns whether it was one."""
    try:
        owner = _who_does_not_come(work_id, await parts.backend.journal.tail(work_id))
    except UNREADABLE as error:
        _tell_unreadable(work_id, error)
        return False
    if owner is None:
        return False
    await _leave(parts, owner)
    return True
