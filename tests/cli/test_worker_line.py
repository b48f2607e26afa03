"""What `roost worker` reads without typer is what typer reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from click import Command

from roost.cli import app, serve, worker_line
from roost.cli.worker_line import OPTIONS, UNTIL_IDLE, WorkerLine

NOT_NEEDED = {
    "typer",
    "click",
    "rich",
    "difflib",
    "jmespath",
    "cronsim",
    "httpx2",
    "roost.cli.app",
    "roost.cli.health",
    "roost.core.client",
    "roost.core.operating",
    "roost.core.schedules",
    "roost.core.where",
    "roost.journal.explain",
    "roost.storage.instrument",
    "roost.storage.memory",
}
"""What a worker on local storage never calls, as long as nobody watches it, starts operations or
keeps schedules. Each is memory of every worker, for as long as it runs."""

OWN_MAX_BYTES = 40_000_000

VALUES = {"--concurrency": "3", "--health-port": "8081", "--metrics-port": "0", "--home": "a folder/x"}


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], Path]:
    """What a worker that has worked has: its modules, and a copy of its `statm`, where there is one."""
    folder = tmp_path_factory.mktemp("worked")
    code = (
        "import sys\nfrom pathlib import Path\nfrom roost.cli.main import main\n"
        f"sys.argv[1:] = ['worker', '--engines', 'demo', '--until-idle', '--home', {str(folder)!r}]\n"
        "main()\nprint(*sys.modules)\nstatm = Path('/proc/self/statm')\n"
        f"if statm.exists(): Path({str(folder / 'statm')!r}).write_text(statm.read_text())"
    )
    enqueue = [sys.executable, "-m", "roost", "enqueue", "--engine", "demo", "--home", str(folder)]
    subprocess.run(enqueue, check=True, capture_output=True, timeout=60)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split()), folder / "statm"


@pytest.mark.slow  # a new interpreter
def test_a_worker_that_has_worked_holds_nothing_that_it_does_not_need(left: tuple[set[str], Path]) -> None:
    loaded, _ = left
    assert {"roost.core.session", "roost.engines.demo"} <= loaded
    assert not loaded & NOT_NEEDED


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_has_worked_stays_below_its_bar(left: tuple[set[str], Path]) -> None:
    """Of memory of its own; that of files, such as the interpreter's, is there once for all processes."""
    _, resident, shared, *_ = map(int, left[1].read_text().split())
    assert (resident - shared) * os.sysconf("SC_PAGE_SIZE") < OWN_MAX_BYTES


@pytest.fixture
def by_typer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads a command line with typer; gives what it runs a worker with."""

    def read(*arguments: str) -> WorkerLine:
        found: list[WorkerLine] = []
        monkeypatch.setattr(serve, "run", found.append)
        app.app([*arguments], standalone_mode=False)
        return found[0]

    return read


def test_both_know_the_same_options() -> None:
    command: Command = typer.main.get_command(app.app).commands["worker"]  # type: ignore[attr-defined]  # a group
    assert {name for parameter in command.params for name in parameter.opts} == {*OPTIONS, UNTIL_IDLE}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [UNTIL_IDLE],
        *([name, VALUES.get(name, "5")] for name in OPTIONS),
        *([f"{name}={VALUES.get(name, '5')}"] for name in OPTIONS),
        [
            "--engines",
            "a,m:B",
            UNTIL_IDLE,
            "--lanes=high,low",
            "--concurrency",
            "32",
            "--storage",
            "local:/x",
        ],
        ["--concurrency", "1", "--concurrency", "2", "--home=a=b"],
        ["--concurrency", " 7", "--storage", "memory:", "--engines", "worker"],
    ],
)
def test_both_read_the_same(by_typer: Any, arguments: list[str]) -> None:
    line = worker_line.read(["worker", *arguments])
    assert line is not None
    assert line == by_typer("worker", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["status"],
        ["--url", "http://x", "worker"],
        ["worker", "--help"],
        ["worker", "-h"],
        ["worker", "more"],
        ["worker", "--"],
        ["worker", "--unknown", "x"],
        ["worker", "--engine", "x"],
        ["worker", "--engines"],
        ["worker", "--engines="],
        ["worker", "--engines", ""],
        ["worker", "--engines", "--until-idle"],
        ["worker", "--until-idle=yes"],
        ["worker", "--concurrency", "many"],
        ["worker", "--health-port", "65536"],
        ["worker", "--health-port=-1"],
    ],
)
def test_what_is_not_plain_is_left_to_typer(arguments: list[str]) -> None:
    assert worker_line.read(arguments) is None
