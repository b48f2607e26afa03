"""The core on a backend: approvals with signed tokens, answered once."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from roost.engine import current_step
from roost.errors import ConflictError, InputError
from roost.models import Approval, OnTimeout, Signal, Snapshot, State, WorkItem
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract
from roost.testing.contract.process import Process, Scripted, Step, check_done


class Verdict(BaseModel):
    """What the tests ask for."""

    approved: bool
    comment: str = ""


def _asks(asked: list[Approval], seen: list[Signal], **wait: Any) -> Step:
    """A step that asks for an approval, then says what came of it."""

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context = current_step()
        if snapshot.version:
            seen.extend(context.signals)
            return snapshot.finish(data={"timed_out": context.timed_out})
        asked.append(context.ask("publish", reply=Verdict))
        return snapshot.next("decide", wait_for=asked[-1].wait(**wait))

    return step


class ApprovalsContract(Contract):
    """What people are asked, and answer."""

    async def test_an_answer_is_taken_once_with_who_and_when(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        asked: list[Approval] = []
        seen: list[Signal] = []
        process = Process(harness, backend, Scripted(_asks(asked, seen)))
        client = process.client
        work_id = await client.enqueue("demo")
        await process.work()
        [found] = await client.approvals(work_id)
        assert (found.name, found.token, found.until) == ("publish", asked[0].token, None)
        sent = await client.approve(found.token, {"approved": True}, "ann")
        again = await client.approve(found.token, {"approved": True}, "ann")
        assert (sent.is_new, again.is_new, again.position) == (True, False, sent.position)
        for other, actor in (({"approved": False}, "ann"), ({"approved": True}, "bob")):
            with pytest.raises(ConflictError, match="answered before, by ann"):
                await client.approve(found.token, other, actor)
        assert await client.approvals(work_id) == ()
        await process.work()
        check_done(await client.status(work_id), version=2)
        assert [(signal.name, signal.data, signal.actor) for signal in seen] == [
            ("approval:publish", {"approved": True}, "ann")
        ]
        [received] = await client.signals(work_id)
        assert (received.signal, received.seen_by_version) == (seen[0], 2)
        with pytest.raises(ConflictError, match="answered before"):
            await client.approve(found.token, {"approved": False}, "ann")

    async def test_a_reply_of_another_shape_is_refused_and_the_work_waits_on(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        asked: list[Approval] = []
        process = Process(harness, backend, Scripted(_asks(asked, [])))
        work_id = await process.client.enqueue("demo")
        await process.work()
        for reply in ({"approved": "perhaps"}, {}, None):
            with pytest.raises(InputError, match="not what was asked for"):
                await process.client.approve(asked[0].token, reply, "ann")
        assert await process.state(work_id) is State.WAITING
        with pytest.raises(InputError, match="needs its token"):
            await process.client.signal(work_id, "approval:publish", {"approved": True})

    async def test_an_expired_token_is_refused_and_the_engine_decides_what_then(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        asked: list[Approval] = []
        step = _asks(asked, [], timeout_seconds=3600.0, on_timeout=OnTimeout.GO_ON)
        process = Process(harness, backend, Scripted(step))
        later = Process(harness, backend, Scripted(step), ahead_seconds=3601.0)
        work_id = await process.client.enqueue("demo")
        await process.work()
        assert len(await process.client.approvals(work_id)) == 1
        assert await later.client.approvals(work_id) == ()
        with pytest.raises(ConflictError, match="has expired"):
            await later.client.approve(asked[0].token, {"approved": True}, "ann")
        await harness.settle()
        await later.sweeper.sweep()
        await later.work()
        view = await process.client.status(work_id)
        check_done(view, version=2)
        assert view.snapshot is not None
        assert view.snapshot.data == {"timed_out": True}
        with pytest.raises(ConflictError, match="done"):
            await process.client.approve(asked[0].token, {"approved": True}, "ann")

    async def test_a_step_that_runs_again_asks_the_same_and_an_early_answer_is_told_to_wait(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """The link may be in somebody's mailbox before the commit stands."""
        asked: list[Approval] = []
        ask = _asks(asked, [])

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            came = ask(snapshot, item)
            assert isinstance(came, Snapshot)
            if len(asked) == 1:
                raise ValueError("after the mail was sent")
            return came

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        [delivery] = await process.receive()
        await process.session(delivery).run()
        with pytest.raises(ConflictError, match="not asked for yet"):
            await process.client.approve(asked[0].token, {"approved": True}, "ann")
        await process.work()
        assert asked[0] == asked[1]
        await process.client.approve(asked[0].token, {"approved": True}, "ann")
        await process.work()
        check_done(await process.client.status(work_id), version=2)
