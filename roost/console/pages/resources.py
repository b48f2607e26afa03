"""Resources: limits changed while in use, and a resource taken from who holds it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from roost import times
from roost.console.desk import desk_of, int_of
from roost.console.forms import Field
from roost.console.guard import principal_of
from roost.console.pages.actions import REASON, Form, form_of, reason_of, refill, to
from roost.console.reads import RESOURCES_MAX
from roost.errors import ConflictError, InputError
from roost.journal.limits import FOREVER_AT, Change, Close, Limits, Open, Rate, SetCapacity, SetRate
from roost.names import check_name, check_work_id

NUMBER_MAX_CHARS = 9
LIMIT = 20  # resources of a page
FOREVER = "for ever"


async def resources(request: Request) -> Response:
    """`GET /resources`."""
    desk = desk_of(request)
    found = await desk.reads.resources()
    limit = int_of(request, "limit", LIMIT, low=1, high=RESOURCES_MAX)
    ordered = sorted(found or (), key=lambda view: (-len(view.waiters), view.resource))
    return await desk.page(
        request,
        "resources.html",
        resources=ordered[:limit],
        total=len(ordered),
        is_denied=found is None,
        limit=limit,
        most=RESOURCES_MAX,
        forever=FOREVER_AT,
    )


async def ask_limits(request: Request) -> Response:
    """`GET /resources/limits?resource=…`."""
    return await _limits_form(request, check_name(request.query_params.get("resource", ""), "resource"))


async def set_limits(request: Request) -> Response:
    """`POST /resources/limits`."""
    desk, principal = desk_of(request), principal_of(request.scope)
    form = await form_of(request)
    name = check_name(form.get("resource", ""), "resource")
    try:
        for change in _changes(form, desk.now, principal.actor):
            await desk.client(principal).change_resource(name, change, reason_of(form))
    except InputError as error:
        return await _limits_form(request, name, form, f"{error}. {error.hint}")
    desk.shared.forget()
    return to(request, "/resources?did=limits")


def _changes(form: Form, now: float, actor: str) -> list[Change]:
    """What a form asks for; a field that is empty takes the limit away."""
    capacity, count, period, closed = (
        form.get(name, "").strip() for name in ("capacity", "count", "period", "closed")
    )
    rate = Rate(_number(count, "starts"), times.seconds(period, "period")) if count or period else None
    changes: list[Change] = [SetCapacity(_number(capacity, "capacity") if capacity else None), SetRate(rate)]
    if not closed:
        return [*changes, Open()]
    until = FOREVER_AT if closed == FOREVER else times.instant(closed, now, "closed")
    return [*changes, Open(), Close(until, actor)]


def _number(text: str, what: str) -> int:
    if not text.isdecimal() or len(text) > NUMBER_MAX_CHARS:
        raise InputError(f"{what}: {text[:20]!r} is no whole number")
    return int(text)


async def _limits_form(request: Request, name: str, form: Form | None = None, problem: str = "") -> Response:
    desk = desk_of(request)
    found = await desk.reads.resource(name)
    limits = found[0].limits if found else Limits()
    period = times.span(limits.rate.period_seconds).replace(" ", "") if limits.rate else ""
    closed_hint = f"For so long (10m), `{FOREVER}`, or empty: open."
    fields = [
        Field("capacity", "Capacity", value=str(limits.capacity or ""), hint="Owners; empty: as they ask."),
        Field("count", "Starts", value=str(limits.rate.count) if limits.rate else "", hint="At most so many"),
        Field("period", "in", value=period, hint="this time: 10s, 1m."),
        Field("closed", "Closed", value=_closed(limits, desk.now), hint=closed_hint),
        REASON,
    ]
    return await desk.page(
        request,
        "confirm.html",
        title=f"Limits of {name}",
        says="They hold from now on for whoever asks next. What is held stays held.",
        action="/resources/limits",
        fields=refill(fields, form),
        hidden=[("resource", name)],
        sample=(),
        verb="Set them",
        back="/resources",
        is_danger=False,
        is_plain=True,
        problem=problem,
    )


def _closed(limits: Limits, now: float) -> str:
    until = limits.closed_until
    if until is None or until <= now:
        return ""
    return FOREVER if until >= FOREVER_AT else times.clock(until)


async def ask_evict(request: Request) -> Response:
    """`GET /resources/evict?resource=…&work_id=…`."""
    query = request.query_params
    return await _evict_form(
        request, check_name(query.get("resource", ""), "resource"), check_work_id(query.get("work_id", ""))
    )


async def evict(request: Request) -> Response:
    """`POST /resources/evict`."""
    desk, principal = desk_of(request), principal_of(request.scope)
    form = await form_of(request)
    name = check_name(form.get("resource", ""), "resource")
    work_id = check_work_id(form.get("work_id", ""))
    try:
        await desk.client(principal).evict(name, work_id, reason_of(form))
    except ConflictError as error:
        return await _evict_form(request, name, work_id, form, f"{error}. {error.hint}")
    desk.shared.forget()
    return to(request, "/resources?did=evict")


async def _evict_form(
    request: Request, name: str, work_id: str, form: Form | None = None, problem: str = ""
) -> Response:
    return await desk_of(request).page(
        request,
        "confirm.html",
        title=f"Take {name} away?",
        says=f"Work item {work_id} loses it, and with it all else that it holds. A worker that still runs "
        "it can commit nothing any more; the step is run again once it has them all anew.",
        action="/resources/evict",
        fields=refill([REASON], form),
        hidden=[("resource", name), ("work_id", work_id)],
        sample=(),
        verb="Take it away",
        back="/resources",
        is_danger=True,
        is_plain=False,
        problem=problem,
    )
