"""Virtual time is what every deterministic test stands on, so it is tested by itself."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from roost.testing.virtual_time import (
    START_AT,
    Deadlock,
    Livelock,
    OutOfTime,
    SeededIds,
    VirtualClock,
    run,
)

YEAR_SECONDS = 366 * 86400.0


async def race(task_count: int = 8, rounds: int = 5) -> list[str]:
    """Who does what when, of some tasks that all want to be first."""
    trace: list[str] = []
    mutex = asyncio.Lock()

    async def runner(name: int) -> None:
        for number in range(rounds):
            await asyncio.sleep(0)
            async with mutex:
                trace.append(f"{name}.{number}@{asyncio.get_running_loop().time():g}")
                await asyncio.sleep(number)

    async with asyncio.TaskGroup() as group:
        for name in range(task_count):
            group.create_task(runner(name))
    return trace


async def cancelled_group() -> list[int]:
    """In which order the tasks of a failing group learn of it; asyncio keeps them in a set."""
    trace: list[int] = []
    ballast = [object() for _ in range(random.randrange(1000))]  # moves the addresses

    async def waits(name: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            trace.append(name)
            raise

    async def fails() -> None:
        await asyncio.sleep(1)
        raise ValueError

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            for name in range(20):
                tasks.create_task(waits(name))
            tasks.create_task(fails())

    with pytest.raises(ExceptionGroup):
        await group()
    assert ballast is not None
    return trace


def test_year_of_sleep_is_instant() -> None:
    async def main() -> float:
        await asyncio.sleep(YEAR_SECONDS)
        return asyncio.get_running_loop().time()

    began = time.thread_time()
    assert run(main, until_seconds=2 * YEAR_SECONDS) == YEAR_SECONDS
    assert time.thread_time() - began < 1.0


def test_timers_fire_in_order_whatever_the_seed() -> None:
    async def main() -> list[int]:
        fired: list[int] = []

        async def after(seconds: int) -> None:
            await asyncio.sleep(seconds)
            fired.append(seconds)

        await asyncio.gather(*(after(seconds) for seconds in (3, 1, 2)))
        return fired

    assert all(run(main, seed=seed) == [1, 2, 3] for seed in range(20))


@pytest.mark.parametrize("program", [race, cancelled_group])
def test_same_seed_gives_same_trace(program: Callable[[], Coroutine[Any, Any, object]]) -> None:
    for seed in range(20):
        assert run(program, seed=seed) == run(program, seed=seed)


def test_different_seeds_give_different_traces() -> None:
    assert len({tuple(run(race, seed=seed)) for seed in range(20)}) > 15


def test_without_seed_first_in_is_first_out() -> None:
    trace = run(race)
    assert trace[:3] == ["0.0@0", "1.0@0", "2.0@0"]
    assert trace == run(race)


@pytest.mark.slow
def test_seed_gives_same_trace_in_another_process() -> None:
    """Neither the hashes of strings nor the addresses of objects may matter."""
    code = (
        "from roost.testing.virtual_time import run\n"
        "import test_virtual_time as t\n"
        "print(run(t.race, seed=7), run(t.cancelled_group, seed=7))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "4711"}
    env["PYTHONPATH"] = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{run(race, seed=7)} {run(cancelled_group, seed=7)}"


def test_deadlock_is_an_error_that_names_who_waits() -> None:
    async def main() -> None:
        await asyncio.create_task(asyncio.Event().wait(), name="waits for a bus")

    with pytest.raises(Deadlock, match="nothing is ready") as caught:
        run(main)
    assert "waits for a bus" in caught.value.hint


def test_livelock_is_an_error() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Livelock):
        run(main)


def test_overrun_is_an_error() -> None:
    async def main() -> None:
        await asyncio.sleep(101)

    with pytest.raises(OutOfTime, match="100"):
        run(main, until_seconds=100)


def test_what_is_left_is_cancelled_in_order() -> None:
    ended: list[int] = []

    async def waits(name: int) -> None:
        try:
            await asyncio.sleep(YEAR_SECONDS)
        finally:
            ended.append(name)

    async def main() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(waits(name)) for name in range(5)]
        await asyncio.sleep(1)
        return tasks

    assert all(task.cancelled() for task in run(main))
    assert ended == [0, 1, 2, 3, 4]


def test_error_of_main_comes_through() -> None:
    async def main() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(main)


def test_time_limits_count_virtual_seconds() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run(main) == 3600


def test_clocks_can_be_wrong() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        exact, ahead, fast = VirtualClock(loop), VirtualClock(loop, 3600.0), VirtualClock(loop, rate=2.0)
        await exact.sleep(10)
        assert (exact.now(), exact.monotonic()) == (START_AT + 10, 10)
        assert ahead.now() == START_AT + 3610
        assert (fast.now(), fast.monotonic()) == (START_AT + 20, 20)
        await fast.sleep(10)
        assert loop.time() == 15

    run(main)


def test_ids_come_from_the_seed() -> None:
    def draw(seed: int) -> list[object]:
        source = random.Random(seed)
        ids, others = SeededIds(source), SeededIds(source)
        return [ids.work_id(), ids.work_id(), ids.unique(), others.unique(), ids.uniform(1.0, 2.0)]

    first, second, unique, other, number = draw(1)
    assert draw(1) == draw(1) != draw(2)
    assert str(first) < str(second)
    assert unique != other
    assert isinstance(number, float)
    assert 1.0 <= number <= 2.0


def test_clock_stands_still_while_a_thread_computes() -> None:
    begun = threading.Event()

    def compute() -> int:
        begun.wait(60.0)
        return 42

    async def main() -> tuple[int, float]:
        tick = asyncio.create_task(asyncio.sleep(YEAR_SECONDS))
        job = asyncio.create_task(asyncio.to_thread(compute))
        await asyncio.sleep(0)
        begun.set()
        result = await job
        tick.cancel()
        return result, asyncio.get_running_loop().time()

    assert run(main) == (42, 0.0)


def test_thread_may_wait_for_the_loop() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()

        def ask() -> None:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(3600), loop).result()

        await asyncio.to_thread(ask)
        return loop.time()

    assert run(main) == 3600


def test_loop_has_no_sockets() -> None:
    async def main() -> None:
        with pytest.raises(NotImplementedError):
            await asyncio.open_connection("127.0.0.1", 1)

    run(main)
