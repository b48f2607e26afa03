"""Triggers, schedules, conversations and budgets of families, while workers are killed with signal 9."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from roost.core import schedules
from roost.core.triggers import triggered_id
from roost.engines.schedule import LABEL_TICK
from roost.journal.accounts import used_by
from roost.journal.budget import add
from roost.journal.entries import Entry
from roost.journal.events import Kind
from roost.journal.values import Amounts
from roost.models import State
from roost.rules import Schedule
from roost.storage.query import IndexQuery
from roost.wiring import Runtime
from tests.crash.fleet import Fleet, check_done, journal, overlaps, until

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.soak]

TICKS = 25  # that were missed
SETTINGS = """
[triggers.after]
engine = "ledger"
when = "item.labels.is_first"
enqueue = "ledger"
payload = {path = "item.payload.path", steps = "`1`", seconds = "`0`"}
"""


class Run:
    """A store with workers, of which one that works is killed every 0.7 s or so."""

    def __init__(self, fleet: Fleet, runtime: Runtime) -> None:
        self.fleet = fleet
        self.runtime = runtime
        self.client = runtime.client
        self.rng = random.Random(7)
        self.kills = 0
        self.workers: list[int] = []

    def payload(self, steps: int = 2, seconds: float = 0.02) -> dict[str, Any]:
        return {"path": str(self.fleet.ledger), "steps": steps, "seconds": seconds}

    async def kill_until(
        self, least_kills: int, *at_rest: State, and_so: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        """Kill, until so many were killed and all work has ended, or is at rest in one of these states.

        Args:
            and_so: what must be so besides, where rest may also be that something is yet to come.
        """
        end = time.monotonic() + 240
        while True:
            counts = await self.runtime.backend.index.counts()
            left = {s for s, n in counts.items() if n and not s.is_terminal and s not in at_rest}
            if not left and self.kills >= least_kills and (and_so is None or await and_so()):
                return
            assert time.monotonic() < end, counts
            await self.runtime.parts.clock.sleep(self.rng.expovariate(1 / 0.7))
            victim = self.rng.randrange(len(self.workers))
            if not self.fleet.has_started(self.workers[victim]):
                continue  # on a slow machine none would get anywhere
            self.fleet.kill(self.workers[victim])
            self.kills += 1
            self.workers[victim] = self.fleet.start()

    async def of_engine(self, engine: str) -> list[Entry]:
        """The last entries of all work of an engine."""
        page = await self.client.list(IndexQuery(engine=engine), limit=1000)
        tails = [await self.runtime.backend.journal.tail(row.work_id) for row in page.rows]
        return [tail for tail in tails if tail is not None]


@asynccontextmanager
async def killed(tmp_path: Path) -> AsyncIterator[Run]:
    (tmp_path / "roost.toml").write_text(SETTINGS)
    environ = {
        "ROOST_CONFIG": str(tmp_path / "roost.toml"),
        "ROOST_LEASE_SECONDS": "0.6",
        "ROOST_WORKER__SWEEP_SECONDS": "0.2",
    }
    with Fleet(tmp_path, **environ) as fleet:
        async with fleet.opened() as runtime:
            run = Run(fleet, runtime)
            run.workers = [fleet.start() for _ in range(3)]
            yield run


async def test_each_end_fires_its_trigger_once(tmp_path: Path) -> None:
    """Invariant 15: one work item for each end that meets the trigger, and none besides."""
    async with killed(tmp_path) as run:
        ids = [
            await run.client.enqueue("ledger", run.payload(), labels={"is_first": "yes"}) for _ in range(30)
        ]
        await run.kill_until(6)
        made = set()
        for work_id in ids:
            entries = await journal(run.runtime, work_id)
            await check_done(run.runtime, work_id, 2)
            ends = [entry for entry in entries if entry.control.state is State.DONE]
            made.add(triggered_id(work_id, ends[0].position, "after"))
        found = {tail.work_id for tail in await run.of_engine("ledger")}
        assert found == made | set(ids)
        for work_id in made:
            await check_done(run.runtime, work_id, 1)


async def test_signals_joins_and_forks_come_out_once(tmp_path: Path) -> None:
    """Invariants 7, 8, 11 and 19: each signal is seen once, each child reports once, a fork waits anew."""
    async with killed(tmp_path) as run:
        ids = [await run.client.enqueue("gate", {"child": run.payload()}) for _ in range(6)]

        async def tell(work_id: str) -> None:
            for _ in range(2):
                await run.client.signal(work_id, "go", work_id, signal_id=f"go-{work_id}")

        for work_id in ids[::2]:  # some long before they wait for it
            await tell(work_id)
        await run.kill_until(3, State.WAITING)
        for work_id in ids[1::2]:
            await tell(work_id)
        await run.kill_until(5)
        before = {work_id: await _check_gate(run, work_id) for work_id in ids}
        forks = [await run.client.fork(work_id, 2, "what if") for work_id in ids[:3]]
        await run.kill_until(6, State.WAITING)
        for fork_id in forks:
            await tell(fork_id)
        await run.kill_until(7)
        for fork_id in forks:
            view = await run.client.status(fork_id)
            assert view.snapshot is not None
            assert view.snapshot.data == {"children": ["done"] * 2, "told": [fork_id]}
        assert before == {work_id: await _check_gate(run, work_id) for work_id in ids}


async def _check_gate(run: Run, work_id: str) -> Entry:
    """It was told once, and of each child once; gives its last entry."""
    view = await run.client.status(work_id)
    assert view.snapshot is not None
    assert view.snapshot.data == {"children": ["done"] * 2, "told": [work_id]}
    entries = await journal(run.runtime, work_id)
    kinds = [entry.event.kind for entry in entries]
    assert [kinds.count(kind) for kind in (Kind.SIGNALED, Kind.CHILD_ENDED, Kind.COMMITTED)] == [1, 2, 3]
    assert [entry.position for entry in entries] == list(range(len(entries)))
    for number in range(2):
        await check_done(run.runtime, f"{work_id}.1-{number}", 2)
    return entries[-1]


async def test_each_tick_is_enqueued_once(tmp_path: Path) -> None:
    """Invariant 14: workers die while a schedule makes up for the ticks that it missed."""
    async with killed(tmp_path) as run:
        rule = Schedule(cron="* * * * *", engine="ledger", payload=run.payload(), missed="all")  # type: ignore[arg-type]  # as in settings
        async with run.fleet.opened(testing=True, clock_offset_seconds=-60.0 * TICKS) as long_ago:
            await schedules.keep(long_ago.client, {"s": rule})

        async def has_made_up() -> bool:
            [view] = await schedules.list_schedules(run.client)
            return view.count >= TICKS

        await run.kill_until(6, State.SCHEDULED, State.WAITING, and_so=has_made_up)
        await schedules.pause(run.client, "s", "a new minute would be one tick more")

        async def has_spawned() -> bool:
            [view] = await schedules.list_schedules(run.client)
            return len(await run.of_engine("ledger")) == view.count

        await run.kill_until(run.kills, State.PAUSED, and_so=has_spawned)
        [view] = await schedules.list_schedules(run.client)
        ticks = [dict(tail.control.labels)[LABEL_TICK] for tail in await run.of_engine("ledger")]
        assert len(ticks) == len(set(ticks)) == view.count
        assert view.count >= TICKS
        minutes = sorted(int(tick[14:16]) + 60 * int(tick[11:13]) for tick in ticks)
        if minutes[0] == 0:  # over midnight
            minutes = sorted(minute + 1440 * (minute < 720) for minute in minutes)
        assert minutes == list(range(minutes[0], minutes[0] + len(minutes))), "none is left out"


async def test_a_conversation_never_runs_two_at_once(tmp_path: Path) -> None:
    """Invariant 13: work that is queued behind other work of its conversation waits for its end."""
    async with killed(tmp_path) as run:
        of: dict[str, str] = {}
        for number in range(30):
            talk = f"talk-{number % 6}"
            of[await run.client.enqueue("ledger", run.payload(), conversation=talk)] = talk
        await run.kill_until(6)
        for work_id in of:
            await check_done(run.runtime, work_id, 2)
        records = [line | {"resources": [of[line["work"]]]} for line in run.fleet.records()]
        assert overlaps(records, run.fleet.killed_at) == []
        for talk in set(of.values()):
            claimed = [await _first_claim(run.runtime, work_id) for work_id in of if of[work_id] == talk]
            assert claimed == sorted(claimed), "turns go in the order in which work was enqueued"


async def _first_claim(runtime: Runtime, work_id: str) -> float:
    return next(entry.at for entry in await journal(runtime, work_id) if entry.event.kind == "claimed")


async def test_a_family_is_charged_for_each_step_once_and_parks(tmp_path: Path) -> None:
    """Invariants 21 and 22: killed between commit and charge, parked, raised, and exact in the end."""
    async with killed(tmp_path) as run:
        payload = {"children": 8, "child": run.payload(steps=6)}
        root = await run.client.enqueue("tree", payload, family_budget={"steps": 12})

        async def is_used_up() -> bool:
            return dict(await _used(run, root)).get("steps", 0.0) >= 12

        await run.kill_until(6, State.PAUSED, State.WAITING, and_so=is_used_up)
        spent = await _used(run, root)
        assert 12 <= dict(spent)["steps"] <= 12 + 3 * 4, "one step more for each lane at the most"
        await run.client.set_family_budget(root, {"steps": 1000}, "worth it")
        await run.kill_until(12)
        assert (await run.client.status(root)).control.state is State.DONE
        assert dict(await _used(run, root))["steps"] == 2 + 8 * 6


async def _used(run: Run, root: str) -> Amounts:
    """What the journals of a family say was used up; it is what its account says."""
    used: Amounts = ()
    for tail in [*await run.of_engine("tree"), *await run.of_engine("ledger")]:
        assert tail.control.account == root
        for entry in await journal(run.runtime, tail.work_id):
            used = add(used, dict(used_by(entry.event)))

    async def is_settled() -> bool:
        [balance] = await run.client.balances(root)
        return dict(balance.spent).get("steps") == dict(used).get("steps")

    await until(is_settled, run.runtime)
    [balance] = await run.client.balances(root)
    assert dict(balance.spent) == pytest.approx(dict(used))
    return used
