"""What `roost worker` runs: a worker, with signals, threads and the collector set up around it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING

from roost.cli import logs
from roost.cli.user import user
from roost.cli.worker_line import WorkerLine
from roost.config import load_settings
from roost.core.switches import JOURNAL_ID, Switches
from roost.errors import EngineContractError, StorageError, StorageUnavailable
from roost.journal.decide import WAITS_FOR_ENGINE
from roost.names import OWN_ENGINES, State, without_password
from roost.storage.query import IndexQuery
from roost.wiring import open_runtime

if TYPE_CHECKING:
    from roost.config import Settings
    from roost.core.worker import Worker
    from roost.wiring import Runtime

log = logging.getLogger("roost.worker")

COUNT_SECONDS = 30.0  # between two counts for the metrics, where a count is cheap
_IDLE_LOOK_SECONDS = 0.25
_THREADS = "roost-step"
_THREAD_END_SECONDS = 1.0  # what idle threads may take to end
_COLLECT_AFTER = 20_000  # new containers; Python itself begins at 700


def run(line: WorkerLine) -> None:
    """What `roost worker` does.

    Raises:
        RoostError: a setting is wrong, there is nothing to serve, or an engine ended the worker.
    """
    of_worker = ("engines", "lanes", "concurrency", "grace_seconds", "health_port", "metrics_port")
    overrides = {name: getattr(line, name) for name in ("storage", "home", "lease_seconds")}
    overrides["worker"] = {name: getattr(line, name) for name in of_worker}
    settings = load_settings(overrides, config_file=line.config)
    logs.set_up(settings.log_level, settings.log_format)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(
            line_buffering=True
        )  # what an engine prints is seen when it does, also in a file
    sys.path.insert(0, "")  # so that a file can be tried as module:attribute
    before = frozenset(threading.enumerate())
    try:
        asyncio.run(_serve(settings, until_idle=line.until_idle))
    except asyncio.CancelledError:
        raise EngineContractError(
            "all tasks of the worker were cancelled, and not by Roost",
            hint="An engine, or what it calls, cancels tasks that are not its own (`asyncio.all_tasks()`).",
        ) from None
    leave_threads(before)


async def _serve(settings: Settings, *, until_idle: bool) -> None:
    async with open_runtime(
        settings, engines=settings.worker.engines, actor=settings.actor or user()
    ) as runtime:
        await work(runtime, settings, until_idle=until_idle)
    leave_hung_steps()  # before the event loop is closed, which waits for all of its tasks


async def work(runtime: Runtime, settings: Settings, *, until_idle: bool) -> None:
    """Run a worker until it is told to stop; with `until_idle`, until all has ended, waits or is on hold.

    Raises:
        StorageError: when it begins, a part of the storage is not there or may not be used.
    """
    await _look(runtime)
    _calm_the_collector()
    executor = ThreadPoolExecutor(settings.worker.concurrency, thread_name_prefix=_THREADS)
    worker = runtime.worker(executor=executor)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _drain, worker)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup`, which it is to outlive
        loop.add_signal_handler(signal.SIGHUP, _hang_up, worker)
    if settings.schedules:
        from roost.core import schedules

        await schedules.keep(runtime.client, settings.schedules)
    assert runtime.engines is not None
    names = [name for name in runtime.engines.names() if not name.startswith(OWN_ENGINES)]
    fields = {
        "worker_id": worker.worker_id,
        "engines": names,
        "storage": without_password(runtime.backend.url),
        "pid": os.getpid(),
    }
    log.info(
        "serving %s on %s as process %d; Ctrl-C or SIGTERM stops it",
        ", ".join(names),
        without_password(runtime.backend.url),
        os.getpid(),
        extra={"event": "worker.started", **fields},
    )
    watch = asyncio.create_task(_drain_when_idle(runtime, worker, settings.namespace)) if until_idle else None
    try:
        async with _health(settings, worker), _metrics(settings, runtime):
            await worker.run()
    finally:
        if watch is not None:
            watch.cancel()
        executor.shutdown(wait=False, cancel_futures=True)


async def _look(runtime: Runtime) -> None:
    """See whether there is something to serve. A worker goes on when storage fails, for ever if it
    must; so a name that is wrong or a right that lacks would be seen in its log alone."""
    with suppress(StorageUnavailable):  # that passes, and is the worker's to wait for
        await runtime.backend.journal.tail(JOURNAL_ID)
        await runtime.backend.index.get(JOURNAL_ID)
        await runtime.backend.queue.backlog()


@asynccontextmanager
async def _health(settings: Settings, worker: Worker) -> AsyncIterator[None]:
    """Answer probes, if the settings name a port for them."""
    port, host = settings.worker.health_port, settings.worker.health_host
    if port is None:
        yield
        return
    from roost.cli import health

    async with health.serve(host, port, worker.health) as listening:
        where = {"event": "health.listening", "host": host, "port": listening}
        log.info("answering /live and /ready on %s:%d", host, listening, extra=where)
        yield


@asynccontextmanager
async def _metrics(settings: Settings, runtime: Runtime) -> AsyncIterator[None]:
    """Serve metrics and count for them, if somebody wants them."""
    watching = runtime.watching
    if watching is None:
        yield
        return
    seconds = settings.observe.count_seconds
    if seconds is None:
        seconds = COUNT_SECONDS if runtime.backend.projects_on_append else 0.0
    with ExitStack() as stack:
        if watching.prometheus is not None:
            from roost.observe import prometheus

            host, port = settings.worker.health_host, settings.worker.metrics_port
            assert port is not None
            listening = stack.enter_context(prometheus.serve(watching.prometheus, host, port))
            where = {"event": "metrics.listening", "host": host, "port": listening}
            log.info("serving /metrics on %s:%d", host, listening, extra=where)
        if not seconds:
            yield
            return
        counting = asyncio.create_task(_count(runtime, settings.namespace, seconds))
        try:
            yield
        finally:
            counting.cancel()


async def _count(runtime: Runtime, namespace: str, seconds: float) -> None:
    assert runtime.watching is not None
    while True:
        try:
            await runtime.watching.measures.count(runtime.backend.index, namespace)
        except StorageError as error:
            log.warning("can't count work items: %s", error, extra={"event": "observe.count_failed"})
        await runtime.parts.clock.sleep(seconds)


def _calm_the_collector() -> None:
    """Look for garbage in cycles less often: a step leaves none, and looking took a tenth of its time."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


def _drain(worker: Worker) -> None:
    log.info(
        "stopping: running steps may finish; once more to abandon them",
        extra={"event": "worker.drain", "worker_id": worker.worker_id},
    )
    worker.drain()


def _hang_up(worker: Worker) -> None:
    """The terminal is closed. The shell and the kernel may both say so, which is no hurry."""
    if not worker.is_draining:
        _drain(worker)


def leave_hung_steps() -> None:
    """End the process if a step still runs, in a thread or as a task of this event loop.

    Its lease is given back and its result would be refused; but Python itself would wait
    for it at exit, for ever if it hangs.
    """
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_THREADS)]
    for thread in threads:
        thread.join(_THREAD_END_SECONDS / len(threads))
    is_task_left = any(task.get_name().startswith("session:") for task in asyncio.all_tasks())
    if is_task_left or any(thread.is_alive() for thread in threads):
        log.warning("a step that was abandoned still runs; ending it", extra={"event": "worker.ended_thread"})
        logging.shutdown()
        os._exit(0)


def leave_threads(before: frozenset[threading.Thread]) -> None:
    """See to it that a thread which an engine started does not keep the process for ever.

    Args:
        before: threads that were there when the worker began.
    """
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    if left:
        names = ", ".join(thread.name for thread in left)
        threading.Thread(target=_end_after_main, args=(names,), name="roost-end", daemon=True).start()


def _end_after_main(names: str) -> None:
    """End the process once its main thread has ended and the others had their time."""
    threading.main_thread().join()
    threading.Event().wait(_THREAD_END_SECONDS)
    about = {"event": "worker.ended_thread"}
    log.warning("threads of an engine still run (%s); ending them", names, extra=about)
    logging.shutdown()
    os._exit(0)


def _is_at_rest(state: State) -> bool:
    """Whether there is nothing to do for work in a state until somebody outside acts."""
    return state.is_terminal or state is State.PAUSED


_READY = frozenset({State.QUEUED, State.SCHEDULED})
_LOOKED_AT_MAX = 200  # work items of a state that are looked at for whether anybody could run them


async def _is_schedules(runtime: Runtime, left: Mapping[State, int]) -> bool:
    """Whether all that is left are schedules between two ticks."""
    if not left.keys() <= {State.SCHEDULED, State.WAITING}:
        return False
    from roost.core import schedules

    asleep: int = await schedules.asleep_count(runtime.client)
    return sum(left.values()) == asleep


async def _is_out_of_reach(runtime: Runtime, left: Mapping[State, int]) -> bool:
    """Whether all that is ready is of an engine that workers lack, or of one or a lane that is paused."""
    if not left.keys() <= _READY | {State.WAITING}:
        return False
    switches = Switches(runtime.parts)
    await switches.read()
    for state in _READY & left.keys():
        query = IndexQuery(state=state, namespace=runtime.namespace)
        page = await runtime.backend.index.list(query, cursor=None, limit=_LOOKED_AT_MAX)
        for row in page.rows:
            is_paused = switches.engine_reason(row.engine, row.work_id) or switches.lane_reason(row.lane)
            if not is_paused and not row.reason.startswith(WAITS_FOR_ENGINE):
                return False
        if page.cursor is not None:
            return False
    return True


async def _drain_when_idle(runtime: Runtime, worker: Worker, namespace: str) -> None:
    """Drain once all work has ended, or is seen twice in a row to wait for somebody outside.

    Not while there is a session, before or after the look: what it runs may be seen as ended,
    and what comes of that, as a trigger's work, is not yet enqueued.
    """
    was_at_rest = False
    while True:
        try:
            is_quiet = not worker.sessions
            left = await _left(runtime, namespace)
            is_at_rest = await _is_out_of_reach(runtime, left)
            is_idle = not left or (is_at_rest and was_at_rest) or await _is_schedules(runtime, left)
            is_quiet = is_quiet and not worker.sessions
        except StorageError as error:  # the worker itself goes on, too
            log.warning("can't count what is left: %s", error, extra={"event": "worker.count_failed"})
        else:
            if is_idle and is_quiet:
                worker.drain()
                return
            was_at_rest = is_at_rest and is_quiet
        await runtime.parts.clock.sleep(_IDLE_LOOK_SECONDS)


async def _left(runtime: Runtime, namespace: str) -> dict[State, int]:
    """How much work there is in each state in which somebody may have something to do."""
    counts = await runtime.backend.index.counts(namespace)
    left = {state: count for state, count in counts.items() if count and not _is_at_rest(state)}
    if counts.get(State.PAUSED) and not left and await runtime.backend.queue.backlog():
        return {State.PAUSED: counts[State.PAUSED]}  # a raised budget may have sent for it
    return left
