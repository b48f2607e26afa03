"""Is an engine safe to crash? Runs it once in peace, then again with a fault at each cut point.

A cut point is an instant before or after one call that a worker makes to its storage:
the claim, a commit, an effect recorded by `once`, a delivery, an acknowledgement. At each
the worker is killed, or frozen until another has taken over (a stolen lease); besides,
deliveries are repeated and reordered. What comes out in the end must be what came out in
peace. See `assert_crash_safe`.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from roost.clock import Clock, Ids
from roost.journal.entries import Entry, IndexRow
from roost.models import Snapshot
from roost.names import State
from roost.storage.instrument import When
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Backend, IndexQuery
from roost.testing.driver import LEASE_SECONDS, Driver, Killed
from roost.testing.virtual_time import DAY_SECONDS, SeededIds, VirtualClock, VirtualTimeLoop

T = TypeVar("T")

WORK_ID = "lab"  # shown; a world that others were in before has another
CUTS_MAX = 2000
_WORKS_MAX = 1000
_STRIDE = 7
_CALLS = frozenset(
    {
        *("append", "append_many", "index_put", "take_due"),
        *("acquire", "release", "leave"),
        *("send", "acknowledge", "put_back", "artifact_put"),
    }
)
"""Calls that change something; a fault at any other is one at the call before."""


class Fault(StrEnum):
    """What happens at a cut point."""

    KILL = "the worker is killed"
    STEAL = "the worker freezes, another takes over, and it wakes up"
    REPEAT = "every delivery comes twice"
    REVERSE = "deliveries come in reverse order"


@dataclass(frozen=True, slots=True)
class Cut:
    """The Nth time that a worker made a call; `detail` is the kind of an appended entry."""

    when: When
    call: str
    detail: str
    number: int

    def __str__(self) -> str:
        what = f"{self.call} {self.detail}".strip()
        return f"{self.when} {what} number {self.number}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: of each work item, and what the observer saw.

    Attributes:
        works: by work id: state, version, step, data, result and artifacts (name, digest).
        observed: what `observe` returned in the end.
        history: the journals, as lines to print.
    """

    works: Mapping[str, Mapping[str, Any]]
    observed: Any
    history: Sequence[str] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """A run whose outcome differs."""

    fault: Fault
    cut: Cut | None
    difference: str
    history: Sequence[str]

    def __str__(self) -> str:
        where = f", {self.cut}" if self.cut else ""
        lines = "\n".join(f"    {line}" for line in self.history)
        return f"when {self.fault}{where}:\n  {self.difference}\n  history:\n{lines}"


class UnsafeEngine(AssertionError):
    """An engine's outcome depends on where its worker died.

    Attributes:
        findings: all that were found, the shortest history first.
    """

    def __init__(self, findings: Sequence[Finding], runs: int) -> None:
        super().__init__(
            f"{len(findings)} of {runs} runs with a fault ended otherwise than the run in peace; "
            f"the shortest:\n{findings[0]}"
        )
        self.findings = findings


OpenWorld = Callable[[], AbstractAsyncContextManager["World"]]


@dataclass(frozen=True, slots=True)
class World:
    """A new and empty backend, with a clock that `pass_time` moves."""

    backend: Backend
    clock: Clock
    ids: Ids
    pass_time: Callable[[float], Awaitable[None]]
    work_id: str = WORK_ID


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tried.

    Attributes:
        make: makes the engines anew for each run, first the one that is tried.
        payload: of the work.
        signals: data by name; each is sent when the work waits for it.
        observe: sees what the engine did outside of Roost; called with the engine.
        ignore: dotted paths into a snapshot's `data` (or `result`) that may differ.
    """

    make: Callable[[], Sequence[Any]]
    payload: Mapping[str, Any]
    signals: Mapping[str, Any] = field(default_factory=dict)
    observe: Callable[[Any], Any] | None = None
    ignore: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def _maker(engines: Sequence[Any]) -> Callable[[], Sequence[Any]]:
    """Makes engines anew where they are classes or functions; instances are used again."""
    return lambda: [
        engine if not inspect.isclass(engine) and callable(getattr(engine, "step", None)) else engine()
        for engine in engines
    ]


def assert_crash_safe(
    engine: Any,
    payload: Mapping[str, Any] | None = None,
    *,
    others: Sequence[Any] = (),
    signals: Mapping[str, Any] | None = None,
    observe: Callable[[Any], Any] | None = None,
    ignore: Sequence[str] = (),
    **options: Any,
) -> int:
    """Check that an engine comes to the same end wherever its worker dies.

    Args:
        engine: an instance that keeps nothing between steps, or a class or function that
            makes one; called anew for each run.
        payload: of the work.
        others: further engines, those of children say.
        signals: data by name; each is sent when the work waits for it.
        observe: called with the engine at the end of each run; what it returns must be the
            same each time, too: the mails that were sent, say.
        ignore: dotted paths that may differ: `data.fetched_at`.
        options: further fields of `NewWork`.

    Returns:
        How many runs there were.

    Raises:
        UnsafeEngine: it is not safe; shows the shortest history that shows it.
        ValueError: two undisturbed runs differ already.
    """
    tried = Subject(
        _maker([engine, *others]),
        payload or {},
        signals=signals or {},
        observe=observe,
        ignore=ignore,
        options=options,
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
    """What came of it: what was found, the shortest history first; how many runs there were, of how many."""

    findings: Sequence[Finding]
    runs: int
    planned: int
    calls: int


async def explore(
    tried: Subject,
    open_world: OpenWorld,
    *,
    cuts_max: int = CUTS_MAX,
    is_over: Callable[[], bool] = lambda: False,
) -> Explored:
    """Try every cut point.

    Args:
        cuts_max: beyond it, an even selection of them is tried.
        is_over: asked before each run; once true, the rest is left out.

    Raises:
        ValueError: two undisturbed runs differ already.
    """
    calls: list[Cut] = []
    peace = await _run(tried, open_world, watch=calls.append)
    again = await _run(tried, open_world)
    if (difference := compare(peace, again, tried.ignore)) is not None:
        raise ValueError(f"two undisturbed runs differ, so nothing can be said of crashes: {difference}")
    plan = _plan(calls, cuts_max)
    findings, runs = [], 0
    for fault, cut in plan:
        if is_over():
            break
        outcome = await _run(tried, open_world, fault=fault, cut=cut)
        runs += 1
        if (difference := compare(peace, outcome, tried.ignore)) is not None:
            findings.append(Finding(fault, cut, difference, outcome.history))
    findings.sort(key=lambda finding: len(finding.history))
    return Explored(findings, runs, len(plan), len(calls))


def _plan(calls: Sequence[Cut], cuts_max: int) -> Sequence[tuple[Fault, Cut | None]]:
    """What is tried, in an order of which every beginning is spread over the whole run."""
    steals = [cut for cut in calls if cut.when == "before" and cut.call == "append"]
    cuts: list[tuple[Fault, Cut | None]] = [(Fault.KILL, cut) for cut in _select(calls, cuts_max)]
    cuts += [(Fault.STEAL, cut) for cut in _select(steals, cuts_max // 4)]
    spread = [cuts[number] for first in range(_STRIDE) for number in range(first, len(cuts), _STRIDE)]
    return [(Fault.REPEAT, None), (Fault.REVERSE, None), *spread]


def _select(cuts: Sequence[Cut], most: int) -> Sequence[Cut]:
    if len(cuts) <= most:
        return cuts
    return [cuts[number * len(cuts) // most] for number in range(most)]


# --- one run -----------------------------------------------------------------


async def _run(
    tried: Subject,
    open_world: OpenWorld,
    *,
    watch: Callable[[Cut], None] | None = None,
    fault: Fault | None = None,
    cut: Cut | None = None,
) -> Outcome:
    """Run the work to its end in a world of its own."""
    engines = tried.make()
    async with open_world() as world:
        driver = Driver(world.backend, world.clock, world.ids, engines, pass_time=world.pass_time)
        run = _Run(driver, tried, world.work_id, watch, fault, cut)
        driver.start(run.hook)
        await driver.client.enqueue(
            engines[0].engine_id, dict(tried.payload), work_id=world.work_id, **dict(tried.options)
        )
        await run.to_end()
        observed = tried.observe(engines[0]) if tried.observe is not None else None
        return Outcome(await _works(driver, world.work_id), observed, await _history(driver, world.work_id))


class _Run:
    """Follows one work item to its end, and lets the fault happen at its cut."""

    def __init__(
        self,
        driver: Driver,
        tried: Subject,
        work_id: str,
        watch: Callable[[Cut], None] | None,
        fault: Fault | None,
        cut: Cut | None,
    ) -> None:
        self._driver = driver
        self._work_id = work_id
        self._signals = dict(tried.signals)
        self._watch = watch
        self._fault = fault
        self._cut = cut
        self._seen: Counter[tuple[str, str, str]] = Counter()

    async def hook(self, when: When, call: str, detail: str) -> None:
        if call not in _CALLS:
            return
        self._seen[when, call, detail] += 1
        here = Cut(when, call, detail, self._seen[when, call, detail])
        if self._watch is not None:
            self._watch(here)
        if here != self._cut:
            return
        frozen = self._driver.process
        if self._fault is Fault.KILL:
            frozen.kill()
            raise Killed
        await _whole(self._take_over())

    async def _take_over(self) -> None:
        """Another worker does all there is to do, while the one that called is frozen."""
        self._driver.start()
        await self._driver.pass_time(LEASE_SECONDS * 2)
        await self._driver.sweep()
        await self.to_end()

    async def to_end(self) -> None:
        """Let time pass until all has ended, or nothing makes it go on."""
        driver = self._driver
        end = driver.clock.now() + 400 * DAY_SECONDS
        await self._work()
        while True:
            if await self._send_signal():
                await self._work()
                continue
            next_at = await driver.next_at()
            if next_at is None or next_at > end:
                return
            await driver.pass_time(max(0.0, next_at - driver.clock.now()))
            await driver.sweep()
            await self._work()

    async def _work(self) -> None:
        match self._fault:
            case Fault.REPEAT:
                await self._driver.work(disturb=lambda deliveries: [*deliveries, *deliveries])
            case Fault.REVERSE:
                await self._driver.work(disturb=lambda deliveries: deliveries[::-1])
            case _:
                await self._driver.work()

    async def _send_signal(self) -> bool:
        """Send what the work waits for, if there is something to be sent."""
        control = await self._driver.client.control(self._work_id)
        if control.state is not State.WAITING or control.waits is None:
            return False
        for name in control.waits.names:
            if name in self._signals:
                data = self._signals.pop(name)
                await self._driver.client.signal(self._work_id, name, data, signal_id=f"lab-{name}")
                return True
        return False


async def _whole(call: Coroutine[Any, Any, None]) -> None:
    """Await a call to its end, even if the caller (a step that times out meanwhile) is cancelled."""
    task = asyncio.ensure_future(call)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


async def _works(driver: Driver, work_id: str) -> dict[str, dict[str, Any]]:
    found = {}
    for row in await _rows(driver, work_id):
        view = await driver.client.status(row.work_id)
        found[row.work_id.replace(work_id, WORK_ID, 1)] = {
            "state": view.control.state.value,
            "version": view.control.version,
            **(_shown(view.snapshot) if view.snapshot is not None else {}),
        }
    return found


async def _rows(driver: Driver, work_id: str) -> Sequence[IndexRow]:
    page = await driver.client.list(IndexQuery(id_prefix=work_id), limit=_WORKS_MAX)
    return page.rows


def _shown(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "step": snapshot.step,
        "status": snapshot.status,
        "data": snapshot.data,
        "result": snapshot.result,
        "artifacts": sorted((artifact.name, artifact.digest) for artifact in snapshot.artifacts),
    }


async def _history(driver: Driver, work_id: str) -> list[str]:
    entries: list[Entry] = []
    for row in await _rows(driver, work_id):
        entries += [entry async for entry in driver.client.events(row.work_id)]
    entries.sort(key=lambda entry: (entry.at, entry.work_id, entry.position))
    return [_line(entry, entry.work_id.replace(work_id, WORK_ID, 1)) for entry in entries]


def _line(entry: Entry, name: str) -> str:
    kind, control = entry.event.kind.value, entry.control
    return (
        f"{name:<12} {entry.position:>3}  {kind:<16} v{control.version:<3} "
        f"{control.state.value:<10} by {entry.actor}"
    )


# --- comparing ---------------------------------------------------------------


def compare(peace: Outcome, other: Outcome, ignore: Iterable[str]) -> str | None:
    """The first difference of two outcomes, in words; None if there is none that counts."""
    ignored = frozenset(ignore)
    for path, text in _differences(peace.works, other.works, ()):
        if not _is_ignored(path, ignored):
            return text
    if peace.observed != other.observed:
        return f"outside: {_short(peace.observed)} in peace, {_short(other.observed)} here"
    return None


def _is_ignored(path: tuple[str, ...], ignored: frozenset[str]) -> bool:
    inner = path[1:]  # without the work id
    return any(".".join(inner[:length]) in ignored for length in range(1, len(inner) + 1))


def _differences(ours: Any, theirs: Any, path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], str]]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _differences(ours.get(key), theirs.get(key), (*path, str(key)))
    elif ours != theirs:
        yield path, f"{'.'.join(path)}: {_short(ours)} in peace, {_short(theirs)} here"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
