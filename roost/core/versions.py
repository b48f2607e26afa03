"""Committed versions: where they stand in a journal, and what it takes to go on from one."""

from __future__ import annotations

from msgspec.structs import replace

from roost.core.parts import Parts
from roost.errors import InputError
from roost.journal import retention
from roost.journal.entries import Entry
from roost.journal.events import Committed
from roost.journal.retention import Pruning
from roost.journal.values import Wait

_PAGE = 200
_POSITION_MAX = 1 << 53  # no journal is as long; a storage may take no larger number


async def find(parts: Parts, work_id: str, version: int) -> Entry:
    """The entry that committed a version.

    Raises:
        InputError: there is no such version.
    """
    after = min(max(-1, version), _POSITION_MAX)  # an enqueueing and a claim come before the first
    while page := await parts.backend.journal.read(work_id, after=after, limit=_PAGE):
        for entry in page:
            if isinstance(entry.event, Committed) and entry.event.version == version:
                return _kept(entry)
        if page[-1].control.version > version:
            break
        after = page[-1].position
    raise InputError(
        f"work item {work_id!r} has no version {version}", hint=f"`roost history {work_id}` lists them."
    )


def _kept(entry: Entry) -> Entry:
    if entry.body is None:
        raise InputError(
            f"the snapshot of version {entry.control.version} of {entry.work_id!r} is not kept any more",
            hint=f"`roost history {entry.work_id}` shows which are; `keep_versions` says how many.",
        )
    return entry


async def keep(parts: Parts, work_id: str, position: int) -> None:
    """Have the snapshot at a position stay, with what it is a delta of: work is to go on from it.

    A worker that froze while it dropped old ones, and lost its lease, can't drop it any more.

    Raises:
        InputError: it, or what it is a delta of, is not kept any more.
    """
    base: int | None = position
    while base is not None:
        entry = await parts.backend.journal.keep(work_id, base)
        if entry is None or entry.body is None:
            raise InputError(
                f"the snapshot at position {position} of {work_id!r} is not kept any more",
                hint=f"`roost history {work_id}` shows which are; `keep_versions` says how many.",
            )
        base = entry.body.base


def waits_again(origin: Entry | None, now: float) -> Wait | None:
    """What work that goes on from an earlier version waits for: what that version waited for.

    A timeout begins anew. Children are not spawned again, so a wait for them is over at once.
    """
    waits = origin.event.waits if origin is not None and isinstance(origin.event, Committed) else None
    if origin is None or waits is None or waits.join is not None:
        return None
    until = None if waits.until is None else now + waits.until - origin.at
    return replace(waits, until=until)


async def prune(parts: Parts, tail: Entry, keep: int) -> int:
    """Drop snapshots that need not be kept; returns how many. Only while the lease is held; who
    lost it meanwhile drops none that an operator went back to, see `keep`.

    Goes back until a page has nothing that can go: what is older was dropped before.
    """
    pruning, before, total = Pruning(keep, tail.control.snapshot_position), -1, 0
    while page := await parts.backend.journal.read(
        tail.work_id, after=before, limit=_PAGE, newest_first=True
    ):
        found = [entry.position for entry in page if pruning.takes(entry)]
        if found:
            await parts.backend.journal.prune(tail.work_id, found)
        elif pruning.seen > keep:
            break
        total, before = total + len(found), page[-1].position
        if before == 0:
            break
    return total


async def trim(parts: Parts, tail: Entry) -> int:
    """Cut the history of work without an end; returns how many entries are gone.

    Only while the lease is held. Who lost it meanwhile cuts off no more than it would have then,
    since what the work needs only moves on.
    """
    journal, needed = parts.backend.journal, retention.first_needed(tail.control)
    position = tail.control.snapshot_position
    while position is not None:  # what the snapshot is a delta of, and so on
        needed = min(needed, position)
        entry = await journal.get(tail.work_id, position)
        position = entry.body.base if entry is not None and entry.body is not None else None
    return await journal.trim(tail.work_id, min(needed, tail.position + 1 - retention.ENTRIES_KEPT))
