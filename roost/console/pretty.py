"""JSON as lines that people read, and what changed between two of them; both bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

TEXT_MAX_CHARS = 64_000  # of one document on a page; the rest is to be had raw
LINES_MAX = 2_000  # on each side of a comparison that goes line by line
STRING_MAX_CHARS = 20_000
CONTEXT_LINES = 3
_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Text:
    """A document as text; `is_whole` is false where it was too long."""

    text: str
    is_whole: bool


def pretty(value: Any, *, max_chars: int = TEXT_MAX_CHARS) -> Text:
    """JSON with an indent, up to a length; what comes after is never built."""
    parts: list[str] = []
    chars = 0
    for part in _parts(value, "\n"):
        parts.append(part)
        chars += len(part)
        if chars > max_chars:
            return Text("".join(parts)[:max_chars] + "\n…", is_whole=False)
    return Text("".join(parts), is_whole=True)


def _parts(value: Any, newline: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield from _members("{}", [(f"{_scalar(key)}: ", inner) for key, inner in value.items()], newline)
    elif isinstance(value, list | tuple) and value:
        yield from _members("[]", [("", inner) for inner in value], newline)
    else:
        yield _scalar(value)


def _members(brackets: str, members: Sequence[tuple[str, Any]], newline: str) -> Iterator[str]:
    inner = newline + _INDENT
    yield brackets[0]
    for place, (key, value) in enumerate(members):
        yield f"{',' if place else ''}{inner}{key}"
        yield from _parts(value, inner)
    yield newline + brackets[1]


def _scalar(value: Any) -> str:
    if isinstance(value, str) and len(value) > STRING_MAX_CHARS:
        rest = len(value) - STRING_MAX_CHARS
        return f'{json.dumps(value[:STRING_MAX_CHARS], ensure_ascii=False)[:-1]}… ({rest} more characters)"'
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a comparison.

    Attributes:
        kind: `same`, `add`, `del`, or `fold` for lines that are left out.
        number: of the line, on the right side; of a deleted one on the left.
    """

    kind: Literal["same", "add", "del", "fold"]
    number: int
    text: str


def compare(left: Any, right: Any) -> list[Line] | None:
    """What changed between two documents, with a few lines around it.

    Returns:
        None if they are too large to be compared here.
    """
    texts = [pretty(left), pretty(right)]
    if not all(text.is_whole for text in texts):
        return None
    before, after = (text.text.split("\n") for text in texts)
    if max(len(before), len(after)) > LINES_MAX:
        return None
    matcher = SequenceMatcher(None, before, after, autojunk=len(before) > 400)
    lines: list[Line] = []
    opcodes = matcher.get_opcodes()
    for place, (tag, low, high, start, end) in enumerate(opcodes):
        if tag == "equal":
            lines += _same(after[start:end], start, is_first=place == 0, is_last=place == len(opcodes) - 1)
            continue
        lines += [Line("del", low + n + 1, text) for n, text in enumerate(before[low:high])]
        lines += [Line("add", start + n + 1, text) for n, text in enumerate(after[start:end])]
    return lines


def _same(texts: Sequence[str], start: int, *, is_first: bool, is_last: bool) -> list[Line]:
    """Unchanged lines; those far from a change are folded into one."""
    head = 0 if is_first else CONTEXT_LINES
    tail = 0 if is_last else CONTEXT_LINES
    lines = [Line("same", start + n + 1, text) for n, text in enumerate(texts)]
    hidden = len(lines) - head - tail
    if hidden < 2:
        return lines
    fold = Line("fold", 0, f"{hidden} unchanged lines")
    return [*lines[:head], fold, *lines[len(lines) - tail :]]
