"""`roost status`, `list` and `wait`: looking at work."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost import spent, times
from roost.cli import acting, completion, options
from roost.cli.output import (
    OK,
    TIMED_OUT,
    WORK_CANCELLED,
    WORK_FAILED,
    check_reader,
    command,
    is_terminal,
    plain,
    print_json,
    print_json_line,
    print_table,
    safe,
    say,
    styled,
)
from roost.names import Order, State

if TYPE_CHECKING:
    from roost.core.client import WorkView
    from roost.core.where import Where
    from roost.journal.entries import Control, IndexRow
    from roost.journal.explain import Explanation
    from roost.wiring import Runtime


FOLLOW_SECONDS = 0.2
WATCH_SECONDS = 0.5
_SURE_EVERY = 50  # looks at a journal that did not go on
ALL_PAGE = 1000  # rows of a page with --all
DATA_MAX_CHARS = 4000
CONTROL_FIELDS = (
    "state",
    "reason",
    "since",
    "engine",
    "lane",
    "position",
    "version",
    "step",
    "snapshot_position",
    "lease",
    "failures",
    "interruptions",
    "wake_at",
    "waits",
    "deadline_at",
    "cancel_requested",
    "paused",
    "paused_until",
    "paused_by",
    "budget",
    "spent",
    "created_at",
)
"""What `status --json` shows of the control state; `entries.Control` says what each is."""


def status(
    work_id: options.WorkIdArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again until it has ended.")] = False,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Show one work item: its state and why, its snapshot and artifacts.

    With --json: an object with `item`, `control`, `children` (`total`, `open`), `snapshot` (null
    before the first commit), `artifacts` and `cost`: what the journal takes (`entries`, `bytes`),
    and under `aws` what it cost there (`calls`, `write_units`, `read_units`, `usd`, …; null on
    other storage). With --watch the cost comes when the work has ended.

    Examples:

      roost status "$WORK_ID"

      roost status "$WORK_ID" --json | jq .control.state
    """

    async def use(runtime: Runtime) -> int:
        view: WorkView | None = None
        while True:
            view = await runtime.client.status(work_id, known=view)
            is_last = not watch or view.control.state.is_terminal
            cost = await _cost(runtime, work_id) if is_last else None
            if as_json:
                (print_json_line if watch else print_json)({**status_document(view), "cost": cost})
            else:
                why = await runtime.client.explain(work_id)
                _print_status(view, runtime.parts.clock.now(), cost, why, is_last=is_last)
            if is_last:
                return OK
            await _change(runtime, work_id, view.control)
            if not as_json:
                print()

    options.run(options.settings_of(storage, home, config), use)


def status_document(view: WorkView) -> dict[str, Any]:
    """What `status --json` prints; a stable format."""
    from roost.journal import family

    snapshot = None if view.snapshot is None else view.snapshot.model_dump(mode="json")
    return {
        "item": view.item.model_dump(mode="json"),
        "control": {name: plain(getattr(view.control, name)) for name in CONTROL_FIELDS},
        "children": {
            "total": family.total(view.control.family),
            "open": family.open_count(view.control.family),
        },
        "snapshot": snapshot,
        "artifacts": [artifact.model_dump(mode="json") for artifact in view.artifacts],
    }


async def _cost(runtime: Runtime, work_id: str) -> dict[str, Any]:
    """What it cost so far: counted here, or by the console."""
    if options.REMOTE.url is not None:
        return await runtime.client.cost(work_id)  # type: ignore[attr-defined,no-any-return]  # a RemoteClient
    return await spent.cost_of(runtime.client, runtime.backend.url, work_id)


async def _change(runtime: Runtime, work_id: str, control: Control) -> None:
    """Wait until the journal went on."""
    for look in count(1):
        check_reader()
        await runtime.parts.clock.sleep(WATCH_SECONDS)
        if (await _again(runtime, work_id, control, look)).position > control.position:
            return


async def _again(runtime: Runtime, work_id: str, control: Control, look: int) -> Control:
    """The control state now. A look that finds nothing new reads nothing; some ask if it is there at all."""
    if look % _SURE_EVERY == 0:
        return await runtime.client.control(work_id)
    return await runtime.client.control_after(work_id, control.position) or control


def _print_status(
    view: WorkView, now: float, cost: dict[str, Any] | None, why: Explanation, *, is_last: bool
) -> None:
    control, item = view.control, view.item
    lines: list[tuple[str, str]] = [
        ("work id", item.work_id),
        ("engine", item.engine),
        ("state", styled(_state(view).value)),
        ("why", why.text),
        ("version", f"{control.version}, step {control.step!r}" if control.version else "none committed yet"),
        ("enqueued", f"{times.clock(item.created_at)} ({times.relative(item.created_at, now)})"),
    ]
    lines += _more(view)
    lines.append(("payload", _short_json(item.payload)))
    if view.snapshot is not None:
        lines.append(("data", _short_json(view.snapshot.data)))
    lines += [("artifact", f"{a.name}  {a.size_bytes} bytes  {a.digest}") for a in view.artifacts]
    if cost is not None:
        lines.append(("cost", spent.in_words(cost)))
    for name, text in lines:
        print(f"{name + ':':11} {text if name == 'state' else safe(text, keep_lines=True)}")
    if is_terminal() and is_last:
        say(f"next: {_next_command(view)}")


def _more(view: WorkView) -> Iterator[tuple[str, str]]:
    """What only some work has."""
    control, item = view.control, view.item
    if item.forked_from is not None:
        yield "fork of", "{} at version {}".format(*item.forked_from)
    if control.budget:
        yield "budget", _budget(control)
    if item.resources:
        yield "resources", ", ".join(item.resources)
    if control.failures or control.interruptions:
        yield "this step", f"{control.failures} failed attempts, {control.interruptions} interruptions"
    if control.family is not None:
        document = status_document(view)["children"]
        yield "children", f"{document['total']}, {document['open']} open (roost tree)"
    if view.row is not None and view.row.progress is not None:
        fraction, text = view.row.progress
        yield "progress", f"{fraction:.0%} {text}" if fraction else text


def _budget(control: Control) -> str:
    by_name = dict(control.spent)
    return ", ".join(f"{name} {by_name.get(name, 0.0):g} of {limit:g}" for name, limit in control.budget)


def _state(view: WorkView) -> State:
    """Its state as lists show it, where the row has not fallen behind."""
    row = view.row
    return row.state if row is not None and row.position == view.control.position else view.control.state


def _short_json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=2 if is_terminal() else None)
    if len(text) > DATA_MAX_CHARS:
        text = f"{text[:DATA_MAX_CHARS]}… ({len(text)} characters; --json shows all)"
    return text.replace("\n", "\n" + " " * 12)


def _next_command(view: WorkView) -> str:
    """What is worth a look now, as a shell takes it."""
    work_id = view.item.work_id
    if view.artifacts:
        return command("artifacts get", work_id, view.artifacts[-1].name)
    if view.control.state.is_terminal:
        return command("events", work_id)
    return command("status --watch", work_id)


def list_work(
    state: Annotated[State | None, typer.Option("--state", help="Only work in this state.")] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", help="Only work of this engine.", autocompletion=completion.engines),
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Only ids that begin so.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most so many.")] = 50,
    label: acting.Label = None,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="WORK_ID", help="Only children of this one.")
    ] = None,
    where: acting.Where = None,
    sort: Annotated[
        Order,
        typer.Option("--sort", help="Which first; on AWS by updated, since, failures: of the newest 2,000."),
    ] = Order.NEWEST,
    everything: Annotated[bool, typer.Option("--all", help="All that match, page after page.")] = False,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on where a page ended.")] = None,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List work items: newest or oldest first, what is due next, what changed last (updated), what
    has been longest in its state (since), or where the most attempts failed (failures).

    A filter is one line of parts: state:failed engine:demo -lane:low label:tenant=acme id:01J
    parent:ID step:plan worker:w-1 created<3d updated>1h since>10m attempts>2 version:0
    'reason:"*no answer*"'; `*` stands for any text, `-` in front turns a part around, and a plain
    word is looked for in id, step and reason. The console takes the same.

    With --json: an object with `rows` and `cursor` (null on the last page).

    Examples:

      roost list --state failed

      roost list --engine watchlist --json

      roost list --state failed --sort updated

      roost list --where 'state:failed attempts>2 -engine:demo'
    """
    from roost.core.where import parse

    text = acting.Filter(state, engine, prefix, label, where=where, parent=parent).text

    async def use(runtime: Runtime) -> int:
        chosen = parse(text, runtime.parts.clock.now()).sorted(sort)
        rows, go_on = await _rows(runtime, chosen, cursor, limit, everything)
        if as_json:
            print_json({"rows": [plain(row) for row in rows], "cursor": go_on})
            return OK
        now = runtime.parts.clock.now()
        print_table(
            ("WORK ID", "STATE", "ENGINE", "VERSION", "STEP", "UPDATED", "WHY"),
            [_row(row, now) for row in rows],
            empty="no work items; `roost enqueue --engine demo` makes one",
        )
        if go_on is not None:
            say(f"there are more: --cursor {go_on}")
        return OK

    options.run(options.settings_of(storage, home, config), use)


async def _rows(
    runtime: Runtime, where: Where, cursor: str | None, limit: int, everything: bool
) -> tuple[Sequence[IndexRow], str | None]:
    """So many, or with `everything` the rest; and the cursor after them."""
    page = await runtime.client.find(where, cursor=cursor, limit=limit)
    rows = list(page.rows)
    while page.cursor is not None and (everything or len(rows) < limit):
        left = ALL_PAGE if everything else limit - len(rows)
        page = await runtime.client.find(where, cursor=page.cursor, limit=left)
        rows += page.rows
    return rows, page.cursor


def _row(row: IndexRow, now: float) -> tuple[object, ...]:
    why = row.reason
    if row.state is State.SCHEDULED and row.wake_at is not None and row.wake_at > now:
        why = f"goes on {times.relative(row.wake_at, now)}"
    elif row.state is State.SCHEDULED and row.wake_at is not None:
        why = why or f"due since {times.span(now - row.wake_at)}"
    elif row.state is State.RUNNING:
        why = f"held by {row.worker_id}"
    updated = times.relative(row.updated_at, now) if is_terminal() else times.clock(row.updated_at)
    return row.work_id, row.state.value, row.engine, row.version, row.step, updated, why[:80]


def wait(
    work_ids: options.WorkIdsArgument,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Give up after so long.")
    ] = None,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Wait until work items have ended: exit code 0 all done, 7 one failed, 8 one was cancelled,
    124 timed out.

    With --json: a list of objects with work_id, state, version and reason, as they stand at the end.

    Examples:

      roost wait "$WORK_ID" --timeout 5m

      roost wait $(roost enqueue --engine demo --file items.jsonl)
    """
    limit = None if timeout is None else times.seconds(timeout, "--timeout")

    async def use(runtime: Runtime) -> int:
        for work_id in work_ids:  # an id that is none is told of before others are waited for
            await runtime.client.control(work_id)
        has_time = await _all_end(runtime, work_ids, limit)
        controls = {work_id: await runtime.client.control(work_id) for work_id in work_ids}
        if as_json:
            print_json([_end_document(work_id, control) for work_id, control in controls.items()])
        for work_id, control in controls.items():
            reason = " ".join(control.reason.split())  # errors have lines
            say(f"{work_id} is {control.state}{': ' + reason if reason else ''}")
        states = {control.state for control in controls.values()}
        if State.FAILED in states:
            return WORK_FAILED
        if State.CANCELLED in states:
            return WORK_CANCELLED
        return OK if has_time else TIMED_OUT

    options.run(options.settings_of(storage, home, config), use)


async def _all_end(runtime: Runtime, work_ids: Sequence[str], limit_seconds: float | None) -> bool:
    """Wait until all have ended; whether they did in time. Each is asked about at least once."""
    clock = runtime.parts.clock
    end = None if limit_seconds is None else clock.monotonic() + limit_seconds
    for work_id in work_ids:
        control, looks = await runtime.client.control(work_id), count(1)
        while not control.state.is_terminal:
            left = FOLLOW_SECONDS if end is None else end - clock.monotonic()
            if left <= 0:
                return False
            await clock.sleep(min(FOLLOW_SECONDS, left))
            control = await _again(runtime, work_id, control, next(looks))
    return True


def _end_document(work_id: str, control: Control) -> dict[str, Any]:
    """One line of `wait --json`; a stable format."""
    return {
        "work_id": work_id,
        "state": control.state.value,
        "version": control.version,
        "reason": control.reason,
    }
