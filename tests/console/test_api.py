"""The JSON API: what it gives, what it refuses, and that its description is true."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roost.console.api.openapi import document
from roost.console.api.operations import OPERATIONS, PREFIX
from roost.core import requests
from roost.core.client import Client
from tests.console.conftest import Desk, Make


def get(desk: Desk, path: str) -> Any:
    answer = desk.web.get(f"{PREFIX}{path}", headers={"Accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(desk: Desk, path: str, body: dict[str, Any], **headers: str) -> Any:
    return desk.web.post(f"{PREFIX}{path}", json=body, headers={"Accept": "application/json", **headers})


def test_the_document_describes_every_route(desk: Desk) -> None:
    described = get(desk, "/openapi.json")
    assert described == json.loads(json.dumps(document(OPERATIONS, PREFIX)))
    routes = {
        route.path.replace(":work}", "}").replace(":version}", "}")
        for route in desk.app.app.routes  # type: ignore[attr-defined]
        if route.path.startswith(PREFIX) and not route.path.endswith("openapi.json")
    }
    assert routes == set(described["paths"])


def test_enqueue_look_cancel_retry(desk: Desk) -> None:
    made = post(desk, "/work", {"engine": "scripted", "payload": {"steps": []}, "delay_seconds": 50})
    assert made.status_code == 201
    work_id = made.json()["work_id"]
    assert get(desk, f"/work/{work_id}")["control"]["state"] == "scheduled"
    assert get(desk, f"/work/{work_id}/payload") == {"payload": {"steps": []}}
    assert [row["work_id"] for row in get(desk, "/work?where=state:scheduled")["rows"]] == [work_id]
    cancelled = post(desk, f"/work/{work_id}/cancel", {"reason": "wrong"})
    assert cancelled.status_code == 200
    desk.work()
    assert get(desk, f"/work/{work_id}")["control"]["state"] == "cancelled"
    assert post(desk, f"/work/{work_id}/retry", {}).json()["state"] == "queued"
    kinds = [entry["kind"] for entry in get(desk, f"/work/{work_id}/journal")["entries"]]
    assert kinds == ["retried", "cancelled", "cancel_requested", "enqueued"]


def test_versions_and_what_changed(desk: Desk) -> None:
    work_id = desk.enqueue({"data": {"a": 1}}, {"data": {"a": 2}})
    desk.work()
    assert get(desk, f"/work/{work_id}/snapshots/1")["data"] == {"n": 1, "a": 1}
    found = get(desk, f"/work/{work_id}/snapshots/2/changes")["changes"]
    assert {"op": "replace", "path": "/data/a", "old": 1, "value": 2} in found
    assert desk.web.get(f"{PREFIX}/work/{work_id}/snapshots/9").status_code == 400


def test_pages_go_on_by_next(desk: Desk) -> None:
    ids = {desk.enqueue({}, delay_seconds=100) for _ in range(7)}
    seen: list[str] = []
    path = "/work?limit=3"
    while True:
        page = get(desk, path)
        seen += [row["work_id"] for row in page["rows"]]
        if page["next"] is None:
            break
        path = f"/work?limit=3&cursor={page['next']}"
    assert (len(seen), set(seen)) == (7, ids)


def test_an_answer_that_did_not_change_is_304(desk: Desk) -> None:
    desk.enqueue({}, delay_seconds=100)
    first = desk.web.get(f"{PREFIX}/work")
    desk.app_desk.shared.forget()
    again = desk.web.get(f"{PREFIX}/work", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_the_same_key_enqueues_once_and_acts_once(desk: Desk) -> None:
    body = {"engine": "scripted", "payload": {"steps": []}, "delay_seconds": 50}
    first = post(desk, "/work", body, **{"Idempotency-Key": "order-17"})
    second = post(desk, "/work", body, **{"Idempotency-Key": "order-17"})
    assert first.json()["work_id"] == second.json()["work_id"]
    work_id = first.json()["work_id"]
    for _ in range(2):
        answer = post(desk, f"/work/{work_id}/cancel", {}, **{"Idempotency-Key": "c-1"})
        assert answer.json() == {"work_id": work_id, "state": "scheduled", "position": 1}
    other = post(desk, f"/work/{work_id}/cancel", {"reason": "x"}, **{"Idempotency-Key": "c-1"})
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")


def test_a_key_is_kept_by_the_storage_not_by_the_process(make: Make) -> None:
    desk = make(storage="local")
    other = make(storage="local")
    body = {"engine": "scripted", "payload": {"steps": []}}
    first = post(desk, "/work", body, **{"Idempotency-Key": "k"})
    second = post(other, "/work", body, **{"Idempotency-Key": "k"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == {"work_id": first.json()["work_id"], "deduplicated": True}
    changed = post(other, "/work", {**body, "payload": {"steps": [1]}}, **{"Idempotency-Key": "k2"})
    assert changed.status_code == 201


ACTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("cancel", {"reason": "x"}, "cancel_requested"),
    ("pause", {}, "paused"),
    ("resume", {}, "resumed"),
    ("signal", {"name": "go", "data": 1}, "signaled"),
    ("budget", {"limits": {"usd": 1}}, "budget_set"),
    ("retry", {}, "retried"),
    ("fork", {"version": 1}, ""),
)


@pytest.mark.parametrize(("verb", "body", "kind"), ACTS, ids=[verb for verb, _, _ in ACTS])
def test_a_key_acts_once_whichever_process_is_asked(
    make: Make, verb: str, body: dict[str, Any], kind: str
) -> None:
    """Another process over the same storage gives the answer that stands; another request is refused."""
    desk, other = make(storage="local"), make(storage="local")
    work_id = desk.enqueue({}) if verb in ("retry", "fork") else desk.enqueue({}, delay_seconds=1000)
    if verb in ("retry", "fork"):
        desk.work()
    key = {"Idempotency-Key": f"{verb}/1"}
    first = post(desk, f"/work/{work_id}/{verb}", body, **key)
    assert first.status_code == 200, first.text
    desk.enqueue({}, delay_seconds=1000)  # the world goes on
    again = post(other, f"/work/{work_id}/{verb}", body, **key)
    assert (again.status_code, again.json()) == (200, first.json())
    reused = post(other, f"/work/{work_id}/{verb}", {**body, "reason": "another"}, **key)
    assert reused.status_code in (400, 409)
    entries = get(other, f"/work/{work_id}/journal")["entries"]
    assert [entry["kind"] for entry in entries].count(kind) == (1 if kind else 0)
    if verb == "fork":
        assert first.json()["work_id"] != work_id
        assert len(get(other, "/work")["rows"]) == 3


def test_a_process_that_dies_before_it_answers_has_acted_once(make: Make) -> None:
    """The request was begun and its entry appended; who is asked again finds that entry."""
    desk, other = make(storage="local"), make(storage="local")
    work_id = desk.enqueue({}, delay_seconds=1000)

    async def die() -> None:
        parts = desk.runtime.parts
        actor, asked = "console:root", requests.digest_of(f"{PREFIX}/work/{work_id}/pause", b"{}".hex())
        who = desk.app_desk.authenticator.principal({"client": ("127.0.0.1", 1)})
        place = requests.digest_of("", who.name, "pause_work", "k")
        begun = await requests.begin(parts, place, asked, actor=actor)
        assert isinstance(begun, requests.Request)
        await Client(parts, request=begun).pause(work_id, "first")
        await Client(parts).resume(work_id, "somebody else")

    desk.run(die())
    again = post(other, f"/work/{work_id}/pause", {}, **{"Idempotency-Key": "k"})
    assert again.status_code == 200
    kinds = [entry["kind"] for entry in get(other, f"/work/{work_id}/journal")["entries"]]
    assert kinds == ["resumed", "paused", "enqueued"]


def test_an_action_on_many_is_first_only_looked_at(desk: Desk) -> None:
    for _ in range(3):
        desk.enqueue({}, delay_seconds=100)
    looked = post(desk, "/operations", {"action": "cancel", "where": "state:scheduled"}).json()
    assert (looked["dry_run"], looked["matched"], looked["operation"]) == (True, 3, None)
    body = {"action": "cancel", "where": "state:scheduled", "dry_run": False}
    begun = post(desk, "/operations", body, **{"Idempotency-Key": "k"})
    work_id = begun.json()["operation"]["work_id"]
    assert (begun.status_code, begun.json()["matched"], begun.json()["more"]) == (202, 3, False)
    assert get(desk, f"/operations/{work_id}")["state"] == "queued"
    desk.work()
    done = get(desk, f"/operations/{work_id}")
    assert (done["state"], done["done"], done["expected"]) == ("done", 3, 3)
    assert [one["work_id"] for one in get(desk, "/operations")["operations"]] == [work_id]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"action": "cancel"}, "nothing_named"),
        ({"action": "explode", "where": "a"}, "invalid"),
        ({"action": "cancel", "ids": ["a b"]}, "invalid"),
        ({"action": "cancel", "where": "state:lost"}, "input_error"),
    ],
)
def test_an_action_on_many_that_is_wrong_is_refused(desk: Desk, body: dict[str, Any], code: str) -> None:
    answer = post(desk, "/operations", body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_errors_are_problem_documents(desk: Desk) -> None:
    answer = desk.web.get(f"{PREFIX}/work/none")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "work_not_found"
    for method, path, status in (
        ("GET", "/work?limit=x", 400),
        ("GET", "/work?limit=1&limit=2", 400),
        ("GET", "/work?nonsense=1", 400),
        ("GET", "/work?cursor=nonsense", 400),
        ("DELETE", "/work", 405),
        ("GET", "/nothing", 404),
    ):
        answer = desk.web.request(method, f"{PREFIX}{path}")
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"engine": "demo", "payload": {"a": NaN}}', "application/json", 400),
        (b'{"engine": "demo", "engine": "demo"}', "application/json", 400),
        (b'{"engine": "demo", "x": 1}', "application/json", 400),
        (b'{"engine": "demo", "payload": {"count": "x"}}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
    ],
)
def test_bodies_that_can_not_be_taken(desk: Desk, content: bytes, media_type: str, status: int) -> None:
    answer = desk.web.post(f"{PREFIX}/work", content=content, headers={"Content-Type": media_type})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_large_numbers_and_odd_texts_come_back_as_they_went_in(desk: Desk) -> None:
    payload = {"n": 2**63, "m": -(2**70), "t": "\u202e<script>\u2028", "f": 0.1}
    work_id = post(desk, "/work", {"engine": "other", "payload": payload}).json()["work_id"]
    assert get(desk, f"/work/{work_id}/payload")["payload"] == payload


def test_events_go_on_where_they_were(desk: Desk) -> None:
    desk.enqueue({}, delay_seconds=100)
    first = get(desk, "/events")
    assert [entry["kind"] for entry in first["entries"]] == ["enqueued"]
    desk.app_desk.shared.forget()
    assert get(desk, f"/events?after={first['next']}")["entries"] == []
    ids = [desk.enqueue({}, delay_seconds=100) for _ in range(3)]
    desk.app_desk.shared.forget()
    later = get(desk, f"/events?after={first['next']}&limit=2")
    assert [entry["work_id"] for entry in later["entries"]] == ids[1::-1]
    rest = get(desk, f"/events?after={later['next']}")
    assert [entry["work_id"] for entry in rest["entries"]] == ids[2:]


def test_the_rest_of_what_pages_show(desk: Desk) -> None:
    desk.enqueue({}, {"fail": "no answer"}, resources=("a",))
    desk.work()
    assert get(desk, "/failed/groups")["groups"][0]["count"] == 1
    assert get(desk, "/counts")["counts"]["failed"] == 1
    assert {"scripted", "demo"} <= {engine["engine_id"] for engine in get(desk, "/engines")["engines"]}
    [worker] = get(desk, "/workers")["workers"]
    assert worker["worker_id"] == "w-1"
    assert worker["engine_versions"] == {"scripted": "2.1"}
    assert 'scripted <span class="muted">2.1' in desk.web.get("/workers").text
    assert "attention" in get(desk, "/overview")
    assert get(desk, "/resources") == {"resources": []}
    names = {setting["name"] for setting in get(desk, "/settings")["settings"]}
    assert {"storage", "worker.concurrency", "console.auth"} <= names


def test_redaction_holds_for_programs_too(make: Make) -> None:
    desk = make(redact=("pin",))
    work_id = desk.enqueue({"data": {"pin": "SECRET"}})
    desk.work()
    for path in ("payload", "snapshots/1", "snapshots/2/changes?base=1"):
        assert "SECRET" not in desk.web.get(f"{PREFIX}/work/{work_id}/{path}").text
