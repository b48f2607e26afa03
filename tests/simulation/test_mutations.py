"""The simulation bites: with a safeguard taken out of the core, some seed fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from msgspec import structs

from roost.core import children, claims, outside, signals
from roost.core.inbox import Inbox
from roost.core.session import Session
from roost.core.sweeper import Sweeper
from roost.journal import claims as rules
from roost.journal import control, decide, family
from roost.journal.entries import Entry
from roost.journal.events import Kind
from roost.journal.limits import Rate, SetRate
from roost.models import State
from roost.storage import memory
from roost.storage.memory import MemoryJournal

from .families import draw
from .plan import RESOURCES, Plan
from .world import simulate

SEEDS_MAX = 1000  # the rarest, an older claim that replaces a newer one, shows at about 1 in 300

Mutation = Callable[[pytest.MonkeyPatch], None]


def without_fencing(patch: pytest.MonkeyPatch) -> None:
    """A holder appends after whatever took its position, be it a newer claim."""
    patch.setattr(decide, "can_take_in", lambda standing, token, created_at: True)


def without_append_condition(patch: pytest.MonkeyPatch) -> None:
    """An append replaces what stands at its position."""
    append = MemoryJournal.append

    async def overwrite(self: MemoryJournal, entry: Entry, *, with_row: bool = False) -> Entry:
        entries = self._entries.setdefault(entry.work_id, [])
        if entry.position >= len(entries):
            return await append(self, entry, with_row=with_row)
        entries[entry.position] = entry
        return entry

    patch.setattr(MemoryJournal, "append", overwrite)


def without_sweeper(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks at due rows."""

    async def sweep(self: Sweeper) -> int:
        return 0

    patch.setattr(Sweeper, "sweep", sweep)


def without_eviction(patch: pytest.MonkeyPatch) -> None:
    """A dead owner's resources are taken, but not its lease."""

    async def free(parts: Any, other: rules.Owner) -> bool:
        tail = await parts.backend.journal.tail(other.work_id)
        lease = tail.control.lease
        if lease is not None and lease.token == other.token and lease.until > parts.clock.now():
            return False
        await claims.release(parts, other)
        return True

    patch.setattr(claims, "_free_if_dead", free)


def without_claim_tokens(patch: pytest.MonkeyPatch) -> None:
    """A claim is replaced by any other claim of the same work item, be it an older one."""
    patch.setattr(rules, "_is_newer", lambda holding, owner: False)


def without_claims(patch: pytest.MonkeyPatch) -> None:
    """Resources go to whoever asks."""

    async def acquire(parts: Any, ask: rules.Ask) -> rules.Acquired:
        return rules.Acquired()

    patch.setattr(claims, "acquire", acquire)


def without_lines(patch: pytest.MonkeyPatch) -> None:
    """Who is in line stands in nobody's way."""
    patch.setattr(rules, "_is_in_the_way", lambda waiter, overtake_before: False)


def without_capacity(patch: pytest.MonkeyPatch) -> None:
    """A resource has room for one more than it should."""
    true = rules._capacity
    patch.setattr(rules, "_capacity", lambda limits, own, others: true(limits, own, others) + 1)


def without_scopes(patch: pytest.MonkeyPatch) -> None:
    """Work gives up with its lease what it is to hold for its whole life."""

    def is_given_up(holding: rules.Holding, owner: rules.Owner) -> bool:
        return holding.owner.work_id == owner.work_id and holding.owner.token <= owner.token

    patch.setattr(rules, "is_given_up", is_given_up)


def without_pace(patch: pytest.MonkeyPatch) -> None:
    """A start is counted as if there had been none before."""
    patch.setattr(rules, "_paced", lambda line, starts_at: 0.0)


def without_record(patch: pytest.MonkeyPatch) -> None:
    """`once` forgets that it has done the effect."""

    async def recorded(self: Session, key: str, version: int) -> tuple[bool, None]:
        return False, None

    patch.setattr(Session, "recorded", recorded)


def without_lease(patch: pytest.MonkeyPatch) -> None:
    """A worker takes work whose lease has not run out."""
    patch.setattr(decide, "lease_until", lambda control, row: None)


def without_verification(patch: pytest.MonkeyPatch) -> None:
    """An artifact is read without a look at its digest."""

    async def read(self: memory.MemoryArtifacts, digest: str) -> Any:
        yield self._blobs[digest]

    patch.setattr(memory.MemoryArtifacts, "read", read)


def without_effects(patch: pytest.MonkeyPatch) -> None:
    """What an entry owes to others is never done."""

    async def carry_out(parts: Any, entry: Entry) -> None:
        return None

    patch.setattr(outside, "carry_out", carry_out)


def without_cancelling_children(patch: pytest.MonkeyPatch) -> None:
    """Children of a cancelled parent, and the rest of a join, are left alone."""

    async def cancel(parts: Any, entry: Entry, reason: str) -> None:
        return None

    patch.setattr(outside, "cancel_children", cancel)


def without_bitmap(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether a child's end was reported before."""
    patch.setattr(family, "has_ended", lambda of, ordinal: False)


def without_derived_ids(patch: pytest.MonkeyPatch) -> None:
    """A child has a new id each time it is spawned."""
    ids = children._ids
    counter = count()

    def other(entry: Entry, specs: Any) -> Any:
        return [(f"{work_id}-{next(counter)}", ordinal) for work_id, ordinal in ids(entry, specs)]

    patch.setattr(children, "_ids", other)


def without_consuming(patch: pytest.MonkeyPatch) -> None:
    """A commit does not take away what its step has seen."""
    read = Inbox.read

    async def keep(self: Inbox, control: Any) -> Any:
        given = await read(self, control)
        given.consumed.clear()
        return given

    patch.setattr(Inbox, "read", keep)


def without_signal_ids(patch: pytest.MonkeyPatch) -> None:
    """A signal that is sent again is another one."""

    async def find(parts: Any, work_id: str, last: Any, digest: str) -> None:
        return None

    patch.setattr(signals, "_find", find)


def without_parents_ends(patch: pytest.MonkeyPatch) -> None:
    """Children that are to end with their parent go on."""
    patch.setattr(family, "has_open_bound", lambda found: False)


def without_waiting_again(patch: pytest.MonkeyPatch) -> None:
    """Work that is retried goes on, whatever it waited for when it ended."""
    met_in, move = control.TABLE[Kind.RETRIED]

    def retried(before: Any, event: Any, position: int, at: float) -> Any:
        after = move(before, event, position, at)
        return structs.replace(after, state=State.QUEUED)

    patch.setitem(control.TABLE, Kind.RETRIED, (met_in, retried))


def without_company(patch: pytest.MonkeyPatch) -> None:
    """Whatever became of its workers, work runs beside as many as there are."""
    patch.setattr(decide, "most_together", lambda interruptions, lanes, max_interruptions: None)


MUTATIONS: dict[Mutation, int] = {
    without_fencing: 3,
    without_append_condition: 1,
    without_sweeper: 5,
    without_eviction: 4,
    without_claim_tokens: 4,
    without_claims: 4,
    without_lines: 12,
    without_capacity: 4,
    without_scopes: 4,
    without_pace: 16,
    without_record: 8,
    without_lease: 0,
    without_verification: 10,
    without_effects: 8,
    without_cancelling_children: 8,
    without_bitmap: 11,
    without_derived_ids: 8,
    without_consuming: 7,
    without_signal_ids: 7,
    without_parents_ends: 8,
    without_waiting_again: 7,
    without_company: 27,
}


def _paced(seed: int) -> Plan:
    """The plan of a seed, but clocks agree and each resource has a rate; else it takes many seeds."""
    limits = tuple((0.0, name, SetRate(Rate(1, 60.0))) for name in RESOURCES)
    return replace(draw(seed), skew_seconds=0.0, drift=0.0, limits=limits)


RARE = (without_waiting_again, without_claim_tokens)  # takes many seeds to be found


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutation",
    [pytest.param(m, marks=pytest.mark.soak) if m in RARE else m for m in MUTATIONS],
    ids=lambda mutation: mutation.__name__,
)
def test_mutation_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seed within a bounded number breaks the invariant that the safeguard is for."""
    mutation(monkeypatch)
    for seed in range(SEEDS_MAX):
        plan = _paced(seed) if mutation is without_pace else None
        broken = {violation.invariant for violation in simulate(seed, plan=plan).violations}
        if MUTATIONS[mutation] in broken:
            return
    pytest.fail(f"{SEEDS_MAX} seeds passed {mutation.__name__}")
