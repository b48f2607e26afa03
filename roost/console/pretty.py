"""JSON as lines that people read, and what changed between two of them; both bounded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
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


def pretty(value: Any, *, max_chars: int = TEXT_MAX_CHARS, string_max_chars: int = STRING_MAX_CHARS) -> Text:
    """JSON with an indent, up to a length; what comes after is never built."""
    parts: list[str] = []
    chars = 0
    for part in _parts(value, "\n", string_max_chars):
        parts.append(part)
        chars += len(part)
        if chars > max_chars:
            return Text("".join(parts)[:max_chars] + "\n…", is_whole=False)
    return Text("".join(parts), is_whole=True)


def _parts(value: Any, newline: str, string_max_chars: int) -> Iterator[str]:
    if isinstance(value, dict) and value:
        pairs = ((f"{_scalar(key, string_max_chars)}: ", inner) for key, inner in value.items())
        yield from _members("{}", pairs, newline, string_max_chars)
    elif isinstance(value, list | tuple) and value:
        yield from _members("[]", (("", inner) for inner in value), newline, string_max_chars)
    else:
        yield _scalar(value, string_max_chars)


def _members(
    brackets: str, members: Iterable[tuple[str, Any]], newline: str, string_max_chars: int
) -> Iterator[str]:
    inner = newline + _INDENT
    yield brackets[0]
    for place, (key, value) in enumerate(members):
        yield f"{',' if place else ''}{inner}{key}"
        yield from _parts(value, inner, string_max_chars)
    yield newline + brackets[1]


def _scalar(value: Any, string_max_chars: int) -> str:
    if isinstance(value, str) and len(value) > string_max_chars:
        rest = len(value) - string_max_chars
        head = json.dumps(value[:string_max_chars], ensure_ascii=False)[:-1]
        return f'{head}… ({rest} more characters)"'
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
    texts = [pretty(side, string_max_chars=TEXT_MAX_CHARS) for side in (left, right)]
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
