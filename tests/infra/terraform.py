"""Terraform on this machine, with no network: where the provider is, and a copy of the tree to work in.

The provider comes from a filesystem mirror: that of TF_PLUGIN_MIRROR, or where this is not set
one found in the usual places. With ROOST_TF_REGISTRY=1 it is downloaded instead. Where there is neither,
`Terraform.find` gives None, and whoever asked says so.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
SHARED = ("roost/storage/aws/stack.json", "roost/storage/aws/roles.json")  # what modules read
REGION = "us-east-1"
_MIRRORS = (
    "/opt/*",
    "/usr/share/terraform/*",
    "/usr/local/share/terraform/*",
    "~/.terraform.d/plugins",
)
_PROVIDER = "*/hashicorp/aws/*/*/terraform-provider-aws*"
_RUN_SECONDS = 900.0  # `terraform test`: two minutes of CPU
_LEFT_OUT = (".terraform", ".terraform.lock.hcl", "*.tfstate*")


class TerraformFailed(Exception):
    """A command failed; the text is what it printed."""


@dataclass(frozen=True)
class Terraform:
    """Runs commands in a copy of the tree, so that nothing is left in the checkout.

    Attributes:
        folder: the copy's root.
        environ: of every command.
    """

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def find(cls, folder: Path) -> Terraform | None:
        """Copy the tree to a folder, and set Terraform up; None where there is no provider."""
        if shutil.which("terraform") is None:
            return None
        mirror, has_registry = _mirror(), os.environ.get("ROOST_TF_REGISTRY") == "1"
        if mirror is None and not has_registry:
            return None
        copied = folder / "tree"
        shutil.copytree(INFRA, copied / "infra", ignore=shutil.ignore_patterns(*_LEFT_OUT))
        for name in SHARED:
            (copied / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copied / name)
        config = folder / "terraform.rc"
        install = "" if mirror is None else _installation(mirror)
        config.write_text(f"disable_checkpoint = true\n{install}")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
        environ = {
            **kept,
            "TF_CLI_CONFIG_FILE": str(config),
            "TF_IN_AUTOMATION": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }
        return cls(copied, environ)

    def run(self, where: str, *arguments: str, ok: tuple[int, ...] = (0,), **environ: str) -> str:
        """Run `terraform` in a folder of the tree; what it printed.

        Raises:
            TerraformFailed: its exit code is none of `ok`.
        """
        done = subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder / where,
            env={**self.environ, **environ},
            text=True,
            timeout=_RUN_SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode not in ok:
            raise TerraformFailed(f"terraform {' '.join(arguments)} in {where}:\n{done.stdout[-6000:]}")
        return done.stdout

    def init(self, where: str) -> None:
        self.run(where, "init", "-backend=false", "-input=false", "-no-color")

    def folders(self) -> list[str]:
        """All that hold a configuration."""
        found = {path.parent.relative_to(self.folder) for path in (self.folder / "infra").rglob("*.tf")}
        return sorted(map(str, found))


def _mirror() -> str | None:
    named = os.environ.get("TF_PLUGIN_MIRROR")
    usual = [found for place in _MIRRORS for found in sorted(glob.glob(os.path.expanduser(place)))]
    places = usual if named is None else [named]
    return next((place for place in places if any(Path(place).glob(_PROVIDER))), None)


def _installation(mirror: str) -> str:
    return f"provider_installation {{\n  filesystem_mirror {{\n    path = {json.dumps(mirror)}\n  }}\n}}\n"


class Clock:
    """Says how long something took."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __str__(self) -> str:
        return f"{time.monotonic() - self._began:.0f} s"


def state_resources(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The managed resources of `terraform show -json`, of all modules: `type`, `address`, `values`."""
    found: list[dict[str, Any]] = []

    def walk(module: Mapping[str, Any]) -> None:
        found.extend(one for one in module.get("resources", []) if one["mode"] == "managed")
        for child in module.get("child_modules", []):
            walk(child)

    walk(state["values"]["root_module"])
    return found
