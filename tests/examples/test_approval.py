"""`examples/approval.py` asks before it pays, and pays once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from examples.approval import Refunds
from roost.errors import InputError
from roost.testing import EngineHarness, assert_crash_safe

Make = Callable[..., EngineHarness]


class Bank:
    """Pays once a key, as payment services do."""

    def __init__(self) -> None:
        self.paid: dict[str, tuple[str, int]] = {}

    def __call__(self, order: str, cents: int, key: str) -> str:
        self.paid[key] = (order, cents)
        return f"receipt-{order}"


def test_a_small_refund_is_paid_without_asking(engine_harness: Make) -> None:
    bank = Bank()
    work = engine_harness(Refunds(bank)).enqueue("refunds", {"order": "17", "cents": 5000})
    assert (work.state, work.result) == ("done", "receipt-17")
    assert list(bank.paid.values()) == [("17", 5000)]


def test_a_large_one_waits_for_a_person_who_may_change_it(engine_harness: Make) -> None:
    bank = Bank()
    harness = engine_harness(Refunds(bank))
    work = harness.enqueue("refunds", {"order": "17", "cents": 90000})
    harness.advance(days=2)
    assert (work.state, bank.paid) == ("waiting", {})
    with pytest.raises(InputError, match=r"approved: 'perhaps' is not of type 'boolean'"):
        work.signal("decide", {"approved": "perhaps"})
    assert (work.state, bank.paid) == ("waiting", {})
    work.signal("decide", {"approved": True, "cents": 45000})
    assert (work.state, list(bank.paid.values())) == ("done", [("17", 45000)])
    assert work.snapshot.data["approved_by"] == "test"


@pytest.mark.parametrize(
    ("decision", "status"), [({"approved": False, "why": "no"}, "rejected"), (None, "expired")]
)
def test_without_a_yes_nothing_is_paid(engine_harness: Make, decision: Any, status: str) -> None:
    bank = Bank()
    harness = engine_harness(Refunds(bank))
    work = harness.enqueue("refunds", {"order": "17", "cents": 90000})
    if decision is not None:
        work.signal("decide", decision)
    harness.advance(days=4)
    assert (work.state, work.snapshot.status, bank.paid) == ("done", status, {})


@pytest.mark.slow
def test_wherever_the_worker_dies_it_is_paid_once() -> None:
    assert_crash_safe(
        Refunds,
        {"order": "17", "cents": 90000},
        signals={"decide": {"approved": True}},
        outside=Bank,
        observe=lambda bank: list(bank.paid.values()),
    )
