"""Whoever watches, as the settings say: traces and metrics behind one observer and one watch."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from roost.clock import Clock
from roost.config import Settings
from roost.core.observe import Began, Held, StepEnd, TokensUsed
from roost.errors import SettingsError
from roost.journal.entries import Entry
from roost.names import Lane
from roost.observe import names
from roost.observe.measures import Measures, Sink

if TYPE_CHECKING:
    from roost.observe.emf import EmfSink
    from roost.observe.prometheus import PrometheusSink
    from roost.observe.sdk import Own
    from roost.observe.traces import Traces

log = logging.getLogger("roost.observe")

SCOPE = "roost"
"""The name of the instrumentation scope."""


class Watching:
    """An `Observer` and a `Watch` that pass everything on to measures and traces.

    Args:
        traces: None: nobody traces.
        prometheus: the registry to serve, if metrics go there.
        emf: what is to be flushed after each invocation, if metrics go there.
        own: OpenTelemetry's providers, if they are Roost's own.
    """

    def __init__(
        self,
        measures: Measures,
        traces: Traces | None = None,
        *,
        prometheus: PrometheusSink | None = None,
        emf: EmfSink | None = None,
        own: Own | None = None,
    ) -> None:
        self.measures = measures
        self.prometheus = prometheus
        self._emf = emf
        self._own = own
        self._traces = traces
        self._all: Sequence[Measures | Traces] = [measures] if traces is None else [measures, traces]

    def flush(self, write: Callable[[str], object], seconds: float) -> None:
        """Send what was taken in, as a function does before it is frozen.

        Args:
            write: takes embedded metrics, one document at a time.
            seconds: how long OpenTelemetry's collector may take.
        """
        if self._emf is not None:
            self._emf.flush(write)
        if self._own is not None and not self._own.flush(seconds):
            log.warning(
                "the collector took more than %.1f s", seconds, extra={"event": "observe.flush_failed"}
            )

    def enqueuing(self, work_id: str, engine: str, lane: Lane, at: float) -> str:
        """See `Observer`."""
        return "" if self._traces is None else self._traces.enqueuing(work_id, engine, lane, at)

    def enqueued(self, entry: Entry, *, is_new: bool, at: float) -> None:
        """See `Observer`."""
        for one in self._all:
            one.enqueued(entry, is_new=is_new, at=at)

    def session_began(self, held: Held, began: Began) -> None:
        """See `Observer`."""
        for one in self._all:
            one.session_began(held, began)

    def session_ended(self, held: Held, end: str, at: float) -> None:
        """See `Observer`."""
        for one in self._all:
            one.session_ended(held, end, at)

    def step_began(self, held: Held, version: int, attempt: int, at: float) -> None:
        """See `Observer`."""
        for one in self._all:
            one.step_began(held, version, attempt, at)

    def step_entered(self, held: Held, step: str, at: float) -> None:
        """See `Observer`."""
        for one in self._all:
            one.step_entered(held, step, at)

    def step_ended(self, held: Held, step: str, end: StepEnd) -> None:
        """See `Observer`."""
        for one in self._all:
            one.step_ended(held, step, end)

    def recorded(self, held: Held, key: str, position: int, began_at: float, at: float) -> None:
        """See `Observer`."""
        for one in self._all:
            one.recorded(held, key, position, began_at, at)

    def tokens_used(self, held: Held, used: TokensUsed) -> None:
        """See `Observer`."""
        self.measures.tokens_used(held, used)

    def claims_changed(self, held: Held, *, has_them: bool) -> None:
        """See `Observer`."""
        self.measures.claims_changed(held, has_them=has_them)

    def lease_lost(self, reason: str) -> None:
        """See `Observer`."""
        self.measures.lease_lost(reason)

    def loop_blocked(self, seconds: float) -> None:
        """See `Observer`."""
        self.measures.loop_blocked(seconds)

    def budget_reached(self, engine: str, whose: str, mark: str) -> None:
        """See `Observer`."""
        self.measures.budget_reached(engine, whose, mark)

    def taken_over(self, reason: str) -> None:
        """See `Observer`."""
        self.measures.taken_over(reason)

    def renewed(self, reason: str, count: int) -> None:
        """See `Observer`."""
        self.measures.renewed(reason, count)

    def swept(self, lag_seconds: float, repaired: Mapping[str, int]) -> None:
        """See `Observer`."""
        self.measures.swept(lag_seconds, repaired)

    def lanes(self, count: int, busy: int) -> None:
        """See `Observer`."""
        self.measures.lanes(count, busy)

    def began(self) -> float:
        """See `Watch`."""
        return self.measures.began()

    def ended(
        self, call: str, detail: str, began: float, subject: object, result: object, error: Exception | None
    ) -> None:
        """See `Watch`."""
        for one in self._all:
            one.ended(call, detail, began, subject, result, error)

    def met(self, fault: str) -> None:
        """See `Watch`."""
        self.measures.met(fault)


@contextmanager
def watch(
    settings: Settings, backend_url: str, clock: Clock, *, is_worker: bool, is_function: bool
) -> Iterator[Watching | None]:
    """What the settings ask for, until the context closes; None: nothing.

    Args:
        is_worker: metrics for Prometheus are taken, if there is a port to serve them on.
        is_function: embedded metrics are taken, if wanted; somebody has to flush them.

    Raises:
        SettingsError: what it needs is not installed.
    """
    scheme = backend_url.partition(":")[0]
    sinks: list[Sink] = []
    prometheus = _prometheus() if is_worker and settings.worker.metrics_port is not None else None
    emf = _emf(settings, clock) if is_function and settings.observe.emf else None
    sinks += [sink for sink in (prometheus, emf) if sink is not None]
    if not settings.observe.otel:
        if not sinks:
            yield None
            return
        measures = _measures(sinks, clock, scheme, is_gen_ai=settings.observe.gen_ai)
        yield Watching(measures, prometheus=prometheus, emf=emf)
        return
    otel_sink, traces, own = _otel(clock, scheme, is_gen_ai=settings.observe.gen_ai)
    try:
        measures = _measures([*sinks, otel_sink], clock, scheme, is_gen_ai=settings.observe.gen_ai)
        yield Watching(measures, traces, prometheus=prometheus, emf=emf, own=own)
    finally:
        own.end()


def _measures(sinks: Sequence[Sink], clock: Clock, scheme: str, *, is_gen_ai: bool) -> Measures:
    build = {"version": version("roost-runtime"), "python": platform.python_version()}
    return Measures(sinks, clock, scheme, build=build, is_gen_ai=is_gen_ai)


def _prometheus() -> PrometheusSink:
    try:
        from roost.observe.prometheus import PrometheusSink
    except ModuleNotFoundError as error:
        raise _missing(error, "prometheus_client", "prometheus") from None
    return PrometheusSink()


def _emf(settings: Settings, clock: Clock) -> EmfSink:
    from roost.observe.emf import EmfSink

    return EmfSink(settings.storage.partition(":")[2] or settings.aws.stack, clock)


def _otel(clock: Clock, scheme: str, *, is_gen_ai: bool) -> tuple[Sink, Traces, Own]:
    """The sink and the traces, and what sends and ends them."""
    try:
        from opentelemetry import metrics, trace

        from roost.observe import otel
        from roost.observe.traces import Traces
    except ModuleNotFoundError as error:
        raise _missing(error, "opentelemetry", "otel") from None
    own = otel.set_up()
    tracer = trace.get_tracer(SCOPE, version("roost-runtime"))
    traces = Traces(tracer, clock, names.messaging_system(scheme), is_gen_ai=is_gen_ai)
    return otel.OtelSink(metrics.get_meter(SCOPE, version("roost-runtime"))), traces, own


def _missing(error: ModuleNotFoundError, package: str, extra: str) -> Exception:
    """What to say if `package` is not there; another module that is missing is a bug."""
    if (error.name or "").partition(".")[0] != package:
        return error
    return SettingsError(f"{package} is not installed", hint=f"pip install 'roost-runtime[{extra}]'")
