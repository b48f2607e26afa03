"""Server-sent events: a page is told that something changed, and asks for what."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from roost.config import ConsoleSettings, Settings
from roost.console import guard
from roost.console.pages import live
from roost.wiring import Runtime
from tests.console.serving import served

pytestmark = pytest.mark.slow

SECONDS = 60.0


async def _nothing(runtime: Runtime) -> None:
    """An empty storage."""


def test_a_stream_says_when_something_changed_and_is_counted(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(live, "STREAMS_MAX", 1)
    settings = Settings(storage="local", home=tmp_path_factory.mktemp("stream"), console=ConsoleSettings())
    with served(settings, _nothing) as url:
        asyncio.run(asyncio.wait_for(_listen(url), SECONDS))


async def _listen(url: str) -> None:
    async with (
        httpx2.AsyncClient(base_url=url, timeout=SECONDS) as web,
        web.stream("GET", "/stream") as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["content-security-policy"] == guard.CONTENT_SECURITY_POLICY
        lines = answer.aiter_lines()
        assert await _next(lines, "event") == "hello"
        second = await web.get("/stream")  # no more than so many; the next page polls
        assert second.status_code == 503
        live_page = {"X-Roost-Live": "1", "Accept": "text/html"}
        page = await web.get("/work", headers=live_page)
        made = await web.post("/api/v1/work", json={"engine": "demo", "delay_seconds": 60})
        assert await _next(lines, "event") == "changed"
        fresh = await web.get("/work", headers={**live_page, "If-None-Match": page.headers["etag"]})
        assert fresh.status_code == 200
        assert made.json()["work_id"] in fresh.text


async def _next(lines: object, name: str) -> str:
    """The next value of a field of the stream."""
    async for line in lines:  # type: ignore[attr-defined]
        field, _, value = line.partition(": ")
        if field == name:
            return str(value)
    raise AssertionError("the stream ended")
