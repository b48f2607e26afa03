"""One try at one step: run the engine's code, and say what came of it, as a value."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from roost import jsonio
from roost.clock import Clock
from roost.core import asking
from roost.core.inbox import Given
from roost.core.redact import describe
from roost.core.tokens import Signer
from roost.core.workspaces import StepWorkspace
from roost.engine import EngineSpec, enter_step
from roost.errors import (
    EngineContractError,
    FailWork,
    InputError,
    LeaseLost,
    OutcomeUnknown,
    PayloadError,
    RetryLater,
    RoostError,
)
from roost.journal.entries import ErrorInfo
from roost.models import (
    Approval,
    Artifact,
    Child,
    ChildResult,
    Signal,
    Snapshot,
    WaitFor,
    WorkItem,
    check_id,
    check_name,
)
from roost.storage.ports import ArtifactStore

_FILE_CHUNK_BYTES = 1 << 18
T = TypeVar("T")

DELAY_MAX_SECONDS = 10 * 366 * 86400.0  # ten years: beyond it a delay is a mistake
DEADLINE = "DeadlineExceeded"  # what work fails of when its deadline is over
ARTIFACTS_MAX = 1000
HISTORY_MAX = 10_000
RESULT_MAX_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Stepped:
    """The step returned a snapshot that keeps the contract; its `version` is not to be relied on."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Raised:
    """The step failed; trying again may help."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Refused:
    """The step failed for good: `FailWork`, or a broken contract."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Later:
    """The step asked to be tried later."""

    after_seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The runtime stopped the step; `why` is what it gave for it."""

    why: str


Outcome = Stepped | Raised | Refused | Later | Interrupted


class Recorder(Protocol):
    """How a step context reaches the journal."""

    async def recorded(self, key: str) -> tuple[bool, Any]:
        """Whether the running step has a result under `key`, and the result.

        Raises:
            OutcomeUnknown: the effect began, and has no result.
        """

    async def begin(self, key: str) -> None:
        """Append that an effect is about to be done."""

    async def record(self, key: str, result: Any) -> Any:
        """Append a result; returns it as it will be read back."""

    async def close_resource(self, resource: str, seconds: float) -> None:
        """Close a resource for everybody."""


@dataclass(slots=True)
class Interruption:
    """A switch that stops a running step from outside; the first reason stays.

    Attributes:
        why: the reason, once it is thrown.
        running: the task, while it is inside the engine's code.
    """

    why: str | None = None
    running: asyncio.Task[Any] | None = None

    def stop(self, why: str) -> None:
        """Stop the running step; the next one, if none runs now."""
        if self.why is not None:
            return
        self.why = why
        if self.running is not None:
            self.running.cancel()


@dataclass(slots=True)
class Artifacts:
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

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        fields = {
            "work_id": self.work_id,
            "engine": self._engine,
            "version": self._version,
            "token": self.token,
            "attempt": self.attempt,
        }
        return logging.LoggerAdapter(logging.getLogger(f"roost.engine.{self._engine}"), fields)

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

    def spend(self, **amounts: float) -> None:
        for name, amount in amounts.items():
            if not (isinstance(amount, int | float) and math.isfinite(amount) and amount >= 0):
                raise InputError(
                    f"{name}={amount!r} can't be spent", hint="Give a number that is not negative."
                )
            check_id(name, "name of an amount")
        for name, amount in amounts.items():
            self._spent[name] = self._spent.get(name, 0.0) + amount

    async def once(
        self, key: str, fn: Callable[[], Awaitable[Any] | Any], *, at_most_once: bool = False
    ) -> Any:
        check_name(key, "once key")
        async with self._doing.setdefault(key, asyncio.Lock()):
            is_known, result = await self._recorder.recorded(key)
            if is_known:
                return result
            if at_most_once:
                await self._recorder.begin(key)
            result = fn()
            if inspect.isawaitable(result):
                result = await result
            return await self._recorder.record(key, result)

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


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call of an engine runs under.

    Attributes:
        interruption: stops it from outside.
        timeout_seconds: it is stopped after so long; None: never.
        is_deadline: the work fails for good then, since its deadline is over.
        executor: runs a plain function.
    """

    interruption: Interruption
    timeout_seconds: float | None = None
    is_deadline: bool = False
    executor: Executor | None = None


@dataclass(frozen=True, slots=True)
class Returned:
    """A method of an engine returned this."""

    value: Any


async def run_step(
    spec: EngineSpec, snapshot: Snapshot, item: WorkItem, context: Context, limits: Limits
) -> Outcome:
    """Run `step` once.

    Args:
        snapshot: a copy of its own, which the engine may change.
    """
    version = snapshot.version
    enter_step(context)
    came = await run_method(limits, spec.engine.step, spec.step_is_async, snapshot, item)
    if not isinstance(came, Returned):
        return came
    try:
        after = check_returned(came.value, version, item, context.artifacts.stored)
    except EngineContractError as error:
        return Refused(describe_contract(error))
    if context.uses_workspace:
        kept = await run_method(limits, context.keep_workspace, True, after)
        if not isinstance(kept, Returned):
            return kept
    return Stepped(after)


async def run_init(spec: EngineSpec, item: WorkItem, limits: Limits) -> Outcome:
    """Check the payload and run `init_snapshot` once; the snapshot has version 0."""
    try:
        spec.check_payload(item.payload)
    except PayloadError as error:
        return Refused(describe(error))
    came = await run_method(limits, spec.engine.init_snapshot, spec.init_is_async, item)
    if not isinstance(came, Returned):
        return came
    try:
        snapshot = check_returned(came.value, -1, item, ())
        if snapshot.is_finished or snapshot.next_step_delay_seconds:
            raise EngineContractError("init_snapshot returned a directive; only `step` may finish or delay")
    except EngineContractError as error:
        return Refused(describe_contract(error))
    return Stepped(snapshot)


async def run_method(
    limits: Limits, method: Callable[..., Any], is_async: bool, *args: Any
) -> Returned | Outcome:
    """Call an engine's method under its limits, whatever it does."""
    interruption = limits.interruption
    if interruption.why is not None:
        return Interrupted(interruption.why)
    task = asyncio.current_task()
    assert task is not None
    interruption.running = task
    came: Returned | Outcome
    try:
        came = await _within(limits, method, is_async, args)
    except BaseException as error:  # place 1 of 3: an engine's code may raise anything
        if isinstance(error, asyncio.CancelledError) and task.cancelling() > (interruption.why is not None):
            raise  # the session itself is being cancelled (an engine may raise CancelledError, too)
        came = _outcome_of(error)
    finally:
        interruption.running = None
    if interruption.why is not None:
        # Also what swallowed its interruption and returned all the same can't commit.
        task.uncancel()
        return Interrupted(interruption.why)
    return came


async def _within(
    limits: Limits, method: Callable[..., Any], is_async: bool, args: tuple[Any, ...]
) -> Returned | Outcome:
    """Call the method, within the time limit if there is one."""
    if limits.timeout_seconds is None:
        return Returned(await _call(method, is_async, limits.executor, args))
    try:
        async with asyncio.timeout(limits.timeout_seconds) as scope:
            value = await _call(method, is_async, limits.executor, args)
    except TimeoutError:
        if not scope.expired():
            raise
    if scope.expired() and limits.is_deadline:
        return Refused(ErrorInfo(DEADLINE, "the step ran when the deadline was over"))
    if scope.expired():
        return Raised(ErrorInfo("StepTimeout", f"the step took longer than {limits.timeout_seconds} s"))
    return Returned(value)


async def _call(
    method: Callable[..., Any], is_async: bool, executor: Executor | None, args: tuple[Any, ...]
) -> Any:
    if is_async:
        return await method(*args)
    loop = asyncio.get_running_loop()
    result = await loop.run_in_executor(executor, copy_context().run, _plain, method, args)
    return await result if inspect.isawaitable(result) else result


def _plain(method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return method(*args)
    except (StopIteration, GeneratorExit) as error:
        # A future can't hold the one, and the other would close the session that awaits it.
        raise RuntimeError(f"the step raised {type(error).__name__}") from error


def _outcome_of(error: BaseException) -> Outcome:
    match error:
        case LeaseLost():
            return Interrupted(str(error))
        case RetryLater():
            return Later(min(error.after_seconds, DELAY_MAX_SECONDS), describe(error).message)
        case FailWork() | OutcomeUnknown():
            return Refused(describe(error))
        case EngineContractError():
            return Refused(describe_contract(error))
        case _:
            return Raised(describe(error))


def check_returned(returned: Any, version: int, item: WorkItem, stored: Sequence[Artifact]) -> Snapshot:
    """What an engine returned, as the snapshot of `version + 1`.

    Args:
        stored: what the step put into the artifact store; added to the snapshot.

    Raises:
        EngineContractError: the engine may not return this; says what and what would do.
    """
    if not isinstance(returned, Snapshot):
        raise EngineContractError(
            f"engine {item.engine!r} returned {type(returned).__name__}, not a Snapshot",
            hint="Return the snapshot that comes after the step.",
        )
    if returned.work_id != item.work_id or returned.engine != item.engine:
        raise EngineContractError(
            f"engine {item.engine!r} returned a snapshot of {returned.work_id!r} ({returned.engine!r}), "
            f"not of {item.work_id!r}"
        )
    allowed = (version, version + 1) if version >= 0 else (0, 1)
    if returned.version not in allowed:
        raise EngineContractError(
            f"engine {item.engine!r} returned version {returned.version} from version {version}",
            hint="Leave `version` alone; Roost counts it.",
        )
    _check_directives(returned)
    if stored:
        known = {(artifact.name, artifact.digest) for artifact in returned.artifacts}
        new = [artifact for artifact in stored if (artifact.name, artifact.digest) not in known]
        returned.artifacts = [*returned.artifacts, *new]
    return returned


_Number = int | float


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _check_directives(snapshot: Snapshot) -> None:
    faults = []
    delay = snapshot.next_step_delay_seconds
    if not isinstance(delay, _Number) or not 0 <= delay <= DELAY_MAX_SECONDS:
        faults.append(f"next_step_delay_seconds is {delay!r}, not 0 to {DELAY_MAX_SECONDS:.0f}")
    if not isinstance(snapshot.data, dict):
        faults.append(f"data is a {type(snapshot.data).__name__}, not a dict")
    for name in ("step", "status"):
        value = getattr(snapshot, name)
        if not isinstance(value, str) or not 0 < len(value) <= 200:
            faults.append(f"{name} is {value!r:.100}, not text of 1 to 200 characters")
    if not isinstance(snapshot.artifacts, list) or not all(
        isinstance(a, Artifact) for a in snapshot.artifacts
    ):
        faults.append("artifacts is not a list of Artifact")
    elif len(snapshot.artifacts) > ARTIFACTS_MAX:
        faults.append(f"artifacts has {len(snapshot.artifacts)} entries, more than {ARTIFACTS_MAX}")
    history = snapshot.history
    if not isinstance(history, list) or len(history) > HISTORY_MAX or not all(map(_is_text, history)):
        faults.append(f"history is not a list of at most {HISTORY_MAX} texts")
    if not isinstance(snapshot.is_finished, bool):
        faults.append(f"is_finished is {snapshot.is_finished!r}, not True or False")
    faults += _faults_in_follow_ups(snapshot)
    if faults:
        raise EngineContractError(f"engine {snapshot.engine!r} returned a snapshot whose {'; '.join(faults)}")


def _faults_in_follow_ups(snapshot: Snapshot) -> list[str]:
    faults = []
    wait_for = snapshot.wait_for
    if wait_for is not None and not isinstance(wait_for, WaitFor):
        faults.append(f"wait_for is a {type(wait_for).__name__}, not a WaitFor")
    elif wait_for is not None and not 0 <= (wait_for.timeout_seconds or 0.0) <= DELAY_MAX_SECONDS:
        timeout = wait_for.timeout_seconds
        faults.append(f"wait_for.timeout_seconds is {timeout!r}, not 0 to {DELAY_MAX_SECONDS:.0f}")
    if not isinstance(snapshot.spawn, list) or not all(isinstance(c, Child) for c in snapshot.spawn):
        faults.append("spawn is not a list of Child")
    if snapshot.result is not None:
        try:
            jsonio.dump(snapshot.result, what="result", max_bytes=RESULT_MAX_BYTES)
        except PayloadError as error:
            faults.append(f"{error}")
    return faults


def describe_contract(error: RoostError) -> ErrorInfo:
    """The error text of a snapshot that can't be stored, with its hint."""
    return ErrorInfo("EngineContractError", f"{error} {error.hint}".strip())
