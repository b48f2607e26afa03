"""The laboratory ends in time: by the clock that is given to it, and whatever a step does."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from roost import Snapshot, WorkItem
from roost.testing.deadline import Deadline, TimeIsUp, at_the_latest, process_age_seconds
from roost.testing.safety import Explored, Subject, explore, in_virtual_time, memory_world


class Ticking:
    """A clock on which each look takes a second."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return float(self.looks)


class Counting:
    """Takes so many steps; unsafe where it keeps its count in itself."""

    engine_id = "counting"

    def __init__(self, steps: int = 3, *, is_safe: bool = True) -> None:
        self.steps = steps
        self.is_safe = is_safe
        self.count = 0

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        self.count += 1
        data = {"n": snapshot.version if self.is_safe else self.count}
        return snapshot.finish(data=data) if snapshot.version == self.steps else snapshot.next(data=data)


def _explore(seconds: float, **engine: Any) -> tuple[Explored, list[Explored], int]:
    """What came of it, what was told on the way, and how often the clock was looked at."""
    clock, told = Ticking(), list[Explored]()
    subject = Subject(lambda: [Counting(**engine)], {})
    deadline = Deadline(clock, seconds)
    found = in_virtual_time(explore(subject, memory_world, deadline=deadline, tell=told.append))
    return found, told, clock.looks


def _looks_of_all(**engine: Any) -> int:
    return _explore(1e9, **engine)[2]


def test_a_run_under_way_is_cut_and_does_not_count() -> None:
    """Wherever the time is up: nothing goes on after the look that finds it over."""
    all_of_it = _looks_of_all()
    whole, _, _ = _explore(1e9)
    assert whole.runs == whole.planned > 20
    runs = []
    for seconds in range(1, all_of_it, 29):
        found, told, looks = _explore(seconds)
        assert looks <= seconds + 2, "one look when it is made, one that finds it over"
        assert found.planned in (0, whole.planned)
        assert found.runs < whole.planned
        assert told[-1] == found
        runs.append(found.runs)
    assert runs == sorted(runs)
    assert len(set(runs)) > 10


def test_what_was_found_before_the_time_was_up_is_told_at_once() -> None:
    """The first runs are those that show most; a caller who can't wait has it from `tell`."""
    whole, told, _ = _explore(1e9, is_safe=False)
    first = next(number for number, one in enumerate(told) if one.findings)
    assert first <= 3
    assert min(len(found.history) for found in whole.findings) == len(whole.findings[0].history)
    for seconds in range(1, _looks_of_all(is_safe=False)):
        found, _, _ = _explore(seconds, is_safe=False)
        if found.findings:
            break
    assert 0 < found.runs < whole.runs
    assert found.findings[0].history


def test_a_time_that_is_up_before_the_work_ran_in_peace_leaves_nothing_tried() -> None:
    found, told, _ = _explore(5)
    assert (found, told) == (Explored(), [Explored()])


@pytest.mark.parametrize("cuts", [(0.4,), (0.25, 0.4)])
def test_a_share_is_one_of_what_is_left(cuts: Sequence[float]) -> None:
    class Standing:
        at = 100.0

        def monotonic(self) -> float:
            return self.at

    clock = Standing()
    whole = Deadline(clock, 10.0)
    for cut in cuts:
        part = whole.share(cut)
        assert part.left_seconds == pytest.approx(whole.left_seconds * cut)
        clock.at += part.left_seconds
        assert part.is_over
        with pytest.raises(TimeIsUp):
            part.check()
    assert not whole.is_over
    clock.at = 110.0
    assert (whole.is_over, whole.left_seconds) == (True, 0.0)


def test_what_does_not_come_back_is_ended_and_what_does_is_not() -> None:
    ended = threading.Event()
    with at_the_latest(0.0, ended.set):
        assert ended.wait(60), "from a thread, whatever this one does"
    left_alone = threading.Event()
    with at_the_latest(3600.0, left_alone.set):
        pass
    assert not left_alone.is_set()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says when a process began")
def test_the_age_of_a_process_counts_from_its_start() -> None:
    """So that imports, and an interpreter that starts slowly, are part of the lab's ten seconds."""
    program = "from roost.testing.deadline import process_age_seconds as age; print(age())"
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < time.monotonic() - before + 1
    assert process_age_seconds() > float(done.stdout)
