"""Properties that hold for every sequence of events, every JSON value, every pair of backends."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roost import jsonio
from roost.engine import RetryPolicy
from roost.errors import PayloadError, StorageCorrupt
from roost.journal import family
from roost.journal.budget import hold_of
from roost.journal.claims import Acquired, Ask, Owner, Want
from roost.journal.control import TABLE, InvalidTransition, apply
from roost.journal.decide import Claim, Discard, PutBack, on_delivery
from roost.journal.entries import Control, Entry
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
from roost.journal.projection import due_at, project
from roost.journal.values import ErrorInfo, Join, Turn, Wait
from roost.models import State
from roost.storage.codec import Base, decode_entry, encode_entry, pack, unpack
from roost.storage.local import open_local
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Backend, Message
from roost.testing.clock import ManualClock

AT = 1_800_000_000.0
QUICK = settings(max_examples=150, deadline=None)
ERROR = ErrorInfo("ValueError", "no", "trace")

delays = st.one_of(st.none(), st.floats(0, 1e7))


def _committed(draw: Callable[[Any], Any], control: Control, at: float) -> Committed:
    end = draw(st.sampled_from(["go", "give up", "delay", "wait", "finish"]))
    return Committed(
        version=control.version + 1,
        step=draw(st.text(max_size=5)),
        lease_until=at + 30 if end == "go" else None,
        wake_at=at + draw(st.floats(0.001, 1e7)) if end == "delay" else None,
        waits=Wait(("yes",), at + 50, join=draw(st.sampled_from([None, Join(1)]))) if end == "wait" else None,
        is_finished=end == "finish",
        consumed=tuple(position for position, _ in control.signals[:1]),
        spawned=draw(st.sampled_from([0, 0, 2])),
        has_spawned=draw(st.booleans()),
        spent=draw(st.sampled_from([(), (("usd", 0.5),)])),
    )


def _event(draw: Callable[[Any], Any], kind: Kind, control: Control | None, at: float) -> Event:
    match kind:
        case Kind.ENQUEUED:
            delay = draw(delays)
            turn = draw(st.sampled_from([None, Turn("talk"), Turn("talk", is_given=True)]))
            return Enqueued(engine="demo", wake_at=None if delay is None else at + delay, turn=turn)
        case Kind.CLAIMED:
            return Claimed("worker", at + 30)
        case Kind.COMMITTED:
            assert control is not None
            return _committed(draw, control, at)
        case Kind.RECORDED:
            return Recorded(draw(st.text(min_size=1, max_size=5)))
        case Kind.ATTEMPT_FAILED:
            delay = draw(delays)
            return AttemptFailed(ERROR, None if delay is None else at + delay)
        case Kind.DEFERRED:
            return Deferred(at + draw(st.floats(0, 1e6)), "later")
        case Kind.BLOCKED:
            return Blocked(("other",))
        case Kind.RELEASED:
            return Released("drained")
        case Kind.EVICTED:
            return Evicted(1, "worker")
        case Kind.FAILED:
            return Failed(ERROR)
        case Kind.CANCELLED:
            return Cancelled("no more")
        case Kind.SIGNALED:
            return Signaled("s1", draw(st.sampled_from(["yes", "no"])))
        case Kind.CANCEL_REQUESTED:
            return CancelRequested("stop")
        case Kind.RETRIED:
            return Retried("again")
        case Kind.CHILD_ENDED:
            assert control is not None
            ordinal = draw(st.integers(0, max(0, family.total(control.family) - 1)))
            return ChildEnded("child", ordinal, draw(st.sampled_from([State.DONE, State.FAILED])))
        case Kind.PAUSED:
            return Paused("hold on")
        case Kind.RESUMED:
            return Resumed("go on")
        case Kind.BUDGET_SET:
            return BudgetSet((("usd", draw(st.floats(0.1, 9.0))),), "more")
        case Kind.SETTLED:
            assert control is not None
            return Settled(control.position)
        case Kind.TURN_GIVEN:
            return TurnGiven()
        case Kind.NOTED:
            return Noted("a trigger came to nothing")
    raise AssertionError(kind)


@st.composite
def journals(draw: Callable[[Any], Any]) -> list[Entry]:
    """Journals of valid moves, as any mixture of workers and outsiders could make them."""
    entries: list[Entry] = []
    control: Control | None = None
    at = AT
    for position in range(draw(st.integers(1, 25))):
        state = None if control is None else control.state
        kinds = [kind for kind, (met_in, _) in TABLE.items() if state in met_in]
        if control is None or control.turn is None:
            kinds = [kind for kind in kinds if kind is not Kind.TURN_GIVEN]
        kind = draw(st.sampled_from(kinds))
        at += draw(st.floats(0, 100))
        event = _event(draw, kind, control, at)
        control = apply(control, event, position=position, at=at)
        entries.append(Entry("w", position, f"id{position}", at, "actor", event, control))
    return entries


@QUICK
@given(journals())
def test_a_lease_is_held_exactly_while_running(entries: list[Entry]) -> None:
    for entry in entries:
        assert (entry.control.lease is not None) == (entry.control.state is State.RUNNING)


@QUICK
@given(journals())
def test_the_fencing_token_is_the_position_of_the_last_claim(entries: list[Entry]) -> None:
    claim = None
    for entry in entries:
        claim = entry.position if entry.event.kind is Kind.CLAIMED else claim
        if entry.control.lease is not None:
            assert entry.control.lease.token == claim


@QUICK
@given(journals())
def test_versions_count_commits_and_point_at_the_last(entries: list[Entry]) -> None:
    commits = [entry for entry in entries if entry.event.kind is Kind.COMMITTED]
    last = entries[-1].control
    assert last.version == len(commits)
    assert last.snapshot_position == (commits[-1].position if commits else None)


@QUICK
@given(journals())
def test_only_a_retry_leads_out_of_an_end(entries: list[Entry]) -> None:
    for before, after in pairwise(entries):
        if before.control.state.is_terminal:
            assert after.event.kind is Kind.RETRIED or after.control.state is before.control.state


@QUICK
@given(journals())
def test_an_acknowledged_signal_waits_until_one_commit_consumes_it(entries: list[Entry]) -> None:
    pending: list[int] = []
    for entry in entries:
        if isinstance(entry.event, Signaled):
            pending.append(entry.position)
        if isinstance(entry.event, Committed):
            pending = [position for position in pending if position not in entry.event.consumed]
        assert [position for position, _ in entry.control.signals] == pending


@QUICK
@given(journals())
def test_live_work_is_always_looked_at_again(entries: list[Entry]) -> None:
    """Invariant 5 rests on this: no live state but an endless wait lacks a due time."""
    for entry in entries:
        due = due_at(entry.control, entry.at)
        if entry.control.outbox:
            assert due is not None
        elif entry.control.state.is_terminal or (entry.control.lease is None and hold_of(entry.control)):
            assert due is None or entry.control.cancel_requested
        else:
            assert due is not None
            assert math.isfinite(due)
        assert project(entry).due_at == due


@QUICK
@given(journals(), st.floats(-1e4, 1e8))
def test_every_delivery_has_one_decision_that_never_runs_early(entries: list[Entry], later: float) -> None:
    control = entries[-1].control
    now = entries[-1].at + later
    decision = on_delivery(control, None, cause=0, now=now, retry=RetryPolicy())
    if control.state.is_terminal:
        assert isinstance(decision, Discard)
    if isinstance(decision, Claim):
        assert control.wake_at is None or control.wake_at <= now
        assert control.lease is None or control.lease.until <= now
    if isinstance(decision, PutBack):
        assert decision.delay_seconds > 0


@QUICK
@given(journals())
def test_entries_survive_their_stored_form(entries: list[Entry]) -> None:
    for entry in entries:
        assert decode_entry(encode_entry(entry)) == entry


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from(list(TABLE)))
def test_an_event_that_a_state_can_not_meet_names_both(data: st.DataObject, kind: Kind) -> None:
    first = apply(None, Enqueued("demo"), position=0, at=AT)
    done = apply(
        apply(first, Claimed("w", AT), position=1, at=AT),
        Committed(1, "s", is_finished=True),
        position=2,
        at=AT,
    )
    if State.DONE in TABLE[kind][0]:
        return
    with pytest.raises(InvalidTransition, match=f"done can't be {kind}"):
        apply(done, _event(data.draw, kind, done, AT), position=3, at=AT)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=30,
)


@QUICK
@given(json_values)
def test_json_comes_back_equal_and_as_a_copy(value: Any) -> None:
    body, loaded = jsonio.dump_and_load(value, what="value", max_bytes=1 << 20)
    assert loaded == value
    assert jsonio.load(body) == value
    assert jsonio.parse(body, what="value") == value


@QUICK
@given(
    json_values,
    st.sampled_from([{1, 2}, b"x", object(), 1j, math.nan, math.inf, -math.inf, {1: 2}, {None: 1}]),
)
def test_what_is_not_json_is_refused_wherever_it_hides(value: Any, bad: Any) -> None:
    for hidden in ([value, bad], {"a": {"b": [bad, value]}}):
        with pytest.raises(PayloadError):
            jsonio.dump(hidden, what="value", max_bytes=1 << 20)


@pytest.mark.parametrize("depth", [64, 65, 100, 150, 1000])
@pytest.mark.parametrize(
    "filler", ["", "][}{", "((((", '"'], ids=["plain", "brackets", "parentheses", "quote"]
)
def test_depth_is_bounded_exactly(depth: int, filler: str) -> None:
    value: Any = filler
    for number in range(depth):
        value = [value] if number % 2 else {"k": value, filler: 1}
    if depth <= jsonio.DEPTH_MAX:
        jsonio.dump(value, what="value", max_bytes=1 << 20)
    else:
        with pytest.raises(PayloadError, match="deep"):
            jsonio.dump(value, what="value", max_bytes=1 << 20)


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_size_is_bounded_exactly(size: int) -> None:
    value = "x" * (1000 - 2 + size)
    if size <= 0:
        assert len(jsonio.dump(value, what="value", max_bytes=1000)) == 1000 + size
    else:
        with pytest.raises(PayloadError, match="1001 bytes"):
            jsonio.dump(value, what="value", max_bytes=1000)


@QUICK
@given(st.lists(st.text(min_size=30, max_size=80), min_size=20, max_size=60), st.text(max_size=50))
def test_a_growing_state_comes_back_through_deltas(messages: list[str], more: str) -> None:
    before = jsonio.dump(messages, what="state", max_bytes=1 << 20)
    after = jsonio.dump([*messages, more], what="state", max_bytes=1 << 20)
    body = pack(after, Base(3, before, 0))
    assert unpack(body, body.data, before) == after
    assert len(body.data) <= len(after)


@QUICK
@given(st.binary(max_size=200))
def test_damaged_bytes_are_never_taken_for_a_body(noise: bytes) -> None:
    good = pack(b"x" * 5000)
    try:
        assert unpack(good, noise + good.data) == b"x" * 5000
    except StorageCorrupt:
        return


operations = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3), st.sampled_from([0.0, 5.0, 100.0])),
        st.tuples(st.just("receive"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("acknowledge"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("put_back"), st.integers(0, 5), st.sampled_from([0.0, 7.0])),
        st.tuples(st.just("extend"), st.integers(0, 5), st.sampled_from([1.0, 50.0])),
        st.tuples(st.just("advance"), st.sampled_from([1, 6, 31]), st.just(0)),
        st.tuples(st.just("acquire"), st.integers(0, 3), st.sampled_from(["x", "y", "xy"])),
        st.tuples(st.just("release"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 3), st.just(0)),
    ),
    max_size=40,
)


async def _play(backend: Backend, clock: ManualClock, steps: list[tuple[Any, ...]]) -> list[Any]:
    """What a backend answers to a list of operations, receipts left out."""
    seen: list[Any] = []
    hand: list[Any] = []
    for name, number, more in steps:
        now = clock.now()
        if name == "send":
            await backend.queue.send([Message(f"w{number}", number, delay_seconds=more)])
            clock.advance(0.001)  # messages sent at the same instant come in no promised order
        elif name == "receive":
            taken = await backend.queue.receive(
                number, visibility_seconds=30, wait_seconds=0, lanes=[*_lanes()]
            )
            hand += taken
            seen.append([(d.work_id, d.cause, d.received_count) for d in taken])
        elif name == "advance":
            clock.advance(number)
        elif name in ("acknowledge", "put_back", "extend") and hand:
            delivery = hand[number % len(hand)]
            if name == "acknowledge":
                await backend.queue.acknowledge([delivery])
            elif name == "put_back":
                await backend.queue.put_back(delivery, more)
            else:
                seen.append(list(await backend.queue.extend([delivery], more)))
        elif name == "acquire":
            owner = Owner(f"w{number}", int(now) % 3)
            ask = Ask(owner, tuple(map(Want, sorted(more))))
            answer = await backend.claims.acquire(ask, now=now, overtake_before=now - 30)
            seen.append(answer if isinstance(answer, Acquired) else (list(answer.owners), list(answer.ahead)))
        elif name == "release":
            owners = [Owner(f"w{number}", token) for token in range(3)]
            seen += [sorted(map(str, await backend.claims.release(owner, now=now))) for owner in owners]
        elif name == "leave":
            seen.append(sorted(map(str, await backend.claims.leave(Owner(f"w{number}", 9), now=now))))
    seen.append([(v.resource, list(v.owners), list(v.waiters)) for v in await backend.claims.show()])
    seen.append(await backend.queue.backlog())
    return seen


def _lanes() -> list[Any]:
    from roost.models import Lane

    return list(Lane)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations)
def test_memory_and_local_answer_alike(steps: list[tuple[Any, ...]]) -> None:
    """The verified fake: the same operations on both, the same answers."""

    async def both() -> None:
        clocks = ManualClock(), ManualClock()
        with tempfile.TemporaryDirectory() as name:
            local = await open_local(Path(name), clock=clocks[1])
            try:
                expected = await _play(MemoryBackend(clocks[0]), clocks[0], steps)
                assert await _play(local, clocks[1], steps) == expected
            finally:
                await local.close()

    asyncio.run(both())
