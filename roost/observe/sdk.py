"""OpenTelemetry's SDK: providers and exporters, for programs that have none of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

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

_FLUSH_MILLIS = 5000  # what a collector that is away may delay the end of a program


def set_up_traces(exporter: str, service: str) -> Callable[[], None]:
    """Make a tracer provider that of the process; gives what ends it.

    Raises:
        SettingsError: the exporter is not known.
    """
    to = _span_exporter(exporter)
    provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
    if to is not None:
        provider.add_span_processor(BatchSpanProcessor(to))
    trace.set_tracer_provider(provider)

    def end() -> None:
        provider.force_flush(_FLUSH_MILLIS)
        provider.shutdown()

    return end


def set_up_metrics(exporter: str, service: str) -> Callable[[], None]:
    """Make a meter provider that of the process; gives what ends it.

    Raises:
        SettingsError: the exporter is not known.
    """
    to = _metric_exporter(exporter)
    readers = [] if to is None else [PeriodicExportingMetricReader(to)]
    provider = MeterProvider(readers, resource=_resource(service), shutdown_on_exit=False)
    metrics.set_meter_provider(provider)

    def end() -> None:
        provider.shutdown(_FLUSH_MILLIS)

    return end


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
