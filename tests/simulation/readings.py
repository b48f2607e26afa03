"""What is read of a world after its run, for the checkers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roost.core import bodies, operating
from roost.core.client import Client
from roost.errors import RoostError
from roost.journal.entries import Entry
from roost.journal.events import Committed
from roost.names import State

from . import histories, many
from .invariants import Appended, Dropped, Record, Violation, journals

if TYPE_CHECKING:
    from .faulty import SharedBackend


def digest(history: Iterable[Record]) -> str:
    """Of everything that happened, ids and times included."""
    lines = []
    for record in history:
        if isinstance(record, Appended):
            entry = record.entry
            lines.append(f"{entry.work_id} {entry.position} {entry.entry_id} {entry.at!r} {entry.actor}")
        else:
            lines.append(repr(record))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


async def trails(history: Sequence[Record], shared: SharedBackend) -> dict[tuple[str, int], list[int]]:
    """Per work id and version, the versions that led to it, as the engine wrote them down."""
    found = {}
    past: Any = histories.Past(history, shared)
    for record in history:
        if not isinstance(record, Appended) or many.is_operation(record.entry):
            continue
        if isinstance(record.entry.event, Committed):
            entry, version = record.entry, record.entry.event.version
            raw = await bodies.load(past, entry)
            snapshot = bodies.load_snapshot(
                bodies.Dumped(raw), work_id=entry.work_id, engine="", version=version
            )
            found[entry.work_id, version] = snapshot.data["trail"]
    return found


async def artifacts(put: Mapping[str, bytes], shared: SharedBackend) -> dict[str, bytes | Exception]:
    """Every artifact that a snapshot names, and one of them again after its bytes have rotted."""
    read: dict[str, bytes | Exception] = {}
    for one in put:
        read[one] = await _artifact(one, shared)
    for one in list(put)[:1]:
        shared.artifacts._blobs[one] += b"rot"
        rotten = await _artifact(one, shared)
        if not isinstance(rotten, Exception):
            read[one] = rotten
    return read


async def _artifact(one: str, shared: SharedBackend) -> bytes | Exception:
    try:
        return b"".join([chunk async for chunk in shared.artifacts.read(one)])
    except RoostError as error:
        return error


async def done(tails: Iterable[Entry], client: Client) -> dict[str, int]:
    """How many work items each operation that came to its end says it acted on."""
    ended = [one for one in tails if many.is_operation(one) and one.control.state is State.DONE]
    return {one.work_id: (await operating.look(client, one.work_id)).done for one in ended}


async def check_kept(history: Sequence[Record], shared: SharedBackend, keep: int | None) -> list[Violation]:
    """23, where anything is dropped."""
    if keep is None:
        return []
    left = {work_id: await shared.journal.read(work_id, limit=10_000) for work_id in journals(history)}
    return histories.check_kept(history, left, keep)


def dropped_count(history: Sequence[Record]) -> int:
    """How many bodies were dropped."""
    return sum(len(record.positions) for record in history if isinstance(record, Dropped))
