"""`roost schedules`: what the cron lines of the settings have become."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli import options
from roost.cli.output import OK, print_json, print_table, say

if TYPE_CHECKING:
    from roost.config import Settings
    from roost.core.client import Client
    from roost.core.schedules import ScheduleView
    from roost.wiring import Runtime

app = typer.Typer(no_args_is_help=True, help="Look at schedules, put them on hold, remove them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in [schedules.NAME] of roost.toml.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept in the history.")]


@app.command("list")
def list_schedules(
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List the schedules: their cron lines, the next tick and the last.

    A schedule of roost.toml is here once a worker with that file has started.

    Examples:

      roost schedules list

      roost schedules list --json
    """

    async def use(runtime: Runtime) -> int:
        from roost.core import schedules

        views = await schedules.list_schedules(runtime.client)
        if as_json:
            print_json([_document(view) for view in views])
            return OK
        print_table(
            ("NAME", "CRON", "TIMEZONE", "ENGINE", "STATE", "NEXT", "LAST", "TICKS"),
            [_row(view) for view in views],
            empty="no schedules; write [schedules.NAME] into roost.toml and start a worker",
        )
        return OK

    options.run(options.settings_of(storage, home, config), use)


@app.command()
def apply(
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Have the schedules of roost.toml run as it has them now; each worker does so when it starts.

    Examples:

      roost schedules apply
    """
    settings = options.settings_of(storage, home, config)

    async def use(runtime: Runtime) -> int:
        from roost.core import schedules

        await schedules.keep(runtime.client, settings.schedules)
        say(f"{len(settings.schedules)} schedules of the settings are in force")
        return OK

    options.run(settings, use)


@app.command()
def pause(
    name: Name,
    reason: Reason = "paused by an operator",
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Put a schedule on hold; what its ticks become meanwhile says its `missed`.

    Examples:

      roost schedules pause nightly --reason "the source is down"
    """
    from roost.core import schedules

    _act(name, reason, schedules.pause, "is on hold", options.settings_of(storage, home, config))


@app.command()
def resume(
    name: Name,
    reason: Reason = "resumed by an operator",
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Let a schedule go on that is on hold, or was removed.

    Examples:

      roost schedules resume nightly
    """
    from roost.core import schedules

    _act(name, reason, schedules.resume, "goes on", options.settings_of(storage, home, config))


@app.command()
def remove(
    name: Name,
    reason: Reason = "removed by an operator",
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """End a schedule; work that it has enqueued goes on. Take it out of roost.toml, too.

    Examples:

      roost schedules remove nightly
    """
    from roost.core import schedules

    _act(name, reason, schedules.remove, "is removed", options.settings_of(storage, home, config))


def _act(
    name: str,
    reason: str,
    act: Callable[[Client, str, str], Awaitable[None]],
    done: str,
    settings: Settings,
) -> None:
    async def use(runtime: Runtime) -> int:
        await act(runtime.client, name, reason)
        say(f"schedule {name} {done}")
        return OK

    options.run(settings, use)


def _document(view: ScheduleView) -> dict[str, object]:
    return {
        "name": view.name,
        "work_id": view.work_id,
        **view.rule.model_dump(mode="json"),
        "state": view.state.value,
        "reason": view.reason,
        "next_at": view.next_at,
        "last_at": view.last_at,
        "count": view.count,
    }


def _row(view: ScheduleView) -> tuple[object, ...]:
    from roost import times

    instants = [None if at is None else times.clock(at) for at in (view.next_at, view.last_at)]
    rule = view.rule
    return (view.name, rule.cron, rule.timezone, rule.engine, view.state.value, *instants, view.count)
