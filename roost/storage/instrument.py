"""Wraps any backend: a hook runs before and after each call.

Faults and crash points are hooks; no backend knows of them. The hook is given the call's
name (`append`, `send`, `acquire` …) and, for appends, the kind of the entry; it may raise,
wait, or end the process. Counting and timing are a watch, which sees what was asked and
what came of it, and changes nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Literal, Protocol, TypeVar

from roost.errors import RoostError, SettingsError
from roost.journal.accounts import Account, Balance, Charge
from roost.journal.claims import Acquired, Ask, Call, Owner, Refused, ResourceView
from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Kind
from roost.journal.limits import Change
from roost.journal.projection import LaneCount
from roost.journal.values import Amounts
from roost.models import Lane, State
from roost.storage.ports import (
    TRIM_MAX,
    Accounts,
    ArtifactStore,
    Backend,
    Blob,
    DeadLetter,
    Delivery,
    FeedPage,
    Finding,
    Journal,
    Message,
    Renewal,
    ResourceClaims,
    TellsFaults,
    WorkIndex,
    WorkQueue,
)
from roost.storage.query import IndexPage, IndexQuery

When = Literal["before", "after"]
Hook = Callable[[When, str, str], Awaitable[None]]
"""Called with when, the call's name, and a detail (an entry's kind, or "")."""

T = TypeVar("T")


class Watch(Protocol):
    """Sees each call as it ends; it neither waits nor raises."""

    def began(self) -> float:
        """A reading of the watch's own clock."""

    def ended(
        self, call: str, detail: str, began: float, subject: object, result: object, error: Exception | None
    ) -> None:
        """A call is over.

        Args:
            call: its name.
            detail: the kind of an appended entry, or "".
            began: what `began` gave.
            subject: what was stored or sent (entries, a row, an ask, messages); None for other calls.
            result: what it gave; the bytes of one chunk, for a read of an artifact.
            error: what it raised, if it did.
        """

    def met(self, fault: str) -> None:
        """A call met a passing fault and is made again; `fault` is its code."""


class _Calls:
    def __init__(self, hook: Hook | None, watch: Watch | None = None) -> None:
        self._hook = hook
        self._watch = watch

    async def _call(self, name: str, call: Awaitable[T], detail: str = "", subject: object = None) -> T:
        if self._hook is None:
            return await self._watched(name, call, detail, subject)
        try:
            await self._hook("before", name, detail)
        except BaseException:  # a crash, a cancellation, a fault: whatever it is, it goes on
            getattr(call, "close", lambda: None)()  # a call that never starts must not warn
            raise
        result = await self._watched(name, call, detail, subject)
        await self._hook("after", name, detail)
        return result

    async def _watched(self, name: str, call: Awaitable[T], detail: str, subject: object) -> T:
        if self._watch is None:
            return await call
        began = self._watch.began()
        try:
            result = await call
        except RoostError as error:
            self._watch.ended(name, detail, began, subject, None, error)
            raise
        self._watch.ended(name, detail, began, subject, result, None)
        return result


class InstrumentedJournal(_Calls):
    """A `Journal` with a hook."""

    def __init__(self, inner: Journal, hook: Hook | None, watch: Watch | None = None) -> None:
        super().__init__(hook, watch)
        self._inner = inner

    async def append(self, entry: Entry, *, with_row: bool = False) -> Entry:
        return await self._call(
            "append", self._inner.append(entry, with_row=with_row), entry.event.kind.value, entry
        )

    async def append_many(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        kind = entries[0].event.kind.value if entries else ""
        return await self._call("append_many", self._inner.append_many(entries), kind, entries)

    async def tail(self, work_id: str) -> Entry | None:
        return await self._call("tail", self._inner.tail(work_id))

    async def read(
        self, work_id: str, *, after: int = -1, limit: int = 100, newest_first: bool = False
    ) -> Sequence[Entry]:
        return await self._call(
            "read", self._inner.read(work_id, after=after, limit=limit, newest_first=newest_first)
        )

    async def get(self, work_id: str, position: int) -> Entry | None:
        return await self._call("get", self._inner.get(work_id, position))

    async def feed(
        self, cursor: str | None, *, limit: int = 100, newest: bool = False, namespace: str | None = None
    ) -> FeedPage:
        page = self._inner.feed(cursor, limit=limit, newest=newest, namespace=namespace)
        return await self._call("feed", page)

    async def purge(self, work_id: str, position: int) -> bool:
        return await self._call("purge", self._inner.purge(work_id, position))

    async def prune(self, work_id: str, positions: Sequence[int]) -> None:
        await self._call("prune", self._inner.prune(work_id, positions))

    async def keep(self, work_id: str, position: int) -> Entry | None:
        return await self._call("keep", self._inner.keep(work_id, position))

    async def trim(self, work_id: str, before: int, *, limit: int = TRIM_MAX) -> int:
        return await self._call("trim", self._inner.trim(work_id, before, limit=limit))

    async def expire(self, ended_before: float, *, limit: int = 100) -> Sequence[str]:
        return await self._call("expire", self._inner.expire(ended_before, limit=limit))


class InstrumentedIndex(_Calls):
    """A `WorkIndex` with a hook."""

    def __init__(self, inner: WorkIndex, hook: Hook | None, watch: Watch | None = None) -> None:
        super().__init__(hook, watch)
        self._inner = inner
        self.orders = inner.orders

    async def put(self, row: IndexRow) -> bool:
        return await self._call("index_put", self._inner.put(row), subject=row)

    async def get(self, work_id: str) -> IndexRow | None:
        return await self._call("index_get", self._inner.get(work_id))

    async def renew(self, renewals: Sequence[Renewal]) -> Sequence[bool]:
        return await self._call("renew", self._inner.renew(renewals))

    async def due(self, now: float, *, limit: int = 100, after: IndexRow | None = None) -> Sequence[IndexRow]:
        return await self._call("due", self._inner.due(now, limit=limit, after=after))

    async def take_due(self, row: IndexRow, due_at: float | None) -> bool:
        return await self._call("take_due", self._inner.take_due(row, due_at))

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        return await self._call("list", self._inner.list(query, cursor=cursor, limit=limit))

    async def counts(self, namespace: str = "") -> dict[State, int]:
        return await self._call("counts", self._inner.counts(namespace))

    async def lane_counts(self, namespace: str = "") -> Sequence[LaneCount]:
        return await self._call("lane_counts", self._inner.lane_counts(namespace))


class InstrumentedClaims(_Calls):
    """`ResourceClaims` with a hook."""

    def __init__(self, inner: ResourceClaims, hook: Hook | None, watch: Watch | None = None) -> None:
        super().__init__(hook, watch)
        self._inner = inner

    async def acquire(self, ask: Ask, *, now: float, overtake_before: float) -> Acquired | Refused:
        call = self._inner.acquire(ask, now=now, overtake_before=overtake_before)
        return await self._call("acquire", call, subject=ask)

    async def release(self, owner: Owner, *, now: float) -> Sequence[Call]:
        return await self._call("release", self._inner.release(owner, now=now))

    async def leave(self, owner: Owner, *, now: float) -> Sequence[Call]:
        return await self._call("leave", self._inner.leave(owner, now=now))

    async def is_called(self, work_id: str, *, now: float) -> bool:
        return await self._call("is_called", self._inner.is_called(work_id, now=now))

    async def change(
        self, resource: str, change: Change, *, now: float, namespace: str = ""
    ) -> Sequence[Call]:
        call = self._inner.change(resource, change, now=now, namespace=namespace)
        return await self._call("change", call)

    async def show(
        self, *, limit: int = 100, resource: str | None = None, namespace: str = ""
    ) -> Sequence[ResourceView]:
        return await self._call("show", self._inner.show(limit=limit, resource=resource, namespace=namespace))


class InstrumentedAccounts(_Calls):
    """`Accounts` with a hook."""

    def __init__(self, inner: Accounts, hook: Hook | None, watch: Watch | None = None) -> None:
        super().__init__(hook, watch)
        self._inner = inner

    async def charge(self, charge: Charge) -> Sequence[Balance]:
        return await self._call("charge", self._inner.charge(charge))

    async def show(self, accounts: Sequence[Account]) -> Sequence[Balance]:
        return await self._call("balances", self._inner.show(accounts))

    async def allow(self, account: Account, limits: Amounts, *, order: float) -> None:
        await self._call("allow", self._inner.allow(account, limits, order=order))


class InstrumentedQueue(_Calls):
    """A `WorkQueue` with a hook."""

    def __init__(self, inner: WorkQueue, hook: Hook | None, watch: Watch | None = None) -> None:
        super().__init__(hook, watch)
        self._inner = inner

    async def send(self, messages: Sequence[Message]) -> None:
        await self._call("send", self._inner.send(messages), subject=messages)

    async def receive(
        self, limit: int, *, visibility_seconds: float, wait_seconds: float, lanes: Sequence[Lane]
    ) -> Sequence[Delivery]:
        return await self._call(
            "receive",
            self._inner.receive(
                limit, visibility_seconds=visibility_seconds, wait_seconds=wait_seconds, lanes=lanes
            ),
        )

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        await self._call("acknowledge", self._inner.acknowledge(deliveries))

    async def extend(self, deliveries: Sequence[Delivery], visibility_seconds: float) -> Sequence[bool]:
        return await self._call("extend", self._inner.extend(deliveries, visibility_seconds))

    async def put_back(self, delivery: Delivery, delay_seconds: float) -> None:
        await self._call("put_back", self._inner.put_back(delivery, delay_seconds))

    async def reject(self, delivery: Delivery, reason: str) -> None:
        await self._call("reject", self._inner.reject(delivery, reason))

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        return await self._call("dead_letters", self._inner.dead_letters(limit))

    async def end_dead_letter(self, letter: DeadLetter, *, is_sent_again: bool) -> None:
        call = self._inner.end_dead_letter(letter, is_sent_again=is_sent_again)
        await self._call("end_dead_letter", call)

    async def backlog(self) -> int:
        return await self._call("backlog", self._inner.backlog())


class InstrumentedArtifacts(_Calls):
    """An `ArtifactStore` with a hook."""

    def __init__(self, inner: ArtifactStore, hook: Hook | None, watch: Watch | None = None) -> None:
        super().__init__(hook, watch)
        self._inner = inner

    async def put(self, chunks: AsyncIterator[bytes] | Iterable[bytes]) -> Blob:
        return await self._call("artifact_put", self._inner.put(chunks))

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        if self._hook is not None:
            await self._hook("before", "artifact_read", "")
        async for chunk in self._inner.read(digest):
            if self._watch is not None:
                self._watch.ended("artifact_read", "", self._watch.began(), None, chunk, None)
            yield chunk
        if self._hook is not None:
            await self._hook("after", "artifact_read", "")

    async def size(self, digest: str) -> int | None:
        return await self._call("artifact_size", self._inner.size(digest))


class InstrumentedBackend:
    """A `Backend` whose every port has the hook, or the watch, or both."""

    def __init__(self, inner: Backend, hook: Hook | None = None, watch: Watch | None = None) -> None:
        self._inner = inner
        self.url = inner.url
        self.projects_on_append = inner.projects_on_append
        self.inline_max_bytes = inner.inline_max_bytes
        self.sweep_seconds = inner.sweep_seconds
        self.journal: Journal = InstrumentedJournal(inner.journal, hook, watch)
        self.index: WorkIndex = InstrumentedIndex(inner.index, hook, watch)
        self.claims: ResourceClaims = InstrumentedClaims(inner.claims, hook, watch)
        self.accounts: Accounts = InstrumentedAccounts(inner.accounts, hook, watch)
        self.queue: WorkQueue = InstrumentedQueue(inner.queue, hook, watch)
        self.artifacts: ArtifactStore = InstrumentedArtifacts(inner.artifacts, hook, watch)
        if watch is not None:
            self.tell_faults(watch.met)

    def tell_faults(self, told: Callable[[str], None]) -> None:
        """See `ports.TellsFaults`."""
        if isinstance(self._inner, TellsFaults):
            self._inner.tell_faults(told)

    async def check(self) -> Sequence[Finding]:
        return await self._inner.check()

    async def close(self) -> None:
        await self._inner.close()


CRASH_CALLS = frozenset(
    {
        "append",
        "append_many",
        "index_put",
        "renew",
        "take_due",
        "expire",
        "purge",
        "prune",
        "keep",
        "trim",
        "acquire",
        "release",
        "leave",
        "is_called",
        "change",
        "charge",
        "allow",
        "send",
        "receive",
        "acknowledge",
        "put_back",
        "artifact_put",
    }
)
"""Calls that a crash point can name; an append also by kind: `after-committed:2`."""


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0


def crash_hook(text: str) -> Hook:
    """A hook that ends this process, as SIGKILL does, at a crash point.

    Args:
        text: `before-NAME` or `after-NAME`, with `:N` for the Nth time in this process.
            NAME is one of `CRASH_CALLS`, or the kind of an appended entry.

    Raises:
        SettingsError: no such crash point.
    """
    point, _, count = text.partition(":")
    when, _, name = point.partition("-")
    kinds = {kind.value for kind in Kind}
    if when not in ("before", "after") or name not in CRASH_CALLS | kinds or not _is_count(count or "1"):
        raise SettingsError(
            f"ROOST_CRASH_AT: no crash point {text!r}",
            hint="Write before-NAME:N or after-NAME:N. Names: " + ", ".join(sorted(CRASH_CALLS | kinds)),
        )
    left = int(count or "1")

    async def hook(at: When, call: str, detail: str) -> None:
        nonlocal left
        if at == when and name in (call, detail):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook
