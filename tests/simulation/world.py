"""A world in virtual time: one storage, some workers with wrong clocks, and everything going wrong.

For a bounded time there is chaos: workers are killed between any two awaits, freeze beyond
their leases and come back as zombies, calls fail before or after they were done, and
deliveries are lost, repeated, delayed and reordered. Then the faults stop, and all work
must end within a bounded time. What was written down on the way is checked against the
invariants.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from roost.core.client import Client
from roost.core.operating import OperationEngine
from roost.core.parts import CoreSettings, Parts
from roost.core.worker import Worker
from roost.engine import EngineRegistry, StepContext
from roost.errors import (
    ConflictError,
    RoostError,
    StorageError,
    StorageUnavailable,
    WorkNotFound,
)
from roost.journal.claims import Owner
from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Kind, Switched
from roost.journal.limits import Change, Open
from roost.journal.lines import OPERATOR_ENGINE, SWITCH_ENGINE
from roost.models import WorkItem
from roost.names import Scope
from roost.storage.instrument import InstrumentedBackend
from roost.testing.virtual_time import DAY_SECONDS, SeededIds, VirtualClock, run

from . import budgets, invariants, many, operator_invariants, operators, readings
from . import family_invariants as families
from .company import check_company
from .engines import SimEngine, TimedEngine
from .families import draw
from .faulty import SharedBackend
from .invariants import Appended, Began, Ended, Record, Sent, Violation
from .lines import LineRecord, Over, check_lines
from .plan import RESOURCES, Operation, Plan, PlannedDeed, PlannedSignal, PlannedWork, Strike
from .surroundings import surroundings

EXPECTED_ERRORS = frozenset(
    {
        *("ValueError", "CancelledError", "FailWork", "StepTimeout"),  # the engine's own trouble
        *("DeadlineExceeded", "CrashLoop", "WaitTimeout"),  # the core's verdict on it
        "StorageUnavailable",  # met by the engine itself, where it put an artifact
    }
)
"""All that work may fail of here; anything else is a bug that the core took for the engine's."""

_ENQUEUE_TRIES = 5
_BUG_LINES = 8  # of a traceback, in a report


@dataclass(slots=True)
class Report:
    """What came of one seed.

    Attributes:
        violations: invariants that did not hold.
        bugs: errors that nobody expected, as text.
        counts: how often each fault struck, and each kind of entry was written.
        digest: of all that happened; the same for the same seed, anywhere.
        ended_seconds: virtual seconds that it took.
        history: what the invariants were checked on.
        trace: one line for each thing that happened, if asked for.
    """

    seed: int
    plan: Plan
    violations: list[Violation] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    digest: str = ""
    ended_seconds: float = 0.0
    history: list[Record] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong."""
        return not self.violations and not self.bugs

    def __str__(self) -> str:
        replay = f"python -m tests.simulation --seed {self.seed} --trace"
        found = [str(violation) for violation in self.violations[:10]]
        found += ["\n  ".join(bug.splitlines()[-_BUG_LINES:]) for bug in self.bugs[:2]]
        return "\n  ".join([f"seed {self.seed} failed; replay it with: {replay}", *found])


def simulate(
    seed: int, *, plan: Plan | None = None, is_traced: bool = False, world: type[World] | None = None
) -> Report:
    """Run one seed and check all invariants."""
    report = Report(seed, plan or draw(seed))
    with surroundings(report):
        try:
            run((world or World)(report, is_traced).run, seed=seed, until_seconds=1000 * DAY_SECONDS)
        except Exception as error:  # deadlock, livelock, out of time, or a bug outside the workers
            report.bugs.append("".join(traceback.format_exception(error)))
    return report


class ClientDied(RoostError):
    """The program that talked to Roost ended in the middle of a call."""


class World:
    """One run."""

    process_class: type[Process]  # what its processes are; see the end of this module
    namespace = ""  # that its work is of

    def __init__(self, report: Report, is_traced: bool = False) -> None:
        self.report = report
        self.plan = report.plan
        self.random = random.Random(f"world {report.seed}")
        self.history = report.history
        self.lines: list[LineRecord] = []
        self.charges: list[Record | budgets.Stands] = []  # the history, with what accounts said meanwhile
        self.tails: dict[str, Entry] = {}
        self.put: dict[str, bytes] = {}
        self.troubles: Counter[tuple[str, int, int]] = Counter()
        self.is_chaos = True
        self.attempt_count = 0
        self.works = {work.work_id: work for work in self.plan.works}
        self.step_counts = {work.work_id: len(work.steps) for work in self.plan.works}
        self.processes: dict[int, Process] = {}
        self.is_traced = is_traced
        self._calls: Counter[tuple[str, str]] = Counter()
        self._strikes: dict[tuple[str, str, int], list[Strike]] = {}
        for strike in self.plan.faults.strikes:
            self._strikes.setdefault((strike.when, strike.call, strike.number), []).append(strike)
        self._generations: Counter[int] = Counter()
        self._allowed: Counter[str] = Counter()  # by operators, so far
        self._thrown: set[str] = set()  # targets of switches
        self._group: asyncio.TaskGroup
        self.shared: SharedBackend
        self.outsider: Process
        self.now: Callable[[], float]

    # --- the run -------------------------------------------------------------

    async def run(self) -> None:
        """Chaos, calm, and the checks."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        self.now = loop.time
        self._open_storage(loop)
        for slot in range(self.plan.worker_count):
            self.start(slot)
        async with asyncio.TaskGroup() as self._group:
            outsiders = self._start_outsiders()
            await asyncio.sleep(self.plan.chaos_seconds)
            self._calm_down()
            await asyncio.wait(outsiders)
            await self._open()
            await self._settle()
        for process in self.processes.values():
            process.kill()
        await self._check()

    def _open_storage(self, loop: asyncio.AbstractEventLoop) -> None:
        self.shared = self._storage(loop, self._appended)

    def _storage(self, loop: asyncio.AbstractEventLoop, appended: Callable[[Entry], None]) -> SharedBackend:
        return SharedBackend(
            VirtualClock(loop),
            self.plan,
            self.random,
            strikes=self._strikes_queue,
            appended=appended,
            told=self.lines.append,
            charged=self._charged,
            dropped=self.history.append,
        )

    def storage_of(self, slot: int) -> SharedBackend:
        """What the processes of a slot see."""
        return self.shared

    def _start_outsiders(self) -> list[asyncio.Task[None]]:
        outsider = self.process_class(self, -1, 0)
        actions: list[Coroutine[Any, Any, None]] = [outsider.do(deed) for deed in self.plan.deeds]
        for work in self.plan.works:
            actions.append(outsider.enqueue(work))
            if work.cancel_after_seconds is not None:
                actions.append(outsider.cancel(work.work_id, work.cancel_after_seconds))
            if work.retry_after_seconds is not None:
                actions.append(outsider.retry(work.work_id, work.retry_after_seconds))
        actions += [outsider.signal(signal) for signal in self.plan.signals]
        actions += [outsider.change(*limit) for limit in self.plan.limits]
        actions += [self._kill_after(seconds) for seconds in self.plan.faults.kill_after_seconds]
        return [self._group.create_task(action) for action in actions]

    async def _kill_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self.is_chaos:
            victim = self.random.choice(list(self.processes.values()))
            if not victim.is_dead:
                self.tell(victim, "killed by the clock")
                self.replace(victim)

    def _calm_down(self) -> None:
        """No more faults: who is frozen comes back, who is dead is replaced at once."""
        self.is_chaos = False
        self.note("calm")
        for process in self.processes.values():
            process.thaw()

    async def _open(self) -> None:
        """Let nothing stay closed for ever: an operator opens it in the end, and dies no more."""
        self.outsider = self.process_class(self, -1, 1)
        for resource in RESOURCES:
            await self.outsider.change(0.0, resource, Open())
        await self.outsider.let_go()

    async def _settle(self) -> None:
        """Wait until all has ended and the index shows it, or the time for it is over."""
        until = self.now() + self.plan.calm_seconds
        while not self._is_settled() and self.now() < until:
            await asyncio.sleep(self.plan.lease_seconds / 2)

    def _is_settled(self) -> bool:
        tails = self.tails.values()
        if invariants.check_ended(tails) or invariants.check_index(tails, self._rows()):
            return False
        return not self._check_workers()

    def _check_workers(self) -> list[Violation]:
        return many.check_workers(self._thrown, [process.name for process in self.processes.values()])

    def _rows(self) -> dict[str, IndexRow]:
        return self.shared.index._rows

    async def _check(self) -> None:
        report, tails = self.report, self.tails.values()
        trails = await readings.trails(self.history, self.shared)
        report.violations = [
            *invariants.check_history(self.history, are_clocks_steady=self.plan.are_clocks_steady),
            *invariants.check_ended(tails),
            *invariants.check_done([one for one in tails if not many.is_operation(one)], self.step_counts),
            *families.check_families(self.history, are_clocks_steady=self.plan.are_clocks_steady),
            *invariants.check_index(tails, self._rows()),
            *invariants.check_snapshots(trails, operator_invariants.bases(self.history)),
            *operator_invariants.check_operators(self.history, are_clocks_right=self.are_clocks_right),
            *invariants.check_artifacts(self.put, await readings.artifacts(self.put, self.shared)),
            *invariants.check_reasons(self.history, EXPECTED_ERRORS),
            *self._check_lines(),
            *check_company(self.history, self.plan.concurrency),
            *budgets.check_charges(self.history, self.shared.accounts.spent),
            *budgets.check_stops(self.charges),
            *(await readings.check_kept(self.history, self.shared, self.plan.keep_versions)),
            *await self._check_operations(),
            *self._check_workers(),
        ]
        report.counts["dropped"] += readings.dropped_count(self.history)
        report.ended_seconds = self.now()
        report.digest = readings.digest(self.history)

    async def _check_operations(self) -> list[Violation]:
        """24, where clocks are as near to each other as operations take them to be."""
        is_near = self.plan.skew_seconds < many.CLOCKS_SECONDS / 2 and not self.plan.drift
        if not is_near or not self.plan.are_clocks_steady:
            return []
        done = await readings.done(self.tails.values(), self.outsider.client)
        return many.check_operations(self.history, done)

    @property
    def are_clocks_right(self) -> bool:
        """Whether all clocks say the same, all the time."""
        return self.plan.are_clocks_steady and not self.plan.skew_seconds and not self.plan.drift

    def _check_lines(self) -> list[Violation]:
        flaws = check_lines(
            self.lines, lease_seconds=self.plan.lease_seconds, are_clocks_right=self.are_clocks_right
        )
        return [Violation(flaw.invariant, flaw.where, flaw.what) for flaw in flaws]

    # --- processes -----------------------------------------------------------

    def start(self, slot: int) -> None:
        """Start a worker, the next that lives in this slot."""
        self._generations[slot] += 1
        self.processes[slot] = self.process_class(self, slot, self._generations[slot])
        self.processes[slot].start()

    def replace(self, process: Process) -> None:
        """Kill a worker; some time later there is another."""
        process.kill()
        pause = self.random.uniform(0.0, 1.5 * self.plan.lease_seconds) if self.is_chaos else 0.0
        self._group.create_task(self._start_later(process.slot, pause))

    async def _start_later(self, slot: int, seconds: float) -> None:
        until = self.now() + seconds
        while self.is_chaos and self.now() < until:
            await asyncio.sleep(seconds / 4)
        self.start(slot)

    def strikes(self, chance: float) -> bool:
        """Whether a fault of this likelihood happens now."""
        return chance > 0 and self.is_chaos and self.random.random() < chance

    def _strikes_queue(self, fault: str, chance: float) -> bool:
        """Whether a fault of the queue happens now."""
        if not self.strikes(chance):
            return False
        self.report.counts[f"delivery {fault}"] += 1
        return True

    def struck(self, when: str, call: str, detail: str) -> list[Strike]:
        """Count a call, and find what strikes at it."""
        if not self._strikes:
            return []
        found = []
        for name in ("", call, detail) if detail else ("", call):
            self._calls[when, name] += 1
            found += self._strikes.get((when, name, self._calls[when, name]), [])
        return found

    # --- what happened -------------------------------------------------------

    def _appended(self, entry: Entry) -> None:
        if entry.control.engine in (SWITCH_ENGINE, OPERATOR_ENGINE):  # no work
            self.report.counts[entry.event.kind] += 1
            if isinstance(entry.event, Switched) and entry.event.is_paused:
                self._thrown.add(entry.event.target)
            return
        before = self.tails.get(entry.work_id)
        if before and before.control.lease and entry.event.kind is Kind.CLAIMED:
            self.report.counts["took over"] += 1
        self.report.counts[entry.event.kind] += 1
        self.history.append(Appended(entry))
        self.charges.append(self.history[-1])
        self.tails[entry.work_id] = entry
        if entry.control.state.is_terminal:
            self.lines.append(Over(entry.work_id, entry.position))
        self.note(f"{entry.work_id}@{entry.position} {entry.event} by {entry.actor} -> {entry.control.state}")

    def _charged(self, stands: budgets.Stands) -> None:
        self.report.counts["charged"] += 1
        self.charges.append(stands)
        self.note(str(stands))

    async def owners(self, work_id: str, resources: Iterable[str]) -> tuple[tuple[str, Owner | None], ...]:
        """A work item's claim on each resource, or else another's; does not yield: it is of this instant."""
        found = []
        for resource in resources:
            views = await self.shared.claims.show(resource=resource)
            owners = list(views[0].owners) if views else []
            own = [owner for owner in owners if owner.work_id == work_id]
            found.append((resource, next(iter(own or owners), None)))
        return tuple(found)

    def id_of(self, name: str) -> str:
        """The work id of what the history has under a name."""
        return name

    def meet(self, item: WorkItem) -> None:
        """The engine's step that runs here is of this work."""

    def begin(
        self, context: StepContext, item: WorkItem, owners: tuple[tuple[str, Owner | None], ...]
    ) -> int:
        """A step begins to run."""
        self.attempt_count += 1
        most = tuple((name, self._most(name)) for name in item.resources)
        self.history.append(Began(self.attempt_count, context.work_id, context.token, owners, most))
        self.charges.append(self.history[-1])
        return self.attempt_count

    def script_of(self, item: WorkItem) -> tuple[tuple[Operation, ...], ...]:
        """What each step of a work item does."""
        if item.work_id in self.works:
            return self.works[item.work_id].steps
        script = self.plan.scripts[item.payload["script"]]
        self.step_counts[item.work_id] = len(script)
        return script

    def _most(self, resource: str) -> int:
        """How many owners a resource may have; what an operator allowed before may still be held."""
        stand = self.shared.claims.stand(resource)
        own = min((owner[2] for owner in stand.owners), default=1)
        self._allowed[resource] = max(self._allowed[resource], stand.capacity or 0)
        return max(own, self._allowed[resource])

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        if self.is_traced:
            self.report.trace.append(f"{self.now():12.3f}  {text}")

    def tell(self, process: Process, fault: str) -> None:
        """A fault struck."""
        self.report.counts[fault] += 1
        self.note(f"{process.name} {fault}")

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.report.bugs.append(f"{context.get('message')}: {context.get('exception')!r}")


class Process:
    """A process with its own clock and its own way to the storage: a worker, or a program outside.

    Args:
        slot: in which place of the world it lives; -1 for the program outside.
        generation: counts the processes of a slot.
    """

    def __init__(self, world: World, slot: int, generation: int) -> None:
        plan = world.plan
        self.world = world
        self.slot = slot
        self.name = f"w{slot}.{generation}" if slot >= 0 else "client"
        self.is_dead = False
        self.heartbeats_fail = world.strikes(plan.faults.heartbeat_fails)
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._attempts: dict[int, None] = {}
        self._outage_until = 0.0
        self.clock = _ProcessClock(
            self,
            world.random.uniform(-plan.skew_seconds, plan.skew_seconds),
            1.0 + world.random.uniform(-plan.drift, plan.drift),
        )
        self.backend = InstrumentedBackend(world.storage_of(slot), self._hook)
        settings = CoreSettings(
            lease_seconds=plan.lease_seconds,
            concurrency=plan.concurrency,
            burst_steps=plan.burst_steps,
            burst_seconds=plan.lease_seconds * 0.7,
            sweep_seconds=plan.sweep_seconds[slot],
            grace_seconds=plan.lease_seconds / 5,
            wait_seconds=plan.lease_seconds * 2,
            keep_versions=plan.keep_versions,
            retention_seconds=plan.retention_seconds,
        )
        self.parts = Parts(self.backend, self.clock, SeededIds(world.random), settings)
        self._client = Client(self.parts, namespace=world.namespace)
        self._worker: Worker
        self._task: asyncio.Task[None]

    # --- life and death ------------------------------------------------------

    def start(self) -> None:
        """Run a worker in this process."""
        self._worker = Worker(self.parts, EngineRegistry(self.engines()), self.name)
        self.world.note(f"{self.name} starts, its clock is {self.clock.offset_seconds:+.1f} s off")
        self._task = asyncio.create_task(self._worker.run(), name=self.name)
        self._task.add_done_callback(self._stopped)

    def engines(self) -> list[Any]:
        """What this process can run."""
        of_operations = [OperationEngine(self.parts)] if many.has_operations(self.world.plan) else []
        return [SimEngine(self), TimedEngine(self), *of_operations]

    @property
    def client(self) -> Client:
        """As which it acts."""
        return self._client

    def options_of(self, work: PlannedWork) -> dict[str, Any]:
        """Further options that a work item is enqueued with."""
        return {"family_budget": {"steps": work.family_steps}} if work.family_steps else {}

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if self.is_dead:
            return
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.report.bugs.append(f"worker {self.name} ended: {error!r}")
        self.world.replace(self)  # it drained

    def kill(self) -> None:
        """End now, as by SIGKILL: nothing that this process still does has an effect."""
        if self.is_dead:
            return
        self.is_dead = True
        self._thawed.set()
        self.world.history.extend(Ended(attempt) for attempt in self._attempts)
        self._attempts.clear()
        for session, task in self._worker.sessions.items():
            session.leave(task)
        self._task.cancel()

    def freeze(self) -> None:
        """Hang for longer than a lease, then go on as if nothing had been."""
        lease_seconds = self.world.plan.lease_seconds
        self._thawed.clear()
        loop = asyncio.get_running_loop()
        loop.call_later(lease_seconds * self.world.random.uniform(1.1, 3.0), self.thaw)

    def thaw(self) -> None:
        """Go on."""
        if not self._thawed.is_set():
            self.world.note(f"{self.name} thaws")
            self._thawed.set()

    async def pass_gate(self) -> None:
        """Wait while this process is frozen."""
        while not self._thawed.is_set():
            await self._thawed.wait()
        if self.is_dead:
            raise asyncio.CancelledError

    # --- calls ---------------------------------------------------------------

    async def _hook(self, when: str, call: str, detail: str) -> None:
        """Before and after each call of the storage; any fault may strike here."""
        world, faults = self.world, self.world.plan.faults
        if self.is_dead:
            raise asyncio.CancelledError
        if world.is_traced:
            world.note(f"{self.name} {when} {call} {detail}")
        if not world.is_chaos:
            if world.random.random() < faults.yields:
                await asyncio.sleep(0)
            return
        for strike in world.struck(when, call, detail):
            world.report.counts[f"{strike.fault} {when} {detail or call}"] += 1
            self._strike(strike.fault)
        if world.strikes(faults.slow):
            await asyncio.sleep(world.random.uniform(0.0, world.plan.lease_seconds / 10))
        elif world.strikes(faults.yields):
            await asyncio.sleep(0)
        await self.pass_gate()
        if world.now() < self._outage_until:
            self._fail("call failed" if when == "before" else "reply lost", call, detail)
        if world.strikes(faults.unavailable if when == "before" else faults.ambiguous):
            self._fail("call failed" if when == "before" else "reply lost", call, detail)
        if call == "extend" and self.heartbeats_fail and world.is_chaos:
            self._fail("heartbeat failed", call, detail)

    def _strike(self, fault: str) -> None:
        world, plan = self.world, self.world.plan
        world.tell(self, fault)
        match fault:
            case "kill" if self.slot < 0:
                raise ClientDied("killed")
            case "kill":
                world.replace(self)
                raise asyncio.CancelledError
            case "freeze":
                self.freeze()
            case "outage":
                self._outage_until = world.now() + plan.lease_seconds * world.random.uniform(0.2, 2.0)
            case "jump":
                self.clock.offset_seconds = world.random.uniform(-plan.skew_seconds, plan.skew_seconds)
            case "drain" if self.slot >= 0:
                self._worker.drain()

    def _fail(self, fault: str, call: str, detail: str) -> None:
        self.world.tell(self, fault)
        raise StorageUnavailable(f"{fault}: {call} {detail}")

    # --- the program outside -------------------------------------------------

    async def enqueue(self, work: PlannedWork) -> None:
        """Enqueue, again and again while the storage fails, as a careful program does."""
        await asyncio.sleep(work.enqueue_after_seconds)
        deadline = work.deadline_after_seconds
        for _ in range(_ENQUEUE_TRIES):
            if not await self.attempt(
                lambda: self._client.enqueue(
                    work.engine,
                    {"work": work.work_id},
                    work_id=work.work_id,
                    resources=work.resources,
                    capacities=dict(work.capacities),
                    resource_scope=Scope.WORK if work.holds_for_life else Scope.STEP,
                    delay_seconds=work.delay_seconds,
                    priority=work.priority,
                    deadline_at=None if deadline is None else self.clock.now() + deadline,
                    **self.options_of(work),
                )
            ):
                return
            await asyncio.sleep(1.0)

    async def cancel(self, work_id: str, after_seconds: float) -> None:
        """Ask for a work item to end, some time into the run."""
        await asyncio.sleep(after_seconds)
        await self.attempt(lambda: self._client.cancel(work_id, "enough"))

    async def retry(self, work_id: str, after_seconds: float) -> None:
        """Put a work item back to life, if it has ended by then."""
        await asyncio.sleep(after_seconds)
        await self.attempt(lambda: self._client.retry(work_id, "once more"))

    async def signal(self, planned: PlannedSignal) -> None:
        """Send a signal until it is acknowledged, and some more times, as if the reply was lost."""
        await asyncio.sleep(planned.after_seconds)
        for _ in range(1 + planned.again_count):
            for _ in range(_ENQUEUE_TRIES):
                if not await self.attempt(lambda: self._send(planned)):
                    break
                await asyncio.sleep(1.0)

    async def _send(self, planned: PlannedSignal) -> None:
        sent = await self._client.signal(
            planned.work_id, planned.name, {"id": planned.signal_id}, signal_id=planned.signal_id
        )
        self.world.history.append(Sent(planned.work_id, planned.signal_id, sent.position, sent.is_new))

    async def change(self, after_seconds: float, resource: str, change: Change) -> None:
        """Change the limits of a resource, as an operator does."""
        await asyncio.sleep(after_seconds)
        await self.attempt(lambda: self._client.change_resource(resource, change))

    async def do(self, deed: PlannedDeed) -> None:
        """What an operator does."""
        await operators.do(self.world, lambda who: Client(self.parts, actor=who), self.attempt, deed)

    async def let_go(self) -> None:
        """Let all go on that is on hold."""
        await operators.let_go(self.world, self._client)

    async def attempt(self, act: Callable[[], Awaitable[object]]) -> bool:
        """Act; whether it is worth to try again."""
        try:
            await act()
        except StorageError:
            return True
        except RoostError as error:
            if not isinstance(error, ConflictError | ClientDied | WorkNotFound):
                raise
        return False

    # --- steps ---------------------------------------------------------------

    async def begin(self, context: StepContext, item: WorkItem) -> int:
        """An engine's step begins to run in this process."""
        owners = await self.world.owners(item.work_id, item.resources)
        attempt = self.world.begin(context, item, owners)
        self._attempts[attempt] = None
        return attempt

    async def end(self, attempt: int, item: WorkItem) -> None:
        """It has ended."""
        if attempt in self._attempts:
            del self._attempts[attempt]
            owners = await self.world.owners(item.work_id, item.resources)
            self.world.history.append(Ended(attempt, owners))


World.process_class = Process


class _ProcessClock(VirtualClock):
    """The clock of a process: as wrong as it may be, and standing still while it is frozen."""

    def __init__(self, process: Process, offset_seconds: float, rate: float) -> None:
        super().__init__(asyncio.get_running_loop(), offset_seconds, rate)
        self._process = process

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await self._process.pass_gate()
