"""Old versions on DynamoDB that work went back to: what it costs, and who comes in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio

from roost.journal.entries import Body, Encoding, Entry
from roost.journal.events import Claimed, Committed, Failed
from roost.journal.projection import project
from roost.journal.values import ErrorInfo
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.index import AwsIndex
from roost.storage.aws.journal import AwsJournal
from roost.testing.contract.harness import AT, first, follow
from roost.testing.standins import StandIn
from tests.aws.wire import First, LoseReply, Wire, new_stack

pytestmark = pytest.mark.slow


@dataclass
class Opened:
    """Work that failed after four versions; `other` is another process' way to it."""

    journal: AwsJournal
    other: AwsJournal
    index: AwsIndex
    wire: Wire

    async def failed(self, by: str = "worker") -> Sequence[Entry]:
        entries = [first("w", at=AT, by=by)]
        entries.append(follow(entries[-1], Claimed("worker", AT + 60), at=AT, by=by))
        for version in range(1, 5):
            body = Body(Encoding.JSON, b'{"data": {}}')
            event = Committed(version, "on", lease_until=AT + 60)
            entries.append(follow(entries[-1], event, at=AT + version, by=by, body=body))
        entries.append(follow(entries[-1], Failed(ErrorInfo("E", "no use")), at=AT + 9, by=by))
        for entry in entries:
            assert await self.journal.append(entry) == entry
        assert await self.index.put(project(entries[-1]))
        self.wire.taken()
        return entries


@pytest_asyncio.fixture(params=["ministack", pytest.param("moto", marks=pytest.mark.soak)])
async def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    standin: StandIn = request.getfixturevalue(request.param)
    stack = await new_stack(standin, monkeypatch, shards=1)
    aws, wire = await stack.open()
    theirs, _ = await stack.open()
    index = AwsIndex(aws)
    journal = AwsJournal(aws, index, AwsAccounts(aws), in_flight=64)
    other = AwsJournal(theirs, AwsIndex(theirs), AwsAccounts(theirs), in_flight=64)
    yield Opened(journal, other, index, wire)
    await stack.close()


async def test_dropping_costs_one_write_a_version_and_keeping_a_read_and_a_write(opened: Opened) -> None:
    entries = await opened.failed()
    await opened.journal.prune("w", [2, 3])
    assert opened.wire.taken() == {"UpdateItem": 2}
    assert await opened.journal.keep("w", 4) == entries[4]
    assert opened.wire.taken() == {"Query": 1, "PutItem": 1}
    assert await opened.journal.keep("w", 2) is None
    assert opened.wire.taken() == {"Query": 1}
    await opened.other.prune("w", [4, 5])
    assert [entry.body is None for entry in await opened.journal.read("w")][2:6] == [True, True, False, True]


async def test_what_was_dropped_between_look_and_mark_is_not_there(opened: Opened) -> None:
    await opened.failed()

    async def prunes() -> None:
        await opened.other.prune("w", [3])

    opened.wire.script("PutItem", First(prunes))
    assert await opened.journal.keep("w", 3) is None
    found = await opened.journal.get("w", 3)
    assert found is not None
    assert found.body is None, "it was not brought back, either"


async def test_new_work_of_the_id_is_safe_from_who_kept_the_old(opened: Opened) -> None:
    await opened.failed()
    anew: list[Entry] = []

    async def lives_again() -> None:
        assert await opened.other.purge("w", 6)
        anew.extend(await opened.failed(by="anew"))

    opened.wire.script("PutItem", First(lives_again))
    assert await opened.journal.keep("w", 3) is None
    assert await opened.journal.read("w") == anew


async def test_a_mark_whose_reply_is_lost_is_made_again(opened: Opened) -> None:
    entries = await opened.failed()
    opened.wire.script("PutItem", LoseReply())
    assert await opened.journal.keep("w", 3) == entries[3]
    await opened.other.prune("w", [3])
    assert await opened.journal.get("w", 3) == entries[3]
