"""Moving a namespace to another storage, while all others go on.

Everything of the namespace is put on hold, its journals are copied entry by entry, and the
copies left behind are ended without anything that follows from an end; only then does the work
go on at its new place. Each entry keeps its id, so what was copied is known as such, and a move
that broke off is made again from the start. An append to the old place in the midst, such as a
signal, moves a tail: that journal can't be ended then, and is copied once more. A copy is not
looked at by anybody before its original has ended; and who ended at the old place when those
whom it told were gone from there tells them again at the new one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from dataclasses import replace as altered

from msgspec.structs import replace

from roost import jsonio
from roost.core import accounts, bodies, keys, outside
from roost.core.client import Client
from roost.core.conversations import NAMESPACE as CONVERSATIONS
from roost.core.ends import MOVED, MOVER, end_of, has_told, is_left_behind
from roost.core.parts import Parts
from roost.errors import ConflictError, StorageCorrupt, WorkNotFound
from roost.journal import family
from roost.journal.claims import Ask, Owner, Refused, ResourceView, Want
from roost.journal.effects import CancelChildren, EndTurn, NotifyParent, effects_of
from roost.journal.entries import Control, Entry, IndexRow
from roost.journal.events import Cancelled, Committed
from roost.journal.limits import Change, Close, SetCapacity, SetRate
from roost.journal.projection import project
from roost.models import Scope, State, namespace_of
from roost.storage.query import IndexQuery

_PAGE = 200
_LOOK_SECONDS = 0.5  # between two looks whether the last steps have been committed
_ROUNDS_MAX = 20  # copies of a journal that moves in the midst
_HOLD = "moves to"
_RESOURCES_MAX = 10_000


@dataclass(slots=True)
class Moved:
    """What a move did.

    Attributes:
        work, entries, blobs: how many there are at the new place.
        resumed: work that went on there; the rest had ended, or was on hold before.
    """

    work: int = 0
    entries: int = 0
    blobs: int = 0
    resumed: int = 0


@dataclass
class Move:
    """A move of one namespace.

    Args:
        source, target: opened by the caller, each with a clock of its own storage.
        name: of the target, for journals and operators.
    """

    source: Parts
    target: Parts
    namespace: str
    name: str
    moved: Moved = field(default_factory=Moved)
    _work: set[str] = field(default_factory=set)
    _blobs: set[str] = field(default_factory=set)

    async def run(self, *, wait_seconds: float) -> Moved:
        """Move all there is; durable on return. Made again, it does what is missing.

        Args:
            wait_seconds: how long steps that run may take to be committed.

        Raises:
            ConflictError: something does not come to rest in time, or the namespace is in use at
                the target; what has been moved stays moved, or on hold, until the next try.
        """
        await self._move_limits()
        was_empty = False
        for _ in range(_ROUNDS_MAX):
            left = [row async for row in self._rows() if not await self._is_moved(row.work_id)]
            if not left and was_empty:  # a list may miss once what changes its state meanwhile
                await self._tell()
                await self._go_on()
                return self.moved
            was_empty = not left
            await self._hold(left)
            await self._come_to_rest(left, wait_seconds)
            for row in left:
                await self._copy(row.work_id)
            await self._copy_claims()
            for row in left:
                await self._end(row.work_id)
        raise ConflictError(
            f"namespace {self.namespace!r} keeps changing where it is",
            hint="Stop whoever enqueues and signals there, and move it again.",
        )

    # --- what there is -------------------------------------------------------

    async def _rows(self) -> AsyncIterator[IndexRow]:
        """Rows of all journals that are the namespace's own, or of its keys and conversations."""
        for namespace in (self.namespace, keys.NAMESPACE, CONVERSATIONS):
            cursor = None
            while True:
                query = IndexQuery(namespace=namespace)
                page = await self.source.backend.index.list(query, cursor=cursor, limit=_PAGE)
                for row in page.rows:
                    if namespace == self.namespace or await self._is_about_it(row.work_id):
                        yield row
                cursor = page.cursor
                if cursor is None:
                    break

    async def _is_about_it(self, journal_id: str) -> bool:
        """Whether the journal of a key or conversation is about work of the namespace."""
        tail = await self.source.backend.journal.tail(journal_id)
        if tail is None:
            return False
        bound, line = tail.control.bound, tail.control.line
        ids = [*([bound.work_id] if bound is not None else []), *(place.work_id for place in line)]
        return any(namespace_of(work_id) == self.namespace for work_id in ids)

    async def _is_moved(self, work_id: str) -> bool:
        tail = await self.source.backend.journal.tail(work_id)
        if tail is None or await is_left_behind(self.source, tail):
            return True
        if not tail.control.state.is_terminal and not _is_line(work_id):
            return False
        return await self._is_there(tail)

    async def _is_there(self, entry: Entry) -> bool:
        there = await self.target.backend.journal.get(entry.work_id, entry.position)
        return there is not None and there.entry_id == entry.entry_id

    # --- coming to rest ------------------------------------------------------

    async def _hold(self, rows: Sequence[IndexRow]) -> None:
        client = Client(self.source, actor=MOVER)
        for row in rows:
            tail = await self.source.backend.journal.tail(row.work_id)
            if tail is not None and not _is_held(tail):
                with suppress(ConflictError, WorkNotFound):  # it ended meanwhile
                    await client.pause(row.work_id, f"{_HOLD} {self.name}")

    async def _come_to_rest(self, rows: Sequence[IndexRow], wait_seconds: float) -> None:
        clock, waiting = self.source.clock, [row.work_id for row in rows]
        end = clock.monotonic() + wait_seconds
        while waiting := [work_id for work_id in waiting if not await self._rests(work_id)]:
            if clock.monotonic() >= end:
                raise ConflictError(
                    f"{len(waiting)} work items do not come to rest, such as {waiting[0]}",
                    hint="Is a worker there to finish what is under way? Then move again.",
                )
            await clock.sleep(_LOOK_SECONDS)

    async def _rests(self, work_id: str) -> bool:
        tail = await self.source.backend.journal.tail(work_id)
        return tail is None or await self._is_at_rest(tail)

    async def _is_at_rest(self, tail: Entry) -> bool:
        if tail.control.lease is not None or not _is_held(tail):
            return False
        return not tail.control.outbox or await has_told(self.source, tail)

    # --- copying -------------------------------------------------------------

    async def _copy(self, work_id: str) -> None:
        """Copy a journal. Its row goes first, never due, so that nobody there runs a part of it.

        Nor the whole of it, while its original may still move: the row of what has not ended is
        one ahead of its journal, so that no append there makes it due.
        """
        tail = await self.source.backend.journal.tail(work_id)
        if tail is None:
            return
        index, journal, row = self.target.backend.index, self.target.backend.journal, project(tail)
        is_live = not tail.control.state.is_terminal
        await index.put(replace(row, due_at=None, position=0))
        await index.put(replace(row, due_at=None, position=row.position + is_live))
        async for entry in self._entries(work_id, tail.position):
            for digest in await self._digests(entry):
                await self._copy_blob(digest)
            standing = await journal.append(entry)
            if standing.entry_id != entry.entry_id:
                raise ConflictError(
                    f"{work_id} has another entry {entry.position} at {self.name}",
                    hint="The namespace is in use there. Move it to a storage where it is not.",
                )
            await accounts.copy(self.target, entry)
            self.moved.entries += 1
        await index.put(replace(row, due_at=None, position=row.position + is_live))
        self._work.add(work_id)
        self.moved.work = len(self._work)

    async def _entries(self, work_id: str, last: int) -> AsyncIterator[Entry]:
        """Those up to `last` that are not there yet."""
        there = await self.target.backend.journal.tail(work_id)
        after = -1 if there is None else there.position - 1  # the newest that is there is compared
        while after < last:
            page = await self.source.backend.journal.read(work_id, after=after, limit=_PAGE)
            for entry in page:
                if entry.position <= last:
                    yield entry
            if not page:
                return
            after = page[-1].position

    async def _digests(self, entry: Entry) -> set[str]:
        """The blobs that an entry needs: its body, and what its snapshot names."""
        if entry.body is None:
            return set()
        found = {entry.body.digest} if entry.body.digest else set()
        if isinstance(entry.event, Committed):
            with suppress(StorageCorrupt):  # a version that is not kept any more
                document = jsonio.load(await bodies.load(self.source.backend, entry))
                found |= {artifact["digest"] for artifact in document.get("artifacts", [])}
        return found

    async def _copy_blob(self, digest: str) -> None:
        there = self.target.backend.artifacts
        if digest in self._blobs:
            return
        if await there.size(digest) is None:
            await there.put(self.source.backend.artifacts.read(digest))
            self.moved.blobs += 1
        self._blobs.add(digest)

    # --- resources -----------------------------------------------------------

    async def _views(self) -> Sequence[ResourceView]:
        claims = self.source.backend.claims
        return await claims.show(limit=_RESOURCES_MAX, namespace=self.namespace)

    async def _move_limits(self) -> None:
        now, claims = self.target.clock.now(), self.target.backend.claims
        for view in await self._views():
            limits, changes = view.limits, list[Change]()
            if limits.capacity is not None:
                changes.append(SetCapacity(limits.capacity))
            if limits.rate is not None:
                changes.append(SetRate(limits.rate))
            if limits.closed_until is not None:
                changes.append(Close(limits.closed_until, limits.closed_by))
            for change in changes:
                await claims.change(view.resource, change, now=now, namespace=self.namespace)

    async def _copy_claims(self) -> None:
        """What work holds for its life. Who waits in line asks again when it goes on."""
        held: dict[Owner, list[Want]] = {}
        for view in await self._views():
            for owner in view.owners:
                if owner.scope is Scope.WORK:
                    held.setdefault(owner, []).append(Want(view.resource, view.limits.capacity or 1))
        for owner, wants in held.items():
            came = await self.target.backend.claims.acquire(
                Ask(owner, tuple(wants)), now=self.target.clock.now(), overtake_before=0.0
            )
            if isinstance(came, Refused):
                raise ConflictError(f"{owner.work_id} can't have its resources at {self.name}")

    # --- the end here, and the beginning there -------------------------------

    async def _end(self, work_id: str) -> None:
        """End the copy left behind, if it is still as it was copied; nothing follows from this end."""
        journal = self.source.backend.journal
        tail = await journal.tail(work_id)
        if tail is None or tail.control.state.is_terminal or _is_line(work_id):
            return
        if not await self._is_there(tail) or not await self._is_at_rest(tail):
            return  # it moved; the next round copies what came
        untriggered = altered(self.source, settings=altered(self.source.settings, triggers={}))
        entry = outside.follow(untriggered, tail, Cancelled(f"{MOVED} {self.name}"), actor=MOVER)
        entry = replace(entry, control=replace(entry.control, outbox=()))
        standing = await journal.append(entry, with_row=True)
        if standing.entry_id == entry.entry_id:
            owner = Owner(work_id, entry.position, Scope.WORK)
            await self.source.backend.claims.leave(owner, now=self.source.clock.now())

    async def _tell(self) -> None:
        """Have what ended at the old place tell those who had left it before; each knows if it was told."""
        async for work_id in self._there(IndexQuery(namespace=self.namespace)):
            tail = await self.target.backend.journal.tail(work_id)
            if tail is None or not _tells(tail.control) or (end := await end_of(self.target, tail)) is None:
                continue
            for effect in effects_of(end):
                if isinstance(effect, CancelChildren):
                    await outside.cancel_children(self.target, end, effect, await self._missed(end))
                elif isinstance(effect, NotifyParent | EndTurn):
                    await outside.carry_out_one(self.target, end, effect, end)

    async def _missed(self, end: Entry) -> set[str]:
        """Children that had left the old place when their parent ended there."""
        found = set()
        for _, child_id in family.open_children(end.control.family, end.work_id):
            tail = await self.source.backend.journal.tail(child_id)
            if tail is not None and await is_left_behind(self.source, tail) and tail.at <= end.at:
                found.add(child_id)
        return found

    async def _go_on(self) -> None:
        """Resume at the target what this move put on hold; what else has not ended is due as it was."""
        client = Client(self.target, actor=MOVER)
        async for work_id in self._there(IndexQuery(namespace=self.namespace, state=State.PAUSED)):
            tail = await self.target.backend.journal.tail(work_id)
            if tail is None or tail.control.state.is_terminal:
                continue
            if tail.control.paused == f"{_HOLD} {self.name}":
                await client.resume(work_id, f"{MOVED} {self.name}")
                self.moved.resumed += 1
            elif (row := await self.target.backend.index.get(work_id)) is not None and row.due_at is None:
                await self.target.backend.index.take_due(row, project(tail).due_at)

    async def _there(self, query: IndexQuery) -> AsyncIterator[str]:
        """Ids at the target that a list gives, which may lag; and those that were copied just now."""
        seen, cursor = set[str](), None
        while True:
            page = await self.target.backend.index.list(query, cursor=cursor, limit=_PAGE)
            for row in page.rows:
                seen.add(row.work_id)
                yield row.work_id
            cursor = page.cursor
            if cursor is None:
                break
        for work_id in self._work - seen:
            yield work_id


def _is_line(work_id: str) -> bool:
    """Whether a journal is a key's or a conversation's: these stay; nothing runs them."""
    return namespace_of(work_id) in (keys.NAMESPACE, CONVERSATIONS)


def _is_held(tail: Entry) -> bool:
    """Whether nobody runs it from here: it has ended, or is on hold until somebody resumes it."""
    control = tail.control
    return control.state.is_terminal or bool(control.paused) or _is_line(tail.work_id)


def _tells(control: Control) -> bool:
    """Whether its end may be something to others."""
    has_kin = control.parent is not None or control.family is not None
    return control.state.is_terminal and (has_kin or control.turn is not None)
