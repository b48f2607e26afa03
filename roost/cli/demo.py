"""`roost demo`: a worker is killed half-way, another goes on from the last committed version."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from roost import times
from roost.cli import options
from roost.cli.output import FAILED, OK, is_terminal
from roost.errors import RoostError

if TYPE_CHECKING:
    from roost.core.client import WorkView
    from roost.wiring import Runtime

CHECKS = 4
KILL_IN_STEP = 3
ANSWER_SECONDS = 0.4  # the page is slow on purpose, so that there is a step to be killed in
LEASE_SECONDS = 2.0
PATIENCE_SECONDS = 40.0


class DemoFailed(RoostError):
    """What the demo promises did not happen."""


def demo(
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="DIR",
            parser=options.folder,
            help="Leave the work there, to look at afterwards.",
        ),
    ] = None,
) -> None:
    """Show the point of Roost, in about ten seconds.

    Starts a small web server and a worker in a process of its own, enqueues a URL to be
    watched, kills the worker with SIGKILL in the middle of a step, starts another, and
    shows that it goes on from the last committed version.

    Examples:

      roost demo

      roost demo --keep ./roost-demo && roost list --home ./roost-demo
    """
    from roost.config import load_settings

    with ExitStack() as stack:
        stack.enter_context(_end_on_sigterm())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roost-demo-")))
        home = keep or folder / "home"
        config = folder / "roost.toml"
        config.touch()  # the demo is the same whatever is set around it
        pace = _Pace()
        url = stack.enter_context(_web_server(pace))
        workers = stack.enter_context(_workers(home, config))
        settings = load_settings({"storage": "local", "home": home}, config_file=config, environ={})

        async def use(runtime: Runtime) -> int:
            return await _Demo(runtime, url, pace, workers).show()

        options.run(settings, use)


class _Pace:
    """Holds the page's answer in the step in which the worker is killed, however busy the machine is."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._looks, self._version, self._is_killed = 0, 0, False

    def looked(self, version: int) -> None:
        """The work item was looked at, and is at this version."""
        with self._moved:
            self._looks, self._version = self._looks + 1, version
            self._moved.notify_all()

    def killed(self) -> None:
        """The worker is gone; from now on everybody is answered."""
        with self._moved:
            self._is_killed = True
            self._moved.notify_all()

    def wait(self) -> None:
        """Until a look that began after this call has shown which step asks; in that one, until the kill."""
        with self._moved:
            seen = self._looks
            self._moved.wait_for(lambda: self._is_killed or self._looks >= seen + 2, PATIENCE_SECONDS)
            if self._version == KILL_IN_STEP - 1:
                self._moved.wait_for(lambda: self._is_killed, PATIENCE_SECONDS)


class _Demo:
    def __init__(
        self, runtime: Runtime, url: str, pace: _Pace, start_worker: Callable[[], subprocess.Popen[bytes]]
    ) -> None:
        self._runtime = runtime
        self._url = url
        self._pace = pace
        self._start_worker = start_worker
        self._began = runtime.parts.clock.monotonic()

    def _say(self, text: str) -> None:
        elapsed = self._runtime.parts.clock.monotonic() - self._began
        print(f"{elapsed:5.1f} s  {text}", flush=True)

    async def show(self) -> int:
        """The whole story; the exit code says whether it came out as promised."""
        client = self._runtime.client
        work_id = await client.enqueue(
            "watchlist",
            {"url": self._url, "claim": "contains:Roost", "checks_required": CHECKS, "delay_seconds": 0.5},
            resources=("domain:127.0.0.1",),
        )
        self._say(f"enqueued {work_id}: check {self._url} {CHECKS} times")
        first = self._start_worker()
        self._say(f"worker 1 is process {first.pid}")
        await self._until(work_id, lambda view: _is_in_step(view, KILL_IN_STEP), first)
        before = await client.status(work_id)
        first.send_signal(signal.SIGKILL)
        first.wait()
        self._pace.killed()
        self._say(
            f"killed worker 1 with SIGKILL in the middle of step {KILL_IN_STEP}; "
            f"version {before.control.version} is the last that is committed"
        )
        second = self._start_worker()
        self._say(
            f"worker 2 is process {second.pid}; it takes over when the lease of {LEASE_SECONDS:g} s is over"
        )
        after = await self._until(work_id, lambda view: view.control.state.is_terminal, second)
        await self._print_history(work_id)
        await self._print_report(after)
        return await self._verdict(work_id)

    async def _until(
        self, work_id: str, is_reached: Callable[[WorkView], bool], worker: subprocess.Popen[bytes]
    ) -> WorkView:
        """Follow the work item, telling each commit, until something is so."""
        clock = self._runtime.parts.clock
        end = clock.monotonic() + PATIENCE_SECONDS
        version = (await self._runtime.client.status(work_id)).control.version
        while clock.monotonic() < end:
            view = await self._runtime.client.status(work_id)
            self._pace.looked(view.control.version)
            for number in range(version + 1, view.control.version + 1):
                self._say(f"  version {number} committed")
            version = view.control.version
            if is_reached(view):
                return view
            if worker.poll() is not None:
                raise DemoFailed(f"the worker ended by itself, with code {worker.returncode}")
            await clock.sleep(0.02)
        raise DemoFailed(f"{work_id} did not get there within {PATIENCE_SECONDS:.0f} s")

    async def _print_history(self, work_id: str) -> None:
        print("\nWhat happened, from the journal:")
        async for entry in self._runtime.client.events(work_id):
            what = entry.event.kind.value
            if what == "committed":
                what = f"committed version {entry.control.version}"
            print(f"  {entry.position:2}  {times.clock(entry.at)}  {what:22} {entry.actor}")

    async def _print_report(self, view: WorkView) -> None:
        for artifact in view.artifacts:
            chunks = [chunk async for chunk in self._runtime.backend.artifacts.read(artifact.digest)]
            report = json.loads(b"".join(chunks))
            print(f"\nThe artifact {artifact.name} (sha256 {artifact.digest}, verified):")
            print(json.dumps(report, indent=2 if is_terminal() else None, ensure_ascii=False))

    async def _verdict(self, work_id: str) -> int:
        view = await self._runtime.client.status(work_id)
        versions = [version.version for version in await self._runtime.client.history(work_id)]
        is_whole = view.control.state == "done" and versions == list(range(1, CHECKS + 1))
        if not is_whole or not view.artifacts:
            print(f"\nThis should not be: {view.control.state}, versions {versions}. {view.control.reason}")
            return FAILED
        print(f"\nTwo workers, one killed, versions {versions}: each step committed once, nothing lost.")
        return OK


def _is_in_step(view: WorkView, step: int) -> bool:
    return view.control.version == step - 1 and view.control.state == "running"


@contextmanager
def _end_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the demo as an exception does, so that what it started is cleaned up."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _web_server(pace: _Pace) -> Iterator[str]:
    """A page on a loopback port that takes its time."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            threading.Event().wait(ANSWER_SECONDS)
            pace.wait()
            body = b"<h1>Roost keeps agents going</h1>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a killed client hangs up on us
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _workers(home: Path, config: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts workers on `home`; none is left behind."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
    environ |= {
        "ROOST_CONFIG": str(config),
        "ROOST_HOME": str(home.absolute()),
        "ROOST_STORAGE": "local",
        "ROOST_LEASE_SECONDS": str(LEASE_SECONDS),
        "ROOST_WORKER__SWEEP_SECONDS": "0.5",
        "ROOST_ENGINES__WATCHLIST__ALLOW_PRIVATE": "true",
    }
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "roost", "worker", "--engines", "watchlist"]
        process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # noqa: S603  our own program
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
