"""Accounts: what a family of work, or a namespace in a day, has used up together. Pure.

Work that is enqueued with a budget of its family is charged to the account of that family,
and so is all that comes of it: children, attached or not, and what triggers make of its end.
Work of a namespace with a budget for each day is charged to the account of that day. What an
entry used up is charged by its effect, once, after it; so an account is what its members'
journals say, save for entries whose effects are under way.

* Nobody starts a step while an account that it is charged to is known to be used up. It asks
  before the first step of each lease, and learns of it after each step. So an account goes
  beyond its limit by no more than one step of each member that runs at that time.
* Who finds it used up is parked, with no lease, no lane and no attempt burned: until the
  budget is raised, or a new day begins; and it looks now and then if it missed that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from roost.journal import budget
from roost.journal.entries import Control
from roost.journal.events import AttemptFailed, Cancelled, Committed, Deferred, Event, Failed, Released
from roost.journal.values import Amounts
from roost.names import namespace_of

DAY_SECONDS = 86400.0
DAYS_KEPT = 7  # of a namespace's days; a charge that comes later is nobody's
LOOK_SECONDS = 3600.0  # work that is parked by an account looks so often if it goes on


class Account(Struct, frozen=True):
    """Of a family, or of a day of a namespace.

    Attributes:
        root: the work item that was enqueued with the family's budget; empty: it is of a day.
        day: days since 1970-01-01, UTC.
    """

    namespace: str
    root: str = ""
    day: int | None = None


class Charge(Struct, frozen=True):
    """What an entry used up, to be added to accounts once."""

    work_id: str
    position: int
    amounts: Amounts
    accounts: tuple[Account, ...]


class Balance(Struct, frozen=True):
    """How an account stands.

    Attributes:
        spent: by name, sorted.
        allowed: what an operator set as its limits; None: nobody did.
    """

    account: Account
    spent: Amounts = ()
    allowed: Amounts | None = None

    def with_limits(self, control: Control, daily: Amounts) -> Balance:
        """Itself, with the limits that count where no operator has set others.

        Args:
            control: of a member: it carries those that its family began with.
            daily: of the namespace, for each day.
        """
        if self.account.day is not None:
            return replace(self, allowed=daily)
        return self if self.allowed is not None else replace(self, allowed=control.family_budget)


class Over(Struct, frozen=True):
    """An account is used up: whose, in words, and when a member looks again."""

    words: str
    look_at: float
    whose: str


def accounts_of(control: Control, work_id: str, at: float) -> tuple[Account, ...]:
    """What work is charged to for an entry of that instant."""
    found: list[Account] = []
    if control.account:
        found.append(Account(namespace_of(control.account), control.account))
    if control.is_daily:
        found.append(Account(namespace_of(work_id), day=day_of(at)))
    return tuple(found)


def day_of(at: float) -> int:
    """The day of an instant, counted from 1970-01-01, UTC."""
    return int(at // DAY_SECONDS)


def charge_of(event: Event, after: Control, work_id: str, position: int, at: float) -> Charge | None:
    """What is to be charged for an entry; None: nothing."""
    used = used_by(event) if after.account or after.is_daily else ()
    return Charge(work_id, position, used, accounts_of(after, work_id, at)) if used else None


def used_by(event: Event) -> Amounts:
    """What one entry says was used up: what Roost counts, and what the engine reported."""
    match event:
        case Committed(duration_seconds=seconds, spent=spent):
            own = {budget.STEPS: 1.0, budget.ATTEMPTS: 1.0, budget.SECONDS: seconds}
        case AttemptFailed(duration_seconds=seconds, spent=spent):
            own = {budget.ATTEMPTS: 1.0, budget.SECONDS: seconds}
        case Deferred(spent=spent) | Released(spent=spent) | Failed(spent=spent) | Cancelled(spent=spent):
            own = {}
        case _:
            return ()
    return tuple((name, amount) for name, amount in budget.add(spent, own) if amount)


def whose(balance: Balance) -> str:
    """What metrics call the kind of its account."""
    return "family" if balance.account.day is None else "day"


def over(balances: Iterable[Balance], now: float) -> Over | None:
    """The account that is used up, the family's first; None: there is enough left in all."""
    for balance in balances:
        if words := budget.used_up(balance.allowed or (), balance.spent):
            words = f"{_called(balance)} used up: {words}"
            return Over(words, _look_at(balance.account, now), whose(balance))
    return None


def warning(balances: Iterable[Balance]) -> str:
    """What of the accounts is nearly used up, in words; empty: there is enough left."""
    return "; ".join(
        f"{_called(balance)} nearly used up: {words}"
        for balance in balances
        if (words := budget.nearly_used_up(balance.allowed or (), balance.spent))
    )


def _called(balance: Balance) -> str:
    account = balance.account
    if account.day is None:
        return f"budget of the family of {account.root}"
    return f"budget of {datetime.fromtimestamp(account.day * DAY_SECONDS, UTC):%Y-%m-%d}"


def _look_at(account: Account, now: float) -> float:
    if account.day is None:
        return now + LOOK_SECONDS
    return max(now, (account.day + 1) * DAY_SECONDS)
