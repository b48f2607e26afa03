"""Real worker processes on a local store, to be killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from roost.config import Settings
from roost.journal.entries import Entry
from roost.journal.events import Committed, Kind
from roost.models import State
from roost.wiring import Runtime, open_runtime

ROOT = Path(__file__).parents[2]
ENGINES = ("Ledger", "Poison", "Tree", "Gate")


class Fleet:
    """Starts workers, kills them, and leaves none behind."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.home = home
        self.ledger = home / "ledger.jsonl"
        self.killed_at: dict[int, float] = {}
        self.pids: list[int] = []
        self.environ = {
            "ROOST_HOME": str(home / "store"),
            "ROOST_WORKER__ENGINES": ",".join(f"tests.crash.engines:{name}" for name in ENGINES),
            "ROOST_WORKER__CONCURRENCY": "4",
            "ROOST_WORKER__SWEEP_SECONDS": "0.3",
            "ROOST_LEASE_SECONDS": "1.5",
            "ROOST_LOG_FORMAT": "json",
            **environ,
        }

    def __enter__(self) -> Fleet:
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.pids:
            if pid not in self.killed_at:
                self.signal(pid, signal.SIGCONT)
                self.kill(pid)
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.wait(timeout=10)
        self._zygote.stdout.close()

    def start(self, **environ: str) -> int:
        """A new worker; returns its process id."""
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        number = len(self.pids)
        order = {"environ": {**self.environ, **environ}, "log": str(self.home / f"worker-{number}.log")}
        self._zygote.stdin.write(json.dumps(order).encode() + b"\n")
        self._zygote.stdin.flush()
        pid = int(self._zygote.stdout.readline())
        self.pids.append(pid)
        return pid

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a worker of ours, if it is still there."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            self.killed_at.setdefault(pid, time.monotonic())

    def kill(self, pid: int) -> None:
        """End a worker as the kernel would: no `finally` runs."""
        self.signal(pid, signal.SIGKILL)
        self.killed_at[pid] = time.monotonic()

    def is_alive(self, pid: int) -> bool:
        """Whether a worker runs (a zombie of the process table does not)."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    def has_started(self, pid: int) -> bool:
        """Whether a worker takes work; a machine with much to do takes its time until then."""
        return "worker.started" in self.log(pid)

    def gate(self, name: str = "gate") -> Path:
        """A file that steps wait for, by their payload; `touch` opens it."""
        return self.home / name

    def log(self, pid: int) -> str:
        """What a worker has logged."""
        path = self.home / f"worker-{self.pids.index(pid)}.log"
        return path.read_text() if path.exists() else ""

    def records(self) -> list[dict[str, Any]]:
        """What the engines wrote down."""
        if not self.ledger.exists():
            return []
        return [json.loads(line) for line in self.ledger.read_text().splitlines()]

    def opened(self, **settings: Any) -> Any:
        """The same store, opened in this process."""
        return open_runtime(Settings(home=self.home / "store", **settings))


async def until(is_so: Callable[[], Any], runtime: Runtime, seconds: float = 60.0) -> None:
    """Wait for something that other processes do; fail at the deadline."""
    end = time.monotonic() + seconds
    while True:
        answer = is_so()
        if await answer if hasattr(answer, "__await__") else answer:
            return
        assert time.monotonic() < end, f"not so after {seconds} s"
        await runtime.parts.clock.sleep(0.02)


async def journal(runtime: Runtime, work_id: str) -> list[Entry]:
    """All entries of a work item."""
    return [entry async for entry in runtime.client.events(work_id)]


async def check_done(runtime: Runtime, work_id: str, steps: int) -> None:
    """Done, positions and versions contiguous, each version committed once, under its claim."""
    entries = await journal(runtime, work_id)
    assert entries[-1].control.state is State.DONE, entries[-1]
    assert [entry.position for entry in entries] == list(range(len(entries)))
    versions = [entry.event.version for entry in entries if isinstance(entry.event, Committed)]
    assert versions == list(range(1, steps + 1))
    holder = ""
    for entry in entries:
        if entry.event.kind is Kind.CLAIMED:
            holder = entry.actor
        elif entry.event.kind is Kind.COMMITTED:
            assert entry.actor == holder, "a commit by somebody else than the last claimer"
    view = await runtime.client.status(work_id)
    assert view.snapshot is not None
    assert view.snapshot.data["trail"] == list(range(steps))
    content = b"".join([chunk async for chunk in runtime.backend.artifacts.read(view.artifacts[-1].digest)])
    assert json.loads(content) == list(range(steps))


def overlaps(records: list[dict[str, Any]], killed_at: dict[int, float]) -> list[tuple[Any, Any]]:
    """Pairs of steps that held the same resource at the same time."""
    spans: dict[str, list[tuple[float, float, str]]] = {}
    open_at: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in records:
        key = (line["pid"], line["work"], line["token"], line["version"])
        if line["what"] == "begin":
            open_at[key] = line
            continue
        began = open_at.pop(key)
        for resource in line["resources"]:
            spans.setdefault(resource, []).append((began["at"], line["at"], line["work"]))
    for began in open_at.values():
        for resource in began["resources"]:
            end = killed_at.get(began["pid"], float("inf"))
            spans.setdefault(resource, []).append((began["at"], end, began["work"]))
    found = []
    for held in spans.values():
        held.sort()
        found += [(a, b) for a, b in itertools.pairwise(held) if b[0] < a[1] and a[2] != b[2]]
    return found
