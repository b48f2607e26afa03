"""Workspaces through steps: two hosts on one storage, and what is left when the work has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roost.clock import SystemClock
from roost.core.workspaces import KEPT_NAME, HostWorkspaces
from roost.engine import RetryPolicy, current_step
from roost.errors import FailWork
from roost.models import Snapshot, State, WorkItem
from roost.storage.memory import MemoryBackend
from roost.testing.contract import ManualHarness
from roost.testing.contract.process import Hasty, Process, Scripted
from roost.workspace import Origin, Workspaces

pytestmark = pytest.mark.slow


class Harness(ManualHarness):
    async def open(self) -> MemoryBackend:
        return MemoryBackend(self.clock)

    async def reopen(self) -> MemoryBackend:
        raise NotImplementedError

    async def damage(self, digest: str) -> None:
        raise NotImplementedError


class Hosts:
    """Processes of several hosts on one memory backend."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._harness = Harness()
        self._backend = MemoryBackend(self._harness.clock)

    def process(self, host: str, step: Callable[..., Any], **options: Any) -> Process:
        engine = Scripted(step, retry=RetryPolicy(max_attempts=2, first_delay_seconds=0.0))
        process = Process(self._harness, self._backend, engine, host)
        workspaces = Workspaces(self._folder / host, SystemClock())
        here = HostWorkspaces(workspaces, Origin(), **options)
        process.parts = replace(process.parts, clock=Hasty(self._harness.clock), workspaces=here)
        process.sweeper._parts = process.parts
        return process


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def writes(until: int) -> Callable[..., Any]:
    """A step that adds its version to a file of the workspace, and finishes at `until`."""

    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        path = await current_step().workspace()
        with (path / "notes").open("a") as file:
            file.write(f"{snapshot.version + 1}\n")
        return snapshot.finish() if snapshot.version + 1 == until else snapshot.next(delay=1.0)

    return step


def notes(process: Process, work_id: str) -> str:
    assert process.parts.workspaces is not None
    return (process.parts.workspaces.workspaces.path(work_id) / "notes").read_text()


async def one_session(process: Process) -> None:
    process.parts.clock.now()
    [delivery] = await process.receive()
    await process.session(delivery).run()


async def test_saved_workspace_goes_with_the_work_from_host_to_host(hosts: Hosts) -> None:
    one, two = (hosts.process(name, writes(4), saves=True, removes="never") for name in ("one", "two"))
    work_id = await one.client.enqueue("demo")
    for process in (one, two, one, two):
        await one_session(process)
        await hosts._harness.advance(1.0)
    assert notes(two, work_id) == "1\n2\n3\n4\n"
    view = await one.client.status(work_id)
    assert view.control.state is State.DONE
    assert [artifact.name for artifact in view.artifacts] == [KEPT_NAME]


async def test_workspace_that_is_not_saved_stays_on_its_host(hosts: Hosts) -> None:
    one = hosts.process("one", writes(2), removes="never")
    work_id = await one.client.enqueue("demo")
    await one_session(one)
    await hosts._harness.advance(1.0)
    await one_session(one)
    assert notes(one, work_id) == "1\n2\n"
    assert (await one.client.status(work_id)).artifacts == []


async def test_step_without_the_workspace_keeps_what_was_saved(hosts: Hosts) -> None:
    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.version == 0:
            path = await current_step().workspace()
            (path / "notes").write_text("first")
            return snapshot.next(delay=1.0)
        return snapshot.finish()

    one = hosts.process("one", step, saves=True)
    work_id = await one.client.enqueue("demo")
    await one_session(one)
    await hosts._harness.advance(1.0)
    await one_session(one)
    assert [artifact.name for artifact in (await one.client.status(work_id)).artifacts] == [KEPT_NAME]


@pytest.mark.parametrize(
    ("removes", "ends", "stays"),
    [
        ("done", "done", False),
        ("ended", "done", False),
        ("never", "done", True),
        ("done", "failed", True),
        ("ended", "failed", False),
        ("never", "failed", True),
    ],
)
async def test_workspace_is_removed_at_the_end_by_policy(
    hosts: Hosts, removes: str, ends: str, stays: bool
) -> None:
    async def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        await current_step().workspace()
        if ends == "failed":
            raise FailWork("no")
        return snapshot.finish()

    one = hosts.process("one", step, removes=removes)
    work_id = await one.client.enqueue("demo")
    await one_session(one)
    assert await one.state(work_id) == ends
    assert one.parts.workspaces is not None
    assert one.parts.workspaces.workspaces.path(work_id).exists() is stays


async def test_workspace_of_work_that_ended_elsewhere_is_tidied_up(hosts: Hosts) -> None:
    """The host that made it may learn of the end only by looking."""
    one, two = (hosts.process(name, writes(2), saves=True) for name in ("one", "two"))
    work_id = await one.client.enqueue("demo")
    await one_session(one)
    await hosts._harness.advance(1.0)
    assert one.parts.workspaces is not None
    path = one.parts.workspaces.workspaces.path(work_id)
    assert await one.sweeper.tidy() == 0
    assert path.exists()
    await one_session(two)
    await hosts._harness.advance(10_000.0)
    assert await one.sweeper.tidy() == 1
    assert not path.exists()


async def test_workspace_of_unknown_work_goes_only_once_it_is_old(hosts: Hosts) -> None:
    """It may be of work in another storage whose settings name the same folder."""
    one = hosts.process("one", writes(2), expired_seconds=3600.0)
    here = one.parts.workspaces
    assert here is not None
    await here.workspaces.open("foreign", Origin())
    touched_at = next(touched_at for _, touched_at in here.workspaces.left())
    assert await here.tidy_all(one.backend.journal, touched_at + 3599) == 0
    assert await here.tidy_all(one.backend.journal, touched_at + 3601) == 1


async def test_workspace_where_there_are_none_is_a_failed_attempt_that_says_so(hosts: Hosts) -> None:
    one = hosts.process("one", writes(1))
    one.parts = replace(one.parts, workspaces=None)
    work_id = await one.client.enqueue("demo")
    await one_session(one)
    assert "there are no workspaces here" in (await one.tail(work_id)).control.reason
