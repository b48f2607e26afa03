"""What needs no work: health, files, signing in and out."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from roost.console.desk import desk_of
from roost.console.guard import principal_of
from roost.console.pages.actions import form_of, to
from roost.console.principal import COOKIE, SESSION_SECONDS, Principal
from roost.console.problems import not_found
from roost.errors import RoostError

_YEAR = "public, max-age=31536000, immutable"


async def livez(request: Request) -> Response:
    """`GET /livez`: the process answers."""
    return JSONResponse({"ok": True})


async def readyz(request: Request) -> Response:
    """`GET /readyz`: the storage answers, too."""
    desk = desk_of(request)
    try:
        await desk.reads.backlog()
    except RoostError:
        return JSONResponse({"ok": False}, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
    return JSONResponse({"ok": True})


async def static(request: Request) -> Response:
    """`GET /static/{build}/{name}`: a file that never changes under its address."""
    pages = desk_of(request).pages
    name, build = request.path_params["name"], request.path_params["build"]
    if name not in pages.files or build != pages.build:
        raise not_found()
    body, media_type = pages.files[name]
    return Response(body, media_type=media_type, headers={"Cache-Control": _YEAR})


async def login(request: Request) -> Response:
    """`GET /login`: the form; or with `?once=…` right in."""
    desk = desk_of(request)
    if not desk.authenticator.has_login:
        return to(request, "/")
    code = request.query_params.get("once")
    principal = desk.authenticator.redeem(code) if code else None
    if principal is not None:
        return _enter(request, principal)
    problem = "This address worked once; sign in with a token, or start the console again." if code else ""
    return _form(request, problem)


async def sign_in(request: Request) -> Response:
    """`POST /login`."""
    desk = desk_of(request)
    form = await form_of(request)
    principal = desk.authenticator.by_token(form.get("token", ""))
    return _enter(request, principal) if principal else _form(request, "There is no such token.")


async def sign_out(request: Request) -> Response:
    """`POST /logout`."""
    principal_of(request.scope)
    answer = to(request, "/login")
    answer.delete_cookie(COOKIE, path=_path(request))
    return answer


def _form(request: Request, problem: str) -> Response:
    desk = desk_of(request)
    body = desk.pages.render("login.html", desk.frame(request, problem=problem))
    status = HTTPStatus.UNAUTHORIZED if problem else HTTPStatus.OK
    return Response(body, status_code=status, media_type="text/html; charset=utf-8")


def _enter(request: Request, principal: Principal) -> Response:
    answer = RedirectResponse(f"{request.scope.get('root_path', '')}/", status_code=303)
    answer.set_cookie(
        COOKIE,
        desk_of(request).authenticator.session(principal),
        max_age=int(SESSION_SECONDS),
        path=_path(request),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


def _path(request: Request) -> str:
    return request.scope.get("root_path", "") or "/"
