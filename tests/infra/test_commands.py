"""The commands on the pages of `infra/`: each is there, with the options that it is given.

What they do is rehearsed elsewhere: examples are applied (`python -m tests.infra`), moves, restores and
upgrades are made (`test_rehearsals.py`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import typer
from botocore import xform_name

from roost.cli.app import app_of
from tests.infra.hcl import read
from tests.infra.terraform import INFRA

PAGES = sorted(INFRA.rglob("*.md"))
_PLACE = re.compile(r"…|\.\.\.")


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """The words of each use of a program, in the text and in blocks; variables before it are left out."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```console[^\n]*\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    for line in [*lines, *(re.sub(r"\s+", " ", span) for span in spans)]:
        found = re.match(rf"(?:[A-Z_]+=\S+ )*(?:\$ )?{program} (.+)", line.strip())
        if found and found[1][0] != "{":
            yield shlex.split(_PLACE.sub("X", found[1]))


ROOST = [(page, words) for page in PAGES for words in commands(page, "roost")]
AWS = [(page, words) for page in PAGES for words in commands(page, "aws")]
TERRAFORM = [(page, words) for page in PAGES for words in commands(page, "terraform")]


def shown(case: tuple[Path, list[str]]) -> str:
    return f"{case[0].parent.name} {' '.join(case[1])}"[:80]


@pytest.mark.parametrize("case", ROOST, ids=shown)
def test_a_command_of_roost_has_these_options(case: tuple[Path, list[str]]) -> None:
    command: Any = typer.main.get_command(app_of(case[1]))
    for word in case[1]:
        if word.startswith("--"):
            known = {name for param in command.params for name in [*param.opts, *param.secondary_opts]}
            assert word.partition("=")[0] in known, f"{command.name} has no {word}"
        elif word in getattr(command, "commands", {}):
            command = command.commands[word]
    assert not hasattr(command, "commands"), "a group alone does nothing"


@pytest.mark.parametrize("case", AWS, ids=shown)
def test_a_command_of_aws_has_these_parameters(case: tuple[Path, list[str]]) -> None:
    service, operation, *rest = case[1]
    model = botocore.session.get_session().get_service_model(service)
    by_name = {xform_name(name, "-"): name for name in model.operation_names}
    members = model.operation_model(by_name[operation]).input_shape.members
    known = {f"--{xform_name(name, '-')}" for name in members}
    assert {word for word in rest if word.startswith("--")} <= known


@pytest.mark.parametrize("case", TERRAFORM, ids=shown)
def test_a_command_of_terraform_names_what_there_is(case: tuple[Path, list[str]]) -> None:
    page, (command, *rest) = case
    assert command in ("init", "apply", "output", "import", "destroy", "validate", "test"), command
    variables = [rest[number + 1] for number, word in enumerate(rest) if word == "-var"]
    if variables:
        named = {text.partition("=")[0] for text in variables}
        assert named <= read(page.parent).named("variable").keys()
    if command == "output":
        assert set(rest) & read(page.parent).named("output").keys()
    if command == "import":
        kind, name = re.findall(r"module\.state\.(\w+)\.(\w+)\[", rest[0])[0]
        assert (kind, name) in [(k, n) for k, n, _ in read(INFRA / "modules/state").typed("resource")]


def test_there_are_commands_of_each_program() -> None:
    assert len(ROOST) >= 15
    assert len(AWS) >= 3
    assert len(TERRAFORM) >= 8
