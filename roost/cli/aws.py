"""`roost aws`: make, look at and remove the stack that storage `aws` uses."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli import checks, cost, options
from roost.cli.output import FAILED, OK, print_json, print_table, say
from roost.errors import InputError, SettingsError

if TYPE_CHECKING:
    from roost.config import AwsSettings
    from roost.storage.aws.clients import Clients
    from roost.storage.aws.names import Names

app = typer.Typer(no_args_is_help=True, help="Make, look at and remove a stack on AWS.")
app.command("doctor")(checks.doctor)
app.command("cost")(cost.cost)

Stack = Annotated[
    str | None,
    typer.Option("--stack", metavar="NAME", help="Which stack; by default that of the storage or settings."),
]


@app.command()
def create(stack: Stack = None, as_json: options.Json = False, config: options.Config = None) -> None:
    """Make the tables, queues and the bucket of a stack, where they are not there yet.

    For development. In production let Terraform make the same, from the same definition.
    Credentials, region and endpoint are found as the AWS SDK finds them.

    Examples:

      roost aws create

      roost aws create --stack trial --json
    """

    async def make(clients: Clients, names: Names) -> int:
        from roost.storage.aws.admin import create_stack

        made = await create_stack(clients, names)
        if as_json:
            print_json([asdict(resource) for resource in made])
        else:
            print_table(("KIND", "NAME", "ADDRESS"), [(part.kind, part.name, part.address) for part in made])
            say(f"use it: export ROOST_STORAGE=aws:{names.stack}")
        return OK

    run(_settings(stack, config), make)


@app.command()
def describe(stack: Stack = None, as_json: options.Json = False, config: options.Config = None) -> None:
    """Show what is there of a stack; exit code 1 if a part is missing.

    Examples:

      roost aws describe --json
    """

    async def show(clients: Clients, names: Names) -> int:
        from roost.storage.aws.admin import describe_stack

        parts = await describe_stack(clients, names)
        if as_json:
            print_json([asdict(part) for part in parts])
        else:
            rows = [(part.kind, part.name, part.address or "-", part.detail) for part in parts]
            print_table(("KIND", "NAME", "ADDRESS", "FOUND"), rows)
        return OK if all(part.address for part in parts) else FAILED

    run(_settings(stack, config), show)


@app.command()
def reindex(stack: Stack = None, as_json: options.Json = False, config: options.Config = None) -> None:
    """Write index rows anew that are missing or behind their journals, as after a restore.

    And ends those that a worker left behind which died as it deleted their journals. Reads both
    tables. Workers may run meanwhile.

    Examples:

      roost aws reindex --stack restored
    """
    options.finish(_reindex(_settings(stack, config), as_json))


async def _reindex(settings: AwsSettings, as_json: bool) -> int:
    from roost.storage.aws.backend import open_aws
    from roost.storage.aws.reindex import reindex as write_rows

    backend = await open_aws(settings)
    try:
        done = await write_rows(backend)
    finally:
        await backend.close()
    if as_json:
        print_json(asdict(done))
    else:
        of_deleted = f", {done.over} of deleted journals" if done.over else ""
        say(f"{done.journals} journals: {done.missing} rows were missing, {done.behind} behind{of_deleted}")
    return OK


@app.command()
def destroy(
    stack: Stack = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Delete a stack with all work, history and artifacts in it. Asks first.

    Examples:

      roost aws destroy --stack trial

      roost aws destroy --stack trial --yes
    """

    async def remove(clients: Clients, names: Names) -> int:
        from roost.storage.aws.admin import destroy_stack

        gone = await destroy_stack(clients, names)
        if as_json:
            print_json(gone)
        else:
            print_table(("DELETED",), [(name,) for name in gone], empty="nothing was there")
        return OK

    settings = _settings(stack, config)
    if not yes:
        _ask(settings.stack)
    run(settings, remove)


def _ask(stack: str) -> None:
    """Have the stack's name typed.

    Raises:
        InputError: it was not, or nobody is there to ask.
    """
    if not sys.stdin.isatty():
        raise InputError(f"destroying {stack!r} needs a confirmation", hint="Give --yes, if you are sure.")
    say(f"All work, history and artifacts of stack {stack!r} will be gone for good.")
    if typer.prompt("Type the stack's name to go on", err=True, default="", show_default=False) != stack:
        raise InputError("that is not its name; nothing was deleted")


def _settings(stack: str | None, config: Path | None) -> AwsSettings:
    """The stack that is named here, or else by the storage, or else by the settings of AWS."""
    from roost.storage.aws import of_storage

    settings = options.settings_of(None, None, config, aws={"stack": stack})
    return settings.aws if stack is not None else of_storage(settings.storage, settings.aws)


def run(settings: AwsSettings, use: Callable[[Clients, Names], Awaitable[int]]) -> None:
    """Open the stack's clients, use them, and end with the exit code."""
    try:
        from roost.storage.aws.admin import opened_stack
    except ModuleNotFoundError as error:
        if error.name not in ("aioboto3", "botocore"):
            raise
        raise SettingsError("the AWS SDK is not installed", hint="pip install 'roost-runtime[aws]'") from None

    async def main() -> int:
        async with opened_stack(settings) as (clients, names):
            return await use(clients, names)

    options.finish(main())
