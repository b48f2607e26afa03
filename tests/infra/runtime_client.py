"""The functions under AWS's own client of the Lambda runtime API, as the image runs them there.

The client (`awslambdaric`) imports a handler, asks for an invocation, and posts what the handler
gave. The other side of that API is here; the storage is one in memory, so nothing else is asked.
What a cold start takes is measured on the way, as CPU time of the process, since the wall time
of a loaded machine says little.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.hosting.shapes import http_event, schedule_event, sqs_record
from tests.infra.image import Broken, environ_of

INIT_SECONDS_MAX = 10.0  # Lambda Developer Guide, "Lambda execution environment lifecycle": init phase
INIT_CPU_SECONDS_MAX = INIT_SECONDS_MAX / 4  # so that it ends in time on a quarter of this CPU, too
_SECONDS = 60.0  # on a loaded machine; 2 s else
_REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"


@dataclass(frozen=True)
class Asked:
    """A function, what it is asked, and whether an answer is the right one."""

    module: str
    event: Mapping[str, Any]
    is_right: Callable[[Any], bool]


_FOREIGN = sqs_record("not one of Roost's", receipt="r")
FUNCTIONS = (
    Asked(
        "lambda_worker",
        {"Records": [_FOREIGN]},
        lambda reply: reply == {"batchItemFailures": [{"itemIdentifier": _FOREIGN["messageId"]}]},
    ),
    Asked("lambda_sweeper", schedule_event(), lambda reply: reply == {"swept": 0, "expired": 0}),
    Asked(
        "lambda_console",
        http_event(path="/api/v1/work", authorizer={"jwt": {"claims": {"sub": "ann"}}}),
        lambda reply: reply["statusCode"] == 200 and json.loads(reply["body"])["rows"] == [],
    ),
)


def check(home: Path, folder: Path, code: Path | None = None) -> str:
    """Ask every function; says what cold starts took.

    Args:
        home: an environment with AWS's client.
        code: an unpacked zip, as Lambda has it on the path; None: it is in `home`.

    Raises:
        Broken: one does not answer, answers wrongly, or starts too slowly.
    """
    said = [_check(home, folder, code, asked) for asked in FUNCTIONS]
    return f"cold start under AWS's client, CPU s (at most {INIT_CPU_SECONDS_MAX}): {', '.join(said)}"


def _check(home: Path, folder: Path, code: Path | None, asked: Asked) -> str:
    with (
        _runtime_api(asked.event) as api,
        _client(home, folder, code, asked.module, api.address) as client,
    ):
        _wait(api.is_asked, client, f"{asked.module} did not start")
        init = _cpu_seconds(client.pid)
        api.may_begin.set()
        _wait(api.is_answered, client, f"{asked.module} gave no answer")
        first = _cpu_seconds(client.pid) - init
    kind, reply = api.replies[0]
    if kind != "response" or not asked.is_right(reply):
        raise Broken(f"{asked.module} answered {kind} {json.dumps(reply)[:2000]} to AWS's runtime client")
    if init > INIT_CPU_SECONDS_MAX:
        raise Broken(f"{asked.module} takes {init:.2f} s of CPU to start")
    return f"{asked.module} {init:.2f} and {first:.2f} for the first call"


def _wait(event: threading.Event, client: subprocess.Popen[bytes], what: str) -> None:
    end = time.monotonic() + _SECONDS
    while not event.wait(0.05):
        if client.poll() is not None or time.monotonic() > end:
            raise Broken(f"{what} under AWS's runtime client (exit code {client.poll()})")


def _cpu_seconds(pid: int) -> float:
    """What a process has used so far: proc(5), /proc/PID/stat, fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _client(
    home: Path, folder: Path, code: Path | None, module: str, address: str
) -> Iterator[subprocess.Popen[bytes]]:
    """AWS's client with a handler, as the image has it started on Lambda."""
    environ = environ_of(
        home,
        folder,
        AWS_LAMBDA_RUNTIME_API=address,
        AWS_LAMBDA_FUNCTION_NAME="f",
        AWS_REGION="us-east-1",
        ROOST_STORAGE="memory",
        ROOST_CONSOLE__AUTH="gateway",
        **({} if code is None else {"PYTHONPATH": str(code)}),
    )
    name = "image" if code is None else "zip"
    with (folder / f"{name}-{module}.log").open("wb") as log:
        client = subprocess.Popen(
            [str(home / "bin/python"), "-m", "awslambdaric", f"roost.hosting.{module}.handler"],
            env=environ,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield client
    finally:
        client.kill()
        client.wait()


@dataclass
class _RuntimeApi:
    """The runtime API with one invocation (Lambda Developer Guide, "Using the Lambda runtime API").

    Attributes:
        address: host and port.
        replies: what came back: `response` or `error`, with the document.
    """

    address: str = ""
    replies: list[tuple[str, Any]] = field(default_factory=list)
    is_asked: threading.Event = field(default_factory=threading.Event)
    may_begin: threading.Event = field(default_factory=threading.Event)
    is_answered: threading.Event = field(default_factory=threading.Event)


@contextmanager
def _runtime_api(event: Mapping[str, Any]) -> Iterator[_RuntimeApi]:
    api = _RuntimeApi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if api.is_asked.is_set():
                threading.Event().wait(_SECONDS)  # there is no further invocation
                return
            api.is_asked.set()
            api.may_begin.wait(_SECONDS)
            body = json.dumps(event).encode()
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", _REQUEST_ID)
            self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + 60) * 1000)))
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:1:function:f")
            self.send_header("Content-Type", "application/json")  # without it the client dies of signal 11
            self.send_header("Content-Length", str(len(body)))  # without it the client waits for ever
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(202)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "0")
            self.end_headers()
            api.replies.append((self.path.rpartition("/")[2], json.loads(body)))
            api.is_answered.set()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    api.address = f"127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()
