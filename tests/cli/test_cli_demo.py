"""`roost demo` keeps its promise, and leaves no process behind."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Roost, read_until


@pytest.mark.soak
@pytest.mark.slow
def test_demo_survives_the_kill(roost: Roost) -> None:
    result = roost.process("demo", "--keep", "kept").ok()
    assert "SIGKILL" in result.out
    assert "report.json" in result.out
    assert "versions [1, 2, 3, 4]" in result.out
    listed = roost("list", "--json", "--home", str(roost.folder / "kept")).ok().document["rows"]
    assert [row["state"] for row in listed] == ["done"]


@pytest.mark.soak
def test_demo_does_not_depend_on_settings_around_it(roost: Roost) -> None:
    roost.write("roost.toml", 'artifacts = "local:/nowhere/at/all"\nlease_seconds = "12h"\n')
    roost.process("demo", ROOST_STORAGE="nonsense:", ROOST_WORKER__CONCURRENCY="1").ok()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_demo_that_is_stopped_leaves_nothing_behind(roost: Roost, number: signal.Signals) -> None:
    process = roost.start("demo")
    worker = read_until(process.stdout, "worker 1 is process").split()[-1]
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in err
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline, "the worker of the demo is still there"
