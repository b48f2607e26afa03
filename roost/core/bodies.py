"""Payloads, snapshots and recorded results on their way into entries and back.

A body is compressed, as a delta of the snapshot before where that pays, and spilled to
the artifact store above the backend's `inline_max_bytes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from pydantic import ValidationError

from roost import jsonio
from roost.errors import ArtifactNotFound, StorageCorrupt
from roost.journal.entries import Body, Entry
from roost.journal.events import Enqueued, TurnTaken
from roost.models import Snapshot, WorkItem, read_known
from roost.storage.codec import DELTA_DEPTH_MAX, pack, unpack
from roost.storage.ports import Backend


async def store(backend: Backend, raw: bytes) -> Body:
    """Make the body of a JSON document; spilled bytes are durable on return."""
    return (await store_all(backend, [raw]))[0]


async def store_all(backend: Backend, raws: Sequence[bytes]) -> Sequence[Body]:
    """Make the bodies of JSON documents, in order; spilled bytes are durable on return."""
    packed = [pack(raw) for raw in raws]
    limit = backend.inline_max_bytes
    return [body if len(body.data) <= limit else await spill(backend, body) for body in packed]


async def spill(backend: Backend, body: Body) -> Body:
    """Move the bytes of a body into the artifact store."""
    blob = await backend.artifacts.put([body.data])
    return replace(body, data=b"", digest=blob.digest)


async def load(backend: Backend, entry: Entry) -> bytes:
    """The JSON document that an entry's body holds.

    Raises:
        StorageCorrupt: it has none, or it can't be put together.
    """
    chain = [entry]
    while (base := _body(chain[-1]).base) is not None:
        found = await backend.journal.get(entry.work_id, base)
        if found is None or len(chain) > DELTA_DEPTH_MAX:
            raise StorageCorrupt(f"entry {entry.position} of {entry.work_id}: its base {base} is missing")
        chain.append(found)
    raw: bytes | None = None
    for link in reversed(chain):
        raw = unpack(_body(link), await _data(backend, _body(link)), raw)
    assert raw is not None
    return raw


def _body(entry: Entry) -> Body:
    if entry.body is None:
        raise StorageCorrupt(f"entry {entry.position} of {entry.work_id} has no body")
    return entry.body


async def _data(backend: Backend, body: Body) -> bytes:
    if body.digest is None:
        return body.data
    try:
        return b"".join([chunk async for chunk in backend.artifacts.read(body.digest)])
    except ArtifactNotFound as error:
        raise StorageCorrupt(f"the blob of a body is missing: {error}") from error


async def load_item(backend: Backend, entry: Entry) -> WorkItem:
    """The work item that the entry at position 0 created."""
    event = entry.event
    if isinstance(event, TurnTaken):  # a conversation: no work, but it can be looked at
        return WorkItem.model_construct(
            work_id=entry.work_id, engine=entry.control.engine, created_at=entry.at
        )
    if not isinstance(event, Enqueued):
        raise StorageCorrupt(f"the journal of {entry.work_id} does not begin with its enqueueing")
    body = jsonio.load(await load(backend, entry))
    return WorkItem.model_construct(
        work_id=entry.work_id,
        engine=event.engine,
        payload=body if event.fork is None else body["payload"],
        priority=event.priority,
        resources=event.resources,
        capacities=dict(event.capacities),
        resource_scope=event.resource_scope,
        created_at=entry.at,
        deadline_at=event.deadline_at,
        idempotency_key=event.idempotency_key,
        labels=dict(event.labels),
        parent_id=event.parent.work_id if event.parent else None,
        child_key=event.parent.key if event.parent else "",
        forked_from=(event.fork.work_id, event.fork.version) if event.fork else None,
        conversation=event.conversation,
        triggered_by=(event.cause.work_id, event.cause.trigger) if event.cause else None,
        budget=dict(event.budget),
    )


async def load_forked(backend: Backend, entry: Entry) -> Dumped:
    """The snapshot that a fork begins from; it travels with the entry at position 0."""
    body = jsonio.load(await load(backend, entry))
    return Dumped(jsonio.dump(body["snapshot"], what="snapshot", max_bytes=jsonio.SNAPSHOT_MAX_BYTES))


class Dumped(Struct):
    """A snapshot as stored.

    Attributes:
        raw: its JSON.
        fields: a copy of what `raw` holds, for the first who loads it.
    """

    raw: bytes
    fields: dict[str, Any] | None = None

    def take_fields(self) -> dict[str, Any]:
        """What `raw` holds, as a copy that nobody else has."""
        fields, self.fields = self.fields, None
        return jsonio.load(self.raw) if fields is None else fields


def dump_snapshot(snapshot: Snapshot, *, created_at: float, now: float) -> Dumped:
    """A snapshot that is committed at `now`; what the entry says is left out.

    Raises:
        PayloadError: something in it is not JSON.
    """
    fields: dict[str, Any] = {  # what changes each time first: the rest is equal to its end more often
        "updated_at": now,
        "created_at": created_at,
        "status": snapshot.status,
        "step": snapshot.step,
        "data": snapshot.data,
    }
    if snapshot.history:
        fields["history"] = snapshot.history
    if snapshot.artifacts:
        fields["artifacts"] = [artifact.model_dump() for artifact in snapshot.artifacts]
    if snapshot.result is not None:
        fields["result"] = snapshot.result
    if snapshot.spawn:
        fields["spawn"] = [child.model_dump(mode="json", exclude_defaults=True) for child in snapshot.spawn]
    if snapshot.is_finished:
        fields["finished_at"] = now
    elif snapshot.next_step_delay_seconds:
        fields["delay"] = snapshot.next_step_delay_seconds
    elif snapshot.wait_for is not None:
        fields["wait_for"] = snapshot.wait_for.model_dump(mode="json", exclude_defaults=True)
    return Dumped(*jsonio.dump_and_load(fields, what="snapshot", max_bytes=jsonio.SNAPSHOT_MAX_BYTES))


def load_snapshot(
    dumped: Dumped, *, work_id: str, engine: str, version: int, engine_version: str | None = None
) -> Snapshot:
    """The snapshot that `dump_snapshot` wrote; a fresh copy at each call.

    Raises:
        StorageCorrupt: it is not what was written.
    """
    fields = dumped.take_fields()
    if not isinstance(fields, dict) or not fields.keys() >= _ALWAYS_THERE:
        raise StorageCorrupt(f"what is stored as version {version} of {work_id} is no snapshot")
    fields["work_id"] = work_id
    fields["engine"] = engine
    fields["version"] = version
    fields["engine_version"] = engine_version
    if "finished_at" in fields:
        fields["is_finished"] = True
    elif "delay" in fields:
        fields["next_step_delay_seconds"] = fields.pop("delay")
    try:
        return read_known(Snapshot, fields)
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, what["loc"]))
        raise StorageCorrupt(f"version {version} of {work_id} is damaged: {where}: {what['msg']}") from error


_ALWAYS_THERE = frozenset({"updated_at", "created_at", "status", "step", "data"})
"""Fields of every stored snapshot."""
