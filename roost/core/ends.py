"""How a work item ended, whatever came to its journal afterwards; and whether it went elsewhere."""

from __future__ import annotations

import logging

from roost.core.parts import Parts
from roost.journal.entries import Entry
from roost.journal.events import Ending
from roost.models import State

log = logging.getLogger("roost.ends")

MOVER = "move"  # who writes the ends of what was moved
MOVED = "moved to"  # how their reasons begin
_PAGE = 50


async def end_of(parts: Parts, tail: Entry) -> Entry | None:
    """The entry that ended the work of a journal; None: it has not ended, or that entry is gone."""
    if not tail.control.state.is_terminal:
        return None
    if isinstance(tail.event, Ending):
        return tail
    before = tail.position
    while before > 0:
        page = await parts.backend.journal.read(tail.work_id, after=before, limit=_PAGE, newest_first=True)
        for entry in page:
            if isinstance(entry.event, Ending):
                return entry
        before = page[-1].position if page else 0
    return None


async def has_told(parts: Parts, tail: Entry) -> bool:
    """Whether what follows from an end was done: no entry may say so, but the row is due no more."""
    if not tail.control.state.is_terminal:
        return False
    row = await parts.backend.index.get(tail.work_id)
    return row is not None and row.position == tail.position and row.due_at is None


async def make_room(parts: Parts, stands: Entry) -> bool:
    """Delete work that is in the way of new work with its id, if it has ended and told whom it had to.

    Args:
        stands: an entry of it. What has come to stand there since is not touched.

    Returns:
        Whether it stands no more.
    """
    work_id = stands.work_id
    tail = await parts.backend.journal.tail(work_id)
    if tail is None or tail.control.created_at != stands.control.created_at:
        return True  # another made room
    control = tail.control
    if not control.state.is_terminal or (control.outbox and not await has_told(parts, tail)):
        return False
    is_gone = await parts.backend.journal.purge(work_id, tail.position)
    if is_gone:
        log.info("%s made room for new work of its id", work_id, extra={"event": "work.replaced"})
        return True
    tail = await parts.backend.journal.tail(work_id)
    return tail is None or tail.control.created_at != stands.control.created_at  # another deleted it


async def is_left_behind(parts: Parts, tail: Entry) -> bool:
    """Whether this is the copy that a move left, and the work is elsewhere."""
    control = tail.control
    if control.state is not State.CANCELLED or not control.reason.startswith(MOVED):
        return False
    end = await end_of(parts, tail)  # an operator may have ended it for a reason that reads so
    return end is not None and end.actor == MOVER
