"""OpenTelemetry's SDK: providers and exporters, for programs that have none of their own."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from typing import Protocol

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from roost.errors import SettingsError

_END_SECONDS = 5.0  # what a collector that is away may delay the end of a program


class Provider(Protocol):
    """What is asked of a provider of the SDK."""

    def force_flush(self, timeout_millis: int = ...) -> bool:
        """Send what is kept."""

    def shutdown(self) -> None:
        """Send the rest, and end."""


class Own:
    """The providers that Roost made, and that nobody else flushes or ends."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._providers = providers
        self._flushing: threading.Thread | None = None

    def flush(self, seconds: float) -> bool:
        """Send what is kept; whether it was sent within so many seconds.

        The SDK's span processor waits for its exporter however long that takes, so it is left
        to a thread. One that still hangs at the next call is waited for in place of another.
        """
        if self._flushing is None or not self._flushing.is_alive():
            self._flushing = threading.Thread(target=self._flush, name="roost-otel-flush", daemon=True)
            self._flushing.start()
        self._flushing.join(seconds)
        return not self._flushing.is_alive()

    def _flush(self) -> None:
        for provider in self._providers:
            provider.force_flush()

    def end(self) -> None:
        """Send the rest, for as long as that may delay the end of a program, and stop."""
        if self._providers and self.flush(_END_SECONDS):
            for provider in self._providers:
                provider.shutdown()


def set_up_traces(exporter: str, service: str) -> Provider:
    """Make a tracer provider that of the process.

    Raises:
        SettingsError: the exporter is not known.
    """
    to = _span_exporter(exporter)
    provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
    if to is not None:
        provider.add_span_processor(BatchSpanProcessor(to))
    trace.set_tracer_provider(provider)
    return provider


def set_up_metrics(exporter: str, service: str) -> Provider:
    """Make a meter provider that of the process.

    Raises:
        SettingsError: the exporter is not known.
    """
    to = _metric_exporter(exporter)
    readers = [] if to is None else [PeriodicExportingMetricReader(to)]
    provider = MeterProvider(readers, resource=_resource(service), shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    return provider


def _span_exporter(name: str) -> SpanExporter | None:
    match name:
        case "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter()
        case "console":
            return ConsoleSpanExporter(out=sys.stderr)
        case "none":
            return None
    raise _unknown("OTEL_TRACES_EXPORTER", name)


def _metric_exporter(name: str) -> MetricExporter | None:
    match name:
        case "otlp":
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

            return OTLPMetricExporter()
        case "console":
            return ConsoleMetricExporter(out=sys.stderr)
        case "none":
            return None
    raise _unknown("OTEL_METRICS_EXPORTER", name)


def _unknown(variable: str, name: str) -> SettingsError:
    return SettingsError(
        f"{variable} is {name!r}",
        hint="Choose otlp, console or none; or set up OpenTelemetry yourself, with opentelemetry-instrument.",
    )


def _resource(service: str) -> Resource:
    """By OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, where these are set."""
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return Resource.create({} if named else {"service.name": service})
