"""What each event leaves of a control state in which every field is set: all that it has no business with."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from roost.journal.control import TABLE, apply
from roost.journal.entries import Control, Lease
from roost.journal.events import (
    Blocked,
    CancelRequested,
    Committed,
    DailySet,
    Kind,
    Retried,
    Switch,
    Switched,
    TurnEnded,
    TurnTaken,
)
from roost.journal.lines import SWITCH_ENGINE
from roost.journal.values import Bound, Family, Parent, Place, Turn, Wait
from roost.models import Lane, State
from tests.unit.test_control import AT, BY_KIND

LEASE_ENDS = "state position since wake_at lease last_token sent_position over"
ENDS = "state position since wake_at sent_position over reason blocked_at outbox"

# Of work that is put on hold, to be cancelled, in debt and in line at once: more than any real work is.
# Its reason is that of who wants it to end, until it has ended.
CHANGED = {
    (State.QUEUED, Kind.CLAIMED): "state position since wake_at lease last_token is_daily over"
    " paused paused_until paused_by",  # its time is over
    (State.RUNNING, Kind.CLAIMED): "position since wake_at lease interruptions is_daily over"
    " paused paused_until paused_by",
    (State.RUNNING, Kind.COMMITTED): f"{LEASE_ENDS} version step engine_version snapshot_position waits"
    " failures interruptions deferrals once rewound outbox note blocked_at"
    " line bound switches daily",  # of which no work has any
    (State.RUNNING, Kind.RECORDED): "position once",
    (State.RUNNING, Kind.ATTEMPT_FAILED): f"{LEASE_ENDS} failures outbox blocked_at",
    (State.RUNNING, Kind.DEFERRED): f"{LEASE_ENDS} deferrals blocked_at",
    (State.RUNNING, Kind.BLOCKED): LEASE_ENDS,
    (State.RUNNING, Kind.RELEASED): f"{LEASE_ENDS} blocked_at",
    (State.RUNNING, Kind.EVICTED): f"{LEASE_ENDS} interruptions blocked_at",
    (State.RUNNING, Kind.FAILED): f"{ENDS} lease last_token",
    (State.RUNNING, Kind.CANCELLED): f"{ENDS} lease last_token",
    (State.BLOCKED, Kind.FAILED): ENDS,
    (State.BLOCKED, Kind.CANCELLED): ENDS,
    (State.RUNNING, Kind.SIGNALED): "position signals last_signal",
    (State.WAITING, Kind.SIGNALED): "state position since sent_position signals last_signal",
    (State.RUNNING, Kind.CANCEL_REQUESTED): "position cancel_by reason",
    (State.FAILED, Kind.RETRIED): f"{ENDS} deadline_at turn failures interruptions deferrals"
    " cancel_requested cancel_by paused paused_until paused_by",
    (State.RUNNING, Kind.CHILD_ENDED): "position family",
    (State.WAITING, Kind.CHILD_ENDED): "state position since sent_position family",
    (State.RUNNING, Kind.PAUSED): "position paused paused_until paused_by",
    (State.QUEUED, Kind.RESUMED): "position sent_position paused paused_until paused_by",
    (State.BLOCKED, Kind.RESUMED): "state position since sent_position over paused paused_until paused_by",
    (State.RUNNING, Kind.BUDGET_SET): "position budget",
    (State.DONE, Kind.SETTLED): "position outbox",
    (State.DONE, Kind.NOTED): "position note",
    (State.QUEUED, Kind.TURN_GIVEN): "position turn",
}


def full(state: State, kind: Kind | None = None) -> Control:
    """A control state with every field set, as an event of `kind` may meet it."""
    made = Control(
        state,
        "demo",
        position=60,
        created_at=AT - 900,
        since=AT - 50,
        lane=Lane.HIGH,
        wake_at=AT + 100,
        deadline_at=AT + 9000,
        labels=(("team", "blue"),),
        parent=Parent("parent", 1),
        budget=(("usd", 9.0),),
        account="root",
        family_budget=(("usd", 99.0),),
        engine_version="3",
        turn=Turn("talk", 2, is_given=kind is not Kind.TURN_GIVEN),
        waits=Wait(("go", "stop"), AT + 50),
        version=7,
        step="seventh",
        snapshot_position=55,
        lease=Lease("w", 56, AT + 30) if state is State.RUNNING else None,
        last_token=None if state is State.RUNNING else 52,
        failures=2,
        interruptions=3,
        deferrals=4,
        sent_position=50,
        signals=((57, "go"),),
        last_signal=57,
        once=(("key", 58),),
        cancel_requested=True,
        cancel_by=AT + 70,
        paused="hold",
        paused_until=AT + 60,
        paused_by="operator",
        rewound=51,
        family=Family(((1, 2),), "", (59,), "2"),
        outbox=(3, 53),
        spent=(("usd", 1.0),),
        is_daily=True,
        over="over",
        reason="why",
        note="noted",
        blocked_at=AT - 9,
        line=(Place("other", 1, 2),),
        bound=Bound("other", AT, 1),
        switches=(Switch("demo", "r", AT, "operator"),),
        daily=(("", (("usd", 1.0),)),),
    )
    unset = Control(state, "demo", position=0, created_at=0.0, since=0.0)
    optional = {name for name in Control.__struct_fields__ if name not in ("state", "engine", "lease")}
    assert {name for name in optional if getattr(made, name) == getattr(unset, name)} <= {"last_token"}
    return made


def test_every_event_of_work_is_looked_at() -> None:
    assert {kind for _, kind in CHANGED} == set(TABLE) - {Kind.ENQUEUED}


@pytest.mark.parametrize(("state", "kind"), CHANGED)
def test_an_event_changes_its_own_fields_and_carries_all_others(state: State, kind: Kind) -> None:
    before = full(state, kind)
    after = apply(before, BY_KIND[kind], position=61, at=AT)
    changed = {name for name in Control.__struct_fields__ if getattr(after, name) != getattr(before, name)}
    assert changed == set(CHANGED[state, kind].split())


@pytest.mark.parametrize(
    "kind", [Kind.CLAIMED, Kind.COMMITTED, Kind.ATTEMPT_FAILED, Kind.DEFERRED, Kind.BLOCKED, Kind.RELEASED]
)
def test_the_end_of_cancelled_work_says_why_it_was_to_end(kind: Kind) -> None:
    """Its step may commit, fail or be put off before anybody can end it."""
    running = replace(full(State.RUNNING), cancel_requested=False)
    asked = apply(running, CancelRequested("enough"), position=61, at=AT)
    after = apply(asked, BY_KIND[kind], position=62, at=AT)
    assert (after.cancel_requested, after.reason) == (True, "enough")
    unasked = apply(running, BY_KIND[kind], position=61, at=AT)
    assert unasked.reason != running.reason
    assert apply(after, CancelRequested("at once"), position=63, at=AT).reason == "at once"


def test_a_lease_that_goes_on_has_begun_when_it_was_claimed() -> None:
    before = replace(full(State.RUNNING), cancel_requested=False, paused="", paused_until=None)
    after = apply(before, Committed(8, "eighth", lease_until=AT + 40), position=61, at=AT)
    assert (after.since, after.sent_position) == (before.since, before.sent_position)
    assert after.lease == Lease("w", 56, AT + 40)


def test_a_commit_counts_what_has_a_limit_and_what_the_engine_spent() -> None:
    limits = (("attempts", 9.0), ("seconds", 60.0), ("steps", 9.0))
    before = replace(full(State.RUNNING), budget=limits, spent=(("steps", 2.0), ("usd", 1.0)))
    event = Committed(8, "eighth", spent=(("usd", 0.5),), duration_seconds=1.5)
    after = apply(before, event, position=61, at=AT)
    assert dict(after.spent) == {"attempts": 1.0, "seconds": 1.5, "steps": 3.0, "usd": 1.5}
    unlimited = apply(replace(before, budget=()), event, position=61, at=AT)
    assert dict(unlimited.spent) == {"steps": 2.0, "usd": 1.5}


def test_going_back_to_a_version_that_waits_waits_again() -> None:
    before = replace(full(State.FAILED), signals=())
    retry = Retried("again", snapshot_position=40, waits=Wait(("news",)), engine_version="2")
    after = apply(before, retry, position=61, at=AT)
    assert (after.state, after.snapshot_position, after.engine_version) == (State.WAITING, 40, "2")
    assert (after.once, after.rewound) == ((), 61)
    there = apply(replace(before, signals=((57, "news"),)), retry, position=61, at=AT)
    assert there.state is State.QUEUED


def test_a_conversation_is_kept_while_anyone_is_in_line_and_is_done_after() -> None:
    taken = apply(None, TurnTaken("first"), position=0, at=AT)
    assert (taken.state, taken.waits, taken.line) == (State.WAITING, Wait(), (Place("first", 0, 0),))
    assert taken.reason == "it is the turn of first; 0 in line behind it"
    left = apply(taken, TurnEnded((("first", 0),)), position=1, at=AT)
    assert (left.state, left.waits, left.line, left.position) == (State.DONE, None, (), 1)


def test_switches_wait_while_anything_is_paused() -> None:
    paused = apply(None, Switched("demo", is_paused=True, reason="deploy"), position=0, at=AT)
    assert (paused.state, paused.reason) == (State.WAITING, "1 paused")
    resumed = apply(paused, Switched("demo", is_paused=False), position=1, at=AT)
    assert (resumed.state, resumed.reason, resumed.waits) == (State.DONE, "", None)
    assert resumed.position == 1


def test_switches_wait_while_a_day_has_a_budget() -> None:
    limits = (("usd", 5.0),)
    limited = apply(None, DailySet("team", limits), position=0, at=AT)
    assert (limited.state, limited.engine, limited.daily) == (
        State.WAITING,
        SWITCH_ENGINE,
        (("team", limits),),
    )
    assert limited.reason == ""
    free = apply(limited, DailySet("team", ()), position=1, at=AT)
    assert (free.state, free.daily) == (State.DONE, ())


def test_work_that_is_parked_for_a_budget_says_so_until_it_is_claimed() -> None:
    running = replace(full(State.RUNNING), cancel_requested=False)
    parked = apply(running, Blocked((), over="usd of its family is used up"), position=61, at=AT)
    assert (parked.state, parked.over) == (State.BLOCKED, "usd of its family is used up")
    assert parked.reason == parked.over
    assert apply(parked, BY_KIND[Kind.CLAIMED], position=62, at=AT).over == ""
