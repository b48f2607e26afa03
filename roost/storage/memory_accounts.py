"""The accounts port of the `memory` backend, on dicts."""

from __future__ import annotations

from collections.abc import Sequence

from roost.journal import budget
from roost.journal.accounts import DAYS_KEPT, Account, Balance, Charge
from roost.journal.values import Amounts


class MemoryAccounts:
    """Accounts in a dict. Nothing here awaits, so each call is atomic."""

    def __init__(self) -> None:
        self._spent: dict[Account, Amounts] = {}
        self._allowed: dict[Account, tuple[float, Amounts]] = {}
        self._charged: dict[str, int] = {}

    @property
    def spent(self) -> dict[Account, Amounts]:
        """What each account was charged."""
        return self._spent

    async def charge(self, charge: Charge) -> Sequence[Balance]:
        if charge.position > self._charged.get(charge.work_id, -1):
            self._charged[charge.work_id] = charge.position
            for account in charge.accounts:
                self._add(account, charge.amounts)
        return await self.show(charge.accounts)

    def _add(self, account: Account, amounts: Amounts) -> None:
        days = [one.day for one in self._spent if one.namespace == account.namespace and one.day is not None]
        if account.day is not None:
            oldest = max([account.day, *days]) - DAYS_KEPT
            if account.day <= oldest:
                return
            self._spent = {
                one: spent
                for one, spent in self._spent.items()
                if one.namespace != account.namespace or one.day is None or one.day > oldest
            }
        self._spent[account] = budget.add(self._spent.get(account, ()), dict(amounts))

    async def show(self, accounts: Sequence[Account]) -> Sequence[Balance]:
        return [
            Balance(account, self._spent.get(account, ()), self._allowed.get(account, (0.0, None))[1])
            for account in accounts
        ]

    async def allow(self, account: Account, limits: Amounts, *, order: float) -> None:
        if account not in self._allowed or self._allowed[account][0] <= order:
            self._allowed[account] = order, limits

    def forget(self, work_id: str) -> None:
        """What was known of work that is deleted."""
        self._charged.pop(work_id, None)
        for known in (self._spent, self._allowed):
            for account in [one for one in known if one.root == work_id]:
                del known[account]
