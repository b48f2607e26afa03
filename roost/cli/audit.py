"""`roost audit`: what operators did that is in no work item's history."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from roost import times
from roost.cli import options
from roost.cli.output import OK, plain, print_json, print_table

if TYPE_CHECKING:
    from roost.wiring import Runtime

_DETAILS_SHOWN = 60  # characters in a table


def audit(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most so many.")] = 50,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List what operators did that no work item's history tells, newest first: who, what and why.

    Purges, evictions, limits of resources, pauses of engines and lanes, budgets of days, and
    messages that were sent again or dropped. All else is in the history of the work that it was
    done to: `roost events "$WORK_ID"`.
    With --json: a list of objects with at, actor, what, target, reason and details.

    Examples:

      roost audit --limit 20
    """

    async def use(runtime: Runtime) -> int:
        found = await runtime.client.deeds(limit=limit)
        if as_json:
            print_json([asdict(deed) for deed in found])
            return OK
        rows = [
            (
                times.clock(deed.at),
                plain(deed.actor),
                deed.what,
                plain(deed.target),
                plain(deed.details[:_DETAILS_SHOWN]),
                plain(deed.reason),
            )
            for deed in found
        ]
        print_table(("AT", "WHO", "WHAT", "TO WHAT", "DETAILS", "WHY"), rows, empty="nothing yet")
        return OK

    options.run(options.settings_of(storage, home, config), use)
