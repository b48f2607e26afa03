"""Options that several commands share, and what they lead to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli import completion
from roost.cli.user import user
from roost.errors import InputError
from roost.names import check_work_id

if TYPE_CHECKING:
    from roost.config import Settings
    from roost.wiring import Runtime

Storage = Annotated[
    str | None,
    typer.Option(
        "--storage", metavar="URL", help="Where the work is: local, local:/path, or another backend."
    ),
]


def folder(text: str) -> Path:
    """The folder that an option names; an empty text would be the current one.

    Raises:
        InputError: it is empty.
    """
    if not text:
        raise InputError("the name of the folder is empty", hint="Name a folder, or leave the option out.")
    return Path(text)


Home = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", parser=folder, help="Where `local` keeps its files."),
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Read this settings file only.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]


def check_ids(given: str | list[str] | None) -> str | list[str] | None:
    """Refuse what can't be an id before a backend sees it."""
    for text in [given] if isinstance(given, str) else given or []:
        check_work_id(text)
    return given


WorkIdArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORK_ID",
        help="The id that `roost enqueue` printed.",
        callback=check_ids,
        autocompletion=completion.work_ids,
    ),
]
WorkIdsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="WORK_ID...",
        help="Ids that `roost enqueue` printed.",
        callback=check_ids,
        autocompletion=completion.work_ids,
    ),
]
OptionalWorkIdsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[WORK_ID]...",
        help="Only these work items.",
        callback=check_ids,
        autocompletion=completion.work_ids,
    ),
]
OptionalWorkIdArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[WORK_ID]",
        help="One work item; all without it.",
        callback=check_ids,
        autocompletion=completion.work_ids,
    ),
]


def settings_of(storage: str | None, home: Path | None, config: Path | None, **overrides: Any) -> Settings:
    """The settings, with what the command line says on top."""
    from roost.config import load_settings

    return load_settings({"storage": storage, "home": home, **overrides}, config_file=config)


def run(settings: Settings, use: Callable[[Runtime], Awaitable[int]]) -> None:
    """Open the storage, do something with it, and end with its exit code."""
    finish(opened(settings, use))


def finish(main: Coroutine[Any, Any, int]) -> None:
    """Run a coroutine and end the command with the exit code that it returns."""
    import asyncio

    code = asyncio.run(main)
    if code:
        raise typer.Exit(code)


@dataclass(slots=True)
class Remote:
    """Where the console is that a command talks to instead of the storage; None: it does not."""

    url: str | None = None


REMOTE = Remote()


async def opened(settings: Settings, use: Callable[[Runtime], Awaitable[int]]) -> int:
    if REMOTE.url is not None:
        from roost.cli.remote import open_remote

        async with open_remote(REMOTE.url) as remote:
            return await use(remote)
    from roost.wiring import open_runtime

    async with open_runtime(settings, actor=settings.actor or user()) as runtime:
        return await use(runtime)
