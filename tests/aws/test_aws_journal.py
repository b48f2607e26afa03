"""What the contract suite does not show of the journal on DynamoDB: calls, items, faults and marks."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from msgspec import structs

from roost.clock import SystemIds
from roost.core.contract import ARTIFACTS_MAX
from roost.core.conversations import LINE_MAX
from roost.core.directives import SIGNAL_NAMES_MAX
from roost.core.new_work import LABEL_MAX_BYTES, LABELS_MAX
from roost.core.records import KEYS_MAX_BYTES, RECORDS_MAX
from roost.core.signals import PENDING_MAX, PENDING_NAMES_MAX_BYTES
from roost.core.step_log import KEPT_MAX_CHARS
from roost.errors import SchemaTooNew, StorageCorrupt, StorageError, StorageUnavailable
from roost.journal.entries import Body, Encoding, Entry
from roost.journal.events import Claimed, Committed, Kind
from roost.journal.family import CHILDREN_MAX
from roost.journal.projection import project
from roost.journal.values import Family, LogLine, Place, Wait
from roost.names import ID_MAX_CHARS, NAME_MAX_BYTES, REASON_MAX_CHARS
from roost.storage.aws import journal as journal_module
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.clients import Aws
from roost.storage.aws.cost import item_bytes
from roost.storage.aws.faults import Patience
from roost.storage.aws.index import AwsIndex
from roost.storage.aws.items import entry_of, item_of, size_of
from roost.storage.aws.journal import AwsJournal
from roost.storage.aws.limits import INLINE_MAX_BYTES
from roost.storage.aws.shrink import shrink, unshrink
from roost.storage.codec import encode_entry
from roost.testing.contract.harness import AT, first, follow
from roost.testing.contract.samples import chain, every_kind
from roost.testing.standins import StandIn
from tests.aws.test_group import QuickClock
from tests.aws.wire import Answer, Fail, LoseReply, Stack, Wire, new_stack

SHARDS = 4
LOST = "ConditionalCheckFailed"


@pytest_asyncio.fixture
async def stack(ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    stack = await new_stack(ministack, monkeypatch, shards=SHARDS)
    yield stack
    await stack.close()


@pytest_asyncio.fixture
async def opened(stack: Stack) -> tuple[AwsJournal, AwsIndex, Aws, Wire]:
    aws, wire = await stack.open()
    aws = replace(aws, patience=Patience(QuickClock(), SystemIds()))
    index = AwsIndex(aws)
    return AwsJournal(aws, index, AwsAccounts(aws), in_flight=4), index, aws, wire


Opened = tuple[AwsJournal, AwsIndex, Aws, Wire]


def cancelled(*codes: str) -> Fail:
    """A transaction that is cancelled for these reasons."""
    reasons = [{"Code": code, "Message": "…"} for code in codes]
    return Fail("TransactionCanceledException", more={"CancellationReasons": reasons})


# --- items -----------------------------------------------------------------------


def test_an_item_keeps_every_field_and_every_digit() -> None:
    for entry in every_kind():
        given = structs.replace(entry, at=entry.at + 1 / 3)
        assert entry_of(item_of(given, SHARDS)) == given


def test_an_item_leaves_out_what_has_its_usual_value() -> None:
    entry = chain("w", 3)[2]
    assert set(item_of(entry, SHARDS)) == {
        "work",
        "position",
        "entry",
        "kind",
        "version",
        "at",
        "actor",
        "event",
        "control",
        "body",
    }


def test_the_size_of_an_item_is_never_understated() -> None:
    for entry in (*every_kind(), first("w", resources=("ü" * 500,) * 8, body=bytes(20_000))):
        item = item_of(entry, SHARDS)
        texts = [text for value in item.values() for text in value.values()]
        true_bytes = sum(len(text if isinstance(text, bytes) else text.encode()) for text in texts)
        assert size_of(item) >= true_bytes + sum(map(len, item))


ITEM_MAX_BYTES = 400 << 10  # with the names of attributes (DynamoDB Developer Guide, "Quotas")


def noise(length: int, seed: int) -> str:
    """A text that can't be packed."""
    return hashlib.shake_256(b"%d" % seed).hexdigest(length)[:length]


def test_an_entry_that_is_full_in_every_way_is_below_what_an_item_may_have() -> None:
    """Each bound is that of the code that checks it; in life no entry meets more than a few of them."""
    keys = [(noise(KEYS_MAX_BYTES // RECORDS_MAX, n), n) for n in range(RECORDS_MAX)]
    names = [(n, noise(PENDING_NAMES_MAX_BYTES // PENDING_MAX, n)) for n in range(PENDING_MAX)]
    work_ids = [noise(63, n) + "/" + noise(ID_MAX_CHARS, n + 1) for n in range(LINE_MAX)]
    full = structs.replace(
        first("n" * 63 + "/" + "w" * ID_MAX_CHARS).control,
        once=tuple(keys),
        signals=tuple(names),
        labels=tuple((noise(LABEL_MAX_BYTES, n), noise(LABEL_MAX_BYTES, n)) for n in range(LABELS_MAX)),
        family=Family(
            ((1, CHILDREN_MAX),), "f" * (CHILDREN_MAX // 4), tuple(range(10**7, 10**7 + CHILDREN_MAX))
        ),
        line=tuple(Place(work_id, 10**6, 10**6) for work_id in work_ids),
        waits=Wait(tuple(noise(NAME_MAX_BYTES, n) for n in range(SIGNAL_NAMES_MAX))),
        reason="ü" * REASON_MAX_CHARS,
    )
    digests = tuple(noise(64, n) for n in range(ARTIFACTS_MAX))
    log = (LogLine(AT, "info", "ü" * KEPT_MAX_CHARS),)
    event = Committed(
        1, "s" * 200, artifacts=digests, consumed=tuple(range(10**7, 10**7 + PENDING_MAX)), log=log
    )
    body = Body(Encoding.ZSTD, bytes(INLINE_MAX_BYTES))
    entry = structs.replace(first("w"), event=event, control=full, body=body)
    assert item_bytes(item_of(entry, SHARDS)) < ITEM_MAX_BYTES


def test_only_entries_that_leave_the_lease_free_are_marked() -> None:
    """So a step inside a burst, and new work, pay for no index."""
    marked = {entry.position for entry in every_kind() if "mark_key" in item_of(entry, SHARDS)}
    free = {entry.position for entry in every_kind() if entry.control.lease is None}
    assert marked == free - {0}
    kinds = {entry.event.kind for entry in every_kind() if entry.position in marked}
    assert {Kind.RELEASED, Kind.BLOCKED, Kind.FAILED, Kind.CANCELLED, Kind.RETRIED} <= kinds
    assert Kind.CLAIMED not in kinds


def test_marks_of_a_day_are_spread_over_all_shards_and_never_of_a_namespace() -> None:
    keys = set()
    for number in range(50):
        entry = structs.replace(every_kind()[-1], work_id=f"team/w{number}")
        keys.add(item_of(entry, SHARDS)["mark_key"]["S"])
    day = int(every_kind()[-1].at // 86400)
    assert keys == {f"{day}#{shard}" for shard in range(SHARDS)}


def test_an_item_of_a_newer_format_is_refused() -> None:
    """Whatever else is in it, and however it is packed."""
    keys = {name: item_of(first("w"), SHARDS)[name] for name in ("work", "position")}
    for item in (keys, item_of(first("w"), SHARDS)):
        with pytest.raises(SchemaTooNew, match="entry 0 of w has format 99"):
            entry_of(item | {"format": {"N": "99"}, "control": {"B": b"?"}, "kind": {"S": "mused"}})


@pytest.mark.parametrize("later", [{"kind": {"S": "mused"}}, {"control": {"B": b"\x63packed"}}], ids=str)
def test_an_item_with_what_is_not_known_is_of_a_newer_roost(later: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(SchemaTooNew, match="entry 0 of w"):
        entry_of(item_of(first("w"), SHARDS) | later)


@pytest.mark.parametrize(
    "broken",
    [{"at": {"S": "x"}}, {"position": {"N": "one"}}, {"control": {"B": b""}}, {"event": {"S": "{"}}],
)
def test_an_item_that_is_no_entry_is_corrupt(broken: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(StorageCorrupt, match="of w"):
        entry_of(item_of(first("w"), SHARDS) | broken)
    with pytest.raises(StorageCorrupt):
        entry_of({})


# --- calls -----------------------------------------------------------------------


@pytest.mark.slow
async def test_each_transition_makes_the_calls_of_its_budget(opened: Opened) -> None:
    journal, _, _, wire = opened
    entries = chain("w", 4)
    await journal.append(entries[0])
    assert wire.taken() == {"TransactWriteItems": 1}  # enqueue
    await journal.tail("w")
    await journal.append(entries[1])
    assert wire.taken() == {"Query": 1, "PutItem": 1}  # claim; its row is the core's
    await journal.append(entries[2])
    await journal.append(entries[3])
    assert wire.taken() == {"PutItem": 2}  # two steps of a burst
    await journal.append(follow(entries[3], Committed(3, "done", is_finished=True)), with_row=True)
    assert wire.taken() == {"TransactWriteItems": 1}
    await journal.get("w", 2)
    await journal.read("w")
    assert wire.taken() == {"Query": 2}


@pytest.mark.slow
async def test_an_append_is_conditional_and_asks_who_won(opened: Opened) -> None:
    journal, index, _, wire = opened
    await journal.append(chain("w", 2)[1])
    arguments = wire.calls[0][1]
    assert arguments["ConditionExpression"] == "attribute_not_exists(#work)"
    assert arguments["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
    await journal.append(first("v"))
    entry, row = (action["Put"] for action in wire.calls[1][1]["TransactItems"])
    assert entry["ConditionExpression"] == "attribute_not_exists(#work)"
    assert entry["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
    assert row == {**index.row_put(project(first("v"))), "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


@pytest.mark.slow
async def test_reads_are_strongly_consistent(opened: Opened) -> None:
    journal, _, _, wire = opened
    await journal.tail("w")
    await journal.get("w", 1)
    await journal.read("w")
    assert [arguments["ConsistentRead"] for _, arguments in wire.calls] == [True] * 3


@pytest.mark.slow
async def test_new_work_is_packed_into_few_transactions(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, index, _, wire = opened
    entries = [first(f"w{number}") for number in range(60)]
    assert await journal.append_many(entries) == entries
    sizes = sorted(len(arguments["TransactItems"]) for _, arguments in wire.calls)
    assert sizes == [20, 50, 50]
    assert wire.taken() == {"TransactWriteItems": 3}
    monkeypatch.setattr(journal_module, "TRANSACTION_BYTES_MAX", 60_000)
    large = [first(f"v{number}", body=bytes(20_000)) for number in range(4)]
    assert await journal.append_many(large) == large
    assert [len(arguments["TransactItems"]) for _, arguments in wire.calls] == [4, 4]
    assert await index.get("w59") == project(entries[59])


@pytest.mark.slow
async def test_a_long_journal_is_read_page_by_page(opened: Opened) -> None:
    """DynamoDB API reference, "Query": a page ends after 1 MB."""
    journal, _, _, wire = opened
    entries = chain("w", 2)
    body = Body(Encoding.ZSTD, bytes(16 << 10))
    while len(entries) < 80:
        entries.append(follow(entries[-1], Committed(len(entries) - 1, "next", lease_until=AT), body=body))
    await journal.append_many(entries)
    wire.taken()
    assert await journal.read("w") == entries
    assert wire.taken() == {"Query": 2}
    assert await journal.read("w", limit=70, newest_first=True) == entries[:-71:-1]


# --- who won ---------------------------------------------------------------------


@pytest.mark.slow
async def test_a_lost_reply_is_settled_without_a_read(opened: Opened) -> None:
    journal, index, _, wire = opened
    entries = chain("w", 3)
    wire.script("TransactWriteItems", LoseReply())
    wire.script("PutItem", LoseReply())
    assert await journal.append(entries[0]) == entries[0]
    assert await journal.append(entries[1]) == entries[1]
    assert wire.taken() == {"TransactWriteItems": 2, "PutItem": 2}
    assert await index.get("w") == project(entries[0])
    assert await journal.read("w") == entries[:2]


@pytest.mark.slow
async def test_a_lost_position_gives_the_winner_without_a_read(opened: Opened) -> None:
    journal, _, _, wire = opened
    entries = chain("w", 2)
    await journal.append_many(entries)
    wire.taken()
    rivals = [first("w", by="rival"), follow(entries[0], Claimed("rival", AT), by="rival")]
    assert [await journal.append(rival) for rival in rivals] == entries
    assert wire.taken() == {"TransactWriteItems": 1, "PutItem": 1}


@pytest.mark.slow
async def test_an_error_that_comes_without_the_winner_costs_one_consistent_read(opened: Opened) -> None:
    journal, _, _, wire = opened
    entries = chain("w", 2)
    await journal.append_many(entries)
    wire.script("PutItem", Fail("ConditionalCheckFailedException"))
    wire.script("TransactWriteItems", cancelled(LOST, "None"))
    wire.taken()
    rivals = [first("w", by="rival"), follow(entries[0], Claimed("rival", AT), by="rival")]
    assert [await journal.append(rival) for rival in rivals] == entries
    reads = [arguments for operation, arguments in wire.calls if operation == "BatchGetItem"]
    assert [next(iter(read["RequestItems"].values()))["ConsistentRead"] for read in reads] == [True] * 2
    assert wire.taken() == {"TransactWriteItems": 1, "PutItem": 1, "BatchGetItem": 2}


@pytest.mark.slow
async def test_an_item_of_another_position_is_never_taken_for_the_winner(opened: Opened) -> None:
    journal, _, _, wire = opened
    other = item_of(chain("w", 3)[2], SHARDS)
    wire.script("PutItem", Fail("ConditionalCheckFailedException", more={"Item": other}))
    with pytest.raises(StorageCorrupt, match="another position"):
        await journal.append(chain("w", 2)[1])


@pytest.mark.slow
async def test_a_reply_that_was_cut_off_is_not_an_empty_journal(opened: Opened) -> None:
    """The SDK takes it for one without items; a worker would believe that the work is unknown."""
    journal, _, aws, wire = opened
    entries = chain("w", 2)
    await journal.append_many(entries)
    wire.script("Query", Answer({}), Answer({}))
    assert await journal.tail("w") == entries[1]
    wire.script("Query", Answer({}))
    assert await journal.get("w", 0) == entries[0]
    assert aws.patience.met.counts == {"ResponseParserError": 3}


# --- transactions ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
async def test_a_transaction_that_is_cancelled_for_the_moment_is_made_again(
    opened: Opened, code: str
) -> None:
    journal, index, aws, wire = opened
    wire.script("TransactWriteItems", cancelled(code, "None"), cancelled("None", code))
    assert await journal.append(first("w")) == first("w")
    assert wire.taken() == {"TransactWriteItems": 3}
    assert aws.patience.met.counts == {"TransactionCanceledException": 2}
    assert await index.get("w") == project(first("w"))


@pytest.mark.slow
async def test_a_transaction_that_is_cancelled_for_good_is_an_error(opened: Opened) -> None:
    journal, _, _, wire = opened
    wire.script("TransactWriteItems", cancelled("ValidationError", "None"))
    with pytest.raises(StorageError, match="TransactionCanceled"):
        await journal.append(first("w"))
    assert await journal.tail("w") is None


@pytest.mark.slow
async def test_losers_are_taken_out_of_a_transaction_and_the_others_go_on(opened: Opened) -> None:
    journal, index, _, wire = opened
    standing = [first("w3", by="rival"), first("w7", by="rival")]
    await journal.append_many(standing)
    wire.taken()
    entries = [first(f"w{number}") for number in range(10)]
    stand = await journal.append_many(entries)
    assert stand == [*entries[:3], standing[0], *entries[4:7], standing[1], *entries[8:]]
    assert wire.taken() == {"TransactWriteItems": 2}
    assert await index.get("w3") == project(standing[0])
    assert await index.get("w9") == project(entries[9])


@pytest.mark.slow
async def test_a_conflict_beside_a_loss_does_not_stop_the_others(opened: Opened) -> None:
    journal, _, _, wire = opened
    rival, *entries = first("a", by="rival"), first("b"), first("c")
    await journal.append(rival)
    wire.taken()
    wire.script("TransactWriteItems", cancelled(LOST, "None", "TransactionConflict", "None", "None", "None"))
    assert await journal.append_many([first("a"), *entries]) == [rival, *entries]
    assert wire.taken() == {"TransactWriteItems": 2, "BatchGetItem": 1}


@pytest.mark.slow
async def test_a_lost_reply_of_a_packed_transaction_is_settled_without_a_read(opened: Opened) -> None:
    journal, _, _, wire = opened
    entries = [first(f"w{number}") for number in range(8)]
    wire.script("TransactWriteItems", LoseReply())
    assert await journal.append_many(entries) == entries
    assert wire.taken() == {"TransactWriteItems": 2}


@pytest.mark.slow
async def test_a_row_that_is_ahead_stays_and_the_entry_is_written(opened: Opened) -> None:
    """A heartbeat or a settling worker wrote the row of a later entry; that must not stop an append."""
    journal, index, _, wire = opened
    entries = chain("w", 4)
    await journal.append_many(entries[:2])
    await index.put(project(entries[3]))
    wire.taken()
    assert await journal.append(entries[2], with_row=True) == entries[2]
    assert wire.taken() == {"TransactWriteItems": 1, "PutItem": 1}
    assert await journal.tail("w") == entries[2]
    assert await index.get("w") == project(entries[3])


@pytest.mark.slow
async def test_nothing_is_appended_to_work_that_is_being_deleted(opened: Opened) -> None:
    """Its entries go one after the other; one that came in between would stand alone."""
    journal, _, _, wire = opened
    gone = {"Code": LOST, "Item": {"work": {"S": "w"}, "expiring": {"BOOL": True}}}
    reasons = {"CancellationReasons": [{"Code": "None"}, gone]}
    wire.script("TransactWriteItems", Fail("TransactionCanceledException", more=reasons))
    with pytest.raises(StorageUnavailable, match="being deleted"):
        await journal.append(chain("w", 2)[1], with_row=True)
    assert wire.taken() == {"TransactWriteItems": 1}


# --- marks -----------------------------------------------------------------------


@pytest.mark.slow
async def test_the_index_of_marks_has_nothing_of_a_burst(opened: Opened) -> None:
    journal, _, aws, _ = opened
    entries = every_kind()
    for entry in entries:
        await journal.append(entry)
    await journal.append_many(chain("burst", 9))
    dynamodb = await aws.clients.get("dynamodb")
    found = await dynamodb.scan(TableName=aws.names.journal, IndexName="marks")
    assert {(item["work"]["S"], int(item["position"]["N"])) for item in found["Items"]} == {
        ("w", entry.position) for entry in entries[1:] if entry.control.lease is None
    }
    assert all(set(item) == {"work", "position", "mark_key", "mark_at"} for item in found["Items"])


def test_entries_of_one_step_have_no_more_than_a_write_unit_of_overhead() -> None:
    """The cost bar is met with 1 kB stored: what is not the body must leave it room."""
    entries: list[Entry] = chain("0" * 22, 6)
    item = item_of(structs.replace(entries[-1], body=None), SHARDS)
    texts = sum(len(text) for value in item.values() for text in value.values())
    assert texts + sum(map(len, item)) < 300


def test_the_control_state_is_packed_and_every_dictionary_of_it_still_reads() -> None:
    for entry in every_kind():
        stored = encode_entry(entry)
        near = stored.actor.encode() + stored.event
        assert unshrink(shrink(stored.control, near), near) == stored.control
    entry = chain("0" * 22, 6)[-1]
    stored = encode_entry(entry)
    assert len(shrink(stored.control, stored.actor.encode() + stored.event)) < len(stored.control) / 3
    of_the_first = bytes.fromhex("01c317f829a9b9f9a811500b00")
    assert unshrink(of_the_first, b"w") == b'{"state":"queued","engine":"demo","position":0}'


@pytest.mark.parametrize("damage", [lambda data: data[:-4], lambda _: b""])
def test_a_damaged_control_state_is_told(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(StorageCorrupt, match="control state"):
        unshrink(damage(shrink(b'{"state":"queued","engine":"demo"}', b"w")), b"w")
