"""Why work is not moving: every case of the table, and that each answer is a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from roost.journal.accounts import Account, Balance
from roost.journal.claims import Owner, ResourceView, Waiter
from roost.journal.decide import WAITS_FOR_ENGINE
from roost.journal.entries import Control, IndexRow, Lease
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
        "done since 1 m, at version 3",
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
    "its engine is paused": (
        Facts(ME, control(State.QUEUED), NOW, switch="deploy"),
        Cause.PAUSED,
        "engine or lane is paused (deploy)",
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
        Cause.DELAYED,
        "a worker has not taken it yet",
        NOW - 9,
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
        Facts(ME, control(State.QUEUED), NOW, backlog=12),
        Cause.BACKLOG,
        "about 12 deliveries wait",
        None,
    ),
    "behind one delivery": (
        Facts(ME, control(State.QUEUED), NOW, backlog=1),
        Cause.BACKLOG,
        "about 1 delivery waits",
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
