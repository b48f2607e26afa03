"""What the contract suite does not show of the index on DynamoDB: its calls, keys, faults and pages."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from roost.errors import InputError, SchemaTooNew, StorageCorrupt, StorageError
from roost.journal.entries import IndexRow
from roost.journal.events import Claimed, Signaled
from roost.journal.projection import LaneCount, project
from roost.models import Lane, State
from roost.storage.aws import table
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.index import AwsIndex, row_item, row_of
from roost.storage.aws.reindex import reindex
from roost.storage.ports import Renewal
from roost.storage.query import IndexQuery
from roost.testing.contract.harness import AT, append_all, first, follow
from roost.testing.contract.index import row, running
from roost.testing.standins import StandIn
from tests.aws.wire import Answer, Fail, LoseReply, Stack, Wire, new_stack

pytestmark = pytest.mark.slow

SHARDS = 4


@pytest_asyncio.fixture
async def stack(ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    stack = await new_stack(ministack, monkeypatch, shards=SHARDS)
    yield stack
    await stack.close()


@pytest_asyncio.fixture
async def opened(stack: Stack) -> tuple[AwsIndex, Wire]:
    aws, wire = await stack.open()
    return AwsIndex(aws), wire


async def fill(index: AwsIndex, rows: list[IndexRow]) -> None:
    assert all(await asyncio.gather(*(index.put(given) for given in rows)))


async def ids_of_all_pages(
    index: AwsIndex, query: IndexQuery, limit: int = 50
) -> tuple[list[str], list[int]]:
    """All work ids, and how many rows each page had."""
    ids: list[str] = []
    sizes: list[int] = []
    cursor: str | None = None
    for _ in range(200):
        page = await index.list(query, cursor=cursor, limit=limit)
        ids += [found.work_id for found in page.rows]
        sizes.append(len(page.rows))
        cursor = page.cursor
        if cursor is None:
            return ids, sizes
    raise AssertionError("the pages have no end")


async def test_a_cancelled_gather_leaves_no_call_behind(recwarn: pytest.WarningsRecorder) -> None:
    async def wait() -> None:
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await table.gather(wait() for _ in range(3 * table.PARALLEL))
    gc.collect()
    assert not recwarn.list


# --- items -------------------------------------------------------------------


def test_an_item_keeps_every_digit_and_every_field() -> None:
    full = running(
        "team/w",
        created_at=AT + 1 / 3,
        due_at=1e-7,
        wake_at=AT + 0.1 + 0.2,
        deadline_at=2e9,
        failures=2,
        interruptions=1,
        reason="123",
        step="7",
        lane=Lane.LOW,
        progress=(0.1, "half \N{SNOWMAN}"),
    )
    for given in (full, row("plain"), row("")):
        assert row_of(row_item(given, SHARDS)) == given


def test_an_item_may_have_attributes_that_are_no_field() -> None:
    given = row("w", due_at=AT)
    assert row_of({**row_item(given, SHARDS), "expires_at": {"N": "1"}, "taken": {"S": "x"}}) == given


@pytest.mark.parametrize(
    "damage",
    [
        {"position": {"S": "seven"}},
        {"progress": {"S": "{"}},
        {"progress": {"S": "[1]"}},
        {"due_at": {"M": {}}},
    ],
)
def test_an_item_that_is_no_row_is_corrupt(damage: dict[str, Any]) -> None:
    with pytest.raises(StorageCorrupt, match="'w'"):
        row_of({**row_item(row("w"), SHARDS), **damage})


async def test_rows_of_a_newer_roost_hide_no_others_that_are_due(stack: Stack) -> None:
    aws, _ = await stack.open()
    index = AwsIndex(aws)
    await fill(index, [row(f"w{number}", due_at=AT + number) for number in range(8)])
    dynamodb = await aws.clients.get("dynamodb")
    for number in range(6):
        item = row_item(row(f"w{number}", due_at=AT + number), aws.names.shards) | {"state": {"S": "asleep"}}
        await dynamodb.put_item(TableName=aws.names.index, Item=item)
    assert [one.work_id for one in await index.due(AT + 9, limit=2)] == ["w6", "w7"]
    with pytest.raises(SchemaTooNew, match="index row 'w0'"):
        await index.get("w0")


def test_an_item_without_a_field_is_corrupt() -> None:
    for name in ("work", "state", "position"):
        item = row_item(row("w"), SHARDS)
        del item[name]
        with pytest.raises(StorageCorrupt):
            row_of(item)


async def test_the_due_index_is_sparse(stack: Stack) -> None:
    """A row that nobody has to look at is not in it, however its due time went."""
    aws, _ = await stack.open()
    index = AwsIndex(aws)
    renewed = running("renewed", due_at=None)
    await fill(index, [row("never"), row("due", due_at=AT), row("taken", due_at=AT), renewed])
    assert await index.put(row("done", due_at=AT))
    assert await index.put(row("done", position=1, state=State.DONE))
    assert await index.take_due(row("taken", due_at=AT), None)
    assert await index.renew([Renewal("renewed", 1, AT + 60, AT + 61)]) == [True]
    dynamodb = await aws.clients.get("dynamodb")
    found = await dynamodb.scan(TableName=aws.names.index, IndexName="due")
    assert sorted(item["work"]["S"] for item in found["Items"]) == ["due", "renewed"]


async def test_rows_are_spread_over_the_shards_of_both_indexes(stack: Stack) -> None:
    aws, _ = await stack.open()
    await fill(AwsIndex(aws), [row(f"w{number}", due_at=AT) for number in range(40)])
    dynamodb = await aws.clients.get("dynamodb")
    items = (await dynamodb.scan(TableName=aws.names.index))["Items"]
    assert {item["state_key"]["S"] for item in items} == {f"/queued#{shard}" for shard in range(SHARDS)}
    assert {item["due_key"]["S"] for item in items} == {f"due#{shard}" for shard in range(SHARDS)}


async def test_more_shards_find_the_rows_of_fewer(stack: Stack) -> None:
    few = AwsIndex((await stack.open(shards=1))[0])
    more = AwsIndex((await stack.open(shards=8))[0])
    await fill(few, [row(f"w{number}", number=number, due_at=AT + number) for number in range(10)])
    await fill(more, [row(f"w{number}", number=number, due_at=AT + number) for number in range(10, 20)])
    assert (await more.counts())[State.QUEUED] == 20
    assert (await ids_of_all_pages(more, IndexQuery(), 3))[0] == [f"w{n}" for n in reversed(range(20))]
    due = await more.due(AT + 50)
    assert [found.work_id for found in due] == [f"w{number}" for number in range(20)]
    assert await more.take_due(due[0], AT + 60)
    assert await more.get("w0") == replace(due[0], due_at=AT + 60)


# --- calls -------------------------------------------------------------------


async def test_calls_of_each_operation(opened: tuple[AwsIndex, Wire]) -> None:
    index, wire = opened
    given = running("w")
    await index.put(given)
    assert wire.taken() == {"PutItem": 1}
    await index.put(row("w"))
    assert wire.taken() == {"PutItem": 1}
    await index.get("w")
    assert wire.calls[0][1]["ConsistentRead"] is True
    assert wire.taken() == {"GetItem": 1}
    await index.renew([Renewal(name, 1, AT + 60, AT + 61) for name in ("w", "x", "y")])
    assert wire.taken() == {"UpdateItem": 3}
    await index.take_due(given, AT)
    assert wire.taken() == {"UpdateItem": 1}
    await index.due(AT)
    assert wire.taken() == {"Query": SHARDS}
    await index.list(IndexQuery(state=State.RUNNING))
    assert wire.taken() == {"Query": SHARDS}
    await index.list(IndexQuery())
    assert wire.taken() == {"Query": SHARDS * len(State)}
    await index.counts()
    assert wire.taken() == {"Query": SHARDS * len(State)}


async def test_a_renewal_that_is_partly_ahead_takes_a_second_call(opened: tuple[AwsIndex, Wire]) -> None:
    """An update expression knows no maximum: the first call tells what is behind."""
    index, wire = opened
    await index.put(running("w", due_at=AT + 99))
    wire.taken()
    assert await index.renew([Renewal("w", 1, AT + 60, AT + 61)]) == [True]
    assert wire.taken() == {"UpdateItem": 2}
    assert await index.get("w") == running("w", lease_until=AT + 60, due_at=AT + 99)
    wire.taken()
    assert await index.renew([Renewal("w", 1, AT, AT)]) == [True]  # all of it is behind: nothing to write
    assert wire.taken() == {"UpdateItem": 1}


async def test_a_long_list_reads_about_what_it_shows(opened: tuple[AwsIndex, Wire]) -> None:
    index, wire = opened
    await fill(index, [row(f"w{number:03}", number=number) for number in range(200)])
    wire.taken()
    page = await index.list(IndexQuery(state=State.QUEUED), limit=20)
    assert [found.work_id for found in page.rows] == [f"w{number}" for number in range(199, 179, -1)]
    asked = sum(arguments["Limit"] for _, arguments in wire.calls)
    assert asked <= 3 * 20
    assert len(wire.calls) <= 2 * SHARDS


# --- faults ------------------------------------------------------------------


async def test_a_put_whose_reply_is_lost_is_known_to_stand(opened: tuple[AwsIndex, Wire]) -> None:
    index, wire = opened
    wire.script("PutItem", LoseReply())
    assert await index.put(row("w"))
    assert wire.taken() == {"PutItem": 2}


async def test_a_taken_row_whose_reply_is_lost_is_known_to_be_taken(opened: tuple[AwsIndex, Wire]) -> None:
    """The repeated call meets its own write, and is settled without another read."""
    index, wire = opened
    given = row("w", due_at=AT)
    await index.put(given)
    wire.script("UpdateItem", LoseReply())
    wire.taken()
    assert await index.take_due(given, AT + 9)
    assert wire.taken() == {"UpdateItem": 2}
    assert not await index.take_due(given, AT + 9)  # somebody else with the same wish is told the truth


async def test_of_takers_that_set_the_same_due_time_one_wins(opened: tuple[AwsIndex, Wire]) -> None:
    index, _ = opened
    given = row("w", due_at=AT)
    await index.put(given)
    assert sum(await asyncio.gather(*(index.take_due(given, AT + 9) for _ in range(10)))) == 1


async def test_a_renewal_whose_reply_is_lost_is_done(opened: tuple[AwsIndex, Wire]) -> None:
    index, wire = opened
    await index.put(running("w"))
    wire.script("UpdateItem", LoseReply())
    assert await index.renew([Renewal("w", 1, AT + 60, AT + 61)]) == [True]
    assert await index.get("w") == running("w", lease_until=AT + 60, due_at=AT + 61)


async def test_throttled_calls_are_made_again_and_counted(stack: Stack) -> None:
    aws, wire = await stack.open()
    index = AwsIndex(aws)
    wire.script("PutItem", *[Fail("ProvisionedThroughputExceededException")] * 2)
    wire.script("Query", Fail("ThrottlingException"))
    assert await index.put(row("w", due_at=AT))
    assert len(await index.due(AT)) == 1
    counts = {"ProvisionedThroughputExceededException": 2, "ThrottlingException": 1}
    assert aws.patience.met.counts == counts


async def test_what_will_not_pass_is_a_storage_error(opened: tuple[AwsIndex, Wire]) -> None:
    index, wire = opened
    wire.script("GetItem", Fail("AccessDeniedException"))
    with pytest.raises(StorageError, match="get_item on wire") as raised:
        await index.get("w")
    assert "doctor" in raised.value.hint
    assert wire.taken() == {"GetItem": 1}


# --- due ---------------------------------------------------------------------


async def test_many_rows_of_one_instant_are_paged_without_reading_them_again(
    opened: tuple[AwsIndex, Wire],
) -> None:
    index, wire = opened
    rows = [row(f"w{number:03}", due_at=AT) for number in range(120)]
    await fill(index, rows)
    wire.taken()
    seen: list[IndexRow] = []
    for _ in range(13):
        seen += await index.due(AT + 1, limit=10, after=seen[-1] if seen else None)
    assert {found.work_id for found in seen} == {given.work_id for given in rows}
    assert len(seen) == 120
    assert sum(arguments["Limit"] for _, arguments in wire.calls) <= 13 * SHARDS * 16


async def test_due_after_a_row_that_is_due_later_is_empty(opened: tuple[AwsIndex, Wire]) -> None:
    index, wire = opened
    await fill(index, [row("a", due_at=AT), row("b", due_at=AT + 5)])
    wire.taken()
    assert await index.due(AT + 4, after=row("b", due_at=AT + 5)) == []
    assert wire.taken() == {}


async def test_due_after_a_row_that_is_due_this_instant(opened: tuple[AwsIndex, Wire]) -> None:
    """The bounds of a query never cross, which DynamoDB refuses."""
    index, _ = opened
    rows = [row(f"w{number}", due_at=AT) for number in range(9)]
    await fill(index, rows)
    seen: list[IndexRow] = []
    while page := await index.due(AT, limit=1, after=seen[-1] if seen else None):
        seen += page
    assert {found.work_id for found in seen} == {given.work_id for given in rows}
    assert len(seen) == 9


# --- lists -------------------------------------------------------------------


async def test_a_page_that_a_filter_empties_does_not_end_the_list(opened: tuple[AwsIndex, Wire]) -> None:
    index, wire = opened
    old = [row(f"old{number}", number=number) for number in range(3)]
    await fill(index, old + [row(f"w{n:03}", number=10 + n, engine="other") for n in range(150)])
    wire.taken()
    query = IndexQuery(State.QUEUED, "demo")
    page = await index.list(query, limit=2)
    assert [found.work_id for found in page.rows] == ["old2", "old1"]
    assert page.cursor is not None
    assert wire.taken()["Query"] <= 3 * SHARDS  # the pages grow: 8, 16 and 32 rows a shard
    rest = await index.list(query, cursor=page.cursor, limit=2)
    assert [found.work_id for found in rest.rows] == ["old0"]
    assert rest.cursor is None


async def test_a_list_that_filters_out_very_much_goes_on_by_cursor(
    opened: tuple[AwsIndex, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one call reads is bounded; pages are short or empty then, and nothing is left out."""
    monkeypatch.setitem(table.merge.__kwdefaults__ or {}, "rounds", 2)
    index, wire = opened
    rows = [row(f"w{n:03}", number=n, engine="other" if n % 50 else "demo") for n in range(300)]
    await fill(index, rows)
    wire.taken()
    ids, sizes = await ids_of_all_pages(index, IndexQuery(state=State.QUEUED, engine="demo"), 4)
    assert ids == ["w250", "w200", "w150", "w100", "w050", "w000"]
    assert len(sizes) > 2
    assert min(sizes) < 4
    assert len(wire.calls) <= len(sizes) * SHARDS * 2


async def test_a_list_keeps_to_created_after_page_by_page(opened: tuple[AwsIndex, Wire]) -> None:
    index, _ = opened
    await fill(index, [row(f"w{number}", number=number) for number in range(9)])
    query = IndexQuery(created_after=AT + 2)
    assert await ids_of_all_pages(index, query, 2) == (["w8", "w7", "w6", "w5", "w4", "w3"], [2, 2, 2])
    cursor = (await index.list(IndexQuery(), limit=8)).cursor  # stands at w1, before all of the query
    page = await index.list(query, cursor=cursor)
    assert (page.rows, page.cursor) == ([], None)


async def test_work_of_one_instant_is_listed_page_by_page(opened: tuple[AwsIndex, Wire]) -> None:
    index, _ = opened
    await fill(index, [row(f"w{number:02}") for number in range(25)])
    ids, sizes = await ids_of_all_pages(index, IndexQuery(), 4)
    assert ids == [f"w{number:02}" for number in reversed(range(25))]
    assert sizes == [4, 4, 4, 4, 4, 4, 1]


async def test_work_whose_state_changes_between_two_queries_is_listed_once(
    opened: tuple[AwsIndex, Wire],
) -> None:
    index, wire = opened
    newer = running("w", token=3)
    await index.put(newer)
    wire.script("Query", Answer({"Items": [row_item(row("w"), SHARDS)], "Count": 1}))  # the first state's
    page = await index.list(IndexQuery())
    assert page.rows == [newer]


@pytest.mark.parametrize("cursor", ["", "7", "x" * 500, "MTIz", "é", "a b"])
async def test_a_cursor_of_somebody_else_is_refused(opened: tuple[AwsIndex, Wire], cursor: str) -> None:
    index, wire = opened
    with pytest.raises(InputError, match="no cursor"):
        await index.list(IndexQuery(), cursor=cursor)
    assert wire.taken() == {}


async def test_a_cursor_can_stand_in_a_url(opened: tuple[AwsIndex, Wire]) -> None:
    index, _ = opened
    await fill(index, [row(f"a.b:c_{number}", number=number) for number in range(3)])
    cursor = (await index.list(IndexQuery(), limit=1)).cursor
    assert cursor is not None
    assert cursor.replace("-", "").replace("_", "").isalnum()


async def test_counts_go_over_all_pages(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "PARALLEL", 1)
    aws, wire = await stack.open(shards=1)
    key = {"work": {"S": "w"}, "state_key": {"S": "k"}, "created": {"S": "c"}}
    wire.script("Query", Answer({"Count": 40, "LastEvaluatedKey": key}), Answer({"Count": 2}))
    counts = await AwsIndex(aws).counts()
    assert counts == dict.fromkeys(State, 0) | {State.QUEUED: 42}
    starts = [arguments.get("ExclusiveStartKey") for _, arguments in wire.calls]
    assert starts == [None, key, *[None] * (len(State) - 1)]


async def test_lanes_cost_as_many_queries_as_states_and_go_over_all_pages(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks for two short attributes; a filter for each lane would read everything three times."""
    monkeypatch.setattr(table, "PARALLEL", 1)
    aws, wire = await stack.open(shards=1)
    key = {"work": {"S": "w"}, "state_key": {"S": "k"}, "created": {"S": "c"}}
    first = [{"lane": {"S": lane}, "created_at": {"N": at}} for lane, at in (("low", "5"), ("high", "6"))]
    second = [{"lane": {"S": "low"}, "created_at": {"N": "7"}}]
    wire.script("Query", Answer({"Items": first, "Count": 2, "LastEvaluatedKey": key}))
    wire.script("Query", Answer({"Items": second, "Count": 1}))
    found = await AwsIndex(aws).lane_counts()
    assert set(found) == {
        LaneCount(State.QUEUED, Lane.LOW, 2, 5.0),
        LaneCount(State.QUEUED, Lane.HIGH, 1, 6.0),
    }
    assert len(wire.calls) == 1 + len(State)
    assert {arguments["ProjectionExpression"] for _, arguments in wire.calls} == {"#lane, #created_at"}
    assert not any("FilterExpression" in arguments for _, arguments in wire.calls)


async def test_no_filter_names_a_key_of_its_index(opened: tuple[AwsIndex, Wire]) -> None:
    """DynamoDB refuses such a filter (Developer Guide, "Filter expressions"); no stand-in does."""
    index, wire = opened
    cursor = await _cursor_in_the_middle(index)
    wire.taken()
    await index.list(IndexQuery(State.QUEUED, "demo", "w", AT), cursor=cursor)
    await index.due(AT + 9, after=row("w1", due_at=AT))
    filters = [arguments.get("FilterExpression", "") for _, arguments in wire.calls]
    assert any("#work" in given for given in filters)  # a key of the table, which may be filtered
    for given in filters:
        assert not {"state_key", "created", "due_key", "due_at"} & set(re.findall(r"#(\w+)", given))


async def _cursor_in_the_middle(index: AwsIndex) -> str | None:
    await fill(index, [row(f"w{number}", number=number, due_at=AT) for number in range(4)])
    return (await index.list(IndexQuery(), limit=2)).cursor


# --- namespaces --------------------------------------------------------------


async def test_a_list_of_a_namespace_reads_no_other(opened: tuple[AwsIndex, Wire]) -> None:
    index, wire = opened
    await fill(index, [row("w"), row("team/w", number=1), row("team/v", number=2), row("tea/w", number=3)])
    wire.taken()
    assert (await ids_of_all_pages(index, IndexQuery(namespace="team"), 1))[0] == ["team/v", "team/w"]
    await index.counts("team")
    keys = {arguments["ExpressionAttributeValues"][":state_key"]["S"] for _, arguments in wire.calls}
    assert {key.partition("/")[0] for key in keys} == {"team"}


async def test_the_rows_of_all_namespaces_come_due(opened: tuple[AwsIndex, Wire]) -> None:
    index, _ = opened
    await fill(index, [row("w", due_at=AT), row("team/w", due_at=AT + 1), row("other/w", due_at=AT + 2)])
    due = await index.due(AT + 5)
    assert [found.work_id for found in due] == ["w", "team/w", "other/w"]
    for found in due:
        assert await index.get(found.work_id) == found
        assert await index.take_due(found, None)


async def test_a_row_that_is_written_anew_keeps_what_heartbeats_made_of_its_lease(stack: Stack) -> None:
    """Somebody signaled a step that runs for long: the entry says when its lease began, not what kept it."""
    aws, _ = await stack.open()
    backend = AwsBackend(aws, appends_in_flight=8)
    begun = first("w")
    held = follow(begun, Claimed("worker", AT + 30))
    signaled = follow(held, Signaled("s", "go"))
    await append_all(backend, [begun, held, signaled])
    beaten = replace(project(held), lease_until=AT + 900, due_at=AT + 901)
    await backend.index.put(beaten)
    done = await reindex(backend)
    assert (done.journals, done.missing, done.behind) == (1, 0, 1)
    found = await backend.index.get("w")
    assert found is not None
    assert (found.position, found.token, found.lease_until) == (2, held.position, AT + 900)
    await backend.close()
