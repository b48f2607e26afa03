"""`roost worker`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli import options
from roost.errors import StorageError

if TYPE_CHECKING:
    from roost.config import Settings
    from roost.core.worker import Worker
    from roost.wiring import Runtime

log = logging.getLogger("roost.worker")

_IDLE_LOOK_SECONDS = 0.25
_THREADS = "roost-step"
_THREAD_END_SECONDS = 1.0  # what idle threads may take to end
_COLLECT_AFTER = 20_000  # new containers; Python itself begins at 700


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
    health_port: Annotated[
        int | None,
        typer.Option(
            "--health-port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Answer GET /live and /ready there, on 127.0.0.1 unless worker.health_host says otherwise.",
        ),
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop once every work item of the storage has ended.")
    ] = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Run work items until told to stop.

    SIGTERM or Ctrl-C drains: no new work, running steps finish within the grace period,
    leases are handed back at once. A second one abandons the running steps. The log goes to
    stderr, as JSON lines where no person reads it (ROOST_LOG_FORMAT, ROOST_LOG_LEVEL).

    Examples:

      roost worker

      roost worker --engines watchlist --concurrency 32

      roost worker --engines my_engine:MyEngine

      roost worker --health-port 8081
    """
    from roost.cli import logs

    settings = options.settings_of(
        storage,
        home,
        config,
        lease_seconds=lease,
        worker={
            "engines": engines,
            "concurrency": concurrency,
            "grace_seconds": grace,
            "health_port": health_port,
        },
    )
    logs.set_up(settings.log_level, settings.log_format)
    sys.path.insert(0, "")  # so that a file can be tried as module:attribute

    async def use(runtime: Runtime) -> int:
        return await _work(runtime, settings, until_idle=until_idle)

    options.run(settings, use, engines=settings.worker.engines)
    _leave_hung_steps()


async def _work(runtime: Runtime, settings: Settings, *, until_idle: bool) -> int:
    _calm_the_collector()
    executor = ThreadPoolExecutor(settings.worker.concurrency, thread_name_prefix=_THREADS)
    worker = runtime.worker(executor=executor)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _drain, worker)
    names = [spec.engine_id for spec in runtime.engines or ()]
    fields = {
        "worker_id": worker.worker_id,
        "engines": names,
        "storage": runtime.backend.url,
        "pid": os.getpid(),
    }
    log.info(
        "serving %s on %s as process %d; Ctrl-C or SIGTERM stops it",
        ", ".join(names),
        runtime.backend.url,
        os.getpid(),
        extra={"event": "worker.started", **fields},
    )
    watch = asyncio.create_task(_drain_when_idle(runtime, worker, settings.namespace)) if until_idle else None
    try:
        async with _health(settings, worker):
            await worker.run()
    finally:
        if watch is not None:
            watch.cancel()
        executor.shutdown(wait=False, cancel_futures=True)
    return 0


@asynccontextmanager
async def _health(settings: Settings, worker: Worker) -> AsyncIterator[None]:
    """Answer probes, if the settings name a port for them."""
    from roost.cli import health

    port, host = settings.worker.health_port, settings.worker.health_host
    if port is None:
        yield
        return
    async with health.serve(host, port, worker.health) as listening:
        where = {"event": "health.listening", "host": host, "port": listening}
        log.info("answering /live and /ready on %s:%d", host, listening, extra=where)
        yield


def _calm_the_collector() -> None:
    """Look for garbage in cycles less often: a step leaves none, and looking took a tenth of its time."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


def _drain(worker: Worker) -> None:
    log.info(
        "stopping: running steps may finish; once more to abandon them",
        extra={"event": "worker.draining", "worker_id": worker.worker_id},
    )
    worker.drain()


def _leave_hung_steps() -> None:
    """End the process if a plain function still runs in a thread.

    Its lease is given back and its result would be refused; but Python itself would wait
    for the thread at exit, for ever if it hangs.
    """
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_THREADS)]
    for thread in threads:
        thread.join(_THREAD_END_SECONDS / len(threads))
    if any(thread.is_alive() for thread in threads):
        log.warning("a step that was abandoned still runs; ending it", extra={"event": "worker.ended_thread"})
        logging.shutdown()
        os._exit(0)


async def _drain_when_idle(runtime: Runtime, worker: Worker, namespace: str) -> None:
    while True:
        try:
            counts = await runtime.backend.index.counts(namespace)
        except StorageError as error:  # the worker itself goes on, too
            log.warning("can't count what is left: %s", error, extra={"event": "worker.count_failed"})
        else:
            if not any(count for state, count in counts.items() if not state.is_terminal):
                worker.drain()
                return
        await runtime.parts.clock.sleep(_IDLE_LOOK_SECONDS)
