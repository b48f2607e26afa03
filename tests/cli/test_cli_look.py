"""`roost status`, `list`, `events`, `logs`, `history` and `wait`, for people and for programs."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from roost import spent
from roost.core import finding
from tests.cli.conftest import Roost, read_until

CONTROL_KEYS = {
    "budget",
    "paused",
    "paused_by",
    "paused_until",
    "spent",
    "state", "engine", "position", "created_at", "since", "lane", "version", "step", "snapshot_position",
    "lease", "failures", "interruptions", "wake_at", "waits", "deadline_at", "cancel_requested", "reason",
}  # fmt: skip


# --- status --------------------------------------------------------------------------


def test_status_json_before_and_after_the_work(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 2})
    before = roost("status", work_id, "--json").ok().document
    assert set(before) == {"item", "control", "children", "snapshot", "artifacts", "cost"}
    assert set(before["control"]) == CONTROL_KEYS
    assert before["item"]["payload"] == {"count": 2}
    assert before["control"]["state"] == "queued"
    assert before["snapshot"] is None
    assert before["artifacts"] == []
    roost.work()
    after = roost("status", work_id, "--json").ok().document
    assert after["control"]["state"] == "done"
    assert after["control"]["version"] == after["snapshot"]["version"] == 2
    assert after["snapshot"]["data"] == {"count": 2, "of": 2}
    assert after["cost"]["entries"] == after["control"]["position"] + 1
    assert before["cost"]["bytes"] < after["cost"]["bytes"] < 20_000
    assert after["cost"]["is_whole"]
    assert after["cost"]["aws"] is None


def test_the_cost_of_a_long_journal_is_that_of_its_beginning(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spent, "ENTRIES_MAX", 3)
    work_id = roost.enqueue({"count": 4})
    roost.work()
    cost = roost("status", work_id, "--json").ok().document["cost"]
    assert (cost["entries"], cost["is_whole"]) == (3, False)
    assert "of the first 3 entries" in roost("status", work_id).ok().out


def test_status_for_people_says_state_and_why(roost: Roost) -> None:
    work_id = roost.enqueue(None, "--delay", "1h")
    shown = roost("status", work_id).ok().out
    assert work_id in shown
    assert "scheduled" in shown
    assert "in 59 m" in shown or "in 1 h" in shown


def test_status_of_work_on_hold_says_who_holds_it_and_why(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_ACTOR", "ann")
    work_id = roost.enqueue(None, "--budget", "usd=3", "--budget", "steps=100")
    roost("pause", work_id, "--for", "2h", "--reason", "not before tonight").ok()
    shown = roost("status", work_id).ok().out
    assert "state:      paused\n" in shown
    assert "paused by ann (not before tonight) and goes on in" in shown
    assert "budget:     steps 0 of 100, usd 0 of 3\n" in shown


def test_instants_are_told_as_people_read_them(roost: Roost) -> None:
    """Seconds since 1970 are for programs: they get them with --json."""
    work_id = roost.enqueue({}, "--delay", "1h", "--deadline", "2h")
    shown = roost("events", work_id).ok().out
    assert re.search(r"wake_at=20\d\d-\S+Z deadline_at=20\d\d-\S+Z", shown)


def test_events_say_amounts_and_errors_in_words(roost: Roost) -> None:
    work_id = roost.enqueue({"count": "many"}, "--any-engine", "--budget", "usd=3")
    roost.work()
    shown = roost("events", work_id).ok().out
    assert "budget=usd:3" in shown
    assert "error=PayloadError: " in shown
    assert "ErrorInfo(" not in shown


def test_status_bounds_what_it_shows(roost: Roost) -> None:
    body = json.dumps({"text": "x" * 100_000})
    args = ("enqueue", "--engine", "x", "--any-engine", "--payload", body)
    work_id = roost(*args).ok().out.strip()
    shown = roost("status", work_id).ok().out
    assert len(shown) < 10_000
    assert roost("status", work_id, "--json").document["item"]["payload"]["text"] == "x" * 100_000


def test_text_of_others_can_not_steer_the_terminal(roost: Roost) -> None:
    body = json.dumps({"text": "\x1b[2J\u202egnp.exe"})
    roost("enqueue", "--engine", "x", "--any-engine", "--work-id", "evil", "--payload", body).ok()
    roost.enqueue(None, "--work-id", "held", "--resource", "a\u202eb")
    shown = roost("status", "evil").out + roost("status", "held").out + roost("events").out
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_watch_ends_with_the_work(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 1})
    roost.work()
    lines = roost("status", work_id, "--watch", "--json").ok().documents
    assert [line["control"]["state"] for line in lines] == ["done"]


# --- list ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3])
def test_list_json_is_valid_for_any_number_of_rows(roost: Roost, count: int) -> None:
    ids = [roost.enqueue() for _ in range(count)]
    shown = roost("list", "--json").ok().document
    assert [row["work_id"] for row in shown["rows"]] == ids[::-1]
    assert shown["cursor"] is None
    assert {row["state"] for row in shown["rows"]} <= {"queued"}


def test_list_of_nothing_prints_nothing_on_stdout(roost: Roost) -> None:
    assert roost("list").ok().out == ""


def test_piped_list_is_tab_separated_with_whole_ids(roost: Roost) -> None:
    long_id = "x" * 128
    roost.enqueue(None, "--work-id", long_id)
    lines = roost("list").ok().out.splitlines()
    assert len(lines) == 1
    assert lines[0].split("\t")[:3] == [long_id, "queued", "demo"]


def test_list_filters(roost: Roost) -> None:
    for work_id in ("a-1", "a-2", "b-1"):
        roost.enqueue(None, "--work-id", work_id)
    roost.enqueue(None, "--work-id", "a-3", "--delay", "1h")

    def ids(*options: str) -> list[str]:
        return sorted(row["work_id"] for row in roost("list", "--json", *options).ok().document["rows"])

    assert ids("--prefix", "a-") == ["a-1", "a-2", "a-3"]
    assert ids("--state", "scheduled") == ["a-3"]
    assert ids("--state", "queued", "--prefix", "a") == ["a-1", "a-2"]
    assert ids("--engine", "watchlist") == []
    assert ids("--prefix", "_") == []
    assert roost("list", "--prefix", "%").code == 2


def test_pages_go_on_at_the_cursor(roost: Roost) -> None:
    ids = [roost.enqueue() for _ in range(5)]
    seen: list[str] = []
    cursor: list[str] = []
    for _ in range(5):
        page = roost("list", "--json", "--limit", "2", *cursor).ok().document
        seen += [row["work_id"] for row in page["rows"]]
        if page["cursor"] is None:
            break
        cursor = ["--cursor", page["cursor"]]
    assert seen == ids[::-1]


def test_all_pages_at_once(roost: Roost) -> None:
    ids = [roost.enqueue() for _ in range(5)]
    page = roost("list", "--json", "--limit", "2", "--all").ok().document
    assert [row["work_id"] for row in page["rows"]] == ids[::-1]
    assert page["cursor"] is None


def test_a_page_is_full_where_few_of_many_rows_match(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look of the index may find less than a page, or nothing; the command goes on until it has one."""
    monkeypatch.setattr(finding, "SCAN_PAGE", 2)
    monkeypatch.setattr(finding, "SCAN_MAX", 2)
    for number in range(20):
        roost.enqueue(None, "--work-id", f"w{number}", "--priority", "-1" if number % 5 else "0")
    page = roost("list", "--json", "--where", "-lane:low", "--limit", "3").ok().document
    assert [row["work_id"] for row in page["rows"]] == ["w15", "w10", "w5"]
    rest = (
        roost("list", "--json", "--where", "-lane:low", "-n", "3", "--cursor", page["cursor"]).ok().document
    )
    assert [row["work_id"] for row in rest["rows"]] == ["w0"]
    assert rest["cursor"] is None


@pytest.mark.parametrize("cursor", ["x", "", "-1", "9" * 40, "٣", "1.5"])
def test_a_cursor_that_is_none_is_refused_or_empty(roost: Roost, cursor: str) -> None:
    roost.enqueue()
    assert roost("list", "--json", f"--cursor={cursor}").code in (0, 2)


# --- events --------------------------------------------------------------------------


def test_events_json_of_one_work_item(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 2})
    roost.enqueue({"count": 1})
    roost.work()
    lines = roost("events", work_id, "--json").ok().documents
    assert [line["position"] for line in lines] == list(range(len(lines)))
    assert [line["kind"] for line in lines] == ["enqueued", "claimed", "committed", "committed"]
    assert [line["version"] for line in lines] == [0, 0, 1, 2]
    assert {line["work_id"] for line in lines} == {work_id}
    for line in lines:
        assert {"work_id", "position", "kind", "version", "at", "actor", "detail"} <= set(line)
    assert all(left["at"] <= right["at"] for left, right in pairwise(lines))
    assert lines[0]["detail"]["engine"] == "demo"


def test_events_of_all_are_the_newest_oldest_first(roost: Roost) -> None:
    ids = [roost.enqueue() for _ in range(4)]
    assert [line["work_id"] for line in roost("events", "--json").ok().documents] == ids
    assert [line["work_id"] for line in roost("events", "--json", "-n", "2").ok().documents] == ids[2:]


def test_events_of_nothing_is_no_line(roost: Roost) -> None:
    assert roost("events", "--json").ok().out == ""
    assert roost("events").ok().out == ""


def test_limit_of_one_work_item_gives_its_newest(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 3})
    roost.work()
    lines = roost("events", work_id, "-n", "2", "--json").ok().documents
    assert [line["version"] for line in lines] == [2, 3]


@pytest.mark.slow
def test_follow_tells_what_happens_next(roost: Roost) -> None:
    first = roost.enqueue({"count": 1})
    process = roost.start("events", "--follow", "--json")
    read_until(process.stdout, first)
    second = roost.enqueue({"count": 1})
    assert json.loads(read_until(process.stdout, second))["kind"] == "enqueued"


def test_follow_ends_when_its_reader_leaves(roost: Roost) -> None:
    """Though nothing happens any more, and nothing is written that would fail."""
    work_id = roost.enqueue({"count": 1})
    for command in (["events", "--follow"], ["events", work_id, "--follow"], ["status", work_id, "--watch"]):
        process = roost.start(*command)
        read_until(process.stdout, work_id)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""


# --- logs ----------------------------------------------------------------------------

TELLS = """
from roost import RetryPolicy, Snapshot, current_step

class Tells:
    engine_id = "tells"
    retry = RetryPolicy(max_attempts=1)

    async def init_snapshot(self, item):
        return Snapshot.of(item)

    async def step(self, snapshot, item):
        current_step().log.warning("page %d\x1b[2J", snapshot.version + 1)
        if snapshot.version:
            raise TimeoutError("no answer")
        return snapshot.next()
"""


def test_logs_are_those_of_each_attempt(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    (roost.folder / "tells_engine.py").write_text(TELLS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(roost.folder))
    work_id = roost("enqueue", "--any-engine", "--engine", "tells").ok().out.strip()
    assert "no attempt that ended has logged anything" in roost("logs", work_id).ok().err
    assert roost("logs", work_id, "--json").ok().documents == []
    roost("worker", "--engines", "tells_engine:Tells", "--until-idle").ok()
    found = roost("logs", work_id, "--json").ok().documents
    assert [(line["kind"], line["version"], line["level"], line["text"]) for line in found] == [
        ("committed", 1, "warning", "page 1\N{REPLACEMENT CHARACTER}[2J"),
        ("attempt_failed", 1, "warning", "page 2\N{REPLACEMENT CHARACTER}[2J"),
    ]
    assert "page 2" in roost("logs", work_id, "-n", "1").ok().out
    assert roost("logs", "nobody").code == 3


# --- history -------------------------------------------------------------------------


def test_history_lists_versions(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 3})
    assert roost("history", work_id, "--json").ok().document == []
    roost.work()
    versions = roost("history", work_id, "--json").ok().document
    assert [version["version"] for version in versions] == [1, 2, 3]
    assert len(roost("history", work_id).ok().out.splitlines()) == 3


def test_history_says_what_changed(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 3})
    roost.work()
    found = {change["path"]: change for change in roost("history", work_id, "1", "3", "--json").ok().document}
    assert found["/data/count"] == {"op": "replace", "path": "/data/count", "old": 1, "value": 3}
    assert found["/is_finished"]["value"] is True
    assert "/data/of" not in found
    assert "/data/count" in roost("history", work_id, "1", "3").ok().out


def test_history_shows_one_version_as_the_step_was_given_it(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 3})
    roost.work()
    shown = roost("history", work_id, "2").ok().document
    assert (shown["version"], shown["data"]["count"], shown["is_finished"]) == (2, 2, False)


@pytest.mark.parametrize(
    "versions", [["9"], ["0"], ["1", "9"], ["0", "1"], ["-1", "1"], ["a", "b"], ["1", "9" * 30]]
)
def test_versions_that_are_not_there_are_wrong_input(roost: Roost, versions: list[str]) -> None:
    work_id = roost.enqueue({"count": 2})
    roost.work()
    result = roost("history", work_id, *versions)
    assert result.code == 2
    assert result.out == ""


# --- wait ----------------------------------------------------------------------------


def test_wait_for_work_that_is_done(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 1})
    roost.work()
    assert roost("wait", work_id, "--timeout", "5s").code == 0


def test_wait_for_work_that_failed(roost: Roost) -> None:
    """A payload that workers refuse is dead-lettered with that error."""
    args = ("enqueue", "--engine", "demo", "--any-engine", "--payload", '{"count": "three"}')
    work_id = roost(*args).ok().out.strip()
    roost.work()
    result = roost("wait", work_id)
    assert result.code == 7
    assert "count" in result.err
    assert roost("status", work_id, "--json").document["control"]["state"] == "failed"


def test_wait_tells_of_an_id_that_is_none_before_it_waits(roost: Roost) -> None:
    work_id = roost.enqueue()  # nobody runs it
    result = roost("wait", work_id, "nope")
    assert result.code == 3
    assert "nope" in result.err


def test_wait_gives_up_in_time(roost: Roost) -> None:
    work_id = roost.enqueue()
    assert roost("wait", work_id, "--timeout", "0.05").code == 124


def test_wait_takes_several(roost: Roost) -> None:
    ids = [roost.enqueue({"count": 1}) for _ in range(3)]
    roost.work()
    shown = roost("wait", *ids, "--timeout", "5s", "--json").ok().document
    assert [(row["work_id"], row["state"], row["version"]) for row in shown] == [(i, "done", 1) for i in ids]


def test_wait_refuses_a_timeout_that_is_none(roost: Roost) -> None:
    assert roost("wait", roost.enqueue(), "--timeout", "soon").code == 2
