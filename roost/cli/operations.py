"""`roost operations`: the same done to many, begun, followed, listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from roost import times
from roost.cli import options
from roost.cli.output import OK, is_terminal, plain, print_json, print_table, say
from roost.errors import InputError
from roost.names import State

if TYPE_CHECKING:
    from roost.core.bulk import Part
    from roost.core.operating import Operation, OperationView
    from roost.wiring import Runtime

FOLLOW_SECONDS = 0.2
LIST_MAX = 50

app = typer.Typer(help="What was done to many work items: `roost retry --engine …` and its like begin one.")


async def begin(runtime: Runtime, operation: Operation) -> str:
    """Begin an operation; its id. Durable on return."""
    if options.REMOTE.url is not None:
        return await runtime.client.start_operation(operation)  # type: ignore[attr-defined,no-any-return]  # a RemoteClient
    from roost.core import operating

    return await operating.start(runtime.client, operation)


async def follow(runtime: Runtime, work_id: str, tell: Callable[[Part], None] | None = None) -> int:
    """Work on an operation until it has ended, or watch who does; the exit code.

    Args:
        tell: is given each part, once, in order.
    """
    import asyncio

    from roost.core import operating

    async with asyncio.TaskGroup() as group:
        driving = None
        if options.REMOTE.url is None:
            from roost.driving import drive

            driving = group.create_task(drive(runtime, work_id))
        told = 0
        while True:
            view = await operating.look(runtime.client, work_id)
            for version in range(told + 1, view.version + 1):
                if tell is not None:
                    await _tell_part(runtime, work_id, version, tell)
            if view.state.is_terminal:
                break
            if is_terminal() and view.version > told:
                say(f"{_counts(view)} so far")
            told = view.version
            await runtime.parts.clock.sleep(FOLLOW_SECONDS)
        if driving is not None:
            driving.cancel()
    say(
        f"{_counts(view)}" + (f"; {view.reason or 'it'} {view.state}" if view.state is not State.DONE else "")
    )
    return OK if view.state is State.DONE else 1


async def _tell_part(runtime: Runtime, work_id: str, version: int, tell: Callable[[Part], None]) -> None:
    from roost.core import operating

    try:
        part = await operating.part_of(runtime.client, work_id, version)
    except InputError:  # it is not kept any more
        return
    if part is not None:
        tell(part)


_PAST = {"cancel": "cancelled", "pause": "paused", "resume": "resumed", "retry": "retried", "purge": "purged"}


def _counts(view: OperationView) -> str:
    skipped = f", {view.skipped} skipped" if view.skipped else ""
    return f"{view.done} {_PAST[view.operation.action]}{skipped}"


@app.command("list")
def list_operations(
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List operations, newest first, with what they have done so far.

    Examples:

      roost operations list
    """

    async def use(runtime: Runtime) -> int:
        from roost.core import operating

        found = await operating.list_operations(runtime.client, limit=LIST_MAX)
        if as_json:
            print_json([_document(view) for view in found])
        else:
            rows = [
                (
                    view.work_id,
                    view.state.value,
                    view.operation.action.value,
                    view.operation.where or f"{len(view.operation.ids)} ids",
                    view.done,
                    view.skipped,
                    times.clock(view.created_at),
                    view.operation.actor,
                )
                for view in found
            ]
            columns = ("OPERATION", "STATE", "ACTION", "ON", "DONE", "SKIPPED", "BEGUN", "BY")
            print_table(columns, rows, empty="nothing was done to many yet")
        return OK

    options.run(options.settings_of(storage, home, config), use)


@app.command("show")
def show(
    work_id: options.WorkIdArgument,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Show one operation: how far it is, and what it could not act on.

    Examples:

      roost operations show "$OPERATION"
    """

    async def use(runtime: Runtime) -> int:
        from roost.core import operating

        view = await operating.look(runtime.client, work_id)
        if as_json:
            print_json(_document(view))
            return OK
        operation = view.operation
        print(f"{operation.action} {operation.where or f'{len(operation.ids)} ids'}: {view.state}")
        why = operation.reason or "no reason given"
        print(f"{_counts(view)}, {view.looked_at} looked at; by {operation.actor}: {why}")
        print_table(("SKIPPED", "WHY"), list(view.skips), empty="nothing was skipped")
        return OK

    options.run(options.settings_of(storage, home, config), use)


def _document(view: OperationView) -> dict[str, object]:
    """What --json shows of an operation; a stable format."""
    return {
        "work_id": view.work_id,
        "state": view.state.value,
        "reason": view.reason,
        "operation": view.operation.model_dump(mode="json"),
        "done": view.done,
        "skipped": view.skipped,
        "looked_at": view.looked_at,
        "skips": plain(view.skips),
        "created_at": view.created_at,
    }


@app.command("follow")
def follow_operation(
    work_id: options.WorkIdArgument,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Go on with an operation that broke off, or watch it, until it has ended.

    `roost pause`, `resume` and `cancel` with its id hold it, let it go on, and end it.

    Examples:

      roost operations follow "$OPERATION"
    """

    async def use(runtime: Runtime) -> int:
        return await follow(runtime, work_id)

    options.run(options.settings_of(storage, home, config), use)
