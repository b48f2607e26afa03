"""Strict JSON: what may be stored, checked before anything is parsed or written.

JSON here means what every reader agrees on: no NaN or infinity, no lone surrogates, no
duplicate keys, at most `DEPTH_MAX` levels, keys are text, and a bound on the size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from math import isfinite
from typing import Any, NoReturn

from msgspec import MsgspecError
from msgspec.json import Decoder, Encoder
from msgspec.json import format as _lay_out

from roost.errors import PayloadError, StorageCorrupt

DEPTH_MAX = 64
PAYLOAD_MAX_BYTES = 1 << 20  # 1 MiB
SNAPSHOT_MAX_BYTES = 16 << 20  # 16 MiB
INT_DIGITS_MAX = 4300  # Python documentation, "Integer string conversion length limitation"; a sign counts


def _base(value: Any) -> Any:
    """A subclass of one of JSON's types as that type; msgspec knows the types themselves."""
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    raise TypeError(type(value).__name__)


_encode_json = Encoder(enc_hook=_base).encode
_decode_json = Decoder().decode

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_TOO_FAR_IN = b"\n" + b" " * DEPTH_MAX
_NUMBERS: frozenset[type] = frozenset({int, float})
_PLAIN: frozenset[type] = frozenset({str, bool, type(None)})


def dump(value: Any, *, what: str, max_bytes: int) -> bytes:
    """The JSON of a Python value, as it is stored; see `dump_and_load`."""
    return dump_and_load(value, what=what, max_bytes=max_bytes)[0]


def dump_and_load(value: Any, *, what: str, max_bytes: int) -> tuple[bytes, Any]:
    """The JSON of a Python value, and the value as it will be read back: a fresh copy.

    What reads back equal and is not deep was JSON; only what does not is looked at node
    by node. That costs a third of looking at every node at every commit.

    Args:
        value: dicts with text keys, lists, tuples (stored as lists), str, int, float,
            bool and None; subclasses of these are stored as their base.
        what: names the value in errors.
        max_bytes: the longest result.

    Raises:
        PayloadError: the value is not JSON, too deep or too large; says where.
    """
    try:
        body = _encode_json(value)
        loaded = _decode_json(body)
    except (MsgspecError, ValueError, TypeError, RecursionError):
        _check(value, what)
        raise PayloadError(
            f"{what} has text with a lone surrogate, which UTF-8 can't hold",
            hint="Decode the text properly, or replace such characters.",
        ) from None
    if loaded != value or not _is_shallow(body):
        _check(value, what)
    if len(body) > max_bytes:
        raise PayloadError(
            f"{what} has {len(body)} bytes as JSON, more than {max_bytes}",
            hint="Put large content into an artifact and keep its digest here.",
        )
    return body, loaded


def _is_shallow(body: bytes) -> bool:
    """Whether a document is surely nested no deeper than allowed.

    It is laid out with a space for each level: line breaks are outside of text only.
    """
    try:
        return _TOO_FAR_IN not in _lay_out(body, indent=1)
    except RecursionError:
        return False


def load(body: bytes) -> Any:
    """What `dump` stored; trusts that `dump` wrote it.

    Raises:
        StorageCorrupt: it is no JSON any more.
    """
    try:
        return _decode_json(body)
    except (MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StorageCorrupt(f"a stored document is no JSON any more: {error}") from error


def parse(text: str | bytes, *, what: str, max_bytes: int = PAYLOAD_MAX_BYTES) -> Any:
    """JSON that came from outside.

    Raises:
        PayloadError: it is malformed, too large, too deep, or has NaN, infinity,
            duplicate keys, or lone surrogates.
    """
    body = _encode(text, what)
    if len(body) > max_bytes:
        raise PayloadError(f"{what} has {len(body)} bytes, more than {max_bytes}")
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX and _depth(body) > DEPTH_MAX:
        raise PayloadError(f"{what} is nested more than {DEPTH_MAX} deep")
    try:
        value = _STRICT.decode(body.decode())
    except _Fault as fault:
        raise PayloadError(f"{what} {fault}", hint=fault.hint) from None
    except json.JSONDecodeError as error:
        raise PayloadError(
            f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            hint="Quote keys and text with double quotes; in a shell, wrap the whole in single quotes.",
        ) from None
    except ValueError:
        raise PayloadError(
            f"{what} has an integer of more than {INT_DIGITS_MAX} digits", hint="Store it as text."
        ) from None
    except RecursionError as error:
        raise PayloadError(f"{what} can't be read: {error}") from None
    dump(value, what=what, max_bytes=max_bytes)  # surrogates escaped as \\ud800 show up here
    return value


def parse_object(text: str | bytes, *, what: str, max_bytes: int = PAYLOAD_MAX_BYTES) -> dict[str, Any]:
    """Like `parse`, for what must be a JSON object.

    Raises:
        PayloadError: as `parse`, or it is something else.
    """
    value = parse(text, what=what, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise PayloadError(
            f"{what} is {kind_of(value)}, not a JSON object",
            hint='Wrap it, for example as {"value": …}.',
        )
    return value


def _encode(text: str | bytes, what: str) -> bytes:
    try:
        if isinstance(text, bytes):
            text.decode()
            return text
        return text.encode()
    except UnicodeError:
        raise PayloadError(f"{what} is not UTF-8") from None


def _depth(body: bytes) -> int:
    """The deepest nesting of brackets outside strings; reads JSON that may be malformed."""
    depth = deepest = 0
    for match in _TOKEN.finditer(body):
        char = match.group()[:1]
        if char in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in b"]}":
            depth -= 1
    return deepest


def kind_of(value: Any) -> str:
    """What a JSON value is, in words: `a list`, `null`."""
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null" if value is None else type(value).__name__)


def _check(value: Any, what: str) -> None:
    """Walk the value level by level; raise where it is not JSON."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX + 1):
        deeper: list[Any] = []
        for node in level:
            kind = type(node)
            if kind in _PLAIN:
                continue
            try:
                if kind is dict:
                    deeper.extend(_check_keys(node))
                elif kind is list:
                    deeper.extend(node)
                elif not (kind in _NUMBERS and -1e300 < node < 1e300):
                    deeper.extend(_check_other(node))
            except _Fault as fault:
                raise PayloadError(f"{what}{_path_to(node, value)} {fault}", hint=fault.hint) from None
        if not deeper:
            return
        level = deeper
    raise PayloadError(f"{what} is nested more than {DEPTH_MAX} deep", hint="Flatten it.")


class _Fault(Exception):
    """What is wrong with a node, as the end of a sentence about it."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


def _no_constant(name: str) -> NoReturn:
    raise _Fault(f"has {name}, which is not JSON", "Use null or a number.")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Fault(f"has the key {twice!r} twice")
    return found


_STRICT = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_no_duplicates)


def _path_to(node: Any, value: Any) -> str:
    """Where a node is in a value: `.data.at`, `.items[2]`; empty: it is the value."""
    level = [("", value)]
    for _ in range(DEPTH_MAX + 1):
        for path, one in level:
            if one is node:
                return path
        level = [inner for path, one in level for inner in _inside(path, one)]
    return ""


def _inside(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        yield from ((f"{path}.{key}", value) for key, value in node.items())
    elif isinstance(node, list | tuple):
        yield from ((f"{path}[{number}]", value) for number, value in enumerate(node))


def _check_other(node: Any) -> Collection[Any]:
    """Check what is not plainly JSON: huge numbers, tuples, subclasses of JSON's types.

    Returns:
        What it contains, to be checked in turn.

    Raises:
        _Fault: it is none of these.
    """
    if isinstance(node, dict):
        return _check_keys(node)
    if isinstance(node, list | tuple):
        return node
    if isinstance(node, float) and not isfinite(node):
        raise _Fault(f"is {node!r}, which is not JSON", "Use null or a number.")
    if isinstance(node, int) and not -(10 ** (INT_DIGITS_MAX - 1)) < node < 10**INT_DIGITS_MAX:
        raise _Fault(f"is an integer of more than {INT_DIGITS_MAX} digits", "Store it as text.")
    if isinstance(node, str | int | float):
        return ()
    kind = type(node).__name__
    raise _Fault(f"is of type {kind}, which is not JSON", _HINTS.get(kind, _HINT))


_HINT = "Use objects, lists, text, numbers, true, false and null."
_HINTS = {
    "datetime": "Store a time as text (isoformat) or as a number (timestamp).",
    "date": "Store a date as text: isoformat.",
    "set": "Store a sorted list.",
    "frozenset": "Store a sorted list.",
    "bytes": "Store bytes as an artifact, or as text (base64).",
    "Decimal": "Store an exact number as text.",
}
"""What to do with the values that people most often try to store."""


def _check_keys(node: dict[Any, Any]) -> Collection[Any]:
    """The values of a dict whose keys are all text."""
    for key in node:
        if type(key) is not str and not isinstance(key, str):
            raise _Fault(f"has the key {key!r}, of type {type(key).__name__}; JSON keys are text")
    return node.values()
