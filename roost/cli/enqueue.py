"""`roost enqueue`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost import times
from roost.cli import completion, options
from roost.cli.budget import amounts
from roost.cli.output import print_json
from roost.errors import EngineNotFound, InputError, RoostError
from roost.names import IfBusy, Scope

if TYPE_CHECKING:
    from roost.core.new_work import NewWork
    from roost.engine import EngineRegistry
    from roost.wiring import Runtime

BATCH = 1000
LINES_MAX = 1_000_000
_LINE_KEYS = frozenset(
    {
        *("engine", "payload", "resources", "capacities", "resource_scope", "delay", "priority"),
        *("deadline", "idempotency_key", "idempotency_time", "work_id", "conversation", "if_busy"),
        "labels",
    }
)
_WITH_CAPACITY = re.compile(r"(.+)=(\d{1,9})", re.DOTALL)


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
    priority: Annotated[int, typer.Option("--priority", help="Above 0: high lane; below 0: low lane.")] = 0,
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
    if file is None:
        fields = {
            "engine": engine,
            "payload": None,
            **_resources(resource or []),
            "resource_scope": resource_scope.value,
            "delay": delay,
            "priority": priority,
            "deadline": deadline,
            "budget": amounts(budget or [], "--budget"),
            "labels": dict(_label(text) for text in label or []),
            "family_budget": amounts(family_budget or [], "--family-budget"),
            "idempotency_key": idempotency_key,
            "work_id": work_id,
            "conversation": conversation,
            "if_busy": None if if_busy is None else if_busy.value,
            "idempotency_time": idempotency_time,
        }
        lines: Iterator[tuple[str, dict[str, Any]]] = iter([("", fields | {"payload": _payload(payload)})])
    else:
        lines = _lines(read_input(file, "--file"), {"engine": engine})

    async def use(runtime: Runtime) -> int:
        now = runtime.parts.clock.now()
        registry = None if any_engine else _Registry(settings.engines)
        works = [_new_work(where, fields, now, registry) for where, fields in lines]
        ids: list[str] = []
        for start in range(0, len(works), BATCH):
            part = works[start : start + BATCH]
            for new_id in await runtime.client.enqueue_many(part):
                ids.append(new_id)
                if not as_json:
                    print(new_id, flush=True)
        if as_json:
            print_json([{"work_id": new_id} for new_id in ids] if file else {"work_id": ids[0]})
        return 0

    options.run(settings, use)


def _resources(given: list[str]) -> dict[str, Any]:
    """The fields for resources given as `NAME` or `NAME=N`."""
    names, capacities = [], {}
    for text in given:
        found = _WITH_CAPACITY.fullmatch(text)
        names.append(found[1] if found else text)
        if found:
            capacities[found[1]] = int(found[2])
    return {"resources": names, "capacities": capacities}


def _label(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise InputError(f"--label {text!r} has no =", hint="Write --label NAME=VALUE.")
    return name, value


def _refuse_beside_file(given: dict[str, object]) -> None:
    for name, value in given.items():
        if value:
            raise InputError(f"{name} and --file are both given", hint="Write it into the lines of the file.")


class _Registry:
    """Engines as payloads need them, each loaded once."""

    def __init__(self, engine_options: dict[str, dict[str, Any]]) -> None:
        self._options = engine_options
        self._loaded: dict[str, EngineRegistry] = {}

    def check(self, engine: str, payload: dict[str, Any]) -> None:
        """Check a payload where the engine is installed.

        Raises:
            EngineNotFound: it is not.
            PayloadError: the payload does not fit.
        """
        from roost.loading import installed_engines, load_engines

        if engine not in self._loaded:
            installed = installed_engines()
            if engine not in installed:
                raise EngineNotFound(
                    f"no engine {engine!r} is installed here",
                    hint=f"Installed: {', '.join(sorted(installed)) or 'none'}. For workers "
                    "elsewhere, or that run it as module:attribute, give its engine_id and --any-engine.",
                )
            self._loaded[engine] = load_engines(engine, self._options)
        spec = self._loaded[engine].get(engine)
        if spec is None:
            ids = ", ".join(spec.engine_id for spec in self._loaded[engine])
            raise EngineNotFound(
                f"the engine installed as {engine!r} calls itself {ids!r}",
                hint=f"Workers know it by that name: --engine {ids} --any-engine",
            )
        spec.check_payload(payload)


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
        InputError: it can't be read.
    """
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{option}: {name}: {error.strerror}") from None


def _lines(content: bytes, defaults: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    from roost import jsonio

    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}: "
        if number > LINES_MAX:
            raise InputError(f"{where}more than {LINES_MAX} lines", hint="Split the file.")
        fields = jsonio.parse_object(line, what=f"line {number}", max_bytes=jsonio.PAYLOAD_MAX_BYTES * 2)
        unknown = sorted(fields.keys() - _LINE_KEYS)
        if unknown:
            raise InputError(
                f"{where}unknown key {unknown[0]!r}", hint=f"Known: {', '.join(sorted(_LINE_KEYS))}."
            )
        yield where, {**{key: value for key, value in defaults.items() if value is not None}, **fields}


def _new_work(where: str, fields: dict[str, Any], now: float, registry: _Registry | None) -> NewWork:
    """A work item as it came from the command line or a line of a file.

    Raises:
        InputError: a field is missing or wrong; the message begins with `where`.
    """
    try:
        return _checked(fields, now, registry)
    except RoostError as error:
        if where:
            error.args = (f"{where}{error}",)
        raise


def _of_conversation(fields: dict[str, Any]) -> dict[str, Any]:
    if_busy, key_time = fields.get("if_busy") or IfBusy.QUEUE, fields.get("idempotency_time")
    if if_busy not in tuple(IfBusy):
        raise InputError(f"`if_busy` is {if_busy!r}, not one of {', '.join(IfBusy)}")
    return {
        "conversation": fields.get("conversation"),
        "if_busy": IfBusy(if_busy),
        "idempotency_seconds": None if key_time is None else times.seconds(str(key_time), "idempotency time"),
    }


def _checked(fields: dict[str, Any], now: float, registry: _Registry | None) -> NewWork:
    from roost.core.new_work import NewWork, check_new_work

    engine, payload = fields.get("engine"), fields.get("payload", {})
    if not isinstance(engine, str) or not engine:
        raise InputError("no engine is named", hint="Add --engine NAME; `roost engines` lists them.")
    resources = fields.get("resources") or []
    if not isinstance(resources, list) or not all(isinstance(name, str) for name in resources):
        raise InputError("`resources` is not a list of texts")
    capacities = fields.get("capacities") or {}
    if not isinstance(capacities, dict) or not all(type(most) is int for most in capacities.values()):
        raise InputError("`capacities` is not an object of whole numbers")
    scope = fields.get("resource_scope") or Scope.STEP
    if scope not in tuple(Scope):
        raise InputError(f"`resource_scope` is {scope!r}, not `step` or `work`")
    priority = fields.get("priority") or 0
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise InputError("`priority` is not a whole number")
    for name in ("idempotency_key", "work_id", "conversation"):
        if not isinstance(fields.get(name), str | None):
            raise InputError(f"`{name}` is not text")
    labels = fields.get("labels") or {}
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise InputError("`labels` is not an object of texts")
    delay, deadline = fields.get("delay"), fields.get("deadline")
    work = NewWork(
        engine=engine,
        payload=payload,
        resources=tuple(resources),
        capacities=capacities,
        resource_scope=Scope(scope),
        delay_seconds=0.0 if delay is None else times.seconds(str(delay), "delay"),
        priority=priority,
        deadline_at=None if deadline is None else times.instant(str(deadline), now, "deadline"),
        budget=fields.get("budget") or {},
        labels=labels,
        family_budget=fields.get("family_budget") or {},
        idempotency_key=fields.get("idempotency_key"),
        work_id=fields.get("work_id"),
        **_of_conversation(fields),
    )
    check_new_work(work, now)
    if registry is not None:
        registry.check(engine, payload)
    return work
