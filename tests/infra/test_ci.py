"""`.ci/run` tells of each step how it ended; none that failed, or was never run, passes in silence.

All that it calls is a stub here, which does as it is told by a variable of its own name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.infra.terraform import ROOT

FAILED, KILLED, NOTHING_RUN = 1, 124, 5
README = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest -n 2\n"
PROGRAMS = ("python", "pip", "ruff", "lint-imports", "mypy", "pytest", "chromium", "node")
STUB = """#!/usr/bin/env bash
name="$(basename "$0")"
echo "called $name $*"
case "$name $*" in
  "python3 -m venv "*)
    mkdir -p "$3/bin" && cp "$STUBS"/* "$3/bin/"
    printf 'export PATH="%s/bin:$PATH"' "$(cd "$3" && pwd)" > "$3/bin/activate"
    ;;
  "pytest --last-failed"*) exit "${AGAIN:-0}" ;;
  "pytest "*"$FAILING_TESTS"*) exit "${TESTS_END:-0}" ;;
  "python -m tests.infra") echo "$INFRA_SAYS"; exit "${INFRA_ENDS:-0}" ;;
esac
case "$name" in "$FAILING") exit 1 ;; esac
"""


class Clone:
    """A clone with nothing in it but the script and the README, and stubs for all programs."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stubs = folder / "clone", folder / "stubs"
        (self._folder / ".ci").mkdir(parents=True)
        shutil.copy(ROOT / ".ci/run", self._folder / ".ci/run")
        (self._folder / "README.md").write_text(README)
        self._stubs.mkdir()
        for name in ("python3", *PROGRAMS):
            (self._stubs / name).write_text(STUB)
            (self._stubs / name).chmod(0o755)

    def run(self, readme: str = README, **told: str) -> tuple[int, list[str]]:
        """Its exit code, and the lines that it printed."""
        (self._folder / "README.md").write_text(readme)
        environ = {"FAILING": "-", "FAILING_TESTS": "-", "INFRA_SAYS": "infra: all is well", **told}
        environ |= {"PATH": f"{self._stubs}:{os.environ['PATH']}", "STUBS": str(self._stubs)}
        done = subprocess.run(
            [str(self._folder / ".ci/run")],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout.splitlines()


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def ended(lines: list[str], how: str) -> list[str]:
    """Names of the steps that ended so."""
    return [line.partition(" s  ")[2] for line in lines if line.startswith(how)]


def test_all_that_is_well_is_said_to_be(clone: Clone) -> None:
    code, lines = clone.run()
    assert code == 0
    assert len(ended(lines, "ok ")) == 9
    assert not any("once more" in line for line in lines)


def test_what_fails_hides_nothing_after_it(clone: Clone) -> None:
    code, lines = clone.run(FAILING="lint-imports")
    assert code == FAILED
    assert len(ended(lines, "FAILED (1)")) == 1
    assert len(ended(lines, "ok ")) == 8


def test_without_its_own_environment_nothing_is_run(clone: Clone) -> None:
    code, lines = clone.run(FAILING="pip")
    assert code == FAILED
    assert not any("pytest" in line for line in lines)


def test_a_readme_without_a_test_command_fails(clone: Clone) -> None:
    code, _ = clone.run("nothing")
    assert code == FAILED


@pytest.mark.parametrize("again", [0, FAILED])
def test_tests_that_fail_have_one_more_try(clone: Clone, again: int) -> None:
    code, lines = clone.run(FAILING_TESTS="-m soak", TESTS_END=str(FAILED), AGAIN=str(again))
    assert code == (FAILED if again else 0)
    tries = [line for line in lines if "--last-failed" in line]
    assert [line.endswith("-m soak") for line in tries] == [True]
    assert ended(lines, "FAILED") == (["tests: long runs"] if again else [])


@pytest.mark.parametrize("end", [NOTHING_RUN, KILLED])
def test_a_run_of_tests_that_did_not_come_to_its_end_has_none(clone: Clone, end: int) -> None:
    """What failed in it and passes now would stand for what was never begun."""
    code, lines = clone.run(FAILING_TESTS="-m browser", TESTS_END=str(end))
    assert code == FAILED
    assert ended(lines, f"FAILED ({end})") == ["tests: in a browser"]
    assert not any("--last-failed" in line for line in lines)


def test_the_last_lines_say_that_terraform_checked_nothing(clone: Clone) -> None:
    says = "infra: all is well, BUT TERRAFORM CHECKED NOTHING"
    code, lines = clone.run(INFRA_SAYS=says)
    assert (code, lines[-1]) == (0, says)
    code, lines = clone.run(INFRA_SAYS="infra: 1 wrong", INFRA_ENDS="1")
    assert code == FAILED
    assert len(ended(lines, "FAILED (1)")) == 1


def test_settings_of_this_machine_are_not_tested(clone: Clone) -> None:
    (clone._stubs / "mypy").write_text("#!/bin/sh\nenv\n")
    _, lines = clone.run(ROOST_STORAGE="aws:mine", AWS_PROFILE="mine", ROOST_TF_REGISTRY="1")
    assert "ROOST_TF_REGISTRY=1" in lines
    assert not any(line.startswith(("ROOST_STORAGE=", "AWS_PROFILE=")) for line in lines)
