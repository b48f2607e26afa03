"""What API Gateway does before a function: makes an event of a request, and an answer of a reply."""

from __future__ import annotations

import base64
import json
from typing import Any, Protocol

from roost.hosting.container import LambdaContext
from roost.hosting.gateway import REPLY_BYTES_MAX
from tests.hosting.shapes import Context, http_event

_SECONDS = 30.0
_TEXT = ("text/", "application/json", "application/x-www-form-urlencoded")


class Answers(Protocol):
    """A function, or the `Gateway` in one."""

    async def answer(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """The reply to an event."""


class ApiGateway:
    """An HTTP API as an ASGI application, with a function behind it.

    Attributes:
        events: those that it made.
    """

    def __init__(self, gateway: Answers, *, stage: str = "$default") -> None:
        self.events: list[dict[str, Any]] = []
        self._gateway = gateway
        self._stage = stage

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        event = self._event(scope, body)
        self.events.append(event)
        reply = await self._gateway.answer(event, Context(lambda: _SECONDS))
        text = json.dumps(reply)  # what a function returns is JSON
        assert len(text) <= REPLY_BYTES_MAX
        await self._send(json.loads(text), send)

    def _event(self, scope: Any, body: bytes) -> dict[str, Any]:
        pairs = [(key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in scope["headers"]]
        headers: dict[str, str] = {}
        for key, value in pairs:
            if key != "cookie":
                headers[key] = f"{headers[key]},{value}" if key in headers else value
        headers["x-forwarded-proto"] = scope["scheme"]
        is_text = headers.get("content-type", "").startswith(_TEXT) and _is_utf8(body)
        event = http_event(
            scope["method"],
            (scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            cookies=[cookie for key, value in pairs if key == "cookie" for cookie in value.split("; ")],
            body=(body.decode() if is_text else base64.b64encode(body).decode()) if body else None,
            is_base64=bool(body) and not is_text,
            stage=self._stage,
        )
        event["requestContext"]["http"]["sourceIp"] = scope["client"][0]
        event["requestContext"]["domainName"] = headers.get("host", "").partition(":")[0]
        return event

    async def _send(self, reply: dict[str, Any], send: Any) -> None:
        body = base64.b64decode(reply["body"]) if reply["isBase64Encoded"] else reply["body"].encode()
        headers = [(key.encode(), value.encode()) for key, value in reply.get("headers", {}).items()]
        headers += [(b"set-cookie", cookie.encode()) for cookie in reply.get("cookies", [])]
        await send({"type": "http.response.start", "status": reply["statusCode"], "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
