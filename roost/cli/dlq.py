"""`roost dlq list|show|retry|drop`: failed work, and messages that the work queue set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost import times
from roost.cli import acting, options
from roost.cli.acting import Deed, Filter, act
from roost.cli.output import NOT_FOUND, OK, plain, print_json, print_table, safe, say
from roost.errors import InputError
from roost.names import State

if TYPE_CHECKING:
    from roost.core.client import Client
    from roost.wiring import Runtime

app = typer.Typer(no_args_is_help=True, help="Failed work, and messages that the work queue set aside.")

Messages = Annotated[bool, typer.Option("--messages", help="Of the work queue's own dead-letter queue.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most so many.")]


@app.command("list")
def list_dead(
    messages: Messages = False,
    engine: acting.EngineOption = None,
    limit: Limit = 50,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List failed work and why it failed; with --messages what the work queue set aside.

    Examples:

      roost dlq list

      roost dlq list --messages --json
    """

    from roost.core.where import parse

    async def use(runtime: Runtime) -> int:
        if messages:
            letters = await runtime.client.dead_letters(limit=limit)
            if as_json:
                print_json(letters)
            else:
                rows = [(one.work_id or "-", one.lane.value, one.reason, one.text) for one in letters]
                print_table(("WORK ID", "LANE", "WHY", "TEXT"), rows, empty="no messages were set aside")
            return OK
        page = await runtime.client.find(parse(Filter(State.FAILED, engine).text, 0.0), limit=limit)
        if as_json:
            print_json({"rows": [plain(row) for row in page.rows], "cursor": page.cursor})
        else:
            failed = [
                (row.work_id, row.engine, row.version, times.clock(row.since), row.reason)
                for row in page.rows
            ]
            print_table(("WORK ID", "ENGINE", "VERSION", "FAILED", "WHY"), failed, empty="no failed work")
        return OK

    options.run(options.settings_of(storage, home, config), use)


@app.command()
def show(
    work_id: options.WorkIdArgument,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Show the errors that led to a failure, oldest first, each with its traceback.

    With --json: a list of objects with position, time, kind, actor and error.

    Examples:

      roost dlq show "$WORK_ID"
    """

    async def use(runtime: Runtime) -> int:
        found: list[dict[str, Any]] = [
            {
                "position": entry.position,
                "time": times.clock(entry.at),
                "kind": entry.event.kind.value,
                "actor": entry.actor,
                "error": plain(error),
            }
            async for entry in runtime.client.events(work_id)
            if (error := getattr(entry.event, "error", None)) is not None
        ]
        if as_json:
            print_json(found)
            return OK
        for one in found:
            print(safe(f"{one['time']}  {one['error']['type']}: {one['error']['message']}"))
            print(safe(one["error"].get("traceback") or "", keep_lines=True))
        if not found:
            say("nothing of it ever failed")
        return OK if found else NOT_FOUND

    options.run(options.settings_of(storage, home, config), use)


def _acts(
    verb: str, work_ids: list[str] | None, chosen: Filter, is_messages: bool, deed: Deed, settings: Any
) -> None:
    async def use(runtime: Runtime) -> int:
        if is_messages:
            return await _end_messages(runtime, deed, is_sent_again=verb == "retry")
        return await act(runtime, deed, work_ids or [], Filter() if work_ids else chosen)

    if is_messages and work_ids:
        raise InputError("--messages takes all messages, not single work items")
    options.run(settings, use)


async def _end_messages(runtime: Runtime, deed: Deed, *, is_sent_again: bool) -> int:
    """All that are there now; what comes meanwhile is for the next time."""
    letters = await runtime.client.dead_letters(limit=10_000)
    if not deed.is_dry_run and not deed.is_confirmed:
        raise InputError(f"this would take {len(letters)} messages", hint="Add --yes.")
    if not deed.is_dry_run:
        client = runtime.client
        await client.end_dead_letters(letters, is_sent_again=is_sent_again, reason=deed.reason)
    would = "would be " if deed.is_dry_run else ""
    what = f"{len(letters)} messages {would}{'sent again' if is_sent_again else 'dropped'}"
    if deed.as_json:
        print_json({"messages": len(letters), "is_dry_run": deed.is_dry_run})
    else:
        say(what)
    return OK


@app.command()
def retry(
    work_ids: acting.IdsArgument = None,
    messages: Messages = False,
    reason: acting.Reason = "",
    engine: acting.EngineOption = None,
    why: acting.Why = None,
    older_than: acting.OlderThan = None,
    dry_run: acting.DryRun = False,
    yes: acting.Yes = False,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Put failed work back to life; with --messages send all that were set aside once more.

    Without ids and filter: all failed work.

    Examples:

      roost dlq retry "$WORK_ID" --reason "fixed"

      roost dlq retry --why Timeout --yes
    """
    from roost.core.bulk import Action

    async def one(client: Client, work_id: str) -> None:
        await client.retry(work_id, reason)

    deed = Deed(Action.RETRY, reason, one, dry_run, yes, as_json)
    chosen = Filter(State.FAILED, engine, None, None, why, older_than)
    _acts("retry", work_ids, chosen, messages, deed, options.settings_of(storage, home, config))


@app.command()
def drop(
    work_ids: acting.IdsArgument = None,
    messages: Messages = False,
    engine: acting.EngineOption = None,
    why: acting.Why = None,
    older_than: acting.OlderThan = None,
    reason: acting.Reason = "",
    dry_run: acting.DryRun = False,
    yes: acting.Yes = False,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Delete failed work with its history; with --messages drop all that were set aside.

    Examples:

      roost dlq drop --older-than 30d --dry-run

      roost dlq drop --messages --yes
    """
    from roost.core.bulk import Action

    async def one(client: Client, work_id: str) -> None:
        await client.purge(work_id, reason)

    deed = Deed(Action.PURGE, reason, one, dry_run, yes, as_json)
    chosen = Filter(State.FAILED, engine, None, None, why, older_than)
    _acts("drop", work_ids, chosen, messages, deed, options.settings_of(storage, home, config))
