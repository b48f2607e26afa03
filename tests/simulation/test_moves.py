"""A namespace moves under faults: invariant 26, and that it bites.

`ROOST_SIM_MOVE_SEEDS=N` tries seeds 0 to N-1 instead of the usual 25.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from roost.core.moving import Move

from .moves import simulate_moves

SEED_COUNT = int(os.environ.get("ROOST_SIM_MOVE_SEEDS", "25"))
SEEDS_MAX = 300

pytestmark = pytest.mark.slow


def test_invariants_hold_under_faults() -> None:
    copied = left = 0
    for seed in range(SEED_COUNT):
        report = simulate_moves(seed)
        assert report.is_good, f"tests.simulation.moves: {report}"
        copied, left = copied + report.counts["copied"], left + report.counts["left behind"]
    assert copied > 5 * SEED_COUNT
    assert left > SEED_COUNT


@pytest.mark.soak
def test_invariants_hold_under_faults_many_times() -> None:
    for seed in range(SEED_COUNT, 10 * SEED_COUNT):
        report = simulate_moves(seed)
        assert report.is_good, f"tests.simulation.moves: {report}"


def originals_end_whatever_came(patch: pytest.MonkeyPatch) -> None:
    """An original is ended without a look whether all of it was copied."""

    async def is_there(self: Move, entry: Any) -> bool:
        return True

    patch.setattr(Move, "_is_there", is_there)


def nobody_is_told_again(patch: pytest.MonkeyPatch) -> None:
    """Who ended at the old place, when those whom it told had left, tells them nothing at the new one."""

    async def tell(self: Move) -> None:
        pass

    patch.setattr(Move, "_tell", tell)


def nobody_goes_on(patch: pytest.MonkeyPatch) -> None:
    """What the move put on hold stays so."""

    async def go_on(self: Move) -> None:
        pass

    patch.setattr(Move, "_go_on", go_on)


MUTATIONS: dict[Callable[[pytest.MonkeyPatch], None], set[int]] = {
    originals_end_whatever_came: {1, 2, 3, 5, 26},
    nobody_is_told_again: {5, 8, 11},
    nobody_goes_on: {5},
}


RARE = nobody_is_told_again  # takes many seeds to be found


@pytest.mark.parametrize(
    "mutation",
    [pytest.param(m, marks=pytest.mark.soak) if m is RARE else m for m in MUTATIONS],
    ids=lambda mutation: mutation.__name__,
)
def test_mutation_is_found(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    for seed in range(SEEDS_MAX):
        broken = {violation.invariant for violation in simulate_moves(seed).violations}
        if broken & MUTATIONS[mutation]:
            return
    pytest.fail(f"{SEEDS_MAX} seeds did not notice that {mutation.__doc__}")
