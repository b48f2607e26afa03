"""`roost move`: a namespace goes to another storage."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from roost import times
from roost.cli import options
from roost.cli.output import OK, print_json, say
from roost.errors import InputError

if TYPE_CHECKING:
    from roost.config import Settings

_WAIT = "10m"


def move(
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="Where to: aws:STACK, local:/path, or another backend.")
    ],
    bucket: Annotated[
        str | None,
        typer.Option(
            "--to-bucket", metavar="NAME", help="The bucket of that stack, where it is not its usual one."
        ),
    ] = None,
    wait: Annotated[
        str, typer.Option("--wait", metavar="TIME", help="How long steps that run now may take to end.")
    ] = _WAIT,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Move a namespace (ROOST_NAMESPACE) with all its work to another storage, while others go on.

    Stop its enqueuers first; workers stay, so that steps under way are committed. Live work
    is put on hold, copied, ended here without anything that follows from an end, and goes on
    there. What was on hold before stays so. A move that broke off is made again the same way.

    Examples:

      roost move --to aws:search --to-bucket search-blobs

      roost move --storage local:/var/lib/roost --to aws:prod --wait 1h --json
    """
    settings = options.settings_of(storage, home, config)
    options.finish(_move(settings, _target(settings, to, bucket), times.seconds(wait, "--wait"), as_json))


def _target(settings: Settings, to: str, bucket: str | None) -> Settings:
    if to == settings.storage:
        raise InputError(f"{to} is where it is now")
    aws = settings.aws.model_copy(update={"bucket": bucket})
    return settings.model_copy(update={"storage": to, "aws": aws})


async def _move(settings: Settings, target: Settings, wait_seconds: float, as_json: bool) -> int:
    from roost.core.moving import Move
    from roost.wiring import open_runtime

    async with open_runtime(settings) as here, open_runtime(target) as there:
        going = Move(here.parts, there.parts, settings.namespace, target.storage)
        moved = await going.run(wait_seconds=wait_seconds)
    if as_json:
        print_json(asdict(moved))
    else:
        say(
            f"{moved.work} work items with {moved.entries} entries and {moved.blobs} blobs are in "
            f"{target.storage} now; {moved.resumed} of them go on there"
        )
    return OK
