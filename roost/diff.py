"""What changed between two JSON documents, in the manner of JSON Patch (RFC 6902)."""

from __future__ import annotations

from typing import Any


def changes(left: Any, right: Any, path: str = "") -> list[dict[str, Any]]:
    """The differences, as operations that turn `left` into `right`.

    Returns:
        Objects with `op` (add, remove, replace), `path` (a JSON pointer, RFC 6901), `value`
        and, beyond the RFC, `old`.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        found = []
        for key in [*left, *(key for key in right if key not in left)]:
            found += _member(left, right, key, f"{path}/{_escape(key)}")
        return found
    if isinstance(left, list) and isinstance(right, list):
        return _items(left, right, path)
    if type(left) is type(right) and left == right:
        return []
    return [{"op": "replace", "path": path, "old": left, "value": right}]


def _member(left: dict[str, Any], right: dict[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    if key not in right:
        return [{"op": "remove", "path": path, "old": left[key]}]
    if key not in left:
        return [{"op": "add", "path": path, "value": right[key]}]
    return changes(left[key], right[key], path)


def _items(left: list[Any], right: list[Any], path: str) -> list[dict[str, Any]]:
    """Lists are compared item by item; what is too much is taken off from the end."""
    shared = min(len(left), len(right))
    found = []
    for number in range(shared):
        found += changes(left[number], right[number], f"{path}/{number}")
    found += [{"op": "add", "path": f"{path}/{n}", "value": right[n]} for n in range(shared, len(right))]
    found += [
        {"op": "remove", "path": f"{path}/{n}", "old": left[n]} for n in reversed(range(shared, len(left)))
    ]
    return found


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
