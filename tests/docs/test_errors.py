"""The page of errors has each that Roost raises, with the exit code that it has."""

from __future__ import annotations

import re

from roost import errors
from roost.cli.output import EXIT_CODES, exit_code
from tests.docs.site.sources import ROOT

PAGE = (ROOT / "examples/guides/errors.md").read_text()
STEERING = {"RoostError", "StorageError", "StepSignal", "RetryLater", "FailWork"}
"""Bases, and what engines raise; the latter are in the guide to steps."""


def _raised() -> dict[str, type[errors.RoostError]]:
    found = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    return {name: kind for name, kind in found.items() if name not in STEERING}


def test_every_error_is_there_with_its_exit_code() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE, re.MULTILINE))
    assert told == {name: str(exit_code(kind.__new__(kind))) for name, kind in _raised().items()}


def test_every_type_that_roost_gives_an_error_is_there() -> None:
    """Each is the name of an error, or a text in the source that stands for a type."""
    section = PAGE.split("## What work fails of")[1].split("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    source = "".join(
        path.read_text() for folder in ("core", "journal") for path in (ROOT / "roost" / folder).glob("*.py")
    )
    made = set(re.findall(r'ErrorInfo\(\s*"(\w+)"', source)) | set(
        re.findall(r'^[A-Z_]+ = "([A-Z]\w+)"$', source, re.MULTILINE)
    )
    assert made <= told, "a type that is not explained"
    assert told - made <= {"FailWork", "OutcomeUnknown", "StorageCorrupt", "CancelledError"}


def test_the_codes_are_those_of_the_help() -> None:
    for code in re.findall(r"(\d+) [a-z]", EXIT_CODES):
        assert re.search(rf"\b{code}\b", PAGE), code
