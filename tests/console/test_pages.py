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

from roost import Snapshot, WorkItem
from roost.names import Order
from tests.console.conftest import Desk, Make, main_of

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


def test_the_copied_command_lists_the_same(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels, parents, negations, ages, order: whatever the filter of the page."""
    from roost.cli import look, options

    monkeypatch.setattr(options.REMOTE, "url", None)  # what a command before set for its process
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
    assert ">2592000<" in page
    assert ">false<" in page, "as one writes it into the file"
    assert "False" not in page


def test_a_silent_worker_and_a_failing_engine_need_attention(desk: Desk) -> None:
    for _ in range(4):
        desk.enqueue({"fail": "no answer"})
    desk.work()
    page = desk.web.get("/").text
    assert "scripted fails 100 % of its attempts" in page


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
