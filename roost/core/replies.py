"""The shapes of signals and replies: JSON Schemas of an engine, and what comes is checked against them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from roost import jsonio
from roost.core import bodies
from roost.core.parts import Parts
from roost.errors import EngineContractError, InputError
from roost.journal.entries import Entry
from roost.models import WaitFor

SCHEMA_MAX_BYTES = 1 << 14
_FAULTS_MAX = 5  # that one error text names


def check(schema: Mapping[str, Any], data: Any, what: str = "the reply") -> None:
    """Raises InputError: the data is not of the shape; says where, and which fields it has."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    validator = Draft202012Validator(schema, registry=Registry())  # never fetches what a schema refers to
    faults = [
        f"{fault.json_path}: {fault.message}"[:200]
        for _, fault in zip(range(_FAULTS_MAX), validator.iter_errors(data), strict=False)
    ]
    if faults:
        raise InputError(f"{what} is not what was asked for: {'; '.join(faults)}", hint=_fields(schema))


def _fields(schema: Mapping[str, Any]) -> str:
    """The fields of a shape in words."""
    properties, required = schema.get("properties"), schema.get("required", ())
    if not isinstance(properties, Mapping) or not properties:
        return ""
    names = [f"{name}{'' if name in required else ' (may be left out)'}" for name in properties]
    return f"Its fields: {', '.join(names)}."


async def shapes(parts: Parts, tail: Entry) -> Mapping[str, Mapping[str, Any]]:
    """The shapes of the signals that the last commit asked for; a read, of that commit."""
    position = tail.control.snapshot_position
    entry = None if position is None else await parts.backend.journal.get(tail.work_id, position)
    if entry is None:
        return {}
    fields = jsonio.load(await bodies.load(parts.backend, entry))
    found: Mapping[str, Mapping[str, Any]] = (fields.get("wait_for") or {}).get("replies", {})
    return found


async def of_signal(parts: Parts, tail: Entry, name: str) -> Mapping[str, Any]:
    """The shape of a plain signal that work waits for; empty: any. Costs a read only where there is one."""
    waits = tail.control.waits
    if waits is None or not waits.is_typed or name not in waits.names:
        return {}
    return (await shapes(parts, tail)).get(name, {})


def check_replies(wait_for: WaitFor) -> None:
    """Check the shapes that a commit asks for.

    Raises:
        EngineContractError: one is no JSON Schema, or of a signal that is not waited for.
    """
    for name, schema in wait_for.replies.items():
        if name not in wait_for.signals:
            raise EngineContractError(f"a wait gives the shape of {name!r}, which it does not wait for")
        check_schema(name, schema)


def check_schema(name: str, schema: Mapping[str, Any]) -> None:
    """Raises EngineContractError: it is no JSON Schema that can be stored."""
    fault = _fault(jsonio.dump(schema, what=f"the shape of {name!r}", max_bytes=SCHEMA_MAX_BYTES))
    if fault:
        raise EngineContractError(f"the shape of {name!r} is no JSON Schema: {fault}")


@lru_cache(maxsize=256)
def _fault(raw: bytes) -> str:
    """Why it is no JSON Schema; empty: it is one. The same ones come with each wait."""
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(jsonio.load(raw))
    except SchemaError as error:
        return error.message
    return ""
