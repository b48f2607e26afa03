"""What is done with a delivery, a due row and a lost position, as tables."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from roost.engine import RetryPolicy
from roost.journal.control import apply
from roost.journal.decide import (
    NO_ENGINE_DELAY_SECONDS,
    Cancel,
    Claim,
    Discard,
    Evict,
    Fail,
    LookLater,
    NoEngine,
    PutBack,
    Send,
    can_take_in,
    deferral_seconds,
    lease_until,
    on_delivery,
    on_due,
)
from roost.journal.entries import Control, Entry, IndexRow, Lease
from roost.journal.events import (
    Blocked,
    Cancelled,
    CancelRequested,
    Claimed,
    Event,
    Evicted,
    Recorded,
    Signaled,
)
from roost.journal.projection import (
    LOST_DELIVERY_SECONDS,
    MESSAGE_DELAY_MAX_SECONDS,
    PARKED_LOOK_SECONDS,
    SEND_EARLY_SECONDS,
    due_at,
    project,
)
from roost.journal.values import Wait
from roost.models import State

AT = 1_700_000_000.0
POLICY = RetryPolicy(max_interruptions=3)


def control(state: State, **fields: object) -> Control:
    plain = Control(state, "demo", position=6, created_at=AT, since=AT, sent_position=6)
    if state is State.RUNNING:
        plain = replace(plain, lease=Lease("w", 4, AT + 30))
    return replace(plain, **fields)  # type: ignore[arg-type]


def row_of(given: Control, **fields: object) -> IndexRow:
    entry = Entry("w1", given.position, "e", AT, "w", Recorded("k"), given)
    return replace(project(entry), **fields)  # type: ignore[arg-type]


QUEUED, RUNNING = control(State.QUEUED), control(State.RUNNING)
BLOCKED = control(State.BLOCKED, blocked_at=AT)
SCHEDULED = control(State.SCHEDULED, wake_at=AT + 100)
WAITING = control(State.WAITING, waits=Wait(("go",), AT + 50))
FOREVER = control(State.WAITING, waits=Wait(("go",)))


def deliver(
    given: Control,
    now: float = AT,
    *,
    cause: int = 6,
    row: IndexRow | None = None,
    retry: RetryPolicy | None = POLICY,
) -> object:
    return on_delivery(given, row, cause=cause, now=now, retry=retry)


def due(given: Control, now: float, *, has_backlog: bool = False, row: IndexRow | None = None) -> object:
    return on_due(given, row or row_of(given), now=now, has_backlog=has_backlog)


class TestLeaseUntil:
    def test_a_heartbeat_may_have_moved_it(self) -> None:
        assert lease_until(RUNNING, None) == AT + 30
        assert lease_until(RUNNING, row_of(RUNNING, lease_until=AT + 60)) == AT + 60
        assert lease_until(RUNNING, row_of(RUNNING, lease_until=AT + 10)) == AT + 30

    def test_a_row_of_another_lease_says_nothing(self) -> None:
        assert lease_until(RUNNING, row_of(RUNNING, token=3, lease_until=AT + 99)) == AT + 30
        assert lease_until(RUNNING, row_of(RUNNING, lease_until=None)) == AT + 30
        assert lease_until(QUEUED, row_of(RUNNING, lease_until=AT + 99)) is None


class TestOnDelivery:
    @pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
    def test_what_has_ended_needs_no_delivery(self, state: State) -> None:
        for fields in ({}, {"cancel_requested": True}, {"deadline_at": AT - 1}):
            assert isinstance(deliver(control(state, **fields)), Discard)

    @pytest.mark.parametrize(
        "given", [QUEUED, BLOCKED, replace(SCHEDULED, wake_at=AT), replace(WAITING, waits=None)]
    )
    def test_what_is_ready_is_claimed(self, given: Control) -> None:
        # Waiting without knowing for what can't be; then nobody may take it for ready.
        expected = Discard if given.state is State.WAITING else Claim
        assert isinstance(deliver(given), expected)

    def test_a_live_lease_is_left_to_its_holder(self) -> None:
        assert deliver(RUNNING, AT + 10) == PutBack(20, "held by another worker")
        beaten = row_of(RUNNING, lease_until=AT + 60)
        assert deliver(RUNNING, AT + 40, row=beaten) == PutBack(20, "held by another worker")

    def test_a_lease_that_ran_out_is_taken_over(self) -> None:
        assert deliver(RUNNING, AT + 30) == Claim(1)
        assert deliver(RUNNING, AT + 1000) == Claim(1)

    def test_a_clock_that_is_behind_only_waits_longer(self) -> None:
        assert deliver(RUNNING, AT - 1000) == PutBack(1030, "held by another worker")
        assert deliver(QUEUED, AT - 1000) == Claim()

    def test_what_is_not_due_yet_is_put_back(self) -> None:
        assert deliver(SCHEDULED, AT + 40) == PutBack(60, "scheduled for 60.000 s more")
        assert deliver(WAITING, AT + 40) == PutBack(10, "waiting for 10.000 s more")
        assert deliver(SCHEDULED, AT + 100) == Claim()
        assert deliver(WAITING, AT + 50) == Claim()

    def test_a_delivery_that_came_too_early_by_a_skewed_clock_is_put_back_not_lost(self) -> None:
        assert deliver(SCHEDULED, AT + 99.75) == PutBack(0.25, "scheduled for 0.250 s more")

    def test_a_stale_delivery_of_what_is_not_due_is_discarded(self) -> None:
        """A later entry has sent its own; else each would be put back for ever."""
        for given in (SCHEDULED, WAITING):
            assert isinstance(deliver(given, AT, cause=5), Discard)
        assert deliver(SCHEDULED, AT + 100, cause=5) == Claim()
        assert deliver(QUEUED, AT, cause=0) == Claim()

    def test_what_sleeps_longer_than_a_message_can_is_the_sweepers(self) -> None:
        far = replace(SCHEDULED, wake_at=AT + MESSAGE_DELAY_MAX_SECONDS + 1)
        assert isinstance(deliver(far), Discard)
        assert isinstance(deliver(replace(far, wake_at=AT + MESSAGE_DELAY_MAX_SECONDS)), PutBack)
        assert isinstance(deliver(FOREVER), Discard)

    def test_a_cancel_request_ends_it_also_before_its_time(self) -> None:
        for given in (QUEUED, BLOCKED, SCHEDULED, WAITING, FOREVER):
            asked = replace(given, cancel_requested=True, reason="enough")
            assert deliver(asked, retry=None) == Cancel("enough")
        held = replace(RUNNING, cancel_requested=True, reason="enough")
        assert isinstance(deliver(held), PutBack)
        assert deliver(held, AT + 30) == Cancel("enough")

    def test_a_wait_in_vain_ends_it_also_after_a_pause_that_is_over(self) -> None:
        """Found by the simulation (seed 1524): it stepped on without what it had waited for."""
        given = control(
            State.WAITING, waits=Wait(("go",), AT + 50, fails=True), paused="stop", paused_until=AT + 70
        )
        assert deliver(given, AT + 60) == PutBack(10.0, "waiting for 10.000 s more")
        answer = deliver(given, AT + 70)
        assert isinstance(answer, Fail)
        assert answer.error.type == "WaitTimeout"

    def test_a_deadline_ends_it_wherever_it_is(self) -> None:
        for given in (QUEUED, BLOCKED, SCHEDULED, WAITING, FOREVER):
            late = deliver(replace(given, deadline_at=AT), retry=None)
            assert isinstance(late, Fail)
            assert late.error.type == "DeadlineExceeded"
        assert deliver(replace(QUEUED, deadline_at=AT + 1)) == Claim()
        assert isinstance(deliver(replace(RUNNING, deadline_at=AT)), PutBack)
        assert isinstance(deliver(replace(RUNNING, deadline_at=AT), AT + 30), Fail)

    def test_work_for_an_engine_that_is_not_here_is_put_back(self) -> None:
        answer = deliver(QUEUED, retry=None)
        assert answer == NoEngine(NO_ENGINE_DELAY_SECONDS, "waits for a worker with engine demo")

    def test_a_crash_loop_is_dead_lettered(self) -> None:
        assert deliver(replace(QUEUED, interruptions=2)) == Claim(2)
        looping = deliver(replace(QUEUED, interruptions=3))
        assert isinstance(looping, Fail)
        assert looping.error.type == "CrashLoop"
        assert deliver(replace(RUNNING, interruptions=1), AT + 30) == Claim(2)
        assert isinstance(deliver(replace(RUNNING, interruptions=2), AT + 30), Fail)  # this one counts too


class TestOnDue:
    @pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
    def test_what_has_ended_is_never_looked_at_again(self, state: State) -> None:
        assert due(control(state), AT) == LookLater(None)

    def test_a_live_lease_is_looked_at_after_its_end(self) -> None:
        answer = due(RUNNING, AT + 10)
        assert isinstance(answer, LookLater)
        assert answer.due_at is not None
        assert answer.due_at > AT + 30
        beaten = due(RUNNING, AT + 40, row=row_of(RUNNING, lease_until=AT + 70))
        assert isinstance(beaten, LookLater)
        assert beaten.due_at is not None
        assert beaten.due_at > AT + 70

    def test_a_lease_that_ran_out_gets_a_delivery(self) -> None:
        answer = due(RUNNING, AT + 31, has_backlog=True)
        assert isinstance(answer, Send)
        assert answer.delay_seconds == 0

    @pytest.mark.parametrize("until", [None, AT + 90])
    def test_a_lease_that_ran_out_over_work_on_hold_is_ended(self, until: float | None) -> None:
        """Nobody may claim it; else its row would be due again and again, and its claims stay."""
        held = replace(RUNNING, paused="stop", paused_until=until)
        assert due(held, AT + 29) == LookLater(AT + 30 + LOST_DELIVERY_SECONDS / 10)
        assert due(held, AT + 31) == Evict()
        assert isinstance(due(replace(held, cancel_requested=True), AT + 31), Cancel)

    def test_lost_deliveries_are_sent_again_later_and_later(self) -> None:
        now, gaps = AT + LOST_DELIVERY_SECONDS, []
        for _ in range(12):
            answer = due(QUEUED, now)
            assert isinstance(answer, Send)
            gaps.append(answer.due_at - now)
            now = answer.due_at
        assert gaps[:4] == [5, 10, 20, 40]
        assert gaps[-1] == MESSAGE_DELAY_MAX_SECONDS

    def test_blocked_work_asks_by_itself_once_a_minute_in_the_end(self) -> None:
        """Each time it is refused it is blocked anew; that must not begin the looks anew."""
        given, now, gaps = BLOCKED, AT, []
        for _ in range(6):
            at = due_at(given, now)
            assert at is not None
            gaps.append(at - now)
            answer = due(given, at)
            assert isinstance(answer, Send)
            assert answer.due_at > at
            claimed = apply(given, Claimed("w", at + 30), position=given.position + 1, at=at)
            given = apply(claimed, Blocked(("other",)), position=claimed.position + 1, at=at)
            now = at
        assert gaps == [5, 5, 10, 20, 40, 60]

    def test_a_backlog_is_not_made_longer(self) -> None:
        assert due(QUEUED, AT + 20, has_backlog=True) == LookLater(AT + 40)
        for given in (BLOCKED, replace(SCHEDULED, wake_at=AT)):
            assert isinstance(due(given, AT + 20, has_backlog=True), Send)

    def test_a_long_sleeper_is_sent_early_as_a_delayed_message(self) -> None:
        wake_at = AT + 86400
        far = replace(SCHEDULED, wake_at=wake_at)
        assert due(far, AT) == LookLater(wake_at - SEND_EARLY_SECONDS)
        assert due(far, wake_at - SEND_EARLY_SECONDS) == Send(
            SEND_EARLY_SECONDS, wake_at + LOST_DELIVERY_SECONDS
        )
        assert due(far, wake_at + 1) == Send(0.0, wake_at + 1 + LOST_DELIVERY_SECONDS)

    def test_a_wait_is_left_alone_until_shortly_before_its_timeout(self) -> None:
        long = replace(WAITING, waits=Wait(("go",), AT + 5000))
        assert due(long, AT + 10) == LookLater(AT + 5000 - SEND_EARLY_SECONDS)
        assert due(WAITING, AT + 10) == Send(40.0, AT + 50 + LOST_DELIVERY_SECONDS)
        assert isinstance(due(WAITING, AT + 50), Send)
        assert due(FOREVER, AT + 10) == LookLater(None)

    def test_it_ends_what_was_cancelled_or_is_late(self) -> None:
        assert due(replace(WAITING, cancel_requested=True, reason="enough"), AT) == Cancel("enough")
        assert isinstance(due(replace(FOREVER, deadline_at=AT), AT), Fail)

    def test_a_deadline_that_comes_first_is_what_it_is_woken_for(self) -> None:
        late = replace(SCHEDULED, wake_at=AT + 86400, deadline_at=AT + 5000)
        assert due(late, AT) == LookLater(AT + 5000 - SEND_EARLY_SECONDS)
        assert due(late, AT + 4900) == Send(100.0, AT + 5000 + LOST_DELIVERY_SECONDS)
        later = replace(SCHEDULED, deadline_at=AT + 5000)
        assert due(later, AT + 10) == Send(90.0, AT + 100 + LOST_DELIVERY_SECONDS)
        assert due(replace(QUEUED, deadline_at=AT + 7), AT + 6) == Send(0.0, AT + 7)

    def test_what_is_due_within_two_early_sendings_is_sent_at_once(self) -> None:
        soon = replace(SCHEDULED, wake_at=AT + 2 * SEND_EARLY_SECONDS)
        at_once = Send(2 * SEND_EARLY_SECONDS, AT + 2 * SEND_EARLY_SECONDS + LOST_DELIVERY_SECONDS)
        assert due(soon, AT) == at_once
        assert due(soon, AT - 1) == LookLater(AT + SEND_EARLY_SECONDS)

    def test_who_is_blocked_until_an_instant_is_woken_for_it_and_looks_before(self) -> None:
        """A resource may open before its turn, and the call that says so may be lost."""
        soon = replace(BLOCKED, wake_at=AT + 100)
        assert due(soon, AT) == Send(100.0, AT + 100 + LOST_DELIVERY_SECONDS)
        far = replace(BLOCKED, wake_at=AT + 10_000)
        assert due(far, AT + 10) == LookLater(AT + PARKED_LOOK_SECONDS)
        look_at = AT + PARKED_LOOK_SECONDS
        assert due(far, look_at) == Send(0.0, look_at + PARKED_LOOK_SECONDS)
        between = replace(BLOCKED, wake_at=look_at + 1400)
        assert due(between, look_at) == Send(0.0, look_at + 1400 - SEND_EARLY_SECONDS)
        assert due(replace(BLOCKED, wake_at=AT + 3000), AT) == LookLater(AT + 3000 - SEND_EARLY_SECONDS)

    def test_a_look_is_never_asked_for_in_the_past(self) -> None:
        """Else a sweep would look at the same row again and again."""
        for given in (QUEUED, RUNNING, BLOCKED, SCHEDULED, WAITING, replace(WAITING, deadline_at=AT + 99)):
            for now in (AT - 50, AT, AT + 29, AT + 31, AT + 99, AT + 1e6):
                answer = due(given, now)
                if isinstance(answer, LookLater | Send) and answer.due_at is not None:
                    assert answer.due_at > now


class TestDeferral:
    @pytest.mark.parametrize(
        ("deferrals", "least"),
        [(0, 0.0), (2, 0.0), (3, 0.1), (4, 0.2), (5, 0.4), (6, 0.8), (7, 1.0), (9999, 1.0)],
    )
    def test_who_asks_again_and_again_waits_longer_up_to_a_second(self, deferrals: int, least: float) -> None:
        given = control(State.RUNNING, deferrals=deferrals)
        assert deferral_seconds(given, 0.0) == pytest.approx(least)
        assert deferral_seconds(given, 30.0) == 30.0  # what is asked for is never cut


class TestCanTakeIn:
    def standing(self, event: Event, given: Control) -> Entry:
        return Entry("w1", 7, "theirs", AT, "client", event, given)

    @pytest.mark.parametrize("event", [Signaled("s", "go"), CancelRequested("enough"), Recorded("k")])
    def test_the_holder_takes_in_what_outsiders_append(self, event: Event) -> None:
        assert can_take_in(self.standing(event, RUNNING), token=4, created_at=AT)

    def test_another_token_means_that_the_lease_is_gone(self) -> None:
        assert not can_take_in(self.standing(Signaled("s", "go"), RUNNING), token=3, created_at=AT)
        assert not can_take_in(self.standing(Signaled("s", "go"), QUEUED), token=4, created_at=AT)

    @pytest.mark.parametrize("event", [Claimed("w2", AT + 60), Evicted(4, "w"), Cancelled("enough")])
    def test_a_claim_an_eviction_or_an_end_is_never_taken_in(self, event: Event) -> None:
        assert not can_take_in(self.standing(event, RUNNING), token=4, created_at=AT)
        assert not can_take_in(self.standing(event, QUEUED), token=4, created_at=AT)
