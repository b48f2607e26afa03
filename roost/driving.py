"""Runs operations in a process that is no worker: the command line's, and the console's.

A delivery is only a hint; who works on an item is decided in its journal. So a worker with a
queue of its own, in this process, that holds nothing but a hint at one operation, runs that
operation under an ordinary lease beside all other workers. Whoever claims it first runs it;
if this process dies, the lease ends and any other goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from roost.core.operating import OperationEngine
from roost.core.worker import Worker
from roost.engine import EngineRegistry
from roost.errors import RoostError
from roost.models import Lane
from roost.names import OPERATION_ENGINE
from roost.storage.memory import MemoryQueue
from roost.storage.ports import Backend, Finding, Message
from roost.storage.query import IndexQuery
from roost.wiring import Runtime

log = logging.getLogger("roost.operations")

LOOK_SECONDS = 1.0  # between two looks at an operation that somebody else holds, or that is paused
SESSION_SECONDS = 3600.0  # after which a session is told to hand over, to this process again
OPERATIONS_MAX = 50  # unfinished ones that are taken up together


async def drive(runtime: Runtime, work_id: str) -> None:
    """Work on an operation until it has ended, whoever else does.

    Raises:
        StorageError: the storage failed; the operation stands where it was.
    """
    queue = MemoryQueue(runtime.parts.clock)
    parts = replace(runtime.parts, backend=_OwnQueue(runtime.backend, queue), workspaces=None, observer=None)
    engines = EngineRegistry([OperationEngine(runtime.parts)])
    name = f"operator-{runtime.parts.ids.work_id()[-8:]}"
    while True:
        tail = await runtime.backend.journal.tail(work_id)
        if tail is None or tail.control.state.is_terminal:
            return
        if not await queue.pending_count():
            await queue.send([Message(work_id, tail.position)])
        deliveries = await queue.receive(
            1,
            visibility_seconds=parts.settings.lease_seconds,
            wait_seconds=LOOK_SECONDS,
            lanes=tuple(Lane),
        )
        if deliveries:
            await Worker(parts, engines, name).run_batch(deliveries, seconds=SESSION_SECONDS)
        if not deliveries or tail.control.paused:
            await runtime.parts.clock.sleep(LOOK_SECONDS)


class _OwnQueue:
    """A backend with another work queue."""

    def __init__(self, backend: Backend, queue: MemoryQueue) -> None:
        self._backend = backend
        self.url = backend.url
        self.projects_on_append = backend.projects_on_append
        self.inline_max_bytes = backend.inline_max_bytes
        self.sweep_seconds = backend.sweep_seconds
        self.journal = backend.journal
        self.index = backend.index
        self.claims = backend.claims
        self.accounts = backend.accounts
        self.artifacts = backend.artifacts
        self.queue = queue

    async def check(self) -> Sequence[Finding]:
        return await self._backend.check()

    async def close(self) -> None:
        """Who opened the backend closes it."""


class Drivers:
    """Operations that this process works on, each in a task of its own.

    Args:
        runtime: opened for as long as this is used.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def take_up(self, work_id: str) -> None:
        """Work on an operation from now on; again: nothing."""
        if work_id not in self._tasks:
            self._tasks[work_id] = asyncio.create_task(self._drive(work_id), name=f"operation:{work_id}")

    async def take_up_all(self) -> int:
        """Work on what is not finished: this process, or another, may have died before; how many."""
        page = await self._runtime.client.list(IndexQuery(engine=OPERATION_ENGINE), limit=OPERATIONS_MAX)
        left = [row.work_id for row in page.rows if not row.state.is_terminal]
        for work_id in left:
            self.take_up(work_id)
        return len(left)

    async def _drive(self, work_id: str) -> None:
        try:
            await drive(self._runtime, work_id)
        except RoostError as error:
            log.warning("operation %s rests: %s", work_id, error, extra={"event": "operation.rests"})
        finally:
            del self._tasks[work_id]

    async def close(self) -> None:
        """Stop; leases that are held are given back or end by themselves."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
