"""The marks of budgets, told once each: to the log, and to whoever watches."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from roost.core.parts import Parts
from roost.journal import accounts, budget
from roost.journal.accounts import Balance, Over
from roost.journal.entries import Control

log = logging.getLogger("roost.session")


def tell_own(parts: Parts, work_id: str, before: Control, after: Control) -> None:
    """That an entry brought the work near the limit of its own budget, or to it."""
    if not after.budget or after.state.is_terminal:
        return
    for mark, words in ((budget.USED_UP, budget.breach), (budget.LOW, budget.warning)):
        if words(after) and not words(before):
            _tell(parts, work_id, after.engine, "item", mark, words(after))
            return


def tell_low(parts: Parts, work_id: str, engine: str, balances: Sequence[Balance]) -> None:
    """That accounts are nearly used up."""
    for balance in balances:
        if words := accounts.warning([balance]):
            _tell(parts, work_id, engine, accounts.whose(balance), budget.LOW, words)


def tell_over(parts: Parts, work_id: str, engine: str, over: Over) -> None:
    """That work parks, as an account is used up."""
    _tell(parts, work_id, engine, over.whose, budget.USED_UP, over.words)


def _tell(parts: Parts, work_id: str, engine: str, whose: str, mark: str, words: str) -> None:
    log.warning("%s: %s", work_id, words, extra={"event": f"budget.{mark}", "work_id": work_id})
    if parts.observer is not None:
        parts.observer.budget_reached(engine, whose, mark)
