"""New work: what it is made of, what is checked before it is stored, its first entry.

Clients enqueue it, commits spawn it, schedules and triggers start it; all by way of this
module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct, field

from roost import jsonio
from roost.core import outbox
from roost.core.contract import DELAY_MAX_SECONDS, check_span
from roost.core.parts import Parts
from roost.errors import InputError, PayloadError
from roost.journal.control import apply
from roost.journal.entries import Body, Control, Entry
from roost.journal.events import Enqueued
from roost.journal.limits import CAPACITY_MAX, FOREVER_AT
from roost.journal.values import Amounts, Parent
from roost.models import RESOURCES_MAX, Lane, Scope, check_id, check_name, check_work_id
from roost.names import PRIORITY_MAX, IfBusy

T = TypeVar("T")
LABELS_MAX = 10  # they travel in each entry
BUDGETS_MAX = 20  # so do they
LABEL_MAX_BYTES = 256


class NewWork(Struct, frozen=True):
    """What to enqueue.

    Attributes:
        engine: the engine's id.
        payload: a JSON object of at most 1 MiB.
        resources: held, all or none, while the work item runs.
        capacities: how many may hold a resource at a time, by its name; 1 where not given.
            An operator's setting wins.
        resource_scope: whether they are given up when the work sleeps, waits or is blocked,
            or only when it ends.
        delay_seconds: the first step does not start before it is over.
        priority: above 0 the `high` lane, 0 `normal`, below 0 `low`; at most 1,000 from 0.
        labels: names and values of the caller's own, for finding it; at most `LABELS_MAX`.
        budget: what it may use up, by name; at the limit it parks until more is allowed.
        family_budget: what it and all that comes of it may use up together; at the limit all of
            it parks until more is allowed.
        deadline_at: epoch seconds after which the work fails.
        idempotency_key: enqueuing again under the same key and engine gives the same
            work item, as long as it is kept.
        idempotency_seconds: how long the key stands for the work, from its enqueueing; then
            it stands for new work. None: as long as the work is kept.
        work_id: an id of the caller's own; enqueuing it again gives the same work item.
        conversation: the key of a conversation, of which one work item runs at a time.
        if_busy: what happens if earlier work of the conversation has not ended.
    """

    engine: str
    payload: dict[str, Any]
    resources: tuple[str, ...] = ()
    capacities: Mapping[str, int] = field(default_factory=dict)
    resource_scope: Scope = Scope.STEP
    labels: Mapping[str, str] = field(default_factory=dict)
    budget: Mapping[str, float] = field(default_factory=dict)
    family_budget: Mapping[str, float] = field(default_factory=dict)
    delay_seconds: float = 0.0
    priority: int = 0
    deadline_at: float | None = None
    idempotency_key: str | None = None
    idempotency_seconds: float | None = None
    work_id: str | None = None
    conversation: str | None = None
    if_busy: IfBusy = IfBusy.QUEUE

    @property
    def is_decided_elsewhere(self) -> bool:
        """Whether a journal besides its own decides if it is enqueued: a conversation's, or a key's."""
        return self.conversation is not None or self.idempotency_seconds is not None


def first_entry(
    parts: Parts,
    work: NewWork,
    body: Body,
    *,
    work_id: str,
    actor: str,
    parent: Parent | None = None,
    spawner: Control | None = None,
) -> Entry:
    """The entry at position 0 of new work.

    Args:
        body: its payload as stored (`bodies.store`).
        parent: whose child it is.
        spawner: who spawned it, whose account it is charged to.
    """
    now, lane = parts.clock.now(), Lane.of(work.priority)
    family_budget = amounts(work.family_budget) if spawner is None else spawner.family_budget
    own_account = work_id if family_budget else ""
    event = Enqueued(  # its first fields, in order: to look up their names takes longer than all the rest
        work.engine,
        lane,
        work.priority,
        tuple(dict.fromkeys(work.resources)) if work.resources else (),
        _sorted(work.capacities),
        work.resource_scope,
        _sorted(work.labels),
        amounts(work.budget),
        own_account if spawner is None else spawner.account,
        family_budget,
        now + work.delay_seconds if work.delay_seconds else None,
        work.deadline_at,
        work.idempotency_key,
        parent,
        work.conversation,
        parts.observer.enqueuing(work_id, work.engine, lane, now) if parts.observer else "",
    )
    return entry_of(parts, event, body, work_id=work_id, at=now, actor=actor)


def _sorted(named: Mapping[str, T]) -> tuple[tuple[str, T], ...]:
    return tuple(sorted(named.items())) if named else ()


def entry_of(parts: Parts, event: Enqueued, body: Body, *, work_id: str, at: float, actor: str) -> Entry:
    """The entry at position 0 that holds `event`."""
    control = apply(None, event, position=0, at=at)
    return Entry(work_id, 0, parts.ids.unique(), at, actor, event, control, body)


async def store(parts: Parts, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Append first entries and send the deliveries of those that are new; returns what stands."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.work_id, entry)  # one key or id may be given twice
    standing = await parts.backend.journal.append_many(list(first.values()))
    now = parts.clock.now()
    if parts.observer is not None:
        for entry, stands in zip(first.values(), standing, strict=True):
            parts.observer.enqueued(entry, is_new=stands.entry_id == entry.entry_id, at=now)
    messages = [
        message
        for entry, stands in zip(first.values(), standing, strict=True)
        if stands.entry_id == entry.entry_id and (message := outbox.next_delivery(entry, now)) is not None
    ]
    if messages:
        await parts.backend.queue.send(messages)
    if len(first) == len(entries):
        return standing
    stands_at = dict(zip(first, standing, strict=True))
    return [stands_at[entry.work_id] for entry in entries]


def check_new_work(work: NewWork, now: float) -> bytes:
    """Check all that can be checked without the engine.

    Returns:
        The payload as it will be stored.

    Raises:
        InputError: something in it can't be taken.
    """
    check_id(work.engine, "engine id")
    if not isinstance(work.payload, dict):
        raise PayloadError(f"payload is a {type(work.payload).__name__}, not a JSON object")
    if work.resources or work.capacities:
        _check_resources(work)
    check_span(work.delay_seconds, "delay", hint="That is ten years, the longest that work sleeps at a time.")
    if not (isinstance(work.priority, int) and -PRIORITY_MAX <= work.priority <= PRIORITY_MAX):
        raise InputError(
            f"the priority is no whole number from {-PRIORITY_MAX} to {PRIORITY_MAX}",
            hint="Above 0 is the high lane, below 0 the low one; how far makes no difference.",
        )
    if work.deadline_at is not None:
        _check_deadline(work.deadline_at, now)
    if work.labels:
        _check_labels(work.labels)
    amounts(work.budget)
    amounts(work.family_budget)
    if work.work_id is not None:
        check_work_id(work.work_id)
    _check_conversation(work)
    if work.idempotency_key is not None or work.idempotency_seconds is not None:
        _check_key(work)
    return jsonio.dump(work.payload, what="payload", max_bytes=jsonio.PAYLOAD_MAX_BYTES)


def _check_conversation(work: NewWork) -> None:
    if work.conversation is not None:
        check_name(work.conversation, "conversation")
    elif work.if_busy is not IfBusy.QUEUE:
        raise InputError(f"{work.if_busy} is for work of a conversation", hint="Name the conversation.")


def _check_key(work: NewWork) -> None:
    if work.idempotency_key is None:
        raise InputError("a time is given for an idempotency key, but no key")
    if work.idempotency_seconds is not None:
        _check_key_time(work, work.idempotency_seconds)
    check_name(work.idempotency_key, "idempotency key")
    if work.work_id is not None:
        raise InputError(
            "both a work id and an idempotency key are given",
            hint="Give one: a work id is enqueued once, too.",
        )


def _check_key_time(work: NewWork, seconds: float) -> None:
    if work.conversation is not None:
        raise InputError(
            "a key that stands for a stated time is given, and a conversation",
            hint="Leave the time out: the key stands for its work as long as that is kept.",
        )
    if not (math.isfinite(seconds) and 0 < seconds <= DELAY_MAX_SECONDS):
        raise InputError(
            f"an idempotency key can't stand for {seconds:g} s",
            hint="Give it more than 0 s and at most ten years, or leave the time out.",
        )


def _check_resources(work: NewWork) -> None:
    if isinstance(work.resources, str):
        raise InputError(f"resources is the text {work.resources!r}", hint="Give a list or tuple of names.")
    if len(work.resources) > RESOURCES_MAX:
        raise InputError(f"{len(work.resources)} resources are more than {RESOURCES_MAX}")
    for resource in work.resources:
        check_name(resource, "resource")
    for resource, capacity in work.capacities.items():
        if resource not in work.resources:
            raise InputError(f"a capacity is given for {resource!r}, which is none of the resources")
        if not isinstance(capacity, int) or not 1 <= capacity <= CAPACITY_MAX:
            raise InputError(f"the capacity of {resource!r} is {capacity!r}, not 1 to {CAPACITY_MAX}")


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > LABELS_MAX:
        raise InputError(f"{len(labels)} labels are more than {LABELS_MAX}")
    for name, value in labels.items():
        check_id(name, "label")
        if len(check_name(value, f"value of label {name!r}").encode()) > LABEL_MAX_BYTES:
            raise InputError(f"the value of label {name!r} has more than {LABEL_MAX_BYTES} bytes")


def amounts(budget: Mapping[str, float]) -> Amounts:
    """Budgets as entries have them.

    Raises:
        InputError: a name or number can't be taken, or there are too many.
    """
    if not budget:
        return ()
    if len(budget) > BUDGETS_MAX:
        raise InputError(f"{len(budget)} budgets are more than {BUDGETS_MAX}")
    for name, limit in budget.items():
        check_id(name, "name of a budget")
        if not (isinstance(limit, int | float) and math.isfinite(limit) and limit > 0):
            raise InputError(f"a budget of {limit} {name} is no positive number")
    return tuple(sorted((name, float(limit)) for name, limit in budget.items()))


def _check_deadline(deadline_at: float, now: float) -> None:
    if not (math.isfinite(deadline_at) and deadline_at > now):
        raise InputError("the deadline is not in the future", hint="Give an instant that is still to come.")
    if deadline_at > FOREVER_AT:
        raise InputError(
            f"the deadline, {deadline_at:g}, is after the year 9999",
            hint="It is in epoch seconds, not milliseconds. Leave it out for work without one.",
        )
