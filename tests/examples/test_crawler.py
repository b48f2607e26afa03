"""`examples/crawler.py` crawls several sites at once, and no site twice at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from examples.crawler import Crawl, Page
from roost.testing import EngineHarness, assert_crash_safe

EXAMPLES = Path(__file__).parents[2] / "examples"


def html(*links: str) -> str:
    return "<title>t</title>" + "".join(f'<a href="{link}">' for link in links)


SITES = {
    "http://a/": html("/1", "/2#top", "http://elsewhere/"),
    "http://a/1": html("/"),
    "http://a/2": html("/1", "/gone"),
    "http://b/": html("/1"),
    "http://b/1": html(),
}


async def fetch(url: str) -> tuple[int, str]:
    return (200, SITES[url]) if url in SITES else (404, "")


def test_it_follows_links_within_the_sites_it_started_from(
    engine_harness: Callable[..., EngineHarness],
) -> None:
    harness = engine_harness(Crawl(), Page(fetch))
    work = harness.enqueue("crawl", {"start": ["http://a/", "http://b/"]}).run_to_end()
    titles = work.snapshot.data["titles"]
    assert set(titles) == {*SITES, "http://a/gone"}
    assert titles["http://a/gone"].startswith("failed: ")
    assert work.result == {"pages": 6}


def test_a_site_that_asks_for_a_pause_gets_one(engine_harness: Callable[..., EngineHarness]) -> None:
    calls: Counter[str] = Counter()

    async def busy(url: str) -> tuple[int, str]:
        calls[url] += 1
        return (429, "") if calls.total() == 1 else (200, html())

    harness = engine_harness(Crawl(), Page(busy))
    work = harness.enqueue("crawl", {"start": ["http://a/", "http://a/1"]})
    harness.advance(seconds=29)
    assert calls.total() == 1, "the other page of the site waits, too"
    assert work.run_to_end().result == {"pages": 2}


@pytest.mark.slow
def test_it_is_safe_to_crash() -> None:
    assert_crash_safe(Crawl, {"start": ["http://b/"]}, others=[lambda: Page(fetch)])


class Site(ThreadingHTTPServer):
    """A site on loopback that counts how many of its pages are fetched at a time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.now, self.most, self.served = threading.Lock(), 0, 0, 0


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.now += 1
            self.server.served += 1
            self.server.most = max(self.server.most, self.server.now)
        time.sleep(0.02)  # long enough for a second one to meet it
        with self.server.lock:
            self.server.now -= 1
        body = html("/1", "/2", "/3").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    made = [Site(), Site()]
    threads = [threading.Thread(target=site.serve_forever) for site in made]
    for thread in threads:
        thread.start()
    yield made
    for site, thread in zip(made, threads, strict=True):
        site.shutdown()
        thread.join()
        site.server_close()


@pytest.mark.soak
@pytest.mark.slow
def test_a_real_worker_fetches_no_two_pages_of_a_site_at_a_time(sites: list[Site], tmp_path: Path) -> None:
    roost = str(Path(sys.executable).parent / "roost")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
    environ |= {"ROOST_HOME": str(tmp_path)}

    def run(*words: str) -> str:
        done = subprocess.run(
            [roost, *words], cwd=EXAMPLES, env=environ, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    start = [f"http://127.0.0.1:{site.server_port}/" for site in sites]
    payload = json.dumps({"start": start})
    work_id = run("enqueue", "--any-engine", "--engine", "crawl", "--payload", payload).strip()
    run("worker", "--engines", "crawler:Crawl,crawler:Page", "--until-idle")
    shown = json.loads(run("status", work_id, "--json"))
    assert shown["snapshot"]["result"] == {"pages": 8}
    assert [site.served for site in sites] == [4, 4]
    assert [site.most for site in sites] == [1, 1]
