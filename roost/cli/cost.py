"""`roost aws cost`: what work costs on AWS."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli import options
from roost.cli.output import OK, print_json, print_table, say
from roost.errors import InputError, SettingsError

if TYPE_CHECKING:
    from roost.journal.entries import Entry
    from roost.models import Snapshot, WorkItem
    from roost.storage.aws.cost import Bill, Unit
    from roost.wiring import Runtime

MILLION = 1_000_000
_UNITS: dict[str, tuple[Unit, ...]] = {
    "WRITE UNITS": ("dynamodb_write_unit",),
    "READ UNITS": ("dynamodb_read_unit",),
    "SQS": ("sqs_request",),
    "S3": ("s3_put", "s3_get"),
}
_READ_AT_ONCE = 8


def cost(
    work_ids: options.OptionalWorkIdsArgument = None,
    from_events: Annotated[
        bool, typer.Option("--from-events", help="Charge for the journals of work that is stored.")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="With --from-events: of the newest N.")
    ] = 100,
    steps: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Else: of work of so many steps in one burst,")
    ] = 10,
    state_bytes: Annotated[
        int, typer.Option(min=2, max=1 << 20, metavar="N", help="each with a state of so many bytes.")
    ] = 500,
    batch: Annotated[
        int,
        typer.Option(
            min=1, max=10, metavar="N", help="Work items that share a request to SQS; under load, 3 to 6."
        ),
    ] = 1,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Turn journals into write units, read units, requests and dollars; no account is needed.

    With --from-events for work that is stored, in any storage, as if it were on AWS; without
    it for work that is made up, with states that can hardly be compressed. Not in the sums:
    compute, storage, idle workers, and what people look at.

    Examples:

      roost aws cost --steps 20 --state-bytes 900

      roost aws cost --from-events --limit 50 --batch 4

      roost aws cost --from-events --json
    """
    if work_ids and not from_events:
        raise InputError("work ids are looked up in what is stored", hint="Add --from-events.")

    async def use(runtime: Runtime) -> int:
        found = [entries async for entries in _journals(runtime, work_ids or [], limit)]
        return _print(found, batch, as_json)

    if from_events:
        options.run(options.settings_of(storage, home, config), use)
    else:
        options.finish(_made_up(steps, state_bytes, batch, as_json))


async def _journals(runtime: Runtime, work_ids: Sequence[str], limit: int) -> AsyncIterator[Sequence[Entry]]:
    """The whole journals of these work items, or of the newest ones."""
    import asyncio

    from roost.storage.query import IndexQuery

    async def read(work_id: str) -> Sequence[Entry]:
        return [entry async for entry in runtime.client.events(work_id)]

    chosen, cursor = list(work_ids), None
    while not work_ids and len(chosen) < limit:
        page = await runtime.client.list(IndexQuery(), cursor=cursor, limit=limit - len(chosen))
        chosen += [row.work_id for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
    for start in range(0, len(chosen), _READ_AT_ONCE):
        for entries in await asyncio.gather(*map(read, chosen[start : start + _READ_AT_ONCE])):
            yield entries


async def _made_up(steps: int, state_bytes: int, batch: int, as_json: bool) -> int:
    """Run one work item in memory and charge for its journal."""
    from roost.clock import SystemClock, SystemIds
    from roost.core.client import Client
    from roost.core.parts import CoreSettings, Parts
    from roost.core.session import Session
    from roost.engine import EngineRegistry
    from roost.models import Lane
    from roost.storage.memory import MemoryBackend

    parts = Parts(
        MemoryBackend(), SystemClock(), SystemIds(), CoreSettings(burst_steps=steps, burst_seconds=3600.0)
    )
    client = Client(parts)
    work_id = await client.enqueue(_MadeUp.engine_id)
    [delivery] = await parts.backend.queue.receive(
        1, visibility_seconds=3600.0, wait_seconds=0.0, lanes=[*Lane]
    )
    engines = EngineRegistry([_MadeUp(steps, state_bytes)])
    await Session(parts, engines, "cost", delivery, is_draining=lambda: False).run()
    return _print([[entry async for entry in client.events(work_id)]], batch, as_json)


class _MadeUp:
    """An engine whose states have nothing in common and can hardly be compressed.

    Args:
        state_bytes: of each state's data as JSON.
    """

    engine_id = "made-up"

    def __init__(self, steps: int, state_bytes: int) -> None:
        self._steps = steps
        self._state_bytes = state_bytes

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        from roost.models import Snapshot

        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        version = snapshot.version + 1
        size = max(0, self._state_bytes - len('{"text":""}'))
        noise = hashlib.shake_256(str(version).encode()).digest(size)
        data = {"text": base64.b64encode(noise).decode()[:size]}
        return snapshot.finish(data=data) if version == self._steps else snapshot.next(data=data)


def _print(journals: Sequence[Sequence[Entry]], batch: int, as_json: bool) -> int:
    try:
        from roost.storage.aws.cost import bill_of, idle_poller_usd, prices
    except ModuleNotFoundError as error:
        if error.name not in ("aioboto3", "botocore"):
            raise
        raise SettingsError("the AWS SDK is not installed", hint="pip install 'roost-runtime[aws]'") from None
    bill = bill_of(journals, batch=batch)
    document = _document(bill, idle_poller_usd(), prices())
    if as_json:
        print_json(document)
        return OK
    rows = [_row(part["part"], part["units"], part["usd"], bill.works) for part in document["parts"]]
    rows += [_row("all", document["units"], document["usd"], bill.works)] if rows else []
    columns = ("A WORK ITEM'S", *_UNITS, "USD A MILLION")
    print_table(columns, rows, empty="no work is stored here")
    if rows:
        _say_sums(document)
    return OK


def _document(bill: Bill, idle_poller_usd: float, prices: dict[str, Any]) -> dict[str, Any]:
    """What `--json` prints; `units` and `usd` are sums over all the work items."""
    parts = [
        {
            "part": part,
            "units": {unit: count for (one, unit), count in bill.units.items() if one == part},
            "usd": bill.usd(part),
        }
        for part in bill.parts
    ]
    return {
        "prices": prices,
        "works": bill.works,
        "steps": bill.steps,
        "burst_steps": bill.burst_steps,
        "parts": parts,
        "units": {unit: bill.count(unit) for units in _UNITS.values() for unit in units},
        "usd": bill.usd(),
        "usd_per_million_works": _per_million(bill.usd(), bill.works),
        "usd_per_million_steps": _per_million(bill.usd(), bill.steps),
        "usd_per_million_burst_steps": _per_million(bill.usd("burst step"), bill.burst_steps),
        "idle_poller_usd_per_month": idle_poller_usd,
    }


def _per_million(usd: float, count: int) -> float | None:
    return usd / count * MILLION if count else None


def _row(name: str, units: dict[Unit, float], usd: float, works: int) -> tuple[str, ...]:
    """A line of the table: units of one work item, dollars of a million."""
    numbers = (sum(units.get(unit, 0) for unit in column) / works for column in _UNITS.values())
    return (name, *(f"{number:.2f}" if number else "-" for number in numbers), f"{usd / works * MILLION:.2f}")


def _say_sums(document: dict[str, Any]) -> None:
    each = document["usd_per_million_burst_steps"]
    further = "" if each is None else f", {each:.2f} where the lease is kept"
    say(
        f"work items: {document['works']}, steps: {document['steps']}; a million steps cost "
        f"{document['usd_per_million_steps'] or 0:.2f} USD{further}"
    )
    say(
        f"an idle worker polls three queues, each for {document['idle_poller_usd_per_month']:.3f} USD a month"
    )
    say(f"prices of {document['prices']['date']}, {document['prices']['region']}")
