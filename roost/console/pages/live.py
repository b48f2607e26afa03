"""The stream that tells pages that something changed, where the host can stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from roost.console.desk import Desk, desk_of
from roost.console.problems import Problem
from roost.errors import StorageDenied, StorageError

LOOK_SECONDS = 1.0
PING_SECONDS = 15
STREAMS_MAX = 200  # of one process; the next ones poll
_RETRY_MS = 5000


async def stream(request: Request) -> Response:
    """`GET /stream`: an event `changed` whenever the journals went on; the page then asks anew.

    All streams share one reader of the feed, so that their number costs nothing.
    """
    desk = desk_of(request)
    await desk.pulse.refresh()
    if desk.pulse.is_denied:
        raise StorageDenied("the rights of this console do not reach the feed", hint="Pages poll.")
    if desk.streams.count >= STREAMS_MAX:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "too_many_streams", "Too many pages are open.", "They poll.", 60.0
        )
    return EventSourceResponse(_events(desk), ping=PING_SECONDS, headers={"X-Accel-Buffering": "no"})


async def _events(desk: Desk) -> AsyncIterator[ServerSentEvent]:
    desk.streams.count += 1
    try:
        seen = desk.pulse.count
        yield ServerSentEvent(event="hello", retry=_RETRY_MS)
        while True:
            try:
                await desk.pulse.refresh()
            except StorageError:
                await desk.runtime.parts.clock.sleep(LOOK_SECONDS * 5)
                continue
            if desk.pulse.count != seen:
                seen = desk.pulse.count
                yield ServerSentEvent(event="changed", data=str(seen))
            await desk.runtime.parts.clock.sleep(LOOK_SECONDS)
    finally:
        desk.streams.count -= 1
