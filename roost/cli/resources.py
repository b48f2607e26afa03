"""`roost resources list|show|set|close|open|evict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost import times
from roost.cli import acting, options
from roost.cli.output import NOT_FOUND, OK, plain, print_json, print_table, safe, say
from roost.errors import InputError

if TYPE_CHECKING:
    from roost.journal.claims import ResourceView
    from roost.journal.limits import Change, Limits, Rate
    from roost.wiring import Runtime

LIST_MAX = 10_000
_SHOWN_MAX = 3  # owners and waiters that a line of the list names

app = typer.Typer(
    no_args_is_help=True, help="See who holds and who waits for resources; limit, close and open them."
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The resource, as in --resource.")]


@app.command("list")
def list_resources(
    limit: Annotated[int, typer.Option("--limit", min=1, max=LIST_MAX, help="At most so many.")] = 100,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List the resources that are held, waited for or limited.

    Examples:

      roost resources list

      roost resources list --json
    """

    async def use(runtime: Runtime) -> int:
        views, now = await runtime.client.resources(limit=limit), runtime.parts.clock.now()
        if as_json:
            print_json([plain(view) for view in views])
        else:
            rows = [
                (
                    view.resource,
                    _names([owner.work_id for owner in view.owners]),
                    _names([waiter.work_id for waiter in view.waiters]),
                    limits_text(view.limits, now),
                )
                for view in views
            ]
            print_table(("RESOURCE", "HELD BY", "WAITING", "LIMITS"), rows, empty="no resources in use")
        return OK

    options.run(options.settings_of(storage, home, config), use)


def _names(work_ids: list[str]) -> str:
    more = len(work_ids) - _SHOWN_MAX
    return ", ".join(work_ids[:_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def limits_text(limits: Limits, now: float) -> str:
    """The limits of a resource in words; empty where there are none."""
    found = []
    if limits.capacity is not None:
        found.append(f"capacity {limits.capacity}")
    if limits.rate is not None:
        found.append(f"{limits.rate.count} in {times.span(limits.rate.period_seconds)}")
    if limits.closed_until is not None and limits.closed_until > now:
        found.append(_closed_text(limits, now))
    return ", ".join(found)


def _closed_text(limits: Limits, now: float) -> str:
    from roost.journal.limits import FOREVER_AT

    assert limits.closed_until is not None
    is_endless = limits.closed_until >= FOREVER_AT
    end = "until it is opened" if is_endless else f"opens {times.relative(limits.closed_until, now)}"
    return f"closed by {limits.closed_by or 'somebody'}, {end}"


@app.command("show")
def show_resource(
    name: NameArgument,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Show one resource: who holds it, who waits for it in which order, and its limits.

    Exit code 3 where it is neither held, waited for nor limited.

    Examples:

      roost resources show llm:gpt --json
    """

    async def use(runtime: Runtime) -> int:
        views, now = await runtime.client.resources(name), runtime.parts.clock.now()
        if not views:
            say(f"resource {name!r} is free: nobody holds it or waits for it, and nothing limits it")
            return NOT_FOUND
        if as_json:
            print_json(plain(views[0]))
        else:
            _print_view(views[0], now)
        return OK

    options.run(options.settings_of(storage, home, config), use)


def _print_view(view: ResourceView, now: float) -> None:
    lines = [("resource", view.resource), ("limits", limits_text(view.limits, now) or "none set")]
    lines += [("held by", f"{owner.work_id}  scope {owner.scope.value}") for owner in view.owners]
    for number, waiter in enumerate(view.waiters, start=1):
        text = f"{number}. {waiter.work_id}  since {times.relative(waiter.since, now)}"
        if waiter.called_at is not None:
            text += f", its turn {times.relative(waiter.called_at, now)}"
        lines.append(("waits", text))
    for label, text in lines:
        print(f"{label + ':':11} {safe(text)}")


@app.command("set")
def set_resource(
    name: NameArgument,
    capacity: Annotated[
        str | None,
        typer.Option("--capacity", metavar="N", help="So many may hold it at a time; `none`: as enqueued."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="N/TIME", help="So many steps may start in a time: 60/1m; or `none`."),
    ] = None,
    reason: acting.Reason = "",
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Set how many may hold a resource, or how often steps may start with it; holds at once.

    Who holds it keeps it. The capacity set here wins over that of --resource NAME=N.

    Examples:

      roost resources set llm:gpt --capacity 5 --rate 60/1m

      roost resources set llm:gpt --rate none
    """
    from roost.journal.limits import SetCapacity, SetRate

    changes: list[Change] = []
    if capacity is not None:
        changes.append(SetCapacity(None if capacity == "none" else _whole(capacity, "--capacity")))
    if rate is not None:
        changes.append(SetRate(None if rate == "none" else rate_of(rate)))
    if not changes:
        raise InputError("nothing to set", hint="Add --capacity N or --rate N/TIME.")
    _apply(name, changes, reason, storage, home, config)


def _whole(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{what}: {text!r} is no whole number") from None


def rate_of(text: str) -> Rate:
    """The rate of a text such as `60/1m` or `5/s`.

    Raises:
        InputError: it is none.
    """
    from roost.journal.limits import Rate

    count, mark, period = text.partition("/")
    if not mark:
        raise InputError(f"--rate: {text!r} is no rate", hint="Write a number and a time: 60/1m, or 5/s.")
    if period[:1].isalpha():
        period = f"1{period}"
    return Rate(_whole(count, "--rate"), times.seconds(period, "--rate"))


@app.command("close")
def close_resource(
    name: NameArgument,
    lasting: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="So long: 30s, 5m. Without it, until it is opened."),
    ] = None,
    reason: acting.Reason = "",
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Let no step start with a resource for some time; work that needs it parks.

    No attempt is burned and no worker's lane is held meanwhile. Steps under way go on.

    Examples:

      roost resources close llm:gpt --for 5m
    """
    from roost.journal.limits import FOREVER_AT, Close

    seconds = None if lasting is None else times.seconds(lasting, "--for")

    def change(now: float) -> Change:
        return Close(FOREVER_AT if seconds is None else now + seconds, "an operator")

    _apply(name, [change], reason, storage, home, config)


@app.command("open")
def open_resource(
    name: NameArgument,
    reason: acting.Reason = "",
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Open a resource that was closed, and wake who waits for that.

    Examples:

      roost resources open llm:gpt
    """
    from roost.journal.limits import Open

    _apply(name, [Open()], reason, storage, home, config)


@app.command("evict")
def evict_owner(
    name: NameArgument,
    work_id: options.WorkIdArgument,
    reason: acting.Reason = "",
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Take a resource away from a work item, with all else that it holds.

    Its worker can't commit any more; the work goes on from its last version once it has its
    resources again. Dead owners are evicted without you. Exit code 5 if it does not hold it.

    Examples:

      roost resources evict llm:gpt "$WORK_ID"
    """

    async def use(runtime: Runtime) -> int:
        await runtime.client.evict(name, work_id, reason)
        return OK

    options.run(options.settings_of(storage, home, config), use)


def _apply(name: str, changes: list[Any], reason: str, storage: Any, home: Any, config: Any) -> None:
    """Make changes one after the other; those that depend on the time are functions of it."""

    async def use(runtime: Runtime) -> int:
        for change in changes:
            made = change(runtime.parts.clock.now()) if callable(change) else change
            await runtime.client.change_resource(name, made, reason)
        return OK

    options.run(options.settings_of(storage, home, config), use)
