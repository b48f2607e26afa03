"""Journals for tests to store: of some length, with each kind of entry, and those that no work has."""

from __future__ import annotations

from roost.journal.control import apply
from roost.journal.entries import Body, Encoding, Entry
from roost.journal.events import (
    AttemptFailed,
    Blocked,
    BudgetSet,
    Cancelled,
    CancelRequested,
    ChildEnded,
    Claimed,
    Committed,
    DailySet,
    Deferred,
    Enqueued,
    Evicted,
    Failed,
    KeyBound,
    Noted,
    Operated,
    Paused,
    Recorded,
    Released,
    Resumed,
    Retried,
    Settled,
    Signaled,
    Switched,
    TurnEnded,
    TurnGiven,
    TurnTaken,
)
from roost.journal.values import Cause, ErrorInfo, Fire, Fork, Join, LogLine, Parent, Turn, Wait
from roost.models import Lane, State
from roost.testing.contract.harness import AT, first, follow


def chain(work_id: str, length: int) -> list[Entry]:
    """A journal of so many entries: work that is claimed, then commits step after step."""
    entries = [first(work_id)]
    while len(entries) < length:
        if len(entries) == 1:
            entries.append(follow(entries[-1], Claimed("worker", AT + 30)))
        else:
            body = Body(Encoding.JSON, b'{"step":%d}' % len(entries))
            event = Committed(len(entries) - 1, "next", lease_until=AT + 30)
            entries.append(follow(entries[-1], event, body=body))
    return entries


def every_kind() -> list[Entry]:
    """One journal with an entry of each kind, each with all its fields set."""
    error = ErrorInfo("ValueError", "bad \N{SNOWMAN}", "Traceback …")
    said = (LogLine(AT + 1, "info", "page 1"), LogLine(AT + 2.5, "warning", "bad \N{SNOWMAN}"))
    fire = Fire("report", "reporter", "snapshot.data.n", (("n", "snapshot.data.n"),), 1, ("r",))
    entries = [
        first(
            "w",
            lane=Lane.HIGH,
            priority=3,
            resources=("db/1", "ü"),
            wake_at=AT + 5,
            deadline_at=AT + 1e6,
            idempotency_key="k",
            labels=(("team", "ü"),),
            parent=Parent("p", 3, "third", AT - 9),
            fork=Fork("f", 7),
            budget=(("steps", 10.0), ("usd", 2.5)),
            account="root",
            family_budget=(("usd", 9.0),),
            engine_version="v6",
            cause=Cause("c", 9, "nightly", 2, AT - 8),
            turn=Turn("talk", 0, True),
            conversation="chat/1",
            trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
    ]

    def add(event: object, body: Body | None = None) -> None:
        entries.append(follow(entries[-1], event, body=body))  # type: ignore[arg-type]  # each is an Event

    add(Claimed("worker-1", AT + 30.125, "v7"))
    add(Recorded("charge/1"), Body(Encoding.ZSTD, bytes(range(256))))
    add(Signaled("s1", "go", (("s0", 1),)), Body(Encoding.JSON, b"null"))
    add(
        Committed(
            1,
            "next",
            AT + 60,
            None,
            None,
            False,
            0.25,
            "v7",
            (3,),
            ("d1", "d2"),
            2,
            True,
            (("usd", 0.5),),
            log=said,
            bound="2",
        ),
        Body(Encoding.DELTA, b"\x00\xff", base=0, depth=1),
    )
    add(AttemptFailed(error, AT + 90, 1.5, log=said))
    add(Claimed("worker-2", AT + 120, is_daily=True))
    add(Deferred(AT + 130, "not yet", log=said))
    add(Claimed("worker-3", AT + 150))
    add(Blocked(("other", "third"), AT + 99, ("gpu",), "budget used up"))
    add(Claimed("worker-4", AT + 180))
    add(Released("draining"))
    add(Claimed("worker-5", AT + 210))
    add(Evicted(12, "worker-5"))
    add(Claimed("worker-6", AT + 240))
    add(
        Committed(2, "wait", waits=Wait(("go", "stop"), AT + 300, True, Join(2, 1, False))),
        Body(Encoding.ZSTD, b"", digest="0" * 64),
    )
    add(Paused("hold on", None, "ann"))
    add(ChildEnded("w.1-0", 0, State.FAILED), Body(Encoding.JSON, b"{}"))
    add(Settled(5))
    add(Noted("a trigger came to nothing"))
    add(Resumed("go on"))
    add(BudgetSet((("usd", 5.0),), "more"))
    add(BudgetSet((("usd", 5.0),), "for all", is_family=True))
    add(CancelRequested("enough", AT + 600))
    add(Cancelled("enough", fires=(fire,), log=said))
    add(Retried("again", 5, engine_version="v7"))
    add(TurnGiven())
    add(Failed(error, fires=(fire,), log=said, is_interrupted=True))
    return entries


def of_lines() -> list[Entry]:
    """The journals of a conversation, a key and the switches, with an entry of each kind that they have."""
    work = Enqueued("demo", turn=Turn("talk"), conversation="chat/1")
    body = Body(Encoding.ZSTD, b"\x01\x02")
    taken, bound = TurnTaken("w", 0, work, True), KeyBound("w", AT + 60, work)
    entries = [_begins("talk", taken, body)]
    entries.append(follow(entries[-1], TurnTaken("x", 7)))
    entries.append(follow(entries[-1], TurnEnded((("w", 0),))))
    entries += [
        _begins("key", bound, body),
        _begins("switches", Switched("lane:low", True, "why", "ann"), body),
    ]
    entries.append(follow(entries[-1], Switched("lane:low", False, "fixed")))
    entries.append(follow(entries[-1], DailySet("team", (("usd", 5.0),), "enough")))
    return [*entries, _begins("deeds", Operated("purge", "w", "old", "all of it"), None)]


def _begins(work_id: str, event: TurnTaken | KeyBound | Switched | Operated, body: Body | None) -> Entry:
    control = apply(None, event, position=0, at=AT)
    return Entry(work_id, 0, f"client/{work_id}/0", AT, "client", event, control, body)
