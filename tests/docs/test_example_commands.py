"""The commands in the docstrings of the examples run as they are written."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.site.sources import ROOT
from tests.docs.test_names import fault

pytestmark = pytest.mark.slow

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LEFT_OUT = {
    "pip install": "test_packaging.py installs the extras",
    "celery ": "tests/examples runs the tasks without a broker",
    "curl ": "tests/examples sends the decision through the API",
    "roost artifacts": "what comes before it runs; tests/examples applies the patch",
}
"""Beginnings of lines that this test does not run -> why, and what does in its place."""


def commands(example: Path) -> list[str]:
    """The lines of shell in a docstring; those of a block of settings are none."""
    source = example.read_text()
    text = re.match(r'"""(.*?)"""', source, re.DOTALL)
    assert ast.get_docstring(ast.parse(source)) is not None
    assert text is not None
    joined = re.sub(r"\\+\n\s*", " ", text[1])
    lines = [
        line.strip().partition("  #")[0].strip() for line in joined.splitlines() if line.startswith("    ")
    ]
    return [line for line in lines if re.match(r"(\w+=\$\()?(roost|pip|celery|curl|export)\b", line)]


def left_out(line: str) -> bool:
    return line.startswith(tuple(LEFT_OUT))


def test_every_command_of_an_example_exists() -> None:
    lines = [line for example in EXAMPLES for line in commands(example)]
    roosts = [match[0] for line in lines for match in re.finditer(r"roost [a-z][^|;&()]*", line)]
    assert len(roosts) >= 12
    assert not [(line, wrong) for line in roosts if (wrong := fault(line))]
    assert all(any(line.startswith(beginning) for line in lines) for beginning in LEFT_OUT), "a stale reason"


@pytest.mark.soak
@pytest.mark.parametrize("example", [path for path in EXAMPLES if commands(path)], ids=lambda path: path.stem)
def test_the_commands_of_an_example_run(
    example: Path, tmp_path: Path, environ: dict[str, str], page: str
) -> None:
    """In their order, and the worker of the docstring after each of them, until there is nothing to do."""
    lines = commands(example)
    [worker] = [line for line in lines if line.startswith("roost worker")]
    repository = tmp_path / "repository"
    script = [
        "set -euo pipefail",
        f"git init -q {repository} && git -C {repository} -c user.name=a -c user.email=a@b "
        "commit -q --allow-empty -m first",
    ]
    for line in lines:
        if line == worker or left_out(line):
            continue
        line = line.replace("/path/of/a/repository", str(repository)).replace("https://example.com", page)
        script += [line] if line.startswith("export") else [line, f"{worker} --until-idle"]
    script.append("roost list --state failed --json")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=ROOT / "examples",
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert '"state": "failed"' not in done.stdout
