"""The client of commands over a console's address: requests of the JSON API, and what they give."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NoReturn, get_args

import httpx2
import msgspec
from msgspec.structs import asdict

from roost import errors
from roost.clock import SystemClock
from roost.core.approvals import OpenApproval
from roost.core.bulk import ONLY_STATE, Action, Part, applies, is_meant
from roost.core.client import Version, WorkView
from roost.core.finding import Found
from roost.core.kin import Kin
from roost.core.new_work import NewWork
from roost.core.operating import Operation
from roost.core.signals import Received, Sent
from roost.core.where import Where, parse
from roost.errors import InputError, RoostError, StorageUnavailable
from roost.journal.accounts import Account, Balance
from roost.journal.claims import ResourceView
from roost.journal.entries import Body, Control, Encoding, Entry, IndexRow
from roost.journal.events import Committed, Event, Switch
from roost.journal.explain import Cause, Explanation
from roost.journal.limits import Change, Close, SetCapacity, SetRate
from roost.models import NAMESPACE_MARK, Signal, Snapshot, WorkItem, read_known
from roost.names import Lane
from roost.storage.codec import those_readable
from roost.storage.ports import DeadLetter, FeedPage
from roost.storage.query import IndexPage, IndexQuery

PAGE = 200
LETTERS_PAGE = 100
_EVENTS: dict[str, Any] = {event.kind.value: event for event in get_args(Event)}
_ERRORS = {
    "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_"): kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RoostError)
}
_BY_STATUS: Mapping[int, type[RoostError]] = {
    HTTPStatus.BAD_REQUEST: errors.InputError,
    HTTPStatus.UNAUTHORIZED: errors.AccessDenied,
    HTTPStatus.FORBIDDEN: errors.AccessDenied,
}


def only_near(name: str) -> InputError:
    return InputError(
        f"this needs the storage itself ({name}), which a console's address does not give",
        hint="Run it where the storage can be reached, without --url.",
    )


def _segment(work_id: str) -> str:
    return work_id.replace(NAMESPACE_MARK, "~")


class RemoteClient:
    """The methods of `core.client.Client` that commands use.

    Attributes:
        actor: the console writes into the journals whom it knows the caller as.
    """

    actor = "remote"

    def __init__(self, web: httpx2.AsyncClient) -> None:
        self.web = web
        self.places: dict[str, str] = {}  # of artifacts, by digest

    def __getattr__(self, name: str) -> NoReturn:
        raise only_near(name)

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

    async def status(self, work_id: str, *, known: WorkView | None = None) -> WorkView:
        base = f"/work/{_segment(work_id)}"
        found = await self._get(base)
        payload = (await self._get(f"{base}/payload"))["payload"] if known is None else known.item.payload
        item = read_known(WorkItem, {**found["item"], "payload": payload})
        control = msgspec.convert(found["control"], Control, strict=False)
        if known is not None and known.control.version == control.version:
            snapshot = known.snapshot
        else:
            snapshot = await self.snapshot(work_id, control.version) if control.version else None
        for place, artifact in enumerate(found["artifacts"]):
            self.places[artifact["digest"]] = f"{base}/artifacts/{place}/download"
        row = found["row"]
        return WorkView(item, control, snapshot, None if row is None else _row(row))

    async def control(self, work_id: str) -> Control:
        found = await self._get(f"/work/{_segment(work_id)}")
        return msgspec.convert(found["control"], Control, strict=False)

    async def control_after(self, work_id: str, position: int) -> Control | None:
        control = await self.control(work_id)
        return control if control.position > position else None

    async def explain(self, work_id: str, **_: Any) -> Explanation:
        found = await self._get(f"/work/{_segment(work_id)}")
        return Explanation(Cause(found["cause"]), found["explain"], found["if_worker_dies"], found["next_at"])

    async def list(self, query: IndexQuery, *, cursor: str | None = None, limit: int = 50) -> IndexPage:
        found = await self._get(
            "/work", where=_where(query), cursor=cursor, limit=min(limit, PAGE), sort=query.order
        )
        return IndexPage([_row(row) for row in found["rows"]], found["next"])

    async def find(self, where: Where, *, cursor: str | None = None, limit: int = 50) -> Found:
        limit = min(limit, PAGE)
        found = await self._get("/work", where=where.text, cursor=cursor, limit=limit, sort=where.order)
        return Found([_row(row) for row in found["rows"]], found["next"], found["looked_at"], found["is_cut"])

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
        return FeedPage(those_readable(_entry, reversed(found["entries"])), found["next"])

    async def history(self, work_id: str) -> Sequence[Version]:
        return [
            Version(
                version=entry.event.version,
                position=entry.position,
                step=entry.event.step,
                at=entry.at,
                actor=entry.actor,
                duration_seconds=entry.event.duration_seconds,
                is_kept=entry.body is not None,
            )
            async for entry in self.events(work_id)
            if isinstance(entry.event, Committed)
        ]

    async def snapshot(self, work_id: str, version: int) -> Snapshot:
        base = f"/work/{_segment(work_id)}"
        found = await self._get(f"{base}/snapshots/{version}")
        return read_known(Snapshot, found)

    async def resources(self, resource: str | None = None, *, limit: int = 100) -> Sequence[ResourceView]:
        found = (await self._get("/resources", resource=resource))["resources"]
        return [msgspec.convert(view, ResourceView, strict=False) for view in found][:limit]

    async def cost(self, work_id: str) -> dict[str, Any]:
        """What a work item cost so far, as `roost.spent` counts it."""
        found: dict[str, Any] = await self._get(f"/work/{_segment(work_id)}/cost")
        return found

    async def signals(self, work_id: str) -> Sequence[Received]:
        found = (await self._get(f"/work/{_segment(work_id)}/signals"))["signals"]
        return [
            Received(
                Signal.model_validate({name: one[name] for name in Signal.model_fields}),
                one["position"],
                one["seen_by_version"],
            )
            for one in found
        ]

    async def approvals(self, work_id: str) -> Sequence[OpenApproval]:
        found = (await self._get(f"/work/{_segment(work_id)}/approvals"))["approvals"]
        return [
            msgspec.convert({**one, "schema": one["reply_schema"]}, OpenApproval, strict=False)
            for one in found
        ]

    async def tree(self, work_id: str) -> Kin:
        return msgspec.convert(await self._get(f"/work/{_segment(work_id)}/tree"), Kin, strict=False)

    async def switches(self) -> Sequence[Switch]:
        found = (await self._get("/switches"))["switches"]
        return [msgspec.convert(one, Switch, strict=False) for one in found]

    async def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        found = (await self._get("/failed/messages"))["messages"]
        return [msgspec.convert(one, DeadLetter, strict=False) for one in found][:limit]

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
            "family_budget": dict(work.family_budget),
            "deadline_at": work.deadline_at,
            "work_id": work.work_id,
            "capacities": dict(work.capacities),
            "resource_scope": work.resource_scope,
            "idempotency_seconds": work.idempotency_seconds,
            "conversation": work.conversation,
            "if_busy": work.if_busy,
        }
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
        body = {"version": version, "reason": reason, **options}
        found: str = (await self._post(f"/work/{_segment(work_id)}/fork", body))["work_id"]
        return found

    async def set_budget(self, work_id: str, limits: Mapping[str, float], reason: str) -> None:
        await self._post(f"/work/{_segment(work_id)}/budget", {"limits": dict(limits), "reason": reason})

    async def signal(
        self, work_id: str, name: str, data: Any = None, *, signal_id: str | None = None
    ) -> Sent:
        body = {"name": name, "data": data, "signal_id": signal_id}
        return _sent(await self._post(f"/work/{_segment(work_id)}/signal", body))

    async def approve(self, token: str, data: Any = None, actor: str | None = None) -> Sent:
        return _sent(await self._post("/approve", {"token": token, "data": data, "by": actor}))

    async def purge(self, work_id: str, reason: str = "") -> None:
        await self._post(f"/work/{_segment(work_id)}/purge", {"reason": reason})

    async def bulk(
        self, action: Action, where: Where, reason: str, *, is_dry_run: bool = False
    ) -> AsyncIterator[Part]:
        """Only to see what would be done; what is done is an operation."""
        assert is_dry_run, reason
        state = ONLY_STATE.get(action)
        if state is not None and where.query.state is None:
            where = parse(f"{where.text} state:{state}", SystemClock().now())
        cursor: str | None = None
        while True:
            page = await self.find(where, cursor=cursor, limit=PAGE)
            ids = [row.work_id for row in page.rows if applies(action, row) and is_meant(where, row)]
            yield Part(ids, cursor=page.cursor, looked_at=page.looked_at)
            cursor = page.cursor
            if cursor is None:
                return

    async def start_operation(self, operation: Operation) -> str:
        """Begin an operation there; its id."""
        body = {
            "action": operation.action,
            "where": operation.where,
            "ids": list(operation.ids),
            "reason": operation.reason,
            "by_seconds": operation.by_seconds,
            "for_seconds": operation.for_seconds,
            "version": operation.version,
            "dry_run": False,
        }
        found: str = (await self._post("/operations", body))["operation"]["work_id"]
        return found

    async def pause_engine(self, engine: str, reason: str) -> bool:
        return bool((await self._throw(engine=engine, is_paused=True, reason=reason))["is_new"])

    async def resume_engine(self, engine: str, reason: str) -> int:
        return int((await self._throw(engine=engine, is_paused=False, reason=reason))["woken"])

    async def pause_lane(self, lane: Lane, reason: str) -> bool:
        return bool((await self._throw(lane=lane, is_paused=True, reason=reason))["is_new"])

    async def resume_lane(self, lane: Lane, reason: str) -> bool:
        return bool((await self._throw(lane=lane, is_paused=False, reason=reason))["is_new"])

    async def drain_worker(self, worker_id: str, reason: str) -> bool:
        return bool((await self._throw(worker=worker_id, is_paused=True, reason=reason))["is_new"])

    async def keep_worker(self, worker_id: str, reason: str) -> bool:
        return bool((await self._throw(worker=worker_id, is_paused=False, reason=reason))["is_new"])

    async def _throw(self, **body: Any) -> Any:
        return await self._post("/switches", body)

    async def end_dead_letters(
        self, letters: Sequence[DeadLetter], *, is_sent_again: bool, reason: str = ""
    ) -> None:
        for start in range(0, len(letters), LETTERS_PAGE):
            page = [asdict(letter) for letter in letters[start : start + LETTERS_PAGE]]
            body = {"messages": page, "send_again": is_sent_again, "reason": reason}
            await self._post("/failed/messages", body)

    async def change_resource(self, resource: str, change: Change, reason: str = "") -> None:
        match change:
            case SetCapacity(capacity):
                body: dict[str, Any] = {"change": "capacity", "capacity": capacity}
            case SetRate(rate):
                body = {"change": "rate", "rate": None if rate is None else msgspec.structs.asdict(rate)}
            case Close(until=until):
                body = {"change": "close", "until": until}
            case _:
                body = {"change": "open"}
        await self._post("/resources/limits", {"resource": resource, "reason": reason, **body})

    async def set_family_budget(self, work_id: str, limits: Mapping[str, float], reason: str) -> None:
        body = {"limits": dict(limits), "reason": reason, "is_family": True}
        await self._post(f"/work/{_segment(work_id)}/budget", body)

    async def balances(self, work_id: str | None = None) -> Sequence[Balance]:
        if work_id is None:
            return [_balance(await self._get("/budget"))]
        found = (await self._get(f"/work/{_segment(work_id)}/balances"))["balances"]
        return [_balance(one) for one in found]

    async def set_daily_budget(self, limits: Mapping[str, float], reason: str) -> None:
        await self._post("/budget", {"limits": dict(limits), "reason": reason})

    async def evict(self, resource: str, work_id: str, reason: str = "") -> None:
        body = {"resource": resource, "work_id": work_id, "reason": reason}
        await self._post("/resources/evict", body)


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
    at, position = fields["at"], fields["position"]
    if (kind := _EVENTS.get(fields["kind"])) is None:
        raise errors.SchemaTooNew(
            f"entry {position} of {fields['work_id']} is of a kind not known here: {fields['kind']!r}",
            hint="Upgrade Roost.",
        )
    event = msgspec.convert(fields["detail"], kind, strict=False)
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
    body = Body(Encoding.JSON, b"") if fields["has_body"] else None  # a mark: the console keeps it
    return Entry(fields["work_id"], position, "", at, fields["actor"], event, control, body)


def _balance(fields: dict[str, Any]) -> Balance:
    account = Account("", fields["root"], fields["day"])
    return Balance(account, tuple(fields["spent"].items()), tuple(fields["limits"].items()))


def _sent(fields: dict[str, Any]) -> Sent:
    return msgspec.convert(fields, Sent, strict=False)


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
    kind = _ERRORS.get(code) or _BY_STATUS.get(answer.status_code, RoostError)
    error = kind.__new__(kind)
    RoostError.__init__(error, title, hint=hint)
    return error
