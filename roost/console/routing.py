"""Routes that say what it takes to come through; nobody else gets to their handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roost.console.desk import Desk
from roost.console.guard import principal_of
from roost.console.principal import Principal
from roost.console.problems import forbidden
from roost.console.roles import Deed, lacks, on_work

Handler = Callable[[Request], Awaitable[Response]]


class Door(Route):
    """A route with the deed that it stands for; None: it needs no sign-in, or brings its own proof."""

    def __init__(self, path: str, handler: Handler, deed: Deed | None, methods: Sequence[str]) -> None:
        self.deed = deed
        super().__init__(path, handler if deed is None else _for(handler, deed), methods=list(methods))


def _for(handler: Handler, deed: Deed) -> Handler:
    async def checked(request: Request) -> Response:
        check(principal_of(request.scope), deed)
        return await handler(request)

    return checked


def check(principal: Principal, deed: Deed | None) -> None:
    """Let nobody on who lacks the role.

    Raises:
        Problem: 403, which names the role that it takes.
    """
    needed = None if deed is None else lacks(principal.role, deed)
    if deed is not None and needed is not None:
        raise forbidden(principal.role, needed, deed)


async def check_on_work(desk: Desk, principal: Principal, work_id: str, verb: str) -> None:
    """Let nobody act on Roost's own work who may not; whoever may do all costs no read.

    Raises:
        Problem: 403, as `check`.
        WorkNotFound: there is no such work.
    """
    if lacks(principal.role, Deed.OWN_WORK) is not None:
        check(principal, on_work((await desk.reads.view(work_id)).item.engine, verb))
