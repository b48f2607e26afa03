"""What the contract suite does not show of the feed: many shards, old cursors, and the newest entries.

The stand-ins have streams of one shard that never closes. So a stream with several
generations of shards is played here to the SDK, through its own events, from AWS's
documentation (DynamoDB Streams API reference; DynamoDB Developer Guide, "Change data
capture for DynamoDB Streams").
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from msgspec import structs

from roost.clock import SystemIds
from roost.errors import InputError
from roost.journal.entries import Entry
from roost.journal.events import CancelRequested, Committed, Signaled
from roost.journal.projection import project
from roost.storage.aws import stream as stream_module
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.clients import Aws
from roost.storage.aws.faults import Patience
from roost.storage.aws.index import AwsIndex
from roost.storage.aws.items import item_of
from roost.storage.aws.journal import AwsJournal
from roost.storage.aws.stream import Position
from roost.testing.clock import ManualClock
from roost.testing.contract.harness import first, follow
from roost.testing.contract.samples import chain
from roost.testing.standins import StandIn
from tests.aws.test_group import QuickClock
from tests.aws.wire import Stack, Wire, new_stack

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture
async def stack(ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    stack = await new_stack(ministack, monkeypatch)
    yield stack
    await stack.close()


@pytest_asyncio.fixture
async def opened(stack: Stack) -> tuple[Aws, Wire]:
    aws, wire = await stack.open()
    return replace(aws, patience=Patience(QuickClock(), SystemIds())), wire


def journal_of(aws: Aws) -> AwsJournal:
    return AwsJournal(aws, AwsIndex(aws), AwsAccounts(aws), in_flight=256)


@dataclass
class PlayedShard:
    parent: str | None = None
    is_closed: bool = False
    trimmed: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)


class PlayedStream:
    """Answers the calls of a streams client.

    Attributes:
        empty_pages: how many calls a shard answers with nothing although there is more.
        calls: how many of each operation there were.
    """

    def __init__(self, client: Any, clock: ManualClock) -> None:
        self.clock = clock
        self.shards: dict[str, PlayedShard] = {}
        self.is_expired: set[str] = set()
        self.empty_pages = 0
        self.page_shards = 100
        self.calls: Counter[str] = Counter()
        self._sequence = 10**21
        client.meta.events.register("provide-client-params.dynamodb-streams", self._record)
        client.meta.events.register("before-call.dynamodb-streams", self._answer)

    def add(self, shard: str, *entries: Entry, name: str = "INSERT") -> None:
        """Records of entries that were put."""
        for entry in entries:
            self._sequence += 1
            record = {
                "SequenceNumber": str(self._sequence),
                "ApproximateCreationDateTime": datetime.fromtimestamp(int(self.clock.now()), UTC),
                "NewImage": item_of(entry, 4),
            }
            self.shards[shard].records.append({"eventName": name, "dynamodb": record})

    def _record(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.params = params
        self.calls[model.name] += 1

    def _answer(self, model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
        reply = getattr(self, f"_{model.name.lower()}")(**self.params)
        status = 400 if "Error" in reply else 200
        http = type("Http", (), {"status_code": status})()
        return http, {"ResponseMetadata": {"HTTPStatusCode": status}, **reply}

    def _describestream(self, StreamArn: str, ExclusiveStartShardId: str | None = None) -> dict[str, Any]:
        names = list(self.shards)
        start = 0 if ExclusiveStartShardId is None else names.index(short(ExclusiveStartShardId)) + 1
        page = names[start : start + self.page_shards]
        found = []
        for name in page:
            shard = self.shards[name]
            numbers = {"StartingSequenceNumber": "1"} | (
                {"EndingSequenceNumber": "9"} if shard.is_closed else {}
            )
            found.append({"ShardId": long(name), "SequenceNumberRange": numbers})
            if shard.parent:
                found[-1]["ParentShardId"] = long(shard.parent)
        more = {"LastEvaluatedShardId": long(page[-1])} if start + len(page) < len(names) else {}
        return {"StreamDescription": {"StreamArn": StreamArn, "Shards": found, **more}}

    def _getsharditerator(
        self, StreamArn: str, ShardId: str, ShardIteratorType: str, SequenceNumber: str = ""
    ) -> dict[str, Any]:
        shard = self.shards.get(short(ShardId))
        if shard is None:
            return _error("ResourceNotFoundException")
        start = shard.trimmed
        if ShardIteratorType == "LATEST":
            start = len(shard.records)
        elif ShardIteratorType == "AFTER_SEQUENCE_NUMBER":
            numbers = [record["dynamodb"]["SequenceNumber"] for record in shard.records]
            start = numbers.index(SequenceNumber) + 1
            if start < shard.trimmed:
                return _error("TrimmedDataAccessException")
        return {"ShardIterator": f"{short(ShardId)}|{start}|{self.calls.total()}"}

    def _getrecords(self, ShardIterator: str, Limit: int) -> dict[str, Any]:
        if ShardIterator in self.is_expired:
            return _error("ExpiredIteratorException")
        name, start, _ = ShardIterator.split("|")
        shard, begin = self.shards[name], int(start)
        if begin < shard.trimmed:
            return _error("TrimmedDataAccessException")
        if self.empty_pages:
            self.empty_pages -= 1
            return {"Records": [], "NextShardIterator": f"{name}|{begin}|{self.calls.total()}"}
        page = shard.records[begin : begin + Limit]
        end = begin + len(page)
        if shard.is_closed and end == len(shard.records):
            return {"Records": page}
        return {"Records": page, "NextShardIterator": f"{name}|{end}|{self.calls.total()}"}


def long(name: str) -> str:
    """A shard's name as AWS has them: at least 28 characters."""
    return f"shardId-{name:x>24}"


def short(name: str) -> str:
    return name.removeprefix("shardId-").lstrip("x")


def _error(code: str) -> dict[str, Any]:
    return {"Error": {"Code": code, "Message": "played"}}


@pytest_asyncio.fixture
async def played(opened: tuple[Aws, Wire]) -> tuple[AwsJournal, PlayedStream]:
    clock = ManualClock()
    aws = replace(opened[0], clock=clock)
    return journal_of(aws), PlayedStream(await aws.clients.get("dynamodbstreams"), clock)


async def read_all(journal: AwsJournal, cursor: str | None = None, limit: int = 3) -> tuple[list[Entry], str]:
    """Page by page until a page is empty; the last cursor."""
    seen: list[Entry] = []
    for _ in range(100):
        page = await journal.feed(cursor, limit=limit)
        assert len(page.entries) <= limit
        seen, cursor = [*seen, *page.entries], page.cursor
        if not page.entries:
            return seen, cursor
    raise AssertionError("the feed has no end")


def of(work_id: str, entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.work_id == work_id]


# --- shards ----------------------------------------------------------------------


async def test_parents_are_read_to_their_end_before_their_children(
    played: tuple[AwsJournal, PlayedStream],
) -> None:
    """Whatever the order in which they are listed; a split, and a parent that is gone already."""
    journal, stream = played
    a, b = chain("a", 12), chain("b", 12)
    stream.shards |= {
        "3-right": PlayedShard("2"),
        "3-left": PlayedShard("2"),
        "2": PlayedShard("1", is_closed=True),
        "1": PlayedShard("0-gone", is_closed=True),
    }
    stream.add("1", *a[:5], *b[:2])
    stream.add("2", *a[5:7], *b[2:9])
    stream.add("3-left", *a[7:])
    stream.add("3-right", *b[9:])
    for limit in (1, 2, 5, 100):
        seen, _ = await read_all(journal, limit=limit)
        assert len(seen) == 24
        assert (of("a", seen), of("b", seen)) == (a, b)


async def test_a_cursor_names_only_shards_that_are_needed(
    played: tuple[AwsJournal, PlayedStream],
) -> None:
    """Those that are done and have a successor are implied, so a cursor stays small."""
    journal, stream = played
    entries = chain("w", 8)
    stream.shards["0"] = PlayedShard(is_closed=True)
    for number in range(1, 7):
        stream.shards[str(number)] = PlayedShard(str(number - 1), is_closed=number < 6)
    for number, entry in enumerate(entries[:7]):
        stream.add(str(number), entry)
    seen, cursor = await read_all(journal)
    assert seen == entries[:7]
    assert set(Position.decode(cursor).shards) == {long("6")}
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    stream.add("6", entries[7])
    assert await journal_read(journal, cursor) == [entries[7]]


async def journal_read(journal: AwsJournal, cursor: str) -> list[Entry]:
    return (await read_all(journal, cursor))[0]


async def test_a_shard_that_closes_hands_over_to_children_that_were_not_listed_yet(
    played: tuple[AwsJournal, PlayedStream],
) -> None:
    journal, stream = played
    entries = chain("w", 9)
    stream.shards["1"] = PlayedShard()
    stream.add("1", *entries[:3])
    seen, cursor = await read_all(journal)
    assert seen == entries[:3]
    stream.add("1", *entries[3:5])
    stream.shards["1"].is_closed = True
    stream.shards["2"] = PlayedShard("1")
    stream.add("2", *entries[5:])
    assert await journal_read(journal, cursor) == entries[3:]


async def test_a_busy_shard_does_not_keep_the_others_waiting(
    played: tuple[AwsJournal, PlayedStream],
) -> None:
    journal, stream = played
    stream.shards |= {"1": PlayedShard(), "2": PlayedShard()}
    stream.add("1", *chain("busy", 200))
    stream.add("2", *chain("quiet", 2))
    page = await journal.feed(None, limit=10)
    assert len(page.entries) == 10
    assert of("quiet", list(page.entries)) == chain("quiet", 2)
    first_two = [(await journal.feed(None, limit=1)).entries[0].work_id for _ in range(2)]
    assert set(first_two) == {"busy", "quiet"}


async def test_empty_answers_of_a_closed_shard_are_not_its_end(
    played: tuple[AwsJournal, PlayedStream],
) -> None:
    journal, stream = played
    entries = chain("w", 4)
    stream.shards |= {"1": PlayedShard(is_closed=True), "2": PlayedShard("1")}
    stream.add("1", *entries[:2])
    stream.add("2", *entries[2:])
    stream.empty_pages = 5
    assert list((await journal.feed(None)).entries) == entries


async def test_empty_answers_before_the_first_records_are_not_the_end_of_an_open_shard(
    played: tuple[AwsJournal, PlayedStream],
) -> None:
    """A reader that begins, or whose cursor is from elsewhere, saw nothing and never came further."""
    journal, stream = played
    stream.shards["1"] = PlayedShard()
    stream.add("1", *chain("w", 2))
    stream.empty_pages = 5
    page = await journal.feed(None)
    assert list(page.entries) == chain("w", 2)
    stream.calls.clear()
    assert not (await journal.feed(page.cursor)).entries
    assert stream.calls["GetRecords"] == 1  # who has read up to there asks once


async def test_what_was_changed_or_expired_is_no_entry(played: tuple[AwsJournal, PlayedStream]) -> None:
    journal, stream = played
    entries = chain("w", 4)
    stream.shards["1"] = PlayedShard()
    stream.add("1", entries[0])
    stream.add("1", entries[0], name="MODIFY")
    stream.add("1", entries[1])
    stream.add("1", entries[0], name="REMOVE")
    assert (await read_all(journal))[0] == entries[:2]


async def test_the_list_of_shards_comes_in_pages_and_is_not_asked_for_each_time(
    played: tuple[AwsJournal, PlayedStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, stream = played
    for number in range(5):
        stream.shards[f"{number}"] = PlayedShard()
        stream.add(f"{number}", *chain(f"w{number}", 2))
    stream.page_shards = 2
    seen, cursor = await read_all(journal)
    assert len(seen) == 10
    assert stream.calls["DescribeStream"] == 3
    stream.calls.clear()
    await journal.feed(cursor)
    assert stream.calls == {"GetRecords": 5}
    stream.clock.advance(stream_module.LISTING_SECONDS)
    await journal.feed(cursor)
    assert stream.calls["DescribeStream"] == 3


# --- cursors ---------------------------------------------------------------------


async def test_a_cursor_outlives_its_iterators(played: tuple[AwsJournal, PlayedStream]) -> None:
    """DynamoDB Streams API reference, "GetShardIterator": an iterator expires after 15 minutes."""
    journal, stream = played
    entries = chain("w", 6)
    stream.shards["1"] = PlayedShard()
    stream.add("1", *entries[:3])
    _, cursor = await read_all(journal)
    stream.add("1", *entries[3:])
    stream.is_expired = {f"1|3|{number}" for number in range(stream.calls.total() + 1)}
    assert await journal_read(journal, cursor) == entries[3:]


async def test_what_is_older_than_a_day_is_skipped(played: tuple[AwsJournal, PlayedStream]) -> None:
    journal, stream = played
    entries = chain("w", 9)
    stream.shards["1"] = PlayedShard()
    stream.add("1", *entries[:3])
    _, cursor = await read_all(journal)
    stream.add("1", *entries[3:])
    stream.shards["1"].trimmed = 5
    assert await journal_read(journal, cursor) == entries[5:]


async def test_shards_that_are_gone_leave_the_cursor(played: tuple[AwsJournal, PlayedStream]) -> None:
    journal, stream = played
    entries = chain("w", 6)
    stream.shards["1"] = PlayedShard()
    stream.add("1", *entries[:3])
    _, cursor = await read_all(journal)
    stream.shards = {"2": PlayedShard("1")}
    stream.add("2", *entries[3:])
    stream.clock.advance(86400)
    seen, cursor = await read_all(journal, cursor)
    assert seen == entries[3:]
    assert set(Position.decode(cursor).shards) == {long("2")}


@pytest.mark.parametrize(
    "cursor",
    ["", "12", "!", "x" * 50, "ü", base64.urlsafe_b64encode(b'{"shards":{"1":"x; y"}}').decode()]
    + [base64.urlsafe_b64encode(json.dumps(bad).encode()).decode() for bad in ([], {"s": 1}, {"since": "x"})],
)
async def test_a_bad_cursor_is_an_input_error(played: tuple[AwsJournal, PlayedStream], cursor: str) -> None:
    journal, stream = played
    stream.shards["1"] = PlayedShard()
    with pytest.raises(InputError, match="is no cursor"):
        await journal.feed(cursor)


# --- the newest ------------------------------------------------------------------


async def test_after_the_newest_page_only_new_entries_come(
    played: tuple[AwsJournal, PlayedStream],
) -> None:
    """Also those that were appended while the page was put together come once."""
    journal, stream = played
    entries = chain("w", 8)
    await journal.append_many(entries[:1])
    for entry in entries[1:5]:
        await journal.append(entry)
    stream.shards |= {"1": PlayedShard(is_closed=True), "2": PlayedShard("1")}
    stream.add("1", *entries[:3])
    stream.add("2", *entries[3:4])
    page = await journal.feed(None, limit=3, newest=True)
    assert list(page.entries) == entries[2:5]
    stream.add("2", *entries[4:6])
    page = await journal.feed(page.cursor)
    assert list(page.entries) == entries[5:6]
    stream.add("2", *entries[6:])
    assert await journal_read(journal, page.cursor) == entries[6:]


async def test_the_cursor_of_the_newest_page_is_good_in_another_process(
    played: tuple[AwsJournal, PlayedStream], opened: tuple[Aws, Wire]
) -> None:
    """Which has no iterator for it, so it leaves out what is older by the records' own time."""
    journal, stream = played
    old, new = chain("old", 3), chain("new", 3)
    stream.shards["1"] = PlayedShard()
    stream.add("1", *old)
    stream.clock.advance(3600)
    page = await journal.feed(None, newest=True)
    assert list(page.entries) == []
    stream.add("1", *new)
    other = journal_of(replace(opened[0], clock=stream.clock))
    assert await journal_read(other, page.cursor) == new


async def test_the_newest_entries_are_found_without_reading_the_stream(opened: tuple[Aws, Wire]) -> None:
    aws, wire = opened
    journal, index = journal_of(aws), AwsIndex(aws)
    now = aws.clock.now()
    works = {name: chain(name, 30) for name in ("past/done", "team/running", "team/queued")}
    shift = {"past/done": 0.0, "team/running": 1.0, "team/queued": 5.0}
    for name, entries in works.items():
        works[name] = [
            structs.replace(entry, at=now - 50 + number + shift[name]) for number, entry in enumerate(entries)
        ]
    works["past/done"].append(
        follow(works["past/done"][-1], Committed(29, "done", is_finished=True), at=now - 15)
    )
    works["team/queued"] = works["team/queued"][:1]
    for entries in works.values():
        await journal.append_many(entries)
    running = project(works["team/running"][-1])
    await index.put(structs.replace(running, due_at=now + 30))
    await index.put(project(works["past/done"][-1]))  # not due, and of a namespace of its own
    wire.taken()
    every = sorted((entry for entries in works.values() for entry in entries), key=lambda entry: entry.at)
    page = await journal.feed(None, limit=25, newest=True)
    assert [entry.entry_id for entry in page.entries] == [entry.entry_id for entry in every[-25:]]
    everything = await journal.feed(None, limit=200, newest=True)
    assert sorted(entry.entry_id for entry in everything.entries) == sorted(entry.entry_id for entry in every)
    assert set(wire.taken()) <= {"Query", "DescribeTable"}


async def test_newest_entries_stay_in_order_when_their_writers_clocks_differ(
    opened: tuple[Aws, Wire],
) -> None:
    aws, _ = opened
    journal = journal_of(aws)
    entries = chain("w", 4)
    late = follow(entries[-1], Signaled("s", "go"), at=entries[-1].at + 500)
    early = follow(late, CancelRequested("enough"), at=entries[-1].at + 1)
    other = structs.replace(first("v"), at=entries[-1].at + 2)
    await journal.append_many([*entries, late, early, other])
    page = await journal.feed(None, limit=3, newest=True)
    assert list(page.entries) == [late, early, other]
    page = await journal.feed(None, limit=100, newest=True)
    assert of("w", list(page.entries)) == [*entries, late, early]


async def test_ministack_keeps_grouped_appends_out_of_its_streams(opened: tuple[Aws, Wire]) -> None:
    """AWS has every change of an item in the stream, whatever made it (DynamoDB Developer Guide,
    "Change data capture for DynamoDB Streams"); ministack forgets those of PartiQL."""
    aws, wire = opened
    journal = AwsJournal(aws, AwsIndex(aws), AwsAccounts(aws), in_flight=1)
    await journal.append_many([chain(name, 2)[1] for name in "abc"])
    assert wire.taken() == {"BatchExecuteStatement": 1}
    assert (await read_all(journal))[0] == []
    await journal.append(chain("d", 2)[1])
    assert (await read_all(journal))[0] == [chain("d", 2)[1]]
