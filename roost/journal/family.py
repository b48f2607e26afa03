"""The children of a work item: their ids, which are open, and when a join is satisfied.

Pure functions over `Family`, which the control state of a parent carries. A child is
known by its ordinal, counted from 0 over all that the parent ever spawned; its id
follows from the parent's id, the version that spawned it and its number within that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from msgspec.structs import replace

from roost.journal.values import Family, Join
from roost.names import ID_MAX_CHARS, NAMESPACE_MARK

CHILDREN_MAX = 1000  # of one work item; bounds what its entries carry


def child_id(parent_id: str, version: int, number: int, *, is_detached: bool = False) -> str:
    """The id of a child: the same whenever and by whomever it is spawned.

    Args:
        version: of the parent's snapshot that asked for it.
        number: its place among the attached (or the detached) children of that version.
    """
    namespace, mark, name = parent_id.rpartition(NAMESPACE_MARK)
    text = f"{name}.{version}{'d' if is_detached else '-'}{number}"
    if len(text) > ID_MAX_CHARS:
        text = f"child-{hashlib.sha256(f'{parent_id} {version} {number} {is_detached}'.encode()).hexdigest()}"
    return f"{namespace}{mark}{text}"


def total(family: Family | None) -> int:
    """How many children there are, ended ones too."""
    return 0 if family is None else sum(count for _, count in family.batches)


def has_ended(family: Family, ordinal: int) -> bool:
    """Whether a child's end is known."""
    return bool(_bits(family) >> ordinal & 1)


def open_count(family: Family | None) -> int:
    """How many children have not ended."""
    return 0 if family is None else total(family) - _bits(family).bit_count()


def has_open_bound(family: Family | None) -> bool:
    """Whether a child has not ended that ends with its parent."""
    return family is not None and bool(family.bound) and bool(int(family.bound, 16) & ~_bits(family))


def open_children(
    family: Family | None, parent_id: str, *, only_bound: bool = False
) -> Iterator[tuple[int, str]]:
    """(ordinal, work id) of the children that have not ended; with `only_bound` those that end with it."""
    if family is None:
        return
    left_out = _bits(family) | (~int(family.bound or "0", 16) if only_bound else 0)
    for ordinal, work_id in children(family, parent_id):
        if not left_out >> ordinal & 1:
            yield ordinal, work_id


def children(family: Family, parent_id: str) -> Iterator[tuple[int, str]]:
    """(ordinal, work id) of all children."""
    ordinal = 0
    for version, count in family.batches:
        for number in range(count):
            yield ordinal, child_id(parent_id, version, number)
            ordinal += 1


def spawn(family: Family | None, version: int, count: int, bound: str = "") -> Family:
    """The family with `count` children more, spawned by `version`; `bound` of them end with their parent."""
    family = family or Family()
    bits = int(family.bound or "0", 16) | int(bound or "0", 16) << total(family)
    return replace(family, batches=(*family.batches, (version, count)), bound=f"{bits:x}" if bits else "")


def end(family: Family | None, ordinal: int, position: int, *, is_done: bool) -> Family:
    """The family after the report at `position` that a child has ended."""
    family = family or Family()
    return replace(
        family,
        ended=f"{_bits(family) | 1 << ordinal:x}",
        reported=(*family.reported, position if is_done else -position),
    )


def before_end(family: Family | None, ordinal: int) -> Family:
    """The family before the last report came, which was that of `ordinal`."""
    family = family or Family()
    return replace(family, ended=f"{_bits(family) & ~(1 << ordinal):x}", reported=family.reported[:-1])


def take_in(family: Family, consumed: frozenset[int]) -> Family:
    """The family after a committed step has seen the reports at these positions."""
    left = tuple(position for position in family.reported if abs(position) not in consumed)
    return family if len(left) == len(family.reported) else replace(family, reported=left)


def is_satisfied(join: Join, family: Family | None) -> bool:
    """Whether work that waits for its children goes on."""
    still_open = open_count(family)
    if still_open == 0:
        return True
    done, failed = counts(family)
    if join.need_done is not None and (done >= join.need_done or done + still_open < join.need_done):
        return True
    return join.max_failed is not None and failed > join.max_failed


def is_met(join: Join, family: Family | None) -> bool:
    """Whether what the join asks for has come true, judged by the reports that nobody has seen."""
    done, failed = counts(family)
    has_enough = join.need_done is None or done >= join.need_done
    return has_enough and (join.max_failed is None or failed <= join.max_failed)


def counts(family: Family | None) -> tuple[int, int]:
    """How many unseen reports are of children that are done, and of others."""
    reported = family.reported if family is not None else ()
    done = sum(position > 0 for position in reported)
    return done, len(reported) - done


def _bits(family: Family) -> int:
    return int(family.ended, 16) if family.ended else 0
