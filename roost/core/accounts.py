"""What families and namespaces use up: charged after each entry, and asked before each step."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from roost.core import marks
from roost.core.parts import Parts
from roost.core.switches import Switches
from roost.journal import accounts as rules
from roost.journal.accounts import Balance, Over, accounts_of, charge_of
from roost.journal.entries import Control, Entry
from roost.journal.events import BudgetSet
from roost.journal.values import Amounts
from roost.names import State, namespace_of
from roost.storage.ports import Message
from roost.storage.query import IndexQuery

_PAGE = 200
_ROOT_IS_GONE = float(1 << 40)  # above every position: its journal, which orders settings, has expired


async def charge(parts: Parts, entry: Entry) -> Sequence[Balance]:
    """Charge what an entry used up; again, if need be. How the accounts stand then."""
    what = charge_of(entry.event, entry.control, entry.work_id, entry.position, entry.at)
    return () if what is None else await parts.backend.accounts.charge(what)


async def allow(parts: Parts, entry: Entry) -> None:
    """Set the limits of a family as an operator said, and wake who is parked for them; again, if need be."""
    assert isinstance(entry.event, BudgetSet)
    await _set_limits(parts, entry, entry.event.budget)
    await wake(parts, namespace_of(entry.control.account))


async def allow_owed(parts: Parts, tail: Entry) -> None:
    """Set the limits of a family that entries say, and whose effects may be undone; in their order."""
    for position in tail.control.outbox:
        entry = tail if position == tail.position else await parts.backend.journal.get(tail.work_id, position)
        if entry is not None and isinstance(entry.event, BudgetSet) and entry.event.is_family:
            await allow(parts, entry)


async def copy(parts: Parts, entry: Entry) -> None:
    """What an entry means to accounts, for a storage that it was copied to; entries in their order."""
    await charge(parts, entry)
    if isinstance(entry.event, BudgetSet) and entry.event.is_family:
        await _set_limits(parts, entry, entry.event.budget)


async def _set_limits(parts: Parts, entry: Entry, limits: Amounts) -> None:
    root = entry.control.account
    order = entry.position if entry.work_id == root else _ROOT_IS_GONE + entry.at
    await parts.backend.accounts.allow(rules.Account(namespace_of(root), root), limits, order=order)


async def wake(parts: Parts, namespace: str) -> int:
    """Send a delivery for all work of a namespace that a family's or a day's budget has parked.

    Whoever does it may die on the way, and a list may lag: those that are left out look again
    within `rules.LOOK_SECONDS`. Who finds its account still used up parks again.
    """
    sent, cursor = 0, None
    query = IndexQuery(state=State.PAUSED, namespace=namespace)
    while True:
        page = await parts.backend.index.list(query, cursor=cursor, limit=_PAGE)
        tails = [await parts.backend.journal.tail(row.work_id) for row in page.rows]
        messages = [
            Message(tail.work_id, tail.position, tail.control.lane)
            for tail in tails
            if tail is not None and tail.control.over
        ]
        if messages:
            await parts.backend.queue.send(messages)
        sent, cursor = sent + len(messages), page.cursor
        if cursor is None:
            return sent


class Purse:
    """What a session knows of the accounts that its work is charged to; empty where there are none.

    Args:
        switches: what its worker knows of the budgets of a day.
    """

    def __init__(self, parts: Parts, switches: Switches) -> None:
        self._parts = parts
        self._switches = switches
        self._balances: Sequence[Balance] = ()
        self._warned = ""  # of what, in this lease

    def learn(self, balances: Sequence[Balance]) -> None:
        """How the accounts stood after a charge; nothing, if nothing was charged."""
        if balances:
            self._balances = balances

    async def over(self, control: Control, work_id: str) -> Over | None:
        """The account that is used up, if one is; asks storage only if nothing is known yet.

        What a day may use up is read anew before anybody is parked for it.
        """
        now = self._parts.clock.now()
        accounts = accounts_of(control, work_id, now)
        if not accounts:
            return None
        if tuple(balance.account for balance in self._balances) != accounts:
            self._balances = await self._parts.backend.accounts.show(accounts)
        found = rules.over(self._limited(control, work_id), now)
        if found is not None and control.is_daily:
            await self._switches.read()
            found = rules.over(self._limited(control, work_id), now)
        return found

    async def is_still_over(self, control: Control, work_id: str) -> bool:
        """Whether an account is used up, as it stands now: somebody may have raised it meanwhile."""
        self._balances = ()
        await self._switches.read()
        return await self.over(control, work_id) is not None

    def warning(self, control: Control, work_id: str) -> str:
        """What is nearly used up, in words; empty: there is enough left. Logged once."""
        if not self._balances:
            return ""
        limited = self._limited(control, work_id)
        words = rules.warning(limited)
        if words and not self._warned:
            marks.tell_low(self._parts, work_id, control.engine, limited)
        self._warned = self._warned or words
        return words

    def _limited(self, control: Control, work_id: str) -> list[Balance]:
        daily = self._switches.daily(namespace_of(work_id))
        return [balance.with_limits(control, daily) for balance in self._balances]


async def balances(parts: Parts, tail: Entry, *, daily: Amounts) -> list[Balance]:
    """How the accounts of a work item stand, with the limits that count now.

    Args:
        daily: what its namespace may use up each day.
    """
    control = tail.control
    if daily:
        control = replace(control, is_daily=True)
    accounts = accounts_of(control, tail.work_id, parts.clock.now())
    found = await parts.backend.accounts.show(accounts) if accounts else ()
    return [balance.with_limits(control, daily) for balance in found]
