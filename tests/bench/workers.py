"""Worker processes, and what they use up: CPU, and memory as the operating system counts it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from roost.config import Settings
from roost.wiring import Runtime, open_runtime

ENGINE = "tests.bench.engines:Counter"
_LOOK_SECONDS = 0.05


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[Runtime]:
    async with open_runtime(Settings(home=home)) as runtime:
        yield runtime


def worker(home: Path, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "roost", "worker", "--engines", ENGINE, *arguments]
    return subprocess.Popen(
        command,
        env={**os.environ, "ROOST_HOME": str(home), "ROOST_LOG_LEVEL": "error", **environ},
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )


@dataclass
class Used:
    """What worker processes used: wall seconds of work, CPU seconds beyond their start, peak MB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run_workers(
    home: Path, count: int, concurrency: int, look: Callable[[int], object] = lambda pid: None
) -> Used:
    """Run workers until nothing is left; their own figures from the operating system.

    Args:
        look: called with the id of each process, again and again while it runs.
    """
    processes = [worker(home, "--until-idle", "--concurrency", str(concurrency)) for _ in range(count)]
    cpu, peak = 0.0, 0.0
    while processes:
        time.sleep(_LOOK_SECONDS)
        for process in list(processes):
            peak = max(peak, peak_mb(process.pid))
            look(process.pid)
            ended, code, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                process.returncode = code
                processes.remove(process)
                cpu += usage.ru_utime + usage.ru_stime
    db = sqlite3.connect(home / "roost.db")
    first, last = db.execute("SELECT min(at), max(at) FROM journal WHERE kind != 'enqueued'").fetchone()
    db.close()
    return Used((last or 0) - (first or 0), cpu, peak)


@dataclass
class Memory:
    """What a process holds in memory, in MB (of 1,000,000 bytes); see `DEFINED`."""

    resident: float = 0.0
    own: float = 0.0
    share: float = 0.0

    def raise_to(self, other: Memory) -> None:
        """The most that was seen of each."""
        self.resident = max(self.resident, other.resident)
        self.own = max(self.own, other.own)
        self.share = max(self.share, other.share)


DEFINED = {
    "resident": "all of it that is in memory, files of Python and libraries too, which processes share (RSS)",
    "own": "what no other process has: what one more worker takes, and its end gives back (USS)",
    "share": "its own, and of each page that it shares its part (PSS): these add up to what all take",
}


def memory_of(pid: int) -> Memory:
    """Of a process that runs; nothing of one that has ended."""
    kb = _fields(f"/proc/{pid}/smaps_rollup")
    own = kb.get("Private_Clean", 0) + kb.get("Private_Dirty", 0)
    return Memory(*(each * 1024 / 1e6 for each in (kb.get("Rss", 0), own, kb.get("Pss", 0))))


def peak_mb(pid: int) -> float:
    """The most that a process has had resident since it began. (Its parent is told the most of both.)"""
    return _fields(f"/proc/{pid}/status").get("VmHWM", 0) * 1024 / 1e6


def _fields(path: str) -> dict[str, int]:
    """The figures in kB of a file of the process file system."""
    try:
        lines = Path(path).read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    found = (line.split() for line in lines if line.endswith(" kB"))
    return {name.removesuffix(":"): int(size) for name, size, _ in found}
