"""The invariants of DESIGN.md, as checkers over plain data.

Each takes what a run left behind (the entries of one journal in the order in which they
were written, or the whole history) and returns what is wrong with it; nothing, if all is
well. None of them trusts the code it checks for more than `apply` and `project`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from msgspec.structs import replace

from roost.journal.claims import Owner
from roost.journal.control import InvalidTransition, apply
from roost.journal.entries import Control, Entry, IndexRow, Lease
from roost.journal.events import AttemptFailed, Committed, Evicted, Failed, Kind, Recorded
from roost.journal.projection import project
from roost.models import State

HOLDER_KINDS = frozenset(
    {
        Kind.COMMITTED,
        Kind.RECORDED,
        Kind.ATTEMPT_FAILED,
        Kind.DEFERRED,
        Kind.BLOCKED,
        Kind.RELEASED,
    }
)
"""Kinds of entries that only the holder of the lease may write."""

STILL_APPENDED = frozenset({Kind.CHILD_ENDED, Kind.SETTLED, Kind.BUDGET_SET, Kind.NOTED})
"""Kinds that outsiders append to work that has ended; they change neither state nor version."""

TAKING_KINDS = frozenset({Kind.CLAIMED, Kind.EVICTED})
"""Kinds that take a lease from its holder: only once it has run out, by the taker's clock."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant (by its number in DESIGN.md; 0: none of them) that does not hold."""

    invariant: int
    where: str
    what: str

    def __str__(self) -> str:
        return f"invariant {self.invariant}, {self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Appended:
    """An entry was written."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Began:
    """An engine's step began to run.

    Attributes:
        attempt: unique to this run of the step.
        owners: the claim that it had on each of its resources at this instant, by the claims
            port; or that of another, where it had none.
        most: how many owners each resource may have, where that is not one.
    """

    attempt: int
    work_id: str
    token: int
    owners: tuple[tuple[str, Owner | None], ...] = ()
    most: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """It ended (with `owners` as then), or the process in which it ran was killed."""

    attempt: int
    owners: tuple[tuple[str, Owner | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """A step did the side effect of `once(key)`."""

    work_id: str
    token: int
    key: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A signal was acknowledged to its sender."""

    work_id: str
    signal_id: str
    position: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Stepped:
    """An engine's step is about to return; what it was given, and what it asks for.

    Attributes:
        version: of the snapshot before it.
        signals: ids of those that its wait named.
        taken: ids of those that it took besides.
        children: (ordinal, state, result) of the results that it was given.
        detached_count: how many detached children it spawns.
        bound: which of its attached children end with it, by number.
    """

    work_id: str
    token: int
    version: int
    signals: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    children: tuple[tuple[int, State, object], ...] = ()
    join_is_met: bool | None = None
    timed_out: bool = False
    detached_count: int = 0
    bound: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Dropped:
    """The bodies of entries were dropped."""

    work_id: str
    positions: tuple[int, ...]


Record = Appended | Began | Ended | Effect | Sent | Stepped | Dropped


def journals(history: Iterable[Record]) -> dict[str, list[Entry]]:
    """The entries of each work item, in the order in which they were written."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for record in history:
        if isinstance(record, Appended):
            found[record.entry.work_id].append(record.entry)
    return dict(found)


def check_positions(entries: Sequence[Entry]) -> list[Violation]:
    """1: positions are 0, 1, 2, …; no two entries share one."""
    return [
        Violation(1, at_entry(entry), f"is number {number} of its journal, in order of writing")
        for number, entry in enumerate(entries)
        if entry.position != number or entry.control.position != number
    ]


def check_versions(entries: Sequence[Entry]) -> list[Violation]:
    """2: versions are 1, 2, 3, …; each is committed exactly once."""
    commits = [(entry, entry.event) for entry in entries if isinstance(entry.event, Committed)]
    return [
        Violation(2, at_entry(entry), f"commits version {event.version}, but {number} comes next")
        for number, (entry, event) in enumerate(commits, start=1)
        if event.version != number or entry.control.version != number
    ]


def check_snapshots(
    trails: Mapping[tuple[str, int], Sequence[int]],
    bases: Mapping[tuple[str, int], tuple[str, int] | None] | None = None,
) -> list[Violation]:
    """2: each version was made from the one that it was to be made from.

    Args:
        trails: per work id and version, the versions that led to it, as the engine wrote
            them down: it adds one to what it is given at each step.
        bases: per work id and version, the one that it was to be made from (None: the
            beginning); by default the one before it.
    """
    found = []
    for (work_id, version), trail in trails.items():
        if bases is None:
            before = list(range(1, version))
        else:
            base = bases[work_id, version]
            if base is not None and base not in trails:
                text = f"was made from {base}, which is none"
                found.append(Violation(19, f"{work_id} version {version}", text))
                continue
            before = [] if base is None else list(trails[base])
        if list(trail) != [*before, version]:
            found.append(Violation(2, f"{work_id} version {version}", f"came about by {list(trail)}"))
    return found


def check_done(tails: Iterable[Entry], step_counts: Mapping[str, int]) -> list[Violation]:
    """2: work that is done has committed every one of its steps."""
    return [
        Violation(2, at_entry(tail), f"is done at version {tail.control.version}")
        for tail in tails
        if tail.control.state is State.DONE and tail.control.version < step_counts[tail.work_id]
    ]


def check_fencing(entries: Sequence[Entry]) -> list[Violation]:
    """3: only the worker of the latest claim writes a holder's entry, and only on what it knows."""
    found: list[Violation] = []
    before: Control | None = None
    for entry in entries:
        found += _check_holder(entry, before.lease if before else None)
        try:
            expected = apply(before, entry.event, position=entry.position, at=entry.at)
        except InvalidTransition as error:
            found.append(Violation(3, at_entry(entry), str(error)))
        else:
            if entry.control != expected:
                found.append(
                    Violation(3, at_entry(entry), "its control state does not follow from the entry before")
                )
        before = entry.control
    return found


def _check_holder(entry: Entry, lease: Lease | None) -> list[Violation]:
    kind = entry.event.kind
    if kind in HOLDER_KINDS and (lease is None or lease.worker_id != entry.actor):
        holder = f"{lease.worker_id} under {lease.token}" if lease else "nobody"
        return [Violation(3, at_entry(entry), f"written by {entry.actor}, while {holder} holds the lease")]
    if lease is None:
        return []
    if isinstance(entry.event, Evicted) and entry.event.token != lease.token:
        return [
            Violation(3, at_entry(entry), f"evicts {entry.event.token}, while {lease.token} is the holder")
        ]
    return []


def check_leases(entries: Sequence[Entry]) -> list[Violation]:
    """A lease is left to its holder until it has run out, by the clock of who takes it.

    Safety does not rest on it, so no number; but nobody would get anything done without.
    """
    return [
        Violation(0, at_entry(after), f"takes a lease that lasts for {lease.until - after.at} s more")
        for before, after in pairwise(entries)
        if (lease := before.control.lease) and _takes(after) and after.at < lease.until
    ]


def _takes(entry: Entry) -> bool:
    """Whether it takes a lease from its holder; an operator, who says why, may do so at any time."""
    is_operators = isinstance(entry.event, Evicted) and bool(entry.event.reason)
    return entry.event.kind in TAKING_KINDS and not is_operators


def check_owners(history: Iterable[Record]) -> list[Violation]:
    """4: at no instant do more steps run with a resource, under leases that are theirs, than may own it."""
    found: list[Violation] = []
    leases: dict[str, int | None] = {}
    running: dict[int, Began] = {}

    def live(began: Began) -> bool:
        return leases.get(began.work_id) == began.token

    for record in history:
        match record:
            case Appended(entry):
                leases[entry.work_id] = entry.control.lease.token if entry.control.lease else None
            case Ended(attempt, owners):
                began = running.pop(attempt, None)
                if began is not None and live(began):
                    found += _check_claims(began, owners)
            case Began() if live(record):
                others = [other for other in running.values() if live(other)]
                found += _check_claims(record, record.owners) + _check_alone(record, others)
                running[record.attempt] = record
            case Began():
                running[record.attempt] = record
    return found


def _check_claims(began: Began, owners: Iterable[tuple[str, Owner | None]]) -> list[Violation]:
    """The claims port names the step that runs as owner."""
    return [
        Violation(4, f"{began.work_id} under {began.token}", f"runs without {name}, which {owner} owns")
        for name, owner in owners
        if owner is None or (owner.work_id, owner.token) != (began.work_id, began.token)
    ]


def _check_alone(began: Began, others: Iterable[Began]) -> list[Violation]:
    """No more than may run with one of its resources, nor the same work item a second time."""
    found = []
    for name in _held(began):
        sharing = [other for other in others if name in _held(other)]
        most = max(dict(one.most).get(name, 1) for one in (began, *sharing))
        if len(sharing) >= most:
            names = ", ".join(f"{other.work_id} under {other.token}" for other in sharing)
            found.append(Violation(4, name, f"held by {names} when {began.work_id} begins"))
    return found


def _held(began: Began) -> list[str]:
    return [f"work item {began.work_id}", *(name for name, _ in began.owners)]


def check_ended(tails: Iterable[Entry]) -> list[Violation]:
    """5: every enqueued work item has reached a terminal state."""
    return [
        Violation(5, at_entry(tail), f"is still {tail.control.state}")
        for tail in tails
        if not tail.control.state.is_terminal
    ]


def check_final(entries: Sequence[Entry]) -> list[Violation]:
    """6: nothing but an operator's retry leads out of a terminal state.

    What outsiders may still append, reports of children and that effects are done, changes
    neither state nor version.
    """
    return [
        Violation(6, at_entry(after), f"{after.event.kind} follows a state that is {before.control.state}")
        for before, after in pairwise(entries)
        if before.control.state.is_terminal
        and after.event.kind is not Kind.RETRIED
        and (
            after.event.kind not in STILL_APPENDED
            or (after.control.state, after.control.version) != (before.control.state, before.control.version)
        )
    ]


def check_once(history: Iterable[Record]) -> list[Violation]:
    """A recorded side effect is not repeated by a step that holds the lease."""
    found: list[Violation] = []
    controls: dict[str, Control] = {}
    for record in history:
        match record:
            case Appended(entry):
                before = controls.get(entry.work_id)
                if isinstance(entry.event, Recorded) and before and entry.event.key in dict(before.once):
                    found.append(Violation(8, at_entry(entry), f"records {entry.event.key} again"))
                controls[entry.work_id] = entry.control
            case Effect(work_id, token, key):
                control = controls[work_id]
                is_live = control.lease is not None and control.lease.token == token
                if is_live and key in dict(control.once):
                    found.append(Violation(8, f"{work_id} under {token}", f"repeats {key}"))
    return found


def check_index(tails: Iterable[Entry], rows: Mapping[str, IndexRow]) -> list[Violation]:
    """9: each index row shows its journal's tail.

    Save, while the work goes on, when to look next and how far heartbeats moved the lease.
    """
    found = []
    for tail in tails:
        row = rows.get(tail.work_id)
        if row is None:
            found.append(Violation(9, at_entry(tail), "has no index row"))
        elif _plain(row) != _plain(_finally(project(tail))):
            text = f"the index row shows {row.state} at {row.position}, due at {row.due_at}"
            found.append(Violation(9, at_entry(tail), text))
    return found


def _finally(row: IndexRow) -> IndexRow:
    """Once all effects of the last entry are done, nobody needs to look at work that has ended."""
    return replace(row, due_at=None) if row.state.is_terminal else row


def _plain(row: IndexRow) -> IndexRow:
    if row.state.is_terminal:
        return replace(row, progress=None)
    return replace(row, due_at=None, lease_until=None, progress=None)


def check_artifacts(put: Mapping[str, bytes], read: Mapping[str, bytes | Exception]) -> list[Violation]:
    """10: reading an artifact gives the bytes that were put, or an error.

    Args:
        put: per digest, what the engine stored under it.
        read: per digest, what came back.
    """
    return [
        Violation(10, digest, f"reads {came[:40]!r}, was {put.get(digest, b'never put')[:40]!r}")
        for digest, came in read.items()
        if not isinstance(came, Exception) and came != put.get(digest)
    ]


def check_reasons(history: Iterable[Record], expected: Collection[str]) -> list[Violation]:
    """No attempt failed, and no work, of anything but what the run had in store for it."""
    return [
        Violation(0, at_entry(record.entry), f"failed of {event.error.type}: {event.error.message}")
        for record in history
        if isinstance(record, Appended)
        and isinstance(event := record.entry.event, AttemptFailed | Failed)
        and event.error.type not in expected
    ]


def check_history(history: Sequence[Record], *, are_clocks_steady: bool = True) -> list[Violation]:
    """All that can be said of a run while it still goes on."""
    found: list[Violation] = []
    for entries in journals(history).values():
        for check in (check_positions, check_versions, check_fencing, check_final):
            found += check(entries)
        if are_clocks_steady:
            found += check_leases(entries)
    return found + check_owners(history) + check_once(history)


def at_entry(entry: Entry) -> str:
    """Where an entry is, and what it is."""
    return f"{entry.work_id}@{entry.position} ({entry.event.kind} by {entry.actor})"
