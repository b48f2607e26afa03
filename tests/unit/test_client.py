"""What a program asks from outside: every input checked, everything idempotent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest
from pydantic import BaseModel

from roost.clock import SystemIds
from roost.core.bulk import Action, How
from roost.core.client import Client
from roost.core.new_work import NewWork
from roost.core.parts import Parts
from roost.engine import EngineRegistry
from roost.errors import (
    ConflictError,
    EnqueueConflict,
    IdentifierError,
    InputError,
    PayloadError,
    RoostError,
    StorageUnavailable,
    WorkNotFound,
)
from roost.journal.entries import Entry
from roost.journal.events import Cancelled, Claimed, Enqueued, Signaled
from roost.models import Lane, Snapshot, State, WorkItem
from roost.storage.memory import MemoryBackend
from roost.storage.query import IndexQuery
from roost.testing.clock import ManualClock
from roost.testing.contract.harness import follow

DAY = 86400.0


class Checked:
    """An engine that knows what its payloads look like."""

    engine_id = "checked"

    class payload_model(BaseModel):
        url: str
        count: int = 1

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.finish()


@pytest.fixture
async def backend() -> MemoryBackend:
    return MemoryBackend(ManualClock(), inline_max_bytes=4096)


@pytest.fixture
async def client(backend: MemoryBackend) -> Client:
    parts = Parts(backend, backend.queue._clock, SystemIds())
    return Client(parts, engines=EngineRegistry([Checked()]), actor="tester")


async def deliveries(backend: MemoryBackend) -> list[tuple[str, int, Lane]]:
    taken = await backend.queue.receive(100, visibility_seconds=1, wait_seconds=0, lanes=list(Lane))
    return [(delivery.work_id, delivery.cause, delivery.lane) for delivery in taken]


async def is_empty(backend: MemoryBackend) -> bool:
    page = await backend.journal.feed(None)
    return not page.entries and not await deliveries(backend) and not await backend.index.counts()


class TestEnqueue:
    async def test_all_that_was_given_is_kept(self, client: Client, backend: MemoryBackend) -> None:
        now = backend.queue._clock.now()
        work_id = await client.enqueue(
            "demo",
            {"a": [1, "ü"]},
            resources=("db", "disk", "db"),
            priority=5,
            deadline_at=now + DAY,
            work_id="mine",
        )
        view = await client.status(work_id)
        assert view.item == WorkItem(
            work_id="mine",
            engine="demo",
            payload={"a": [1, "ü"]},
            priority=5,
            resources=("db", "disk"),
            created_at=now,
            deadline_at=now + DAY,
        )
        assert (view.control.state, view.control.lane, view.snapshot) == (State.QUEUED, Lane.HIGH, None)
        assert view.row is not None
        assert await deliveries(backend) == [("mine", 0, Lane.HIGH)]

    async def test_the_control_state_alone_is_one_read(
        self, client: Client, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work_id = await client.enqueue("demo")
        monkeypatch.delattr(type(backend.journal), "get")
        monkeypatch.delattr(type(backend.index), "get")
        assert (await client.control(work_id)).state is State.QUEUED
        with pytest.raises(WorkNotFound):
            await client.control("nobody")

    async def test_a_delay_schedules(self, client: Client, backend: MemoryBackend) -> None:
        soon = await client.enqueue("demo", delay_seconds=10.0)
        late = await client.enqueue("demo", delay_seconds=DAY)
        now = backend.queue._clock.now()
        for work_id, delay in ((soon, 10), (late, DAY)):
            control = (await client.status(work_id)).control
            assert (control.state, control.wake_at) == (State.SCHEDULED, now + delay)
        assert await deliveries(backend) == []
        backend.queue._clock.advance(2 * DAY)  # type: ignore[attr-defined]
        assert await deliveries(backend) == [(soon, 0, Lane.NORMAL)]  # the other is the due index's

    @pytest.mark.parametrize(
        ("field", "bad", "error"),
        [
            ("engine", "", IdentifierError),
            ("engine", "a b", IdentifierError),
            ("engine", "x" * 129, IdentifierError),
            ("engine", "a\n", IdentifierError),
            ("work_id", "", IdentifierError),
            ("work_id", "a/b", IdentifierError),
            ("work_id", "ü", IdentifierError),
            ("work_id", "x" * 129, IdentifierError),
            ("work_id", "w\n", IdentifierError),
            ("idempotency_key", "", IdentifierError),
            ("idempotency_key", "a\x00b", IdentifierError),
            ("idempotency_key", "x" * 1025, IdentifierError),
            ("idempotency_key", "\ud800", IdentifierError),
            ("resources", ("",), IdentifierError),
            ("resources", "domain:example.com", InputError),  # would be its letters
            ("resources", ("ok", "a\nb"), IdentifierError),
            ("resources", ("é" * 513,), IdentifierError),
            ("resources", tuple(f"r{number}" for number in range(33)), InputError),
            ("payload", [1], PayloadError),
            ("payload", "text", PayloadError),
            ("payload", {"a": math.nan}, PayloadError),
            ("payload", {"a": {1, 2}}, PayloadError),
            ("payload", {1: 1}, PayloadError),
            ("payload", {"a": "\ud800"}, PayloadError),
            ("payload", {"a": "x" * (1 << 20)}, PayloadError),
            ("delay_seconds", -1.0, InputError),
            ("delay_seconds", math.nan, InputError),
            ("delay_seconds", math.inf, InputError),
            ("delay_seconds", 11 * 366 * DAY, InputError),
            ("deadline_at", 1.0, InputError),
            ("deadline_at", math.nan, InputError),
            ("deadline_at", math.inf, InputError),
            ("deadline_at", 1.8e12, InputError),  # milliseconds; no calendar shows it
            ("priority", 1001, InputError),
            ("priority", -(10**30), InputError),
            pytest.param("priority", 10**5000, InputError, id="no text has it"),
            ("priority", 0.5, InputError),
        ],
        ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
    )
    async def test_what_can_not_be_taken_is_refused_and_nothing_is_stored(
        self, client: Client, backend: MemoryBackend, field: str, bad: Any, error: type[RoostError]
    ) -> None:
        good: dict[str, Any] = {"engine": "demo", "payload": {}}
        works = [NewWork(**good), NewWork(**{**good, field: bad}), NewWork(**good)]
        with pytest.raises(error):
            await client.enqueue_many(works)
        assert await is_empty(backend)

    @pytest.mark.parametrize("bad", [[], "", 0, False])
    async def test_a_payload_that_is_no_object_is_refused_though_there_is_nothing_in_it(
        self, client: Client, backend: MemoryBackend, bad: Any
    ) -> None:
        with pytest.raises(PayloadError, match="not a JSON object"):
            await client.enqueue("demo", bad)
        assert await is_empty(backend)

    async def test_the_longest_of_everything_is_taken(self, client: Client) -> None:
        await client.enqueue(
            "x" * 128,
            {"a": "x" * ((1 << 20) - 8)},
            work_id="A-Za-z0-9._:-" + "x" * 115,
            resources=tuple(f"{number:02}" + "é" * 511 for number in range(32)),
        )
        await client.enqueue("demo", idempotency_key="\N{SNOWMAN}" * 341, delay_seconds=10 * 366 * DAY)

    async def test_a_payload_is_checked_where_its_engine_is_here(
        self, client: Client, backend: MemoryBackend
    ) -> None:
        with pytest.raises(PayloadError, match="url: Field required") as caught:
            await client.enqueue("checked", {"count": 2})
        assert caught.value.hint == "Its fields: url, count (may be left out)."
        assert await is_empty(backend)
        await client.enqueue("checked", {"url": "x"})
        await client.enqueue("unknown", {"anything": 1})

    async def test_a_secret_in_a_refused_payload_is_not_repeated(self, client: Client) -> None:
        with pytest.raises(PayloadError) as caught:
            await client.enqueue("checked", {"url": {"password": "hunter2"}})
        assert "hunter2" not in str(caught.value)


class TestIdempotency:
    async def test_the_same_key_gives_the_same_work_once(
        self, client: Client, backend: MemoryBackend
    ) -> None:
        work_ids = {await client.enqueue("demo", {"a": 1, "b": 2}, idempotency_key="k") for _ in range(3)}
        work_ids.add(await client.enqueue("demo", {"b": 2, "a": 1}, idempotency_key="k"))
        [work_id] = work_ids
        assert await deliveries(backend) == [(work_id, 0, Lane.NORMAL)]
        assert (await client.status(work_id)).item.idempotency_key == "k"

    async def test_a_key_is_the_engines_own(self, client: Client) -> None:
        pairs = [("a", "k"), ("b", "k"), ("a", "k2"), ("a", 'k","x'), ("a", "K")]
        work_ids = [await client.enqueue(engine, idempotency_key=key) for engine, key in pairs]
        assert len(set(work_ids)) == len(pairs)

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"payload": {"n": 2}}, "payload"),
            ({"payload": {"n": 1.5}}, "payload"),
            ({"resources": ("db",)}, "resources"),
            ({"priority": 1}, "priority"),
        ],
    )
    @pytest.mark.parametrize("given", [{"idempotency_key": "k"}, {"work_id": "w"}], ids=["key", "id"])
    async def test_other_content_under_the_same_name_is_a_conflict(
        self,
        client: Client,
        backend: MemoryBackend,
        given: dict[str, Any],
        changed: dict[str, Any],
        named: str,
    ) -> None:
        plain = {"payload": {"n": 1}, **given}
        work_id = await client.enqueue("demo", **plain)
        with pytest.raises(EnqueueConflict, match=f"another {named}") as caught:
            await client.enqueue("demo", **{**plain, **changed})
        assert caught.value.work_id == work_id
        assert (await client.status(work_id)).item.payload == {"n": 1}
        assert len(await deliveries(backend)) == 1

    async def test_another_engine_under_the_same_id_is_a_conflict(self, client: Client) -> None:
        await client.enqueue("demo", work_id="w")
        with pytest.raises(EnqueueConflict, match="another engine"):
            await client.enqueue("other", work_id="w")

    async def test_one_conflict_among_many_stores_the_others(
        self, client: Client, backend: MemoryBackend
    ) -> None:
        await client.enqueue("demo", {"n": 1}, work_id="b")
        await deliveries(backend)
        works = [NewWork("demo", {"n": 2}, work_id=name) for name in "abc"]
        with pytest.raises(EnqueueConflict):
            await client.enqueue_many(works)
        assert [name for name, _, _ in await deliveries(backend)] == ["a", "c"]

    async def test_one_conflict_among_more_than_are_stored_together(
        self, client: Client, backend: MemoryBackend
    ) -> None:
        names = [f"w{number:03}" for number in range(600)]
        await client.enqueue("demo", {"n": 1}, work_id="w300")
        with pytest.raises(EnqueueConflict) as caught:
            await client.enqueue_many([NewWork("demo", {"n": 2}, work_id=name) for name in names])
        assert caught.value.work_id == "w300"
        assert [entry.work_id for entry in (await backend.journal.feed(None, limit=999)).entries] == [
            "w300",
            *(name for name in names if name != "w300"),
        ]
        again = [NewWork("demo", {"n": 1 if name == "w300" else 2}, work_id=name) for name in names]
        assert await client.enqueue_many(again) == names

    async def test_one_key_given_twice_in_one_call_is_one_work_item(
        self, client: Client, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The journal is given entries of different work items only, as its port asks."""
        append_many, given = backend.journal.append_many, []

        async def watch(entries: Sequence[Entry]) -> Sequence[Entry]:
            given.extend(entries)
            return await append_many(entries)

        monkeypatch.setattr(backend.journal, "append_many", watch)
        works = [NewWork("demo", {}, idempotency_key=key) for key in "aba"]
        a, b, again = await client.enqueue_many(works)
        assert (a, [entry.work_id for entry in given]) == (again, [a, b])
        with pytest.raises(EnqueueConflict):
            await client.enqueue_many([NewWork("demo", {"n": n}, idempotency_key="c") for n in (1, 2)])
        assert len(await deliveries(backend)) == 3

    async def test_storage_that_fails_midway_is_one_error_and_leaves_nothing_under_way(
        self, client: Client, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = 0

        async def fail(entries: object) -> NoReturn:
            nonlocal calls
            calls += 1
            raise StorageUnavailable("away")

        monkeypatch.setattr(backend.journal, "append_many", fail)
        with pytest.raises(StorageUnavailable, match="away"):
            await client.enqueue_many([NewWork("demo", {})] * 2000)
        assert 1 <= calls <= 2
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_an_id_and_a_key_can_not_both_be_given(self, client: Client) -> None:
        with pytest.raises(InputError, match="both"):
            await client.enqueue("demo", work_id="w", idempotency_key="k")

    async def test_many_at_once_give_one(self, client: Client, backend: MemoryBackend) -> None:
        work_ids = await asyncio.gather(*(client.enqueue("demo", work_id="w") for _ in range(20)))
        assert set(work_ids) == {"w"}
        assert len(await deliveries(backend)) == 1


class TestNamespaces:
    @pytest.fixture
    def team(self, backend: MemoryBackend, client: Client) -> Client:
        return Client(client._parts, namespace="team")

    async def test_ids_without_a_namespace_are_of_the_clients_own(self, client: Client, team: Client) -> None:
        for given in ({}, {"work_id": "w"}, {"work_id": "team/v"}, {"idempotency_key": "k"}):
            work_id = await team.enqueue("demo", **given)
            assert work_id.startswith("team/")
            plain = work_id.removeprefix("team/")
            for known in (work_id, plain):
                assert (await team.status(known)).item.work_id == work_id
                assert len([entry async for entry in team.events(known)]) == 1
            assert (await client.status(work_id)).item.work_id == work_id  # whoever names it, finds it
            with pytest.raises(WorkNotFound):
                await client.status(plain)
        await team.cancel("w", "enough")
        assert (await team.status("w")).control.cancel_requested

    async def test_each_lists_its_own(self, client: Client, team: Client) -> None:
        ids = [await a_client.enqueue("demo", work_id="w") for a_client in (client, team)]
        for a_client, work_id in zip((client, team), ids, strict=True):
            assert [row.work_id for row in (await a_client.list(IndexQuery())).rows] == [work_id]
            assert [row.work_id for row in (await a_client.list(IndexQuery(id_prefix="w"))).rows] == [work_id]
            assert [entry.work_id for entry in (await a_client.feed(None)).entries] == [work_id]

    async def test_the_newest_events_of_each_are_not_taken_up_by_the_other(
        self, client: Client, team: Client
    ) -> None:
        await team.enqueue_many([NewWork("demo", {}, work_id=f"quiet{n}") for n in range(3)])
        await client.enqueue_many([NewWork("demo", {}, work_id=f"busy{n}") for n in range(30)])
        page = await team.feed(None, limit=2, newest=True)
        assert [entry.work_id for entry in page.entries] == ["team/quiet1", "team/quiet2"]
        assert (await team.feed(page.cursor)).entries == []

    async def test_pages_of_others_events_are_passed_over(self, client: Client, team: Client) -> None:
        await client.enqueue_many([NewWork("demo", {}, work_id=f"busy{n}") for n in range(30)])
        await team.enqueue("demo", work_id="late")
        page = await team.feed(None, limit=2)
        assert [entry.work_id for entry in page.entries] == ["team/late"]

    @pytest.mark.parametrize("work_id", ["other/w", "team/w/x", "Team/w", "/w", "team/"])
    async def test_an_id_of_another_namespace_is_refused(
        self, team: Client, backend: MemoryBackend, work_id: str
    ) -> None:
        with pytest.raises(IdentifierError):
            await team.enqueue("demo", work_id=work_id)
        assert await is_empty(backend)

    def test_a_namespace_has_a_form(self, client: Client) -> None:
        for namespace in ("Team", "a/b", "a" * 64, "a b", "ä"):
            with pytest.raises(IdentifierError):
                Client(client._parts, namespace=namespace)


class TestLooking:
    async def test_what_is_not_there_is_not_found(self, client: Client) -> None:
        for call in (
            client.status("nobody"),
            client.history("nobody"),
            client.snapshot("nobody", 1),
            client.cancel("nobody", "x"),
            client.retry("nobody", "x"),
        ):
            with pytest.raises(WorkNotFound) as caught:
                await call
            assert caught.value.work_id == "nobody"
        with pytest.raises(WorkNotFound):
            await anext(aiter(client.events("nobody")))

    async def test_a_version_that_was_never_committed_is_named(self, client: Client) -> None:
        work_id = await client.enqueue("demo")
        assert await client.history(work_id) == []
        with pytest.raises(InputError, match="no version 0"):
            await client.snapshot(work_id, 0)

    async def test_who_looks_again_reads_what_is_new_and_nothing_else(
        self, client: Client, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work_id = await client.enqueue("demo", {"n": 1})
        view, tail, get = await client.status(work_id), backend.journal.tail, backend.journal.get
        read: list[str] = []

        async def counted_tail(work_id: str) -> Entry | None:
            read.append("tail")
            return await tail(work_id)

        async def counted_get(work_id: str, position: int) -> Entry | None:
            read.append(f"get {position}")
            return await get(work_id, position)

        monkeypatch.setattr(backend.journal, "tail", counted_tail)
        monkeypatch.setattr(backend.journal, "get", counted_get)
        assert await client.control_after(work_id, view.control.position) is None
        assert read == []
        await client.signal(work_id, "go")
        read.clear()
        control = await client.control_after(work_id, view.control.position)
        assert control is not None
        assert control.position == view.control.position + 1
        assert read == ["tail"]
        again = await client.status(work_id, known=view)
        assert (again.item, again.control) == (view.item, control)
        assert read == ["tail", "tail"]

    async def test_events_come_in_pages_and_from_any_position(
        self, client: Client, backend: MemoryBackend
    ) -> None:
        work_id = await client.enqueue("demo")
        entry = await backend.journal.tail(work_id)
        assert entry is not None
        for number in range(450):
            entry = follow(entry, Signaled(f"s{number}", "go"))
            await backend.journal.append(entry)
        assert [e.position async for e in client.events(work_id)] == list(range(451))
        assert [e.position async for e in client.events(work_id, after=447)] == [448, 449, 450]

    async def test_lists_and_the_feed_are_those_of_the_backend(self, client: Client) -> None:
        work_ids = [await client.enqueue("demo") for _ in range(3)]
        page = await client.list(IndexQuery(engine="demo"), limit=2)
        assert [row.work_id for row in page.rows] == work_ids[:0:-1]
        feed = await client.feed(None)
        assert [entry.work_id for entry in feed.entries] == work_ids
        assert {entry.actor for entry in feed.entries} == {"tester"}
        assert isinstance(feed.entries[0].event, Enqueued)


class TestActing:
    async def test_cancel_asks_once_more_each_time_and_wakes_somebody(
        self, client: Client, backend: MemoryBackend
    ) -> None:
        work_id = await client.enqueue("demo", delay_seconds=DAY)
        await client.cancel(work_id, "x" * 600)
        tail = await backend.journal.tail(work_id)
        assert tail is not None
        assert tail.control.cancel_requested
        assert tail.control.reason == "x" * 500
        assert await deliveries(backend) == [(work_id, tail.position, Lane.NORMAL)]
        row = await backend.index.get(work_id)
        assert row is not None
        assert row.due_at is not None  # should that delivery be lost
        assert row.due_at < backend.queue._clock.now() + 60

    async def test_what_runs_is_told_by_its_journal_alone(
        self, client: Client, backend: MemoryBackend
    ) -> None:
        work_id = await client.enqueue("demo")
        await deliveries(backend)
        tail = await backend.journal.tail(work_id)
        assert tail is not None
        await backend.journal.append(follow(tail, Claimed("w", tail.at + 30)))
        await client.cancel(work_id, "enough")
        assert await deliveries(backend) == []
        tail = await backend.journal.tail(work_id)
        assert tail is not None
        assert (tail.control.state, tail.control.cancel_requested) == (State.RUNNING, True)

    async def test_retry_is_for_what_has_ended_and_cancel_for_what_has_not(
        self, client: Client, backend: MemoryBackend
    ) -> None:
        work_id = await client.enqueue("demo")
        with pytest.raises(ConflictError, match="is queued; it can't be retried"):
            await client.retry(work_id, "why not")
        tail = await backend.journal.tail(work_id)
        assert tail is not None
        await backend.journal.append(follow(tail, Cancelled("enough")), with_row=True)
        with pytest.raises(ConflictError, match="is cancelled; it can't be cancelled"):
            await client.cancel(work_id, "again")
        await deliveries(backend)
        await client.retry(work_id, "again")
        view = await client.status(work_id)
        assert (view.control.state, view.control.reason) == (State.QUEUED, "again")
        assert await deliveries(backend) == [(work_id, 2, Lane.NORMAL)]
        with pytest.raises(ConflictError, match="is queued"):
            await client.retry(work_id, "twice")

    async def test_a_race_with_a_worker_is_tried_again(self, client: Client, backend: MemoryBackend) -> None:
        work_id = await client.enqueue("demo")
        lost = 3
        append = backend.journal.append

        async def raced(entry: Any, **options: Any) -> Any:
            nonlocal lost
            if entry.actor == "tester" and lost:
                lost -= 1
                tail = await backend.journal.tail(work_id)
                assert tail is not None
                await append(follow(tail, Claimed("w", tail.at + 30), by=f"w{lost}"))
            return await append(entry, **options)

        backend.journal.append = raced  # type: ignore[method-assign]
        await client.cancel(work_id, "enough")
        tail = await backend.journal.tail(work_id)
        assert tail is not None
        assert (tail.position, tail.control.cancel_requested) == (4, True)

    async def test_many_retries_at_once_revive_once(self, client: Client, backend: MemoryBackend) -> None:
        work_id = await client.enqueue("demo")
        tail = await backend.journal.tail(work_id)
        assert tail is not None
        await backend.journal.append(follow(tail, Cancelled("enough")))
        answers = await asyncio.gather(
            *(client.retry(work_id, "again") for _ in range(5)), return_exceptions=True
        )
        assert sum(answer is None for answer in answers) == 1
        assert all(answer is None or isinstance(answer, ConflictError) for answer in answers)


@pytest.mark.parametrize(
    ("action", "how"),
    [
        (Action.PURGE, How(version=1)),
        (Action.CANCEL, How(for_seconds=1.0)),
        (Action.RETRY, How(by_seconds=1.0)),
        (Action.RESUME, How(for_seconds=1.0)),
    ],
)
def test_an_action_on_many_is_told_only_what_is_for_it(action: Action, how: How) -> None:
    with pytest.raises(InputError, match=f"is not for {action}"):
        how.check(action)


@pytest.mark.parametrize(
    "namespace", ["roost-switches", "roost-operators", "roost-keys", "roost-conversations"]
)
async def test_no_work_is_enqueued_among_the_journals_of_roost(
    backend: MemoryBackend, namespace: str
) -> None:
    """`all` in roost-switches would stand in the place of what is paused, for ever."""
    client = Client(Parts(backend, ManualClock(), SystemIds()), namespace=namespace)
    with pytest.raises(IdentifierError, match="Roost's own"):
        await client.enqueue("demo", work_id="all")
