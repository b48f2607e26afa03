"""Shell completion, as `roost --install-completion` sets it up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(sys.executable).parent
ENVIRON = {
    **os.environ,
    "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
    "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",  # else typer looks for the shell that it runs in
}

pytestmark = pytest.mark.slow


def completed(*words: str) -> list[str]:
    """What bash offers for the last of the words."""
    shown = subprocess.run(
        ["roost", "--show-completion", "bash"], env=ENVIRON, capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    typed = f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}"
    script = f"{shown.stdout}\n{typed}\n_roost_completion roost\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", script], env=ENVIRON, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("roost", "stat"), {"status"}),
        (("roost", "list", "--state", "ca"), {"cancelled"}),
        (("roost", "worker", "--metrics"), {"--metrics-port"}),
    ],
)
def test_bash_is_offered_what_fits(words: tuple[str, ...], expected: set[str]) -> None:
    assert set(completed(*words)) == expected
