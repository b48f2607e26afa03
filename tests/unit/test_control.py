"""The one table: what each event makes of each state, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from roost.journal import family, lines
from roost.journal.budget import hold_of
from roost.journal.control import TABLE, InvalidTransition, apply
from roost.journal.entries import Control, Entry, Lease
from roost.journal.events import (
    AttemptFailed,
    Blocked,
    BudgetSet,
    Cancelled,
    CancelRequested,
    ChildEnded,
    Claimed,
    Committed,
    Deferred,
    Enqueued,
    Event,
    Evicted,
    Failed,
    Kind,
    Noted,
    Paused,
    Recorded,
    Released,
    Resumed,
    Retried,
    Settled,
    Signaled,
    TurnGiven,
)
from roost.journal.projection import (
    LEASE_GRACE_SECONDS,
    LOST_DELIVERY_SECONDS,
    MESSAGE_DELAY_MAX_SECONDS,
    SEND_EARLY_SECONDS,
    due_at,
    project,
)
from roost.journal.values import ErrorInfo, Join, Turn, Wait
from roost.models import REASON_MAX_CHARS, Lane, State

AT = 1_700_000_000.0
ERROR = ErrorInfo("ValueError", "bad")

EVENTS: list[Event] = [
    Enqueued("demo"),
    Claimed("w", AT + 30),
    Committed(1, "next", lease_until=AT + 30),
    Recorded("k"),
    AttemptFailed(ERROR, AT + 9),
    Deferred(AT + 9, "later"),
    Blocked(("other",)),
    Released("drain"),
    Evicted(1, "w"),
    Failed(ERROR),
    Cancelled("enough"),
    Signaled("s", "go"),
    CancelRequested("enough"),
    Retried("again"),
    ChildEnded("child", 0, State.DONE),
    Paused("hold on"),
    Resumed("go on"),
    BudgetSet((("usd", 1.0),), "more"),
    Settled(5),
    Noted("a trigger came to nothing"),
    TurnGiven(),
]
BY_KIND = {event.kind: event for event in EVENTS}

# As DESIGN.md and the module's comments have it; kept apart from TABLE on purpose.
Q, R, S, W, B = State.QUEUED, State.RUNNING, State.SCHEDULED, State.WAITING, State.BLOCKED
IDLE = (Q, S, W, B)
ENDED = (State.DONE, State.FAILED, State.CANCELLED)
MOVES: dict[tuple[State | None, Kind], State] = {
    (None, Kind.ENQUEUED): Q,
    **{(state, Kind.CLAIMED): R for state in (*IDLE, R)},
    (R, Kind.COMMITTED): R,
    (R, Kind.RECORDED): R,
    (R, Kind.ATTEMPT_FAILED): S,
    (R, Kind.DEFERRED): S,
    (R, Kind.BLOCKED): B,
    (R, Kind.RELEASED): Q,
    (R, Kind.EVICTED): Q,
    **{(state, Kind.FAILED): State.FAILED for state in (*IDLE, R)},
    **{(state, Kind.CANCELLED): State.CANCELLED for state in (*IDLE, R)},
    **{(state, Kind.SIGNALED): state for state in (Q, S, B, R)},
    (W, Kind.SIGNALED): Q,  # it waits for this very signal
    **{(state, Kind.CANCEL_REQUESTED): state for state in (*IDLE, R)},
    **{(state, Kind.RETRIED): Q for state in ENDED},
    **{(state, Kind.CHILD_ENDED): state for state in (*IDLE, R, *ENDED)},
    **{(state, Kind.PAUSED): state for state in (*IDLE, R)},
    **{(state, kind): state for state in (Q, S, W, R) for kind in (Kind.RESUMED, Kind.BUDGET_SET)},
    **{(B, kind): Q for kind in (Kind.RESUMED, Kind.BUDGET_SET)},  # it may have missed its turn
    **{(state, Kind.BUDGET_SET): state for state in ENDED},  # of its family, which may go on
    **{(state, kind): state for state in (*IDLE, R, *ENDED) for kind in (Kind.SETTLED, Kind.NOTED)},
    **{(state, Kind.TURN_GIVEN): state for state in (Q, S, W, R)},
    (B, Kind.TURN_GIVEN): Q,
}


def control(state: State, **fields: object) -> Control:
    """Some control state that is in `state`."""
    plain = Control(state, "demo", position=6, created_at=AT, since=AT, version=2, snapshot_position=5)
    plain = replace(plain, turn=Turn("talk", is_given=True))
    if state is State.RUNNING:
        plain = replace(plain, lease=Lease("w", 4, AT + 30))
    if state is State.SCHEDULED:
        plain = replace(plain, wake_at=AT + 100)
    if state is State.WAITING:
        plain = replace(plain, waits=Wait(("go", "stop"), AT + 50))
    return replace(plain, **fields)  # type: ignore[arg-type]


RUNNING = control(State.RUNNING)


def after(before: Control, *events: Event, at: float = AT + 1) -> Control:
    for event in events:
        before = apply(before, event, position=before.position + 1, at=at)
    return before


class TestTable:
    @pytest.mark.parametrize("kind", BY_KIND)
    @pytest.mark.parametrize("state", [None, *State])
    def test_each_pair_moves_as_documented_or_is_refused_by_name(
        self, state: State | None, kind: Kind
    ) -> None:
        before = None if state is None else control(state)
        position = 0 if before is None else 7
        if (state, kind) in MOVES:
            moved = apply(before, BY_KIND[kind], position=position, at=AT + 1)  # type: ignore[arg-type]
            assert moved.state is MOVES[state, kind]
            assert moved.position == position
            assert (moved.lease is not None) is (moved.state is State.RUNNING)
            return
        with pytest.raises(InvalidTransition) as caught:
            apply(before, BY_KIND[kind], position=position, at=AT + 1)  # type: ignore[arg-type]
        assert (caught.value.state, caught.value.kind) == (state, kind)
        assert kind.value in str(caught.value)
        assert (state.value if state else "not there") in str(caught.value)

    def test_every_kind_is_in_the_table(self) -> None:
        assert set(TABLE) == set(BY_KIND) == set(Kind) - set(lines.TABLE)
        assert not set(TABLE) & set(lines.TABLE)

    def test_apply_changes_nothing_that_it_was_given(self) -> None:
        before = replace(RUNNING)
        after(before, Committed(3, "s"))
        assert before == RUNNING


class TestEnqueued:
    def test_it_starts_queued_or_scheduled(self) -> None:
        now = apply(None, Enqueued("demo", Lane.HIGH, deadline_at=AT + 9), position=0, at=AT)
        assert now == Control(
            State.QUEUED, "demo", 0, created_at=AT, since=AT, lane=Lane.HIGH, deadline_at=AT + 9
        )
        later = apply(None, Enqueued("demo", wake_at=AT + 5), position=0, at=AT)
        assert (later.state, later.wake_at) == (State.SCHEDULED, AT + 5)


class TestClaimed:
    def test_its_position_is_the_token(self) -> None:
        held = after(control(State.QUEUED), Claimed("w2", AT + 60))
        assert held.lease == Lease("w2", 7, AT + 60)
        assert held.interruptions == 0

    def test_a_takeover_counts_an_interruption(self) -> None:
        held = after(RUNNING, Claimed("w2", AT + 60), Claimed("w3", AT + 90))
        assert held.lease == Lease("w3", 8, AT + 90)
        assert held.interruptions == 2

    def test_it_clears_the_wake_time_but_not_what_the_step_is_to_be_given(self) -> None:
        for state in IDLE:
            before = control(state, reason="because", last_token=3)
            held = after(before, Claimed("w", AT + 60))
            assert (held.wake_at, held.waits, held.reason, held.last_token) == (None, before.waits, "", None)


class TestCommitted:
    @pytest.mark.parametrize(
        ("event", "state"),
        [
            (Committed(3, "s", lease_until=AT + 60), State.RUNNING),
            (Committed(3, "s"), State.QUEUED),
            (Committed(3, "s", wake_at=AT + 9), State.SCHEDULED),
            (Committed(3, "s", waits=Wait(("go",))), State.WAITING),
            (Committed(3, "s", is_finished=True), State.DONE),
        ],
    )
    def test_its_directive_says_what_comes_next(self, event: Committed, state: State) -> None:
        moved = after(RUNNING, event)
        assert moved.state is state
        assert (moved.version, moved.step, moved.snapshot_position) == (3, "s", 7)
        assert moved.lease == (Lease("w", 4, AT + 60) if state is State.RUNNING else None)
        assert moved.last_token == (None if state is State.RUNNING else 4)
        assert moved.sent_position == (0 if state is State.RUNNING else 7)

    def test_it_begins_a_new_step(self) -> None:
        dirty = replace(RUNNING, failures=3, interruptions=2, deferrals=4, once=(("k", 5),), reason="old")
        clean = after(dirty, Committed(3, "s", lease_until=AT + 60))
        assert (clean.failures, clean.interruptions, clean.deferrals) == (0, 0, 0)
        assert (clean.once, clean.reason) == ((), "")

    def test_it_keeps_the_cancel_request_and_the_deadline(self) -> None:
        asked = after(replace(RUNNING, deadline_at=AT + 99), CancelRequested("enough"), Committed(3, "s"))
        assert (asked.cancel_requested, asked.deadline_at) == (True, AT + 99)

    def test_it_takes_away_the_signals_that_it_consumed(self) -> None:
        signaled = after(RUNNING, Signaled("a", "x"), Signaled("b", "y"))
        assert signaled.signals == ((7, "x"), (8, "y"))
        assert after(signaled, Committed(3, "s", consumed=(7,))).signals == ((8, "y"),)

    def test_it_does_not_wait_while_a_signal_is_left(self) -> None:
        signaled = after(RUNNING, Signaled("a", "go"))
        moved = after(signaled, Committed(3, "s", waits=Wait(("go",))))
        assert (moved.state, moved.waits) == (State.QUEUED, Wait(("go",)))
        on = after(signaled, Committed(3, "s", lease_until=AT + 60, waits=Wait(("go",))))
        assert (on.state, on.waits) == (State.RUNNING, Wait(("go",)))
        waits = after(signaled, Committed(3, "s", lease_until=AT + 60, waits=Wait(("stop",))))
        assert (waits.state, waits.lease) == (State.WAITING, None)


class TestEndsOfALease:
    def test_a_failed_attempt_is_counted_and_waits(self) -> None:
        moved = after(RUNNING, AttemptFailed(ERROR, AT + 9))
        assert (moved.failures, moved.wake_at, moved.reason) == (1, AT + 9, "ValueError: bad")
        assert after(RUNNING, AttemptFailed(ERROR, None)).state is State.FAILED

    def test_what_is_no_fault_of_the_step_burns_no_attempt(self) -> None:
        for event in (Deferred(AT + 9, "later"), Blocked(("o",)), Released("drain"), Evicted(4, "w")):
            assert after(RUNNING, event).failures == 0

    def test_a_step_that_asks_to_be_tried_later_is_counted(self) -> None:
        asked = after(replace(RUNNING, deferrals=4), Deferred(AT + 9, "later"))
        assert asked.deferrals == 5
        assert after(asked, Failed(ERROR), Retried("again")).deferrals == 0

    def test_a_lease_that_ended_without_a_word_counts_in_the_end_that_it_leads_to(self) -> None:
        assert after(RUNNING, Failed(ERROR)).interruptions == 0
        assert after(RUNNING, Failed(ERROR, is_interrupted=True)).interruptions == 1

    def test_an_eviction_counts_an_interruption_and_names_the_worker(self) -> None:
        moved = after(RUNNING, Evicted(4, "worker-7"))
        assert (moved.interruptions, moved.last_token) == (1, 4)
        assert "worker-7" in moved.reason

    def test_a_recorded_result_is_known_until_the_commit(self) -> None:
        moved = after(RUNNING, Recorded("a"), Recorded("b"), AttemptFailed(ERROR, AT + 2))
        assert moved.once == (("a", 7), ("b", 8))

    def test_a_reason_is_cut(self) -> None:
        moved = after(RUNNING, Failed(ErrorInfo("E", "x" * 9999)))
        assert len(moved.reason) == REASON_MAX_CHARS
        assert len(after(RUNNING, Blocked(("w" * 128,) * 10)).reason) == REASON_MAX_CHARS

    def test_a_retry_gives_fresh_attempts_and_keeps_the_snapshot(self) -> None:
        failed = control(
            State.FAILED, failures=5, interruptions=2, cancel_requested=True, deadline_at=AT, once=(("k", 3),)
        )
        moved = after(failed, Retried("again"))
        assert (moved.failures, moved.interruptions, moved.cancel_requested) == (0, 0, False)
        assert (moved.deadline_at, moved.version, moved.snapshot_position) == (None, 2, 5)
        assert moved.once == (("k", 3),)  # the step goes on where it was

    def test_a_retry_waits_again_for_what_never_came(self) -> None:
        """Else a retry would lead past an approval that was never given."""
        gate = Wait(("go",), AT - 1, fails=True, seconds=60.0)
        moved = after(control(State.FAILED, waits=gate), Retried("again"))
        assert (moved.state, moved.waits) == (State.WAITING, replace(gate, until=AT + 61))
        for_ever = Wait(("go",))
        moved = after(control(State.CANCELLED, waits=for_ever), Retried("again"))
        assert (moved.state, moved.waits) == (State.WAITING, for_ever)
        came = control(State.FAILED, waits=gate, signals=((5, "go"),))
        assert after(came, Retried("again")).state is State.QUEUED

    @pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SCHEDULED, State.BLOCKED])
    def test_the_report_that_satisfies_a_join_cancels_the_rest_until_the_commit(self, state: State) -> None:
        """Also where a signal woke the work, or a step failed that is given the reports at its next try."""
        waits = Wait(("go",), join=Join(need_done=1))
        woken = control(state, waits=waits, family=family.spawn(None, 1, 4))
        if state is State.RUNNING:
            woken = replace(woken, lease=RUNNING.lease)
        failed = after(woken, ChildEnded("c", 0, State.FAILED))
        done = after(failed, ChildEnded("c", 1, State.DONE))
        again = after(done, ChildEnded("c", 2, State.DONE))
        assert (failed.outbox, done.outbox, again.outbox) == ((), (done.position,), (done.position,))

    def test_a_retry_of_work_whose_join_was_satisfied_after_its_end_cancels_the_rest(self) -> None:
        waits = Wait(("go",), join=Join(need_done=1))
        failed = control(State.FAILED, waits=waits, family=family.spawn(None, 1, 3), turn=None)
        assert after(failed, Retried("again")).outbox == ()
        done = after(failed, ChildEnded("c", 0, State.DONE))
        assert (done.outbox, after(done, Retried("again")).outbox) == ((), (done.position + 1,))


class TestOutsiders:
    def test_a_signal_wakes_only_who_waits_for_its_name(self) -> None:
        waiting = control(State.WAITING)
        woken = after(waiting, Signaled("s", "stop"))
        assert (woken.state, woken.waits, woken.signals, woken.sent_position) == (
            State.QUEUED,
            waiting.waits,  # says what the next step is given
            ((7, "stop"),),
            7,
        )
        other = after(waiting, Signaled("s", "other"))
        assert (other.state, other.waits, other.signals) == (State.WAITING, waiting.waits, ((7, "other"),))

    def test_they_leave_the_lease_alone(self) -> None:
        moved = after(RUNNING, Signaled("s", "go"), CancelRequested("enough"))
        assert (moved.state, moved.lease, moved.since) == (State.RUNNING, RUNNING.lease, RUNNING.since)
        assert moved.sent_position == RUNNING.sent_position

    def test_a_cancel_request_has_a_delivery_of_its_own_where_nobody_holds_it(self) -> None:
        for state in IDLE:
            assert after(control(state), CancelRequested("enough")).sent_position == 7


class TestBlocked:
    def test_since_when_is_known_until_the_step_is_made(self) -> None:
        """A claim that is refused again does not change it."""
        blocked = after(RUNNING, Blocked(("o",)), at=AT + 1)
        again = after(blocked, Claimed("w", AT + 90), Blocked(("o",)), at=AT + 50)
        assert (blocked.blocked_at, again.blocked_at, again.since) == (AT + 1, AT + 1, AT + 50)
        claimed = after(again, Claimed("w", AT + 120), at=AT + 80)
        committed = Committed(version=claimed.version + 1, step="s", lease_until=AT + 120)
        for event in (committed, Released("drain"), Deferred(AT + 99, "later")):
            assert after(claimed, event).blocked_at is None


class TestDueAt:
    @pytest.mark.parametrize(
        ("before", "expected"),
        [
            (control(State.QUEUED), AT + LOST_DELIVERY_SECONDS),
            (control(State.BLOCKED), AT + LOST_DELIVERY_SECONDS),
            (RUNNING, AT + 30 + LEASE_GRACE_SECONDS),
            (control(State.SCHEDULED), AT + 100 + LOST_DELIVERY_SECONDS),
            (
                control(State.SCHEDULED, wake_at=AT + MESSAGE_DELAY_MAX_SECONDS),
                AT + MESSAGE_DELAY_MAX_SECONDS + LOST_DELIVERY_SECONDS,
            ),
            (
                control(State.SCHEDULED, wake_at=AT + MESSAGE_DELAY_MAX_SECONDS + 1),
                AT + MESSAGE_DELAY_MAX_SECONDS + 1 - SEND_EARLY_SECONDS,
            ),
            (control(State.WAITING), AT + 50 + LOST_DELIVERY_SECONDS),
            (control(State.WAITING, waits=Wait(("go",))), None),
            (
                control(State.WAITING, waits=Wait(("go",)), deadline_at=AT + 70),
                AT + 70 + LOST_DELIVERY_SECONDS,
            ),
            (
                control(State.WAITING, waits=Wait(("go",)), deadline_at=AT + 5000),
                AT + 5000 - SEND_EARLY_SECONDS,
            ),
            (control(State.WAITING, deadline_at=AT + 20), AT + 20 + LOST_DELIVERY_SECONDS),
            (control(State.RUNNING, deadline_at=AT + 9), AT + 30 + LEASE_GRACE_SECONDS),
            (control(State.WAITING, paused="wait"), None),
            (control(State.QUEUED, paused="wait", paused_until=AT + 77), AT + 77),
            (control(State.QUEUED, paused="wait", deadline_at=AT + 9), AT + 9 + LOST_DELIVERY_SECONDS),
            (control(State.QUEUED, deadline_at=AT - 20), AT),
            (control(State.SCHEDULED, cancel_requested=True), AT + LOST_DELIVERY_SECONDS),
            (control(State.WAITING, cancel_requested=True), AT + LOST_DELIVERY_SECONDS),
            *((control(state, deadline_at=AT + 9, cancel_requested=True), None) for state in ENDED),
        ],
    )
    def test_when_somebody_should_look(self, before: Control, expected: float | None) -> None:
        assert due_at(before, AT) == expected

    def test_a_row_shows_its_entry(self) -> None:
        held = replace(RUNNING, failures=2, reason="r", deadline_at=AT + 999, wake_at=None)
        entry = Entry("w1", 6, "e", AT + 3, "w", Recorded("k"), held)
        row = project(entry)
        assert (row.work_id, row.position, row.updated_at) == ("w1", 6, AT + 3)
        assert (row.token, row.worker_id, row.lease_until) == (4, "w", AT + 30)
        assert (row.failures, row.reason, row.version, row.due_at) == (2, "r", 2, due_at(held, AT + 3))
        assert project(replace(entry, control=control(State.QUEUED))).token is None


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(EVENTS[1:]), max_size=40))
def test_any_valid_sequence_counts_right(events: list[Event]) -> None:
    """Positions, versions and interruptions, counted by a second hand."""
    state = apply(None, replace(EVENTS[0], turn=Turn("talk", is_given=True)), position=0, at=AT)
    versions = interruptions = 0
    for event in events:
        if isinstance(event, Committed):
            event = replace(event, version=versions + 1)
        before = state
        try:
            state = apply(before, event, position=before.position + 1, at=AT + 1)
        except InvalidTransition:
            assert (before.state, event.kind) not in MOVES
            continue
        assert state.position == before.position + 1
        match event:
            case Committed():
                versions, interruptions = versions + 1, 0
            case Claimed() if before.lease is not None:
                interruptions += 1
            case Evicted():
                interruptions += 1
            case Retried():
                interruptions = 0
        assert (state.version, state.interruptions) == (versions, interruptions)
        assert (state.lease is not None) is (state.state is State.RUNNING)
        is_on_hold = state.lease is None and bool(hold_of(state)) and not state.cancel_requested
        is_quiet = (state.state.is_terminal or is_on_hold) and not state.outbox
        assert (due_at(state, AT + 1) is None) is is_quiet
