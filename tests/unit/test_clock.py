"""Time, ids and randomness: ids sort by time and are unique, whatever the clock does."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

from roost import clock
from roost.clock import SystemClock, SystemIds
from roost.models import check_id
from roost.testing.clock import ManualClock


class TestWorkIds:
    def test_they_are_well_formed_and_sort_in_the_order_they_were_made(self) -> None:
        ids = SystemIds()
        made = [ids.work_id() for _ in range(5000)]
        assert made == sorted(made)
        assert len(set(made)) == len(made)
        assert {len(work_id) for work_id in made} == {22}
        assert check_id(made[0]) == made[0]

    def test_they_sort_by_time_across_processes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = []
        for second in (1_700_000_000.0, 1_700_000_000.001, 1_700_000_100.0, 4_000_000_000.0):
            monkeypatch.setattr(time, "time", lambda second=second: second)
            made.append(SystemIds().work_id())
        assert made == sorted(made)

    def test_a_clock_that_goes_back_does_not_break_the_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ids, made = SystemIds(), []
        for second in (1_700_000_000.0, 1_699_999_000.0, 1_699_999_000.0, 1_700_000_000.0, 1_700_000_001.0):
            monkeypatch.setattr(time, "time", lambda second=second: second)
            made.append(ids.work_id())
        assert made == sorted(set(made))

    def test_a_fork_does_not_repeat_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A child of `fork` has the same state; only its process id tells that it is one."""
        monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
        ids = SystemIds()
        ids.work_id()
        kept = ids._tail
        here = ids.work_id()
        ids._tail = kept
        monkeypatch.setattr(clock, "_pid", -1)
        assert ids.work_id() != here

    def test_a_fork_does_not_repeat_what_settles_a_write(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else two writers of one position would each find the entry that stands to be their own."""
        ids = SystemIds()
        here = ids.unique()
        ids._count = 0
        monkeypatch.setattr(clock, "_pid", -1)
        assert ids.unique() != here

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
    def test_a_real_fork_is_noticed(self) -> None:
        code = (
            "import os; from roost.clock import SystemIds; ids = SystemIds(); ids.work_id();"
            "child = os.fork(); os.write(1, f'{ids.work_id()} {ids.unique()} '.encode()); child and os.wait()"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout
        assert len(set(out.split())) == 4


class TestUnique:
    def test_no_two_are_the_same_here_or_elsewhere(self) -> None:
        a, b = SystemIds(), SystemIds()
        made = [ids.unique() for _ in range(1000) for ids in (a, b)]
        assert len(set(made)) == len(made)
        assert max(map(len, made)) < 32

    def test_a_random_number_is_within_its_bounds(self) -> None:
        ids = SystemIds()
        assert all(2.0 <= ids.uniform(2.0, 3.0) <= 3.0 for _ in range(100))


class TestSystemClock:
    def test_an_offset_moves_the_wall_clock_alone(self) -> None:
        plain, ahead = SystemClock(), SystemClock(1000.0)
        assert 999.0 < ahead.now() - plain.now() < 1001.0
        assert abs(ahead.monotonic() - plain.monotonic()) < 1.0


class TestManualClock:
    async def test_it_stands_still_until_it_is_moved(self) -> None:
        clock = ManualClock(100.0)
        assert (clock.now(), clock.monotonic()) == (100.0, 0.0)
        clock.advance(2.5)
        assert (clock.now(), clock.monotonic()) == (102.5, 2.5)

    async def test_it_wakes_who_sleeps_in_the_order_of_their_instants(self) -> None:
        clock, woken = ManualClock(), list[int]()

        async def sleep(seconds: int) -> None:
            await clock.sleep(seconds)
            woken.append(seconds)

        tasks = [asyncio.create_task(sleep(seconds)) for seconds in (3, 1, 2, 9)]
        await asyncio.sleep(0)
        clock.advance(3)
        await asyncio.gather(*tasks[:3])
        assert woken == [1, 2, 3]
        tasks[3].cancel()
        clock.advance(100)  # who went away is not woken
        await clock.sleep(0)

    async def test_it_can_go_on_with_the_real_time(self) -> None:
        clock = ManualClock()
        clock.advance(5)
        clock.run()
        first = clock.monotonic()
        assert first >= 5
        while clock.monotonic() == first:
            pass
        assert clock.monotonic() > first
