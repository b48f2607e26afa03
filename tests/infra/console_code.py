"""The console itself, asked for everything that it shows: what `test_roles` has its roles do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import httpx2
from starlette.routing import Route, replace_params

from roost.config import ConsoleSettings, Settings
from roost.console.app import create_app
from roost.console.guard import Guard
from roost.console.links import link_of
from roost.console.pages.actions import ACTIONS
from roost.console.urls import segment
from roost.wiring import Runtime

NEVER_ENDING = "/stream"
OF_PEOPLE = ("/login", "/static/{build}/{name}")  # nothing of the storage is read for them
NO_PICTURE = "/work/{work_id:work}/artifacts/{place:int}/image"
DOCTOR = ("/settings", "/api/v1/settings")
"""What `roost doctor` finds: it looks at definitions, and tries rights, which no role is to have for it."""
QUERIES = {
    "/resources/limits": "?resource=printer",
    "/resources/evict": "?resource=printer&work_id=w",
    "/switches": "?kind=engine&name=demo&to=pause",
}
_HERE = ("127.0.0.1", 5000)


def web_of(runtime: Runtime, settings: Settings) -> httpx2.AsyncClient:
    """A browser at a console on a runtime."""
    app = create_app(
        runtime, settings.model_copy(update={"console": ConsoleSettings()}), link=link_of(runtime)
    )
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, client=_HERE),
        base_url="http://127.0.0.1:8319",
        headers={"Accept": "text/html"},
    )


async def visit(
    runtime: Runtime, settings: Settings, places: Mapping[str, str | int], *, but: Collection[str] = ()
) -> dict[str, int]:
    """Ask for every page, and for every read of the API.

    Args:
        places: what stands for the parameters of paths, by their names; `operation` for that of an
            operation.
        but: routes to leave out.

    Returns:
        The status of each answer, by path.
    """
    found: dict[str, int] = {}
    async with web_of(runtime, settings) as web:
        for route, path in _paths(web, places):
            if route in but:
                continue
            answer = await web.get(path)
            is_right = route == NO_PICTURE and answer.status_code == httpx2.codes.NOT_FOUND
            found[route] = httpx2.codes.OK if is_right else answer.status_code
    return found


def _paths(web: httpx2.AsyncClient, places: Mapping[str, str | int]) -> Iterator[tuple[str, str]]:
    for route in _routes(web):
        if "GET" not in (route.methods or ()) or route.path in (NEVER_ENDING, *OF_PEOPLE):
            continue
        given = {**places, "work_id": places["operation"]} if "operations" in route.path else {**places}
        for action in ACTIONS if "action" in route.param_convertors else ("",):
            named = {name: action if name == "action" else given[name] for name in route.param_convertors}
            path, _ = replace_params(route.path_format, route.param_convertors, named)
            yield route.path, path + QUERIES.get(route.path, "")


def _routes(web: httpx2.AsyncClient) -> list[Route]:
    transport: Any = web._transport
    guard: Guard = transport.app
    app: Any = guard.app
    return [route for route in app.routes if isinstance(route, Route)]


async def write(runtime: Runtime, settings: Settings) -> None:
    """Writes of the API under idempotency keys, each sent twice."""
    async with web_of(runtime, settings) as web:
        made = [await _post(web, "/work", {"engine": "demo", "payload": {}}) for _ in range(2)]
        assert made[0]["work_id"] == made[1]["work_id"]
        for _ in range(2):
            await _post(web, f"/work/{segment(made[0]['work_id'])}/signal", {"name": "hello", "data": {}})


async def _post(web: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Idempotency-Key": path, "Accept": "application/json"}
    answer = await web.post(f"/api/v1{path}", json=body, headers=headers)
    assert answer.is_success, answer.text
    document: dict[str, Any] = answer.json()
    return document
