"""Settings: one order in which they count, and errors that name where they stand."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from roost.config import Settings, load_settings, parse_duration
from roost.errors import SettingsError
from roost.names import Lane
from roost.storage.instrument import crash_hook


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, in which the search for files ends."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    return project


def _load(folder: Path, /, overrides: dict[str, Any] | None = None, **environ: str) -> Settings:
    return load_settings(overrides, environ=environ, directory=folder)


def _user_file(folder: Path, text: str) -> Path:
    path = folder.parent / "user" / "roost" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def _refused(folder: Path, /, overrides: dict[str, Any] | None = None, **environ: str) -> str:
    """The message and hint of the error that loading must end with."""
    with pytest.raises(SettingsError) as caught:
        _load(folder, overrides, **environ)
    return f"{caught.value} | {caught.value.hint}"


def test_defaults_need_no_file(folder: Path) -> None:
    settings = _load(folder)
    assert settings.storage == "local"
    assert settings.lease_seconds == 30
    assert settings.worker.engines == "all"
    assert not settings.testing
    assert settings.sources == {}


# --- precedence ----------------------------------------------------------------------


def test_each_place_counts_more_than_the_next(folder: Path) -> None:
    user = _user_file(folder, "lease_seconds = 1\n")
    assert _load(folder).lease_seconds == 1
    project = folder / "roost.toml"
    project.write_text("lease_seconds = 2\n")
    assert _load(folder).lease_seconds == 2
    assert _load(folder, ROOST_LEASE_SECONDS="3").lease_seconds == 3
    top = _load(folder, {"lease_seconds": "4"}, ROOST_LEASE_SECONDS="3")
    assert top.lease_seconds == 4
    assert _load(folder).sources == {"lease_seconds": str(project)}
    assert top.sources == {"lease_seconds": "command line: --lease-seconds"}
    project.unlink()
    assert _load(folder).sources == {"lease_seconds": str(user)}


def test_places_are_merged_key_by_key(folder: Path) -> None:
    (folder / "roost.toml").write_text(
        "[worker]\nconcurrency = 2\nburst_steps = 3\n[engines.watchlist]\na = 1\n"
    )
    settings = _load(
        folder,
        {"worker": {"concurrency": 5, "engines": None}},
        ROOST_WORKER__CONCURRENCY="4",
        ROOST_WORKER__ENGINES="demo",
        ROOST_ENGINES__WATCHLIST__B="2",
    )
    assert settings.worker.concurrency == 5
    assert settings.worker.burst_steps == 3
    assert settings.worker.engines == "demo"
    assert settings.engines == {"watchlist": {"a": 1, "b": 2}}
    assert settings.sources["worker.engines"] == "environment: ROOST_WORKER__ENGINES"


@pytest.mark.parametrize("given", ["low, high", ["high", "low", "high"]])
def test_lanes_are_highest_first_however_they_were_named(folder: Path, given: object) -> None:
    assert _load(folder, {"worker": {"lanes": given}}).worker.lanes == (Lane.HIGH, Lane.LOW)
    assert _load(folder).worker.lanes == (Lane.HIGH, Lane.NORMAL, Lane.LOW)


@pytest.mark.parametrize("given", ["", "urgent"])
def test_a_worker_serves_a_lane_that_there_is(folder: Path, given: str) -> None:
    with pytest.raises(SettingsError, match=r"worker.lanes|--lanes"):
        _load(folder, {"worker": {"lanes": given}})


def test_project_file_is_found_from_below_up_to_the_repository(folder: Path) -> None:
    (folder.parent / "roost.toml").write_text("lease_seconds = 9\n")
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    assert _load(below).lease_seconds == 30
    (folder / "roost.toml").write_text("lease_seconds = 2\n")
    assert _load(below).lease_seconds == 2
    (below / "roost.toml").write_text("lease_seconds = 3\n")
    assert _load(below).lease_seconds == 3


@pytest.mark.parametrize("name", ["roost.toml", "pyproject.toml", "other.toml"])
def test_relative_paths_of_a_file_are_of_its_folder(folder: Path, name: str) -> None:
    """Else a project's work would be in another place for each folder that a command runs in."""
    folder = folder / "with space %20"
    below = folder / "below"
    below.mkdir(parents=True)
    texts = "home = 'data'\nstorage = 'local:work'\nartifacts = 'local:/blobs'\nworkspace.root = '~/trees'\n"
    (folder / name).write_text(f"[tool.roost]\n{texts}" if name == "pyproject.toml" else texts)
    environ = {"ROOST_CONFIG": str(folder / name)} if name == "other.toml" else {}
    settings = _load(below, **environ)
    assert settings.home == folder / "data"
    assert unquote(settings.storage) == f"local:{folder}/work"
    assert settings.artifacts == "local:/blobs"
    assert settings.workspace.root == Path("~/trees")
    assert _load(below, {"home": "mine"}, **environ).home == Path("mine")


def test_a_byte_order_mark_is_no_part_of_a_file(folder: Path) -> None:
    (folder / "roost.toml").write_bytes(b"\xef\xbb\xbflease_seconds = 7\n")
    assert _load(folder).lease_seconds == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("worker = 5", "settings of its own under it"),
        ("home = 5", "the path of a folder"),
        ("home = ''", "is empty"),
        ("console.admin_token = 'short'", "16 characters or more"),
        ("lease_seconds = '5 years'", ": not a duration"),
        ("testing = true\nclock_offset_seconds = 1e12", "clock_offset_seconds"),
    ],
)
def test_what_is_wrong_is_said_in_words(folder: Path, text: str, words: str) -> None:
    (folder / "roost.toml").write_text(text)
    assert words in _refused(folder)


def test_pyproject_can_hold_the_settings(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.roost]\nlease_seconds = 7\n")
    assert _load(folder).lease_seconds == 7


def test_pyproject_without_a_table_is_passed_by(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (folder / "roost.toml").write_text("lease_seconds = 7\n")
    assert _load(folder).lease_seconds == 7


def test_both_files_in_one_folder_is_an_error_that_names_both(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.roost]\n")
    (folder / "roost.toml").write_text("")
    message = _refused(folder)
    assert "pyproject.toml" in message
    assert "roost.toml" in message


def test_a_named_file_turns_the_search_off(folder: Path) -> None:
    _user_file(folder, "storage = 'memory'\n")
    (folder / "roost.toml").write_text("lease_seconds = 2\n")
    named = folder / "other.toml"
    named.write_text("log_level = 'error'\n")
    settings = _load(folder, ROOST_CONFIG=str(named))
    assert (settings.storage, settings.lease_seconds, settings.log_level) == ("local", 30, "error")
    assert load_settings(config_file=named, environ={}, directory=folder).log_level == "error"


def test_a_named_file_must_be_there(folder: Path) -> None:
    assert "missing.toml" in _refused(folder, ROOST_CONFIG=str(folder / "missing.toml"))


def test_an_empty_variable_is_not_set(folder: Path) -> None:
    settings = _load(folder, ROOST_HOME="", ROOST_LEASE_SECONDS="", ROOST_ARTIFACTS="", ROOST_CONFIG="")
    assert settings.home == Settings().home
    assert settings.artifacts is None


# --- values --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("0.5", 0.5)]
)
def test_durations_can_be_written_as_people_do(folder: Path, text: str, seconds: float) -> None:
    assert _load(folder, ROOST_LEASE_SECONDS=text).lease_seconds == seconds


def test_what_is_not_text_is_left_to_the_type() -> None:
    assert parse_duration(4) == 4
    assert parse_duration(None) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("5", 5),
        ('{"a": 1}', {"a": 1}),
        ("abc", "abc"),
        ("1.5", 1.5),
        ("{", "{"),
    ],
)
def test_engine_options_from_the_environment_are_json_or_text(folder: Path, text: str, value: object) -> None:
    settings = _load(folder, ROOST_ENGINES__WATCHLIST__ALLOW_PRIVATE=text)
    assert settings.engines == {"watchlist": {"allow_private": value}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ROOST_LEASE_SECONDS", "0.1"),
        ("ROOST_LEASE_SECONDS", "43201"),
        ("ROOST_LEASE_SECONDS", "nan"),
        ("ROOST_LEASE_SECONDS", "soon"),
        ("ROOST_WORKER__CONCURRENCY", "0"),
        ("ROOST_WORKER__CONCURRENCY", "2.5"),
        ("ROOST_WORKER__BURST_STEPS", "-1"),
        ("ROOST_WORKER__GRACE_SECONDS", "x"),
        ("ROOST_WORKER", "4"),
        ("ROOST_ENGINES", "x"),
        ("ROOST_ENGINES__WATCHLIST", "x"),
        ("ROOST_LOG_LEVEL", "loud"),
        ("ROOST_LOG_FORMAT", "xml"),
        ("ROOST_TESTING", "maybe"),
    ],
)
def test_a_wrong_value_names_its_variable(folder: Path, name: str, text: str) -> None:
    message = _refused(folder, **{name: text})
    assert name in message
    assert text in message


def test_a_wrong_value_names_its_option(folder: Path) -> None:
    assert "--lease-seconds" in _refused(folder, {"lease_seconds": "never"})
    assert "--concurrency" in _refused(folder, {"worker": {"concurrency": 0}})


def test_a_wrong_value_names_its_file(folder: Path) -> None:
    path = folder / "roost.toml"
    path.write_text("[worker]\nconcurrency = 'many'\n")
    message = _refused(folder)
    assert str(path) in message
    assert "worker.concurrency" in message


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ("[worker]\nconcurrency = true\n", "worker.concurrency", "true: it should be a number"),
        ("[worker]\nhealth_port = false\n", "worker.health_port", "false: it should be a number"),
        ("lease_seconds = true\n", "lease_seconds", "true: it should be a number"),
        ("[budgets.daily]\nusd = true\n", "budgets.daily.usd", "true: it should be a number"),
        (
            "[triggers.t]\nengine = 'a'\nenqueue = 'b'\npriority = true\n",
            "triggers.t.priority",
            "true: it should be a number",
        ),
        ("[observe]\notel = 1\n", "observe.otel", "1: it should be true or false"),
        ("[workspace]\nsave = 0.0\n", "workspace.save", "0.0: it should be true or false"),
        ("budgets.daily = true\n", "budgets.daily", "it has settings of its own under it, and no value"),
    ],
)
def test_a_number_is_no_truth_and_a_truth_no_number(folder: Path, text: str, key: str, told: str) -> None:
    path = folder / "roost.toml"
    path.write_text(text)
    message = _refused(folder)
    assert message.startswith(f"{path}: `{key}` is ")
    assert f"{told} |" in message


def test_a_variable_says_true_with_a_number(folder: Path) -> None:
    assert _load(folder, ROOST_OBSERVE__OTEL="1").observe.otel
    assert not _load(folder, ROOST_OBSERVE__OTEL="0").observe.otel


def test_the_place_that_is_named_is_the_one_that_counts(folder: Path) -> None:
    (folder / "roost.toml").write_text("lease_seconds = 0\n")
    assert "ROOST_LEASE_SECONDS" in _refused(folder, ROOST_LEASE_SECONDS="0")
    assert _load(folder, ROOST_LEASE_SECONDS="5").lease_seconds == 5


# --- unknown keys --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("storag = 'local'\n", "storag", "storage"),
        ("lease = 3\n", "lease", "lease_seconds"),
        ("[worker]\nconcurency = 3\n", "worker.concurency", "worker.concurrency"),
        ("[engine.watchlist]\n", "engine", "engines"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(folder: Path, text: str, key: str, nearest: str) -> None:
    path = folder / "roost.toml"
    path.write_text(text)
    message = _refused(folder)
    assert str(path) in message
    assert f"`{key}`" in message
    assert f"`{nearest}`" in message


def test_a_key_like_no_other_lists_the_valid_ones(folder: Path) -> None:
    (folder / "roost.toml").write_text("qqqq = 1\n")
    assert "lease_seconds" in _refused(folder)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ROOST_STORAG", "ROOST_STORAGE"),
        ("ROOST_WORKER__CONCURENCY", "ROOST_WORKER__CONCURRENCY"),
        ("ROOST_LEASE_SECOND", "ROOST_LEASE_SECONDS"),
        ("ROOST_HOM", "ROOST_HOME"),
        ("ROOST_BUDGETS__DAYLY", "ROOST_BUDGETS__DAILY"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest(folder: Path, name: str, nearest: str) -> None:
    message = _refused(folder, **{name: "1"})
    assert name in message
    assert f"{nearest}?" in message


def test_variables_of_others_are_left_alone(folder: Path) -> None:
    _load(folder, ROOSTER="1", PATH="/bin", ROOST_DEBUG="1", ROOST_CONFIG="")


# --- files that can't be read --------------------------------------------------------


def test_malformed_toml_names_file_and_line(folder: Path) -> None:
    path = folder / "roost.toml"
    path.write_text("storage = 'local'\n[worker\n")
    message = _refused(folder)
    assert str(path) in message
    assert "line 2" in message


def test_a_file_that_is_not_text_is_named(folder: Path) -> None:
    path = folder / "roost.toml"
    path.write_bytes(b"storage = '\xff'\n")
    assert str(path) in _refused(folder)


@pytest.mark.parametrize("text", ["tool = 3\n", "[tool]\nroost = 3\n", "[[tool]]\nroost = 3\n"])
def test_a_pyproject_of_another_shape_is_no_crash(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    with contextlib.suppress(SettingsError):
        _load(folder)


# --- seams ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"), [("ROOST_CRASH_AT", "after-append:1"), ("ROOST_CLOCK_OFFSET_SECONDS", "60")]
)
def test_seams_need_testing(folder: Path, name: str, text: str) -> None:
    message = _refused(folder, **{name: text})
    assert name in message
    assert "ROOST_TESTING" in message
    _load(folder, ROOST_TESTING="1", **{name: text})


def test_a_seam_in_a_file_needs_testing_too(folder: Path) -> None:
    (folder / "roost.toml").write_text("clock_offset_seconds = 60\n")
    assert "ROOST_TESTING" in _refused(folder)


@pytest.mark.parametrize(
    "text", ["nope:1", "after-append:0", "after-append:-1", "after-append:x", "append:1"]
)
def test_a_crash_point_that_never_comes_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="no crash point"):
        crash_hook(text)


@pytest.mark.parametrize(
    "overrides",
    [
        {"namespace": "team\n"},
        {"aws": {"stack": "roost\n"}},
        {"aws": {"bucket": "bucket\n"}},
        {"triggers": {"after\n": {"engine": "a", "enqueue": "b"}}},
    ],
)
def test_a_name_does_not_end_with_a_line(folder: Path, overrides: dict[str, Any]) -> None:
    assert "should match pattern" in _refused(folder, overrides)
