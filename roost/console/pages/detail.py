"""One work item: why it is where it is, its journal as a picture and as lines, its versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from roost.console import told
from roost.console.desk import Desk, desk_of, int_of
from roost.console.guard import principal_of
from roost.console.pages.actions import ACTIONS, shapes
from roost.console.pretty import TEXT_MAX_CHARS, Text, compare, pretty
from roost.console.pretty import Line as DiffLine
from roost.console.reads import JOURNAL_MAX
from roost.console.roles import Deed, lacks, on_work
from roost.console.timeline import draw
from roost.core.approvals import OpenApproval
from roost.core.client import WorkView
from roost.errors import InputError, SettingsError
from roost.journal import family
from roost.journal.accounts import Balance
from roost.journal.claims import ResourceView
from roost.journal.decide import lease_until
from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Logged
from roost.journal.projection import shown_state
from roost.journal.values import LogLine
from roost.models import Snapshot
from roost.names import APPROVAL_MARK

TABS = ("snapshot", "changes", "payload", "logs", "once", "cost")
TICKS_MAX = 24  # versions that the slider names
DOCUMENT_MAX_CHARS = 10_000  # of a document, where the whole of it is not asked for
CHANGES_MAX = 120  # lines of a comparison, likewise
DETAILS_MAX_CHARS = 2500  # of tracebacks and log lines beside the journal; more are a page that begins there
LOGS_MAX_CHARS = 10_000  # of the tab of logs, newest attempts first
ARTIFACTS_SHOWN, CHILDREN_SHOWN = 20, 20


@dataclass(frozen=True, slots=True)
class Shown:
    """What the right-hand panel shows.

    Attributes:
        version, base: which version; and with which it is compared.
        max_chars: of a document; as many as there may be, where more was asked for.
        text: the document; lines: the comparison (None: too large, or another tab).
        rest: lines of the comparison that are left out.
    """

    tab: str
    version: int
    base: int
    max_chars: int = DOCUMENT_MAX_CHARS
    text: Text | None = None
    lines: Sequence[DiffLine] | None = None
    rest: int = 0
    snapshot: Snapshot | None = None
    problem: str = ""
    cost: Mapping[str, Any] | None = None
    balances: Sequence[Balance] = ()


async def detail(request: Request) -> Response:
    """`GET /work/{work_id}`."""
    desk = desk_of(request)
    view = await desk.reads.view(request.path_params["work_id"])
    work_id = view.item.work_id
    before = int_of(request, "before", -1, low=-1, high=view.control.position + 1)
    newest = await desk.reads.journal(work_id, before=before)
    kinds = request.query_params.get("kinds", "")
    lines = tell_all(newest, kinds)
    is_folded = not request.query_params.get("unfold")
    return await desk.page(
        request,
        "detail.html",
        view=view,
        item=view.item,
        control=view.control,
        why=await desk.explain(view),
        lease_until=lease_until(view.control, view.row),
        picture=draw(
            newest[::-1],
            _drawn_until(view, newest, desk.now),
            lease_until=lease_until(view.control, view.row),
        ),
        journal=told.fold(lines) if is_folded else lines,
        groups=["all", *told.GROUPS],
        kinds=kinds if kinds in told.GROUPS else "all",
        older=newest[-1].position if len(newest) == JOURNAL_MAX and newest[-1].position else None,
        is_oldest=not newest or newest[-1].position == 0,
        shown=await _shown(desk, request, view),
        ticks=ticks(view.control.version),
        whole=whole(lines),
        logs=_logs(newest),
        document_max=DOCUMENT_MAX_CHARS,
        artifacts_shown=ARTIFACTS_SHOWN,
        children_shown=CHILDREN_SHOWN,
        resources=await _resources(desk, view),
        actions=actions(view),
        deeds=deeds(view),
        shapes=shapes(view),
        state=shown_state(view.control),
        relatives=await _relatives(desk, view),
        asks=await _asks(desk, request, view),
        line=await _line(desk, view),
        workspace=_workspace(desk, view),
    )


@dataclass(frozen=True, slots=True)
class Line:
    """The conversation of a work item, and who is in line there, first come first."""

    key: str
    line: Sequence[str]
    is_given: bool


async def _line(desk: Desk, view: WorkView) -> Line | None:
    turn = view.control.turn
    if turn is None or view.item.conversation is None:
        return None
    tail = await desk.runtime.backend.journal.tail(turn.conversation)
    places = tail.control.line if tail is not None else ()
    return Line(view.item.conversation, [place.work_id for place in places], turn.is_given)


async def _asks(desk: Desk, request: Request, view: WorkView) -> Sequence[OpenApproval]:
    """Approvals that can be answered now; their tokens are permissions, so viewers get none."""
    waits = view.control.waits
    if waits is None or lacks(principal_of(request.scope).role, Deed.ANSWER) is not None:
        return ()
    if not any(name.startswith(APPROVAL_MARK) for name in waits.names):
        return ()
    try:
        return await desk.runtime.client.approvals(view.item.work_id)
    except SettingsError:  # no secret to sign with, here
        return ()


def _workspace(desk: Desk, view: WorkView) -> Path | None:
    """Where its workspace is on this host, if it is here."""
    here = desk.runtime.parts.workspaces
    if here is None or here.workspaces.record(view.item.work_id) is None:
        return None
    return here.workspaces.path(view.item.work_id)


def _drawn_until(view: WorkView, newest: Sequence[Entry], now: float) -> float:
    """Where the picture ends: now, in steps of a few seconds so that it is not a new one each time."""
    if not newest or newest[0].position < view.control.position:
        return newest[0].at if newest else now
    step = max((now - newest[-1].at) / 200, 1.0)
    return max(now // step * step, newest[0].at)


def tell_all(newest: Sequence[Entry], kinds: str = "") -> list[told.Told]:
    """Entries in words, newest first, of one group of kinds or all."""
    befores = [*newest[1:], None]
    wanted = told.GROUPS.get(kinds)
    return [
        told.tell(entry, before)
        for entry, before in zip(newest, befores, strict=True)
        if wanted is None or entry.event.kind in wanted
    ]


def whole(lines: Sequence[told.Told]) -> set[int]:
    """The positions whose traceback and log lines are shown: the newest that have some, up to a length."""
    shown: set[int] = set()
    left = DETAILS_MAX_CHARS
    for line in lines:
        trace = len(line.error.traceback) if line.error is not None else 0
        length = trace + sum(len(one.text) for one in line.log)
        if length and (length <= left or not shown):
            shown.add(line.entry.position)
            left -= length
    return shown


def _logs(newest: Sequence[Entry]) -> list[tuple[Entry, Sequence[LogLine]]]:
    """What attempts logged, oldest first: that of the newest, up to a length."""
    found: list[tuple[Entry, Sequence[LogLine]]] = []
    left = LOGS_MAX_CHARS
    for entry in newest:
        log = entry.event.log if isinstance(entry.event, Logged) else ()
        length = sum(len(one.text) for one in log)
        if log and (length <= left or not found):
            found.append((entry, log))
            left -= length
    return found[::-1]


async def _shown(desk: Desk, request: Request, view: WorkView) -> Shown:
    top = view.control.version
    version = int_of(request, "v", top, low=min(top, 1), high=top)
    base = int_of(request, "from", max(version - 1, 0), low=0, high=top)
    tab = request.query_params.get("tab", "snapshot")
    tab = tab if tab in TABS else "snapshot"
    chars = TEXT_MAX_CHARS if request.query_params.get("more") else DOCUMENT_MAX_CHARS
    shown = Shown(tab, version, base, max_chars=chars)
    if tab == "payload":
        payload = desk.redaction.apply(view.item.engine, view.item.payload)
        return replace(shown, text=pretty(payload, max_chars=chars))
    if tab == "cost":
        work_id, client = view.item.work_id, desk.runtime.client
        shared = view.control.account or view.control.is_daily
        balances = await client.balances(work_id) if shared else ()
        return replace(shown, cost=await desk.reads.cost(work_id), balances=balances)
    if tab in ("once", "logs") or not version:
        return shown
    try:
        return await _version(desk, view, shown)
    except InputError as error:  # dropped, as the settings say
        return replace(shown, problem=f"{error}. {error.hint}")


async def _version(desk: Desk, view: WorkView, shown: Shown) -> Shown:
    """A version, or what changed up to it.

    Raises:
        InputError: it is not kept any more.
    """
    tab, version, base = shown.tab, shown.version, shown.base
    snapshot = await desk.reads.snapshot(view, version)
    if tab == "snapshot":
        text = pretty(document(desk, snapshot), max_chars=shown.max_chars)
        return replace(shown, text=text, snapshot=snapshot)
    other = await desk.reads.snapshot(view, base) if base else None
    left = document(desk, other) if other is not None else {}
    lines = compare(left, document(desk, snapshot))
    if lines is not None and shown.max_chars < TEXT_MAX_CHARS:
        rest = len(lines) - CHANGES_MAX
        return replace(shown, lines=lines[:CHANGES_MAX], rest=max(rest, 0), snapshot=snapshot)
    return replace(shown, lines=lines, snapshot=snapshot)


def document(desk: Desk, snapshot: Snapshot) -> Mapping[str, Any]:
    """What a page shows of a snapshot: the engine's part of it."""
    shown: dict[str, Any] = {"status": snapshot.status, "step": snapshot.step}
    shown["data"] = desk.redaction.apply(snapshot.engine, snapshot.data)
    if snapshot.result is not None:
        shown["result"] = desk.redaction.apply(snapshot.engine, snapshot.result)
    if snapshot.history:
        shown["history"] = snapshot.history
    if snapshot.artifacts:
        shown["artifacts"] = [artifact.name for artifact in snapshot.artifacts]
    return shown


def ticks(top: int) -> list[int]:
    """Versions that the slider names: all, or some at even distances with both ends."""
    if top <= TICKS_MAX:
        return list(range(1, top + 1))
    return sorted({1 + round(n * (top - 1) / (TICKS_MAX - 1)) for n in range(TICKS_MAX)})


@dataclass(frozen=True, slots=True)
class Relatives:
    """The family of a work item: its parents from the top, its children, how many there are."""

    parents: Sequence[IndexRow]
    children: Sequence[IndexRow]
    total: int
    open: int


async def _relatives(desk: Desk, view: WorkView) -> Relatives:
    control = view.control
    parents = await desk.reads.parents(control.parent.work_id) if control.parent else []
    children = await desk.reads.children(view.item.work_id) if control.family else []
    return Relatives(parents, children, family.total(control.family), family.open_count(control.family))


async def _resources(desk: Desk, view: WorkView) -> Sequence[ResourceView]:
    """Who holds, and who waits for, what this item needs."""
    found = [await desk.reads.resource(name) for name in view.item.resources]
    return [view for views in found for view in views]


def deeds(view: WorkView) -> dict[str, Deed]:
    """What each action on it takes."""
    engine = view.item.engine
    taken = {name: on_work(engine, name) or action.deed for name, action in ACTIONS.items()}
    return taken | {"enqueue": on_work(engine, "enqueue") or Deed.ENQUEUE}


def actions(view: WorkView) -> dict[str, str]:
    """What an operator may do now, by action; a text says why not."""
    is_over = view.control.state.is_terminal
    return {
        "cancel": f"It is {view.control.state} already." if is_over else "",
        "retry": "" if is_over else "Only work that has ended can be retried.",
        "signal": f"It is {view.control.state}; nobody would see the signal." if is_over else "",
        "pause": f"It is {view.control.state} already." if is_over else "",
        "fork": "" if view.control.version else "No version is committed yet.",
        "budget": f"It is {view.control.state} already." if is_over else "",
    }
