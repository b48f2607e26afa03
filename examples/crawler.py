"""A crawler with a claim per domain: many sites at once, one page at a time of each.

The crawl starts a child for each new page. Each child needs the resource `domain:HOST`, so that
no two pages of one site are fetched together, whatever the number of workers and crawls; an
operator may set a rate for one site, and a site that says 429 is closed for all who want it.

    roost resources set domain:example.com --rate 30/1m
    roost worker --engines crawler:Crawl,crawler:Page
    roost enqueue --any-engine --engine crawl --payload '{"start": ["https://example.com/"], "pages": 50}'
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urldefrag, urljoin, urlsplit

import httpx2
from pydantic import BaseModel, Field

from roost import Child, Join, RetryLater, RetryPolicy, Snapshot, WaitFor, WorkItem, current_step

PAGE_MAX_BYTES = 1_000_000
LINKS_MAX = 100  # of one page; a result holds 16 kB
AT_ONCE = 50  # children of one round
_LINK = re.compile(r'href="([^"]{1,500})"')


class Crawling(BaseModel):
    """What a crawl is enqueued with. It stays on the hosts that it starts from."""

    start: list[str] = Field(min_length=1, max_length=20)
    pages: int = Field(default=20, ge=1, le=2000)


class Crawl:
    """Goes on round by round: start a child for each page on the frontier, join, look at the links."""

    engine_id = "crawl"
    payload_model = Crawling

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        start = list(dict.fromkeys(item.payload["start"]))
        return Snapshot.of(item, step="fan_out", data={"frontier": start, "seen": start, "titles": {}})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        asked = Crawling.model_validate(item.payload)
        if snapshot.step == "fan_out":
            return self._fan_out(snapshot)
        hosts = {urlsplit(url).netloc for url in asked.start}
        titles, seen, frontier = (snapshot.data[key] for key in ("titles", "seen", "frontier"))
        for child in current_step().children:
            titles[child.key] = child.result["title"] if child.is_done else f"failed: {child.error}"
            for url in child.result["links"] if child.is_done else ():
                if url not in seen and urlsplit(url).netloc in hosts and len(seen) < asked.pages:
                    seen.append(url)
                    frontier.append(url)
        after = snapshot.next("fan_out", data={"titles": titles, "seen": seen, "frontier": frontier})
        return self._fan_out(after) if frontier else after.finish(result={"pages": len(titles)})

    def _fan_out(self, snapshot: Snapshot) -> Snapshot:
        urls, rest = snapshot.data["frontier"][:AT_ONCE], snapshot.data["frontier"][AT_ONCE:]
        children = [_page(url) for url in urls]
        return snapshot.next(
            "join", data={"frontier": rest}, spawn=children, wait_for=WaitFor(children=Join())
        )


def _page(url: str) -> Child:
    return Child(engine="page", key=url, payload={"url": url}, resources=(domain(url),))


def domain(url: str) -> str:
    """The resource that a page needs."""
    return f"domain:{urlsplit(url).netloc}"


Fetch = Callable[[str], Awaitable[tuple[int, str]]]


async def fetch(url: str) -> tuple[int, str]:
    """The status and the first megabyte of a page."""
    async with (
        httpx2.AsyncClient(timeout=20.0, follow_redirects=False) as client,
        client.stream("GET", url) as response,
    ):
        content = b""
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > PAGE_MAX_BYTES:
                break
        return response.status_code, content[:PAGE_MAX_BYTES].decode(errors="replace")


class Page:
    """Fetches one page and stores it; its result is the title and the links."""

    engine_id = "page"
    retry = RetryPolicy(max_attempts=3, first_delay_seconds=1.0)
    step_timeout_seconds = 60.0

    def __init__(self, fetch: Fetch = fetch) -> None:
        self._fetch = fetch

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="fetch")

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        url, context = item.payload["url"], current_step()
        status, text = await self._fetch(url)  # reading twice does no harm: no `once`
        if status == 429:
            await context.close_key(domain(url), 30.0)
            raise RetryLater(after=30.0, reason="the site asks for a pause")
        if status != 200:
            raise RuntimeError(f"{url} answered {status}")
        await context.artifacts.put("page.html", text)
        title = re.search(r"<title>([^<]{0,200})", text)
        links = [urldefrag(urljoin(url, link)).url for link in _LINK.findall(text)[:LINKS_MAX]]
        return snapshot.finish(result={"title": title[1] if title else "", "links": links})
