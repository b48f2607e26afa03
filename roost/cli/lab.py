"""`roost lab`: try an engine at every point at which its worker could die."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from signal import SIGINT
from signal import signal as on_signal
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli import completion, options
from roost.cli.output import FAILED, INTERRUPTED, OK, TIMED_OUT, print_json, say
from roost.errors import InputError

if TYPE_CHECKING:
    from roost.config import Settings
    from roost.testing.findings import NoSubject
    from roost.testing.safety import Explored, Subject

_SEARCH_SHARE = 0.95  # of the time; the rest is for the report
_START_MAX_SECONDS = 60.0
_LAST_WORDS_SECONDS = 0.1  # before the end, where the tried work does not give the time back


def lab(
    engine: Annotated[
        str,
        typer.Argument(
            metavar="ENGINES",
            help="module:attribute, or an installed name; the first of several is tried.",
            autocompletion=completion.engines,
        ),
    ],
    payload: Annotated[str, typer.Option("--payload", metavar="JSON", help="Of the work; or @FILE.")] = "{}",
    signal: Annotated[
        list[str] | None,
        typer.Option(
            "--signal", metavar="NAME=JSON", help="Sent when the work waits for it; may be repeated."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="PATH", help="What may differ: data.fetched_at; repeatable."),
    ] = None,
    observe: Annotated[
        str | None,
        typer.Option(
            "--observe",
            metavar="MODULE:FUNCTION",
            help="Called with the engine at the end of a run; must give the same each time.",
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option("--seconds", min=0.5, help="How long the command takes at most, its start included."),
    ] = 10.0,
    aws: Annotated[bool, typer.Option("--aws", help="Also on a stand-in for AWS.")] = False,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Kill, freeze and confuse the worker of an engine at every point, and compare what comes out.

    The work runs in peace; then again and again, each time with its worker killed before or
    after one of its calls to storage, or started anew, or frozen until another took over, or with
    deliveries that come twice, late or in another order: in memory, on SQLite, and with --aws on a
    stand-in for AWS. Where the end differs, the shortest history that shows it is printed, and
    the exit code is 1. The end is the state, data, result and artifacts of the work and its
    children. When the time is up, the run under way is cut, and what was not tried is said in
    numbers; the points at which engines err most come first. What the engine does elsewhere
    (mails, charges) really happens each time; whether it was done twice is seen only by what
    --observe says.

    Examples:

      roost lab my_engine:Researcher --payload '{"topic": "owls"}'

      roost lab my_engine:Mailer --signal approve='{"by": "me"}' --ignore data.sent_at --seconds 30
    """
    sys.path.insert(0, "")  # so that a file can be tried as module:attribute
    logging.getLogger("roost").setLevel(logging.ERROR)  # lost leases are what is wanted here
    settings = options.settings_of(None, None, config)
    tried = _subject(settings, engine, payload, signal or [], ignore or [], observe)
    report = _Report(is_json=as_json)
    _try_all(tried, settings, report, seconds, aws=aws)
    raise typer.Exit(report.code)


class _Report:
    """What came of each world so far; printed once, by whoever comes first."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._stdout = sys.stdout  # what engines print meanwhile goes to stderr
        self._results: dict[str, Explored] = {}
        self._turn = threading.Lock()
        self._is_given = False

    def add(self, world: str, explored: Explored) -> None:
        """What came of a world, so far."""
        self._results = {**self._results, world: explored}

    @property
    def code(self) -> int:
        """Of the command: nothing that was tried proves nothing."""
        if any(explored.findings for explored in self._results.values()):
            return FAILED
        return OK if any(explored.runs for explored in self._results.values()) else TIMED_OUT

    def give(self) -> None:
        """Print it."""
        with self._turn, redirect_stdout(self._stdout):
            if self._is_given:
                return
            self._is_given = True
            results = self._results
            if self._is_json:
                print_json({name: _plain(explored) for name, explored in results.items()})
            else:
                shown: set[str] = set()
                for name, explored in results.items():
                    _show(name, explored, shown)
            if not any(explored.runs for explored in results.values()):
                say("Nothing was tried in the time there was: --seconds")

    def give_and_end(self, folder: str) -> None:
        """Print it, and end the process: whatever runs does not come back in time.

        Args:
            folder: temporary files that nobody else removes then.
        """
        self.give()
        shutil.rmtree(folder, ignore_errors=True)
        self._stdout.flush()
        sys.stderr.flush()
        os._exit(self.code)


def _subject(
    settings: Settings, engine: str, payload: str, signals: list[str], ignore: list[str], observe: str | None
) -> Subject:
    from roost import jsonio
    from roost.loading import load_engines
    from roost.testing.safety import Subject

    load_engines(engine, settings.engines)  # what is wrong with it is said before anything runs
    text = Path(payload[1:]).read_text() if payload.startswith("@") else payload
    data = {}
    for one in signals:
        name, mark, value = one.partition("=")
        if not mark:
            raise InputError(f"--signal {one!r} has no value", hint="Write NAME=JSON: approve=true")
        data[name] = jsonio.parse(value, what=f"signal {name!r}")
    return Subject(
        lambda: [spec.engine for spec in load_engines(engine, settings.engines)],
        jsonio.parse_object(text, what="payload"),
        signals=data,
        ignore=ignore,
        observe=None if observe is None else _function(observe),
    )


def _function(name: str) -> Callable[[Any], Any]:
    """A function by module and name.

    Raises:
        InputError: there is none.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Callable[[Any], Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--observe {name!r}: {error}", hint="Write MODULE:FUNCTION.") from error
    return found


def _try_all(tried: Subject, settings: Settings, report: _Report, seconds: float, *, aws: bool) -> None:
    """Try in all worlds, until the report is whole or has to be given as it is."""
    import tempfile
    from functools import partial

    from roost.clock import SystemClock
    from roost.testing.deadline import Deadline, at_the_latest, process_age_seconds
    from roost.testing.findings import NoSubject
    from roost.testing.laboratory import try_everywhere
    from roost.testing.standins import install_ministack
    from roost.testing.worlds import in_memory
    from roost.workspace import Origin

    if aws and install_ministack():  # once on a machine, and not counted
        began_seconds_ago = 0.0
    else:
        began_seconds_ago = process_age_seconds()
        if began_seconds_ago > _START_MAX_SECONDS:  # it began for something else
            began_seconds_ago = 0.0
    left_seconds = max(0.0, seconds - began_seconds_ago)
    origin = Origin(settings.workspace.source, settings.workspace.ref)
    say(f"trying in memory, and on SQLite{', and on a stand-in for AWS' if aws else ''} …")
    with (
        tempfile.TemporaryDirectory(prefix="roost-lab-", dir=in_memory()) as folder,
        at_the_latest(max(0.0, left_seconds - _LAST_WORDS_SECONDS), partial(report.give_and_end, folder)),
    ):
        deadline = Deadline(SystemClock(), left_seconds * _SEARCH_SHARE)
        try:
            with redirect_stdout(sys.stderr), _interruptible(folder):
                try_everywhere(tried, origin, Path(folder), deadline, report.add, with_aws=aws)
        except NoSubject as error:
            raise InputError(str(error), hint=_hint(error)) from error
        report.give()


@contextmanager
def _interruptible(folder: str) -> Iterator[None]:
    """Let Ctrl-C end the process: raised in a step, it would be a failed attempt like any other."""

    def end(number: int, frame: FrameType | None) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(INTERRUPTED)

    before = on_signal(SIGINT, end)
    try:
        yield
    finally:
        on_signal(SIGINT, before)


def _hint(error: NoSubject) -> str:
    if error.signal:
        return f"Send it: --signal NAME=JSON, here --signal '{error.signal.split(', ')[0]}=true'."
    if error.path:
        return f"--ignore {error.path}"
    return "An end that is meant is reached by `raise FailWork(reason)`; all else is to be mended first."


def _show(name: str, explored: Explored, shown: set[str]) -> None:
    """Print what came of a world; a history that another has shown only once."""
    if not explored.peace:
        print(f"{name}: not tried: the work did not run in peace within the time (--seconds)")
        return
    left = explored.planned - explored.runs
    rest = f" ({left} more were not tried: --seconds)" if left else ""
    print(f"{name}: in peace it is {explored.peace}")
    if not explored.findings:
        print(f"  the same in all {explored.runs} runs, cut at {explored.calls} points{rest}")
        return
    text = str(explored.findings[0])
    print(f"  {len(explored.findings)} of {explored.runs} runs ended otherwise{rest}; the shortest:")
    print("  the same as above" if text in shown else f"  {text}")
    shown.add(text)


def _plain(explored: Explored) -> dict[str, Any]:
    return {
        "peace": explored.peace,
        "runs": explored.runs,
        "planned": explored.planned,
        "points": explored.calls,
        "findings": [
            {
                "fault": finding.fault.value,
                "cut": str(finding.cut) if finding.cut else None,
                "difference": finding.difference,
                "advice": finding.advice,
                "history": list(finding.history),
            }
            for finding in explored.findings
        ],
    }
