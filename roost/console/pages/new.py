"""Enqueueing from the console: a form for the engines that are installed here, or any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from roost import jsonio, times
from roost.console import forms
from roost.console.desk import Desk, desk_of
from roost.console.forms import Field
from roost.console.guard import principal_of
from roost.console.pages.actions import Form, form_of, known, refill, to
from roost.console.roles import on_work
from roost.console.routing import check
from roost.console.urls import segment
from roost.errors import ConflictError, EngineNotFound, InputError
from roost.models import WorkItem

_INT_MAX_CHARS = 6
PREFIX = "payload."


async def ask(request: Request) -> Response:
    """`GET /work/new`; `?like=ID`: filled in like that work item, `?engine=ID`: with its payload's fields."""
    desk, like = desk_of(request), request.query_params.get("like")
    engine = request.query_params.get("engine", "")
    if not like:
        return await _form(request, None, engine=engine)
    item = (await desk.reads.view(like)).item
    payload = desk.redaction.apply(item.engine, item.payload)
    hidden = "" if payload == item.payload else "Parts of its payload are never shown: fill them in anew."
    return await _form(request, _like(item, payload), hidden)


async def do(request: Request) -> Response:
    """`POST /work/new`."""
    desk, principal = desk_of(request), principal_of(request.scope)
    form = await form_of(request)
    check(principal, on_work(form.get("engine", "").strip(), "enqueue"))
    try:
        work_id = await desk.client(principal).enqueue(
            form.get("engine", "").strip(),
            _payload(desk, form),
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
        return await _form(request, form, f"{error}. {error.hint}", form.get("typed", ""))
    desk.shared.forget()
    return to(request, f"/work/{segment(work_id)}?did=enqueue")


def _payload(desk: Desk, form: Form) -> dict[str, Any]:
    """What was typed into the engine's own fields, or as JSON."""
    schema = _schema(desk, form.get("typed", ""))
    if schema is None:
        return jsonio.parse_object(form.get("payload", "").encode() or b"{}", what="the payload")
    found = forms.value_of(schema, form, prefix=PREFIX)
    return found if isinstance(found, dict) else {}


def _schema(desk: Desk, engine: str) -> dict[str, Any] | None:
    """The shape of an engine's payloads, where it is installed here and says so."""
    spec = desk.runtime.engines.get(engine) if desk.runtime.engines is not None and engine else None
    return spec.payload_model.model_json_schema() if spec is not None and spec.payload_model else None


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


def _like(item: WorkItem, payload: Any) -> Form:
    """The form as it was for a work item."""
    return {
        "engine": item.engine,
        "payload": json.dumps(payload, indent=2, ensure_ascii=False),
        "resources": "\n".join(item.resources),
        "priority": str(item.priority),
        "labels": "\n".join(f"{name}={value}" for name, value in item.labels.items()),
    }


async def _form(request: Request, form: Form | None, problem: str = "", engine: str = "") -> Response:
    desk = desk_of(request)
    engines = known(desk)
    schema = _schema(desk, engine)
    first = engine if schema is not None else engines[0] if engines else ""
    payload = [Field("payload", "Payload", "area", "{}", "A JSON object.")]
    fields = [
        Field("engine", "Engine", value=first, required=True, hint=_engines(engines)),
        *(payload if schema is None else forms.fields_of(schema, prefix=PREFIX)),
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
        hidden=[("typed", engine)] if schema is not None else (),
        sample=(),
        verb="Enqueue",
        back="/work",
        is_danger=False,
        is_plain=True,
        problem=problem,
    )


def _engines(engines: Sequence[str]) -> str:
    return f"Installed here: {', '.join(engines)}." if engines else "The id that its workers know."
