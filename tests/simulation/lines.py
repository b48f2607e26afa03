"""Invariants of the lines at resources, as checkers over what the claims port was asked and answered.

4. A grant never makes more owners than the capacity that is in force: the operator's
   setting, or the least of what all owners gave as capacity.
4. A claim of scope `work` is there from its first grant until its work item has ended.
12. Fairness. Let W be in line for a resource before X. If X is granted the resource and no
   room is left for W, then W was overtaken, and one of these holds: W's turn is only to come
   (a closing or a rate, told to it as `retry_at`); or a call reached W longer than a lease
   before (by the clock of who grants), and it has not come since. In a row, between two
   comings of W, that happens at most `OVERTAKEN_MAX` times; after that W is asleep, and
   whoever is called together with it need not wait for it. A waiter that comes within a
   lease of each call is thus never overtaken.
16. Rates. In any span of T seconds no more than `count + (T + lease) / spacing` starts are
   counted (a start may come up to a lease after its ticket).

The checkers keep books of their own from the records; they share no code with the rules.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from roost.journal.limits import Rate

OVERTAKEN_MAX = 3


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong: the number of the invariant, the resource, and what happened."""

    invariant: int
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Stand:
    """A resource at an instant, as the storage holds it: plain data.

    Attributes:
        owners: (work id, whether it is of scope `work`, capacity that it gave).
        waiters: (work id, capacity that it gave), first in line first.
        capacity: the operator's setting.
    """

    owners: tuple[tuple[str, bool, int], ...] = ()
    waiters: tuple[tuple[str, int], ...] = ()
    capacity: int | None = None
    rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """An `acquire` that got all; `stands` are those after it, `starts` the resources that count it."""

    work_id: str
    token: int
    now: float
    overtake_before: float
    before: Mapping[str, Stand]
    after: Mapping[str, Stand]
    starts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """An `acquire` that got nothing; its turn, where it was told one."""

    work_id: str
    now: float
    resources: tuple[str, ...]
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class Called:
    """A waiter was called for a resource; `at` is from when on it may come."""

    resource: str
    work_id: str
    at: float


@dataclass(frozen=True, slots=True)
class Voided:
    """What waiters of a resource were told of their turns is void: it was opened, or its rate changed."""

    resource: str


@dataclass(frozen=True, slots=True)
class Over:
    """A work item has ended, by the entry at a position of its journal; or is evicted up to that token."""

    work_id: str
    position: int


LineRecord = Granted | Denied | Called | Voided | Over


@dataclass(slots=True)
class _Books:
    """What the records so far say of the waiters of one resource.

    Attributes:
        called: since when each may come; those that were told a turn by time, too.
        turns: until when each is away.
        passed: how often each was overtaken since it came.
    """

    called: dict[str, float] = field(default_factory=dict)
    turns: dict[str, float] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)

    def forget(self, work_id: str) -> None:
        """It came: all that was told before is used up."""
        self.called.pop(work_id, None)
        self.turns.pop(work_id, None)
        del self.passed[work_id]


def check_capacity(records: Iterable[LineRecord]) -> list[Flaw]:
    """4: no grant makes more owners than there may be."""
    found = []
    for record in records:
        if not isinstance(record, Granted):
            continue
        for name, stand in record.after.items():
            is_new = record.work_id not in {owner[0] for owner in record.before[name].owners}
            if is_new and len(stand.owners) > _most(stand, ()):
                found.append(Flaw(4, name, f"has owners {stand.owners}, one too many by {record.work_id}"))
    return found


def _most(stand: Stand, waiters: Iterable[tuple[str, int]]) -> int:
    if stand.capacity is not None:
        return stand.capacity
    return min([owner[2] for owner in stand.owners] + [capacity for _, capacity in waiters], default=1)


def check_scopes(records: Iterable[LineRecord]) -> list[Flaw]:
    """4: a claim for a whole life is there at each later grant of its resource, until that life is over."""
    found = []
    lasting: dict[str, set[str]] = defaultdict(set)
    ended: dict[str, int] = {}
    for record in records:
        if isinstance(record, Over):
            ended[record.work_id] = record.position
        if not isinstance(record, Granted):
            continue
        if record.token > ended.get(record.work_id, record.token):
            del ended[record.work_id]  # it was retried; an older token is that of a zombie
        for name, stand in record.after.items():
            owners = {owner[0] for owner in stand.owners}
            gone = lasting[name] - owners - ended.keys()
            if gone:
                found.append(Flaw(4, name, f"{sorted(gone)} lost it before they ended"))
            lasting[name] = {owner[0] for owner in stand.owners if owner[1]}
    return found


def check_fairness(records: Iterable[LineRecord]) -> list[Flaw]:
    """12: nobody is overtaken who comes when called."""
    books: dict[str, _Books] = defaultdict(_Books)
    found: list[Flaw] = []
    for record in records:
        match record:
            case Denied(work_id, _, resources, retry_at):
                for name in resources:
                    books[name].forget(work_id)
                    if retry_at is not None:
                        books[name].called[work_id] = books[name].turns[work_id] = retry_at
            case Called(resource, work_id, at):
                books[resource].called[work_id] = at
            case Voided(resource):
                books[resource].turns.clear()
            case Granted():
                for name in record.after:
                    found += _check_grant(name, record, books[name])
    return found


def _check_grant(name: str, record: Granted, books: _Books) -> list[Flaw]:
    before, after = record.before[name], record.after[name]
    books.forget(record.work_id)
    if record.work_id in {owner[0] for owner in before.owners}:
        return []  # it held it before
    found = []
    ahead = _ahead(before, record.work_id, books, record.now)
    room = _most(after, ahead) - len(after.owners)
    for place, (work_id, _) in enumerate(ahead):
        if place < room:
            continue
        called_at = books.called.get(work_id)
        is_late = called_at is not None and called_at < record.overtake_before
        if not is_late and books.passed[work_id] < OVERTAKEN_MAX:
            told = f"called at {called_at}, {books.passed[work_id]} times overtaken"
            found.append(Flaw(12, name, f"{record.work_id} overtakes {work_id} ({told}) at {record.now}"))
        books.passed[work_id] += 1
        books.called.pop(work_id, None)
    return found


def _ahead(stand: Stand, work_id: str, books: _Books, now: float) -> list[tuple[str, int]]:
    """Who was in line before a work item, and is not away."""
    ahead = []
    for waiter in stand.waiters:
        if waiter[0] == work_id:
            break
        if books.turns.get(waiter[0], now) <= now:
            ahead.append(waiter)
    return ahead


def check_rates(records: Iterable[LineRecord], lease_seconds: float) -> list[Flaw]:
    """16: no more starts are counted in any span than the rate allows; a change of it begins anew."""
    starts: dict[str, list[float]] = defaultdict(list)
    rates: dict[str, Rate] = {}
    found: list[Flaw] = []
    for record in records:
        if isinstance(record, Voided):
            found += _check_span(record.resource, rates.pop(record.resource, None), starts, lease_seconds)
        elif isinstance(record, Granted):
            for name in record.starts:
                rate = record.after[name].rate
                assert rate is not None
                rates[name] = rate
                starts[name].append(record.now)
    for name in list(rates):
        found += _check_span(name, rates[name], starts, lease_seconds)
    return found


def _check_span(
    name: str, rate: Rate | None, starts: dict[str, list[float]], lease_seconds: float
) -> list[Flaw]:
    at = sorted(starts.pop(name, []))
    if rate is None:
        return []
    spacing = rate.period_seconds / rate.count
    return [
        Flaw(16, name, f"{number + 1} starts in {at[first + number] - at[first]:.3f} s")
        for first in range(len(at))
        for number in range(len(at) - first)
        if number + 1 > rate.count + (at[first + number] - at[first] + lease_seconds) / spacing + 1e-6
    ]


def check_lines(records: Sequence[LineRecord], *, lease_seconds: float, are_clocks_right: bool) -> list[Flaw]:
    """All of them; how many starts there were in a span can be said only where clocks agree."""
    found = check_capacity(records) + check_scopes(records) + check_fairness(records)
    return found + check_rates(records, lease_seconds) if are_clocks_right else found
