"""`roost lab`: what is safe passes, what is not is shown with the shortest history."""

from __future__ import annotations

import signal

import pytest

from tests.cli.conftest import Roost, read_until

SAFE = """
from roost import Snapshot

class Safe:
    engine_id = "safe"
    async def init_snapshot(self, item):
        return Snapshot.of(item)
    async def step(self, snapshot, item):
        if snapshot.version == 0:
            return snapshot.next(wait_for="go")
        return snapshot.finish(data={"topic": item.payload["topic"]})
"""
UNSAFE = """
from roost import Snapshot

class Unsafe:
    engine_id = "unsafe"
    count = 0
    async def init_snapshot(self, item):
        return Snapshot.of(item)
    async def step(self, snapshot, item):
        self.count += 1
        return snapshot.finish(data={"n": self.count}) if snapshot.version else snapshot.next()
"""
MAILER = """
from roost import Snapshot

class Mailer:
    engine_id = "mailer"
    def __init__(self):
        self.sent = 0
    async def init_snapshot(self, item):
        return Snapshot.of(item)
    async def step(self, snapshot, item):
        self.sent += 1
        return snapshot.finish()

def count(engine):
    return engine.sent
"""
UNSTEADY = """
from itertools import count
from roost import Snapshot
numbers = count()

class Unsteady:
    engine_id = "unsteady"
    async def init_snapshot(self, item):
        return Snapshot.of(item)
    async def step(self, snapshot, item):
        return snapshot.finish(data={"n": next(numbers)})
"""


@pytest.mark.slow
def test_a_safe_engine_passes_in_memory_and_on_sqlite(roost: Roost) -> None:
    (roost.folder / "safe.py").write_text(SAFE)
    result = roost.process(
        "lab", "safe:Safe", "--payload", '{"topic": "owls"}', "--signal", "go=1", "--seconds", "60", "--json"
    ).ok()
    assert set(result.document) == {"memory", "local"}
    for tried in result.document.values():
        assert tried["findings"] == []
        assert tried["runs"] == tried["planned"] > 10


@pytest.mark.slow
def test_an_unsafe_engine_is_shown_by_its_shortest_history(roost: Roost) -> None:
    (roost.folder / "unsafe.py").write_text(UNSAFE)
    result = roost.process("lab", "unsafe:Unsafe", "--seconds", "60")
    assert result.code == 1
    assert "memory: in peace it is done after version 2" in result.out
    assert "data.n: 2 in peace, 1 here" in result.out
    assert "-- here the worker is started anew" in result.out
    assert "Keep it in `snapshot.data`" in result.out
    assert "the same as above" in result.out, "SQLite tries first what memory came to grief over"


@pytest.mark.slow
def test_an_engine_that_differs_in_peace_is_refused_with_what_to_do(roost: Roost) -> None:
    (roost.folder / "unsteady.py").write_text(UNSTEADY)
    result = roost.process("lab", "unsteady:Unsteady", "--seconds", "60")
    assert result.code == 2
    assert "two undisturbed runs differ" in result.err
    assert "--ignore" in result.err


@pytest.mark.soak
def test_what_happens_outside_is_seen_by_who_observes_it(roost: Roost) -> None:
    (roost.folder / "mailer.py").write_text(MAILER)
    assert roost.process("lab", "mailer:Mailer", "--seconds", "60").code == 0
    result = roost.process("lab", "mailer:Mailer", "--seconds", "60", "--observe", "mailer:count")
    assert result.code == 1
    assert "outside: 1 in peace, 2 here" in result.out
    assert "idempotency_key" in result.out


@pytest.mark.soak
def test_work_that_waits_says_which_signal_to_give(roost: Roost) -> None:
    (roost.folder / "safe.py").write_text(SAFE)
    result = roost.process("lab", "safe:Safe", "--payload", '{"topic": "owls"}', "--seconds", "60")
    assert (result.code, "waits for the signal 'go'" in result.err) == (2, True)
    assert "--signal NAME=JSON" in result.err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["demo", "--payload", "{"], "payload"),
        (["demo", "--signal", "go"], "NAME=JSON"),
        (["demo", "--observe", "nothing"], "MODULE:FUNCTION"),
        (["no_such_engine"], "no engine"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(roost: Roost, arguments: list[str], what: str) -> None:
    result = roost("lab", *arguments)
    assert result.code != 0
    assert what in result.err


HANGING = """
import time
from roost import Snapshot
runs = [0]

class Hanging:
    engine_id = "hanging"
    def __init__(self):
        runs[0] += 1
        self.count = 0
    async def init_snapshot(self, item):
        return Snapshot.of(item)
    async def step(self, snapshot, item):
        self.count += 1
        if runs[0] > item.payload["runs"]:
            time.sleep(3600)
        return snapshot.finish(data={"n": self.count}) if snapshot.version else snapshot.next()
"""


@pytest.mark.slow
@pytest.mark.parametrize("runs", [0, 6])
def test_a_step_that_never_gives_the_time_back_does_not_keep_the_report(roost: Roost, runs: int) -> None:
    """It blocks the loop; what was found by then is printed all the same, and what was not tried."""
    (roost.folder / "hanging.py").write_text(HANGING)
    payload = f'{{"runs": {runs}}}'
    result = roost.process("lab", "hanging:Hanging", "--payload", payload, "--seconds", "3")
    if runs and result.code != 124:  # a machine may take three seconds to start
        assert result.code == 1
        assert "data.n: 2 in peace, 3 here" in result.out
        assert "more were not tried: --seconds" in result.out
    else:
        assert result.code == 124
        assert "Nothing was tried in the time there was" in result.err


LOUD = """
from roost import Snapshot
import time

class Loud:
    engine_id = "loud"
    async def init_snapshot(self, item):
        return Snapshot.of(item)
    async def step(self, snapshot, item):
        print("hello from a step")
        time.sleep(item.payload.get("seconds", 0))
        return snapshot.finish()
"""


@pytest.mark.slow
def test_what_an_engine_prints_is_not_among_the_json(roost: Roost) -> None:
    (roost.folder / "loud.py").write_text(LOUD)
    tried = roost.process("lab", "loud:Loud", "--json").ok()
    assert set(tried.document) == {"memory", "local"}
    assert "hello from a step" in tried.err


@pytest.mark.slow
def test_ctrl_c_ends_it_also_while_a_step_runs(roost: Roost) -> None:
    """It was a failed attempt of that step, and all went on."""
    (roost.folder / "loud.py").write_text(LOUD)
    process = roost.start("lab", "loud:Loud", "--payload", '{"seconds": 600}', "--seconds", "500")
    read_until(process.stderr, "hello from a step")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
