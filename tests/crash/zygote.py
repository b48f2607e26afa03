"""Forks real `roost worker` processes from one that has everything imported.

A worker takes a quarter of a second of CPU to start; a test that kills one every 300 ms would
spend all its time on imports. Each line on stdin starts one: a JSON object of environment variables
and a file for its log; the answer is its process id.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module


def main() -> None:
    for name in ("roost.cli.serve", "roost.storage.local", "tests.crash.engines"):
        import_module(name)  # once, for all

    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _work(order)
        print(pid, flush=True)


def _work(order: dict[str, object]) -> None:
    from roost.cli.main import main as roost

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
    os.environ.update(order["environ"])  # type: ignore[call-overload]  # JSON of our own test
    log = os.open(str(order["log"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(0)
    sys.argv = ["roost", "worker"]
    roost()
    os._exit(0)


if __name__ == "__main__":
    main()
