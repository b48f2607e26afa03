"""What runs in the process of a stand-in. Start it through `standins`.

    python standin_process.py moto PORT
    python standin_process.py ministack PORT

Only the standard library and the stand-in itself are imported here, since ministack lives
in an environment that has no Roost. Commands come in on stdin, one a line, and each is
answered by a line on stdout:

    advance SECONDS     move the stand-in's clock on, so that nobody waits for its timeouts

The end of stdin ends the process: a stand-in never outlives who started it.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import IO, Any

HOST = "127.0.0.1"

_real_time = time.time
_offset_seconds = 0.0
_changed = threading.Condition()  # notified when a message may have become visible

Environ = dict[str, Any]
Answer = tuple[str, list[tuple[str, str]], bytes]
Application = Callable[[Environ, Callable[..., None]], Iterable[bytes]]

_HOSTS_MAX = 1024  # a bucket can be part of one
_NO_BODY = ("204", "304")  # RFC 9110, sections 15.3.5 and 15.4.5


def _shifted_time() -> float:
    return _real_time() + _offset_seconds


def _follow(commands: Iterable[str], answers: IO[str]) -> None:
    """Do what the owner says; end with it."""
    for line in commands:
        word, _, argument = line.strip().partition(" ")
        if word == "advance":
            _advance(float(argument))
            print("done", file=answers, flush=True)
        else:
            print(f"unknown command {word!r}", file=answers, flush=True)
    os._exit(0)  # the owner is gone; nothing here is worth a cleanup


def _advance(seconds: float) -> None:
    global _offset_seconds
    with _changed:
        _offset_seconds += seconds
        _changed.notify_all()


def _run_ministack(port: int) -> None:
    """ministack's own program, with what must hold whatever is set around it."""
    os.environ.update(
        BIND_HOST=HOST,
        GATEWAY_PORT=str(port),
        MINISTACK_HOST=HOST,
        IOT_MTLS_ENABLED="0",
        PERSIST_STATE="0",
        S3_PERSIST="0",
        LOG_LEVEL=os.environ.get("LOG_LEVEL", "WARNING"),
    )
    from ministack.app import main  # type: ignore[import-not-found]  # in an environment of its own

    sys.argv[1:] = []
    main()


class OneAtATime:
    """Lets moto see one request at a time.

    moto keeps everything in plain dicts: a transaction that is cancelled puts back a copy of
    the whole table, and with it undoes what others wrote meanwhile; a receive checks first
    and marks then. A long poll is made of short ones here, so that it holds nobody up.

    Args:
        application: moto's.
    """

    look_seconds = 0.25  # a delayed message becomes visible without anybody telling

    def __init__(self, application: Application) -> None:
        self._application = application
        self._lock = threading.Lock()

    def answer(self, environ: Environ) -> Answer:
        """The status line, headers and body for a request."""
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        body = _body_of(environ)
        if target == "AmazonSQS.ReceiveMessage":
            return self._receive(environ, json.loads(body))
        given = self._ask(environ, body)
        if target.startswith("AmazonSQS."):
            with _changed:
                _changed.notify_all()
        return given

    def _ask(self, environ: Environ, body: bytes) -> Answer:
        given: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
            given[:] = [status, headers]

        request = {
            **environ,
            "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": False,
            "CONTENT_LENGTH": str(len(body)),
        }
        request.pop("HTTP_TRANSFER_ENCODING", None)
        with self._lock:
            chunks = self._application(request, start_response)
            try:
                answer = b"".join(chunks)
            finally:
                if hasattr(chunks, "close"):
                    chunks.close()
        return given[0], given[1], answer

    def _receive(self, environ: Environ, request: dict[str, Any]) -> Answer:
        end = time.monotonic() + request.get("WaitTimeSeconds", 0)
        body = json.dumps({**request, "WaitTimeSeconds": 0}).encode()
        while True:
            with _changed:
                status, headers, answer = self._ask(environ, body)
                left = end - time.monotonic()
                if left <= 0 or not status.startswith("200") or b'"Messages"' in answer:
                    return status, headers, answer
                _changed.wait(min(left, self.look_seconds))


def _body_of(environ: Environ) -> bytes:
    """The request's body; werkzeug has already undone a chunked one."""
    if environ.get("wsgi.input_terminated"):
        return bytes(environ["wsgi.input"].read())
    return bytes(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))


def shift_motos_clock() -> None:
    """Let moto see the shifted time; before its services are imported, some of which take it by name."""
    import datetime

    from moto.core import utils

    def utcnow() -> datetime.datetime:
        return datetime.datetime.fromtimestamp(_shifted_time(), datetime.UTC).replace(tzinfo=None)

    utils.utcnow = utcnow
    time.time = _shifted_time


def _run_moto(port: int) -> None:
    shift_motos_clock()
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    def create(service: Any) -> Any:
        made = create_backend_app(service)
        made.debug = False  # else its faults end the connection instead of being answered with a 500
        return made

    moto = DomainDispatcherApplication(create)
    of_host = lru_cache(_HOSTS_MAX)(moto.get_backend_for_host)  # for each request it lists moto's folder
    moto.get_backend_for_host = of_host  # type: ignore[method-assign]  # with the same answers
    application = OneAtATime(moto)

    class Handler(WSGIRequestHandler):
        """Keeps connections, which werkzeug's own closes after each answer: half the time of a call."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def run_wsgi(self) -> None:
            self.wfile.flush()  # "100 Continue", where it was asked for
            status, headers, answer = application.answer(self.make_environ())
            code, _, reason = status.partition(" ")
            self.send_response(int(code), reason)
            for name, value in headers:
                if name.lower() != "content-length":
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            said = {name.lower(): value for name, value in headers}.get("content-length", "0")
            if code not in _NO_BODY:
                self.send_header("Content-Length", said if is_head else str(len(answer)))
            self.end_headers()
            if not is_head:
                self.wfile.write(answer)
            self.wfile.flush()

        def log(self, type: str, message: str, *args: Any) -> None:
            """Say nothing of each request."""

    make_server(HOST, port, moto, threaded=True, request_handler=Handler).serve_forever()


def main() -> None:
    """Run the stand-in that the command line names, until it is told to end."""
    time.time = _shifted_time
    which, port = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the stand-in prints belongs in its log
    threading.Thread(target=_follow, args=(sys.stdin, answers), daemon=True).start()
    {"moto": _run_moto, "ministack": _run_ministack}[which](port)


if __name__ == "__main__":
    main()
