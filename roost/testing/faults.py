"""One run of the work in the laboratory, with a fault at one of its cut points."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from roost.engine import EngineRegistry
from roost.names import State
from roost.storage.instrument import When
from roost.storage.ports import Delivery
from roost.testing.deadline import Deadline
from roost.testing.driver import LEASE_SECONDS, Driver, Killed
from roost.testing.outcome import entries_of
from roost.testing.virtual_time import DAY_SECONDS

RUN_DAYS_MAX = 400
LATE_SECONDS = 2 * LEASE_SECONDS
_CALLS = frozenset(
    {
        *("append", "append_many", "index_put", "take_due"),
        *("acquire", "release", "leave"),
        *("send", "acknowledge", "put_back", "artifact_put"),
    }
)
"""Calls that change something; a fault at any other is one at the call before."""


class Fault(StrEnum):
    """What happens, at a cut point or (the last three) all the time."""

    KILL = "the worker is killed"
    RESTART = "the worker is started anew, and has nothing left of its memory"
    STEAL = "the worker freezes, another takes over, and it wakes up"
    REPEAT = "every delivery comes twice"
    REVERSE = "deliveries come in reverse order"
    LATE = "deliveries come when the sweeper has already seen to their work"


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


class Run:
    """Follows one work item to its end, and lets the fault happen at its cut.

    Args:
        signals: data by name; each is sent when the work waits for it.
        remake: makes the engines of a worker that is started anew.
        watch: told of each cut point.
        deadline: checked at each call; once it is over, the run ends as `TimeIsUp`.

    Attributes:
        fault_line: how many lines the history had when the fault happened; None: it has not.
        step_before: the step that was to run next then, and from which version.
    """

    def __init__(
        self,
        driver: Driver,
        work_id: str,
        signals: Mapping[str, Any],
        remake: Callable[[], Sequence[Any]],
        *,
        watch: Callable[[Cut], None] | None = None,
        fault: Fault | None = None,
        cut: Cut | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self._deadline = deadline
        self._driver = driver
        self._work_id = work_id
        self._signals = dict(signals)
        self._remake = remake
        self._watch = watch
        self._fault = fault
        self._cut = cut
        self._seen: Counter[tuple[str, str, str]] = Counter()
        self._late: list[tuple[float, Delivery]] = []
        self._arrived = 0
        self.fault_line: int | None = None
        self.step_before = ("", 0)

    async def hook(self, when: When, call: str, detail: str) -> None:
        """See `storage.instrument.Hook`."""
        if self._deadline is not None:
            self._deadline.check()
        if call not in _CALLS:
            return
        self._seen[when, call, detail] += 1
        here = Cut(when, call, detail, self._seen[when, call, detail])
        if self._watch is not None:
            self._watch(here)
        if here != self._cut:
            return
        await _whole(self._happens())
        frozen = self._driver.process
        if self._fault in (Fault.KILL, Fault.RESTART):
            frozen.kill()
            raise Killed
        await _whole(self._take_over())

    async def _happens(self) -> None:
        control = await self._driver.client.control(self._work_id)
        self.step_before = (control.step, control.version)
        self.fault_line = len(await entries_of(self._driver, self._work_id))
        if self._fault is Fault.RESTART:
            self._driver.engines = EngineRegistry(self._remake())

    async def _take_over(self) -> None:
        """Another worker does all there is to do, while the one that called is frozen."""
        self._driver.start()
        await self._driver.pass_time(LEASE_SECONDS * 2)
        await self._driver.sweep()
        await self.to_end()

    async def to_end(self) -> None:
        """Let time pass until all has ended, or nothing makes it go on."""
        driver = self._driver
        end = driver.clock.now() + RUN_DAYS_MAX * DAY_SECONDS
        await self._work()
        while True:
            if await self._send_signal():
                await self._work()
                continue
            next_at = await driver.next_at()
            if next_at is None or next_at > end:
                break
            await driver.pass_time(max(0.0, next_at - driver.clock.now()))
            await driver.sweep()
            await self._work()
        if self._late:  # the last of them find work that has ended
            await driver.pass_time(LATE_SECONDS)
            await self._work()

    async def _work(self) -> None:
        match self._fault:
            case Fault.REPEAT:
                await self._driver.work(disturb=lambda deliveries: [*deliveries, *deliveries])
            case Fault.REVERSE:
                await self._driver.work(disturb=lambda deliveries: deliveries[::-1])
            case Fault.LATE:
                await self._driver.work(disturb=self._hold_back)
            case _:
                await self._driver.work()

    def _hold_back(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Those that came long ago, in place of those that came now.

        The sweeper has deliveries of its own sent, so every second one is on time.
        """
        now, on_time = self._driver.clock.now(), []
        for delivery in deliveries:
            self._arrived += 1
            if self._arrived % 2:
                self._late.append((now + LATE_SECONDS, delivery))
            else:
                on_time.append(delivery)
        due = [delivery for at, delivery in self._late if at <= now]
        self._late = [(at, delivery) for at, delivery in self._late if at > now]
        return [*on_time, *due]

    async def _send_signal(self) -> bool:
        """Send what the work waits for, or approve what it asks for, if there is something to be sent."""
        client = self._driver.client
        control = await client.control(self._work_id)
        if control.state is not State.WAITING or control.waits is None:
            return False
        name = next((name for name in control.waits.names if name in self._signals), None)
        if name is None:
            return False
        tokens = {ask.name: ask.token for ask in await client.approvals(self._work_id)}
        if name in tokens:
            await client.approve(tokens[name], self._signals.pop(name))
        else:
            await client.signal(self._work_id, name, self._signals.pop(name), signal_id=f"lab-{name}")
        return True


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
