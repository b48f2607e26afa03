"""`roost lab`: try an engine at every point at which its worker could die."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli import completion, options
from roost.cli.output import FAILED, OK, print_json, say
from roost.errors import InputError

if TYPE_CHECKING:
    from roost.testing.safety import Explored, Subject

_SHARE = {"memory": 0.4, "local": 0.6}


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
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How long to try, in all.")] = 10.0,
    aws: Annotated[bool, typer.Option("--aws", help="Also on a stand-in for AWS (takes longer).")] = False,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Kill, freeze and confuse the worker of an engine at every point, and compare what comes out.

    The work runs once in peace; then again and again, each time with its worker killed before
    or after one of its calls to storage, or frozen until another has taken over, or with
    deliveries that come twice or in another order: in memory, on SQLite, and with --aws on a
    stand-in for AWS. Where the end differs, the shortest history that shows it is printed, and
    the exit code is 1. The engine's own effects (mails, charges) really happen each time.

    Examples:

      roost lab my_engine:Researcher --payload '{"topic": "owls"}'

      roost lab my_engine:Mailer --signal approve='{"by": "me"}' --ignore data.sent_at --seconds 30
    """
    sys.path.insert(0, "")  # so that a file can be tried as module:attribute
    logging.getLogger("roost").setLevel(logging.ERROR)  # lost leases are what is wanted here
    tried = _subject(engine, payload, signal or [], ignore or [], config)
    results = _try_all(tried, seconds, aws=aws)
    if as_json:
        print_json({name: _plain(explored) for name, explored in results.items()})
    else:
        for name, explored in results.items():
            _show(name, explored)
    if any(explored.findings for explored in results.values()):
        raise typer.Exit(FAILED)
    raise typer.Exit(OK)


def _subject(
    engine: str, payload: str, signals: list[str], ignore: list[str], config: Path | None
) -> Subject:
    from roost import jsonio
    from roost.engine import load_engines
    from roost.testing.safety import Subject

    settings = options.settings_of(None, None, config)
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
    )


def _try_all(tried: Subject, seconds: float, *, aws: bool) -> dict[str, Explored]:
    import asyncio

    from roost.testing.safety import explore, in_virtual_time, memory_world
    from roost.testing.worlds import local_world

    results = {}
    budget = seconds / 2 if aws else seconds
    say(f"trying in memory, and on SQLite{', and on a stand-in for AWS' if aws else ''} …")
    try:
        results["memory"] = in_virtual_time(
            explore(tried, memory_world, is_over=_timer(budget * _SHARE["memory"]))
        )
        results["local"] = asyncio.run(explore(tried, local_world, is_over=_timer(budget * _SHARE["local"])))
        if aws:
            results["aws"] = _try_aws(tried, seconds - budget)
    except ValueError as error:
        raise InputError(
            str(error), hint="Leave out what is meant to differ: --ignore data.fetched_at"
        ) from error
    return results


def _try_aws(tried: Subject, seconds: float) -> Explored:
    import asyncio

    from roost.testing.safety import explore
    from roost.testing.worlds import aws_worlds, pointed_at_a_standin

    with pointed_at_a_standin() as standin:

        async def run() -> Explored:
            async with aws_worlds(standin) as open_world:
                return await explore(tried, open_world, is_over=_timer(seconds))

        return asyncio.run(run())


def _timer(seconds: float) -> Any:
    from roost.clock import SystemClock

    clock = SystemClock()
    end = clock.monotonic() + seconds
    return lambda: clock.monotonic() >= end


def _show(name: str, explored: Explored) -> None:
    left = explored.planned - explored.runs
    rest = f" ({left} more were not tried: --seconds)" if left else ""
    if not explored.findings:
        print(f"{name}: safe in {explored.runs} runs, cut at {explored.calls} points{rest}")
        return
    print(f"{name}: {len(explored.findings)} of {explored.runs} runs ended otherwise{rest}; the shortest:")
    print(f"  {explored.findings[0]}")


def _plain(explored: Explored) -> dict[str, Any]:
    return {
        "runs": explored.runs,
        "planned": explored.planned,
        "points": explored.calls,
        "findings": [
            {
                "fault": finding.fault.value,
                "cut": str(finding.cut) if finding.cut else None,
                "difference": finding.difference,
                "history": list(finding.history),
            }
            for finding in explored.findings
        ],
    }
