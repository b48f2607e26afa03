"""The simulation bites on what operators do, deadlines, forks, holds and budgets, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from roost.core import forks, outside
from roost.core.accounts import Purse
from roost.journal import accounts as rules
from roost.journal import control, decide
from roost.journal.accounts import Balance, Charge
from roost.journal.entries import Control
from roost.journal.events import Kind, Noted
from roost.storage.memory import MemoryAccounts

from .families import draw
from .world import simulate

SEEDS_MAX = 300  # each is found within the first 100 seeds that have what it is about

Mutation = Callable[[pytest.MonkeyPatch], None]


def without_deadlines(patch: pytest.MonkeyPatch) -> None:
    """Work whose deadline is over is taken as if it had none."""
    ended = decide._ended

    def other(before: Control, now: float) -> Any:
        return ended(structs.replace(before, deadline_at=None), now)

    patch.setattr(decide, "_ended", other)


def with_hasty_deadlines(patch: pytest.MonkeyPatch) -> None:
    """Work fails of its deadline half a minute before that is over."""
    ended = decide._ended

    def other(before: Control, now: float) -> Any:
        deadline_at = before.deadline_at
        if deadline_at is not None:
            before = structs.replace(before, deadline_at=deadline_at - 30.0)
        return ended(before, now)

    patch.setattr(decide, "_ended", other)


def with_another_origin(patch: pytest.MonkeyPatch) -> None:
    """A fork says that it came from a later version than it did."""
    origin = forks._origin
    patch.setattr(forks, "_origin", lambda asked: origin(replace(asked, version=asked.version + 20)))


def with_a_note_of_the_fork(patch: pytest.MonkeyPatch) -> None:
    """The origin is told that it was forked."""
    fork = forks.fork

    async def other(parts: Any, asked: Any, new_id: str, *, actor: str) -> str:
        note = Noted("forked")
        await outside.append_to(parts, asked.work_id, lambda tail: note, actor=actor)
        return await fork(parts, asked, new_id, actor=actor)

    patch.setattr(forks, "fork", other)


def without_holds(patch: pytest.MonkeyPatch) -> None:
    """A delivery is followed whether the work is on hold or not."""
    patch.setattr(decide, "hold_until", lambda before: None)


def without_giving_up(patch: pytest.MonkeyPatch) -> None:
    """A commit keeps the lease of work that was put on hold meanwhile."""
    after_commit = control._after_commit

    def other(lease: Any, event: Any, after: Control) -> Any:
        return after_commit(lease, event, structs.replace(after, paused="", budget=()))

    patch.setattr(control, "_after_commit", other)


def with_charges_twice(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks up to which position work was charged."""
    charge = MemoryAccounts.charge

    async def again(self: MemoryAccounts, what: Charge) -> Sequence[Balance]:
        self._ledger.charged.pop(what.work_id, None)
        return await charge(self, what)

    patch.setattr(MemoryAccounts, "charge", again)


def without_failed_attempts(patch: pytest.MonkeyPatch) -> None:
    """What an attempt that failed used up is charged to nobody."""
    charge_of = rules.charge_of

    def other(event: Any, *about: Any) -> Charge | None:
        return None if event.kind is Kind.ATTEMPT_FAILED else charge_of(event, *about)

    patch.setattr("roost.core.accounts.charge_of", other)


def without_the_hard_stop(patch: pytest.MonkeyPatch) -> None:
    """Nobody parks, whatever the account says."""

    async def over(self: Purse, before: Control, work_id: str) -> None:
        return None

    patch.setattr(Purse, "over", over)


MUTATIONS: dict[Mutation, int] = {
    without_deadlines: 18,
    with_hasty_deadlines: 18,
    with_another_origin: 19,
    with_a_note_of_the_fork: 19,
    without_holds: 20,
    without_giving_up: 20,
    with_charges_twice: 21,
    without_failed_attempts: 21,
    without_the_hard_stop: 22,
}
STRIDE = {with_charges_twice: 5, without_failed_attempts: 5, without_the_hard_stop: 5}
"""Where only some seeds have what the mutation is about: operators in every third, budgets in every fifth."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(one, marks=pytest.mark.soak) if one is without_giving_up else one  # found late
        for one in MUTATIONS
    ],
    ids=lambda mutation: mutation.__name__,
)
def test_mutation_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seed within a bounded number breaks the invariant that the safeguard is for."""
    mutation(monkeypatch)
    for number in range(SEEDS_MAX):
        seed = number * STRIDE.get(mutation, 3)
        plan = draw(seed)
        if mutation is with_hasty_deadlines:  # an early end is only told by clocks that are right
            plan = replace(plan, skew_seconds=0.0, drift=0.0)
        broken = {violation.invariant for violation in simulate(seed, plan=plan).violations}
        if MUTATIONS[mutation] in broken:
            return
    pytest.fail(f"{SEEDS_MAX} seeds passed {mutation.__name__}")
