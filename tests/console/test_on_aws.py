"""The same console on DynamoDB, SQS and S3 (a stand-in), and what it reads there."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx2
import pytest

from roost.config import ConsoleSettings, Settings
from roost.console.app import create_app
from roost.console.freshness import ROWS_MAX
from roost.core.new_work import NewWork
from roost.core.parts import Parts
from roost.engine import EngineRegistry
from roost.names import Order
from roost.storage.instrument import InstrumentedBackend, When
from roost.testing.standins import StandIn
from roost.wiring import Runtime, open_runtime
from tests.console.conftest import Scripted, _work
from tests.standins.harness import make_stack, point_sdk_at

pytestmark = pytest.mark.slow

PATHS = ("/", "/work", "/failed", "/events", "/resources", "/schedules", "/workers", "/engines", "/settings")
PATHS += ("/operations", "/artifacts", "/conversations", "/workspaces", "/events?by=people")
LAG_MAX_MS = 60_000  # work that ended has its row written; a stand-in's index follows at once
TABS = 12  # open at a time
READS_MAX = 45  # of the index, claims and queue for all of these; a slow machine asks for some twice


async def test_every_page_on_aws_at_a_bounded_cost(
    ministack: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_sdk_at(ministack, monkeypatch)
    stack = await make_stack("console-pages")
    settings = Settings(storage="aws", aws=stack, console=ConsoleSettings())
    calls: Counter[str] = Counter()

    async def count(when: When, call: str, detail: str) -> None:
        calls[call] += when == "before"

    async with open_runtime(settings) as opened:
        backend = InstrumentedBackend(opened.backend, count)
        parts = Parts(backend, opened.parts.clock, opened.parts.ids, opened.parts.settings)
        engines = EngineRegistry([Scripted()])
        runtime = Runtime(backend, parts, engines)
        artifacts = [["notes.md", "# Notes", "text/markdown"]]
        works = [NewWork("scripted", {"steps": [{"data": {"n": n}}, {"fail": "x"}]}) for n in range(3)]
        works += [NewWork("scripted", {"steps": [{"artifacts": artifacts}, {}]})]
        works += [NewWork("scripted", {"steps": []}, delay_seconds=900) for _ in range(30)]
        ids = await runtime.client.enqueue_many(works)
        await _work(runtime)
        transport = httpx2.ASGITransport(create_app(runtime, settings), client=("127.0.0.1", 1))
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers={"Accept": "text/html"}
        ) as web:
            details = [f"/work/{work_id}" for work_id in (ids[0], ids[3], ids[-1])]
            details += [f"{details[0]}?tab=changes&v=1", f"{details[1]}/artifacts/0"]
            listed = (await web.get("/api/v1/work", headers={"Accept": "application/json"})).json()
            assert listed["looked_up"] == ROWS_MAX
            assert 0 <= listed["index_lag_ms"] < LAG_MAX_MS
            for path in (*PATHS, *details):
                answer = await web.get(path)
                assert answer.status_code == 200, (path, answer.text[:500])
            assert "3 in 1 groups" in (await web.get("/failed")).text
            for order in Order:
                assert await _listed(web, order) == set(ids), order
            await _act(web, ids[-1])
            calls.clear()
            pages = [web.get(path) for path in PATHS for _ in range(TABS)]
            assert {answer.status_code for answer in await asyncio.gather(*pages)} == {200}
        reads = sum(calls[name] for name in ("list", "counts", "show", "backlog", "index_get", "tail", "get"))
        assert reads <= READS_MAX, calls
        assert calls["feed"] <= 10, calls


async def _listed(web: httpx2.AsyncClient, order: Order) -> set[str]:
    """All work in an order, by pages of 8; of what is due, with what is not beside it."""
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"sort": order.value, "limit": 8, **({"cursor": cursor} if cursor else {})}
        page = (await web.get("/api/v1/work", params=query)).json()
        seen += [row["work_id"] for row in page["rows"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    if order is Order.DUE:
        ended = (await web.get("/api/v1/work", params={"where": "-state:scheduled"})).json()["rows"]
        seen += [row["work_id"] for row in ended]
    return set(seen)


async def _act(web: httpx2.AsyncClient, work_id: str) -> None:
    """An action from a page, seen by the next page."""
    answer = await web.post(f"/work/{work_id}/cancel", data={"reason": "wrong"})
    assert answer.status_code == 303
    assert "to be cancelled (wrong)" in (await web.get(f"/work/{work_id}")).text
