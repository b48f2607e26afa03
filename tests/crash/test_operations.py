"""A command that acts on many is killed half-way; another process goes on with the same operation."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.slow]

COUNT = 130  # more than a page


@pytest.mark.soak
def test_an_operation_goes_on_after_kill_9(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
    env = {**kept, "ROOST_HOME": str(tmp_path), "ROOST_LEASE_SECONDS": "1", "NO_COLOR": "1"}

    def roost(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "roost", *args]
        return subprocess.run(
            command, env={**env, **more}, capture_output=True, text=True, timeout=60, check=False
        )

    lines = "\n".join(json.dumps({"engine": "demo", "delay": "1h"}) for _ in range(COUNT))
    (tmp_path / "items.jsonl").write_text(lines)
    assert roost("enqueue", "--engine", "demo", "--file", str(tmp_path / "items.jsonl")).returncode == 0
    command = ("cancel", "--where", "engine:demo", "--reason", "wrong", "--yes")
    killed = roost(*command, ROOST_TESTING="1", ROOST_CRASH_AT="after-cancel_requested:40")
    assert killed.returncode == -signal.SIGKILL
    found = re.search(r"operation (\S+);", killed.stderr)
    assert found is not None
    begun = json.loads(roost("operations", "show", found[1], "--json").stdout)
    assert begun["state"] == "running"
    assert begun["done"] < COUNT
    followed = roost("operations", "follow", found[1])
    assert followed.returncode == 0, followed.stderr
    ended = json.loads(roost("operations", "show", found[1], "--json").stdout)
    assert (ended["state"], ended["done"], ended["skipped"]) == ("done", COUNT, 0)
    events = [json.loads(line) for line in roost("events", "--json", "-n", "1000").stdout.splitlines()]
    asked = [event["work_id"] for event in events if event["kind"] == "cancel_requested"]
    assert len(asked) == len(set(asked)) == COUNT
