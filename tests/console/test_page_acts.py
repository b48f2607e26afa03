"""What is done from pages: the forms, what they ask before, and what becomes of it."""

from __future__ import annotations

import html
import re

import pytest

from roost import Child, Snapshot, WaitFor, WorkItem, current_step
from roost.core.schedules import keep
from roost.names import Lane, Scope
from roost.rules import Schedule
from tests.console.conftest import Desk, main_of

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_failed_work_is_grouped_by_what_went_wrong(desk: Desk) -> None:
    for n in range(3):
        desk.enqueue({"fail": f"no answer from host in {30 + n} s"})
    desk.enqueue({"fail": "disk full"})
    desk.work()
    page = desk.web.get("/failed").text
    assert "4 in 2 groups" in page
    assert "Retry all 3" in page
    group = re.search(r'name="q" value="(state:failed error:[0-9a-f]+)"', page)
    assert group is not None
    body = f"action=retry&q={group[1]}"
    asked = desk.web.post("/work/bulk", headers=FORM, content=body).text
    assert "Retry 3 work items?" in asked
    assert "3 done" in operated(desk, body)


def operated(desk: Desk, body: str) -> str:
    """Begins an operation from a page, and runs it; its page afterwards."""
    begun = desk.web.post("/work/bulk/do", headers=FORM, content=body)
    assert begun.status_code == 303
    path = begun.headers["location"]
    assert "takes it up in a moment" in desk.web.get(path).text
    desk.work()
    return desk.web.get(path).text


def test_an_operation_has_a_page_with_what_it_could_not_do(desk: Desk) -> None:
    ids = [desk.enqueue({}, delay_seconds=1000) for _ in range(3)]
    body = "action=cancel&reason=wrong&" + "&".join(f"id={work_id}" for work_id in ids)
    begun = desk.web.post("/work/bulk/do", headers=FORM, content=body).headers["location"]
    desk.run(desk.runtime.client.cancel(ids[0], "before it"))
    desk.work()
    page = desk.web.get(begun).text
    assert "2 done" in page
    assert "1 skipped" in page
    assert "be cancelled" in page.split('id="skips"')[1]
    assert "Cancel" in desk.web.get("/operations").text
    entry = desk.run(desk.runtime.backend.journal.get(ids[1], 1))
    assert entry is not None
    assert re.fullmatch(r"console:\w+/admin by operation:\w+", entry.actor)


def test_an_operation_is_paused_and_ended_like_any_work(desk: Desk) -> None:
    desk.enqueue({}, delay_seconds=1000)
    begun = desk.web.post("/work/bulk/do", headers=FORM, content="action=cancel&q=engine:scripted")
    work_id = begun.headers["location"].split("/")[2].split("?")[0]
    desk.web.post(f"/work/{work_id}/pause", data={"reason": "wait"})
    desk.work()
    assert "Resume…" in desk.web.get(f"/operations/{work_id}").text
    desk.web.post(f"/work/{work_id}/cancel", data={"reason": "no"})
    desk.work()
    page = desk.web.get(f"/operations/{work_id}").text
    assert "What was done stays done" in page
    assert "0 done" in page


def test_an_empty_filter_is_not_taken_for_all_work(desk: Desk) -> None:
    desk.enqueue({}, delay_seconds=1000)
    answer = desk.web.post("/work/bulk/do", headers=FORM, content="action=cancel&q=")
    assert answer.status_code == 400
    assert "would act on all work" in answer.text


def test_chosen_rows_are_cancelled_and_others_are_not(desk: Desk) -> None:
    ids = [desk.enqueue({}, delay_seconds=1000) for _ in range(3)]
    body = "action=cancel&" + "&".join(f"id={work_id}" for work_id in ids[:2])
    assert "Cancel 2 work items?" in desk.web.post("/work/bulk", headers=FORM, content=body).text
    operated(desk, body)
    asked = [desk.run(desk.runtime.client.status(i)).control.cancel_requested for i in ids]
    assert asked == [True, True, False]


def test_enqueueing_from_a_form(desk: Desk) -> None:
    fields = {"engine": "scripted", "payload": '{"steps": []}', "priority": "1", "resources": "a\nb c\n"}
    answer = desk.web.post("/work/new", data=fields)
    assert answer.status_code == 303
    view = desk.run(desk.runtime.client.status(answer.headers["location"].split("/")[2].split("?")[0]))
    assert view.item.resources == ("a", "b c")
    assert view.item.priority == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"engine": "scripted", "payload": "{"}, "the payload"),
        ({"engine": "", "payload": "{}"}, "engine id"),
        ({"engine": "demo", "payload": '{"count": "x"}'}, "does not fit"),
        ({"engine": "demo", "payload": "{}", "delay": "soon"}, "no duration"),
        ({"engine": "demo", "payload": "{}", "priority": "x"}, "whole number"),
    ],
)
def test_a_form_that_is_wrong_comes_back_filled_in(desk: Desk, fields: dict[str, str], problem: str) -> None:
    answer = desk.web.post("/work/new", data=fields)
    assert answer.status_code == 200
    assert problem in answer.text


def test_an_action_that_comes_too_late_says_so(desk: Desk) -> None:
    work_id = desk.enqueue()
    desk.work()
    answer = desk.web.post(f"/work/{work_id}/cancel", headers=FORM)
    assert answer.status_code == 200
    assert "is done; it can&#39;t be cancelled" in answer.text


class Waiting:
    """Waits for a signal, and spawns two children first; `data` says what it got."""

    engine_id = "waiting"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="ask", data={})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if item.payload.get("child"):
            return snapshot.finish()
        if snapshot.step == "ask":
            asked = snapshot.next("asked", data={"asked": True})
            return asked.model_copy(
                update={
                    "wait_for": WaitFor(signals=("approve",)),
                    "spawn": [Child(engine="waiting", payload={"child": True})] * 2,
                }
            )
        return snapshot.finish(data={"got": [signal.data for signal in current_step().signals]})


def test_a_signal_from_a_page_wakes_the_work(desk: Desk) -> None:
    desk.runtime.engines.add(Waiting())  # type: ignore[union-attr]
    work_id = desk.enqueue(engine="waiting", labels={"tenant": "acme"})
    desk.work()
    page = desk.web.get(f"/work/{work_id}").text
    assert "for signal approve" in page
    assert "2 children, 0 open" in page
    assert "tenant=acme" in page
    form = desk.web.get(f"/work/{work_id}/signal").text
    assert 'name="name" value="approve"' in form
    wrong = desk.web.post(f"/work/{work_id}/signal", data={"name": "approve", "data": "{"})
    assert "the data" in wrong.text
    desk.web.post(f"/work/{work_id}/signal", data={"name": "approve", "data": '{"ok": true}'})
    desk.work()
    snapshot = desk.run(desk.runtime.client.status(work_id)).snapshot
    assert snapshot is not None
    assert snapshot.data["got"] == [{"ok": True}]
    child = re.search(rf'href="/work/({re.escape(work_id)}\.[^"]+)"', desk.web.get(f"/work/{work_id}").text)
    assert child is not None
    assert work_id in main_of(desk.web.get(f"/work/{child[1]}").text)
    found = main_of(desk.web.get("/work?q=label:tenant=acme").text)
    assert f'value="{work_id}"' in found
    assert len(re.findall('name="id"', main_of(desk.web.get(f"/work?q=parent:{work_id}").text))) == 2


def test_paused_work_rests_until_it_is_let_go_on(desk: Desk) -> None:
    work_id = desk.enqueue({}, delay_seconds=0.0)
    desk.web.post(f"/work/{work_id}/pause", data={"reason": "look first"})
    desk.work()
    page = desk.web.get(f"/work/{work_id}").text
    assert re.search(r"It is paused by \S+ \(look first\) until somebody resumes it\.", page)
    assert "Paused</span>" in main_of(desk.web.get("/work").text).split("<tbody>")[1]
    desk.web.post(f"/work/{work_id}/resume", data={"reason": ""})
    desk.work()
    assert desk.run(desk.runtime.client.control(work_id)).state == "done"


def test_work_goes_on_from_an_earlier_version(desk: Desk) -> None:
    work_id = desk.enqueue({"data": {"a": 1}}, {"data": {"a": 2}}, {"fail": "no answer"})
    desk.work()
    assert "1 to 2, or 0" in desk.web.get(f"/work/{work_id}/retry").text
    wrong = desk.web.post(f"/work/{work_id}/retry", data={"version": "9"})
    assert "has no version 9" in wrong.text
    assert desk.web.post(f"/work/{work_id}/retry", data={"version": "1"}).status_code == 303
    desk.work()
    assert desk.run(desk.runtime.client.control(work_id)).version == 3
    assert desk.web.get(f"/work/{work_id}?tab=changes&v=3").status_code == 200


def test_a_budget_that_is_used_up_is_raised(desk: Desk) -> None:
    work_id = desk.enqueue({}, {}, {}, budget={"steps": 1.0})
    desk.work()
    page = desk.web.get(f"/work/{work_id}").text
    assert "budget used up: steps 1 of 1" in page
    assert "steps 1 of 1" in page
    assert "no amount" in desk.web.post(f"/work/{work_id}/budget", data={"limits": "steps"}).text
    desk.web.post(f"/work/{work_id}/budget", data={"limits": "steps=9", "reason": "go on"})
    desk.work()
    assert desk.run(desk.runtime.client.control(work_id)).state == "done"


def test_a_resource_is_closed_opened_and_taken_away(desk: Desk) -> None:
    desk.web.post("/resources/limits", data={"resource": "llm:gpt", "closed": "for ever", "capacity": "2"})
    first = desk.enqueue({"delay": 500}, resources=("llm:gpt",), resource_scope=Scope.WORK)
    desk.work()
    page = desk.web.get("/resources").text
    assert "until somebody opens it" in page
    assert "Resource llm:gpt is closed by console:" in html.unescape(desk.web.get(f"/work/{first}").text)
    assert (
        "no whole number"
        in desk.web.post("/resources/limits", data={"resource": "llm:gpt", "capacity": "x"}).text
    )
    desk.web.post("/resources/limits", data={"resource": "llm:gpt", "count": "5", "period": "1m"})
    desk.work()
    assert "5 starts in 1 m" in desk.web.get("/resources").text
    body = {"resource": "llm:gpt", "work_id": first}
    assert "Take llm:gpt away?" in desk.web.get("/resources/evict", params=body).text
    assert desk.web.post("/resources/evict", data={**body, "reason": "it hangs"}).status_code == 303
    assert "it hangs" in desk.web.get("/events?by=people").text
    assert "does not hold" in html.unescape(desk.web.post("/resources/evict", data=body).text)


def test_schedules_show_their_next_tick_and_are_paused(desk: Desk) -> None:
    rule = Schedule(cron="0 3 * * *", engine="scripted", timezone="Europe/Berlin")
    desk.run(keep(desk.runtime.client, {"nightly": rule}))
    page = desk.web.get("/schedules").text
    for text in ("nightly", "0 3 * * *", "Europe/Berlin", "/work/schedule:nightly/pause"):
        assert text in page
    assert desk.web.post("/work/schedule:nightly/pause", data={"reason": "holidays"}).status_code == 303
    assert "/work/schedule:nightly/resume" in desk.web.get("/schedules").text
    found = desk.web.get("/api/v1/schedules").json()["schedules"][0]
    assert (found["name"], found["state"], found["reason"]) == ("nightly", "paused", "holidays")


def test_new_work_is_forked_from_a_version(desk: Desk) -> None:
    work_id = desk.enqueue({"data": {"a": 1}}, {"data": {"a": 2}})
    desk.work()
    wrong = desk.web.post(f"/work/{work_id}/fork", data={"version": "1", "changes": "data.a"})
    assert "has no value" in wrong.text
    made = desk.web.post(f"/work/{work_id}/fork", data={"version": "1", "changes": "data.a=7"})
    assert made.status_code == 303
    page = desk.web.get(made.headers["location"]).text
    assert f'forked from <a class="mono" href="/work/{work_id}?v=1"' in page
    desk.work()
    assert desk.web.get(made.headers["location"].split("?")[0] + "?tab=changes").status_code == 200


def test_failed_work_is_dropped_for_good(desk: Desk) -> None:
    ids = [desk.enqueue({"fail": "no answer"}) for _ in range(2)]
    desk.enqueue({}, delay_seconds=100)
    desk.work()
    body = "action=purge&" + "&".join(f"id={work_id}" for work_id in ids)
    assert "Drop 2 work items?" in desk.web.post("/work/bulk", headers=FORM, content=body).text
    assert "2 done" in operated(desk, body)
    assert desk.web.get(f"/work/{ids[0]}").status_code == 404


def test_messages_that_were_set_aside_are_shown_and_sent_again(desk: Desk) -> None:
    work_id = desk.enqueue({})
    queue = desk.runtime.backend.queue

    async def set_aside() -> None:
        found = await queue.receive(1, visibility_seconds=60, wait_seconds=0, lanes=list(Lane))
        await queue.reject(found[0], "nobody knows it")

    desk.run(set_aside())
    page = desk.web.get("/failed").text
    assert "nobody knows it" in page
    assert "Send 1 messages again?" in desk.web.post("/failed/messages", data={"action": "send"}).text
    assert desk.web.post("/failed/messages/do", data={"action": "send"}).status_code == 303
    desk.work()
    assert desk.run(desk.runtime.client.control(work_id)).state == "done"


def test_an_engine_and_a_lane_are_paused_for_all_their_work(desk: Desk) -> None:
    work_id = desk.enqueue({})
    ask = desk.web.get("/switches?kind=engine&name=scripted&to=pause").text
    assert "Pause engine scripted?" in ask
    body = {"kind": "engine", "name": "scripted", "to": "pause", "reason": "deploying"}
    assert desk.web.post("/switches", data=body).status_code == 303
    assert ': deploying"' in desk.web.get("/engines").text
    assert re.search(
        r"Its engine scripted is paused by \S+ \(deploying\)", desk.web.get(f"/work/{work_id}").text
    )
    desk.web.post("/switches", data={**body, "to": "resume"})
    assert ': deploying"' not in desk.web.get("/engines").text
    desk.web.post("/switches", data={"kind": "lane", "name": "low", "to": "pause", "reason": "night"})
    assert ': night"' in desk.web.get("/").text
    assert desk.web.get("/switches?kind=lane&name=nowhere&to=pause").status_code == 400


def test_the_budget_of_the_day_is_shown_and_set_with_a_reason(desk: Desk) -> None:
    assert "No budget for the day" in main_of(desk.web.get("/").text)
    ask = desk.web.get("/budget").text
    assert "Set the budget of the day?" in ask
    assert "which is no limit" in ask
    assert 'name="reason"' in ask
    body = {"limits": "steps=2\nusd=5", "reason": "a quiet day"}
    assert desk.web.post("/budget", data=body).headers["location"] == "/?did=daily"
    parked = desk.enqueue({}, {}, {})
    desk.work()
    page = html.unescape(main_of(desk.web.get("/").text))
    assert "budget of steps is used up" in page
    assert "2 of 2; work parks then" in page
    assert desk.run(desk.runtime.client.control(parked)).state == "blocked"
    assert desk.web.get("/api/v1/budget").json()["limits"] == {"steps": 2.0, "usd": 5.0}
    assert "no amount" in desk.web.post("/budget", data={"limits": "steps"}).text
    assert "no positive number" in desk.web.post("/budget", data={"limits": "steps=-1"}).text
    desk.web.post("/budget", data={"limits": "", "reason": "enough of that"})
    desk.work()
    assert desk.run(desk.runtime.client.control(parked)).state == "done"
    who = html.unescape(desk.web.get("/events?by=people").text)
    assert "a quiet day" in who
    assert "enough of that" in who


def test_the_budget_of_a_family_is_set_from_the_page_of_a_member(desk: Desk) -> None:
    work_id = desk.enqueue({}, {}, {}, family_budget={"steps": 1.0})
    desk.work()
    assert '<select name="of">' in desk.web.get(f"/work/{work_id}/budget").text
    body = {"limits": "steps=9", "of": "its family", "reason": "go on"}
    assert desk.web.post(f"/work/{work_id}/budget", data=body).status_code == 303
    desk.work()
    assert desk.run(desk.runtime.client.control(work_id)).state == "done"
    [balance] = desk.web.get(f"/api/v1/work/{work_id}/balances").json()["balances"]
    assert (balance["root"], balance["spent"]["steps"], balance["limits"]) == (work_id, 4.0, {"steps": 9.0})


def test_a_worker_is_asked_to_stop_from_its_page(desk: Desk) -> None:
    desk.enqueue({})
    desk.work()
    [worker] = desk.web.get("/api/v1/workers").json()["workers"]
    name = worker["worker_id"]
    ask = {"kind": "worker", "name": name, "to": "pause"}
    assert f"Ask worker {name} to stop?" in desk.web.get("/switches", params=ask).text
    answer = desk.web.post("/switches", data={**ask, "reason": "a bad host"})
    assert answer.headers["location"] == "/workers?did=switch"
    assert "is asked to stop" in desk.web.get("/workers").text
    assert desk.web.get("/api/v1/workers").json()["workers"][0]["is_draining"]
    assert "a bad host" in desk.web.get("/events?by=people").text
    desk.web.post("/switches", data={**ask, "to": "resume"})
    assert "is asked to stop" not in desk.web.get("/workers").text
    assert desk.web.get("/switches?kind=worker&name=&to=pause").status_code == 400


def test_a_typed_form_enqueues_for_an_engine_with_a_model(desk: Desk) -> None:
    form = desk.web.get("/work/new?engine=demo").text
    assert 'name="payload.count"' in form
    made = desk.web.post("/work/new", data={"engine": "demo", "typed": "demo", "payload.count": "4"})
    work_id = made.headers["location"].split("/")[2].split("?")[0]
    assert desk.run(desk.runtime.client.status(work_id)).item.payload["count"] == 4
    wrong = desk.web.post("/work/new", data={"engine": "demo", "typed": "demo", "payload.count": "many"})
    assert 'role="alert"' in wrong.text
    assert 'value="many"' in wrong.text
