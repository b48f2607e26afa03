"""Several versions of one engine: which goes on from what, migration, and work that nobody can run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from roost.engine import EngineRegistry, RetryPolicy
from roost.errors import EngineContractError
from roost.journal.decide import NO_ENGINE_DELAY_SECONDS, NO_ENGINE_LONGEST_SECONDS
from roost.journal.events import Claimed, Committed
from roost.models import Snapshot, State, WorkItem
from roost.storage.memory import MemoryBackend
from roost.testing.contract import ManualHarness
from roost.testing.contract.process import Hasty, Process, Scripted, finishes


class Harness(ManualHarness):
    async def open(self) -> MemoryBackend:
        return MemoryBackend(self.clock)

    async def reopen(self) -> MemoryBackend:
        raise NotImplementedError

    async def damage(self, digest: str) -> None:
        raise NotImplementedError


class Versioned:
    """An engine that writes down which version ran each step, and finishes after `until`."""

    engine_id = "demo"
    retry = RetryPolicy(max_attempts=2, first_delay_seconds=0.0)

    def __init__(self, version: str | None, *, until: int = 9) -> None:
        self.engine_version = version
        self._until = until

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"ran": [], "shape": self.engine_version})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        assert snapshot.data["shape"] == self.engine_version
        data = {"ran": [*snapshot.data["ran"], self.engine_version]}
        return (
            snapshot.finish(data=data)
            if len(data["ran"]) == self._until
            else snapshot.next(data=data, delay=1)
        )


class Migrating(Versioned):
    """The same, which brings earlier snapshots into its own shape."""

    async def migrate(self, snapshot: Snapshot) -> Snapshot:
        snapshot.data["shape"] = self.engine_version
        snapshot.data["ran"] = [*snapshot.data["ran"], f"from {snapshot.engine_version}"]
        return snapshot


class Fleet:
    """Worker processes with different engines, on one memory backend."""

    def __init__(self) -> None:
        self.harness = Harness()
        self.backend = MemoryBackend(self.harness.clock)

    def process(self, *engines: Any) -> Process:
        process = Process(self.harness, self.backend, Scripted(finishes))
        process.engines = EngineRegistry(engines)
        process.parts = replace(process.parts, clock=Hasty(self.harness.clock))
        return process

    async def step(self, process: Process) -> None:
        """Let a process have the next delivery."""
        await self.harness.advance(1.0)
        [delivery] = await process.receive()
        await process.session(delivery).run()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


# --- registry --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "made_by", "runs"),
    [
        (["1"], "1", "1"),
        (["1", "2"], "1", "1"),
        (["1", "2"], "2", "2"),
        (["2"], "1", None),
        (["1"], "2", None),
        (["2+"], "1", "2"),
        (["1+"], "2", None),
        (["2", "3+", "4+"], "1", "4"),
        (["1.10+"], "1.9", "1.10"),
        (["1.9+"], "1.10", None),
        (["2026-01-02+"], "2025-12-31", "2026-01-02"),
        ([None], None, None),
        (["1"], None, "1"),
        ([None], "1", "nobody"),
    ],
)
def test_a_snapshot_goes_to_its_own_version_or_to_one_that_migrates_from_it(
    versions: list[str | None], made_by: str | None, runs: str | None
) -> None:
    engines = [
        Migrating(version[:-1]) if version and version.endswith("+") else Versioned(version)
        for version in versions
    ]
    spec = EngineRegistry(engines).get_for("demo", made_by)
    if runs == "nobody" or (runs is None and versions != [None]):
        assert spec is None
    else:
        assert spec is not None
        assert spec.engine_version == runs


def test_new_work_begins_with_the_newest_version() -> None:
    registry = EngineRegistry([Versioned("1.9"), Versioned("1.10"), Versioned(None)])
    spec = registry.get("demo")
    assert spec is not None
    assert spec.engine_version == "1.10"
    assert [spec.name for spec in registry] == ["demo 1.10", "demo 1.9", "demo"]


def test_two_engines_of_one_version_are_refused() -> None:
    with pytest.raises(EngineContractError, match="same version"):
        EngineRegistry([Versioned("1"), Versioned("1")])


@pytest.mark.parametrize("version", ["", 3, "x" * 101])
def test_version_that_is_no_short_text_is_refused(version: Any) -> None:
    with pytest.raises(EngineContractError, match="engine_version"):
        EngineRegistry([Versioned(version)])


def test_migrate_without_a_version_is_refused() -> None:
    with pytest.raises(EngineContractError, match="migrate"):
        EngineRegistry([Migrating(None)])


# --- steps -----------------------------------------------------------------------


async def test_versions_side_by_side_each_finish_what_they_began(fleet: Fleet) -> None:
    old, both = fleet.process(Versioned("1")), fleet.process(Versioned("1"), Versioned("2"))
    before = await old.client.enqueue("demo")
    await fleet.step(old)
    after = await both.client.enqueue("demo")
    for _ in range(10):
        await both.work()
        await fleet.harness.advance(1.0)
    for work_id, version in ((before, "1"), (after, "2")):
        view = await both.client.status(work_id)
        assert view.snapshot is not None
        assert view.control.state is State.DONE
        assert set(view.snapshot.data["ran"]) == {version}


async def test_every_entry_names_the_version_that_made_the_snapshot(fleet: Fleet) -> None:
    one, two = fleet.process(Versioned("1")), fleet.process(Migrating("2", until=9))
    work_id = await one.client.enqueue("demo")
    await fleet.step(one)
    await fleet.step(two)
    entries = await one.entries(work_id)
    assert [entry.control.engine_version for entry in entries] == [None, None, "1", "1", "2"]
    assert [e.event.engine_version for e in entries if isinstance(e.event, Claimed)] == ["1", "2"]
    assert [e.event.engine_version for e in entries if isinstance(e.event, Committed)] == ["1", "2"]
    assert (await one.client.snapshot(work_id, 1)).engine_version == "1"


async def test_snapshot_is_migrated_once_and_by_the_commit_of_its_step(fleet: Fleet) -> None:
    one, two = fleet.process(Versioned("1")), fleet.process(Migrating("2"))
    work_id = await one.client.enqueue("demo")
    await fleet.step(one)
    await fleet.step(two)
    await fleet.step(two)
    view = await two.client.status(work_id)
    assert view.snapshot is not None
    assert view.snapshot.data["ran"] == ["1", "from 1", "2", "2"]
    assert (await one.client.snapshot(work_id, 1)).data["ran"] == ["1"]


async def test_first_snapshot_of_its_own_is_not_migrated(fleet: Fleet) -> None:
    two = fleet.process(Migrating("2"))
    work_id = await two.client.enqueue("demo")
    await fleet.step(two)
    view = await two.client.status(work_id)
    assert view.snapshot is not None
    assert view.snapshot.data["ran"] == ["2"]


class Careless(Migrating):
    """Its migration gives back what it should not."""

    def __init__(self, gives: Any) -> None:
        super().__init__("2")
        self._gives = gives

    async def migrate(self, snapshot: Snapshot) -> Any:
        if isinstance(self._gives, Exception):
            raise self._gives
        return self._gives(snapshot)


@pytest.mark.parametrize(
    "gives",
    [
        lambda snapshot: None,
        lambda snapshot: snapshot.model_copy(update={"version": 7}),
        lambda snapshot: snapshot.model_copy(update={"work_id": "other"}),
    ],
)
async def test_migration_that_breaks_the_contract_fails_the_work(fleet: Fleet, gives: Any) -> None:
    one, two = fleet.process(Versioned("1")), fleet.process(Careless(gives))
    work_id = await one.client.enqueue("demo")
    await fleet.step(one)
    await fleet.step(two)
    tail = await two.tail(work_id)
    assert tail.control.state is State.FAILED
    assert "migrate" in tail.control.reason


async def test_migration_that_raises_is_a_failed_attempt(fleet: Fleet) -> None:
    one, two = fleet.process(Versioned("1")), fleet.process(Careless(ValueError("odd data")))
    work_id = await one.client.enqueue("demo")
    await fleet.step(one)
    await fleet.step(two)
    tail = await two.tail(work_id)
    assert (tail.control.state, tail.control.failures) == (State.SCHEDULED, 1)


# --- work that nobody can run ----------------------------------------------------


async def test_work_of_a_version_that_no_worker_has_waits_and_says_for_what(fleet: Fleet) -> None:
    """Nothing is written into its journal, no attempt is burned, and the right worker takes it up."""
    old, new = fleet.process(Versioned("1")), fleet.process(Versioned("2"))
    work_id = await new.client.enqueue("demo")
    await fleet.step(new)
    position = (await new.tail(work_id)).position
    await fleet.step(old)
    row = await old.backend.index.get(work_id)
    assert row is not None
    assert row.reason == "waits for a worker with engine demo 2, or one that migrates from it"
    assert (await old.tail(work_id)).position == position
    await fleet.harness.advance(NO_ENGINE_DELAY_SECONDS)
    await fleet.step(new)
    assert (await new.tail(work_id)).control.version == 2
    assert (await new.tail(work_id)).control.reason == ""


async def test_work_of_an_unknown_engine_is_looked_at_less_and_less_often(fleet: Fleet) -> None:
    process = fleet.process(Versioned("1"))
    work_id = await process.client.enqueue("other")
    looks = 0
    for _ in range(3600):
        await fleet.harness.advance(1.0)
        looks += await process.work()
    assert 3600 / NO_ENGINE_LONGEST_SECONDS <= looks <= 3600 / NO_ENGINE_LONGEST_SECONDS + 20
    row = await process.backend.index.get(work_id)
    assert row is not None
    assert row.reason == "waits for a worker with engine other"
