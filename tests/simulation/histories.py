"""Histories of which old versions are dropped, and work that goes back in them; and the invariant 23.

In every eighth seed or so workers keep one version or a few, snapshots are deltas however small
they are, and operators end work and have it go on from an earlier version: also while somebody
who lost the lease long ago is still about to drop that very version.

23. Histories. What a version needs stays, body for body as it was committed: the newest versions,
    as many as are kept; milestones (that waited, spawned or finished); those that work went back
    to, from when it did; and what any of these is a delta of. Of no other entry a body is dropped.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from roost.core.client import Client
from roost.errors import ConflictError
from roost.journal.entries import Entry
from roost.journal.events import Committed, Retried
from roost.storage.ports import Backend

from .invariants import Appended, Dropped, Record, Violation
from .plan import Plan, PlannedDeed, Strike, draw_strike

if TYPE_CHECKING:
    from .world import World

STRIKE_CALLS = ("prune", "prune", "keep", "keep", "retried", "committed", "failed")
REWIND_LOOKS = 30  # of an operator, whether the work has ended


def with_histories(plan: Plan, seed: int) -> Plan:
    """The plan with versions that are dropped, and work that goes back to some."""
    source = random.Random(f"histories {seed}")
    if source.random() < 0.88:
        return plan
    first, *others = plan.works
    works = (replace(first, steps=first.steps * 2), *others)
    deeds = tuple(
        PlannedDeed("rewind", first.work_id, source.uniform(0.0, plan.chaos_seconds), source.randint(1, 4))
        for _ in range(source.randint(1, 3))
    )
    strikes = tuple(_draw_strike(source) for _ in range(source.randint(1, 5)))
    faults = replace(plan.faults, strikes=plan.faults.strikes + strikes)
    keep = source.choice((1, 2, 2, 3))
    return replace(plan, works=works, keep_versions=keep, deeds=plan.deeds + deeds, faults=faults)


def _draw_strike(source: random.Random) -> Strike:
    """Mostly somebody who freezes when it is about to drop a version."""
    if source.random() < 0.6:
        return Strike("freeze", "before", "prune", source.randint(1, 4))
    return draw_strike(source, source.choice(STRIKE_CALLS), may_jump=False)


async def rewind(world: World, client: Client, deed: PlannedDeed) -> None:
    """End work, and have it go on from an earlier version as soon as it has ended."""
    with suppress(ConflictError):  # it has ended by itself
        await client.cancel(deed.work_id, "not so")
    for _ in range(REWIND_LOOKS):
        tail = world.tails.get(deed.work_id)
        if tail is not None and tail.control.state.is_terminal:
            break
        await asyncio.sleep(world.plan.lease_seconds / 5)
    await client.retry(deed.work_id, "from there", version=int(deed.number))


class Past:
    """A backend as it was before anything was dropped, as far as bodies are read from it."""

    def __init__(self, history: Sequence[Record], shared: Backend) -> None:
        records = [record.entry for record in history if isinstance(record, Appended)]
        self._entries = {(entry.work_id, entry.position): entry for entry in records}
        self.journal = self
        self.artifacts = shared.artifacts

    async def get(self, work_id: str, position: int) -> Entry | None:
        return self._entries.get((work_id, position))


def check_kept(history: Sequence[Record], left: Mapping[str, Sequence[Entry]], keep: int) -> list[Violation]:
    """23: whenever something was dropped; and of what is there in the end.

    Args:
        left: the journals in the end, by work id.
        keep: how many of the newest versions are kept.
    """
    found: list[Violation] = []
    entries: dict[str, list[Entry]] = defaultdict(list)
    gone: dict[str, set[int]] = defaultdict(set)
    for record in history:
        match record:
            case Appended(entry):
                entries[entry.work_id].append(entry)
            case Dropped(work_id, positions):
                gone[work_id] |= {*positions}
                needed = {*positions} - _droppable(entries[work_id], keep)
                found += [
                    Violation(23, f"{work_id}@{one}", "lost its body, which is needed") for one in needed
                ]
    for work_id, was in entries.items():
        bare = [replaced(one, body=None) if one.position in gone[work_id] else one for one in was]
        if bare != left[work_id]:
            found.append(Violation(23, work_id, "has other entries than were written"))
    return found


def _droppable(entries: Sequence[Entry], keep: int) -> set[int]:
    """Where a body may be gone: of versions that nothing needs."""
    commits = {entry.position: entry for entry in entries if isinstance(entry.event, Committed)}
    needed = {*sorted(commits)[-keep:], entries[-1].control.snapshot_position}
    for entry in entries:
        match entry.event:
            case Committed() as event if event.waits is not None or event.has_spawned or event.is_finished:
                needed.add(entry.position)
            case Retried(snapshot_position=position):
                needed.add(position)
    left, chained = [*needed], set[int]()
    while left:
        found = commits.get(left.pop() or 0)
        if found is not None and found.body is not None and found.position not in chained:
            chained.add(found.position)
            left.append(found.body.base)
    return commits.keys() - chained
