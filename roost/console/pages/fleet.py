"""Workers and engines: what the fleet is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import ALIVE_SECONDS, Desk, desk_of, int_of
from roost.console.pulse import Seen
from roost.console.roles import Deed, on_work
from roost.engine import EngineSpec
from roost.journal.entries import IndexRow
from roost.journal.events import Switch
from roost.journal.lines import worker_target
from roost.loading import installed_engines

HELD_SHOWN = 3
LIMIT, LIMIT_MAX = 40, 1000  # workers of a page, those first that are silent, then those that are busy
_RANKS = {"silent": 0, "busy": 1, "idle": 2}


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker, from the index (what it holds) and the feed (what it did).

    Attributes:
        state: `busy`, `silent` (a lease of it ran out) or `idle`.
        is_draining: it is asked to stop.
    """

    worker_id: str
    state: str
    rows: Sequence[IndexRow]
    lease_until: float | None
    seen: Seen | None
    is_draining: bool = False


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine, installed here or only known from its work.

    Attributes:
        fields: of its payloads: name, type and whether it must be given.
        versions: that committed in the last hour, with how many steps.
    """

    engine_id: str
    spec: EngineSpec | None
    fields: Sequence[tuple[str, str, bool]] = ()
    commits: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    versions: Sequence[tuple[str, int]] = ()


async def workers(request: Request) -> Response:
    """`GET /workers`."""
    desk = desk_of(request)
    found = await all_workers(desk)
    limit = int_of(request, "limit", LIMIT, low=1, high=LIMIT_MAX)
    return await desk.page(
        request,
        "workers.html",
        workers=found[:limit],
        total=len(found),
        limit=limit,
        held_shown=HELD_SHOWN,
        backlog=await desk.reads.backlog(),
    )


async def all_workers(desk: Desk) -> list[Worker]:
    """Workers that hold work, and those that did something lately."""
    await desk.pulse.refresh()
    now, asked = desk.now, {switch.target for switch in await desk.reads.switches()}
    held = {worker.worker_id: worker for worker in await desk.reads.held()}
    found = [
        Worker(
            name,
            "busy" if worker.lease_until > now else "silent",
            worker.rows,
            worker.lease_until,
            desk.pulse.workers.get(name),
        )
        for name, worker in held.items()
    ]
    found += [
        Worker(name, "idle", [], None, seen)
        for name, seen in sorted(desk.pulse.workers.items())
        if name not in held and seen.last_at > now - ALIVE_SECONDS
    ]
    found = [replace(one, is_draining=worker_target(one.worker_id) in asked) for one in found]
    return sorted(found, key=lambda one: (_RANKS[one.state], one.worker_id))


async def engines(request: Request) -> Response:
    """`GET /engines`."""
    desk = desk_of(request)
    await desk.pulse.refresh()
    engines = all_engines(desk)
    paused = why_paused(await desk.reads.switches())
    reasons = {engine.engine_id: paused.get(desk.engine_target(engine.engine_id), "") for engine in engines}
    deeds = {one.engine_id: on_work(one.engine_id, "enqueue") or Deed.ENQUEUE for one in engines}
    return await desk.page(request, "engines.html", engines=engines, paused=reasons, enqueues=deeds)


def why_paused(switches: Sequence[Switch]) -> dict[str, str]:
    """What is paused, by target: by whom, and why."""
    return {
        one.target: f"paused{f' by {one.by}' if one.by else ''}{f': {one.reason}' if one.reason else ''}"
        for one in switches
    }


def all_engines(desk: Desk) -> list[Engine]:
    """Engines that are installed here, and those that only work of the last hour names."""
    here = {spec.engine_id: spec for spec in desk.runtime.engines or ()}
    names = sorted({*here, *desk.pulse.engines(), *installed_engines()})
    return [
        Engine(
            name,
            here.get(name),
            _fields(here.get(name)),
            _sum(desk.pulse.series("committed", name), desk.pulse.series("done", name)),
            _sum(desk.pulse.series("attempt_failed", name), desk.pulse.series("failed", name)),
            desk.pulse.versions(name),
        )
        for name in names
    ]


def _sum(left: Sequence[int], right: Sequence[int]) -> list[int]:
    return [sum(pair) for pair in zip(left, right, strict=True)]


def _fields(spec: EngineSpec | None) -> list[tuple[str, str, bool]]:
    if spec is None or spec.payload_model is None:
        return []
    schema: dict[str, Any] = spec.payload_model.model_json_schema()
    required = set(schema.get("required", ()))
    return [
        (name, str(inner.get("type", "any")), name in required)
        for name, inner in schema.get("properties", {}).items()
    ]
