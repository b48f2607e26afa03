"""What the commands share that act on work: by id, or on all that a filter matches."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost import times
from roost.cli import completion, operations, options
from roost.cli.output import CONFLICT, OK, is_terminal, plain, print_json_line, safe, say
from roost.errors import ConflictError, InputError, RoostError, WorkNotFound
from roost.names import NAMESPACE_MARK, State, check_id

if TYPE_CHECKING:
    from roost.core import where as filters
    from roost.core.bulk import Action, Part
    from roost.core.client import Client
    from roost.wiring import Runtime

IdsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[WORK_ID...]",
        help="Work items; or choose them by a filter.",
        callback=options.check_ids,
        autocompletion=completion.work_ids,
    ),
]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the journal, with your name.")
]
StateOption = Annotated[State | None, typer.Option("--state", help="All in this state.")]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", metavar="NAME", help="All of this engine.", autocompletion=completion.engines),
]
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
Where = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="FILTER", help="All that match, as in the console: 'attempts>2 -lane:low'."
    ),
]


@dataclass(frozen=True, slots=True)
class Filter:
    """What was given to choose work by."""

    state: State | None = None
    engine: str | None = None
    prefix: str | None = None
    label: str | None = None
    why: str | None = None
    older_than: str | None = None
    where: str | None = None
    parent: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether anything was."""
        return self != Filter()

    @property
    def text(self) -> str:
        """As one filter.

        Raises:
            InputError: something in it is not well-formed.
        """
        from roost.core import where as filters

        if self.engine:
            check_id(self.engine, "--engine")
        if self.prefix:
            check_id(self.prefix.rpartition(NAMESPACE_MARK)[2] or "-", "--prefix")
        if self.label is not None and "=" not in self.label:
            raise InputError(f"--label {self.label!r} has no =", hint="Write --label NAME=VALUE.")
        if self.older_than is not None:
            times.seconds(self.older_than, "--older-than")
        named = (
            ("state", self.state and self.state.value),
            ("engine", self.engine),
            ("id", self.prefix),
            ("label", self.label),
            ("parent", self.parent),
        )
        tokens = [filters.token(name, value) for name, value in named if value]
        if self.why:
            tokens.append(filters.containing("reason", self.why))
        if self.older_than is not None:
            tokens.append(f"since>{self.older_than.replace(' ', '')}")
        return " ".join([*tokens, self.where or ""]).strip()


@dataclass(frozen=True, slots=True)
class Deed:
    """What is to be done, to which work.

    Attributes:
        one: does it to one work item.
        by_seconds, for_seconds, version: see `bulk.How`.
    """

    action: Action
    reason: str
    one: Callable[[Client, str], Awaitable[Any]]
    is_dry_run: bool = False
    is_confirmed: bool = False
    as_json: bool = False
    by_seconds: float | None = None
    for_seconds: float | None = None
    version: int | None = None


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
    return await _matching(runtime, deed, chosen.text)


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
        except _of_one(deed) as error:
            skipped.append((work_id, str(error)))
    _tell(deed, Done(done, skipped))
    return CONFLICT if skipped else OK


def _of_one(deed: Deed) -> tuple[type[RoostError], ...]:
    """What may be wrong with one of many only; such as that it lacks the version to go on from."""
    faults = (ConflictError, WorkNotFound)
    return faults if deed.version is None else (*faults, InputError)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a part; a line of --json. `operation`: the work item that did it."""

    done: list[str]
    skipped: list[tuple[str, str]]
    operation: str | None = None


async def _matching(runtime: Runtime, deed: Deed, text: str) -> int:
    """All that match: looked at, or by an operation that is followed here."""
    from roost.core import where as filters
    from roost.core.operating import Operation

    now = runtime.parts.clock.now()
    where = filters.parse(text, now)
    if deed.is_dry_run:
        count = 0
        async for part in runtime.client.bulk(deed.action, where, "", is_dry_run=True):
            _tell(deed, Done(list(part.done), []))
            count += len(part.done)
        say(f"{count} would be {_PAST[deed.action]}")
        return OK
    expected = None if deed.is_confirmed else await _confirm(runtime, deed, where)
    operation = Operation(
        action=deed.action,
        where=text,
        reason=deed.reason,
        actor=runtime.client.actor,
        at=now,
        by_seconds=deed.by_seconds,
        for_seconds=deed.for_seconds,
        version=deed.version,
        expected=expected,
    )
    work_id = await operations.begin(runtime, operation)
    say(f"operation {work_id}; if this breaks off, go on with `roost operations follow {work_id}`")
    return await operations.follow(runtime, work_id, lambda part: _tell(deed, _as_done(part, work_id)))


def _as_done(part: Part, operation: str) -> Done:
    return Done(list(part.done), list(part.skipped), operation)


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


async def _confirm(runtime: Runtime, deed: Deed, where: filters.Where) -> int:
    """Ask whoever sits there; how many there are.

    Raises:
        InputError: nobody does, or they said no.
    """
    if not (sys.stdin.isatty() and is_terminal()):
        raise InputError(
            f"this would {deed.action} all work that matches, and nobody can be asked",
            hint="Look with --dry-run first, then add --yes.",
        )
    count = 0
    async for part in runtime.client.bulk(deed.action, where, "", is_dry_run=True):
        count += len(part.done)
    if not typer.confirm(f"{deed.action} {count} work items?"):
        raise InputError("nothing was done")
    return count
