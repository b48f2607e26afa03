"""Every page, with what is ordinary and with what is hostile."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shlex
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from roost import Child, Snapshot, WaitFor, WorkItem, current_step
from roost.core.schedules import keep
from roost.names import Lane, Order, Scope
from roost.rules import Schedule
from tests.console.conftest import Desk, Make

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202e\u2066"
PATHS = (
    "/",
    "/work",
    "/failed",
    "/operations",
    "/artifacts",
    "/conversations",
    "/workspaces",
    "/events?by=people",
    "/events",
    "/resources",
    "/schedules",
    "/workers",
    "/engines",
    "/settings",
    "/work/new",
)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def main_of(page: str) -> str:
    return page[page.index("<main") : page.index("</main>")]


@pytest.mark.parametrize("path", PATHS)
def test_an_empty_console_says_what_to_type_next(desk: Desk, path: str) -> None:
    answer = desk.web.get(path)
    assert answer.status_code == 200
    assert len(answer.content) < 100_000
    assert "<h1" in answer.text


def test_the_list_shows_work_of_every_state(desk: Desk) -> None:
    done, failed, later = desk.enqueue({}), desk.enqueue({"fail": "no answer"}), desk.enqueue({"delay": 500})
    desk.work()
    page = desk.web.get("/work").text
    for work_id in (done, failed, later):
        assert f'href="/work/{work_id}"' in page
    assert "TimeoutError: no answer" in page
    only = main_of(desk.web.get("/work?q=state:failed").text)
    assert failed in only
    assert done not in only.split('id="bulk"')[1]


@pytest.mark.parametrize("sort", ["", *(f"&sort={order}" for order in Order if order is not Order.NEWEST)])
def test_pages_of_a_list_go_on_by_cursor_and_miss_nothing(desk: Desk, sort: str) -> None:
    ids = [desk.enqueue({}, delay_seconds=1000 + n % 3) for n in range(25)]
    seen: list[str] = []
    path: str | None = f"/work?limit=10{sort}"
    while path is not None:
        page = desk.web.get(path).text
        seen += re.findall(r'name="id" value="([^"]+)"', page)
        found = re.search(r'rel="next" href="([^"]+)"', page)
        path = html.unescape(found[1]) if found else None
    if sort in ("", "&sort=oldest"):
        assert seen == (ids if sort else ids[::-1])
    assert sorted(seen) == sorted(ids)


FILTERS = (
    "",
    "state:scheduled label:tenant=acme",
    "-label:tenant=acme lane:high",
    'label:"tenant=big corp"',
    "parent:{parent}",
    "-parent:{parent} -state:done created<1h version:0 b",
    "id:b*3 attempts<1",
)


def test_the_copied_command_lists_the_same(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels, parents, negations, ages, order: whatever the filter of the page."""
    from roost.cli import look

    desk = make(storage="local")
    tenants = ("acme", "big corp", "other")
    ids = [
        desk.enqueue(
            {}, delay_seconds=1000, work_id=f"b{n}", priority=n % 3 - 1, labels={"tenant": tenants[n % 3]}
        )
        for n in range(7)
    ]
    desk.run(_adopt(desk, ids[0]))
    for text in FILTERS:
        for sort in ("", "&sort=oldest", "&sort=due", "&sort=since"):
            page = desk.web.get(f"/work?q={quote(text.format(parent=ids[0]))}{sort}").text
            shown = re.findall(r'name="id" value="([^"]+)"', page)
            command = re.search(r'data-copy="(roost list[^"]*)"', page)
            assert command is not None
            args = shlex.split(html.unescape(command[1]))[2:]
            assert args[::2] == [name for name in ("--where", "--sort") if name in args]
            given = dict(zip(args[::2], args[1::2], strict=True))
            look.list_work(
                where=given.get("--where"),
                sort=Order(given.get("--sort", "newest")),
                limit=50,
                everything=False,
                as_json=True,
                home=desk.settings.home,
            )
            listed = [row["work_id"] for row in json.loads(capsys.readouterr().out)["rows"]]
            assert listed == shown
            assert shown, text


async def _adopt(desk: Desk, parent_id: str) -> None:
    """A row that names a parent."""
    index = desk.runtime.backend.index
    row = await index.get("b4")
    assert row is not None
    await index.put(replace(row, parent_id=parent_id))


def test_pages_of_a_filter_are_never_longer_than_asked_and_miss_nothing(desk: Desk) -> None:
    """What the index can't do is done on its rows, of which a page has more."""
    ids = [desk.enqueue({}, delay_seconds=1000, priority=-(n % 2)) for n in range(41)]
    seen: list[str] = []
    cursor = None
    while True:
        query = {"where": "lane:low", "limit": "7"} | ({"cursor": cursor} if cursor else {})
        page = desk.web.get("/api/v1/work", params=query).json()
        assert len(page["rows"]) <= 7
        seen += [row["work_id"] for row in page["rows"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ids[1::2][::-1]


def test_a_filter_that_is_not_understood_says_so(desk: Desk) -> None:
    page = desk.web.get("/work?q=state:lost").text
    assert "there is no state" in page
    assert "queued, running" in page


def test_the_detail_tells_journal_versions_and_artifacts(desk: Desk) -> None:
    work_id = desk.enqueue(
        {"data": {"a": 1}, "artifacts": [["notes.md", "# Notes", "text/markdown"]]}, {"data": {"a": 2}}
    )
    desk.work()
    page = desk.web.get(f"/work/{work_id}").text
    for text in (
        "committed v1",
        "committed v2",
        "enqueued",
        "notes.md",
        "Timeline",
        "at version 3",
    ):
        assert text in page
    changes = desk.web.get(f"/work/{work_id}?tab=changes&v=2").text
    assert '<div class="del">' in changes
    assert '<div class="add">' in changes
    payload = desk.web.get(f"/work/{work_id}?tab=payload").text
    assert "&#34;steps&#34;" in payload


def test_a_work_item_that_is_not_there_is_a_page_that_says_why(desk: Desk) -> None:
    answer = desk.web.get("/work/none")
    assert answer.status_code == 404
    assert "its retention time is over" in answer.text


def test_hostile_content_shows_as_text(desk: Desk) -> None:
    work_id = desk.enqueue(
        {"step": SCRIPT, "data": {SCRIPT: SCRIPT}, "artifacts": [[SCRIPT[:24], SCRIPT, SCRIPT[:20]]]},
        {"fail": SCRIPT},
        resources=(SCRIPT.replace("\u202e", "").replace("\u2066", ""),),
    )
    desk.work()
    paths = [*PATHS, *(f"/work/{work_id}?tab={tab}" for tab in ("snapshot", "changes", "payload", "once"))]
    paths += [f"/work/{work_id}/artifacts/0", f"/work/{work_id}/retry", f"/work?q={'%3Cscript%3E'}"]
    for path in paths:
        answer = desk.web.get(path)
        assert answer.status_code == 200, path
        assert "<script>alert" not in answer.text, path
        assert "<img src=x" not in answer.text, path
        assert "\u202e" not in answer.text, path
    assert "alert(1)" in desk.web.get(f"/work/{work_id}").text


def test_markdown_can_do_nothing(desk: Desk) -> None:
    text = "# Title\n\n<script>alert(1)</script>\n\n[a](javascript:alert(1)) "
    text += "![p](http://evil.example/x.png) [b](https://ok.example)"
    work_id = desk.enqueue({"artifacts": [["r.md", text, "text/markdown"]]})
    desk.work()
    page = main_of(desk.web.get(f"/work/{work_id}/artifacts/0").text)
    assert "<h1>Title</h1>" in page
    assert 'href="https://ok.example"' in page
    for bad in ("<script", 'javascript:alert(1)"', "<img", 'evil.example/x.png"'):
        assert bad not in page


def test_a_download_is_a_file_and_nothing_else(desk: Desk) -> None:
    work_id = desk.enqueue({"artifacts": [['../e"vil.html', "<script>", "text/html"]]})
    desk.work()
    answer = desk.web.get(f"/work/{work_id}/artifacts/0/download")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''e%22vil.html"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.content == b"<script>"


def test_pages_are_packed_for_who_takes_that_and_downloads_never(desk: Desk) -> None:
    work_id = desk.enqueue({"artifacts": [["long.txt", "word " * 1000, "text/plain"]]})
    desk.work()
    for path in ("/work", f"/work/{work_id}", f"/api/v1/work/{work_id}"):
        packed = desk.web.get(path, headers={"Accept-Encoding": "gzip"})
        plain = desk.web.get(path, headers={"Accept-Encoding": "identity"})
        assert packed.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert int(packed.headers["content-length"]) < len(plain.content) / 2
        assert "Accept-Encoding" in packed.headers["vary"]
    style = re.findall(r'href="(/static/[^"]+css)"', desk.web.get("/work").text)[0]
    assert desk.web.get(style, headers={"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"
    file = desk.web.get(f"/work/{work_id}/artifacts/0/download", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in file.headers
    assert int(file.headers["content-length"]) == len(file.content) == 5000


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=5-", 206, b"56789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=9-2", 416, None),
        ("bytes=10-", 416, None),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=-", 200, b"0123456789"),
    ],
)
def test_a_piece_of_an_artifact_can_be_asked_for(
    desk: Desk, asked: str, status: int, content: bytes | None
) -> None:
    work_id = desk.enqueue({"artifacts": [["digits", "0123456789", "text/plain"]]})
    desk.work()
    path = f"/work/{work_id}/artifacts/0/download"
    answer = desk.web.get(path, headers={"Range": asked})
    assert answer.status_code == status
    if content is not None:
        assert answer.content == content
        assert int(answer.headers["content-length"]) == len(content)
    whole = desk.web.get(path, headers={"Range": asked, "If-Range": '"another"'})
    assert (whole.status_code, whole.content) == (200, b"0123456789")


def test_a_picture_is_shown_by_its_bytes_not_by_its_type(desk: Desk) -> None:
    work_id = desk.enqueue({"artifacts": [["a.png", "<svg onload=alert(1)>", "image/png"]]})
    desk.work()
    assert desk.web.get(f"/work/{work_id}/artifacts/0/image").status_code == 404


def test_a_large_snapshot_and_a_long_journal_stay_small_on_the_page(desk: Desk) -> None:
    steps = [{"data": {"blob": "x" * 1_000_000}}, *({"data": {"k": n}} for n in range(400))]
    work_id = desk.enqueue(*steps)
    desk.work()
    for tab in ("snapshot", "changes", "payload"):
        answer = desk.web.get(f"/work/{work_id}?tab={tab}&unfold=1")
        assert answer.status_code == 200
        assert len(answer.content) < 200_000
    older = re.search(r'\?before=(\d+)"', desk.web.get(f"/work/{work_id}").text)
    assert older is not None
    assert desk.web.get(f"/work/{work_id}?before={older[1]}").status_code == 200


def test_a_page_that_did_not_change_is_not_sent_again(desk: Desk) -> None:
    desk.enqueue({}, delay_seconds=1000)
    first = desk.web.get("/work", headers={"X-Roost-Live": "1"})
    assert "<html" not in first.text
    again = desk.web.get("/work", headers={"X-Roost-Live": "1", "If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    desk.enqueue({}, delay_seconds=1000)
    desk.app_desk.shared.forget()
    changed = desk.web.get("/work", headers={"X-Roost-Live": "1", "If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200


def test_work_of_a_namespace_has_addresses_of_its_own(make: Make) -> None:
    desk = make(namespace="blue")
    work_id = desk.enqueue({}, delay_seconds=1000)
    assert work_id.startswith("blue/")
    page = desk.web.get("/work").text
    assert f'href="/work/{work_id.replace("/", "~")}"' in page
    assert desk.web.get(f"/work/{work_id.replace('/', '~')}").status_code == 200


@pytest.mark.parametrize("work_id", [".", "..", "new", "bulk", "a:b.c_d-e"])
def test_odd_ids_have_pages(desk: Desk, work_id: str) -> None:
    desk.enqueue({}, work_id=work_id, delay_seconds=1000)
    page = desk.web.get("/work").text
    href = re.search(r'<th scope="row"><a href="([^"]+)"', page)
    assert href is not None
    assert f'<h1 class="mono">{work_id}</h1>' in desk.web.get(href[1]).text


def test_redacted_fields_are_never_shown(make: Make) -> None:
    desk = make(redact=("iban", "customer.email", "scripted:steps.*.data.pin", "other:n"))
    work_id = desk.enqueue(
        {"data": {"iban": "DE-SECRET-1", "customer": {"email": "SECRET-2", "name": "ada"}, "pin": "SECRET-3"}}
    )
    desk.work()
    for tab in ("snapshot", "changes", "payload"):
        page = desk.web.get(f"/work/{work_id}?tab={tab}&v=1").text
        assert "SECRET-1" not in page
        assert "[hidden]" in page
    assert "SECRET-3" not in desk.web.get(f"/work/{work_id}?tab=payload").text
    assert "ada" in desk.web.get(f"/work/{work_id}?v=1").text


def test_secrets_among_the_settings_are_hidden(make: Make) -> None:
    desk = make(auth="token", operator_token="very-secret-token-1")
    page = desk.browser(Authorization="Bearer very-secret-token-1").get("/settings").text
    assert "very-secret" not in page
    assert "console.operator_token" in page


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


def test_a_silent_worker_and_a_failing_engine_need_attention(desk: Desk) -> None:
    for _ in range(4):
        desk.enqueue({"fail": "no answer"})
    desk.work()
    page = desk.web.get("/").text
    assert "scripted fails 100 % of its attempts" in page


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


def test_work_with_a_budget_that_has_not_begun_has_a_page(desk: Desk) -> None:
    work_id = desk.enqueue({}, delay_seconds=1000, budget={"usd": 3.0})
    assert "usd 0 of 3" in desk.web.get(f"/work/{work_id}").text


def test_log_lines_stand_beside_their_attempt_as_text(desk: Desk) -> None:
    work_id = desk.enqueue({"say": "<b>page 1</b>"}, {"say": "page 2", "fail": "no answer"})
    desk.work()
    page = desk.web.get(f"/work/{work_id}").text
    assert "&lt;b&gt;page 1&lt;/b&gt;" in page
    assert page.count("1 log line") == 2
    logs = desk.web.get(f"/work/{work_id}?tab=logs").text.split('class="logs"')[1]
    assert logs.index("page 1") < logs.index("page 2")
    kept = desk.web.get(f"/api/v1/work/{work_id}/journal?limit=1").json()["entries"][0]["detail"]["log"]
    assert [line[1:] for line in kept] == [["warning", "page 2"]]
    assert "No attempt has logged anything" in desk.web.get(f"/work/{desk.enqueue({})}?tab=logs").text


def test_the_list_says_what_work_waits_for_and_the_page_has_its_state(desk: Desk) -> None:
    asks = desk.enqueue({"ask": {}})
    parked = desk.enqueue({}, {}, {}, family_budget={"steps": 1.0})
    desk.work()
    rows = {row["work_id"]: row for row in desk.web.get("/api/v1/work").json()["rows"]}
    assert rows[asks]["reason"].startswith("waits for approval ")
    assert rows[parked]["state"] == "paused"
    assert 'class="st paused big"' in desk.web.get(f"/work/{parked}").text


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


def test_another_like_this_one_has_all_but_what_is_never_shown(make: Make) -> None:
    desk = make(redact=("password",))
    given = {"password": "hunter2", "topic": "x"}
    work_id = desk.run(desk.runtime.client.enqueue("scripted", given, labels={"tenant": "acme"}))
    assert f'href="/work/new?like={work_id}"' in desk.web.get(f"/work/{work_id}").text
    form = html.unescape(desk.web.get(f"/work/new?like={work_id}").text)
    assert "hunter2" not in form
    assert "never shown: fill them in anew" in form
    assert '"topic": "x"' in form
    assert ">tenant=acme</textarea>" in form
    plain = desk.enqueue({})
    assert "never shown" not in desk.web.get(f"/work/new?like={plain}").text


def test_the_cost_of_work_has_the_time_of_its_steps(desk: Desk) -> None:
    work_id = desk.enqueue({}, {"fail": "no answer"})
    desk.work()
    assert "in its steps, tries that failed included" in desk.web.get(f"/work/{work_id}?tab=cost").text
    assert "the code of its steps" in desk.web.get(f"/work/{work_id}?tab=cost").text
    cost = desk.web.get(f"/api/v1/work/{work_id}/cost").json()
    assert cost["seconds"] >= cost["cpu_seconds"] >= 0


def test_a_version_that_is_not_kept_any_more_says_so_on_the_page(desk: Desk) -> None:
    work_id = desk.enqueue({"data": {"a": 1}}, {"data": {"a": 2}}, {"data": {"a": 3}})
    desk.work()
    journal = desk.runtime.backend.journal
    entries = desk.run(journal.read(work_id))
    gone = next(entry for entry in entries if entry.control.version == 1)
    desk.run(journal.prune(work_id, [gone.position]))
    for tab in ("snapshot&v=1", "changes&v=2"):
        answer = desk.web.get(f"/work/{work_id}?tab={tab}")
        assert answer.status_code == 200
        assert "version 1 is not kept any more" in answer.text
    assert desk.web.get(f"/api/v1/work/{work_id}/snapshots/1").status_code == 400


def test_a_blob_is_found_by_its_hash_with_all_who_use_it(desk: Desk) -> None:
    notes = [["notes.md", "# Notes", "text/markdown"]]
    ids = [desk.enqueue({"artifacts": notes}) for _ in range(2)]
    desk.enqueue({"artifacts": [["other.txt", "other", "text/plain"]]})
    desk.work()
    digest = hashlib.sha256(b"# Notes").hexdigest()
    page = main_of(desk.web.get("/artifacts").text)
    assert "notes.md" in page
    assert "other.txt" in page
    page = main_of(desk.web.get(f"/artifacts?q={digest[:9]}").text)
    assert "notes.md" in page
    assert "other.txt" not in page
    page = main_of(desk.web.get(f"/artifacts/{digest}").text)
    assert "its bytes have this hash" in page
    assert "<h1>Notes</h1>" in page
    uses = page.split('id="uses"')[1]
    assert all(work_id in uses for work_id in ids)
    assert desk.web.get(f"/artifacts/{'0' * 64}").status_code == 404
    [row] = desk.web.get(f"/api/v1/artifacts?q={digest}").json()["artifacts"]
    assert (row["digest"], row["name"], len(row["uses"])) == (digest, "notes.md", 2)


def test_a_conversation_shows_who_has_the_turn_and_who_is_behind(make: Make) -> None:
    desk = make(namespace="team")
    first, second, third = (desk.enqueue({}, conversation=SCRIPT[:20], delay_seconds=100) for _ in range(3))
    page = main_of(desk.web.get("/conversations").text)
    assert page.index(first) < page.index(second) < page.index(third)
    assert "<script>" not in page
    found = desk.web.get("/api/v1/conversations").json()["conversations"]
    assert found[0]["line"] == [first, second, third]
    detail = main_of(desk.web.get(f"/work/{second.replace('/', '~')}").text)
    assert "waits behind it" in detail.split('id="conversation"')[1]
    other = make(namespace="other")
    assert first not in other.web.get("/conversations").text


def test_who_did_what_is_on_one_page(desk: Desk) -> None:
    work_id = desk.enqueue({}, delay_seconds=1000)
    done = desk.enqueue({})
    desk.work()
    desk.web.post(f"/work/{work_id}/pause", data={"reason": "look first"})
    desk.web.post(
        "/switches", data={"kind": "engine", "name": "scripted", "to": "pause", "reason": "release"}
    )
    desk.run(desk.runtime.client.purge(done, "no use"))
    page = main_of(desk.web.get("/events?by=people").text)
    assert "look first" in page
    assert '>purge</span> <span class="mono">' in page.replace("</svg>", "")
    assert "no use" in page
    assert "engine scripted" in page
    assert "release" in page
    assert "console:" in page
    assert "committed" not in page.split("<tbody>")[1]
    assert done in page  # somebody enqueued it
    only = main_of(desk.web.get("/events?by=people&kind=switched").text)
    assert "look first" not in only
    kinds = [one["kind"] for one in desk.web.get("/api/v1/events?by=people").json()["entries"]]
    assert kinds[:3] == ["operated", "switched", "paused"]


def test_an_engine_shows_the_versions_that_are_at_work(desk: Desk) -> None:
    for version in ("3.1", "3.2"):
        engine = Versioned(version)
        desk.runtime.engines.add(engine)
        desk.enqueue({}, engine="versioned")
        desk.work()
    page = main_of(desk.web.get("/engines").text)
    assert '<span class="tag">3.1</span> <span class="muted">1 steps</span>' in page
    assert '<span class="tag">3.2</span>' in page


class Versioned:
    """One step."""

    engine_id = "versioned"

    def __init__(self, version: str) -> None:
        self.engine_version = version

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.finish()


def test_work_shows_what_it_cost_when_asked(desk: Desk) -> None:
    work_id = desk.enqueue({"data": {"a": 1}})
    desk.work()
    page = main_of(desk.web.get(f"/work/{work_id}?tab=cost").text)
    assert "entries" in page.split('id="panel"')[1]
    assert "this storage is local" in page
    assert desk.web.get(f"/api/v1/work/{work_id}/cost").json()["entries"] == 4


def test_a_typed_form_enqueues_for_an_engine_with_a_model(desk: Desk) -> None:
    form = desk.web.get("/work/new?engine=demo").text
    assert 'name="payload.count"' in form
    made = desk.web.post("/work/new", data={"engine": "demo", "typed": "demo", "payload.count": "4"})
    work_id = made.headers["location"].split("/")[2].split("?")[0]
    assert desk.run(desk.runtime.client.status(work_id)).item.payload["count"] == 4
    wrong = desk.web.post("/work/new", data={"engine": "demo", "typed": "demo", "payload.count": "many"})
    assert 'role="alert"' in wrong.text
    assert 'value="many"' in wrong.text


def test_work_of_an_engine_that_no_live_worker_runs_says_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.core.why.QUIET_SECONDS", -1.0)
    unknown = desk.enqueue({}, engine="nobody")
    assert "no worker that is known runs engine nobody" not in desk.web.get(f"/work/{unknown}").text
    desk.enqueue({})
    desk.work()  # now a worker is seen, and what it runs
    assert "none that looked at it has that" in desk.web.get(f"/work/{unknown}").text
    later = desk.enqueue({}, engine="nobody")  # nobody has looked at it
    assert "no worker that is known runs engine nobody" in desk.web.get(f"/work/{later}").text


def test_the_cost_of_a_family_stands_beside_that_of_one(desk: Desk) -> None:
    work_id = desk.enqueue({"data": {"a": 1}}, family_budget={"steps": 50.0})
    desk.work()
    panel = main_of(desk.web.get(f"/work/{work_id}?tab=cost").text).split('id="panel"')[1]
    assert "Family" in panel
    assert "steps 2 of 50" in panel
