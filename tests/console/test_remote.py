"""`roost --url`: commands over a console's address, against the real console."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

Roost = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a console with a token, and the environment of its storage."""
    with tempfile.TemporaryDirectory() as home:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
        env = {**kept, "ROOST_HOME": home, "ROOST_CONSOLE__OPERATOR_TOKEN": "operator-token-0001"}
        command = [sys.executable, "-m", "roost", "ui", "--port", "0", "--auth", "token"]
        console = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        try:
            assert console.stderr is not None
            line = console.stderr.readline()
            yield line.split()[-1].partition("/login")[0], env
        finally:
            console.kill()
            console.communicate()


@pytest.fixture
def roost(place: tuple[str, dict[str, str]], tmp_path: Path) -> Roost:
    """Runs a command that knows nothing but the address and the token."""
    url, env = place
    far = {name: value for name, value in env.items() if not name.startswith("ROOST_")}
    far |= {"ROOST_TOKEN": "operator-token-0001", "ROOST_HOME": str(tmp_path / "nothing")}

    def run(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "roost", "--url", url, *args]
        return subprocess.run(
            command, env={**far, **more}, capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.mark.soak
def test_work_is_enqueued_looked_at_and_cancelled_from_afar(
    roost: Roost, place: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    made = roost("enqueue", "--engine", "demo", "--payload", '{"count": 3}')
    assert made.returncode == 0, made.stderr
    work_id = made.stdout.strip()
    worker = [sys.executable, "-m", "roost", "worker", "--engines", "demo", "--until-idle"]
    subprocess.run(worker, env=place[1], check=True, timeout=60, capture_output=True)
    status = json.loads(roost("status", work_id, "--json").stdout)
    assert (status["control"]["state"], status["snapshot"]["data"]) == ("done", {"count": 3, "of": 3})
    assert json.loads(roost("list", "--state", "done", "--json").stdout)["rows"][0]["work_id"] == work_id
    kinds = [json.loads(line)["kind"] for line in roost("events", work_id, "--json").stdout.splitlines()]
    assert kinds[0] == "enqueued"
    assert kinds[-1] == "committed"
    assert len(json.loads(roost("history", work_id, "--json").stdout)) == 3
    assert (roost("logs", work_id, "--json").returncode, roost("logs", "nobody").returncode) == (0, 3)
    assert "It was done" in roost("explain", work_id).stdout
    assert roost("wait", work_id, "--timeout", "5s").returncode == 0
    later = roost("enqueue", "--engine", "demo", "--delay", "1h").stdout.strip()
    assert roost("cancel", later, "--reason", "wrong").returncode == 0
    tail = json.loads(roost("events", later, "--json").stdout.splitlines()[-1])
    assert (tail["kind"], tail["actor"]) == ("cancel_requested", "console:operator")
    assert not (tmp_path / "nothing").exists()


def test_errors_from_afar_are_those_of_the_console(roost: Roost) -> None:
    missing = roost("status", "none")
    assert missing.returncode == 3
    assert "no work item 'none'" in missing.stderr
    refused = roost("list", ROOST_TOKEN="wrong-token-000000")
    assert refused.returncode == 4
    assert "does not know who you are" in refused.stderr
    paused = roost("pause", "--engine", "demo")
    assert paused.returncode == 4
    assert "This needs the role admin; yours is operator." in paused.stderr
    assert roost("worker").returncode == 2


def test_an_address_where_nobody_answers_is_unavailable(roost: Roost) -> None:
    command = [sys.executable, "-m", "roost", "--url", "http://127.0.0.1:9", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 6
    assert "does not answer" in done.stderr
