"""Every command of the README and every example runs as it is written."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

from roost import Snapshot, WorkItem
from tests.docs.blocks import Block, all_blocks, blocks

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


GUIDES = [
    *("backends", "celery", "children", "console", "control", "explain", "flows", "observability"),
    *("resources", "signals", "steps", "testing", "tutorial"),
]
SHELLS = [
    pytest.param("README.md", marks=pytest.mark.soak, id="readme"),
    pytest.param("examples/aws.md", marks=pytest.mark.soak, id="aws"),
    *(pytest.param(f"examples/guides/{name}.md", marks=pytest.mark.soak, id=name) for name in GUIDES),
]
PORTS = ("9464", "8319")  # of the documents; each page gets others
NOT_RUN = {
    ("README.md", "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/roost demo"): (
        "needs a package index: run as it is by test_packaging.py"
    ),
    ("README.md", "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest -n 2"): (
        "the test run itself: .ci/run takes it from the README"
    ),
    ("CONTRIBUTING.md", "git clone URL roost && cd roost"): "needs a package index: as the README's two",
    ("examples/aws.md", "pip install 'roost-runtime[aws]'"): "test_packaging.py installs each extra",
    ("localstack/README.md", "docker compose -f localstack/compose.yml up --detach --wait"): (
        "needs docker: tests/aws/test_localstack_files.py reads the files and runs the hook on a stand-in"
    ),
    ("localstack/README.md", "export AWS_ENDPOINT_URL=http://127.0.0.1:4566"): "goes on from the one before",
    **{
        (
            f"infra/examples/{name}/README.md",
            first,
        ): "`python -m tests.infra` applies the example on a stand-in"
        for name, first in (
            ("ecs", "terraform init"),
            ("lambda", "../../package.sh roost.zip my-engines"),
            ("namespaces", "terraform init"),
            ("smallest", "terraform init"),
        )
    },
}
"""Blocks that no test runs as they are -> why, and what does in their place."""
RUN_ELSEWHERE = {"CONTRIBUTING.md": "the commands of .ci/run; test_the_commands_of_contributing_run"}


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def script_of(page_name: str, folder: Path, page: str, ports: dict[str, str]) -> str:
    """All blocks of a page in order, as one shell script: what a reader would type and save."""
    lines = [
        "set -euo pipefail",
        "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
        f"cp -r {ROOT}/examples .",
    ]
    for number, block in enumerate(blocks(page_name)):
        lines.append(f"cd {folder}")
        if block.language == "python" and block.mark.endswith(".py"):
            (folder / f"block{number}").write_text(block.text)
            lines.append(f"cp block{number} {block.mark}")
        if block.language != "bash":
            continue
        command = block.text.replace("https://example.com", page).rstrip()
        for said, given in ports.items():
            command = command.replace(said, given)
        mark, _, port = block.mark.partition(" ")
        lines.append(f"{command} 2>worker.log &" if mark == "background" else command)
        if port:
            lines.append(f"until (echo > /dev/tcp/127.0.0.1/{ports[port]}) 2>/dev/null; do sleep 0.1; done")
    return "\n".join(lines)


@pytest.mark.parametrize("page_name", SHELLS)
def test_every_shell_block_runs(tmp_path: Path, environ: dict[str, str], page: str, page_name: str) -> None:
    """All blocks of a page in order, in one shell, as a reader would type them."""
    ports = {said: free_port() for said in PORTS}
    environ["ROOST_CONSOLE__PORT"] = ports["8319"]
    done = subprocess.run(
        ["bash", "-c", script_of(page_name, tmp_path, page, ports)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr


def test_every_block_is_run_or_has_a_reason() -> None:
    """A shell block is run by the test above or is in the short list, which names no block that is gone."""
    shells = {entry if isinstance(entry, str) else entry.values[0] for entry in SHELLS} | set(RUN_ELSEWHERE)
    wanted = {
        (block.page, block.first_line) for block in all_blocks() if block.language in ("bash", "console")
    }
    run = {(b.page, b.first_line) for b in all_blocks() if b.language == "bash" and b.page in shells}
    assert wanted - run == set(NOT_RUN)
    others = {block.language for block in all_blocks()} - {"hcl"}
    assert others <= {"bash", "console", "python", "toml", "text"}, "a language of which nothing is known"
    terraform = [block for block in all_blocks() if block.language == "hcl"]
    assert [block.page for block in terraform] == [
        "infra/operations.md"
    ]  # applied by tests/infra/restored.py


def test_every_python_block_is_run() -> None:
    """It is saved and used by the page's shell blocks, is the body of a step, or is the README's."""
    for block in all_blocks():
        if block.language == "python" and block.page != "README.md":
            is_used = any(
                block.mark.removesuffix(".py") in other.text
                for other in blocks(block.page)
                if other.language == "bash"
            )
            assert block.mark == "step" or (block.mark.endswith(".py") and is_used), block.first_line


class Body:
    """An engine whose step is the function `step` of some names."""

    engine_id = "body"

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        self.names["snapshot"] = snapshot
        made: Snapshot = await self.names["step"]()
        return made


STEPS = [block for block in all_blocks() if block.mark == "step"]


@pytest.mark.parametrize("block", STEPS, ids=lambda block: block.page)
def test_a_block_that_is_the_body_of_a_step_is_one(block: Block) -> None:
    """Each of its returns, one after the other, is what a step gives back, and Roost takes it."""
    import roost
    from roost.testing import EngineHarness

    body = ast.parse(f"async def step():\n{textwrap.indent(block.text, '    ')}").body[0]
    assert isinstance(body, ast.AsyncFunctionDef)
    before = [node for node in body.body if not isinstance(node, ast.Return)]
    returns = [node for node in body.body if isinstance(node, ast.Return)]
    assert returns
    for node in returns:
        body.body = [*before, node]
        names: dict[str, Any] = {**vars(roost), **{name: getattr(roost, name) for name in roost.__all__}}
        names["urls"] = ["https://example.com/a", "https://example.com/b"]
        exec(compile(ast.Module([body], []), block.page, "exec"), names)

        with EngineHarness(Body(names)) as harness:
            assert harness.enqueue("body", {}).state == "waiting"


def test_every_toml_block_is_toml_and_its_entry_points_are_ours() -> None:
    for block in all_blocks():
        if block.language == "toml":
            parsed = tomllib.loads(block.text)
            groups = parsed.get("project", {}).get("entry-points", {})
            assert set(groups) <= {"roost.engines", "roost.backends"}


def test_what_the_terraform_blocks_set_are_variables_of_their_example() -> None:
    for block in all_blocks():
        if block.page.startswith("infra/examples/"):
            folder = (ROOT / block.page).parent
            declared = set(
                re.findall(r'^variable "(\w+)"', (folder / "variables.tf").read_text(), re.MULTILINE)
            )
            assert set(re.findall(r"-var '?(\w+)=", block.text)) <= declared
            outputs = set(re.findall(r'^output "(\w+)"', (folder / "outputs.tf").read_text(), re.MULTILINE))
            assert set(re.findall(r"terraform output (\w+)", block.text)) <= outputs


@pytest.mark.soak
def test_the_commands_of_contributing_run(tmp_path: Path, environ: dict[str, str]) -> None:
    """In a copy of what is committed; the slow checks of all code are CI's, and are only asked for help."""
    tree = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "x"], cwd=tmp_path, input=tree, check=True)
    lines = [line for b in blocks("CONTRIBUTING.md") if b.language == "bash" for line in b.text.splitlines()]
    assert len(lines) >= 8
    for line in lines:
        command = f"{line} --help" if line.split()[0] in ("mypy", "mkdocs", "lint-imports") else line
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, (line, done.stdout[-1000:] + done.stderr[-2000:])


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    commands = [block.text for block in blocks("README.md") if block.language == "console"]
    assert len(commands) == 2
    assert commands[0].strip().endswith("roost demo")
    assert "pytest" in commands[1]


def test_the_engine_of_the_readme_runs(tmp_path: Path, environ: dict[str, str]) -> None:
    block = next(block.text for block in blocks("README.md") if block.language == "python")
    (tmp_path / "readme_engine.py").write_text(block)
    script = """
        W=$(roost enqueue --any-engine --engine researcher --payload '{"topic": "owls"}')
        roost worker --engines readme_engine:Researcher --until-idle
        roost artifacts get "$W" report.md
    """
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\n".join(["an answer about owls"] * 3)


def test_the_tests_of_the_readme_pass(tmp_path: Path, environ: dict[str, str]) -> None:
    block = [block.text for block in blocks("README.md") if block.language == "python"][1]
    (tmp_path / "test_readme.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_readme.py"],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(ROOT / "examples")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_settings_of_the_readme_are_valid(tmp_path: Path) -> None:
    from roost.config import load_settings

    text = [block.text for block in blocks("README.md") if block.language == "toml"][-1]
    (tmp_path / "roost.toml").write_text(text)
    settings = load_settings(directory=tmp_path, environ={})
    defaults = load_settings(config_file=None, directory=tmp_path.parent, environ={})
    assert settings.model_dump(exclude={"home", "engines"}) == defaults.model_dump(
        exclude={"home", "engines"}
    )


@pytest.mark.soak
def test_the_watchlist_example_runs_end_to_end(tmp_path: Path, environ: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "examples/e2e_watchlist.sh")],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert '"verdict": "holds"' in done.stdout


def test_the_demo_comes_out_as_promised(environ: dict[str, str]) -> None:
    done = subprocess.run(["roost", "demo"], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "each step committed once, nothing lost" in done.stdout


@pytest.mark.soak
def test_the_benchmark_runs() -> None:
    """Figures from a busy test machine mean nothing; this shows that anyone can get their own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "steps per second" in done.stdout
