"""Pages: templates with every value escaped, times in words, and an ETag for each page.

No template marks anything as safe; what is markup is made here, of constant text and
escaped values.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response

from roost import times
from roost.console.urls import segment

HERE = Path(__file__).parent
_VOLATILE = re.compile(rb"(<time\b[^>]*>)[^<]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COMMENT = re.compile(rb"/\*[^*]*\*/")
_STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def visible(text: object) -> str:
    """Text in which nothing is hidden: control and direction characters are shown as escapes."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), str(text))


def ago(at: float | None, now: float) -> Markup:
    """An instant in words; exactly, in UTC, under the pointer."""
    if at is None:
        return Markup("")
    exact = times.clock(at)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        exact, exact.replace("T", " ").rstrip("Z"), times.relative(at, now)
    )


def age(at: float | None, now: float) -> Markup:
    """How long ago, without the word."""
    if at is None:
        return Markup("")
    exact = times.clock(at)
    return Markup('<time datetime="{}" title="{} UTC" data-as="age">{}</time>').format(
        exact, exact.replace("T", " ").rstrip("Z"), times.span(now - at)
    )


def hour(at: float) -> Markup:
    """The time of day, with the day and UTC under the pointer; scripts make it local."""
    exact = times.clock(at)
    return Markup('<time datetime="{}" title="{} UTC" data-as="clock">{}</time>').format(
        exact, exact.replace("T", " ").rstrip("Z"), exact[11:19]
    )


def size(size_bytes: int) -> str:
    """Bytes in the unit that suits them."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("unreachable")


def number(value: int) -> str:
    """A number with narrow spaces between thousands."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def icon(name: str) -> Markup:
    """A picture of the sprite that every page holds; the word beside it says the same."""
    return Markup('<svg class="i" aria-hidden="true"><use href="#i-{}"/></svg>').format(name)


def bar(share: float, kind: str, label: str) -> Markup:
    """A small bar, filled from 0 to 1."""
    width = f"{min(max(share, 0.0), 1.0):.0%}"
    return Markup(
        '<svg class="bar {0}" role="img" aria-label="{1}"><title>{1}</title>'
        '<rect class="bg" width="100%" height="100%"/><rect class="fg" width="{2}" height="100%"/></svg>'
    ).format(kind, label, width)


def spark(values: list[int], kind: str) -> Markup:
    """A small curve over the last hour, a point a minute."""
    top = max([*values, 1])
    step = 120 / max(len(values) - 1, 1)
    points = " ".join(f"{n * step:.1f},{15 - 13 * value / top:.1f}" for n, value in enumerate(values))
    return Markup(
        '<svg class="spark {}" viewBox="0 0 120 16" preserveAspectRatio="none" aria-hidden="true">'
        '<polygon points="0,16 {} 120,16"/><polyline points="{}"/></svg>'
    ).format(kind, points, points)


class Pages:
    """The templates and files of the console."""

    def __init__(self) -> None:
        self.files = {
            path.name: (_slim(path.read_bytes()), _STATIC_TYPES[path.suffix])
            for path in sorted((HERE / "static").iterdir())
            if path.suffix in _STATIC_TYPES
        }
        digest = hashlib.sha256(b"".join(body for body, _ in self.files.values()))
        self.build = digest.hexdigest()[:12]
        self._env = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._env.filters |= {
            "size": size,
            "number": number,
            "span": times.span,
            "exact": times.clock,
            "seg": segment,
            "see": visible,
            "json": lambda value: json.dumps(value, ensure_ascii=False),
        }
        self._env.globals |= {"icon": icon, "bar": bar, "spark": spark}

    def render(self, template: str, context: Mapping[str, Any]) -> bytes:
        """A page as bytes; what UTF-8 can't hold was shown as escapes before."""
        return self._env.get_template(template).render(context).encode("utf-8", "backslashreplace")

    def response(self, request: Request, template: str, context: Mapping[str, Any]) -> Response:
        """A page, or 304 where the browser has it; the passing of time makes no new page."""
        body = self.render(template, context)
        digest = hashlib.sha256(_VOLATILE.sub(rb"\1", body)).hexdigest()[:32]
        return conditional(request, body, f'W/"{digest}"', media_type="text/html; charset=utf-8")


def conditional(request: Request, body: bytes, etag: str, *, media_type: str) -> Response:
    """An answer with an ETag, or 304 if the one who asks has it."""
    headers = {"ETag": etag, "Vary": "X-Roost-Live, Cookie, Authorization"}
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or f"W/{etag}" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def _slim(source: bytes) -> bytes:
    """A file as it is served: without indents, empty lines and lines of comment alone.

    None of the files has a text or template that goes over lines.
    """
    lines = (line.strip() for line in source.splitlines())
    return b"\n".join(line for line in lines if line and not _COMMENT.fullmatch(line)) + b"\n"


def text_of(value: object) -> str:
    """Escaped, for markup that is put together here."""
    return str(escape(visible(value)))
