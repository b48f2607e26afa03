"""Sweeps, a retry, new work of the same id and the time to live, in any order, with crashes.

Each takes its turn: a call of DynamoDB goes out only when it is its caller's turn. Who goes on is
drawn, and goes on until others are drawn to overtake it a few times, so that many sleep for as
long as all that the others do. (Burckhardt et al., "A Randomized Scheduler with Probabilistic
Guarantees of Finding Bugs", 2010.) After each call the id is looked at; at the end all that
anybody was told holds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
import pytest_asyncio

from roost.errors import StorageUnavailable
from roost.journal.entries import Entry
from roost.journal.events import Claimed, Committed, Retried
from roost.journal.projection import project
from roost.models import State
from roost.storage.aws import expiry
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.index import EXPIRING, AwsIndex
from roost.storage.aws.journal import AwsJournal
from roost.storage.aws.names import EXPIRES_AT
from roost.storage.aws.table import Table
from roost.storage.ports import IndexQuery
from roost.testing.contract.harness import AT, first, follow
from roost.testing.standins import StandIn
from tests.aws.wire import Stack, everything, new_stack

pytestmark = pytest.mark.slow
LATER = AT + 5000
_TURNS_MAX = 400
_OVERTAKEN, _OVERTAKEN_WITHIN = 4, 20  # how often, and within how many calls
_SETTLE_CYCLES = 60  # of the event loop, in which who had its turn comes to its next call


class Turns:
    """Lets one call out at a time.

    Attributes:
        waiting: by actor, its calls that wait for their turn.
    """

    def __init__(self, rng: random.Random, actors: list[str]) -> None:
        self.rng = rng
        self.waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._order = rng.sample(actors, len(actors))  # who is first goes on
        times = rng.choice((1, _OVERTAKEN))
        self._overtaken_at = {rng.randrange(_OVERTAKEN_WITHIN) for _ in range(times)}
        if times == 1:  # one sleeps for as long as all others live
            sleeper = rng.choice(("a", "retry"))
            self._order = [sleeper, *(actor for actor in actors if actor != sleeper)]
            self._overtaken_at = {0 if sleeper == "retry" else rng.randrange(5, 11)}
        self._taken = 0
        self._answered = asyncio.Event()

    async def watch(self, actor: str, stack: Stack) -> AwsJournal:
        """A journal whose calls wait for their turns."""
        aws, _ = await stack.open()
        events = (await aws.clients.get("dynamodb")).meta.events

        async def before(**_: Any) -> None:
            mine = asyncio.get_running_loop().create_future()
            self.waiting.setdefault(actor, []).append(mine)
            await mine

        events.register("before-call.dynamodb", before)
        events.register("after-call.dynamodb", lambda **_: self._answered.set())
        return AwsJournal(aws, AwsIndex(aws), AwsAccounts(aws), in_flight=64)

    async def take(self, actors: dict[str, asyncio.Task[Any]], crashes: set[str]) -> bool:
        """One turn of an actor that is drawn, or its end; False if there is none."""
        await self._settle()
        names = [name for name, calls in self.waiting.items() if calls and not actors[name].done()]
        if not names:
            return any(not task.done() for task in actors.values())
        name = min(names, key=self._order.index)
        if self._taken in self._overtaken_at:
            self.give_way(name)
        self._taken += 1
        if name in crashes and self.rng.random() < 0.1:
            actors[name].cancel()
            await asyncio.wait([actors[name]])
            self.waiting.pop(name)
            return True
        self._answered.clear()
        calls = self.waiting[name]
        calls.pop(self.rng.randrange(len(calls))).set_result(None)
        await asyncio.wait_for(self._answered.wait(), 30)
        return True

    def give_way(self, actor: str) -> None:
        """All others go first."""
        self._order.remove(actor)
        self._order.append(actor)

    async def _settle(self) -> None:
        for _ in range(_SETTLE_CYCLES):
            await asyncio.sleep(0)


class Told:
    """What callers were told: who got the id, and whether the old work lives again."""

    def __init__(self) -> None:
        self.new: list[Entry] = []
        self.retried: Entry | None = None


def old_work() -> list[Entry]:
    begun = first("w", at=AT - 100, by="old")
    held = follow(begun, Claimed("worker", AT), at=AT - 50, by="old")
    return [begun, held, follow(held, Committed(1, "done", is_finished=True), at=AT, by="old")]


async def begins_anew(journal: AwsJournal, turns: Turns, told: Told, *, ends: bool) -> None:
    """Enqueue work of the same id, and maybe finish it: at the position of the old one's end."""
    begun = first("w", at=LATER, by="new")
    for _ in range(12):
        try:
            is_new = await journal.append(begun) == begun
        except StorageUnavailable:
            is_new = False
        if not is_new:  # the old one is there, or it is being deleted
            turns.give_way("new")
            continue
        told.new = [begun]
        if ends:
            held = follow(begun, Claimed("worker", LATER), at=LATER + 1, by="new")
            done = follow(held, Committed(1, "done", is_finished=True), at=LATER + 2, by="new")
            for entry in (held, done):
                assert await journal.append(entry) == entry
                told.new.append(entry)
            assert await journal._index.put(project(done))
        return


async def retries(journal: AwsJournal, told: Told) -> None:
    """What an operator's retry does, maybe long after it read the tail."""
    tail = await journal.tail("w")
    if tail is None or tail.entry_id != "old/w/2":
        return
    again = follow(tail, Retried("again"), at=LATER, by="operator")
    try:
        if await journal.append(again, with_row=True) == again:
            told.retried = again
    except StorageUnavailable:
        pass


async def takes_what_is_over(journal: AwsJournal) -> None:
    """DynamoDB's time to live, that deletes an item if its instant is still there."""
    table = Table(journal._aws, journal._aws.names.index)
    for _ in range(12):
        await table.write_if(
            "delete_item",
            Key={"work": {"S": "w"}},
            ConditionExpression="attribute_exists(#at)",
            ExpressionAttributeNames={"#at": EXPIRES_AT},
        )


Check = Callable[[], Awaitable[None]]


class Scene:
    """A stack with one work item that ended, and an eye on it whose calls wait for nobody."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.told = Told()

    async def begin(self) -> None:
        self.aws, _ = await self.stack.open()
        self.index = AwsIndex(self.aws)
        self.journal = AwsJournal(self.aws, self.index, AwsAccounts(self.aws), in_flight=64)

    async def reset(self) -> None:
        """The work item as it ended; nothing of the scene before."""
        dynamodb = await self.aws.clients.get("dynamodb")
        names = self.aws.names
        for table, keys in ((names.journal, ("work", "position")), (names.index, ("work",))):
            for item in await everything(self.aws, table):
                await dynamodb.delete_item(TableName=table, Key={key: item[key] for key in keys})
        for entry in old_work():
            assert await self.journal.append(entry) == entry
        assert await self.index.put(project(old_work()[-1]))
        self.told = Told()

    async def check(self) -> None:
        """At each instant: no entry has an instant, and where a row has one, no work is there."""
        entries = await everything(self.aws, self.aws.names.journal)
        rows = await everything(self.aws, self.aws.names.index, but="#expiry")
        assert not any(EXPIRES_AT in entry for entry in entries)
        told = self.told
        if any(EXPIRES_AT in row for row in rows):
            assert entries == []
        if told.new or told.retried:
            assert not any(EXPIRING in row for row in rows), "live work is marked"
        ids = {entry["entry"]["S"] for entry in entries}
        assert ids >= {entry.entry_id for entry in told.new}
        if told.new:
            assert not any(one.startswith("old/") for one in ids), "two lives of one id"
        if entries and not told.new and not told.retried and not rows:
            raise AssertionError("a journal without a row: nobody would find it")

    async def end(self) -> None:
        """What anybody was told holds; else the id is free, after one more sweep."""
        await self.check()
        told = self.told
        while await self.journal.expire(AT + 1):
            pass
        found = await self.journal.read("w")
        row = await self.index.get("w")
        for left in await everything(self.aws, self.aws.names.index, but="#expiry"):
            assert (EXPIRING in left) is (EXPIRES_AT in left), "a row that nobody would find"
        assert not (told.new and told.retried)
        if told.new:
            assert found == told.new
            assert row == project(told.new[-1])
        elif told.retried:
            assert found == [*old_work(), told.retried]
            assert row is not None
            assert row.state is State.QUEUED
        else:
            assert found == []
            again = first("w", by="last", at=LATER)
            assert await self.journal.append(again) == again
            assert await self.index.get("w") == project(again)
        assert len((await self.index.list(IndexQuery())).rows) == 1


@pytest_asyncio.fixture(params=["ministack", "moto"])
async def scene(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(expiry, "DAYS_MAX", 1)
    standin: StandIn = request.getfixturevalue(request.param)
    stack = await new_stack(standin, monkeypatch, shards=1)
    made = Scene(stack)
    await made.begin()
    yield made
    await stack.close()


async def play(scene: Scene, seed: int) -> None:
    """One scene, of which a seed says all."""
    rng = random.Random(seed)
    names, told = ["a", "b", "new", "retry", "time"], scene.told
    turns = Turns(rng, names)
    journals = {name: await turns.watch(name, scene.stack) for name in names}
    parts: dict[str, Coroutine[Any, Any, Any]] = {
        "a": journals["a"].expire(AT + 1),
        "b": journals["b"].expire(AT + 1),
        "new": begins_anew(journals["new"], turns, told, ends=rng.random() < 0.7),
        "retry": retries(journals["retry"], told),
        "time": takes_what_is_over(journals["time"]),
    }
    absent = rng.choice(("retry", "new", ""))  # a retry wins all too often; new work hides that it lost
    if absent:
        parts.pop(absent).close()
    actors = {name: asyncio.create_task(part) for name, part in parts.items()}
    crashes = {"a", "b"} if rng.random() < 0.5 else {"a"}
    for _ in range(_TURNS_MAX):
        if not await turns.take(actors, crashes):
            break
        await scene.check()
    done = await asyncio.gather(*actors.values(), return_exceptions=True)
    assert not [one for one in done if isinstance(one, Exception)], done
    await scene.end()


async def _scenes(scene: Scene, seeds: range) -> None:
    for seed in seeds:
        await scene.reset()
        try:
            await play(scene, seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


async def test_an_id_is_wholly_there_or_free_whoever_comes_when(scene: Scene) -> None:
    await _scenes(scene, range(3))


@pytest.mark.soak
async def test_an_id_is_wholly_there_or_free_whoever_comes_when_many_times(scene: Scene) -> None:
    await _scenes(scene, range(3, 28))
