"""Calls to SQS that many callers share: ten entries a call, and nobody who is alone waits to be joined."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from roost.storage.ports import DELIVERY_BATCH_MAX

T = TypeVar("T")

COMPANY_SECONDS = 0.01  # since the last entry came; a request saved is 0.40 USD a million

Call = Callable[[str, Sequence[dict[str, Any]]], Awaitable[Sequence[T]]]
"""Makes one call for a queue's URL and up to ten entries; gives a result for each."""


class Batcher(Generic[T]):
    """Sends what comes at once; what comes while a call is under way shares the next one.

    Args:
        call: makes the call. What it raises goes to all who share it.
        more_may_come: whether a call that is not full may be waited with for a moment, since
            more for that URL is likely to come; None: never.
    """

    def __init__(self, call: Call[T], more_may_come: Callable[[str], bool] | None = None) -> None:
        self._call = call
        self._more_may_come = more_may_come
        self._came = asyncio.Event()
        self._waiting: dict[str, list[tuple[dict[str, Any], asyncio.Future[T]]]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def submit(self, url: str, entry: dict[str, Any]) -> T:
        """Have one entry sent; a caller that goes away does not stop it."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(url, []).append((entry, future))
        self._came.set()
        if url not in self._running:
            self._running[url] = asyncio.create_task(self._run(url))
        return await future

    async def _run(self, url: str) -> None:
        try:
            while waiting := self._waiting.get(url):
                if self._more_may_come is not None:
                    await self._wait_for_company(url, self._more_may_come)
                batch = waiting[:DELIVERY_BATCH_MAX]
                del waiting[: len(batch)]
                await self._send(url, batch)
        finally:
            del self._running[url]

    async def _wait_for_company(self, url: str, more_may_come: Callable[[str], bool]) -> None:
        """Wait until the next call is full, or no more may come, or none came for a moment."""
        with suppress(TimeoutError):
            while len(self._waiting[url]) < DELIVERY_BATCH_MAX and more_may_come(url):
                self._came.clear()
                async with asyncio.timeout(COMPANY_SECONDS):
                    await self._came.wait()

    async def _send(self, url: str, batch: Sequence[tuple[dict[str, Any], asyncio.Future[T]]]) -> None:
        try:
            results = await self._call(url, [entry for entry, _ in batch])
        except Exception as error:  # noqa: BLE001  a bug, too, goes to those who asked: else they wait for ever
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def close(self) -> None:
        """Wait for the calls that are under way."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)
