"""Health: a loop that is stuck makes the worker not live; storage that is away makes it not ready."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from roost.cli import health
from roost.core.client import Client
from roost.core.heartbeat import SILENCE_LEASES
from roost.core.parts import CoreSettings, Parts
from roost.core.pulse import Health, Pulse
from roost.core.worker import RECEIVE_SILENCE_SECONDS, Worker
from roost.engine import EngineRegistry
from roost.errors import SettingsError, StorageUnavailable
from roost.models import Snapshot, WorkItem
from roost.storage.instrument import InstrumentedBackend
from roost.storage.memory import MemoryBackend
from roost.testing.clock import ManualClock
from roost.testing.contract.process import Scripted, finishes
from roost.testing.virtual_time import SeededIds, VirtualClock, run

Hook = Callable[[str, str], Awaitable[None]]
SETTINGS = CoreSettings(lease_seconds=10.0, wait_seconds=5.0, concurrency=1)


async def hangs(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    """A step that never ends."""
    await asyncio.Event().wait()
    raise AssertionError


class World:
    """A worker on a memory backend with a hook, in virtual time."""

    def __init__(self, step: Callable[[Snapshot, WorkItem], Awaitable[Snapshot]] = finishes) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.hook: Hook | None = None
        backend = InstrumentedBackend(MemoryBackend(self.clock), self._call)
        self.parts = Parts(backend, self.clock, SeededIds(random.Random(1)), SETTINGS)
        self.client = Client(self.parts)
        self.worker = Worker(self.parts, EngineRegistry([Scripted(step)]), "w")

    async def _call(self, when: str, call: str, _: str) -> None:
        if self.hook is not None:
            await self.hook(when, call)

    def hang_in(self, name: str) -> None:
        async def hang(when: str, call: str) -> None:
            if (when, call) == ("before", name):
                await asyncio.Event().wait()

        self.hook = hang

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        task = asyncio.create_task(self.worker.run())
        try:
            await asyncio.sleep(1)
            yield self.worker
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def in_virtual_time(test: Callable[[TestWorker], Coroutine[Any, Any, None]]) -> Callable[[TestWorker], None]:
    def call(self: TestWorker) -> None:
        run(lambda: test(self))

    return call


class TestPulse:
    def test_silence_makes_it_stuck_and_a_beat_frees_it(self) -> None:
        clock = ManualClock()
        pulse = Pulse(clock, "loop", 10.0)
        clock.advance(100)
        assert not pulse.is_stuck
        pulse.beat()
        clock.advance(10)
        assert not pulse.is_stuck
        clock.advance(0.1)
        assert pulse.is_stuck
        pulse.beat()
        assert not pulse.is_stuck

    def test_nothing_is_expected_of_one_that_rests(self) -> None:
        clock = ManualClock()
        pulse = Pulse(clock, "loop", 10.0)
        pulse.beat()
        pulse.rest()
        clock.advance(1000)
        assert not pulse.is_stuck


class TestWorker:
    @in_virtual_time
    async def test_a_worker_with_nothing_to_do_stays_live_and_ready(self) -> None:
        async with World().running() as worker:
            for _ in range(3):
                await asyncio.sleep(RECEIVE_SILENCE_SECONDS)
                assert worker.health() == Health(True, True)

    @in_virtual_time
    async def test_it_is_not_ready_before_storage_has_answered(self) -> None:
        async with World().running() as worker:
            assert worker.health() == Health(True, False, "storage has not answered")

    @in_virtual_time
    async def test_a_poll_that_hangs_makes_it_not_live(self) -> None:
        world = World()
        world.hang_in("receive")
        async with world.running() as worker:
            await asyncio.sleep(SETTINGS.wait_seconds + RECEIVE_SILENCE_SECONDS - 5)
            assert worker.health().is_live
            await asyncio.sleep(10)
            assert worker.health() == Health(False, False, "stuck: poll")

    @in_virtual_time
    async def test_a_heartbeat_that_hangs_makes_it_not_live(self) -> None:
        world = World(hangs)
        await world.client.enqueue("demo")
        world.hang_in("extend")
        async with world.running() as worker:
            await asyncio.sleep(SILENCE_LEASES * SETTINGS.lease_seconds + 20)
            assert worker.health().is_live
            await asyncio.sleep(20)
            assert worker.health() == Health(False, False, "stuck: heartbeat")

    @in_virtual_time
    async def test_lanes_that_are_all_busy_are_no_fault(self) -> None:
        """The poll loop waits for its own steps then, for as long as they take."""
        world = World(hangs)
        await world.client.enqueue("demo")
        async with world.running() as worker:
            await asyncio.sleep(4 * RECEIVE_SILENCE_SECONDS)
            assert worker.health() == Health(True, True)

    @in_virtual_time
    async def test_storage_that_fails_makes_it_not_ready_but_live(self) -> None:
        world = World()

        async def fail(when: str, call: str) -> None:
            if call == "receive":
                raise StorageUnavailable("away")

        async with world.running() as worker:
            await asyncio.sleep(10)
            assert worker.health().is_ready
            world.hook = fail
            await asyncio.sleep(2 * RECEIVE_SILENCE_SECONDS)
            assert worker.health() == Health(True, False, "storage has not answered")

    @in_virtual_time
    async def test_a_worker_that_drains_takes_no_more_work(self) -> None:
        world = World(hangs)
        await world.client.enqueue("demo")
        async with world.running() as worker:
            await asyncio.sleep(SETTINGS.wait_seconds + 1)
            worker.drain()
            await asyncio.sleep(SETTINGS.grace_seconds / 2)
            assert worker.health() == Health(True, False, "draining")


class TestAskedToStop:
    @in_virtual_time
    async def test_it_gives_its_work_back_and_ends_and_nobody_asks_it_any_more(self) -> None:
        world = World(hangs)
        work_id = await world.client.enqueue("demo")
        running = asyncio.create_task(world.worker.run())
        await asyncio.sleep(SETTINGS.wait_seconds + 1)
        assert (await world.client.control(work_id)).lease is not None
        assert await world.client.drain_worker("w", "a bad host")
        assert not await world.client.drain_worker("w", "a bad host")
        [asked] = await world.client.switches()
        assert (asked.target, asked.reason) == ("worker:w", "a bad host")
        async with asyncio.timeout(2 * SETTINGS.sweep_seconds + SETTINGS.grace_seconds + 10):
            await running
        control = await world.client.control(work_id)
        assert (control.lease, control.failures, control.state) == (None, 0, "queued")
        assert not await world.client.switches()

    @in_virtual_time
    async def test_one_that_is_asked_no_more_stays(self) -> None:
        world = World(hangs)
        async with world.running() as worker:
            await world.client.drain_worker("another", "")
            await world.client.drain_worker("w", "")
            await world.client.keep_worker("w", "it was another")
            await asyncio.sleep(3 * SETTINGS.sweep_seconds)
            assert worker.health().is_ready


async def ask(port: int, request: bytes) -> tuple[int, dict[str, object] | None]:
    """Send a request as it is; the status, and the JSON body if there is one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body) if body else None


class TestPort:
    @pytest.mark.parametrize(
        ("path", "state", "status"),
        [
            (b"/live", Health(True, False, "draining"), 200),
            (b"/ready", Health(True, False, "draining"), 503),
            (b"/ready?from=probe", Health(True, True), 200),
            (b"/live", Health(False, False, "stuck: poll"), 503),
            (b"/", Health(True, True), 404),
        ],
    )
    async def test_probes_are_answered(self, path: bytes, state: Health, status: int) -> None:
        async with health.serve("127.0.0.1", 0, lambda: state) as port:
            given, document = await ask(port, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert given == status
        assert document is not None
        if status == 503:
            assert document == {"ok": False, "why": state.why}

    async def test_head_gets_no_body_and_post_is_refused(self) -> None:
        async with health.serve("127.0.0.1", 0, lambda: Health(True, True)) as port:
            assert await ask(port, b"HEAD /live HTTP/1.1\r\n\r\n") == (200, None)
            assert (await ask(port, b"POST /live HTTP/1.1\r\n\r\n"))[0] == 405

    @pytest.mark.parametrize("noise", [b"x" * 20_000, b"\x16\x03\x01\r\n", b""])
    async def test_noise_is_cut_off_and_others_are_answered(
        self, noise: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "_REQUEST_SECONDS", 0.01)
        async with health.serve("127.0.0.1", 0, lambda: Health(True, True)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(noise)
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            assert (await ask(port, b"GET /live HTTP/1.1\r\n\r\n"))[0] == 200

    async def test_a_port_that_is_taken_is_said(self) -> None:
        async with health.serve("127.0.0.1", 0, lambda: Health(True, True)) as port:
            with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
                async with health.serve("127.0.0.1", port, lambda: Health(True, True)):
                    pass
