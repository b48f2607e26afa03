"""Artifacts: a preview of what is safe to show, and the verified bytes to keep."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal
from urllib.parse import quote

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from roost.console.desk import Desk, desk_of
from roost.console.pretty import pretty
from roost.console.problems import Problem
from roost.core.client import WorkView
from roost.errors import ArtifactNotFound, StorageCorrupt
from roost.models import Artifact

PREVIEW_MAX_BYTES = 256 << 10
IMAGE_MAX_BYTES = 8 << 20
VERIFY_MAX_BYTES = 32 << 20
_SANDBOX = "sandbox; default-src 'none'"
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_TAGS = {
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "p",
    "ul",
    "ol",
    "li",
    "em",
    "strong",
    "code",
    "pre",
    "blockquote",
}
_TAGS |= {"hr", "br", "table", "thead", "tbody", "tr", "th", "td", "a", "s"}
_RANGE = re.compile(r"bytes=(?P<start>[0-9]{0,15})-(?P<end>[0-9]{0,15})")
_PATCH = re.compile(r"^(--- |\+\+\+ |diff |@@ )", re.MULTILINE)

Form = Literal["json", "markdown", "patch", "text", "image", "binary", "large"]


@dataclass(frozen=True, slots=True)
class Preview:
    """What can be shown of an artifact.

    Attributes:
        text: of `json`, `text` and `patch`.
        markup: of `markdown`, cleaned.
    """

    form: Form
    text: str = ""
    markup: Markup | None = None
    is_whole: bool = True


async def preview(request: Request) -> Response:
    """`GET /work/{work_id}/artifacts/{place}`."""
    desk = desk_of(request)
    view, artifact = await _find(desk, request)
    shown = await preview_of(desk, artifact)
    return await desk.page(
        request,
        "artifact.html",
        item=view.item,
        artifact=artifact,
        place=request.path_params["place"],
        shown=shown,
    )


async def download(request: Request) -> Response:
    """`GET …/download`: the bytes, verified while they are sent, as a file and nothing else.

    Or a piece of them, where the request has a `Range`; or an address of the store that has
    them, which leads there for some minutes.
    """
    desk = desk_of(request)
    _, artifact = await _find(desk, request)
    if desk.link is not None:
        headers = {"Cache-Control": "no-store", "X-Artifact-SHA256": artifact.digest}
        return RedirectResponse(await desk.link(artifact), status_code=302, headers=headers)
    name = quote(artifact.name.rpartition("/")[2] or "artifact", safe="")
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Length": str(artifact.size_bytes),
        "Content-Security-Policy": _SANDBOX,
        "X-Artifact-SHA256": artifact.digest,
        "Cache-Control": "private, no-cache",
        "ETag": f'"{artifact.digest}"',
        "Accept-Ranges": "bytes",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers={"ETag": headers["ETag"]})
    chunks, status = desk.runtime.backend.artifacts.read(artifact.digest), HTTPStatus.OK
    piece = _range(request, headers["ETag"], artifact.size_bytes)
    if piece is not None:
        first, last = piece
        headers["Content-Range"] = f"bytes {first}-{last}/{artifact.size_bytes}"
        headers["Content-Length"] = str(last - first + 1)
        chunks, status = _piece(chunks, first, last), HTTPStatus.PARTIAL_CONTENT
    body = await _opened(chunks)
    return StreamingResponse(body, status, headers=headers, media_type="application/octet-stream")


def _range(request: Request, etag: str, size_bytes: int) -> tuple[int, int] | None:
    """The first and last byte that are asked for; None: all, as where the header is not understood.

    One range is understood (RFC 9110, section 14.2: a server may ignore the rest).

    Raises:
        Problem: there is no such byte.
    """
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or request.headers.get("if-range", etag) != etag:
        return None
    start, end = found["start"], found["end"]
    if not start and not end:
        return None
    if not start:
        first, last = max(size_bytes - int(end), 0), size_bytes - 1
    else:
        first, last = int(start), min(int(end) if end else size_bytes - 1, size_bytes - 1)
    if first > last:
        raise Problem(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "no_such_bytes", f"It has {size_bytes} bytes."
        )
    return first, last


async def _piece(chunks: AsyncIterator[bytes], first: int, last: int) -> AsyncIterator[bytes]:
    """The bytes from `first` to `last`; what comes after is not read."""
    at = 0
    async for chunk in chunks:
        inner = chunk[max(first - at, 0) : last + 1 - at]
        if inner:
            yield inner
        at += len(chunk)
        if at > last:
            return


async def image(request: Request) -> Response:
    """`GET …/image`: a picture, if its bytes are those of one, whatever its type says."""
    desk = desk_of(request)
    _, artifact = await _find(desk, request)
    content = await _read(desk, artifact, IMAGE_MAX_BYTES)
    media_type = image_type(content)
    if media_type is None or artifact.size_bytes > IMAGE_MAX_BYTES:
        raise ArtifactNotFound(f"{artifact.name!r} is no picture that can be shown", hint="Download it.")
    headers = {"Content-Security-Policy": _SANDBOX, "ETag": f'"{artifact.digest}"'}
    return Response(content, media_type=media_type, headers=headers)


def image_type(content: bytes) -> str | None:
    """The type of a picture by its first bytes; only of kinds that can't hold scripts."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for start, media_type in _IMAGES if content.startswith(start)), None)


async def _find(desk: Desk, request: Request) -> tuple[WorkView, Artifact]:
    view = await desk.reads.view(request.path_params["work_id"])
    place = request.path_params["place"]
    if place >= len(view.artifacts):
        raise ArtifactNotFound(f"work item {view.item.work_id!r} has no artifact number {place}")
    return view, view.artifacts[place]


async def _opened(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, the first of which was read: what is missing is an error before the answer begins."""
    first = await anext(aiter(chunks), b"")

    async def rest() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return rest()


async def _read(desk: Desk, artifact: Artifact, limit: int) -> bytes:
    """The first bytes of an artifact; all of them are verified, if the limit allows."""
    content = b""
    async for chunk in desk.runtime.backend.artifacts.read(artifact.digest):
        content += chunk
        if len(content) > limit:
            return content[:limit]
    return content


async def verify(desk: Desk, artifact: Artifact) -> bool | None:
    """Whether its bytes have its hash; None: they are too many to be read for a page."""
    if artifact.size_bytes > VERIFY_MAX_BYTES:
        return None
    try:
        async for _ in desk.runtime.backend.artifacts.read(artifact.digest):
            pass
    except StorageCorrupt:
        return False
    return True


async def preview_of(desk: Desk, artifact: Artifact) -> Preview:
    """What can be shown of it."""
    content = await _read(desk, artifact, PREVIEW_MAX_BYTES)
    if image_type(content) is not None:
        return Preview("image" if artifact.size_bytes <= IMAGE_MAX_BYTES else "large")
    if b"\x00" in content[:4096]:
        return Preview("binary")
    return of_text(
        content.decode("utf-8", "replace"),
        artifact.content_type,
        artifact.name,
        is_whole=artifact.size_bytes <= PREVIEW_MAX_BYTES,
    )


def of_text(text: str, content_type: str, name: str, *, is_whole: bool) -> Preview:
    """How a text is shown, by its type, name and looks."""
    if is_whole and (content_type == "application/json" or name.endswith(".json")):
        try:
            document = pretty(json.loads(text))
        except (ValueError, RecursionError):
            return Preview("text", text)
        return Preview("json", document.text, is_whole=document.is_whole)
    if is_whole and (content_type == "text/markdown" or name.endswith(".md")):
        return Preview("markdown", markup=markdown(text))
    if name.endswith((".patch", ".diff")) or (
        content_type.endswith(("patch", "diff")) and _PATCH.search(text)
    ):
        return Preview("patch", text, is_whole=is_whole)
    return Preview("text", text, is_whole=is_whole)


def markdown(text: str) -> Markup:
    """Markdown as markup that can do nothing: no scripts, pictures, styles or odd addresses."""
    made = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).render(text)
    clean = nh3.clean(
        made,
        tags=_TAGS,
        attributes={"a": {"href", "title"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(clean)  # noqa: S704  what nh3 let through
