"""Calls to SQS that are shared: when one waits for company, and when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from roost.storage.aws import batching
from roost.storage.aws.batching import Batcher

URL = "http://127.0.0.1/queue"


class Calls:
    """The calls that a batcher made, as the numbers of their entries."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []
        self.in_hand = 0

    async def __call__(self, url: str, entries: Sequence[dict[str, Any]]) -> Sequence[bool]:
        self.made.append([entry["n"] for entry in entries])
        await asyncio.sleep(0)
        return [True for _ in entries]

    def more_may_come(self, url: str) -> bool:
        return self.in_hand > 0


async def test_who_is_alone_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "COMPANY_SECONDS", 60.0)
    calls = Calls()
    async with asyncio.timeout(30):
        assert await Batcher(calls, calls.more_may_come).submit(URL, {"n": 1})
    assert calls.made == [[1]]


async def test_a_full_call_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "COMPANY_SECONDS", 60.0)
    calls = Calls()
    calls.in_hand = 99
    batcher = Batcher(calls, calls.more_may_come)
    async with asyncio.timeout(30):
        await asyncio.gather(*(batcher.submit(URL, {"n": n}) for n in range(20)))
    assert [len(one) for one in calls.made] == [10, 10]


async def test_what_comes_within_a_moment_shares_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "COMPANY_SECONDS", 60.0)
    calls = Calls()
    calls.in_hand = 1
    batcher = Batcher(calls, calls.more_may_come)
    first = asyncio.create_task(batcher.submit(URL, {"n": 1}))
    for _ in range(5):
        await asyncio.sleep(0)
    assert calls.made == []
    calls.in_hand = 0  # the last one that was in hand comes
    async with asyncio.timeout(30):
        await asyncio.gather(first, batcher.submit(URL, {"n": 2}))
    assert calls.made == [[1, 2]]


async def test_nobody_waits_longer_than_a_moment_for_what_does_not_come() -> None:
    """A neighbour's step may take hours."""
    calls = Calls()
    calls.in_hand = 1
    async with asyncio.timeout(30):
        assert await Batcher(calls, calls.more_may_come).submit(URL, {"n": 1})
    assert calls.made == [[1]]


async def test_an_error_goes_to_all_who_share_the_call() -> None:
    async def fail(url: str, entries: Sequence[dict[str, Any]]) -> Sequence[bool]:
        raise ConnectionError("gone")

    batcher: Batcher[bool] = Batcher(fail)
    came = await asyncio.gather(*(batcher.submit(URL, {"n": n}) for n in range(3)), return_exceptions=True)
    assert [type(one) for one in came] == [ConnectionError] * 3
