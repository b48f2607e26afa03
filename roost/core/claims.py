"""Resource claims of a session: take all or none, and free what dead owners left."""

from __future__ import annotations

from collections.abc import Sequence

from roost.core import outside
from roost.core.parts import Parts
from roost.journal.control import LOST_DELIVERY_SECONDS
from roost.journal.decide import lease_until
from roost.journal.entries import Control, Evicted
from roost.models import namespace_of
from roost.storage.ports import Acquired, Message, Owner, Refused

_TRIES = 10  # each further try has freed something; more than a few means a storm


async def acquire(parts: Parts, owner: Owner, resources: Sequence[str]) -> Acquired | Refused:
    """Take the resources for `owner`, evicting owners that are dead.

    An owner is dead when its lease is over (its journal says so), or ran out by the
    clock; then it is evicted in its own journal first, so that it can't commit any more,
    and only then is its claim taken away.
    """
    for _ in range(_TRIES):
        now = parts.clock.now()
        answer = await parts.backend.claims.acquire(
            owner, resources, now=now, overtake_before=now - parts.settings.lease_seconds
        )
        if isinstance(answer, Acquired):
            return answer
        freed = False
        for other in answer.owners:
            freed |= await _free_if_dead(parts, other)
        for work_id in answer.ahead:
            freed |= await _leave_if_ended(parts, work_id)
        if not freed:
            return answer
    return answer


async def release(parts: Parts, owner: Owner) -> None:
    """Give up what `owner` holds, and wake who comes next."""
    woken = await parts.backend.claims.release(owner, now=parts.clock.now())
    await wake(parts, woken)


async def leave(parts: Parts, work_id: str) -> None:
    """Take work that ended out of all lines, and wake who comes next."""
    woken = await parts.backend.claims.leave(work_id, now=parts.clock.now())
    await wake(parts, woken)


async def wake(parts: Parts, work_ids: Sequence[str]) -> None:
    """Send a delivery to each; a crash before it leaves them to their due rows."""
    messages = []
    for work_id in work_ids:
        tail = await parts.backend.journal.tail(work_id)
        if tail is not None and not tail.control.state.is_terminal:
            messages.append(Message(work_id, tail.position, tail.control.lane))
    if messages:
        await parts.backend.queue.send(messages)


async def is_any_free(parts: Parts, refused: Refused, work_id: str, resources: Sequence[str]) -> bool:
    """Whether an owner or waiter that stood in the way of `work_id` is gone by now."""
    namespace = namespace_of(work_id)
    for resource in resources:
        views = await parts.backend.claims.show(resource=resource, limit=1, namespace=namespace)
        owners = views[0].owners if views else []
        if any(other in refused.owners for other in owners):
            return False
        waiting = {waiter.work_id for view in views for waiter in view.waiters}
        if any(work_id in waiting for work_id in refused.ahead):
            return False
    return True


async def _free_if_dead(parts: Parts, other: Owner) -> bool:
    """Take the claim of `other` away if its lease is over. Returns whether it was."""
    tail = await parts.backend.journal.tail(other.work_id)
    if tail is not None and _holds(tail.control, other):
        row = await parts.backend.index.get(other.work_id)
        until = lease_until(tail.control, row)
        if until is not None and until + LOST_DELIVERY_SECONDS / 10 > parts.clock.now():
            return False
        assert tail.control.lease is not None
        event = Evicted(other.token, tail.control.lease.worker_id)
        if await outside.append(parts, tail, event, actor="claims") is None:
            return False  # its journal went on: it is alive, or somebody else evicts it
    await release(parts, other)
    return True


def _holds(control: Control, owner: Owner) -> bool:
    return control.lease is not None and control.lease.token == owner.token


async def _leave_if_ended(parts: Parts, work_id: str) -> bool:
    tail = await parts.backend.journal.tail(work_id)
    if tail is not None and not tail.control.state.is_terminal:
        return False
    await leave(parts, work_id)
    return True
