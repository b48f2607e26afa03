"""`roost worker`: starting, draining, logs, and engines from a file."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.cli.conftest import Result, Roost, read_until

SECONDS = 60.0

SLOW = """
import threading
from roost import Snapshot

class Slow:
    engine_id = "slow"

    def init_snapshot(self, item):
        return Snapshot.of(item)

    def step(self, snapshot, item):
        threading.Event().wait(600)
        return snapshot.finish()
"""

CANCELS = """
import asyncio
from roost import Snapshot

class Cancels:
    engine_id = "cancels"

    async def init_snapshot(self, item):
        return Snapshot.of(item)

    async def step(self, snapshot, item):
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0)
"""

THREADS = """
import threading
from roost import Snapshot

class Threads:
    engine_id = "threads"

    async def init_snapshot(self, item):
        return Snapshot.of(item)

    async def step(self, snapshot, item):
        threading.Thread(target=threading.Event().wait, name="forever").start()
        return snapshot.finish()
"""


def _end(process: subprocess.Popen[str]) -> Result:
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert "Traceback" not in err
    return Result(process.returncode, out, err)


def test_until_idle_leaves_work_that_is_for_other_engines_or_paused(roost: Roost) -> None:
    other = roost("enqueue", "--any-engine", "--engine", "nobody", "--payload", "{}").ok().out.strip()
    roost("pause", "--lane", "low", "--reason", "night").ok()
    low, mine = roost.enqueue({"count": 1}, "--priority", "-1"), roost.enqueue({"count": 1})
    roost.work()
    states = {row["work_id"]: row["state"] for row in roost("list", "--json").ok().document["rows"]}
    assert states == {other: "queued", low: "queued", mine: "done"}


def test_works_until_idle(roost: Roost) -> None:
    ids = [roost.enqueue({"count": 2}) for _ in range(5)]
    roost.enqueue({"count": 1}, "--delay", "0.3s")
    roost.work()
    states = {row["work_id"]: row["state"] for row in roost("list", "--json").document["rows"]}
    assert set(states.values()) == {"done"}
    assert set(ids) < set(states)


def test_a_worker_leaves_other_lanes_to_others(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other work is of another namespace, so that the worker does not wait for its end."""
    monkeypatch.setenv("ROOST_NAMESPACE", "team")
    left = roost.enqueue({"count": 1})
    monkeypatch.delenv("ROOST_NAMESPACE")
    taken = roost.enqueue({"count": 1}, "--priority", "1")
    roost("worker", "--engines", "demo", "--lanes", "high", "--until-idle").ok()
    states = {
        work_id: roost("status", work_id, "--json").document["control"]["state"] for work_id in (taken, left)
    }
    assert states == {taken: "done", left: "queued"}
    refused = roost("worker", "--lanes", "urgent", "--until-idle")
    assert refused.code == 2
    assert "--lanes" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(roost: Roost, number: signal.Signals) -> None:
    process = roost.start("worker", "--engines", "demo")
    read_until(process.stderr, "serving demo")
    process.send_signal(number)
    assert _end(process).code == 0


@pytest.mark.slow
@pytest.mark.crash
def test_a_worker_outlives_its_terminal_under_nohup(roost: Roost) -> None:
    process = roost.start("worker", "--engines", "demo", under=["nohup"])
    read_until(process.stderr, "serving demo")
    process.send_signal(signal.SIGHUP)
    roost("wait", roost.enqueue({"count": 1})).ok()
    process.send_signal(signal.SIGTERM)
    ended = _end(process)
    assert (ended.code, ended.err.count('"worker.drain"')) == (0, 1)


@pytest.mark.slow
def test_a_second_signal_abandons_a_step_that_hangs(roost: Roost) -> None:
    """Also one that is a plain function, whose thread can't be interrupted."""
    roost.write("slow_engine.py", SLOW)
    work_id = roost("enqueue", "--engine", "slow", "--any-engine").ok().out.strip()
    process = roost.start("worker", "--engines", "slow_engine:Slow")
    read_until(process.stderr, "serving slow")
    follow = roost.start("events", work_id, "--follow", "--json")
    read_until(follow.stdout, '"claimed"')
    process.send_signal(signal.SIGTERM)
    read_until(process.stderr, "stopping")
    process.send_signal(signal.SIGTERM)
    read_until(follow.stdout, '"released"')
    assert _end(process).code == 0
    assert roost("status", work_id, "--json").document["control"]["state"] == "queued"


@pytest.mark.slow
def test_piped_log_is_json_lines(roost: Roost) -> None:
    roost.enqueue({"count": 1})
    result = roost.process("worker", "--engines", "demo", "--until-idle").ok()
    assert result.out == ""
    lines = [json.loads(line) for line in result.err.splitlines()]
    for line in lines:
        assert {"ts", "level", "event", "msg"} <= set(line)


@pytest.mark.slow
def test_console_log_is_for_people(roost: Roost) -> None:
    result = roost.process("worker", "--engines", "demo", "--until-idle", ROOST_LOG_FORMAT="console").ok()
    assert "demo" in result.err
    assert not result.err.startswith("{")


def test_an_engine_that_is_named_twice_is_served_once(roost: Roost) -> None:
    roost.enqueue({"count": 1})
    roost("worker", "--engines", "demo,all,demo", "--until-idle").ok()


@pytest.mark.parametrize("engines", ["my_engine.py:Mine", "./my_engine.py:Mine", "my_engine:"])
def test_a_path_in_place_of_a_module_is_told_how(roost: Roost, engines: str) -> None:
    result = roost("worker", "--engines", engines, "--until-idle")
    assert result.code == 3
    assert "From the folder of the file: my_engine:M" in result.err


def test_code_of_an_engine_that_fails_is_told_by_its_line(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    roost.write("fails_engine.py", "def build():\n    raise ValueError('no key')\n")
    monkeypatch.syspath_prepend(str(roost.folder))
    result = roost("worker", "--engines", "fails_engine:build", "--until-idle")
    assert result.code == 1
    assert re.search(r"no key\n.*fails_engine\.py, line 2, in build", result.err)


@pytest.mark.slow
@pytest.mark.slow
def test_an_engine_that_cancels_all_tasks_ends_its_worker_and_is_told_of(roost: Roost) -> None:
    roost.write("cancels_engine.py", CANCELS)
    roost("enqueue", "--engine", "cancels", "--any-engine").ok()
    ended = _end(roost.start("worker", "--engines", "cancels_engine:Cancels"))
    assert ended.code == 1
    assert "Error: all tasks of the worker were cancelled, and not by Roost" in ended.err


def test_a_thread_of_an_engine_does_not_keep_a_worker(roost: Roost) -> None:
    """Python would wait for it at its exit, for ever."""
    roost.write("threads_engine.py", THREADS)
    roost("enqueue", "--engine", "threads", "--any-engine").ok()
    result = roost.process("worker", "--engines", "threads_engine:Threads", "--until-idle").ok()
    assert "still run (forever)" in result.err


@pytest.mark.parametrize(
    "engines", ["nope", "", "demo,nope", ":Engine", "nowhere:Engine", "roost.errors:Nope"]
)
def test_engines_that_can_not_be_are_named(roost: Roost, engines: str) -> None:
    result = roost("worker", "--engines", engines, "--until-idle")
    assert result.code in (1, 2, 3)
    assert result.err.startswith("Error: ")


@pytest.mark.parametrize(
    "options",
    [
        ["--concurrency", "0"],
        ["--concurrency", "99999"],
        ["--concurrency", "many"],
        ["--lease-seconds", "0.01"],
        ["--lease-seconds", "never"],
        ["--lease-seconds", "nan"],
        ["--grace-seconds", "-1"],
    ],
)
def test_a_wrong_option_is_named(roost: Roost, options: list[str]) -> None:
    result = roost("worker", "--engines", "demo", "--until-idle", *options)
    assert result.code == 2
    assert options[0] in result.err


@pytest.mark.slow
def test_crash_point_ends_the_process_as_sigkill_does(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 3})
    args = ("worker", "--engines", "demo", "--until-idle")
    crashed = roost.process(
        *args, ROOST_TESTING="1", ROOST_CRASH_AT="after-committed:2", ROOST_LEASE_SECONDS="1"
    )
    assert crashed.code == -signal.SIGKILL
    assert roost("status", work_id, "--json").document["control"]["version"] == 2
    roost.process(*args, ROOST_LEASE_SECONDS="1").ok()
    assert roost("status", work_id, "--json").document["control"]["state"] == "done"
    versions = [version["version"] for version in roost("history", work_id, "--json").document]
    assert versions == [1, 2, 3]


def test_clock_offset_wakes_what_sleeps_for_long(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 1}, "--delay", "30d")
    roost.process(
        "worker", "--engines", "demo", "--until-idle",
        ROOST_TESTING="1", ROOST_CLOCK_OFFSET_SECONDS=str(31 * 86400), ROOST_WORKER__SWEEP_SECONDS="0.1",
    ).ok()  # fmt: skip
    assert roost("status", work_id, "--json").document["control"]["state"] == "done"


@pytest.mark.parametrize("name", ["ROOST_CRASH_AT", "ROOST_CLOCK_OFFSET_SECONDS"])
def test_seams_are_refused_outside_of_tests(roost: Roost, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "3" if "CLOCK" in name else "after-append:3")
    for args in (("list",), ("enqueue", "--engine", "demo"), ("worker", "--until-idle"), ("doctor",)):
        result = roost(*args)
        assert result.code == 2
        assert name in result.err
        assert "ROOST_TESTING" in result.err


@pytest.mark.slow
def test_probes_are_answered_until_it_has_drained(roost: Roost) -> None:
    roost.write("slow_engine.py", SLOW)
    work_id = roost("enqueue", "--engine", "slow", "--any-engine").ok().out.strip()
    process = roost.start(
        "worker", "--engines", "slow_engine:Slow", "--health-port", "0", ROOST_LOG_FORMAT="json"
    )
    port = json.loads(read_until(process.stderr, "health.listening"))["port"]
    read_until(roost.start("events", work_id, "--follow", "--json").stdout, '"claimed"')
    assert _probe(port, "live") == 200
    process.send_signal(signal.SIGTERM)
    read_until(process.stderr, "stopping")
    assert (_probe(port, "live"), _probe(port, "ready")) == (200, 503)
    process.send_signal(signal.SIGTERM)
    assert _end(process).code == 0


def _probe(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.slow
def test_metrics_are_served(roost: Roost) -> None:
    process = roost.start("worker", "--engines", "demo", "--metrics-port", "0", ROOST_LOG_FORMAT="json")
    port = json.loads(read_until(process.stderr, "metrics.listening"))["port"]
    roost("wait", roost.enqueue({"count": 2}))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert 'roost_step_attempts_total{engine="demo",outcome="committed"} 2.0' in text
    assert "roost_worker_lanes 8.0" in text
    assert 'roost_work_count{lane="normal",state="queued"}' in text
    process.send_signal(signal.SIGTERM)
    assert _end(process).code == 0


def test_a_metrics_port_that_is_taken_is_an_error_that_says_what_to_do(roost: Roost) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = roost("worker", "--engines", "demo", "--metrics-port", port)
    assert result.code == 2
    assert "--metrics-port" in result.err


def test_a_health_port_that_is_taken_is_an_error_that_says_what_to_do(roost: Roost) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = roost("worker", "--engines", "demo", "--health-port", port)
    assert result.code == 2
    assert "--health-port" in result.err


def test_what_an_engine_prints_is_seen_at_once(roost: Roost) -> None:
    """Also in a file, where Python keeps 8 kB back until the process ends."""
    (roost.folder / "prints.py").write_text(
        "from roost import Snapshot\n"
        "class Prints:\n"
        "    engine_id = 'prints'\n"
        "    async def init_snapshot(self, item): return Snapshot.of(item)\n"
        "    async def step(self, snapshot, item):\n"
        "        print('hello from a step')\n"
        "        return snapshot.finish()\n"
    )
    roost("enqueue", "--any-engine", "--engine", "prints").ok()
    worker = roost.start("worker", "--engines", "prints:Prints")
    assert worker.stdout is not None
    assert worker.stdout.readline() == "hello from a step\n"
