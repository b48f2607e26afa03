"""What a page weighs, with all that it loads but pictures, on a store that is full."""

from __future__ import annotations

import gzip
import re

import pytest
from msgspec.structs import replace

from roost.console.pages.detail import TABS
from roost.journal.claims import Ask, Owner, Want
from roost.journal.entries import IndexRow
from roost.journal.projection import project
from roost.models import Scope, State
from tests.console.conftest import Desk

PAGE_MAX_BYTES = 100_000  # of a page without its pictures
PACKED_MAX_BYTES = 40_000
ITEMS, CLAIMS = 1000, 600
PATHS = (
    "/",
    "/work",
    *(f"/work?q=state:{state}" for state in State),
    "/failed",
    "/events",
    "/workers",
    "/resources",
    "/engines",
    "/operations",
    "/artifacts",
    "/conversations",
    "/schedules",
    "/settings",
    "/work/new",
)
_FILE = re.compile(r'(?:src|href)="(/static/[^"]+\.(?:css|js))"')


@pytest.fixture
def worked(desk: Desk) -> str:
    """The page of an item with errors, logs, artifacts, a large state, and more entries than a page shows."""
    step = {
        "data": {"orders": [{"number": n, "customer": f"customer {n}", "open": True} for n in range(300)]},
        "say": "the warehouse is slow " * 15,
        "artifacts": [[f"report-of-the-warehouse-{n}.txt", f"text {n}", "text/plain"] for n in range(40)],
    }
    steps = [{**step, "artifacts": step["artifacts"] if n == 9 else []} for n in range(60)]
    work_id = desk.enqueue(*steps, {"fail": "the warehouse did not answer " * 20}, work_id="w" * 120)
    desk.work()
    assert desk.run(desk.runtime.client.control(work_id)).state is State.FAILED
    return work_id


@pytest.fixture
def full(desk: Desk, worked: str) -> Desk:
    """A thousand work items with long ids, labels and errors, in every state, of 45 workers."""
    assert worked  # before them: its worker would take these, too
    claims = desk.runtime.backend.claims
    for number in range(CLAIMS):
        want = Want(f"warehouse:north:hall-{number % 60:04}", 2)
        ask = Ask(Owner(f"{'w' * 100}-{number}", 1, Scope.WORK), (want,))
        desk.run(claims.acquire(ask, now=0.0, overtake_before=0.0))
    for number in range(ITEMS):
        work_id = desk.enqueue(
            {},
            work_id=f"order-2026-11-26-warehouse-north-{number:06}-customer-{number * 7919:08}",
            labels={"tenant": f"a-long-tenant-name-{number % 40}", "region": "eu-central-1", "batch": "7"},
            priority=number % 3 - 1,
        )
        entry = desk.run(desk.runtime.backend.journal.tail(work_id))
        assert entry is not None
        desk.run(desk.runtime.backend.index.put(busy(project(entry), number)))
    return desk


def busy(row: IndexRow, number: int) -> IndexRow:
    """The row of work in the middle of its life."""
    state = list(State)[number % len(State)]
    is_running = state is State.RUNNING
    return replace(
        row,
        position=1,
        state=state,
        step=f"wait-for-the-answer-of-the-warehouse-{number // 9 % 50}",
        version=number,
        failures=number % 4,
        reason=f"TimeoutError: the warehouse at https://north.example/{number} did not answer within 30 s",
        wake_at=row.created_at + 500 if state is State.SCHEDULED else None,
        worker_id=f"ip-10-0-0-{number // 9 % 45}.compute.internal-4711" if is_running else None,
        lease_until=row.created_at + 20 if is_running else None,
        progress=(0.5, "half of it") if is_running else None,
    )


def weigh(desk: Desk, path: str) -> tuple[int, int]:
    """Bytes of a page with its styles and scripts: as a browser unpacks them, and packed."""
    answer = desk.web.get(path)
    assert answer.status_code == 200, path
    files = set(_FILE.findall(answer.text))
    assert len(files) >= 2, path
    parts = [answer.content, *(desk.web.get(name).content for name in files)]
    return sum(map(len, parts)), sum(len(gzip.compress(part, 4)) for part in parts)


def test_no_page_weighs_more_than_its_limits(full: Desk, worked: str) -> None:
    paths = [*PATHS, *(f"/work/{worked}?tab={tab}" for tab in TABS), f"/work/{worked}?unfold=1"]
    weights = {path: weigh(full, path) for path in paths}
    assert {path: plain for path, (plain, _) in weights.items() if plain >= PAGE_MAX_BYTES} == {}
    assert {path: packed for path, (_, packed) in weights.items() if packed >= PACKED_MAX_BYTES} == {}
