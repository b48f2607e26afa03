"""Virtual time: an asyncio event loop whose clock jumps, and whose order is a seed.

Nothing waits here. When every task sleeps, the clock jumps to the next timer, so a year
passes in a millisecond; and with a seed, the callbacks that are ready at one instant run
in a random order, so that each seed is another interleaving of the same program. The
same seed gives the same run, to the last callback:

* tasks hash by the order of their creation, since asyncio keeps them in sets;
* the cyclic garbage collector is off while `run` runs, since finalizers may schedule;
* time, ids and randomness come from `VirtualClock` and `SeededIds`.

There is no I/O on this loop: sockets, pipes and subprocesses are not to be had. A plain
function in a thread is waited for while the clock stands still.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from heapq import heappop
from typing import Any, TypeVar

from roost.errors import RoostError

T = TypeVar("T")

START_AT = 1_700_000_000.0  # what a `VirtualClock` shows when its loop begins
DAY_SECONDS = 86400.0

_PASSES_AT_ONE_INSTANT_MAX = 50_000
_CLOSING_SECONDS = 3600.0  # of virtual time, for cancelled tasks to end
_THREAD_PATIENCE_SECONDS = 0.01  # real time given to a thread that may wait for the loop


class Deadlock(RoostError):
    """Nothing is ready and no timer is set: what is awaited never comes."""

    def __init__(self, at_seconds: float, tasks: Sequence[str]) -> None:
        super().__init__(
            f"deadlock after {at_seconds:g} virtual seconds: nothing is ready, no timer is set",
            hint=f"These tasks wait for ever: {', '.join(tasks) or 'none'}.",
        )
        self.at_seconds = at_seconds
        self.tasks = tasks


class Livelock(RoostError):
    """Callbacks follow callbacks, but the clock does not go on."""

    def __init__(self, at_seconds: float) -> None:
        super().__init__(
            f"livelock after {at_seconds:g} virtual seconds: {_PASSES_AT_ONE_INSTANT_MAX} passes of the loop",
            hint="Something tries again and again without sleeping in between.",
        )
        self.at_seconds = at_seconds


class OutOfTime(RoostError):
    """The program ran for longer, in virtual time, than it was given."""

    def __init__(self, until_seconds: float) -> None:
        super().__init__(
            f"not done after {until_seconds:g} virtual seconds",
            hint="Give it more, or look for what it waits for.",
        )
        self.until_seconds = until_seconds


class _Task(asyncio.Task[T]):
    """A task with a place in the order of creation; sets of tasks iterate by it."""

    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self.number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number


class _Selector:
    """In the place of a real selector: looks for nothing, passes the time instead."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> Sequence[Any]:
        self._loop.pass_time(is_idle=timeout != 0)
        return ()


class _Job:
    """A function in a thread; `has_asked` once it called into the loop from there."""

    has_asked = False


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """An event loop with virtual time.

    Args:
        seed: decides in which order callbacks run that are ready at the same time;
            None: first in, first out, as asyncio promises.

    Attributes:
        end_at: virtual seconds; a jump beyond raises `OutOfTime`.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[Any]  # TimerHandle, with its private `_when`

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self.end_at = float("inf")
        self._time_seconds = 0.0
        self._order = None if seed is None else random.Random(f"loop {seed}")
        self._passes = 0
        self._task_count = 0
        self._selector = _Selector(self)
        self._jobs: set[_Job] = set()
        self._job = threading.local()
        self._from_threads: deque[asyncio.Handle] = deque()
        self._thread_called = threading.Event()

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._time_seconds

    def create_task(  # type: ignore[override]  # later Pythons add keywords, all of them handed on
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        self._check_closed()  # type: ignore[attr-defined]
        self._task_count += 1
        name = f"task-{self._task_count}" if name is None else name
        return _Task(self._task_count, coro, loop=self, name=name, context=context, **options)

    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, in the order of their creation."""
        return sorted(asyncio.all_tasks(self), key=hash)

    # --- time ----------------------------------------------------------------

    def pass_time(self, *, is_idle: bool) -> None:
        """Called once in each pass of the loop, before callbacks run.

        Args:
            is_idle: no callback is ready: jump to the next timer.

        Raises:
            Deadlock, Livelock, OutOfTime: it makes no sense to go on.
        """
        if self._from_threads:
            self._take_from_threads()
        if is_idle and not self._ready and not (self._jobs and self._await_thread()):
            self._jump()
        self._passes += 1
        if self._passes > _PASSES_AT_ONE_INSTANT_MAX:
            self._passes = 0
            raise Livelock(self._time_seconds)
        while self._scheduled and self._scheduled[0]._when <= self._time_seconds:
            handle = heappop(self._scheduled)
            handle._scheduled = False
            self._ready.append(handle)
        if self._order is not None and len(self._ready) > 1:
            handles = list(self._ready)
            self._order.shuffle(handles)
            self._ready = deque(handles)

    def _jump(self) -> None:
        if not self._scheduled:
            raise Deadlock(self._time_seconds, [task.get_name() for task in self.tasks()])
        next_at = self._scheduled[0]._when
        if next_at > self.end_at:
            raise OutOfTime(self.end_at)
        if next_at > self._time_seconds:
            self._time_seconds = next_at
            self._passes = 0

    def _process_events(self, event_list: Sequence[Any]) -> None:
        """There are none."""

    # --- threads -------------------------------------------------------------

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        job = _Job()
        self._jobs.add(job)

        def run() -> T:
            self._job.current = job
            try:
                return func(*args)
            finally:
                self._job.current = None

        future = super().run_in_executor(executor, run)
        future.add_done_callback(lambda _: self._jobs.discard(job))
        return future

    def call_soon_threadsafe(  # type: ignore[override]  # the arguments of the callback are its own matter
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        job = getattr(self._job, "current", None)
        if job is not None:
            job.has_asked = True
        self._from_threads.append(handle)
        self._thread_called.set()
        return handle

    def _take_from_threads(self) -> None:
        while self._from_threads:
            self._ready.append(self._from_threads.popleft())

    def _await_thread(self) -> bool:
        """Wait, in real time, while threads compute; whether one has called.

        A thread that has called into the loop may itself wait for something there that
        takes virtual time, so it does not hold the clock for longer than a moment.
        """
        while self._jobs:
            may_jump = bool(self._scheduled) and all(job.has_asked for job in self._jobs)
            called = self._thread_called.wait(_THREAD_PATIENCE_SECONDS if may_jump else None)
            self._thread_called.clear()
            self._take_from_threads()
            if self._ready:
                return True
            if may_jump and not called:
                return False
        return False

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to wait for: a thread that still runs is left to end by itself."""


class VirtualClock:
    """A `Clock` on a virtual loop, as wrong as the test wants it.

    Args:
        loop: whose time it shows.
        offset_seconds: how far its wall clock is ahead of `START_AT` plus the loop's time.
        rate: how many of its seconds pass in one second of the loop.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, offset_seconds: float = 0.0, rate: float = 1.0
    ) -> None:
        self._loop = loop
        self._rate = rate
        self.offset_seconds = offset_seconds

    def now(self) -> float:
        return START_AT + self.offset_seconds + self._loop.time() * self._rate

    def monotonic(self) -> float:
        return self._loop.time() * self._rate

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._rate)


class SeededIds:
    """`Ids` that come from a seed. Work ids sort in the order in which they were made.

    Args:
        source: of all randomness; two `SeededIds` on one source never make the same id.
    """

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._prefix = f"{source.getrandbits(60):015x}"
        self._count = 0

    def work_id(self) -> str:
        self._count += 1
        return f"{self._count:09d}{self._random.getrandbits(52):013x}"

    def unique(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count:x}"

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


def run(
    main: Callable[[], Coroutine[Any, Any, T]], *, seed: int | None = None, until_seconds: float = DAY_SECONDS
) -> T:
    """Run a coroutine function in virtual time, on a loop of its own.

    Tasks that are left when it ends are cancelled, in the order of their creation.

    Args:
        main: called without arguments; `asyncio.get_running_loop()` is the virtual loop.
        seed: of the order in which things happen; None: first in, first out.
        until_seconds: virtual seconds that it may take.

    Raises:
        Deadlock: it waits for what never comes.
        Livelock: it spins without letting time pass.
        OutOfTime: it takes longer than `until_seconds`.
    """
    loop = VirtualTimeLoop(seed)
    loop.end_at = until_seconds
    had_collector = gc.isenabled()
    gc.disable()
    try:
        asyncio.set_event_loop(None)
        return loop.run_until_complete(main())
    finally:
        try:
            _close(loop)
        finally:
            if had_collector:
                gc.enable()


def _close(loop: VirtualTimeLoop) -> None:
    """Cancel what is left, give it time to end, and close the loop."""
    loop.end_at = loop.time() + _CLOSING_SECONDS
    try:
        left = loop.tasks()
        for task in left:
            task.cancel()
        loop.run_until_complete(_ended(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
    except (Deadlock, Livelock, OutOfTime) as error:
        names = ", ".join(task.get_name() for task in loop.tasks())
        loop.call_exception_handler({"message": f"cancelled tasks do not end: {names}", "exception": error})
    finally:
        loop.close()


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
