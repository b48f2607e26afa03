"""The contract of a whole backend: the real core does its work on it, end to end."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from roost.core.new_work import NewWork
from roost.engine import current_step
from roost.errors import WorkNotFound
from roost.journal.events import Kind
from roost.models import Artifact, Snapshot, State, WorkItem
from roost.storage.instrument import InstrumentedBackend
from roost.storage.ports import Backend
from roost.testing.contract.artifacts import read
from roost.testing.contract.harness import BackendHarness, Contract, soon
from roost.testing.contract.process import (
    Flaky,
    Hasty,
    Process,
    Scripted,
    check_done,
    check_sound,
    counts_to,
    finishes,
    run_workers,
)


class BackendContract(Contract):
    """Work gets done on it, whatever dies meanwhile."""

    # --- the bundle ----------------------------------------------------------

    async def test_check_finds_a_sound_backend_sound(self, backend: Backend) -> None:
        findings = await backend.check()
        assert findings
        for finding in findings:
            assert finding.name
            assert finding.detail
        assert all(finding.is_ok for finding in findings if finding.name != "disk")

    async def test_close_is_idempotent(self, backend: Backend, harness: BackendHarness) -> None:
        other = await harness.reopen()
        for _ in range(2):
            await other.close()

    async def test_two_stores_know_nothing_of_each_other(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        here = Process(harness, backend, Scripted(finishes))
        work_id = await here.client.enqueue("demo")
        there = Process(harness, await harness.open(), Scripted(finishes))
        assert await there.work() == 0
        with pytest.raises(WorkNotFound):
            await there.client.status(work_id)

    async def test_it_says_where_it_is_and_how_much_an_entry_holds(self, backend: Backend) -> None:
        assert backend.url.partition(":")[0].isalnum()
        assert backend.inline_max_bytes >= 1024

    # --- from enqueue to done ------------------------------------------------

    async def test_work_is_done_step_by_step(self, backend: Backend, harness: BackendHarness) -> None:
        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            artifact = await current_step().artifacts.put(f"{snapshot.version}.txt", item.payload["text"])
            assert artifact.size_bytes == 5
            return counts_to(3)(snapshot.next(note=f"at {snapshot.version}"), item)  # type: ignore[return-value]

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo", {"text": "hello"})
        assert await process.state(work_id) is State.QUEUED
        assert await process.work() == 1
        other = Process(harness, await harness.reopen(), Scripted(step))
        view = await other.client.status(work_id)
        check_done(view, version=3)
        assert view.snapshot is not None
        assert view.snapshot.history == ["at 0", "at 1", "at 2"]
        assert [artifact.name for artifact in view.artifacts] == ["0.txt", "1.txt", "2.txt"]
        assert await read(other.backend.artifacts, view.artifacts[0].digest) == b"hello"
        assert [(await other.client.snapshot(work_id, n)).data for n in (1, 2, 3)] == [
            {"n": 1},
            {"n": 2},
            {"n": 3},
        ]
        check_sound(await other.entries(work_id))

    async def test_workers_share_the_work_and_do_each_once(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        count, ended, done = 24, list[str](), asyncio.Event()

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            after = counts_to(3)(snapshot, item)
            assert isinstance(after, Snapshot)
            if after.is_finished:
                ended.append(item.work_id)
            if len(ended) == count:
                done.set()
            return after

        a = Process(harness, backend, Scripted(step), "a")
        b = Process(harness, await harness.reopen(), Scripted(step), "b")
        work_ids = await a.client.enqueue_many(
            [NewWork("demo", {}, priority=number % 3 - 1) for number in range(count)]
        )
        await run_workers([a.worker(), b.worker()], done)
        assert sorted(ended) == sorted(work_ids)
        for work_id in work_ids:
            check_done(await b.client.status(work_id), version=3)
            check_sound(await b.entries(work_id))

    async def test_an_idle_worker_takes_what_another_process_enqueues(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        done = asyncio.Event()

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            done.set()
            return snapshot.finish()

        idle = Process(harness, backend, Scripted(step))
        client = Process(harness, await harness.reopen(), Scripted(step)).client

        async def enqueue() -> None:
            await asyncio.sleep(0)
            await client.enqueue("demo")

        async with asyncio.TaskGroup() as group:
            group.create_task(enqueue())
            await run_workers([idle.worker()], done)
        await harness.settle()
        counts = {state: count for state, count in (await backend.index.counts()).items() if count}
        assert counts == {State.DONE: 1}

    async def test_a_body_too_large_for_an_entry_is_kept_all_the_same(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        text = "".join(
            hashlib.sha256(b"%d" % n).hexdigest() for n in range(2 * backend.inline_max_bytes // 64)
        )

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return snapshot.next(data={"text": text}) if snapshot.version == 0 else snapshot.finish()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo", {"text": text[: (1 << 20) - 100]})
        await process.work()
        view = await process.client.status(work_id)
        assert view.item.payload == {"text": text[: (1 << 20) - 100]}
        assert view.snapshot is not None
        assert view.snapshot.data == {"text": text}
        assert any(entry.body and entry.body.digest for entry in await process.entries(work_id))

    async def test_a_growing_snapshot_reads_back_at_every_version(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            lines = [
                *snapshot.data.get("lines", []),
                hashlib.sha256(b"%d" % snapshot.version).hexdigest() * 2,
            ]
            after = snapshot.next(data={"lines": lines})
            return after.finish() if len(lines) == 40 else after

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        for version in (1, 17, 23, 40):
            assert len((await process.client.snapshot(work_id, version)).data["lines"]) == version

    # --- delays --------------------------------------------------------------

    async def test_a_delayed_step_waits_for_its_time(self, backend: Backend, harness: BackendHarness) -> None:
        delay = 3 * harness.time_step_seconds

        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            return snapshot.finish() if snapshot.version else snapshot.next(delay=delay)

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.work()
        assert await process.state(work_id) is State.SCHEDULED
        await harness.advance(delay * 0.6)
        assert await process.work() == 0
        await harness.advance(delay * 0.6)
        await process.work()
        check_done(await process.client.status(work_id), version=2)

    async def test_a_long_delay_sends_nothing_until_a_sweeper_finds_it_due(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        week = 7 * 86400.0
        process = Process(harness, backend, Scripted(finishes))
        work_id = await process.client.enqueue("demo", delay_seconds=week)
        await process.sweeper.sweep()
        assert await process.work() == 0
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=week - 100)
        await harness.settle()
        await later.sweeper.sweep()
        assert await later.work() == 0
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=week + 1)
        await later.sweeper.sweep()
        await later.work()
        check_done(await process.client.status(work_id), version=1)

    # --- what dies -----------------------------------------------------------

    async def test_work_of_a_dead_worker_is_taken_over_after_its_lease(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entered = asyncio.Event()

        async def dies(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            if snapshot.version == 1:
                entered.set()
                await asyncio.Event().wait()
            return counts_to(3)(snapshot, item)  # type: ignore[return-value]

        a = Process(harness, backend, Scripted(dies), "a")
        b = Process(harness, await harness.reopen(), Scripted(counts_to(3)), "b")
        work_id = await a.client.enqueue("demo")
        session = await a.begin(entered)
        assert await b.work() == 0
        await a.crash(session)
        await harness.advance(b.lease_seconds / 2)
        assert await b.work() == 0  # the lease is not over
        await harness.advance(b.lease_seconds)
        await b.work()
        entries = await b.entries(work_id)
        check_sound(entries)
        assert await b.kinds(work_id) == ["enqueued", "claimed", "committed", "claimed", *["committed"] * 2]
        assert entries[3].control.interruptions == 1
        assert entries[-1].control.interruptions == 0
        check_done(await b.client.status(work_id), version=3)

    async def test_a_zombie_commit_is_refused_and_nothing_of_it_stays(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entered, thawed = asyncio.Event(), asyncio.Event()

        async def freezes(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await thawed.wait()
            return snapshot.finish(data={"by": "zombie"})

        a = Process(harness, backend, Scripted(freezes), "a")
        b = Process(
            harness, await harness.reopen(), Scripted(lambda s, item: s.finish(data={"by": "b"})), "b"
        )
        work_id = await a.client.enqueue("demo", resources=("db",))
        zombie = await a.begin(entered)
        await harness.advance(2 * a.lease_seconds)
        await b.work()
        before = await b.entries(work_id)
        thawed.set()
        await soon(zombie)
        assert await b.entries(work_id) == before
        view = await b.client.status(work_id)
        check_done(view, version=1)
        assert view.snapshot is not None
        assert view.snapshot.data == {"by": "b"}
        assert await backend.claims.show() == []

    async def test_a_result_recorded_once_outlives_the_worker(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        charged, entered = list[str](), asyncio.Event()

        def charge() -> dict[str, Any]:
            charged.append("charge")
            return {"receipt": len(charged)}

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            receipt = await current_step().once("charge", charge)
            if not entered.is_set():
                entered.set()
                await asyncio.Event().wait()
            return snapshot.finish(data=receipt)

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo")
        await process.crash(await process.begin(entered))
        await harness.advance(2 * process.lease_seconds)
        await process.work()
        view = await process.client.status(work_id)
        assert view.snapshot is not None
        assert view.snapshot.data == {"receipt": 1}
        assert charged == ["charge"]

    async def test_a_lost_delivery_is_sent_again_by_a_sweeper(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        work_id = await process.client.enqueue("demo")
        await backend.queue.acknowledge(await process.receive())
        assert await process.work() == 0
        later = Process(harness, backend, Scripted(finishes), ahead_seconds=60.0)
        await harness.settle()
        assert await later.sweeper.sweep() == 1
        await later.work()
        check_done(await process.client.status(work_id), version=1)

    async def test_a_storage_that_fails_for_a_moment_only_delays(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Each call that a session makes after its claim fails once; an append after it was done.

        Nothing is done twice, no attempt is burned, and the lease is not given up for it.
        """

        async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            assert current_step().attempt == 1
            await current_step().once("effect", lambda: 1)
            blob = await backend.artifacts.put([b"%d" % snapshot.version])
            artifact = Artifact(name="a", digest=blob.digest, size_bytes=blob.size_bytes)
            after = counts_to(3)(snapshot, item)
            assert isinstance(after, Snapshot)
            return after.model_copy(update={"artifacts": [*after.artifacts, artifact]})

        flaky = Flaky(backend)
        process = Process(harness, flaky.backend, Scripted(step))
        process.parts = replace(process.parts, clock=Hasty(harness.clock))
        work_id = await process.client.enqueue("demo", resources=("db",))
        [delivery] = await process.receive()
        flaky.is_on = True
        await soon(process.session(delivery).run())
        flaky.is_on = False
        assert await process.kinds(work_id) == ["enqueued", "claimed", *["recorded", "committed"] * 3]
        check_sound(await process.entries(work_id))
        check_done(await process.client.status(work_id), version=3)
        assert await backend.claims.show() == []
        assert await process.receive() == []
        expected = {"append claimed", "append committed", "acquire", "artifact_size", "acknowledge"}
        assert expected <= flaky.failed

    # --- resources -----------------------------------------------------------

    async def test_a_held_resource_blocks_and_is_handed_over(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def holds(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await leave.wait()
            return snapshot.finish()

        a = Process(harness, backend, Scripted(holds), "a")
        b = Process(harness, await harness.reopen(), Scripted(finishes), "b")
        holder = await a.client.enqueue("demo", resources=("db", "disk"))
        session = await a.begin(entered)
        blocked = [await b.client.enqueue("demo", resources=("disk",)) for _ in range(2)]
        await b.work()
        assert [await b.state(work_id) for work_id in blocked] == [State.BLOCKED] * 2
        [view] = await b.backend.claims.show(resource="disk")
        assert [owner.work_id for owner in view.owners] == [holder]
        assert [waiter.work_id for waiter in view.waiters] == blocked
        leave.set()
        await soon(session)
        await b.work()  # the release has sent deliveries: no time passes
        for work_id in (holder, *blocked):
            check_done(await b.client.status(work_id), version=1)
        assert await b.backend.claims.show() == []

    async def test_a_dead_owner_is_evicted_before_its_claim_is_taken(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        entered = asyncio.Event()

        async def holds(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await asyncio.Event().wait()
            return snapshot

        a = Process(harness, backend, Scripted(holds, "holds"), "a")
        b = Process(harness, await harness.reopen(), Scripted(finishes), "b")
        dead = await a.client.enqueue("holds", resources=("db",))
        await a.crash(await a.begin(entered))
        waiting = await b.client.enqueue("demo", resources=("db",))
        await b.work()
        assert await b.state(waiting) is State.BLOCKED
        await harness.advance(2 * b.lease_seconds)
        later = Process(harness, backend, Scripted(finishes), "b", ahead_seconds=60.0)
        await harness.settle()
        await later.sweeper.sweep()
        await later.work()
        check_done(await b.client.status(waiting), version=1)
        assert Kind.EVICTED.value in await b.kinds(dead)
        assert await backend.claims.show() == []

    async def test_a_zombie_does_not_take_its_claim_back(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """It was paused between its claim and its acquire, while another took the work over."""
        reached, thawed, entered, leave = (asyncio.Event() for _ in range(4))

        async def pause(when: str, call: str, detail: str) -> None:
            if (when, call) == ("before", "acquire"):
                reached.set()
                await thawed.wait()

        async def holds(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            entered.set()
            await leave.wait()
            return snapshot.finish()

        a = Process(harness, InstrumentedBackend(backend, pause), Scripted(finishes), "a")
        b = Process(harness, await harness.reopen(), Scripted(holds), "b")
        work_id = await a.client.enqueue("demo", resources=("db",))
        zombie = await a.begin(reached)
        await harness.advance(2 * a.lease_seconds)
        session = await b.begin(entered)
        owners = [list(view.owners) for view in await backend.claims.show()]
        thawed.set()
        await soon(zombie)
        assert [list(view.owners) for view in await backend.claims.show()] == owners
        leave.set()
        await soon(session)
        assert await b.kinds(work_id) == ["enqueued", "claimed", "claimed", "committed"]
        assert not any(view.owners for view in await backend.claims.show())
