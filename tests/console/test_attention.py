"""What the first page says needs attention, and the API's overview with it."""

from __future__ import annotations

import html
import re

import pytest

from roost import Snapshot, WorkItem, current_step
from roost.core import outside
from roost.engine import EngineRegistry
from roost.journal.events import Noted
from tests.console.conftest import Desk


class Spender:
    """Spends a dollar a step, and waits for a signal after each."""

    engine_id = "spender"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        current_step().spend(usd=1.0)
        return snapshot.next(wait_for="go")


def with_spender(desk: Desk) -> Desk:
    assert isinstance(desk.runtime.engines, EngineRegistry)
    desk.runtime.engines.add(Spender())
    return desk


def cards(desk: Desk) -> list[tuple[str, str, str]]:
    """(address, what, more) of each, as the page shows them; the API says the same."""
    desk.app_desk.shared.forget()
    page = desk.web.get("/").text
    found = re.findall(r'<a class="card[^"]*" href="([^"]*)">.*?<b><time>(.*?)</time>.*?<time>(.*?)<', page)
    shown = [(html.unescape(href), html.unescape(text), html.unescape(more)) for href, text, more in found]
    said = desk.web.get("/api/v1/overview", headers={"Accept": "application/json"}).json()["attention"]
    assert [(one["href"], one["more"]) for one in said] == [(href, more) for href, _, more in shown]
    return shown


def test_a_budget_that_is_nearly_used_up_and_one_that_is(desk: Desk) -> None:
    with_spender(desk)
    work_id = desk.enqueue(engine="spender", budget={"usd": 2.2})
    desk.work()
    assert cards(desk) == []
    desk.run(desk.runtime.client.signal(work_id, "go"))
    desk.work()
    [(href, text, more)] = cards(desk)
    assert (href, text) == (f"/work/{work_id}", "1 work item with a budget nearly used up")
    assert more == f"{work_id}: budget nearly used up: usd 2 of 2.2."
    shown = desk.web.get(f"/work/{work_id}").text
    assert "budget nearly used up: usd 2 of 2.2" in shown
    desk.run(desk.runtime.client.signal(work_id, "go"))
    desk.work()
    [(href, text, more)] = cards(desk)
    assert (href, text) == (f"/work/{work_id}", "1 work item parked until somebody raises the budget")
    assert more == f"{work_id}: budget used up: usd 3 of 2.2."
    desk.run(desk.runtime.client.set_budget(work_id, {"usd": 100}, "all it needs"))
    desk.work()
    assert cards(desk) == []


def test_many_parked_work_items_are_one_card_that_lists_them(desk: Desk) -> None:
    with_spender(desk)
    ids = [desk.enqueue(engine="spender", budget={"usd": 0.5}) for _ in range(3)]
    held = desk.enqueue()
    desk.run(desk.runtime.client.pause(held, "not now"))
    desk.work()
    [(href, text, _)] = cards(desk)
    assert text == "3 work items parked until somebody raises the budget"
    page = desk.web.get(href).text
    assert set(re.findall(r'name="id" value="([^"]+)"', page)) == set(ids)


def test_work_whose_engine_no_worker_has(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready work, and work that slept and is due; said to be so by all that show it."""
    monkeypatch.setattr("roost.console.attention.QUEUED_SECONDS", 0.0)
    ids = [desk.enqueue(engine="nobody"), desk.enqueue(engine="nobody", delay_seconds=0.01)]
    desk.work()
    [(href, text, more)] = cards(desk)
    assert text.startswith("2 of nobody wait, the oldest for ")
    assert more == "None that looked has what it needs: it waits for a worker with engine nobody."
    assert set(re.findall(r'name="id" value="([^"]+)"', desk.web.get(href).text)) == set(ids)
    for work_id in ids:
        told = desk.run(desk.runtime.client.explain(work_id)).text
        assert "and waits for a worker with engine nobody: none that looked at it has that." in told
        assert "waits for a worker with engine nobody" in desk.web.get(f"/work/{work_id}").text


def test_a_trigger_that_came_to_nothing(desk: Desk) -> None:
    """It failed nothing, so no other card would tell."""
    first, second = desk.enqueue(), desk.enqueue()
    desk.work()
    note = Noted("trigger publish makes nothing of it: the payload is no object")
    desk.run(outside.append_to(desk.runtime.parts, first, lambda tail: note, actor="w-1"))
    assert cards(desk) == [(f"/work/{first}", f"A trigger came to nothing after {first}", note.text)]
    assert note.text.removesuffix(".") in html.unescape(desk.web.get(f"/work/{first}").text)
    desk.run(outside.append_to(desk.runtime.parts, second, lambda tail: note, actor="w-1"))
    [(href, text, _)] = cards(desk)
    assert text == "Triggers came to nothing after 2 work items"
    listed = desk.web.get(href).text
    assert first in listed
    assert second in listed
    desk.run(desk.runtime.client.retry(first, "again"))
    desk.work()
    [(href, _, _)] = cards(desk)
    assert href == f"/work/{second}"
