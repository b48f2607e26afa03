"""What happens, as numbers: one observer that feeds any sink of metrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Protocol

from roost.clock import Clock
from roost.core.observe import Began, Held, StepEnd, TokensUsed, outcome_of
from roost.errors import StorageUnavailable
from roost.journal.claims import Acquired
from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Ending
from roost.names import Lane, State
from roost.observe import names
from roost.observe.names import Metric
from roost.storage.ports import Delivery, Message, WorkIndex

Labels = Mapping[str, str]
_FAILED = frozenset({"failed", "retry", "lost", "error"})
"""Ends of sessions that are failures of what was delivered."""


class Sink(Protocol):
    """Where numbers go. Each metric is one of `names.METRICS`, with exactly its labels; the value of
    one that does not apply is an empty text."""

    def add(self, metric: Metric, amount: float, labels: Labels) -> None:
        """To a counter."""

    def record(self, metric: Metric, value: float, labels: Labels) -> None:
        """In a histogram."""

    def set(self, metric: Metric, value: float, labels: Labels) -> None:
        """A gauge."""


class Measures:
    """An `Observer` and a `Watch` in one.

    Args:
        backend: the scheme of the storage's URL; a label.
        is_gen_ai: the metrics of the conventions for generative AI are taken, too.
    """

    def __init__(
        self, sinks: Sequence[Sink], clock: Clock, backend: str, *, build: Labels, is_gen_ai: bool = False
    ) -> None:
        self._sinks = sinks
        self._clock = clock
        self._backend = backend
        self._system = {names.MESSAGING_SYSTEM: names.messaging_system(backend)}
        self._is_gen_ai = is_gen_ai
        self._sessions: dict[tuple[str, int], float] = {}  # when they began
        self._ready: dict[tuple[str, int], float] = {}  # since when, of those at no step yet
        self._known: dict[str, set[str]] = defaultdict(set)
        self._claims_held = 0
        self._set(names.BUILD_INFO, 1, **build)

    # --- the observer ---

    def enqueuing(self, work_id: str, engine: str, lane: Lane, at: float) -> str:
        """See `Observer`."""
        return ""

    def enqueued(self, entry: Entry, *, is_new: bool, at: float) -> None:
        """See `Observer`."""
        outcome = "new" if is_new else "known"
        self._add(names.WORK_ENQUEUED, 1, engine=entry.control.engine, outcome=outcome)

    def session_began(self, held: Held, began: Began) -> None:
        """See `Observer`."""
        self._sessions[held.work_id, held.token] = began.at
        if began.ready_at is not None:
            self._ready[held.work_id, held.token] = began.ready_at
        if began.blocked_seconds is not None:
            self._record(names.CLAIMS_WAIT, max(0.0, began.blocked_seconds))

    def session_ended(self, held: Held, end: str, at: float) -> None:
        """See `Observer`."""
        self._ready.pop((held.work_id, held.token), None)  # it never came to a step
        seconds = max(0.0, at - self._sessions.pop((held.work_id, held.token)))
        how = {names.MESSAGING_NAME: names.SESSION, names.MESSAGING_DESTINATION: held.lane.value}
        error = end if end in _FAILED else ""
        self._record(names.MESSAGING_PROCESS, seconds, **self._system, **how, **{names.ERROR_TYPE: error})

    def step_began(self, held: Held, version: int, attempt: int, at: float) -> None:
        """See `Observer`."""

    def step_entered(self, held: Held, step: str, at: float) -> None:
        """See `Observer`."""
        ready_at = self._ready.pop((held.work_id, held.token), None)
        if ready_at is not None:
            self._record(names.SCHEDULE_DELAY, max(0.0, at - ready_at), lane=held.lane.value)

    def step_ended(self, held: Held, step: str, end: StepEnd) -> None:
        """See `Observer`."""
        engine = held.engine
        self._record(names.STEP_DURATION, end.seconds, engine=engine, step=step, outcome=end.outcome)
        self._add(names.STEP_ATTEMPTS, 1, engine=engine, outcome=end.outcome)
        if end.snapshot_bytes is not None and end.stored_bytes is not None:
            self._record(names.SNAPSHOT_SIZE, end.snapshot_bytes, engine=engine)
            self._record(names.SNAPSHOT_STORED, end.stored_bytes, engine=engine)
        for name, amount in end.spent:
            self._add(names.WORK_SPENT, amount, engine=engine, amount=name)

    def recorded(self, held: Held, key: str, position: int, began_at: float, at: float) -> None:
        """See `Observer`."""

    def tokens_used(self, held: Held, used: TokensUsed) -> None:
        """See `Observer`."""
        if not self._is_gen_ai:
            return
        of = {
            names.GEN_AI_OPERATION: names.INVOKE_WORKFLOW,
            names.GEN_AI_PROVIDER: used.provider or names.OTHER,
            names.GEN_AI_MODEL: used.model,
        }
        for kind, count in used.counts:
            self._record(names.TOKEN_USAGE, count, **of, **{names.GEN_AI_TOKEN_TYPE: kind})

    def claims_changed(self, held: Held, *, has_them: bool) -> None:
        """See `Observer`."""
        self._claims_held += 1 if has_them else -1
        self._set(names.CLAIMS_HELD, self._claims_held)

    def lease_lost(self, reason: str) -> None:
        """See `Observer`."""
        self._add(names.LEASE_LOST, 1, reason=reason)

    def loop_blocked(self, seconds: float) -> None:
        """See `Observer`."""
        self._record(names.LOOP_BLOCKED, seconds)

    def budget_reached(self, engine: str, whose: str, mark: str) -> None:
        """See `Observer`."""
        self._add(names.BUDGET_MARKS, 1, engine=engine, whose=whose, mark=mark)

    def taken_over(self, reason: str) -> None:
        """See `Observer`."""
        self._add(names.LEASE_TAKEOVERS, 1, reason=reason)

    def renewed(self, reason: str, count: int) -> None:
        """See `Observer`."""
        self._add(names.LEASE_RENEWALS, count, reason=reason)

    def swept(self, lag_seconds: float, repaired: Mapping[str, int]) -> None:
        """See `Observer`."""
        self._set(names.SWEEPER_LAG, lag_seconds)
        for cause, count in repaired.items():
            self._add(names.SWEEPER_REPAIRED, count, cause=cause)

    def lanes(self, count: int, busy: int) -> None:
        """See `Observer`."""
        self._set(names.WORKER_LANES, count)
        self._set(names.WORKER_BUSY, busy)

    async def count(self, index: WorkIndex, namespace: str) -> None:
        """Count the work items of a namespace by state and lane, and see how old those are that go on.

        Raises:
            StorageError: the index can't be read.
        """
        found = {(one.state, one.lane): one for one in await index.lane_counts(namespace)}
        now = self._clock.now()
        for state, lane in product(State, Lane):
            one, where = found.get((state, lane)), {"state": state.value, "lane": lane.value}
            self._set(names.WORK_COUNT, one.count if one else 0, **where)
            if not state.is_terminal:
                self._set(names.WORK_OLDEST, max(0.0, now - one.oldest_at) if one else 0.0, **where)

    # --- the watch ---

    def began(self) -> float:
        """See `Watch`."""
        return self._clock.monotonic()

    def ended(
        self, call: str, detail: str, began: float, subject: object, result: object, error: Exception | None
    ) -> None:
        """See `Watch`."""
        self._add(names.STORAGE_CALLS, 1, backend=self._backend, op=call)
        if isinstance(error, StorageUnavailable):
            self._add(names.STORAGE_THROTTLES, 1, backend=self._backend, op=call)
        if call in names.QUEUE_OPERATIONS:
            self._messaged(call, self._clock.monotonic() - began, subject, result, error)
        if error is not None:
            return
        if stored := _bytes_of(subject, result):
            self._add(names.STORAGE_BYTES, stored, backend=self._backend, op=call)
        if isinstance(subject, Entry) and isinstance(result, Entry):
            self._appended(subject, result, self._clock.monotonic() - began)
        elif isinstance(subject, IndexRow):
            lag_seconds = max(0.0, self._clock.now() - subject.updated_at)
            self._record(names.INDEX_LAG, lag_seconds, backend=self._backend)

    def _messaged(
        self, call: str, seconds: float, subject: object, result: object, error: Exception | None
    ) -> None:
        how = {**self._system, names.MESSAGING_NAME: call}
        kind = {names.MESSAGING_OPERATION: names.QUEUE_OPERATIONS[call]}
        failed = {names.ERROR_TYPE: type(error).__name__ if error is not None else ""}
        self._record(names.MESSAGING_DURATION, seconds, **how, **kind, **failed)
        for lane, count in _by_lane(subject if call == "send" else None).items():
            self._add(names.MESSAGING_SENT, count, **how, **{names.MESSAGING_DESTINATION: lane}, **failed)
        for lane, count in _by_lane(result if call == "receive" else None).items():
            self._add(names.MESSAGING_CONSUMED, count, **how, **{names.MESSAGING_DESTINATION: lane})

    def met(self, fault: str) -> None:
        """See `Watch`."""
        self._add(names.STORAGE_FAULTS, 1, backend=self._backend, code=fault)

    def _appended(self, entry: Entry, stands: Entry, seconds: float) -> None:
        event, kind = entry.event, entry.event.kind.value
        self._record(names.APPEND_DURATION, seconds, backend=self._backend, kind=kind)
        if stands.entry_id != entry.entry_id:
            self._add(names.CONFLICTS, 1, backend=self._backend, kind=kind)
        elif isinstance(event, Ending) and entry.control.state.is_terminal:
            of = {"engine": entry.control.engine, "outcome": entry.control.state.value}
            self._add(names.WORK_FINISHED, 1, **of)
            seconds = max(0.0, entry.at - entry.control.created_at)
            self._record(names.WORK_DURATION, seconds, **of)
            if self._is_gen_ai:
                self._record(names.WORKFLOW_DURATION, seconds, **_workflow(entry))

    # --- to the sinks ---

    def _add(self, metric: Metric, value: float, **labels: str) -> None:
        checked = self._checked(metric, labels)
        for sink in self._sinks:
            sink.add(metric, value, checked)

    def _record(self, metric: Metric, value: float, **labels: str) -> None:
        checked = self._checked(metric, labels)
        for sink in self._sinks:
            sink.record(metric, value, checked)

    def _set(self, metric: Metric, value: float, **labels: str) -> None:
        checked = self._checked(metric, labels)
        for sink in self._sinks:
            sink.set(metric, value, checked)

    def _checked(self, metric: Metric, labels: dict[str, str]) -> Labels:
        """The labels, in the metric's order; a value too many is `other`."""
        return {name: self._capped(name, labels[name]) for name in metric.labels}

    def _capped(self, name: str, value: str) -> str:
        if name not in names.CAPPED_LABELS:
            return value
        known = self._known[name]
        if value not in known:
            if len(known) >= names.LABEL_VALUES_MAX:
                return names.OTHER
            known.add(value)
        return value


def _workflow(entry: Entry) -> dict[str, str]:
    """What the conventions say of work that ended: its name, and its error if it ended in one."""
    outcome, error = outcome_of(entry.event)
    is_done = entry.control.state is State.DONE
    return {
        names.GEN_AI_WORKFLOW: entry.control.engine,
        names.ERROR_TYPE: "" if is_done else error or outcome,
    }


def _by_lane(messages: object) -> Counter[str]:
    """How many messages, or deliveries, there are for each lane."""
    found = messages if isinstance(messages, list | tuple) else ()
    return Counter(one.lane.value for one in found if isinstance(one, Message | Delivery))


def _bytes_of(subject: object, result: object) -> int:
    """The bytes of bodies and artifacts that a call carried."""
    match subject, result:
        case Entry(body=body), Entry() if body is not None:
            return len(body.data)
        case None, bytes():
            return len(result)
        case None, _ if (size := getattr(result, "size_bytes", None)) is not None:
            return int(size)
        case list() | tuple(), _:
            return sum(_bytes_of(one, one) for one in subject if isinstance(one, Entry))
    return 0


def was_refused(subject: object, result: object) -> bool:
    """Whether a call came to nothing: a position taken, resources held."""
    if isinstance(subject, Entry) and isinstance(result, Entry):
        return subject.entry_id != result.entry_id
    return not isinstance(result, Acquired)
