"""`examples/celery_move.py`: the same night with Celery's tasks and with Roost's engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from examples import celery_move
from examples.celery_move import Invoice, Nightly, NoSuchCustomer
from roost.testing import EngineHarness, assert_crash_safe

CUSTOMERS = {"customers": ["ada", "bob", "eve"]}


class Gateway:
    """A payment service: charges once a key, always without one; fails at first for one customer."""

    def __init__(self, flaky: str = "", unknown: str = "") -> None:
        self.charged: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._keys: set[str] = set()
        self._flaky, self._unknown = flaky, unknown

    def __call__(self, customer: str, key: str | None = None) -> int:
        self.calls[customer] += 1
        if customer == self._unknown:
            raise NoSuchCustomer(customer)
        if customer == self._flaky and self.calls[customer] < 3:
            raise ConnectionError("busy")
        if key is None or key not in self._keys:
            self.charged[customer] += 1
        self._keys |= {key} if key else set()
        return 100 * len(customer)


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Gateway], None]]:
    """Celery without a broker; and what its tasks charge with."""
    kept = celery_move.app.conf.task_always_eager
    celery_move.app.conf.update(task_always_eager=True, task_store_eager_result=True)
    yield lambda gateway: monkeypatch.setattr(celery_move, "charge", gateway)
    celery_move.app.conf.update(task_always_eager=kept)


def test_both_come_to_the_same_through_the_same_failures(
    before: Callable[[Gateway], None], engine_harness: Callable[..., EngineHarness]
) -> None:
    before(old := Gateway(flaky="bob"))
    told = celery_move.nightly(CUSTOMERS["customers"]).get(timeout=5)
    new = Gateway(flaky="bob")
    night = engine_harness(Nightly(), Invoice(new)).enqueue("nightly", CUSTOMERS).run_to_end()
    assert told == night.result == "3 invoices, 900 cents"
    assert old.calls == new.calls == {"ada": 1, "bob": 3, "eve": 1}


def test_a_chord_whose_member_fails_says_nothing_and_a_parent_says_who(
    before: Callable[[Gateway], None], engine_harness: Callable[..., EngineHarness]
) -> None:
    before(Gateway(unknown="bob"))
    with pytest.raises(NoSuchCustomer):
        celery_move.nightly(CUSTOMERS["customers"])
    night = engine_harness(Nightly(), Invoice(Gateway(unknown="bob"))).enqueue("nightly", CUSTOMERS)
    assert (night.result, night.snapshot.data) == ("2 invoices, 600 cents", {"failed": ["bob"]})


def test_a_task_that_is_delivered_again_charges_again(before: Callable[[Gateway], None]) -> None:
    """What `acks_late` does when a worker died after the charge and before the acknowledgement."""
    before(gateway := Gateway())
    celery_move.invoice.apply(("ada",), task_id="one")
    celery_move.invoice.apply(("ada",), task_id="one")
    assert gateway.charged == {"ada": 2}


@pytest.mark.soak
def test_wherever_a_worker_dies_everybody_is_charged_once() -> None:
    assert_crash_safe(
        lambda gateway: Nightly(),
        {"customers": ["ada", "bob"]},
        others=[Invoice],
        outside=lambda: Gateway(flaky="bob"),
        observe=lambda gateway: dict(gateway.charged),
    )
