"""Engines and lanes, paused and let go on: for all of their work at once."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import desk_of, operator_of
from roost.console.pages.actions import REASON, Form, form_of, to
from roost.console.problems import Problem
from roost.names import Lane, check_id


async def ask(request: Request) -> Response:
    """`GET /switches?kind=…&name=…&to=pause|resume`: what would happen."""
    operator_of(request)
    kind, name, is_paused = _read(dict(request.query_params))
    whose = f"engine {name}" if kind == "engine" else f"the {name} lane"
    says = (
        f"No worker begins work of {whose} any more, once it has swept; a step that runs is committed first."
        if is_paused
        else f"Workers take work of {whose} again."
    )
    return await desk_of(request).page(
        request,
        "confirm.html",
        title=f"{'Pause' if is_paused else 'Resume'} {whose}?",
        says=says,
        action="/switches",
        fields=[REASON],
        hidden=[("kind", kind), ("name", name), ("to", "pause" if is_paused else "resume")],
        sample=(),
        verb="Pause it" if is_paused else "Let it go on",
        back="/engines" if kind == "engine" else "/",
        is_danger=False,
        is_plain=False,
        problem="",
    )


async def do(request: Request) -> Response:
    """`POST /switches`."""
    desk, principal = desk_of(request), operator_of(request)
    form = await form_of(request)
    kind, name, is_paused = _read(form)
    client, reason = desk.client(principal), form.get("reason") or "by an operator"
    if kind == "engine":
        await (client.pause_engine(name, reason) if is_paused else client.resume_engine(name, reason))
    else:
        lane = Lane(name)
        await (client.pause_lane(lane, reason) if is_paused else client.resume_lane(lane, reason))
    desk.shared.forget()
    return to(request, "/engines?did=switch" if kind == "engine" else "/?did=switch")


def _read(form: Form) -> tuple[str, str, bool]:
    """Which engine or lane, and whether it is to be paused.

    Raises:
        Problem: there is no such thing.
    """
    kind, name, wanted = (form.get(field, "") for field in ("kind", "name", "to"))
    is_lane = kind == "lane" and name in [lane.value for lane in Lane]
    if wanted not in ("pause", "resume") or not (is_lane or kind == "engine"):
        raise Problem(HTTPStatus.BAD_REQUEST, "no_switch", "There is no such engine or lane to switch.")
    return kind, name if is_lane else check_id(name, "engine id"), wanted == "pause"
