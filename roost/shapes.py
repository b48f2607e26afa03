"""What an engine says of the shapes of payloads and signals: pydantic models, JSON Schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from pydantic import BaseModel, ValidationError

from roost.errors import EngineContractError, PayloadError


def payload_model(engine_id: str, model: Any) -> type[BaseModel] | None:
    """An engine's `payload_model`, if it has one.

    Raises:
        EngineContractError: it is no pydantic model.
    """
    if model is None or _is_model(model):
        return model
    raise EngineContractError(
        f"engine {engine_id!r}: `payload_model` is no pydantic model", hint="Give it a subclass of BaseModel."
    )


def check_payload(engine_id: str, model: type[BaseModel], payload: dict[str, Any]) -> None:
    """Check a payload against an engine's model.

    Raises:
        PayloadError: it does not fit; the message names each wrong field.
    """
    try:
        model.model_validate(payload)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'payload'}: "
            + fault["msg"].removeprefix("Value error, ")
            for fault in error.errors(include_url=False, include_input=False)[:10]
        )
        raise PayloadError(
            f"payload does not fit engine {engine_id!r}: {faults}", hint=_fields_of(model)
        ) from None
    except Exception as error:  # a validator is an engine's code, and may raise anything, as a step may
        raise PayloadError(
            f"payload can't be checked for engine {engine_id!r}: its `payload_model` raised "
            f"{type(error).__name__}: {error}"
        ) from error


def signal_shapes(engine_id: str, models: Any) -> Mapping[str, Mapping[str, Any]]:
    """The JSON Schemas of `signal_models`.

    Raises:
        EngineContractError: it is no mapping of names to models or schemas.
    """
    if models is None:
        return {}
    shapes: dict[str, Mapping[str, Any]] = {}
    for name, model in models.items() if isinstance(models, Mapping) else (("", None),):
        if isinstance(model, Mapping) and isinstance(name, str):
            shapes[name] = model
        elif _is_model(model) and isinstance(name, str):
            shapes[name] = model.model_json_schema()
        else:
            raise EngineContractError(
                f"engine {engine_id!r}: `signal_models` is no mapping of signal names to models",
                hint="Give each name a pydantic model, or a JSON Schema.",
            )
    return shapes


def _is_model(model: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _fields_of(model: type[BaseModel]) -> str:
    """The fields of a payload in words."""
    names = [
        f"{field.alias or name}{'' if field.is_required() else ' (may be left out)'}"
        for name, field in model.model_fields.items()
    ]
    return f"Its fields: {', '.join(names)}." if names else "It takes no fields."
