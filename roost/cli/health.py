"""The port of `roost worker --health-port`: `/live` and `/ready` for whoever supervises the process.

It answers from the worker's own event loop. So a step that blocks the loop, which stops
heartbeats, too, lets a probe run into its timeout, as it should.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from roost.errors import SettingsError

if TYPE_CHECKING:
    from roost.core.pulse import Health

_REQUEST_BYTES_MAX = 8 << 10
_REQUEST_SECONDS = 5.0  # a probe that takes longer to ask is cut off
_PATHS = ("/live", "/ready")


@asynccontextmanager
async def serve(host: str, port: int, health: Callable[[], Health]) -> AsyncIterator[int]:
    """Answer probes while the context is open; gives the port that is listened on.

    Args:
        port: 0 is any free one.

    Raises:
        SettingsError: nobody may listen there.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_reply(head, health()))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # not a probe, or one that went away
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, host, port, limit=_REQUEST_BYTES_MAX)
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"health probes can't be answered on {host}:{port}: {error}",
            hint="Choose a free port: --health-port or ROOST_WORKER__HEALTH_PORT.",
        ) from None
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _reply(head: bytes, health: Health) -> bytes:
    """The whole HTTP reply to a request's head."""
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0].decode("ascii", "replace")
    if method not in (b"GET", b"HEAD"):
        return _http(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "GET or HEAD"}, method)
    if path not in _PATHS:
        return _http(HTTPStatus.NOT_FOUND, {"error": f"there is {' and '.join(_PATHS)}"}, method)
    is_ok = health.is_live if path == "/live" else health.is_ready
    status = HTTPStatus.OK if is_ok else HTTPStatus.SERVICE_UNAVAILABLE
    return _http(status, {"ok": is_ok, "why": "" if is_ok else health.why}, method)


def _http(status: HTTPStatus, document: dict[str, object], method: bytes) -> bytes:
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else body)
