"""The comparison's claims that a program can show: the same two steps on each, killed with signal 9.

Needs a package index for the other tools, which live in an environment of their own:
`pytest -m packaging`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
PACKAGES = ["dbos", "langgraph", "langgraph-checkpoint-sqlite", "celery[redis]", "fakeredis[lua]"]
KILLED = -9
VISIBILITY_SECONDS = 2  # as in on_celery.py

pytestmark = pytest.mark.packaging


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of an environment that has the other tools."""
    folder = tmp_path_factory.mktemp("peers") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    found = str(folder / "bin" / "python")
    subprocess.run([found, "-m", "pip", "install", "-q", *PACKAGES], check=True, timeout=600)
    return found


class Tried:
    """A program of `peers/`, run in a folder in which it notes what it does."""

    def __init__(self, python: str, folder: Path, **environ: str) -> None:
        self.python = python
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
        self.environ = {**kept, **environ, "PEERS_FOLDER": str(folder), "PYTHONPATH": str(PEERS)}

    def start(self, name: str, *args: str, **more: Any) -> subprocess.Popen[str]:
        command = [self.python, str(PEERS / f"on_{name}.py"), *args]
        with (self.folder / f"{name}.log").open("a") as log:
            streams = {"stdout": log, "stderr": log, **more}
            return subprocess.Popen(command, cwd=self.folder, env=self.environ, text=True, **streams)

    def run(self, name: str, *args: str) -> int:
        return self.start(name, *args).wait(120)

    @property
    def done(self) -> Counter[str]:
        path = self.folder / "done"
        return Counter(path.read_text().split("\n")[:-1]) if path.exists() else Counter()


def until(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)
    return False


def test_roost_runs_the_killed_step_again_and_not_what_once_recorded(tmp_path: Path) -> None:
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    tried = Tried(
        sys.executable, tmp_path, PATH=scripts, ROOST_HOME=str(tmp_path / "home"), ROOST_LEASE_SECONDS="1"
    )

    def roost(*args: str) -> int:
        return subprocess.run(
            ["roost", *args], cwd=PEERS, env=tried.environ, capture_output=True, timeout=60
        ).returncode

    assert roost("enqueue", "--any-engine", "--engine", "two-steps", "--work-id", "w") == 0
    worker = ("worker", "--engines", "on_roost:TwoSteps", "--until-idle")
    assert roost(*worker) == KILLED
    assert roost(*worker) == 0
    assert tried.done == {"one": 1, "paid": 1, "two": 2, "end": 1}


def test_dbos_runs_the_killed_step_and_the_body_again(python: str, tmp_path: Path) -> None:
    """What is between steps is replayed, so it must be deterministic."""
    tried = Tried(python, tmp_path)
    assert tried.run("dbos") == KILLED
    assert tried.run("dbos") == 0
    assert tried.done == {"body": 2, "one": 1, "two": 2, "end": 1}


def test_langgraph_runs_the_killed_node_again(python: str, tmp_path: Path) -> None:
    """It goes on when a program asks for it; nothing does so by itself."""
    tried = Tried(python, tmp_path)
    assert tried.run("langgraph") == KILLED
    assert tried.run("langgraph") == 0
    assert tried.done == {"one": 1, "two": 2, "end": 1}


def test_langgraph_lets_two_callers_work_on_one_thread(python: str, tmp_path: Path) -> None:
    tried = Tried(python, tmp_path)
    assert tried.run("langgraph", "together") == 0, "neither is refused"
    assert tried.done == {"one": 1, "two": 2}


@pytest.fixture
def celery(python: str, tmp_path: Path) -> Iterator[Tried]:
    """With a broker that runs meanwhile."""
    tried = Tried(python, tmp_path)
    broker = tried.start("celery", "broker", stdout=subprocess.PIPE)
    assert broker.stdout is not None
    port = re.sub(r"\D", "", broker.stdout.readline())
    tried.environ["PEERS_BROKER"] = f"redis://127.0.0.1:{port}/0"
    yield tried
    broker.kill()
    broker.wait()
    broker.stdout.close()


def second_worker(celery: Tried, seconds: float) -> bool:
    """Whether a worker comes to the end in this time, once it is ready."""
    ready = celery.folder / "ready"
    ready.unlink(missing_ok=True)
    worker = celery.start("celery", "worker")
    try:
        assert until(ready.exists, 60)
        return until(lambda: celery.done["end"] > 0, seconds)
    finally:
        worker.kill()
        worker.wait()


def test_celery_loses_a_task_whose_worker_is_killed_by_default(celery: Tried) -> None:
    assert celery.run("celery", "send", "early") == 0
    assert celery.run("celery", "worker") == KILLED
    assert not second_worker(celery, 3 * VISIBILITY_SECONDS)
    assert celery.done == {"one": 1, "two": 1}
