"""CloudWatch's embedded metric format: numbers as lines of a function's log.

Amazon CloudWatch User Guide, "Specification: Embedded metric format": a document has at most
100 metrics, 100 values of each, and 30 dimensions. A batch that runs again after a crash is
counted again, as with all metrics that are taken from logs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from roost.clock import Clock
from roost.observe.measures import Labels
from roost.observe.names import EMF_METRICS, EMF_NAMESPACE, Metric

VALUES_MAX = 100
_UNITS = {"s": "Seconds", "By": "Bytes"}
_WANTED = {metric.name for metric in EMF_METRICS}


class EmfSink:
    """A `Sink` that keeps numbers until they are flushed.

    Args:
        stack: the first dimension. The other is the engine, where a metric has one; no
            further labels are dimensions, since each set of values is billed as a metric.
    """

    def __init__(self, stack: str, clock: Clock) -> None:
        self._stack = stack
        self._clock = clock
        self._counts: dict[tuple[str, str], float] = defaultdict(float)
        self._values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._units: dict[str, str] = {}

    def add(self, metric: Metric, amount: float, labels: Labels) -> None:
        """See `Sink`."""
        if metric.name in _WANTED:
            for name in _names(metric, labels):
                self._units[name] = "Count"
                self._counts[labels.get("engine", ""), name] += amount

    def record(self, metric: Metric, value: float, labels: Labels) -> None:
        """See `Sink`."""
        if metric.name in _WANTED:
            self._units[metric.name] = _UNITS.get(metric.unit, "None")
            self._values[labels.get("engine", ""), metric.name].append(value)

    def set(self, metric: Metric, value: float, labels: Labels) -> None:
        """See `Sink`."""
        self.record(metric, value, labels)

    def flush(self, write: Callable[[str], object]) -> None:
        """Write what was taken in since the last time, one document a line."""
        for document in self._documents():
            write(json.dumps(document))
        self._counts.clear()
        self._values.clear()

    def _documents(self) -> Iterator[dict[str, Any]]:
        at_millis = int(self._clock.now() * 1000)
        for engine in sorted({engine for engine, _ in (*self._counts, *self._values)}):
            counts = {name: count for (of, name), count in self._counts.items() if of == engine}
            values = {name: found for (of, name), found in self._values.items() if of == engine}
            longest = max(map(len, values.values()), default=0)
            for start in range(0, max(longest, 1), VALUES_MAX):
                part = {name: found[start : start + VALUES_MAX] for name, found in values.items()}
                numbers: dict[str, Any] = {name: found for name, found in part.items() if found}
                yield self._document(at_millis, engine, numbers | (counts if start == 0 else {}))

    def _document(self, at_millis: int, engine: str, numbers: dict[str, Any]) -> dict[str, Any]:
        dimensions = [["stack"], ["stack", "engine"]] if engine else [["stack"]]
        told = {
            "Namespace": EMF_NAMESPACE,
            "Dimensions": dimensions,
            "Metrics": [{"Name": name, "Unit": self._units[name]} for name in numbers],
        }
        who = {"stack": self._stack} | ({"engine": engine} if engine else {})
        return {"_aws": {"Timestamp": at_millis, "CloudWatchMetrics": [told]}, **who, **numbers}


def _names(metric: Metric, labels: Labels) -> list[str]:
    """A counter by its outcome, reason or cause, too: an alarm on failures needs no dimension."""
    told = [labels[name] for name in ("outcome", "reason", "cause") if name in labels]
    return [metric.name, *(f"{metric.name}.{value}" for value in told)]
