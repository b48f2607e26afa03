"""The roles of `roles.json` are given what their code calls: no action is missing, none is in vain.

Each role does here all that it does in life, on a stand-in; what the SDK's calls need is taken
note of and compared with what Terraform grants (it reads the same file). Fenced roles do it in a
namespace, and every key that they use is within their fence.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from roost.config import ApprovalSettings, AwsSettings, Settings, WorkspaceSettings
from roost.core import bundles
from roost.core.client import Client
from roost.core.finding import Found
from roost.core.moving import Move
from roost.core.where import parse
from roost.models import State
from roost.names import Order
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.names import Names, roles
from roost.testing.standins import StandIn
from roost.wiring import Runtime, open_runtime
from tests.infra import console_code, role_code
from tests.infra.actions import Fence, Recorder, Use, record
from tests.infra.role_code import act, enqueue, look
from tests.standins.harness import SHARDS, make_stack, point_sdk_at

pytestmark = pytest.mark.slow
LEASE_SECONDS = 4.0
OK, FOUND, FORBIDDEN = 200, 302, 403
SHUT_TO = {"console_viewer": {"/conversations", "/api/v1/conversations"}}  # they are named by digests
TEAM = "team"
STAYS = {State.QUEUED, State.SCHEDULED, State.PAUSED}  # of what no worker has an engine for, and schedules
FAR_TICKS = 1  # schedules that wait for their next tick, and for a signal that changes them
_numbers = count(1)

Code = Callable[[Runtime], Awaitable[None]]


class World:
    """A stack, and a runtime on it that is nobody's role: it prepares and looks."""

    def __init__(self, settings: Settings, names: Names) -> None:
        self._settings = settings
        self._names = names

    def settings(self, namespace: str = "") -> Settings:
        return self._settings.model_copy(update={"namespace": namespace})

    @asynccontextmanager
    async def runtime(self, namespace: str = "") -> AsyncIterator[Runtime]:
        async with open_runtime(self.settings(namespace)) as runtime:
            yield runtime

    @asynccontextmanager
    async def beside(self, namespace: str) -> AsyncIterator[tuple[Runtime, Recorder]]:
        """Another stack, whose calls are recorded."""
        made = await make_stack(f"{self._names.stack}-beside")
        settings = self.settings(namespace).model_copy(update={"storage": f"aws:{made.stack}", "aws": made})
        async with open_runtime(settings) as runtime:
            assert isinstance(runtime.backend, AwsBackend)
            assert made.bucket is not None
            recorder = Recorder(Names(made.stack, made.bucket, SHARDS))
            record(runtime.backend.aws.clients, recorder)
            yield runtime, recorder

    async def record(self, code: Code, namespace: str = "", fence: Fence | None = None) -> Recorder:
        """What some code needs, which the fence may refuse."""
        recorder = Recorder(self._names, fence)
        async with self.runtime(namespace) as runtime:
            assert isinstance(runtime.backend, AwsBackend)
            record(runtime.backend.aws.clients, recorder)
            await code(runtime)
        return recorder


@pytest.fixture
async def world(ministack: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    point_sdk_at(ministack, monkeypatch)
    made = await make_stack(f"roles{next(_numbers)}")
    assert made.bucket is not None
    settings = Settings(
        storage=f"aws:{made.stack}",
        aws=AwsSettings(stack=made.stack, bucket=made.bucket, shards=SHARDS),
        approvals=ApprovalSettings(signing_secret="not much of a secret, but long enough"),
        lease_seconds=LEASE_SECONDS,
        workspace=WorkspaceSettings(root=tmp_path / "workspaces", save=True),
        testing=True,
        clock_offset_seconds=ministack.ahead_seconds,
    )
    monkeypatch.setattr("roost.storage.aws.expiry.DAYS_MAX", 4)
    monkeypatch.setattr("roost.core.sweeper.EXPIRE_SECONDS", 0.3)
    return World(settings, Names(made.stack, made.bucket, SHARDS))


def check(role: str, recorder: Recorder) -> None:
    """Compare what a role uses with what it is given; a message says what to change."""
    used, given = recorder.used, given_to(role)
    unseen = {(part, action) for part, action in given if f"{action} on {part}" in roles()["unseen"]}
    lacking, in_vain = sorted(used - given), sorted(given - used - unseen)
    assert not lacking, f"{role} lacks {lacking}"
    assert not in_vain, f"{role} has in vain {in_vain}"


def given_to(role: str) -> set[Use]:
    return {(part, action) for part, actions in roles()["roles"][role].items() for action in actions}


def check_fence(role: str, recorder: Recorder) -> None:
    """Compare the keys that a role uses with its fence."""
    file, fence = roles(), Fence(role, TEAM)
    for part, action, key in sorted(recorder.keys):
        if part in file["fenced"] and action not in file["never_fenced"]:
            assert fence.has(part, action, key), f"{role}: {action} on {part} with the key {key}"
    wholly = {
        prefix for prefix in fence.own if not any(key.startswith(prefix) for _, _, key in recorder.keys)
    }
    assert not wholly, f"{role} is let in at {wholly} in vain"


# --- the roles ---------------------------------------------------------------


async def test_an_enqueuer_has_what_it_needs(world: World) -> None:
    await check_enqueuer(world, "", lambda recorder: check("enqueuer", recorder))


async def test_a_fenced_enqueuer_stays_within_its_fence(world: World) -> None:
    await check_enqueuer(world, TEAM, lambda recorder: check_fence("enqueuer", recorder))


async def check_enqueuer(world: World, namespace: str, checks: Callable[[Recorder], None]) -> None:
    async with world.runtime(namespace) as outside:
        running = await role_code.prepare_running(outside, "talk")

        async def code(runtime: Runtime) -> None:
            await enqueue(runtime)
            await role_code.converse(runtime, "talk")

        recorder = await world.record(code, namespace)
        await outside.client.cancel(running, "enough")
    checks(recorder)


@pytest.mark.soak
async def test_a_worker_has_what_it_needs(world: World) -> None:
    """Two that work and sweep: claims and lines for them, blobs, deliveries of no work, expiry,
    workspaces that are kept and restored, and ticks of schedules."""
    async with world.runtime() as outside:
        await role_code.prepare_work(outside)

        async def is_over() -> bool:
            counts = await outside.backend.index.counts()
            left = {state for state, number in counts.items() if number}
            return left <= {*STAYS, State.WAITING} and counts[State.WAITING] == FAR_TICKS

        check("worker", await world.record(lambda runtime: role_code.both_work(runtime, is_over)))
        assert await role_code.ticks(outside.client) >= 1


async def test_a_sweeper_has_what_it_needs(world: World) -> None:
    """Lost deliveries, cancelled sleepers, deadlines, undone outboxes, and what has expired."""
    async with world.runtime() as outside:
        lost = await role_code.prepare_sweep(outside)
        check("sweeper", await world.record(role_code.sweep))
        assert (await outside.client.status(lost)).control.state is State.QUEUED


@pytest.mark.soak
async def test_a_console_that_only_looks_has_what_it_needs(world: World, tmp_path: Path) -> None:
    """The command line, `roost export`, and each page of the console and read of its API."""
    async with world.runtime() as outside:
        work_id = await role_code.prepare_done(outside)
        places = await role_code.prepare_places(outside, work_id)
    answers: dict[str, int] = {}

    async def code(runtime: Runtime) -> None:
        await look(runtime, work_id)
        await bundles.save(runtime.client, runtime.backend, [work_id], tmp_path / "bundle")
        answers.update(await console_code.visit(runtime, world.settings(), places, but=console_code.DOCTOR))

    check("console_viewer", await world.record(code))
    assert {*answers.values()} == {OK, FOUND}, answers


@pytest.mark.soak
@pytest.mark.parametrize("role", ["console_viewer", "console_operator"])
async def test_the_console_of_a_team_works_within_its_fence(world: World, role: str) -> None:
    """What it may not read is refused here as AWS would; its pages show what they can, or say so."""
    async with world.runtime(TEAM) as outside:
        work_id = await role_code.prepare_done(outside)
        places = await role_code.prepare_places(outside, work_id)
    answers: dict[str, int] = {}

    async def code(runtime: Runtime) -> None:
        answers.update(
            await console_code.visit(runtime, world.settings(TEAM), places, but=console_code.DOCTOR)
        )

    recorder = await world.record(code, TEAM, Fence(role, TEAM))
    assert recorder.refused == {
        ("journal", "dynamodb:DescribeTable"),  # of the feed, where it begins
        ("claims", "dynamodb:Scan"),
        *({("index/state", "dynamodb:Query")} if role in SHUT_TO else ()),
    }
    told = {path for path, status in answers.items() if status == FORBIDDEN}
    assert told == ({"/api/v1/resources"} | SHUT_TO.get(role, set()))
    assert {*answers.values()} == {OK, FOUND, FORBIDDEN}, answers


@pytest.mark.soak
async def test_a_fenced_console_lists_its_own_work_by_what_is_due(world: World) -> None:
    """What is due is kept of all namespaces, so it is refused; its newest work is sorted instead."""
    async with world.runtime(TEAM) as outside:
        ids = [await outside.client.enqueue("demo", {}, delay_seconds=seconds) for seconds in (3000, 2000)]
    found: list[Found] = []

    async def code(runtime: Runtime) -> None:
        found.append(await runtime.client.find(parse("engine:demo", 0.0).sorted(Order.DUE)))

    recorder = await world.record(code, TEAM, Fence("console_viewer", TEAM))
    assert recorder.refused == {("index/due", "dynamodb:Query")}
    listed = [row.work_id for row in found[0].rows]
    assert [work_id for work_id in listed if work_id in ids] == ids[::-1]
    assert not found[0].is_cut


@pytest.mark.soak
async def test_a_console_that_acts_has_what_it_needs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, called = set(calls_of_client()), watch_client(monkeypatch)
    recorder = await operate(world, "")
    check("console_operator", recorder)
    assert called == calls


@pytest.mark.soak
async def test_a_move_needs_an_operators_rights_on_both_stacks(world: World) -> None:
    async with world.runtime(TEAM) as outside:
        await role_code.prepare_move(outside)
    async with world.beside(TEAM) as (there, theirs):

        async def code(here: Runtime) -> None:
            moved = await Move(here.parts, there.parts, TEAM, "beside").run(wait_seconds=5.0)
            assert moved.blobs >= 1
            assert moved.resumed >= 1

        for recorder in (await world.record(code, TEAM), theirs):
            assert recorder.used <= given_to("console_operator")


@pytest.mark.soak
async def test_fenced_consoles_stay_within_their_fence(world: World) -> None:
    check_fence("console_operator", await operate(world, TEAM))
    async with world.runtime(TEAM) as outside:
        work_id = await role_code.prepare_done(outside)
    viewer = await world.record(lambda runtime: look(runtime, work_id, TEAM), TEAM)
    check_fence("console_viewer", viewer)


async def operate(world: World, namespace: str) -> Recorder:
    """What an operator's console needs."""
    async with world.runtime(namespace) as outside:
        ended, work_id = [await role_code.prepare_done(outside) for _ in range(2)]
        await role_code.prepare_claims(outside, work_id)
        token = await role_code.prepare_approval(outside)
        running = await role_code.prepare_running(outside, "talk")

    async def code(runtime: Runtime) -> None:
        letters = await runtime.client.dead_letters()
        assert letters
        await look(runtime, work_id, namespace)
        await runtime.client.approve(token, {"approved": True})
        await act(runtime, work_id, ended, letters)
        if not namespace:
            await role_code.switch(runtime.client)
        await enqueue(runtime)
        await role_code.converse(runtime, "talk")
        await console_code.write(runtime, world.settings(namespace))
        await runtime.client.cancel(running, "enough")

    return await world.record(code, namespace)


def watch_client(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which of a client's methods were called; so a new one can't be left out here."""
    called: set[str] = set()

    def watched(name: str, method: Any) -> Any:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return method(*args, **kwargs)

        return call

    for name, method in calls_of_client().items():
        monkeypatch.setattr(Client, name, watched(name, method))
    return called


def calls_of_client() -> dict[str, Any]:
    """All that a client can be asked to do on the storage."""
    return {
        name: method
        for name, method in inspect.getmembers(Client, inspect.isfunction)
        if not name.startswith("_")
        and (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method))
    }


# --- the file ----------------------------------------------------------------


def test_a_reason_is_given_for_every_grant_that_no_call_shows() -> None:
    grants = {
        f"{action} on {part}"
        for parts in roles()["roles"].values()
        for part, actions in parts.items()
        for action in actions
    }
    for grant, reason in roles()["unseen"].items():
        assert grant in grants
        assert len(reason) > 20
