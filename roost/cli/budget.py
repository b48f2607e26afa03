"""`roost budget`: what work, its family or the namespace may use up."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli import acting, completion, options
from roost.cli.output import OK, print_json, print_table
from roost.errors import InputError

if TYPE_CHECKING:
    from roost.core.client import Client
    from roost.wiring import Runtime


def budget(
    work_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORK_ID]",
            help="The id that `roost enqueue` printed; not with --day.",
            callback=options.check_ids,
            autocompletion=completion.work_ids,
            show_default=False,
        ),
    ] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=N", help="A new limit: usd=5, steps=100; repeatable."),
    ] = None,
    family: Annotated[
        bool, typer.Option("--family", help="Of its family: all that comes of whoever began it.")
    ] = False,
    day: Annotated[
        bool, typer.Option("--day", help="Of the namespace in a day (UTC); --set names all its limits.")
    ] = False,
    clear: Annotated[bool, typer.Option("--clear", help="With --day: what the settings say again.")] = False,
    reason: acting.Reason = "",
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Show what a work item, its family, or the namespace today has used up and may use up, or
    allow it more. Work that is parked because a budget is used up goes on once the new one suffices.

    Roost counts `steps`, `attempts` and `seconds`; engines report whatever else they spend.
    With --json: an object of name to `spent` and `limit` (null: none).

    Examples:

      roost budget "$WORK_ID"

      roost budget "$WORK_ID" --set usd=5 --reason "worth it"

      roost budget "$WORK_ID" --family --set usd=50 --reason "the whole tree may go on"

      roost budget --day --set usd=100 --reason "month's end"
    """
    if (work_id is None) is not day or (day and family) or (clear and (limits or not day)):
        raise InputError(
            "one of a work item's id and --day is to be given; --family goes with the id, --clear with --day",
            hint='roost budget "$WORK_ID", or roost budget --day',
        )

    async def use(runtime: Runtime) -> int:
        client = runtime.client
        wanted = amounts(limits or [], "--set")
        if day and (wanted or clear):
            await client.set_daily_budget(wanted, reason)
        elif wanted and work_id is not None:
            await (client.set_family_budget if family else client.set_budget)(work_id, wanted, reason)
        spent, allowed = await _budget_of(client, work_id, is_family=family)
        names = sorted(spent.keys() | allowed.keys())
        if as_json:
            print_json({n: {"spent": spent.get(n, 0.0), "limit": allowed.get(n)} for n in names})
        else:
            rows = [(n, f"{spent.get(n, 0.0):g}", f"{allowed[n]:g}" if n in allowed else "-") for n in names]
            print_table(("NAME", "SPENT", "LIMIT"), rows, empty="it has no budget, and has spent nothing")
        return OK

    options.run(options.settings_of(storage, home, config), use)


async def _budget_of(
    client: Client, work_id: str | None, *, is_family: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """What was spent, and what may be: by a work item, its family, or the namespace today."""
    if work_id is not None and not is_family:
        control = await client.control(work_id)
        return dict(control.spent), dict(control.budget)
    balances = [one for one in await client.balances(work_id) if bool(one.account.root) is is_family]
    return (dict(balances[0].spent), dict(balances[0].allowed or ())) if balances else ({}, {})


def amounts(given: list[str], option: str) -> dict[str, float]:
    """`NAME=N` texts as amounts by name.

    Raises:
        InputError: one is none.
    """
    found: dict[str, float] = {}
    for text in given:
        name, _, number = text.partition("=")
        amount = _amount(number)
        if amount is None:
            raise InputError(f"{option} {text!r} names no amount", hint=f"Write {option} usd=2.5")
        if found.setdefault(name, amount) != amount:
            raise InputError(f"{option} {name} is given twice", hint="Give one.")
    return found


def _amount(text: str) -> float | None:
    """A finite number; None where it is none."""
    try:
        amount = float(text)
    except ValueError:
        return None
    return amount if isfinite(amount) else None
