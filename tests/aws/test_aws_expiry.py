"""Expiry on DynamoDB: it races with a retry, and who dies midway leaves it to the next."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from roost.errors import StorageError, StorageUnavailable
from roost.journal.entries import Entry
from roost.journal.events import Claimed, Committed, Retried
from roost.journal.projection import project
from roost.models import State
from roost.storage.aws import expiry
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.index import AwsIndex
from roost.storage.aws.journal import AwsJournal
from roost.testing.contract.harness import AT, first, follow
from roost.testing.standins import StandIn
from tests.aws.wire import Fail, First, Stack, Wire, new_stack

pytestmark = pytest.mark.slow
DAY = 86_400.0
ROOT = Path(__file__).parents[2]


@dataclass
class Opened:
    """A journal with its index and its calls; `other` is another process'."""

    journal: AwsJournal
    index: AwsIndex
    wire: Wire
    other: AwsJournal

    async def ended(self, work_id: str, at: float = AT) -> list[Entry]:
        """A journal of work that was done at an instant, with its row."""
        begun = first(work_id, at=at - 100)
        held = follow(begun, Claimed("worker", at), at=at - 50)
        entries = [begun, held, follow(held, Committed(1, "done", is_finished=True), at=at)]
        for entry in entries:
            assert await self.journal.append(entry) == entry
        assert await self.index.put(project(entries[-1]))
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

    opened.wire.script("UpdateItem", First(retry))
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

    opened.wire.script("BatchWriteItem", First(retry))
    assert await opened.journal.expire(AT + 1) == ["w"]
    assert len(refused) == 1
    assert await opened.journal.read("w") == []
    assert await opened.index.get("w") is None


async def test_who_dies_midway_leaves_it_to_the_next(opened: Opened) -> None:
    """Before anything of the journal is gone, and after all but its last entry is."""
    for number, (operation, left) in enumerate((("BatchWriteItem", 3), ("TransactWriteItems", 1))):
        name = f"w{number}"
        entries = await opened.ended(name)
        opened.wire.script(operation, Fail("AccessDeniedException"))
        with pytest.raises(StorageError):
            await opened.journal.expire(AT + 1)
        assert await opened.journal.read(name) == entries[-left:]
        with pytest.raises(StorageUnavailable):  # its id is not free until all is gone
            await opened.other.append(first(name, by="new", at=AT + 9), with_row=True) if left == 1 else (
                await opened.other.append(follow(entries[-1], Retried("no"), at=AT + 9), with_row=True)
            )
        assert await opened.other.expire(AT + 1) == [name]
        assert await opened.other.read(name) == []
        again = first(name, by="new", at=AT + 9)
        assert await opened.other.append(again) == again


async def test_marks_of_live_work_are_passed(opened: Opened) -> None:
    """Work that lives long leaves marks in the days of its leases; they hide nothing."""
    for number in range(6):
        begun = first(f"live{number}", at=AT - 200)
        held = follow(begun, Claimed("worker", AT), at=AT - 150)
        asleep = follow(held, Committed(1, "far", wake_at=AT + 90 * DAY), at=AT - 100)
        for entry in (begun, held, asleep):
            assert await opened.journal.append(entry) == entry
        await opened.index.put(project(asleep))
    await opened.ended("old")
    assert await opened.journal.expire(AT + DAY, limit=2) == ["old"]
    assert await opened.journal.expire(AT + DAY, limit=2) == []
    assert len(await opened.journal.read("live3")) == 3


async def test_later_looks_begin_where_the_first_found_marks(opened: Opened) -> None:
    await opened.ended("w", AT)
    assert await opened.journal.expire(AT + 4 * DAY) == ["w"]
    assert await opened.journal.expire(AT + 4 * DAY) == []
    opened.wire.taken()
    assert await opened.journal.expire(AT + 4 * DAY) == []
    assert opened.wire.taken() == {"GetItem": 1, "Query": 2}  # one day, two shards


def test_nothing_turns_time_to_live_on() -> None:
    """Decision 18; `roost aws create` and Terraform make tables that are alike in this, too."""
    sources = [*(ROOT / "infra").rglob("*.tf"), ROOT / "roost/storage/aws/admin.py"]
    found = [
        path.name for path in sources if re.search(r"\bttl\b|time_to_live", path.read_text(), re.IGNORECASE)
    ]
    assert len(sources) > 10
    assert found == []
