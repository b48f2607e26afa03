"""What a step is given: its context, made of what the session has for it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msgspec import Struct, field

from roost import jsonio
from roost.clock import Clock
from roost.core import asking
from roost.core.contract import DELAY_MAX_SECONDS
from roost.core.inbox import Given
from roost.core.step_log import StepLines, StepLogger
from roost.core.tokens import Signer
from roost.core.workspaces import StepWorkspace
from roost.errors import InputError
from roost.models import Approval, Artifact, ChildResult, Signal, Snapshot, check_id, check_name
from roost.storage.ports import ArtifactStore

_FILE_CHUNK_BYTES = 1 << 18
T = TypeVar("T")


class Recorder(Protocol):
    """How a step context reaches the journal."""

    async def recorded(self, key: str, version: int) -> tuple[bool, Any]:
        """Whether the step from `version` has a result under `key`, and the result.

        Raises:
            LeaseLost: that step does not run any more, and is to begin nothing.
            OutcomeUnknown: the effect began, and has no result.
        """

    async def begin(self, key: str) -> None:
        """Append that an effect is about to be done."""

    async def record(self, key: str, version: int, result: Any) -> Any:
        """Append a result; returns it as it will be read back.

        Raises:
            LeaseLost: the step from `version` does not run any more.
        """

    def spent(self, amounts: Mapping[str, float], provider: str, model: str) -> None:
        """The running step has used these up; may come from a thread."""

    async def close_resource(self, resource: str, seconds: float) -> None:
        """Close a resource for everybody."""


class Interruption(Struct):
    """A switch that stops a running step from outside; the first reason stays.

    Attributes:
        why: the reason, once it is thrown.
        running: the task, while it is inside the engine's code.
        was_left: the worker cancelled the whole session.
        worker: the task that the worker itself runs in.
    """

    why: str | None = None
    running: asyncio.Task[Any] | None = None
    was_left: bool = False
    worker: asyncio.Task[Any] | None = None

    @property
    def is_left(self) -> bool:
        """Whether the whole session is to end, with its worker, or as all tasks of the loop do.

        A cancellation that comes neither with this nor with a reason is a doing of the step's.
        """
        return self.was_left or (self.worker is not None and self.worker.cancelling() > 0)

    def stop(self, why: str) -> None:
        """Stop the running step; the next one, if none runs now."""
        if self.why is not None:
            return
        self.why = why
        if self.running is not None:
            self.running.cancel()


class Artifacts(Struct):
    """The `ArtifactWriter` of a step: what it stored goes with the commit."""

    store: ArtifactStore
    clock: Clock
    stored: list[Artifact] = field(default_factory=list)

    async def put(
        self,
        name: str,
        content: bytes | str | Path,
        *,
        content_type: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Artifact:
        check_name(name, "artifact name")
        jsonio.dump(metadata or {}, what="artifact metadata", max_bytes=1 << 14)
        if isinstance(content, Path):
            blob = await self.store.put(_read_file(content))
        else:
            blob = await self.store.put([content.encode() if isinstance(content, str) else content])
        artifact = Artifact(
            name=name,
            digest=blob.digest,
            size_bytes=blob.size_bytes,
            content_type=content_type or mimetypes.guess_type(name)[0] or "application/octet-stream",
            created_at=self.clock.now(),
            metadata=metadata or {},
        )
        self.stored.append(artifact)
        return artifact


async def _read_file(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _FILE_CHUNK_BYTES):
            yield chunk


class Context:
    """The `StepContext` of one attempt."""

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        token: int,
        attempt: int,
        rewound: int | None,
        artifacts: Artifacts,
        workspace: StepWorkspace,
        recorder: Recorder,
        given: Given,
        spent: dict[str, float],
        signer: Signer,
        interruption: Interruption,
        is_cancelled: Callable[[], bool],
        report: Callable[[float, str], None],
        lines: StepLines,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.work_id = snapshot.work_id
        self.token = token
        self.attempt = attempt
        again = "" if rewound is None else f":{rewound}"  # another step had this version's number
        self.idempotency_key = f"{snapshot.work_id}:{snapshot.version + 1}{again}"
        self.artifacts = artifacts
        self._workspace = workspace
        self._loop = loop
        self._version = snapshot.version
        self._engine = snapshot.engine
        self._recorder = recorder
        self._given = given
        self._spent = spent
        self._doing: dict[str, asyncio.Lock] = {}  # effects by key, so that none runs beside itself
        self._signer = signer
        self._interruption = interruption
        self._is_cancelled = is_cancelled
        self._report = report
        self._lines = lines

    @property
    def log(self) -> StepLogger:
        fields = {
            "work_id": self.work_id,
            "engine": self._engine,
            "version": self._version,
            "token": self.token,
            "attempt": self.attempt,
        }
        return StepLogger(logging.getLogger(f"roost.engine.{self._engine}"), fields, self._lines)

    @property
    def cancel_requested(self) -> bool:
        return self._interruption.why is not None or self._is_cancelled()

    @property
    def signals(self) -> tuple[Signal, ...]:
        return self._given.signals

    @property
    def pending_signals(self) -> tuple[Signal, ...]:
        return tuple(signal for _, signal in self._given.pending)

    def take(self, name: str) -> tuple[Signal, ...]:
        return self._given.take(name)

    @property
    def children(self) -> tuple[ChildResult, ...]:
        return self._given.children

    @property
    def join_is_met(self) -> bool | None:
        return self._given.join_is_met

    @property
    def timed_out(self) -> bool:
        return self._given.timed_out

    def ask(self, name: str = "approval", *, reply: asking.Reply = None) -> Approval:
        return asking.ask(self._signer, self.work_id, self._version + 1, name, reply)

    def spend(self, *, provider: str = "", model: str = "", **amounts: float) -> None:
        for name, amount in amounts.items():
            if not (isinstance(amount, int | float) and math.isfinite(amount) and amount >= 0):
                raise InputError(
                    f"{name}={amount!r} can't be spent", hint="Give a number that is not negative."
                )
            check_id(name, "name of an amount")
        for name, amount in amounts.items():
            self._spent[name] = self._spent.get(name, 0.0) + amount
        self._recorder.spent(amounts, provider, model)

    async def once(
        self, key: str, fn: Callable[[], Awaitable[Any] | Any], *, at_most_once: bool = False
    ) -> Any:
        check_name(key, "once key")
        async with self._doing.setdefault(key, asyncio.Lock()):
            is_known, result = await self._recorder.recorded(key, self._version)
            if is_known:
                return result
            if at_most_once:
                await self._recorder.begin(key)
            result = fn()
            if inspect.isawaitable(result):
                result = await result
            return await self._recorder.record(key, self._version, result)

    async def close_key(self, resource: str, seconds: float) -> None:
        check_name(resource, "resource")
        if not 0 < seconds <= DELAY_MAX_SECONDS:
            raise ValueError(f"a key can be closed for up to {DELAY_MAX_SECONDS:.0f} s, not {seconds!r} s")
        await self._recorder.close_resource(resource, seconds)

    async def workspace(self, *, source: str | None = None, ref: str | None = None) -> Path:
        return await self._workspace.open(source, ref)

    @property
    def uses_workspace(self) -> bool:
        """Whether the step asked for its workspace."""
        return self._workspace.is_used

    async def keep_workspace(self, returned: Snapshot) -> None:
        """Store the workspace that the step used with the snapshot that it returned."""
        await self._workspace.keep(returned, self.artifacts.clock.now())

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def progress(self, fraction: float, text: str = "") -> None:
        self._report(min(1.0, max(0.0, float(fraction))), text[:500])
