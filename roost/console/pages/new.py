"""Enqueueing from the console: a form for the engines that are installed here, or any other."""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from roost import jsonio, times
from roost.console.desk import Desk, desk_of, operator_of
from roost.console.pages.actions import Field, Form, form_of, known, refill, to
from roost.console.urls import segment
from roost.errors import ConflictError, EngineNotFound, InputError

_INT_MAX_CHARS = 6


async def ask(request: Request) -> Response:
    """`GET /work/new`; with `?like=ID` filled in like that work item."""
    operator_of(request)
    like = request.query_params.get("like")
    return await _form(request, await _like(desk_of(request), like) if like else None)


async def do(request: Request) -> Response:
    """`POST /work/new`."""
    desk, principal = desk_of(request), operator_of(request)
    form = await form_of(request)
    try:
        work_id = await desk.client(principal).enqueue(
            form.get("engine", "").strip(),
            jsonio.parse_object(form.get("payload", "").encode() or b"{}", what="the payload"),
            resources=tuple(line.strip() for line in form.get("resources", "").splitlines() if line.strip()),
            delay_seconds=times.seconds(form["delay"], "delay") if form.get("delay") else 0.0,
            priority=_priority(form.get("priority", "")),
            deadline_at=times.instant(form["deadline"], desk.now, "deadline")
            if form.get("deadline")
            else None,
            idempotency_key=form.get("key") or None,
            labels=_labels(form.get("labels", "")),
        )
    except (InputError, ConflictError, EngineNotFound) as error:
        return await _form(request, form, f"{error}. {error.hint}")
    desk.shared.forget()
    return to(request, f"/work/{segment(work_id)}?did=enqueue")


def _labels(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, mark, value = line.partition("=")
        if not mark:
            raise InputError(f"the label {line[:40]!r} has no value", hint="Write name=value.")
        found[name.strip()] = value.strip()
    return found


def _priority(text: str) -> int:
    try:
        return int(text[:_INT_MAX_CHARS] or "0")
    except ValueError:
        raise InputError(f"the priority is {text[:40]!r}, not a whole number") from None


async def _like(desk: Desk, work_id: str) -> Form:
    item = (await desk.reads.view(work_id)).item
    payload = desk.redaction.apply(item.engine, item.payload)
    return {
        "engine": item.engine,
        "payload": json.dumps(payload, indent=2, ensure_ascii=False),
        "resources": "\n".join(item.resources),
        "priority": str(item.priority),
    }


async def _form(request: Request, form: Form | None, problem: str = "") -> Response:
    desk = desk_of(request)
    engines = known(desk)
    fields = [
        Field("engine", "Engine", value=engines[0] if engines else "", required=True, hint=_engines(engines)),
        Field("payload", "Payload", "area", "{}", "A JSON object."),
        Field("resources", "Resources", "area", "", "One a line; held exclusively while it runs."),
        Field("delay", "Delay", hint="Not before: 30s, 5m, 2d."),
        Field("deadline", "Deadline", hint="Fails if not done: 2h, or an ISO instant."),
        Field("priority", "Priority", value="0", hint="Above 0: high lane; below 0: low lane."),
        Field("labels", "Labels", "area", "", "One a line: name=value."),
        Field("key", "Idempotency key", hint="The same key gives the same work item."),
    ]
    return await desk.page(
        request,
        "confirm.html",
        title="Enqueue work",
        says="A worker that runs the engine takes it as soon as one is free.",
        action="/work/new",
        fields=refill(fields, form),
        hidden=(),
        sample=(),
        verb="Enqueue",
        back="/work",
        is_danger=False,
        is_plain=True,
        problem=problem,
    )


def _engines(engines: Sequence[str]) -> str:
    return f"Installed here: {', '.join(engines)}." if engines else "The id that its workers know."
