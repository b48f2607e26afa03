"""`roost export`: work items in one file, to be looked at elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli import options
from roost.cli.output import OK, print_json, say

if TYPE_CHECKING:
    from roost.wiring import Runtime


def export(
    work_ids: options.WorkIdsArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The bundle; a file there is replaced.")
    ] = Path("bundle.roost"),
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Write work items with their whole history and their artifacts into one file, which
    `roost ui --bundle FILE` shows, read-only, on any machine. With --json: `entries` and `path`.

    What the file holds is what the storage holds: nothing is redacted.

    Examples:

      roost export "$WORK_ID" --output incident.roost

      roost ui --bundle incident.roost
    """

    async def use(runtime: Runtime) -> int:
        from roost.core import bundles

        count = await bundles.save(runtime.client, runtime.backend, work_ids, output)
        if as_json:
            print_json({"entries": count, "path": str(output)})
        else:
            say(f"{count} entries of {len(work_ids)} work items are in {output}")
        return OK

    options.run(options.settings_of(storage, home, config), use)
