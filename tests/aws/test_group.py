"""Group commit: appends share calls only under load, and never one another's fate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from roost.clock import SystemClock, SystemIds
from roost.errors import StorageError, StorageUnavailable
from roost.journal.entries import Body, Encoding, Entry
from roost.journal.events import Claimed, Committed
from roost.storage.aws import group
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.clients import Aws
from roost.storage.aws.faults import TRIES, Patience
from roost.storage.aws.index import AwsIndex
from roost.storage.aws.items import item_of
from roost.storage.aws.journal import AwsJournal
from roost.storage.aws.puts import STATEMENTS_MAX
from roost.testing.contract.harness import AT, first, follow, soon
from roost.testing.standins import StandIn
from tests.aws.wire import Answer, Fail, First, LoseReply, Stack, Wire, new_stack

pytestmark = pytest.mark.slow

BATCH = "BatchExecuteStatement"


class QuickClock(SystemClock):
    """Pauses take no time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def stack(ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    stack = await new_stack(ministack, monkeypatch)
    yield stack
    await stack.close()


@pytest_asyncio.fixture
async def opened(stack: Stack) -> tuple[Aws, Wire]:
    aws, wire = await stack.open()
    return replace(aws, patience=Patience(QuickClock(), SystemIds())), wire


def journal_of(aws: Aws, in_flight: int) -> AwsJournal:
    return AwsJournal(aws, AwsIndex(aws), AwsAccounts(aws), in_flight=in_flight)


def claims(count: int, *, by: str = "worker", start: int = 0) -> list[Entry]:
    """An entry at position 1 of each of so many journals."""
    return [
        follow(first(f"w{number}"), Claimed(by, AT + 30), by=by) for number in range(start, start + count)
    ]


async def append_all_at_once(journal: AwsJournal, entries: list[Entry]) -> list[Entry]:
    return await soon(asyncio.gather(*(journal.append(entry) for entry in entries)))


def hold(wire: Wire, operation: str, count: int = 1) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold the next calls; the first event says that all are there, the second lets them go."""
    arrived, go, there = asyncio.Event(), asyncio.Event(), [0]

    async def wait() -> None:
        there[0] += 1
        if there[0] == count:
            arrived.set()
        await go.wait()

    wire.script(operation, *[First(wait)] * count)
    return arrived, go


# --- when ----------------------------------------------------------------------


async def test_few_appends_go_alone_and_at_once(opened: tuple[Aws, Wire]) -> None:
    aws, wire = opened
    entries = claims(4)
    assert await append_all_at_once(journal_of(aws, 4), entries) == entries
    assert wire.taken() == {"PutItem": 4}


async def test_more_than_may_be_under_way_share_as_few_calls_as_possible(opened: tuple[Aws, Wire]) -> None:
    aws, wire = opened
    journal = journal_of(aws, 4)
    entries = claims(60)
    assert await append_all_at_once(journal, entries) == entries
    assert [len(arguments["Statements"]) for _, arguments in wire.calls] == [25, 25, 10]
    assert set(wire.taken()) == {BATCH}
    assert [await journal.tail(entry.work_id) for entry in entries] == entries


async def test_who_comes_while_calls_are_under_way_goes_together_when_one_is_back(
    opened: tuple[Aws, Wire],
) -> None:
    aws, wire = opened
    journal = journal_of(aws, 2)
    arrived, go = hold(wire, "PutItem", 2)
    early = [asyncio.create_task(journal.append(entry)) for entry in claims(2)]
    await soon(arrived.wait())
    late = [asyncio.create_task(journal.append(entry)) for entry in claims(10, start=2)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert wire.taken() == {"PutItem": 2}
    go.set()
    await soon(asyncio.gather(*early, *late))
    assert [len(arguments["Statements"]) for _, arguments in wire.calls] == [10]


async def test_steps_of_many_lanes_fill_their_calls(opened: tuple[Aws, Wire]) -> None:
    """Under a steady load a call is shared by many, in whatever order the lanes come back."""
    aws, wire = opened
    journal = journal_of(aws, 2)

    async def lane(entry: Entry) -> None:
        for _ in range(10):
            entry = follow(entry, Committed(entry.control.version + 1, "next", lease_until=AT + 30))
            assert await journal.append(entry) is entry

    lanes = claims(40)
    await append_all_at_once(journal, lanes)
    wire.taken()
    await soon(asyncio.gather(*map(lane, lanes)))
    assert sum(wire.taken().values()) <= 400 / 10


async def test_no_call_has_two_entries_of_one_position_nor_too_many_bytes(
    opened: tuple[Aws, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws, wire = opened
    journal = journal_of(aws, 1)
    rivals = [claims(1, by=f"rival{number}")[0] for number in range(3)]
    stand = await append_all_at_once(journal, [*rivals, *claims(3, start=1)])
    assert {entry.entry_id for entry in stand[:3]} == {rivals[0].entry_id}
    for _, arguments in wire.calls:
        keys = [str(statement["Parameters"][:2]) for statement in arguments.get("Statements", [])]
        assert len(set(keys)) == len(keys)
    wire.taken()
    monkeypatch.setattr(group, "BATCH_BYTES_MAX", 50_000)
    large = [
        follow(entry, Committed(1, "next", lease_until=AT), body=Body(Encoding.ZSTD, bytes(16_000)))
        for entry in claims(9, start=10)
    ]
    await append_all_at_once(journal, large)
    assert [len(arguments.get("Statements", "1")) for _, arguments in wire.calls] == [2, 2, 2, 2, 1]


async def test_close_waits_for_appends_whose_callers_went_away(opened: tuple[Aws, Wire]) -> None:
    aws, wire = opened
    journal = journal_of(aws, 1)
    arrived, go = hold(wire, BATCH)
    entries = claims(3)
    tasks = [asyncio.create_task(journal.append(entry)) for entry in entries]
    await soon(arrived.wait())
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    go.set()
    await soon(journal.close())
    assert [await journal.tail(entry.work_id) for entry in entries] == entries


# --- who wins ------------------------------------------------------------------


async def test_a_taken_position_fails_alone_and_all_losers_share_one_read(opened: tuple[Aws, Wire]) -> None:
    """ministack does not give the item with `DuplicateItem`."""
    aws, wire = opened
    journal = journal_of(aws, 1)
    standing = claims(3, by="rival")
    await append_all_at_once(journal, standing)
    wire.taken()
    entries = claims(6)
    assert await append_all_at_once(journal, entries) == [*standing, *entries[3:]]
    assert wire.taken() == {BATCH: 1, "BatchGetItem": 1}


async def test_the_item_that_comes_with_the_error_saves_the_read(opened: tuple[Aws, Wire]) -> None:
    """As AWS documents it ("BatchStatementError")."""
    aws, wire = opened
    entries, rival = claims(3), claims(1, by="rival")[0]
    taken = {"Code": "DuplicateItem", "Message": "…", "Item": item_of(rival, 4)}
    wire.script(BATCH, Answer({"Responses": [{"Error": taken}, {}, {}]}))
    assert await append_all_at_once(journal_of(aws, 1), entries) == [rival, *entries[1:]]
    assert wire.taken() == {BATCH: 1}


async def test_the_item_is_asked_for_with_each_statement(opened: tuple[Aws, Wire]) -> None:
    aws, wire = opened
    await append_all_at_once(journal_of(aws, 1), claims(2))
    statements: list[dict[str, Any]] = wire.calls[0][1]["Statements"]
    assert [statement["ReturnValuesOnConditionCheckFailure"] for statement in statements] == ["ALL_OLD"] * 2


async def test_a_lost_reply_of_a_shared_call_is_settled_for_each(opened: tuple[Aws, Wire]) -> None:
    aws, wire = opened
    entries = claims(5)
    wire.script(BATCH, LoseReply())
    assert await append_all_at_once(journal_of(aws, 1), entries) == entries
    assert wire.taken() == {BATCH: 2, "BatchGetItem": 1}


async def test_a_reply_that_was_cut_off_is_a_lost_one(opened: tuple[Aws, Wire]) -> None:
    """The SDK takes it for one without members."""
    aws, wire = opened
    entries = claims(5)
    wire.script(BATCH, Answer({}))
    assert await append_all_at_once(journal_of(aws, 1), entries) == entries
    assert wire.taken() == {BATCH: 2}
    assert aws.patience.met.counts == {"ResponseParserError": 1}


# --- faults --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "counted"),
    [
        ("ThrottlingError", "ThrottlingError"),
        ("ProvisionedThroughputExceeded", "ProvisionedThroughputExceededException"),
        ("RequestLimitExceeded", "RequestLimitExceeded"),
        ("InternalServerError", "InternalServerError"),
        ("TransactionConflict", "TransactionConflictException"),
    ],
)
async def test_a_statement_that_may_succeed_later_is_made_again_alone(
    opened: tuple[Aws, Wire], code: str, counted: str
) -> None:
    aws, wire = opened
    journal = journal_of(aws, 1)
    entries = claims(3)
    wire.script(BATCH, Answer({"Responses": [{}, {"Error": {"Code": code, "Message": "…"}}, {}]}))
    assert await append_all_at_once(journal, entries) == entries
    assert wire.taken() == {BATCH: 1, "PutItem": 1}
    assert aws.patience.met.counts == {counted: 1}
    assert await journal.tail(entries[1].work_id) == entries[1]


@pytest.mark.parametrize("code", ["AccessDenied", "ResourceNotFound", "ValidationError"])
async def test_a_statement_that_fails_for_good_is_an_error_of_its_caller_alone(
    opened: tuple[Aws, Wire], code: str
) -> None:
    aws, wire = opened
    journal = journal_of(aws, 1)
    entries = claims(3)
    wire.script(BATCH, Answer({"Responses": [{}, {"Error": {"Code": code, "Message": "…"}}, {}]}))
    outcomes = await soon(
        asyncio.gather(*(journal.append(entry) for entry in entries), return_exceptions=True)
    )
    assert [outcomes[0], outcomes[2]] == [entries[0], entries[2]]
    assert isinstance(outcomes[1], StorageError)
    assert not isinstance(outcomes[1], StorageUnavailable)
    assert wire.taken() == {BATCH: 1}


async def test_a_call_that_is_refused_is_split_so_that_only_the_guilty_fails(
    opened: tuple[Aws, Wire],
) -> None:
    """One item that is too large, say, may have the whole call refused."""
    aws, wire = opened
    entries = claims(3)
    wire.script(BATCH, Fail("ValidationException"))
    wire.script("PutItem", Fail("ValidationException"))
    journal = journal_of(aws, 1)
    outcomes = await soon(
        asyncio.gather(*(journal.append(entry) for entry in entries), return_exceptions=True)
    )
    assert isinstance(outcomes[0], StorageError)
    assert outcomes[1:] == entries[1:]
    assert wire.taken() == {BATCH: 1, "PutItem": 3}


async def test_a_throttled_call_is_made_again_as_a_whole(opened: tuple[Aws, Wire]) -> None:
    aws, wire = opened
    entries = claims(3)
    wire.script(BATCH, *[Fail("ThrottlingException")] * 2)
    assert await append_all_at_once(journal_of(aws, 1), entries) == entries
    assert wire.taken() == {BATCH: 3}
    assert aws.patience.met.counts == {"ThrottlingException": 2}


async def test_a_call_that_keeps_failing_fails_all_its_callers_and_no_later_one(
    opened: tuple[Aws, Wire],
) -> None:
    aws, wire = opened
    journal = journal_of(aws, 1)
    wire.script(BATCH, *[Fail("InternalServerError", 500)] * TRIES)
    outcomes = await soon(
        asyncio.gather(*(journal.append(entry) for entry in claims(3)), return_exceptions=True)
    )
    assert [type(outcome) for outcome in outcomes] == [StorageUnavailable] * 3
    assert wire.taken() == {BATCH: TRIES}
    entries = claims(3)
    assert await append_all_at_once(journal, entries) == entries


async def test_one_who_is_cancelled_in_the_line_writes_nothing_and_hurts_nobody(
    opened: tuple[Aws, Wire],
) -> None:
    aws, wire = opened
    journal = journal_of(aws, 1)
    arrived, go = hold(wire, "PutItem")
    running = asyncio.create_task(journal.append(claims(1)[0]))
    await soon(arrived.wait())
    entries = claims(STATEMENTS_MAX + 1, start=1)
    waiting = [asyncio.create_task(journal.append(entry)) for entry in entries]
    await asyncio.sleep(0)
    waiting[3].cancel()
    await asyncio.wait([waiting[3]])
    go.set()
    await soon(running)
    del waiting[3], entries[3]
    assert await soon(asyncio.gather(*waiting)) == entries
    assert await journal.tail("w4") is None
    assert [len(arguments.get("Statements", "1")) for _, arguments in wire.calls[:2]] == [1, STATEMENTS_MAX]


async def test_one_who_is_cancelled_under_way_hurts_nobody(opened: tuple[Aws, Wire]) -> None:
    aws, wire = opened
    journal = journal_of(aws, 1)
    arrived, go = hold(wire, BATCH)
    entries = claims(3)
    tasks = [asyncio.create_task(journal.append(entry)) for entry in entries]
    await soon(arrived.wait())
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    go.set()
    assert await soon(asyncio.gather(tasks[0], tasks[2])) == [entries[0], entries[2]]
    assert await journal.tail(entries[1].work_id) == entries[1]


async def test_a_lone_append_that_is_cancelled_gives_its_place_back(opened: tuple[Aws, Wire]) -> None:
    aws, wire = opened
    journal = journal_of(aws, 1)
    arrived, go = hold(wire, "PutItem")
    task = asyncio.create_task(journal.append(claims(1)[0]))
    await soon(arrived.wait())
    task.cancel()
    await asyncio.wait([task])
    go.set()
    entry = claims(1, start=1)[0]
    assert await soon(journal.append(entry)) == entry
