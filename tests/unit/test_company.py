"""Work that runs beside a step which kills its worker is not taken for what kills.

Whole workers in virtual time; a death is a worker that is cancelled between two awaits and
writes nothing more. Somebody starts the next one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest

from roost.core import outside
from roost.core.client import Client
from roost.core.company import Company, Place
from roost.core.parts import CoreSettings, Parts
from roost.core.worker import Worker
from roost.engine import EngineRegistry, RetryPolicy
from roost.journal.decide import WAITS_FOR_ROOM, most_together
from roost.journal.entries import Control
from roost.journal.events import Claimed, Evicted, Kind
from roost.journal.explain import Cause, Facts, explain
from roost.models import Lane, Snapshot, State, WorkItem
from roost.storage.memory import MemoryBackend
from roost.testing.contract.process import Scripted
from roost.testing.virtual_time import SeededIds, VirtualClock, run

RESTART_SECONDS = 5.0
STEP_SECONDS = 100  # longer than any worker lives, as long as something kills them
LEASE_SECONDS = 10.0

Kills = Callable[[set[str]], bool]
"""Whether a process dies now, by the work whose steps run in it."""


class Life:
    """One worker, from its start to its death."""

    def __init__(self, parts: Parts, name: str, kills: Kills, retry: RetryPolicy) -> None:
        self.inside: set[str] = set()
        self.died_with: set[str] = set()
        self.worker = Worker(parts, EngineRegistry([Scripted(self._step, retry=retry)]), name)
        self.died = asyncio.Event()
        self._kills = kills

    async def _step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        self.inside.add(item.work_id)
        try:
            for _ in range(STEP_SECONDS):
                await asyncio.sleep(1.0)
                if self._kills(self.inside) and not self.died.is_set():
                    self.died_with = set(self.inside)
                    self.died.set()
        finally:
            self.inside.discard(item.work_id)
        return snapshot.finish() if snapshot.version == 1 else snapshot.next()

    async def live(self) -> None:
        """Until it dies, or is cancelled."""
        running = asyncio.create_task(self.worker.run())
        try:
            await self.died.wait()
        finally:
            for session, task in self.worker.sessions.items():
                session.leave(task)
            running.cancel()
            await asyncio.wait([running])


class Fleet:
    """Workers on one storage, each followed by another when it dies."""

    def __init__(self, kills: Kills, *, lanes: int, retry: RetryPolicy) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        settings = CoreSettings(lease_seconds=LEASE_SECONDS, concurrency=lanes, burst_seconds=5.0)
        self.parts = Parts(MemoryBackend(self.clock), self.clock, SeededIds(random.Random(1)), settings)
        self.client = Client(self.parts)
        self.lives: list[Life] = []
        self.deaths: list[set[str]] = []
        """What ran in each worker that died."""
        self._kills, self._retry = kills, retry

    async def live(self, number: int) -> None:
        while True:
            life = Life(self.parts, f"w{number}.{len(self.deaths)}", self._kills, self._retry)
            self.lives.append(life)
            await life.live()
            self.deaths.append(life.died_with)
            await asyncio.sleep(RESTART_SECONDS)

    async def until_ended(self, work_ids: Sequence[str]) -> dict[str, Control]:
        while True:
            controls = {work_id: await self.client.control(work_id) for work_id in work_ids}
            if all(control.state.is_terminal for control in controls.values()):
                return controls
            await asyncio.sleep(1.0)


def _with_fleet(
    kills: Kills,
    act: Callable[[Fleet], Awaitable[None]],
    *,
    lanes: int = 8,
    workers: int = 1,
    retry: RetryPolicy | None = None,
) -> Fleet:
    async def drive() -> Fleet:
        fleet = Fleet(kills, lanes=lanes, retry=retry or RetryPolicy())
        living = [asyncio.create_task(fleet.live(number)) for number in range(workers)]
        await act(fleet)
        for one in living:
            one.cancel()
        await asyncio.gather(*living, return_exceptions=True)
        return fleet

    return run(drive, seed=1)


def _is_poison(work_id: str) -> bool:
    return work_id.startswith("poison")


def _poisoned(inside: set[str]) -> bool:
    return any(map(_is_poison, inside))


@pytest.mark.parametrize(
    ("poisons", "others", "lanes", "workers"),
    [(1, 1, 8, 1), (3, 1, 8, 1), (1, 12, 8, 1), (3, 12, 8, 3)],
)
def test_who_shares_the_deaths_of_others_goes_on_to_its_end(
    poisons: int, others: int, lanes: int, workers: int
) -> None:
    """A step that kills its worker ends as a crash loop; what ran beside it, however long, does not."""
    works = [f"poison-{n}" for n in range(poisons)] + [f"other-{n}" for n in range(others)]

    async def act(fleet: Fleet) -> None:
        for work_id in works:
            await fleet.client.enqueue("demo", work_id=work_id)
        for work_id, control in (await fleet.until_ended(works)).items():
            if _is_poison(work_id):
                assert (control.state, control.interruptions) == (State.FAILED, 10)
                assert control.reason.startswith("CrashLoop: 10 workers in a row ")
            else:
                assert control.state is State.DONE, (work_id, control)

    deaths = _with_fleet(_poisoned, act, lanes=lanes, workers=workers).deaths
    for n in range(poisons):
        own = [inside for inside in deaths if f"poison-{n}" in inside]
        assert all(inside == {f"poison-{n}"} for inside in own[4:]), "from its fifth try on it is alone"


def test_work_that_is_too_much_together_is_done_by_and_by() -> None:
    """Each of them is innocent, but four at a time take more memory than there is, say."""
    works = [f"other-{n}" for n in range(12)]

    async def act(fleet: Fleet) -> None:
        for work_id in works:
            await fleet.client.enqueue("demo", work_id=work_id)
        ends = await fleet.until_ended(works)
        assert {control.state for control in ends.values()} == {State.DONE}

    fleet = _with_fleet(lambda inside: len(inside) > 3, act)
    assert all(len(inside) <= 8 for inside in fleet.deaths)
    assert any(len(inside) == 8 for inside in fleet.deaths)


@pytest.mark.parametrize(("most", "alone"), [(2, 1), (3, 2), (4, 2)])
def test_few_tries_end_alone_too(most: int, alone: int) -> None:
    """Also work that may kill few workers only ends for deaths that were its own doing."""

    async def act(fleet: Fleet) -> None:
        works = [await fleet.client.enqueue("demo", work_id=one) for one in ("poison", "other")]
        ends = await fleet.until_ended(works)
        assert (ends["poison"].state, ends["poison"].interruptions) == (State.FAILED, most)
        assert ends["other"].state is State.DONE

    fleet = _with_fleet(_poisoned, act, retry=RetryPolicy(max_interruptions=most))
    assert fleet.deaths[-alone:] == [{"poison"}] * alone


async def _suspect(fleet: Fleet, deaths: int) -> None:
    """Work that is due in three seconds, and of which so many workers have died by then."""
    await fleet.client.enqueue("demo", work_id="suspect", delay_seconds=3.0)
    for _ in range(deaths):
        tail = await fleet.parts.backend.journal.tail("suspect")
        assert tail is not None
        await outside.append(fleet.parts, tail, Claimed("gone", fleet.clock.now() + 2.0), actor="gone")


async def _why(fleet: Fleet, work_id: str) -> tuple[State, str, str]:
    """Its state and reason as lists show them, and the cause that explains it."""
    view = await fleet.client.status(work_id)
    assert view.row is not None
    explained = explain(Facts(work_id, view.control, fleet.clock.now(), row=view.row))
    return view.row.state, view.row.reason, explained.cause


def test_who_waits_for_room_says_so_and_is_overtaken_by_nobody() -> None:
    async def act(fleet: Fleet) -> None:
        await fleet.client.enqueue("demo", work_id="before")
        await _suspect(fleet, 6)
        await asyncio.sleep(10.0)
        told = f"{WAITS_FOR_ROOM}: 6 workers in a row ended without a word in its step, so it is run alone"
        assert await _why(fleet, "suspect") == (State.QUEUED, told, Cause.ROOM)
        await fleet.client.enqueue("demo", work_id="after")
        ends = await fleet.until_ended(["before", "suspect", "after"])
        assert {control.state for control in ends.values()} == {State.DONE}
        events = {work: [entry async for entry in fleet.client.events(work)] for work in ends}
        first_commits = [
            next(entry.at for entry in entries if entry.event.kind is Kind.COMMITTED)
            for entries in events.values()
        ]
        assert first_commits == sorted(first_commits)
        second_claims = [entry.at for entry in events["before"] if entry.event.kind is Kind.CLAIMED][1:]
        assert second_claims[0] >= first_commits[1], "nobody runs beside it"
        kinds = [str(entry.event.kind) for entry in events["suspect"] if entry.event.kind is not Kind.SETTLED]
        assert kinds == ["enqueued", *["claimed"] * 6, "evicted", *["claimed", "committed"] * 2]

    _with_fleet(lambda inside: False, act)


def test_a_worker_that_dies_while_work_waits_for_room_is_not_counted() -> None:
    """It holds no lease meanwhile."""
    dies: list[bool] = []

    async def act(fleet: Fleet) -> None:
        await fleet.client.enqueue("demo", work_id="other")
        await _suspect(fleet, 6)
        await asyncio.sleep(10.0)
        dies.append(True)
        ends = await fleet.until_ended(["suspect", "other"])
        assert {control.state for control in ends.values()} == {State.DONE}
        entries = [entry async for entry in fleet.client.events("suspect")]
        assert max(entry.control.interruptions for entry in entries) == 6
        assert fleet.deaths == [{"other"}]

    _with_fleet(lambda inside: bool(dies) and bool(dies.pop()), act)


@pytest.mark.parametrize("comes_after_seconds", [0.0, 40.0])
def test_one_worker_makes_room_and_whoever_has_it_takes_the_work(comes_after_seconds: float) -> None:
    """Else a fleet whose steps are long would come to a stand for one work item, worker by worker."""

    async def act(fleet: Fleet) -> None:
        for n in range(6):
            await fleet.client.enqueue("demo", work_id=f"other-{n}")
        await asyncio.sleep(1.0)
        for life in fleet.lives:
            assert len(life.inside) == 2
            await fleet.client.cancel(min(life.inside), "enough", by_seconds=0.0)
        await _suspect(fleet, 6)
        await asyncio.sleep(10.0 + comes_after_seconds)
        rooms = [life.worker._company.may_run for life in fleet.lives]
        assert sorted(rooms) == [0, 2, 2], "one of them takes nothing new"
        idle = asyncio.create_task(fleet.live(3))
        await asyncio.sleep(3 * LEASE_SECONDS)
        assert fleet.lives[3].inside == {"suspect"}
        rooms = [life.worker._company.may_run for life in fleet.lives]
        assert sorted(rooms) == [1, 2, 2, 2]
        idle.cancel()

    _with_fleet(lambda inside: False, act, lanes=2, workers=3)


def test_a_worker_that_drains_waits_for_no_room() -> None:
    async def act(fleet: Fleet) -> None:
        await fleet.client.enqueue("demo", work_id="other")
        await _suspect(fleet, 6)
        await asyncio.sleep(10.0)
        worker = fleet.lives[0].worker
        assert {session.work_id for session in worker.sessions} == {"other", "suspect"}
        worker.drain()
        await asyncio.sleep(1.0)
        assert {session.work_id for session in worker.sessions} == {"other"}

    _with_fleet(lambda inside: False, act)


@pytest.mark.parametrize(("seconds", "version"), [(900.0, 1), (110.0, 0)])
def test_in_a_batch_it_runs_once_the_others_have_ended(seconds: float, version: int) -> None:
    """As on Lambda; where no time is left, its delivery is for the next batch."""

    async def act(fleet: Fleet) -> None:
        others = [await fleet.client.enqueue("demo", work_id=f"other-{n}") for n in range(9)]
        await _suspect(fleet, 6)
        tail = await fleet.parts.backend.journal.tail("suspect")
        assert tail is not None
        await outside.append(fleet.parts, tail, Evicted(tail.position, "gone"), actor="sweeper")
        queue = fleet.parts.backend.queue
        deliveries = await queue.receive(10, visibility_seconds=1e4, wait_seconds=0.0, lanes=tuple(Lane))
        assert {one.work_id for one in deliveries} == {"suspect", *others}
        life = Life(fleet.parts, "batch", lambda inside: False, RetryPolicy())
        await life.worker.run_batch(deliveries, seconds=seconds)
        control = await fleet.client.control("suspect")
        assert (control.state, control.version) == (State.QUEUED, version)
        assert control.interruptions == (0 if version else 6)
        again = await queue.receive(99, visibility_seconds=1e4, wait_seconds=1.0, lanes=tuple(Lane))
        assert {one.work_id for one in again} == {"suspect", *others}, "those that came later are put back"
        assert max([(await fleet.client.control(work_id)).interruptions for work_id in others]) == 0

    _with_fleet(lambda inside: False, act, workers=0)


def test_the_company_of_work_is_halved_until_it_is_alone() -> None:
    assert [most_together(n, 8, 10) for n in range(10)] == [None, None, 4, 2, 1, 1, 1, 1, 1, 1]
    assert [most_together(n, 100, 10) for n in range(10)] == [None, None, 50, 25, 12, 6, 3, 1, 1, 1]
    assert [most_together(n, 4096, 10) for n in (2, 7, 8, 9)] == [2048, 64, 1, 1], "its last tries"
    assert [most_together(n, 8, 1_000_000) for n in (1, 2, 4, 999_999)] == [None, 4, 1, 1]
    assert [most_together(n, 8, 3) for n in range(3)] == [None, 1, 1]
    assert [most_together(n, 8, 2) for n in range(2)] == [None, 1]
    assert [most_together(n, 1, 10) for n in (0, 2, 9)] == [None, 1, 1]


class TestCompany:
    def test_who_minds_nobody_is_let_in_without_end(self) -> None:
        """More than there are lanes: a batch that somebody else received is run as a whole."""
        company = Company(2)
        assert [company.ask(n, None) for n in range(5)] == [Place.INSIDE] * 5

    def test_who_minds_the_others_waits_and_who_is_inside_keeps_others_out(self) -> None:
        company = Company(8)
        assert [company.ask(n, None) for n in range(3)] == [Place.INSIDE] * 3
        assert company.ask("suspect", 2) is Place.NEXT
        assert company.may_run == 0
        assert [company.ask("late", most) for most in (None, 1)] == [Place.FULL] * 2
        for n in range(2):
            company.leave(n)
        assert company.ask("suspect", 2) is Place.INSIDE
        assert company.may_run == 2
        assert company.ask("late", None) is Place.FULL
        company.leave(2)
        assert company.ask("late", None) is Place.INSIDE
        company.moved_on("suspect")
        assert company.may_run == 8
        assert company.ask("later", None) is Place.INSIDE

    def test_who_asks_anew_is_not_in_its_own_way(self) -> None:
        """It lost the race for a claim, say, and more workers ended meanwhile."""
        company = Company(8)
        assert [company.ask("suspect", most) for most in (4, 1, None)] == [Place.INSIDE] * 3
        assert company.may_run == 8

    def test_the_worker_is_told_when_more_may_come_in(self) -> None:
        told: list[int] = []
        company = Company(8, lambda: told.append(company.may_run))
        company.ask("one", None)
        company.ask("suspect", 1)
        company.leave("one")
        company.ask("suspect", 1)
        company.moved_on("suspect")
        company.moved_on("suspect")
        assert told == [0, 1, 8]

    def test_who_waits_and_leaves_lets_others_in(self) -> None:
        company = Company(8)
        company.ask("one", None)
        company.ask("suspect", 1)
        company.leave("suspect")
        assert company.may_run == 8
        assert company.ask("late", None) is Place.INSIDE

    def test_nobody_waits_in_a_worker_that_is_to_stop(self) -> None:
        company = Company(8)
        company.ask("one", None)
        company.close()
        assert company.ask("suspect", 1) is Place.FULL
