"""What a program outside the workers asks: enqueue, look, cancel, retry."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from roost.core import bodies, claims, conversations, deeds, keys, new_work, outside, versions
from roost.core.finding import Found, find
from roost.core.new_work import NewWork
from roost.core.parts import Parts
from roost.core.requests import Request
from roost.core.switches import JOURNAL_ID as SWITCHES
from roost.core.switches import Switches
from roost.core.talking import Talking
from roost.core.where import Where
from roost.core.why import why
from roost.engine import EngineRegistry
from roost.errors import (
    EnqueueConflict,
    IdentifierError,
    StorageCorrupt,
    StorageDenied,
    StorageUnavailable,
    WorkNotFound,
)
from roost.journal.claims import ResourceView
from roost.journal.entries import Control, Entry, IndexRow
from roost.journal.events import Claimed, Committed, Enqueued, KeyBound, Operated, Switch
from roost.journal.explain import Explanation
from roost.journal.limits import Change, check_change
from roost.models import (
    Artifact,
    Snapshot,
    WorkItem,
    check_name,
    namespace_of,
)
from roost.names import OPERATORS, State, feeds
from roost.storage.ports import FeedPage
from roost.storage.query import IndexPage, IndexQuery

_TRIES = 20  # lost races of an operator's append; each means that the work item moved
_PAGE = 200
_SNAPSHOT_TRIES = 10  # each means that the work committed, and dropped what its tail named before
_FEED_PAGES_MAX = 20  # that one call reads to find an entry of its namespace
OF_ONE_KEY = ("engine", "payload", "resources", "capacities", "resource_scope", "priority", "conversation")
"""What is the same whenever work is enqueued under one key or id."""
_OWN_NAMESPACES = frozenset({conversations.NAMESPACE, keys.NAMESPACE, OPERATORS, namespace_of(SWITCHES)})
"""In which no work is enqueued: Roost's own journals are there."""
_CHUNK = 512  # new work items that are stored together
_CHUNKS_IN_FLIGHT = 2  # one is stored and one waits its turn while the next is made

_SEEN_ENTRIES = 200  # that are looked at for which engines have workers
_SEEN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class WorkView:
    """A work item as it stands; `row` may lag behind `control`."""

    item: WorkItem
    control: Control
    snapshot: Snapshot | None
    row: IndexRow | None

    @property
    def artifacts(self) -> Sequence[Artifact]:
        """What it has produced so far."""
        return self.snapshot.artifacts if self.snapshot else ()


@dataclass(frozen=True, slots=True)
class Version:
    """One committed snapshot: when, by whom, where in the journal, and whether it is kept."""

    version: int
    position: int
    step: str
    at: float
    actor: str
    duration_seconds: float
    is_kept: bool = True


class Client(Talking):
    """Talks to a backend on behalf of people and programs.

    Args:
        engines: if given, payloads are checked against those of them that have a
            `payload_model`; other engines are taken on trust.
        actor: written into the entries it appends.
        namespace: of the work that it enqueues and lists; ids without a namespace are of it.
        request: that it carries out, once, however often that is tried.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        engines: EngineRegistry | None = None,
        actor: str = "client",
        namespace: str = "",
        request: Request | None = None,
    ) -> None:
        super().__init__(parts, actor, namespace, request)
        self._engines = engines

    # --- enqueueing ----------------------------------------------------------

    async def enqueue(self, engine: str, payload: dict[str, Any] | None = None, **options: Any) -> str:
        """Enqueue one work item and return its id. Durable on return.

        Args:
            options: further fields of `NewWork`.

        Raises:
            InputError: something in it can't be taken; nothing was stored.
            EnqueueConflict: its id or key stands for other work.
        """
        return (await self.enqueue_many([NewWork(engine, {} if payload is None else payload, **options)]))[0]

    async def enqueue_many(self, works: Sequence[NewWork]) -> Sequence[str]:
        """Enqueue work items and return their ids, in order. Durable on return.

        All are checked before any is stored. Each is stored by itself; if the call fails
        midway, those with a key or an id of their own can safely be enqueued again.

        Raises:
            InputError: something in one of them can't be taken; nothing was stored.
            EnqueueConflict: an id or key stands for other work; the others were stored.
        """
        if self._namespace in _OWN_NAMESPACES:
            raise IdentifierError(f"namespace {self._namespace!r} is Roost's own")
        now = self._parts.clock.now()
        pairs = [(work, self._check(work, now)) for work in works]
        together = [pair for pair in pairs if not pair[0].is_decided_elsewhere]
        ids = await self._enqueue_together(together)
        if len(together) == len(works):
            return ids
        stored = iter(ids)
        return [
            await self._enqueue_alone(work, raw) if work.is_decided_elsewhere else next(stored)
            for work, raw in pairs
        ]

    async def check_not_taken(self, work: NewWork) -> None:
        """See whether an id or key stands for other work, before anything is stored. Others may yet
        take it: `enqueue_many` says so in its turn.

        Raises:
            InputError: something in it can't be taken.
            EnqueueConflict: it does.
        """
        raw = self._check(work, self._parts.clock.now())
        if work.idempotency_seconds is not None or not (work.work_id or work.idempotency_key):
            return
        stands = await self._parts.backend.journal.get(self._work_id(work), 0)
        if stands is not None:
            await self._check_same((await self._firsts([(work, raw)]))[0], stands)

    async def _enqueue_alone(self, work: NewWork, raw: bytes) -> str:
        """Enqueue what another journal decides on: a conversation's, or a key's."""
        [first] = await self._firsts([(work, raw)])
        work_id, is_new = first.work_id, False
        if work.conversation is not None:
            journal_id = conversations.conversation_id(self._namespace, work.conversation)
            is_new = await conversations.enqueue(self._parts, first, raw, journal_id, work.if_busy)
        elif work.idempotency_seconds is not None and isinstance(first.event, Enqueued) and first.body:
            journal_id = keys.key_id(self._namespace, work.engine, work.idempotency_key or "")
            bound = KeyBound(work_id, first.at + work.idempotency_seconds, first.event)
            work_id = await keys.bind(
                self._parts, journal_id, bound, first.body, outside.after, actor=self._actor
            )
            is_new = work_id == first.work_id
        stands = None if is_new else await self._parts.backend.journal.get(work_id, 0)
        if stands is not None:
            await self._check_same(first, stands)
        return work_id

    async def _enqueue_together(self, pairs: Sequence[tuple[NewWork, bytes]]) -> Sequence[str]:
        entries: list[Entry] = []
        standing: list[Entry] = []
        storing: deque[asyncio.Task[Sequence[Entry]]] = deque()
        try:
            for start in range(0, len(pairs), _CHUNK):
                chunk = await self._firsts(pairs[start : start + _CHUNK])
                entries += chunk
                storing.append(asyncio.create_task(new_work.store(self._parts, chunk)))
                await self._parts.clock.sleep(0)  # begins to store it, while the next chunk is made
                if len(storing) == _CHUNKS_IN_FLIGHT:
                    standing += await storing.popleft()
            while storing:
                standing += await storing.popleft()
        finally:
            for task in storing:
                task.cancel()
            await asyncio.gather(*storing, return_exceptions=True)
        for entry, stands in zip(entries, standing, strict=True):
            if stands.entry_id != entry.entry_id:
                await self._check_same(entry, stands)
        return [entry.work_id for entry in entries]

    def _check(self, work: NewWork, now: float) -> bytes:
        """Check all that can be checked before anything is stored; gives the payload as stored."""
        raw = new_work.check_new_work(work, now)
        if work.work_id is not None and namespace_of(self._whole(work.work_id)) != self._namespace:
            raise IdentifierError(
                f"work id {work.work_id!r} is not of namespace {self._namespace!r}",
                hint="Set ROOST_NAMESPACE to the namespace of the work that you enqueue.",
            )
        spec = self._engines.get(work.engine) if self._engines else None
        if spec is not None:
            spec.check_payload(work.payload)
        return raw

    async def _firsts(self, pairs: Sequence[tuple[NewWork, bytes]]) -> Sequence[Entry]:
        """The first entries of new work, each with its payload as stored."""
        stored = await bodies.store_all(self._parts.backend, [raw for _, raw in pairs])
        return [
            new_work.first_entry(self._parts, work, body, work_id=self._work_id(work), actor=self._actor)
            for (work, _), body in zip(pairs, stored, strict=True)
        ]

    def new_id(self) -> str:
        """A new work id, without a namespace."""
        return self._parts.ids.work_id()

    def _work_id(self, work: NewWork) -> str:
        """Its own id, or one that follows from the key, or a new one.

        A key's id is a digest of engine and key, so that the journal itself holds what
        was enqueued under it: no second place that could disagree.
        """
        if work.idempotency_key is None or work.idempotency_seconds is not None:
            return self._whole(work.work_id or self._parts.ids.work_id())
        text = json.dumps([work.engine, work.idempotency_key])
        return self._whole(f"key-{hashlib.sha256(text.encode()).hexdigest()[:40]}")

    async def _check_same(self, entry: Entry, stands: Entry) -> None:
        """Whether what stands under an id is what was to be enqueued.

        Raises:
            EnqueueConflict: it is something else.
        """
        theirs = await bodies.load_item(self._parts.backend, stands)
        ours = await bodies.load_item(self._parts.backend, entry)
        for name in OF_ONE_KEY:
            if _canonical(getattr(theirs, name)) != _canonical(getattr(ours, name)):
                what = f"work id {stands.work_id!r} already stands"
                if ours.idempotency_key:
                    what = f"idempotency key {ours.idempotency_key!r} already stands for {stands.work_id}"
                raise EnqueueConflict(stands.work_id, f"{what}, with another {name}")

    # --- looking -------------------------------------------------------------

    async def status(self, work_id: str, *, known: WorkView | None = None) -> WorkView:
        """A work item as it stands now.

        Args:
            known: an earlier view of it; what can't have changed since is taken from there and not read.

        Raises:
            WorkNotFound: there is none of that id.
        """
        work_id = self._whole(work_id)
        tail = await self._tail(work_id)
        if known is None:
            item = await bodies.load_item(self._parts.backend, await self._get(work_id, 0))
        else:
            item = known.item
        tail, snapshot = await self._with_snapshot(tail, known)
        return WorkView(item, tail.control, snapshot, await self._parts.backend.index.get(work_id))

    async def _with_snapshot(self, tail: Entry, known: WorkView | None) -> tuple[Entry, Snapshot | None]:
        """A tail and the snapshot that it names; a later tail where the work went on, and kept no other."""
        for _ in range(_SNAPSHOT_TRIES):
            position = tail.control.snapshot_position
            if position is None:
                return tail, None
            if known is not None and known.control.snapshot_position == position:
                return tail, known.snapshot
            try:
                return tail, await self._snapshot_at(await self._get(tail.work_id, position), tail.control)
            except StorageCorrupt:
                after = await self._tail(tail.work_id)
                if after.control.snapshot_position == position:
                    raise
                tail = after
        raise StorageUnavailable(f"work item {tail.work_id!r} moves too fast to be shown", hint="Try again.")

    async def control(self, work_id: str) -> Control:
        """The control state of a work item now: one read, however large its snapshot is.

        Raises:
            WorkNotFound: there is none of that id.
        """
        return (await self._tail(self._whole(work_id))).control

    async def control_after(self, work_id: str, position: int) -> Control | None:
        """The control state of a work item, if its journal goes on after a position; None: it does not.

        For who looks again and again: reads no entry where nothing is new. A journal that has
        expired meanwhile does not go on.
        """
        work_id = self._whole(work_id)
        newer = await self._parts.backend.journal.read(work_id, after=position, limit=1)
        return (await self._tail(work_id)).control if newer else None

    async def explain(self, work_id: str) -> Explanation:
        """Why a work item is where it is, and what happens if its worker dies now.

        Raises:
            WorkNotFound: there is none of that id.
        """
        work_id = self._whole(work_id)
        control = (await self._tail(work_id)).control
        names: Sequence[str] = ()
        if control.state is State.BLOCKED:
            event = (await self._get(work_id, 0)).event
            names = event.resources if isinstance(event, Enqueued) else ()
        row = await self._parts.backend.index.get(work_id)
        return await why(self, work_id, control, row, names, self._parts.clock.now())

    async def resource(self, name: str) -> Sequence[ResourceView]:
        """One resource of this client's namespace; none if nobody holds, limits or waits for it."""
        return await self.resources(name)

    async def backlog(self) -> int:
        """About how many deliveries are visible that nobody took yet."""
        return await self._parts.backend.queue.backlog()

    async def paused(self) -> Sequence[Switch]:
        """Lanes, and engines of any namespace, that are paused."""
        return await Switches(self._parts).read()

    async def engines_seen(self) -> Collection[str] | None:
        """The engines whose work was claimed lately, by the newest entries; None: nothing was, or
        the caller may not read them."""
        try:
            page = await self._parts.backend.journal.feed(None, limit=_SEEN_ENTRIES, newest=True)
        except StorageDenied:
            return None
        seen = {
            entry.control.engine
            for entry in page.entries
            if isinstance(entry.event, Claimed) and entry.at > self._parts.clock.now() - _SEEN_SECONDS
        }
        return seen or None

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        """Work items of this client's namespace that match, in the order of the query; a page."""
        prefix = self._whole(query.id_prefix) if query.id_prefix else None
        within = replace(query, namespace=self._namespace, id_prefix=prefix)
        return await self._parts.backend.index.list(within, cursor=cursor, limit=limit)

    async def find(self, where: Where, *, cursor: str | None = None, limit: int = 50) -> Found:
        """Work items that a filter matches; a page, and how many rows were looked at for it.

        Raises:
            InputError: the cursor is none.
        """
        within = where.within(self._namespace, self._whole)
        return await find(self._parts.backend.index, within, cursor=cursor, limit=limit)

    async def events(self, work_id: str, *, after: int = -1) -> AsyncIterator[Entry]:
        """The journal of one work item, from the entry after `after` to its tail.

        Raises:
            WorkNotFound: there is none of that id.
        """
        work_id = self._whole(work_id)
        await self._tail(work_id)
        while page := await self._parts.backend.journal.read(work_id, after=after, limit=_PAGE):
            for entry in page:
                yield entry
            after = page[-1].position

    async def feed(self, cursor: str | None, *, limit: int = 100, newest: bool = False) -> FeedPage:
        """Entries of all journals of this client's namespace in order; a page.

        See `ports.Journal.feed`. A page may be shorter than what follows it, but is empty only after
        `_FEED_PAGES_MAX` pages of others' entries, or at the end.
        """
        journal = self._parts.backend.journal
        for _ in range(_FEED_PAGES_MAX):
            page = await journal.feed(cursor, limit=limit, newest=newest, namespace=self._namespace)
            ours = [entry for entry in page.entries if feeds(entry.work_id, self._namespace)]
            cursor = page.cursor
            if ours or newest or not page.entries:
                break
        return FeedPage(ours, page.cursor)

    async def history(self, work_id: str) -> Sequence[Version]:
        """The committed versions of a work item, first to last.

        Raises:
            WorkNotFound: there is none of that id.
        """
        return [
            Version(
                version=entry.event.version,
                position=entry.position,
                step=entry.event.step,
                at=entry.at,
                actor=entry.actor,
                duration_seconds=entry.event.duration_seconds,
                is_kept=entry.body is not None,
            )
            async for entry in self.events(work_id)
            if isinstance(entry.event, Committed)
        ]

    async def snapshot(self, work_id: str, version: int) -> Snapshot:
        """The snapshot of one committed version.

        Raises:
            WorkNotFound: there is no such work item.
            InputError: it has no such version.
        """
        work_id = self._whole(work_id)
        await self._tail(work_id)
        entry = await versions.find(self._parts, work_id, version)
        return await self._snapshot_at(entry, entry.control)

    async def _snapshot_at(self, entry: Entry, control: Control) -> Snapshot:
        assert isinstance(entry.event, Committed)
        snapshot = bodies.load_snapshot(
            bodies.Dumped(await bodies.load(self._parts.backend, entry)),
            work_id=entry.work_id,
            engine=control.engine,
            version=entry.event.version,
            engine_version=entry.event.engine_version,
        )
        if control.state == "failed":
            snapshot.failed_at = control.since
        return snapshot

    # --- acting --------------------------------------------------------------

    # --- resources -----------------------------------------------------------

    async def resources(self, resource: str | None = None, *, limit: int = 100) -> Sequence[ResourceView]:
        """Resources of this client's namespace that are held, waited for or limited; or the one named."""
        return await self._parts.backend.claims.show(
            limit=limit, resource=resource, namespace=self._namespace
        )

    async def change_resource(self, resource: str, change: Change, reason: str = "") -> None:
        """Change the limits of a resource while it is in use; what is held stays held.

        Args:
            reason: why; kept with who and when, see `deeds`.

        Raises:
            InputError: the name or a number can't be taken.
        """
        check_name(resource, "resource")
        check_change(change)
        await self._record(Operated("limits", resource, reason, deeds.describe(change)))
        await claims.change(self._parts, resource, change, namespace=self._namespace)

    async def evict(self, resource: str, work_id: str, reason: str = "") -> None:
        """Take a resource away from a work item, and with it all else that it holds.

        Args:
            reason: why; kept with who and when, see `deeds`, and in the work's history.

        Raises:
            ConflictError: it does not hold it.
        """
        work_id = self._whole(work_id)
        await self._record(Operated("evict", resource, reason, work_id))
        why = f"{resource} was taken away by {self._actor}{f': {reason}' if reason else ''}"[:500]
        await claims.evict(self._parts, resource, work_id, why, actor=self._actor)


async def views(client: Client, rows: Sequence[IndexRow]) -> Sequence[WorkView]:
    """Work items that a list has shown, as they stand now; those that are gone since are left out."""
    found = []
    for row in rows:
        with suppress(WorkNotFound):
            found.append(await client.status(row.work_id))
    return found


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
