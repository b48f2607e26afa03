"""`roost explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.cli import options
from roost.cli.output import OK, plain, print_json, safe

if TYPE_CHECKING:
    from roost.wiring import Runtime


def explain(
    work_id: options.WorkIdArgument,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Say in one sentence why a work item is not moving, and in another what happens if its
    worker dies now.

    With --json: an object with `work_id`, `cause` (a word), `text`, `if_worker_dies` and
    `next_at` (epoch seconds, or null).

    Examples:

      roost explain "$WORK_ID"

      roost explain "$WORK_ID" --json | jq -r .cause
    """

    async def use(runtime: Runtime) -> int:
        found = await runtime.client.explain(work_id)
        if as_json:
            print_json({"work_id": work_id, **plain(found)})
        else:
            print(safe(found.text))
            print(safe(found.if_worker_dies))
        return OK

    options.run(options.settings_of(storage, home, config), use)
