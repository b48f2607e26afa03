"""Traces: spans of OpenTelemetry for what the core tells and what the storage does.

A work item may live for months, so each session is a trace of its own. It is linked to the
enqueueing, whose trace context stands in the journal's first entry, and to the session
before, where this process ran it. A child is enqueued inside its parent's session, so its
trace context leads there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextvars import Token
from typing import TypeVar

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from roost.clock import Clock
from roost.core.observe import Began, Held, StepEnd, TokensUsed
from roost.journal.claims import Ask
from roost.journal.entries import Entry
from roost.names import Lane
from roost.observe import names
from roost.observe.measures import was_refused

PENDING_MAX = 10_000  # spans of work items that are being stored
SESSIONS_MAX = 10_000  # ended sessions that a later one may be linked to
_FAILED = frozenset({"failed", "timeout", "lost", "error"})
_PROPAGATOR = TraceContextTextMapPropagator()
_KINDS = {"producer": SpanKind.PRODUCER, "consumer": SpanKind.CONSUMER, "internal": SpanKind.INTERNAL}

Key = tuple[str, int]
K = TypeVar("K")
V = TypeVar("V")


class Traces:
    """An `Observer` and a `Watch` in one.

    Args:
        system: `messaging.system` of the queue.
        is_gen_ai: steps have the attributes of the conventions for generative AI, too.
    """

    def __init__(self, tracer: Tracer, clock: Clock, system: str, *, is_gen_ai: bool = False) -> None:
        self._tracer = tracer
        self._clock = clock
        self._is_gen_ai = is_gen_ai
        self._messaging = {names.MESSAGING_SYSTEM: system}
        self._enqueuing: OrderedDict[str, Span] = OrderedDict()
        self._sessions: dict[Key, tuple[Span, Token[Context]]] = {}
        self._steps: dict[Key, tuple[Span, Token[Context]]] = {}
        self._ended: OrderedDict[Key, SpanContext] = OrderedDict()
        self._once_keys: set[str] = set()  # that are names of spans

    # --- the observer ---

    def enqueuing(self, work_id: str, engine: str, lane: Lane, at: float) -> str:
        """See `Observer`."""
        span = self._start(names.ENQUEUE, f" {engine}", at)
        span.set_attributes(self._message("send", "send", lane))
        span.set_attributes({names.WORK_ID: work_id, names.ENGINE: engine, names.LANE: lane.value})
        _put(self._enqueuing, work_id, span, PENDING_MAX)
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
        return carrier.get("traceparent", "")

    def enqueued(self, entry: Entry, *, is_new: bool, at: float) -> None:
        """See `Observer`."""
        span = self._enqueuing.pop(entry.work_id, None)
        if span is not None:
            span.set_attribute(names.CONFLICT, not is_new)
            span.end(_nanos(at))

    def session_began(self, held: Held, began: Began) -> None:
        """See `Observer`."""
        links = [Link(found) for found in self._links(held, began)]
        span = self._start(names.SESSION, f" {held.engine}", began.at, context=Context(), links=links)
        span.set_attributes(self._message(names.SESSION, "process", held.lane))
        span.set_attributes(
            {
                names.WORK_ID: held.work_id,
                names.ENGINE: held.engine,
                names.LANE: held.lane.value,
                names.WORKER: held.worker_id,
                names.TOKEN: held.token,
            }
        )
        if held.engine_version is not None:
            span.set_attribute(names.ENGINE_VERSION, held.engine_version)
        self._sessions[held.work_id, held.token] = (span, context.attach(trace.set_span_in_context(span)))

    def _links(self, held: Held, began: Began) -> list[SpanContext]:
        """Where the work was enqueued, and the session before, as far as they are known."""
        found = []
        if began.trace:
            carried = _PROPAGATOR.extract({"traceparent": began.trace}, Context())
            found.append(trace.get_current_span(carried).get_span_context())
        if began.last_token is not None:
            before = self._ended.pop((held.work_id, began.last_token), None)
            found += [before] if before is not None else []
        return [link for link in found if link.is_valid]

    def session_ended(self, held: Held, end: str, at: float) -> None:
        """See `Observer`."""
        span, token = self._sessions.pop((held.work_id, held.token))
        context.detach(token)
        span.set_attribute(names.SESSION_END, end)
        if end in _FAILED:
            span.set_status(StatusCode.ERROR, end)
        span.end(_nanos(at))
        _put(self._ended, (held.work_id, held.token), span.get_span_context(), SESSIONS_MAX)

    def step_began(self, held: Held, version: int, attempt: int, at: float) -> None:
        """See `Observer`."""
        span = self._start(names.STEP, f" {held.engine}", at)
        span.set_attributes(
            {
                names.WORK_ID: held.work_id,
                names.ENGINE: held.engine,
                names.TOKEN: held.token,
                names.VERSION: version,
                names.ATTEMPT: attempt,
            }
        )
        self._steps[held.work_id, held.token] = (span, context.attach(trace.set_span_in_context(span)))

    def step_entered(self, held: Held, step: str, at: float) -> None:
        """See `Observer`."""
        self._steps[held.work_id, held.token][0].update_name(f"{names.STEP} {held.engine} {step}")

    def step_ended(self, held: Held, step: str, end: StepEnd) -> None:
        """See `Observer`."""
        span, token = self._steps.pop((held.work_id, held.token))
        context.detach(token)
        span.set_attributes({names.STEP_NAME: step, names.OUTCOME: end.outcome})
        if end.position is not None:
            span.set_attribute(names.POSITION, end.position)
        if end.error_type:
            span.set_attribute(names.ERROR_TYPE, end.error_type)
        if end.outcome in _FAILED:
            span.set_status(StatusCode.ERROR, end.error_type)
        if self._is_gen_ai:
            span.set_attributes(
                {names.GEN_AI_OPERATION: names.INVOKE_WORKFLOW, names.GEN_AI_AGENT: held.engine}
            )
            usage = ((names.GEN_AI_USAGE.get(name), amount) for name, amount in end.spent)
            span.set_attributes({name: round(amount) for name, amount in usage if name})
        span.end(_nanos(end.at))

    def recorded(self, held: Held, key: str, position: int, began_at: float, at: float) -> None:
        """See `Observer`."""
        if len(self._once_keys) < names.LABEL_VALUES_MAX:
            self._once_keys.add(key)
        span = self._start(names.ONCE, f" {key if key in self._once_keys else names.OTHER}", began_at)
        span.set_attributes({names.WORK_ID: held.work_id, names.ONCE_KEY: key, names.POSITION: position})
        span.end(_nanos(at))

    def tokens_used(self, held: Held, used: TokensUsed) -> None:
        """See `Observer`."""

    def claims_changed(self, held: Held, *, has_them: bool) -> None:
        """See `Observer`."""

    def lease_lost(self, reason: str) -> None:
        """See `Observer`."""

    def loop_blocked(self, seconds: float) -> None:
        """See `Observer`."""

    def budget_reached(self, engine: str, whose: str, mark: str) -> None:
        """See `Observer`."""

    def taken_over(self, reason: str) -> None:
        """See `Observer`."""

    def renewed(self, reason: str, count: int) -> None:
        """See `Observer`."""

    def swept(self, lag_seconds: float, repaired: Mapping[str, int]) -> None:
        """See `Observer`."""

    def lanes(self, count: int, busy: int) -> None:
        """See `Observer`."""

    # --- the watch ---

    def began(self) -> float:
        """See `Watch`."""
        return self._clock.monotonic()

    def ended(
        self, call: str, detail: str, began: float, subject: object, result: object, error: Exception | None
    ) -> None:
        """See `Watch`. A call outside any span (a claim, a sweep) has none of its own."""
        name = _CALLS.get(call)
        if name is None or not trace.get_current_span().is_recording():
            return
        now = self._clock.now()
        span = self._start(name, "", now - (self._clock.monotonic() - began))
        if isinstance(subject, Entry):
            span.set_attributes(
                {names.WORK_ID: subject.work_id, names.POSITION: subject.position, names.KIND: detail}
            )
            span.set_attribute(names.BYTES, len(subject.body.data) if subject.body else 0)
        elif isinstance(subject, Ask):
            span.set_attributes({names.WORK_ID: subject.owner.work_id, names.TOKEN: subject.owner.token})
        if error is not None:
            span.set_attribute(names.ERROR_TYPE, type(error).__name__)
            span.set_status(StatusCode.ERROR)
        elif subject is not None:
            span.set_attribute(names.CONFLICT, was_refused(subject, result))
        else:
            span.set_attribute(names.BYTES, getattr(result, "size_bytes", 0))
        span.end(_nanos(now))

    def _start(
        self,
        name: str,
        about: str,
        at: float,
        *,
        context: Context | None = None,
        links: list[Link] | None = None,
    ) -> Span:
        kind = _KINDS[names.SPANS[name].kind]
        return self._tracer.start_span(
            f"{name}{about}", context=context, kind=kind, links=links, start_time=_nanos(at)
        )

    def _message(self, name: str, operation: str, lane: Lane) -> dict[str, str]:
        return {
            **self._messaging,
            names.MESSAGING_NAME: name,
            names.MESSAGING_OPERATION: operation,
            names.MESSAGING_DESTINATION: lane.value,
        }


_CALLS = {"append": names.APPEND, "acquire": names.ACQUIRE, "artifact_put": names.ARTIFACT_PUT}


def _nanos(at: float) -> int:
    return int(at * 1e9)


def _put(kept: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    """Keep at most `limit`, the newest."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > limit:
        kept.popitem(last=False)


def ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the span that is current, for a log line; empty outside one."""
    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(found.trace_id), "span_id": trace.format_span_id(found.span_id)}
