"""The invariants of signals, spawns and joins, as checkers over a history; see `invariants.py`.

7. Signals. A signal stands in its journal before it is acknowledged, and once, however often
   it is sent. A step is given the unseen signals that its wait named, in the order in which
   they came, and none is left out; what it was given or took, its commit consumes, and nothing
   else; and nothing is consumed twice. A step after a wait runs because one of the signals came,
   or the join is satisfied, or the time of the wait is over; no step runs at the end of a wait
   that was to fail.
8. Spawns. A child that ends with its parent is asked to when that ends, however it does.
   A child exists only after the commit that asks for it, with the id and the ordinal
   that follow from that commit, once; and each child that was asked for comes to exist. What an
   entry owes to others (children, the report to the parent, cancelling) is in the outbox until
   it has happened, and no longer than that.
11. Joins. A parent has exactly one report of each child that has ended, after its end, with what
   came of it. A step after a join is given every report that no step has seen; its verdict is
   that of the policy over these; and the report by which the policy is satisfied early, or no
   longer can be, owes the others that they are cancelled, also where something else had woken
   the parent, until the step after the join is committed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from roost.journal.effects import CancelChildren, NotifyParent, SpawnChildren, effects_of
from roost.journal.entries import Control, Entry
from roost.journal.events import AttemptFailed, Cancelled, ChildEnded, Committed, Enqueued, Failed, Signaled
from roost.journal.values import Join, Parent
from roost.models import State

from .invariants import Appended, Record, Sent, Stepped, Violation
from .operator_invariants import FORKER


@dataclass(slots=True)
class _Work:
    """What is known of one work item at an instant of the history.

    Attributes:
        control: the state after its last entry.
        ids: of its signals, by position.
        names: of its signals, by position.
        reports: (ordinal, state) by position.
        consumed: positions that a commit consumed.
        children: ids of all children asked for, by ordinal.
        bound: ordinals of those that end with their parent, however that ends.
        claimed_at: when each token was claimed, by the clock of who claimed.
        ends: the terminal states that it had.
    """

    control: Control | None = None
    ids: dict[int, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    reports: dict[int, tuple[int, State]] = field(default_factory=dict)
    consumed: set[int] = field(default_factory=set)
    children: list[str] = field(default_factory=list)
    bound: set[int] = field(default_factory=set)
    claimed_at: dict[int, float] = field(default_factory=dict)
    ends: list[State] = field(default_factory=list)

    @property
    def open_count(self) -> int:
        return len(self.children) - len({ordinal for ordinal, _ in self.reports.values()})

    def unseen(self) -> list[State]:
        """States in the reports that no commit has consumed."""
        return [state for position, (_, state) in self.reports.items() if position not in self.consumed]


class _Scan:
    """Goes through a history once, and keeps what the checks compare with."""

    def __init__(self, are_clocks_steady: bool) -> None:
        self.are_clocks_steady = are_clocks_steady
        self.works: dict[str, _Work] = defaultdict(_Work)
        self.stepped: dict[tuple[str, int, int], Stepped] = {}
        self.asked_for: dict[str, Parent | None] = {}
        self.found: list[Violation] = []
        self._entries: dict[tuple[str, int], Entry] = {}
        self._needy: dict[tuple[str, int], set[str]] = {}

    def take(self, record: Record) -> None:
        match record:
            case Stepped():
                self.stepped[record.work_id, record.token, record.version] = record
            case Sent():
                if self.works[record.work_id].ids.get(record.position) != record.signal_id:
                    self._miss(7, record.work_id, f"signal {record.signal_id} was acknowledged too early")
            case Appended(entry):
                self._append(entry)

    def finish(self) -> list[Violation]:
        """Check what must have happened by the end."""
        for child_id, parent in self.asked_for.items():
            if self.works[child_id].control is None:
                self._miss(8, child_id, f"was never spawned for {parent}")
        for work_id, work in self.works.items():
            if work.control is not None:
                for position in work.control.outbox:
                    self._check_done(self._entries[work_id, position])
        return self.found

    def _miss(self, invariant: int, where: str, what: str) -> None:
        self.found.append(Violation(invariant, where, what))

    # --- entries -------------------------------------------------------------

    def _append(self, entry: Entry) -> None:
        work = self.works[entry.work_id]
        before = work.control
        match entry.event:
            case Enqueued():
                self._enqueued(entry, entry.event)
            case Signaled(signal_id=signal_id, name=name):
                if signal_id in work.ids.values():
                    self._miss(7, _at(entry), f"signal {signal_id} stands twice")
                work.ids[entry.position], work.names[entry.position] = signal_id, name
            case ChildEnded():
                self._child_ended(entry, entry.event, work)
            case Committed() if before is not None:
                self._committed(entry, entry.event, before, work)
        if entry.control.lease is not None and entry.control.lease.token == entry.position:
            work.claimed_at[entry.position] = entry.at
        self._move(entry, work)

    def _move(self, entry: Entry, work: _Work) -> None:
        """The work item is now in the state after `entry`."""
        before, work.control = work.control, entry.control
        self._entries[entry.work_id, entry.position] = entry
        if _is_end(entry, before):
            work.ends.append(entry.control.state)
        if entry.control.state.is_terminal or entry.control.cancel_requested:
            for needy in self._needy.values():
                needy.discard(entry.work_id)
        for effect in _owed(entry, before, work):
            if entry.position not in entry.control.outbox:
                self._miss(8 if effect != "cancel the rest" else 11, _at(entry), f"does not owe to {effect}")
        if any(isinstance(effect, CancelChildren) for effect in effects_of(entry)):
            is_all = entry.control.state is not State.DONE and entry.control.state is not State.FAILED
            some = None if is_all else work.bound
            self._needy[entry.work_id, entry.position] = set(self._not_ending(work, some))
        for position in () if before is None else before.outbox:
            if position not in entry.control.outbox:
                self._check_done(self._entries[entry.work_id, position])

    def _not_ending(self, work: _Work, some: set[int] | None) -> Iterator[str]:
        """Children that never ended, nor were asked to; only `some` of them, if not None.

        Nobody waits for one any more that ended, and that an operator put back to life.
        """
        for ordinal, child_id in enumerate(work.children):
            if some is not None and ordinal not in some:
                continue
            child = self.works[child_id]
            if not child.ends and (child.control is None or not child.control.cancel_requested):
                yield child_id

    def _check_done(self, origin: Entry) -> None:
        """8: what an entry owes has happened by the time that it leaves the outbox."""
        for effect in effects_of(origin):
            match effect:
                case SpawnChildren():
                    undone = [c for c in self._asked_by(origin) if self.works[c].control is None]
                case CancelChildren():
                    undone = sorted(self._needy.get((origin.work_id, origin.position), ()))
                case NotifyParent():
                    undone = self._unreported(origin)
                case _:
                    continue
            if undone:
                self._miss(8, _at(origin), f"is done with, but not {effect}: {undone}")

    def _asked_by(self, origin: Entry) -> list[str]:
        assert isinstance(origin.event, Committed)
        prefix = f"{origin.work_id}.{origin.event.version}"
        own = re.compile(re.escape(prefix) + "[-d][0-9]+")
        return [child_id for child_id in self.asked_for if own.fullmatch(child_id)]

    def _unreported(self, origin: Entry) -> list[str]:
        parent = origin.control.parent
        assert parent is not None
        known = {ordinal for ordinal, _ in self.works[parent.work_id].reports.values()}
        return [] if parent.ordinal in known else [origin.work_id]

    # --- children ------------------------------------------------------------

    def _enqueued(self, entry: Entry, event: Enqueued) -> None:
        """8: only what a commit asked for is spawned, as it asked for it."""
        is_from_outside = entry.actor == "client" or entry.actor.startswith(FORKER)
        if not is_from_outside and entry.work_id not in self.asked_for:
            self._miss(8, _at(entry), "was spawned, but no commit asked for it")
        elif event.parent != self.asked_for.get(entry.work_id):
            self._miss(8, _at(entry), f"has parent {event.parent}, not {self.asked_for.get(entry.work_id)}")

    def _child_ended(self, entry: Entry, event: ChildEnded, work: _Work) -> None:
        """11: the first report of a child that has ended so."""
        if event.ordinal in {ordinal for ordinal, _ in work.reports.values()}:
            self._miss(11, _at(entry), f"reports child {event.ordinal} again")
        if event.ordinal >= len(work.children) or work.children[event.ordinal] != event.child_id:
            self._miss(11, _at(entry), f"{event.child_id} is not child {event.ordinal}")
        if event.state not in self.works[event.child_id].ends:
            self._miss(11, _at(entry), f"{event.child_id} has not ended as {event.state}")
        work.reports[entry.position] = event.ordinal, event.state

    # --- commits -------------------------------------------------------------

    def _committed(self, entry: Entry, event: Committed, before: Control, work: _Work) -> None:
        token = before.lease.token if before.lease is not None else -1
        stepped = self.stepped.get((entry.work_id, token, event.version - 1))
        stepped = stepped or Stepped(entry.work_id, token, event.version - 1)
        self._check_consumed(entry, event, stepped, work)
        waits = before.waits
        names = waits.names if waits is not None else ()
        self._check_signals(entry, stepped, names, work)
        if waits is not None and waits.join is not None:
            self._check_join(entry, stepped, waits.join, bool(stepped.signals), work)
        elif waits is not None and stepped.timed_out is bool(stepped.signals):
            self._miss(7, _at(entry), f"{stepped} does not fit {waits}")
        if stepped.timed_out:
            self._check_time(entry, before, work)
        work.consumed.update(event.consumed)
        for number in range(event.spawned):
            child_id = f"{entry.work_id}.{event.version}-{number}"
            origin_at = entry.control.created_at
            self.asked_for[child_id] = Parent(entry.work_id, len(work.children), origin_at=origin_at)
            if number in stepped.bound:
                work.bound.add(len(work.children))
            work.children.append(child_id)
        for number in range(stepped.detached_count):
            self.asked_for[f"{entry.work_id}.{event.version}d{number}"] = None

    def _check_consumed(self, entry: Entry, event: Committed, stepped: Stepped, work: _Work) -> None:
        """7: what the step was given or took, each once."""
        signals = [work.ids[position] for position in event.consumed if position in work.ids]
        if sorted(signals) != sorted((*stepped.signals, *stepped.taken)):
            self._miss(7, _at(entry), f"consumes {signals}, but the step saw {stepped}")
        ordinals = sorted(work.reports[p][0] for p in event.consumed if p in work.reports)
        if ordinals != [ordinal for ordinal, _, _ in stepped.children]:
            self._miss(11, _at(entry), f"consumes reports of {ordinals}, but the step saw {stepped}")
        for position in event.consumed:
            if position in work.consumed or position not in work.ids | work.reports:
                self._miss(7, _at(entry), f"consumes {position}, which is not there to be seen")

    def _check_signals(self, entry: Entry, stepped: Stepped, names: Sequence[str], work: _Work) -> None:
        """7: in order, and none left out that was there before one of them, or before the claim."""
        named = {p: work.ids[p] for p, name in work.names.items() if name in names and p not in work.consumed}
        seen = [
            position for signal_id in stepped.signals for position in named if named[position] == signal_id
        ]
        if len(seen) != len(stepped.signals) or seen != sorted(seen):
            self._miss(7, _at(entry), f"the step saw {stepped.signals} of {named}")
        until = max([stepped.token, *seen])
        left_out = [named[position] for position in named if position < until and position not in seen]
        if left_out:
            self._miss(7, _at(entry), f"the step did not see {left_out}")

    def _check_join(self, entry: Entry, stepped: Stepped, join: Join, has_signals: bool, work: _Work) -> None:
        """11: all unseen reports were given; the verdict and the waking follow from them."""
        unseen = {p: pair for p, pair in work.reports.items() if p not in work.consumed}
        given = {ordinal: (state, result) for ordinal, state, result in stepped.children}
        missing = [pair for p, pair in unseen.items() if p < stepped.token and pair[0] not in given]
        for ordinal, state in unseen.values():
            result = work.children[ordinal] if state is State.DONE else None
            if ordinal in given and given[ordinal] != (state, result):
                self._miss(11, _at(entry), f"child {ordinal} is {state}, but came as {given[ordinal]}")
        done = sum(state is State.DONE for state, _ in given.values())
        known = {ordinal for p, (ordinal, _) in work.reports.items() if p in work.consumed}
        still_open = len(work.children) - len(known) - len(given)
        came = has_signals or _is_satisfied(join, done, len(given) - done, still_open)
        if missing or came is stepped.timed_out or stepped.join_is_met is not _is_met(join, done, len(given)):
            self._miss(11, _at(entry), f"{stepped} does not fit {join}, {still_open} open, {missing=}")

    def _check_time(self, entry: Entry, before: Control, work: _Work) -> None:
        """7: a wait is over when its time is by the clock of one who claimed since; one that fails
        the work is never followed by a step."""
        waits = before.waits
        since = before.snapshot_position or 0
        claimed_at = max(at for token, at in work.claimed_at.items() if token > since)
        if waits is None or waits.fails or waits.until is None:
            self._miss(7, _at(entry), f"timed out of {waits}")
        elif self.are_clocks_steady and claimed_at < waits.until:
            self._miss(7, _at(entry), f"timed out {waits.until - claimed_at} s early")


def _is_end(entry: Entry, before: Control | None) -> bool:
    return entry.control.state.is_terminal and (before is None or not before.state.is_terminal)


def _owed(entry: Entry, before: Control | None, work: _Work) -> list[str]:
    """What an entry owes to others, found without `effects`."""
    owed = []
    if isinstance(entry.event, Committed) and entry.event.has_spawned:
        owed.append("spawn")
    if _is_end(entry, before) and isinstance(entry.event, Committed | AttemptFailed | Failed | Cancelled):
        if entry.control.parent is not None:
            owed.append("report")
        is_cancelled = entry.control.state is State.CANCELLED
        if work.open_count if is_cancelled else work.bound - {o for o, _ in work.reports.values()}:
            owed.append("cancel")
    if isinstance(entry.event, ChildEnded) and before is not None and not before.state.is_terminal:
        owed += _owed_to_the_rest(before.waits.join if before.waits is not None else None, work)
    return owed


def _owed_to_the_rest(join: Join | None, work: _Work) -> list[str]:
    """The report that satisfies a join, which it was not before, has the rest cancelled."""
    if join is None or not join.cancels_rest or not work.open_count:
        return []
    *others, last = work.unseen()
    done, was_done = [*others, last].count(State.DONE), others.count(State.DONE)
    was_satisfied = _is_satisfied(join, was_done, len(others) - was_done, work.open_count + 1)
    is_satisfied = _is_satisfied(join, done, len(others) + 1 - done, work.open_count)
    return ["cancel the rest"] if is_satisfied and not was_satisfied else []


def _is_satisfied(join: Join, done: int, failed: int, still_open: int) -> bool:
    if still_open == 0 or (join.max_failed is not None and failed > join.max_failed):
        return True
    return join.need_done is not None and not (done < join.need_done <= done + still_open)


def _is_met(join: Join, done: int, given: int) -> bool:
    return done >= (join.need_done or 0) and (join.max_failed is None or given - done <= join.max_failed)


def check_families(history: Iterable[Record], *, are_clocks_steady: bool = True) -> list[Violation]:
    """All invariants of this module, at the end of a run."""
    scan = _Scan(are_clocks_steady)
    for record in history:
        scan.take(record)
    return scan.finish()


def _at(entry: Entry) -> str:
    return f"{entry.work_id}@{entry.position} ({entry.event.kind} by {entry.actor})"
