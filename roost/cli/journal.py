"""`roost events`, `logs`, `history` and `diff`: what the journals say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost import times
from roost.cli import options
from roost.cli.output import OK, check_reader, plain, print_json, print_json_line, print_table, safe, say

if TYPE_CHECKING:
    from roost.journal.entries import Entry
    from roost.wiring import Runtime

FOLLOW_SECONDS = 0.2


def events(
    work_id: options.OptionalWorkIdArgument = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as events happen.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="The newest so many.")] = 50,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Show what happened: the journal of one work item, or of all.

    With --json: one object a line with work_id, position, kind, version, time, actor and detail.

    Examples:

      roost events "$WORK_ID"

      roost events --follow --json
    """

    async def use(runtime: Runtime) -> int:
        if as_json:
            async for entry in _entries(runtime, work_id, limit, follow):
                print_json_line(event_document(entry))
        elif follow:
            async for entry in _entries(runtime, work_id, limit, follow):
                print("\t".join(safe(cell) for cell in _event_row(entry)), flush=True)
        else:
            rows = [_event_row(entry) async for entry in _entries(runtime, work_id, limit, follow)]
            columns = ("TIME", "WORK ID", "POSITION", "KIND", "VERSION", "ACTOR", "DETAIL")
            print_table(columns, rows, empty="nothing has happened yet")
        return OK

    options.run(options.settings_of(storage, home, config), use)


def event_document(entry: Entry) -> dict[str, Any]:
    """A line of `events --json`; a stable format."""
    return {
        "work_id": entry.work_id,
        "position": entry.position,
        "kind": entry.event.kind.value,
        "version": entry.control.version,
        "time": times.clock(entry.at),
        "at": entry.at,
        "actor": entry.actor,
        "state": entry.control.state.value,
        "detail": plain(entry.event),
    }


async def _entries(runtime: Runtime, work_id: str | None, limit: int, follow: bool) -> AsyncIterator[Entry]:
    """The newest entries, then what comes."""
    if work_id is not None:
        after = (await runtime.client.control(work_id)).position - limit
        after = max(-1, after)
        while True:
            async for entry in runtime.client.events(work_id, after=after):
                after = entry.position
                yield entry
            if not follow:
                return
            await runtime.parts.clock.sleep(FOLLOW_SECONDS)
            while await runtime.client.control_after(work_id, after) is None:
                check_reader()
                await runtime.parts.clock.sleep(FOLLOW_SECONDS)
    page = await runtime.client.feed(None, limit=limit, newest=True)
    while True:
        for entry in page.entries:
            yield entry
        if not follow:
            return
        if not page.entries:
            check_reader()
            await runtime.parts.clock.sleep(FOLLOW_SECONDS)
        page = await runtime.client.feed(page.cursor, limit=500)


def _event_row(entry: Entry) -> tuple[str, ...]:
    from msgspec.structs import asdict

    detail = {key: value for key, value in asdict(entry.event).items() if value not in (None, "", (), False)}
    detail.pop("version", None)
    text = " ".join(f"{key}={_told(key, value)}" for key, value in detail.items())
    return (
        times.clock(entry.at),
        entry.work_id,
        str(entry.position),
        entry.event.kind.value,
        str(entry.control.version),
        entry.actor,
        text[:200],
    )


def _told(key: str, value: Any) -> str:
    if isinstance(value, float) and key.endswith(("_at", "until")):
        return times.clock(value)
    return _brief(value)


def _brief(value: Any) -> str:
    """A part of an event, in a few words; `--json` has all of it."""
    match value:
        case float():
            return f"{value:.3f}"
        case list() | tuple():
            return ",".join(_pair(one) for one in value)
        case _ if hasattr(value, "traceback"):
            return f"{value.type}: {value.message}"
        case _ if hasattr(value, "__struct_fields__"):
            parts = [(name, getattr(value, name)) for name in value.__struct_fields__]
            return " ".join(f"{name}:{_brief(part)}" for name, part in parts if part not in (None, "", ()))
        case _:
            return str(value)


def _pair(value: Any) -> str:
    """An amount, a label, a capacity: a name with what it is."""
    if isinstance(value, tuple) and len(value) == 2:
        name, what = value
        return f"{name}:{what:g}" if isinstance(what, float) else f"{name}:{_brief(what)}"
    return _brief(value)


def logs(
    work_id: options.WorkIdArgument,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="The last so many.")] = 200,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Show what the steps of a work item logged by `current_step().log`: of each attempt the last
    lines, up to 4,000 characters of one that failed and 1,000 of one that was committed.

    With --json: one object a line with position (of the entry that ended the attempt), kind,
    version, at, level and text.

    Examples:

      roost logs "$WORK_ID"
    """

    async def use(runtime: Runtime) -> int:
        await runtime.client.control(work_id)
        lines = [line async for line in _log_lines(runtime, work_id)][-limit:]
        for line in lines:
            if as_json:
                print_json_line(line)
            else:
                head = f"{times.clock(line['at'])} v{line['version']} {line['kind']:14} {line['level']:7}"
                print(f"{head} {safe(line['text'], keep_lines=True)}")
        if not lines:
            say("no attempt that ended has logged anything")
        return OK

    options.run(options.settings_of(storage, home, config), use)


async def _log_lines(runtime: Runtime, work_id: str) -> AsyncIterator[dict[str, Any]]:
    """All lines that are kept, oldest first."""
    from roost.journal.events import Logged

    async for entry in runtime.client.events(work_id):
        for line in entry.event.log if isinstance(entry.event, Logged) else ():
            yield {
                "position": entry.position,
                "kind": entry.event.kind.value,
                "version": entry.control.version,
                "at": line.at,
                "level": line.level,
                "text": line.text,
            }


def history(
    work_id: options.WorkIdArgument,
    first: Annotated[
        int | None, typer.Argument(metavar="[A]", min=1, help="This version; with B: what changed from it …")
    ] = None,
    second: Annotated[int | None, typer.Argument(metavar="[B]", min=1, help="… to version B.")] = None,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List the committed versions of a work item, show one of them, or what changed between two.

    One version is an object with its `data`, `step`, `artifacts`, times and what it asked for, as
    the engine's step was given it.

    Examples:

      roost history "$WORK_ID"

      roost history "$WORK_ID" 2

      roost history "$WORK_ID" 1 3
    """

    async def use(runtime: Runtime) -> int:
        if first is None:
            await _print_versions(runtime, work_id, as_json)
        elif second is None:
            print_json((await runtime.client.snapshot(work_id, first)).model_dump(mode="json"))
        else:
            await _print_changes(runtime, work_id, first, second, as_json)
        return OK

    options.run(options.settings_of(storage, home, config), use)


async def _print_versions(runtime: Runtime, work_id: str, as_json: bool) -> None:
    versions = await runtime.client.history(work_id)
    if as_json:
        print_json([asdict(version) for version in versions])
        return
    print_table(
        ("VERSION", "STEP", "COMMITTED", "TOOK", "BY", "POSITION"),
        [
            (v.version, v.step, times.clock(v.at), times.span(v.duration_seconds), v.actor, v.position)
            for v in versions
        ],
        empty="no step is committed yet",
    )


async def _print_changes(runtime: Runtime, work_id: str, first: int, second: int, as_json: bool) -> None:
    """What changed between two versions, as a table or as JSON."""
    from roost.diff import changes

    left, right = [
        (await runtime.client.snapshot(work_id, number)).model_dump(mode="json") for number in (first, second)
    ]
    found = changes(left, right)
    if as_json:
        print_json(found)
        return
    rows = [(c["op"], c["path"], _short(c.get("old")), _short(c.get("value"))) for c in found]
    print_table(("CHANGE", "PATH", "BEFORE", "AFTER"), rows, empty="nothing changed")


def _short(value: Any) -> str:
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def diff(
    work_id: options.WorkIdArgument,
    first: Annotated[int, typer.Argument(metavar="A", help="What changed from version A …")],
    second: Annotated[int, typer.Argument(metavar="B", help="… to version B.")],
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Show what changed between two committed versions, as `roost history WORK_ID A B` does.

    With --json: a list of JSON Patch operations, those that replace or remove with `old`.

    Examples:

      roost diff "$WORK_ID" 1 3
    """

    async def use(runtime: Runtime) -> int:
        await _print_changes(runtime, work_id, first, second, as_json)
        return OK

    options.run(options.settings_of(storage, home, config), use)
