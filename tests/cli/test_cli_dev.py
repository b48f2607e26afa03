"""`roost dev aws` starts a stand-in, a stack and a worker, and leaves no process behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from tests.cli.conftest import Roost

pytestmark = pytest.mark.slow


def children_of(process: subprocess.Popen[str]) -> set[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    return {int(pid) for pid in listed.stdout.split()}


def are_gone(pids: set[int]) -> bool:
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 60
    while not are_gone(pids):
        assert time.monotonic() < deadline, f"of {pids} some are still there"
        threading.Event().wait(0.05)


def lines_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    while line := process.stdout.readline():
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came, but: {seen}")


def shell_environment(text: str) -> dict[str, str]:
    return dict(re.findall(r"^export (\w+)=(.+)$", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("standin", "number"),
    [
        pytest.param("moto", signal.SIGINT, id="moto", marks=pytest.mark.soak),
        pytest.param("ministack", signal.SIGTERM, id="ministack", marks=pytest.mark.soak),
    ],
)
def test_what_is_enqueued_is_done_and_the_end_leaves_nothing(
    roost: Roost, standin: str, number: signal.Signals
) -> None:
    process = roost.start("dev", "aws", "--standin", standin, "--engines", "demo", AWS_PROFILE="mine")
    lines = lines_until(process, "export ROOST_STORAGE")
    environ = shell_environment(lines)
    assert "unset AWS_PROFILE" in lines
    assert environ["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    started = children_of(process)
    assert len(started) == 2
    work_id = roost.process("enqueue", "--engine", "demo", **environ).ok().out.strip()
    roost.process("wait", work_id, "--timeout", "60", **environ).ok()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    until_gone(started)


def test_without_a_worker_it_prints_one_document(roost: Roost) -> None:
    process = roost.start("dev", "aws", "--no-worker", "--json", AWS_ENDPOINT_URL_SQS="https://elsewhere")
    assert process.stdout is not None
    document = json.loads(process.stdout.readline())
    assert document["unset"] == ["AWS_ENDPOINT_URL_SQS"]
    assert document["export"]["ROOST_STORAGE"] == "aws:roost"
    assert len(children_of(process)) == 1
    assert roost.process("list", **document["export"]).ok().out == ""
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_worker_that_ends_ends_it_all(roost: Roost) -> None:
    process = roost.start("dev", "aws", "--engines", "nonsense")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no engine 'nonsense'" in err
    assert "the worker ended by itself" in err
    assert "export" in out
