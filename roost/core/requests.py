"""Requests that are sent again: what was done under an idempotency key, and the answer to it.

Each key has a journal of its own. Its first entry says that the request was begun, its next
holds the answer. Who sends it again, to whichever process, gets that answer; where there is
none yet, since the first process died or is still at it, the request is carried out once more,
and each append of it has an id that follows from the key: one that is there already is found,
and not made again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from roost import jsonio
from roost.core import bodies
from roost.core.keys import NAMESPACE
from roost.core.parts import Parts
from roost.errors import ConflictError, StorageUnavailable
from roost.journal.control import apply
from roost.journal.entries import Entry
from roost.journal.events import KeyBound
from roost.names import NAMESPACE_MARK

KEPT_SECONDS = 86_400.0  # how long a key stands for its request
ANSWER_MAX_BYTES = 1 << 20
CLOCKS_SECONDS = 300.0  # how far the clocks of two processes may be apart
_LOOK_BACK_MAX = 1000  # entries in which an earlier try is looked for
_PAGE = 100
_TRIES = 20
_RACE_PAUSE_SECONDS = 0.02


class KeyReused(ConflictError):
    """The key was sent with another request."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request under a key, begun.

    Attributes:
        entry: of the key's journal, which says so.
        digest: of what was asked.
    """

    entry: Entry
    digest: str

    def entry_id(self, work_id: str) -> str:
        """The id of the entry that the request appends to the journal of a work item."""
        return hashlib.sha256(f"{self.entry.work_id}\n{self.entry.at}\n{work_id}".encode()).hexdigest()[:32]

    async def find(self, parts: Parts, tail: Entry) -> Entry | None:
        """The entry that an earlier try appended to a journal that ends in `tail`."""
        wanted, since = self.entry_id(tail.work_id), self.entry.at - CLOCKS_SECONDS
        page, seen = [tail], 0
        while page and seen < _LOOK_BACK_MAX:
            for entry in page:
                if entry.entry_id == wanted:
                    return entry
                if entry.at < since:
                    return None
            seen += len(page)
            page = list(
                await parts.backend.journal.read(
                    tail.work_id, after=page[-1].position, limit=_PAGE, newest_first=True
                )
                if page[-1].position
                else ()
            )
        return None


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was carried out before: the answer, and its status."""

    answer: Any
    status: int


async def begin(parts: Parts, key: str, digest: str, *, actor: str) -> Request | Answered:
    """Begin a request, or find what became of it.

    Args:
        key: a digest of who sent it, to what, under which key.
        digest: of what is asked.

    Raises:
        KeyReused: the key stands for another request.
        StorageUnavailable: too many send it at once.
    """
    journal_id = f"{NAMESPACE}{NAMESPACE_MARK}request:{key}"
    for _ in range(_TRIES):
        tail = await parts.backend.journal.tail(journal_id)
        bound = tail.control.bound if tail is not None else None
        if tail is not None and bound is not None and bound.until > parts.clock.now():
            return await _found(parts, tail, digest)
        entry = await _append(parts, journal_id, tail, {"digest": digest}, actor)
        if entry is not None:
            return Request(entry, digest)
        await parts.clock.sleep(parts.ids.uniform(0.0, _RACE_PAUSE_SECONDS))
    raise StorageUnavailable("too many send the same request at once", hint="Try again.")


async def _found(parts: Parts, tail: Entry, digest: str) -> Request | Answered:
    """What the journal of a key says of its request."""
    said = jsonio.load(await bodies.load(parts.backend, tail))
    if said["digest"] != digest:
        raise KeyReused("this idempotency key was sent with another request", hint="Use a key once.")
    if "answer" in said:
        return Answered(said["answer"], said["status"])
    return Request(tail, digest)


async def finish(parts: Parts, request: Request, answer: Any, status: int, *, actor: str) -> Answered:
    """Record the answer; gives the one that stands, which may be that of another process."""
    said = {"digest": request.digest, "answer": answer, "status": status}
    entry = await _append(parts, request.entry.work_id, request.entry, said, actor)
    if entry is not None:
        return Answered(answer, status)
    tail = await parts.backend.journal.tail(request.entry.work_id)
    found = None if tail is None else await _found(parts, tail, request.digest)
    return found if isinstance(found, Answered) else Answered(answer, status)


async def _append(
    parts: Parts, journal_id: str, tail: Entry | None, said: dict[str, Any], actor: str
) -> Entry | None:
    """Append to the journal of a key; None: somebody else did."""
    position, at = 0 if tail is None else tail.position + 1, parts.clock.now()
    event = KeyBound("", at + KEPT_SECONDS)
    raw = jsonio.dump(said, what="the answer", max_bytes=ANSWER_MAX_BYTES)
    entry = Entry(
        work_id=journal_id,
        position=position,
        entry_id=parts.ids.unique(),
        at=at,
        actor=actor,
        event=event,
        control=apply(tail.control if tail else None, event, position=position, at=at),
        body=await bodies.store(parts.backend, raw),
    )
    standing = await parts.backend.journal.append(entry, with_row=True)
    return entry if standing.entry_id == entry.entry_id else None


def digest_of(*texts: object) -> str:
    """A digest of several texts; 40 hexadecimal digits."""
    return hashlib.sha256(json.dumps([str(text) for text in texts]).encode()).hexdigest()[:40]
