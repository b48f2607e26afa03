"""Expiry on DynamoDB: it races with a retry, and who dies midway leaves it to the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from msgspec import structs

from roost.clock import SystemIds
from roost.errors import StorageError, StorageUnavailable
from roost.journal.accounts import DAY_SECONDS, DAYS_KEPT, Account, Charge
from roost.journal.entries import Entry
from roost.journal.events import Claimed, Committed, Enqueued, Retried
from roost.journal.projection import project
from roost.models import State
from roost.storage.aws import expiry
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.admin import create_stack
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.clients import Aws
from roost.storage.aws.index import AwsIndex
from roost.storage.aws.journal import AwsJournal
from roost.storage.aws.names import EXPIRES_AT, Names, definition
from roost.storage.aws.progress import Progress
from roost.storage.aws.reindex import Reindexed, reindex
from roost.storage.ports import IndexQuery
from roost.testing.contract.harness import AT, first, follow
from roost.testing.standins import StandIn
from tests.aws.wire import Fail, First, Stack, Wire, everything, new_stack
from tests.standins.harness import nothing_alive_expires

pytestmark = pytest.mark.slow
DAY = 86_400.0


@dataclass
class Opened:
    """A journal with its index and its calls; `other` is another process'."""

    aws: Aws
    journal: AwsJournal
    index: AwsIndex
    wire: Wire
    other: AwsJournal

    async def ended(
        self, work_id: str, at: float = AT, *, by: str = "worker", account: str = ""
    ) -> list[Entry]:
        """A journal of work that was done at an instant, with its row."""
        begun = first(work_id, at=at - 100, by=by)
        assert isinstance(begun.event, Enqueued)
        event, control = structs.replace(begun.event, account=account), begun.control
        begun = structs.replace(begun, event=event, control=structs.replace(control, account=account))
        held = follow(begun, Claimed("worker", at), at=at - 50, by=by)
        entries = [begun, held, follow(held, Committed(1, "done", is_finished=True), at=at, by=by)]
        for entry in entries:
            assert await self.journal.append(entry) == entry
        row = project(entries[-1])
        assert await self.index.put(
            structs.replace(row, due_at=None) if account else row
        )  # what it owes is done
        return entries


@pytest_asyncio.fixture(params=["ministack", "moto"])
async def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    monkeypatch.setattr(expiry, "DAYS_MAX", 5)
    standin: StandIn = request.getfixturevalue(request.param)
    stack: Stack = await new_stack(standin, monkeypatch, shards=2)
    aws, wire = await stack.open()
    theirs, _ = await stack.open()
    index = AwsIndex(aws)
    yield Opened(
        aws,
        AwsJournal(aws, index, AwsAccounts(aws), in_flight=64),
        index,
        wire,
        AwsJournal(theirs, AwsIndex(theirs), AwsAccounts(theirs), in_flight=64),
    )
    await stack.close()


async def test_a_retry_that_comes_first_wins(opened: Opened) -> None:
    entries = await opened.ended("w")
    again = follow(entries[-1], Retried("again"), at=AT + 5)

    async def retry() -> None:
        assert await opened.other.append(again, with_row=True) == again

    opened.wire.script("UpdateItem", First(_nothing), First(retry))
    assert await opened.journal.expire(AT + 1) == []
    assert await opened.journal.read("w") == [*entries, again]
    row = await opened.index.get("w")
    assert row is not None
    assert row.state is State.QUEUED


async def test_a_retry_that_comes_too_late_is_refused_and_leaves_nothing(opened: Opened) -> None:
    entries = await opened.ended("w")
    refused: list[StorageUnavailable] = []

    async def retry() -> None:
        with pytest.raises(StorageUnavailable) as caught:
            await opened.other.append(follow(entries[-1], Retried("again"), at=AT + 5), with_row=True)
        refused.append(caught.value)

    opened.wire.script("DeleteItem", First(retry))
    assert await opened.journal.expire(AT + 1) == ["w"]
    assert len(refused) == 1
    assert await opened.journal.read("w") == []
    assert await opened.index.get("w") is None


async def test_who_slept_through_a_deletion_brings_nothing_back(opened: Opened) -> None:
    """What would follow an entry that is gone is refused, whether time to live took the row or not."""
    entries = await opened.ended("w")
    assert await opened.journal.expire(AT + 1) == ["w"]
    dynamodb = await opened.aws.clients.get("dynamodb")
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await opened.other.append(follow(entries[-1], Retried("again"), at=AT + 5), with_row=True)
        assert not await opened.index.take_due(project(entries[-1]), AT + 9)
        await dynamodb.delete_item(TableName=opened.aws.names.index, Key={"work": {"S": "w"}})
    assert await opened.journal.read("w") == []
    assert await opened.index.get("w") is None


@pytest.mark.parametrize("write", range(7))
async def test_who_dies_midway_leaves_it_to_the_next(opened: Opened, write: int) -> None:
    """Before each of its writes. The id is wholly there, or free, or in a moment."""
    entries = await opened.ended("w")
    noted, struck_out = "UpdateItem", "UpdateItem"
    writes = (noted, "UpdateItem", *["DeleteItem"] * 3, "UpdateItem", struck_out)

    async def dies() -> None:
        """The entries go side by side: what went out before has come to its end."""
        while len(await opened.other.read("w")) > max(0, min(3, 5 - write)):
            await asyncio.sleep(0.01)
        raise StorageError("the worker dies")

    opened.wire.script(writes[write], *[First(_nothing)] * writes[:write].count(writes[write]))
    opened.wire.script(writes[write], First(dies), First(dies))
    with pytest.raises(StorageError):
        await opened.journal.expire(AT + 1)
    left = await opened.journal.read("w")
    assert left[-1:] == ([] if write >= 5 else entries[-1:]), "the tail says that the work has ended"
    retried, again = follow(entries[-1], Retried("no"), at=AT + 9), first("w", by="new", at=AT + 9)
    if left and write > 1:
        with pytest.raises(StorageUnavailable):
            await opened.other.append(retried, with_row=True)
    if entries[0] in left:
        assert await opened.other.append(again) == entries[0], "there is the work of old"
    elif left:
        with pytest.raises(StorageUnavailable):
            await opened.other.append(again)
    assert await opened.other.expire(AT + 1) == (["w"] if left else [])
    [row] = await everything(opened.aws, opened.aws.names.index, but="#expiry")
    assert EXPIRES_AT in row, "nothing is left undone"
    assert await in_hand(opened) == []
    assert await opened.other.append(again) == again
    assert await opened.other.read("w") == [again]
    assert await opened.index.get("w") == project(again)


async def _nothing() -> None:
    """An event that lets the call pass."""


async def in_hand(opened: Opened) -> list[str]:
    """Ids that some sweep was about to delete, as far as anybody knows."""
    rows = await everything(opened.aws, opened.aws.names.index)
    return [
        one for row in rows if row["work"]["S"] == "#expiry" for one in row.get("noted", {}).get("SS", [])
    ]


async def test_what_somebody_noted_is_struck_out_once_it_is_over(opened: Opened) -> None:
    """Not while who noted it may be about to begin."""
    entries = await opened.ended("w")
    progress = Progress(opened.aws)
    await progress.note(["w", "nobody"])
    assert await opened.other.expire(AT - 1) == []
    assert await in_hand(opened) == ["w"]
    again = follow(entries[-1], Retried("again"), at=AT + 5)
    assert await opened.journal.append(again, with_row=True) == again
    assert await opened.other.expire(AT - 1) == []
    assert await in_hand(opened) == []
    assert await opened.journal.read("w") == [*entries, again]


async def test_a_purge_ends_the_last_entry_and_the_row_together(opened: Opened) -> None:
    """Nobody may note what is of another namespace's, and so nothing is left to be found."""
    await opened.ended("w")
    opened.wire.taken()
    opened.wire.script("TransactWriteItems", Fail("AccessDeniedException"))
    with pytest.raises(StorageError):
        await opened.journal.purge("w", 2)
    assert len(await opened.journal.read("w")) == 1
    opened.wire.taken()
    assert await opened.journal.purge("w", 2)
    calls = opened.wire.taken()
    assert (calls["TransactWriteItems"], calls.get("DeleteItem", 0)) == (1, 0)
    assert await opened.journal.read("w") == []
    [row] = await everything(opened.aws, opened.aws.names.index)
    assert EXPIRES_AT in row
    again = first("w", by="new", at=AT + 9)
    assert await opened.other.append(again) == again


async def fall_asleep(opened: Opened, work_id: str) -> Entry:
    """Work that sleeps for months; its last entry."""
    begun = first(work_id, at=AT - 200)
    held = follow(begun, Claimed("worker", AT), at=AT - 150)
    asleep = follow(held, Committed(1, "far", wake_at=AT + 90 * DAY), at=AT - 100)
    for entry in (begun, held, asleep):
        assert await opened.journal.append(entry) == entry
    assert await opened.index.put(project(asleep))
    return asleep


async def end(opened: Opened, asleep: Entry, at: float) -> Entry:
    """It wakes and is done; its row lags behind."""
    held = follow(asleep, Claimed("worker", at), at=at - 50)
    done = follow(held, Committed(2, "done", is_finished=True), at=at)
    for entry in (held, done):
        assert await opened.journal.append(entry) == entry
    return done


async def test_marks_of_live_work_are_passed(opened: Opened) -> None:
    """Work that lives long leaves marks in the days of its leases; they hide nothing."""
    for number in range(6):
        await fall_asleep(opened, f"live{number}")
    await opened.ended("old")
    assert await opened.journal.expire(AT + DAY, limit=2) == ["old"]
    assert await opened.journal.expire(AT + DAY, limit=2) == []
    assert len(await opened.journal.read("live3")) == 3


async def test_marks_of_live_work_are_read_once_however_long_it_sleeps(opened: Opened) -> None:
    """Else each look of each worker would cost as much as there is work asleep."""
    asleep = [await fall_asleep(opened, f"live{number}") for number in range(3)]
    await opened.ended("old")
    assert await opened.journal.expire(AT + 4 * DAY) == ["old"]
    assert await opened.journal.expire(AT + 4 * DAY) == []
    opened.wire.taken()
    assert await opened.journal.expire(AT + 4 * DAY) == []
    assert opened.wire.taken() == {"GetItem": 1, "Query": 2}  # one day, two shards
    done = await end(opened, asleep[0], AT + 5 * DAY)
    assert await opened.index.put(project(done))
    assert await opened.journal.expire(AT + 7 * DAY) == ["live0"]
    assert await opened.journal.read("live0") == []
    assert len(await opened.journal.read("live1")) == 3


async def test_the_end_of_work_whose_row_lags_behind_is_not_passed(opened: Opened) -> None:
    done = await end(opened, await fall_asleep(opened, "w"), AT)
    assert await opened.journal.expire(AT + 4 * DAY) == []
    assert await opened.index.put(project(done))
    assert await opened.journal.expire(AT + 4 * DAY) == ["w"]


async def test_marks_of_the_last_days_are_looked_at_again(opened: Opened) -> None:
    """A clock that is behind may write an end into a day that is over."""
    asleep = await fall_asleep(opened, "w")
    assert await opened.journal.expire(AT + DAY) == []
    assert await opened.index.put(project(await end(opened, asleep, AT + 60)))
    assert await opened.journal.expire(AT + DAY) == ["w"]


async def test_later_looks_begin_where_the_first_found_marks(opened: Opened) -> None:
    await opened.ended("w", AT)
    assert await opened.journal.expire(AT + 4 * DAY) == ["w"]
    assert await opened.journal.expire(AT + 4 * DAY) == []
    opened.wire.taken()
    assert await opened.journal.expire(AT + 4 * DAY) == []
    assert opened.wire.taken() == {"GetItem": 1, "Query": 2}  # one day, two shards


async def test_later_work_of_the_id_is_safe_from_a_sweep_that_slept(opened: Opened) -> None:
    """Before each of its calls another sweep deletes all, and work of that id begins and ends anew."""
    for number, (operation, calls) in enumerate([("UpdateItem", 4), ("DeleteItem", 3)]):
        for call in range(calls):
            name = f"w{number}{call}"
            await opened.ended(name)
            anew: list[Entry] = []

            async def live_again(name: str = name, anew: list[Entry] = anew) -> None:
                await opened.other.expire(AT + 1)
                anew += await opened.ended(name, AT + 5000, by="anew")

            opened.wire.script(operation, *[First(_nothing)] * call, First(live_again))
            await opened.journal.expire(AT + 1)
            assert anew
            assert await opened.journal.read(name) == anew
            row = await opened.index.get(name)
            assert row == project(anew[-1])
            assert row in (await opened.index.list(IndexQuery())).rows
            assert await opened.journal.expire(AT + 5001) == [name]


async def test_accounts_of_later_work_of_the_id_are_safe_from_a_sweep_that_slept(opened: Opened) -> None:
    """They went one by one before the last entry, whoever's they were by then."""
    accounts, account = AwsAccounts(opened.aws), Account("", "w")
    charge = Charge("w", 1, (("usd", 1.0),), (account,))
    await opened.ended("w", account="w")
    await accounts.charge(charge)
    anew: list[Entry] = []
    begun = asyncio.Event()

    async def live_again() -> None:
        if not begun.is_set():
            begun.set()
            await opened.other.expire(AT + 1)
            assert (await accounts.show([account]))[0].spent == ()
            anew.extend(await opened.ended("w", AT + 5000, by="anew", account="w"))
            await accounts.charge(charge)

    opened.wire.script("TransactWriteItems", First(live_again))
    opened.wire.script("DeleteItem", *[First(_nothing)] * 2, First(live_again))
    await opened.journal.expire(AT + 1)
    assert await opened.journal.read("w") == anew
    assert (await accounts.charge(charge))[0].spent == (("usd", 1.0),)


async def test_what_ended_is_in_no_list_and_its_row_is_left_to_the_time_to_live(opened: Opened) -> None:
    await opened.ended("w")
    before = int(opened.aws.clock.now())
    assert await opened.journal.expire(AT + 1) == ["w"]
    [row] = await everything(opened.aws, opened.aws.names.index, but="#expiry")
    at = int(row[EXPIRES_AT]["N"])
    assert before <= at <= before + 60
    assert row.keys().isdisjoint({"state_key", "due_key", "due_at"})
    assert (await opened.index.list(IndexQuery())).rows == []
    assert sum((await opened.index.counts()).values()) == 0
    assert await everything(opened.aws, opened.aws.names.journal) == []


async def test_a_row_whose_deletion_was_all_but_done_is_found_by_reindex(opened: Opened) -> None:
    """Its last entry, which leads sweeps to it, is gone; no other row is touched."""
    await opened.ended("w")
    await opened.ended("kept", AT + 10)
    opened.wire.script("UpdateItem", *[First(_nothing)] * 2, Fail("AccessDeniedException"))
    with pytest.raises(StorageError):
        await opened.journal.expire(AT + 1)
    kept = await opened.index.get("kept")
    backend = AwsBackend(opened.aws, appends_in_flight=64)
    assert await reindex(backend) == Reindexed(journals=1, over=1)
    rows = await everything(opened.aws, opened.aws.names.index, but="#expiry")
    assert {row["work"]["S"]: EXPIRES_AT in row for row in rows} == {"w": True, "kept": False}
    assert await opened.index.get("kept") == kept
    assert await reindex(backend) == Reindexed(journals=1)


@pytest.mark.parametrize("table", ["index", "journal", "claims"])
def test_a_write_by_which_live_work_could_expire_is_seen(table: str) -> None:
    """What watches all writes of the contract suite on AWS; no item of live work has an instant."""
    aws_names = Names("t", "", 1)
    index = AwsIndex(Aws(None, aws_names, None, None, SystemIds()))  # type: ignore[arg-type]
    put = index.row_put(project(first("w")))
    nothing_alive_expires({"TransactItems": [{"Put": put}]})
    instant = {EXPIRES_AT: {"N": "1"}}
    name = getattr(aws_names, table)
    for params in (
        {"TransactItems": [{"Put": {**put, "TableName": name, "Item": {**put["Item"], **instant}}}]},
        {"TableName": name, "Item": {"work": {"S": "w"}, **instant}},
        {"TableName": name, "Key": {}, "UpdateExpression": f"SET {EXPIRES_AT} = :at"},
        {"RequestItems": {name: [{"PutRequest": {"TableName": name, "Item": instant}}]}},
        {"Statements": [{"TableName": name, "Statement": f"INSERT INTO t VALUE {{'{EXPIRES_AT}': ?}}"}]},
    ):
        with pytest.raises(AssertionError):
            nothing_alive_expires(params)


async def test_sums_of_a_day_end_by_themselves_after_all_that_counts(opened: Opened) -> None:
    accounts, day = AwsAccounts(opened.aws), 20_000
    work = Account("", "w")
    for position, one in enumerate((Account("", day=day), Account("", day=day), Account("", day=day + 8))):
        await accounts.charge(Charge("w", position, (("usd", 1.0),), (work, one)))
        sums = [
            item
            for item in await everything(opened.aws, opened.aws.names.claims)
            if item["part"]["S"].startswith("sum#")
        ]
        assert len(sums) == 2, "a slot is used anew"
        [of_day] = [item for item in sums if "day" in item]
        [of_family] = [item for item in sums if "day" not in item]
        assert EXPIRES_AT not in of_family
        ends = (int(of_day["day"]["N"]) + DAYS_KEPT + 1) * DAY_SECONDS
        assert ends < int(of_day[EXPIRES_AT]["N"]) <= ends + DAY_SECONDS


async def test_create_turns_time_to_live_on_by_the_definition(opened: Opened) -> None:
    """On a new table, and on a restored one, which has none; what another turned on stays."""
    dynamodb = await opened.aws.clients.get("dynamodb")

    async def goes_by(table: str) -> str | None:
        found = (await dynamodb.describe_time_to_live(TableName=table))["TimeToLiveDescription"]
        return found.get("AttributeName") if found["TimeToLiveStatus"] == "ENABLED" else None

    async def turn(table: str, attribute: str, *, is_on: bool) -> None:
        specification = {"Enabled": is_on, "AttributeName": attribute}
        await dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)

    names, tables = opened.aws.names, definition()["tables"]
    wanted = {getattr(names, which): table["time_to_live"] for which, table in tables.items()}
    assert set(wanted.values()) == {EXPIRES_AT, None}
    assert {table: await goes_by(table) for table in wanted} == wanted
    await turn(names.index, EXPIRES_AT, is_on=False)
    await turn(names.claims, EXPIRES_AT, is_on=False)
    await turn(names.claims, "mine", is_on=True)
    await create_stack(opened.aws.clients, names)
    assert {table: await goes_by(table) for table in wanted} == wanted | {names.claims: "mine"}
