"""`examples/coder.py` repairs a repository in its own worktree, through the death of its worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from examples.coder import _inside
from roost.testing.safety import Subject, explore
from roost.testing.worlds import local_world
from roost.workspace import Origin
from tests.examples.programs import RIGHT, coder

ROOT = Path(__file__).parents[2]
TEST = """
import unittest, calc

class T(unittest.TestCase):
    def test(self):
        self.assertEqual(calc.add(2, 3), 5)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose tests fail."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "calc.py").write_text("def add(a, b):\n    return 0\n")
    (folder / "test_calc.py").write_text(TEST)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a bug"]):
        who = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", *who, *words], cwd=folder, check=True, timeout=30)
    return folder


@pytest.mark.slow
@pytest.mark.soak
def test_a_worker_that_dies_midway_is_followed_and_a_patch_is_left(repository: Path, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
    environ |= {
        "ROOST_HOME": str(tmp_path / "home"),
        "ROOST_LEASE_SECONDS": "1",
        "ROOST_WORKSPACE__SOURCE": str(repository),
        "PYTHONPATH": str(ROOT),
    }

    def roost(*words: str, code: int = 0, **extra: str) -> str:
        command = [str(Path(sys.executable).parent / "roost"), *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ | extra, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    work = ["worker", "--engines", "tests.examples.programs:coder", "--until-idle"]
    goal = json.dumps({"goal": "Make the tests pass.", "tests": [sys.executable, "-m", "unittest", "-q"]})
    work_id = roost("enqueue", "--any-engine", "--engine", "coder", "--payload", goal).strip()
    # Killed between what the tools did (the wrong change) and its commit: version 4 is lost.
    roost(*work, code=-9, ROOST_TESTING="1", ROOST_CRASH_AT="before-committed:4")
    shown = json.loads(roost("status", work_id, "--json"))
    assert (shown["control"]["version"], shown["snapshot"]["step"]) == (3, "act")
    roost(*work)
    shown = json.loads(roost("status", work_id, "--json"))
    steps = [shown["control"]["state"], shown["snapshot"]["result"]["requests"]]
    assert steps == ["done", 5]
    results = json.dumps(shown["snapshot"]["data"]["messages"])
    assert "not a file of the workspace" in results
    assert "exit code 1" in results
    patch = roost("artifacts", "get", work_id, "change.patch")
    assert (repository / "calc.py").read_text() != RIGHT, "the repository itself is not touched"
    subprocess.run(["git", "apply"], input=patch, text=True, cwd=repository, check=True, timeout=30)
    assert (repository / "calc.py").read_text() == RIGHT
    branches = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True, timeout=30)
    assert len(branches.stdout.splitlines()) == 1, "the worktree went with the work"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", ".git/config", "a/../../x", "a/.git"])
def test_tools_stay_in_the_workspace(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a file of the workspace"):
        _inside(tmp_path, name)
    assert _inside(tmp_path, "a/../b.py") == tmp_path.resolve() / "b.py"


@pytest.mark.soak
async def test_it_is_safe_to_crash(repository: Path) -> None:
    """At an even selection of its cut points: each run starts some thirty processes of git and Python."""
    goal = {"goal": "Make the tests pass.", "tests": [sys.executable, "-m", "unittest", "-q"]}
    ignore = ["data.messages", "artifacts"]  # they carry the time of day
    tried = Subject(lambda: [coder()], goal, ignore=ignore)
    explored = await explore(tried, partial(local_world, Origin(str(repository))), cuts_max=4)
    assert explored.peace == "done after version 10"
    assert [str(finding) for finding in explored.findings] == []
