"""The files in `localstack/` agree with each other, and the ready-hook makes a stack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from roost.testing.standins import StandIn

FOLDER = Path(__file__).parents[2] / "localstack"
HOOK = FOLDER / "ready.d/10-roost.sh"
NEEDED = {"dynamodb", "dynamodbstreams", "sqs", "s3", "sts"}


@pytest.fixture(scope="module")
def localstack() -> dict[str, Any]:
    """The one service of the compose file."""
    document = yaml.safe_load((FOLDER / "compose.yml").read_text(encoding="utf-8"))
    assert list(document["services"]) == ["localstack"]
    service: dict[str, Any] = document["services"]["localstack"]
    return service


def test_the_image_is_pinned_by_its_version(localstack: dict[str, Any]) -> None:
    name, _, version = localstack["image"].partition(":")
    assert name == "localstack/localstack"
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert version in readme()


def test_the_one_port_is_bound_to_this_machine_only(localstack: dict[str, Any]) -> None:
    assert localstack["ports"] == ["127.0.0.1:${LOCALSTACK_PORT:-4566}:4566"]
    assert "AWS_ENDPOINT_URL=http://127.0.0.1:4566" in readme()


def test_the_services_are_those_that_the_backend_uses(localstack: dict[str, Any]) -> None:
    assert set(localstack["environment"]["SERVICES"].split(",")) == NEEDED


def test_what_can_be_set_is_documented(localstack: dict[str, Any]) -> None:
    text = (FOLDER / "compose.yml").read_text(encoding="utf-8")
    settable = set(re.findall(r"\$\{(\w+)", text))
    assert settable == {"LOCALSTACK_PORT", "ROOST_AWS__STACK"}
    for name in settable:
        assert f"`{name}`" in readme()


def test_it_is_healthy_once_the_hook_has_run(localstack: dict[str, Any]) -> None:
    assert "./ready.d:/etc/localstack/init/ready.d:ro" in localstack["volumes"]
    assert "/_localstack/init/ready" in localstack["healthcheck"]["test"][1]
    assert [path.name for path in HOOK.parent.iterdir()] == [HOOK.name]
    assert HOOK.stat().st_mode & 0o111 == 0o111


def test_what_the_hook_reads_is_mounted(localstack: dict[str, Any]) -> None:
    targets = {volume.split(":")[1] for volume in localstack["volumes"]}
    defaults = dict(re.findall(r"\$\{(HOOK_\w+):-([^}]+)\}", HOOK.read_text(encoding="utf-8")))
    assert set(defaults) == {"HOOK_SOURCE", "HOOK_VENV"}
    assert set(defaults.values()) <= targets


def test_the_hook_is_sound_shell() -> None:
    subprocess.run(["bash", "-n", str(HOOK)], check=True)


@pytest.mark.soak
@pytest.mark.slow
def test_the_hook_makes_the_stack(ministack: StandIn, tmp_path: Path) -> None:
    """As in the container, but with a Roost that is installed already and another stand-in."""
    (tmp_path / "bin").mkdir()
    installed = Path(sys.executable).with_name("roost")
    (tmp_path / "bin/roost").write_text(f'#!/bin/sh\nexec {installed} "$@"\n')
    (tmp_path / "bin/roost").chmod(0o755)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": ministack.url,
        "HOOK_VENV": str(tmp_path),
        "ROOST_AWS__STACK": "hooked",
    }
    for _ in range(2):  # LocalStack runs it again at each start
        done = subprocess.run(
            [shutil.which("bash") or "bash", str(HOOK)],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "hooked-journal" in done.stdout


def readme() -> str:
    return (FOLDER / "README.md").read_text(encoding="utf-8")
