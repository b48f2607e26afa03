"""What the commands share that act on work: by id, or on all that a filter matches."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost import times
from roost.cli import options
from roost.cli.output import CONFLICT, OK, is_terminal, plain, print_json_line, safe, say
from roost.errors import ConflictError, InputError, WorkNotFound
from roost.names import NAMESPACE_MARK, State, check_id

if TYPE_CHECKING:
    from roost.core.bulk import Action, Part, Selection
    from roost.core.client import Client
    from roost.wiring import Runtime

IdsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[WORK_ID...]", help="Work items; or choose them by a filter.", callback=options.check_ids
    ),
]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the journal, with your name.")
]
StateOption = Annotated[State | None, typer.Option("--state", help="All in this state.")]
EngineOption = Annotated[str | None, typer.Option("--engine", metavar="NAME", help="All of this engine.")]
Prefix = Annotated[str | None, typer.Option("--prefix", metavar="TEXT", help="All whose ids begin so.")]
Label = Annotated[str | None, typer.Option("--label", metavar="NAME=VALUE", help="All with this label.")]
Why = Annotated[
    str | None, typer.Option("--why", metavar="TEXT", help="All with this text in the reason of their state.")
]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="TIME", help="All in their state for so long: 7d.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask; needed for a filter where nobody can answer.")]
Cursor = Annotated[str | None, typer.Option("--cursor", metavar="TEXT", help="Go on where a run broke off.")]


@dataclass(frozen=True, slots=True)
class Filter:
    """What was given to choose work by."""

    state: State | None = None
    engine: str | None = None
    prefix: str | None = None
    label: str | None = None
    why: str | None = None
    older_than: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether anything was."""
        return self != Filter()

    def selection(self, now: float) -> Selection:
        """As the core takes it.

        Raises:
            InputError: something in it is not well-formed.
        """
        from roost.core.bulk import Selection
        from roost.storage.ports import IndexQuery

        if self.engine:
            check_id(self.engine, "--engine")
        if self.prefix:
            check_id(self.prefix.rpartition(NAMESPACE_MARK)[2] or "-", "--prefix")
        label = None
        if self.label is not None:
            name, mark, value = self.label.partition("=")
            if not mark:
                raise InputError(f"--label {self.label!r} has no =", hint="Write --label NAME=VALUE.")
            label = (name, value)
        since = None if self.older_than is None else now - times.seconds(self.older_than, "--older-than")
        query = IndexQuery(state=self.state, engine=self.engine, id_prefix=self.prefix, label=label)
        return Selection(query, since, self.why or "")


@dataclass(frozen=True, slots=True)
class Deed:
    """What is to be done, to which work.

    Attributes:
        one: does it to one work item.
        options: for `Client.bulk`.
    """

    action: Action
    reason: str
    one: Callable[[Client, str], Awaitable[Any]]
    options: dict[str, Any]
    is_dry_run: bool = False
    is_confirmed: bool = False
    cursor: str | None = None
    as_json: bool = False


async def act(runtime: Runtime, deed: Deed, ids: list[str], chosen: Filter) -> int:
    """Do it to the named work items, or to all that match.

    Raises:
        InputError: neither or both are given, or nobody said yes.
    """
    if bool(ids) is chosen.is_given:
        raise InputError(
            f"nothing says what to {deed.action}" if not ids else "both ids and a filter are given",
            hint=f"roost {deed.action} WORK_ID, or a filter: `roost {deed.action} --help`.",
        )
    if ids:
        return await _named(runtime, deed, ids)
    return await _matching(runtime, deed, chosen.selection(runtime.parts.clock.now()))


async def _named(runtime: Runtime, deed: Deed, ids: list[str]) -> int:
    """Each by itself; the only one's fault is the command's."""
    if len(ids) == 1 and not deed.is_dry_run:
        await deed.one(runtime.client, ids[0])
        _tell(deed, Done(ids, []))
        return OK
    done: list[str] = []
    skipped: list[tuple[str, str]] = []
    for work_id in ids:
        try:
            if deed.is_dry_run:
                await runtime.client.control(work_id)
            else:
                await deed.one(runtime.client, work_id)
            done.append(work_id)
        except (ConflictError, WorkNotFound) as error:
            skipped.append((work_id, str(error)))
    _tell(deed, Done(done, skipped))
    return CONFLICT if skipped else OK


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a part; a line of --json."""

    done: list[str]
    skipped: list[tuple[str, str]]
    cursor: str | None = None


async def _matching(runtime: Runtime, deed: Deed, selection: Selection) -> int:
    if not deed.is_dry_run and not deed.is_confirmed:
        await _confirm(runtime, deed, selection)
    run = runtime.client.bulk(
        deed.action,
        selection,
        deed.reason,
        cursor=deed.cursor,
        is_dry_run=deed.is_dry_run,
        **deed.options,
    )
    done = skipped = 0
    async for part in run:
        _tell(deed, _as_done(part))
        done, skipped = done + len(part.done), skipped + len(part.skipped)
        if part.cursor is not None and is_terminal():
            say(f"{done} so far; if this breaks off, go on with --cursor {part.cursor}")
    would = "would be " if deed.is_dry_run else ""
    say(f"{done} {would}{_PAST[deed.action]}" + (f", {skipped} skipped" if skipped else ""))
    return OK


def _as_done(part: Part) -> Done:
    return Done(list(part.done), list(part.skipped), part.cursor)


_PAST = {
    "cancel": "cancelled",
    "pause": "paused",
    "resume": "resumed",
    "retry": "retried",
    "purge": "purged",
}


def _tell(deed: Deed, done: Done) -> None:
    if deed.as_json:
        print_json_line(plain(done))
        return
    for work_id in done.done:
        print(safe(work_id))
    for work_id, why in done.skipped:
        say(f"skipped {work_id}: {why}")


async def _confirm(runtime: Runtime, deed: Deed, selection: Selection) -> None:
    """Ask whoever sits there.

    Raises:
        InputError: nobody does, or they said no.
    """
    if not (sys.stdin.isatty() and is_terminal()):
        raise InputError(
            f"this would {deed.action} all work that matches, and nobody can be asked",
            hint="Look with --dry-run first, then add --yes.",
        )
    count = 0
    async for part in runtime.client.bulk(deed.action, selection, "", is_dry_run=True, cursor=deed.cursor):
        count += len(part.done)
    if not typer.confirm(f"{deed.action} {count} work items?"):
        raise InputError("nothing was done")
