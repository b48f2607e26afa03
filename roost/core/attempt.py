"""One try at one step: run the engine's code, and say what came of it, as a value."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from roost.core.context import Context, Interruption
from roost.core.contract import DELAY_MAX_SECONDS, check_returned, describe_contract
from roost.core.cpu import Meter
from roost.core.redact import describe, parts_of
from roost.engine import EngineSpec, enter_step
from roost.errors import (
    EngineContractError,
    FailWork,
    LeaseLost,
    OutcomeUnknown,
    PayloadError,
    RetryLater,
)
from roost.journal.values import ErrorInfo
from roost.models import Snapshot, WorkItem

DEADLINE = "DeadlineExceeded"  # what work fails of when its deadline is over
OWN_CANCEL = "StepCancelled"
PARTS_MAX = 1000  # of a group of exceptions that are looked at


class Stepped(Struct, frozen=True):
    """The step returned a snapshot that keeps the contract; its `version` is not to be relied on."""

    snapshot: Snapshot


class Raised(Struct, frozen=True):
    """The step failed; trying again may help."""

    error: ErrorInfo


class Refused(Struct, frozen=True):
    """The step failed for good: `FailWork`, or a broken contract."""

    error: ErrorInfo


class Later(Struct, frozen=True):
    """The step asked to be tried later."""

    after_seconds: float
    reason: str


class Interrupted(Struct, frozen=True):
    """The runtime stopped the step; `why` is what it gave for it."""

    why: str


Outcome = Stepped | Raised | Refused | Later | Interrupted


class Limits(Struct, frozen=True):
    """What a call of an engine runs under.

    Attributes:
        interruption: stops it from outside.
        timeout_seconds: it is stopped after so long; None: never.
        is_deadline: the work fails for good then, since its deadline is over.
        executor: runs a plain function.
        meter: counts the CPU that the call uses; None: nobody does.
    """

    interruption: Interruption
    timeout_seconds: float | None = None
    is_deadline: bool = False
    executor: Executor | None = None
    meter: Meter | None = None


class Returned(Struct, frozen=True):
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
    asked_before = task.cancelling()
    came: Returned | Outcome
    try:
        came = await _within(limits, method, is_async, args)
    except BaseException as error:  # place 1 of 3: an engine's code may raise anything
        if isinstance(error, asyncio.CancelledError) and interruption.is_left and interruption.why is None:
            raise
        is_own = isinstance(error, asyncio.CancelledError) and task.cancelling() > asked_before
        came = Raised(own_cancel(error)) if is_own else _outcome_of(error)
    finally:
        interruption.running = None
    if task.cancelling() > asked_before:
        came = await _take_back(task, asked_before, came, interruption)
    if interruption.why is not None:
        # Also what swallowed its interruption and returned all the same can't commit.
        return Interrupted(interruption.why)
    return came


async def _take_back(
    task: asyncio.Task[Any], asked_before: int, came: Returned | Outcome, interruption: Interruption
) -> Returned | Outcome:
    """Withdraw what an engine's code left of requests to cancel its task.

    An interruption leaves one; so does, before Python 3.13, a TaskGroup of which a part failed. Left
    there, it would make the next group and the next interruption go wrong. One that has not struck
    yet, since nothing was awaited after it, strikes here: else it would hit the commit.
    """
    try:
        await asyncio.sleep(0)  # noqa: TID251  no time passes
    except asyncio.CancelledError as error:
        if interruption.is_left and interruption.why is None:
            raise
        came = Raised(own_cancel(error)) if isinstance(came, Returned) else came
    while task.cancelling() > asked_before:
        task.uncancel()
    return came


def own_cancel(error: BaseException) -> ErrorInfo:
    """What the history keeps of a step that cancelled the task which runs it."""
    text = "the step cancelled its own task, or something that it calls did; Roost had not stopped it"
    return replace(describe(error), type=OWN_CANCEL, message=text)


async def _within(
    limits: Limits, method: Callable[..., Any], is_async: bool, args: tuple[Any, ...]
) -> Returned | Outcome:
    """Call the method, within the time limit if there is one."""
    if limits.timeout_seconds is None:
        return Returned(await _call(method, is_async, limits, args))
    try:
        async with asyncio.timeout(limits.timeout_seconds) as scope:
            value = await _call(method, is_async, limits, args)
    except TimeoutError:
        if not scope.expired():
            raise
    if scope.expired() and limits.is_deadline:
        return Refused(ErrorInfo(DEADLINE, "the step ran when the deadline was over"))
    if scope.expired():
        return Raised(ErrorInfo("StepTimeout", f"the step took longer than {limits.timeout_seconds} s"))
    return Returned(value)


async def _call(method: Callable[..., Any], is_async: bool, limits: Limits, args: tuple[Any, ...]) -> Any:
    meter = limits.meter
    if is_async:
        if meter is None:
            return await method(*args)
        meter.began = meter.read()
        try:
            return await method(*args)
        finally:
            meter.leave()
    loop = asyncio.get_running_loop()
    result = await loop.run_in_executor(limits.executor, copy_context().run, _plain, method, args, meter)
    if not inspect.isawaitable(result):
        return result
    return await _call(lambda: result, True, limits, ())


def _plain(method: Callable[..., Any], args: tuple[Any, ...], meter: Meter | None) -> Any:
    try:
        return method(*args) if meter is None else meter.call(method, *args)
    except (StopIteration, GeneratorExit) as error:
        # A future can't hold the one, and the other would close the session that awaits it.
        raise RuntimeError(f"the step raised {type(error).__name__}") from error


def _outcome_of(error: BaseException) -> Outcome:
    match error:
        case BaseExceptionGroup():
            return _outcome_of_many(error)
        case LeaseLost():
            return Interrupted(str(error))
        case RetryLater():
            return Later(_pause_of(error), describe(error).message)
        case FailWork() | OutcomeUnknown():
            return Refused(describe(error))
        case EngineContractError():
            return Refused(describe_contract(error))
        case asyncio.CancelledError():
            told = describe(error)
            text = told.message or "something that the step awaited was cancelled"
            return Raised(replace(told, message=text))
        case _:
            return Raised(describe(error))


def _pause_of(error: RetryLater) -> float:
    """Seconds; where a subclass made no number of them, none."""
    after: object = getattr(error, "after_seconds", None)
    if isinstance(after, int | float) and after >= 0:  # NaN is not
        return min(after, DELAY_MAX_SECONDS)
    return 0.0


def _outcome_of_many(group: BaseExceptionGroup[BaseException]) -> Outcome:
    """What several parts of a step raised at once, as an `asyncio.TaskGroup` tells it.

    The lease counts before all else, and what can never succeed before what may; parts that all
    ask to be tried later are, when the last of them asks for it. Anything else is a failed attempt.
    """
    found = [_outcome_of(part) for part in islice(parts_of(group), PARTS_MAX)]
    for kind in (Interrupted, Refused):
        if first := next((outcome for outcome in found if isinstance(outcome, kind)), None):
            return first
    later = [outcome for outcome in found if isinstance(outcome, Later)]
    if len(later) == len(found):
        return max(later, key=lambda outcome: outcome.after_seconds)
    return Raised(describe(group))
