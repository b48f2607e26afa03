"""Human approval of a risky action: it waits for days, costs nothing meanwhile, and acts once.

A refund of a small amount is paid at once. A larger one waits for a person, who approves it
(perhaps a smaller amount) or rejects it; the journal keeps who it was. If nobody answers
within three days, nothing is paid.

    roost worker --engines approval:Refunds
    roost enqueue --any-engine --engine refunds --payload '{"order": "17", "cents": 90000}'

The decision is a signal, sent by a form of the console or through its API; one that is no `Decision`
is refused:

    curl -H 'Content-Type: application/json' http://127.0.0.1:8319/api/v1/work/WORK_ID/signal \
      -d '{"name": "decide", "data": {"approved": true, "cents": 45000}}'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from pydantic import BaseModel, Field, ValidationError

from roost import Snapshot, WaitFor, WorkItem, current_step

ASK_ABOVE_CENTS = 5_000
PATIENCE_SECONDS = 3 * 86_400.0
DECIDE = "decide"


class Refund(BaseModel):
    """What the work is enqueued with."""

    order: str
    cents: int = Field(gt=0)


class Decision(BaseModel):
    """What a person sends; `cents` replaces the amount that was asked for."""

    approved: bool
    cents: int | None = Field(default=None, gt=0)
    why: str = ""


Pay = Callable[[str, int, str], str]
"""Order, cents and idempotency key to a receipt: the same key pays once."""


def pay(order: str, cents: int, key: str) -> str:
    """Stands for a payment service."""
    return f"receipt-{order}-{cents}"


class Refunds:
    """Pays a refund, after a person has agreed to it where it is large."""

    engine_id = "refunds"
    payload_model = Refund
    signal_models: ClassVar[Mapping[str, type[BaseModel]]] = {DECIDE: Decision}

    def __init__(self, pay: Pay = pay) -> None:
        self._pay = pay

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        refund = Refund.model_validate(item.payload)
        step = "ask" if refund.cents > ASK_ABOVE_CENTS else "pay"
        return Snapshot.of(item, step=step, data={"cents": refund.cents})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        match snapshot.step:
            case "ask":
                return self._ask(snapshot, f"asked for {snapshot.data['cents']} cents")
            case "decide":
                return self._decide(snapshot)
            case _:
                return await self._act(snapshot, item)

    def _ask(self, snapshot: Snapshot, note: str) -> Snapshot:
        """Wait for a decision. No worker is held meanwhile, and any worker may go on."""
        wait = WaitFor(signals=(DECIDE,), timeout_seconds=PATIENCE_SECONDS)
        return snapshot.next("decide", wait_for=wait, note=note)

    def _decide(self, snapshot: Snapshot) -> Snapshot:
        context = current_step()
        if context.timed_out:
            return snapshot.finish(status="expired", note="nobody decided")
        signal = context.signals[-1]  # who corrects themselves is heard
        try:
            decision = Decision.model_validate(signal.data)
        except ValidationError as error:  # it came before the wait, from where nobody knew its shape
            return self._ask(snapshot, f"not understood: {error.errors()[0]['msg']}")
        if not decision.approved:
            return snapshot.finish(status="rejected", note=f"{signal.actor}: {decision.why}")
        # The decision is committed before anything is done: a crash can't ask a second time.
        data = {"cents": decision.cents or snapshot.data["cents"], "approved_by": signal.actor}
        return snapshot.next("pay", data=data, note=f"{signal.actor} approved {data['cents']} cents")

    async def _act(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        """The risky part, in a step of its own; the key is the same however often it runs."""
        context, order, cents = current_step(), item.payload["order"], snapshot.data["cents"]
        key = context.idempotency_key
        receipt = await context.once("pay", lambda: self._pay(order, cents, key))
        return snapshot.finish(data={"receipt": receipt}, result=receipt, note="paid")
