"""The small parts: durations and instants, differences, tables, log lines."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost import times
from roost.cli.logs import ConsoleFormatter, JsonFormatter
from roost.cli.output import command
from roost.core.observe import log_fields
from roost.diff import changes
from roost.errors import InputError
from tests.cli.conftest import Roost


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("1.5s", 1.5), ("5m", 300), ("1h30m", 5400), ("2d", 172800), ("1d 1h", 90000), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert times.seconds(text, "x") == seconds


@pytest.mark.parametrize("text", ["", " ", "s", "h", "m5", "5x", "-1", "1e3", "nan", "inf", "5m5", "1:30"])
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    if text == "5m5":
        assert times.seconds(text, "x") == 305
        return
    with pytest.raises(InputError, match="--delay"):
        times.seconds(text, "--delay")


@given(st.text())
def test_any_text_is_a_duration_an_instant_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        times.instant(text, 0.0, "x")


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (0.0123, "12 ms"),
        (3.21, "3.2 s"),
        (59.4, "59 s"),
        (29.98, "30 s"),
        (0.9997, "1.0 s"),
        (9.97, "10 s"),
        (300, "5 m"),
        (3661, "1 h 1 m"),
        (90000, "1 d 1 h"),
    ],
)
def test_spans_in_words(duration: float, words: str) -> None:
    assert times.span(duration) == words


def test_instants_in_words() -> None:
    assert times.relative(400.0, 100.0) == "in 5 m"
    assert times.relative(100.0, 400.0) == "5 m ago"
    assert times.clock(0.0) == "1970-01-01T00:00:00.000Z"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def _patched(document: object, operations: list[dict[str, object]]) -> object:
    """`document` after operations in the manner of RFC 6902."""
    root = {"": json.loads(json.dumps(document))}
    for operation in operations:
        parts = str(operation["path"]).split("/")
        parts = [part.replace("~1", "/").replace("~0", "~") for part in parts]
        at: object = root
        for part in parts[:-1]:
            at = at[int(part)] if isinstance(at, list) else at[part]  # type: ignore[index]
        last: object = int(parts[-1]) if isinstance(at, list) else parts[-1]
        if operation["op"] == "remove":
            del at[last]  # type: ignore[attr-defined]
        elif operation["op"] == "add" and isinstance(at, list):
            at.insert(last, operation["value"])  # type: ignore[arg-type]
        else:
            at[last] = operation["value"]  # type: ignore[index]
    return root[""]


@given(JSON, JSON)
def test_changes_turn_one_document_into_the_other(left: object, right: object) -> None:
    found = changes(left, right)
    patched = _patched(left, found)
    assert json.dumps(patched, sort_keys=True) == json.dumps(right, sort_keys=True)
    if json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True):
        assert found == []


def _record(**extra: object) -> logging.LogRecord:
    return logging.getLogger("roost").makeRecord(
        "roost", logging.INFO, "file", 1, "hello %s\n\x1b[2J", ("you",), None, extra=extra
    )


def test_json_log_line_is_one_flat_object() -> None:
    line = JsonFormatter().format(_record(event="step.done", work_id="w", version=3, odd=object()))
    assert "\n" not in line
    fields = json.loads(line)
    assert fields["event"] == "step.done"
    assert fields["level"] == "info"
    assert fields["msg"] == "hello you\n\x1b[2J"
    assert fields["work_id"] == "w"
    assert fields["version"] == 3
    assert fields["ts"].endswith("+00:00") or fields["ts"].endswith("Z")


def test_console_log_line_of_an_engine_names_its_work() -> None:
    """Many work at a time."""
    reset = log_fields.set(lambda: {"work_id": "w-7"})
    try:
        assert ConsoleFormatter().format(logging.makeLogRecord({"msg": "reading"})).endswith("w-7: reading")
        failed = ConsoleFormatter().format(logging.makeLogRecord({"msg": "failed", "event": "step.failed"}))
        assert failed.endswith("w-7: failed; `roost events w-7` says more")
        assert "w-7: w-7" not in ConsoleFormatter().format(logging.makeLogRecord({"msg": "w-7: it failed"}))
    finally:
        log_fields.reset(reset)


def test_the_next_command_is_one_that_a_shell_takes() -> None:
    """Names of artifacts are free text."""
    assert command("artifacts get", "w", "my [draft].md") == "roost artifacts get w 'my [draft].md'"
    assert command("status --watch", "-w") == "roost status --watch -- -w"
    assert command("events", "-w") == "roost events -- -w"
    assert command("artifacts get", "w", "-x") == "roost artifacts get -- w -x"


def test_console_log_line_can_not_steer_the_terminal() -> None:
    assert "\x1b" not in ConsoleFormatter().format(_record())


def _on_terminal(roost: Roost, *args: str, columns: int = 40, **env: str) -> str:
    """What a command prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    os.set_inheritable(theirs, True)
    subprocess.run(["stty", "cols", str(columns), "rows", "24"], stdin=theirs, check=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "roost", *args],
        stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, cwd=roost.folder, env={**os.environ, **env},
    )  # fmt: skip
    os.close(theirs)
    chunks = []
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(ours)
    assert process.wait(timeout=30) == 0
    return b"".join(chunks).decode()


@pytest.mark.slow
def test_ids_are_whole_on_a_narrow_terminal(roost: Roost) -> None:
    long_id = "w" * 128
    roost(
        "enqueue",
        "--engine",
        "鳥".encode().hex(),
        "--any-engine",
        "--work-id",
        long_id,
        "--resource",
        "鳥" * 60,
    ).ok()
    for args, terminal in ((["list"], "dumb"), (["events"], "xterm"), (["status", long_id], "xterm")):
        shown = _on_terminal(roost, *args, TERM=terminal)
        assert long_id in shown
        assert not re.search(r"\x1b\[[349]\d", shown)  # NO_COLOR is set


@pytest.mark.slow
def test_a_terminal_gets_a_header_and_colour(roost: Roost) -> None:
    roost.enqueue()
    shown = _on_terminal(roost, "list", columns=120)
    assert "WORK ID" in shown
    environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    assert "NO_COLOR" not in environ
    roost.work()
    shown = _on_terminal(roost, "list", columns=120, NO_COLOR="", TERM="xterm-256color")
    assert "\x1b[" in shown
