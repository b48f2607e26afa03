"""`roost engines` and `roost doctor`."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Roost


def _install(folder: Path, name: str, target: str, code: str) -> None:
    """A package on `folder` with an entry point of `roost.engines`."""
    (folder / f"{name}_plugin.py").write_text(code)
    info = folder / f"{name}_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[roost.engines]\n{name} = {target}\n")


BROKEN = {
    "syntax": "def (:",
    "raises": "raise RuntimeError('not today')",
    "exits": "import sys; sys.exit(3)",
    "imports": "import no_such_module_anywhere",
    "lacks": "",
    "refuses": "def build(**options): raise ValueError('needs an option')",
    "none": "def build(): return None",
}


def test_engines_lists_the_shipped_ones(roost: Roost) -> None:
    rows = {row["name"]: row for row in roost("engines", "--json").ok().document}
    assert {"demo", "watchlist"} <= set(rows)
    assert rows["demo"]["payload"] == ["count", "delay_seconds"]
    assert rows["demo"]["error"] is None
    assert "demo" in roost("engines").ok().out


@pytest.fixture(params=sorted(BROKEN))
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The name of an installed engine that can't be loaded."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    name = str(request.param)
    _install(plugins, name, f"{name}_plugin:build", BROKEN[name])
    monkeypatch.syspath_prepend(str(plugins))
    return name


def test_a_broken_engine_is_shown_with_its_error(roost: Roost, broken: str) -> None:
    rows = {row["name"]: row for row in roost("engines", "--json").ok().document}
    assert rows[broken]["error"]
    assert rows["demo"]["error"] is None
    assert roost("engines").ok().out
    result = roost("doctor", "--json")
    assert result.code == 1
    assert [finding["name"] for finding in result.document if not finding["is_ok"]] == [f"engine {broken}"]


def test_a_broken_engine_is_one_error_where_it_is_needed(roost: Roost, broken: str) -> None:
    assert roost("enqueue", "--engine", broken).code in (1, 3)
    result = roost("worker", "--engines", broken, "--until-idle")
    assert result.code in (1, 3)
    assert broken in result.err
    assert roost("enqueue", "--engine", "demo").code == 0  # another one is not in its way


def test_what_an_engine_prints_is_not_on_stdout(
    roost: Roost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Programs read ids and JSON there, and nothing else."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    code = "from roost.engines.demo import build_demo as build\nprint('hello')\n"
    _install(plugins, "demo_loud", "demo_loud_plugin:build", code)
    monkeypatch.syspath_prepend(str(plugins))
    assert roost("engines", "--json").ok().document
    roost("enqueue", "--engine", "demo_loud")  # calls itself demo
    sys.modules.pop("demo_loud_plugin", None)
    assert roost("enqueue", "--engine", "demo_loud").out == ""


def test_a_password_in_a_storage_url_is_not_shown(roost: Roost) -> None:
    url = "postgres://me:hunter2@db.example/roost"
    for command in (["list"], ["doctor"], ["doctor", "--json"], ["worker"]):
        result = roost(*command, "--storage", url)
        assert result.code in (1, 2)
        assert "hunter2" not in result.out + result.err
        assert "me:***@db.example" in result.out + result.err


def test_doctor_is_content_with_a_fresh_home(roost: Roost) -> None:
    findings = roost("doctor", "--json").ok().document
    assert all(finding["is_ok"] for finding in findings)
    assert {"name", "is_ok", "detail", "hint"} == set(findings[0])
    assert findings[0]["name"] == "roost"
    assert re.fullmatch(r"version \d\S+, reads entries up to format 1", findings[0]["detail"])
    assert roost("doctor").ok().out


def test_doctor_says_where_settings_come_from(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    roost.write("roost.toml", "[worker]\nconcurrency = 3\n")
    monkeypatch.setenv("ROOST_LEASE_SECONDS", "7")
    shown = roost("doctor", "--json").ok().out
    assert "roost.toml" in shown
    assert "ROOST_LEASE_SECONDS" in shown


def test_doctor_finds_settings_of_an_engine_that_is_misspelt(roost: Roost) -> None:
    """Any name may stand there, since engines may be installed elsewhere."""
    roost.write("roost.toml", "[engines.watchlst]\nallow_private = true\n[engines.elsewhere]\nx = 1\n")
    findings = [one for one in roost("doctor", "--json").document if not one["is_ok"]]
    assert [(one["name"], one["hint"]) for one in findings] == [
        ("setting engines.watchlst", "Did you mean engines.watchlist?")
    ]


def test_doctor_finds_storage_that_can_not_be(roost: Roost) -> None:
    roost.write("file", "x")
    result = roost("doctor", "--json", "--home", str(roost.folder / "file"))
    assert result.code == 1
    assert any(not finding["is_ok"] and "file" in finding["detail"] for finding in result.document)


def test_doctor_finds_a_damaged_database(roost: Roost) -> None:
    roost.enqueue()
    for path in roost.home.glob("roost.db*"):
        path.write_bytes(b"this is no database" * 1000)
    result = roost("doctor", "--json")
    assert result.code == 1
    assert any(not finding["is_ok"] for finding in result.document)
    assert roost("list").code in (1, 6)


def test_doctor_on_memory(roost: Roost) -> None:
    assert all(finding["is_ok"] for finding in roost("doctor", "--storage", "memory", "--json").ok().document)


def test_doctor_tells_of_work_that_no_worker_can_take(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.cli.checks.UNSERVED_SECONDS", 0.0)
    body = ("--any-engine", "--engine", "nobody", "--payload", "{}")
    fine = roost("doctor", "--json").ok().document
    assert [one["is_ok"] for one in fine if one["name"] == "work"] == [True]
    roost("enqueue", *body).ok()
    worker = roost.start("worker", "--engines", "demo")
    end = time.monotonic() + 30
    while not roost("list", "--json").ok().document["rows"][0]["reason"]:
        assert time.monotonic() < end
    worker.terminate()
    found = roost("doctor", "--json")
    [work] = [one for one in found.document if one["name"] == "work"]
    assert found.code == 1
    assert work["detail"] == "1 waits for a worker with engine nobody"
    assert "roost worker --engines" in work["hint"]
