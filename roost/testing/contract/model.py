"""The memory backend as model: the same random calls on both, and the same answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import structs

from roost.journal.control import InvalidTransition
from roost.journal.entries import Body, Encoding, Entry, IndexRow
from roost.journal.events import (
    Cancelled,
    CancelRequested,
    Claimed,
    Committed,
    Event,
    Evicted,
    Released,
    Retried,
    Signaled,
)
from roost.journal.projection import project
from roost.journal.values import Wait
from roost.models import Lane, State
from roost.names import Order
from roost.storage.ports import Backend, Delivery, Message, Renewal
from roost.storage.query import IndexQuery
from roost.testing.contract.claims_model import ClaimsMachine
from roost.testing.contract.harness import AT, BackendHarness, first, follow
from roost.testing.contract.machine import IDS, Machine, listed, work_ids

LANES = (Lane.HIGH, Lane.NORMAL, Lane.LOW)
_PAGES_MAX = 100

_instants = st.integers(0, 40).map(lambda seconds: AT + seconds)
_bodies = st.none() | st.binary(max_size=40).map(lambda data: Body(Encoding.JSON, data))
_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Claimed, st.sampled_from(["w1", "w2"]), _instants),
    st.builds(
        Committed,
        st.integers(1, 9),
        st.sampled_from(["s", "t"]),
        lease_until=st.none() | _instants,
        is_finished=st.booleans(),
        waits=st.none() | st.just(Wait(("go",))),
    ),
    st.just(Released("drain")),
    st.just(Evicted(1, "w1")),
    st.just(Signaled("s", "go")),
    st.just(CancelRequested("enough")),
    st.just(Cancelled("enough")),
    st.just(Retried("again")),
)


class JournalMachine(Machine):
    """Appends, retried appends and lost races; reads both ways; the feed."""

    def __init__(self, harness: BackendHarness) -> None:
        super().__init__(harness)
        self._known: dict[str, list[Entry]] = {work_id: [] for work_id in IDS}
        self._cursors: list[tuple[str | None, str | None]] = [(None, None)]
        self._number = 0

    def _next(self, work_id: str, before: int, event: Event, body: Body | None) -> Entry | None:
        """An entry after the one at `before`, by a writer that knows no later one."""
        self._number += 1
        by, entries = f"writer-{self._number}", self._known[work_id]
        if not entries:
            return first(work_id, by=by, at=AT + self._number)
        try:
            return follow(
                entries[min(before, len(entries) - 1)], event, by=by, at=AT + self._number, body=body
            )
        except InvalidTransition:
            return None

    def _stands(self, entry: Entry) -> None:
        entries = self._known[entry.work_id]
        if entry.position == len(entries):
            entries.append(entry)

    @rule(
        work_id=work_ids,
        back=st.sampled_from([0, 0, 0, 1, 2]),
        event=_events,
        body=_bodies,
        row=st.booleans(),
    )
    def append(self, work_id: str, back: int, event: Event, body: Body | None, row: bool) -> None:
        before = max(0, len(self._known[work_id]) - 1 - back)
        entry = self._next(work_id, before, event, body)
        if entry is not None:
            row = row and entry.control.lease is None
            self._stands(self.same(lambda backend: listed(backend.journal.append(entry, with_row=row)))[0])

    @rule(data=st.data(), work_id=work_ids)
    def append_again(self, data: st.DataObject, work_id: str) -> None:
        if self._known[work_id]:
            entry = data.draw(st.sampled_from(self._known[work_id]))
            assert self.same(lambda backend: listed(backend.journal.append(entry))) == [entry]

    @rule(work_ids=st.sets(work_ids), event=_events)
    def append_many(self, work_ids: set[str], event: Event) -> None:
        made = [self._next(work_id, 1 << 30, event, None) for work_id in sorted(work_ids)]
        entries = [entry for entry in made if entry is not None]
        for entry in self.same(lambda backend: listed(backend.journal.append_many(entries))):
            self._stands(entry)

    @rule(work_id=work_ids, position=st.integers(0, 9))
    def get(self, work_id: str, position: int) -> None:
        self.same(lambda backend: listed(backend.journal.get(work_id, position)))
        self.same(lambda backend: listed(backend.journal.tail(work_id)))

    @rule(work_id=work_ids, after=st.integers(-1, 9), limit=st.integers(1, 4), newest_first=st.booleans())
    def read(self, work_id: str, after: int, limit: int, newest_first: bool) -> None:
        self.same(
            lambda backend: listed(
                backend.journal.read(work_id, after=after, limit=limit, newest_first=newest_first)
            )
        )

    @precondition(lambda self: self.harness.feed_is_global)
    @rule(data=st.data(), limit=st.integers(1, 6), newest=st.booleans())
    def feed(self, data: st.DataObject, limit: int, newest: bool) -> None:
        self.wait(self.harness.settle())
        theirs, ours = data.draw(st.sampled_from(self._cursors))
        model = self.wait(self.model.journal.feed(theirs, limit=limit, newest=newest))
        real = self.wait(self.other.journal.feed(ours, limit=limit, newest=newest))
        assert list(real.entries) == list(model.entries)
        self._cursors.append((model.cursor, real.cursor))

    @rule(work_id=work_ids)
    def look_at_the_row(self, work_id: str) -> None:
        """Where the backend projects, the row is that of the tail; when to look next may lag."""
        entries = self._known[work_id]
        row = self.wait(self.other.index.get(work_id))
        if not entries:
            assert row is None
        elif self.backend.projects_on_append:
            assert row is not None
            expected = project(entries[-1])
            if row.state is State.RUNNING:
                expected = structs.replace(expected, due_at=row.due_at, lease_until=row.lease_until)
            assert row == expected
        else:
            assert row == self.wait(self.model.index.get(work_id))


class IndexMachine(Machine):
    """Rows newer and older, renewals, due rows, lists."""

    def __init__(self, harness: BackendHarness) -> None:
        super().__init__(harness)
        for number, work_id in enumerate(IDS):  # in the order of creation
            row = IndexRow(
                work_id, "demo", State.QUEUED, Lane.NORMAL, 0, 0, "", AT + number, AT, AT, due_at=AT + 5
            )
            self.same(lambda backend, row=row: backend.index.put(row))  # type: ignore[misc]

    def _row(self, work_id: str) -> IndexRow:
        row = self.wait(self.model.index.get(work_id))
        assert row is not None
        return row

    @rule(
        work_id=work_ids,
        ahead=st.integers(-2, 2),
        state=st.sampled_from(State),
        due_at=st.none() | _instants,
        lease_until=_instants,
        engine=st.sampled_from(["demo", "other"]),
        progress=st.none() | st.just((0.5, "half")),
    )
    def put(self, work_id: str, ahead: int, state: State, lease_until: float, **fields: Any) -> None:
        row = self._row(work_id)
        held = state is State.RUNNING
        row = structs.replace(
            row,
            position=max(0, row.position + ahead),
            state=state,
            token=3 if held else None,
            worker_id="w" if held else None,
            lease_until=lease_until if held else None,
            **fields,
        )
        self.same(lambda backend: backend.index.put(row))

    @rule(
        work_ids=st.lists(work_ids, unique=True),
        token=st.integers(2, 3),
        until=_instants,
        progress=st.none() | st.just((0.75, "more")),
    )
    def renew(
        self, work_ids: list[str], token: int, until: float, progress: tuple[float, str] | None
    ) -> None:
        renewals = [Renewal(work_id, token, until, until + 1, progress) for work_id in work_ids]
        self.same(lambda backend: listed(backend.index.renew(renewals)))

    @rule(work_id=work_ids, is_stale=st.booleans(), due_at=st.none() | _instants)
    def take_due(self, work_id: str, is_stale: bool, due_at: float | None) -> None:
        row = self._row(work_id)
        if is_stale:
            row = structs.replace(row, due_at=AT + 0.5)
        self.same(lambda backend: backend.index.take_due(row, due_at))

    @rule(now=_instants, limit=st.integers(1, 3))
    def due(self, now: float, limit: int) -> None:
        self.wait(self.harness.settle())
        seen: list[IndexRow] = []
        for _ in range(_PAGES_MAX):
            after = seen[-1] if seen else None
            page = self.wait(self.other.index.due(now, limit=limit, after=after))
            if not page:
                break
            seen += page
        expected = self.wait(self.model.index.due(now))
        assert [row.due_at for row in seen] == [row.due_at for row in expected]
        assert set(seen) == set(expected)

    @rule(
        query=st.builds(
            IndexQuery,
            st.none() | st.sampled_from(State),
            st.none() | st.sampled_from(["demo", "other"]),
            st.none() | st.sampled_from(["c", "c.", "c.1", "x"]),
            st.none() | _instants,
            order=st.sampled_from([Order.NEWEST, Order.OLDEST]),
        ),
        limit=st.integers(1, 3),
    )
    def list(self, query: IndexQuery, limit: int) -> None:
        self.wait(self.harness.settle())
        answers = []
        for backend in (self.model, self.other):
            seen: list[IndexRow] = []
            cursor: str | None = None
            for _ in range(_PAGES_MAX):
                page = self.wait(backend.index.list(query, cursor=cursor, limit=limit))
                seen, cursor = [*seen, *page.rows], page.cursor
                if cursor is None:
                    break
            answers.append(seen)
        assert answers[0] == answers[1]

    @invariant()
    def rows_are_the_same(self) -> None:
        for work_id in IDS:
            self.same(lambda backend, work_id=work_id: backend.index.get(work_id))  # type: ignore[misc]

    @rule()
    def counts(self) -> None:
        self.wait(self.harness.settle())
        model, real = self.both(lambda backend: backend.index.counts())
        assert {k: v for k, v in real.items() if v} == {k: v for k, v in model.items() if v}


class QueueMachine(Machine):
    """Messages in lanes with delays; receipts current and stale; time that passes."""

    def __init__(self, harness: BackendHarness) -> None:
        super().__init__(harness)
        self._step = harness.time_step_seconds
        self._count = 0
        self._deliveries: list[tuple[Delivery, Delivery]] = []
        self._in_hand_until: dict[str, float] = {}  # by the model's receipt

    @rule(lane=st.sampled_from(LANES), steps=st.sampled_from([0, 0, 0, 2, 4]), count=st.integers(1, 3))
    def send(self, lane: Lane, steps: int, count: int) -> None:
        messages = []
        for _ in range(count):
            self._count += 1
            messages.append(Message(f"w{self._count}", self._count, lane, steps * self._step))
        self.same(lambda backend: backend.queue.send(messages))

    @rule(
        visibility=st.sampled_from([2, 4]),
        lanes=st.permutations(LANES).map(lambda lanes: lanes[:2]) | st.just(LANES),
    )
    def receive(self, visibility: int, lanes: Sequence[Lane]) -> None:
        """All that is visible, as a queue may give fewer at once than it has."""

        async def take(backend: Backend) -> list[Delivery]:
            taken: list[Delivery] = []
            while more := await backend.queue.receive(
                10, visibility_seconds=visibility * self._step, wait_seconds=0, lanes=lanes
            ):
                taken += more
            return taken

        model, real = self.both(take)
        if not self.harness.is_fifo:
            model.sort(key=lambda delivery: delivery.cause)
            real.sort(key=lambda delivery: delivery.cause)
        assert [structs.replace(delivery, receipt="") for delivery in real] == [
            structs.replace(delivery, receipt="") for delivery in model
        ]
        self._deliveries += zip(model, real, strict=True)
        for delivery in model:
            self._keep(delivery, visibility)

    def _keep(self, delivery: Delivery, steps: float) -> None:
        """Note until when a delivery is in hand; half a step sooner, as real time goes on meanwhile."""
        self._in_hand_until[delivery.receipt] = self.harness.clock.monotonic() + (steps - 0.5) * self._step

    @property
    def _usable(self) -> list[tuple[Delivery, Delivery]]:
        """Deliveries whose receipts a caller may use: all, where stale ones are known, else those in hand."""
        if self.harness.detects_stale_receipts:
            return self._deliveries
        now = self.harness.clock.monotonic()
        return [pair for pair in self._deliveries if self._in_hand_until[pair[0].receipt] > now]

    def _some(self, data: st.DataObject) -> tuple[Delivery, Delivery]:
        return data.draw(st.sampled_from(self._usable))

    @precondition(lambda self: self._usable)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        model, real = self._some(data)
        self.wait(self.model.queue.acknowledge([model]))
        self.wait(self.other.queue.acknowledge([real]))
        self._keep(model, 0)

    @precondition(lambda self: self._usable)
    @rule(data=st.data(), steps=st.sampled_from([1, 3]))
    def extend(self, data: st.DataObject, steps: int) -> None:
        model, real = self._some(data)
        kept = self.wait(self.model.queue.extend([model], steps * self._step))
        answer = self.wait(self.backend.queue.extend([real], steps * self._step))
        assert list(answer) == list(kept)
        self._keep(model, steps)

    @precondition(lambda self: self._usable)
    @rule(data=st.data(), steps=st.sampled_from([0, 3]))
    def put_back(self, data: st.DataObject, steps: int) -> None:
        model, real = self._some(data)
        self.wait(self.model.queue.put_back(model, steps * self._step))
        self.wait(self.other.queue.put_back(real, steps * self._step))
        self._keep(model, 0)

    @precondition(lambda self: self._usable)
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        model, real = self._some(data)
        self.wait(self.model.queue.reject(model, "not ours"))
        self.wait(self.backend.queue.reject(real, "not ours"))
        self._keep(model, 0)

    @rule(steps=st.sampled_from([0.5, 1.5, 2.5]))
    def advance(self, steps: float) -> None:
        self.wait(self.harness.advance(steps * self._step))

    @rule()
    def backlog(self) -> None:
        model, real = self.both(lambda backend: backend.queue.backlog())
        if self.harness.backlog_is_exact:
            assert real == model


class ModelContract:
    """The same random calls on the memory backend and on this one; the same answers.

    Attributes:
        examples: programs that are tried in each test; fewer where time is real.
        calls: the longest program.
        shrinks: a program that fails is made shorter; takes minutes where each call does a round trip.
    """

    examples = 30
    calls = 30
    shrinks = True

    def _run(self, machine: Callable[[BackendHarness], Machine], harness: BackendHarness) -> None:
        run_state_machine_as_test(
            lambda: machine(harness),  # type: ignore[arg-type]  # called only, as its documentation says
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=self.calls,
                deadline=None,
                phases=[phase for phase in Phase if self.shrinks or phase is not Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )

    def test_journals_are_those_of_the_model(self, harness: BackendHarness) -> None:
        self._run(JournalMachine, harness)

    def test_index_rows_are_those_of_the_model(self, harness: BackendHarness) -> None:
        self._run(IndexMachine, harness)

    def test_claims_and_lines_are_those_of_the_model(self, harness: BackendHarness) -> None:
        self._run(ClaimsMachine, harness)

    def test_deliveries_are_those_of_the_model(self, harness: BackendHarness) -> None:
        self._run(QueueMachine, harness)
