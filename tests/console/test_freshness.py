"""How far behind their journals the rows of a list are: measured, and at a bounded cost."""

from __future__ import annotations

import asyncio
import html
import re
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from roost.console.api.operations import PREFIX
from roost.console.freshness import ROWS_MAX, movers
from roost.engine import EngineRegistry
from roost.models import Snapshot, State, WorkItem
from roost.storage.ports import IndexPage
from tests.console.conftest import Desk, Make

JSON = {"Accept": "application/json"}


def listed(desk: Desk, **query: str) -> Any:
    """What the API gives of a list, asked anew."""
    desk.app_desk.shared.forget()
    answer = desk.web.get(f"{PREFIX}/work", params=query, headers=JSON)
    assert answer.status_code == 200
    return answer.json()


class Held:
    """An engine whose third step waits until it is let go on."""

    engine_id = "held"

    def __init__(self) -> None:
        self.is_there = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.version == 2:
            self.is_there.set()
            await self.goes_on.wait()
            return snapshot.finish()
        return snapshot.next()


def test_steps_of_a_burst_are_what_a_row_is_behind(desk: Desk) -> None:
    """Where the index is written apart, a row waits for the heartbeat: the list says for how long."""
    engine = Held()
    work_id = desk.enqueue(engine="held")
    worker = replace(desk.runtime, engines=EngineRegistry([engine])).worker("w-1")

    async def run() -> asyncio.Task[None]:
        task = asyncio.create_task(worker.run())
        await engine.is_there.wait()
        return task

    task = desk.run(run())
    found = listed(desk)
    [row] = found["rows"]
    [entry] = desk.run(desk.runtime.backend.journal.read(work_id, after=row["position"], limit=1))
    assert found["looked_up"] == 1
    assert found["index_lag_ms"] == pytest.approx((found["as_of"] - entry.at) * 1000, abs=1)
    desk.app_desk.shared.forget()
    page = html.unescape(desk.web.get("/work").text)
    assert re.search(r"index \d+(\.\d+)? m?s behind", page)
    assert "1 rows, held against their journals, do not show" in page

    async def end() -> None:
        engine.goes_on.set()
        while not (await desk.runtime.client.status(work_id)).control.state.is_terminal:
            await asyncio.sleep(0)
        worker.drain()
        await task

    desk.run(end())
    found = listed(desk)
    assert (found["index_lag_ms"], found["looked_up"]) == (0, 1)


def test_rows_written_with_the_journal_are_never_behind(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = make(storage="local")
    desk.enqueue()
    found = listed(desk)
    assert (found["index_lag_ms"], found["looked_up"]) == (0, 0)
    page = desk.web.get("/work").text
    assert "index 0 ms behind" in page
    assert "Each entry is written together with its row." in page


def test_work_that_the_list_lacks_is_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed knows of it, its row is there, and the list, as an index of DynamoDB may, has it not yet."""
    old, new = desk.enqueue(delay_seconds=9), desk.enqueue(delay_seconds=9)
    index = desk.runtime.backend.index
    whole = index.list

    async def lagging(query: Any, **more: Any) -> IndexPage:
        page = await whole(query, **more)
        return IndexPage([row for row in page.rows if row.work_id != new], page.cursor)

    monkeypatch.setattr(index, "list", lagging)
    found = listed(desk)
    assert [row["work_id"] for row in found["rows"]] == [old]
    created_at = desk.run(desk.runtime.client.status(new)).item.created_at
    assert found["index_lag_ms"] == pytest.approx((found["as_of"] - created_at) * 1000, abs=1)
    assert listed(desk, where="state:scheduled")["index_lag_ms"] == 0  # it may not match: nothing is said

    async def dropped(work_id: str) -> None:
        return None

    monkeypatch.setattr(index, "get", dropped)
    assert listed(desk)["index_lag_ms"] == 0  # it is gone, not late


def test_many_who_look_cost_a_few_reads(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(20):
        desk.enqueue(delay_seconds=9)
    journal = desk.runtime.backend.journal
    read, calls = journal.read, []

    async def counted(work_id: str, **more: Any) -> Any:
        calls.append(work_id)
        return await read(work_id, **more)

    monkeypatch.setattr(journal, "read", counted)
    for _ in range(12):
        assert desk.web.get(f"{PREFIX}/work", headers=JSON).json()["looked_up"] == ROWS_MAX
        desk.web.get("/work")
    assert (
        len(calls) <= 2 * 2 * ROWS_MAX
    )  # page and API ask for lists of their own length, on a slow machine twice


def test_the_time_of_a_look_changes_no_etag(desk: Desk) -> None:
    desk.enqueue(delay_seconds=9)
    path = f"{PREFIX}/work"
    tag = desk.web.get(path, headers=JSON).headers["etag"]
    desk.app_desk.shared.forget()
    assert desk.web.get(path, headers={**JSON, "If-None-Match": tag}).status_code == 304


def test_events_say_up_to_when_they_were_read(desk: Desk) -> None:
    assert desk.web.get(f"{PREFIX}/events", headers=JSON).json()["read_up_to"] is None
    work_id = desk.enqueue(delay_seconds=9)
    desk.app_desk.shared.forget()
    tail = desk.run(desk.runtime.backend.journal.tail(work_id))
    assert tail is not None
    assert desk.web.get(f"{PREFIX}/events", headers=JSON).json()["read_up_to"] == tail.at
    assert "read up to <time" in desk.web.get("/events").text


def test_what_runs_is_looked_up_first(desk: Desk) -> None:
    ids = [desk.enqueue(delay_seconds=9) for _ in range(6)]
    rows = [desk.run(desk.runtime.backend.index.get(work_id)) for work_id in ids]
    states = [State.DONE, State.RUNNING, State.RUNNING, State.RUNNING, State.QUEUED, State.DONE]
    made = [
        structs.replace(row, state=state, updated_at=float(n))
        for n, (row, state) in enumerate(zip(rows, states, strict=True))
        if row is not None
    ]
    assert [row.updated_at for row in movers(made)] == [1.0, 2.0, 5.0]
    assert movers([]) == []


def test_counts_say_when_they_were_counted(desk: Desk) -> None:
    """Not when they were shown: many who ask share one count."""
    desk.enqueue(delay_seconds=9)
    first = desk.web.get(f"{PREFIX}/counts", headers=JSON).json()["as_of"]
    kept = desk.app_desk.shared._kept["counts"].value
    assert kept.as_of == first
    desk.app_desk.shared._kept["counts"] = type(desk.app_desk.shared._kept["counts"])(kept, float("inf"))
    assert desk.web.get(f"{PREFIX}/counts", headers=JSON).json()["as_of"] == first
    overview = desk.web.get(f"{PREFIX}/overview", headers=JSON).json()
    assert overview["as_of"] == first
    assert overview["read_up_to"] is not None
    assert "Counted as of <time" in desk.web.get("/").text
    assert "as of <time" in desk.web.get("/failed").text
