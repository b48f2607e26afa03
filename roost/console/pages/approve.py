"""Answering an approval: a page for whoever has its link; the token is the permission.

It needs no sign-in, shows nothing but what was asked, and answers once.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from roost.console import forms
from roost.console.desk import desk_of
from roost.console.forms import Field
from roost.console.pages.actions import Form, form_of, refill, to
from roost.console.principal import Principal
from roost.core import approvals
from roost.core.approvals import Ask
from roost.errors import ConflictError, InputError, RoostError, SettingsError, WorkNotFound

PREFIX = "reply."
NAME_MAX_CHARS = 80
_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


async def ask(request: Request) -> Response:
    """`GET /approve/{token}`: what is asked, or why it can't be answered."""
    return await _page(request)


async def answer(request: Request) -> Response:
    """`POST /approve/{token}`."""
    desk = desk_of(request)
    form = await form_of(request)
    token: str = request.path_params["token"]
    principal = _principal(request)
    name = form.get("by", "").strip()[:NAME_MAX_CHARS]
    try:
        found = await approvals.look(desk.runtime.parts, token)
        schema = found.open.schema if found.open is not None else {}
        if principal is None and not name:
            raise InputError("it is not said who answers", hint="Write your name.")
        who = principal.actor if principal is not None else f"link:{name}"
        data = forms.value_of(schema, form, prefix=PREFIX)
        await desk.runtime.client.approve(token, data, who)
    except (InputError, ConflictError) as error:
        return await _page(request, form, f"{error}. {error.hint}")
    desk.shared.forget()
    return to(request, f"/approve/{token}?did=approve")


def _principal(request: Request) -> Principal | None:
    found: Principal | None = request.scope.get("state", {}).get("principal")
    return found


async def _page(request: Request, form: Form | None = None, problem: str = "") -> Response:
    desk = desk_of(request)
    found: Ask | None = None
    fault = ""
    try:
        found = await approvals.look(desk.runtime.parts, request.path_params["token"])
        fault = found.fault
    except (InputError, WorkNotFound, SettingsError) as error:
        fault = _gone(error)
    context = desk.frame(
        request, found=found, fault=fault, fields=_fields(request, found, form), problem=problem
    )
    body = desk.pages.render("approve.html", context)
    status = HTTPStatus.OK if found is not None and found.open is not None else HTTPStatus.GONE
    if found is None:
        status = HTTPStatus.NOT_FOUND
    if request.query_params.get("did"):
        status = HTTPStatus.OK
    return Response(body, status_code=status, media_type="text/html; charset=utf-8", headers=_HEADERS)


def _gone(error: RoostError) -> str:
    if isinstance(error, WorkNotFound):
        return "The work that asked for it is gone."
    return f"{error}."


def _fields(request: Request, found: Ask | None, form: Form | None) -> list[Field]:
    if found is None or found.open is None:
        return []
    fields = forms.fields_of(found.open.schema, prefix=PREFIX)
    if _principal(request) is None:
        fields.append(Field("by", "Your name", required=True, hint="Kept in the journal with the answer."))
    return refill(fields, form)
