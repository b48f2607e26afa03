"""The live feed of all journals."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from roost.console import told
from roost.console.desk import Desk, desk_of, int_of
from roost.console.pulse import KEPT_MAX, Numbered
from roost.console.reads import COUNT_SECONDS
from roost.core import deeds, switches
from roost.journal.entries import Entry
from roost.journal.events import DailySet, Operated, Switched

LIMIT = 75
DEEDS_MAX = 100


async def events(request: Request) -> Response:
    """`GET /events`, with `engine`, `kind`, `actor` as filters; `by=people`: who did what."""
    desk = desk_of(request)
    await desk.pulse.refresh()
    limit = int_of(request, "limit", LIMIT, low=1, high=KEPT_MAX)
    wanted = {name: request.query_params.get(name, "").strip() for name in ("engine", "kind", "actor")}
    is_audit = request.query_params.get("by") == "people"
    all_of_it = await acts(desk) if is_audit else desk.pulse.newest(KEPT_MAX)
    found = [numbered for numbered in all_of_it if _matches(numbered, wanted)]
    return await desk.page(
        request,
        "events.html",
        lines=[(numbered.number, told.tell(numbered.entry)) for numbered in found[:limit]],
        more=len(found) > limit,
        limit=limit,
        wanted=wanted,
        kinds=sorted({numbered.entry.event.kind.value for numbered in desk.pulse.entries}),
        engines=desk.pulse.engines(),
        kept=len(all_of_it),
        kept_max=KEPT_MAX,
        is_audit=is_audit,
        covers_from=desk.pulse.covers_from,
        read_up_to=desk.pulse.read_up_to,
    )


async def acts(desk: Desk) -> Sequence[Numbered]:
    """What people and programs did: to work, to engines and lanes, to resources; newest first."""

    async def ask() -> Sequence[Entry]:
        journal = desk.runtime.backend.journal
        names = (switches.JOURNAL_ID, deeds.journal_id(desk.settings.namespace, desk.now))
        pages = [await journal.read(name, limit=DEEDS_MAX, newest_first=True) for name in names]
        return [entry for page in pages for entry in page]

    read = await desk.shared.get("deeds", ask, for_seconds=COUNT_SECONDS)
    known = {(one.entry.work_id, one.entry.position) for one in desk.pulse.acts}
    others = [one for one in read if _is_ours(desk, one) and (one.work_id, one.position) not in known]
    both = [*desk.pulse.acts, *(Numbered(0, entry) for entry in others)]
    return sorted(both, key=lambda one: -one.entry.at)


def _is_ours(desk: Desk, entry: Entry) -> bool:
    """Whether a deed is one in the console's namespace, or of a lane, which is everybody's."""
    match entry.event:
        case Switched(target=target):
            return target.startswith(desk.engine_target("")) or not target.startswith("engine:")
        case DailySet(namespace=namespace):
            return namespace == desk.settings.namespace
        case event:
            return isinstance(event, Operated)


def _matches(numbered: Numbered, wanted: dict[str, str]) -> bool:
    entry = numbered.entry
    return (
        wanted["engine"] in ("", entry.control.engine)
        and wanted["kind"] in ("", entry.event.kind.value)
        and wanted["actor"] in entry.actor
    )
