"""The command line of `roost`: its commands, and the options before them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy

import typer
from typer.main import get_command_name
from typer.models import CommandInfo

from roost.cli import (
    artifacts,
    audit,
    aws,
    budget,
    checks,
    control,
    demo,
    dev,
    dlq,
    enqueue,
    explain,
    export,
    journal,
    lab,
    look,
    move,
    operations,
    options,
    resources,
    schedules,
    talk,
    ui,
    worker,
    workspaces,
)
from roost.cli.output import EXIT_CODES
from roost.errors import InputError

app = typer.Typer(
    name="roost",
    help="Keep long-running agent workers alive, inspectable and resumable.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # to import rich, and draw frames with it, takes longer than all the rest
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 120},
)
app.command()(demo.demo)
app.command()(worker.worker)
app.command()(enqueue.enqueue)
app.command()(look.status)
app.command()(explain.explain)
app.command("list")(look.list_work)
app.command()(journal.events)
app.command()(journal.logs)
app.command()(journal.history)
app.command()(look.wait)
app.command()(journal.diff)
app.command()(control.cancel)
app.command()(control.pause)
app.command()(control.resume)
app.command()(control.switches)
app.command()(control.drain)
app.command()(control.retry)
app.command()(control.fork)
app.command()(budget.budget)
app.command()(control.purge)
app.command()(move.move)
app.command()(audit.audit)
app.add_typer(operations.app, name="operations")
app.add_typer(dlq.app, name="dlq")
app.add_typer(artifacts.app, name="artifacts")
app.command()(talk.signal)
app.command()(talk.signals)
app.command()(talk.approvals)
app.command()(talk.approve)
app.command()(talk.tree)
app.command()(export.export)
app.command()(ui.ui)
app.add_typer(resources.app, name="resources")
app.add_typer(schedules.app, name="schedules")
app.command()(lab.lab)
app.command()(workspaces.workspace_path)
app.command()(checks.engines)
app.command()(checks.doctor)
app.add_typer(aws.app, name="aws")
app.add_typer(dev.app, name="dev")


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"roost {version('roost-runtime')}")
        raise typer.Exit


_OVER_URL = frozenset(
    {"status", "explain", "list", "events", "logs", "history", "diff", "wait", "enqueue", "artifacts"}
    | {"resources", "cancel", "pause", "resume", "retry", "fork", "budget", "purge", "operations", "dlq"}
    | {"schedules", "signal", "signals", "approvals", "approve", "tree", "switches", "drain"}
)
"""Commands that a console's address is enough for."""


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Say which Roost."
    ),
    url: str | None = typer.Option(
        None,
        "--url",
        envvar="ROOST_URL",
        metavar="URL",
        help="Talk to the console at this address instead of to the storage; ROOST_TOKEN is sent to it.",
    ),
) -> None:
    command = context.invoked_subcommand
    if url and command not in _OVER_URL and os.environ.get("ROOST_URL") != url:
        raise InputError(
            f"`roost {command}` does not work over --url",
            hint=f"These do: {', '.join(sorted(_OVER_URL))}.",
        )
    options.REMOTE.url = url if command in _OVER_URL else None


def app_of(arguments: Sequence[str]) -> typer.Typer:
    """The app of a command line: where that begins with a command, it has this one alone.

    Typer makes all of an app's commands before it reads the line: a sixth of the CPU time that
    `roost list` took.
    """
    commands = [one for one in app.registered_commands if _name_of(one) in arguments[:1]]
    groups = [one for one in app.registered_groups if one.name in arguments[:1]]
    if not commands and not groups:
        return app
    alone = copy(app)
    alone.registered_commands, alone.registered_groups = commands, groups
    return alone


def _name_of(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__)  # type: ignore[union-attr]  # each has one
