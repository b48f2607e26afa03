"""A console whose rights reach the work of its team alone: what it can't read, it does without."""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus

import pytest

from roost.errors import StorageDenied
from roost.names import Order
from tests.console.conftest import Desk

SAYS = "not the feed of all"


@pytest.fixture
def blind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    def deny(*_: object, **__: object) -> Awaitable[None]:
        raise StorageDenied("no right")

    monkeypatch.setattr(desk.runtime.backend.journal, "feed", deny)
    monkeypatch.setattr(desk.runtime.backend.claims, "show", deny)
    return desk


def test_pages_are_shown_without_the_feed_and_say_so(blind: Desk) -> None:
    work_id = blind.enqueue({}, resources=("printer",))
    for path in ("/", "/work", "/events", "/workers", "/engines", "/artifacts"):
        page = blind.web.get(path)
        assert (page.status_code, SAYS in page.text) == (HTTPStatus.OK, True), path
    assert "reach no list of resources" in blind.web.get("/resources").text
    assert blind.web.get("/api/v1/resources").status_code == HTTPStatus.FORBIDDEN
    assert blind.web.get("/stream").status_code == HTTPStatus.FORBIDDEN
    assert blind.web.get(f"/api/v1/work/{work_id}").status_code == HTTPStatus.OK
    assert blind.web.get("/api/v1/overview").status_code == HTTPStatus.OK


def test_what_is_due_is_sorted_of_the_newest_where_the_due_index_is_denied(
    blind: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That index is of all namespaces. The choice says what it is made of."""

    def deny(*_: object, **__: object) -> Awaitable[None]:
        raise StorageDenied("no right to read what is due")

    index = blind.runtime.backend.index
    monkeypatch.setattr(index, "orders", frozenset({Order.NEWEST, Order.OLDEST}))
    monkeypatch.setattr(index, "due", deny)
    late, soon = (blind.enqueue({}, delay_seconds=seconds) for seconds in (2000, 1000))
    page = blind.web.get("/work?sort=due")
    assert page.status_code == HTTPStatus.OK
    assert "due next, of the newest 2" in page.text
    assert page.text.index(f"/work/{soon}") < page.text.index(f"/work/{late}")
    rows = blind.web.get("/api/v1/work?sort=due").json()["rows"]
    assert [row["work_id"] for row in rows] == [soon, late]


def test_nobody_is_told_that_no_worker_lives_who_cannot_see_any(
    blind: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind.enqueue({})
    monkeypatch.setattr("roost.console.attention.QUEUED_SECONDS", -1.0)
    page = blind.web.get("/").text
    assert "Workers can&#39;t be seen from here." in page
    assert "Nothing has happened" not in blind.web.get("/events").text
    assert "No worker was seen" not in page


def test_the_feed_is_asked_for_again_after_a_while(blind: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    blind.web.get("/")
    monkeypatch.undo()
    assert SAYS in blind.web.get("/").text
    monkeypatch.setattr(blind.app_desk.pulse, "_again_at", 0.0)
    blind.web.get("/")
    assert SAYS not in blind.web.get("/").text


def test_explain_knows_of_no_worker_where_it_may_not_look(
    blind: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.core.why.QUIET_SECONDS", -1.0)
    work_id = blind.enqueue({})
    assert blind.run(blind.runtime.client.explain(work_id)).text
