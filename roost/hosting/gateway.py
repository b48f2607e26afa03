"""An ASGI application behind an HTTP API of Amazon API Gateway (payload format 2.0).

mangum translates event and reply. Here are the limits that a function has there, which an
application should meet as answers and not as a broken connection: the time of an
integration, the size of a reply, and that nothing can be streamed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from http import HTTPStatus
from typing import Any

from mangum.handlers import HTTPGateway
from mangum.types import LambdaConfig

from roost.hosting.container import LambdaContext, remaining_seconds

log = logging.getLogger("roost.lambda")

Message = MutableMapping[str, Any]
Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Coroutine[Any, Any, None],
]
"""An ASGI 3 application."""

REPLY_BYTES_MAX = 6_291_456  # AWS Lambda quotas: 6 MB for the reply of a synchronous invocation
REPLY_SECONDS_MAX = 29.0  # API Gateway quotas, HTTP APIs: 30 s for an integration
_MARGIN_SECONDS = 1.0  # of the function's own time, kept back for the answer that says so
_NEVER_CHECKED_BYTES = REPLY_BYTES_MAX // 8  # JSON makes of a character six at most
_STREAM = b"text/event-stream"
# "Clients will reconnect if the connection is closed; a client can be told to stop reconnecting
# using the HTTP 204 No Content response code" (HTML Standard, "Server-sent events"). Pages poll then.
_NO_STREAM: dict[str, Any] = {
    "statusCode": int(HTTPStatus.NO_CONTENT),
    "headers": {"cache-control": "no-store"},
    "body": "",
    "isBase64Encoded": False,
}
_CONFIG = LambdaConfig(
    api_gateway_base_path="/",
    text_mime_types=["text/", "application/json", "application/problem+json", "application/javascript"],
    exclude_headers=[],
)


class Gateway:
    """Answers events with an application.

    Args:
        base_path: what stands before the application's own paths, such as `/prod` for a
            named stage, or the key of an API mapping; links are made with it.
    """

    def __init__(self, app: Application, *, base_path: str = "") -> None:
        self._app = app
        self._base_path = base_path.rstrip("/")

    async def answer(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """The reply to one request, within the time that API Gateway and the function have.

        Args:
            event: payload format 2.0. The application finds it as `aws.event` in its scope,
                with what an authorizer said.

        Raises:
            Exception: what the application raised without an answer; Lambda counts it as an
                error of the function, and API Gateway answers with a 500.
        """
        handler = HTTPGateway(event, context, _CONFIG)  # type: ignore[arg-type]  # reads less than it names
        scope = {**handler.scope, "root_path": self._base_path, "raw_path": event["rawPath"].encode()}
        exchange = _Exchange(handler.body)
        seconds = max(0.0, min(REPLY_SECONDS_MAX, remaining_seconds(context) - _MARGIN_SECONDS))
        if not await _run(self._app(scope, exchange.receive, exchange.send), exchange, seconds):
            if exchange.is_stream.is_set():
                return _NO_STREAM
            title = f"No answer within {seconds:.0f} seconds."
            return _problem(HTTPStatus.GATEWAY_TIMEOUT, "timed_out", title)
        reply: dict[str, Any] = handler(exchange.response)  # type: ignore[arg-type]
        if len(exchange.body) > _NEVER_CHECKED_BYTES and len(json.dumps(reply)) > REPLY_BYTES_MAX:
            return _problem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "reply_too_large",
                f"The answer has more than {REPLY_BYTES_MAX >> 20} MB.",
                "Ask for less at a time; artifacts are given by link.",
            )
        return reply


async def _run(app: Coroutine[Any, Any, None], exchange: _Exchange, seconds: float) -> bool:
    """Run the application to its end; False if it took too long or began a stream."""
    task = asyncio.create_task(app)
    stream = asyncio.create_task(exchange.is_stream.wait())
    try:
        done, _ = await asyncio.wait({task, stream}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        stream.cancel()
        await asyncio.wait({task, stream}, timeout=_MARGIN_SECONDS / 2)
    if task not in done:
        return False
    error = task.exception()
    if error is not None and not exchange.is_over:
        raise error
    if error is not None:
        log.error("the application failed: %s", error, exc_info=error, extra={"event": "console.failed"})
    return True


class _Exchange:
    """One request and its answer."""

    def __init__(self, body: bytes) -> None:
        self._requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._ended = asyncio.Event()
        self.is_stream = asyncio.Event()
        self._status = int(HTTPStatus.INTERNAL_SERVER_ERROR)  # of an application that says nothing
        self._headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()

    @property
    def is_over(self) -> bool:
        """Whether the whole answer is there."""
        return self._ended.is_set()

    @property
    def response(self) -> dict[str, Any]:
        """As mangum takes it."""
        return {"status": self._status, "headers": self._headers, "body": bytes(self.body)}

    async def receive(self) -> Message:
        if self._requests:
            return self._requests.pop()
        await self._ended.wait()  # nobody can be seen to go away
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", [])]
            if any(name.lower() == b"content-type" and _STREAM in value for name, value in self._headers):
                self.is_stream.set()  # it has no end to wait for
                await asyncio.Event().wait()
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                self._ended.set()


def _problem(status: HTTPStatus, code: str, title: str, hint: str = "") -> dict[str, Any]:
    """A reply as RFC 9457 has them."""
    document = {"status": int(status), "code": code, "title": title, "hint": hint}
    return {
        "statusCode": int(status),
        "headers": {"content-type": "application/problem+json", "cache-control": "no-store"},
        "body": json.dumps(document),
        "isBase64Encoded": False,
    }
