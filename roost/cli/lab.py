"""`roost lab`: try an engine at every point at which its worker could die."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli import completion, options
from roost.cli.output import FAILED, OK, print_json, say
from roost.errors import InputError

if TYPE_CHECKING:
    from roost.config import Settings
    from roost.testing.findings import NoSubject
    from roost.testing.safety import Explored, Planned, Subject

_MEMORY_SHARE = 0.4  # of the time, at most


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
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How long to try, in all.")] = 10.0,
    aws: Annotated[bool, typer.Option("--aws", help="Also on a stand-in for AWS (takes longer).")] = False,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Kill, freeze and confuse the worker of an engine at every point, and compare what comes out.

    The work runs in peace; then again and again, each time with its worker killed before or
    after one of its calls to storage, or started anew, or frozen until another took over, or with
    deliveries that come twice, late or in another order: in memory, on SQLite, and with --aws on a
    stand-in for AWS. Where the end differs, the shortest history that shows it is printed, and
    the exit code is 1. The end is the state, data, result and artifacts of the work and its
    children. What the engine does elsewhere (mails, charges) really happens each time; whether
    it was done twice is seen only by what --observe says.

    Examples:

      roost lab my_engine:Researcher --payload '{"topic": "owls"}'

      roost lab my_engine:Mailer --signal approve='{"by": "me"}' --ignore data.sent_at --seconds 30
    """
    sys.path.insert(0, "")  # so that a file can be tried as module:attribute
    logging.getLogger("roost").setLevel(logging.ERROR)  # lost leases are what is wanted here
    settings = options.settings_of(None, None, config)
    tried = _subject(settings, engine, payload, signal or [], ignore or [], observe)
    results = _try_all(tried, settings, seconds, aws=aws)
    if as_json:
        print_json({name: _plain(explored) for name, explored in results.items()})
    else:
        shown: set[str] = set()
        for name, explored in results.items():
            _show(name, explored, shown)
    if any(explored.findings for explored in results.values()):
        raise typer.Exit(FAILED)
    raise typer.Exit(OK)


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


def _try_all(tried: Subject, settings: Settings, seconds: float, *, aws: bool) -> dict[str, Explored]:
    import asyncio
    from functools import partial

    from roost.testing.findings import NoSubject
    from roost.testing.safety import explore, in_virtual_time, memory_world
    from roost.testing.worlds import local_world
    from roost.workspace import Origin

    results: dict[str, Explored] = {}
    open_local = partial(local_world, Origin(settings.workspace.source, settings.workspace.ref))
    budget = seconds / 2 if aws else seconds
    is_over = _timer(budget)
    say(f"trying in memory, and on SQLite{', and on a stand-in for AWS' if aws else ''} …")
    try:
        results["memory"] = in_virtual_time(
            explore(tried, memory_world, is_over=_timer(budget * _MEMORY_SHARE))
        )
        first = [(finding.fault, finding.cut) for finding in results["memory"].findings]
        results["local"] = asyncio.run(explore(tried, open_local, first=first, is_over=is_over))
        if aws:
            results["aws"] = _try_aws(tried, first, seconds - budget)
    except NoSubject as error:
        raise InputError(str(error), hint=_hint(error)) from error
    return results


def _hint(error: NoSubject) -> str:
    if error.signal:
        return f"Send it: --signal NAME=JSON, here --signal '{error.signal.split(', ')[0]}=true'."
    if error.path:
        return f"--ignore {error.path}"
    return "An end that is meant is reached by `raise FailWork(reason)`; all else is to be mended first."


def _try_aws(tried: Subject, first: Sequence[Planned], seconds: float) -> Explored:
    import asyncio

    from roost.testing.safety import explore
    from roost.testing.worlds import aws_worlds, pointed_at_a_standin

    with pointed_at_a_standin() as standin:

        async def run() -> Explored:
            async with aws_worlds(standin) as open_world:
                return await explore(tried, open_world, first=first, is_over=_timer(seconds))

        return asyncio.run(run())


def _timer(seconds: float) -> Any:
    from roost.clock import SystemClock

    clock = SystemClock()
    end = clock.monotonic() + seconds
    return lambda: clock.monotonic() >= end


def _show(name: str, explored: Explored, shown: set[str]) -> None:
    """Print what came of a world; a history that another has shown only once."""
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
