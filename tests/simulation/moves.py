"""A namespace moves to another storage while its work goes on, in the same world of faults.

26. Moves. What is copied is what was written, entry for entry. Nobody writes to a copy before its
    original has been ended, nor to that afterwards; so the journal at the old place, without its
    end, and what comes at the new one are one journal, and all other invariants hold of it. In the
    end all of the namespace is at the new place.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

from roost.core.ends import MOVER
from roost.core.moving import Move
from roost.core.parts import Parts
from roost.errors import ConflictError, StorageError
from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Cancelled
from roost.storage.instrument import InstrumentedBackend
from roost.testing.virtual_time import SeededIds

from . import family_invariants as families
from . import invariants, operator_invariants, readings
from .families import with_families
from .faulty import SharedBackend
from .invariants import Violation, at_entry
from .plan import Plan, draw_alone, draw_strike
from .world import EXPECTED_ERRORS, ClientDied, Process, Report, World, simulate

NAMESPACE = "team"
STRIKE_CALLS = (
    "append",
    "index_put",
    "paused",
    "resumed",
    "cancelled",
    "tail",
    "read",
    "get",
    "list",
    "take_due",
)
ENQUEUED_BY, MOVED_FROM = 0.2, 0.3  # of the time of chaos


def draw_moves(seed: int) -> Plan:
    """The plan of a seed: work of a namespace, with two places that workers serve."""
    source, plan = random.Random(f"moves {seed}"), draw_alone(seed)
    plan = plan if seed % 2 else with_families(plan, source)
    works = tuple(
        replace(
            work,
            work_id=f"{NAMESPACE}/{work.work_id}",
            resources=(),
            deadline_after_seconds=None,
            enqueue_after_seconds=source.uniform(0.0, ENQUEUED_BY * plan.chaos_seconds),
            retry_after_seconds=None,
        )
        for work in plan.works
    )
    strikes = tuple(
        draw_strike(source, source.choice(STRIKE_CALLS), may_jump=False) for _ in range(source.randint(0, 5))
    )
    count = min(2, plan.worker_count)
    return replace(
        plan,
        works=works,
        signals=(),
        worker_count=2 * count,
        sweep_seconds=plan.sweep_seconds[:count] * 2,
        faults=replace(plan.faults, strikes=plan.faults.strikes + strikes),
    )


class MoveProcess(Process):
    """A worker at one of the places, or the program that moves."""

    world: MoveWorld

    async def move(self) -> None:
        """Move, again and again until it is done."""
        await asyncio.sleep(self.world.plan.chaos_seconds * self.world.random.uniform(MOVED_FROM, 1.0))
        while self.world.is_chaos and not self.world.works.keys() <= self.world.tails.keys():
            await asyncio.sleep(self.world.plan.lease_seconds)  # who enqueues is stopped first
        while not self.world.is_moved:
            try:
                await self._move()
            except (StorageError, ConflictError, ClientDied):
                await asyncio.sleep(self.world.plan.lease_seconds / 2)
            else:
                self.world.is_moved = True

    async def _move(self) -> None:
        places = [
            Parts(
                InstrumentedBackend(place, self._hook),
                self.clock,
                SeededIds(self.world.random),
                self.parts.settings,
            )
            for place in (self.world.shared, self.world.there)
        ]
        move = Move(*places, namespace=NAMESPACE, name="there")
        await move.run(wait_seconds=4 * self.world.plan.lease_seconds)


class MoveWorld(World):
    """One run of such a plan."""

    process_class = MoveProcess
    namespace = NAMESPACE

    def __init__(self, report: Report, is_traced: bool = False) -> None:
        super().__init__(report, is_traced)
        self.there: SharedBackend
        self.is_moved = False
        self._here: set[str] = set()  # work that began at the old place
        self._left: set[str] = set()
        self._written: dict[tuple[str, int], Entry] = {}
        self._flaws: list[Violation] = []

    def _open_storage(self, loop: asyncio.AbstractEventLoop) -> None:
        super()._open_storage(loop)
        self.there = self._storage(loop, self._appended_there)

    def storage_of(self, slot: int) -> SharedBackend:
        """Every other worker serves the new place."""
        return self.there if slot >= 0 and slot % 2 else self.shared

    def _start_outsiders(self) -> list[asyncio.Task[None]]:
        mover = MoveProcess(self, -1, 2)
        return [*super()._start_outsiders(), self._group.create_task(mover.move())]

    def _appended(self, entry: Entry) -> None:
        if isinstance(entry.event, Cancelled) and entry.actor == MOVER:
            self._left.add(entry.work_id)
            self.report.counts["left behind"] += 1
        elif entry.work_id in self._left:
            if entry.event.kind not in invariants.STILL_APPENDED:  # these are told again at the new place
                self._flaws.append(Violation(26, at_entry(entry), "is written where the work has left"))
        else:
            self._here.add(entry.work_id)
            self._write(entry)

    def _appended_there(self, entry: Entry) -> None:
        standing = self._written.get((entry.work_id, entry.position))
        if standing is not None:
            self.report.counts["copied"] += 1
            if entry != standing:
                self._flaws.append(Violation(26, at_entry(entry), f"is a copy of {standing}"))
            return
        is_here = entry.work_id in self._here - self._left
        if is_here and not self.tails[entry.work_id].control.state.is_terminal:
            self._flaws.append(Violation(26, at_entry(entry), "is written to a copy of what goes on"))
        self._write(entry)

    def _write(self, entry: Entry) -> None:
        self._written[entry.work_id, entry.position] = entry
        super()._appended(entry)

    def _rows(self) -> dict[str, IndexRow]:
        return {**self.shared.index._rows, **self.there.index._rows}

    async def _check(self) -> None:
        tails = self.tails.values()
        self.shared.artifacts._blobs.update(self.there.artifacts._blobs)
        trails = await readings.trails(self.history, self.shared)
        self.report.violations = [
            *self._flaws,
            *invariants.check_history(self.history, are_clocks_steady=self.plan.are_clocks_steady),
            *invariants.check_ended(tails),
            *invariants.check_done(tails, self.step_counts),
            *families.check_families(self.history, are_clocks_steady=self.plan.are_clocks_steady),
            *invariants.check_index(tails, self._rows()),
            *invariants.check_snapshots(trails, operator_invariants.bases(self.history)),
            *invariants.check_artifacts(self.put, await readings.artifacts(self.put, self.shared)),
            *invariants.check_reasons(self.history, EXPECTED_ERRORS),
            *[
                Violation(26, at_entry(tail), "is not at the new place")
                for tail in tails
                if await self.there.journal.tail(tail.work_id) != tail
            ],
        ]
        self.report.ended_seconds = self.now()
        self.report.digest = readings.digest(self.history)


def simulate_moves(seed: int, *, plan: Plan | None = None, is_traced: bool = False) -> Report:
    """Run one seed of these plans."""
    return simulate(seed, plan=plan or draw_moves(seed), is_traced=is_traced, world=MoveWorld)
