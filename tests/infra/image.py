"""The container image: built where docker is, else its install steps in a clean environment.

What is installed is tried as the container would run it: the command, the health check of
a live worker, a drain by SIGTERM, and the functions' handlers under AWS's own runtime client.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.hosting.shapes import schedule_event
from tests.infra.terraform import ROOT

_SECONDS = 600.0
_START_SECONDS = 30.0


class Broken(Exception):
    """What the image should do, it does not."""


def check(folder: Path) -> str:
    """Build and try it; says how.

    Raises:
        Broken: it does not work.
    """
    home = install(folder)
    run(home, folder, "roost", "--version")
    check_worker(home, folder)
    if not _has_docker():
        return "install steps in a clean environment; NO DOCKER HERE, so no image is built"
    subprocess.run(["docker", "build", "--quiet", str(ROOT)], check=True, timeout=_SECONDS)
    return "install steps in a clean environment, and the image"


def _has_docker() -> bool:
    """Whether there is a docker with an engine; a client alone builds nothing."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode == 0


def check_runtime(folder: Path) -> str:
    """The handlers of the image, asked by AWS's own runtime client; says how.

    Raises:
        Broken: one does not answer.
    """
    home = install(folder)
    for module in ("lambda_worker", "lambda_sweeper"):
        check_runtime_client(home, folder, module)
    return "both handlers answer AWS's runtime client"


def install(folder: Path) -> Path:
    """Do what the Dockerfile's build stage does, below a folder; where it went."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    [command] = re.findall(r"^RUN .*pip install (.+)", text, re.MULTILINE)
    source, home = folder / "source", folder / "roost"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "roost", source / "roost", ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(home, with_pip=True)
    arguments = [part.strip("'") for part in command.split()]
    done = subprocess.run(
        [str(home / "bin/pip"), "install", *arguments],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise Broken(f"pip install {command}: {done.stderr[-2000:]}")
    return home


def _environ(home: Path, folder: Path, **more: str) -> dict[str, str]:
    """Of the container: nothing of this process' own, and one place to write to."""
    return {
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "ROOST_HOME": str(folder / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def run(home: Path, folder: Path, *command: str) -> str:
    """Run a command of the image.

    Raises:
        Broken: it failed.
    """
    done = subprocess.run(
        [str(home / "bin" / command[0]), *command[1:]],
        env=_environ(home, folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_START_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise Broken(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout


def check_worker(home: Path, folder: Path) -> None:
    """The container's command is live by its own health check, and ends by SIGTERM."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    worker = subprocess.Popen(
        [str(home / "bin/roost"), "worker"],
        env=_environ(home, folder, ROOST_WORKER__HEALTH_PORT=port),
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    try:
        probe = [str(home / "bin/python"), "-m", "roost.hosting.probe", port]
        end = time.monotonic() + _START_SECONDS
        while subprocess.run(probe, timeout=_START_SECONDS, check=False, cwd=folder).returncode != 0:
            if time.monotonic() > end or worker.poll() is not None:
                raise Broken("the worker is not live by the image's health check")
        worker.send_signal(signal.SIGTERM)
        if worker.wait(_START_SECONDS) != 0:
            raise Broken(f"the worker ended by SIGTERM with {worker.returncode}")
        if subprocess.run(probe, timeout=_START_SECONDS, check=False, cwd=folder).returncode == 0:
            raise Broken("the health check finds a worker live that has ended")
    finally:
        worker.kill()
        worker.wait()


# --- the runtime client ------------------------------------------------------


def check_runtime_client(home: Path, folder: Path, module: str) -> None:
    """AWS's client of the Lambda runtime API imports a handler, and has it answer an event.

    The storage is one in memory, so nothing but the runtime API is asked.
    """
    event: Mapping[str, Any] = {"Records": []} if module == "lambda_worker" else schedule_event()
    with runtime_api(event) as (address, replies):
        client = subprocess.Popen(
            [str(home / "bin/python"), "-m", "awslambdaric", f"roost.hosting.{module}.handler"],
            env=_environ(
                home,
                folder,
                AWS_LAMBDA_RUNTIME_API=address,
                AWS_LAMBDA_FUNCTION_NAME="f",
                AWS_REGION="us-east-1",
                ROOST_STORAGE="memory",
            ),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            end = time.monotonic() + _START_SECONDS
            while not replies and time.monotonic() < end and client.poll() is None:
                time.sleep(0.05)
        finally:
            client.kill()
            client.wait()
    wanted = {"batchItemFailures": []} if module == "lambda_worker" else {"swept": 0, "expired": 0}
    if replies != [("response", wanted)]:
        raise Broken(f"{module} answered {replies} to AWS's runtime client")


@contextmanager
def runtime_api(event: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """The runtime API with one invocation (Lambda Developer Guide, "Using the Lambda runtime API").

    Gives its address, and what came back: `response` or `error`, with the document.
    """
    replies: list[tuple[str, Any]] = []
    given = threading.Event()

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if given.is_set():
                threading.Event().wait(_START_SECONDS)  # no further invocation
                return
            given.set()
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
            self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + 60) * 1000)))
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:1:function:f")
            body = json.dumps(event).encode()
            self.send_header("Content-Length", str(len(body)))  # the client waits for ever without it
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            replies.append((self.path.rpartition("/")[2], json.loads(body)))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", replies
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()
