"""A signal whose shape is known has a form of its own, for whoever has no code of the engine."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, Field

from roost.console.api.operations import PREFIX
from roost.core.client import Client
from roost.engine import EngineRegistry
from roost.models import Snapshot, WaitFor, WorkItem
from tests.console.conftest import Desk, Make, _work

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}


class Payment(BaseModel):
    amount: int = Field(title="Amount in cents", ge=1)
    way: str = Field(json_schema_extra={"enum": ["card", "cash"]})
    note: str | None = None


class Shop:
    engine_id = "shop"
    signal_models: ClassVar[Mapping[str, Any]] = {"paid": Payment}

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.version:
            return snapshot.finish()
        return snapshot.next("ship", wait_for=WaitFor(signals=("called off", "paid")))


@pytest.fixture
def waiting(make: Make) -> tuple[Desk, str]:
    """A console without the engine, and work of it that waits."""
    desk = make()
    runtime = desk.runtime
    with_shop = replace(runtime, engines=EngineRegistry([Shop()]))
    work_id = desk.run(Client(runtime.parts).enqueue("shop"))
    desk.run(_work(with_shop))
    return desk, work_id


def test_the_page_has_a_form_for_it(waiting: tuple[Desk, str]) -> None:
    desk, work_id = waiting
    page = desk.web.get(f"/work/{work_id}").text
    assert "It waits for a signal" in page
    assert f'href="/work/{work_id}/signal?typed=paid"' in page
    form = desk.web.get(f"/work/{work_id}/signal?typed=paid").text
    for text in ("Amount in cents", "<option>card</option>", 'name="data.note"', 'name="typed" value="paid"'):
        assert text in form
    assert 'name="name"' not in form
    plain = desk.web.get(f"/work/{work_id}/signal").text
    assert 'name="name" value="called off"' in plain
    assert 'name="data"' in plain
    sent = desk.web.post(
        f"/work/{work_id}/signal", content="typed=paid&data.amount=12&data.way=cash", headers=FORM
    )
    assert sent.headers["location"] == f"/work/{work_id}?did=signal"
    [one] = desk.run(desk.runtime.client.signals(work_id))
    assert (one.signal.name, one.signal.data) == ("paid", {"amount": 12, "way": "cash"})


def test_what_does_not_fit_is_refused_and_stays_in_the_form(waiting: tuple[Desk, str]) -> None:
    desk, work_id = waiting
    bad = "typed=paid&data.amount=0&data.way=cash&data.note=soon"
    answer = desk.web.post(f"/work/{work_id}/signal", content=bad, headers=FORM)
    page = html.unescape(answer.text)
    assert "$.amount: 0 is less than the minimum of 1" in page
    assert ">soon<" in page or 'value="soon"' in page
    assert 'name="typed" value="paid"' in page
    by_hand = desk.web.post(f"/work/{work_id}/signal", content="name=paid&data=%7B%7D", headers=FORM)
    assert "'amount' is a required property" in html.unescape(by_hand.text)
    assert desk.run(desk.runtime.client.signals(work_id)) == []


def test_the_api_shows_the_shape_and_checks_it(waiting: tuple[Desk, str]) -> None:
    desk, work_id = waiting
    path = f"{PREFIX}/work/{work_id}"
    assert desk.web.get(f"{path}/signals").json()["shapes"] == {"paid": Payment.model_json_schema()}
    answer = desk.web.post(f"{path}/signal", json={"name": "paid", "data": {"amount": "x", "way": "cash"}})
    assert answer.status_code == 400
    assert "$.amount: 'x' is not of type 'integer'" in answer.json()["title"]
    assert answer.json()["hint"].startswith("Its fields: amount, way, note")
    right = {"name": "paid", "data": {"amount": 1, "way": "card"}}
    assert desk.web.post(f"{path}/signal", json=right).status_code == 200
    assert desk.web.get(f"{path}/signals").json()["shapes"] == {}


def test_a_wait_that_is_over_takes_no_form(waiting: tuple[Desk, str]) -> None:
    desk, work_id = waiting
    desk.run(desk.runtime.client.signal(work_id, "called off"))
    late = "typed=paid&data.amount=1&data.way=cash"
    page = desk.web.post(f"/work/{work_id}/signal", content=late, headers=FORM).text
    assert "it no longer waits for" in html.unescape(page)
    assert len(desk.run(desk.runtime.client.signals(work_id))) == 1
    assert "It waits for a signal" not in desk.web.get(f"/work/{work_id}").text


@pytest.mark.parametrize("typed", ["", "none", "%00", "called off"])
def test_a_name_without_a_shape_has_the_plain_form(waiting: tuple[Desk, str], typed: str) -> None:
    desk, work_id = waiting
    page = desk.web.get(f"/work/{work_id}/signal?typed={typed}")
    assert page.status_code == 200
    assert 'name="data"' in page.text
