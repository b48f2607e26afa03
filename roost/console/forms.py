"""Forms from a JSON Schema, and what was typed into one as a value of that schema.

Texts, numbers, truths and choices have fields of their own; what is deeper is typed as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roost import jsonio
from roost.errors import InputError

FIELDS_MAX = 30
WHOLE = "value"  # the one field of a schema that is no object with properties
YES, NO = "yes", "no"
_AREA_CHARS = 200


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a form; `kind` is an input's type, `area` or `choice`."""

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    hint: str = ""
    required: bool = False
    choices: Sequence[str] = ()


def fields_of(schema: Mapping[str, Any], *, prefix: str = "") -> list[Field]:
    """The fields for a schema.

    Args:
        prefix: put before their names, to tell them from a form's own.
    """
    properties = _properties(schema)
    if properties is None:
        return [Field(f"{prefix}{WHOLE}", "Answer", "area", hint="JSON; empty for none.")]
    required = set(schema.get("required", ()))
    return [
        _field(f"{prefix}{name}", name, _resolved(inner, schema), is_required=name in required)
        for name, inner in properties.items()
    ]


def value_of(schema: Mapping[str, Any], form: Mapping[str, str], *, prefix: str = "") -> Any:
    """What a form says, as a value; it is not yet checked against the schema.

    Raises:
        InputError: a field holds no such value.
    """
    properties = _properties(schema)
    if properties is None:
        text = form.get(f"{prefix}{WHOLE}", "").strip()
        return jsonio.parse(text.encode(), what="the answer") if text else None
    required = set(schema.get("required", ()))
    found: dict[str, Any] = {}
    for name, inner in properties.items():
        text = form.get(f"{prefix}{name}", "").strip()
        if text or (name in required and _resolved(inner, schema).get("type") == "string"):
            found[name] = _value(name, _resolved(inner, schema), text)
    return found


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Those of an object; None: it is none, or has too many for a form."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not 0 < len(properties) <= FIELDS_MAX:
        return None
    return properties


def _resolved(inner: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A property with its reference followed, once, and the `null` of an optional one left out."""
    if not isinstance(inner, Mapping):
        return {}
    ref = inner.get("$ref")
    if isinstance(ref, str) and ref.startswith("#/$defs/"):
        found = schema.get("$defs", {}).get(ref.removeprefix("#/$defs/"))
        return found if isinstance(found, Mapping) else {}
    kinds = inner.get("anyOf")
    if isinstance(kinds, list):
        left = [one for one in kinds if isinstance(one, Mapping) and one.get("type") != "null"]
        if len(left) == 1:
            return {**_resolved(left[0], schema), **{k: v for k, v in inner.items() if k != "anyOf"}}
    return inner


def _field(name: str, label: str, inner: Mapping[str, Any], *, is_required: bool) -> Field:
    title, hint = str(inner.get("title", label)), str(inner.get("description", ""))
    default = inner.get("default")
    value = "" if default is None else _text(default)
    choices = inner.get("enum")
    if isinstance(choices, list) and all(isinstance(one, str) for one in choices):
        given = choices if is_required else ["", *choices]
        return Field(name, title, "choice", value, hint, is_required, given)
    match inner.get("type"):
        case "boolean":
            given = [YES, NO] if is_required else ["", YES, NO]
            return Field(
                name, title, "choice", {"true": YES, "false": NO}.get(value, ""), hint, is_required, given
            )
        case "integer" | "number":
            return Field(name, title, "text", value, hint or "A number.", is_required)
        case "string":
            is_long = int(inner.get("maxLength") or 0) > _AREA_CHARS
            text = default if isinstance(default, str) else ""
            return Field(name, title, "area" if is_long else "text", text, hint, is_required)
        case _:
            return Field(name, title, "area", value, hint or "JSON.", is_required)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else jsonio.dump(value, what="default", max_bytes=1 << 16).decode()


def _value(name: str, inner: Mapping[str, Any], text: str) -> Any:
    if "enum" in inner or inner.get("type") == "string":
        return text
    match inner.get("type"):
        case "boolean" if text in (YES, NO):
            return text == YES
        case "integer" | "number":
            return _number(name, text)
        case _:
            return jsonio.parse(text.encode(), what=name[:40])


def _number(name: str, text: str) -> int | float:
    found = jsonio.parse(text.encode(), what=name[:40])
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InputError(f"{name[:40]}: {text[:40]!r} is no number")
    return found
