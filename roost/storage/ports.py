"""The ports: what Roost needs of a storage backend, each a small `Protocol`.

The docstrings are the contract; `roost.testing.contract` checks every line of it on
every backend. All instants are UTC epoch seconds, and `now` is always given by the
caller: a backend has no clock of its own, save for how long `receive` waits.

Expected outcomes are values (an entry of somebody else, a refused claim, no message).
Errors are `roost.errors.StorageError` and its children.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from roost.journal.accounts import Account, Balance, Charge
from roost.journal.claims import Acquired, Ask, Call, Owner, Refused, ResourceView
from roost.journal.entries import Entry, IndexRow
from roost.journal.limits import Change
from roost.journal.projection import LaneCount
from roost.journal.values import Amounts
from roost.models import Lane, State
from roost.names import Order
from roost.storage.query import IndexPage, IndexQuery

TRIM_MAX = 1000  # entries that one call deletes
DELIVERY_BATCH_MAX = 10  # Amazon SQS Developer Guide, "Batch actions": 10 messages a call


class Journal(Protocol):
    """The journals of all work items: entries at positions 0, 1, 2, …"""

    async def append(self, entry: Entry, *, with_row: bool = False) -> Entry:
        """Append at `entry.position` if that position is still free; atomic, durable.

        Args:
            with_row: write the index row (`projection.project`) in the same transaction, so
                that whoever dies next, a sweeper finds the work. Always so at position 0.

        Returns:
            The entry that stands at the position afterwards. If its `entry_id` is that of
            `entry`, the append succeeded (now, or at an earlier try whose reply was lost);
            if not, the competitor's entry stands and nothing was written. Where that was
            trimmed, the entry at the tail stands for it; and where the journal is of newer work
            of the same id, since that which `entry` goes on from was deleted.
        """

    async def append_many(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Append entries of different work items, each by itself as `append` does.

        One that loses does not stop the others. Returns what stands, in the same order.
        """

    async def tail(self, work_id: str) -> Entry | None:
        """The entry at the highest position; None if there is no such journal.

        Sees every append that was acknowledged before the call (strongly consistent).
        """

    async def read(
        self, work_id: str, *, after: int = -1, limit: int = 100, newest_first: bool = False
    ) -> Sequence[Entry]:
        """Entries of one journal with a position above `after` (below it, newest first).

        Args:
            after: exclusive; with `newest_first` -1 means "from the tail".
            limit: at most this many come back.
        """

    async def get(self, work_id: str, position: int) -> Entry | None:
        """The entry at one position, strongly consistent; None if it is free."""

    async def feed(
        self, cursor: str | None, *, limit: int = 100, newest: bool = False, namespace: str | None = None
    ) -> FeedPage:
        """Entries of all journals, in the order in which they were appended.

        Args:
            cursor: where an earlier page ended; None starts at the beginning.
            limit: at most this many entries.
            newest: with cursor None, start so that the page ends at the newest entry.
            namespace: of the newest page only the entries that are a namespace's (`names.feeds`),
                so that busier ones don't take their places. A backend may give up on older ones
                after many of others. None: of all, as every other page.

        Entries of one work item come in the order of their positions, none left out but
        what was trimmed.
        """

    async def purge(self, work_id: str, position: int) -> bool:
        """Delete one journal with its index row, if it has ended and its tail is at `position`.

        As `expire` does, for one; and as there a backend may keep a few of the newest. The
        caller sees to it that nothing is owed. What it still holds of resources, since somebody
        died before he gave that up, may go with it; else it is taken away by who asks for them.

        Returns:
            Whether it is gone.
        """

    async def prune(self, work_id: str, positions: Sequence[int]) -> None:
        """Drop the bodies of entries; the entries stay, with all else that they hold.

        Idempotent. What is at none of the positions is not touched, nor is position 0, nor what
        was asked for to `keep`.
        """

    async def keep(self, work_id: str, position: int) -> Entry | None:
        """Have the body of an entry stay: from its return on no `prune` drops it, whoever calls that.

        So who goes on from an old version need not know whether somebody who lost the lease long
        ago is still about to drop it. Idempotent, and for as long as the journal is there.

        Returns:
            The entry as it stands; None: there is none, or its body is gone.
        """

    async def trim(self, work_id: str, before: int, *, limit: int = TRIM_MAX) -> int:
        """Delete entries at positions above 0 and below `before`, the oldest first.

        Only of a journal without an end (`retention.is_endless`); the caller knows that nothing
        refers to them. No position of them is free after that: an append is refused whenever
        one at a higher position stands. Idempotent; who reads meanwhile may miss some of them.

        Returns:
            How many are gone, at most `limit`.
        """

    async def expire(self, ended_before: float, *, limit: int = 100) -> Sequence[str]:
        """Delete journals of work that ended before an instant, with their index rows.

        Work that has not ended is never touched, nor work that is put back to life
        meanwhile, nor what still owes somebody something: whose row is due. A call that dies
        midway leaves the row, so that a next one goes on.
        A backend may keep a few of the newest for its own order's sake.

        Returns:
            The ids of what is gone, at most `limit`; fewer say that there is no more.
        """


class FeedPage(Struct, frozen=True):
    """A page of the feed; `cursor` continues after it, also when it is empty."""

    entries: Sequence[Entry]
    cursor: str


class WorkIndex(Protocol):
    """One row per work item: a projection of its journal's tail.

    It may lag behind the journal; nothing is decided by it but where to look.

    Attributes:
        orders: those in which `list` gives all that matches; `NEWEST` and `OLDEST` are among them,
            and others where a page of them costs no more than the backend can bear.
    """

    orders: frozenset[Order]

    async def put(self, row: IndexRow) -> bool:
        """Write a row, unless a newer one stands, or its work was deleted.

        A row is newer if its `position` is higher. Idempotent. At the same position the
        given row replaces the one that stands. A row above position 0 is written over that of
        the same work alone, which was there since position 0: not where there is none any more,
        nor over that of new work with its id, which has another `created_at`.

        Returns:
            Whether the row given stands now.
        """

    async def get(self, work_id: str) -> IndexRow | None:
        """One row, strongly consistent; None if there is none."""

    async def renew(self, renewals: Sequence[Renewal]) -> Sequence[bool]:
        """Move `lease_until` and `due_at` of running rows forward, each by itself.

        A row is renewed only while its `token` is the one given. Returns, in the same
        order, whether each was.
        """

    async def due(self, now: float, *, limit: int = 100, after: IndexRow | None = None) -> Sequence[IndexRow]:
        """Rows whose `due_at` is at or before `now`, the longest due first.

        Args:
            after: the last row of the page before; rows already passed don't come again.
        """

    async def take_due(self, row: IndexRow, due_at: float | None) -> bool:
        """Set a row's `due_at`, if it still has the `due_at` and position of `row`.

        Compare-and-swap: of several that try with the same `row`, one gets True.
        """

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        """Rows that match, in the order of the query, which is one of `orders`.

        Rows that are alike in what an order goes by come in one of the backend's own, the same
        on all pages. In the order `DUE` come those alone that have a `due_at`.
        """

    async def counts(self, namespace: str = "") -> dict[State, int]:
        """How many work items of a namespace are in each state; states with none may be left out."""

    async def lane_counts(self, namespace: str = "") -> Sequence[LaneCount]:
        """How many are in each state and lane, and how old; one pass, those with none left out."""


class Renewal(Struct, frozen=True):
    """What one heartbeat says of one lease; `progress` is None or (fraction, text)."""

    work_id: str
    token: int
    lease_until: float
    due_at: float
    progress: tuple[float, str] | None = None


class ResourceClaims(Protocol):
    """Who holds which resource. A claim has no clock: it is as alive as its owner's lease
    (scope `step`), or as its owner (scope `work`).

    The rules are those of `roost.journal.claims`; a backend reads what they ask for, and
    stores what they decide, atomically. A resource is of the namespace of the work item that
    asks for it: work of two namespaces may use one name and never meets.
    """

    async def acquire(self, ask: Ask, *, now: float, overtake_before: float) -> Acquired | Refused:
        """Take all the resources, or none and stand in line for them; atomic.

        A claim of the same work item under an older token is replaced; one under a newer
        token refuses the call (as `Refused` with that owner). Room that there is goes to the
        first in line; a waiter that was called before `overtake_before` and has not come may
        be overtaken. Idempotent: who holds them already gets `Acquired`, and a start that was
        counted is not counted again. On success the work item leaves all lines.
        """

    async def release(self, owner: Owner, *, now: float) -> Sequence[Call]:
        """Give up what the work item holds under the token of `owner` or an older one.

        Claims of scope `work` only if `owner` is of that scope. Nothing, here and in `leave`, if
        the owner's `created_at` says that other work has its id by now, where a backend sees that.

        Returns:
            Whom to wake: as many of the first in line of each resource that came free as
            there is room for, marked as called. Idempotent: an owner that holds nothing gives
            an empty list.
        """

    async def leave(self, owner: Owner, *, now: float) -> Sequence[Call]:
        """What a work item that ended has no more use for: its claims under the token of
        `owner` or an older one, whatever their scope, and its places in all lines.

        Returns:
            Whom to wake, marked as called: those for whom there is room now.
        """

    async def is_called(self, work_id: str, *, now: float) -> bool:
        """Whether a work item in line may come by now: a call reached it since it was refused."""

    async def change(
        self, resource: str, change: Change, *, now: float, namespace: str = ""
    ) -> Sequence[Call]:
        """Change the limits of a resource; what is held stays held.

        Returns:
            Whom to wake, marked as called: those for whom there is room now.
        """

    async def show(
        self, *, limit: int = 100, resource: str | None = None, namespace: str = ""
    ) -> Sequence[ResourceView]:
        """Resources of a namespace that are held, waited for or limited, by name; or the one named."""


class Accounts(Protocol):
    """What families of work, and namespaces in a day, have used up (`roost.journal.accounts`).

    A family's account is kept as long as the work item that it is named after; of a namespace's
    days the last `DAYS_KEPT`. Amounts are rounded to nine digits after the point.
    """

    async def charge(self, charge: Charge) -> Sequence[Balance]:
        """Add amounts to all the accounts of a charge; atomic, durable, and once.

        Of each work item it is known up to which position it was charged; a charge at that
        position or before adds nothing. (They come in order: nobody appends on top of an entry
        before what follows from it is done, or still known as undone.) A charge to a day that
        is not kept any more is nobody's.

        Returns:
            How these accounts stand, in the order of the charge; with all charges that were
            acknowledged before this call.
        """

    async def show(self, accounts: Sequence[Account]) -> Sequence[Balance]:
        """How accounts stand, in the order given; strongly consistent. Unknown ones are empty."""

    async def allow(self, account: Account, limits: Amounts, *, order: float) -> None:
        """Set the limits of an account as a whole; idempotent. The highest `order` of several stands."""


class Message(Struct, frozen=True, gc=False):
    """What a delivery carries: ids only.

    `cause` is the position of the entry that had it sent; a work item whose later
    entries sent deliveries of their own has no use for it any more.
    """

    work_id: str
    cause: int
    lane: Lane = Lane.NORMAL
    delay_seconds: float = 0.0


class Delivery(Struct, frozen=True):
    """A message in a worker's hands until its visibility timeout ends.

    Attributes:
        receipt: names this receipt of the message; a later receipt has another.
        received_count: how often the message was received; decides nothing.
    """

    work_id: str
    cause: int
    lane: Lane
    receipt: str
    received_count: int = 1


class DeadLetter(Struct, frozen=True):
    """A message that the queue set aside.

    Attributes:
        work_id: the work item that it names; empty: it names none.
        reason: why it is there, where that is known.
        text: what it says, cut.
        receipt: names it to `end_dead_letter`.
    """

    work_id: str
    cause: int
    lane: Lane
    reason: str
    text: str
    receipt: str


class WorkQueue(Protocol):
    """Deliveries with a visibility timeout; at least once, in no promised order.

    A delivery is a hint to look at a work item. Losing or repeating one loses nothing.
    """

    async def send(self, messages: Sequence[Message]) -> None:
        """Send messages; each becomes visible after its delay. Durable on return.

        A delay is at most `MESSAGE_DELAY_MAX_SECONDS`; what is later is the due index's.
        """

    async def receive(
        self, limit: int, *, visibility_seconds: float, wait_seconds: float, lanes: Sequence[Lane]
    ) -> Sequence[Delivery]:
        """Take up to `limit` visible messages, waiting up to `wait_seconds` for the first.

        Returns as soon as there is one. Each stays invisible to others for
        `visibility_seconds`, or until it is acknowledged, put back or extended.

        Args:
            lanes: in the order in which they are looked at.
        """

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Delete messages for good. A receipt that is not current any more: nothing happens."""

    async def extend(self, deliveries: Sequence[Delivery], visibility_seconds: float) -> Sequence[bool]:
        """Keep deliveries for `visibility_seconds` from now.

        Returns, in the same order, whether each was still in hand under its receipt.
        """

    async def put_back(self, delivery: Delivery, delay_seconds: float) -> None:
        """Make a message visible again after `delay_seconds`. A stale receipt: nothing."""

    async def reject(self, delivery: Delivery, reason: str) -> None:
        """Move a message that is not ours out of the way, to the dead-letter queue."""

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        """Messages that were set aside, up to `limit`, in no promised order.

        A backend that can't look without taking hides them for a minute from the next look.
        """

    async def end_dead_letter(self, letter: DeadLetter, *, is_sent_again: bool) -> None:
        """Take a message out of the dead-letter queue: for good, or to send it once more.

        One that names no work item can't be sent; it is dropped. Ended already: nothing.
        The letter is one of `dead_letters`, as it was given: what a queue can't tell by a receipt,
        it takes from there.
        """

    async def backlog(self) -> int:
        """About how many messages are visible and not yet taken, over all lanes."""


class ArtifactStore(Protocol):
    """Blobs named by the SHA-256 of their content. Writing one twice is one blob."""

    async def put(self, chunks: AsyncIterator[bytes] | Iterable[bytes]) -> Blob:
        """Store a blob; durable on return, whole or not at all."""

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """The blob's bytes in chunks, verified.

        Raises:
            ArtifactNotFound: before the first chunk, if there is no such blob.
            StorageCorrupt: before the last chunk is given, if the content does not have
                that digest; a reader that got all chunks got the true bytes.
        """

    async def size(self, digest: str) -> int | None:
        """Length in bytes, or None if there is no such blob."""


class Blob(Struct, frozen=True):
    """What `put` stored: `digest` is 64 hexadecimal digits."""

    digest: str
    size_bytes: int


class Backend(Protocol):
    """The ports, opened together.

    Attributes:
        url: where it is, without secrets; for people.
        projects_on_append: the append's transaction writes the index row, so the core need not.
        inline_max_bytes: stored bodies above this are spilled to the artifact store.
        sweep_seconds: mean time between two sweeps of a worker that suits its costs.
    """

    url: str
    projects_on_append: bool
    inline_max_bytes: int
    sweep_seconds: float

    @property
    def journal(self) -> Journal:
        """The journals."""

    @property
    def index(self) -> WorkIndex:
        """The work index."""

    @property
    def claims(self) -> ResourceClaims:
        """The resource claims."""

    @property
    def accounts(self) -> Accounts:
        """The accounts."""

    @property
    def queue(self) -> WorkQueue:
        """The work queue."""

    @property
    def artifacts(self) -> ArtifactStore:
        """The artifact store."""

    async def check(self) -> Sequence[Finding]:
        """Look at every part of the backend, as `roost doctor` shows it; raises for nothing it finds."""

    async def close(self) -> None:
        """Let go of everything; idempotent."""


@runtime_checkable
class TellsFaults(Protocol):
    """What a backend may have beside: it tells of faults that passed, as throttling that was waited out."""

    def tell_faults(self, told: Callable[[str], None]) -> None:
        """From now on call `told`, which neither waits nor raises, with the code of each such fault."""


class Finding(Struct, frozen=True):
    """One line of `roost doctor`."""

    name: str
    is_ok: bool
    detail: str
    hint: str = ""
