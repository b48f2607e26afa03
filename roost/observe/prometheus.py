"""Prometheus: metrics in a registry of Roost's own, and the endpoint that serves them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from roost.errors import SettingsError
from roost.observe.measures import Labels
from roost.observe.names import METRICS, Metric

_THREAD_END_SECONDS = 2.0


class PrometheusSink:
    """A `Sink` of Prometheus' collectors, in a registry of its own."""

    def __init__(self) -> None:
        self.registry: CollectorRegistry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._gauges: dict[str, Gauge] = {}
        for metric in METRICS.values():
            self._create(metric)

    def _create(self, metric: Metric) -> None:
        name, about = metric.prometheus_name, metric.about
        labels = [label.replace(".", "_") for label in metric.labels]
        match metric.instrument:
            case "counter":
                self._counters[metric.name] = Counter(name, about, labels, registry=self.registry)
            case "gauge":
                self._gauges[metric.name] = Gauge(name, about, labels, registry=self.registry)
            case "histogram":
                self._histograms[metric.name] = Histogram(
                    name, about, labels, registry=self.registry, buckets=metric.buckets
                )

    def add(self, metric: Metric, amount: float, labels: Labels) -> None:
        """See `Sink`."""
        counter = self._counters[metric.name]
        (counter.labels(*labels.values()) if labels else counter).inc(amount)

    def record(self, metric: Metric, value: float, labels: Labels) -> None:
        """See `Sink`."""
        histogram = self._histograms[metric.name]
        (histogram.labels(*labels.values()) if labels else histogram).observe(value)

    def set(self, metric: Metric, value: float, labels: Labels) -> None:
        """See `Sink`."""
        gauge = self._gauges[metric.name]
        (gauge.labels(*labels.values()) if labels else gauge).set(value)


@contextmanager
def serve(sink: PrometheusSink, host: str, port: int) -> Iterator[int]:
    """Serve `GET /metrics` from a thread while the context is open; gives the port.

    Args:
        port: 0 is any free one.

    Raises:
        SettingsError: nobody may listen there.
    """
    try:
        server, thread = start_http_server(port, host, sink.registry)
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"metrics can't be served on {host}:{port}: {error}",
            hint="Choose a free port: --metrics-port or ROOST_WORKER__METRICS_PORT.",
        ) from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_THREAD_END_SECONDS)
