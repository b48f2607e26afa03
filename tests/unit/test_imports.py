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


OF_IDLE_WORKER = {
    "": "roost",
    "roost": "cli clock config core engine errors journal jsonio layers loading models names places rules"
    " shapes storage times wiring workspace",
    "roost.cli": "logs output serve user worker_line",
    "roost.core": "accounts asking attempt attempting bodies children claims company context contract cpu"
    " directives ends heartbeat holder inbox keys marks migration new_work newer observe opening outbox"
    " outside parts pulse recording records redact replies session step_log sweeper switches tokens triggers"
    " turns versions worker workspaces",
    "roost.journal": "accounts budget claims control decide effects entries events family limits lines"
    " projection retention values",
    "roost.storage": "codec local patch ports query",
    "roost.storage.local": "accounts appends arrivals artifacts backend claims expiry index journal lock many"
    " queue rows schema together wake writer",
}
"""The modules of Roost that a worker at rest on local storage has, by package. Each is memory of every
worker: one that only some need is imported where they need it (`python -m tests.bench --only memory`)."""

LIBRARIES_OF_IDLE_WORKER = {
    *("annotated_types", "dotenv", "msgspec", "platformdirs", "pydantic", "pydantic_core"),
    *("pydantic_settings", "typing_extensions", "typing_inspection", "tzdata"),
}


@pytest.mark.slow
def test_an_idle_worker_imports_no_more_than_it_did(tmp_path: Path) -> None:
    """A new module that it can't do without is added above, with what it takes in mind."""
    program = (
        "import sys; of_python = {*sys.modules}  # a system's own sitecustomize, too\n"
        "from roost.cli import serve, worker_line\n"
        "serve.run(worker_line.read(['worker', *sys.argv[1:]]))\n"
        "print(*{*sys.modules} - of_python)"
    )
    arguments = ["--engines", "tests.bench.engines:Counter", "--until-idle", "--home", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    imported = done.stdout.split()
    of_roost = {
        f"{package}.{name}".removeprefix(".")
        for package, modules in OF_IDLE_WORKER.items()
        for name in modules.split()
    }
    assert {name for name in imported if name.partition(".")[0] == "roost"} == of_roost
    top_levels = {name.partition(".")[0] for name in imported}
    of_python = {name for name in top_levels if name in sys.stdlib_module_names or name.startswith("_")}
    assert top_levels - of_python - {"roost", "tests"} <= LIBRARIES_OF_IDLE_WORKER


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


@pytest.mark.slow  # a new interpreter
def test_what_steps_make_in_threads_is_built_with_its_module() -> None:
    """pydantic before 2.14 may fail where two threads are the first to make a model that was deferred."""
    code = (
        "from pydantic import BaseModel; from roost import models\n"
        "for name in models.__all__:\n"
        "    one = getattr(models, name)\n"
        "    if isinstance(one, type) and issubclass(one, BaseModel):\n"
        "        assert type(one.__dict__['__pydantic_validator__']).__name__ == 'SchemaValidator', name"
    )
    assert "roost" in imported_by(code)
