"""The directives of a snapshot: what comes after its commit, checked and made ready for the entry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct

from roost.core import children
from roost.core.replies import check_replies
from roost.engine import EngineRegistry
from roost.errors import EngineContractError, PayloadError
from roost.journal import family, values
from roost.journal.entries import Control
from roost.journal.values import Family
from roost.models import Join, OnTimeout, Snapshot, WaitFor, check_name
from roost.names import APPROVAL_MARK

SIGNAL_NAMES_MAX = 50  # that one wait names


class Follows(Struct, frozen=True):
    """What a commit says of what comes after it."""

    wake_at: float | None = None
    waits: values.Wait | None = None
    spawned: int = 0
    bound: str = ""


def clear(snapshot: Snapshot) -> None:
    """Take the directives away: they were for the commit that this snapshot came with."""
    if snapshot.next_step_delay_seconds:
        snapshot.next_step_delay_seconds = 0.0
    if snapshot.wait_for is not None:
        snapshot.wait_for = None
    if snapshot.spawn:
        snapshot.spawn = []


def declare(snapshot: Snapshot, shapes: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the shapes of the signals that it waits for into the wait, where others see them."""
    wait_for = snapshot.wait_for
    if wait_for is None or not shapes:
        return
    known = {name: dict(shapes[name]) for name in wait_for.signals if name in shapes}
    if known:
        snapshot.wait_for = wait_for.model_copy(update={"replies": known | wait_for.replies})


def read(
    snapshot: Snapshot, control: Control, consumed: Collection[int], engines: EngineRegistry, now: float
) -> Follows:
    """What follows the commit of `snapshot`.

    Args:
        control: the state before the commit.
        consumed: positions of what the step has seen.
        engines: those known here; payloads of children are checked against them.

    Raises:
        PayloadError: a child can't be enqueued, or a wait can't be kept.
    """
    spawned, bound = 0, ""
    if snapshot.spawn:
        children.check_children(snapshot.spawn, family.total(control.family), engines, now)
        spawned = sum(not child.is_detached for child in snapshot.spawn)
        bound = _bound(snapshot)
    if snapshot.is_finished:
        return Follows(spawned=spawned)
    delay = snapshot.next_step_delay_seconds
    if snapshot.wait_for is None:
        return Follows(wake_at=now + delay if delay > 0 else None, spawned=spawned, bound=bound)
    if delay > 0:
        raise EngineContractError(
            "a snapshot asks for a delay and for a wait; the wait has a timeout of its own"
        )
    waits = _wait(snapshot.wait_for, _family_after(control, consumed, spawned), now)
    return Follows(waits=waits, spawned=spawned, bound=bound)


def _bound(snapshot: Snapshot) -> str:
    """Which of its attached children end with it, as a bitmap."""
    for child in snapshot.spawn:
        if child.ends_with_parent and (child.is_detached or snapshot.is_finished):
            why = "its parent ends with this commit" if snapshot.is_finished else "it is detached"
            raise EngineContractError(f"a child of {child.engine} can't end with its parent: {why}")
    attached = [child for child in snapshot.spawn if not child.is_detached]
    bits = sum(child.ends_with_parent << number for number, child in enumerate(attached))
    return f"{bits:x}" if bits else ""


def _family_after(control: Control, consumed: Collection[int], spawned: int) -> Family:
    before = family.take_in(control.family or Family(), frozenset(consumed))
    return family.spawn(before, control.version + 1, spawned) if spawned else before


def _wait(wait_for: WaitFor, after: Family, now: float) -> values.Wait:
    for name in wait_for.signals:
        check_name(name, "signal name")
    if len(wait_for.signals) > SIGNAL_NAMES_MAX:
        raise PayloadError(f"a wait names {len(wait_for.signals)} signals, more than {SIGNAL_NAMES_MAX}")
    timeout = wait_for.timeout_seconds
    if not wait_for.signals and wait_for.children is None:
        raise EngineContractError(
            "a wait names neither a signal nor children", hint="For a pause use `delay`."
        )
    check_replies(wait_for)
    return values.Wait(
        names=wait_for.signals,
        until=None if timeout is None else now + timeout,
        seconds=timeout,
        is_typed=any(not name.startswith(APPROVAL_MARK) for name in wait_for.replies),
        fails=wait_for.on_timeout is OnTimeout.FAIL,
        join=None if wait_for.children is None else _join(wait_for.children, after),
    )


def _join(join: Join, after: Family) -> values.Join:
    """The join as the journal keeps it; percentages become counts."""
    children_count = family.open_count(after) + len(after.reported)
    if join.need_done is not None and join.need_done > children_count:
        raise EngineContractError(
            f"a wait needs {join.need_done} children to be done, but there are {children_count}"
        )
    limits = [] if join.max_failed is None else [join.max_failed]
    if join.max_failed_percent is not None:
        limits.append(int(children_count * join.max_failed_percent / 100 + 1e-9))
    return values.Join(
        need_done=join.need_done, max_failed=min(limits) if limits else None, cancels_rest=join.cancels_rest
    )
