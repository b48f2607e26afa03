"""Acting on many: chosen rows, or all that a filter matches.

First what would happen, with a count and a sample; then an operation, a work item of its own
(`core/operating.py`), which has a page with its progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import Desk, desk_of
from roost.console.forms import Field
from roost.console.guard import principal_of
from roost.console.pages.actions import REASON, WITHIN, Form, pairs_of, refill, seconds_of, to, version_of
from roost.console.principal import Principal
from roost.console.problems import Problem
from roost.console.roles import Deed, on_work
from roost.console.routing import check
from roost.console.urls import segment
from roost.core import operating
from roost.core import where as filters
from roost.core.bulk import AS_USUAL, Action, How, applies, is_meant
from roost.core.operating import Operation
from roost.journal.entries import IndexRow
from roost.names import REASON_MAX_CHARS, check_work_id

PAGE = 200
LOOK_MAX = 10_000  # rows that are looked at to say how many there are
SAMPLE = 8
CHOSEN_MAX = 200

VERBS = {
    Action.RETRY: "Retry",
    Action.CANCEL: "Cancel",
    Action.PAUSE: "Pause",
    Action.RESUME: "Resume",
    Action.PURGE: "Drop",
}


MORE = {
    Action.RETRY: [Field("version", "From version", hint="0: its beginning. Empty: the last of each.")],
    Action.CANCEL: [WITHIN],
    Action.PAUSE: [Field("for", "For", hint="Such as 2h: then they go on by themselves.")],
}
"""What the form asks for beside the reason."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be acted on: rows that were chosen, or a filter."""

    action: Action
    ids: Sequence[str]
    q: str
    reason: str = ""
    how: How = AS_USUAL

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """As fields of a form."""
        return [("action", self.action), ("q", self.q), *(("id", work_id) for work_id in self.ids)]


@dataclass(frozen=True, slots=True)
class Matched:
    """What an action would be done to.

    Attributes:
        count: at least so many;
        more: not all was looked at.
        sample: the first of them.
        engines: that it may come to: of those that are named, or the one that the filter names.
    """

    count: int
    more: bool
    sample: Sequence[IndexRow]
    engines: frozenset[str]

    def check(self, principal: Principal, action: Action) -> None:
        """Let nobody on who may not do it to so much, or to Roost's own work.

        Raises:
            Problem: they may not.
        """
        deeds = {on_work(engine, action) for engine in self.engines}
        for deed in (Deed.DROP if action is Action.PURGE else None, *deeds):
            check(principal, deed)
        check(principal, Deed.UNCOUNTED if self.more else None)


async def ask(request: Request) -> Response:
    """`POST /work/bulk`: what would happen."""
    desk = desk_of(request)
    return await _confirm(request, await _target(request), desk)


async def do(request: Request) -> Response:
    """`POST /work/bulk/do`: begins the operation."""
    desk, principal = desk_of(request), principal_of(request.scope)
    target = await _target(request)
    work_id = await begin(desk, principal, target)
    return to(request, f"/operations/{segment(work_id)}?did=operation")


async def begin(desk: Desk, principal: Principal, target: Target, *, key: str | None = None) -> str:
    """Begin the operation; its id. Durable on return.

    Args:
        key: the same key begins it once.

    Raises:
        Problem: the principal may not.
    """
    matched = await look(desk, target)
    matched.check(principal, target.action)
    operation = Operation(
        action=target.action,
        where="" if target.ids else target.q,
        ids=tuple(target.ids),
        reason=target.reason,
        actor=principal.actor,
        at=desk.now,
        by_seconds=target.how.by_seconds,
        for_seconds=target.how.for_seconds,
        version=target.how.version,
        expected=None if matched.more else matched.count,
    )
    work_id = await operating.start(desk.client(principal), operation, key=key)
    desk.take_up(work_id)
    desk.shared.forget()
    return work_id


async def _confirm(request: Request, target: Target, desk: Desk) -> Response:
    matched = await look(desk, target)
    matched.check(principal_of(request.scope), target.action)
    count = f"more than {matched.count}" if matched.more else str(matched.count)
    what = "work item" if count == "1" else "work items"
    says = {
        Action.RETRY: f"{count} {what} go on from their last version, with fresh attempts.",
        Action.CANCEL: f"{count} {what} end as cancelled; a running step may finish first.",
        Action.PAUSE: f"{count} {what} are put on hold; a running step is committed first.",
        Action.RESUME: f"{count} {what} go on.",
        Action.PURGE: f"{count} {what} are deleted with their history, for good.",
    }
    tracked = " An operation does it, which you can watch, hold and end."
    return await desk.page(
        request,
        "confirm.html",
        title=f"{VERBS[target.action]} {count} {what}?",
        says=says[target.action] + tracked
        if matched.count
        else "Nothing that matches is in a state for this.",
        action="/work/bulk/do",
        fields=refill([REASON, *MORE.get(target.action, ())], None) if matched.count else (),
        hidden=target.hidden,
        sample=matched.sample,
        verb=f"{VERBS[target.action]} {count}",
        back="/work",
        is_danger=target.action in (Action.CANCEL, Action.PURGE),
        is_plain=False,
        problem="",
    )


async def _target(request: Request) -> Target:
    """What a form names."""
    texts = await pairs_of(request)
    fields: Form = dict(texts)
    ids = [check_work_id(value) for name, value in texts if name == "id"]
    action = fields.get("action", "")
    if action not in list(Action):
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_action", "There is no such action.")
    reason = fields.get("reason", "")[:REASON_MAX_CHARS]
    how = How(seconds_of(fields, "within"), seconds_of(fields, "for"), version_of(fields))
    return Target(Action(action), ids[:CHOSEN_MAX], fields.get("q", ""), reason, how)


async def look(desk: Desk, target: Target) -> Matched:
    """What it would be done to; nothing is.

    Raises:
        Problem: it names nothing.
        InputError: the filter is not understood.
    """
    target.how.check(target.action)
    if not (target.ids or target.q.strip()):
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "nothing_named",
            "This would act on all work.",
            "Choose rows, or filter first: an empty filter is not taken.",
        )
    if target.ids:
        found = [await desk.runtime.backend.index.get(work_id) for work_id in target.ids]
        known = [row for row in found if row is not None]
        rows = [row for row in known if applies(target.action, row)]
        return Matched(len(rows), False, rows[:SAMPLE], frozenset(row.engine for row in known))
    return await _matching(desk, target)


async def _matching(desk: Desk, target: Target) -> Matched:
    where = filters.parse(target.q, desk.now)
    count, looked_at = 0, 0
    sample: list[IndexRow] = []
    engines = frozenset({where.query.engine or ""})  # Roost's own work is meant only where it is named
    cursor: str | None = None
    while True:
        page = await desk.runtime.client.find(where, cursor=cursor, limit=PAGE)
        rows = [row for row in page.rows if applies(target.action, row) and is_meant(where, row)]
        count, looked_at, cursor = count + len(rows), looked_at + page.looked_at, page.cursor
        sample += rows[: SAMPLE - len(sample)]
        if cursor is None or looked_at >= LOOK_MAX:
            return Matched(count, cursor is not None, sample, engines)
