"""Every command of the README and every example runs as it is written."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)

pytestmark = pytest.mark.slow


@pytest.fixture
def page() -> Iterator[str]:
    """Stands for https://example.com, which a test must not reach."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"Example Domain")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
    scripts = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": f"{scripts}{os.pathsep}{kept['PATH']}",
        "ROOST_HOME": str(tmp_path / "home"),
        "ROOST_ENGINES__WATCHLIST__ALLOW_PRIVATE": "true",
    }


GUIDES = ["celery", "children", "control", "flows", "observability", "resources", "signals"]
PAGES = [
    "README.md",
    "examples/aws.md",
    *(pytest.param(f"examples/guides/{name}.md", marks=pytest.mark.soak, id=name) for name in GUIDES),
]


@pytest.mark.parametrize("page_name", PAGES)
def test_every_shell_block_runs(tmp_path: Path, environ: dict[str, str], page: str, page_name: str) -> None:
    """All blocks of a page in order, in one shell, as a reader would type them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        metrics_port = str(free.getsockname()[1])
    lines = [
        "set -euo pipefail",
        "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
        f"cp -r {ROOT}/examples .",
    ]
    for language, mark, text in BLOCK.findall((ROOT / page_name).read_text()):
        if language == "bash":
            command = text.replace("https://example.com", page).replace("9464", metrics_port).rstrip()
            lines += [f"cd {tmp_path}", f"{command} 2>worker.log &" if "background" in mark else command]
    script = "\n".join(lines)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    commands = [text for language, mark, text in BLOCK.findall(README) if (language, mark) == ("console", "")]
    assert len(commands) == 2
    assert commands[0].strip().endswith("roost demo")
    assert "pytest" in commands[1]


def test_the_engine_of_the_readme_runs(tmp_path: Path, environ: dict[str, str]) -> None:
    block = next(text for language, _, text in BLOCK.findall(README) if language == "python")
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
    block = [text for language, _, text in BLOCK.findall(README) if language == "python"][1]
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

    text = [text for language, _, text in BLOCK.findall(README) if language == "toml"][-1]
    (tmp_path / "roost.toml").write_text(text)
    settings = load_settings(directory=tmp_path, environ={})
    defaults = load_settings(config_file=None, directory=tmp_path.parent, environ={})
    assert settings.model_dump(exclude={"home", "engines"}) == defaults.model_dump(
        exclude={"home", "engines"}
    )


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
