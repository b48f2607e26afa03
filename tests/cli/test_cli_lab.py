"""`roost lab`: what is safe passes, what is not is shown with the shortest history."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Roost

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
        "lab", "safe:Safe", "--payload", '{"topic": "owls"}', "--signal", "go=1", "--seconds", "3", "--json"
    ).ok()
    assert set(result.document) == {"memory", "local"}
    for tried in result.document.values():
        assert tried["findings"] == []
        assert tried["runs"] >= 5


@pytest.mark.slow
def test_an_unsafe_engine_is_shown_by_its_shortest_history(roost: Roost) -> None:
    (roost.folder / "unsafe.py").write_text(UNSAFE)
    result = roost.process("lab", "unsafe:Unsafe", "--seconds", "2")
    assert result.code == 1
    assert "data.n: 2 in peace, 3 here" in result.out
    assert "the worker is killed" in result.out or "the worker freezes" in result.out
    assert "claimed" in result.out


@pytest.mark.slow
def test_an_engine_that_differs_in_peace_is_refused_with_what_to_do(roost: Roost) -> None:
    (roost.folder / "unsteady.py").write_text(UNSTEADY)
    result = roost.process("lab", "unsteady:Unsteady", "--seconds", "1")
    assert result.code == 2
    assert "two undisturbed runs differ" in result.err
    assert "--ignore" in result.err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["demo", "--payload", "{"], "payload"),
        (["demo", "--signal", "go"], "NAME=JSON"),
        (["no_such_engine"], "no engine"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(roost: Roost, arguments: list[str], what: str) -> None:
    result = roost("lab", *arguments)
    assert result.code != 0
    assert what in result.err
