"""Signals: what somebody outside tells a work item, durable before it is acknowledged, and once."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from roost import jsonio
from roost.core import bodies, outside
from roost.core.inbox import read_news
from roost.core.parts import Parts
from roost.errors import ConflictError, StorageCorrupt, WorkNotFound
from roost.journal import retention
from roost.journal.entries import Body, Entry
from roost.journal.events import RECENT_MAX, Committed, Signaled
from roost.models import Signal, check_id, check_name

DATA_MAX_BYTES = 1 << 18  # 256 KiB
PENDING_MAX = 1000  # signals that no step has seen yet; bounds what each entry carries
PENDING_NAMES_MAX_BYTES = 1 << 15  # of their names, for the same reason
_PAGE = 200  # entries of one read
_TRIES = 50
_RACE_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Sent:
    """Where a signal stands in the journal, and whether this call put it there."""

    signal_id: str
    position: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Received:
    """A signal in its journal; `seen_by_version` is that of the step which consumed it, if any has."""

    signal: Signal
    position: int
    seen_by_version: int | None


async def send(
    parts: Parts,
    work_id: str,
    name: str,
    data: Any,
    *,
    signal_id: str | None,
    actor: str,
    check: Callable[[Entry], Awaitable[None]] | None = None,
) -> Sent:
    """Append a signal, unless one of that id is there, and wake the work if it waits for it.

    Args:
        check: raises if a new signal can't be taken after the tail that it is given.

    Raises:
        InputError: name, id or data can't be taken.
        WorkNotFound: there is no such work item.
        ConflictError: it has ended, moves too fast, or has too many signals that no step has seen.
    """
    check_name(name, "signal name")
    signal_id = check_id(signal_id, "signal id") if signal_id is not None else parts.ids.unique()
    raw = jsonio.dump(data, what="signal data", max_bytes=DATA_MAX_BYTES)
    body: Body | None = None
    for _ in range(_TRIES):
        tail = await parts.backend.journal.tail(work_id)
        if tail is None:
            raise WorkNotFound(work_id)
        last = await _last(parts, tail)
        known = await _find(parts, tail, last, _digest(signal_id))
        if known is not None:
            return Sent(signal_id, known, is_new=False)
        _check_takes_signals(tail)
        if check is not None:
            await check(tail)
        if body is None:  # only now: what is refused leaves nothing behind
            body = await bodies.store(parts.backend, raw)
        event = Signaled(signal_id, name, _recent(last))
        entry = await outside.append(parts, tail, event, actor=actor, body=body)
        if entry is not None:
            return Sent(signal_id, entry.position, is_new=True)
        await parts.clock.sleep(parts.ids.uniform(0.0, _RACE_PAUSE_SECONDS))
    raise ConflictError(f"work item {work_id!r} moves too fast to be signaled", hint="Try again.")


async def read_one(parts: Parts, work_id: str, position: int) -> Signal:
    """The signal at a position."""
    found = await read_news(parts, await _get(parts, work_id, position))
    assert isinstance(found, Signal)
    return found


async def read_all(parts: Parts, work_id: str) -> Sequence[Received]:
    """All signals of a work item, in the order in which they came.

    Raises:
        WorkNotFound: there is no such work item.
    """
    found: dict[int, Signal] = {}
    seen_by: dict[int, int] = {}
    after = -1
    while page := await parts.backend.journal.read(work_id, after=after, limit=_PAGE):
        for entry in page:
            if isinstance(entry.event, Signaled):
                news = await read_news(parts, entry)
                assert isinstance(news, Signal)
                found[entry.position] = news
            elif isinstance(entry.event, Committed):
                seen_by |= dict.fromkeys(entry.event.consumed, entry.event.version)
        after = page[-1].position
    if after < 0:
        raise WorkNotFound(work_id)
    return [Received(signal, position, seen_by.get(position)) for position, signal in found.items()]


def _check_takes_signals(tail: Entry) -> None:
    control = tail.control
    if control.state.is_terminal:
        raise ConflictError(f"work item {tail.work_id!r} is {control.state}; it takes no signals any more")
    if len(control.signals) >= PENDING_MAX:
        raise ConflictError(
            f"work item {tail.work_id!r} has {PENDING_MAX} signals that no step has seen",
            hint="Its engine must wait for them or take them.",
        )
    if sum(len(name.encode()) for _, name in control.signals) > PENDING_NAMES_MAX_BYTES:
        raise ConflictError(
            f"the names of signals that no step of {tail.work_id!r} has seen are too long together",
            hint="Its engine must wait for them or take them; shorter names leave room for more.",
        )


async def _last(parts: Parts, tail: Entry) -> Entry | None:
    """The newest signal of a work item; None if it never had one, or that was trimmed."""
    position = tail.control.last_signal
    return None if position is None else await _kept(parts, tail, position)


async def _kept(parts: Parts, tail: Entry, position: int) -> Entry | None:
    if retention.is_endless(tail.control) and await parts.backend.journal.get(tail.work_id, position) is None:
        return None
    return await _get(parts, tail.work_id, position)


async def _get(parts: Parts, work_id: str, position: int) -> Entry:
    entry = await parts.backend.journal.get(work_id, position)
    if entry is None or not isinstance(entry.event, Signaled):
        raise StorageCorrupt(f"entry {position} of {work_id} is missing, or no signal")
    return entry


def _digest(signal_id: str) -> str:
    return hashlib.sha256(signal_id.encode()).hexdigest()[:16]


def _recent(last: Entry | None) -> tuple[tuple[str, int], ...]:
    """What the next signal remembers: the newest one, and what that remembers."""
    if last is None:
        return ()
    assert isinstance(last.event, Signaled)
    return ((_digest(last.event.signal_id), last.position), *last.event.recent)[:RECENT_MAX]


async def _find(parts: Parts, tail: Entry, last: Entry | None, digest: str) -> int | None:
    """The position of the signal of that id; None if there is none. A read for each `RECENT_MAX`."""
    while last is not None:
        known = dict(_recent(last))
        if digest in known:
            return known[digest]
        assert isinstance(last.event, Signaled)
        recent = last.event.recent
        last = await _kept(parts, tail, recent[-1][1]) if len(recent) >= RECENT_MAX - 1 else None
    return None
