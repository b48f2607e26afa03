"""The OpenAPI document, made of the table and of the models that parse and answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from roost.console.api.given import ProblemOut
from roost.console.api.table import KEY_MAX_CHARS, Operation, may_be_empty
from roost.console.problems import PROBLEM_TYPE

_REF = "#/components/schemas/{model}"
_ALWAYS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE,
)
_PARAMETERS: dict[str, dict[str, Any]] = {
    "work_id": {
        "type": "string",
        "pattern": "^([a-z0-9-]{0,63}~)?[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,127}$",
        "description": "Its id; NAMESPACE~ID for one of a namespace.",
    },
    "version": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
}

Mode = Literal["validation", "serialization"]


def document(operations: Sequence[Operation], prefix: str) -> dict[str, Any]:
    """The whole document."""
    wanted: list[tuple[type[BaseModel], Mode]] = [(ProblemOut, "serialization")]
    for operation in operations:
        wanted.append((operation.gives, "serialization"))
        if operation.method == "POST":
            wanted.append((operation.body, "validation"))
    refs, schemas = models_json_schema(list(dict.fromkeys(wanted)), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(f"{prefix}{operation.path}", {})[operation.method.lower()] = _operation(
            operation, {model: ref for (model, _), ref in refs.items()}
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Roost",
            "version": version("roost-runtime"),
            "description": "All that the console's pages do. Instants are UTC epoch seconds. "
            "Each operation names the role that it needs; a 403 names it in `needs`.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(operation: Operation, refs: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"Needs the role {operation.role}. {operation.also}".strip(),
        "x-roost-role": operation.role.value,
        "parameters": [*_path(operation), *_query(operation), *_headers(operation)],
        "responses": {},
    }
    if operation.method == "POST":
        made["requestBody"] = {
            "required": not may_be_empty(operation),
            "content": {"application/json": {"schema": refs[operation.body]}},
        }
    answer = {"application/json": {"schema": refs[operation.gives]}}
    for status in (operation.status, *operation.problems, *_ALWAYS):
        content = answer if status < HTTPStatus.BAD_REQUEST else {PROBLEM_TYPE: {"schema": refs[ProblemOut]}}
        made["responses"][str(int(status))] = {"description": status.phrase, "content": content}
    if operation.method == "GET":
        made["responses"]["304"] = {"description": "Not changed since the ETag of If-None-Match"}
    return made


def _path(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _PARAMETERS.items()
        if f"{{{name}}}" in operation.path
    ]


def _query(operation: Operation) -> list[dict[str, Any]]:
    schema = operation.query.model_json_schema()
    return [
        {"name": name, "in": "query", "required": False, "schema": inner}
        for name, inner in schema.get("properties", {}).items()
    ]


def _headers(operation: Operation) -> list[dict[str, Any]]:
    if operation.method == "GET":
        return [{"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}]
    key = {"type": "string", "minLength": 1, "maxLength": KEY_MAX_CHARS, "pattern": "^[!-~]+$"}
    text = "The same key and request act once."
    return [
        {"name": "Idempotency-Key", "in": "header", "required": False, "schema": key, "description": text}
    ]


def serve(operations: Sequence[Operation], prefix: str) -> Callable[[Request], Awaitable[Response]]:
    """The handler that gives the document."""

    @cache
    def body() -> bytes:
        return json.dumps(document(operations, prefix)).encode()

    async def handle(request: Request) -> Response:
        return Response(body(), media_type="application/json")

    return handle
