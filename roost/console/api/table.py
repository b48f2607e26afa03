"""Operations as data, and what runs one: parse, check the role, call, answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from roost import jsonio
from roost.console.api.asked import NoQuery, Nothing
from roost.console.api.given import Fault
from roost.console.desk import Desk, desk_of
from roost.console.guard import BODY_MAX_BYTES, principal_of
from roost.console.html import conditional
from roost.console.principal import Principal
from roost.console.problems import Problem
from roost.console.roles import NEEDS, Deed, Role
from roost.console.routing import check, check_on_work
from roost.core import requests
from roost.core.client import Client
from roost.errors import PayloadError

KEY_MAX_CHARS = 200
_MOVING = {"as_of", "index_lag_ms", "looked_up"}
FAULTS_MAX = 20

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """A request, understood.

    Attributes:
        path: parameters of the path.
        key: of the `Idempotency-Key` header.
        request: under that key, begun.
    """

    desk: Desk
    principal: Principal
    path: Mapping[str, Any]
    query_model: BaseModel
    body_model: BaseModel
    key: str | None
    request: requests.Request | None = None

    @property
    def client(self) -> Client:
        """Writes into the journals who asked; what it does under a key, it does once."""
        return self.desk.client(self.principal, self.request)

    def query(self, kind: type[M]) -> M:
        """What was asked beside the path."""
        assert isinstance(self.query_model, kind)
        return self.query_model

    def body(self, kind: type[M]) -> M:
        """What was sent."""
        assert isinstance(self.body_model, kind)
        return self.body_model

    def check(self, deed: Deed | None) -> None:
        """Go no further where it takes a role that the caller has not."""
        check(self.principal, deed)

    async def check_on_work(self, verb: str) -> None:
        """The same for an act on the work item that the path names."""
        await check_on_work(self.desk, self.principal, self.work_id, verb)

    @property
    def digest(self) -> str | None:
        """Of who sent it and the key, as a part of an id; None: there is no key."""
        return None if self.key is None else requests.digest_of(self.principal.name, self.key)

    @property
    def work_id(self) -> str:
        """The work item that the path names."""
        return cast(str, self.path["work_id"])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call led to; `status` where it is not that of the operation."""

    model: BaseModel
    status: HTTPStatus | None = None


Run = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the API.

    Attributes:
        path: below `/api/v1`; parameters are `work_id`, `version` and `place`.
        gives: the model of the answer.
        deed: what it takes.
        also: what it takes beside that for some requests, in words.
        problems: statuses that an answer can have beside those that all have.
        is_keyed: what it stores is known by the key itself; no answer need be kept for it.
    """

    method: Literal["GET", "POST"]
    path: str
    summary: str
    run: Run
    gives: type[BaseModel]
    deed: Deed
    also: str = ""
    query: type[BaseModel] = NoQuery
    body: type[BaseModel] = Nothing
    status: HTTPStatus = HTTPStatus.OK
    problems: tuple[HTTPStatus, ...] = ()
    is_keyed: bool = False

    @property
    def name(self) -> str:
        """Its id in the OpenAPI document."""
        return self.run.__name__

    @property
    def role(self) -> Role:
        """Who may call it."""
        return NEEDS[self.deed]


def endpoint(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    """What starlette calls for an operation."""

    async def handle(request: Request) -> Response:
        desk = desk_of(request)
        principal = principal_of(request.scope)
        query = _parsed(operation.query, _query(request), "query")
        raw = await request.body() if operation.method == "POST" else b""
        body = _parsed(operation.body, _document(request, raw, operation), "body")
        key = _key(request)
        call = Call(desk, principal, request.path_params, query, body, key)
        if operation.method == "GET":
            return _given(request, await operation.run(call))
        return await _act(operation, call, requests.digest_of(request.url.path, raw.hex()))

    return handle


async def _act(operation: Operation, call: Call, asked: str) -> Response:
    """Carry it out; under a key once, whoever is asked again and whenever."""
    if call.key is None or operation.is_keyed:
        answer = await operation.run(call)
        call.desk.shared.forget()
        return _json(dump(answer.model), answer.status or operation.status)
    parts, actor = call.desk.runtime.parts, call.principal.actor
    place = requests.digest_of(call.desk.settings.namespace, call.principal.name, operation.name, call.key)
    begun = await requests.begin(parts, place, asked, actor=actor)
    if isinstance(begun, requests.Request):
        answer = await operation.run(replace(call, request=begun))
        call.desk.shared.forget()
        document = answer.model.model_dump(mode="json")
        begun = await requests.finish(parts, begun, document, answer.status or operation.status, actor=actor)
    return _json(json.dumps(begun.answer, ensure_ascii=True).encode(), HTTPStatus(begun.status))


def _json(body: bytes, status: HTTPStatus) -> Response:
    return Response(body, status_code=status, media_type="application/json")


def dump(model: BaseModel) -> bytes:
    """A model as JSON; what UTF-8 can't hold is escaped."""
    return json.dumps(model.model_dump(mode="json"), ensure_ascii=True).encode()


def _given(request: Request, answer: Answer) -> Response:
    """An answer with an ETag that does not change with the time of reading alone, nor with the lag then."""
    body = dump(answer.model)
    moving = _MOVING & type(answer.model).model_fields.keys()
    stable = answer.model.model_dump_json(exclude=moving) if moving else ""
    digest = hashlib.sha256(stable.encode() or body).hexdigest()[:32]
    return conditional(request, body, f'"{digest}"', media_type="application/json")


def _query(request: Request) -> dict[str, Any]:
    """The query's fields; one that comes twice is an error, not a guess."""
    fields: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in fields:
            raise _invalid([Fault(where=f"query.{name}", what="is given twice")])
        fields[name] = value
    return fields


def _document(request: Request, raw: bytes, operation: Operation) -> dict[str, Any]:
    if operation.method == "GET" or (not raw and operation.body is not Nothing and may_be_empty(operation)):
        return {}
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "The body must be JSON.",
            "Content-Type: application/json",
        )
    try:
        return jsonio.parse_object(raw, what="the body", max_bytes=BODY_MAX_BYTES)
    except PayloadError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_json", str(error), error.hint) from error


def may_be_empty(operation: Operation) -> bool:
    """Whether a request without a body is whole."""
    return not any(info.is_required() for info in operation.body.model_fields.values())


def _parsed(kind: type[BaseModel], fields: dict[str, Any], where: str) -> BaseModel:
    try:
        return kind.model_validate(fields, strict=False)
    except ValidationError as error:
        faults = [
            Fault(where=".".join([where, *(str(part) for part in fault["loc"])])[:200], what=fault["msg"])
            for fault in error.errors(include_url=False, include_input=False)[:FAULTS_MAX]
        ]
        raise _invalid(faults) from None


def _invalid(faults: list[Fault]) -> Problem:
    first = f"{faults[0].where}: {faults[0].what}"
    problem = Problem(HTTPStatus.BAD_REQUEST, "invalid", first, "See /api/v1/openapi.json.")
    problem.errors = [fault.model_dump() for fault in faults]
    return problem


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= KEY_MAX_CHARS:
        raise _invalid([Fault(where="header.Idempotency-Key", what=f"has 1 to {KEY_MAX_CHARS} characters")])
    return key
