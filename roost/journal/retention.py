"""Which snapshots of a long history may be dropped. Pure.

Kept are the newest versions, and milestones: versions that waited for somebody, spawned
children or finished the work; and what any of them is a delta of. Forks carry the snapshot
that they began from with them, so nothing that is dropped is missed there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from roost.journal.entries import Entry
from roost.journal.events import Committed


@dataclass(slots=True)
class Pruning:
    """Goes over the entries of a journal, newest first.

    Attributes:
        keep: how many of the newest versions stay, at least 1.
        in_use: position of the snapshot that the work goes on from.
        seen: how many versions it has met.
    """

    keep: int
    in_use: int | None
    seen: int = 0
    _bases: set[int] = field(default_factory=set)

    def takes(self, entry: Entry) -> bool:
        """Whether the body of the next entry may go."""
        if entry.body is None or not isinstance(entry.event, Committed):
            return False
        self.seen += 1
        event, position = entry.event, entry.position
        is_milestone = event.waits is not None or event.has_spawned or event.is_finished
        is_kept = self.seen <= self.keep or is_milestone or position in (self.in_use, *self._bases)
        if is_kept and entry.body.base is not None:
            self._bases.add(entry.body.base)
        return not is_kept
