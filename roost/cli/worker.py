"""`roost worker`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli import options
from roost.cli.output import say

if TYPE_CHECKING:
    from roost.config import Settings
    from roost.core.worker import Worker
    from roost.wiring import Runtime

_IDLE_LOOK_SECONDS = 0.25


def worker(
    engines: Annotated[
        str | None,
        typer.Option("--engines", metavar="A,B", help="Installed engines, `all`, or module:attribute."),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(help="Work items at a time.")] = None,
    lease: Annotated[
        str | None,
        typer.Option(
            "--lease-seconds", metavar="SECONDS", help="How long a lease lasts without a heartbeat."
        ),
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option("--grace-seconds", metavar="SECONDS", help="How long a step may go on after SIGTERM."),
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop once no work item is left that could go on.")
    ] = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Run work items until told to stop.

    SIGTERM or Ctrl-C drains: no new work, running steps finish within the grace period,
    leases are handed back at once. A second one abandons the running steps.

    Examples:

      roost worker

      roost worker --engines watchlist --concurrency 32

      roost worker --engines my_engine:MyEngine
    """
    from roost.cli import logs

    settings = options.settings_of(
        storage,
        home,
        config,
        lease_seconds=lease,
        worker={"engines": engines, "concurrency": concurrency, "grace_seconds": grace},
    )
    logs.set_up(settings.log_level, settings.log_format)
    sys.path.insert(0, os.getcwd())  # so that a file can be tried as module:attribute

    async def use(runtime: Runtime) -> int:
        return await _work(runtime, settings, until_idle=until_idle)

    options.run(settings, use, engines=settings.worker.engines)


async def _work(runtime: Runtime, settings: Settings, *, until_idle: bool) -> int:
    with ThreadPoolExecutor(settings.worker.concurrency, thread_name_prefix="roost-step") as executor:
        worker = runtime.worker(executor=executor)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _drain, worker)
        names = ", ".join(spec.engine_id for spec in runtime.engines or ())
        say(f"roost worker {worker.worker_id}: {names} on {runtime.backend.url} (Ctrl-C stops it)")
        watch = asyncio.create_task(_drain_when_idle(runtime, worker)) if until_idle else None
        await worker.run()
        if watch is not None:
            watch.cancel()
        executor.shutdown(wait=False, cancel_futures=True)
    return 0


def _drain(worker: Worker) -> None:
    say("stopping: running steps may finish; once more to abandon them")
    worker.drain()


async def _drain_when_idle(runtime: Runtime, worker: Worker) -> None:
    while True:
        counts = await runtime.backend.index.counts()
        if not any(count for state, count in counts.items() if not state.is_terminal):
            worker.drain()
            return
        await runtime.parts.clock.sleep(_IDLE_LOOK_SECONDS)
