"""What the shapes of signals cost, and how an engine declares them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from roost.core import directives
from roost.engine import EngineSpec
from roost.errors import EngineContractError
from roost.models import Snapshot, WaitFor, WorkItem
from roost.storage.codec import encode_entry
from roost.testing.contract.process import Process, Scripted
from roost.testing.contract.signals import Payment, Shop
from tests.contract.test_memory import MemoryHarness


class Engine:
    engine_id = "shop"

    def __init__(self, models: Any) -> None:
        self.signal_models = models

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.finish()


@pytest.mark.parametrize("models", [["paid"], {"paid": int}, {"paid": "text"}, {1: Payment}])
def test_models_that_are_none_are_refused_at_once(models: Any) -> None:
    with pytest.raises(EngineContractError, match="signal_models"):
        EngineSpec.of(Engine(models))


def test_a_wait_has_the_shapes_of_what_it_waits_for_and_no_more() -> None:
    class Other(BaseModel):
        x: int

    spec = EngineSpec.of(Engine({"paid": Payment, "rated": {"type": "integer"}, "other": Other}))
    own = {"type": "string"}
    snapshot = Snapshot(work_id="w", engine="shop")
    after = snapshot.next(wait_for=WaitFor(signals=("paid", "rated", "lost"), replies={"rated": own}))
    directives.declare(after, spec.signal_shapes)
    assert after.wait_for is not None
    assert after.wait_for.replies == {"paid": Payment.model_json_schema(), "rated": own}
    plain = snapshot.next(wait_for="lost")
    directives.declare(plain, spec.signal_shapes)
    assert plain.wait_for == WaitFor(signals=("lost",))


async def test_only_a_wait_with_a_shape_costs_a_read_or_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal to work that waits without one is stored with the calls of before, and so is a step."""
    reads: list[int] = []
    entries = []
    for engine in (Shop, Scripted):
        harness = MemoryHarness()
        backend = await harness.open()
        process = Process(harness, backend, engine(_waits))
        work_id = await process.client.enqueue("demo")
        await process.work()
        get = backend.journal.get
        calls: list[int] = []

        async def counted(work_id: str, position: int, get: Any = get, calls: list[int] = calls) -> Any:
            calls.append(position)
            return await get(work_id, position)

        monkeypatch.setattr(backend.journal, "get", counted)
        await process.client.signal(work_id, "paid", {"amount": 1})
        reads.append(len(calls))
        entries.append(await process.tail(work_id))
        await harness.close()
    assert reads == [1, 0]
    assert b"typed" not in encode_entry(entries[1]).control


def _waits(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    return snapshot.next("ship", wait_for="paid")
