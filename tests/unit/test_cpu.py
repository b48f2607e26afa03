"""What the code of steps uses of the CPU: its own pieces, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from roost.clock import thread_cpu
from roost.config import Settings
from roost.core.attempt import Interrupted, Limits, Raised, Returned, run_method
from roost.core.context import Interruption
from roost.core.cpu import Meter, driven
from roost.core.worker import Worker
from roost.engine import EngineRegistry, RetryPolicy, current_step
from roost.journal.events import Committed
from roost.models import Snapshot, WorkItem
from roost.spent import cost_of, in_words
from roost.storage.codec import encode_entry
from roost.testing.contract.samples import every_kind
from roost.wiring import open_runtime


class Hand:
    """A thread's CPU time, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def attempt(meter: Meter, method: Callable[..., Any], is_async: bool = True, **more: Any) -> Any:
    """Run a method of an engine as a worker's session does."""
    return await driven(run_method(Limits(Interruption(), meter=meter, **more), method, is_async), meter)


async def test_what_others_do_between_its_pieces_is_not_counted() -> None:
    hand = Hand()
    turn, other = asyncio.Event(), asyncio.Event()

    async def step() -> str:
        hand.seconds += 0.25
        other.set()
        await turn.wait()
        hand.seconds += 0.5
        return "done"

    async def neighbour() -> None:
        await other.wait()
        hand.seconds += 100.0
        turn.set()

    meter = Meter(hand)
    task = asyncio.create_task(neighbour())
    assert await attempt(meter, step) == Returned("done")
    await task
    assert meter.seconds == 0.75


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_attempt_that_fails_or_is_stopped_is_counted(is_async: bool) -> None:
    hand = Hand()

    def fails() -> None:
        hand.seconds += 0.25
        raise ValueError("no")

    async def fails_later() -> None:
        await asyncio.sleep(0)
        fails()

    meter = Meter(hand)
    assert isinstance(await attempt(meter, fails_later if is_async else fails, is_async), Raised)
    assert meter.seconds == 0.25
    entered = asyncio.Event()

    async def waits() -> None:
        hand.seconds += 0.5
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            hand.seconds += 1.0

    limits = Limits(Interruption(), meter=meter)

    async def session() -> Any:
        return await driven(run_method(limits, waits, True), meter)

    running = asyncio.create_task(session())
    await entered.wait()
    hand.seconds += 100.0
    limits.interruption.stop("enough")
    assert isinstance(await running, Interrupted)
    assert meter.seconds == 1.75


async def test_a_plain_function_is_measured_in_its_own_thread() -> None:
    """What the loop's thread does meanwhile is another thread's."""
    began, goes_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def step() -> int:
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(goes_on.wait(), loop).result(10)
        return sum(range(1000))

    meter = Meter(thread_cpu)
    with ThreadPoolExecutor(1) as executor:
        before = thread_cpu()
        task = asyncio.create_task(attempt(meter, step, False, executor=executor))
        await began.wait()
        while thread_cpu() - before < 0.02:
            sum(range(10_000))
        goes_on.set()
        assert await task == Returned(499500)
    assert 0.0 < meter.seconds < 0.02


async def test_a_coroutine_is_driven_as_await_drives_it() -> None:
    """Values, errors, cancelling and closing go through, whichever way they come, entered or not."""

    async def inner(call: Callable[[], Awaitable[Any]]) -> Any:
        return await call()

    for began in (None, 0.0):
        meter = Meter(Hand())
        meter.began = began
        assert await driven(inner(lambda: asyncio.sleep(0, "a")), meter) == "a"
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_exception(KeyError("k"))
        with pytest.raises(KeyError):
            await driven(inner(lambda future=future: future), meter)  # type: ignore[misc]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await driven(inner(asyncio.Event().wait), meter)
        closed: list[str] = []
        left = driven(inner(lambda closed=closed: _tidy(closed)), meter).__await__()  # type: ignore[misc]
        next(left)
        left.close()
        assert closed == ["yes"]
    plain = inner(lambda: asyncio.sleep(0))
    assert driven(plain, None) is plain
    await plain


async def _tidy(closed: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        closed.append("yes")


class Burner:
    """Uses CPU as its payload says, by the hand, and waits meanwhile."""

    engine_id = "burner"
    retry = RetryPolicy(first_delay_seconds=0.0)

    def __init__(self, hand: Hand) -> None:
        self._hand = hand

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        self._hand.seconds += 0.0005
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await asyncio.sleep(0)
        self._hand.seconds += item.payload["cpu"]
        if current_step().attempt < item.payload.get("fails", 0) + 1:
            raise ValueError("no")
        return snapshot.finish() if snapshot.version == 2 else snapshot.next()


async def test_the_cost_of_work_says_what_its_steps_used() -> None:
    hand = Hand()
    async with open_runtime(Settings(storage="memory:")) as runtime:
        assert runtime.parts.cpu is thread_cpu
        client = runtime.client
        await client.enqueue("burner", {"cpu": 0.25, "fails": 1}, work_id="much")
        await client.enqueue("burner", {"cpu": 0.0001}, work_id="little")
        settings = replace(runtime.parts.settings, sweep_seconds=0.05)
        parts = replace(runtime.parts, cpu=hand, settings=settings)
        registry = EngineRegistry([Burner(hand)])
        worker = Worker(parts, registry, "w")
        running = asyncio.create_task(worker.run())
        for work_id in ("much", "little"):
            while not (await client.status(work_id)).control.state.is_terminal:
                await asyncio.sleep(0.002)
        worker.drain()
        await running
        much = await cost_of(client, "memory:", "much")
        assert much["cpu_seconds"] == 1.5  # three steps, of which each failed once
        assert "1.5 s of CPU" in in_words(much)
        kinds = [
            (entry.event.kind.value, getattr(entry.event, "cpu_ms", 0))
            async for entry in client.events("much")
        ]
        assert ("attempt_failed", 250) in kinds
        assert (await cost_of(client, "memory:", "little"))["cpu_seconds"] == 0.0


def test_less_than_a_millisecond_waits_for_more() -> None:
    meter = Meter(Hand())
    told = []
    for _ in range(10):
        meter.seconds += 0.00055
        told.append(meter.take_ms())
    assert told[:3] == [0, 1, 0]
    assert sum(told) + meter.seconds * 1000 == pytest.approx(5.5)
    assert meter.seconds < 0.001


def test_a_step_that_uses_next_to_nothing_has_the_entry_of_before() -> None:
    [plain] = [entry for entry in every_kind() if isinstance(entry.event, Committed)][:1]
    assert b"cpu" not in encode_entry(plain).event
