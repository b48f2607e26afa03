"""The rules of resource claims: who gets a resource, who stands in line, who is called.

Pure functions over what a backend has read; each backend stores what they decide, in one
transaction. So the rules are the same everywhere, and on this page:

* A resource has a capacity. Owners may be as many as that. An operator's setting decides;
  without one, all who own it at a time must be fine with that many: the least of what they
  themselves gave as its capacity (1, where they said nothing).
* First come, first served. Whoever is refused stands in line for all that it asked for, and
  a line is the order of coming. A release calls as many of the first as there is room for.
* Nobody is overtaken who comes when called. Who has not come within a lease may be, at most
  `OVERTAKEN_MAX` times in a row; then it is asleep, and stands in nobody's way until it
  comes. A waiter that comes is awake, and in its old place.
* A rate (n starts in a period) is kept by reservation: who asks too early is given a ticket,
  an instant at which it may start, and no two are given the same room. So nobody polls, and
  a crowd comes back one by one. A start is at most one lease later than its ticket.
* A closed resource opens at an instant. As many as there is room for come back then; the
  others are called by them, one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from roost.journal.limits import CAPACITY_MAX, Limits
from roost.names import Scope

OVERTAKEN_MAX = 3  # leases for which others wait in vain for one that was called


class Owner(Struct, frozen=True, omit_defaults=True):
    """Who holds a resource: a work item under a fencing token.

    A claim of scope `step` is as alive as the lease of that token, one of scope `work` as
    alive as the work item. Who gives claims up says when the work was enqueued, `created_at`: a
    token says nothing to new work that has its id, once it was deleted.
    """

    work_id: str
    token: int
    scope: Scope = Scope.STEP
    created_at: float | None = None


class Want(Struct, frozen=True):
    """A resource that is asked for; `capacity` is how many owners it may have, if nobody set it."""

    resource: str
    capacity: int = 1


class Ask(Struct, frozen=True):
    """What a work item asks for: all of it, or nothing.

    Attributes:
        use: names the start that a rate counts, such as the position that it follows; asking
            again for the same use is counted once.
    """

    owner: Owner
    wants: tuple[Want, ...]
    use: int = 0


class Waiter(Struct, frozen=True):
    """A work item in line for a resource.

    Attributes:
        called_at: when a release called it, or its turn by rate or opening; None: it waits
            to be called.
        is_timed: it is its turn by time, and not here before. (Not so who was called, even if
            the clock of who looks is behind.)
        capacity: how many owners it is fine with.
        passed: how often it was overtaken since it came last.
        ticket_at: the start that a rate has reserved for it.
    """

    work_id: str
    since: float
    called_at: float | None = None
    capacity: int = 1
    passed: int = 0
    ticket_at: float | None = None
    is_timed: bool = False

    def may_come(self, now: float) -> bool:
        """Whether it was called, and it is time."""
        return self.called_at is not None and not self.is_away(now)

    def is_away(self, now: float) -> bool:
        """Whether its turn is only to come: until then it stands in nobody's way."""
        return self.is_timed and self.called_at is not None and self.called_at > now

    def without_turn(self) -> Waiter:
        """The same, waiting to be called: what it was told is void."""
        return replace(self, called_at=None, is_timed=False, ticket_at=None)


class ResourceView(Struct, frozen=True):
    """One resource: its owners, who waits for it, first in line first, and its limits."""

    resource: str
    owners: Sequence[Owner]
    waiters: Sequence[Waiter]
    limits: Limits = field(default_factory=Limits)


class Acquired(Struct, frozen=True):
    """The work item now holds all the resources it asked for.

    Attributes:
        is_counted: one of them has a rate, so each further start must be asked for.
    """

    is_counted: bool = False


class Refused(Struct, frozen=True):
    """The work item holds none of them more than before, and is in line for each that it asked for.

    Attributes:
        owners: other holders of resources that are full.
        ahead: work ids of waiters that come first on a resource that has room.
        retry_at: if nothing but time stands in the way, its turn; else it will be called.
        limited: the resources that are closed, or whose rate is used up, until then.
    """

    owners: Sequence[Owner]
    ahead: Sequence[str]
    retry_at: float | None = None
    limited: Sequence[str] = field(default_factory=list)


class Call(Struct, frozen=True):
    """Somebody to wake: it may take a resource from `at` on."""

    work_id: str
    at: float


# --- what a backend reads and writes -----------------------------------------


class Holding(Struct, frozen=True):
    """A claim as it is stored; `use` is the last start that was counted under it."""

    owner: Owner
    capacity: int = 1
    use: int | None = None


class Line(Struct, frozen=True):
    """A resource as read for one who asks.

    Attributes:
        before: who is in line before the one who asks; all of them, if it is not in line.
        own: its own place in line.
        paced_at: when a rate would be at rest again; 0: it is.
        is_cut: there are more before it than were read.
    """

    resource: str
    holdings: Sequence[Holding] = ()
    before: Sequence[Waiter] = ()
    own: Waiter | None = None
    limits: Limits = field(default_factory=Limits)
    paced_at: float = 0.0
    is_cut: bool = False


class Grant(Struct, frozen=True):
    """Take them all, and leave all lines.

    Attributes:
        paced_at: what is new of the resources that have a rate.
        overtaken: the waiters that are overtaken, as they are after it, by resource.
    """

    answer: Acquired
    paced_at: Mapping[str, float]
    overtaken: Mapping[str, Sequence[Waiter]]


class Refusal(Struct, frozen=True):
    """Stand in line for them all.

    Attributes:
        places: what the place in each line is then, by resource.
    """

    answer: Refused
    paced_at: Mapping[str, float]
    places: Mapping[str, Waiter]


class _Verdict(Struct, frozen=True):
    """What one resource says: who holds it, who is ahead, or when it opens; all empty: yes."""

    owners: Sequence[Owner] = ()
    ahead: Sequence[str] = ()
    overtaken: Sequence[Waiter] = ()
    opens_at: float | None = None


def decide(ask: Ask, lines: Sequence[Line], *, now: float, overtake_before: float) -> Grant | Refusal:
    """What an `acquire` comes to.

    Args:
        lines: one for each that is wanted, in the same order.
        overtake_before: a waiter that was called before this instant and has not come may
            be overtaken.
    """
    verdicts = [
        _judge(ask.owner, want, line, now, overtake_before)
        for want, line in zip(ask.wants, lines, strict=True)
    ]
    owners = list(dict.fromkeys(owner for verdict in verdicts for owner in verdict.owners))
    ahead = list(dict.fromkeys(work_id for verdict in verdicts for work_id in verdict.ahead))
    if owners or ahead:
        return _refuse(ask, lines, Refused(owners, ahead), now)
    opens = [(verdict.opens_at, line.resource) for verdict, line in zip(verdicts, lines, strict=True)]
    closed = [(at, resource) for at, resource in opens if at is not None]
    if closed:
        refused = Refused([], [], max(at for at, _ in closed), [resource for _, resource in closed])
        return _refuse(ask, lines, refused, now)
    overtaken = {
        line.resource: verdict.overtaken
        for line, verdict in zip(lines, verdicts, strict=True)
        if verdict.overtaken
    }
    return _pace(ask, lines, overtaken, now, overtake_before)


def _judge(owner: Owner, want: Want, line: Line, now: float, overtake_before: float) -> _Verdict:
    """Whether there is room: now, or when the resource opens."""
    closed_until = line.limits.closed_until or 0.0
    at = max(now, closed_until)
    opens_at = closed_until if closed_until > now else None
    others = [holding for holding in line.holdings if holding.owner.work_id != owner.work_id]
    own = own_holding(line.holdings, owner)
    if own is not None and _is_newer(own, owner):
        return _Verdict(owners=[own.owner])
    if own is not None:
        return _Verdict(opens_at=opens_at)
    most = _capacity(line.limits, want.capacity, others)
    if len(others) >= most:
        return _Verdict(owners=[holding.owner for holding in others])
    here = [waiter for waiter in line.before if not waiter.is_away(at)]
    standing = [waiter for waiter in here if _is_in_the_way(waiter, overtake_before)]
    awake = _up_to_last([waiter for waiter in here if waiter.passed < OVERTAKEN_MAX], standing)
    most = _capacity(line.limits, most, awake)
    if line.is_cut or len(others) + len(awake) >= most:
        return _Verdict(ahead=[waiter.work_id for waiter in standing or line.before[-1:]])
    if len(others) + len(here) < _capacity(line.limits, most, here):
        return _Verdict(opens_at=opens_at)  # there is room for all of them
    late = [waiter for waiter in here if waiter not in standing and waiter.called_at is not None]
    overtaken = [
        replace(waiter, called_at=None, is_timed=False, passed=min(waiter.passed + 1, OVERTAKEN_MAX))
        for waiter in late
    ]
    return _Verdict(overtaken=overtaken, opens_at=opens_at)


def own_holding(holdings: Iterable[Holding], owner: Owner) -> Holding | None:
    """The claim of the same work item, if it has one."""
    return next((holding for holding in holdings if holding.owner.work_id == owner.work_id), None)


def _is_newer(holding: Holding, owner: Owner) -> bool:
    """Whether the claim of the same work item is that of a later lease: who asks is a zombie."""
    return holding.owner.token > owner.token


def depends_on_line(owner: Owner, want: Want, line: Line) -> bool:
    """Whether those in line matter to who asks: not if it owns the resource, or if that is full."""
    if own_holding(line.holdings, owner) is not None:
        return False
    return len(line.holdings) < _capacity(line.limits, want.capacity, line.holdings)


def _capacity(limits: Limits, own: int, others: Iterable[Holding | Waiter]) -> int:
    """How many owners a resource may have, if these were among them."""
    return limits.capacity if limits.capacity is not None else min((own, *(o.capacity for o in others)))


def _up_to_last(waiters: Sequence[Waiter], standing: Sequence[Waiter]) -> Sequence[Waiter]:
    """Those for whom room is kept: who is in the way, and who may still come before them."""
    last = max((place for place, waiter in enumerate(waiters) if waiter in standing), default=-1)
    return waiters[: last + 1]


def _is_in_the_way(waiter: Waiter, overtake_before: float) -> bool:
    if waiter.passed >= OVERTAKEN_MAX:
        return False
    return waiter.called_at is None or waiter.called_at >= overtake_before


def _pace(
    ask: Ask,
    lines: Sequence[Line],
    overtaken: Mapping[str, Sequence[Waiter]],
    now: float,
    overtake_before: float,
) -> Grant | Refusal:
    """There is room; start now if the rates allow it, else reserve the first instant at which all do."""
    rated = [line for line in lines if line.limits.rate is not None]
    uncounted = [line for line in rated if not _is_counted(ask, line, now, overtake_before)]
    starts_at = max((_starts_at(line, now) for line in uncounted), default=now)
    paced_at = {
        line.resource: _paced(line, starts_at)
        for line in uncounted
        if starts_at <= now or _ticket(line) < starts_at  # else that start is reserved already
    }
    if starts_at <= now:
        return Grant(Acquired(is_counted=bool(rated)), paced_at, overtaken)
    limited = [line.resource for line in uncounted]
    return _refuse(ask, lines, Refused([], [], starts_at, limited), now, paced_at)


def _ticket(line: Line) -> float:
    """The start that is reserved for it; without one, the beginning of time."""
    return line.own.ticket_at if line.own is not None and line.own.ticket_at is not None else -math.inf


def _is_counted(ask: Ask, line: Line, now: float, overtake_before: float) -> bool:
    """Whether this very start was counted before, or a ticket is good for it."""
    own = own_holding(line.holdings, ask.owner)
    if own is not None and own.use == ask.use:
        return True
    return overtake_before <= _ticket(line) <= now


def _starts_at(line: Line, now: float) -> float:
    """The first instant at which the rate allows a start, or that it has reserved for this one."""
    assert line.limits.rate is not None
    rate = line.limits.rate
    free_at = max(now, line.paced_at - (rate.count - 1) * rate.spacing_seconds)
    ticket_at = _ticket(line)
    return min(ticket_at, free_at) if ticket_at > now else free_at


def _paced(line: Line, starts_at: float) -> float:
    assert line.limits.rate is not None
    return max(line.paced_at, starts_at) + line.limits.rate.spacing_seconds


def _refuse(
    ask: Ask, lines: Sequence[Line], refused: Refused, now: float, paced_at: Mapping[str, float] | None = None
) -> Refusal:
    """In line for all of them; what it has come for now is over, so it is awake and not called."""
    places = {}
    for want, line in zip(ask.wants, lines, strict=True):
        place = line.own or Waiter(ask.owner.work_id, now, capacity=want.capacity)
        place = replace(place, called_at=refused.retry_at, is_timed=refused.retry_at is not None, passed=0)
        if paced_at and line.resource in paced_at:
            place = replace(place, ticket_at=refused.retry_at)
        places[line.resource] = place
    return Refusal(refused, paced_at or {}, places)


# --- releases and settings ---------------------------------------------------


def released(holdings: Iterable[Holding], owner: Owner) -> list[Holding]:
    """Who still holds a resource when `owner` gave it up.

    It gives up what its work item holds under its token or an older one: claims of scope
    `step`, and those of scope `work` only where `owner` is of that scope.
    """
    return [holding for holding in holdings if not is_given_up(holding, owner)]


def is_given_up(holding: Holding, owner: Owner) -> bool:
    """Whether a release by `owner` gives this claim up."""
    is_over = owner.scope is Scope.WORK or holding.owner.scope is Scope.STEP
    return holding.owner.work_id == owner.work_id and holding.owner.token <= owner.token and is_over


def call(
    holdings: Sequence[Holding], waiters: Sequence[Waiter], limits: Limits, now: float
) -> tuple[list[Waiter], bool]:
    """Whom to call, as they are then, first in line first: as many as there is room for.

    Those who were called before and are on their way take up room, too.

    Returns:
        Them, and whether there is room for more than these waiters.
    """
    at = max(now, limits.closed_until or now)
    called: list[Waiter] = []
    taken, most = len(holdings), _capacity(limits, CAPACITY_MAX, holdings)
    for waiter in waiters:
        if waiter.is_away(at):
            continue
        most = _capacity(limits, most, [waiter])
        if taken >= most:
            return called, False
        if waiter.called_at is None:
            called.append(replace(waiter, called_at=at, is_timed=at > now))
        if waiter.passed < OVERTAKEN_MAX:
            taken += 1
    return called, taken < most


def calls(called: Iterable[Waiter]) -> list[Call]:
    """One call for each work item, at the earliest of its instants."""
    found: dict[str, float] = {}
    for waiter in called:
        assert waiter.called_at is not None
        found[waiter.work_id] = min(waiter.called_at, found.get(waiter.work_id, waiter.called_at))
    return [Call(work_id, at) for work_id, at in found.items()]
