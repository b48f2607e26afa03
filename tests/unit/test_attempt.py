"""One try at one step: whatever an engine returns, raises or does, it becomes an outcome."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from roost.core.attempt import (
    Interrupted,
    Later,
    Limits,
    Outcome,
    Raised,
    Refused,
    Stepped,
    run_init,
    run_step,
)
from roost.core.context import Artifacts, Context, Interruption
from roost.core.contract import ARTIFACTS_MAX, DELAY_MAX_SECONDS, HISTORY_MAX
from roost.core.inbox import Given
from roost.core.step_log import StepLines
from roost.core.tokens import Signer
from roost.core.workspaces import StepWorkspace
from roost.engine import EngineSpec, RetryPolicy, current_step
from roost.errors import EngineContractError, FailWork, IdentifierError, LeaseLost, PayloadError, RetryLater
from roost.models import Artifact, Child, Snapshot, WaitFor, WorkItem
from roost.storage.memory import MemoryArtifacts
from roost.testing.clock import ManualClock

ITEM = WorkItem(work_id="w", engine="demo", payload={"n": 1})
BEFORE = Snapshot(work_id="w", engine="demo", version=3, step="go", data={"n": 1})

KEYS: dict[str, Any] = {"work_id": "w", "engine": "demo", "version": 3}

Step = Callable[[Snapshot, WorkItem], Any]


class Recorder:
    """Keeps results in a dict."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}

    async def recorded(self, key: str, version: int) -> tuple[bool, Any]:
        return key in self.results, self.results.get(key)

    async def record(self, key: str, version: int, result: Any) -> Any:
        self.results[key] = result
        return result


class Fixture:
    """What a step runs in."""

    def __init__(self) -> None:
        self.interruption = Interruption()
        self.artifacts = Artifacts(MemoryArtifacts(), ManualClock())
        self.recorder = Recorder()
        self.reports: list[tuple[float, str]] = []
        self.is_cancelled = False
        self.given = Given()
        self.spent: dict[str, float] = {}

    def context(self) -> Context:
        return Context(
            snapshot=BEFORE,
            token=7,
            attempt=2,
            rewound=None,
            artifacts=self.artifacts,
            workspace=StepWorkspace(None, self.artifacts.store, BEFORE),
            recorder=self.recorder,
            given=self.given,
            spent=self.spent,
            signer=Signer(),
            interruption=self.interruption,
            is_cancelled=lambda: self.is_cancelled,
            report=lambda fraction, text: self.reports.append((fraction, text)),
            lines=StepLines(ManualClock()),
            loop=asyncio.get_running_loop(),
        )

    async def run(self, step: Step, timeout_seconds: float | None = None) -> Outcome:
        spec = EngineSpec.of(_engine(step))
        limits = Limits(self.interruption, timeout_seconds)
        outcome = await run_step(spec, BEFORE.model_copy(deep=True), ITEM, self.context(), limits)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0  # nothing is left that would strike later
        await asyncio.sleep(0)
        return outcome


def _engine(step: Step) -> Any:
    class Demo:
        engine_id = "demo"

        async def init_snapshot(self, item: WorkItem) -> Snapshot:
            return Snapshot.of(item)

    Demo.step = staticmethod(step)  # type: ignore[attr-defined]
    return Demo()


def is_async(step: Step) -> Step:
    """The same step as a coroutine function."""

    async def call(snapshot: Snapshot, item: WorkItem) -> Any:
        return step(snapshot, item)

    return call


@pytest.fixture
async def attempt() -> Fixture:
    return Fixture()


both_kinds = pytest.mark.parametrize("kind", [is_async, lambda step: step], ids=["async", "plain"])


class TestReturned:
    @both_kinds
    async def test_the_next_snapshot_is_taken(self, attempt: Fixture, kind: Callable[[Step], Step]) -> None:
        outcome = await attempt.run(kind(lambda s, item: s.next("more", data={"m": item.payload["n"]})))
        assert isinstance(outcome, Stepped)
        assert (outcome.snapshot.step, outcome.snapshot.data) == ("more", {"n": 1, "m": 1})

    @pytest.mark.parametrize("version", [3, 4])
    async def test_the_version_may_be_counted_or_left_alone(self, attempt: Fixture, version: int) -> None:
        outcome = await attempt.run(lambda s, item: s.model_copy(update={"version": version}))
        assert isinstance(outcome, Stepped)

    @both_kinds
    @pytest.mark.parametrize(
        ("poison", "says"),
        [
            (lambda s: None, "NoneType, not a Snapshot"),
            (lambda s: {"step": "x"}, "dict, not a Snapshot"),
            (lambda s: Snapshot, "not a Snapshot"),
            (lambda s: ITEM, "WorkItem, not a Snapshot"),
            (lambda s: s.model_copy(update={"work_id": "other"}), "of 'other'"),
            (lambda s: s.model_copy(update={"engine": "other"}), "'other'"),
            (lambda s: s.model_copy(update={"version": 2}), "version 2 from version 3"),
            (lambda s: s.model_copy(update={"version": 0}), "version 0 from version 3"),
            (lambda s: s.model_copy(update={"version": 5}), "version 5 from version 3"),
            (lambda s: s.model_copy(update={"version": "4"}), "version 4 from version 3"),
            (lambda s: s.next(delay=math.nan), "next_step_delay_seconds is nan"),
            (lambda s: s.next(delay=math.inf), "next_step_delay_seconds is inf"),
            (lambda s: s.next(delay=-0.001), "next_step_delay_seconds is -0.001"),
            (lambda s: s.next(delay=DELAY_MAX_SECONDS + 1), "next_step_delay_seconds"),
            (
                lambda s: s.model_copy(update={"next_step_delay_seconds": "1"}),
                "next_step_delay_seconds is '1'",
            ),
            (
                lambda s: s.model_copy(update={"next_step_delay_seconds": None}),
                "next_step_delay_seconds is None",
            ),
            (lambda s: s.next().model_copy(update={"next_step_delay_seconds": True}), "is True, not 0 to"),
            (
                lambda s: s.model_copy(update={"wait_for": WaitFor.model_construct(timeout_seconds="1")}),
                "wait_for.timeout_seconds is '1'",
            ),
            (lambda s: Snapshot.model_construct(), "returned Snapshot without `work_id`"),
            (
                lambda s: Snapshot.model_construct(spawn=[Child.model_construct()], **KEYS),
                "not a list of Child",
            ),
            (
                lambda s: Snapshot.model_construct(artifacts=[Artifact.model_construct()], **KEYS),
                "artifacts is not a list of Artifact",
            ),
            (lambda s: s.model_copy(update={"data": None}), "data is a NoneType"),
            (lambda s: s.model_copy(update={"data": [1]}), "data is a list"),
            (lambda s: s.next(""), "step is ''"),
            (lambda s: s.next("x" * 201), "step is"),
            (lambda s: s.model_copy(update={"step": 7}), "step is 7"),
            (lambda s: s.model_copy(update={"status": ""}), "status is ''"),
            (lambda s: s.model_copy(update={"status": None}), "status is None"),
            (lambda s: s.model_copy(update={"is_finished": 1}), "is_finished is 1"),
            (lambda s: s.model_copy(update={"is_finished": "no"}), "is_finished is 'no'"),
            (lambda s: s.model_copy(update={"artifacts": None}), "artifacts is not a list"),
            (lambda s: s.model_copy(update={"artifacts": [{"name": "a"}]}), "artifacts is not a list"),
            (
                lambda s: s.model_copy(
                    update={"artifacts": [Artifact(name="a", digest="0", size_bytes=0)] * (ARTIFACTS_MAX + 1)}
                ),
                f"more than {ARTIFACTS_MAX}",
            ),
            (lambda s: s.model_copy(update={"history": "text"}), "history is not a list"),
            (lambda s: s.model_copy(update={"history": [1]}), "history is not a list"),
            (lambda s: s.model_copy(update={"history": ["x"] * (HISTORY_MAX + 1)}), "history is not a list"),
        ],
    )
    async def test_what_breaks_the_contract_is_refused_and_says_so(
        self, attempt: Fixture, kind: Callable[[Step], Step], poison: Callable[[Snapshot], Any], says: str
    ) -> None:
        outcome = await attempt.run(kind(lambda s, item: poison(s)))
        assert isinstance(outcome, Refused)
        assert outcome.error.type == "EngineContractError"
        assert says in outcome.error.message

    async def test_what_the_step_changed_in_its_own_snapshot_does_not_hide_its_version(
        self, attempt: Fixture
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            snapshot.version = 99
            return snapshot

        assert isinstance(await attempt.run(step), Refused)


class Rude(Exception):
    def __str__(self) -> str:
        raise KeyError("no text")

    __repr__ = __str__


class Ruder(BaseException):
    pass


class Rudest(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class OwnLater(RetryLater):
    def __init__(self, after: Any) -> None:
        super().__init__(1, "later")
        self.after_seconds = after


def dive() -> None:
    dive()


class TestRaised:
    @pytest.mark.parametrize("is_async", [True, False])
    async def test_its_traceback_begins_with_the_engine(self, attempt: Fixture, is_async: bool) -> None:
        def reach(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            raise ValueError("no answer")

        async def reach_async(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return reach(snapshot, item)

        outcome = await attempt.run(reach_async if is_async else reach)
        assert isinstance(outcome, Raised)
        assert "test_attempt.py" in outcome.error.traceback.splitlines()[0]
        assert "in reach" in outcome.error.traceback

    @both_kinds
    @pytest.mark.parametrize(
        ("error", "type_"),
        [
            (ValueError("bad"), "ValueError"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
            (SystemExit(3), "SystemExit"),
            (BaseExceptionGroup("many", [ValueError("a"), KeyboardInterrupt()]), "BaseExceptionGroup"),
            (ExceptionGroup("many", [ValueError("a")]), "ExceptionGroup"),
            (TimeoutError("its own"), "TimeoutError"),
            (asyncio.InvalidStateError(), "InvalidStateError"),
            (Rude(), "Rude"),
            (Ruder("x"), "Ruder"),
            (Rudest(), "Rudest"),
            (MemoryError(), "MemoryError"),
            (PayloadError("its own"), "PayloadError"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_whatever_is_raised_is_a_failed_attempt(
        self, attempt: Fixture, kind: Callable[[Step], Step], error: BaseException, type_: str
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            raise error

        outcome = await attempt.run(kind(step))
        assert isinstance(outcome, Raised)
        assert outcome.error.type == type_
        assert isinstance(outcome.error.message, str)

    async def test_a_group_says_what_is_in_it(self, attempt: Fixture) -> None:
        """`unhandled errors in a TaskGroup (1 sub-exception)` alone tells nobody what to mend."""

        async def part() -> None:
            raise ValueError("of this part")

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            async with asyncio.TaskGroup() as group:
                group.create_task(part())
            raise AssertionError

        outcome = await attempt.run(step)
        assert isinstance(outcome, Raised)
        assert outcome.error.message.endswith("(1 sub-exception): ValueError: of this part")
        assert "in part" in outcome.error.traceback

    @both_kinds
    @pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, GeneratorExit])
    async def test_what_means_something_to_python_itself_is_a_failed_attempt(
        self, attempt: Fixture, kind: Callable[[Step], Step], error: type[BaseException]
    ) -> None:
        """A future can't hold a StopIteration, and a GeneratorExit closes who awaits it."""

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            raise error

        outcome = await attempt.run(kind(step))
        assert isinstance(outcome, Raised)
        assert error.__name__ in (outcome.error.type + outcome.error.message)

    @both_kinds
    async def test_endless_recursion_is_a_failed_attempt(
        self, attempt: Fixture, kind: Callable[[Step], Step]
    ) -> None:
        outcome = await attempt.run(kind(lambda s, item: dive()))
        assert isinstance(outcome, Raised)
        assert outcome.error.type == "RecursionError"
        assert sys.getrecursionlimit() > 0

    @both_kinds
    async def test_cancelled_error_that_nobody_asked_for_is_a_failed_attempt(
        self, attempt: Fixture, kind: Callable[[Step], Step]
    ) -> None:
        """An engine whose own inner task was cancelled does not stop the worker."""

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            raise asyncio.CancelledError

        outcome = await attempt.run(kind(step))
        assert isinstance(outcome, Raised)
        assert outcome.error.type == "CancelledError"

    async def test_a_cancelled_inner_task_is_a_failed_attempt(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            inner = asyncio.create_task(asyncio.Event().wait())
            inner.cancel()
            await inner
            return snapshot

        outcome = await attempt.run(step)
        assert isinstance(outcome, Raised)
        assert outcome.error.type == "CancelledError"
        assert outcome.error.message == "something that the step awaited was cancelled"

    @both_kinds
    async def test_signals_of_the_step_are_told_apart(
        self, attempt: Fixture, kind: Callable[[Step], Step]
    ) -> None:
        async def run(error: BaseException) -> Outcome:
            def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
                raise error

            return await attempt.run(kind(step))

        assert await run(RetryLater(5, "busy")) == Later(5.0, "busy")
        assert await run(RetryLater(1e300)) == Later(DELAY_MAX_SECONDS, "retry in 1e+300 s")
        assert await run(RetryLater(-5, "now")) == Later(0.0, "now")
        assert await run(OwnLater(math.nan)) == await run(OwnLater("soon")) == Later(0.0, "later")
        refused = await run(FailWork("hopeless"))
        assert isinstance(refused, Refused)
        assert (refused.error.type, refused.error.message) == ("FailWork", "hopeless")
        broken = await run(EngineContractError("broken", hint="mend it"))
        assert isinstance(broken, Refused)
        assert broken.error.message == "broken. mend it"
        assert await run(LeaseLost("w", 7, "gone")) == Interrupted("lease 7 on w is lost: gone")

    @pytest.mark.parametrize(
        ("errors", "comes_to"),
        [
            ([RetryLater(5), RetryLater(60, "busy")], Later(60.0, "busy")),
            ([RetryLater(5), ExceptionGroup("inner", [RetryLater(2)])], Later(5.0, "retry in 5 s")),
            ([RetryLater(5), ValueError("bad")], Raised),
            ([ValueError("bad"), FailWork("never"), RetryLater(5)], Refused),
            ([FailWork("never"), LeaseLost("w", 7, "gone")], Interrupted("lease 7 on w is lost: gone")),
        ],
    )
    async def test_signals_of_parts_of_a_step_count_as_its_own(
        self, attempt: Fixture, errors: list[Exception], comes_to: Any
    ) -> None:
        """Parts that run in a `TaskGroup` can only raise together."""

        async def part(error: Exception) -> None:
            raise error

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            async with asyncio.TaskGroup() as group:
                for error in errors:
                    group.create_task(part(error))
            return snapshot

        outcome = await attempt.run(step)
        assert outcome == comes_to or (isinstance(comes_to, type) and isinstance(outcome, comes_to))

    @pytest.mark.parametrize(("levels", "parts"), [(3000, 1), (60, 2)])
    @pytest.mark.parametrize("asks", [True, False])
    async def test_groups_in_groups_may_be_as_deep_and_as_many_as_they_are(
        self, attempt: Fixture, asks: bool, levels: int, parts: int
    ) -> None:
        """Two of each in the next are more at the end than anybody can look at."""
        error: Exception = RetryLater(5, "busy") if asks else ValueError("bad")
        for _ in range(levels):
            error = ExceptionGroup("group", [error] * parts)

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            raise error

        outcome = await attempt.run(step)
        assert isinstance(outcome, Later if asks else Raised)

    async def test_a_retry_of_no_number_of_seconds_is_refused_not_taken(self, attempt: Fixture) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            raise RetryLater(math.nan)

        outcome = await attempt.run(step)
        assert not isinstance(outcome, Later) or outcome.after_seconds >= 0

    async def test_an_error_of_a_thing_that_awaits_in_a_plain_step_is_one_too(self, attempt: Fixture) -> None:
        """A plain function may return an awaitable; it is awaited on the loop."""

        async def inner(snapshot: Snapshot) -> Snapshot:
            return snapshot.next("later")

        outcome = await attempt.run(lambda s, item: inner(s))
        assert isinstance(outcome, Stepped)
        assert outcome.snapshot.step == "later"


class TestTimeout:
    async def test_a_step_that_takes_too_long_is_a_failed_attempt(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            await asyncio.Event().wait()
            return snapshot

        outcome = await attempt.run(step, timeout_seconds=0.01)
        assert isinstance(outcome, Raised)
        assert outcome.error.type == "StepTimeout"
        assert "0.01 s" in outcome.error.message

    async def test_a_step_that_swallows_its_timeout_can_not_commit(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return snapshot.finish()
            return snapshot

        outcome = await attempt.run(step, timeout_seconds=0.01)
        assert isinstance(outcome, Raised)
        assert outcome.error.type == "StepTimeout"

    async def test_a_timeout_of_its_own_is_told_apart(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
            return snapshot

        outcome = await attempt.run(step, timeout_seconds=60)
        assert isinstance(outcome, Raised)
        assert outcome.error.type == "TimeoutError"

    async def test_a_step_in_time_is_not_stopped(self, attempt: Fixture) -> None:
        assert isinstance(await attempt.run(is_async(lambda s, item: s), timeout_seconds=60), Stepped)


class TestInterruption:
    async def test_a_running_step_is_stopped(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            asyncio.get_running_loop().call_soon(attempt.interruption.stop, "lost")
            await asyncio.Event().wait()
            return snapshot

        assert await attempt.run(step) == Interrupted("lost")

    async def test_a_step_that_swallows_its_interruption_can_not_commit(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            attempt.interruption.stop("lost")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return snapshot.finish()
            return snapshot

        assert await attempt.run(step) == Interrupted("lost")

    async def test_a_group_that_failed_before_does_not_hide_it(self, attempt: Fixture) -> None:
        """Before Python 3.13 such a group leaves its task with a request to cancel it."""

        async def part() -> None:
            raise ValueError("bad")

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(part())
            attempt.interruption.stop("lost")
            await asyncio.Event().wait()
            return snapshot

        assert await attempt.run(step) == Interrupted("lost")

    async def test_an_error_during_the_interruption_is_still_one(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            attempt.interruption.stop("lost")
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("on the way out")

        assert await attempt.run(step) == Interrupted("lost")

    async def test_thrown_before_the_step_it_stops_the_next_one(self, attempt: Fixture) -> None:
        attempt.interruption.stop("first")
        attempt.interruption.stop("second")
        assert await attempt.run(lambda s, item: pytest.fail("it ran")) == Interrupted("first")

    async def test_the_session_itself_can_be_cancelled(self, attempt: Fixture) -> None:
        """That is no interruption: the worker wants the whole session to end, now."""
        entered = asyncio.Event()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await asyncio.Event().wait()
            return snapshot

        task = asyncio.create_task(attempt.run(step))
        await entered.wait()
        attempt.interruption.was_left = True
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class TestOwnCancellation:
    """A step that cancels the task which runs it has failed; that task is not its own to end."""

    @pytest.mark.parametrize("timeout_seconds", [None, 60.0])
    @pytest.mark.parametrize("way", ["awaits", "returns", "in_a_group", "from_outside", "with_a_time_limit"])
    async def test_it_is_a_failed_attempt(
        self, attempt: Fixture, way: str, timeout_seconds: float | None
    ) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            await cancel_self(way)
            return snapshot

        outcome = await attempt.run(step, timeout_seconds)
        assert isinstance(outcome, Raised)
        assert outcome.error.type == "StepCancelled"
        assert outcome.error.message.startswith("the step cancelled its own task")

    async def test_what_the_step_asked_for_itself_counts_more(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            own_task().cancel()
            raise RetryLater(5, "busy")

        assert await attempt.run(step) == Later(5.0, "busy")

    async def test_a_step_that_catches_it_goes_on(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            with suppress(asyncio.CancelledError):
                await cancel_self("awaits")
            return snapshot

        assert isinstance(await attempt.run(step), Stepped)

    async def test_groups_and_limits_that_keep_to_themselves_are_none_of_it(self, attempt: Fixture) -> None:
        async def fails() -> None:
            raise ValueError("bad")

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(fails())
            with anyio.move_on_after(0):
                await anyio.sleep_forever()
            return snapshot.finish()

        assert isinstance(await attempt.run(step), Stepped)

    async def test_an_interruption_counts_more(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            attempt.interruption.stop("lost")
            await cancel_self("returns")
            return snapshot

        assert await attempt.run(step) == Interrupted("lost")

    async def test_it_does_not_keep_a_session_that_is_left(self, attempt: Fixture) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            attempt.interruption.was_left = True
            await cancel_self("returns")
            return snapshot

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(attempt.run(step))


def own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def cancel_self(way: str) -> None:
    """Cancel the task that runs the step."""
    task = own_task()

    async def from_a_task() -> None:
        task.cancel()

    match way:
        case "awaits":
            task.cancel()
            await asyncio.Event().wait()
        case "returns":
            task.cancel()
        case "in_a_group":
            async with asyncio.TaskGroup() as group:
                group.create_task(from_a_task())
                await asyncio.Event().wait()
        case "from_outside":
            asyncio.get_running_loop().call_soon(task.cancel)
            await asyncio.Event().wait()
        case "with_a_time_limit":
            async with asyncio.timeout(60):
                await cancel_self("awaits")


class TestInit:
    async def init(self, returned: Callable[[WorkItem], Any], **attributes: Any) -> Outcome:
        class Demo:
            engine_id = "demo"

            async def init_snapshot(self, item: WorkItem) -> Any:
                return returned(item)

            async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
                return snapshot

        for name, value in attributes.items():
            setattr(Demo, name, value)
        return await run_init(EngineSpec.of(Demo()), ITEM, Limits(Interruption()))

    async def test_the_first_snapshot_is_taken(self) -> None:
        outcome = await self.init(lambda item: Snapshot.of(item, step="one", data={"a": 1}))
        assert isinstance(outcome, Stepped)
        assert (outcome.snapshot.step, outcome.snapshot.data) == ("one", {"a": 1})

    @pytest.mark.parametrize(
        "poison",
        [
            lambda item: None,
            lambda item: Snapshot.of(item).finish(),
            lambda item: Snapshot.of(item).next(delay=1),
            lambda item: Snapshot.of(item).model_copy(update={"version": 2}),
            lambda item: Snapshot.of(item).model_copy(update={"work_id": "other"}),
        ],
    )
    async def test_a_first_snapshot_that_breaks_the_contract_is_refused(self, poison: Any) -> None:
        assert isinstance(await self.init(poison), Refused)

    async def test_a_payload_that_does_not_fit_is_refused_before_the_engine_sees_it(self) -> None:
        class Payload(BaseModel):
            n: str

        outcome = await self.init(lambda item: pytest.fail("it ran"), payload_model=Payload)
        assert isinstance(outcome, Refused)
        assert outcome.error.type == "PayloadError"
        assert "n:" in outcome.error.message

    async def test_an_error_is_a_failed_attempt(self) -> None:
        def broken(item: WorkItem) -> Any:
            raise SystemExit(1)

        assert isinstance(await self.init(broken), Raised)


class TestContext:
    async def test_it_says_which_step_this_is(self, attempt: Fixture) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            context = current_step()
            assert (context.work_id, context.token, context.attempt) == ("w", 7, 2)
            assert context.idempotency_key == "w:4"
            assert context.log.extra is not None
            assert context.log.extra["version"] == 3
            return snapshot

        assert isinstance(await attempt.run(step), Stepped)

    async def test_there_is_none_outside_of_a_step(self) -> None:
        with pytest.raises(RuntimeError, match="inside a step"):
            current_step()

    async def test_once_does_an_effect_once(self, attempt: Fixture) -> None:
        done: list[int] = []

        async def effect() -> int:
            done.append(1)
            return 42

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            for _ in range(2):
                assert await current_step().once("k", effect) == 42
            assert await current_step().once("none", lambda: None) is None
            assert await current_step().once("none", lambda: pytest.fail("again")) is None
            return snapshot

        assert isinstance(await attempt.run(step), Stepped)
        assert done == [1]

    async def test_a_key_that_is_no_name_is_refused(self, attempt: Fixture) -> None:
        for key in ("", "a\nb", "x" * 1025):
            with pytest.raises(IdentifierError):
                await attempt.context().once(key, lambda: 1)

    async def test_a_plain_step_can_wait_for_the_context(self, attempt: Fixture) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            context = current_step()
            return snapshot.next(data={"k": context.wait(context.once("k", lambda: 5))})

        outcome = await attempt.run(step)
        assert isinstance(outcome, Stepped)
        assert outcome.snapshot.data["k"] == 5

    async def test_progress_is_kept_within_bounds(self, attempt: Fixture) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            for fraction in (0.5, -3, 7):
                current_step().progress(fraction, "x" * 600)
            return snapshot

        await attempt.run(step)
        assert attempt.reports == [(0.5, "x" * 500), (0.0, "x" * 500), (1.0, "x" * 500)]

    async def test_a_cancel_request_or_an_interruption_shows(self, attempt: Fixture) -> None:
        context = attempt.context()
        assert not context.cancel_requested
        attempt.is_cancelled = True
        assert context.cancel_requested
        attempt.is_cancelled = False
        attempt.interruption.stop("lost")
        assert context.cancel_requested

    async def test_artifacts_go_with_the_snapshot_each_once(self, attempt: Fixture, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"from a file")

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            put = current_step().artifacts.put
            mine = await put("a.txt", "text", metadata={"k": 1})
            await put("b.bin", b"bytes", content_type="x/y")
            await put("c", tmp_path / "file")
            return snapshot.model_copy(update={"artifacts": [mine]})

        outcome = await attempt.run(step)
        assert isinstance(outcome, Stepped)
        stored = outcome.snapshot.artifacts
        assert [(a.name, a.size_bytes, a.content_type) for a in stored] == [
            ("a.txt", 4, "text/plain"),
            ("b.bin", 5, "x/y"),
            ("c", 11, "application/octet-stream"),
        ]

    async def test_an_artifact_that_can_not_be_named_is_refused(self, attempt: Fixture) -> None:
        with pytest.raises(IdentifierError):
            await attempt.artifacts.put("", b"x")
        with pytest.raises(PayloadError):
            await attempt.artifacts.put("a", b"x", metadata={"bad": math.nan})
        assert attempt.artifacts.stored == []


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (RetryPolicy(max_attempts="5"), "max_attempts '5'"),  # type: ignore[arg-type]  # as a user may write it
        (RetryPolicy(max_attempts=0), "max_attempts 0"),
        (RetryPolicy(max_interruptions=0), "max_interruptions 0"),
        (RetryPolicy(first_delay_seconds=math.nan), "first_delay_seconds nan"),
        (RetryPolicy(first_delay_seconds=-1.0), "first_delay_seconds -1.0"),
        (RetryPolicy(max_delay_seconds=math.inf), "max_delay_seconds inf"),
    ],
)
def test_a_retry_policy_that_nobody_could_follow_is_refused(policy: RetryPolicy, named: str) -> None:
    """Else the first failure of a step finds out, and its work ends as one that kills its workers."""
    engine = _engine(lambda snapshot, item: snapshot)
    engine.retry = policy
    with pytest.raises(EngineContractError, match=f"`retry` has {named}"):
        EngineSpec.of(engine)


def test_no_number_of_failures_is_too_much_for_a_pause() -> None:
    policy = RetryPolicy()
    assert [policy.delay_seconds(failures, 1.0) for failures in (1, 2, 9, 10, 10_000)] == [
        1,
        2,
        256,
        300,
        300,
    ]
    assert policy.delay_seconds(1, 0.0) == 0.5
