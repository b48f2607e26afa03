"""Artifacts by their hash: what was stored lately, where each is used, and one with a preview."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import Desk, desk_of
from roost.console.pages import artifacts as by_work
from roost.console.problems import Problem
from roost.console.pulse import Use
from roost.errors import ArtifactNotFound, WorkNotFound
from roost.models import Artifact

SHOWN = 50
SHOWN_SECONDS = 5.0
COST_FACTOR = 30.0  # each row is read from a work item's journal


@dataclass(frozen=True, slots=True)
class Row:
    """One blob.

    Attributes:
        artifact: as its latest user calls it; None: that work item is gone.
        place: among the artifacts of that work item.
        uses: who committed it, newest first.
    """

    digest: str
    artifact: Artifact | None
    place: int
    uses: Sequence[Use]


async def blobs(request: Request) -> Response:
    """`GET /artifacts`, with `q` for the beginning of a hash, or a piece of a name or type."""
    desk = desk_of(request)
    await desk.pulse.refresh()
    text = request.query_params.get("q", "").strip()[:200]
    return await desk.page(
        request,
        "blobs.html",
        rows=await matching(desk, text),
        q=text,
        known=len(desk.pulse.artifacts),
        shown=SHOWN,
        covers_from=desk.pulse.covers_from,
    )


async def matching(desk: Desk, text: str) -> Sequence[Row]:
    """The newest that a piece of text finds, of those whose names were looked at."""
    text = text.strip().lower()
    return [row for row in await _rows(desk, text) if _matches(row, text)]


async def _rows(desk: Desk, text: str) -> Sequence[Row]:
    """The newest blobs whose hash begins so, or the newest of all."""
    digests = list(reversed(desk.pulse.artifacts))
    chosen = [digest for digest in digests if digest.startswith(text)] or digests

    async def ask() -> Sequence[Row]:
        return await asyncio.gather(*(_row(desk, digest) for digest in chosen[:SHOWN]))

    key = ("blobs", tuple(chosen[:SHOWN]))
    return await desk.shared.get(key, ask, for_seconds=SHOWN_SECONDS, cost_factor=COST_FACTOR)


async def _row(desk: Desk, digest: str) -> Row:
    uses = desk.pulse.artifacts.get(digest, ())
    for use in uses[:1]:
        try:
            view = await desk.reads.view(use.work_id)
        except WorkNotFound:
            continue
        for place, artifact in enumerate(view.artifacts):
            if artifact.digest == digest:
                return Row(digest, artifact, place, uses)
    return Row(digest, None, -1, uses)


def _matches(row: Row, text: str) -> bool:
    named = f"{row.artifact.name} {row.artifact.content_type}".lower() if row.artifact else ""
    return row.digest.startswith(text) or text in named


async def blob(request: Request) -> Response:
    """`GET /artifacts/{digest}`."""
    desk = desk_of(request)
    await desk.pulse.refresh()
    digest: str = request.path_params["digest"]
    size_bytes = await desk.runtime.backend.artifacts.size(digest)
    if size_bytes is None:
        raise _unknown(digest)
    row = await _row(desk, digest)
    artifact = row.artifact or Artifact(
        name=digest[:12],
        digest=digest,
        size_bytes=size_bytes,
        content_type="application/octet-stream",
        created_at=0.0,
    )
    return await desk.page(
        request,
        "blob.html",
        row=row,
        artifact=artifact,
        shown=await by_work.preview_of(desk, artifact),
        verified=await by_work.verify(desk, artifact),
        covers_from=desk.pulse.covers_from,
    )


def _unknown(digest: str) -> Problem:
    from roost.console.problems import of_error

    return of_error(ArtifactNotFound(f"there is no artifact {digest}", hint="It may have expired."))
