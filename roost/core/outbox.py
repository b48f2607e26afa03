"""What follows from every entry that leaves work without a holder: the row, the next delivery.

Both are idempotent, and done again by whoever finds them undone: an index row's `due_at`
brings a sweeper, which reads the journal's tail and does what is missing.
"""

from __future__ import annotations

from roost.core.parts import Parts
from roost.journal.budget import hold_of
from roost.journal.control import is_sent_with_delay, project
from roost.journal.entries import Entry
from roost.models import State
from roost.storage.ports import Message


async def write_row(parts: Parts, entry: Entry) -> None:
    """Bring the index row up to `entry`, where the append did not do so itself."""
    if not parts.backend.projects_on_append:
        await parts.backend.index.put(project(entry))


def next_delivery(entry: Entry, now: float) -> Message | None:
    """The delivery that makes the work go on after `entry`; None if nothing is to be sent."""
    control = entry.control
    delay = 0.0
    if control.cancel_requested and not control.state.is_terminal:
        pass  # whoever gets the delivery ends it, due or not
    elif hold_of(control):
        return None
    elif control.state in (State.SCHEDULED, State.BLOCKED) and control.wake_at is not None:
        if not is_sent_with_delay(control.wake_at, now):
            return None  # the due index wakes it
        delay = max(0.0, control.wake_at - now)
    elif control.state is not State.QUEUED:
        return None
    return Message(entry.work_id, entry.position, control.lane, delay)


async def send_next(parts: Parts, entry: Entry) -> None:
    """Send the delivery that makes the work go on, if there is to be one."""
    message = next_delivery(entry, parts.clock.now())
    if message is not None:
        await parts.backend.queue.send([message])
