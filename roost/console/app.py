"""The console as an ASGI app: routes, errors, and the guard in front of all.

`create_app` is given an opened runtime; the same app runs under uvicorn on a laptop or in
a container, mounted in a larger app, and behind API Gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from roost.config import Settings
from roost.console import problems, urls
from roost.console.api import operations as api
from roost.console.desk import Desk, Link, Streams, desk_of
from roost.console.freshness import Looks
from roost.console.guard import Guard, known_hosts
from roost.console.html import Pages
from roost.console.pages import (
    actions,
    approve,
    artifacts,
    blobs,
    budget,
    bulk,
    detail,
    door,
    events,
    failed,
    fleet,
    lines,
    live,
    new,
    operations,
    overview,
    resources,
    schedules,
    switches,
    work,
)
from roost.console.pages import settings as settings_page
from roost.console.principal import Authenticator, Authorize
from roost.console.problems import Problem
from roost.console.pulse import Pulse
from roost.console.reads import Reads
from roost.console.redaction import Redaction
from roost.console.roles import Deed
from roost.console.routing import Door, Handler
from roost.console.sealed import Seals
from roost.console.shared import Shared
from roost.driving import Drivers
from roost.errors import RoostError
from roost.wiring import Runtime

urls.register()


def create_app(
    runtime: Runtime,
    settings: Settings,
    *,
    root_path: str = "",
    authorize: Authorize | None = None,
    authenticator: Authenticator | None = None,
    link: Link | None = None,
    drivers: Drivers | None = None,
) -> Guard:
    """Make the console.

    Args:
        runtime: opened by the caller, who closes it after the app's end; its engines, if it has
            any, check payloads that are enqueued here.
        settings: `settings.console` says who may come in.
        root_path: what stands before all paths, such as `/prod` or `/console`, where the server
            or the mount does not say so itself.
        authorize: says who sent a request, instead of `settings.console.auth`.
        authenticator: one made before, by who needs its codes.
        link: where the host can't send large answers: leads downloads of artifacts elsewhere.
        drivers: run operations in this process, too; where a process does not outlive its
            requests, workers alone do.

    Raises:
        SettingsError: anybody could act, or what signing in needs is missing.
    """
    known = authenticator or Authenticator(settings.console, runtime.parts.clock, authorize)
    desk = _desk(runtime, settings, known, link, drivers)
    app = Starlette(routes=_routes(), exception_handlers=_HANDLERS, middleware=_MIDDLEWARE)
    app.state.desk = desk
    console = settings.console
    return Guard(
        app,
        clock=runtime.parts.clock,
        authenticator=desk.authenticator,
        is_known_host=known_hosts(console.host, console.hosts),
        show=lambda scope, problem: _problem_page(desk, Request(scope), problem),
        root_path=root_path.rstrip("/"),
    )


def _desk(
    runtime: Runtime,
    settings: Settings,
    authenticator: Authenticator,
    link: Link | None,
    drivers: Drivers | None,
) -> Desk:
    clock = runtime.parts.clock
    shared = Shared(clock)
    pulse = Pulse(runtime.client, clock, shared)
    return Desk(
        runtime=runtime,
        settings=settings,
        reads=Reads(runtime.backend, runtime.client, clock, shared, settings.namespace),
        shared=shared,
        pulse=pulse,
        looks=Looks(runtime.backend, pulse, clock, shared),
        pages=_pages(),
        authenticator=authenticator,
        redaction=Redaction(settings.console.redact),
        seals=Seals(settings),
        streams=Streams(),
        link=link,
        drivers=drivers,
    )


@cache
def _pages() -> Pages:
    """One for all apps of a process: its templates are compiled once."""
    return Pages()


def _routes() -> list[BaseRoute]:
    return [
        *api.routes(),
        *_open(),
        *_looks(),
        _get("/work/new", new.ask, Deed.ENQUEUE),
        _post("/work/new", new.do, Deed.ENQUEUE),
        _post("/work/bulk", bulk.ask, Deed.ACT),
        _post("/work/bulk/do", bulk.do, Deed.ACT),
        _post("/failed/messages", failed.ask_messages, Deed.SEND_AGAIN),
        _post("/failed/messages/do", failed.end_messages, Deed.SEND_AGAIN),
        _get("/resources/limits", resources.ask_limits, Deed.LIMIT),
        _post("/resources/limits", resources.set_limits, Deed.LIMIT),
        _get("/resources/evict", resources.ask_evict, Deed.EVICT),
        _post("/resources/evict", resources.evict, Deed.EVICT),
        _get("/switches", switches.ask, Deed.SWITCH),
        _post("/switches", switches.do, Deed.SWITCH),
        _get("/budget", budget.ask, Deed.BUDGET),
        _post("/budget", budget.do, Deed.BUDGET),
        *(_get(_on_work(name), actions.ask, action.deed) for name, action in actions.ACTIONS.items()),
        *(_post(_on_work(name), actions.do, action.deed) for name, action in actions.ACTIONS.items()),
        _get("/work/{work_id:work}", detail.detail, Deed.LOOK),  # last, as an id may be any word
    ]


def _open() -> list[BaseRoute]:
    """For which nobody need sign in, and what ends a session."""
    return [
        _get("/livez", door.livez, None),
        _get("/readyz", door.readyz, None),
        _get("/static/{build}/{name}", door.static, None),
        _get("/login", door.login, None),
        _post("/login", door.sign_in, None),
        _post("/logout", door.sign_out, Deed.LOOK),
        _get("/approve/{token}", approve.ask, None),
        _post("/approve/{token}", approve.answer, None),
    ]


def _looks() -> list[BaseRoute]:
    """Pages on which nothing is done."""
    artifact = "/work/{work_id:work}/artifacts/{place:int}"
    pages = {
        "/": overview.overview,
        "/stream": live.stream,
        "/work": work.work,
        "/failed": failed.failed,
        "/operations": operations.operations,
        "/operations/{work_id:work}": operations.operation,
        "/events": events.events,
        "/artifacts": blobs.blobs,
        "/artifacts/{digest:digest}": blobs.blob,
        "/conversations": lines.lines,
        "/workspaces": lines.workspaces,
        "/resources": resources.resources,
        "/workers": fleet.workers,
        "/schedules": schedules.schedules,
        "/engines": fleet.engines,
        "/settings": settings_page.settings,
        artifact: artifacts.preview,
        f"{artifact}/download": artifacts.download,
        f"{artifact}/image": artifacts.image,
    }
    return [_get(path, handler, Deed.LOOK) for path, handler in pages.items()]


def _get(path: str, handler: Handler, deed: Deed | None) -> Door:
    return Door(path, handler, deed, ["GET"])


def _post(path: str, handler: Handler, deed: Deed | None) -> Door:
    return Door(path, handler, deed, ["POST"])


def _on_work(verb: str) -> str:
    return f"/work/{{work_id:work}}/{verb}"


def _problem_page(desk: Desk, request: Request, problem: Problem) -> Response:
    frame = desk.frame(request, problem=problem)
    body = desk.pages.render("problem.html", frame)
    return Response(
        body, status_code=problem.status, media_type="text/html; charset=utf-8", headers=problem.headers()
    )


def _answer(request: Request, problem: Problem) -> Response:
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    if path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return problem.response()
    return _problem_page(desk_of(request), request, problem)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _answer(request, error)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RoostError)
    return _answer(request, problems.of_error(error))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == problems.not_found().status:
        return _answer(request, problems.not_found())
    return _answer(request, problems.of_status(error.status_code, error.detail, error.headers or {}))


async def _on_bug(request: Request, error: Exception) -> Response:
    return _answer(request, problems.bug())


# Downloads go out as they are kept: their length and hash are told beforehand, and most are packed already.
_MIDDLEWARE = [
    Middleware(
        GZipMiddleware,
        minimum_size=1000,
        compresslevel=4,
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream"),
    )
]
_HANDLERS: Mapping[Any, Any] = {
    Problem: _on_problem,
    RoostError: _on_error,
    HTTPException: _on_http,
    Exception: _on_bug,
}
