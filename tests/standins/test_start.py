"""Stand-ins start, answer, move their clocks, and never outlive who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from roost.testing import standins
from roost.testing.standins import StandIn, StandInFailed, start_ministack, start_moto

pytestmark = pytest.mark.slow

STARTS: dict[str, Callable[..., StandIn]] = {"ministack": start_ministack, "moto": start_moto}
_SECONDS = 60.0


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("name", STARTS)
def test_a_stand_in_stops_when_it_is_told(name: str, tmp_path: Path) -> None:
    with STARTS[name](tmp_path) as standin:
        assert standin.name == name
        assert standin.is_running
        assert standin.url.startswith("http://127.0.0.1:")
        assert standin.environ["AWS_ENDPOINT_URL"] == standin.url
        assert standin.log.parent == tmp_path
        standin.reset()
        standin.advance(1.5)
        standin.advance(2)
        assert standin.ahead_seconds == 3.5
    assert not standin.is_running
    standin.stop()
    with pytest.raises(StandInFailed):
        standin.reset()
    with pytest.raises(StandInFailed):
        standin.advance(1)


@pytest.mark.parametrize("name", STARTS)
def test_a_stand_in_ends_with_who_started_it(name: str, tmp_path: Path) -> None:
    """Also with one that was killed and could not stop it."""
    program = (
        "import pathlib, sys, threading; from roost.testing import standins\n"
        f"s = standins.start_{name}(pathlib.Path(sys.argv[1])); print(s.pid, flush=True)\n"
        "threading.Event().wait()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert is_alive(pid)
        owner.send_signal(signal.SIGKILL)
    until(lambda: not is_alive(pid))


@pytest.mark.parametrize("name", STARTS)
def test_a_port_that_is_taken_is_an_error(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The one who listens there answers the health check, too, and must not be taken for ours."""
    taken: StandIn = request.getfixturevalue(name)
    port = taken.url.rpartition(":")[2]
    with pytest.raises(StandInFailed, match=f"port {port} .* in use"):
        STARTS[name](tmp_path, port=int(port))
    assert taken.is_running


def test_a_stand_in_that_does_not_come_up_shows_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import sys; sys.exit('what went wrong')")
    monkeypatch.setattr(standins, "_PROGRAM", broken)
    with pytest.raises(StandInFailed, match=r"(?s)with code 1: the end of .*what went wrong"):
        start_moto(tmp_path)


def test_an_installation_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a distribution keeps `venv` in a package of its own."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho ensurepip is not available >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(standins.sys, "executable", str(python))
    with pytest.raises(StandInFailed, match=r"(?s)-m venv .* failed:.*ensurepip is not available"):
        start_ministack(tmp_path)
    assert [path.name for path in (tmp_path / "roost/standins").iterdir()] == ["lock"]


def test_two_processes_install_it_once(tmp_path: Path) -> None:
    """A slow installation in one, while the other waits; both find it was not there."""
    program = (
        "import pathlib, sys; from roost.testing import standins\n"
        "def install(requirement, home):\n"
        "    print('installed', flush=True)\n"
        "    standins.time.sleep(0.5)\n"
        "    (home / 'bin').mkdir(parents=True)\n"
        "    (home / 'bin/python').touch()\n"
        "standins._install = install\n"
        "print(standins.install_ministack(), flush=True)\n"
    )
    command = [sys.executable, "-c", program]
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    both = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=_SECONDS)[0].split() for process in both]
    assert sorted(said, key=len) == [["True"], ["installed", "True"]]
