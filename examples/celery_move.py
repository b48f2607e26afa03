"""A night's billing, first as Celery tasks and then as Roost engines, so that the two can be compared.

`charge`, what the tasks really do, stays as it is. What changes, and why, is in
[moving from Celery](guides/celery.md).

    pip install 'roost-runtime[examples]'
    celery -A celery_move worker                                 # before
    roost worker --engines celery_move:Nightly,celery_move:Invoice      # after
    roost enqueue --any-engine --engine nightly --idempotency-key 2026-11-25 \\
      --payload '{"customers": ["ada", "bob"]}'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from celery import Celery, chord
from celery.result import AsyncResult
from pydantic import BaseModel, Field

from roost import Child, FailWork, Join, RetryPolicy, Snapshot, WaitFor, WorkItem, current_step


class NoSuchCustomer(Exception):
    """Nothing that trying again would change."""


Charge = Callable[[str, str | None], int]
"""Customer and idempotency key to the cents that were charged; `ConnectionError` passes."""


def charge(customer: str, key: str | None = None) -> int:
    """Stands for a payment service, which charges once a key."""
    return 100 * len(customer)


# --- before: Celery ------------------------------------------------------------------------------

app = Celery("billing", broker="memory://", backend="cache+memory://")


@app.task(acks_late=True, autoretry_for=(ConnectionError,), max_retries=4, retry_backoff=2)
def invoice(customer: str) -> int:
    return charge(customer)  # there is no key that stays the same over retries and redeliveries


@app.task
def report(cents: list[int]) -> str:
    return f"{len(cents)} invoices, {sum(cents)} cents"


def nightly(customers: Sequence[str]) -> AsyncResult[str]:
    """A chord: the report comes after all invoices, and not at all if one of them fails."""
    return chord(invoice.s(customer) for customer in customers)(report.s())


# --- after: Roost --------------------------------------------------------------------------------


class Invoice:
    """Was the task `invoice`. A plain function, as there; it runs in a thread."""

    engine_id = "invoice"
    retry = RetryPolicy(max_attempts=5, first_delay_seconds=2.0)
    step_timeout_seconds = 60.0

    def __init__(self, charge: Charge = charge) -> None:
        self._charge = charge

    def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="charge")

    def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context, customer = current_step(), item.payload["customer"]
        key = context.idempotency_key  # the same whoever tries, and however often
        try:
            cents = context.wait(context.once("charge", lambda: self._charge(customer, key)))
        except NoSuchCustomer as error:
            raise FailWork(str(error)) from error
        return snapshot.finish(result=cents)  # any other error: again, as `retry` says


class Night(BaseModel):
    """What `nightly` was called with."""

    customers: list[str] = Field(min_length=1, max_length=1000)


class Nightly:
    """Was the chord: a child for each invoice, a join, and a report that knows what failed."""

    engine_id = "nightly"
    payload_model = Night

    def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="charge")

    def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.step == "charge":
            invoices = [
                Child(engine="invoice", key=customer, payload={"customer": customer})
                for customer in item.payload["customers"]
            ]
            return snapshot.next("report", spawn=invoices, wait_for=WaitFor(children=Join()))
        came = current_step().children
        cents = [child.result for child in came if child.is_done]
        failed = [child.key for child in came if not child.is_done]
        return snapshot.finish(
            data={"failed": failed},
            result=f"{len(cents)} invoices, {sum(cents)} cents",
            status="partial" if failed else "done",
        )
