"""What follows from every entry that leaves work without a holder: the row, the next delivery.

Both are idempotent, and done again by whoever finds them undone: an index row's `due_at`
brings a sweeper, which reads the journal's tail and does what is missing.
"""

from __future__ import annotations

from math import inf

from msgspec.structs import replace

from roost.core.parts import Parts
from roost.journal.budget import hold_of
from roost.journal.entries import Control, Entry
from roost.journal.projection import is_sent_with_delay, project
from roost.models import State
from roost.storage.ports import Message


async def write_row(parts: Parts, entry: Entry) -> None:
    """Bring the index row up to `entry`, where the append did not do so itself."""
    if not parts.backend.projects_on_append:
        await parts.backend.index.put(project(entry))


async def show_reason(parts: Parts, tail: Entry, why: str, *, due_at: float | None = None) -> None:
    """Have the index row say why nobody runs the work; the journal is not touched.

    A row that another wrote meanwhile may come out with an earlier `due_at` than it had,
    which costs one look.

    Args:
        due_at: when somebody should look at it; None: that stays as it is.
    """
    row = await parts.backend.index.get(tail.work_id)
    if row is not None and row.position == tail.position and (row.reason != why or due_at is not None):
        await parts.backend.index.put(
            replace(row, reason=why, due_at=row.due_at if due_at is None else due_at)
        )


def next_delivery(entry: Entry, now: float) -> Message | None:
    """The delivery that makes the work go on after `entry`; None if nothing is to be sent."""
    control = entry.control
    at = _next_at(control, now)
    if control.deadline_at is not None and not control.state.is_terminal and control.lease is None:
        at = min(at, control.deadline_at)  # whoever gets the delivery ends it
    if not is_sent_with_delay(at, now):
        return None  # the due index wakes it, if anything but news does
    return Message(entry.work_id, entry.position, control.lane, max(0.0, at - now))


def _next_at(control: Control, now: float) -> float:
    """When the work goes on by itself; infinity: not before somebody does something."""
    if control.state.is_terminal:
        return inf
    if control.cancel_requested:
        return now  # whoever gets the delivery ends it, due or not
    if hold_of(control):
        return inf
    if control.state is State.QUEUED:
        return now
    if control.state in (State.SCHEDULED, State.BLOCKED) and control.wake_at is not None:
        return control.wake_at
    if control.state is State.WAITING and control.waits is not None and control.waits.until is not None:
        return control.waits.until
    return inf


async def send_next(parts: Parts, entry: Entry) -> None:
    """Send the delivery that makes the work go on, if there is to be one."""
    message = next_delivery(entry, parts.clock.now())
    if message is not None:
        await parts.backend.queue.send([message])
