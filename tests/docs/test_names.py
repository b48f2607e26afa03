"""What the documents name exists: modules, files, commands, options, settings, calls of AWS."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import pytest

from tests.docs.site.reference import commands
from tests.docs.site.sources import ROOT, pages

TEXTS = {page: (ROOT / page).read_text() for page in pages()}
INLINE = re.compile(r"`([^`\n]+)`")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
MODULE = re.compile(r"roost(\.\w+)+")
FILE = re.compile(r"(?:roost|tests|examples|infra|localstack|\.ci)/[\w./-]*\w")


def spans(text: str) -> list[str]:
    return INLINE.findall(FENCED.sub("", text))


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        import_module(name)
    except ModuleNotFoundError:
        try:
            return hasattr(import_module(module), attribute)
        except ModuleNotFoundError:
            return False
    return True


NOT_MODULES = (
    "roost.toml",
    "roost.work.",
    "roost.step.",
    "roost.lease",
    "roost.budget.",
    "roost.schedule",
    "roost.operation",
    "roost.sweeper",
)
PROSE = [page for page in TEXTS if "observability" not in page and "CHANGELOG" not in page]


def test_every_module_that_is_named_exists() -> None:
    named = {
        (page, span)
        for page in PROSE
        for span in spans(TEXTS[page])
        if MODULE.fullmatch(span) and not span.startswith(NOT_MODULES)
    }
    assert len(named) > 40
    assert not [(page, span) for page, span in sorted(named) if not exists(span)]


def test_every_file_that_is_named_exists() -> None:
    named = {
        (page, span)
        for page in PROSE
        for span in spans(TEXTS[page])
        if FILE.fullmatch(span) and span != "roost/config.toml"  # that one is in the user's folder
    }
    drawn = re.findall(r"roost/\w+/\w+\.py", TEXTS["examples/guides/architecture.md"])
    named |= {("examples/guides/architecture.md", path) for path in drawn}
    assert len(named) > 60
    assert not [(page, path) for page, path in sorted(named) if not (ROOT / path).exists()]


def test_the_picture_of_the_layers_is_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [layer.replace("roost.", "") for layer in contracts[0]["layers"]]
    block = re.search(r"```text\n(.*?)```", TEXTS["examples/guides/architecture.md"], re.DOTALL)
    assert block is not None
    drawn = [re.split(r"\s{2,}", line)[0].strip() for line in block[1].splitlines()]
    assert drawn == layers


# --- commands ----------------------------------------------------------------


@cache
def options() -> dict[str, set[str]]:
    """By command: its options."""
    always = {"--help", "-h"}
    return {
        name: always | {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
        for name, command in commands()
    }


SHELL = re.compile(r"^```(?:bash|console)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
AT_ONCE = {"--url", "--version", "--help", "--install-completion", "--show-completion"}
"""Options of `roost` itself."""


def said(text: str) -> list[str]:
    """Each `roost …` of a page: inline, and in its shell blocks."""
    found = [span for span in spans(text) if span.startswith("roost ")]
    for block in SHELL.findall(text):
        joined = block.replace("\\\n", " ").replace('"$(', "(")
        found += re.findall(r"(?:^|[ (])(roost [a-z][^|;&()\n>]*)", joined, re.MULTILINE)
    return found


def fault(line: str) -> str | None:
    """What is wrong with a `roost …` line, if anything."""
    try:
        words = shlex.split(line.replace("…", "X"), comments=True)[1:]
    except ValueError:
        words = line.split()[1:]  # a quote goes on in the next line
    if words and words[0].startswith("-"):
        return None if words[0].split("=")[0] in AT_ONCE else f"no option {words[0]}"
    named = [" ".join([*words[:1], *alternative]) for alternative in _seconds(words)]
    found = [name for name in (*named, *words[:1]) if name in options()]
    if not found:
        is_group = any(name.startswith(f"{words[0]} ") for name in options())
        return None if is_group and len(words) == 1 else f"no command {words[:2]}"
    given = {word.split("=")[0] for word in words if word.startswith("--")}
    return f"no option {given - options()[found[0]]}" if given - options()[found[0]] else None


def _seconds(words: list[str]) -> list[list[str]]:
    """What may be the second word of a command: `list|show` are two."""
    return [[second] for second in words[1].split("|")] if len(words) > 1 else [[]]


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_and_option_that_is_named_exists(page: str) -> None:
    assert not [(line, wrong) for line in said(TEXTS[page]) if (wrong := fault(line))]


@pytest.mark.parametrize(
    "line",
    ["roost enqeue --engine", "roost enqueue --enqine a", "roost dlq shows x", "roost --urls x list"],
)
def test_what_is_misspelt_is_found(line: str) -> None:
    assert fault(line) is not None


# --- settings ----------------------------------------------------------------


def test_every_variable_that_is_named_is_a_setting() -> None:
    from roost.config import Settings
    from roost.layers import EXTRA_VARIABLES
    from tests.docs.site.reference import settings_page

    known = set(re.findall(r"`(ROOST_\w+)`", settings_page())) | EXTRA_VARIABLES
    known |= {f"ROOST_{name.upper()}" for name in Settings.model_fields}
    others = {"ROOST_SIM_SEED", "ROOST_SIM_SEEDS", "ROOST_TF_REGISTRY", "ROOST_HOME", "ROOST_ENGINES__"}
    named = {name for page in PROSE for name in re.findall(r"ROOST_[A-Z_]*[A-Z]", TEXTS[page])}
    assert not {name for name in named - known - others if not name.startswith("ROOST_ENGINES__")}


# --- AWS ---------------------------------------------------------------------


def test_every_call_of_the_aws_command_line_exists() -> None:
    """With its options, by the service models of the SDK."""
    from botocore import xform_name
    from botocore.session import Session

    lines = {
        match
        for page in TEXTS
        for match in re.findall(r"`(aws [a-z0-9-]+ [a-z-]+[^`]*)`", TEXTS[page].replace("\n", " "))
    }
    assert len(lines) >= 3
    session: Any = Session()
    for line in lines:
        _, service, verb, *rest = line.split()
        if service == "s3":  # high-level commands have no model
            assert verb in ("cp", "sync", "ls", "rm")
            continue
        model = session.get_service_model(service)
        calls = {xform_name(name).replace("_", "-"): name for name in model.operation_names}
        assert verb in calls, line
        members = model.operation_model(calls[verb]).input_shape.members
        known = {f"--{xform_name(name).replace('_', '-')}" for name in members}
        given = {word for word in rest if word.startswith("--")}
        assert given <= known, (line, given - known)


# --- the comparison ----------------------------------------------------------


def test_every_claim_of_the_comparison_has_a_source_and_every_source_a_claim() -> None:
    """A number leads to the list at the end, a letter to a program of tests/docs/peers."""
    claims, _, sources = TEXTS["examples/guides/comparison.md"].partition("## Sources")
    used = set(re.findall(r"\[(\d+)\]", claims))
    assert used == set(re.findall(r"^(\d+)\. ", sources, re.MULTILINE))
    letters = dict(re.findall(r"`(on_\w+\.py)` \(([A-Z])\)", claims))
    assert set(letters.values()) == set(re.findall(r"\(([A-Z])\)", claims))
    assert all((ROOT / "tests/docs/peers" / name).exists() for name in letters)
    assert [cell for cell in _cells_about_others(claims) if not CITED.search(cell)] == []


CITED = re.compile(r"\[\d+\]|\([A-C]\)|not found")


def _cells_about_others(text: str) -> Iterator[str]:
    """Each cell of the tables that says something of another tool, with what its row begins with."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [line.strip("| ").split("|") for line in table.splitlines()]
        head, _, *rows = ([cell.strip() for cell in line] for line in lines)
        for first, *cells in rows:
            if "Roost" in head:
                titled = zip(head[-len(cells) :], cells, strict=True)
                yield from (f"{first}: {cell}" for title, cell in titled if title != "Roost")
            elif first != "Roost":
                yield from (f"{first}: {cell}" for cell in cells)
