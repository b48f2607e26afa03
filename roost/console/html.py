"""Pages: templates with every value escaped, times in words, and an ETag for each page.

No template marks anything as safe; what is markup is made here, of constant text and
escaped values.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response

from roost import times
from roost.console.urls import segment

HERE = Path(__file__).parent
_VOLATILE = re.compile(rb'(<time\b[^>]*>)[^<]*|(class="bar lease" )value="[\d.]+"')  # what time alone changes
CUT_CHARS = 160  # of a text in a list; the page of the work item has all of it
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_OPTIONAL = re.compile(rb"\n?</(?:t[dhr]|li)>\n?")  # HTML Standard, 13.1.2.4; text has no "<"
_COMMENT = re.compile(rb"^[ ]*/\*(?:(?!\*/).)*\*/[ ]*$", re.DOTALL | re.MULTILINE)
_STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def visible(text: object) -> str:
    """Text in which nothing is hidden: control and direction characters are shown as escapes."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), str(text))


def cut(text: object) -> str:
    """Visible text, up to a length that a row of a list has room for."""
    seen = visible(str(text)[:CUT_CHARS])
    return seen if len(str(text)) <= CUT_CHARS else f"{seen}…"


def body(text: object) -> Markup:
    """Visible text as the content of an element, where quotes need no escapes: JSON is full of them."""
    return Markup(escape(visible(text)).replace("&#34;", '"').replace("&#39;", "'"))  # noqa: S704  escaped above


def ago(at: float | None, now: float) -> Markup:
    """An instant in words; scripts tell it exactly, in UTC, under the pointer."""
    if at is None:
        return Markup("")
    return Markup('<time datetime="{}">{}</time>').format(times.clock(at), times.relative(at, now))


def age(at: float | None, now: float) -> Markup:
    """How long ago, without the word."""
    if at is None:
        return Markup("")
    return Markup('<time datetime="{}" data-as="age">{}</time>').format(times.clock(at), times.span(now - at))


def hour(at: float) -> Markup:
    """The time of day, with the day and UTC under the pointer; scripts make it local."""
    exact = times.clock(at)
    return Markup('<time datetime="{}" data-as="clock">{}</time>').format(exact, exact[11:19])


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
    """One of `icons.svg`; the word beside it says the same."""
    return Markup('<i class="i-{}"></i>').format(name)


def bar(share: float, kind: str, label: str) -> Markup:
    """A small bar, filled from 0 to 1."""
    value = f"{min(max(share, 0.0), 1.0):.2f}"
    return Markup('<progress class="bar {}" value="{}" aria-label="{}"></progress>').format(
        kind, value, label
    )


def spark(values: list[int], kind: str) -> Markup:
    """A small curve over the last hour, a point a minute."""
    top = max([*values, 1])
    heights = [30 - round(26 * value / top) for value in values]
    line = f"M-1 40V{heights[0]}h1"
    run = 0  # minutes in which it stays as high
    for before, height in pairwise(heights):
        run += 1
        if height != before:
            line += f"h{run - 1}" if run > 1 else ""
            line, run = f"{line}l1 {height - before}".replace(" -", "-"), 0
    return Markup(
        '<svg class="spark {}" viewBox="0 0 {} 32" preserveAspectRatio="none" aria-hidden="true">'
        '<path d="{}h{}V40"/></svg>'  # its edges and its bottom are drawn outside of what is seen
    ).format(kind, max(len(values) - 1, 1), line, run + 1)


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
            "cut": cut,
            "body": body,
            "json": lambda value: json.dumps(value, ensure_ascii=False),
        }
        self._env.globals |= {"icon": icon, "bar": bar, "spark": spark}

    def render(self, template: str, context: Mapping[str, Any]) -> bytes:
        """A page as bytes; what UTF-8 can't hold was shown as escapes before."""
        page = self._env.get_template(template).render(context)
        return _bare(page.encode("utf-8", "backslashreplace"))

    def response(self, request: Request, template: str, context: Mapping[str, Any]) -> Response:
        """A page, or 304 where the browser has it; the passing of time makes no new page."""
        body = self.render(template, context)
        digest = hashlib.sha256(_VOLATILE.sub(rb"\1\2", body)).hexdigest()[:32]
        return conditional(request, body, f'W/"{digest}"', media_type="text/html; charset=utf-8")


def conditional(request: Request, body: bytes, etag: str, *, media_type: str) -> Response:
    """An answer with an ETag, or 304 if the one who asks has it."""
    headers = {"ETag": etag, "Vary": "X-Roost-Live, Cookie, Authorization"}
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or f"W/{etag}" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def _bare(page: bytes) -> bytes:
    """A page without the end tags that HTML makes optional: a list has thousands."""
    return _OPTIONAL.sub(b"", page)


def _slim(source: bytes) -> bytes:
    """A file as it is served: without indents, empty lines and lines of comment alone.

    None of the files has a text or template that goes over lines.
    """
    lines = (line.strip() for line in _COMMENT.sub(b"", source).splitlines())
    return b"\n".join(line for line in lines if line) + b"\n"


def text_of(value: object) -> str:
    """Escaped, for markup that is put together here."""
    return str(escape(visible(value)))
