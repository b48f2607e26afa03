"""Error texts on their way into the history: cut to size, secrets taken out."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from itertools import islice
from types import TracebackType

from roost.journal.values import ErrorInfo

MESSAGE_MAX_CHARS = 2000
TRACEBACK_MAX_CHARS = 4000
_SHOWN_PARTS = 3  # of a group of exceptions
_RUNTIME = ("roost.core.", "asyncio.", "concurrent.futures.")  # what calls an engine

_SECRETS = re.compile(
    r"""(?ix)
    (?P<name>["']?\b\w{0,40}(?:password|passwd|secret|token|api[_-]?key|authorization|access[_-]?key)\w{0,40}
        ["']?\s*[:=]\s*)
        (?:bearer\s+)?(?:"[^"]*"|'[^']*'|[^\s,;&"']+)
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \bbearer\s+[A-Za-z0-9._~+/=-]{8,}
    | (?P<url>\b[a-z][a-z0-9+.-]*://)[^\s/@:]+:[^\s/@]+@
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.DOTALL,
)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def clean(text: str, max_chars: int = MESSAGE_MAX_CHARS) -> str:
    """`text` without control characters and without what looks like a secret, cut."""
    text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[: max_chars * 4])
    text = _SECRETS.sub(lambda match: f"{match['name'] or match['url'] or ''}[redacted]", text)
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def _from_engine(start: TracebackType | None) -> TracebackType | None:
    """A traceback without how the runtime came to the engine; whole if it never came there."""
    for frame in _walk(start):
        if not frame.tb_frame.f_globals.get("__name__", "").startswith(_RUNTIME):
            return frame
    return start


def _walk(start: TracebackType | None) -> Iterator[TracebackType]:
    """The frames of a traceback, outermost first."""
    while start is not None:
        yield start
        start = start.tb_next


def parts_of(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """What is in a group and in the groups within it, in order, however deep they are."""
    left: list[BaseException] = [group]
    while left:
        part = left.pop()
        if isinstance(part, BaseExceptionGroup):
            left.extend(reversed(part.exceptions))
        else:
            yield part


def describe(error: BaseException) -> ErrorInfo:
    """What the history keeps of an exception; of a group, what is in it, too."""
    message, frames = _text_of(error), _frames(error)
    if isinstance(error, BaseExceptionGroup):
        parts = list(islice(parts_of(error), _SHOWN_PARTS))
        message += f": {'; '.join(f'{type(part).__qualname__}: {_text_of(part)}' for part in parts)}"
        frames += _frames(parts[0])
    return ErrorInfo(
        type=clean(type(error).__qualname__, 200),
        message=clean(message),
        traceback=clean("".join(frames), TRACEBACK_MAX_CHARS),
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # noqa: BLE001  an engine's __str__ may do anything; its own failure is the text
        return f"its text can't be had: {type(broken).__name__}"


def _frames(error: BaseException) -> list[str]:
    return traceback.format_tb(_from_engine(error.__traceback__), limit=-12)
