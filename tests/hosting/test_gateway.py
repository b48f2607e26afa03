"""An ASGI application behind API Gateway: requests, replies, and the limits that hold there."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from roost.hosting.gateway import REPLY_BYTES_MAX, REPLY_SECONDS_MAX, Application, Gateway
from roost.testing.virtual_time import run
from tests.hosting.shapes import Context, http_event

Reply = dict[str, Any]


class App:
    """Keeps the scope and body of a request, and answers with what it was given.

    Attributes:
        scope, body: of the last request.
    """

    def __init__(
        self, *chunks: bytes, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        self.scope: Any = {}
        self.body = b""
        self._chunks = chunks or (b"hello",)
        self._start = {
            "type": "http.response.start",
            "status": status,
            "headers": headers or [(b"content-type", b"text/html; charset=utf-8")],
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        more = True
        while more:
            message = await receive()
            self.body += message["body"]
            more = message["more_body"]
        await send(self._start)
        for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})
        assert (await receive())["type"] == "http.disconnect"


async def ask(
    app: Application, event: dict[str, Any], *, base_path: str = "", seconds: float = 30.0
) -> Reply:
    return await Gateway(app, base_path=base_path).answer(event, Context(lambda: seconds))


async def test_a_request_arrives_whole() -> None:
    app = App()
    event = http_event(
        "POST",
        "/api/v1/work",
        query="state=failed&state=done&q=%C3%BC",
        headers={"Content-Type": "application/json", "accept": "a,b"},
        cookies=["a=1", "b=2"],
        body='{"n":"ü"}',
    )
    await ask(app, event)
    headers = {bytes(name): bytes(value) for name, value in app.scope["headers"]}
    assert app.scope["method"] == "POST"
    assert (app.scope["path"], app.scope["raw_path"]) == ("/api/v1/work", b"/api/v1/work")
    assert app.scope["query_string"] == b"state=failed&state=done&q=%C3%BC"
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"cookie"] == b"a=1; b=2"
    assert app.scope["scheme"] == "https"
    assert app.scope["client"] == ("192.0.2.1", 0)
    assert app.scope["server"] == ("id.execute-api.us-east-1.amazonaws.com", 443)
    assert app.body == '{"n":"ü"}'.encode()


async def test_a_binary_body_arrives_as_it_was_sent() -> None:
    app = App()
    content = bytes(range(256))
    await ask(app, http_event("PUT", body=base64.b64encode(content).decode(), is_base64=True))
    assert app.body == content


async def test_what_the_authorizer_said_is_in_the_scope() -> None:
    app = App()
    said = {"jwt": {"claims": {"sub": "ann"}, "scopes": None}}
    await ask(app, http_event(authorizer=said))
    assert app.scope["aws.event"]["requestContext"]["authorizer"] == said


async def test_a_path_is_given_decoded_and_raw() -> None:
    app = App()
    await ask(app, http_event(path="/work/a%20b~c"))
    assert (app.scope["path"], app.scope["raw_path"]) == ("/work/a b~c", b"/work/a%20b~c")


async def test_a_base_path_is_the_root_path() -> None:
    """As ASGI has it: `path` is whole, and links are made with `root_path`."""
    app = App()
    await ask(app, http_event(path="/prod/work", stage="prod"), base_path="/prod/")
    assert (app.scope["root_path"], app.scope["path"]) == ("/prod", "/prod/work")


async def test_text_is_given_as_text() -> None:
    reply = await ask(App(b"gr", "ü".encode(), b"n"), http_event())
    assert (reply["statusCode"], reply["body"], reply["isBase64Encoded"]) == (200, "grün", False)
    assert reply["headers"] == {"content-type": "text/html; charset=utf-8"}


@pytest.mark.parametrize("kind", [b"application/octet-stream", b"image/png", b"text/plain"])
async def test_bytes_arrive_as_they_were_sent(kind: bytes) -> None:
    content = bytes(range(256))
    reply = await ask(App(content, headers=[(b"content-type", kind)]), http_event())
    assert reply["isBase64Encoded"]
    assert base64.b64decode(reply["body"]) == content


async def test_a_problem_document_is_text() -> None:
    headers = [(b"content-type", b"application/problem+json")]
    reply = await ask(App(b"{}", status=404, headers=headers), http_event())
    assert (reply["statusCode"], reply["body"], reply["isBase64Encoded"]) == (404, "{}", False)


async def test_each_cookie_is_one_of_its_own() -> None:
    headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"vary", b"x"), (b"vary", b"y")]
    reply = await ask(App(headers=headers), http_event())
    assert reply["cookies"] == ["a=1", "b=2"]
    assert reply["headers"]["vary"] == "x,y"


async def test_a_redirect_goes_through() -> None:
    link = b"https://bucket.s3.amazonaws.com/blobs/00?X-Amz-Signature=1&a=b"
    reply = await ask(App(status=302, headers=[(b"location", link)]), http_event())
    assert (reply["statusCode"], reply["headers"]["location"]) == (302, link.decode())


@pytest.mark.parametrize(
    ("content", "is_text", "is_too_large"),
    [
        (b"x" * (REPLY_BYTES_MAX - 1000), True, False),
        (b"x" * REPLY_BYTES_MAX, True, True),
        (b'"' * (REPLY_BYTES_MAX // 2), True, True),  # JSON makes two of each
        (b"\xff" * (REPLY_BYTES_MAX // 4 * 3), False, True),  # base64 makes four of three
        (b"\xff" * (REPLY_BYTES_MAX // 4 * 3 - 1000), False, False),
    ],
)
async def test_a_reply_that_lambda_would_refuse_is_an_answer_that_says_so(
    content: bytes, is_text: bool, is_too_large: bool
) -> None:
    kind = b"text/plain" if is_text else b"application/octet-stream"
    reply = await ask(App(content, headers=[(b"content-type", kind)]), http_event())
    assert len(json.dumps(reply)) <= REPLY_BYTES_MAX
    assert reply["statusCode"] == (500 if is_too_large else 200)
    if is_too_large:
        assert json.loads(reply["body"])["code"] == "reply_too_large"


@pytest.mark.parametrize(("function_seconds", "seconds"), [(900.0, REPLY_SECONDS_MAX), (10.0, 9.0)])
def test_an_application_that_hangs_is_answered_for(function_seconds: float, seconds: float) -> None:
    cancelled: list[bool] = []

    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> tuple[Reply, float]:
        reply = await ask(hangs, http_event(), seconds=function_seconds)
        return reply, asyncio.get_running_loop().time()

    reply, spent = run(main)
    assert (reply["statusCode"], json.loads(reply["body"])["code"]) == (504, "timed_out")
    assert spent == pytest.approx(seconds, abs=0.01)
    assert cancelled


def test_a_stream_of_events_is_refused_at_once() -> None:
    """It would be held back until the function's time is over; who asked is told not to ask again."""

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"Content-Type", b"text/event-stream")],
            }
        )
        while True:
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
            await asyncio.sleep(1)

    async def main() -> tuple[Reply, float]:
        return await ask(streams, http_event()), asyncio.get_running_loop().time()

    reply, spent = run(main)
    assert (reply["statusCode"], reply["body"]) == (204, "")
    assert spent < 1


async def test_an_application_that_fails_without_an_answer_is_an_error_of_the_function() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ask(fails, http_event())


async def test_an_answer_that_was_given_before_the_application_failed_is_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server's own error page."""

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"sorry"})
        raise ZeroDivisionError("bug")

    assert (await ask(fails, http_event()))["statusCode"] == 500
    assert "bug" in caplog.text
