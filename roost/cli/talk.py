"""`roost signal`, `signals`, `approvals`, `approve` and `tree`: talking to work, and its family."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost import times
from roost.cli import options
from roost.cli.enqueue import read_input
from roost.cli.output import OK, print_json, print_table, safe, say, styled

if TYPE_CHECKING:
    from roost.core.kin import Kin
    from roost.wiring import Runtime

_SHOWN_CHARS = 60  # of a signal's data, in a table

Data = Annotated[
    str | None, typer.Option("--data", metavar="JSON", help="JSON of at most 256 KiB, or - for stdin.")
]


def signal(
    work_id: options.WorkIdArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the work waits for, or will.")],
    data: Data = None,
    signal_id: Annotated[
        str | None, typer.Option("--signal-id", metavar="ID", help="Sent again under it, it is one signal.")
    ] = None,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Tell a work item something: durable on return, and seen by exactly one of its steps.

    It may come before the work waits for it. With --json: an object with `signal_id`,
    `position` and `is_new`.

    Examples:

      roost signal "$WORK_ID" reviewed --data '{"by": "ann"}'

      roost signal "$WORK_ID" paid --data @payment.json --signal-id payment-17
    """
    value = _parsed(data)

    async def use(runtime: Runtime) -> int:
        sent = await runtime.client.signal(work_id, name, value, signal_id=signal_id)
        if as_json:
            print_json(asdict(sent))
        else:
            say(f"signal {sent.signal_id} is stored" if sent.is_new else "it was stored before")
        return OK

    options.run(options.settings_of(storage, home, config), use)


def signals(
    work_id: options.WorkIdArgument,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List the signals of a work item, seen or not.

    With --json: objects with `signal_id`, `name`, `data`, `at`, `actor`, `position` and
    `seen_by_version` (null: no committed step has seen it).

    Examples:

      roost signals "$WORK_ID"

      roost signals "$WORK_ID" --json | jq '.[] | select(.seen_by_version == null)'
    """

    async def use(runtime: Runtime) -> int:
        found = await runtime.client.signals(work_id)
        if as_json:
            fields = [(one.signal.model_dump(mode="json"), one) for one in found]
            print_json(
                [a | {"position": one.position, "seen_by_version": one.seen_by_version} for a, one in fields]
            )
        else:
            rows = [
                (
                    times.clock(one.signal.at),
                    one.signal.name,
                    _short(one.signal.data),
                    one.signal.actor,
                    "not seen" if one.seen_by_version is None else f"seen by version {one.seen_by_version}",
                )
                for one in found
            ]
            print_table(("AT", "NAME", "DATA", "FROM", "SEEN"), rows, empty="no signals")
        return OK

    options.run(options.settings_of(storage, home, config), use)


def approvals(
    work_id: options.WorkIdArgument,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List the approvals that a work item waits for, with the tokens that answer them.

    With --json: objects with `name`, `token`, `link`, `schema`, `until`, `fails`, `version`.

    Examples:

      roost approvals "$WORK_ID"
    """

    async def use(runtime: Runtime) -> int:
        found, now = await runtime.client.approvals(work_id), runtime.parts.clock.now()
        if as_json:
            print_json([asdict(one) for one in found])
        else:
            rows = [
                (one.name, "never" if one.until is None else times.relative(one.until, now), one.link)
                for one in found
            ]
            print_table(("NAME", "EXPIRES", "LINK"), rows, empty="waits for no approval")
        return OK

    options.run(options.settings_of(storage, home, config), use)


def approve(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="From the link, or `roost approvals`.")],
    data: Data = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who answers; by default, this user.")
    ] = None,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Answer an approval: once, with the reply that it asks for; the work goes on at once.

    Exit code 5 where it was answered before, has expired or is no longer asked for.

    Examples:

      roost approve "$TOKEN" --data '{"approved": true}' --by ann
    """
    value, who = _parsed(data), by or f"user:{getpass.getuser()}"

    async def use(runtime: Runtime) -> int:
        sent = await runtime.client.approve(token, value, who)
        if as_json:
            print_json(asdict(sent))
        else:
            say("answered" if sent.is_new else "it was answered so before")
        return OK

    options.run(options.settings_of(storage, home, config), use)


def tree(
    work_id: options.WorkIdArgument,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Show a work item with its children, and theirs.

    With --json: an object with `work_id`, `key`, `engine`, `state`, `version`, `reason`,
    `child_count` and `children`, which are such objects.

    Examples:

      roost tree "$WORK_ID"

      roost tree "$WORK_ID" --json | jq '.children[] | select(.state == "failed") | .work_id'
    """

    async def use(runtime: Runtime) -> int:
        top = await runtime.client.tree(work_id)
        if as_json:
            print_json(asdict(top))
        else:
            _print_tree(top)
        return OK

    options.run(options.settings_of(storage, home, config), use)


def _print_tree(top: Kin) -> None:
    pending: list[tuple[Kin, str, str]] = [(top, "", "")]
    while pending:
        kin, mark, indent = pending.pop()
        print(f"{mark}{_line(kin)}")
        last = len(kin.children) - 1
        pending += [
            (
                child,
                indent + ("└─ " if number == last else "├─ "),
                indent + ("   " if number == last else "│  "),
            )
            for number, child in reversed(list(enumerate(kin.children)))
        ]


def _line(kin: Kin) -> str:
    state = "not there" if kin.state is None else styled(kin.state.value)
    key = f" ({safe(kin.key)})" if kin.key else ""
    reason = f", {safe(kin.reason)}" if kin.reason else ""
    cut = kin.child_count - len(kin.children)
    more = f", {cut} more children" if cut else ""
    return f"{kin.work_id}{key}  {kin.engine} {state}, version {kin.version}{reason}{more}"


def _parsed(text: str | None) -> Any:
    """The value of --data: JSON, @FILE or - for stdin; None where it is not given."""
    from roost import jsonio

    if text is None:
        return None
    is_elsewhere = text == "-" or text.startswith("@")
    raw = (
        read_input(text.removeprefix("@"), "--data")
        if is_elsewhere
        else text.encode("utf-8", "surrogateescape")
    )
    return jsonio.parse(raw, what="--data")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
