"""All checks of `infra/` that need Terraform: `python -m tests.infra`, a part of what CI runs.

    python -m tests.infra            everything below, the first two side by side
    python -m tests.infra static     formatted, valid, `terraform test`
    python -m tests.infra apply      applied on a stand-in, planned again, audited; Roost and its contract
                                     suite on what was made
    python -m tests.infra scan       the policy scanner, in an environment of its own
    python -m tests.infra image      the container image's steps, what they made as a worker and as functions
                                     under AWS's runtime client, and docker's build where it is
    python -m tests.infra states     applies, and writes `states.json`, which the tests of the audit read

Where there is no provider for Terraform it says so, and checks the files against a stored
schema of the provider instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.infra import e2e, image, restored, runtime_client, schema, standin
from tests.infra.audit import KNOWN_ACTIONS, audit
from tests.infra.contract_on_terraform import Plugin
from tests.infra.stacks import Applied, apply_all
from tests.infra.terraform import INFRA, ROOT, Clock, Terraform, TerraformFailed

STATES = Path(__file__).with_name("states.json")
CHECKOV = "checkov>=3.3"
_SECONDS = 600.0
_NO_TERRAFORM = ("scan", "image")
_PARTS = ("all", "static", "apply", "states", *_NO_TERRAFORM)
_SANDBOX = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}


def say(text: str) -> None:
    print(text, flush=True)


def static(terraform: Terraform) -> tuple[list[str], str]:
    """Formatting, validity, and the tests with a mocked provider; what is wrong, and what to say of it.

    It is not said here: another thread may be in pytest, which takes in all that is printed.
    """
    clock, wrong, said = Clock(), list[str](), list[str]()
    wrong += _tried(lambda: terraform.run("infra", "fmt", "-check", "-recursive", "-diff"))
    for where in terraform.folders():
        wrong += _tried(lambda where=where: _validate(terraform, where))
    wrong += _tried(lambda: said.append(_summary(terraform.run("infra", "test", "-no-color"))))
    counts = f"{len(terraform.folders())} configurations, {len(wrong)} wrong"
    return wrong, f"static: {counts}, {''.join(said)} {clock}"


def _validate(terraform: Terraform, where: str) -> None:
    terraform.init(where)
    found = json.loads(terraform.run(where, "validate", "-json", ok=(0, 1)))
    if found["diagnostics"]:  # warnings, too
        raise TerraformFailed(f"{where}: {json.dumps(found['diagnostics'], indent=1)}")


def _summary(text: str) -> str:
    return text.strip().splitlines()[-1]


def _tried(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except (
        TerraformFailed,
        e2e.Failed,
        image.Broken,
        AssertionError,
        subprocess.TimeoutExpired,
        TimeoutError,
    ) as error:
        return [f"{type(error).__name__}: {error}"]
    return []


def apply(terraform: Terraform, folder: Path) -> list[str]:
    """Apply the examples, plan again, audit, and run Roost on what was made; what is wrong."""
    wrong: list[str] = []
    with standin.start(folder) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in {**running.environ, **_SANDBOX}.items():
            patch.setenv(name, value)
        clock = Clock()
        applied = {one.example: one for one in apply_all(terraform, running)}
        for one in applied.values():
            wrong += [f"{one.example}: a second plan is not empty: {change}" for change in one.changes]
            wrong += [f"{one.example}: {finding}" for finding in audit(one.resources)]
            counts = f"{len(one.resources)} resources, second plan {len(one.changes)} changes"
            say(f"apply: {one.example}, {counts}")
        say(f"apply, plan and audit of {len(applied)} stacks: {clock}")
        wrong += _tried(lambda: restored.check(terraform, running, applied["smallest"]))
        say(f"restored tables, taken in: {clock}")
        wrong += _run_roost(applied, running, folder)
        wrong += _run_contract(applied, running)
    return wrong


def write_states(terraform: Terraform, folder: Path) -> None:
    """Store of the applied states what the audit reads."""
    with standin.start(folder) as running:
        applied = apply_all(terraform, running)
    kept = {
        one.example: [
            {"type": resource["type"], "address": resource["address"], "values": resource["values"]}
            for resource in one.resources
            if resource["type"] not in ("aws_cloudwatch_dashboard", "aws_cloudwatch_log_group")
        ]
        for one in applied
    }
    text = json.dumps(kept, separators=(",", ":"), sort_keys=True)
    STATES.write_text(text.replace('{"address"', '\n{"address"') + "\n", encoding="utf-8")


def _run_roost(applied: dict[str, Applied], running: standin.StandIn, folder: Path) -> list[str]:
    """Roost's end-to-end runs."""
    clock, wrong = Clock(), []
    small, tasks = applied["smallest"], applied["ecs"]
    for one in applied.values():
        wrong += _tried(lambda one=one: e2e.check_doctor(one, running, folder))
    wrong += _tried(lambda: asyncio.run(e2e.check_drift(small)))
    wrong += _tried(lambda: e2e.check_tasks(tasks, running, folder))
    wrong += _tried(lambda: asyncio.run(e2e.check_functions(applied["lambda"], running, folder)))
    wrong += _tried(lambda: e2e.check_namespaces(applied["namespaces"], running, folder))
    say(f"end to end on what Terraform made: {len(wrong)} wrong, {clock}")
    return wrong


def _run_contract(applied: dict[str, Applied], running: standin.StandIn) -> list[str]:
    """The contract suite, and whether roles are given what it needed."""
    clock, wrong = Clock(), list[str]()
    plugin = Plugin(running, {one.stack: one.bucket for one in applied.values()})
    suite = str(Path(__file__).with_name("contract_on_terraform.py"))
    code = pytest.main(
        ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--assert=plain", suite], plugins=[plugin]
    )
    if code != pytest.ExitCode.OK:
        wrong.append(f"the contract suite ended with {code!r} on what Terraform made")
    wrong += [f"the contract suite needs {grant}, and no role has it" for grant in plugin.not_granted()]
    say(f"contract suite on what Terraform made: {clock}")
    return wrong


def scan(folder: Path) -> list[str]:
    """The policy scanner, whose findings are fixed or listed with a reason; what is wrong."""
    clock, home = Clock(), folder / "scanner"
    venv.create(home, with_pip=True)
    python = str(home / "bin/python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", CHECKOV]
    subprocess.run(pip, check=True, timeout=_SECONDS)
    done = subprocess.run(
        [
            *(
                str(home / "bin/checkov"),
                "--framework",
                "terraform",
                "--skip-download",
                "--quiet",
                "--compact",
            ),
            *("--config-file", str(INFRA / ".checkov.yaml"), "--directory", str(INFRA), "--output", "json"),
        ],
        cwd=ROOT,
        env={**os.environ, "CHECKOV_RENDER_MAX_LEN": "0"},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    found = json.loads(done.stdout)
    failed = found["results"]["failed_checks"]
    wrong = [f"{one['check_id']} {one['resource']}: {one['check_name']}" for one in failed]
    script = Path(__file__).with_name("unknown_actions.py")
    command = [python, str(script), *sorted(KNOWN_ACTIONS)]
    known = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    wrong += [f"there is no IAM action {name}" for name in known.stdout.split()]
    say(f"scan: {found['summary']['passed']} checks passed, {len(wrong)} findings, {clock}")
    return wrong


def try_image(folder: Path) -> list[str]:
    """The image's install steps, and what they made; what is wrong."""
    clock, made = Clock(), list[Path]()
    wrong = _tried(lambda: made.append(image.install(folder)))
    for home in made:
        wrong += _tried(lambda home=home: say(f"image: {image.check(home, folder)}"))
        wrong += _tried(lambda home=home: say(f"image: {runtime_client.check(home, folder)}"))
        wrong += _tried(lambda home=home: _try_zip(home, folder))
    say(f"image: {len(wrong)} wrong, {clock}")
    return wrong


def _try_zip(home: Path, folder: Path) -> None:
    client, code = image.package(home, folder)
    say(f"zip: made the same twice; {runtime_client.check(client, folder, code)}")


def main(what: str) -> int:
    """Run a part, or all; the exit code."""
    if what not in _PARTS:
        say(f"there is no part {what!r} of these checks; there are {', '.join(_PARTS)}")
        return 2
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="roost-infra-") as place, ThreadPoolExecutor(1) as beside:
        folder = Path(place)
        terraform = Terraform.find(folder) if what not in _NO_TERRAFORM else None
        if what not in _NO_TERRAFORM and terraform is None:
            say("NO PROVIDER FOR TERRAFORM HERE (no filesystem mirror: see tests/infra/terraform.py).")
            say("NOTHING IS VALIDATED, TESTED OR APPLIED; names alone are checked, against a stored schema.")
            wrong += schema.check(INFRA)
        if terraform and what == "states":
            write_states(terraform, folder)
        checking = beside.submit(static, terraform) if terraform and what in ("all", "static") else None
        if terraform and what in ("all", "apply"):
            wrong += apply(terraform, folder)
        if checking is not None:
            found, said = checking.result()
            wrong += found
            say(said)
        if what in ("all", "scan"):
            wrong += scan(folder)
        if what in ("all", "image"):
            wrong += try_image(folder)
    for text in wrong:
        say(f"WRONG: {text}")
    unchecked = "" if terraform or what in _NO_TERRAFORM else ", BUT TERRAFORM CHECKED NOTHING"
    say(f"infra: {len(wrong)} wrong" if wrong else f"infra: all is well{unchecked}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "all"))  # two parts are none
