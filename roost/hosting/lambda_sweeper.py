"""The sweeper as a function on a schedule: `roost.hosting.lambda_sweeper.handler`.

Workers that are processes sweep by themselves. Where all workers are functions, this one
does what a sweep does: it wakes what slept for long, sends lost deliveries again, ends what
is overdue, and deletes what has expired.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from roost.core.sweeper import SWEEP_ROWS_MAX, Sweeper
from roost.hosting.container import Container, LambdaContext, remaining_seconds
from roost.storage.aws import backend as _preloaded  # noqa: F401  while a cold start has a whole CPU

REPLY_SECONDS = 2.0  # kept back at the end; what is left is for the next invocation


@cache
def container() -> Container[Sweeper]:
    """That of this process; its sweeper remembers when it looked for expired work."""
    return Container(
        lambda runtime: Sweeper(runtime.parts, "sweeper:lambda"), actor="lambda-sweeper", has_engines=False
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

    async def use(sweeper: Sweeper) -> dict[str, int]:
        try:
            async with asyncio.timeout(max(0.0, remaining_seconds(context) - REPLY_SECONDS)):
                await _sweep(sweeper, counts)
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
