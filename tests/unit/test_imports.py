"""What a start imports: a name or a help text must not cost the import of everything."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import roost
from roost import models, names

HEAVY = {
    "asyncio",
    "httpx2",
    "msgspec",
    "pydantic",
    "sqlite3",
    "aioboto3",
    "botocore",
    "starlette",
    "opentelemetry",
    "rich",
}


def imported_by(code: str) -> set[str]:
    """Top-level modules that a new interpreter has after `code`."""
    program = (
        f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.slow  # a new interpreter each
@pytest.mark.parametrize(
    "code",
    [
        "import roost",
        "import roost.cli.app",
        "import roost.cli.app as m\ntry: m.app(['--help'])\nexcept SystemExit: pass",
    ],
)
def test_a_start_imports_nothing_heavy(code: str) -> None:
    assert not imported_by(code) & HEAVY


@pytest.mark.soak
@pytest.mark.parametrize(
    ("arguments", "bar_seconds"), [(["-c", "import roost"], 0.150), (["-m", "roost", "--help"], 0.300)]
)
def test_a_start_stays_below_its_bar(tmp_path: Path, arguments: list[str], bar_seconds: float) -> None:
    """In seconds of CPU, the interpreter's own start included; the best of a few, with bytecode."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    took = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, *arguments]
        subprocess.run(command, env=environ, check=True, capture_output=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if took[-1] < bar_seconds:
            return
    pytest.fail(f"took {min(took):.3f} s at best")


@pytest.mark.slow
def test_nothing_is_imported_to_watch_when_nobody_does() -> None:
    """With all of `roost worker` set up."""
    code = (
        "import asyncio; from roost.config import load_settings; from roost.wiring import open_runtime\n"
        "async def main():\n"
        "    async with open_runtime(load_settings({'storage': 'memory:'}), engines='demo') as r:\n"
        "        assert r.parts.observer is None; r.worker()\n"
        "asyncio.run(main())"
    )
    assert not imported_by(code) & {"opentelemetry", "prometheus_client"}


def test_each_public_name_is_there_and_is_listed() -> None:
    for name in roost.__all__:
        assert getattr(roost, name).__name__ == name
    assert set(roost.__all__) <= set(dir(roost))


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Nothing'"):
        roost.Nothing  # noqa: B018


def test_models_give_out_what_names_holds() -> None:
    assert models.State is names.State is roost.State
