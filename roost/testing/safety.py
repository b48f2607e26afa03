"""Is an engine safe to crash? Runs it once in peace, then again with a fault at each cut point.

A cut point is an instant before or after one call that a worker makes to its storage:
the claim, a commit, an effect recorded by `once`, a delivery, an acknowledgement. At each
the worker is killed, or frozen until another has taken over (a stolen lease), and after each
commit it is started anew, with nothing left of its memory; besides, deliveries are repeated,
reordered and late. What comes out in the end must be what came out in peace. So each step is
run twice from the same snapshot, and what it gives is compared. See `assert_crash_safe`.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from roost.clock import Clock, Ids
from roost.core.attempt import DEADLINE
from roost.core.workspaces import HostWorkspaces
from roost.errors import FailWork
from roost.names import State
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Backend
from roost.testing.deadline import Deadline, TimeIsUp
from roost.testing.driver import Driver
from roost.testing.faults import Cut, Fault, Run
from roost.testing.findings import Finding, NoSubject, UnsafeEngine
from roost.testing.outcome import (
    WORK_ID,
    Outcome,
    compare,
    entries_of,
    error_of,
    lines_of,
    once_counts_of,
    unsteady,
    works_of,
)
from roost.testing.virtual_time import SeededIds, VirtualClock, VirtualTimeLoop

T = TypeVar("T")

CUTS_MAX = 2000
_MEANT = frozenset({FailWork.__name__, DEADLINE})  # what engines fail of on purpose
_STRIDE = 7

OpenWorld = Callable[[], AbstractAsyncContextManager["World"]]
Planned = tuple[Fault, Cut | None]


@dataclass(frozen=True, slots=True)
class World:
    """A new and empty backend, with a clock that `pass_time` moves."""

    backend: Backend
    clock: Clock
    ids: Ids
    pass_time: Callable[[float], Awaitable[None]]
    work_id: str = WORK_ID
    workspaces: HostWorkspaces | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tried.

    Attributes:
        make: makes the engines anew, first the one that is tried; called with the outside, if
            there is one, for each run and for each worker that is started anew.
        payload: of the work.
        signals: data by name; each is sent when the work waits for it.
        outside: makes what the engines act upon, for each run.
        observe: sees what was done outside; called with the outside, else with the engine.
        ignore: dotted paths into a snapshot's `data` (or `result`) that may differ.
        is_remade: `make` makes engines that have nothing in common with those before.
    """

    make: Callable[..., Sequence[Any]]
    payload: Mapping[str, Any]
    signals: Mapping[str, Any] = field(default_factory=dict)
    outside: Callable[[], Any] | None = None
    observe: Callable[[Any], Any] | None = None
    ignore: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    is_remade: bool = True


def _maker(engines: Sequence[Any]) -> Callable[..., Sequence[Any]]:
    """Makes engines anew where they are classes or functions; instances are used again."""
    return lambda *outside: [engine if _is_instance(engine) else engine(*outside) for engine in engines]


def _is_instance(engine: Any) -> bool:
    return not inspect.isclass(engine) and callable(getattr(engine, "step", None))


def assert_crash_safe(
    engine: Any,
    payload: Mapping[str, Any] | None = None,
    *,
    others: Sequence[Any] = (),
    outside: Callable[[], Any] | None = None,
    signals: Mapping[str, Any] | None = None,
    observe: Callable[[Any], Any] | None = None,
    ignore: Sequence[str] = (),
    **options: Any,
) -> int:
    """Check that an engine comes to the same end wherever its worker dies.

    Args:
        engine: an instance that keeps nothing between steps, or a class or function that
            makes one; called anew for each run, and for each worker that is started anew.
        payload: of the work.
        others: further engines, those of children say.
        outside: makes what outlives workers, anew for each run: a stand-in for a service, a
            list of mails. Classes and functions that make engines are called with it.
        signals: data by name; each is sent when the work waits for it.
        observe: called at the end of each run with the outside (without one, with the engine);
            what it returns must be the same each time, too: the mails that were sent, say.
        ignore: dotted paths that may differ: `data.fetched_at`.
        options: further fields of `NewWork`.

    Returns:
        How many runs there were.

    Raises:
        UnsafeEngine: it is not safe; shows the shortest history that shows it.
        NoSubject: the undisturbed run fails already (other than by `FailWork`), differs from a second
            one, or waits for a signal that is not given.
    """
    engines = [engine, *others]
    tried = Subject(
        _maker(engines),
        payload or {},
        signals=signals or {},
        outside=outside,
        observe=observe,
        ignore=ignore,
        options=options,
        is_remade=not any(map(_is_instance, engines)),
    )
    explored = in_virtual_time(explore(tried, memory_world))
    if explored.findings:
        raise UnsafeEngine(explored.findings, explored.runs)
    return explored.runs


def in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a virtual loop of its own."""
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


@asynccontextmanager
async def memory_world() -> AsyncIterator[World]:
    """A world in memory, on the virtual loop that runs."""
    clock = VirtualClock(asyncio.get_running_loop())
    yield World(MemoryBackend(clock), clock, SeededIds(random.Random(0)), asyncio.sleep)


@dataclass(frozen=True, slots=True)
class Explored:
    """What came of it.

    Attributes:
        findings: the shortest history first.
        runs: how many there were, of how many that were planned; one that was cut does not count.
        calls: how many cut points the undisturbed run had.
        peace: how that ended: state, versions, and why, if it did not end well; empty: the time
            was up before, so that nothing was tried.
    """

    findings: Sequence[Finding] = ()
    runs: int = 0
    planned: int = 0
    calls: int = 0
    peace: str = ""


async def explore(
    tried: Subject,
    open_world: OpenWorld,
    *,
    cuts_max: int = CUTS_MAX,
    first: Sequence[Planned] = (),
    deadline: Deadline | None = None,
    tell: Callable[[Explored], None] = lambda explored: None,
) -> Explored:
    """Try every cut point.

    Args:
        cuts_max: beyond it, an even selection of them is tried.
        first: what is tried before all else: what another world's run came to grief over.
        deadline: when it is over, the run under way is cut and the rest left out; None: never.
        tell: called after each run, with what came of all so far.

    Raises:
        NoSubject: the undisturbed run fails already (other than by `FailWork`), differs from a second
            one, or waits for a signal that is not given.
    """
    explored, calls = Explored(), list[Cut]()
    try:
        peace, _ = await _run(tried, open_world, watch=calls.append, deadline=deadline)
        again, _ = await _run(tried, open_world, deadline=deadline)
        _check_peace(peace, again, tried.ignore)
        plan = _plan(tried, calls, cuts_max)
        explored = Explored(planned=len(plan), calls=len(calls), peace=peace.in_words)
        plan = [*(one for one in first if one in plan), *(one for one in plan if one not in first)]
        for fault, cut in plan:
            tell(explored)
            outcome, run = await _run(tried, open_world, fault=fault, cut=cut, deadline=deadline)
            found = _compare(tried, peace, outcome, run, fault, cut)
            explored = replace(explored, findings=_sorted(explored.findings, found), runs=explored.runs + 1)
    except TimeIsUp:
        pass
    tell(explored)
    return explored


def _compare(
    tried: Subject, peace: Outcome, outcome: Outcome, run: Run, fault: Fault, cut: Cut | None
) -> Sequence[Finding]:
    """What differs, if anything does."""
    is_outside_whole = fault is not Fault.RESTART or tried.outside is not None
    difference = compare(peace, outcome, tried.ignore, is_outside_whole=is_outside_whole)
    if difference is None:
        return ()
    step, version = run.step_before
    return [Finding(fault, cut, difference, outcome.history, step, version, run.fault_line)]


def _sorted(findings: Sequence[Finding], more: Sequence[Finding]) -> Sequence[Finding]:
    """The shortest first; of two alike in length that of a new memory, for it is to be mended first."""
    return sorted(
        [*findings, *more], key=lambda finding: (len(finding.history), finding.fault is not Fault.RESTART)
    )


def _check_peace(peace: Outcome, again: Outcome, ignore: Sequence[str]) -> None:
    """See that there is an end that crashes must not change."""
    if peace.error and peace.error not in _MEANT:
        raise NoSubject(f"the undisturbed run fails already, at version {_version(peace)}: {peace.reason}")
    if (found := unsteady(peace, again, ignore)) is not None:
        path, difference = found
        raise NoSubject(
            f"two undisturbed runs differ, so nothing can be said of crashes: {difference}. A step that ran "
            "twice would come to something else, too. Where that is meant (a time, what a model answers), "
            f"leave {path} out of the comparison.",
            path=path,
        )
    if (difference := compare(peace, again, ignore) or "") != "":
        raise NoSubject(f"two undisturbed runs differ, so nothing can be said of crashes: {difference}")
    if peace.waits_for:
        raise NoSubject(
            f"the undisturbed run waits for the signal {peace.waits_for!r}, which is not given",
            signal=peace.waits_for,
        )


def _version(outcome: Outcome) -> int:
    return int(outcome.works[WORK_ID]["version"])


def _plan(tried: Subject, calls: Sequence[Cut], cuts_max: int) -> Sequence[Planned]:
    """What is tried, first where engines err most: at commits and records.

    Every beginning of the rest is spread over the whole run.
    """
    commits = [cut for cut in calls if (cut.when, cut.detail) == ("after", "committed")]
    steals = [cut for cut in calls if cut.when == "before" and cut.call == "append"]
    cuts: list[Planned] = [(Fault.KILL, cut) for cut in _select(calls, cuts_max)]
    cuts += [(Fault.STEAL, cut) for cut in _select(steals, cuts_max // 4)]
    if tried.is_remade:
        cuts += [(Fault.RESTART, cut) for cut in _select(commits, cuts_max // 4)]
    spread = [cuts[number] for first in range(_STRIDE) for number in range(first, len(cuts), _STRIDE)]
    telling = [one for one in spread if _is_telling(one)]
    rest = [one for one in spread if not _is_telling(one)]
    return [*telling, *((fault, None) for fault in (Fault.REPEAT, Fault.REVERSE, Fault.LATE)), *rest]


def _is_telling(planned: Planned) -> bool:
    fault, cut = planned
    assert cut is not None
    is_kept = cut.when == "before" and cut.detail in ("committed", "recorded")
    return fault is Fault.RESTART or (fault is Fault.KILL and is_kept)


def _select(cuts: Sequence[Cut], most: int) -> Sequence[Cut]:
    if len(cuts) <= most:
        return cuts
    return [cuts[number * len(cuts) // most] for number in range(most)]


async def _run(
    tried: Subject,
    open_world: OpenWorld,
    *,
    watch: Callable[[Cut], None] | None = None,
    fault: Fault | None = None,
    cut: Cut | None = None,
    deadline: Deadline | None = None,
) -> tuple[Outcome, Run]:
    """Run the work to its end in a world of its own.

    Raises:
        TimeIsUp: the deadline is over before.
    """
    if deadline is not None:
        deadline.check()
    outside = () if tried.outside is None else (tried.outside(),)
    engines = tried.make(*outside)
    async with open_world() as world:
        driver = Driver(
            world.backend,
            world.clock,
            world.ids,
            engines,
            pass_time=world.pass_time,
            workspaces=world.workspaces,
        )
        run = Run(
            driver,
            world.work_id,
            tried.signals,
            lambda: tried.make(*outside),
            watch=watch,
            fault=fault,
            cut=cut,
            deadline=deadline,
        )
        driver.start(run.hook)
        await driver.client.enqueue(
            engines[0].engine_id, dict(tried.payload), work_id=world.work_id, **dict(tried.options)
        )
        await run.to_end()
        observed = tried.observe((*outside, engines[0])[0]) if tried.observe is not None else None
        return await _outcome(driver, world.work_id, observed), run


async def _outcome(driver: Driver, work_id: str, observed: Any) -> Outcome:
    control = await driver.client.control(work_id)
    waits = control.waits.names if control.state is State.WAITING and control.waits is not None else ()
    entries = await entries_of(driver, work_id)
    return Outcome(
        await works_of(driver, work_id),
        observed,
        lines_of(entries, work_id),
        waits_for=", ".join(waits),
        reason=control.reason,
        once_counts=once_counts_of(entries, work_id),
        error=error_of(entries, work_id),
    )
