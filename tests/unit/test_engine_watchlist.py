"""The engine `watchlist` against a real server on 127.0.0.1."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from roost.engine import ArtifactWriter, EngineSpec, enter_step
from roost.engines.fetch import Fetched
from roost.engines.watchlist import WatchlistEngine, build_watchlist, claim_holds, verdict_of
from roost.errors import FailWork, PayloadError, SettingsError
from roost.models import Artifact, Snapshot, WorkItem

T = TypeVar("T")


class Site:
    """Answers each request with the next of `answers`, the last one from then on; None hangs up."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes] | None] = [(200, b"hello")]
        self.requests_count = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        await reader.readuntil(b"\r\n\r\n")
        answer = self.answers[min(self.requests_count, len(self.answers) - 1)]
        self.requests_count += 1
        if answer is not None:
            status, body = answer
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        yield site
    await asyncio.gather(*site.tasks)


class Artifacts:
    """Keeps what a step put."""

    def __init__(self) -> None:
        self.put_calls: list[tuple[str, bytes, str | None, dict[str, Any] | None]] = []

    async def put(
        self,
        name: str,
        content: bytes | str | Path,
        *,
        content_type: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Artifact:
        assert isinstance(content, bytes)
        self.put_calls.append((name, content, content_type, metadata))
        return Artifact(name=name, digest=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


class Context:
    """As much of a StepContext as an engine under test needs."""

    def __init__(self) -> None:
        self.work_id = "w1"
        self.token = 1
        self.attempt = 1
        self.idempotency_key = "w1:1"
        self.kept = Artifacts()

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        raise NotImplementedError

    @property
    def artifacts(self) -> ArtifactWriter:
        return self.kept

    @property
    def cancel_requested(self) -> bool:
        return False

    async def once(self, key: str, fn: Callable[[], Awaitable[Any] | Any]) -> Any:
        raise NotImplementedError

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError

    def progress(self, fraction: float, text: str = "") -> None:
        raise NotImplementedError


class Ticks:
    """A clock that goes on by a quarter of a second with each look at it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.monotonic()

    def monotonic(self) -> float:
        self.seconds += 0.25
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def _item(url: str, **payload: Any) -> WorkItem:
    return WorkItem(work_id="w1", engine="watchlist", payload={"url": url, **payload})


def _engine(**options: Any) -> WatchlistEngine:
    return build_watchlist(**{"allow_private": True, "clock": Ticks(), **options})


async def _watch(item: WorkItem, **options: Any) -> tuple[list[Snapshot], Artifacts]:
    """All snapshots after the first one, and what was put."""
    engine, context = _engine(**options), Context()
    enter_step(context)
    snapshot = await engine.init_snapshot(item)
    snapshots = []
    while not snapshot.is_finished:
        snapshot = await engine.step(snapshot, item)
        snapshots.append(snapshot)
    return snapshots, context.kept


# --- steps


async def test_one_check_per_step_and_the_report_in_the_step_of_the_last(site: Site) -> None:
    snapshots, artifacts = await _watch(_item(site.url))
    assert [snapshot.data["checks_completed"] for snapshot in snapshots] == [1, 2, 3]
    assert [snapshot.data["verdict"] for snapshot in snapshots] == [None, None, "holds"]
    assert site.requests_count == 3
    assert len(artifacts.put_calls) == 1


async def test_the_delay_is_only_between_checks(site: Site) -> None:
    snapshots, _ = await _watch(_item(site.url, delay_seconds=60))
    assert [snapshot.next_step_delay_seconds for snapshot in snapshots] == [60, 60, 0]


async def test_an_observation_says_what_was_seen(site: Site) -> None:
    snapshots, _ = await _watch(_item(site.url, checks_required=1))
    assert snapshots[-1].data["observations"] == [
        {
            "at": 1000.25,
            "ok": True,
            "status": 200,
            "url": site.url,
            "elapsed_ms": 250.0,
            "bytes": 5,
            "content_sha256": hashlib.sha256(b"hello").hexdigest(),
            "truncated": False,
            "claim_holds": True,
            "changed": None,
            "error": None,
        }
    ]


async def test_a_network_failure_is_an_observation(site: Site) -> None:
    site.answers = [None, (200, b"back")]
    snapshots, _ = await _watch(_item(site.url, checks_required=2))
    first, second = snapshots[-1].data["observations"]
    assert (first["ok"], first["status"], first["claim_holds"], first["changed"]) == (
        False,
        None,
        False,
        None,
    )
    assert "broke off" in first["error"]
    assert (second["ok"], second["error"], second["changed"]) == (True, None, None)
    assert snapshots[-1].data["verdict"] == "mixed"


async def test_changed_compares_with_the_check_before(site: Site) -> None:
    site.answers = [(200, b"a"), (200, b"a"), (200, b"b"), None, (200, b"b")]
    snapshots, _ = await _watch(_item(site.url, checks_required=5))
    assert [seen["changed"] for seen in snapshots[-1].data["observations"]] == [None, False, True, None, None]


async def test_a_long_body_is_cut_and_says_so(site: Site) -> None:
    site.answers = [(200, b"x" * 100)]
    snapshots, _ = await _watch(_item(site.url, checks_required=1), max_bytes=10)
    seen = snapshots[-1].data["observations"][0]
    assert (seen["bytes"], seen["truncated"]) == (10, True)


async def test_the_report_holds_the_watch(site: Site) -> None:
    item = _item(site.url, claim="says hello ✓", checks_required=2)
    snapshots, artifacts = await _watch(item)
    name, content, content_type, metadata = artifacts.put_calls[0]
    assert (name, content_type) == ("report.json", "application/json")
    assert metadata == {"verdict": "holds", "checks_completed": 2}
    assert json.loads(content) == {
        "url": site.url,
        "claim": "says hello ✓",
        "verdict": "holds",
        "checks_completed": 2,
        "observations": snapshots[-1].data["observations"],
    }


async def test_a_step_leaves_its_snapshot_as_it_was(site: Site) -> None:
    """A retry starts from the same snapshot and does the same check, not one more."""
    engine, item = _engine(), _item(site.url)
    first = await engine.step(await engine.init_snapshot(item), item)
    before = first.model_copy(deep=True)
    again = [await engine.step(first, item) for _ in range(2)]
    assert first == before
    assert [snapshot.data["checks_completed"] for snapshot in again] == [2, 2]


# --- refusals


async def test_a_private_address_fails_the_work_and_names_the_setting() -> None:
    engine, item = _engine(allow_private=False), _item("http://127.0.0.1:9/")
    with pytest.raises(FailWork) as caught:
        await engine.step(await engine.init_snapshot(item), item)
    assert "127.0.0.1" in caught.value.reason
    assert "`[engines.watchlist] allow_private = true` in roost.toml" in caught.value.reason
    assert "ROOST_ENGINES__WATCHLIST__ALLOW_PRIVATE=true" in caught.value.reason
    assert len(caught.value.reason) <= 500


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"url": "ftp://x.test/"},
        {"url": "http://u:secret@x.test/"},
        {"url": "x.test"},
        {"url": "http://x.test/", "claim": "x" * 1001},
        {"url": "http://x.test/", "claim": "contains:"},
        {"url": "http://x.test/", "claim": "contains:  "},
        {"url": "http://x.test/", "claim": "status:ok"},
        {"url": "http://x.test/", "claim": "status:99"},
        {"url": "http://x.test/", "claim": "status:²00"},
        {"url": "http://x.test/", "checks_required": 0},
        {"url": "http://x.test/", "checks_required": 1001},
        {"url": "http://x.test/", "delay_seconds": -1},
        {"url": "http://x.test/", "delay_seconds": 86_400 * 30 + 1},
        {"url": "http://x.test/", "clam": "?"},
    ],
)
def test_a_payload_out_of_bounds_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(PayloadError) as caught:
        EngineSpec.of(build_watchlist()).check_payload(payload)
    assert "secret" not in str(caught.value)


def test_a_payload_within_bounds_is_taken() -> None:
    EngineSpec.of(build_watchlist()).check_payload(
        {
            "url": "https://x.test/a?b",
            "claim": "contains: hello",
            "checks_required": 1000,
            "delay_seconds": 86_400 * 30,
        }
    )


# --- claims


@pytest.mark.parametrize(
    ("claim", "status", "body", "expected"),
    [
        ("", 200, b"", True),
        ("", 299, b"", True),
        ("", 304, b"", False),
        ("", 500, b"", False),
        ("the page is up", 200, b"", True),
        ("contains", 200, b"", True),
        ("contains:hello", 200, b"oh, hello", True),
        ("contains: hello ", 200, b"hello", True),
        ("contains:hello", 200, b"Hello", False),
        ("contains:hello", 404, b"no hello here", False),
        ("contains:héllo: x", 200, "héllo: x".encode(), True),
        ("status:404", 404, b"", True),
        ("status: 404", 404, b"", True),
        ("status:404", 200, b"", False),
    ],
)
def test_what_a_claim_means(claim: str, status: int, body: bytes, expected: bool) -> None:
    assert claim_holds(claim, Fetched("", status, body, False, "")) is expected


@pytest.mark.parametrize(
    ("held", "verdict"),
    [([True, True], "holds"), ([False, False], "does not hold"), ([True, False], "mixed"), ([True], "holds")],
)
def test_the_verdict_is_about_all_checks(held: list[bool], verdict: str) -> None:
    assert verdict_of([{"claim_holds": one} for one in held]) == verdict


# --- options


async def test_false_as_text_does_not_allow_private_addresses() -> None:
    """The environment gives text, and a text is true in Python."""
    engine, item = _engine(allow_private="false"), _item("http://127.0.0.1:9/")
    with pytest.raises(FailWork):
        await engine.step(await engine.init_snapshot(item), item)


@pytest.mark.parametrize(
    "options", [{"timeout_seconds": 0}, {"max_bytes": 0}, {"max_bytes": 1 << 40}, {"allow_private": "maybe"}]
)
def test_an_option_out_of_bounds_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=rf"\[engines\.watchlist\] {next(iter(options))}"):
        build_watchlist(**options)
