"""What pages and API read, with a bound on each read and one answer for all who ask at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roost import spent
from roost.clock import Clock
from roost.console.shared import Shared
from roost.core import bodies
from roost.core.client import Client, WorkView
from roost.core.step_log import fingerprint
from roost.core.where import Where
from roost.errors import InputError, StorageDenied, WorkNotFound
from roost.journal.accounts import Balance
from roost.journal.claims import ResourceView
from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Committed, Switch
from roost.models import Snapshot, State
from roost.names import Order
from roost.storage.ports import Backend
from roost.storage.query import SORTS, IndexQuery

LIST_SECONDS = 1.0  # how long a page of rows is good for all who ask
COUNT_SECONDS = 2.0
COST_SECONDS = 10.0
SORT_COST_FACTOR = 10.0  # lists that are sorted anew take a tenth of the time, however many look
COUNT_COST_FACTOR = 30.0  # counts that take a second are good for half a minute
SCAN_PAGE = 200
FAILED_MAX = 1000  # failed work that is grouped
RUNNING_MAX = 1000
RESOURCES_MAX = 200
PARENTS_MAX = 10
CHILDREN_MAX = 100
JOURNAL_MAX = 33


@dataclass(frozen=True, slots=True)
class Rows:
    """A page of a list.

    Attributes:
        cursor: goes on after it; None: nothing follows.
        looked_at: rows of the index that were looked at for it.
        as_of: when they were read.
        is_cut: older work was not looked at, and so is not sorted in.
    """

    rows: Sequence[IndexRow]
    cursor: str | None
    looked_at: int
    as_of: float
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """How much work is in each state; `as_of` is when it was counted."""

    of: Mapping[State, int]
    as_of: float


@dataclass(frozen=True, slots=True)
class Group:
    """Failed work of one engine and step with like errors.

    Attributes:
        fingerprint: names it, 10 hexadecimal digits.
        sample: the newest error, as it was.
    """

    fingerprint: str
    engine: str
    step: str
    sample: str
    rows: list[IndexRow] = field(default_factory=list)

    @property
    def first_at(self) -> float:
        """When the first of it failed."""
        return min(row.since for row in self.rows)

    @property
    def last_at(self) -> float:
        """When the last of it failed."""
        return max(row.since for row in self.rows)


def group(rows: Sequence[IndexRow]) -> list[Group]:
    """Failed rows by engine, step and like error; the largest group first."""
    groups: dict[str, Group] = {}
    for row in rows:
        key = fingerprint(row.engine, row.step, row.reason)
        if key not in groups:
            groups[key] = Group(key, row.engine, row.step, row.reason)
        groups[key].rows.append(row)
    return sorted(groups.values(), key=lambda found: (-len(found.rows), -found.last_at))


@dataclass(frozen=True, slots=True)
class Held:
    """What one worker has in hand.

    Attributes:
        seen_at: its latest sign of life that the index shows.
    """

    worker_id: str
    rows: Sequence[IndexRow]
    lease_until: float


class Reads:
    """Reads for people and programs; nothing here writes.

    Args:
        client: of the console's namespace.
        namespace: that namespace.
    """

    def __init__(
        self, backend: Backend, client: Client, clock: Clock, shared: Shared, namespace: str
    ) -> None:
        self._backend = backend
        self._client = client
        self._clock = clock
        self._shared = shared
        self._namespace = namespace

    async def counts(self) -> Counts:
        """How much work is in each state."""

        async def ask() -> Counts:
            as_of = self._clock.now()
            found = await self._backend.index.counts(self._namespace)
            return Counts({state: found.get(state, 0) for state in State}, as_of)

        return await self._shared.get("counts", ask, for_seconds=COUNT_SECONDS, cost_factor=COUNT_COST_FACTOR)

    async def rows(self, where: Where, *, cursor: str | None = None, limit: int = 50) -> Rows:
        """A page of the work that a filter matches, in its order."""

        async def ask() -> Rows:
            found = await self._client.find(where, cursor=cursor, limit=limit)
            return Rows(found.rows, found.cursor, found.looked_at, self._clock.now(), found.is_cut)

        key = ("rows", where.text, where.order, cursor, limit)
        factor = SORT_COST_FACTOR if where.order in SORTS else 0.0
        return await self._shared.get(key, ask, for_seconds=LIST_SECONDS, cost_factor=factor)

    async def some(self, state: State, limit: int) -> Sequence[IndexRow]:
        """The newest rows of one state, a bounded number."""

        async def ask() -> Sequence[IndexRow]:
            rows: list[IndexRow] = []
            cursor: str | None = None
            while len(rows) < limit:
                page = await self._client.list(IndexQuery(state=state), cursor=cursor, limit=SCAN_PAGE)
                rows += page.rows
                cursor = page.cursor
                if cursor is None:
                    break
            return rows[:limit]

        return await self._shared.get(
            ("some", state, limit), ask, for_seconds=COUNT_SECONDS, cost_factor=COUNT_COST_FACTOR
        )

    async def oldest(self, state: State) -> IndexRow | None:
        """The work that was enqueued first of what is in a state."""

        async def ask() -> IndexRow | None:
            page = await self._client.list(IndexQuery(state=state, order=Order.OLDEST), limit=1)
            return page.rows[0] if page.rows else None

        return await self._shared.get(
            ("oldest", state), ask, for_seconds=COUNT_SECONDS, cost_factor=COUNT_COST_FACTOR
        )

    async def groups(self) -> list[Group]:
        """Failed work, grouped; of the newest `FAILED_MAX`."""
        return group(await self.some(State.FAILED, FAILED_MAX))

    async def held(self) -> list[Held]:
        """Workers that have work in hand, and which."""
        workers: dict[str, list[IndexRow]] = {}
        for row in await self.some(State.RUNNING, RUNNING_MAX):
            workers.setdefault(row.worker_id or "", []).append(row)
        return [
            Held(name, rows, max(row.lease_until or 0.0 for row in rows))
            for name, rows in sorted(workers.items())
        ]

    async def resources(self) -> Sequence[ResourceView] | None:
        """Resources that are held or waited for; None: the console's rights do not reach the list."""

        async def ask() -> Sequence[ResourceView] | None:
            try:
                return await self._backend.claims.show(limit=RESOURCES_MAX, namespace=self._namespace)
            except StorageDenied:
                return None

        return await self._shared.get("resources", ask, for_seconds=COUNT_SECONDS)

    async def resource(self, name: str) -> Sequence[ResourceView]:
        """One resource, as it is now; none if nobody holds or waits for it."""

        async def ask() -> Sequence[ResourceView]:
            return await self._client.resources(name)

        return await self._shared.get(("resource", name), ask, for_seconds=LIST_SECONDS)

    async def parents(self, work_id: str) -> Sequence[IndexRow]:
        """A work item and those that it descends from, from the top; a bounded number."""
        found: list[IndexRow] = []
        next_id: str | None = work_id
        while next_id is not None and len(found) < PARENTS_MAX:
            row = await self._backend.index.get(next_id)
            if row is None:
                break
            found.append(row)
            next_id = row.parent_id
        return found[::-1]

    async def children(self, work_id: str) -> Sequence[IndexRow]:
        """Children that are still kept, newest first; a bounded number."""

        async def ask() -> Sequence[IndexRow]:
            return (await self._client.list(IndexQuery(parent_id=work_id), limit=CHILDREN_MAX)).rows

        return await self._shared.get(("children", work_id), ask, for_seconds=LIST_SECONDS)

    async def switches(self) -> Sequence[Switch]:
        """Engines and lanes that are paused, and workers that are asked to stop."""

        async def ask() -> Sequence[Switch]:
            return await self._client.switches()

        return await self._shared.get("switches", ask, for_seconds=COUNT_SECONDS)

    async def today(self) -> Balance:
        """What the namespace has used up today, and may."""

        async def ask() -> Balance:
            return (await self._client.balances())[0]

        return await self._shared.get("today", ask, for_seconds=COUNT_SECONDS)

    async def backlog(self) -> int:
        """About how many deliveries nobody took yet."""
        return await self._shared.get("backlog", self._backend.queue.backlog, for_seconds=COUNT_SECONDS)

    # --- one work item -------------------------------------------------------

    async def view(self, work_id: str) -> WorkView:
        """A work item as it stands; never kept, always from its journal.

        Raises:
            WorkNotFound: there is none of that id.
        """
        return await self._client.status(work_id)

    async def cost(self, work_id: str) -> dict[str, Any]:
        """What a work item cost so far, of its first entries; a read for each hundred or two of them."""

        async def ask() -> dict[str, Any]:
            return await spent.cost_of(self._client, self._backend.url, work_id)

        return await self._shared.get(("cost", work_id), ask, for_seconds=COST_SECONDS)

    async def journal(self, work_id: str, *, before: int = -1, limit: int = JOURNAL_MAX) -> Sequence[Entry]:
        """Entries below a position (-1: from the tail), newest first."""
        return await self._backend.journal.read(work_id, after=before, limit=limit, newest_first=True)

    async def snapshot(self, view: WorkView, version: int) -> Snapshot:
        """The snapshot of one version; about log2(entries) reads to find it.

        Raises:
            InputError: there is no such version, or it is not kept any more.
        """
        control = view.control
        if view.snapshot is not None and version == view.snapshot.version:
            return view.snapshot
        entry = await self._commit(view.item.work_id, version, control.position)
        if entry is None:
            raise InputError(f"work item {view.item.work_id!r} has no version {version}")
        if entry.body is None:
            raise InputError(
                f"the snapshot of version {version} is not kept any more",
                hint="The setting keep_versions says how many are.",
            )
        raw = bodies.Dumped(await bodies.load(self._backend, entry))
        return bodies.load_snapshot(raw, work_id=view.item.work_id, engine=control.engine, version=version)

    async def _commit(self, work_id: str, version: int, tail: int) -> Entry | None:
        """The entry that committed a version: versions only rise along a journal."""
        low, high = 0, tail
        while low < high:
            middle = (low + high) // 2
            entry = await self._backend.journal.get(work_id, middle)
            if entry is None:
                raise WorkNotFound(work_id)
            if entry.control.version >= version:
                high = middle
            else:
                low = middle + 1
        found = await self._backend.journal.get(work_id, low)
        is_it = found is not None and isinstance(found.event, Committed) and found.event.version == version
        return found if is_it else None
