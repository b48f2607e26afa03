"""Operations: what is done to many work items, how far it is, and what it could not act on."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import Desk, desk_of
from roost.console.pages.bulk import VERBS
from roost.core import operating
from roost.core.operating import OperationView

LIST_MAX = 50
LIST_SECONDS = 1.0
COST_FACTOR = 20.0  # each is read from its journal


async def operations(request: Request) -> Response:
    """`GET /operations`."""
    desk = desk_of(request)
    found = await newest(desk)
    return await desk.page(request, "operations.html", operations=found, verbs=VERBS, limit=LIST_MAX)


async def newest(desk: Desk) -> Sequence[OperationView]:
    """The newest operations; those that nobody works on are taken up."""

    async def ask() -> Sequence[OperationView]:
        return await operating.list_operations(desk.runtime.client, limit=LIST_MAX)

    found = await desk.shared.get("operations", ask, for_seconds=LIST_SECONDS, cost_factor=COST_FACTOR)
    for view in found:
        if not view.state.is_terminal:
            desk.take_up(view.work_id)
    return found


async def operation(request: Request) -> Response:
    """`GET /operations/{work_id}`."""
    desk = desk_of(request)
    view = await operating.look(desk.runtime.client, request.path_params["work_id"])
    if not view.state.is_terminal:
        desk.take_up(view.work_id)
    return await desk.page(
        request, "operation.html", view=view, one=view.operation, verb=VERBS[view.operation.action]
    )
