"""A complete storage backend: a directory of JSON files, shared by the processes of one host.

It is written to be read, beside `guides/backends.md`, and is right rather than fast: one file lock
around each call, and a list of rows reads them all. `files` has several files change together,
`journal` has the two ports that everything rests on, and here are the others. All of
`roost.testing.contract` is green on it.

    [project.entry-points."roost.backends"]
    folder = "folder_backend:open_url"        # then: storage = "folder:/var/lib/roost"
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from roost.clock import Clock
from roost.journal.accounts import Account, Balance, Charge
from roost.journal.claims import Acquired, Ask, Call, Owner, Refused, ResourceView, calls
from roost.journal.limits import Change
from roost.journal.standing import Standing, acquire, give_up
from roost.journal.values import Amounts
from roost.names import Lane, Scope, namespace_of
from roost.storage import ports, whole
from roost.storage.whole import Inbox, Ledger

from .files import Files, Folder, digest_of, write_whole
from .journal import FolderIndex, FolderJournal

POLL_SECONDS = 0.02  # how often `receive` looks while it waits


class Claimed(msgspec.Struct):
    """A resource as it is stored."""

    namespace: str
    name: str
    standing: Standing


def _claimed(files: Files, namespace: str, name: str) -> Claimed:
    found = files.get(f"claims/{digest_of(f'{namespace}/{name}')}", Claimed)
    return found or Claimed(namespace, name, Standing())


def _keep(files: Files, one: Claimed) -> None:
    name = f"claims/{digest_of(f'{one.namespace}/{one.name}')}"
    files.put(name, None if one.standing.is_empty else one)


class FolderClaims:
    """A file for each resource; `roost.journal.standing` makes of it what the rules say."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def acquire(self, ask: Ask, *, now: float, overtake_before: float) -> Acquired | Refused:
        namespace = namespace_of(ask.owner.work_id)
        with self._folder.transaction() as files:
            asked = {want.resource: _claimed(files, namespace, want.resource) for want in ask.wants}
            standing = {name: one.standing for name, one in asked.items()}
            answer = acquire(standing, ask, now=now, overtake_before=overtake_before)
            for one in asked.values():
                _keep(files, one)
            return answer

    async def release(self, owner: Owner, *, now: float) -> Sequence[Call]:
        return self._give_up(owner, now, leaves=False)

    async def leave(self, owner: Owner, *, now: float) -> Sequence[Call]:
        return self._give_up(replace(owner, scope=Scope.WORK), now, leaves=True)

    def _give_up(self, owner: Owner, now: float, *, leaves: bool) -> Sequence[Call]:
        with self._folder.transaction() as files:
            claimed = files.all("claims", Claimed)
            changed, called = give_up((one.standing for one in claimed), owner, now=now, leaves=leaves)
            for one in claimed:
                if any(one.standing is standing for standing in changed):
                    _keep(files, one)
            return called

    async def is_called(self, work_id: str, *, now: float) -> bool:
        with self._folder.transaction() as files:
            return any(one.standing.is_called(work_id, now) for one in files.all("claims", Claimed))

    async def change(
        self, resource: str, change: Change, *, now: float, namespace: str = ""
    ) -> Sequence[Call]:
        with self._folder.transaction() as files:
            one = _claimed(files, namespace, resource)
            one.standing.change(change)
            called = calls(one.standing.call(now))
            _keep(files, one)
            return called

    async def show(
        self, *, limit: int = 100, resource: str | None = None, namespace: str = ""
    ) -> Sequence[ResourceView]:
        with self._folder.transaction() as files:
            claimed = sorted(files.all("claims", Claimed), key=lambda one: one.name)
        wanted = [one for one in claimed if one.namespace == namespace and resource in (None, one.name)]
        return [one.standing.view(one.name) for one in wanted[:limit]]


class FolderQueue:
    """One file, an `Inbox`."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    async def send(self, messages: Sequence[ports.Message]) -> None:
        with self._folder.one("queue", Inbox) as inbox:
            inbox.send(messages, self._clock.now())

    async def receive(
        self, limit: int, *, visibility_seconds: float, wait_seconds: float, lanes: Sequence[Lane]
    ) -> Sequence[ports.Delivery]:
        end = self._clock.monotonic() + wait_seconds
        while True:
            with self._folder.one("queue", Inbox) as inbox:
                taken = inbox.take(limit, self._clock.now(), visibility_seconds, lanes)
            if taken or self._clock.monotonic() >= end:
                return taken
            await asyncio.sleep(POLL_SECONDS)

    async def acknowledge(self, deliveries: Sequence[ports.Delivery]) -> None:
        with self._folder.one("queue", Inbox) as inbox:
            inbox.acknowledge(deliveries)

    async def extend(self, deliveries: Sequence[ports.Delivery], visibility_seconds: float) -> Sequence[bool]:
        with self._folder.one("queue", Inbox) as inbox:
            return inbox.extend(deliveries, self._clock.now() + visibility_seconds)

    async def put_back(self, delivery: ports.Delivery, delay_seconds: float) -> None:
        with self._folder.one("queue", Inbox) as inbox:
            inbox.put_back(delivery, self._clock.now() + delay_seconds)

    async def reject(self, delivery: ports.Delivery, reason: str) -> None:
        with self._folder.one("queue", Inbox) as inbox:
            inbox.reject(delivery, reason)

    async def dead_letters(self, limit: int) -> Sequence[ports.DeadLetter]:
        with self._folder.one("queue", Inbox) as inbox:
            return inbox.dead_letters(limit)

    async def end_dead_letter(self, letter: ports.DeadLetter, *, is_sent_again: bool) -> None:
        with self._folder.one("queue", Inbox) as inbox:
            inbox.end_dead_letter(letter, self._clock.now(), is_sent_again=is_sent_again)

    async def backlog(self) -> int:
        with self._folder.one("queue", Inbox) as inbox:
            return inbox.backlog(self._clock.now())


class FolderAccounts:
    """One file, a `Ledger`."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def charge(self, charge: Charge) -> Sequence[Balance]:
        with self._folder.one("accounts", Ledger) as ledger:
            return ledger.charge(charge)

    async def show(self, accounts: Sequence[Account]) -> Sequence[Balance]:
        with self._folder.one("accounts", Ledger) as ledger:
            return ledger.show(accounts)

    async def allow(self, account: Account, limits: Amounts, *, order: float) -> None:
        with self._folder.one("accounts", Ledger) as ledger:
            ledger.allow(account, limits, order)


class FolderArtifacts:
    """A file for each blob, named by its digest."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, chunks: AsyncIterator[bytes] | Iterable[bytes]) -> ports.Blob:
        content = await whole.gathered(chunks)
        digest = whole.digest_of(content)
        write_whole(self._root / digest, content)
        return ports.Blob(digest, len(content))

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        is_there = await self.size(digest) is not None
        for chunk in whole.verified(digest, (self._root / digest).read_bytes() if is_there else None):
            yield chunk

    async def size(self, digest: str) -> int | None:
        path = self._root / digest
        is_digest = len(digest) == 64 and digest.isalnum()  # never a path
        return path.stat().st_size if is_digest and path.is_file() else None


class FolderBackend:
    """All ports on one folder.

    Args:
        root: made if it is not there.
        clock: decides when messages are visible.
    """

    projects_on_append = False
    inline_max_bytes = 1 << 20
    sweep_seconds = 5.0

    def __init__(self, root: Path, clock: Clock) -> None:
        folder = Folder(root)
        self.url = f"folder:{root}"
        self.root = root
        self.journal = FolderJournal(folder)
        self.index = FolderIndex(folder)
        self.claims = FolderClaims(folder)
        self.accounts = FolderAccounts(folder)
        self.queue = FolderQueue(folder, clock)
        self.artifacts = FolderArtifacts(root / "artifacts")

    async def check(self) -> Sequence[ports.Finding]:
        is_writable = os.access(self.root, os.W_OK)
        return [
            ports.Finding("folder", is_writable, str(self.root), "" if is_writable else "Make it writable.")
        ]

    async def close(self) -> None:
        """Nothing is held between two calls."""


async def open_url(url: str, settings: object, clock: Clock) -> FolderBackend:
    """The entry point of scheme `folder`."""
    return FolderBackend(Path(url.partition(":")[2]).expanduser(), clock)
