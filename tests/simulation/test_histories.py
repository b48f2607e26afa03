"""Old versions are dropped, and work goes back to some: invariant 23, and that it bites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from roost.core import versions
from roost.journal.control import apply
from roost.journal.entries import Body, Encoding, Entry
from roost.journal.events import Claimed, Committed, Enqueued, Event, Failed, Retried
from roost.journal.retention import Pruning
from roost.journal.values import ErrorInfo
from roost.storage.memory import MemoryJournal

from .families import draw
from .histories import check_kept
from .invariants import Appended, Dropped, Record
from .plan import Faults, Plan, PlannedDeed, PlannedWork, Strike, draw_alone
from .world import simulate

SEEDS_MAX = 600


def small_history(fault: str, when: str, call: str, number: int) -> Plan:
    """One work item whose worker freezes or dies at a call; it is ended, and goes back."""
    step = (("sleep", 1.0, ""),)
    return replace(
        draw_alone(0),
        lease_seconds=30.0,
        worker_count=2,
        burst_steps=200,
        skew_seconds=0.0,
        drift=0.0,
        sweep_seconds=(10.0, 10.0),
        chaos_seconds=200.0,
        keep_versions=2,
        works=(PlannedWork("work-0", "sim", (step,) * 9, 0.0),),
        deeds=(PlannedDeed("rewind", "work-0", 5.0, 2.0), PlannedDeed("rewind", "work-0", 90.0, 4.0)),
        faults=Faults(strikes=(Strike(fault, when, call, number),)),
    )


@pytest.mark.soak
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("fault", "stride"), [("freeze", 1), ("kill", 3)])
def test_whoever_dies_or_freezes_at_any_single_call(fault: str, stride: int, when: str) -> None:
    """Of dropping versions, ending the work, and going back in it."""
    number, is_struck, counts = 1, True, Counter[str]()
    while is_struck:
        report = simulate(0, plan=small_history(fault, when, "", number))
        assert report.is_good, f"{fault} {when} call {number}: {report}"
        is_struck = report.counts[fault] > 0
        counts += report.counts
        number += stride
    assert number > 100
    assert counts["dropped"] > number // stride
    if stride == 1:
        calls = ("prune", "keep", "retried", "cancelled")
        assert not {call for call in calls if not counts[f"{fault} {when} {call}"]}, counts


def test_who_freezes_before_it_drops_a_version_can_not_drop_it_when_work_went_back_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its lease ends, the work is ended and goes back; then it thaws. Without `keep` it is noticed."""
    plan = small_history("freeze", "before", "prune", 1)
    report = simulate(0, plan=plan)
    assert report.is_good, str(report)
    assert report.counts["freeze before prune"] == report.counts["retried"] == 1

    async def keep(*about: Any) -> None:
        pass

    monkeypatch.setattr(versions, "keep", keep)
    assert {violation.invariant for violation in simulate(0, plan=plan).violations} == {23}


# --- mutations -------------------------------------------------------------------


def one_fewer(patch: pytest.MonkeyPatch) -> None:
    """Of the newest versions one too few is kept."""
    patch.setattr(versions, "Pruning", lambda keep, in_use: Pruning(keep - 1, in_use))


def without_bases(patch: pytest.MonkeyPatch) -> None:
    """What a version is a delta of is dropped."""
    takes = Pruning.takes

    def other(self: Pruning, entry: Entry) -> bool:
        self._bases.clear()
        return takes(self, entry)

    patch.setattr(Pruning, "takes", other)


def without_milestones(patch: pytest.MonkeyPatch) -> None:
    """Versions that waited or spawned are dropped as any others."""
    takes = Pruning.takes

    def other(self: Pruning, entry: Entry) -> bool:
        if isinstance(entry.event, Committed):
            entry = structs.replace(entry, event=structs.replace(entry.event, waits=None, has_spawned=False))
        return takes(self, entry)

    patch.setattr(Pruning, "takes", other)


def whole_entries_go(patch: pytest.MonkeyPatch) -> None:
    """Not the bodies but the entries are dropped."""

    async def prune(self: MemoryJournal, work_id: str, positions: Sequence[int]) -> None:
        entries = self._entries[work_id]
        entries[:] = [entry for entry in entries if entry.position not in positions]

    patch.setattr(MemoryJournal, "prune", prune)


MUTATIONS: list[Callable[[pytest.MonkeyPatch], None]] = [
    one_fewer,
    without_bases,
    without_milestones,
    whole_entries_go,
]


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_mutation_is_found(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    for seed in range(SEEDS_MAX):
        plan = draw(seed)
        if plan.keep_versions is not None and not simulate(seed, plan=plan).is_good:
            return
    pytest.fail(f"{SEEDS_MAX} seeds passed {mutation.__name__}")


# --- the checker -----------------------------------------------------------------


def journal(*events: Event, bases: Mapping[int, int] | None = None) -> list[Entry]:
    """A journal whose commits have bodies, some of them deltas of another position."""
    entries: list[Entry] = []
    for position, event in enumerate((Enqueued("sim"), Claimed("w", 60.0), *events)):
        control = apply(entries[-1].control if entries else None, event, position=position, at=0.0)
        has_body = isinstance(event, Enqueued | Committed)
        body = Body(Encoding.JSON, b"{}", base=(bases or {}).get(position)) if has_body else None
        entries.append(Entry("w", position, str(position), 0.0, "w", event, control, body))
    return entries


def without(entries: Sequence[Entry], *positions: int) -> dict[str, list[Entry]]:
    return {"w": [structs.replace(one, body=None) if one.position in positions else one for one in entries]}


def commit(version: int, **more: Any) -> Committed:
    return Committed(version, "on", lease_until=60.0, **more)


def seen(entries: Sequence[Entry], gone: int) -> bool:
    """Whether it is seen that a body was dropped after all this."""
    history: list[Record] = [Appended(entry) for entry in entries]
    assert not check_kept(history, {"w": entries}, 1)
    return bool(check_kept([*history, Dropped("w", (gone,))], without(entries, gone), 1))


@pytest.mark.parametrize(("gone", "is_needed"), [(2, False), (3, False), (4, True), (5, True), (0, True)])
def test_the_newest_and_what_they_are_deltas_of_stay(gone: int, is_needed: bool) -> None:
    commits = [commit(version) for version in range(1, 5)]
    assert seen(journal(*commits, bases={5: 4}), gone) is is_needed


@pytest.mark.parametrize(("gone", "is_needed"), [(2, True), (3, True), (4, False), (5, True)])
def test_milestones_and_what_work_went_back_to_stay(gone: int, is_needed: bool) -> None:
    ends = Failed(ErrorInfo("E", "no use")), Retried("again", snapshot_position=3)
    commits = [commit(1, has_spawned=True), *(commit(version) for version in range(2, 5))]
    assert seen(journal(*commits, *ends), gone) is is_needed


def test_an_entry_that_is_another_or_gone_is_seen() -> None:
    entries = journal(commit(1), commit(2))
    history = [Appended(entry) for entry in entries]
    assert check_kept(history, {"w": entries[:-1]}, 1)
    assert check_kept(history, without(entries, 2), 1)
    other = [structs.replace(one, actor="x") if one.position == 2 else one for one in entries]
    assert check_kept(history, {"w": other}, 1)
