"""What is done to many, and workers that are asked to stop: invariants 24 and 25, and that they bite."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from roost.core.operating import OperationEngine
from roost.core.switches import Switches
from roost.journal.events import Paused, Resumed
from roost.journal.lines import worker_target
from roost.models import WorkItem

from .families import draw
from .invariants import Appended
from .many import DEEDS, check_operations, check_workers
from .plan import Faults, Plan, PlannedDeed, PlannedWork, Strike, draw_alone
from .test_invariants import ENQUEUED, journal, numbers
from .world import simulate

SEEDS_MAX = 600


def small_operation(fault: str, when: str, call: str, number: int) -> Plan:
    """Two works fail whenever they are tried; an operation retries them, and its worker is struck."""
    fails = ((("refuse", 99.0, ""),),)
    return replace(
        draw_alone(0),
        lease_seconds=30.0,
        worker_count=2,
        concurrency=2,
        burst_steps=200,
        skew_seconds=0.0,
        drift=0.0,
        sweep_seconds=(10.0, 10.0),
        chaos_seconds=200.0,
        works=tuple(PlannedWork(f"work-{number}", "sim", fails, 0.0) for number in range(2)),
        deeds=(PlannedDeed("operation", "state:failed", 5.0, 0.0), PlannedDeed("drain", "", 20.0, 0.0)),
        faults=Faults(strikes=(Strike(fault, when, call, number),)),
    )


@pytest.mark.soak
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_whoever_dies_or_freezes_at_any_single_call(fault: str, when: str) -> None:
    number, is_struck, retried = 0, True, 0
    while is_struck:
        number += 1
        report = simulate(0, plan=small_operation(fault, when, "", number))
        assert report.is_good, f"{fault} {when} call {number}: {report}"
        is_struck, retried = report.counts[fault] > 0, retried + report.counts["retried"]
    assert number > 100
    assert retried > number


def without_ids(patch: pytest.MonkeyPatch) -> None:
    """An operation's entries have ids of their own, as those of anybody."""

    async def request(self: OperationEngine, item: WorkItem) -> None:
        return None

    patch.setattr(OperationEngine, "_request", request)


def without_looking(patch: pytest.MonkeyPatch) -> None:
    """Nor does who takes an operation over look for them."""
    without_ids(patch)

    async def seen_to(self: OperationEngine, *about: Any) -> list[str]:
        return []

    patch.setattr(OperationEngine, "_seen_to", seen_to)


def without_stopping(patch: pytest.MonkeyPatch) -> None:
    """A worker does not see that it is asked to stop."""
    patch.setattr(Switches, "drain_reason", lambda self, worker_id: "")


def test_who_lost_an_operation_does_not_act_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It freezes before it acts, another acts in its place, and the work fails again; then it thaws."""
    struck = [small_operation("freeze", "before", "retried", number) for number in (1, 2)]
    for plan in struck:
        report = simulate(0, plan=plan)
        assert report.is_good, str(report)
        assert (report.counts["freeze before retried"], report.counts["retried"]) == (1, 2)
    without_ids(monkeypatch)
    broken = [{violation.invariant for violation in simulate(0, plan=plan).violations} for plan in struck]
    assert {24} in broken


def test_who_takes_an_operation_over_looks_for_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker dies, or freezes, when it has acted; another takes over, and the work has failed again."""
    struck = [
        small_operation(fault, "after", "retried", number)
        for fault in ("kill", "freeze")
        for number in (1, 2)
    ]
    for plan in struck:
        report = simulate(0, plan=plan)
        assert report.is_good, str(report)
        assert report.counts["retried"] == 2
    without_looking(monkeypatch)
    for plan in struck:
        assert 24 in {violation.invariant for violation in simulate(0, plan=plan).violations}


@pytest.mark.slow
def test_who_does_not_see_that_it_is_asked_to_stop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    without_stopping(monkeypatch)
    for seed in range(SEEDS_MAX):
        plan = draw(seed)
        if not {deed.what for deed in plan.deeds} & {*DEEDS}:
            continue
        if 25 in {violation.invariant for violation in simulate(seed, plan=plan).violations}:
            return
    pytest.fail(f"{SEEDS_MAX} seeds passed")


# --- the checkers ----------------------------------------------------------------


def test_an_operation_that_acts_twice_or_miscounts_is_seen() -> None:
    actor = "client by operation:1"
    once = [("client", ENQUEUED), (actor, Paused("wait")), ("client", Resumed("go on"))]
    history = [Appended(entry) for entry in journal(*once)]
    assert check_operations(history, {"operation:1": 1}) == []
    assert numbers(check_operations(history, {"operation:1": 2})) == [24]
    assert numbers(check_operations(history, {"operation:1": 1, "operation:2": 1})) == [24]
    twice = [Appended(entry) for entry in journal(*once, (actor, Paused("wait")))]
    assert numbers(check_operations(twice, {})) == [24]


def test_a_worker_that_does_not_stop_is_seen() -> None:
    assert check_workers([worker_target("w0.1")], ["w0.2", "w1.1"]) == []
    assert numbers(check_workers([worker_target("w0.1")], ["w0.1"])) == [25]
