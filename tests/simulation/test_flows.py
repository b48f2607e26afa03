"""Turns, ticks, triggers and versions under faults; and that the checkers bite.

`ROOST_SIM_FLOW_SEEDS=N` tries seeds 0 to N-1 instead of the usual 160.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from roost.core import triggers, turns, versions
from roost.engine import EngineSpec
from roost.journal.entries import Entry
from roost.journal.events import Kind
from roost.journal.values import Place
from roost.rules import Schedule
from roost.storage.memory import MemoryJournal

from .flows import simulate_flows
from .plan import Faults, Plan, PlannedWork, Strike, draw_alone

SEED_COUNT = int(os.environ.get("ROOST_SIM_FLOW_SEEDS", "160"))
PARTS = 4
SEEDS_MAX = 200  # within which each mutation shows
IN_LINE = 3  # a seed of which the first two work items are of one conversation, the second behind the first

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", range(PARTS))
def test_invariants_hold_under_faults(part: int) -> None:
    for seed in range(part, SEED_COUNT, PARTS):
        report = simulate_flows(seed)
        assert report.is_good, f"tests.simulation.flows: {report}"


def test_what_is_checked_happens_often_enough() -> None:
    counts = sum((simulate_flows(seed).counts for seed in range(40)), start=simulate_flows(0).counts)
    wanted = {
        Kind.TURN_TAKEN,
        Kind.TURN_GIVEN,
        Kind.TURN_ENDED,
        Kind.CANCELLED,
        Kind.SETTLED,
        "kill",
        "freeze",
        "trimmed",
    }
    assert all(counts[name] > 20 for name in wanted), counts


def small_flow(when: str, number: int) -> Plan:
    """Two work items of a conversation, what their ends trigger, and ticks; one call is its maker's last."""
    works = [PlannedWork(f"work-{n}", "sim", ((("delay", 9.0, ""),), ()), 5.0 * n) for n in range(2)]
    faults = Faults(strikes=(Strike("kill", when, "", number),))
    return replace(
        draw_alone(0),
        lease_seconds=30.0,
        worker_count=1,
        skew_seconds=0.0,
        drift=0.0,
        sweep_seconds=(120.0,),
        chaos_seconds=620.0,
        works=tuple(works),
        faults=faults,
    )


@pytest.mark.soak
@pytest.mark.parametrize("when", ["before", "after"])
def test_whoever_dies_at_any_single_call(when: str) -> None:
    """Of a turn, a trigger, a tick, and of trimming a schedule's journal."""
    number, is_struck, counts = 0, True, Counter[str]()
    while is_struck:
        number += 1
        report = simulate_flows(IN_LINE, plan=small_flow(when, number))
        assert report.is_good, f"{when} call {number}: {report}"
        is_struck = report.counts["kill"] > 0
        counts += report.counts
    calls = {"turn_taken", "turn_given", "turn_ended", "enqueued", "committed", "settled", "trim", "send"}
    missed = {call for call in calls if not counts[f"kill {when} {call}"]}
    assert not missed, counts


# --- mutations -------------------------------------------------------------------


def turns_out_of_order(patch: pytest.MonkeyPatch) -> None:
    """The turn is given to the last in line."""
    give = turns._give

    async def give_last(parts: Any, conversation: str, place: Place, *rest: Any) -> None:
        tail = await parts.backend.journal.tail(conversation)
        await give(parts, conversation, tail.control.line[-1], *rest)

    patch.setattr(turns, "_give", give_last)


def no_turn_is_handed_on(patch: pytest.MonkeyPatch) -> None:
    """Work that ends leaves its place in line taken."""

    async def leave(parts: Any, entry: Entry, appending: Any) -> None:
        pass

    patch.setattr(turns, "_leave_line", leave)


def triggers_have_new_ids(patch: pytest.MonkeyPatch) -> None:
    """What follows from an end is enqueued under another id each time it is done."""
    count = iter(range(10**9))
    patch.setattr(triggers, "triggered_id", lambda work_id, position, name: f"{work_id}.t{next(count)}")


def ticks_are_left_out(patch: pytest.MonkeyPatch) -> None:
    """Of several ticks that are over, the last is forgotten."""
    due = Schedule.due_ticks

    def without_last(self: Schedule, first: float, now: float) -> Any:
        ticks, after = due(self, first, now)
        return (ticks[:-1] if len(ticks) > 1 else ticks), after

    patch.setattr(Schedule, "due_ticks", without_last)


def a_history_is_cut_too_deep(patch: pytest.MonkeyPatch) -> None:
    """Of the journal of a schedule nothing is kept but its last entry."""

    async def trim(parts: Any, tail: Entry) -> int:
        count: int = await parts.backend.journal.trim(tail.work_id, tail.position)
        return count

    patch.setattr(versions, "trim", trim)


def trimmed_positions_are_free_again(patch: pytest.MonkeyPatch) -> None:
    """Who slept for long appends where entries were trimmed."""
    append = MemoryJournal.append

    async def append_anywhere(self: MemoryJournal, entry: Entry, *, with_row: bool = False) -> Entry:
        tail, standing = await self.tail(entry.work_id), await self.get(entry.work_id, entry.position)
        if tail is not None and tail.position > entry.position and standing is None:
            return entry
        return await append(self, entry, with_row=with_row)

    patch.setattr(MemoryJournal, "append", append_anywhere)


def any_version_goes_on(patch: pytest.MonkeyPatch) -> None:
    """An engine runs whatever any version has left."""
    patch.setattr(EngineSpec, "goes_on_from", lambda self, version: True)


MUTATIONS: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (turns_out_of_order, "invariant 13"),
    (no_turn_is_handed_on, "invariant 5"),
    (triggers_have_new_ids, "invariant 15"),
    (ticks_are_left_out, "invariant 14"),
    (a_history_is_cut_too_deep, "schedule:tick"),
    (trimmed_positions_are_free_again, "invariant 1"),
    (any_version_goes_on, "17: a snapshot of another version"),
]


@pytest.mark.parametrize(("mutation", "said"), MUTATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_safeguard_taken_out_is_noticed(
    mutation: Callable[[pytest.MonkeyPatch], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    for seed in range(SEEDS_MAX):
        report = simulate_flows(seed)
        if not report.is_good:
            assert any(said in str(one) for one in (*report.violations, *report.bugs)), str(report)
            return
    pytest.fail(f"{SEEDS_MAX} seeds did not notice that {mutation.__doc__}")
