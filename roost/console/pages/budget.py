"""What a namespace may use up in a day: shown on the overview, set here."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import Desk, desk_of
from roost.console.forms import Field
from roost.console.guard import principal_of
from roost.console.pages.actions import REASON, Form, form_of, limits_of, reason_of, refill, to
from roost.errors import InputError


async def ask(request: Request) -> Response:
    """`GET /budget`: what counts now, and a form for what is to."""
    return await _form(request)


async def do(request: Request) -> Response:
    """`POST /budget`."""
    desk, principal = desk_of(request), principal_of(request.scope)
    form = await form_of(request)
    try:
        await desk.client(principal).set_daily_budget(limits_of(form), reason_of(form))
    except InputError as error:
        return await _form(request, form, f"{error}. {error.hint}")
    desk.shared.forget()
    return to(request, "/?did=daily")


async def _form(request: Request, form: Form | None = None, problem: str = "") -> Response:
    desk = desk_of(request)
    balance = await desk.reads.today()
    lines = "\n".join(f"{name}={limit:g}" for name, limit in balance.allowed or ())
    hint = f"One a line: name=amount, all that there are to be. {_without(desk)}"
    fields = [Field("limits", "Limits of each day", "area", lines, hint), REASON]
    return await desk.page(
        request,
        "confirm.html",
        title="Set the budget of the day?",
        says=f"Today (UTC) {_spent(balance.spent)}. The limits hold from now on, for today and each day "
        "after: work that is parked because a limit is used up goes on if the new one suffices; where it "
        "does not, work parks before its next step.",
        action="/budget",
        fields=refill(fields, form),
        hidden=(),
        sample=(),
        verb="Set it",
        back="/",
        is_danger=False,
        is_plain=False,
        problem=problem,
    )


def _spent(spent: tuple[tuple[str, float], ...]) -> str:
    amounts = ", ".join(f"{name} {amount:g}" for name, amount in spent)
    return f"was used up: {amounts}" if amounts else "nothing was charged to it yet"


def _without(desk: Desk) -> str:
    settings = desk.runtime.parts.settings.daily_budget
    usual = ", ".join(f"{name}={limit:g}" for name, limit in settings)
    return f"Empty: what the settings say, {usual or 'which is no limit'}."
