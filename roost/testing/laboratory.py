"""The laboratory: one engine in all worlds, one after the other, within one deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from roost.testing.deadline import Deadline
from roost.testing.safety import Explored, Planned, Subject, explore, in_virtual_time, memory_world
from roost.testing.standins import StandIn, start_ministack
from roost.testing.worlds import aws_worlds, local_world, pointed_at
from roost.workspace import Origin

MEMORY_SHARE = 0.4  # of the time, at most; with AWS each part is less
AWS_MEMORY_SHARE = 0.25
AWS_LOCAL_SHARE = 0.4  # of what memory leaves

Tell = Callable[[str, Explored], None]
"""Told of a world's name, and what came of it so far, after each run."""


def try_everywhere(
    tried: Subject, origin: Origin, folder: Path, deadline: Deadline, tell: Tell, *, with_aws: bool
) -> None:
    """Try a subject in memory, on SQLite, and if wanted on a stand-in for AWS.

    What memory came to grief over is tried first elsewhere. The stand-in starts beside the rest.

    Args:
        folder: an empty one, for all files.

    Raises:
        NoSubject: see `explore`.
        StandInFailed: none can be started.
    """
    with ThreadPoolExecutor(1, "standin") as pool:
        starting = pool.submit(start_ministack, folder) if with_aws else None
        try:
            part = deadline.share(AWS_MEMORY_SHARE if with_aws else MEMORY_SHARE)
            memory = in_virtual_time(
                explore(tried, memory_world, deadline=part, tell=partial(tell, "memory"))
            )
            first = [(finding.fault, finding.cut) for finding in memory.findings]
            part = deadline.share(AWS_LOCAL_SHARE) if with_aws else deadline
            open_world = partial(local_world, origin, folder)
            asyncio.run(explore(tried, open_world, first=first, deadline=part, tell=partial(tell, "local")))
            if starting is not None:
                _try_aws(tried, starting, first, deadline, partial(tell, "aws"))
        finally:
            if starting is not None:
                _stop(starting)


def _try_aws(
    tried: Subject,
    starting: Future[StandIn],
    first: list[Planned],
    deadline: Deadline,
    tell: Callable[[Explored], None],
) -> None:
    try:
        standin = starting.result(deadline.left_seconds)
    except TimeoutError:
        tell(Explored())
        return

    async def run() -> None:
        async with aws_worlds(standin) as open_world:
            await explore(tried, open_world, first=first, deadline=deadline, tell=tell)

    with pointed_at(standin):
        asyncio.run(run())


def _stop(starting: Future[StandIn]) -> None:
    """End a stand-in that has started or will; one that could not start has said so."""
    if starting.exception() is None:
        starting.result().stop()
