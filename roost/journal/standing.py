"""Resources whole, for backends that keep each in one piece: what their calls make of it.

The rules are in `claims`; here they are carried out on owners and line of a resource, with no
storage. A backend reads those that a call is about, calls, and stores them, in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from roost.journal import limits as setting
from roost.journal.claims import (
    Acquired,
    Ask,
    Call,
    Grant,
    Holding,
    Line,
    Owner,
    Refused,
    ResourceView,
    Waiter,
    call,
    calls,
    decide,
    released,
)
from roost.journal.limits import Change, Limits


@dataclass(slots=True)
class Standing:
    """One resource: who holds it, who waits, first come first, and what limits it."""

    holdings: list[Holding] = field(default_factory=list)
    waiters: list[Waiter] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    paced_at: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not (self.holdings or self.waiters or self.limits.are_set)

    def view(self, name: str) -> ResourceView:
        """What people are shown."""
        owners = sorted((holding.owner for holding in self.holdings), key=lambda owner: owner.work_id)
        return ResourceView(name, owners, list(self.waiters), self.limits)

    def is_called(self, work_id: str, now: float) -> bool:
        """Whether a waiter may come."""
        return any(waiter.work_id == work_id and waiter.may_come(now) for waiter in self.waiters)

    def give_up(self, owner: Owner, *, leaves: bool) -> bool:
        """What `release` and (with `leaves`) `leave` take away; whether that was anything."""
        before = len(self.holdings), len(self.waiters)
        self.holdings = released(self.holdings, owner)
        if leaves:
            self.waiters = [waiter for waiter in self.waiters if waiter.work_id != owner.work_id]
        return before != (len(self.holdings), len(self.waiters))

    def change(self, change: Change) -> None:
        """Change the limits; turns that were told under the old ones may be void."""
        self.limits = setting.changed(self.limits, change)
        if setting.voids_turns(change):
            self.paced_at = 0.0
            self.waiters = [waiter.without_turn() for waiter in self.waiters]

    def call(self, now: float) -> list[Waiter]:
        """Call those for whom there is room."""
        called, _ = call(self.holdings, self.waiters, self.limits, now)
        self._replace(called)
        return called

    def seen_by(self, name: str, work_id: str) -> Line:
        """The line as one of its waiters sees it."""
        place = next((n for n, waiter in enumerate(self.waiters) if waiter.work_id == work_id), None)
        own = None if place is None else self.waiters[place]
        return Line(name, self.holdings, self.waiters[:place], own, self.limits, self.paced_at)

    def take(self, ask: Ask, capacity: int, overtaken: Sequence[Waiter]) -> None:
        """Let the one who asks own it, in place of waiting for it."""
        others = [one for one in self.holdings if one.owner.work_id != ask.owner.work_id]
        self.holdings = [*others, Holding(ask.owner, capacity, ask.use)]
        self._replace(overtaken)
        self.waiters = [waiter for waiter in self.waiters if waiter.work_id != ask.owner.work_id]

    def stand(self, place: Waiter) -> None:
        """Let somebody wait, at the end of the line if new."""
        if any(waiter.work_id == place.work_id for waiter in self.waiters):
            self._replace([place])
        else:
            self.waiters.append(place)

    def _replace(self, changed: Iterable[Waiter]) -> None:
        by_id = {waiter.work_id: waiter for waiter in changed}
        self.waiters = [by_id.get(waiter.work_id, waiter) for waiter in self.waiters]


def acquire(
    standing: Mapping[str, Standing], ask: Ask, *, now: float, overtake_before: float
) -> Acquired | Refused:
    """What `ResourceClaims.acquire` does, given all the resources that are asked for, by name."""
    seen = [standing[want.resource].seen_by(want.resource, ask.owner.work_id) for want in ask.wants]
    decision = decide(ask, seen, now=now, overtake_before=overtake_before)
    for name, paced_at in decision.paced_at.items():
        standing[name].paced_at = paced_at
    for want in ask.wants:
        if isinstance(decision, Grant):
            overtaken = decision.overtaken.get(want.resource, ())
            standing[want.resource].take(ask, want.capacity, overtaken)
        else:
            standing[want.resource].stand(decision.places[want.resource])
    return decision.answer


def give_up(
    standing: Iterable[Standing], owner: Owner, *, now: float, leaves: bool
) -> tuple[list[Standing], Sequence[Call]]:
    """What `release` and (with `leaves`) `leave` do; gives what has changed, and whom to wake."""
    changed = [one for one in standing if one.give_up(owner, leaves=leaves)]
    return changed, calls(waiter for one in changed for waiter in one.call(now))
