"""What a shell offers for a word that is being typed: ids of work items, and engines.

Asked for in the middle of a line, so it is quick or gives nothing: a bounded number of rows from the
storage that the line and the settings name, within a second, and never a word about what failed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from roost.config import Settings
    from roost.journal.entries import IndexRow

IDS_MAX = 50
PATIENCE_SECONDS = 1.0
ENGINE_POINTS = "roost.engines"


def work_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The newest work items whose id begins so, each with its engine and state."""
    before = logging.root.manager.disable
    logging.disable()  # a prompt is no place for warnings
    try:
        rows = _rows(context, incomplete)
    except Exception:  # noqa: BLE001  the entry point of a program that may only answer
        return []
    finally:
        logging.disable(before)
    given = set(context.params.get("work_ids") or ())
    return [(row.work_id, f"{row.engine}, {row.state}") for row in rows if row.work_id not in given]


def _rows(context: typer.Context, incomplete: str) -> Sequence[IndexRow]:
    import asyncio

    from roost.cli import options

    told = {name: context.params.get(name) for name in ("storage", "home", "config")}
    settings = options.settings_of(told["storage"], _path(told["home"]), _path(told["config"]))
    options.REMOTE.url = context.find_root().params.get("url") or os.environ.get("ROOST_URL")
    if options.REMOTE.url is None and not _is_there(settings):
        return ()
    return asyncio.run(_listed(settings, incomplete))


def _path(given: object) -> Path | None:
    return None if given is None else Path(str(given))


def _is_there(settings: Settings) -> bool:
    """Whether there is a storage to look into; to look must not make one."""
    scheme, _, place = settings.storage.partition(":")
    if scheme != "local":
        return scheme != "memory"
    return (Path(place.removeprefix("//") or settings.home).expanduser() / "roost.db").exists()


async def _listed(settings: Settings, incomplete: str) -> Sequence[IndexRow]:
    import asyncio

    from roost.cli import options
    from roost.storage.query import IndexQuery
    from roost.wiring import Runtime

    found: list[IndexRow] = []

    async def use(runtime: Runtime) -> int:
        query = IndexQuery(id_prefix=incomplete or None)
        found.extend((await runtime.client.list(query, limit=IDS_MAX)).rows)
        return 0

    async with asyncio.timeout(PATIENCE_SECONDS):
        await options.opened(settings, use)
    return found


def engines(incomplete: str) -> list[str]:
    """Installed engines, of a list the last one; nothing of them is loaded."""
    from importlib.metadata import entry_points

    before, comma, last = incomplete.rpartition(",")
    names = sorted(point.name for point in entry_points(group=ENGINE_POINTS))
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]
