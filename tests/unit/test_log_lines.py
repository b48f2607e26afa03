"""The worker's log is one line of ours for whatever an engine does, and leaves nothing out."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from roost.cli import logs
from roost.testing import EngineHarness
from tests.unit.test_step_log import Talks

mine = logging.getLogger("an.engine")


def listen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """Set the log up as `roost worker` does off a terminal; gives the lines so far.

    No fixture: pytest adds handlers of its own to all loggers when a test begins.
    """
    ours, stderr = logging.getLogger("roost"), io.StringIO()
    for holder, name, value in [
        (ours, "handlers", []), (ours, "propagate", False), (ours, "level", ours.level),
        (mine, "handlers", []), (mine, "propagate", False),
        (logging, "lastResort", None), (warnings, "showwarning", None),
        (threading, "excepthook", None), (sys, "unraisablehook", None), (sys, "stderr", stderr),
    ]:  # fmt: skip
        monkeypatch.setattr(holder, name, value)
    logs.set_up("info", "json")
    return lambda: [json.loads(line) for line in stderr.getvalue().splitlines()]


@pytest.mark.parametrize("logger", [mine, logging.getLogger("roost.step")])
def test_arguments_that_do_not_fit_are_one_line_that_names_the_place(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    """Python prints a traceback of 50 lines among those of JSON instead."""
    lines = listen(monkeypatch)
    logger.warning("%d things", "x", extra={"event": "mine", "count": 3})
    [line] = lines()
    assert line["msg"].startswith("%d things ('x',) [logged at ")
    assert f"{__file__}:" in line["msg"]
    assert "TypeError: %d format: a real number is required, not str" in line["msg"]
    assert (line["event"], line["count"], line["level"]) == ("mine", 3, "warning")


class Broken:
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


@pytest.mark.parametrize("odd", [Broken(), float("nan"), {(1, 2): 3}])
def test_what_is_not_json_does_not_take_the_line_with_it(
    monkeypatch: pytest.MonkeyPatch, odd: object
) -> None:
    lines = listen(monkeypatch)
    mine.warning("still here", extra={"odd": odd, "other": "kept"})
    mine.warning(odd)
    first, second = lines()
    assert first["msg"].startswith("still here")
    assert first["other"] == "kept"
    assert "odd" in first
    assert second["level"] == "warning"


def test_a_handler_of_the_engines_own_has_its_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has one, ours is not asked."""
    lines = listen(monkeypatch)
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    monkeypatch.setattr(mine, "handlers", [handler])
    mine.warning("for the engine's handler")
    assert [record.msg for record in seen] == ["for the engine's handler"]
    assert lines() == []


def test_an_error_that_ends_a_thread_is_a_line_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = listen(monkeypatch)

    def fails() -> None:
        raise RuntimeError("in a\nthread")

    thread = threading.Thread(target=fails, name="of-an-engine")
    thread.start()
    thread.join()
    [line] = lines()
    assert (line["event"], line["level"], line["error_type"]) == (
        "step.thread_failed",
        "error",
        "RuntimeError",
    )
    assert "of-an-engine" in line["msg"]
    assert "RuntimeError: in a\nthread" in line["msg"]
    assert "in fails" in line["stack"]


def test_warnings_and_errors_of_finalizers_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = listen(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._warned
        warnings.warn("old and %d", DeprecationWarning, stacklevel=1)
    sys.unraisablehook(
        SimpleNamespace(
            exc_type=OSError, exc_value=OSError("gone"), exc_traceback=None, err_msg=None, object=Broken()
        )  # type: ignore[arg-type]
    )
    warned, unraisable = lines()
    assert warned["event"] == "python.warning"
    assert warned["msg"].endswith("DeprecationWarning: old and %d")
    assert unraisable["event"] == "python.unraisable"
    assert unraisable["msg"] == "an error that nobody can catch, in Broken: OSError: gone"


def test_a_failed_step_says_which_attempt_it_was_and_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry has counted the attempt already: the line said 2 for the first."""
    lines = listen(monkeypatch)
    with EngineHarness(Talks()) as harness:
        harness.enqueue("talks", {}).run_to_end()
    [line] = [line for line in lines() if line["event"] == "step.failed"]
    assert line["attempt"] == 1
    assert "step failed: TimeoutError: no answer; it is tried again in " in line["msg"]
