"""The pure parts: filters, the picture of a journal, comparisons, redaction, grouping."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.console import told
from roost.console.pretty import compare, pretty
from roost.console.reads import group
from roost.console.redaction import Redaction
from roost.console.timeline import draw
from roost.console.urls import WorkIdConvertor, segment
from roost.core import where
from roost.errors import InputError, SettingsError
from roost.journal.control import apply
from roost.journal.entries import Control, Entry, IndexRow
from roost.journal.events import AttemptFailed, Claimed, Committed, Enqueued, Event
from roost.journal.values import ErrorInfo
from roost.models import Lane, State

NOW = 1_000_000.0


def row(**fields: Any) -> IndexRow:
    plain: dict[str, Any] = {
        "work_id": "w",
        "engine": "demo",
        "state": State.QUEUED,
        "lane": Lane.NORMAL,
        "position": 0,
        "version": 0,
        "step": "",
        "created_at": NOW - 60,
        "updated_at": NOW - 60,
        "since": NOW - 60,
    }
    return IndexRow(**{**plain, **fields})


def journal(*events: tuple[float, Event]) -> list[Entry]:
    entries: list[Entry] = []
    control: Control | None = None
    for position, (at, event) in enumerate(events):
        control = apply(control, event, position=position, at=at)
        entries.append(Entry("w", position, str(position), at, "a", event, control))
    return entries


ERROR = ErrorInfo("TimeoutError", "no answer")


@pytest.mark.parametrize(
    ("text", "fields", "matches"),
    [
        ("state:failed", {"state": State.FAILED}, True),
        ("engine:demo", {}, True),
        ("-engine:demo", {}, False),
        ("-engine:other", {}, True),
        ("engine:de*", {}, True),
        ("lane:high", {"lane": Lane.HIGH}, True),
        ("lane:high", {}, False),
        ("attempts>2", {"failures": 3}, True),
        ("attempts>2", {"failures": 2}, False),
        ("created>30s", {}, True),
        ("-created<2m", {}, False),
        ("worker:w-1", {"worker_id": "w-1"}, True),
        ("time", {"reason": "TimeoutError: x"}, True),
        ('reason:"*no answer*"', {"reason": "TimeoutError: no answer in 3 s"}, True),
        ('reason:"*no answer*"', {"reason": "TimeoutError: no  answer"}, False),
        ('-reason:"*no answer*"', {"reason": "no answer"}, False),
        ('reason:""', {"reason": ""}, True),
        ('reason:""', {"reason": "no answer"}, False),
        ('"no answer" state:queued', {"reason": "no answer"}, True),
        ('label:"team=a b"', {"labels": (("team", "a b"),)}, True),
        ("label:team=*", {"labels": (("team", "x"),)}, True),
        ("time", {}, False),
    ],
)
def test_filters(text: str, fields: dict[str, Any], matches: bool) -> None:
    parsed = where.parse(text, NOW)
    found = row(**fields)
    is_in_query = (parsed.query.state in (None, found.state)) and (
        parsed.query.engine in (None, found.engine)
    )
    assert (is_in_query and parsed.matches(found)) is matches


@pytest.mark.parametrize("text", ["http://host/", "domain:example.com", '"statee:done"'])
def test_words_with_a_colon_that_are_no_slips_are_looked_for(text: str) -> None:
    assert where.parse(text, NOW).matches(row(reason=f"at {text.strip(chr(34))}"))


def test_what_the_index_can_do_is_left_to_it() -> None:
    parsed = where.parse("state:failed engine:demo id:01j created<1h", NOW)
    assert parsed.checks == ()
    assert (parsed.query.state, parsed.query.engine, parsed.query.id_prefix) == ("failed", "demo", "01j")
    assert parsed.query.created_after == NOW - 3600


@pytest.mark.parametrize(
    "text",
    [
        "state:lost",
        "state:",
        "-reason:",
        "created<",
        "label:",
        "statee:done",
        "-engin:demo",
        "lane:x",
        "-state:x",
        "created<soon",
        "attempts:many",
        "x " * 21,
        "a" * 1001,
        "step>3",
    ],
)
def test_filters_that_are_not_understood(text: str) -> None:
    with pytest.raises(InputError):
        where.parse(text, NOW)


@given(st.text(max_size=80))
def test_any_text_is_a_filter_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        where.parse(text, NOW).matches(row())


def test_a_picture_shows_who_held_it_and_the_gaps() -> None:
    entries = journal(
        (0, Enqueued("demo")),
        (10, Claimed("a", 40)),
        (20, Committed(1, "one", lease_until=50)),
        (100, Claimed("b", 130)),  # a went silent
        (110, AttemptFailed(ERROR, 120)),
        (120, Claimed("b", 150)),
        (130, Committed(2, "two", is_finished=True)),
    )
    picture = draw(entries, 130)
    assert picture is not None
    assert list(picture.lanes) == ["a", "b", ""]
    assert [(bar.lane, bar.shade) for bar in picture.bars] == [
        ("", "que"),
        ("a", "ok"),
        ("a", "silent"),
        ("b", "bad"),
        ("", "sched"),
        ("b", "ok"),
    ]
    assert len(picture.takeovers) == 1
    assert picture.bars[-1].x + picture.bars[-1].width == pytest.approx(100, abs=0.1)


def test_who_holds_a_lease_by_its_heartbeats_is_drawn_as_running() -> None:
    """The journal has the lease as it was claimed alone."""
    entries = journal((0, Enqueued("demo")), (10, Claimed("a", 40)))
    for until, shade in ((None, "silent"), (45.0, "silent"), (130.0, "run")):
        picture = draw(entries, 100, lease_until=until)
        assert picture is not None
        assert picture.bars[-1].shade == shade
        assert picture.failures == (shade == "silent")


@pytest.mark.parametrize(("seconds", "digits"), [(600.0, 0), (3.0, 1), (0.06, 3)])
def test_times_on_the_axis_do_not_read_alike(seconds: float, digits: int) -> None:
    picture = draw(journal((0, Enqueued("demo")), (0, Claimed("a", 40))), seconds)
    assert picture is not None
    assert {tick.digits for tick in picture.ticks} == {digits}


def test_a_long_sleep_leaves_room_for_the_steps() -> None:
    entries = journal(
        (0, Enqueued("demo")),
        (1, Claimed("a", 40)),
        (2, Committed(1, "one", wake_at=1_000_000)),
        (1_000_000, Claimed("a", 1_000_040)),
        (1_000_001, Committed(2, "two", is_finished=True)),
    )
    picture = draw(entries, NOW)
    assert picture is not None
    assert min(bar.width for bar in picture.bars if bar.shade == "ok") > 20


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("cfr"), st.floats(-5, 500)), max_size=12), st.floats(-100, 5000))
def test_any_journal_has_a_picture_of_full_width(moves: list[tuple[str, float]], now: float) -> None:
    """Clocks may go back between two writers; bars never do."""
    events: list[tuple[float, Event]] = [(0.0, Enqueued("demo"))]
    at, version = 0.0, 0
    for kind, gap in moves:
        at += gap
        events.append((at, Claimed("w" + kind, at + 30)))
        if kind == "c":
            version += 1
            events.append((at + 1, Committed(version, "s")))
        if kind == "f":
            events.append((at + 1, AttemptFailed(ERROR, at + 2)))
    picture = draw(journal(*events), now)
    assert picture is not None
    assert all(bar.width >= 0 and bar.x >= 0 for bar in picture.bars)
    total = sum(bar.width for bar in picture.bars)
    assert total == pytest.approx(100, abs=0.2) or total == 0


def test_plain_commits_in_a_row_are_one_line() -> None:
    events: list[tuple[float, Event]] = [(0, Enqueued("demo")), (1, Claimed("a", 40))]
    events += [(2 + n, Committed(n + 1, "s", lease_until=99)) for n in range(9)]
    entries = journal(*events)[::-1]
    lines = told.fold([told.tell(entry, None) for entry in entries])
    assert [type(line).__name__ for line in lines] == ["Told", "Fold", "Told", "Told"]
    assert isinstance(lines[1], told.Fold)
    assert lines[1].text == "8 commits: v1 to v8"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_pretty_is_the_same_document(value: Any) -> None:
    shown = pretty(value)
    assert shown.is_whole
    assert json.loads(shown.text) == value


def test_pretty_stops_where_it_is_enough() -> None:
    shown = pretty({"a": list(range(10_000_000))[:1_000_000], "b": "x" * 5_000_000}, max_chars=1000)
    assert not shown.is_whole
    assert len(shown.text) < 1100


@given(JSON, JSON)
def test_a_comparison_holds_both_documents(left: Any, right: Any) -> None:
    lines = compare({"a": left, "b": right}, {"a": right, "b": left})
    assert lines is not None
    assert any(line.kind in ("add", "del") for line in lines) or (json.dumps(left) == json.dumps(right))


def test_documents_that_are_too_large_are_not_compared() -> None:
    assert compare({"a": "x" * 100_000}, {}) is None


@pytest.mark.parametrize(
    ("rule", "hidden"),
    [
        ("pin", {"pin": "[hidden]", "in": {"pin": "[hidden]", "l": [{"pin": "[hidden]"}]}}),
        ("in.pin", {"pin": 1, "in": {"pin": "[hidden]", "l": [{"pin": 3}]}}),
        ("in.l.*.pin", {"pin": 1, "in": {"pin": 2, "l": [{"pin": "[hidden]"}]}}),
        ("in.l", {"pin": 1, "in": {"pin": 2, "l": "[hidden]"}}),
        ("demo:pin", {"pin": "[hidden]", "in": {"pin": "[hidden]", "l": [{"pin": "[hidden]"}]}}),
        ("other:pin", {"pin": 1, "in": {"pin": 2, "l": [{"pin": 3}]}}),
    ],
)
def test_redaction(rule: str, hidden: dict[str, Any]) -> None:
    value = {"pin": 1, "in": {"pin": 2, "l": [{"pin": 3}]}}
    assert Redaction([rule]).apply("demo", value) == hidden
    assert value["pin"] == 1


@pytest.mark.parametrize("rule", ["", "a..b", ".a", "a b:c", "x:"])
def test_redaction_that_names_nothing(rule: str) -> None:
    with pytest.raises(SettingsError):
        Redaction([rule])


def test_errors_are_alike_but_for_numbers_ids_and_quotes() -> None:
    reasons = ["no 'a' in 31 s at 0xdeadbeef", "no 'bcd' in 7 s at 0x1", "disk full"]
    groups = group([row(state=State.FAILED, reason=reason) for reason in reasons])
    assert [len(found.rows) for found in groups] == [2, 1]


@given(st.from_regex(r"([a-z0-9-]{1,20}/)?[A-Za-z0-9._:-]{1,30}", fullmatch=True))
def test_a_work_id_comes_back_from_its_address(work_id: str) -> None:
    assert WorkIdConvertor().convert(segment(work_id)) == work_id
    assert "/" not in segment(work_id)


def test_a_change_far_into_a_text_is_never_called_none() -> None:
    left, right = {"a": "x" * 50_000}, {"a": "x" * 49_999 + "y"}
    lines = compare(left, right)
    assert lines is not None
    assert {line.kind for line in lines} >= {"add", "del"}
