"""The contract of `ports.Journal`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from roost.journal.entries import Body, Encoding, Entry
from roost.journal.events import (
    Claimed,
    Committed,
    Paused,
    Retried,
    Signaled,
)
from roost.journal.projection import project
from roost.journal.values import Parent, Turn, Wait
from roost.models import Lane
from roost.storage.ports import Backend, FeedPage, Journal
from roost.storage.query import IndexQuery
from roost.testing.contract.harness import AT, BackendHarness, Contract, append_all, first, follow
from roost.testing.contract.samples import chain, every_kind, of_lines

_RIVALS = 20


class JournalContract(Contract):
    """Entries at positions 0, 1, 2, …; one wins each."""

    # --- append --------------------------------------------------------------

    async def test_append_at_a_free_position_wins(self, backend: Backend) -> None:
        entry = first("w")
        assert await backend.journal.append(entry) == entry
        assert await backend.journal.tail("w") == entry

    async def test_a_taken_position_gives_the_entry_that_stands_and_writes_nothing(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entries = chain("w", 3)
        await append_all(backend, entries)
        await harness.settle()
        before = await backend.index.get("w"), await backend.journal.feed(None)
        rival = follow(entries[0], Claimed("rival", AT + 99), by="rival", body=Body(Encoding.JSON, b"9"))
        assert await backend.journal.append(rival, with_row=True) == entries[1]
        assert await backend.journal.read("w") == entries
        assert (await backend.index.get("w"), await backend.journal.feed(None)) == before

    async def test_a_taken_position_0_gives_the_entry_that_stands_and_leaves_the_row(
        self, backend: Backend
    ) -> None:
        entries = chain("w", 2)
        await append_all(backend, entries)
        await backend.index.put(project(entries[1]))
        rival = first("w", by="rival", engine="other", body=b'{"other":true}')
        assert await backend.journal.append(rival) == entries[0]
        assert await backend.index.get("w") == project(entries[1])

    async def test_the_same_entry_appended_twice_wins_twice_and_stands_once(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """A reply was lost: the second try learns that the first one won."""
        entries = chain("w", 3)
        await append_all(backend, [entries[0], entries[0], entries[1], entries[1], entries[2]])
        assert await backend.journal.append(entries[0]) == entries[0]  # also when others came after it
        await harness.settle()
        assert await backend.journal.read("w") == entries
        assert list((await backend.journal.feed(None)).entries) == entries

    async def test_of_many_appends_at_one_position_exactly_one_wins(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        other = await harness.reopen()
        for position, start in enumerate((None, first("w"))):
            rivals = [_rival(start, number) for number in range(_RIVALS)]
            if start is not None:
                start = await backend.journal.tail("w")
                assert start is not None
                rivals = [_rival(start, number) for number in range(_RIVALS)]
            journals = [backend.journal, other.journal] * (_RIVALS // 2)
            stand = await asyncio.gather(
                *(journal.append(entry) for journal, entry in zip(journals, rivals, strict=True))
            )
            assert len({entry.entry_id for entry in stand}) == 1
            assert [entry for entry in rivals if entry.entry_id == stand[0].entry_id] == [stand[0]]
            assert await backend.journal.get("w", position) == stand[0]
            assert await backend.journal.get("w", position + 1) is None

    async def test_an_entry_of_each_kind_reads_back_as_it_was(self, backend: Backend) -> None:
        entries = every_kind()
        await append_all(backend, entries)
        assert await backend.journal.read("w") == entries
        assert [await backend.journal.get("w", entry.position) for entry in entries] == entries

    async def test_a_body_of_the_largest_inline_size_reads_back_as_it_was(self, backend: Backend) -> None:
        content = bytes(range(256)) * (backend.inline_max_bytes // 256)
        entry = replace(first("w"), body=Body(Encoding.ZSTD, content))
        assert await backend.journal.append(entry) == entry
        assert await backend.journal.tail("w") == entry

    async def test_journals_do_not_mix(self, backend: Backend) -> None:
        ids = ("w", "w.1", "w:1", "W", "w-", "w_", "1", "1" * 128)
        for work_id in ids:
            await append_all(backend, chain(work_id, 2))
        for work_id in ids:
            assert await backend.journal.read(work_id) == chain(work_id, 2)

    async def test_what_was_appended_is_there_for_another_process(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entries = chain("w", 3)
        await append_all(backend, entries)
        other = await harness.reopen()
        assert await other.journal.tail("w") == entries[-1]
        assert await other.journal.read("w") == entries

    async def test_journals_of_lines_are_kept_like_those_of_work(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Conversations and idempotency keys: no work, but the same journals."""
        entries = of_lines()
        for entry in entries:
            assert await backend.journal.append(entry, with_row=True) == entry
        rival = replace(entries[1], entry_id="rival")
        assert await backend.journal.append(rival, with_row=True) == entries[1]
        other = await harness.reopen()
        assert await other.journal.read("talk") == entries[:3]
        assert await other.journal.tail("key") == entries[3]
        assert await other.index.get("talk") == project(entries[2])
        assert await other.index.get("key") == project(entries[3])

    # --- the index row -------------------------------------------------------

    async def test_position_0_takes_its_index_row_along(self, backend: Backend) -> None:
        entry = first("w", wake_at=AT + 50, deadline_at=AT + 5000, lane=Lane.LOW)
        await backend.journal.append(entry)
        assert await backend.index.get("w") == project(entry)

    async def test_with_row_takes_the_index_row_along(self, backend: Backend) -> None:
        entries = chain("w", 2)
        await append_all(backend, entries)
        entry = follow(entries[-1], Committed(1, "wait", waits=Wait(("go",))))
        await backend.journal.append(entry, with_row=True)
        assert await backend.index.get("w") == project(entry)
        signal = follow(entry, Signaled("s", "go"), by="client")
        await backend.journal.append(signal, with_row=True)
        assert await backend.index.get("w") == project(signal)

    async def test_without_with_row_the_row_is_written_as_the_backend_declares(
        self, backend: Backend
    ) -> None:
        entries = chain("w", 4)
        for number, entry in enumerate(entries):
            await backend.journal.append(entry)
            shown = entry if backend.projects_on_append or number == 0 else entries[0]
            row = await backend.index.get("w")
            assert row is not None
            # When to look next may lag while a lease is held: a look too early harms nothing.
            assert row == replace(project(shown), due_at=row.due_at)
            assert row.due_at is not None

    # --- append_many ---------------------------------------------------------

    async def test_append_many_appends_each_by_itself(self, backend: Backend) -> None:
        """One that loses does not stop the others; what stands comes in the order given."""
        standing = chain("b", 2)
        await append_all(backend, standing)
        entries = [first(work_id, by="many") for work_id in "abcd"]
        assert await backend.journal.append_many(entries) == [entries[0], standing[0], *entries[2:]]
        assert [await backend.journal.tail(name) for name in "abcd"] == [
            entries[0],
            standing[1],
            *entries[2:],
        ]
        for name, row_of in zip("acd", (entries[0], entries[2], entries[3]), strict=True):
            assert await backend.index.get(name) == project(row_of)

    async def test_append_many_takes_any_positions_and_numbers(self, backend: Backend) -> None:
        assert await backend.journal.append_many([]) == []
        entries = [first(f"w{number:03}") for number in range(120)]
        assert await backend.journal.append_many(entries) == entries
        later = [follow(entry, Claimed("worker", AT + 9)) for entry in entries[:3]]
        mixed = [*later, first("new")]
        assert await backend.journal.append_many(mixed) == mixed

    async def test_append_many_keeps_all_that_is_said_of_new_work(self, backend: Backend) -> None:
        """Entries read back as they were written, and the rows are their projections."""
        entries = [
            first("plain"),
            first("high", lane=Lane.HIGH, priority=7),
            first("later", at=AT + 1.5, wake_at=AT + 60),
            first("hurried", deadline_at=AT + 9, resources=("a", "b")),
            first("keyed", idempotency_key="k", by="somebody"),
            replace(first("spilled"), body=Body(Encoding.ZSTD, b"", digest="0" * 64)),
            replace(first("empty"), body=None),
            first("found", labels=(("team", "a"),), parent=Parent("p", 0, "key"), budget=(("usd", 1.0),)),
        ]
        waiting = [
            first("forked", waits=Wait(("go",))),
            first("behind", turn=Turn("conversation", 3)),
            first("plain too"),
        ]
        assert await backend.journal.append_many(entries) == entries
        assert await backend.journal.append_many(waiting) == waiting
        for entry in entries + waiting:
            assert await backend.journal.get(entry.work_id, 0) == entry
            assert await backend.index.get(entry.work_id) == project(entry)

    async def test_append_many_again_wins_again(self, backend: Backend) -> None:
        entries = [first(work_id) for work_id in "abc"]
        await backend.journal.append_many(entries[:2])
        assert await backend.journal.append_many(entries) == entries

    # --- tail, get, read -----------------------------------------------------

    async def test_tail_sees_every_append_that_was_acknowledged(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        other = await harness.reopen()
        for entry in chain("w", 12):
            await backend.journal.append(entry)
            assert await other.journal.tail("w") == entry
            assert await backend.journal.tail("w") == entry

    async def test_there_is_nothing_of_an_unknown_journal(self, backend: Backend) -> None:
        await append_all(backend, chain("w", 2))
        assert await backend.journal.tail("v") is None
        assert await backend.journal.get("v", 0) is None
        assert await backend.journal.read("v") == []
        assert await backend.journal.read("v", newest_first=True) == []

    async def test_get_gives_one_position_and_none_for_a_free_one(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        other = await harness.reopen()
        entries = chain("w", 3)
        for entry in entries:
            assert await other.journal.get("w", entry.position) is None
            await backend.journal.append(entry)
            assert await other.journal.get("w", entry.position) == entry

    async def test_read_pages_forward_from_after(self, backend: Backend) -> None:
        entries = chain("w", 23)
        await append_all(backend, entries)
        read: list[Entry] = []
        after = -1
        while page := await backend.journal.read("w", after=after, limit=5):
            assert len(page) <= 5
            read += page
            after = page[-1].position
        assert read == entries
        assert await backend.journal.read("w", after=20) == entries[21:]
        assert await backend.journal.read("w", after=22) == []

    async def test_read_pages_backward_newest_first(self, backend: Backend) -> None:
        entries = chain("w", 23)
        await append_all(backend, entries)
        read: list[Entry] = []
        after = -1
        while page := await backend.journal.read("w", after=after, limit=5, newest_first=True):
            assert len(page) <= 5
            read += page
            after = page[-1].position
            if after == 0:
                break
        assert read == entries[::-1]
        assert await backend.journal.read("w", after=2, newest_first=True) == [entries[1], entries[0]]
        assert await backend.journal.read("w", after=0, newest_first=True) == []

    async def test_read_gives_at_most_the_limit(self, backend: Backend) -> None:
        entries = chain("w", 4)
        await append_all(backend, entries)
        assert await backend.journal.read("w", limit=1) == entries[:1]
        assert await backend.journal.read("w", limit=1, newest_first=True) == entries[-1:]

    # --- feed ----------------------------------------------------------------

    async def test_the_feed_of_nothing_has_a_cursor_that_goes_on(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        page = await backend.journal.feed(None)
        newest = await backend.journal.feed(None, newest=True)
        assert (list(page.entries), list(newest.entries)) == ([], [])
        await backend.journal.append(first("w"))
        await harness.settle()
        for cursor in (page.cursor, newest.cursor):
            assert list((await backend.journal.feed(cursor)).entries) == [first("w")]

    async def test_the_feed_has_every_entry_in_the_order_of_the_appends(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        a, b = chain("a", 6), chain("b", 6)
        appended = [entry for pair in zip(a, b, strict=True) for entry in pair]
        await append_all(backend, appended)
        await harness.settle()
        entries = list((await backend.journal.feed(None)).entries)
        if harness.feed_is_global:
            assert entries == appended
        assert [entry for entry in entries if entry.work_id == "a"] == a
        assert [entry for entry in entries if entry.work_id == "b"] == b
        assert len(entries) == len(appended)

    async def test_the_cursor_goes_on_where_the_page_ended(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entries = chain("w", 11)
        await append_all(backend, entries[:7])
        await harness.settle()
        page = await backend.journal.feed(None, limit=4)
        assert list(page.entries) == entries[:4]
        again = await backend.journal.feed(page.cursor, limit=4)
        assert list(again.entries) == entries[4:7]
        empty = await backend.journal.feed(again.cursor)
        assert list(empty.entries) == []
        await append_all(backend, entries[7:])
        await harness.settle()
        for cursor in (again.cursor, empty.cursor):
            assert list((await backend.journal.feed(cursor)).entries) == entries[7:]
        assert list((await backend.journal.feed(page.cursor, limit=4)).entries) == entries[4:8]

    async def test_a_cursor_is_good_in_another_process(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entries = chain("w", 4)
        await append_all(backend, entries)
        await harness.settle()
        page = await backend.journal.feed(None, limit=2)
        other = await harness.reopen()
        assert list((await other.journal.feed(page.cursor)).entries) == entries[2:]

    async def test_the_newest_page_ends_at_the_newest_entry(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entries = chain("w", 9)
        await append_all(backend, entries[:8])
        await harness.settle()
        page = await backend.journal.feed(None, limit=3, newest=True)
        assert list(page.entries) == entries[5:8]
        await append_all(backend, entries[8:])
        await harness.settle()
        assert list((await backend.journal.feed(page.cursor, limit=3)).entries) == entries[8:]
        many = await backend.journal.feed(None, limit=100, newest=True)
        assert list(many.entries) == entries

    @pytest.mark.parametrize("namespace", ["", "quiet"])
    async def test_the_newest_page_of_a_namespace_is_not_taken_up_by_others(
        self, backend: Backend, harness: BackendHarness, namespace: str
    ) -> None:
        """Among them is what operators did there, which has a journal of its own."""
        mark = f"{namespace}/" if namespace else ""
        ours = [*chain(f"{mark}w", 4), first(f"roost-operators/{namespace}:2026-11", at=AT + 50)]
        await append_all(backend, ours)
        for work_id in ("busy/a", "busy/b", "quieter/c", "roost-operators/busy:2026-11"):
            others = [replace(entry, at=entry.at + 100) for entry in chain(work_id, 6)]
            await append_all(backend, others)
            await backend.index.put(project(others[-1]))
        await backend.index.put(project(ours[3]))
        await backend.index.put(project(ours[4]))
        await harness.settle()
        page = await backend.journal.feed(None, limit=3, newest=True, namespace=namespace)
        assert list(page.entries) == ours[2:]
        many = await backend.journal.feed(None, limit=100, newest=True, namespace=namespace)
        assert list(many.entries) == ours
        assert list((await backend.journal.feed(many.cursor)).entries) == []
        new = follow(ours[3], Signaled("s", "go"), at=AT + 200)
        await append_all(backend, [new])
        await harness.settle()
        assert list((await backend.journal.feed(page.cursor)).entries) == [new]

    async def test_the_feed_leaves_none_out_while_others_append(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """A reader that follows its cursor sees each entry once, in the order of positions."""
        other = await harness.reopen()
        journals = {f"w{number}": chain(f"w{number}", 12) for number in range(6)}
        appending = asyncio.gather(
            *(
                _append_slowly((backend.journal, other.journal)[number % 2], entries)
                for number, entries in enumerate(journals.values())
            )
        )
        seen: list[Entry] = []
        cursor: str | None = None
        while not appending.done():
            page = await backend.journal.feed(cursor, limit=5)
            seen, cursor = [*seen, *page.entries], page.cursor
            await asyncio.sleep(0)
        await appending
        await harness.settle()
        while (page := await _page(backend, cursor)).entries:
            seen, cursor = [*seen, *page.entries], page.cursor
        for work_id, entries in journals.items():
            assert [entry for entry in seen if entry.work_id == work_id] == entries
        assert len(seen) == sum(map(len, journals.values()))

    # --- expiry --------------------------------------------------------------

    async def test_work_that_ended_long_ago_expires(self, backend: Backend, harness: BackendHarness) -> None:
        live, old, recent = chain("live", 4), _ended("old", AT + 10), _ended("recent", AT + 100)
        for entries in (live, old, recent, [first("newest")]):
            await append_all(backend, entries)
            for entry in entries[1:]:
                await backend.index.put(project(entry))
        await harness.settle()
        other = await harness.reopen()
        assert await other.journal.expire(AT + 10) == []
        assert await other.journal.expire(AT + 11) == ["old"]
        await harness.settle()
        assert await backend.journal.tail("old") is None
        assert await backend.journal.read("old") == []
        assert await backend.index.get("old") is None
        assert {row.work_id for row in (await backend.index.list(IndexQuery())).rows} == {
            "live",
            "recent",
            "newest",
        }
        assert await backend.journal.read("live") == live
        assert await backend.journal.read("recent") == recent
        assert await backend.journal.expire(AT + 11) == []

    async def test_what_lives_never_expires(self, backend: Backend, harness: BackendHarness) -> None:
        retried = [*_ended("retried", AT), follow(_ended("retried", AT)[-1], Retried("again"), at=AT + 5)]
        asleep = [first("asleep", wake_at=AT + 1e8)]
        for_ever = Committed(1, "asks", waits=Wait(("paid",)))
        waits = [*chain("waits", 2), follow(chain("waits", 2)[-1], for_ever)]
        paused = [first("paused"), follow(first("paused"), Paused("by hand"))]
        others = ([first("queued")], chain("running", 2), [first("newest")])
        for entries in (retried, asleep, waits, paused, *others):
            await append_all(backend, entries)
        for entry in (waits[-1], paused[-1]):  # their rows are never due
            await backend.index.put(project(entry))
        await backend.index.put(project(retried[2]))  # a row that lags says that it has ended
        await harness.settle()
        assert await backend.journal.expire(AT + 1e9) == []
        assert await backend.journal.read("retried") == retried

    async def test_what_owes_somebody_something_does_not_expire(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Its parent, say, has not been told; until then its row is due."""
        entries = _ended("w", AT)
        await append_all(backend, [*entries, first("newest")])
        await backend.index.put(replace(project(entries[-1]), due_at=AT + 5))
        await harness.settle()
        assert await backend.journal.expire(AT + 1) == []
        assert await backend.journal.read("w") == entries
        await backend.index.put(project(entries[-1]))
        await harness.settle()
        assert await backend.journal.expire(AT + 1) == ["w"]

    async def test_expiry_goes_in_pages(self, backend: Backend, harness: BackendHarness) -> None:
        for name in "abcde":
            await append_all(backend, _ended(name, AT))
            await backend.index.put(project(_ended(name, AT)[-1]))
        await append_all(backend, [first("newest")])
        await harness.settle()
        pages = []
        while page := await backend.journal.expire(AT + 1, limit=2):
            pages.append(page)
            await harness.settle()
        assert sorted(work_id for page in pages for work_id in page) == list("abcde")
        assert all(len(page) <= 2 for page in pages)

    async def test_an_id_that_expired_is_free_again(self, backend: Backend, harness: BackendHarness) -> None:
        await append_all(backend, _ended("w", AT))
        await backend.index.put(project(_ended("w", AT)[-1]))
        await append_all(backend, [first("newest")])
        await harness.settle()
        assert await backend.journal.expire(AT + 1) == ["w"]
        again = [first("w", by="other", at=AT + 50), *chain("w", 2)[1:]]
        await append_all(backend, again[:1])
        assert await backend.journal.read("w") == again[:1]


def _ended(work_id: str, at: float) -> list[Entry]:
    """A journal of work that was done at an instant."""
    begun = first(work_id, at=AT - 100)
    held = follow(begun, Claimed("worker", AT), at=AT - 50)
    return [begun, held, follow(held, Committed(1, "done", is_finished=True), at=at)]


def _rival(before: Entry | None, number: int) -> Entry:
    if before is None:
        return first("w", by=f"rival-{number}", engine=f"engine-{number}")
    return follow(before, Claimed(f"rival-{number}", AT + 30), by=f"rival-{number}")


async def _append_slowly(journal: Journal, entries: Sequence[Entry]) -> None:
    for entry in entries:
        await journal.append(entry)
        await asyncio.sleep(0)


async def _page(backend: Backend, cursor: str | None) -> FeedPage:
    return await backend.journal.feed(cursor, limit=5)
