"""What the contract suite does not show of claims on DynamoDB: calls, races, faults, namespaces."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from roost.clock import SystemClock
from roost.errors import StorageCorrupt, StorageError, StorageUnavailable
from roost.journal.claims import Acquired, Owner, Refused, ResourceView, Waiter
from roost.journal.limits import Rate, SetCapacity, SetRate
from roost.storage.aws import claims as module
from roost.storage.aws import lines as lines_module
from roost.storage.aws.claims import AwsClaims
from roost.storage.aws.clients import Aws
from roost.testing.contract.claims import leave, release, take, views
from roost.testing.contract.harness import AT
from roost.testing.standins import StandIn
from tests.aws.wire import Answer, Fail, First, LoseReply, Stack, Wire, new_stack

pytestmark = pytest.mark.slow

A, B, C = Owner("a", 1), Owner("b", 1), Owner("c", 1)
DEADLINE_SECONDS = 60.0
LOST_CONDITION = Fail(
    "TransactionCanceledException",
    more={"CancellationReasons": [{"Code": "ConditionalCheckFailed"}, {"Code": "None"}]},
)
CONFLICT = Fail(
    "TransactionCanceledException",
    more={"CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}]},
)


class HastyClock(SystemClock):
    """Never waits."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def stack(ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    stack = await new_stack(ministack, monkeypatch)
    yield stack
    await stack.close()


@pytest_asyncio.fixture
async def opened(stack: Stack) -> tuple[AwsClaims, Wire]:
    aws, wire = await stack.open()
    return AwsClaims(aws), wire


async def items(aws: Aws) -> list[dict[str, Any]]:
    """All that the claims table holds."""
    dynamodb = await aws.clients.get("dynamodb")
    found: list[dict[str, Any]] = (await dynamodb.scan(TableName=aws.names.claims, ConsistentRead=True))[
        "Items"
    ]
    return found


# --- calls -------------------------------------------------------------------


async def test_calls_where_nobody_else_is(opened: tuple[AwsClaims, Wire]) -> None:
    """Several resources are taken in one transaction; asking again writes nothing."""
    claims, wire = opened
    assert await take(claims, A, "r1", "r2", "r3") == Acquired()
    [actions] = [arguments["TransactItems"] for name, arguments in wire.calls if name == "TransactWriteItems"]
    assert len(actions) == 4  # three resources and what the work item has
    assert wire.taken() == {"BatchGetItem": 1, "TransactWriteItems": 1}
    assert await take(claims, A, "r1", "r2", "r3") == Acquired()
    assert wire.taken() == {"BatchGetItem": 1}
    assert await release(claims, A, at=AT) == []
    assert wire.taken() == {"GetItem": 1, "BatchGetItem": 1, "TransactWriteItems": 1}
    assert await release(claims, A, at=AT) == []
    assert wire.taken() == {"GetItem": 1}
    assert await leave(claims, "a", at=AT) == []
    assert wire.taken() == {"GetItem": 1}


async def test_calls_of_a_line(opened: tuple[AwsClaims, Wire]) -> None:
    claims, wire = opened
    await take(claims, A, "r1", "r2")
    wire.taken()
    assert await take(claims, B, "r1", "r2") == Refused([A], [])
    assert wire.taken() == {"BatchGetItem": 1, "TransactWriteItems": 1}
    assert await take(claims, B, "r1", "r2") == Refused([A], [])
    assert wire.taken() == {"BatchGetItem": 2}  # who waits already writes nothing
    assert await release(claims, A, at=AT) == ["b"]
    assert wire.taken() == {"GetItem": 1, "BatchGetItem": 1, "Query": 2, "TransactWriteItems": 1}
    assert await claims.is_called("b", now=AT)
    assert wire.taken() == {"GetItem": 1, "BatchGetItem": 2}
    assert await take(claims, B, "r1", "r2") == Acquired()
    assert wire.taken() == {"BatchGetItem": 2, "TransactWriteItems": 1}  # nobody is before the first
    await take(claims, C, "r1")
    wire.taken()
    assert await leave(claims, "c", at=AT) == []
    assert wire.taken() == {"GetItem": 1, "BatchGetItem": 1, "TransactWriteItems": 1}


async def test_calls_of_a_limited_resource(opened: tuple[AwsClaims, Wire]) -> None:
    """Each start that is counted is one read and one transaction, as the first is."""
    claims, wire = opened
    await claims.change("r", SetRate(Rate(2, 60.0)), now=AT)
    assert wire.taken() == {"GetItem": 1, "TransactWriteItems": 1}
    for use in (1, 2):
        assert await take(claims, A, "r", use=use) == Acquired(is_counted=True)
        assert wire.taken() == {"BatchGetItem": 1, "TransactWriteItems": 1}
    assert isinstance(await take(claims, A, "r", use=3), Refused)
    assert wire.taken() == {"BatchGetItem": 1, "TransactWriteItems": 1}


async def test_more_waiters_than_a_transaction_holds_are_called_in_several(
    opened: tuple[AwsClaims, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "ACTIONS_MAX", 10)
    claims, wire = opened
    await take(claims, A, "r")
    names = [f"w{number:02}" for number in range(25)]
    for name in names:
        await take(claims, Owner(name, 1), "r")
    wire.taken()
    called = await claims.change("r", SetCapacity(21), now=AT)
    assert [call.work_id for call in called] == names[:20]
    assert wire.taken()["TransactWriteItems"] == 3


async def test_decisions_rest_on_consistent_reads(opened: tuple[AwsClaims, Wire]) -> None:
    claims, wire = opened
    await take(claims, A, "r")
    await take(claims, B, "r")
    await release(claims, A, at=AT)
    await leave(claims, "b", at=AT)
    for name, arguments in wire.calls:
        if name == "BatchGetItem":
            [asked] = arguments["RequestItems"].values()
            assert asked["ConsistentRead"] is True
        elif name in ("GetItem", "Query"):
            assert arguments["ConsistentRead"] is True


async def test_as_many_resources_as_work_may_have_fit_into_a_transaction(
    opened: tuple[AwsClaims, Wire],
) -> None:
    claims, wire = opened
    names = [f"{number:04}" + "x" * 1020 for number in range(32)]
    await take(claims, A, *names)
    await take(claims, B, *names)
    await release(claims, A, at=AT)
    assert await take(claims, B, *names) == Acquired()
    sizes = [len(call["TransactItems"]) for name, call in wire.calls if name == "TransactWriteItems"]
    assert sizes == [33, 65, 65, 65]
    with pytest.raises(StorageError, match="at most 32"):
        await take(claims, C, *names, "one more")


async def test_the_table_is_empty_when_nothing_is_held_or_waited_for(stack: Stack) -> None:
    aws, _ = await stack.open()
    claims = AwsClaims(aws)
    await take(claims, A, "r1", "r2")
    await take(claims, B, "r2", "r3")
    await take(claims, C, "r1", "r2", "r3")
    await release(claims, A, at=AT)
    await leave(claims, "c", at=AT)
    assert await take(claims, B, "r2", "r3") == Acquired()
    await release(claims, B, at=AT)
    assert await items(aws) == []


# --- fencing tokens, races ---------------------------------------------------


async def test_a_zombie_paused_between_its_reads_and_its_write_takes_nothing(stack: Stack) -> None:
    """It saw the resource free; meanwhile the next lease of the same work item took it."""
    (slow, wire), (fast, _) = await stack.open(), await stack.open()
    newer = Owner("a", 9)
    wire.script("TransactWriteItems", First(lambda: take(AwsClaims(fast), newer, "r1", "r2")))
    assert await take(AwsClaims(slow), A, "r1", "r2") == Refused([newer], [])
    shown = await views(AwsClaims(fast))
    assert [owners for owners, _ in shown.values()] == [[newer], [newer]]


async def test_a_resource_that_was_taken_and_freed_and_taken_meanwhile_is_not_taken(stack: Stack) -> None:
    """The item looks as it did, but its revision never comes back."""
    (slow, wire), (fast, _) = await stack.open(), await stack.open()
    other = AwsClaims(fast)
    await take(other, B, "r")

    async def meanwhile() -> None:
        await release(other, B, at=AT)
        await take(other, C, "r")
        await release(other, C, at=AT)
        await take(other, B, "r")
        await take(other, C, "r")

    wire.script("TransactWriteItems", First(meanwhile))
    assert await take(AwsClaims(slow), A, "r") == Refused([B], [])
    assert await views(other) == {"r": ([B], ["c", "a"])}


async def test_a_release_does_not_take_what_a_newer_lease_took_meanwhile(stack: Stack) -> None:
    (slow, wire), (fast, _) = await stack.open(), await stack.open()
    newer = Owner("a", 9)
    await take(AwsClaims(fast), A, "r1", "r2")
    wire.script("BatchGetItem", First(lambda: take(AwsClaims(fast), newer, "r1")))
    assert await release(AwsClaims(slow), A, at=AT) == []
    assert await views(AwsClaims(fast)) == {"r1": ([newer], [])}


async def test_a_release_calls_who_joined_the_line_meanwhile(stack: Stack) -> None:
    """No wake-up is lost: the release sees the waiter, or the waiter sees the resource free."""
    (slow, wire), (fast, _) = await stack.open(), await stack.open()
    await take(AwsClaims(fast), A, "r")
    wire.script("TransactWriteItems", First(lambda: take(AwsClaims(fast), B, "r")))
    assert await release(AwsClaims(slow), A, at=AT) == ["b"]


async def test_of_many_tokens_at_once_the_newest_holds_it_all(stack: Stack) -> None:
    ports = [AwsClaims((await stack.open())[0]) for _ in range(2)]
    tokens = random.Random(3).sample(range(1, 13), 12)
    answers = await asyncio.gather(
        *(take(ports[n % 2], Owner("a", token), "r1", "r2") for n, token in enumerate(tokens))
    )
    assert answers[tokens.index(12)] == Acquired()
    shown = await views(ports[0])
    assert [owners for owners, _ in shown.values()] == [[Owner("a", 12)]] * 2


async def test_twenty_at_once_with_overlapping_sets_each_get_their_turn(stack: Stack) -> None:
    """Never two owners of a resource, never a dead-lock, and nobody is left behind."""
    opened = [await stack.open() for _ in range(4)]
    chance = random.Random(7)
    holders: dict[str, str] = {}
    awake = {f"w{number:02}": asyncio.Event() for number in range(20)}

    async def work(work_id: str, claims: AwsClaims, resources: list[str]) -> None:
        owner = Owner(work_id, 1)
        while await take(claims, owner, *resources) != Acquired():
            await awake[work_id].wait()  # only a release wakes it: a lost wake-up would hang the test
            awake[work_id].clear()
        for resource in resources:
            assert holders.setdefault(resource, work_id) == work_id
        await asyncio.sleep(chance.uniform(0, 0.01))
        for resource in resources:
            del holders[resource]
        for woken in await release(claims, owner, at=AT):
            awake[woken].set()

    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(
            *(
                work(work_id, AwsClaims(opened[number % 4][0]), chance.sample(["r1", "r2", "r3", "r4"], 2))
                for number, work_id in enumerate(awake)
            )
        )
    assert holders == {}
    assert await items(opened[0][0]) == []


async def test_a_crowd_joins_one_line_and_leaves_it(stack: Stack) -> None:
    aws, wire = await stack.open()
    claims = AwsClaims(aws)
    await take(claims, A, "r")
    crowd = [f"w{number:02}" for number in range(40)]
    wire.taken()
    async with asyncio.timeout(DEADLINE_SECONDS):
        answers = await asyncio.gather(*(take(claims, Owner(work_id, 1), "r") for work_id in crowd))
        assert answers == [Refused([A], [])] * 40
        assert wire.taken()["TransactWriteItems"] <= 2 * 40  # of one process, one at a time tries again
        [view] = await claims.show()
        assert sorted(waiter.work_id for waiter in view.waiters) == crowd
        await asyncio.gather(*(leave(claims, work_id, at=AT) for work_id in crowd))
    assert await views(claims) == {"r": ([A], [])}


# --- faults ------------------------------------------------------------------


async def test_a_transaction_conflict_is_tried_again_and_counted(stack: Stack) -> None:
    aws, wire = await stack.open()
    claims = AwsClaims(aws)
    wire.script("TransactWriteItems", CONFLICT, CONFLICT)
    assert await take(claims, A, "r1") == Acquired()
    assert wire.taken() == {"BatchGetItem": 1, "TransactWriteItems": 3}
    assert aws.patience.met.counts == {"TransactionCanceledException": 2}


async def test_a_lost_condition_is_read_and_decided_again(opened: tuple[AwsClaims, Wire]) -> None:
    claims, wire = opened
    wire.script("TransactWriteItems", LOST_CONDITION)
    assert await take(claims, A, "r1") == Acquired()
    assert wire.taken() == {"BatchGetItem": 2, "TransactWriteItems": 2}


async def test_endless_contention_is_an_error_that_may_pass(stack: Stack) -> None:
    aws, wire = await stack.open()
    claims = AwsClaims(Aws(aws.clients, aws.names, aws.patience, HastyClock(), aws.ids))
    wire.script("TransactWriteItems", *[LOST_CONDITION] * (1 + module.TRIES))
    with pytest.raises(StorageUnavailable, match="acquire for a"):
        await take(claims, A, "r1")
    assert wire.taken()["TransactWriteItems"] == 1 + module.TRIES
    assert await take(claims, A, "r1") == Acquired()


async def test_a_cancelled_transaction_for_another_reason_is_an_error(
    opened: tuple[AwsClaims, Wire],
) -> None:
    claims, wire = opened
    reasons = {"CancellationReasons": [{"Code": "ItemCollectionSizeLimitExceeded"}, {"Code": "None"}]}
    wire.script("TransactWriteItems", Fail("TransactionCanceledException", more=reasons))
    with pytest.raises(StorageError, match="transact_write_items"):
        await take(claims, A, "r1")


async def test_writes_whose_reply_is_lost_are_done_once(opened: tuple[AwsClaims, Wire]) -> None:
    """Also the answer is the right one: who is to be woken is not forgotten."""
    claims, wire = opened
    wire.script("TransactWriteItems", *[LoseReply()] * 4)
    for write in range(4):
        match write:
            case 0:
                assert await take(claims, A, "r") == Acquired()
            case 1:
                assert await take(claims, B, "r") == Refused([A], [])
                await take(claims, C, "r")
            case 2:
                assert await release(claims, A, at=AT + 1) == ["b"]
            case 3:
                assert await leave(claims, "b", at=AT + 2) == ["c"]
    assert await claims.show() == [ResourceView("r", [], [Waiter("c", AT, AT + 2)])]


async def test_a_repeated_write_is_known_by_its_revision(opened: tuple[AwsClaims, Wire]) -> None:
    """Beyond the ten minutes for which a client request token holds, or where it is ignored."""
    claims, wire = opened
    await take(claims, A, "r")
    await take(claims, B, "r")
    wire.taken()
    written: list[dict[str, Any]] = []

    async def write_it_before() -> None:
        """As an earlier try of the same call does, whose reply and token are forgotten."""
        [(_, arguments)] = [call for call in wire.calls if call[0] == "TransactWriteItems"]
        actions = {**arguments, "ClientRequestToken": "another"}
        written.append(actions)
        dynamodb = await claims._table._aws.clients.get("dynamodb")
        await dynamodb.transact_write_items(**actions)

    wire.script("TransactWriteItems", First(write_it_before))
    assert await release(claims, A, at=AT) == ["b"]
    assert len(written) == 1
    assert wire.taken() == {"GetItem": 1, "BatchGetItem": 1, "Query": 1, "TransactWriteItems": 2}


async def test_keys_that_a_read_left_out_are_asked_for_again(opened: tuple[AwsClaims, Wire]) -> None:
    """A resource that is held must not look free because the table was busy."""
    claims, wire = opened
    await take(claims, A, "r1", "r2")
    wire.taken()
    name = claims._table.name
    keys = [{"subject": {"S": f"/r#r{number}"}, "part": {"S": "head"}} for number in (1, 2)]
    busy = Answer({"Responses": {name: []}, "UnprocessedKeys": {name: {"Keys": keys}}})
    wire.script("BatchGetItem", busy, busy)
    assert await take(claims, B, "r1", "r2") == Refused([A], [])
    assert wire.taken() == {"BatchGetItem": 3, "TransactWriteItems": 1}  # none that was refused


@pytest.mark.parametrize("kind", ["/r#r head", "/r#r wait#", "/w#b claims"])
async def test_an_item_that_cannot_be_read_is_corrupt(stack: Stack, kind: str) -> None:
    """Nothing is guessed: a resource whose item is damaged does not look free."""
    aws, _ = await stack.open()
    claims = AwsClaims(aws)
    await take(claims, A, "r")
    await take(claims, B, "r")
    await release(claims, A, at=AT)
    subject, part = kind.split()
    [item] = [
        item
        for item in await items(aws)
        if item["subject"]["S"] == subject and item["part"]["S"].startswith(part)
    ]
    dynamodb = await aws.clients.get("dynamodb")
    bare = {"subject": item["subject"], "part": item["part"]}
    await dynamodb.put_item(TableName=aws.names.claims, Item=bare)
    with pytest.raises(StorageCorrupt, match="can't be read"):
        await take(claims, B, "r")


# --- lines, lists ------------------------------------------------------------


async def test_of_a_long_line_the_first_are_named(
    opened: tuple[AwsClaims, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINE_MAX", 3)
    claims, _ = opened
    await take(claims, A, "r")
    for number in range(6):
        await take(claims, Owner(f"w{number}", 1), "r")
    await release(claims, A, at=AT)
    assert await take(claims, Owner("w5", 1), "r") == Refused([], ["w0", "w1", "w2"])
    assert await take(claims, Owner("w0", 1), "r") == Acquired()


async def test_a_line_is_in_the_order_of_arrival_whatever_the_clocks_say(
    opened: tuple[AwsClaims, Wire],
) -> None:
    claims, _ = opened
    await take(claims, A, "r")
    for number, name in enumerate("edcb"):
        await take(claims, Owner(name, 1), "r", at=AT - 100 * number)
    assert await views(claims) == {"r": ([A], ["e", "d", "c", "b"])}


async def test_show_goes_over_all_pages_of_its_scan(opened: tuple[AwsClaims, Wire]) -> None:
    claims, wire = opened
    await take(claims, A, "r1", "r2")
    key = {"subject": {"S": "/r#r0"}, "part": {"S": "head"}}
    wire.script("Scan", Answer({"Items": [{"subject": {"S": "/r#r2"}}], "LastEvaluatedKey": key}))
    wire.taken()
    assert {view.resource for view in await claims.show()} == {"r1", "r2"}
    scans = [arguments for name, arguments in wire.calls if name == "Scan"]
    assert [arguments.get("ExclusiveStartKey") for arguments in scans] == [None, key]


# --- namespaces --------------------------------------------------------------


async def test_every_key_begins_with_its_namespace(stack: Stack) -> None:
    """So that a policy with `dynamodb:LeadingKeys` `team/*` can fence a tenant in."""
    aws, _ = await stack.open()
    claims = AwsClaims(aws)
    await take(claims, Owner("team/a", 1), "r", "tea/r#x")
    await take(claims, Owner("team/b", 1), "r")
    found = await items(aws)
    assert len(found) == 5
    assert all(item["subject"]["S"].startswith("team/") for item in found)


async def test_names_of_resources_and_work_do_not_meet(stack: Stack) -> None:
    aws, _ = await stack.open()
    claims = AwsClaims(aws)
    for number, name in enumerate(("w", "w#w", "#", "/", "head", "wait#000000000000000", "team/r#r")):
        assert await take(claims, Owner("w", number), name) == Acquired()
    assert len(await claims.show()) == 7
    assert await claims.show(namespace="team") == []
