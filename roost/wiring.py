"""The composition root: settings -> backend, engines, clock -> client and worker."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import metadata
from typing import TYPE_CHECKING

from roost.clock import Clock, SystemClock, SystemIds, thread_cpu
from roost.config import Settings
from roost.core.parts import CoreSettings, Parts
from roost.core.tokens import Signer
from roost.core.worker import Worker
from roost.core.workspaces import HostWorkspaces
from roost.engine import EngineRegistry
from roost.errors import SettingsError
from roost.loading import load_engines
from roost.names import OPERATION_ENGINE, SCHEDULE_ENGINE, without_password
from roost.storage.ports import (
    Accounts,
    ArtifactStore,
    Backend,
    Finding,
    Journal,
    ResourceClaims,
    WorkIndex,
    WorkQueue,
)
from roost.workspace import Origin, Workspaces, workspace_name

if TYPE_CHECKING:
    from roost.core.client import Client
    from roost.core.operating import OperationEngine
    from roost.engines.schedule import ScheduleEngine
    from roost.observe.watching import Watching

BACKENDS = "roost.backends"

OpenBackend = Callable[[str, Settings, Clock], Awaitable[Backend]]
"""What an entry point of `roost.backends` is: called with the URL, settings and clock."""


@dataclass(frozen=True)
class Runtime:
    """An opened backend with all that works on it.

    Attributes:
        actor: written into entries that the client appends.
        namespace: of the work that the client enqueues, lists and looks at.
    """

    backend: Backend
    parts: Parts
    engines: EngineRegistry | None
    actor: str = "client"
    namespace: str = ""
    watching: Watching | None = None

    @cached_property
    def client(self) -> Client:
        """What a program outside the workers asks; not imported by a worker that has no use for it."""
        from roost.core.client import Client

        return Client(self.parts, engines=self.engines, actor=self.actor, namespace=self.namespace)

    def worker(self, worker_id: str | None = None, *, executor: Executor | None = None) -> Worker:
        """A worker for the engines of this runtime.

        Args:
            worker_id: unique; by default host, process id and a random part.
        """
        if self.engines is None:
            raise SettingsError("a worker needs engines", hint="Name them: --engines all")
        name = worker_id or f"{socket.gethostname()[:40]}-{os.getpid()}-{self.parts.ids.work_id()[-5:]}"
        return Worker(self.parts, self.engines, name, executor=executor)


@asynccontextmanager
async def open_runtime(
    settings: Settings, *, engines: str | None = None, actor: str = "client", is_function: bool = False
) -> AsyncIterator[Runtime]:
    """Open the storage that the settings name, and close it at the end.

    Args:
        engines: which engines to load, as `load_engines` takes them; None loads none.
        actor: written into entries that the client appends.
        is_function: the caller flushes embedded metrics (`Runtime.watching`) when there are any.

    Raises:
        SettingsError: no such storage, or what is to watch is not installed.
        EngineNotFound: an engine is not installed.
        StorageError: the storage can't be opened.
    """
    registry = load_engines(engines, settings.engines) if engines is not None else None
    clock = SystemClock(settings.clock_offset_seconds)
    async with AsyncExitStack() as stack:
        backend = await open_backend(settings.storage, settings, clock)
        stack.push_async_callback(backend.close)
        if settings.artifacts is not None:
            other = await open_backend(settings.artifacts, settings, clock)
            stack.push_async_callback(other.close)
            backend = MixedBackend(backend, other)
        watching = stack.enter_context(
            _watch(settings, backend, clock, is_worker=engines is not None, is_function=is_function)
        )
        if settings.crash_at is not None or watching is not None:
            backend = _instrumented(backend, settings.crash_at, watching)
        core, workspaces = _core_settings(settings, backend), host_workspaces(settings, clock)
        parts = Parts(backend, clock, SystemIds(), core, workspaces, observer=watching, cpu=thread_cpu)
        if registry is not None:  # any worker runs schedules and operations, whatever else it runs
            registry.add_own(SCHEDULE_ENGINE, partial(_schedules, clock))
            registry.add_own(OPERATION_ENGINE, partial(_operations, parts))
        yield Runtime(backend, parts, registry, actor, settings.namespace, watching)


def _instrumented(backend: Backend, crash_at: str | None, watching: Watching | None) -> Backend:
    from roost.storage.instrument import InstrumentedBackend, crash_hook

    return InstrumentedBackend(backend, crash_hook(crash_at) if crash_at is not None else None, watching)


def _schedules(clock: Clock) -> ScheduleEngine:
    from roost.engines.schedule import ScheduleEngine

    return ScheduleEngine(clock)


def _operations(parts: Parts) -> OperationEngine:
    from roost.core.operating import OperationEngine

    return OperationEngine(parts)


def host_workspaces(settings: Settings, clock: Clock) -> HostWorkspaces:
    """The workspaces of this host for the storage that the settings name."""
    chosen = settings.workspace
    storage = settings.storage
    if storage in ("local", "aws"):
        storage = f"{storage}:{settings.home if storage == 'local' else settings.aws.stack}"
    root = (chosen.root or settings.home / "workspaces").absolute() / workspace_name(storage)
    return HostWorkspaces(
        Workspaces(root, clock),
        Origin(chosen.source, chosen.ref, is_worktree=chosen.kind == "worktree"),
        removes=chosen.remove,
        saves=chosen.save,
        expired_seconds=settings.retention_seconds or None,
    )


@contextmanager
def _watch(
    settings: Settings, backend: Backend, clock: Clock, *, is_worker: bool, is_function: bool
) -> Iterator[Watching | None]:
    """Who watches; nothing is imported for it unless somebody does."""
    observe, has_port = settings.observe, settings.worker.metrics_port is not None
    if not (observe.otel or (observe.emf and is_function) or (has_port and is_worker)):
        yield None
        return
    from roost.observe.watching import watch

    with watch(settings, backend.url, clock, is_worker=is_worker, is_function=is_function) as watching:
        yield watching


def _core_settings(settings: Settings, backend: Backend) -> CoreSettings:
    worker = settings.worker
    return CoreSettings(
        lease_seconds=settings.lease_seconds,
        concurrency=worker.concurrency,
        lanes=worker.lanes,
        burst_steps=worker.burst_steps,
        burst_seconds=worker.burst_seconds,
        sweep_seconds=worker.sweep_seconds or backend.sweep_seconds,
        grace_seconds=worker.grace_seconds,
        retention_seconds=settings.retention_seconds or None,
        keep_versions=settings.keep_versions or None,
        triggers=settings.triggers,
        daily_budget=tuple(sorted(settings.budgets.daily.items())),
        approvals=_signer(settings),
    )


def _signer(settings: Settings) -> Signer:
    secrets = (settings.approvals.signing_secret, settings.approvals.old_signing_secret)
    return Signer(
        tuple(secret.get_secret_value() for secret in secrets if secret is not None), settings.approvals.url
    )


async def open_backend(url: str, settings: Settings, clock: Clock) -> Backend:
    """Open a backend by its URL's scheme, through the entry points `roost.backends`.

    Raises:
        SettingsError: no backend has that scheme.
    """
    scheme = url.partition(":")[0]
    points = {point.name: point for point in metadata.entry_points(group=BACKENDS)}
    if scheme not in points:
        raise SettingsError(
            f"no storage is called {scheme!r} (from {without_password(url)!r})",
            hint=f"Known here: {', '.join(sorted(points))}. For example ROOST_STORAGE=local:/var/lib/roost",
        )
    open_it: OpenBackend = points[scheme].load()
    return await open_it(url, settings, clock)


class MixedBackend:
    """One backend for everything, and the artifacts of another."""

    def __init__(self, state: Backend, artifacts: Backend) -> None:
        self._state = state
        self._artifacts = artifacts
        self.url: str = f"{state.url} with artifacts in {artifacts.url}"
        self.projects_on_append: bool = state.projects_on_append
        self.inline_max_bytes: int = state.inline_max_bytes
        self.sweep_seconds: float = state.sweep_seconds
        self.journal: Journal = state.journal
        self.index: WorkIndex = state.index
        self.claims: ResourceClaims = state.claims
        self.accounts: Accounts = state.accounts
        self.queue: WorkQueue = state.queue
        self.artifacts: ArtifactStore = artifacts.artifacts

    async def check(self) -> list[Finding]:
        return [*await self._state.check(), *await self._artifacts.check()]

    async def close(self) -> None:
        """Both are closed by who opened them."""
