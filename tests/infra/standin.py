"""The stand-in on which Terraform's stacks are applied: moto, patched, one for a run."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from roost.testing import standins
from roost.testing.standins import HOST, StandIn
from tests.infra.terraform import ROOT

_START_SECONDS = 60.0
_PURGE = {"MOTO_SQS_ENFORCE_STRICT_QUEUE_PURGE_BEHAVIOUR": "false"}  # the contract suite empties often


def start(folder: Path) -> StandIn:
    """Start it; a context manager that ends it."""
    with standins._reserved(None) as port:
        log = folder / "moto.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.infra.moto_process", "moto", str(port)],
                cwd=ROOT,
                env={**standins._clean_environ(), "MOTO_IAM_LOAD_MANAGED_POLICIES": "true", **_PURGE},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        url = f"http://{HOST}:{port}"
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    process.kill()
                    raise
                time.sleep(0.05)
    return StandIn("moto", url, process, log, reset_path="/moto-api/reset")
