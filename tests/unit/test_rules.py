"""Triggers and schedules: what settings are taken, and what they say of a moment."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from roost.config import load_settings
from roost.errors import SettingsError
from roost.names import State
from roost.rules import TICK_GRACE_SECONDS, TICKS_MAX, Missed, Schedule, Trigger

ENDED: dict[str, Any] = {
    "state": "done",
    "item": {"work_id": "w", "engine": "a", "payload": {"topic": "owls", "size": 3}},
    "snapshot": {"data": {"answers": ["x", "y"], "none": None, "zero": 0, "empty": []}},
    "error": None,
}


def read(tmp_path: Path, text: str) -> Any:
    (tmp_path / "roost.toml").write_text(text)
    return load_settings(directory=tmp_path, environ={})


# --- settings --------------------------------------------------------------------


def test_rules_are_read_from_the_settings_file(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
        [triggers.report]
        engine = "research"
        on = ["done", "failed"]
        when = "snapshot.data.answers"
        enqueue = "reporter"
        payload = { topic = "item.payload.topic" }

        [schedules.nightly]
        cron = "30 3 * * MON-FRI"
        timezone = "Europe/Berlin"
        engine = "research"
        payload = { topic = "owls" }
        missed = "skip"
        """,
    )
    assert settings.triggers["report"].on == (State.DONE, State.FAILED)
    assert settings.schedules["nightly"].missed is Missed.SKIP
    assert settings.sources["schedules.nightly.cron"].endswith("roost.toml")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('[triggers.t]\nengine="a"\nenqueue="b"\nwhen="snapshot.["', "JMESPath"),
        ('[triggers.t]\nengine="a"\nenqueue="b"\npayload={x="]"}', "JMESPath"),
        ('[triggers.t]\nengine="a"\nenqueue="b"\non="running"', "done, failed, cancelled"),
        ('[triggers.t]\nengine="a"\nenqueue="b"\non=[]', "done, failed, cancelled"),
        ('[triggers.t]\nengine="a"', "enqueue"),
        ('[triggers.t]\nengine="a b"\nenqueue="b"', "triggers.t.engine"),
        ('[triggers.t]\nengine="a"\nenqueue="b"\nwhem="x"', "Did you mean `triggers.t.when`"),
        ('[triggers."a b"]\nengine="a"\nenqueue="b"', "triggers"),
        ('[schedules.s]\nengine="a"\ncron="* * * *"', "5 fields"),
        ('[schedules.s]\nengine="a"\ncron="* * * * * *"', "5 fields"),
        ('[schedules.s]\nengine="a"\ncron="61 * * * *"', "no cron line"),
        ('[schedules.s]\nengine="a"\ncron="0 0 30 2 *"', "no cron line"),
        ('[schedules.s]\nengine="a"\ncron="* * * * *"\ntimezone="Mars/Olympus"', "no time zone"),
        ('[schedules.s]\nengine="a"\ncron="* * * * *"\ntimezone="Europe"', "no time zone"),
        ('[schedules.s]\nengine="a"\ncron="* * * * *"\ntimezone="../../etc/passwd"', "no time zone"),
        ('[schedules.s]\nengine="a"\ncron="* * * * *"\nmissed="never"', "missed"),
        (
            '[schedules.s]\nengine="a"\ncron="* * * * *"\ntime_zone="UTC"',
            "Did you mean `schedules.s.timezone`",
        ),
    ],
)
def test_wrong_rule_is_refused_when_the_file_is_read(tmp_path: Path, rule: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, rule)
    assert said in f"{caught.value} {caught.value.hint}"
    assert "roost.toml" in str(caught.value)


# --- triggers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "fires"),
    [
        (None, True),
        ("snapshot.data.answers", True),
        ("snapshot.data.nothing", False),
        ("snapshot.data.none", False),
        ("snapshot.data.empty", False),
        ("snapshot.data.zero", True),
        ("length(snapshot.data.answers) > `1`", True),
        ("item.payload.topic == 'cats'", False),
        ("error.type == 'ValueError'", False),
    ],
)
def test_condition_is_true_as_jmespath_has_it(when: str | None, fires: bool) -> None:
    trigger = Trigger(engine="a", enqueue="b", when=when)
    assert (trigger.payload_of(ENDED) is not None) is fires


def test_payload_is_made_field_by_field() -> None:
    fields = {
        "topic": "item.payload.topic",
        "first": "snapshot.data.answers[0]",
        "mode": "'deep'",
        "n": "`5`",
    }
    trigger = Trigger(engine="a", enqueue="b", payload=fields)
    assert trigger.payload_of(ENDED) == {"topic": "owls", "first": "x", "mode": "deep", "n": 5}


def test_expression_that_does_not_fit_is_an_error_of_its_own() -> None:
    with pytest.raises(ValueError, match="length"):
        Trigger(engine="a", enqueue="b", when="length(item.payload.size)").payload_of(ENDED)


# --- schedules -------------------------------------------------------------------


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def schedule(cron: str, zone: str = "UTC", missed: Missed = Missed.ONCE) -> Schedule:
    return Schedule(cron=cron, timezone=zone, engine="a", missed=missed)


def test_next_tick_is_after_the_instant_never_at_it() -> None:
    hourly = schedule("0 * * * *")
    assert hourly.next_tick(at("2026-01-01 10:00")) == at("2026-01-01 11:00")
    assert hourly.next_tick(at("2026-01-01 10:00") - 0.001) == at("2026-01-01 10:00")


def test_tick_follows_the_clocks_of_its_zone() -> None:
    daily = schedule("0 9 * * *", "Europe/Berlin")
    assert daily.next_tick(at("2026-03-28 12:00")) == at("2026-03-29 07:00")  # summer time has begun
    assert daily.next_tick(at("2026-01-10 12:00")) == at("2026-01-11 08:00")


def test_hour_that_is_skipped_or_comes_twice_ticks_once() -> None:
    """Debian's cron: a fixed hour within the gap runs right after it; within the overlap, once."""
    daily = schedule("30 2 * * *", "Europe/Berlin")
    spring, autumn = at("2026-03-29 00:00", "Europe/Berlin"), at("2026-10-25 00:00", "Europe/Berlin")
    for start in (spring, autumn):
        first = daily.next_tick(start)
        assert first is not None
        assert first < start + 4 * 3600
        second = daily.next_tick(first)
        assert second is not None
        assert second > start + 24 * 3600


@pytest.mark.parametrize(
    ("missed", "late", "expected"),
    [
        (Missed.ONCE, 5.0, [0.0]),
        (Missed.SKIP, 5.0, [0.0]),
        (Missed.ALL, 5.0, [0.0]),
        (Missed.ONCE, 3 * 3600.0 + 600, [3 * 3600.0]),
        (Missed.SKIP, 3 * 3600.0 + 600, []),
        (Missed.ALL, 3 * 3600.0 + 600, [0.0, 3600.0, 7200.0, 10800.0]),
        (Missed.ONCE, 3 * 3600.0 + 5, [3 * 3600.0]),
        (Missed.SKIP, 3 * 3600.0 + 5, [3 * 3600.0]),
    ],
)
def test_missed_ticks_go_by_policy(missed: Missed, late: float, expected: list[float]) -> None:
    first = at("2026-01-01 10:00")
    ticks, after = schedule("0 * * * *", missed=missed).due_ticks(first, first + late)
    assert [tick - first for tick in ticks] == expected
    assert after == first + (late // 3600 + 1) * 3600


def test_two_ticks_of_the_last_minute_are_both_on_time() -> None:
    first = at("2026-01-01 10:00")
    for missed in Missed:
        ticks, _ = schedule("* * * * *", missed=missed).due_ticks(first, first + TICK_GRACE_SECONDS)
        assert ticks == [first, first + 60.0]


@pytest.mark.parametrize(("missed", "counts"), [(Missed.ONCE, 1), (Missed.SKIP, 0), (Missed.ALL, 250)])
def test_a_long_pause_is_gone_through_in_bounded_looks(missed: Missed, counts: int) -> None:
    every_minute, first = schedule("* * * * *", missed=missed), at("2026-01-01 10:00")
    now, tick, taken, looks = first + 249 * 60 + 61, first, [], 0
    while tick <= now:
        ticks, after = every_minute.due_ticks(tick, now)
        assert after is not None
        assert len(ticks) <= TICKS_MAX
        taken, tick, looks = taken + ticks, after, looks + 1
    assert len(set(taken)) == len(taken) == counts + (1 if missed is not Missed.ONCE else 0)
    assert looks == 3
