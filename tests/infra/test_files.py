"""What the files of `infra/` look like, and that pages about them are true; needs no Terraform."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from roost.cli.worker import worker
from roost.config import Settings, WorkerSettings
from roost.storage.aws.cost import prices
from tests.infra import audit, readme, schema
from tests.infra.__main__ import main
from tests.infra.hcl import Configuration, configurations, read
from tests.infra.terraform import INFRA, ROOT

ALL = configurations()
MODULES = [one for one in ALL if one.name.startswith("modules/")]
GUIDE = (ROOT / "infra/operations.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def ids(one: Configuration) -> str:
    return one.name


@pytest.mark.parametrize("found", ALL, ids=ids)
class TestEveryConfiguration:
    def test_variables_and_outputs_are_described_and_typed(self, found: Configuration) -> None:
        for name, body in found.named("variable").items():
            assert body.get("description"), name
            assert body.get("type"), name
        for name, body in found.named("output").items():
            assert body.get("description"), name

    def test_numbers_and_arns_of_yours_are_validated(self, found: Configuration) -> None:
        """In modules; examples hand theirs on to them."""
        for name, body in found.named("variable").items() if found.name.startswith("modules/") else ():
            is_yours = name.endswith(("kms_key_arn", "kms_key_arns", "topic_arns"))
            assert body.get("validation") or not (body["type"] == "number" or is_yours), name

    def test_every_validation_is_seen_to_refuse(self, found: Configuration) -> None:
        tests = (
            (INFRA / "tests" / f"{found.folder.name.replace('-', '_')}.tftest.hcl").read_text(
                encoding="utf-8"
            )
            if found.name.startswith("modules/")
            else ""
        )
        for name, body in found.named("variable").items():
            refused = re.findall(rf"expect_failures = \[[^]]*\bvar\.{name}\b", tests)
            assert len(refused) >= len(body.get("validation", ())), name

    def test_every_variable_is_used(self, found: Configuration) -> None:
        for name in found.named("variable"):
            uses = re.findall(
                rf"\bvar\.{name}\b", re.sub(r"(?s)\n  validation \{.*?\n  \}\n", "", found.text)
            )
            assert uses, name

    def test_the_provider_is_pinned_as_a_range(self, found: Configuration) -> None:
        [settings] = found.blocks["terraform"]
        assert settings["required_version"] == ">= 1.9"
        [providers] = settings["required_providers"]
        assert providers["aws"] == {"source": "hashicorp/aws", "version": ">= 5.100, < 7.0"}

    def test_modules_leave_the_provider_to_the_root(self, found: Configuration) -> None:
        assert ("provider" in found.blocks) == found.name.startswith("examples/")

    def test_what_can_be_tagged_is(self, found: Configuration) -> None:
        """By the module's variable; examples tag by the provider's `default_tags`."""
        known = json.loads(schema.STORED.read_text(encoding="utf-8"))["resources"]
        for type_, name, body in found.typed("resource"):
            has_tags = "tags" in known[type_]["attributes"]
            assert body.get("tags", "") == ("${var.tags}" if has_tags else ""), f"{type_}.{name}"

    def test_names_are_lower_case_with_underscores(self, found: Configuration) -> None:
        for kind in ("variable", "output", "module"):
            for name in found.named(kind):
                assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        for _, name, _ in found.typed("resource"):
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name)

    def test_nothing_names_a_place_on_the_web(self, found: Configuration) -> None:
        """Where the guide or anything else is read is for its user to say."""
        assert not re.search(r"https?://\w", found.text)

    def test_nothing_names_an_account_or_a_partition(self, found: Configuration) -> None:
        assert not re.search(r"arn:aws(-[a-z]+)*:|\b\d{12}\b", found.text)


@pytest.mark.parametrize("found", [one for one in ALL if one.name != "."], ids=ids)
def test_the_tables_of_a_readme_are_those_of_its_files(found: Configuration) -> None:
    """`python -m tests.infra.readme` writes them anew."""
    text = (found.folder / "README.md").read_text(encoding="utf-8")
    assert text == readme.with_tables(text, found)


@pytest.mark.parametrize("found", [one for one in MODULES if one.name != "modules/function"], ids=ids)
def test_every_module_is_part_of_an_example(found: Configuration) -> None:
    texts = [one.text for one in ALL if one.name.startswith("examples/")]
    assert any(f'"../../{found.name}"' in text for text in texts)


def test_every_module_and_example_is_in_the_list() -> None:
    text = (INFRA / "README.md").read_text(encoding="utf-8")
    for one in ALL:
        if one.name != ".":
            assert f"({one.name}/README.md)" in text
            assert (one.folder / "README.md").exists()


class TestTheSchemaCheckFinds:
    """Where there is no provider, this is all there is."""

    @pytest.mark.parametrize(
        ("before", "after", "finding"),
        [
            ("stream_enabled ", "stream_enabeld ", "there is no 'stream_enabeld'"),
            ("point_in_time_recovery {", "point_in_time_recover {", "there is no 'point_in_time_recover'"),
            ('resource "aws_dynamodb_table"', 'resource "aws_dynamodb_tabel"', "not in the stored schema"),
            ("    enabled                 =", "    enabeld                 =", "there is no 'enabeld'"),
            ("      projection_type =", "      projection =", "there is no 'projection'"),
            ("  name                        =", "  # name =", "'name' is missing"),
        ],
    )
    def test_a_wrong_name(
        self, tmp_path: Path, before: str, after: str, finding: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = (INFRA / "modules/state/main.tf").read_text(encoding="utf-8")
        assert before in text
        (tmp_path / "main.tf").write_text(text.replace(before, after, 1))
        monkeypatch.setattr("tests.infra.hcl.INFRA", tmp_path)
        assert any(finding in one for one in schema.check(tmp_path))


class TestWithoutAProvider:
    """A machine with no mirror and no network; `python -m tests.infra.schema` writes the schema anew."""

    def test_it_says_so_and_checks_the_schema(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        monkeypatch.setenv("TF_PLUGIN_MIRROR", str(tmp_path))
        monkeypatch.delenv("ROOST_TF_REGISTRY", raising=False)
        assert main("static") == 0
        said = capsys.readouterr().out
        assert "NO PROVIDER FOR TERRAFORM HERE" in said
        assert "infra: all is well, BUT TERRAFORM CHECKED NOTHING" in said

    def test_a_name_that_does_not_fit_fails(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        text = (INFRA / "modules/state/main.tf").read_text(encoding="utf-8")
        (tmp_path / "main.tf").write_text(text.replace("stream_enabled ", "stream_enabeld ", 1))
        monkeypatch.setenv("TF_PLUGIN_MIRROR", str(tmp_path))
        monkeypatch.setattr("tests.infra.hcl.INFRA", tmp_path)
        monkeypatch.setattr("tests.infra.__main__.INFRA", tmp_path)
        assert main("static") == 1
        assert "WRONG: " in capsys.readouterr().out


@pytest.mark.parametrize("part", ["statics", "static apply", ""])
def test_a_part_of_the_checks_that_does_not_exist_is_refused(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names those that do, and sets nothing up: else a misspelt part would check nothing, and be well."""
    monkeypatch.setattr("tests.infra.__main__.Terraform.find", lambda _: pytest.fail("something was set up"))
    assert main(part) == 2
    said = capsys.readouterr().out
    assert repr(part) in said
    for known in ("all", "static", "apply", "scan", "image", "states"):
        assert known in said
    assert "all is well" not in said


# --- the guide ---------------------------------------------------------------


def test_every_alarm_has_a_section() -> None:
    text = read(INFRA / "modules/observability").text
    runbooks = set(re.findall(r'runbook\s*=\s*"([^"]+)"|local\.runbook}#([a-z-]+)"', text))
    runbooks = {one or other for one, other in runbooks}
    assert len(runbooks) == 8
    assert runbooks <= audit._anchors(GUIDE)


def test_every_link_of_the_guide_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", GUIDE):
        path, _, anchor = link.partition("#")
        assert not path or (INFRA / path).exists(), link
        page = (INFRA / path).read_text(encoding="utf-8") if path and anchor else GUIDE
        assert not anchor or anchor in audit._anchors(page), link


@pytest.mark.parametrize(
    ("steps", "line"), [(1, "each step a work item of its own"), (20, "20 steps under one")]
)
def test_the_costs_are_those_that_roost_computes(steps: int, line: str) -> None:
    command = [
        sys.executable,
        "-m",
        "roost",
        "aws",
        "cost",
        "--json",
        "--steps",
        str(steps),
        "--state-bytes",
        "300",
    ]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    [row] = [text for text in GUIDE.splitlines() if line in text]
    assert f"| {found['usd_per_million_steps']:.2f} USD |" in row
    assert f"{found['units']['dynamodb_write_unit']:g}" in row


def test_the_arithmetic_is_done_with_the_stored_prices() -> None:
    price = prices()["usd_per_million"]
    assert price["dynamodb_write_unit"] == 0.625
    assert 8 * price["dynamodb_write_unit"] + 3 * price["sqs_request"] == pytest.approx(6.20)
    for text in ("0.625", "0.125", "0.40", "6.20 USD"):
        assert text in GUIDE


# --- the image ---------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, each on one line."""
    text = re.sub(r"#.*", "", DOCKERFILE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest) for line in lines if line.strip() for name, _, rest in [line.strip().partition(" ")]]


def test_the_image_is_slim_and_pinned() -> None:
    bases = [rest for name, rest in instructions() if name == "FROM"]
    assert all(re.fullmatch(r"python:\$\{PYTHON\}-slim( AS build)?", base) for base in bases)
    [version] = [rest.partition("=")[2] for name, rest in instructions() if name == "ARG"]
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert tuple(map(int, version.split("."))) >= tuple(map(int, needed.removeprefix(">=").split(".")))


def test_the_image_runs_as_nobody_and_stops_by_sigterm() -> None:
    found = dict(instructions())
    assert found["USER"] == "10001:10001"
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(found["ENTRYPOINT"]) == ["roost"]  # not a shell, which would keep the signal
    assert json.loads(found["CMD"]) == [worker.__name__]


def test_the_images_health_check_asks_the_port_that_it_sets() -> None:
    text = dict(instructions())["HEALTHCHECK"]
    port = json.loads(text.partition("CMD ")[2])[-1]
    [variables] = [rest for name, rest in instructions() if name == "ENV"]
    assert f"ROOST_WORKER__HEALTH_PORT={port}" in variables
    assert "health_port" in WorkerSettings.model_fields


def test_what_the_image_sets_is_read() -> None:
    [variables] = [rest for name, rest in instructions() if name == "ENV"]
    for name in re.findall(r"\b(ROOST_[A-Z_]+)=", variables):
        head, *rest = name.removeprefix("ROOST_").lower().split("__")
        assert head in Settings.model_fields
        assert not rest or rest[0] in WorkerSettings.model_fields


def test_the_image_is_built_from_what_is_not_ignored() -> None:
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name.removeprefix("./") for names in copied for name in names} == kept
    assert all((ROOT / name).exists() for name in kept)


def test_the_packaging_script_is_sound_shell() -> None:
    subprocess.run(["bash", "-n", str(INFRA / "package.sh")], check=True)
