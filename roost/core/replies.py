"""The shapes of replies: JSON Schemas that an engine asks for, and answers are checked against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roost import jsonio
from roost.errors import EngineContractError, InputError
from roost.models import WaitFor

SCHEMA_MAX_BYTES = 1 << 14
_FAULTS_MAX = 5  # that one error text names


def check(schema: Mapping[str, Any], data: Any) -> None:
    """Raises InputError: the data is not of the shape; says where."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    validator = Draft202012Validator(schema, registry=Registry())  # never fetches what a schema refers to
    faults = [
        f"{fault.json_path}: {fault.message}"[:200]
        for _, fault in zip(range(_FAULTS_MAX), validator.iter_errors(data), strict=False)
    ]
    if faults:
        raise InputError(f"the reply is not what was asked for: {'; '.join(faults)}")


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
    from jsonschema import Draft202012Validator, SchemaError

    jsonio.dump(schema, what=f"the shape of {name!r}", max_bytes=SCHEMA_MAX_BYTES)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise EngineContractError(f"the shape of {name!r} is no JSON Schema: {error.message}") from None
