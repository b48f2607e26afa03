"""Group commit: writes that wait at the same time share a call.

While few calls are under way, each write has one of its own, at once. When as many are
under way as may be, the next ones wait until one comes back, and then go together. So
nobody waits for company, and under load a call, whose cost is nearly all the client's CPU,
is paid for once in 25 writes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial

from roost.errors import StorageError
from roost.storage.aws.items import size_of
from roost.storage.aws.puts import STATEMENTS_MAX, Puts
from roost.storage.aws.table import Item

BATCH_BYTES_MAX = 1 << 20  # of the items of one call


@dataclass(slots=True)
class _Waiting:
    """A write whose caller waits for `done`: None, or the item that stands."""

    item: Item
    done: asyncio.Future[Item | None]


class GroupCommit:
    """Puts items, each by itself for its caller, together on the wire.

    Args:
        in_flight: calls that are under way at a time.
    """

    def __init__(self, puts: Puts, in_flight: int) -> None:
        self._puts = puts
        self._in_flight = in_flight
        self._waiting: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[list[Item | StorageError | None]]] = set()
        self._is_called = False

    async def put(self, item: Item) -> Item | None:
        """Put an item if its key is free; see `Puts.one`.

        A caller that is cancelled takes its write out of the line, or leaves it to its fate
        if it is under way; others don't notice.
        """
        waiting = _Waiting(item, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._call_dispatch()
        return await waiting.done

    async def close(self) -> None:
        """Wait for the calls under way; each ends within the client's timeouts."""
        while self._calls:
            await asyncio.wait([*self._calls])

    def _call_dispatch(self) -> None:
        """Dispatch at the end of this turn of the event loop, so that all who write in it go together."""
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Send what waits: each alone if there is room for that, else in as few calls as possible."""
        self._is_called = False
        room = self._in_flight - len(self._calls)
        most = 1 if len(self._waiting) <= room else STATEMENTS_MAX
        for _ in range(room):
            batch = self._take(most)
            if not batch:
                return
            task = asyncio.create_task(self._write(batch))
            self._calls.add(task)
            task.add_done_callback(partial(self._settle, batch))

    def _take(self, most: int) -> list[_Waiting]:
        """Those who go into the next call, no two of them at one position; none: nobody waits."""
        batch: dict[tuple[str, str], _Waiting] = {}
        size_bytes = 0
        while self._waiting and len(batch) < most:
            item = self._waiting[0].item
            key = (item["work"]["S"], item["position"]["N"])
            size_bytes += size_of(item)
            if batch and (key in batch or size_bytes > BATCH_BYTES_MAX):
                break
            waiting = self._waiting.popleft()
            if not waiting.done.done():  # else its caller was cancelled
                batch[key] = waiting
        return [*batch.values()]

    async def _write(self, batch: list[_Waiting]) -> list[Item | StorageError | None]:
        if len(batch) == 1:
            return [await self._puts.one(batch[0].item)]
        return await self._puts.many([waiting.item for waiting in batch])

    def _settle(self, batch: list[_Waiting], task: asyncio.Task[list[Item | StorageError | None]]) -> None:
        """Tell each caller how its write went, and let the next ones go."""
        self._calls.discard(task)
        error = None if task.cancelled() else task.exception()
        outcomes = [error] * len(batch) if task.cancelled() or error else task.result()
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.done.done():
                continue  # who waited went away; what was written stays written
            if task.cancelled():
                waiting.done.cancel()
            elif isinstance(outcome, BaseException):
                waiting.done.set_exception(outcome)
            else:
                waiting.done.set_result(outcome)
        if self._waiting:
            self._call_dispatch()
