"""Whole workers, whose steps cancel tasks that are not theirs to cancel, or ask again and again."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from roost.core.client import Client
from roost.core.parts import CoreSettings, Parts
from roost.core.worker import Worker
from roost.engine import EngineRegistry, RetryPolicy
from roost.errors import RetryLater
from roost.journal.entries import Entry
from roost.models import Snapshot, State, WorkItem
from roost.storage.instrument import InstrumentedBackend
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Backend
from roost.testing.contract.process import Scripted, Step
from roost.testing.virtual_time import SeededIds, VirtualClock, run


def test_a_step_that_always_cancels_its_task_ends_in_the_dead_letter_state() -> None:
    """It cost a lease a try before, and ended as a crash loop that never was."""

    def cancels(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        _own_task().cancel()
        return snapshot.next("never")

    entries = _run(cancels, RetryPolicy(max_attempts=3, first_delay_seconds=10.0))
    assert [entry.event.kind for entry in entries] == ["enqueued", *["claimed", "attempt_failed"] * 3]
    control = entries[-1].control
    assert (control.state, control.failures, control.interruptions, control.version) == (
        State.FAILED,
        3,
        0,
        0,
    )
    assert control.reason.startswith("StepCancelled: the step cancelled its own task")
    pauses = [later.at - before.at for before, later in zip(entries[2::2], entries[3::2], strict=False)]
    assert all(pause >= 5.0 for pause in pauses)  # as after any failure


@pytest.mark.parametrize("strikes", ["before the commit", "after the commit"])
def test_what_a_step_left_behind_and_strikes_later_costs_one_attempt(strikes: str) -> None:
    """A timer of a library that was not stopped, say; the lease is given back at once."""
    struck: list[asyncio.Task[Any]] = []

    async def storage(when: str, call: str, detail: str) -> None:
        if detail == "committed" and when == strikes.split()[0] and struck:
            struck.pop().cancel()
            await asyncio.sleep(0)

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.version == 1 and not tried:
            tried.append(1)
            struck.append(_own_task())
        return snapshot.finish() if snapshot.version == 3 else snapshot.next("on")

    tried: list[int] = []
    entries = _run(step, RetryPolicy(), lambda backend: InstrumentedBackend(backend, storage))
    kinds = [str(entry.event.kind) for entry in entries]
    assert kinds.count("attempt_failed") == 1
    assert kinds.count("claimed") == 2
    assert [entry.event.version for entry in entries if entry.event.kind == "committed"] == [1, 2, 3, 4]  # type: ignore[union-attr]
    assert entries[-1].control.state is State.DONE
    assert entries[-1].at - entries[0].at < 10.0  # no lease was waited for


def test_tasks_that_end_with_their_loop_are_no_failed_attempts() -> None:
    """As they do where a program ends without a word to its worker: the lease is left to its end."""
    backend: list[MemoryBackend] = []

    async def drive() -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        backend.append(MemoryBackend(clock))
        parts = Parts(backend[0], clock, SeededIds(random.Random(1)), CoreSettings())
        entered = asyncio.Event()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await asyncio.Event().wait()
            return snapshot

        await Client(parts).enqueue("demo", work_id="w")
        worker = Worker(parts, EngineRegistry([Scripted(step)]), "worker")
        left.append(asyncio.create_task(worker.run()))
        await entered.wait()

    left: list[asyncio.Task[None]] = []
    run(drive, seed=1)
    tail = asyncio.run(backend[0].journal.tail("w"))
    assert tail is not None
    assert tail.event.kind == "claimed"


@pytest.mark.parametrize("asked_seconds", [0.0, -5.0, 1e-9, 0.3])
def test_a_step_that_asks_again_and_again_does_not_spin(asked_seconds: float) -> None:
    """It burns no attempt, so nothing else would end that; and each round is two entries more."""

    def asks(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        raise RetryLater(asked_seconds, "not yet")

    entries = _run(asks, RetryPolicy(max_attempts=1), deadline_seconds=60.0)
    tries = [entry.at for entry in entries if entry.event.kind == "claimed"]
    assert 60 <= len(tries) <= 70
    pauses = [later - before for before, later in itertools.pairwise(tries)]
    assert all(pause <= 1.01 for pause in pauses)
    assert pauses[:3] == pytest.approx([max(0.0, asked_seconds)] * 3, abs=0.01)
    assert pauses[10:-1] == pytest.approx([1.0] * len(pauses[10:-1]), abs=0.01)
    control = entries[-1].control
    assert (control.reason.split(":")[0], control.failures) == ("DeadlineExceeded", 0)


def test_a_commit_lets_a_step_ask_for_no_time_again() -> None:
    tries: list[int] = []

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        tries.append(snapshot.version)
        if tries.count(snapshot.version) <= 3:
            raise RetryLater(0)
        return snapshot.finish() if snapshot.version == 9 else snapshot.next()

    entries = _run(step, RetryPolicy(max_attempts=1))
    assert tries == sorted(list(range(10)) * 4)
    assert entries[-1].at - entries[0].at < 0.1


def _own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _run(
    step: Step,
    retry: RetryPolicy,
    around: Callable[[Backend], Backend] = lambda backend: backend,
    deadline_seconds: float = 3600.0,
) -> Sequence[Entry]:
    """The journal of one work item, run by one worker to its end, in virtual time."""

    async def drive() -> Sequence[Entry]:
        clock = VirtualClock(asyncio.get_running_loop())
        settings = CoreSettings(lease_seconds=30.0)
        parts = Parts(around(MemoryBackend(clock)), clock, SeededIds(random.Random(1)), settings)
        worker = Worker(parts, EngineRegistry([Scripted(step, retry=retry)]), "worker")
        client = Client(parts)
        work_id = await client.enqueue("demo", deadline_at=clock.now() + deadline_seconds)
        running = asyncio.create_task(worker.run())
        while not (await client.control(work_id)).state.is_terminal:
            await asyncio.sleep(0.5)
        worker.drain()
        await running
        return [entry async for entry in client.events(work_id)]

    return run(drive, seed=1)
