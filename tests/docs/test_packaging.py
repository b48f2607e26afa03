"""The distribution: built, installed into an environment of its own, and run with the extras asked for.

Needs a package index, so it has a marker of its own: `pytest -m packaging`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import blocks
from tests.docs.site.reference import PYTHON

ROOT = Path(__file__).parents[2]
EXTRAS = {
    "prometheus": ["prometheus_client"],
    "otel": ["opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"],
    "console": ["starlette", "uvicorn", "jinja2", "sse_starlette", "markdown_it", "nh3"],
    "aws": ["aioboto3"],
    "lambda": ["aioboto3", "mangum"],
}
"""What each extra brings; none of it but `markdown_it` (of rich) is there without it."""
NEEDS = {
    "roost.observe.prometheus": {"prometheus"},
    "roost.observe.sdk": {"otel"},
    "roost.console.app": {"console"},
    "roost.console.serve": {"console"},
    "roost.storage.aws": {"aws"},
    "roost.hosting.lambda_worker": {"aws"},
    "roost.hosting.lambda_sweeper": {"aws"},
    "roost.hosting.lambda_console": {"console", "lambda"},
    "roost.testing": set(),
    "roost.cli.app": set(),
    "roost.cli.main": set(),
    "roost.cli.program": set(),
}
"""Whose modules the parts import, with everything installed."""
MISSING = (
    (["roost", "ui"], "console"),
    (["roost", "aws", "describe"], "aws"),
    (["roost", "list", "--storage", "aws"], "aws"),
    (["roost", "dev", "aws"], "aws"),
    (["roost", "worker", "--metrics-port", "0"], "prometheus"),
    (["roost", "worker", "--until-idle"], "otel"),
)
"""Commands that name the extra they lack; the last with OpenTelemetry switched on."""

pytestmark = pytest.mark.packaging


class Place:
    """A virtual environment that holds what was installed into it, and nothing of this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("ROOST_", "PYTHON"))
        }
        kept.pop("VIRTUAL_ENV", None)
        self.environ = {**kept, "ROOST_HOME": str(folder / "home")}
        self.did([sys.executable, "-m", "venv", str(folder / "venv")])

    def run(self, command: Sequence[str], **environ: str) -> subprocess.CompletedProcess[str]:
        """A command of the environment, or one by its path."""
        name = command[0] if os.sep in command[0] else str(self.folder / "venv/bin" / command[0])
        return subprocess.run(
            [name, *command[1:]],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def did(self, command: Sequence[str], **environ: str) -> str:
        """The same; what it printed, if it succeeded."""
        done = self.run(command, **environ)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def has(self, module: str) -> bool:
        return self.run(["python", "-c", f"import {module}"]).returncode == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def built(place: Place) -> Path:
    """The sdist, and the wheel that is made of it."""
    place.did(["pip", "install", "-q", "build"])
    out = place.folder / "dist"
    place.did(["python", "-m", "build", "--outdir", str(out), str(ROOT)])
    place.did(["pip", "uninstall", "-q", "-y", "build", "pyproject_hooks"])
    return out


def test_the_archives_hold_what_they_should(built: Path) -> None:
    [wheel], [sdist] = built.glob("*.whl"), built.glob("*.tar.gz")
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    stored = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "roost").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in in_wheel if name.startswith("roost/")} == stored
    assert "roost/py.typed" in in_wheel
    assert not {name for name in in_wheel if not name.startswith(("roost/", "roost_runtime-"))}
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "pyproject.toml", "tests/conftest.py", "roost/py.typed"} <= in_sdist
    assert {"CONTRIBUTING.md", "mkdocs.yml", "infra/README.md", ".ci/run"} <= in_sdist, "its tests read them"
    assert not [
        name for name in in_sdist if "_cache" in name or "__pycache__" in name or ".terraform/" in name
    ]
    assert stored <= in_sdist


def test_it_runs_bare_and_gains_with_each_extra(place: Place, built: Path) -> None:
    """One environment that grows, since to make one takes longer than all the rest."""
    [wheel] = built.glob("*.whl")
    place.did(["pip", "install", "-q", str(wheel)])
    assert "each step committed once, nothing lost" in place.did(["roost", "demo"])
    assert not any(place.has(name) for names in EXTRAS.values() for name in names if name != "markdown_it")
    for command, extra in MISSING:
        told = place.run(command, **({"ROOST_OBSERVE__OTEL": "1"} if extra == "otel" else {}))
        assert (told.returncode, "Traceback" in told.stderr) == (2, False), (command, told.stderr)
        assert f"pip install 'roost-runtime[{extra}]'" in told.stderr, command
    place.did(["roost", "lab", "demo", "--payload", '{"count": 2}', "--seconds", "60"])
    for extra, modules in EXTRAS.items():
        place.did(["pip", "install", "-q", f"{wheel}[{extra}]"])
        assert all(place.has(module) for module in modules), extra
        later = set(EXTRAS) - {*list(EXTRAS)[: list(EXTRAS).index(extra) + 1], "lambda"}
        unasked = {name for one in later for name in EXTRAS[one]} - {"markdown_it"}
        assert not any(place.has(module) for module in unasked), f"{extra} brings more than its own"
    told = place.run(
        ["roost", "enqueue", "--engine", "demo"],
        ROOST_OBSERVE__OTEL="1",
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="none",
    )
    assert '"name": "enqueue demo"' in told.stderr
    place.did(["roost", "worker", "--engines", "demo", "--until-idle", "--metrics-port", "0"])
    for part, extras in NEEDS.items():
        program = f"import sys, {part}; print(*{{name.partition('.')[0] for name in sys.modules}})"
        imported = set(place.did(["python", "-c", program]).split())
        for extra in set(EXTRAS) - extras:
            own = {name.partition(".")[0] for one in extras for name in EXTRAS[one]}
            others = {name.partition(".")[0] for name in EXTRAS[extra]} - own
            assert not imported & others, f"{part} imports what {extra} brings"


def test_the_first_command_of_the_readme_works_on_a_fresh_copy(place: Place, tmp_path: Path) -> None:
    """As a new user has it: what is committed, no environment, and the README."""
    tree = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "x"], cwd=tmp_path, input=tree, check=True)
    command = next(block.text for block in blocks("README.md") if block.language == "console")
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=tmp_path,
        env=place.environ,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "each step committed once, nothing lost" in done.stdout


def test_editors_know_the_type_of_every_public_name(tmp_path: Path) -> None:
    """Pyright, which is what Pylance asks, reads the installed package as a user's editor does."""
    alone = Place(tmp_path)
    alone.did(["pip", "install", "-q", f"{ROOT}[contract,console,examples]", "pyright[nodejs]"])
    told = json.loads(
        alone.run(["pyright", "--verifytypes", "roost", "--ignoreexternal", "--outputjson"]).stdout
    )
    symbols = told["typeCompleteness"]["symbols"]
    public = [one for one in symbols if one["isExported"] and one["name"].rpartition(".")[0] in PYTHON]
    assert len(public) > 100
    assert [
        one["name"] for one in public if not one["isTypeKnown"] and not one["name"].endswith(".log")
    ] == []
    python = ["--pythonpath", str(tmp_path / "venv/bin/python")]
    alone.did(["pyright", *python, str(ROOT / "examples")])
    text = (ROOT / "tests/typing/api.py").read_text()
    (tmp_path / "api.py").write_text(text)
    options = {"include": ["api.py"], "typeCheckingMode": "strict", "enableTypeIgnoreComments": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(options))
    command = ["pyright", "--outputjson", "-p", str(tmp_path), *python]
    found = json.loads(alone.run(command).stdout)["generalDiagnostics"]
    assert _underlined(found) == {
        number for number, line in enumerate(text.splitlines(), 1) if "type: ignore[" in line
    }
    shown = dict(re.findall(r"^ +reveal_type\((.*)\)  # is (.+)$", text, re.MULTILINE))
    revealed = [one["message"] for one in found if one["severity"] == "information"]
    assert sorted(revealed) == sorted(f'Type of "{of}" is "{kind}"' for of, kind in shown.items())


def _underlined(found: list[dict[str, Any]]) -> set[int]:
    """The lines with an error, from 1."""
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


def test_the_site_is_built_with_its_own_extra_alone(tmp_path: Path) -> None:
    """The reference imports what it is made of, also what other extras bring."""
    alone = Place(tmp_path)
    alone.did(["pip", "install", "-q", f"{ROOT}[docs]"])
    out = str(tmp_path / "site")
    done = subprocess.run(
        [str(tmp_path / "venv/bin/mkdocs"), "build", "--strict", "--quiet", "--site-dir", out],
        cwd=ROOT,
        env={**alone.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
