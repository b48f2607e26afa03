"""Acting on many: chosen rows, a group of failed work, or all that a filter matches.

First what would happen, with a count and a sample; then a part at a time, each with its
result. What was done is out of the filter's reach, so going on after a break repeats nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from roost.console import where as filters
from roost.console.desk import Desk, desk_of, operator_of
from roost.console.pages.actions import REASON, Form, pairs_of, refill
from roost.console.problems import Problem
from roost.console.reads import SCAN_MAX
from roost.core.client import Client
from roost.errors import ConflictError, WorkNotFound
from roost.journal.entries import IndexRow
from roost.names import REASON_MAX_CHARS, State, check_work_id

PART = 200  # work items that one request acts on
SAMPLE = 8
CHOSEN_MAX = 200

VERBS = {"retry": "Retry", "cancel": "Cancel", "pause": "Pause", "resume": "Resume", "purge": "Drop"}


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be acted on.

    Attributes:
        ids: rows that were chosen; q: a filter; group: a fingerprint of failed work.
    """

    action: str
    ids: Sequence[str]
    q: str
    group: str
    reason: str

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """As fields of a form."""
        fields = [("action", self.action), ("q", self.q), ("group", self.group)]
        return [*fields, *(("id", work_id) for work_id in self.ids)]


@dataclass(slots=True)
class Result:
    """What came of a part; `more` says that there is a next."""

    done: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    more: bool = False


async def ask(request: Request) -> Response:
    """`POST /work/bulk`: what would happen."""
    desk = desk_of(request)
    operator_of(request)
    return await _confirm(request, await _target(request), desk)


async def do(request: Request) -> Response:
    """`POST /work/bulk/do`: a part of it."""
    desk, principal = desk_of(request), operator_of(request)
    target = await _target(request)
    rows, more = await rows_of(desk, target)
    result = await act(desk.client(principal), target, [row.work_id for row in rows])
    result.more = more
    desk.shared.forget()
    return await desk.page(request, "bulk.html", target=target, result=result, verb=VERBS[target.action])


async def _confirm(request: Request, target: Target, desk: Desk) -> Response:
    rows, more = await rows_of(desk, target)
    count = f"more than {len(rows)}" if more else str(len(rows))
    what = "work item" if count == "1" else "work items"
    parts = f" {PART} at a time; each part says what came of it." if more else ""
    says = {
        "retry": f"{count} {what} go on from their last version, with fresh attempts.{parts}",
        "cancel": f"{count} {what} end as cancelled; a running step may finish first.{parts}",
        "pause": f"{count} {what} are put on hold; a running step is committed first.{parts}",
        "resume": f"{count} {what} go on.{parts}",
        "purge": f"{count} {what} are deleted with their history, for good.{parts}",
    }
    return await desk.page(
        request,
        "confirm.html",
        title=f"{VERBS[target.action]} {count} {what}?",
        says=says[target.action] if rows else "Nothing that matches is in a state for this.",
        action="/work/bulk/do",
        fields=refill([REASON], None) if rows else (),
        hidden=target.hidden,
        sample=rows[:SAMPLE],
        verb=f"{VERBS[target.action]} {count}",
        back="/failed" if target.group else "/work",
        is_danger=target.action in ("cancel", "purge"),
        is_plain=False,
        problem="",
    )


async def _target(request: Request) -> Target:
    """What a form names."""
    texts = await pairs_of(request)
    fields: Form = dict(texts)
    ids = [check_work_id(value) for name, value in texts if name == "id"]
    target = Target(
        action=fields.get("action", ""),
        ids=ids[:CHOSEN_MAX],
        q=fields.get("q", ""),
        group=fields.get("group", ""),
        reason=fields.get("reason", "")[:REASON_MAX_CHARS],
    )
    check(target)
    return target


def check(target: Target) -> None:
    """Refuse what names no action, or nothing to act on.

    Raises:
        Problem: it does.
    """
    if target.action not in VERBS:
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_action", "There is no such action.")
    if not (target.ids or target.q or target.group):
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "nothing_named",
            "This would act on all work.",
            "Choose rows, or filter first: an empty filter is not taken.",
        )


async def rows_of(desk: Desk, target: Target) -> tuple[Sequence[IndexRow], bool]:
    """What can be acted on, a part of it, and whether there is more."""
    if target.ids:
        found = [await desk.runtime.backend.index.get(work_id) for work_id in target.ids]
        return [row for row in found if row is not None and applies(target.action, row)], False
    if target.group:
        groups = {group.fingerprint: group.rows for group in await desk.reads.groups()}
        rows = [row for row in groups.get(target.group, []) if applies(target.action, row)]
        return rows[:PART], len(rows) > PART
    return await _matching(desk, target)


async def _matching(desk: Desk, target: Target) -> tuple[Sequence[IndexRow], bool]:
    where = filters.parse(target.q, desk.now)
    rows: list[IndexRow] = []
    cursor: str | None = None
    looked_at = 0
    while True:
        page = await desk.reads.rows(where, cursor=cursor, limit=PART)
        rows += [row for row in page.rows if applies(target.action, row)]
        looked_at += page.looked_at
        cursor = page.cursor
        if cursor is None or len(rows) >= PART or looked_at >= SCAN_MAX * 5:
            return rows[:PART], cursor is not None or len(rows) > PART


def applies(action: str, row: IndexRow) -> bool:
    """Whether an action can be done to work in its state."""
    if action in ("retry", "purge"):
        return row.state.is_terminal
    if action == "resume":
        return row.state is State.PAUSED
    return not row.state.is_terminal and not (action == "pause" and row.state is State.PAUSED)


async def act(client: Client, target: Target, ids: Sequence[str]) -> Result:
    """Do it to each; one that moved on meanwhile is skipped."""
    result = Result()
    reason = target.reason or "by an operator, with others"
    acts: dict[str, Callable[[str], Awaitable[None]]] = {
        "retry": lambda work_id: client.retry(work_id, reason),
        "cancel": lambda work_id: client.cancel(work_id, reason),
        "pause": lambda work_id: client.pause(work_id, reason),
        "resume": lambda work_id: client.resume(work_id, reason),
        "purge": client.purge,
    }
    for work_id in ids:
        try:
            await acts[target.action](work_id)
            result.done += 1
        except (ConflictError, WorkNotFound) as error:
            result.skipped.append((work_id, str(error)))
    return result
