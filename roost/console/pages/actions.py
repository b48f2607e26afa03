"""What an operator does to one work item: a page that says what will happen, then the deed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from roost import jsonio, times
from roost.console import forms
from roost.console.desk import Desk, desk_of
from roost.console.forms import Field
from roost.console.guard import principal_of
from roost.console.problems import Problem
from roost.console.roles import Deed
from roost.console.routing import check_on_work
from roost.console.urls import segment
from roost.core.client import Client, WorkView
from roost.errors import ConflictError, InputError
from roost.journal.projection import waited_for
from roost.models import REASON_MAX_CHARS, State
from roost.names import APPROVAL_MARK

Form = Mapping[str, str]

FIELDS_MAX = 1000
VERSION_MAX_CHARS = 10


DATA = "data."
OWN, FAMILY = "this work item", "its family"

REASON = Field("reason", "Reason", hint="Kept in the journal with your name.")
WITHIN = Field("within", "Within", hint="Such as 30s: a step that still runs then is interrupted.")


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that an operator can do to a work item.

    Attributes:
        verb: on the button.
        says: what will happen, for an item as it stands.
        do: does it; gives the id of the work item to show then.
        fields: what the form asks for, for an item as it stands, and what its address says.
        is_danger: shown in red.
        deed: what it takes.
    """

    verb: str
    says: Callable[[WorkView], str]
    do: Callable[[Client, str, Form], Awaitable[str]]
    fields: Callable[[WorkView, Form], Sequence[Field]]
    is_danger: bool = False
    deed: Deed = Deed.ACT


def _says_cancel(view: WorkView) -> str:
    lease = view.control.lease
    if lease is None:
        return "Nobody works on it, so it ends as cancelled at once. Only a retry brings it back."
    return (
        f"Worker {lease.worker_id} is asked to stop. The running step may finish first; what it has "
        "not committed by then is lost. Only a retry brings it back."
    )


def _says_retry(view: WorkView) -> str:
    start = f"version {view.control.version}" if view.control.version else "its beginning"
    return f"A worker takes it up again from {start}, with fresh attempts. It has the same id and journal."


def reason_of(form: Form) -> str:
    """Why, as the journal keeps it."""
    return form.get("reason") or "by an operator"


def limits_of(form: Form) -> dict[str, float]:
    """The field `limits`: a line for each, `name=amount`.

    Raises:
        InputError: a line is none.
    """
    limits: dict[str, float] = {}
    for line in filter(None, map(str.strip, form.get("limits", "").splitlines())):
        name, _, amount = line.partition("=")
        try:
            limits[name.strip()] = float(amount)
        except ValueError:
            raise InputError(f"the limit {line[:40]!r} is no amount", hint="Write name=amount.") from None
    return limits


def seconds_of(form: Form, name: str) -> float | None:
    """A duration that a form names; None: it does not."""
    text = form.get(name, "").strip()
    return times.seconds(text, name) if text else None


async def _cancel(client: Client, work_id: str, form: Form) -> str:
    await client.cancel(work_id, reason_of(form), by_seconds=seconds_of(form, "within"))
    return work_id


def version_of(form: Form) -> int | None:
    """The version that a form names; None: it does not.

    Raises:
        InputError: it is no number.
    """
    text = form.get("version", "").strip()
    if text and not (text.isdecimal() and len(text) < VERSION_MAX_CHARS):
        raise InputError(f"the version is {text[:20]!r}, not a number")
    return int(text) if text else None


async def _retry(client: Client, work_id: str, form: Form) -> str:
    await client.retry(work_id, reason_of(form), version=version_of(form))
    return work_id


async def _signal(client: Client, work_id: str, form: Form) -> str:
    typed = form.get("typed", "")
    name = typed or form.get("name", "").strip()
    data = await _data(client, work_id, typed, form) if typed else _json(form.get("data", ""))
    await client.signal(work_id, name, data, signal_id=form.get("signal_id") or None)
    return work_id


async def _data(client: Client, work_id: str, name: str, form: Form) -> Any:
    """What was typed into the fields of a signal that the work waits for."""
    shape = shapes(await client.status(work_id)).get(name)
    if shape is None:
        raise ConflictError(f"it no longer waits for {name[:40]!r}", hint="Nothing was sent.")
    return forms.value_of(shape, form, prefix=DATA)


def _json(text: str) -> Any:
    return jsonio.parse(text.strip().encode(), what="the data") if text.strip() else None


def shapes(view: WorkView) -> Mapping[str, Mapping[str, Any]]:
    """The shapes of the plain signals that a work item waits for now, by name."""
    waits, snapshot = view.control.waits, view.snapshot
    if view.control.state is not State.WAITING or waits is None or not waits.is_typed:
        return {}
    found = snapshot.wait_for.replies if snapshot is not None and snapshot.wait_for is not None else {}
    return {name: found[name] for name in waits.names if name in found and not name.startswith(APPROVAL_MARK)}


async def _pause(client: Client, work_id: str, form: Form) -> str:
    await client.pause(work_id, reason_of(form), for_seconds=seconds_of(form, "for"))
    return work_id


async def _resume(client: Client, work_id: str, form: Form) -> str:
    await client.resume(work_id, reason_of(form))
    return work_id


def _says_signal(view: WorkView) -> str:
    waits = view.control.waits
    if view.control.state is State.WAITING and waits is not None:
        return f"It waits for {waited_for(waits)}. That signal wakes it at once; others wait to be seen."
    return "It waits for no signal now. The next step sees it; it may come before the wait."


def _says_pause(view: WorkView) -> str:
    running = "The step that runs is committed first. " if view.control.lease else ""
    return f"{running}No worker takes it then, until somebody lets it go on. Signals and deadlines count on."


def _cancel_fields(view: WorkView, _: Form) -> Sequence[Field]:
    if view.control.lease is None:
        return [REASON]
    return [REASON, WITHIN]


def _retry_fields(view: WorkView, _: Form) -> Sequence[Field]:
    last = view.control.version
    hint = f"1 to {last}, or 0 for its beginning; versions go on counting either way." if last else "0 only."
    return [REASON, Field("version", "From version", value=str(last), hint=hint)]


def _says_budget(view: WorkView) -> str:
    spent = ", ".join(f"{name} {amount:g}" for name, amount in view.control.spent) or "nothing yet"
    return f"It has used up: {spent}. Work that is on hold for its budget goes on if the new one suffices."


def _budget_fields(view: WorkView, _: Form) -> Sequence[Field]:
    control = view.control
    lines = "\n".join(f"{name}={limit:g}" for name, limit in control.budget or control.family_budget)
    hint = "One a line: name=amount. Those that are not named stay."
    limits = Field("limits", "Limits", "area", lines, hint, required=True)
    if not control.account:
        return [limits, REASON]
    whose = [OWN, FAMILY] if control.budget else [FAMILY, OWN]
    hint = "A family is all that comes of who began it; its limits are set as a whole."
    return [Field("of", "Of", "choice", whose[0], hint, choices=whose), limits, REASON]


async def _budget(client: Client, work_id: str, form: Form) -> str:
    is_family = form.get("of") == FAMILY
    await (client.set_family_budget if is_family else client.set_budget)(
        work_id, limits_of(form), reason_of(form)
    )
    return work_id


def _signal_fields(view: WorkView, given: Form) -> Sequence[Field]:
    """Fields of its own for a signal whose shape is known, `typed`; else a name and JSON."""
    again = Field("signal_id", "Id", hint="The same signal sent again under it is one; empty for a new one.")
    shape = shapes(view).get(given.get("typed", ""))
    if shape is not None:
        return [*forms.fields_of(shape, prefix=DATA), again]
    waits = view.control.waits
    names = waits.names if waits is not None and view.control.state is State.WAITING else ()
    return [
        Field("name", "Name", value=names[0] if names else "", required=True),
        Field("data", "Data", "area", hint="JSON; empty for none."),
        again,
    ]


async def _fork(client: Client, work_id: str, form: Form) -> str:
    version = form.get("version", "").strip()
    if not (version.isdecimal() and len(version) < VERSION_MAX_CHARS):
        raise InputError(f"the version is {version[:20]!r}, not a number")
    changes: dict[str, object] = {}
    for line in filter(None, map(str.strip, form.get("changes", "").splitlines())):
        path, mark, value = line.partition("=")
        if not mark:
            raise InputError(f"the change {line[:40]!r} has no value", hint="Write data.NAME=JSON.")
        changes[path.strip()] = jsonio.parse(value.encode(), what=f"the value of {path.strip()[:40]}")
    return await client.fork(work_id, int(version), reason_of(form), changes=changes)


def _fork_fields(view: WorkView, _: Form) -> Sequence[Field]:
    return [
        Field("version", "From version", value=str(view.control.version), required=True),
        Field("changes", "Changes", "area", hint='One a line: data.NAME=JSON or payload.NAME="text".'),
        REASON,
    ]


def _says_fork(view: WorkView) -> str:
    return (
        "New work starts from that version, with an id of its own and the artifacts of that version. "
        f"{view.item.work_id} stays as it is."
    )


ACTIONS: dict[str, Action] = {
    "fork": Action("Fork it", _says_fork, _fork, _fork_fields),
    "signal": Action("Signal it", _says_signal, _signal, _signal_fields),
    "pause": Action(
        "Pause it",
        _says_pause,
        _pause,
        lambda *_: [REASON, Field("for", "For", hint="Such as 2h; empty: until somebody lets it go on.")],
    ),
    "budget": Action("Set its budget", _says_budget, _budget, _budget_fields, deed=Deed.BUDGET),
    "resume": Action(
        "Let it go on", lambda _: "A worker takes it up where it was.", _resume, lambda *_: [REASON]
    ),
    "cancel": Action("Cancel it", _says_cancel, _cancel, _cancel_fields, is_danger=True),
    "retry": Action("Retry it", _says_retry, _retry, _retry_fields),
}


async def ask(request: Request) -> Response:
    """`GET /work/{work_id}/ACTION`: the confirmation."""
    name = _name(request)
    work_id: str = request.path_params["work_id"]
    await check_on_work(desk_of(request), principal_of(request.scope), work_id, name)
    return await confirm(request, await desk_of(request).reads.view(work_id), ACTIONS[name])


async def do(request: Request) -> Response:
    """`POST /work/{work_id}/ACTION`: the deed."""
    desk, principal = desk_of(request), principal_of(request.scope)
    name = _name(request)
    action = ACTIONS[name]
    work_id: str = request.path_params["work_id"]
    await check_on_work(desk, principal, work_id, name)
    form = await form_of(request)
    try:
        shown = await action.do(desk.client(principal), work_id, form)
    except (InputError, ConflictError) as error:
        view = await desk.reads.view(work_id)
        return await confirm(request, view, action, problem=f"{error}. {error.hint}", form=form)
    desk.shared.forget()
    return to(request, f"/work/{segment(shown)}?did={name}")


def _name(request: Request) -> str:
    """Which action: each has a route of its own."""
    return request.url.path.rpartition("/")[2]


async def confirm(
    request: Request, view: WorkView, action: Action, *, problem: str = "", form: Form | None = None
) -> Response:
    """The page that says what will happen."""
    where = f"/work/{segment(view.item.work_id)}"
    given = request.query_params if form is None else form
    typed = given.get("typed", "") if given.get("typed") in shapes(view) else ""
    return await desk_of(request).page(
        request,
        "confirm.html",
        title=f"Send {typed} to {view.item.work_id}?"
        if typed
        else f"{action.verb.removesuffix(' it')} {view.item.work_id}?",
        says=action.says(view),
        action=f"{where}/{_name(request)}",
        fields=refill(action.fields(view, given), form),
        hidden=[("typed", typed)] if typed else (),
        sample=(),
        verb=action.verb,
        back=where,
        is_danger=action.is_danger,
        is_plain=False,
        problem=problem,
    )


def refill(fields: Sequence[Field], form: Form | None) -> list[Field]:
    """The fields with what was filled in before."""
    return [
        Field(
            field.name,
            field.label,
            field.kind,
            field.value if form is None else form.get(field.name, ""),
            field.hint,
            field.required,
            field.choices,
        )
        for field in fields
    ]


async def pairs_of(request: Request) -> list[tuple[str, str]]:
    """The fields of a form in their order.

    Raises:
        Problem: it is no such form.
    """
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "no_form", "This takes a form of the console.")
    try:
        text = (await request.body()).decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:  # too many, or no text
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_form", "This is no form of the console.") from None


async def form_of(request: Request) -> Form:
    """The fields of a form, each once, text only.

    Raises:
        Problem: it is no such form.
    """
    fields = dict(await pairs_of(request))
    if len(fields.get("reason", "")) > REASON_MAX_CHARS:
        raise Problem(
            HTTPStatus.BAD_REQUEST, "too_long", f"A reason has at most {REASON_MAX_CHARS} characters."
        )
    return fields


def to(request: Request, path: str) -> Response:
    """Send the browser on, after a deed."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}", status_code=303)


def known(desk: Desk) -> Sequence[str]:
    """The engines that payloads can be checked against here."""
    return sorted(spec.engine_id for spec in desk.runtime.engines or ())
