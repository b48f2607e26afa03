"""The program itself: help, exit codes, what it imports, and errors without tracebacks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

from roost.cli.app import app, app_of
from tests.cli.conftest import Roost, read_until

COMMANDS = ("worker", "enqueue", "status", "list", "events", "history", "wait", "engines", "doctor", "demo")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(roost: Roost, command: str) -> None:
    shown = roost(command, "--help").ok().out
    assert f"roost {command}" in shown.split("Examples", 1)[1]


@pytest.mark.parametrize("command", ["list", "get", "verify"])
def test_help_of_artifacts_has_examples(roost: Roost, command: str) -> None:
    shown = roost("artifacts", command, "--help").ok().out
    assert f"roost artifacts {command}" in shown.split("Examples", 1)[1]


def test_a_command_made_alone_is_the_one_among_all() -> None:
    among_all: Any = get_command(app)
    for name in among_all.commands:
        alone: Any = get_command(app_of([name]))
        assert list(alone.commands) == [name]
        assert shape_of(alone.commands[name]) == shape_of(among_all.commands[name])
        assert (alone.help, alone.epilog, names_of(alone)) == (
            among_all.help,
            among_all.epilog,
            names_of(among_all),
        )


def names_of(command: Any) -> list[tuple[Any, ...]]:
    """Its options and arguments."""
    return [(one.name, one.opts, one.secondary_opts, one.required) for one in command.params]


def shape_of(command: Any) -> tuple[Any, ...]:
    """What there is of a command, and of those below it."""
    below = getattr(command, "commands", {}).values()
    return command.name, command.help, names_of(command), [shape_of(one) for one in below]


@pytest.mark.parametrize("line", [[], ["--url", "list"], ["--help"], ["nonsense", "list"], ["lis"]])
def test_a_line_that_begins_with_no_command_has_them_all(line: list[str]) -> None:
    assert app_of(line) is app


def test_help_documents_the_exit_codes(roost: Roost) -> None:
    shown = " ".join(roost("--help").ok().out.split())
    for code in ("0", "1", "2", "3", "5", "6", "7", "8", "124", "130", "141"):
        assert f" {code} " in shown.split("Exit codes", 1)[1]


def test_help_imports_no_heavy_module() -> None:
    """Completion and help must answer at once."""
    code = (
        "import sys; sys.argv = ['roost', '--help']\n"
        "from roost.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    heavy = {"pydantic_settings", "aiobotocore", "aioboto3", "starlette", "httpx2", "sqlite3", "zstandard"}
    assert not loaded & heavy
    assert not [name for name in loaded if name.startswith(("roost.storage.local", "roost.engines."))]


def test_version_is_said(roost: Roost) -> None:
    assert roost("--version").ok().out.startswith("roost ")


@pytest.mark.parametrize(
    "args", [["nonsense"], ["status"], ["list", "--state", "odd"], ["list", "--limit", "x"]]
)
def test_wrong_usage_is_exit_code_2(roost: Roost, args: list[str]) -> None:
    result = roost(*args)
    assert result.code == 2
    assert result.out == ""


@pytest.mark.parametrize(
    "args",
    [
        ["status", "nobody"],
        ["events", "nobody"],
        ["history", "nobody"],
        ["wait", "nobody"],
        ["artifacts", "list", "nobody"],
        ["artifacts", "get", "nobody", "x"],
        ["artifacts", "verify", "nobody"],
    ],
)
def test_unknown_work_is_exit_code_3(roost: Roost, args: list[str]) -> None:
    result = roost(*args)
    assert result.code == 3
    assert "nobody" in result.err
    assert result.out == ""


@pytest.mark.parametrize("work_id", ["", "a/../b", "\udcff", "x" * 5000, "%", "a\nb"])
def test_an_id_that_can_not_be_is_not_found_or_refused(roost: Roost, work_id: str) -> None:
    assert roost("status", work_id).code in (2, 3)
    assert roost("list", "--prefix", work_id, "--json").code in (0, 2)
    assert roost("list", "--engine", work_id, "--json").code in (0, 2)


def test_unknown_storage_names_those_that_there_are(roost: Roost) -> None:
    result = roost("list", "--storage", "carrier-pigeon://here")
    assert result.code == 2
    assert "carrier-pigeon" in result.err
    assert "local" in result.err


def test_a_file_in_place_of_home_is_one_clear_error(roost: Roost) -> None:
    roost.write("taken", "not a directory")
    result = roost("list", "--home", str(roost.folder / "taken"))
    assert result.code in (1, 6)
    assert "taken" in result.err


def test_an_empty_home_is_not_the_current_folder(roost: Roost) -> None:
    """As of `--home "$UNSET"`: a database would be left in whatever folder it ran."""
    roost.write("roost.toml", 'home = ""')
    for args in (["--home", ""], []):
        result = roost("list", *args)
        assert result.code == 2
        assert "is empty" in result.err
    assert not list(roost.folder.glob("roost.db*"))
    assert roost("demo", "--keep", "").code == 2


def test_work_is_not_enqueued_where_it_is_gone_at_once(roost: Roost) -> None:
    result = roost("enqueue", "--engine", "demo", "--storage", "memory")
    assert (result.code, result.out) == (2, "")
    assert "gone" in result.err


@pytest.mark.parametrize("args", [["list"], ["worker", "--engines", "demo", "--until-idle"]])
def test_a_current_directory_that_is_gone_is_no_matter(roost: Roost, args: list[str]) -> None:
    gone = roost.folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        assert roost(*args).code == 0
    finally:
        os.chdir(roost.folder)


def test_module_runs_as_program(roost: Roost) -> None:
    assert roost.process("list", "--json").ok().document == {"rows": [], "cursor": None}


def test_a_reader_that_leaves_is_no_traceback(roost: Roost) -> None:
    for _ in range(3):
        roost.enqueue()
    command = f"{sys.executable} -m roost events --json -n 1000 | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, cwd=roost.folder)
    assert json.loads(done.stdout)["kind"] == "enqueued"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["list"], 141),
        (["enqueue", "--engine", "demo", "--payload", "-"], 141),
        (["wait", "ID", "--timeout", "0.01"], 124),
        (["status", "nope"], 3),
    ],
)
def test_output_that_is_not_read_is_no_success_and_hides_no_failure(
    roost: Roost, command: list[str], code: int
) -> None:
    """As of a program that SIGPIPE ends; what was changed by then stands."""
    work_id = roost.enqueue()
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "roost", *[work_id if part == "ID" else part for part in command]],
        input="{}",
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=roost.folder,
    )
    os.close(writing)
    assert done.returncode == code
    assert ("Error" in done.stderr) is (code == 3)
    assert len(roost("list", "--json").document["rows"]) == 1 + (command[0] == "enqueue")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("list --json >&-", 0),
        ("status nope 2>&-", 3),
        ("enqueue --engine demo --payload - <&-", 2),
        ("list --json >/dev/full", 1),
    ],
)
def test_a_closed_or_full_stream_is_no_bug(roost: Roost, command: str, code: int) -> None:
    """Daemons begin without streams; what was said on stderr must not end up on stdout, either."""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m roost {command}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=roost.folder,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert "bug" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.slow
def test_interrupt_is_exit_code_130(roost: Roost) -> None:
    work_id = roost.enqueue()
    process = roost.start("events", work_id, "--follow", "--json")
    read_until(process.stdout, "enqueued")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_output_of_any_encoding_holds_any_text(roost: Roost) -> None:
    """A terminal or pipe set to ASCII must not turn a payload into an error."""
    work_id = "umlaut"
    roost(
        "enqueue", "--engine", "x", "--any-engine", "--work-id", work_id, "--payload", '{"name": "Jörg 鳥"}'
    ).ok()
    shown = roost.process("status", work_id, "--json", PYTHONIOENCODING="ascii").ok()
    assert json.loads(shown.out)["item"]["payload"] == {"name": "Jörg 鳥"}


def test_a_log_that_can_not_be_written_is_no_exit_code_of_its_own(roost: Roost) -> None:
    """Python would end with 120, which is no code of Roost's."""
    roost.enqueue({"count": 1})
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "roost", "worker", "--engines", "demo", "--until-idle"],
            stderr=full, stdout=subprocess.DEVNULL, cwd=roost.folder, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert [row["state"] for row in roost("list", "--json").ok().document["rows"]] == ["done"]


@pytest.mark.parametrize("home", ["a\x00b", "a\udcff"])
def test_a_home_that_no_directory_can_be_is_refused(roost: Roost, home: str) -> None:
    refused = roost("list", "--home", home)
    assert (refused.code, refused.out) == (2, "")
    assert "can't be a directory of Roost's" in refused.err


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http:x", "http://x/?a", "http://x/#a", "x"])
def test_what_is_no_address_of_a_console_is_refused(roost: Roost, url: str) -> None:
    refused = roost("--url", url, "list")
    assert refused.code == 2
    assert "is no address" in refused.err


def test_a_capacity_of_5000_digits_is_refused(roost: Roost) -> None:
    refused = roost("enqueue", "--engine", "demo", "--resource", "a=" + "9" * 5000)
    assert refused.code == 2
    assert "with a whole number from 1 to 1000" in refused.err


def test_a_budget_is_of_a_well_formed_id(roost: Roost) -> None:
    assert roost("budget", "").code == 2
    assert roost("budget", "NS/x").code == 2
    assert roost("budget", "nope").code == 3


def test_a_reason_of_many_lines_is_one_line_of_wait(roost: Roost) -> None:
    work_id = roost.enqueue()
    roost("cancel", work_id, "--reason", "first\nsecond").ok()
    assert roost("wait", work_id, "--timeout", "0s").err == f"{work_id} is queued: first second\n"


def test_what_can_not_be_done_to_work_says_what_can(roost: Roost) -> None:
    work_id = roost.enqueue({"count": 1})
    assert "`roost explain ID` says what this is doing" in roost("retry", work_id).err
    roost.work()
    assert "`roost retry ID` brings it back" in roost("pause", work_id).err
    assert "That is ten years" in roost("pause", work_id, "--for", "99999d").err


def test_ctrl_c_while_it_is_imported_is_no_traceback(roost: Roost) -> None:
    """The window is a tenth of a second, in which somebody who mistyped is quick."""
    code = (
        "import sys\n"
        "from roost.cli.main import main\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'roost.cli.program': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=roost.folder, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
