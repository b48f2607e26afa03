"""OpenTelemetry: metrics as its instruments, and the SDK set up where nobody else did."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.metrics import _Gauge as Gauge

from roost.errors import SettingsError
from roost.observe.measures import Labels
from roost.observe.names import METRICS, Metric

if TYPE_CHECKING:
    from roost.observe.sdk import Own

SERVICE_NAME = "roost"


class OtelSink:
    """A `Sink` of OpenTelemetry's instruments. A label that is empty is no attribute."""

    def __init__(self, meter: Meter) -> None:
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._gauges: dict[str, Gauge] = {}
        for metric in METRICS.values():
            self._create(meter, metric)

    def _create(self, meter: Meter, metric: Metric) -> None:
        name, unit, about = metric.name, metric.unit, metric.about
        match metric.instrument:
            case "counter":
                self._counters[name] = meter.create_counter(name, unit, about)
            case "gauge":
                self._gauges[name] = meter.create_gauge(name, unit, about)
            case "histogram":
                self._histograms[name] = meter.create_histogram(
                    name, unit, about, explicit_bucket_boundaries_advisory=metric.buckets
                )

    def add(self, metric: Metric, amount: float, labels: Labels) -> None:
        """See `Sink`."""
        self._counters[metric.name].add(amount, _given(labels))

    def record(self, metric: Metric, value: float, labels: Labels) -> None:
        """See `Sink`."""
        self._histograms[metric.name].record(value, _given(labels))

    def set(self, metric: Metric, value: float, labels: Labels) -> None:
        """See `Sink`."""
        self._gauges[metric.name].set(value, _given(labels))


def _given(labels: Labels) -> Labels:
    return labels if all(labels.values()) else {name: value for name, value in labels.items() if value}


def set_up(environ: Mapping[str, str] | None = None) -> Own:
    """Set up OpenTelemetry's SDK by its own environment variables, unless the program did.

    `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` may be `otlp` (the default, over
    HTTP), `console` (to stderr) or `none`; what else there is (`OTEL_EXPORTER_OTLP_ENDPOINT`,
    `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` …), the SDK reads itself.

    Returns:
        What was set up here; nothing, where the program did.

    Raises:
        SettingsError: the SDK is not installed, or an exporter is not known.
    """
    environ = os.environ if environ is None else environ
    try:
        from roost.observe import sdk
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise SettingsError(
            "OpenTelemetry's SDK is not installed", hint="pip install 'roost-runtime[otel]'"
        ) from None
    made = []
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        made.append(sdk.set_up_traces(environ.get("OTEL_TRACES_EXPORTER", "otlp"), SERVICE_NAME))
    if type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider":
        made.append(sdk.set_up_metrics(environ.get("OTEL_METRICS_EXPORTER", "otlp"), SERVICE_NAME))
    return sdk.Own(made)
