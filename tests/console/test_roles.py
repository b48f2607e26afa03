"""Who may do what: every route for every role, made from the routes themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.testclient import TestClient

from roost.console.api.operations import OPERATIONS, PREFIX
from roost.console.pages.actions import ACTIONS
from roost.console.principal import Principal
from roost.console.roles import NEEDS, TABLE, WORDS, Deed, Role, lacks, on_work
from roost.console.routing import Door
from roost.names import SCHEDULE_ENGINE, Lane
from roost.storage.ports import DeadLetter, IndexQuery
from tests.console.conftest import Desk, Make

TOKENS = {f"{role}_token": f"token-of-the-{role}" for role in Role}
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
OPEN = {"/livez", "/readyz", "/static/{build}/{name}", "/login", "/approve/{token}"}
SAMPLES = {"build": "b", "name": "n", "token": "t", "place": "0", "version": "1", "digest": "0" * 64}


@dataclass
class Known:
    """A console with tokens, and a browser of each role.

    Attributes:
        work_id: of work that waits.
    """

    desk: Desk
    by: dict[Role, TestClient]
    work_id: str

    @property
    def doors(self) -> Iterator[Door]:
        """All routes."""
        for route in self.desk.app.app.routes:  # type: ignore[attr-defined]
            assert isinstance(route, Door), f"{route} does not say which deed it stands for"
            yield route

    def path(self, door: Door) -> str:
        """An address of a route."""
        samples = {**SAMPLES, "work_id": self.work_id}
        return re.sub(r"\{(\w+)[^}]*\}", lambda found: samples[found.group(1)], door.path)

    def positions(self) -> int:
        """How far the journal of the work went."""
        return self.desk.run(self.desk.runtime.client.status(self.work_id)).control.position


@pytest.fixture
def known(make: Make) -> Known:
    desk = make(auth="token", **TOKENS)
    by = {role: desk.browser(Authorization=f"Bearer {TOKENS[f'{role}_token']}") for role in Role}
    return Known(desk, by, desk.enqueue({}, delay_seconds=100))


def test_every_route_says_what_it_takes(known: Known) -> None:
    """A new route that says nothing is none for `Door`; one that is open stands in the list here."""
    assert {door.path for door in known.doors if door.deed is None} == OPEN
    writes = {door.path for door in known.doors if door.deed is Deed.LOOK and "POST" in (door.methods or ())}
    assert writes == {"/logout"}


@pytest.mark.parametrize("role", list(Role))
def test_a_role_gets_through_no_door_that_is_not_for_it(known: Known, role: Role) -> None:
    """Walks the table of routes: those below the role of a door get 403 and its name, at once."""
    tried = 0
    for door in known.doors:
        needed = None if door.deed is None else lacks(role, door.deed)
        if needed is None:
            continue
        answer = known.by[role].request(
            min(door.methods or ()), known.path(door), headers={**FORM, "Accept": "application/json"}
        )
        assert answer.status_code == 403, (door.path, answer.status_code)
        problem = answer.json()
        assert (problem["code"], problem["needs"]) == ("access_denied", needed.value)
        assert WORDS[door.deed] in problem["hint"]  # type: ignore[index]
        tried += 1
    assert tried >= {Role.VIEWER: 40, Role.OPERATOR: 12, Role.ADMIN: 0}[role]
    assert known.positions() == 0


@pytest.mark.parametrize("role", list(Role))
def test_a_role_gets_through_all_doors_that_are_for_it(known: Known, role: Role) -> None:
    """What is behind may find the request wanting, but never who asks."""
    for door in known.doors:
        if door.deed is None or lacks(role, door.deed) is not None or door.path in ("/stream", "/logout"):
            continue
        headers = {**FORM, "Content-Type": "text/plain", "Accept": "application/json"}
        answer = known.by[role].request(min(door.methods or ()), known.path(door), headers=headers)
        assert answer.status_code not in (401, 403, 500), (door.path, answer.text)


def test_the_document_names_the_role_of_each_operation(known: Known) -> None:
    document = known.by[Role.VIEWER].get(f"{PREFIX}/openapi.json").json()
    for one in OPERATIONS:
        told = document["paths"][f"{PREFIX}{one.path}"][one.method.lower()]
        assert told["x-roost-role"] == NEEDS[one.deed]
        assert told["description"].startswith(f"Needs the role {NEEDS[one.deed]}.")
    assert document["components"]["schemas"]["ProblemOut"]["properties"]["needs"]


def test_each_deed_is_of_one_role_and_has_words() -> None:
    assert sorted(deed for deeds in TABLE.values() for deed in deeds) == sorted(Deed)
    assert [role.covers(other) for role in Role for other in Role] == [1, 0, 0, 1, 1, 0, 1, 1, 1]
    assert all(ACTIONS[name].deed is Deed.ACT for name in ACTIONS if name != "budget")


def api(known: Known, role: Role, path: str, **body: Any) -> Any:
    return known.by[role].post(f"{PREFIX}{path}", json=body, headers={"Accept": "application/json"})


def needs(answer: Any) -> str | None:
    """The role that an answer asks for; None: it was let through."""
    return answer.json()["needs"] if answer.status_code == 403 else None


# --- ways round the table ------------------------------------------------------


@pytest.mark.parametrize("engine", ["roost.operation", SCHEDULE_ENGINE])
def test_work_of_roosts_own_engines_is_not_a_way_round(known: Known, engine: str) -> None:
    """An operation's payload could drop all there is, so who may not drop can't enqueue one either."""
    payload = {"action": "purge", "where": "state:done", "at": 1.0}
    assert needs(api(known, Role.OPERATOR, "/work", engine=engine, payload=payload)) == "admin"
    form = f"engine={engine}&payload=%7B%7D"
    assert known.by[Role.OPERATOR].post("/work/new", content=form, headers=FORM).status_code == 403
    fork = {"version": 1, "engine": engine, "changes": {}}
    assert needs(api(known, Role.OPERATOR, f"/work/{known.work_id}/fork", **fork)) == "admin"
    assert known.desk.run(known.desk.runtime.client.list(IndexQuery(engine=engine))).rows == []


def test_an_operator_holds_and_ends_operations_and_no_more(known: Known) -> None:
    cancel = {"action": "cancel", "ids": [known.work_id], "dry_run": False}
    operation = api(known, Role.OPERATOR, "/operations", **cancel).json()["operation"]["work_id"]
    place = f"/work/{operation}"
    assert needs(api(known, Role.OPERATOR, f"{place}/retry")) == "admin"
    assert needs(api(known, Role.OPERATOR, f"{place}/signal", name="any")) == "admin"
    assert needs(api(known, Role.OPERATOR, f"{place}/fork", version=1)) == "admin"
    assert known.by[Role.OPERATOR].get(f"{place}/retry").status_code == 403
    assert api(known, Role.OPERATOR, f"{place}/pause").status_code == 200
    assert api(known, Role.OPERATOR, f"{place}/resume").status_code == 200
    assert api(known, Role.OPERATOR, f"{place}/cancel").status_code == 200
    again = {"action": "retry", "where": "engine:roost.operation state:cancelled", "dry_run": False}
    assert needs(api(known, Role.OPERATOR, "/operations", **again)) == "admin"
    chosen = {"action": "retry", "ids": [operation], "dry_run": False}
    assert needs(api(known, Role.OPERATOR, "/operations", **chosen)) == "admin"


def test_a_schedule_is_an_admins(known: Known) -> None:
    rule = {"cron": "0 3 * * *", "engine": "demo", "payload": {}}
    made = {"engine": SCHEDULE_ENGINE, "payload": rule, "work_id": "schedule:nightly"}
    assert api(known, Role.ADMIN, "/work", **made).status_code == 201
    for verb, body in (
        ("pause", {}),
        ("cancel", {}),
        ("signal", {"name": "roost.schedule.set", "data": rule}),
    ):
        answer = api(known, Role.OPERATOR, f"/work/schedule:nightly/{verb}", **body)
        assert needs(answer) == "admin", verb
    page = known.by[Role.OPERATOR].get("/schedules").text
    assert "admin only" in page
    assert "/schedule:nightly/pause" not in page
    assert "/schedule:nightly/pause" in known.by[Role.ADMIN].get("/schedules").text
    assert api(known, Role.ADMIN, "/work/schedule:nightly/pause").status_code == 200


def test_to_drop_many_takes_an_admin_and_to_look_at_them_none(known: Known) -> None:
    many = {"action": "purge", "where": "state:done", "dry_run": False}
    assert api(known, Role.OPERATOR, "/operations", **{**many, "dry_run": True}).status_code == 200
    assert needs(api(known, Role.OPERATOR, "/operations", **many)) == "admin"
    form = "action=purge&q=state:done"
    assert known.by[Role.OPERATOR].post("/work/bulk", content=form, headers=FORM).status_code == 403
    assert known.by[Role.OPERATOR].post("/work/bulk/do", content=form, headers=FORM).status_code == 403
    assert api(known, Role.ADMIN, "/operations", **many).status_code == 202


def test_more_than_is_counted_takes_an_admin(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        known.desk.enqueue({}, delay_seconds=100)
    monkeypatch.setattr("roost.console.pages.bulk.PAGE", 1)
    monkeypatch.setattr("roost.console.pages.bulk.LOOK_MAX", 2)
    many = {"action": "cancel", "where": "state:scheduled", "dry_run": False}
    assert needs(api(known, Role.OPERATOR, "/operations", **many)) == "admin"
    assert api(known, Role.ADMIN, "/operations", **many).status_code == 202


def test_messages_that_name_no_work_are_left_to_an_admin(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = [
        DeadLetter("w-1", 1, Lane.NORMAL, "many tries", "{}", "r-1"),
        DeadLetter("", 1, Lane.NORMAL, "not ours", "{}", "r-2"),
    ]
    ended: list[str] = []

    async def dead_letters(limit: int) -> Any:
        return letters

    async def end(letter: DeadLetter, *, is_sent_again: bool) -> None:
        ended.append(letter.receipt)

    queue = known.desk.runtime.backend.queue
    monkeypatch.setattr(queue, "dead_letters", dead_letters)
    monkeypatch.setattr(queue, "end_dead_letter", end)
    operator, admin = known.by[Role.OPERATOR], known.by[Role.ADMIN]
    assert operator.post("/failed/messages/do", content="action=drop", headers=FORM).status_code == 403
    assert operator.post("/failed/messages/do", content="action=send", headers=FORM).status_code == 303
    assert ended == ["r-1"]
    assert admin.post("/failed/messages/do", content="action=drop", headers=FORM).status_code == 303
    assert ended == ["r-1", "r-1", "r-2"]
    path = "/failed/messages"
    ours, one = operator.get(f"{PREFIX}{path}").json()["messages"]
    assert needs(api(known, Role.OPERATOR, path, messages=[one], send_again=True)) == "admin"
    assert needs(api(known, Role.OPERATOR, path, messages=[ours], send_again=False)) == "admin"
    assert needs(api(known, Role.OPERATOR, path, messages=[ours], send_again=True)) is None


# --- what pages show -------------------------------------------------------------


def test_pages_say_why_something_can_not_be_done(known: Known) -> None:
    """An operator sees what an admin could do, and in words that it takes one; a viewer no button."""
    page = {role: known.by[role].get(f"/work/{known.work_id}").text for role in Role}
    assert "Takes the role operator; yours is viewer." in page[Role.VIEWER]
    assert f"/work/{known.work_id}/cancel" not in page[Role.VIEWER]
    assert f"/work/{known.work_id}/cancel" in page[Role.OPERATOR]
    engines = {role: known.by[role].get("/engines").text for role in Role}
    assert "Takes the role admin; yours is operator." in engines[Role.OPERATOR]
    assert "/switches?" not in engines[Role.OPERATOR] + engines[Role.VIEWER]
    assert "/switches?kind=engine&amp;name=demo&amp;to=pause" in engines[Role.ADMIN]
    for role in Role:
        assert f"Your role: {role}" in page[role]
        settings = known.by[role].get("/settings").text
        assert re.search(rf'{role} <span class="tag">yours</span>', settings)
        assert "drop work with its history" in settings


def test_the_journal_has_who_and_as_what(make: Make) -> None:
    desk = make(auth="headers", proxy_secret="s" * 20, hosts=("console.example",), admin_roles=("sre",))
    named = {"Host": "console.example", "X-Forwarded-User": "ada", "X-Roost-Proxy-Secret": "s" * 20}
    work_id = desk.enqueue({}, delay_seconds=100)
    admin = {**FORM, **named, "X-Forwarded-Groups": "staff, sre, operator"}
    operator = {**FORM, **named, "X-Forwarded-Groups": "operator,admin"}
    assert desk.web.post(f"/work/{work_id}/pause", headers=operator, content=b"").status_code == 303
    assert desk.web.post("/switches", headers=operator, content=b"").status_code == 403
    form = b"kind=engine&name=demo&to=pause&reason=deploying"
    assert desk.web.post("/switches", headers=admin, content=form).status_code == 303
    tail = desk.run(desk.runtime.backend.journal.tail(work_id))
    assert tail is not None
    assert tail.actor == "console:ada/operator"
    switches = desk.run(desk.runtime.client.switches())
    assert [switch.by for switch in switches] == ["console:ada/admin"]


def test_a_name_that_is_a_role_does_not_pass_for_one() -> None:
    assert Principal("admin", Role.VIEWER).actor == "console:admin/viewer"
    assert Principal("operator", Role.OPERATOR).actor == "console:operator"


def test_holding_is_all_that_is_free_on_roosts_own_work() -> None:
    assert on_work("demo", "retry") is None
    assert on_work("roost.operation", "pause") is None
    assert on_work("roost.operation", "retry") is Deed.OWN_WORK
    assert on_work(SCHEDULE_ENGINE, "pause") is Deed.OWN_WORK
