"""Engines and lanes, paused and let go on for all of their work at once; workers, asked to stop."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import desk_of
from roost.console.guard import principal_of
from roost.console.pages.actions import REASON, Form, form_of, reason_of, to
from roost.console.problems import Problem
from roost.names import Lane, check_id, check_name

BACK = {"engine": "/engines", "lane": "/", "worker": "/workers"}
"""Which page shows what was switched."""


@dataclass(frozen=True, slots=True)
class _Words:
    """What a confirmation says of one switch."""

    title: str
    says: str
    verb: str
    back: str


async def ask(request: Request) -> Response:
    """`GET /switches?kind=engine|lane|worker&name=…&to=pause|resume`: what would happen."""
    kind, name, is_paused = _read(dict(request.query_params))
    words = _of_worker(name, is_paused) if kind == "worker" else _of_work(kind, name, is_paused)
    return await desk_of(request).page(
        request,
        "confirm.html",
        title=words.title,
        says=words.says,
        action="/switches",
        fields=[REASON],
        hidden=[("kind", kind), ("name", name), ("to", "pause" if is_paused else "resume")],
        sample=(),
        verb=words.verb,
        back=words.back,
        is_danger=kind == "worker" and is_paused,
        is_plain=False,
        problem="",
    )


def _of_work(kind: str, name: str, is_paused: bool) -> _Words:
    whose = f"engine {name}" if kind == "engine" else f"the {name} lane"
    says = (
        f"No worker begins work of {whose} any more, once it has swept; a step that runs is committed first."
        if is_paused
        else f"Workers take work of {whose} again."
    )
    verb = "Pause it" if is_paused else "Let it go on"
    return _Words(f"{'Pause' if is_paused else 'Resume'} {whose}?", says, verb, BACK[kind])


def _of_worker(name: str, is_paused: bool) -> _Words:
    if not is_paused:
        says = "It stays, if it has not seen yet that it is to stop."
        return _Words(f"Ask worker {name} no more to stop?", says, "Ask no more", BACK["worker"])
    says = (
        "Once it has swept it takes no more work; the steps that it runs are committed, or given back to "
        "others after its grace period, with no failed attempt. Then its process ends. What keeps workers "
        "running starts another."
    )
    return _Words(f"Ask worker {name} to stop?", says, "Drain it", BACK["worker"])


async def do(request: Request) -> Response:
    """`POST /switches`."""
    desk, principal = desk_of(request), principal_of(request.scope)
    form = await form_of(request)
    kind, name, is_paused = _read(form)
    client, reason = desk.client(principal), reason_of(form)
    if kind == "engine":
        await (client.pause_engine(name, reason) if is_paused else client.resume_engine(name, reason))
    elif kind == "worker":
        await (client.drain_worker(name, reason) if is_paused else client.keep_worker(name, reason))
    else:
        lane = Lane(name)
        await (client.pause_lane(lane, reason) if is_paused else client.resume_lane(lane, reason))
    desk.shared.forget()
    return to(request, f"{BACK[kind]}?did=switch")


def _read(form: Form) -> tuple[str, str, bool]:
    """Which engine, lane or worker, and whether it is to be paused.

    Raises:
        Problem: there is no such thing.
    """
    kind, name, wanted = (form.get(field, "") for field in ("kind", "name", "to"))
    is_lane = kind == "lane" and name in [lane.value for lane in Lane]
    if wanted not in ("pause", "resume") or not (is_lane or kind in ("engine", "worker")):
        raise Problem(HTTPStatus.BAD_REQUEST, "no_switch", "There is no such engine, lane or worker.")
    checks = {"engine": check_id, "worker": check_name}
    return kind, checks[kind](name, kind) if kind in checks else name, wanted == "pause"
