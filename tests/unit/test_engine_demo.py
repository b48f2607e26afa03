"""The engine `demo` counts, one step at a time."""

from __future__ import annotations

from typing import Any

import pytest

from roost.engine import EngineSpec
from roost.engines.demo import build_demo
from roost.errors import PayloadError
from roost.models import Snapshot, WorkItem


def _item(**payload: Any) -> WorkItem:
    return WorkItem(work_id="w1", engine="demo", payload=payload)


async def _run(item: WorkItem) -> list[Snapshot]:
    engine = build_demo()
    snapshots = [await engine.init_snapshot(item)]
    while not snapshots[-1].is_finished:
        snapshots.append(await engine.step(snapshots[-1], item))
    return snapshots


async def test_counts_one_up_per_step_and_finishes_at_the_total() -> None:
    snapshots = await _run(_item())
    assert [snapshot.data for snapshot in snapshots] == [{"count": n, "of": 3} for n in range(4)]
    assert snapshots[-1].status == "done"


async def test_the_delay_is_only_between_steps() -> None:
    snapshots = await _run(_item(count=3, delay_seconds=7))
    assert [snapshot.next_step_delay_seconds for snapshot in snapshots] == [0, 7, 7, 0]


async def test_a_count_of_one_is_one_step() -> None:
    assert len(await _run(_item(count=1))) == 2


async def test_a_step_leaves_its_snapshot_as_it_was() -> None:
    """A retry starts from the same snapshot."""
    engine, item = build_demo(), _item()
    first = await engine.init_snapshot(item)
    assert await engine.step(first, item) == await engine.step(first, item)


@pytest.mark.parametrize(
    "payload",
    [
        {"count": 0},
        {"count": 100_001},
        {"count": "3"},
        {"count": True},
        {"count": 1.5},
        {"delay_seconds": -1},
        {"delay_seconds": 86_401},
        {"delay_seconds": float("nan")},
        {"cuont": 3},
    ],
)
def test_a_payload_out_of_bounds_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(PayloadError):
        EngineSpec.of(build_demo()).check_payload(payload)


def test_a_payload_within_bounds_is_taken() -> None:
    EngineSpec.of(build_demo()).check_payload({"count": 100_000, "delay_seconds": 86_400})
