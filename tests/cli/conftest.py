"""The command line under test: in this process where that is enough, else as a program.

Every result is checked for tracebacks: a user's mistake never shows one.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import pytest

from roost.cli import main as program

PROCESS_SECONDS = 60.0
_A_WORKER_SETS = [
    (logging, "lastResort"),
    (warnings, "showwarning"),
    (threading, "excepthook"),
    (sys, "unraisablehook"),
]


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout as the one JSON document that it must be."""
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        """Stdout as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def ok(self) -> Result:
        """Itself, if the command succeeded."""
        assert self.code == 0, self
        return self


class Roost:
    """Runs `roost` with a home of its own and no settings of the machine's.

    Attributes:
        home: where `local` keeps its files.
        folder: the current directory of every command.
    """

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._started: list[tuple[subprocess.Popen[str], threading.Timer]] = []
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, *args: str, stdin: bytes = b"") -> Result:
        """Run a command in this process."""
        self._capfd.readouterr()
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["roost", *args])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr(sys, "path", list(sys.path))
            patch.setattr("roost.cli.serve._IDLE_LOOK_SECONDS", 0.05)  # of `worker --until-idle`
            for holder, name in _A_WORKER_SETS:  # a program's own: pytest has its hooks there
                patch.setattr(holder, name, getattr(holder, name))
            code = 0
            try:
                program.main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, err = self._capfd.readouterr()
        return _checked(Result(code, out, err))

    def process(self, *args: str, stdin: bytes = b"", **env: str) -> Result:
        """Run a command as a program of its own, to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "roost", *args],
            input=stdin,
            capture_output=True,
            timeout=PROCESS_SECONDS,
            check=False,
            cwd=self.folder,
            env={**os.environ, **env},
        )
        return _checked(Result(done.returncode, done.stdout.decode(), done.stderr.decode()))

    def start(self, *args: str, under: Sequence[str] = (), **env: str) -> subprocess.Popen[str]:
        """Start a command as a program, which another may start; killed at the end of the test,
        or when it takes too long."""
        environ = os.environ | env
        environ.pop("PYTHONUNBUFFERED", None)  # a user's streams are buffered, and must be flushed
        process = subprocess.Popen(
            [*under, sys.executable, "-m", "roost", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environ,
        )
        watch = threading.Timer(PROCESS_SECONDS, process.kill)
        watch.start()
        self._started.append((process, watch))
        return process

    def end(self) -> None:
        """Kill what was started and still runs."""
        for process, watch in self._started:
            watch.cancel()
            process.kill()
            process.communicate()

    def enqueue(self, payload: dict[str, Any] | None = None, *options: str) -> str:
        """Enqueue demo work and return its id."""
        body = json.dumps({"count": 3} if payload is None else payload)
        return self("enqueue", "--engine", "demo", "--payload", body, *options).ok().out.strip()

    def work(self) -> Result:
        """Run a worker until nothing is left to do."""
        return self("worker", "--engines", "demo", "--until-idle").ok()

    def ids(self) -> list[str]:
        """The ids of all work items, newest first."""
        return [row["work_id"] for row in self("list", "--json").ok().document["rows"]]

    def write(self, name: str, text: str | bytes) -> Path:
        """A file in the current directory of the commands."""
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path


def read_until(stream: IO[str] | None, text: str) -> str:
    """The first line that has `text` in it.

    Raises:
        AssertionError: the stream ended before.
    """
    assert stream is not None
    seen = []
    while line := stream.readline():
        if text in line:
            return line
        seen.append(line)
    raise AssertionError(f"{text!r} never came, but: {seen}")


def entry_points(**params: str) -> metadata.EntryPoints:
    """As `importlib.metadata` finds them, which reads a file of each package that is installed here: looked
    for again where a folder of the path has changed."""
    return _entry_points(tuple((name, _stand_of(name or os.curdir)) for name in sys.path)).select(**params)


def _stand_of(folder: str) -> tuple[int, int]:
    try:
        found = os.stat(folder)
    except OSError:  # it is not there
        return 0, 0
    return found.st_ino, found.st_mtime_ns


@lru_cache(4)
def _entry_points(folders: tuple[tuple[str, tuple[int, int]], ...]) -> metadata.EntryPoints:
    return _find_entry_points()


_find_entry_points = metadata.entry_points


def _checked(result: Result) -> Result:
    assert "Traceback" not in result.out + result.err, result
    assert "bug in Roost" not in result.err, result
    return result


@pytest.fixture
def roost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Roost]:
    for name in os.environ:
        if name.startswith("ROOST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metadata, "entry_points", entry_points)
    logger = logging.getLogger("roost")
    before = logger.handlers, logger.propagate, logger.level
    made = Roost(tmp_path, monkeypatch, capfd)
    yield made
    made.end()
    logger.handlers, logger.propagate, logger.level = before
