"""Budgets of families and of days in a run, and the invariants 21 and 22.

21. Charges. What an account says is, at every end of a run, what the entries of its members
    say that they used up: each charged once, none left out, whatever died in between. An
    account of a family is charged by its root, its children of any generation, attached or
    not, and what triggers make of them; a fork is charged to an account of its own.
22. The hard stop. A step of a member begins only if, at some instant after the entry that it
    follows in its lease (the claim, or the commit before), the charges made to the account did
    not reach its limit. So an account goes beyond its limit by at most one step of each member
    that runs at that time.

Work that is parked goes on: invariant 5, once budgets are lifted.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from roost.journal import budget
from roost.journal.accounts import DAYS_KEPT, Account, Balance, Charge, accounts_of, used_by
from roost.journal.events import Claimed, Committed, Enqueued
from roost.journal.values import Amounts
from roost.storage.memory import MemoryAccounts

from .invariants import Appended, Began, Record, Violation
from .plan import Plan, PlannedDeed, draw_strike

STRIKE_CALLS = (*("charge",) * 3, "balances", "allow", "blocked", "budget_set", "daily_set", "list")
DEEDS = ("family", "family", "day")


@dataclass(frozen=True, slots=True)
class Stands:
    """An account was charged, or its limits were set: what it says from now on."""

    account: Account
    spent: Amounts
    allowed: Amounts | None


class RecordingAccounts(MemoryAccounts):
    """Tells how each account stands that was changed."""

    def __init__(self, told: Callable[[Stands], None]) -> None:
        super().__init__()
        self._told = told

    async def charge(self, charge: Charge) -> Sequence[Balance]:
        balances = await super().charge(charge)
        for balance in balances:
            self._told(Stands(balance.account, balance.spent, balance.allowed))
        return balances

    async def allow(self, account: Account, limits: Amounts, *, order: float) -> None:
        await super().allow(account, limits, order=order)
        for balance in await self.show([account]):
            self._told(Stands(account, balance.spent, balance.allowed))


def with_budgets(plan: Plan, seed: int) -> Plan:
    """The plan with budgets of families and of days in it, in every fifth seed."""
    if seed % 5:
        return plan
    source = random.Random(f"budgets {seed}")
    works = tuple(
        replace(work, family_steps=source.randint(1, 8)) if source.random() < 0.7 else work
        for work in plan.works
    )
    deeds = tuple(
        PlannedDeed(
            source.choice(DEEDS),
            source.choice(works).work_id,
            source.uniform(0.0, plan.chaos_seconds),
            float(source.randint(1, 12)),
        )
        for _ in range(source.randint(0, 4))
    )
    strikes = tuple(
        draw_strike(source, source.choice(STRIKE_CALLS), may_jump=False) for _ in range(source.randint(0, 5))
    )
    faults = replace(plan.faults, strikes=plan.faults.strikes + strikes)
    return replace(plan, works=works, deeds=plan.deeds + deeds, faults=faults)


def check_charges(history: Iterable[Record], balances: Mapping[Account, Amounts]) -> list[Violation]:
    """21: at the end of a run, when all effects are done."""
    due: dict[Account, Amounts] = defaultdict(tuple)
    for record in history:
        if isinstance(record, Appended):
            entry = record.entry
            for account in accounts_of(entry.control, entry.work_id, entry.at):
                due[account] = budget.add(due[account], dict(used_by(entry.event)))
    newest = max((account.day or 0 for account in due), default=0)
    found = []
    for account in due.keys() | balances.keys():
        is_kept = account.day is None or account.day > newest - DAYS_KEPT
        if is_kept and _plain(due[account]) != _plain(balances.get(account, ())):
            text = f"is charged {balances.get(account, ())}, its members used up {due[account]}"
            found.append(Violation(21, f"account of {account.root or account.day}", text))
    return found


def _plain(amounts: Amounts) -> Amounts:
    """But for the last digit of a sum, and for nothing."""
    return tuple((name, round(amount, 6)) for name, amount in amounts if round(amount, 6))


class _Stop:
    """Follows a history for invariant 22."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self._limits: dict[str, Amounts] = {}  # of a family's account, by its root
        self._is_over: dict[str, bool] = {}
        self._was_open: dict[str, int] = {}  # when an account had something left for the last time
        self._account_of: dict[str, str] = {}
        self._follows: dict[tuple[str, int], int] = {}  # (work id, token): when its last entry was written

    def take(self, now: int, record: Record | Stands) -> None:
        match record:
            case Appended(entry):
                if isinstance(entry.event, Enqueued) and entry.control.account:
                    self._account_of[entry.work_id] = entry.control.account
                    self._limits.setdefault(entry.control.account, entry.control.family_budget)
                lease = entry.control.lease
                if lease is not None and isinstance(entry.event, Committed | Claimed):
                    self._follows[entry.work_id, lease.token] = now
            case Stands(account, spent, allowed) if account.root:
                limits = allowed if allowed is not None else self._limits.get(account.root, ())
                is_over = bool(budget.used_up(limits, spent))
                if is_over and not self._is_over.get(account.root, False):
                    self._was_open[account.root] = now
                self._is_over[account.root] = is_over
            case Began(work_id=work_id, token=token):
                self._began(work_id, token)

    def _began(self, work_id: str, token: int) -> None:
        root = self._account_of.get(work_id)
        since = self._follows.get((work_id, token))
        if root is None or since is None or not self._is_over.get(root, False):
            return
        if self._was_open[root] < since:
            text = f"begins a step, though the account of {root} is used up since before the entry it follows"
            self.found.append(Violation(22, f"{work_id} under {token}", text))


def check_stops(history: Iterable[Record | Stands]) -> list[Violation]:
    """22, for the accounts of families."""
    stop = _Stop()
    for now, record in enumerate(history):
        stop.take(now, record)
    return stop.found
