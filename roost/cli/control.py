"""`roost cancel`, `pause`, `resume`, `retry`, `purge` and `fork`: acting on work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost import times
from roost.cli import acting, completion, options
from roost.cli.acting import Deed, Filter, act
from roost.cli.budget import amounts
from roost.cli.output import OK, plain, print_json, print_table, say
from roost.errors import InputError
from roost.names import PRIORITY_MAX, Lane

if TYPE_CHECKING:
    from roost.core.client import Client
    from roost.wiring import Runtime


def cancel(
    work_ids: acting.IdsArgument = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="TIME", help="A step that still runs then is interrupted: 30s."),
    ] = None,
    reason: acting.Reason = "",
    state: acting.StateOption = None,
    engine: acting.EngineOption = None,
    prefix: acting.Prefix = None,
    label: acting.Label = None,
    why: acting.Why = None,
    older_than: acting.OlderThan = None,
    where: acting.Where = None,
    dry_run: acting.DryRun = False,
    yes: acting.Yes = False,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Ask work to end. A running step sees `cancel_requested` and may finish; with --by it is
    interrupted then. Prints the ids.

    With --json: one object a line with done, skipped (pairs of id and why) and operation.

    Examples:

      roost cancel "$WORK_ID" --reason "no longer needed" --by 30s

      roost cancel --engine demo --state waiting --older-than 7d --dry-run
    """
    from roost.core.bulk import Action

    seconds = None if by is None else times.seconds(by, "--by")

    async def one(client: Client, work_id: str) -> None:
        await client.cancel(work_id, reason, by_seconds=seconds)

    deed = Deed(Action.CANCEL, reason, one, dry_run, yes, as_json, by_seconds=seconds)
    chosen = Filter(state, engine, prefix, label, why, older_than, where)
    _run(deed, work_ids, chosen, options.settings_of(storage, home, config))


def _run(deed: Deed, work_ids: list[str] | None, chosen: Filter, settings: Any) -> None:
    async def use(runtime: Runtime) -> int:
        return await act(runtime, deed, work_ids or [], chosen)

    options.run(settings, use)


EngineSwitch = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="The engine itself: none of its work begins.",
        autocompletion=completion.engines,
    ),
]
LaneSwitch = Annotated[Lane | None, typer.Option("--lane", help="The lane itself: nothing is taken from it.")]


def pause(
    work_ids: acting.IdsArgument = None,
    engine: EngineSwitch = None,
    lane: LaneSwitch = None,
    time: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="Goes on by itself then: 2h. Not for engines and lanes."),
    ] = None,
    reason: acting.Reason = "",
    state: acting.StateOption = None,
    prefix: acting.Prefix = None,
    label: acting.Label = None,
    where: acting.Where = None,
    dry_run: acting.DryRun = False,
    yes: acting.Yes = False,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Put work on hold, or an engine or a lane. A running step is committed first; nothing is
    lost. Workers learn of a paused engine or lane at their next sweep.

    Examples:

      roost pause --engine demo --reason "bad release"

      roost pause --lane low

      roost pause "$WORK_ID" --reason "wait for the release"

      roost pause "$WORK_ID" --for 2h
    """
    from roost.core.bulk import Action

    seconds = None if time is None else times.seconds(time, "--for")
    if seconds is not None and (engine or lane):
        raise InputError("--for is for work items, not for an engine or a lane")

    async def one(client: Client, work_id: str) -> None:
        await client.pause(work_id, reason, for_seconds=seconds)

    deed = Deed(Action.PAUSE, reason, one, dry_run, yes, as_json, for_seconds=seconds)
    chosen = Filter(state, None, prefix, label, where=where)
    settings = options.settings_of(storage, home, config)
    if engine is None and lane is None:
        _run(deed, work_ids, chosen, settings)
    else:
        _throw(deed, engine, lane, is_alone=not (work_ids or chosen.is_given), settings=settings)


def _throw(deed: Deed, engine: str | None, lane: Lane | None, *, is_alone: bool, settings: Any) -> None:
    """Pause or resume an engine or a lane itself, as a deed's action says."""
    if not is_alone or (engine and lane):
        raise InputError("--engine and --lane stand alone", hint=f"roost {deed.action} --engine NAME")
    is_paused = deed.action == "pause"

    async def use(runtime: Runtime) -> int:
        client = runtime.client
        if engine is not None and is_paused:
            await client.pause_engine(engine, deed.reason)
        elif engine is not None:
            say(f"{await client.resume_engine(engine, deed.reason)} work items woken")
        if lane is not None:
            await (client.pause_lane if is_paused else client.resume_lane)(lane, deed.reason)
        return OK

    options.run(settings, use)


def drain(
    worker_id: Annotated[str, typer.Argument(metavar="WORKER", help="As the console or `status` names it.")],
    keep: Annotated[bool, typer.Option("--keep", help="Ask it no more, if it has not seen it.")] = False,
    reason: acting.Reason = "",
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Ask a worker to stop, wherever it runs: it takes no more work once it has swept, commits the
    steps that run or gives them back after its grace period, and ends. What keeps workers running
    starts another.

    Examples:

      roost drain "$WORKER" --reason "a bad host"
    """

    async def use(runtime: Runtime) -> int:
        client = runtime.client
        is_new = await (client.keep_worker if keep else client.drain_worker)(worker_id, reason)
        asked = "is asked no more" if keep else "is asked to stop, and does once it has swept: roost switches"
        say(f"{worker_id} {asked}{'' if is_new else ', as before'}")
        return OK

    options.run(options.settings_of(storage, home, config), use)


def switches(
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List the engines and lanes that are paused, and the workers that are asked to stop (drain):
    since when, by whom and why.

    Examples:

      roost switches --json
    """

    async def use(runtime: Runtime) -> int:
        found = await runtime.client.switches()
        if as_json:
            print_json([plain(one) for one in found])
        else:
            rows = [(one.target, times.clock(one.at), one.by, one.reason) for one in found]
            print_table(("PAUSED", "SINCE", "BY", "WHY"), rows, empty="nothing is paused")
        return OK

    options.run(options.settings_of(storage, home, config), use)


def resume(
    work_ids: acting.IdsArgument = None,
    engine: EngineSwitch = None,
    lane: LaneSwitch = None,
    reason: acting.Reason = "",
    state: acting.StateOption = None,
    prefix: acting.Prefix = None,
    label: acting.Label = None,
    why: acting.Why = None,
    where: acting.Where = None,
    dry_run: acting.DryRun = False,
    yes: acting.Yes = False,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Let paused work, a paused engine or a paused lane go on.

    Examples:

      roost resume --engine demo

      roost resume --lane low

      roost resume "$WORK_ID"

      roost resume --state paused --why "wait for the release" --yes
    """
    from roost.core.bulk import Action

    async def one(client: Client, work_id: str) -> None:
        await client.resume(work_id, reason)

    deed = Deed(Action.RESUME, reason, one, dry_run, yes, as_json)
    chosen = Filter(state, None, prefix, label, why, where=where)
    settings = options.settings_of(storage, home, config)
    if engine is None and lane is None:
        _run(deed, work_ids, chosen, settings)
    else:
        _throw(deed, engine, lane, is_alone=not (work_ids or chosen.is_given), settings=settings)


def retry(
    work_ids: acting.IdsArgument = None,
    version: Annotated[
        int | None,
        typer.Option(
            "--from", metavar="VERSION", min=0, help="Go on from this version; 0: from the beginning."
        ),
    ] = None,
    reason: acting.Reason = "",
    state: acting.StateOption = None,
    engine: acting.EngineOption = None,
    prefix: acting.Prefix = None,
    label: acting.Label = None,
    why: acting.Why = None,
    older_than: acting.OlderThan = None,
    where: acting.Where = None,
    dry_run: acting.DryRun = False,
    yes: acting.Yes = False,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Put work that ended back to life, from its last version or an earlier one, with fresh
    attempts. A filter without --state means failed work.

    Examples:

      roost retry "$WORK_ID" --from 2

      roost retry --engine demo --why Timeout --yes

      roost retry --engine demo --from 2 --reason "the third step is mended" --yes
    """
    from roost.core.bulk import Action

    async def one(client: Client, work_id: str) -> None:
        await client.retry(work_id, reason, version=version)

    deed = Deed(Action.RETRY, reason, one, dry_run, yes, as_json, version=version)
    chosen = Filter(state, engine, prefix, label, why, older_than, where)
    _run(deed, work_ids, chosen, options.settings_of(storage, home, config))


def purge(
    work_ids: acting.IdsArgument = None,
    state: acting.StateOption = None,
    engine: acting.EngineOption = None,
    prefix: acting.Prefix = None,
    label: acting.Label = None,
    why: acting.Why = None,
    older_than: acting.OlderThan = None,
    where: acting.Where = None,
    reason: acting.Reason = "",
    dry_run: acting.DryRun = False,
    yes: acting.Yes = False,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Delete work that ended, with its history. Forks of it keep what they began from.
    Who, when and why is kept: `roost audit`.

    Examples:

      roost purge --state cancelled --older-than 30d --dry-run

      roost purge --state done --older-than 90d --yes
    """
    from roost.core.bulk import Action

    async def one(client: Client, work_id: str) -> None:
        await client.purge(work_id, reason)

    deed = Deed(Action.PURGE, reason, one, dry_run, yes, as_json)
    chosen = Filter(state, engine, prefix, label, why, older_than, where)
    _run(deed, work_ids, chosen, options.settings_of(storage, home, config))


def fork(
    work_id: options.WorkIdArgument,
    at: Annotated[int, typer.Option("--at", metavar="VERSION", min=1, help="The version to begin from.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=JSON", help='data.x=5 or payload.x="text"; repeatable.'),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="NAME", help="Another engine.", autocompletion=completion.engines),
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", min=-PRIORITY_MAX, max=PRIORITY_MAX, help="Another priority.")
    ] = None,
    limits: Annotated[
        list[str] | None, typer.Option("--budget", metavar="NAME=N", help="Another budget; repeatable.")
    ] = None,
    new_id: Annotated[
        str | None, typer.Option("--work-id", metavar="ID", help="An id of your own; forked once under it.")
    ] = None,
    reason: acting.Reason = "",
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Start new work from a version of a work item, which stays as it is; prints the new id.

    The new work keeps the artifacts of that version and says where it comes from.

    Examples:

      roost fork "$WORK_ID" --at 2

      roost fork "$WORK_ID" --at 2 --set data.model='"small"' --priority 1
    """
    given = {
        "engine": engine,
        "priority": priority,
        "budget": None if limits is None else amounts(limits, "--budget"),
        "work_id": new_id,
    }
    changed = dict(_change(text) for text in changes or [])

    async def use(runtime: Runtime) -> int:
        chosen = {name: value for name, value in given.items() if value is not None}
        forked = await runtime.client.fork(work_id, at, reason, changes=changed, **chosen)
        if as_json:
            print_json({"work_id": forked, "forked_from": {"work_id": work_id, "version": at}})
        else:
            print(forked)
        return OK

    options.run(options.settings_of(storage, home, config), use)


def _change(text: str) -> tuple[str, Any]:
    path, mark, value = text.partition("=")
    if not mark:
        raise InputError(f"--set {text!r} has no =", hint="Write --set data.NAME=VALUE.")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value  # text without its quotes
