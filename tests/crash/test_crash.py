"""Real processes, killed with signal 9 or frozen; the invariants hold all the same."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest
from msgspec.structs import replace

from roost.core.new_work import NewWork
from roost.journal.entries import Entry
from roost.journal.events import Kind
from roost.models import State
from roost.names import Scope
from tests.crash.fleet import Fleet, check_done, journal, overlaps, until

pytestmark = [pytest.mark.crash, pytest.mark.slow]


def work(
    fleet: Fleet,
    *,
    steps: int,
    seconds: float,
    delay: float = 0.0,
    resources: tuple[str, ...] = (),
    **more: object,
) -> NewWork:
    payload = {"path": str(fleet.ledger), "steps": steps, "seconds": seconds, "delay": delay, **more}
    return NewWork("ledger", payload, resources=resources)


def leases_lost(entries: Sequence[Entry]) -> int:
    """How many leases ended without a word: each may have a step run again, and nothing else may."""
    before = [None, *(entry.control.lease for entry in entries)]
    kinds = [entry.event.kind for entry in entries]
    taken_over = sum(
        kind is Kind.CLAIMED and lease is not None for kind, lease in zip(kinds, before, strict=False)
    )
    return taken_over + kinds.count(Kind.EVICTED)


@pytest.mark.parametrize(
    ("items", "least_kills"),
    [pytest.param(200, 10, marks=pytest.mark.soak, id="200"), pytest.param(40, 3, id="40")],
)
async def test_work_survives_a_worker_killed_every_300_ms(
    tmp_path: Path, items: int, least_kills: int
) -> None:
    """Invariants 1 to 5 with four workers, of which one dies every 300 ms on average.

    The last step of each waits for its share of the kills: however quick the machine is, it is not
    done before.
    """
    rng = random.Random(7)
    with Fleet(tmp_path, ROOST_LEASE_SECONDS="2") as fleet:
        async with fleet.opened() as runtime:
            works = [
                work(
                    fleet,
                    steps=10,
                    seconds=rng.uniform(0.002, 0.02),
                    resources=(f"r{n % 20}",) if n % 4 == 0 else (),
                    gate=str(fleet.gate(f"kill-{n * least_kills // items + 1}")),
                    gated=9,
                )
                for n in range(items)
            ]
            ids = await runtime.client.enqueue_many(works)
            workers = [fleet.start() for _ in range(4)]
            end, kills = time.monotonic() + 240, 0
            while True:
                counts = await runtime.backend.index.counts()
                if counts.get(State.DONE, 0) + counts.get(State.FAILED, 0) == len(ids):
                    break
                assert time.monotonic() < end, counts
                await runtime.parts.clock.sleep(rng.expovariate(1 / 0.3))
                victim = rng.randrange(len(workers))
                if kills >= 3 * least_kills or not fleet.has_started(workers[victim]):
                    continue  # on a slow machine none would get anywhere
                fleet.kill(workers[victim])
                kills += 1
                fleet.gate(f"kill-{kills}").touch()
                workers[victim] = fleet.start()
            assert kills >= least_kills
            for work_id in ids:
                await check_done(runtime, work_id, 10)
            assert overlaps(fleet.records(), fleet.killed_at) == []
            executions = sum(line["what"] == "begin" for line in fleet.records())
            assert executions <= items * 10 + kills * 4, "a kill wastes at most what the worker had in hand"


async def test_a_frozen_worker_has_its_commit_refused_and_goes_on_working(tmp_path: Path) -> None:
    """Invariant 3: SIGSTOP beyond the lease, then SIGCONT; the other worker's commit stands."""
    with Fleet(tmp_path) as fleet:
        async with fleet.opened() as runtime:
            frozen = fleet.start()
            held = work(fleet, steps=2, seconds=0.0, gate=str(fleet.gate()))
            (work_id,) = await runtime.client.enqueue_many([held])
            await until(lambda: any(line["what"] == "begin" for line in fleet.records()), runtime)
            fleet.signal(frozen, signal.SIGSTOP)
            fleet.gate().touch()
            other = fleet.start()

            async def is_done() -> bool:
                return (await runtime.client.status(work_id)).control.state is State.DONE

            await until(is_done, runtime)
            before = await journal(runtime, work_id)
            fleet.signal(frozen, signal.SIGCONT)
            await until(lambda: "lease.lost" in fleet.log(frozen), runtime)
            assert await journal(runtime, work_id) == before
            await check_done(runtime, work_id, 2)
            fleet.kill(other)
            (next_id,) = await runtime.client.enqueue_many([work(fleet, steps=1, seconds=0.0)])
            await until(lambda: any(line["work"] == next_id for line in fleet.records()), runtime)
            assert fleet.is_alive(frozen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_drained_worker_hands_its_lease_on_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """Told in a long step to stop, or its terminal closed: another goes on at once, not a lease later."""
    with Fleet(tmp_path, ROOST_LEASE_SECONDS="60", ROOST_WORKER__GRACE_SECONDS="0.2") as fleet:
        async with fleet.opened() as runtime:
            first = fleet.start()
            held = work(fleet, steps=1, seconds=0.0, gate=str(fleet.gate()))
            (work_id,) = await runtime.client.enqueue_many([held])
            await until(lambda: len(fleet.records()) == 1, runtime)
            second = fleet.start()
            await until(lambda: fleet.has_started(second), runtime)
            fleet.signal(first, number)
            await until(lambda: len(fleet.records()) == 2, runtime, 30)  # half the lease
            await until(lambda: not fleet.is_alive(first), runtime)
            view = await runtime.client.status(work_id)
            assert (view.control.failures, view.control.interruptions) == (0, 0), "no attempt is burned"
            assert Kind.RELEASED in [entry.event.kind for entry in await journal(runtime, work_id)]


async def test_a_crash_loop_ends_in_the_dead_letter_state(tmp_path: Path) -> None:
    """Work that kills its worker every time is dead-lettered, not run for ever."""
    with Fleet(tmp_path, ROOST_LEASE_SECONDS="0.3") as fleet:
        async with fleet.opened() as runtime:
            work_id = await runtime.client.enqueue("poison", {"path": str(fleet.ledger)})
            workers = [fleet.start()]

            async def has_failed() -> bool:
                if not fleet.is_alive(workers[-1]):
                    workers.append(fleet.start())
                return (await runtime.client.status(work_id)).control.state is State.FAILED

            await until(has_failed, runtime)
            view = await runtime.client.status(work_id)
            assert view.control.reason.startswith("CrashLoop: 10 workers in a row ")
            assert view.control.interruptions == 10
            entries = await journal(runtime, work_id)
            claims = [entry.position for entry in entries if entry.event.kind is Kind.CLAIMED]
            assert len(claims) == 10
            tokens = [line["token"] for line in fleet.records()]
            assert len(set(tokens)) == len(tokens)
            assert set(tokens) <= set(claims), "on a slow machine a lease may end before its step begins"


@pytest.mark.soak
async def test_what_runs_beside_a_crash_loop_is_done(tmp_path: Path) -> None:
    """Its steps are longer than its workers live, until it runs without what kills them."""
    with Fleet(tmp_path) as fleet:
        async with fleet.opened() as runtime:
            poison = await runtime.client.enqueue("poison", {"path": str(fleet.ledger)})
            others = await runtime.client.enqueue_many([work(fleet, steps=1, seconds=4.0) for _ in range(3)])
            workers = [fleet.start()]

            async def have_ended() -> bool:
                if not fleet.is_alive(workers[-1]):
                    workers.append(fleet.start())
                views = [await runtime.client.status(work_id) for work_id in (poison, *others)]
                return all(view.control.state.is_terminal for view in views)

            await until(have_ended, runtime, 120)
            assert (await runtime.client.status(poison)).control.reason.startswith("CrashLoop: 10 ")
            for work_id in others:
                await check_done(runtime, work_id, 1)
            lines = fleet.records()
            died_in = [line["pid"] for line in lines if line["work"] == poison]
            for pid in died_in[-2:]:
                what = [line["what"] for line in lines if line["pid"] == pid]
                assert what.count("begin") == what.count("end") + 1, "it died alone"


POINTS = [
    f"{when}-{name}"
    for name in (
        "claimed",
        "committed",
        "receive",
        "acquire",
        "release",
        "leave",
        "is_called",
        "send",
        "acknowledge",
        "artifact_put",
    )
    for when in ("before", "after")
] + ["after-committed:3", "before-committed:2", "before-send:2", "after-acknowledge:2"]


@pytest.mark.parametrize(
    "point", [pytest.param(p, marks=pytest.mark.soak) if p == "after-release" else p for p in POINTS]
)
async def test_a_crash_at_this_point_loses_and_doubles_nothing(tmp_path: Path, point: str) -> None:
    """A worker dies at a named crash point; a second one finishes the work."""
    with Fleet(tmp_path, ROOST_LEASE_SECONDS="0.4", ROOST_WORKER__SWEEP_SECONDS="0.1") as fleet:
        async with fleet.opened() as runtime:
            works = [
                work(fleet, steps=3, seconds=0.0, delay=0.02, resources=("shared",), gate=str(fleet.gate()))
                for _ in range(2)
            ]
            if "is_called" not in point:  # there, one meets the other's claim
                fleet.gate().touch()
            ids = await runtime.client.enqueue_many(works)
            first = fleet.start(ROOST_TESTING="1", ROOST_CRASH_AT=point)
            await until(lambda: not fleet.is_alive(first), runtime)
            fleet.gate().touch()
            fleet.start()

            async def are_done() -> bool:
                return (await runtime.backend.index.counts()).get(State.DONE) == len(ids)

            await until(are_done, runtime)
            for work_id in ids:
                await check_done(runtime, work_id, 3)
            begun = sum(line["what"] == "begin" for line in fleet.records())
            lost = sum([leases_lost(await journal(runtime, work_id)) for work_id in ids])
            assert 6 <= begun <= 6 + lost, "a lease that is lost repeats at most the step in hand"


@pytest.mark.parametrize(
    "point", ["after-committed:1", "before-leave", pytest.param("after-leave", marks=pytest.mark.soak)]
)
async def test_a_claim_for_life_outlives_its_worker_and_ends_with_its_work(
    tmp_path: Path, point: str
) -> None:
    """Invariant 4 with scope `work`: no step of another comes between two of its owner's."""
    with Fleet(tmp_path, ROOST_LEASE_SECONDS="0.4", ROOST_WORKER__SWEEP_SECONDS="0.1") as fleet:
        async with fleet.opened() as runtime:
            works = [
                replace(
                    work(fleet, steps=3, seconds=0.0, delay=0.05, resources=("shared",)),
                    resource_scope=Scope.WORK,
                )
                for _ in range(3)
            ]
            ids = await runtime.client.enqueue_many(works)
            first = fleet.start(ROOST_TESTING="1", ROOST_CRASH_AT=point)
            await until(lambda: not fleet.is_alive(first), runtime)
            fleet.start()

            async def are_done() -> bool:
                return (await runtime.backend.index.counts()).get(State.DONE) == len(ids)

            await until(are_done, runtime)
            order = [line["work"] for line in fleet.records() if line["what"] == "begin"]
            turns = [work_id for work_id, _ in groupby(order)]
            assert sorted(turns) == sorted(ids), order

            async def is_free() -> bool:
                return not any(view.owners for view in await runtime.client.resources())

            await until(is_free, runtime)
