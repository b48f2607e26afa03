"""Commands that talk to a console over its JSON API, where only its address is known.

`open_remote` gives what commands use of a runtime: a client with the methods of
`core.client.Client`, a clock, and artifacts. What the API can't do says so.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn, cast, get_args

import httpx2
import msgspec

from roost import errors
from roost.clock import SystemClock, SystemIds
from roost.core.client import Version, WorkView
from roost.core.new_work import NewWork
from roost.errors import InputError, RoostError, SettingsError, StorageUnavailable
from roost.journal.claims import ResourceView
from roost.journal.entries import Committed, Control, Entry, Event, IndexRow
from roost.journal.explain import Cause, Explanation
from roost.models import NAMESPACE_MARK, Snapshot, WorkItem
from roost.storage.ports import FeedPage, IndexPage, IndexQuery
from roost.wiring import Runtime

TIMEOUT_SECONDS = 30.0
PAGE = 200
_EVENTS: dict[str, Any] = {event.kind.value: event for event in get_args(Event)}
_ERRORS = {
    "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_"): kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RoostError)
}


@asynccontextmanager
async def open_remote(url: str) -> AsyncIterator[Runtime]:
    """What commands use of a runtime, over a console's address.

    `ROOST_TOKEN` is sent as the bearer token, if it is set.

    Raises:
        SettingsError: this is no address.
    """
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--url: {url!r} is no address", hint="Such as http://127.0.0.1:8319")
    token = os.environ.get("ROOST_TOKEN")
    headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    async with httpx2.AsyncClient(
        base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=False
    ) as web:
        client = RemoteClient(web)
        runtime = RemoteRuntime(client, RemoteBackend(client), RemoteParts())
        yield cast(Runtime, runtime)  # all that commands ask of it


@dataclass(frozen=True, slots=True)
class RemoteParts:
    """The surroundings of a command."""

    clock: SystemClock = field(default_factory=SystemClock)
    ids: SystemIds = field(default_factory=SystemIds)


@dataclass(frozen=True, slots=True)
class RemoteRuntime:
    """See the module."""

    client: RemoteClient
    backend: RemoteBackend
    parts: RemoteParts
    engines: None = None


class RemoteBackend:
    """The artifacts of work that was looked at; nothing else of a storage is to be had."""

    def __init__(self, client: RemoteClient) -> None:
        self.artifacts = RemoteArtifacts(client)

    def __getattr__(self, name: str) -> NoReturn:
        raise _only_near(name)


def _only_near(name: str) -> InputError:
    return InputError(
        f"this needs the storage itself ({name}), which a console's address does not give",
        hint="Run it where the storage can be reached, without --url.",
    )


def _segment(work_id: str) -> str:
    return work_id.replace(NAMESPACE_MARK, "~")


class RemoteClient:
    """The methods of `core.client.Client` that commands use."""

    def __init__(self, web: httpx2.AsyncClient) -> None:
        self.web = web
        self.places: dict[str, str] = {}  # of artifacts, by digest

    def __getattr__(self, name: str) -> NoReturn:
        raise _only_near(name)

    async def _get(self, path: str, **query: Any) -> Any:
        given = {name: value for name, value in query.items() if value is not None}
        return await self._ask("GET", path, params=given)

    async def _post(self, path: str, body: Mapping[str, Any], key: str | None = None) -> Any:
        return await self._ask("POST", path, json=body, headers={"Idempotency-Key": key} if key else {})

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = await self.web.request(method, f"/api/v1{path}", **options)
        except httpx2.HTTPError as error:
            raise StorageUnavailable(
                f"the console at {self.web.base_url} does not answer: {error}", hint="Is `roost ui` running?"
            ) from error
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise _error_of(answer)
        return answer.json()

    # --- looking -------------------------------------------------------------

    async def status(self, work_id: str) -> WorkView:
        base = f"/work/{_segment(work_id)}"
        found = await self._get(base)
        payload = (await self._get(f"{base}/payload"))["payload"]
        item = WorkItem.model_validate({**found["item"], "payload": payload})
        control = msgspec.convert(found["control"], Control, strict=False)
        snapshot = await self.snapshot(work_id, control.version) if control.version else None
        for place, artifact in enumerate(found["artifacts"]):
            self.places[artifact["digest"]] = f"{base}/artifacts/{place}/download"
        row = found["row"]
        return WorkView(item, control, snapshot, None if row is None else _row(row))

    async def control(self, work_id: str) -> Control:
        found = await self._get(f"/work/{_segment(work_id)}")
        return msgspec.convert(found["control"], Control, strict=False)

    async def explain(self, work_id: str, **_: Any) -> Explanation:
        found = await self._get(f"/work/{_segment(work_id)}")
        return Explanation(Cause(found["cause"]), found["explain"], found["if_worker_dies"], found["next_at"])

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        found = await self._get("/work", where=_where(query), cursor=cursor, limit=min(limit, PAGE))
        return IndexPage([_row(row) for row in found["rows"]], found["next"])

    async def events(self, work_id: str, *, after: int = -1) -> AsyncIterator[Entry]:
        before: int | None = None
        pages: list[Sequence[Any]] = []
        while True:
            found = await self._get(f"/work/{_segment(work_id)}/journal", before=before, limit=PAGE)
            pages.append(found["entries"])
            before = found["next"]
            if before is None or before <= after:
                break
        for page in reversed(pages):
            for entry in reversed(page):
                if entry["position"] > after:
                    yield _entry(entry)

    async def feed(self, cursor: str | None, *, limit: int = 100, newest: bool = False) -> FeedPage:
        found = await self._get("/events", after=cursor, limit=min(limit, PAGE))
        return FeedPage([_entry(entry) for entry in reversed(found["entries"])], found["next"])

    async def history(self, work_id: str) -> Sequence[Version]:
        return [
            Version(
                version=entry.event.version,
                position=entry.position,
                step=entry.event.step,
                at=entry.at,
                actor=entry.actor,
                duration_seconds=entry.event.duration_seconds,
            )
            async for entry in self.events(work_id)
            if isinstance(entry.event, Committed)
        ]

    async def snapshot(self, work_id: str, version: int) -> Snapshot:
        base = f"/work/{_segment(work_id)}"
        found = await self._get(f"{base}/snapshots/{version}")
        return Snapshot.model_validate(found)

    async def resources(self, resource: str | None = None, *, limit: int = 100) -> Sequence[ResourceView]:
        found = (await self._get("/resources"))["resources"]
        views = [msgspec.convert(view, ResourceView, strict=False) for view in found]
        return [view for view in views if resource in (None, view.resource)][:limit]

    # --- acting --------------------------------------------------------------

    async def enqueue_many(self, works: Sequence[NewWork]) -> Sequence[str]:
        return [await self._enqueue(work) for work in works]

    async def _enqueue(self, work: NewWork) -> str:
        body = {
            "engine": work.engine,
            "payload": work.payload,
            "resources": list(work.resources),
            "delay_seconds": work.delay_seconds,
            "priority": work.priority,
            "labels": dict(work.labels),
            "budget": dict(work.budget),
            "deadline_at": work.deadline_at,
            "work_id": work.work_id,
        }
        if work.capacities or work.conversation:
            raise _only_near("capacities and conversations")
        found: str = (await self._post("/work", body, key=work.idempotency_key))["work_id"]
        return found

    async def cancel(self, work_id: str, reason: str, *, by_seconds: float | None = None) -> None:
        await self._post(f"/work/{_segment(work_id)}/cancel", {"reason": reason, "by_seconds": by_seconds})

    async def pause(self, work_id: str, reason: str, *, for_seconds: float | None = None) -> None:
        await self._post(f"/work/{_segment(work_id)}/pause", {"reason": reason, "for_seconds": for_seconds})

    async def resume(self, work_id: str, reason: str) -> None:
        await self._post(f"/work/{_segment(work_id)}/resume", {"reason": reason})

    async def retry(self, work_id: str, reason: str, *, version: int | None = None) -> None:
        await self._post(f"/work/{_segment(work_id)}/retry", {"reason": reason, "version": version})

    async def fork(self, work_id: str, version: int, reason: str, /, **options: Any) -> str:
        changes = options.pop("changes", None) or {}
        if options:
            raise _only_near(", ".join(options))
        body = {"version": version, "reason": reason, "changes": changes}
        found: str = (await self._post(f"/work/{_segment(work_id)}/fork", body))["work_id"]
        return found

    async def set_budget(self, work_id: str, limits: Mapping[str, float], reason: str) -> None:
        await self._post(f"/work/{_segment(work_id)}/budget", {"limits": dict(limits), "reason": reason})

    async def evict(self, resource: str, work_id: str) -> None:
        await self._post("/resources/evict", {"resource": resource, "work_id": work_id})


class RemoteArtifacts:
    """Artifacts of work items that were looked at before."""

    def __init__(self, client: RemoteClient) -> None:
        self._client = client

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes; compared with their digest once all are there."""
        import hashlib

        seen = hashlib.sha256()
        async with self._client.web.stream("GET", self._client.places[digest]) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise errors.ArtifactNotFound(f"no artifact {digest}")
            last = b""
            async for chunk in answer.aiter_bytes():
                seen.update(chunk)
                if last:
                    yield last
                last = chunk
        if seen.hexdigest() != digest:
            raise errors.StorageCorrupt(f"artifact {digest} came with other bytes")
        yield last


def _where(query: IndexQuery) -> str:
    """A query as the filter that the console reads."""
    tokens = [
        f"{name}:{value}"
        for name, value in (
            ("state", query.state),
            ("engine", query.engine),
            ("id", query.id_prefix),
            ("parent", query.parent_id),
            ("label", None if query.label is None else "=".join(query.label)),
        )
        if value is not None
    ]
    if query.created_after is not None:
        tokens.append(f"created<{max(SystemClock().now() - query.created_after, 0.0):.0f}s")
    return " ".join(tokens)


def _row(fields: dict[str, Any]) -> IndexRow:
    return msgspec.convert(fields, IndexRow, strict=False)


def _entry(fields: dict[str, Any]) -> Entry:
    """An entry without its body; of its control state it has what lists show."""
    event = msgspec.convert(fields["detail"], _EVENTS[fields["kind"]], strict=False)
    at, position = fields["at"], fields["position"]
    control = msgspec.convert(
        {
            "state": fields["state"],
            "engine": fields["engine"],
            "position": position,
            "created_at": at,
            "since": at,
            "version": fields["version"],
        },
        Control,
        strict=False,
    )
    return Entry(fields["work_id"], position, "", at, fields["actor"], event, control)


def _error_of(answer: httpx2.Response) -> RoostError:
    """The error that a problem document stands for, as the console met it."""
    try:
        problem = answer.json()
        code, title, hint = problem["code"], problem["title"], problem["hint"]
    except (ValueError, KeyError, TypeError):
        return StorageUnavailable(
            f"{answer.url} answered {answer.status_code} and no problem document",
            hint="Is this the address of a console?",
        )
    kind = _ERRORS.get(code) or (InputError if answer.status_code == HTTPStatus.BAD_REQUEST else RoostError)
    error = kind.__new__(kind)
    RoostError.__init__(error, title, hint=hint)
    return error
