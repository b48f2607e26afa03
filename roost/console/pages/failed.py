"""Failed work, grouped by engine, step and like error; and messages that the queue set aside."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import Desk, desk_of, int_of
from roost.console.guard import principal_of
from roost.console.pages.actions import REASON, Form, form_of, to
from roost.console.principal import Principal
from roost.console.problems import Problem
from roost.console.reads import FAILED_MAX
from roost.console.roles import Deed, lacks
from roost.console.routing import check
from roost.models import State
from roost.storage.ports import DeadLetter

SHOWN = 5  # of each group
LIMIT, LIMIT_MAX = 20, FAILED_MAX  # groups of a page
LETTERS_MAX = 100
LETTER_SECONDS = 60.0  # reading them hides them from the next look for so long, where that can't be helped


async def failed(request: Request) -> Response:
    """`GET /failed`."""
    desk = desk_of(request)
    groups = await desk.reads.groups()
    counts = await desk.reads.counts()
    limit = int_of(request, "limit", LIMIT, low=1, high=LIMIT_MAX)
    return await desk.page(
        request,
        "failed.html",
        groups=groups[:limit],
        kinds=len(groups),
        total=counts.of[State.FAILED],
        as_of=counts.as_of,
        looked_at=sum(len(group.rows) for group in groups),
        limit=limit,
        shown=SHOWN,
        letters=await _letters(desk),
    )


async def _letters(desk: Desk) -> Sequence[DeadLetter]:
    return await desk.shared.get(
        "letters",
        lambda: desk.runtime.client.dead_letters(limit=LETTERS_MAX),
        for_seconds=LETTER_SECONDS,
    )


async def ask_messages(request: Request) -> Response:
    """`POST /failed/messages`: what would happen."""
    desk, principal = desk_of(request), principal_of(request.scope)
    is_sent = _is_sent(await form_of(request), principal)
    count = len(_given(await _letters(desk), principal))
    return await desk.page(
        request,
        "confirm.html",
        title=f"{'Send' if is_sent else 'Drop'} {count} messages{' again' if is_sent else ''}?",
        says="A message is a hint to look at a work item; losing or repeating one loses nothing.",
        action="/failed/messages/do",
        fields=[REASON],
        hidden=[("action", "send" if is_sent else "drop")],
        sample=(),
        verb="Send them" if is_sent else "Drop them",
        back="/failed",
        is_danger=not is_sent,
        is_plain=False,
        problem="",
    )


async def end_messages(request: Request) -> Response:
    """`POST /failed/messages/do`: all that were shown last."""
    desk, principal = desk_of(request), principal_of(request.scope)
    form = await form_of(request)
    client = desk.client(principal)
    is_sent = _is_sent(form, principal)
    letters = _given(await _letters(desk), principal)
    await client.end_dead_letters(letters, is_sent_again=is_sent, reason=form.get("reason", ""))
    desk.shared.forget()
    return to(request, "/failed?did=messages")


def _given(letters: Sequence[DeadLetter], principal: Principal) -> Sequence[DeadLetter]:
    """Those that somebody may end: to send one again that names no work is to drop it."""
    if lacks(principal.role, Deed.DROP_MESSAGES) is None:
        return letters
    return [letter for letter in letters if letter.work_id]


def _is_sent(form: Form, principal: Principal) -> bool:
    """Whether messages are sent again; else they are dropped.

    Raises:
        Problem: there is no such action, or they may not.
    """
    action = form.get("action")
    if action not in ("send", "drop"):
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_action", "There is no such action.")
    if action == "drop":
        check(principal, Deed.DROP_MESSAGES)
    return action == "send"
