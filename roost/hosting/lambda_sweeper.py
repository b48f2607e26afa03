"""The sweeper as a function on a schedule: `roost.hosting.lambda_sweeper.handler`.

Workers that are processes sweep by themselves. Where all workers are functions, this one
does what a sweep does: it wakes what slept for long, sends lost deliveries again, ends what
is overdue, and deletes what has expired. Nobody else there has the schedules of the settings
run, so it does that, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Any

from roost.config import load_settings
from roost.core import schedules
from roost.core.sweeper import SWEEP_ROWS_MAX, Sweeper
from roost.hosting.container import Container, LambdaContext, remaining_seconds
from roost.rules import Schedule
from roost.storage.aws import backend as _preloaded  # noqa: F401  while a cold start has a whole CPU
from roost.wiring import Runtime

REPLY_SECONDS = 2.0  # kept back at the end; what is left is for the next invocation


class Sweeping:
    """A sweeper, which remembers when it looked for expired work, and the schedules to be kept.

    Args:
        schedules: of the settings; they change with a deployment, which starts new containers.
    """

    def __init__(self, runtime: Runtime, schedules: Mapping[str, Schedule]) -> None:
        self.sweeper: Sweeper = Sweeper(runtime.parts, "sweeper:lambda")
        self._client = runtime.client
        self._schedules = schedules
        self._are_kept = False

    async def keep_schedules(self) -> None:
        """Have them run, once in the life of a container."""
        if not self._are_kept:
            await schedules.keep(self._client, self._schedules)
            self._are_kept = True


@cache
def container() -> Container[Sweeping]:
    """That of this process."""
    return Container(
        lambda runtime: Sweeping(runtime, load_settings().schedules),
        actor="lambda-sweeper",
        has_engines=False,
    )


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Sweep until nothing is due, or the function's time is nearly over.

    Args:
        event: of a schedule; nothing in it is read.

    Returns:
        `swept`: how many due rows were looked at; `expired`: how many work items were deleted.

    Raises:
        StorageError: the storage failed. The schedule invokes again.
    """
    counts = {"swept": 0, "expired": 0}

    async def use(sweeping: Sweeping) -> dict[str, int]:
        try:
            async with asyncio.timeout(max(0.0, remaining_seconds(context) - REPLY_SECONDS)):
                await sweeping.keep_schedules()
                await _sweep(sweeping.sweeper, counts)
        except TimeoutError:  # each row is done by itself, so the next invocation goes on
            pass
        return counts

    return container().run(use)


async def _sweep(sweeper: Sweeper, counts: dict[str, int]) -> None:
    seen = SWEEP_ROWS_MAX
    while seen >= SWEEP_ROWS_MAX:
        seen = await sweeper.sweep()
        counts["swept"] += seen
    counts["expired"] += await sweeper.expire()
