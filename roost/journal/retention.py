"""Which snapshots of a long history may be dropped. Pure.

Kept are the newest versions, and milestones: versions that waited for somebody, spawned
children or finished the work, or that an operator went back to; and what any of them is a
delta of. Forks carry the snapshot that they began from with them, so nothing that is dropped is
missed there.
"""

from __future__ import annotations

from msgspec import Struct, field

from roost.journal.entries import Control, Entry
from roost.journal.events import Committed, Retried
from roost.names import SCHEDULE_ENGINE

TRIM_EVERY = 100  # versions, after which the journal of work without an end is trimmed
ENTRIES_KEPT = 500  # of the newest of such a journal, whatever they are
_ENDLESS = frozenset({SCHEDULE_ENGINE})


def is_endless(control: Control) -> bool:
    """Whether work goes on for ever by its nature, so that its history must be cut.

    Its journal has the entry at position 0 and the newest, and a gap between them. Nobody goes
    back to an earlier version of it, so that what lies behind stays behind.
    """
    return control.engine in _ENDLESS


def first_needed(control: Control) -> int:
    """The lowest position, but for 0, that work goes on from, or owes something for.

    It never goes down, but for a retry from an earlier version. What a snapshot is a delta of
    lies before it. By which ids signals were known is not needed for ever.
    """
    pending = [position for position, _ in control.signals]
    recorded = [abs(position) for _, position in control.once]
    reported = [abs(position) for position in control.family.reported] if control.family is not None else []
    snapshot = [control.snapshot_position] if control.snapshot_position is not None else []
    return min((control.position, *snapshot, *control.outbox, *pending, *recorded, *reported))


class Pruning(Struct):
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
        if isinstance(entry.event, Retried) and entry.event.snapshot_position is not None:
            self._bases.add(entry.event.snapshot_position)
        if entry.body is None or not isinstance(entry.event, Committed):
            return False
        self.seen += 1
        event, position = entry.event, entry.position
        is_milestone = event.waits is not None or event.has_spawned or event.is_finished
        is_kept = self.seen <= self.keep or is_milestone or position in (self.in_use, *self._bases)
        if is_kept and entry.body.base is not None:
            self._bases.add(entry.body.base)
        return not is_kept
