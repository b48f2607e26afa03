"""The core on a backend: black-box checks for each group of durable execution's semantics.

What durable runtimes are held to elsewhere (the groups follow AWS's durable execution
conformance requirements), checked here from outside, by what a work item comes to.
`tests/docs/test_durable_groups.py` names the checks of every group, here and elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost.core.client import Client
from roost.core.signals import DATA_MAX_BYTES
from roost.engine import RetryPolicy, current_step
from roost.errors import FailWork, InputError, OutcomeUnknown
from roost.journal.events import Committed, Failed
from roost.models import Child, Join, Snapshot, State, WaitFor, WorkItem
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract
from roost.testing.contract.process import Process, Scripted, check_done

ODD: list[Any] = [
    *(None, True, 0, -1, 2**53 + 1, -(2**63), 1e-7, 1.5e300, "", "ä€𝄞\u0000\u2028", "\\\"'"),
    *([], {}, [[[[]]]], {"": {"a.b": [None, {"ü": -0.5}]}}),
]
RESULT_MAX_BYTES = 1 << 14

DAY = 86_400.0
WAITS = (899.0, 900.0, 901.0, DAY / 2 + 1, 15 * DAY, 400 * DAY)

POLICIES = [
    pytest.param(Join(), "ddff", True, id="all, however they end"),
    pytest.param(Join(need_done=2), "dfd", True, id="enough are done"),
    pytest.param(Join(need_done=2), "dff", False, id="enough can not be done"),
    pytest.param(Join(max_failed=1), "dfd", True, id="equal is tolerated"),
    pytest.param(Join(max_failed=0), "fdd", False, id="fails fast"),
    pytest.param(Join(max_failed_percent=50), "dfdf", True, id="percent, equal is tolerated"),
    pytest.param(Join(max_failed_percent=25), "dfdf", False, id="percent, exceeded"),
    pytest.param(Join(), "", True, id="no children"),
]


def _joins(policy: Join, kinds: str, came: list[Any]) -> Scripted:
    """A parent with a child of each kind: `d` is done, `f` fails."""

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if item.parent_id is not None:
            if item.payload["kind"] == "f":
                raise FailWork("it was told to")
            return snapshot.finish(result=item.payload["kind"])
        if snapshot.version == 0:
            spawn = [Child(engine="demo", payload={"kind": kind}) for kind in kinds]
            return snapshot.next(spawn=spawn, wait_for=WaitFor(children=policy))
        came.append((current_step().join_is_met, current_step().children))
        return snapshot.finish()

    return Scripted(step)


class ConformanceContract(Contract):
    """What durable runtimes promise, as it shows from outside."""

    async def test_every_json_value_comes_back_equal_by_every_way(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """By payload, snapshot, recorded result, signal and a child's result."""
        came: dict[str, Any] = {}

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if item.parent_id is not None:
                return snapshot.finish(result=item.payload["odd"])
            if snapshot.version == 0:
                once = await current_step().once("odd", lambda: ODD)
                child = Child(engine="demo", payload={"odd": ODD})
                wait = WaitFor(signals=("odd",), children=Join())
                return snapshot.next(data={"odd": ODD, "once": once}, spawn=[child], wait_for=wait)
            context = current_step()
            came.update({child.key or "child": child.result for child in context.children})
            came.update({signal.name: signal.data for signal in (*context.signals, *context.take("odd"))})
            if {"child", "odd"} <= came.keys():
                return snapshot.finish(data={"payload": item.payload["odd"]})
            return snapshot.next(wait_for=WaitFor(signals=("odd",), children=Join()))

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo", {"odd": ODD})
        await process.client.signal(work_id, "odd", ODD)
        for _ in range(3):
            await process.work()
        view = await process.client.status(work_id)
        assert view.snapshot is not None
        assert view.control.state is State.DONE
        assert came == {"child": ODD, "odd": ODD}
        assert view.snapshot.data == {"odd": ODD, "once": ODD, "payload": ODD}

    async def test_a_failure_stays_what_it_was_and_its_parent_learns_of_it(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        came: list[Any] = []
        process = Process(harness, backend, _joins(Join(), "f", came))
        work_id = await process.client.enqueue("demo")
        await process.work()
        check_done(await process.client.status(work_id), version=2)
        [child] = came[0][1]
        assert (child.state, child.error) == (State.FAILED, "FailWork: it was told to")
        for opened in (backend, await harness.reopen()):
            tail = await opened.journal.tail(child.work_id)
            assert tail is not None
            assert (tail.control.state, tail.control.reason) == (State.FAILED, child.error)
            assert isinstance(tail.event, Failed)
            assert (tail.event.error.type, tail.event.error.message) == ("FailWork", "it was told to")

    async def test_attempts_are_exact_and_a_refusal_is_final(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        tried: dict[str, list[int]] = {}

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            tried.setdefault(item.payload["kind"], []).append(current_step().attempt)
            raise FailWork("never") if item.payload["kind"] == "refuses" else ValueError("no")

        retry = RetryPolicy(max_attempts=3, first_delay_seconds=0.0)
        process = Process(harness, backend, Scripted(step, retry=retry))
        ids = [await process.client.enqueue("demo", {"kind": kind}) for kind in ("fails", "refuses")]
        await process.work()
        assert tried == {"fails": [1, 2, 3], "refuses": [1]}
        assert [await process.state(work_id) for work_id in ids] == [State.FAILED] * 2
        assert (await process.kinds(ids[0])).count("attempt_failed") == 3

    async def test_an_effect_that_may_have_happened_is_not_repeated(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Its worker was killed inside it; the engine is told, and asks the service itself."""
        effects, entered = list[int](), asyncio.Event()

        async def pay() -> str:
            effects.append(current_step().attempt)
            entered.set()
            return await asyncio.Future()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            try:
                return snapshot.finish(
                    data={"paid": await current_step().once("pay", pay, at_most_once=True)}
                )
            except OutcomeUnknown as error:
                return snapshot.finish(data={"unknown": error.key})

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.crash(await process.begin(entered))
        await harness.advance(2 * process.lease_seconds)
        await process.work()
        view = await process.client.status(work_id)
        assert view.snapshot is not None
        assert view.snapshot.data == {"unknown": "pay"}
        assert effects == [1]

    async def test_a_polling_step_gives_up_after_so_many_times(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            polls = snapshot.data.get("polls", 0) + 1
            if polls == 4:
                raise FailWork(f"not there after {polls} looks")
            return snapshot.next("poll", data={"polls": polls}, delay=harness.shortest_delay_seconds)

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        for _ in range(4):
            await process.work()
            await harness.advance(harness.time_step_seconds)
        control = (await process.tail(work_id)).control
        assert (control.state, control.version, control.failures) == (State.FAILED, 3, 0)
        assert control.reason == "FailWork: not there after 4 looks"

    async def test_a_wait_of_any_length_is_neither_cut_nor_doubled(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """About where a delay stops to travel with a message, and beyond all limits of a service.

        No process is there for most of the time.
        """
        ran: dict[float, list[int]] = {}

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            ran.setdefault(item.payload["for"], []).append(snapshot.version)
            return snapshot.finish() if snapshot.version else snapshot.next(delay=item.payload["for"])

        def after(seconds: float) -> Process:
            return Process(harness, backend, Scripted(step), ahead_seconds=seconds)

        first = after(0.0)
        ids = {seconds: await first.client.enqueue("demo", {"for": seconds}) for seconds in WAITS}
        await first.work()
        await harness.settle()
        for passed in sorted({moment for seconds in WAITS[1:] for moment in (seconds - 61, seconds + 120)}):
            process = after(passed)
            await process.sweeper.sweep()
            await process.work()
            over = [seconds for seconds, versions in ran.items() if versions == [0, 1]]
            assert over == [seconds for seconds in WAITS if seconds < passed]
        for work_id in ids.values():
            check_done(await first.client.status(work_id), version=2)

    async def test_what_a_step_logs_is_said_once_for_each_time_it_ran(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """A worker that takes over says nothing again of steps that were committed before."""
        entered, ran = asyncio.Event(), list[str]()

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            text = f"step {snapshot.version}, run {len(ran)}"
            ran.append(text)
            current_step().log.info(text)
            if snapshot.version == 1 and not entered.is_set():
                entered.set()
                await asyncio.Future()
            return snapshot.finish() if snapshot.version == 2 else snapshot.next()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.crash(await process.begin(entered))
        await harness.advance(2 * process.lease_seconds)
        await process.work()
        said = [
            [line.text for line in entry.event.log]
            for entry in await process.entries(work_id)
            if isinstance(entry.event, Committed)
        ]
        assert ran == ["step 0, run 0", "step 1, run 1", "step 1, run 2", "step 2, run 3"]
        assert said == [[ran[0]], [ran[2]], [ran[3]]], "the run that was killed has said nothing durable"

    # --- signals -------------------------------------------------------------

    async def test_signals_come_in_during_a_step_and_a_sleep(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        seen: list[list[Any]] = []

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append([signal.data for signal in current_step().signals])
            if snapshot.version == 0:
                await process.client.signal(item.work_id, "go", "during a step")
                return snapshot.next(delay=3600.0)
            return snapshot.finish() if snapshot.version == 2 else snapshot.next(wait_for="go")

        process = Process(harness, backend, Scripted(step))
        later = Process(harness, backend, Scripted(step), ahead_seconds=3601.0)
        work_id = await process.client.enqueue("demo")
        await process.work()
        await process.client.signal(work_id, "go", "during a sleep")
        assert await process.state(work_id) is State.SCHEDULED
        await harness.settle()
        await later.sweeper.sweep()
        await later.work()
        check_done(await process.client.status(work_id), version=3)
        assert seen == [[], [], ["during a step", "during a sleep"]]

    @pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
    async def test_two_waits_take_their_signals_in_either_order(
        self, backend: Backend, harness: BackendHarness, order: tuple[str, str]
    ) -> None:
        seen: list[list[str]] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            seen.append([signal.name for signal in current_step().signals])
            return (
                snapshot.finish() if snapshot.version == 2 else snapshot.next(wait_for="ab"[snapshot.version])
            )

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        for name in order:
            await process.work()
            await process.client.signal(work_id, name)
        await process.work()
        check_done(await process.client.status(work_id), version=3)
        assert seen == [[], ["a"], ["b"]]

    async def test_a_heartbeat_extends_a_wait(self, backend: Backend, harness: BackendHarness) -> None:
        """An outside worker that says it is alive is waited for anew, from then on."""

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if current_step().timed_out:
                return snapshot.finish(data={"beats": snapshot.version - 1})
            return snapshot.next(wait_for=WaitFor(signals=("alive",), timeout_seconds=3600.0))

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        for hours in range(3):
            later = Process(harness, backend, Scripted(step), ahead_seconds=hours * 3000.0)
            await later.work()
            await harness.settle()
            await later.sweeper.sweep()
            assert await later.state(work_id) is State.WAITING
            await later.client.signal(work_id, "alive")
            await later.work()
        last = Process(harness, backend, Scripted(step), ahead_seconds=2 * 3000.0 + 3601.0)
        await harness.settle()
        await last.sweeper.sweep()
        await last.work()
        view = await process.client.status(work_id)
        assert view.snapshot is not None
        assert view.snapshot.data == {"beats": 3}

    # --- children ------------------------------------------------------------

    @pytest.mark.parametrize(("policy", "kinds", "is_met"), POLICIES)
    async def test_every_policy_comes_to_its_verdict(
        self, backend: Backend, harness: BackendHarness, policy: Join, kinds: str, is_met: bool
    ) -> None:
        came: list[Any] = []
        process = Process(harness, backend, _joins(policy, kinds, came))
        work_id = await process.client.enqueue("demo")
        await process.work()
        check_done(await process.client.status(work_id), version=2)
        [(verdict, children)] = came
        assert verdict is is_met
        assert [child.ordinal for child in children] == sorted(child.ordinal for child in children)

    async def test_a_policy_that_never_could_come_true_fails_the_work(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, _joins(Join(need_done=3), "dd", []))
        work_id = await process.client.enqueue("demo")
        await process.work()
        control = (await process.tail(work_id)).control
        assert (control.state, control.version, control.family) == (State.FAILED, 0, None)
        assert "needs 3 children" in control.reason
        assert await backend.journal.tail(f"{work_id}.1-0") is None

    async def test_nested_children_report_in_order_and_stay_in_their_namespace(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            depth = item.payload.get("depth", 0)
            if depth < 2 and snapshot.version == 0:
                spawn = [Child(engine="demo", payload={"depth": depth + 1}, priority=p) for p in (-1, 0, 1)]
                return snapshot.next(spawn=spawn, wait_for=WaitFor(children=Join()))
            came = [child.result for child in current_step().children]
            return snapshot.finish(result=came or item.work_id, data={"came": came})

        process = Process(harness, backend, Scripted(step))
        client = Client(process.parts, namespace="team-a")
        work_id = await client.enqueue("demo")
        for _ in range(3):
            await process.work()
        view = await client.status(work_id)
        assert view.snapshot is not None
        assert work_id.startswith("team-a/")
        ids = [[f"{work_id}.1-{a}.1-{b}" for b in range(3)] for a in range(3)]
        assert view.snapshot.data == {"came": ids}
        tree = await client.tree(work_id)
        assert [[leaf.work_id for leaf in child.children] for child in tree.children] == ids
        assert {leaf.state for child in tree.children for leaf in child.children} == {State.DONE}

    # --- sizes ---------------------------------------------------------------

    async def test_data_up_to_its_limit_is_taken_and_beyond_it_refused(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Spilling is not to be seen: what is big comes back as it was."""
        big = {"text": "".join(f"{number:x}" for number in range(150_000))}
        came: list[Any] = []

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if item.parent_id is not None:
                return snapshot.finish(result="x" * (RESULT_MAX_BYTES - 2 + item.payload["beyond"]))
            if snapshot.version == 0:
                spawn = [Child(engine="demo", payload={"beyond": beyond}) for beyond in (-1, 0, 1)]
                return snapshot.next(data=big, spawn=spawn, wait_for=WaitFor(children=Join()))
            if snapshot.version == 1:
                came.extend(current_step().children)
                return snapshot.next(wait_for="big")
            assert snapshot.data == big
            return snapshot.finish(data={"lengths": [len(signal.data) for signal in current_step().signals]})

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        for beyond in (-1, 0):
            await process.client.signal(work_id, "big", "y" * (DATA_MAX_BYTES - 2 + beyond))
        with pytest.raises(InputError):
            await process.client.signal(work_id, "big", "y" * (DATA_MAX_BYTES - 1))
        await process.work()
        view = await process.client.status(work_id)
        assert view.snapshot is not None
        assert view.snapshot.data["lengths"] == [DATA_MAX_BYTES - 3, DATA_MAX_BYTES - 2]
        assert [child.state for child in came] == [State.DONE, State.DONE, State.FAILED]
        assert [len(child.result) for child in came[:2]] == [RESULT_MAX_BYTES - 3, RESULT_MAX_BYTES - 2]
        for child in came[:2]:  # none ran again since its result is large
            assert await process.kinds(child.work_id) == ["enqueued", "claimed", "committed"]
