"""The engines of the simulation: they do what the plan says, and write down that they did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roost.engine import RetryPolicy, StepContext, current_step
from roost.errors import FailWork, RetryLater
from roost.models import Child, Join, OnTimeout, Signal, Snapshot, WaitFor, WorkItem

from .invariants import Effect, Stepped

if TYPE_CHECKING:
    from .world import Process

JOINS = {
    "all": Join(),
    "first": Join(need_done=1),
    "two": Join(need_done=2),
    "tolerant": Join(max_failed=0),
    "half": Join(max_failed_percent=50),
    "keep": Join(need_done=1, cancels_rest=False),
}


class SimEngine:
    """Does what the plan says, step for step, and writes down that it did."""

    engine_id = "sim"
    retry = RetryPolicy(max_attempts=3, first_delay_seconds=2.0, max_delay_seconds=60.0)

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        await asyncio.sleep(0)
        return Snapshot.of(item, data={"trail": []})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context = current_step()
        self._world.meet(item)
        attempt = await self._process.begin(context, item)
        try:
            return await self._step(snapshot, item, context)
        finally:
            await self._process.end(attempt, item)

    async def _step(self, snapshot: Snapshot, item: WorkItem, context: StepContext) -> Snapshot:
        steps = self._world.script_of(item)
        todo = steps[snapshot.version] if snapshot.version < len(steps) else ()  # done before, and retried
        asks = _Asks()
        for place, (what, number, text) in enumerate(todo):
            if not asks.take(what, number, text):
                await self._do(what, number, text, context, (item.work_id, snapshot.version, place))
        version = snapshot.version + 1
        if version == len(steps):  # children of the last step can't end with their parent
            asks.spawn = [child.model_copy(update={"ends_with_parent": False}) for child in asks.spawn]
        after = snapshot.next(
            f"step-{version}",
            data={"trail": [*snapshot.data["trail"], version]},
            delay=asks.delay,
            wait_for=asks.wait_for,
            spawn=asks.spawn,
        )
        taken = [signal for name in asks.taken for signal in context.take(name)]
        self._world.history.append(_stepped(context, snapshot.version, taken, asks.spawn))
        if version < len(steps):
            return after
        return after.finish(result=item.work_id).model_copy(update={"spawn": asks.spawn})

    async def _do(
        self, what: str, number: float, text: str, context: StepContext, place: tuple[str, int, int]
    ) -> None:
        match what:
            case "sleep":
                await self._process.clock.sleep(number)
            case "yield":
                await asyncio.sleep(0)
            case "progress":
                context.progress(0.5, text)
            case "once":
                await self._once(text, context)
            case "close":
                await context.close_key(text, number)
            case "artifact":
                content = f"{place} {text}".encode() * 3
                artifact = await context.artifacts.put(f"{text}.txt", content)
                self._world.put[artifact.digest] = content
            case _:
                self._trouble(what, number, place)

    async def _once(self, key: str, context: StepContext) -> None:
        async def effect() -> str:
            self._world.history.append(Effect(context.work_id, context.token, key))
            await asyncio.sleep(0)
            return context.idempotency_key

        result = await context.once(key, effect)
        if result != context.idempotency_key:
            raise AssertionError(f"once gave {result!r} to {context.idempotency_key!r}")

    def _trouble(self, what: str, number: float, place: tuple[str, int, int]) -> None:
        """Raise, the first `number` times that this is met."""
        self._world.troubles[place] += 1
        if self._world.troubles[place] > number:
            return
        self._world.report.counts[f"engine: {what}"] += 1
        match what:
            case "fail":
                raise ValueError("the engine's own trouble")
            case "later":
                raise RetryLater(self._world.plan.lease_seconds / 3, "busy")
            case "refuse":
                raise FailWork("never")
            case "raise":
                raise asyncio.CancelledError
        raise AssertionError(what)


@dataclass(slots=True)
class _Asks:
    """What the operations of a step ask for after it."""

    delay: float = 0.0
    wait_for: WaitFor | None = None
    spawn: list[Child] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def take(self, what: str, number: float, text: str) -> bool:
        """Take an operation in, if it is of this sort."""
        match what:
            case "delay":
                self.delay = number
            case "take":
                self.taken.append(text)
            case "wait":
                on_timeout = OnTimeout.FAIL if text.endswith("!") else OnTimeout.GO_ON
                names = tuple(text.rstrip("!").split(","))
                self.wait_for = WaitFor(signals=names, timeout_seconds=number, on_timeout=on_timeout)
            case "join":
                policy, *names = text.split(",")
                self.wait_for = WaitFor(
                    signals=tuple(names), children=JOINS[policy], timeout_seconds=number or None
                )
            case "spawn" | "bind" | "detach":
                kind = {"is_detached": what == "detach", "ends_with_parent": what == "bind"}
                self.spawn += [Child(engine="sim", payload={"script": int(text)}, **kind)] * int(number)
            case _:
                return False
        return True


def _stepped(context: StepContext, version: int, taken: Iterable[Signal], spawn: Iterable[Child]) -> Stepped:
    return Stepped(
        work_id=context.work_id,
        token=context.token,
        version=version,
        signals=tuple(signal.signal_id for signal in context.signals),
        taken=tuple(signal.signal_id for signal in taken),
        children=tuple((child.ordinal, child.state, child.result) for child in context.children),
        join_is_met=context.join_is_met,
        timed_out=context.timed_out,
        detached_count=sum(child.is_detached for child in spawn),
        bound=frozenset(
            number
            for number, child in enumerate(one for one in spawn if not one.is_detached)
            if child.ends_with_parent
        ),
    )


class TimedEngine(SimEngine):
    """The same, with a limit to how long a step may take."""

    engine_id = "timed"

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.step_timeout_seconds = process.world.plan.lease_seconds / 2
