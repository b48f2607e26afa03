"""The family of a work item, as a tree for people."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from roost.core.parts import Parts
from roost.journal import family
from roost.journal.entries import Control, Entry
from roost.names import State

TREE_MAX = 5000  # work items of one tree that are read
_TOGETHER = 25  # that are read at the same time


@dataclass(slots=True)
class Kin:
    """A work item in its family.

    Attributes:
        state: None: it does not exist (yet, or any more).
        key: what its parent calls it.
        child_count: how many children it spawned, those that were not read too.
        children: by ordinal; fewer than `child_count` where the tree is cut.
    """

    work_id: str
    key: str = ""
    engine: str = ""
    state: State | None = None
    version: int = 0
    reason: str = ""
    child_count: int = 0
    children: list[Kin] = field(default_factory=list)


async def tree(parts: Parts, root: Entry, *, limit: int = TREE_MAX) -> Kin:
    """A work item with all that descends from it, generation by generation.

    Each work item is one strongly consistent read of its journal's tail.

    Args:
        limit: at most so many work items are read.
    """
    top = _kin(root.work_id, root)
    generation: list[tuple[Kin, Control]] = [(top, root.control)]
    left = limit - 1
    while generation:
        ids = [(kin, child_id) for kin, control in generation for child_id in _child_ids(kin, control)]
        ids = ids[: max(0, left)]
        left -= len(ids)
        generation = []
        for start in range(0, len(ids), _TOGETHER):
            several = ids[start : start + _TOGETHER]
            tails = await asyncio.gather(*(parts.backend.journal.tail(child_id) for _, child_id in several))
            generation += _attach(several, tails)
    return top


def _child_ids(kin: Kin, control: Control) -> list[str]:
    if control.family is None:
        return []
    return [child_id for _, child_id in family.children(control.family, kin.work_id)]


def _attach(several: Sequence[tuple[Kin, str]], tails: Sequence[Entry | None]) -> list[tuple[Kin, Control]]:
    found = []
    for (parent, child_id), tail in zip(several, tails, strict=True):
        child = _kin(child_id, tail)
        parent.children.append(child)
        if tail is not None:
            found.append((child, tail.control))
    return found


def _kin(work_id: str, tail: Entry | None) -> Kin:
    if tail is None:
        return Kin(work_id)
    control = tail.control
    return Kin(
        work_id=work_id,
        key=control.parent.key if control.parent is not None else "",
        engine=control.engine,
        state=control.state,
        version=control.version,
        reason=control.reason,
        child_count=family.total(control.family),
    )
