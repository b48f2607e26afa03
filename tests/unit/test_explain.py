"""Why work is not moving: every case of the table, and that each answer is a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.journal.accounts import Account, Balance
from roost.journal.claims import Owner, ResourceView, Waiter
from roost.journal.decide import WAITS_FOR_ENGINE, room_reason
from roost.journal.entries import Control, IndexRow, Lease
from roost.journal.events import Switch
from roost.journal.explain import NOBODY, Cause, Explanation, Facts, explain
from roost.journal.limits import FOREVER_AT, Limits, Rate
from roost.journal.values import Family, Join, Turn, Wait
from roost.names import Lane, Scope, State

NOW = 1_700_000_000.0
ME = "me"


def control(state: State, **fields: Any) -> Control:
    return Control(
        **{"state": state, "engine": "demo", "position": 7, "created_at": NOW - 99, "since": NOW - 60}
        | fields
    )


def running(until: float = NOW + 20, **fields: Any) -> Control:
    return control(State.RUNNING, lease=Lease("w1", 6, until), version=3, **fields)


def row(**fields: Any) -> IndexRow:
    shown = {"work_id": ME, "engine": "demo", "state": State.RUNNING, "lane": Lane.NORMAL, "position": 7}
    shown |= {"version": 3, "step": "s", "created_at": NOW, "updated_at": NOW, "since": NOW}
    return IndexRow(**shown | fields)  # type: ignore[arg-type]  # of a test's own making


def line(*waiters: Waiter, owners: tuple[Owner, ...] = (), limits: Limits = Limits()) -> ResourceView:  # noqa: B008  frozen
    return ResourceView("db", owners, waiters, limits)


def asked(**fields: Any) -> Waiter:
    return Waiter(ME, NOW - 50, **fields)


BLOCKED = control(State.BLOCKED, reason="waits for x")
OTHER, ASLEEP = Owner("other", 4), Owner("asleep", 4, Scope.WORK)

CASES: dict[str, tuple[Facts, Cause, str, float | None]] = {
    "its turn": (
        Facts(ME, control(State.QUEUED, turn=Turn("talk")), NOW),
        Cause.TURN,
        "waits for its turn",
        None,
    ),
    "done": (
        Facts(ME, control(State.DONE, version=3), NOW),
        Cause.ENDED,
        "done 1 m ago, at version 3",
        None,
    ),
    "failed": (
        Facts(ME, control(State.FAILED, reason="ValueError: no"), NOW),
        Cause.ENDED,
        "ValueError: no",
        None,
    ),
    "cancelled": (
        Facts(ME, control(State.CANCELLED, reason="enough"), NOW),
        Cause.ENDED,
        "enough",
        None,
    ),
    "running": (
        Facts(ME, running(), NOW),
        Cause.RUNNING,
        "w1 runs the step after version 3 under fencing token 6",
        None,
    ),
    "running, tried before": (
        Facts(ME, running(failures=2), NOW),
        Cause.RUNNING,
        "after 2 failed attempts",
        None,
    ),
    "running, tried before, and its workers died": (
        Facts(ME, running(failures=1, interruptions=3), NOW),
        Cause.RUNNING,
        "after 1 failed attempt and 3 interruptions.",
        None,
    ),
    "running, with progress": (
        Facts(ME, running(), NOW, row=row(progress=(0.4, "reading"))),
        Cause.RUNNING,
        "40% done (reading)",
        None,
    ),
    "renewed by a heartbeat": (
        Facts(ME, running(NOW - 5), NOW, row=row(token=6, lease_until=NOW + 9)),
        Cause.RUNNING,
        "It moves",
        None,
    ),
    "silent": (
        Facts(ME, running(NOW - 5), NOW, row=row(due_at=NOW + 1)),
        Cause.SILENT,
        "Worker w1 has gone silent: its lease ended 5.0 s ago",
        NOW + 1,
    ),
    "running, to be cancelled": (
        Facts(ME, running(cancel_requested=True, reason="enough"), NOW),
        Cause.CANCELLING,
        "(enough): worker w1 runs its step to the end.",
        None,
    ),
    "to be interrupted": (
        Facts(ME, running(cancel_requested=True, cancel_by=NOW + 30), NOW),
        Cause.CANCELLING,
        "is interrupted in 30 s",
        NOW + 30,
    ),
    "idle, to be cancelled": (
        Facts(ME, control(State.WAITING, cancel_requested=True, reason="enough"), NOW),
        Cause.CANCELLING,
        "(enough)",
        None,
    ),
    "paused": (
        Facts(ME, control(State.QUEUED, paused="not now"), NOW),
        Cause.PAUSED,
        "paused (not now)",
        None,
    ),
    "over its budget": (
        Facts(ME, control(State.QUEUED, budget=(("usd", 2.0),), spent=(("usd", 2.5),)), NOW),
        Cause.OVER_BUDGET,
        "usd 2.5 of 2",
        None,
    ),
    "paused, and by whom": (
        Facts(ME, control(State.QUEUED, paused="not now", paused_by="ann"), NOW),
        Cause.PAUSED,
        "It is paused by ann (not now) until somebody resumes it.",
        None,
    ),
    "paused for a while": (
        Facts(ME, control(State.QUEUED, paused="tonight", paused_until=NOW + 60), NOW),
        Cause.PAUSED,
        "paused (tonight) and goes on in 1 m, at 2023-11-14T22:14:20.000Z",
        NOW + 60,
    ),
    "its pause is over": (
        Facts(ME, control(State.QUEUED, paused="tonight", paused_until=NOW - 2), NOW, backlog=3),
        Cause.BACKLOG,
        "It has been ready for 2.0 s; about 3 deliveries wait",
        None,
    ),
    "its engine is paused": (
        Facts(ME, control(State.QUEUED), NOW, switch=Switch("engine:ns/demo", "deploy", NOW - 9, "ann")),
        Cause.PAUSED,
        "Its engine demo is paused by ann (deploy) until somebody resumes that.",
        None,
    ),
    "its lane is paused": (
        Facts(ME, control(State.QUEUED), NOW, switch=Switch("lane:low", "", NOW - 9)),
        Cause.PAUSED,
        "Its lane low is paused until somebody resumes that.",
        None,
    ),
    "has its resources, and its engine is paused": (
        Facts(ME, BLOCKED, NOW, switch=Switch("engine:/demo", "deploy", NOW - 9)),
        Cause.PAUSED,
        "Its engine demo is paused (deploy)",
        None,
    ),
    "running, and then paused": (
        Facts(ME, running(paused="look first", paused_by="ann"), NOW),
        Cause.RUNNING,
        "; then it is paused by ann (look first).",
        None,
    ),
    "its deadline is near": (
        Facts(ME, control(State.QUEUED, since=NOW, deadline_at=NOW + 60), NOW),
        Cause.READY,
        "takes it; its deadline is in 1 m.",
        None,
    ),
    "its deadline is over": (
        Facts(ME, control(State.WAITING, waits=Wait(("go",)), deadline_at=NOW - 3), NOW),
        Cause.OVERDUE,
        "Its deadline was 3.0 s ago: it ends as failed as soon as a worker looks at it.",
        None,
    ),
    "delayed": (
        Facts(ME, control(State.SCHEDULED, wake_at=NOW + 300), NOW),
        Cause.DELAYED,
        "goes on in 5 m, at 2023-11-14T22:18:20.000Z",
        NOW + 300,
    ),
    "deferred": (
        Facts(ME, control(State.SCHEDULED, wake_at=NOW + 9, reason="busy"), NOW),
        Cause.DELAYED,
        "sleeps (busy)",
        NOW + 9,
    ),
    "overdue": (
        Facts(ME, control(State.SCHEDULED, wake_at=NOW - 9), NOW),
        Cause.READY,
        "It has been due for 9.0 s; the next free worker takes it.",
        None,
    ),
    "overdue, and no worker has its engine": (
        Facts(ME, control(State.SCHEDULED, wake_at=NOW - 30), NOW, engines={"other"}),
        Cause.NO_WORKER,
        "It has been due for 30 s, but no worker that is known runs engine demo.",
        None,
    ),
    "a retry that no worker takes": (
        Facts(ME, control(State.SCHEDULED, wake_at=NOW - 30, failures=2, reason="E: no"), NOW, backlog=0),
        Cause.NO_WORKER,
        "2 attempts at the step after version 0 failed (E: no); it has been due for 30 s while",
        None,
    ),
    "retrying": (
        Facts(ME, control(State.SCHEDULED, wake_at=NOW + 9, failures=1, reason="ValueError: no"), NOW),
        Cause.RETRYING,
        "1 attempt at the step after version 0 failed (ValueError: no)",
        NOW + 9,
    ),
    "waits for a signal": (
        Facts(ME, control(State.WAITING, waits=Wait(("yes", "no"))), NOW),
        Cause.WAITING,
        "for signal yes or no.",
        None,
    ),
    "waits with a timeout": (
        Facts(ME, control(State.WAITING, waits=Wait(("yes",), NOW + 60, fails=True)), NOW),
        Cause.WAITING,
        "it fails in 1 m",
        NOW + 60,
    ),
    "has waited in vain": (
        Facts(ME, control(State.WAITING, waits=Wait(("yes",), NOW - 6, fails=True)), NOW),
        Cause.WAITING,
        "It has waited long enough for signal yes, since 6.0 s: it ends as failed as soon as",
        NOW - 6,
    ),
    "has waited, and no worker goes on": (
        Facts(ME, control(State.WAITING, waits=Wait(("yes",), NOW - 60)), NOW, engines={"other"}),
        Cause.NO_WORKER,
        "It has waited long enough for signal yes, since 1 m, but no worker that is known runs",
        None,
    ),
    "waits for its children": (
        Facts(
            ME,
            control(State.WAITING, waits=Wait(join=Join()), family=Family(batches=((1, 3),), ended="1")),
            NOW,
        ),
        Cause.WAITING,
        "of which 2 of 3 have not ended",
        None,
    ),
    "held by another": (
        Facts(ME, BLOCKED, NOW, views=[line(Waiter("first", NOW), asked(), owners=(OTHER,))]),
        Cause.HELD,
        "Resource db is held by other; it is 2nd in line",
        None,
    ),
    "held for a whole life": (
        Facts(ME, BLOCKED, NOW, views=[line(asked(), owners=(ASLEEP,))]),
        Cause.HELD,
        "held by asleep until it ends",
        None,
    ),
    "held by many": (
        Facts(ME, BLOCKED, NOW, views=[line(asked(), owners=tuple(Owner(f"o{n}", 1) for n in range(9)))]),
        Cause.HELD,
        "o0, o1, o2 and 6 more",
        None,
    ),
    "closed": (
        Facts(ME, BLOCKED, NOW, views=[line(limits=Limits(closed_until=NOW + 60, closed_by="w7"))]),
        Cause.CLOSED,
        "closed by w7 and opens in 1 m",
        NOW + 60,
    ),
    "closed for ever": (
        Facts(ME, BLOCKED, NOW, views=[line(limits=Limits(closed_until=FOREVER_AT))]),
        Cause.CLOSED,
        "until somebody opens it",
        None,
    ),
    "closed, and held as well": (
        Facts(ME, BLOCKED, NOW, views=[line(asked(), owners=(OTHER,), limits=Limits(closed_until=NOW + 5))]),
        Cause.CLOSED,
        "opens in 5.0 s",
        NOW + 5,
    ),
    "its turn by rate": (
        Facts(
            ME,
            BLOCKED,
            NOW,
            views=[line(asked(called_at=NOW + 4, is_timed=True), limits=Limits(rate=Rate(60, 60.0)))],
        ),
        Cause.RATE,
        "(60 starts in 1 m), which comes in 4.0 s",
        NOW + 4,
    ),
    "called": (
        Facts(ME, BLOCKED, NOW, views=[line(asked(called_at=NOW - 2))]),
        Cause.CALLED,
        "called 2.0 s ago",
        None,
    ),
    "behind one who was called": (
        Facts(ME, BLOCKED, NOW, views=[line(Waiter("first", NOW, NOW - 2), asked())]),
        Cause.IN_LINE,
        "the first, first, was called and has not come yet",
        None,
    ),
    "behind one who waits for more": (
        Facts(ME, BLOCKED, NOW, views=[line(Waiter("first", NOW), asked())]),
        Cause.IN_LINE,
        "waits for more than that",
        None,
    ),
    "has its resources, and no worker has its engine": (
        Facts(ME, BLOCKED, NOW, row=row(reason=f"{WAITS_FOR_ENGINE} demo")),
        Cause.NO_WORKER,
        "It may have its resources since 1 m, and waits for a worker with engine demo",
        None,
    ),
    "refused, and all is free": (
        Facts(ME, BLOCKED, NOW, row=row(due_at=NOW + 8)),
        Cause.CALLED,
        "goes on at its next look",
        NOW + 8,
    ),
    "no worker has its engine": (
        Facts(ME, control(State.QUEUED), NOW, engines={"other"}),
        Cause.NO_WORKER,
        "no worker that is known runs engine demo",
        None,
    ),
    "its engine has workers": (
        Facts(ME, control(State.QUEUED, since=NOW), NOW, engines={"demo"}, backlog=0),
        Cause.READY,
        "the next free worker takes it",
        None,
    ),
    "behind a backlog": (
        Facts(ME, control(State.QUEUED), NOW, backlog=12, engines={"demo"}),
        Cause.BACKLOG,
        "about 12 deliveries wait in the queue, as the workers are busy.",
        None,
    ),
    "behind a backlog that nobody is known to work on": (
        Facts(ME, control(State.QUEUED), NOW, backlog=12),
        Cause.NO_WORKER,
        "about 12 deliveries wait in the queue, and no worker is known to be at work.",
        None,
    ),
    "behind one delivery": (
        Facts(ME, control(State.QUEUED, since=NOW - 2), NOW, backlog=1),
        Cause.BACKLOG,
        "about 1 delivery waits in the queue, its own among them.",
        None,
    ),
    "nobody takes it": (
        Facts(ME, control(State.QUEUED), NOW, backlog=0, row=row(due_at=NOW + 8)),
        Cause.NO_WORKER,
        "it seems that no worker runs engine demo",
        NOW + 8,
    ),
    "no worker that looked has its version": (
        Facts(
            ME,
            control(State.QUEUED),
            NOW,
            engines={"demo"},
            backlog=0,
            row=row(due_at=NOW + 8, reason=f"{WAITS_FOR_ENGINE} demo 2, or one that migrates from it"),
        ),
        Cause.NO_WORKER,
        "waits for a worker with engine demo 2, or one that migrates from it: none that looked",
        NOW + 8,
    ),
    "it is to run alone": (
        Facts(ME, control(State.QUEUED, interruptions=4), NOW, row=row(reason=room_reason(4, 1))),
        Cause.ROOM,
        "with room: 4 workers in a row ended without a word in its step, so it is run alone.",
        None,
    ),
    "it is to run beside one other": (
        Facts(ME, control(State.QUEUED, interruptions=3), NOW, row=row(reason=room_reason(3, 2))),
        Cause.ROOM,
        "so it is run beside 1 other at most.",
        None,
    ),
    "ready, and its budget nearly used up": (
        Facts(ME, control(State.QUEUED, since=NOW, budget=(("usd", 5.0),), spent=(("usd", 4.5),)), NOW),
        Cause.READY,
        "takes it; budget nearly used up: usd 4.5 of 5.",
        None,
    ),
    "ready, and the budget of its family nearly used up": (
        Facts(
            ME,
            control(State.QUEUED, since=NOW),
            NOW,
            balances=[Balance(Account("", "root"), (("usd", 4.5),), (("usd", 5.0),))],
        ),
        Cause.READY,
        "; budget of the family of root nearly used up: usd 4.5 of 5.",
        None,
    ),
    "parked by the budget of its family": (
        Facts(ME, control(State.BLOCKED, over="budget of the family of root used up: usd 5 of 5"), NOW),
        Cause.OVER_BUDGET,
        "budget of the family of root used up: usd 5 of 5, until somebody raises it",
        None,
    ),
    "parked by the budget of the day": (
        Facts(
            ME,
            control(
                State.BLOCKED,
                over="budget of 2026-11-25 used up: usd 5 of 5",
                is_daily=True,
                wake_at=NOW + 99,
            ),
            NOW,
        ),
        Cause.OVER_BUDGET,
        "or a new day begins (UTC)",
        NOW + 99,
    ),
    "an error of many lines": (
        Facts(ME, control(State.FAILED, reason="ValueError: no\n  really\tnot"), NOW),
        Cause.ENDED,
        "ValueError: no really not.",
        None,
    ),
    "warned of once": (
        Facts(
            ME,
            control(
                State.QUEUED,
                since=NOW,
                budget=(("usd", 5.0),),
                spent=(("usd", 4.5),),
                reason="budget nearly used up: usd 4.5 of 5",
            ),
            NOW,
        ),
        Cause.READY,
        "(budget nearly used up: usd 4.5 of 5); the next free worker takes it.",
        None,
    ),
    "just ready": (
        Facts(ME, control(State.QUEUED, since=NOW - 1, reason="worker w1 went silent"), NOW, backlog=0),
        Cause.READY,
        "(worker w1 went silent)",
        None,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_says_why(case: tuple[Facts, Cause, str, float | None]) -> None:
    facts, cause, words, next_at = case
    found = explain(facts)
    assert found.cause is cause
    assert words in found.text
    assert found.next_at == next_at


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_answer_is_one_sentence(case: tuple[Facts, Cause, str, float | None]) -> None:
    found = explain(case[0])
    for text in (found.text, found.if_worker_dies):
        assert text.endswith(".")
        assert ". " not in text
        assert text[0].isupper() or text[0].isdigit()


def test_every_cause_has_a_case() -> None:
    assert {cause for _, cause, _, _ in CASES.values()} == set(Cause)


def test_what_follows_the_death_of_a_worker() -> None:
    held = explain(Facts(ME, running(), NOW)).if_worker_dies
    assert held.startswith("Its lease ends in 20 s")
    assert "the step after version 3 is run again" in held
    assert "no failed attempt" in held
    assert explain(Facts(ME, running(NOW - 5), NOW)).if_worker_dies.startswith("It is taken for dead already")
    idle: Explanation = explain(Facts(ME, control(State.QUEUED), NOW))
    assert idle.if_worker_dies == NOBODY


# --- whatever it is told -------------------------------------------------------

instants = st.one_of(st.none(), st.floats(NOW - 1e6, NOW + 1e6))
words = st.text(max_size=20).filter(lambda text: "None" not in text)  # else what nobody said looks said
waits = st.builds(
    Wait,
    names=st.sampled_from([(), ("go",), ("approval:x", "no")]),
    until=instants,
    fails=st.booleans(),
    join=st.sampled_from([None, Join()]),
)
controls = st.builds(
    Control,
    state=st.sampled_from(State),
    engine=st.just("demo"),
    position=st.integers(0, 99),
    created_at=st.just(NOW - 99),
    since=st.floats(NOW - 1e6, NOW + 5),
    version=st.integers(0, 9),
    lease=st.one_of(
        st.none(), st.builds(Lease, st.just("w1"), st.integers(0, 9), st.floats(NOW - 99, NOW + 99))
    ),
    failures=st.integers(0, 3),
    wake_at=instants,
    waits=st.one_of(st.none(), waits),
    deadline_at=instants,
    cancel_requested=st.booleans(),
    cancel_by=instants,
    paused=st.sampled_from(["", "hold on"]),
    paused_until=instants,
    paused_by=st.sampled_from(["", "ann"]),
    family=st.one_of(st.none(), st.just(Family(batches=((1, 3),), ended="1"))),
    budget=st.sampled_from([(), (("usd", 2.0),)]),
    spent=st.sampled_from([(), (("usd", 1.7),), (("usd", 3.0),)]),
    over=st.sampled_from(["", "budget of the family of root used up: usd 5 of 5"]),
    is_daily=st.booleans(),
    reason=words,
    note=words,
    turn=st.sampled_from([None, Turn("talk"), Turn("talk", is_given=True)]),
)
waiters = st.builds(
    Waiter,
    work_id=st.sampled_from([ME, "a", "b"]),
    since=st.just(NOW - 9),
    called_at=instants,
    passed=st.integers(0, 3),
    is_timed=st.booleans(),
)
views = st.builds(
    ResourceView,
    resource=st.sampled_from(["db", "llm: small"]),
    owners=st.lists(st.sampled_from([OTHER, ASLEEP, Owner(ME, 6)]), max_size=3, unique=True),
    waiters=st.lists(waiters, max_size=3, unique_by=lambda waiter: waiter.work_id),
    limits=st.builds(
        Limits,
        rate=st.sampled_from([None, Rate(60, 60.0)]),
        closed_until=st.sampled_from([None, NOW - 1, NOW + 60, FOREVER_AT]),
    ),
)
rows = st.builds(
    row,
    token=st.sampled_from([None, 6]),
    lease_until=instants,
    due_at=instants,
    reason=st.sampled_from(["", f"{WAITS_FOR_ENGINE} demo 2, or one that migrates from it"]),
    progress=st.sampled_from([None, (0.5, "reading")]),
)
facts = st.builds(
    Facts,
    work_id=st.just(ME),
    control=controls,
    now=st.just(NOW),
    row=st.one_of(st.none(), rows),
    views=st.lists(views, max_size=2),
    backlog=st.sampled_from([None, 0, 1, 9]),
    engines=st.sampled_from([None, frozenset(), frozenset({"demo"})]),
    switch=st.sampled_from([None, Switch("lane:low", "deploy", NOW, "ann"), Switch("engine:/demo", "", NOW)]),
    balances=st.sampled_from([(), [Balance(Account("", "root"), (("usd", 4.5),), (("usd", 5.0),))]]),
)


@settings(max_examples=100, deadline=None)
@given(facts)
def test_whatever_is_known_there_is_an_answer_in_a_line_each(known: Facts) -> None:
    found = explain(known)
    for text in (found.text, found.if_worker_dies):
        assert text.endswith(".")
        assert "\n" not in text
        assert "None" not in text
        assert text[0].isupper() or text[0].isdigit()
    if known.control.state.is_terminal:
        assert (found.cause, found.next_at) == (Cause.ENDED, None)
    elif known.control.lease is not None:
        assert found.cause in (Cause.RUNNING, Cause.SILENT, Cause.CANCELLING)
        assert found.if_worker_dies != NOBODY
