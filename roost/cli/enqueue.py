"""`roost enqueue`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from roost.cli import completion, options
from roost.cli.budget import amounts
from roost.cli.lines import (
    BOM,
    Checker,
    EngineOptions,
    OwnNames,
    Placed,
    at_line,
    opened,
    read_lines,
    set_aside,
)
from roost.cli.output import print_json
from roost.errors import InputError, RoostError
from roost.names import PRIORITY_MAX, IfBusy, Scope

if TYPE_CHECKING:
    from roost.wiring import Runtime

BATCH = 1000
_WITH_CAPACITY = re.compile(r"(.*)=([+-]?\d[\d_.]*)", re.DOTALL)
_DIGITS_MAX = 9  # of a capacity: Python reads no number of 5,000
_CHECKED_AT_ONCE = 100  # lines whose ids and keys are looked for at a time


def enqueue(
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine", metavar="NAME", help="The engine that runs it.", autocompletion=completion.engines
        ),
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="A JSON object, @FILE, or - for stdin.")
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(
            "--resource",
            metavar="NAME[=N]",
            help="Held while it runs, exclusively or by N at a time; repeatable. NAME=1 for a NAME with =.",
        ),
    ] = None,
    resource_scope: Annotated[
        Scope, typer.Option("--resource-scope", help="`work`: held until it ends, also while it sleeps.")
    ] = Scope.STEP,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="TIME", help="Not before: 30s, 5m, 2d.")
    ] = None,
    priority: Annotated[
        int,
        typer.Option(
            "--priority",
            min=-PRIORITY_MAX,
            max=PRIORITY_MAX,
            help="Above 0: high lane; below 0: low lane.",
        ),
    ] = 0,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="TIME", help="Fails if not done: 2h, or an ISO instant."),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget", metavar="NAME=N", help="Parks there and asks: steps=100, usd=2.5; repeatable."
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="To find it by; repeatable."),
    ] = None,
    family_budget: Annotated[
        list[str] | None,
        typer.Option(
            "--family-budget", metavar="NAME=N", help="The same for it and all that comes of it, together."
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="The same key gives the same work item."),
    ] = None,
    idempotency_time: Annotated[
        str | None,
        typer.Option(
            "--idempotency-time",
            metavar="TIME",
            help="How long the key stands for the work: 24h. Without it as long as the work is kept.",
        ),
    ] = None,
    conversation: Annotated[
        str | None,
        typer.Option("--conversation", metavar="KEY", help="Of its work, one item runs at a time."),
    ] = None,
    if_busy: Annotated[
        IfBusy | None,
        typer.Option(
            "--if-busy",
            help="If earlier work of the conversation goes on: wait behind it (queue), fail (reject), "
            "cancel it (interrupt), or cancel it and begin with its last snapshot (fork).",
        ),
    ] = None,
    work_id: Annotated[str | None, typer.Option("--work-id", metavar="ID", help="An id of your own.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="Many items as JSON Lines; - for stdin.")
    ] = None,
    any_engine: Annotated[
        bool, typer.Option("--any-engine", help="The engine is installed elsewhere; don't look for it here.")
    ] = False,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Enqueue work; prints its id, and nothing else, on stdout.

    A line of --file is an object with `payload` and, where wanted, `engine`, `resources`,
    `capacities` (an object of whole numbers), `resource_scope`, `delay`, `priority`,
    `deadline`, `budget` and `family_budget` (objects of numbers), `labels` (of texts),
    `idempotency_key`, `idempotency_time`,
    `conversation`, `if_busy` and `work_id`. All lines are checked before any is stored.

    Examples:

      roost enqueue --engine demo --payload '{"count": 5}'

      WORK_ID=$(roost enqueue --engine watchlist --resource domain:example.com --payload @watch.json)

      roost enqueue --engine demo --file items.jsonl
    """
    settings = options.settings_of(storage, home, config)
    if settings.storage.startswith("memory") and options.REMOTE.url is None:
        raise InputError(
            "storage `memory` is gone when this command ends, and the work with it",
            hint="It is for tests in one process. Leave --storage and ROOST_STORAGE out, or name another.",
        )
    checks = None if any_engine else settings.engines
    if file is not None:
        _refuse_beside_file(
            {
                "--payload": payload,
                "--resource": resource,
                "--resource-scope": resource_scope is Scope.WORK,
                "--delay": delay,
                "--priority": priority,
                "--deadline": deadline,
                "--budget": budget,
                "--label": label,
                "--family-budget": family_budget,
                "--idempotency-key": idempotency_key,
                "--work-id": work_id,
                "--conversation": conversation,
                "--if-busy": if_busy,
                "--idempotency-time": idempotency_time,
            }
        )
        with opened(file, "--file") as lines:
            options.run(settings, lambda runtime: _enqueue_lines(runtime, lines, engine, checks, as_json))
        return
    fields = {
        "engine": engine,
        "payload": _payload(payload),
        **_resources(resource or []),
        "resource_scope": resource_scope.value,
        "delay": delay,
        "priority": priority,
        "deadline": deadline,
        "budget": amounts(budget or [], "--budget"),
        "labels": _labels(label or []),
        "family_budget": amounts(family_budget or [], "--family-budget"),
        "idempotency_key": idempotency_key,
        "work_id": work_id,
        "conversation": conversation,
        "if_busy": None if if_busy is None else if_busy.value,
        "idempotency_time": idempotency_time,
    }
    options.run(settings, lambda runtime: _enqueue_one(runtime, fields, checks, as_json))


async def _enqueue_one(
    runtime: Runtime, fields: dict[str, Any], checks: EngineOptions | None, as_json: bool
) -> int:
    work = Checker(runtime.parts.clock.now(), checks).new_work("", fields)
    [work_id] = await runtime.client.enqueue_many([work])
    if as_json:
        print_json({"work_id": work_id})
    else:
        print(work_id, flush=True)
    return 0


async def _enqueue_lines(
    runtime: Runtime, file: IO[bytes], engine: str | None, checks: EngineOptions | None, as_json: bool
) -> int:
    """Enqueue the work of all lines in batches, and print the ids; as one document at the end."""
    checker = Checker(runtime.parts.clock.now(), checks)
    shown: list[dict[str, str]] = []
    own = OwnNames()
    size = BATCH if options.REMOTE.url is None else 1  # a console takes one at a time
    placed = ((line[0], checker.new_work(*line)) for line in read_lines(file, engine))
    with set_aside(own.watch(placed)) as again:
        if own and options.REMOTE.url is None:
            await _refuse_taken(runtime, again())
        works = (work for _, work in again())
        while batch := list(islice(works, size)):
            ids = await runtime.client.enqueue_many(batch)
            if as_json:
                shown += [{"work_id": work_id} for work_id in ids]
            else:
                print("\n".join(ids), flush=True)
    if as_json:
        print_json(shown)
    return 0


async def _refuse_taken(runtime: Runtime, placed: Iterator[Placed]) -> None:
    """Refuse a file if an id or key in it stands for other work already, before any of it is stored.

    Raises:
        EnqueueConflict: it does; names the first such line.
    """
    import asyncio

    own = (one for one in placed if one[1].work_id is not None or one[1].idempotency_key is not None)
    while part := list(islice(own, _CHECKED_AT_ONCE)):
        checks = [runtime.client.check_not_taken(work) for _, work in part]
        for (where, _), fault in zip(
            part, await asyncio.gather(*checks, return_exceptions=True), strict=True
        ):
            if isinstance(fault, RoostError):
                raise at_line(where, fault)
            if fault is not None:
                raise fault


def _resources(given: list[str]) -> dict[str, Any]:
    """The fields for resources given as `NAME` or `NAME=N`."""
    names, capacities = [], {}
    for text in given:
        found = _WITH_CAPACITY.fullmatch(text)
        names.append(found[1] if found else text)
        if found and not (found[1] and found[2].isdecimal() and len(found[2]) <= _DIGITS_MAX):
            raise InputError(
                f"--resource {text[:80]!r} is no NAME=N, with a whole number from 1 to 1000",
                hint=f"For a resource of that very name: --resource '{text[:80]}=1'",
            )
        if found:
            capacities[found[1]] = int(found[2])
    return {"resources": names, "capacities": capacities}


def _labels(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, mark, value = text.partition("=")
        if not mark:
            raise InputError(f"--label {text!r} has no =", hint="Write --label NAME=VALUE.")
        if found.setdefault(name, value) != value:
            raise InputError(f"--label {name} is given twice", hint="Give one: a label has one value.")
    return found


def _refuse_beside_file(given: dict[str, object]) -> None:
    for name, value in given.items():
        if value:
            raise InputError(f"{name} and --file are both given", hint="Write it into the lines of the file.")


def _payload(text: str | None) -> dict[str, Any]:
    from roost import jsonio

    if text is None:
        return {}
    if text == "-" or text.startswith("@"):
        return jsonio.parse_object(read_input(text.removeprefix("@"), "--payload"), what="--payload")
    return jsonio.parse_object(text.encode("utf-8", "surrogateescape"), what="--payload")


def read_input(name: str, option: str) -> bytes:
    """What a file holds, or standard input (`-`).

    Raises:
        InputError: it can't be read, or holds more than any JSON that is taken; it is not read to its end.
    """
    from roost.jsonio import PAYLOAD_MAX_BYTES

    with opened(name, option) as file:
        try:
            text = file.read(PAYLOAD_MAX_BYTES + len(BOM) + 1).removeprefix(BOM)
        except OSError as error:
            raise InputError(f"{option}: {name}: {error.strerror}") from None
    if len(text) > PAYLOAD_MAX_BYTES:
        raise InputError(
            f"{option} has more than {PAYLOAD_MAX_BYTES} bytes",
            hint="Put large content into an artifact or a file, and name that here.",
        )
    return text
