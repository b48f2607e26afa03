"""Fields of payloads, snapshots and signals that the console never shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from roost.errors import SettingsError
from roost.names import ID_PATTERN

HIDDEN = "[hidden]"
ANY = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `console.redact`.

    Attributes:
        engine: only of this engine; None: of all.
        path: keys from the top; one key alone is hidden at any depth.
    """

    engine: str | None
    path: tuple[str, ...]


class Redaction:
    """Hides what the rules name; gives copies, never changes what it is given."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._rules = [_parse(text) for text in texts]

    def apply(self, engine: str, value: Any) -> Any:
        """`value` without what the rules for this engine name."""
        paths = [rule.path for rule in self._rules if rule.engine in (None, engine)]
        anywhere = frozenset(path[0] for path in paths if len(path) == 1)
        return _hide(value, anywhere, [path for path in paths if len(path) > 1]) if paths else value


def _parse(text: str) -> Rule:
    engine, mark, path = text.rpartition(":")
    keys = tuple(path.split("."))
    if not all(keys) or (mark and not ID_PATTERN.fullmatch(engine)):
        raise SettingsError(
            f"console.redact: {text!r} is no path",
            hint="Such as password, customer.email, items.*.card or ENGINE:iban",
        )
    return Rule(engine if mark else None, keys)


def _hide(value: Any, anywhere: frozenset[str], paths: Sequence[tuple[str, ...]]) -> Any:
    if isinstance(value, dict):
        return {key: _member(key, inner, anywhere, paths) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_member(str(place), inner, anywhere, paths) for place, inner in enumerate(value)]
    return value


def _member(key: str, value: Any, anywhere: frozenset[str], paths: Sequence[tuple[str, ...]]) -> Any:
    deeper = [path[1:] for path in paths if path[0] in (key, ANY)]
    if key in anywhere or () in deeper:
        return HIDDEN
    return _hide(value, anywhere, [path for path in deeper if path])
