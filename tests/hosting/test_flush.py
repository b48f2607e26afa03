"""What OpenTelemetry keeps is sent before a function is frozen, and a dead collector costs little."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PROGRAM = """
import json, logging, os, time
from roost.hosting.container import LINE_FIELDS, Container
from roost.wiring import Runtime

logging.getLogger().addHandler(logging.StreamHandler())  # as Lambda's runtime has one there
container = Container(lambda runtime: runtime, actor="test", has_engines=False)
took = []

async def use(runtime: Runtime) -> None:
    await runtime.client.enqueue("demo", {})
    took.append(-time.monotonic())

for _ in range(2):
    container.run(use)
    took[-1] += time.monotonic()
assert logging.getLogger().handlers[0].filters == [LINE_FIELDS]
print(json.dumps(took), flush=True)
os._exit(0)  # frozen for ever: nothing else is sent
"""


class Collector(ThreadingHTTPServer):
    """Takes what is sent, or keeps who sends waiting."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken: list[str] = []
        self.may_answer = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.may_answer.wait(20)
        self.server.taken.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.may_answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


def invoked(collector: Collector) -> tuple[list[float], str]:
    """How long two invocations took after their work, and what the process logged."""
    environ = {
        "ROOST_STORAGE": "memory:",
        "ROOST_OBSERVE__OTEL": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.soak
def test_all_is_sent_by_the_end_of_an_invocation(collector: Collector) -> None:
    collector.may_answer.set()
    invoked(collector)
    assert collector.taken == ["/v1/traces", "/v1/metrics"] * 2


@pytest.mark.soak
def test_a_collector_that_hangs_costs_an_invocation_its_bound_and_no_more(collector: Collector) -> None:
    took, told = invoked(collector)
    assert all(0.4 < seconds < 9.0 for seconds in took), took
    assert told.count("the collector took more than 0.5 s") == 2
