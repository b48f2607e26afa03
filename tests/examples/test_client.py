"""`examples/client.mjs` asks for a refund over the JSON API, with Node and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TOKEN = "operator-token-0001"

Node = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node 18 or newer, as CI has it"),
]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Runs the client against a console and a worker of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
    environ = {**kept, "ROOST_HOME": str(tmp_path), "ROOST_CONSOLE__OPERATOR_TOKEN": TOKEN}
    roost = str(Path(sys.executable).parent / "roost")
    started = [
        subprocess.Popen([roost, *words], cwd=EXAMPLES, env=environ, stderr=subprocess.PIPE, text=True)
        for words in (
            ["ui", "--port", "0", "--auth", "token"],
            ["worker", "--engines", "approval:Refunds"],
        )
    ]
    assert started[0].stderr is not None
    url = started[0].stderr.readline().split()[-1].partition("/login")[0]

    def run(*words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["node", "client.mjs", url, *words],
            cwd=EXAMPLES,
            env={**kept, "ROOST_TOKEN": token},
            capture_output=True,
            text=True,
            timeout=90,
        )

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_a_refund_is_asked_for_approved_and_paid_once(node: Node) -> None:
    first = node("order-17", "90000")
    assert first.returncode == 0, first.stderr
    work_id, asked, receipt = first.stdout.splitlines()
    assert "decide" in asked
    assert receipt == "receipt-order-17-90000"
    again = node("order-17", "90000")
    assert again.stdout.splitlines() == [work_id, receipt], "the same key is the same work"
    failed = node("order-18", "-1")
    assert (failed.returncode, "order-18" in failed.stderr) == (1, False)
    assert "cents" in failed.stderr, "it says why the work failed"
    refused = node("order-19", "1", token="wrong")
    assert (refused.returncode, refused.stderr[:4]) == (1, "401:")
