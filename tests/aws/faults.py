"""microburst between the SDK and a stand-in: calls fail on the wire, as AWS' own do.

    with start_faults(standin) as wire:
        os.environ |= wire.environ
        wire.rain(0.1)
        …

What fails is chosen by microburst; the SDK's own retries, timeouts and parsers see it as they
would see AWS. Faults that the product is to meet without them are in `test_aws_weather.py`.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from roost.testing.standins import HOST, StandIn

_START_SECONDS = 30.0
_ANSWER_SECONDS = 10.0
_STALL_KIB_A_SECOND = 0.0002  # the two bytes of an empty reply take longer than the read timeout
_STALLS_MAX = 1  # each costs the SDK its whole read timeout, six seconds

Rule = dict[str, Any]

# DynamoDB Developer Guide, "Error handling"; SQS and S3 API references, "Common errors"
_THROTTLES = {
    "dynamodb": ("ProvisionedThroughputExceededException", 400),
    "sqs": ("ThrottlingException", 400),
    "s3": ("SlowDown", 503),
}
_FAILURES = {"dynamodb": "InternalServerError", "sqs": "InternalFailure", "s3": "InternalError"}


KINDS = frozenset({"error", "throttle", "timeout", "reset", "lost", "half", "short", "delay"})
"""What a run of some hundred calls meets; stalls are too dear for every run to have one."""


def _kinds(service: str) -> dict[str, Rule]:
    """What can happen to a call of a service, by name."""
    code, status = _THROTTLES[service]
    kinds: dict[str, Rule] = {
        "error": {"error": {"code": _FAILURES[service], "status": 500, "message": "made up"}},
        "throttle": {"error": {"code": code, "status": status, "message": "made up"}},
        "timeout": {"timeout_ms": 300},  # held, then 504, and never sent on
        "reset": {"reset": True},  # before it is sent on
        "lost": {"response": {"abort_bytes": 0}},  # it is done, and its reply is not heard
        "half": {"response": {"abort_frac": 0.5}},
        "delay": {"latency": {"min": 10, "max": 300}},
    }
    if service != "s3":  # the length of a blob tells where its reply was cut
        kinds["short"] = {"response": {"truncate_frac": 0.5}}  # ends early, and looks complete
    if service == "dynamodb":
        kinds["stall"] = {"response": {"bandwidth_kbps": _STALL_KIB_A_SECOND}, "times": _STALLS_MAX}
    return kinds


def _rules(share: float) -> tuple[list[Rule], list[str]]:
    """Rules by which a share of all calls fails, each way as often, and the name of each.

    The first rule that draws wins, so that later ones draw from what is left.
    """
    rules, names = [], []
    for service in _THROTTLES:
        kinds = _kinds(service)
        for number, (name, rule) in enumerate(kinds.items()):
            part = share / len(kinds)
            rules.append({"service": service, "probability": part / (1 - number * part), **rule})
            names.append(name)
    return rules, names


class Faults:
    """A running proxy; `start_faults` makes it.

    Attributes:
        url: where it listens.
        environ: what the AWS SDK needs to go through it.
    """

    def __init__(self, url: str, standin: StandIn) -> None:
        self.url = url
        self.environ: Mapping[str, str] = {**standin.environ, "AWS_ENDPOINT_URL": url}
        self._names: dict[int, str] = {}

    def rain(self, share: float) -> None:
        """Let this share of all calls fail from now on."""
        rules, names = _rules(share)
        made = self._ask("rules", rules)
        self._names |= {rule["id"]: name for rule, name in zip(made, names, strict=True)}

    def calm(self) -> None:
        """Let all calls through from now on."""
        self._ask("rules", [])

    def seen(self) -> Counter[str]:
        """How often each fault was met, and `calls`, all that there were."""
        stats = self._ask("stats")
        counts = Counter({"calls": stats["requests"]["total"]})
        for rule in stats["by_rule"]:
            counts[self._names[rule["id"]]] += rule["fired"]
        return counts

    def _ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_microburst/{path}", data=data)
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            return json.load(answer)


@contextmanager
def start_faults(standin: StandIn, directory: Path, *, seed: int) -> Iterator[Faults]:
    """A proxy before a stand-in; it ends with the context, and with this process."""
    log = directory / "faults.log"
    with socket.socket() as reservation, log.open("wb") as output:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind((HOST, 0))
        port = reservation.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, __file__, standin.url, str(port), str(seed)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
        faults = Faults(f"http://{HOST}:{port}", standin)
        try:
            _wait_until_it_answers(faults, process, log)
            yield faults
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(_ANSWER_SECONDS)


def _wait_until_it_answers(faults: Faults, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, f"microburst does not answer: {log.read_text()}"
        try:
            faults.calm()
        except OSError:
            time.sleep(0.03)
        else:
            return


def _end_with_owner() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _main() -> int:
    """The proxy's process: microburst, until its owner is gone."""
    from microburst import forward
    from microburst.cli import main

    upstream, port, seed = sys.argv[1:]
    # 0.10.0 takes the length off every answer, and with it the size that HeadObject asks for
    forward.HOP_BY_HOP -= {"content-length"}
    random.seed(int(seed))
    threading.Thread(target=_end_with_owner, daemon=True).start()
    return main(["--host", HOST, "--port", port, "--upstream", upstream])


if __name__ == "__main__":
    sys.exit(_main())
