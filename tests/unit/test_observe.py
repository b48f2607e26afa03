"""Traces and metrics: what is emitted is what `names` lists and the guide explains, and no more."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest

from roost import FailWork, current_step
from roost.cli.logs import JsonFormatter
from roost.clock import SystemClock
from roost.core.client import Client
from roost.core.observe import SESSION_ENDS, STEP_OUTCOMES, Held, StepEnd
from roost.core.parts import CoreSettings, Parts
from roost.core.step_log import fingerprint
from roost.core.worker import Worker
from roost.engine import EngineRegistry
from roost.errors import StorageUnavailable
from roost.journal.limits import Close
from roost.models import Child, Join, Snapshot, WaitFor, WorkItem
from roost.names import Lane, State
from roost.observe import names, traces
from roost.observe.emf import VALUES_MAX, EmfSink
from roost.observe.measures import Measures
from roost.observe.otel import OtelSink
from roost.observe.prometheus import PrometheusSink
from roost.observe.watching import Watching
from roost.storage.instrument import InstrumentedBackend
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Message
from roost.storage.query import IndexQuery
from roost.testing.contract.process import Scripted
from roost.testing.virtual_time import SeededIds, VirtualClock, run
from tests.virtual import in_virtual_time

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "examples/guides/observability.md").read_text()
SETTINGS = CoreSettings(lease_seconds=10.0, wait_seconds=2.0, concurrency=4, sweep_seconds=1.0)

Step = Callable[[Snapshot, WorkItem], Coroutine[Any, Any, Snapshot]]


class Telling(MemoryBackend):
    """One that meets passing faults, as services do."""

    def tell_faults(self, told: Callable[[str], None]) -> None:
        self.meets = told


class World:
    """Workers on a memory backend that is watched, in virtual time."""

    def __init__(self, step: Step, *, is_watched: bool = True, is_gen_ai: bool = True) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.spans = InMemorySpanExporter()
        tracing = TracerProvider(shutdown_on_exit=False)
        tracing.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        meter = MeterProvider([self.reader], shutdown_on_exit=False).get_meter("roost")
        self.prometheus, self.emf = PrometheusSink(), EmfSink("prod", self.clock)
        measures = Measures(
            [OtelSink(meter), self.prometheus, self.emf],
            self.clock,
            "memory",
            build={"version": "1", "python": "3"},
            is_gen_ai=is_gen_ai,
        )
        self.watching = Watching(
            measures,
            traces.Traces(tracing.get_tracer("roost"), self.clock, "roost_memory", is_gen_ai=is_gen_ai),
        )
        self.memory = Telling(self.clock)
        self.failing: tuple[str, ...] = ()
        self.calls: Counter[str] = Counter()
        watching = self.watching if is_watched else None
        backend = InstrumentedBackend(InstrumentedBackend(self.memory, self._fail), None, watching)
        self.parts = Parts(backend, self.clock, SeededIds(random.Random(1)), SETTINGS, observer=watching)
        self.engines = EngineRegistry([Scripted(step)])
        self.client = Client(self.parts)

    async def _fail(self, when: str, call: str, detail: str) -> None:
        self.calls[call] += when == "before"
        if when == "before" and call in self.failing:
            raise StorageUnavailable("away")

    def worker(self, name: str = "w") -> asyncio.Task[None]:
        return asyncio.create_task(Worker(self.parts, self.engines, name).run())

    async def stop(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def works(self, seconds: float = 60.0) -> None:
        task = self.worker()
        await asyncio.sleep(seconds)
        await self.stop(task)

    def found(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans.get_finished_spans() if (span.name + " ").startswith(f"{name} ")]

    def metrics(self) -> Iterator[tuple[str, set[str], Sequence[Any]]]:
        """Each metric that has values: its name, its labels, its points."""
        data = self.reader.get_metrics_data()
        assert data is not None
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            points = metric.data.data_points
            yield metric.name, {label for point in points for label in point.attributes}, points

    def value(self, name: str, **labels: str) -> float:
        for found, _, points in self.metrics():
            for point in points:
                if found == name and labels.items() <= dict(point.attributes).items():
                    return float(point.value)
        return 0.0


class Life:
    """An engine's step that does a bit of everything, by its payload."""

    client: Client

    async def __call__(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        step = current_step()
        match item.payload.get("do"):
            case "fail":
                raise FailWork("no")
            case "spend too much":
                step.spend(eur=0.9)
                return snapshot.next()
            case "hang":
                await asyncio.Event().wait()
            case "meet a signal":
                await self.client.signal(item.work_id, "ring")
            case "parent" if snapshot.version == 0:
                await step.once("mail", lambda: 1)
                await step.artifacts.put("a.txt", b"aa")
                return snapshot.next(
                    spawn=[Child(engine="demo", payload={})], wait_for=WaitFor(children=Join())
                )
            case "spend":
                step.spend(tokens=15, input_tokens=10, output_tokens=5, provider="openai", model="small")
                step.spend(tokens=15, input_tokens=10, output_tokens=5, usd=0.5)
            case "break":
                raise ValueError("no")
        return snapshot.finish()


async def _everything() -> World:
    """A world in which all that is named has happened."""
    life = Life()
    world = World(life)
    life.client = world.client
    for do in ("spend", "fail", "parent", "meet a signal"):
        await world.client.enqueue("demo", {"do": do})
    await world.client.enqueue("demo", {"do": "spend too much"}, budget={"eur": 1.0})
    for _ in range(2):
        await world.client.enqueue("demo", {}, idempotency_key="k")
    await world.works()
    hung = await world.client.enqueue("demo", {"do": "hang"}, resources=("r",))
    first = world.worker("first")
    await asyncio.sleep(5)
    await world.client.enqueue("demo", {}, resources=("r",))
    await asyncio.sleep(5)
    world.failing = ("renew", "index_put")  # no heartbeat goes through
    await asyncio.sleep(15)
    world.failing = ("send",)
    with pytest.raises(StorageUnavailable):
        await world.parts.backend.queue.send([Message("x", 0), Message("y", 0, Lane.HIGH)])
    world.failing = ()
    await asyncio.sleep(15)  # taken over
    await world.client.cancel(hung, "enough", by_seconds=0.0)
    await asyncio.sleep(120)
    await world.stop(first)
    world.memory.meets("ThrottlingException")
    await world.client.enqueue("demo", {}, delay_seconds=3600.0)
    await asyncio.sleep(90)
    await world.client.enqueue("demo", {}, delay_seconds=3600.0)
    await world.client.enqueue("demo", {}, delay_seconds=3600.0, priority=1)
    await world.watching.measures.count(world.memory.index, "")
    world.watching.loop_blocked(1.5)  # nothing blocks in virtual time; `test_long_steps` does
    return world


@pytest.fixture(scope="module")
def everything() -> World:
    """See `_everything`; it is only looked at."""
    return run(_everything)


def test_every_metric_that_is_named_is_taken_with_exactly_its_labels(everything: World) -> None:
    world = everything
    taken = {name: labels for name, labels, _ in world.metrics()}
    assert taken == {name: set(metric.labels) for name, metric in names.METRICS.items()}


def test_every_span_that_is_named_is_made_and_has_no_attribute_that_is_not(everything: World) -> None:
    world = everything
    made = world.spans.get_finished_spans()
    kinds = {
        name: [span for span in made if (span.name + " ").startswith(f"{name} ")] for name in names.SPANS
    }
    assert sum(map(len, kinds.values())) == len(made)
    for name, spans in kinds.items():
        attributes = {key for span in spans for key in span.attributes or ()}
        assert attributes <= set(names.SPANS[name].attributes), name
        assert {span.kind.name.lower() for span in spans} == {names.SPANS[name].kind}


def test_a_whole_life_is_linked_over_its_sessions_and_children(everything: World) -> None:
    world = everything
    [enqueued] = [s for s in world.found("enqueue demo") if s.attributes and s.attributes.get(names.CONFLICT)]
    assert enqueued.end_time is not None  # known by its key: it has a span, too
    parent = next(s for s in world.found("step demo") if s.name.endswith("start") and _is_parent(world, s))
    sessions = _of(world.found("session demo"), parent)
    assert [_attribute(span, names.SESSION_END) for span in sessions] == ["wait", "done"]
    first, last = sessions
    [enqueue] = _of(world.found("enqueue demo"), parent)
    assert _links(first) == [enqueue.context.span_id]
    assert _links(last) == [enqueue.context.span_id, first.context.span_id]
    assert first.parent is None
    assert first.context.trace_id != last.context.trace_id != enqueue.context.trace_id
    child = next(
        s for s in world.found("enqueue demo") if s.parent and s.parent.span_id == first.context.span_id
    )
    child_id = _attribute(child, names.WORK_ID)
    entry = asyncio.run(world.memory.journal.get(str(child_id), 0))
    assert entry is not None
    assert entry.event.trace.startswith(f"00-{child.context.trace_id:032x}-{child.context.span_id:016x}-")  # type: ignore[union-attr]
    [of_child] = _of(world.found("session demo"), child)
    assert _links(of_child) == [child.context.span_id]


def _attribute(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def _of(spans: Sequence[ReadableSpan], like: ReadableSpan) -> list[ReadableSpan]:
    """Those of the same work item, in order of time."""
    found = [s for s in spans if _attribute(s, names.WORK_ID) == _attribute(like, names.WORK_ID)]
    return sorted(found, key=lambda span: span.start_time or 0)


def _is_parent(world: World, step: ReadableSpan) -> bool:
    return bool(_of(world.found("once"), step))


def _links(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def test_what_a_step_does_is_inside_its_span(everything: World) -> None:
    world = everything
    [once] = world.found("once")
    step = next(s for s in world.found("step") if once.parent and s.context.span_id == once.parent.span_id)
    inside = [
        s for s in world.spans.get_finished_spans() if s.parent and s.parent.span_id == step.context.span_id
    ]
    assert {"once mail", "journal.append", "artifact.put"} <= {span.name for span in inside}
    assert step.parent is not None
    assert _attribute(step, names.OUTCOME) == "committed"
    assert all(s.start_time >= step.start_time and s.end_time <= step.end_time for s in inside)  # type: ignore[operator]


def test_outcomes_are_counted(everything: World) -> None:
    world = everything
    for outcome, count in (("done", 6), ("failed", 1), ("cancelled", 1)):
        assert world.value("roost.work.finished", outcome=outcome) == count, outcome
    assert world.value("roost.work.enqueued", outcome="known") == 1
    assert world.value("roost.lease.lost", reason="silent") == 1
    assert world.value("roost.lease.takeovers", reason="claim") == 1
    assert world.value("roost.journal.conflicts", kind="committed") == 1
    assert world.value("roost.claims.held") == 0
    for lane, count, age in (("normal", 2, 90), ("high", 1, 0), ("low", 0, 0)):
        assert world.value("roost.work.count", state="scheduled", lane=lane) == count
        oldest = world.value("roost.work.age.oldest", state="scheduled", lane=lane)
        assert oldest == pytest.approx(age, abs=1)
    assert world.value("roost.work.age.oldest", state="queued", lane="normal") == 0
    assert world.value("roost.worker.lanes.busy") == 0
    outcomes = {s.attributes[names.OUTCOME] for s in world.found("step") if s.attributes}
    assert outcomes <= set(STEP_OUTCOMES)
    assert {s.attributes[names.SESSION_END] for s in world.found("session") if s.attributes} <= set(
        SESSION_ENDS
    )


def test_what_engines_report_as_spent_is_counted_by_its_name(everything: World) -> None:
    assert everything.value("roost.work.spent", engine="demo", amount="tokens") == 30
    assert everything.value("roost.work.spent", engine="demo", amount="usd") == 0.5


def test_steps_have_the_attributes_of_generative_ai_if_asked_for(everything: World) -> None:
    steps = everything.found("step")
    assert {_attribute(step, "gen_ai.operation.name") for step in steps} == {"invoke_workflow"}
    assert {_attribute(step, "gen_ai.agent.name") for step in steps} == {"demo"}
    told = [step for step in steps if _attribute(step, "gen_ai.usage.input_tokens") is not None]
    assert [_attribute(step, "gen_ai.usage.output_tokens") for step in told] == [10]


def test_tokens_are_measured_by_the_conventions_for_generative_ai_call_by_call(everything: World) -> None:
    """Under the operation of a work item: an agent library counts the same tokens under its `chat`."""
    points = {name: found for name, _, found in everything.metrics()}
    told = {tuple(sorted(point.attributes.items())): point for point in points["gen_ai.client.token.usage"]}
    assert len(told) == 4
    for provider, more in (("openai", {"gen_ai.request.model": "small"}), ("other", {})):
        for kind, count in (("input", 10), ("output", 5)):
            of = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.provider.name": provider, **more}
            point = told[tuple(sorted({**of, "gen_ai.token.type": kind}.items()))]
            assert (point.count, point.sum) == (1, count)


def test_work_that_ends_is_measured_by_the_conventions_for_generative_ai(everything: World) -> None:
    points = {name: found for name, _, found in everything.metrics()}
    ended = {point.attributes.get("error.type"): point for point in points["gen_ai.workflow.duration"]}
    assert {error: point.count for error, point in ended.items()} == {None: 6, "FailWork": 1, "cancelled": 1}
    assert {point.attributes["gen_ai.workflow.name"] for point in ended.values()} == {"demo"}


def test_nothing_of_generative_ai_is_taken_unless_asked_for() -> None:
    async def main() -> set[str]:
        world = World(Life(), is_gen_ai=False)
        await world.client.enqueue("demo", {"do": "spend"})
        await world.works(5)
        assert world.value("roost.work.spent", amount="tokens") == 30
        return {name for name, _, _ in world.metrics()}

    assert not [name for name in run(main) if name.startswith("gen_ai.")]


def test_a_delay_goes_on_until_the_engine_is_entered(everything: World) -> None:
    """So work that waits for resources, and comes to no step, has none."""
    points = {name: found for name, _, found in everything.metrics()}
    entered = {(_attribute(s, names.WORK_ID), _attribute(s, names.TOKEN)) for s in everything.found("step")}
    delays = sum(point.count for point in points["roost.schedule.delay"])
    assert 0 < delays <= len(entered) < len(everything.found("session"))


def test_a_span_of_an_effect_is_named_by_its_key_up_to_a_bound() -> None:
    spans = InMemorySpanExporter()
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    plain = traces.Traces(tracing.get_tracer("roost"), SystemClock(), "roost_memory")
    held = Held("w", "demo", None, Lane.NORMAL, "me", 1)
    for number in range(names.LABEL_VALUES_MAX + 2):
        plain.recorded(held, f"k{number}", 1, 0.0, 1.0)
    made = [span.name for span in spans.get_finished_spans()]
    assert made[0] == "once k0"
    assert made[-2:] == ["once other"] * 2
    assert len(set(made)) == names.LABEL_VALUES_MAX + 1


def test_the_queue_is_measured_by_the_conventions_for_messaging(everything: World) -> None:
    """Nothing is said of errors where there is none; a call that fails counts what it tried to send."""
    points = {name: found for name, _, found in everything.metrics()}
    sent = {
        (point.attributes["messaging.destination.name"], point.attributes.get("error.type")): point.value
        for point in points["messaging.client.sent.messages"]
    }
    assert (sent["high", "StorageUnavailable"], sent["normal", "StorageUnavailable"]) == (1, 1)
    received = everything.value("messaging.client.consumed.messages")
    calls = {
        point.attributes["messaging.operation.name"]
        for point in points["messaging.client.operation.duration"]
    }
    assert calls == set(names.QUEUE_OPERATIONS) - {"reject"}
    sessions = points["messaging.process.duration"]
    assert 0 < sum(point.count for point in sessions) <= received
    assert {point.attributes.get("error.type") for point in sessions} == {None, "failed", "lost"}
    [longest] = [point for point in sessions if point.attributes.get("error.type") == "lost"]
    assert longest.max < 60  # of its own lease, not of what came after


@in_virtual_time
async def test_work_whose_attempts_are_used_up_is_counted_as_failed() -> None:
    """Its last entry is an attempt that failed, not a `failed`."""
    world = World(Life())
    await world.client.enqueue("demo", {"do": "break"}, delay_seconds=60.0)
    await world.works(3600)
    assert world.value("roost.work.finished", outcome="failed") == 1
    [ended] = [found for name, _, found in world.metrics() if name == "roost.work.duration"]
    assert ended[0].sum == pytest.approx(60, abs=2)


@in_virtual_time
async def test_steps_have_no_other_attributes_unless_asked_for() -> None:
    spans = InMemorySpanExporter()
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    plain = traces.Traces(
        tracing.get_tracer("roost"), VirtualClock(asyncio.get_running_loop()), "roost_memory"
    )
    held = Held("w", "demo", None, Lane.NORMAL, "me", 1)
    plain.step_began(held, 1, 1, 0.0)
    plain.step_ended(held, "go", StepEnd(1.0, "committed", 1, 2, 1.0, spent=(("input_tokens", 5.0),)))
    [step] = spans.get_finished_spans()
    assert not [name for name in step.attributes or () if name.startswith("gen_ai.")]


@in_virtual_time
async def test_who_is_watched_makes_not_one_call_more() -> None:
    calls = []
    for is_watched in (False, True):
        world = World(Life(), is_watched=is_watched)
        for do in ("", "fail", "parent"):
            await world.client.enqueue("demo", {"do": do})
        await world.works(20)
        calls.append(world.calls)
    assert calls[0] == calls[1]


@in_virtual_time
async def test_nothing_is_stored_of_a_trace_when_nobody_watches() -> None:
    world = World(Life(), is_watched=False)
    work_id = await world.client.enqueue("demo", {})
    await world.works(5)
    entry = await world.memory.journal.get(work_id, 0)
    assert entry is not None
    assert entry.event.trace == ""  # type: ignore[union-attr]
    assert not world.spans.get_finished_spans()


def test_prometheus_has_the_same_numbers(everything: World) -> None:
    world = everything
    text = generate_latest(world.prometheus.registry).decode()
    assert 'roost_work_finished_total{engine="demo",outcome="done"} 6.0' in text
    assert 'roost_step_duration_seconds_bucket{engine="demo",le="0.005",outcome="committed"' in text
    families = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    told = {m.prometheus_name + "_total" * (m.instrument == "counter") for m in names.METRICS.values()}
    assert {name for name in families if not name.endswith("_created")} == told


def test_embedded_metrics_are_documents_of_cloudwatchs_format_within_its_limits(everything: World) -> None:
    world = everything
    for _ in range(2 * VALUES_MAX):
        world.emf.record(names.STEP_DURATION, 0.5, {"engine": "demo", "step": "s", "outcome": "committed"})
    lines: list[str] = []
    world.emf.flush(lines.append)
    documents = [json.loads(line) for line in lines]
    for document in documents:
        [told] = document["_aws"]["CloudWatchMetrics"]
        assert told["Namespace"] == "Roost"
        assert all(set(dimensions) <= document.keys() for dimensions in told["Dimensions"])
        assert len(told["Metrics"]) <= 100
        for metric in told["Metrics"]:
            value = document[metric["Name"]]
            assert not isinstance(value, list) or 0 < len(value) <= VALUES_MAX
        assert document["stack"] == "prod"
    assert sum(document.get("roost.work.finished.failed", 0) for document in documents) == 1
    again: list[str] = []
    world.emf.flush(again.append)
    assert again == []


def test_a_label_with_too_many_values_becomes_other() -> None:
    taken: list[str] = []

    class Names:
        def add(self, metric: names.Metric, amount: float, labels: Any) -> None:
            taken.append(labels["reason" if "reason" in labels else "engine"])

        record = set = add

    class Clock:
        pass

    measures = Measures([], Clock(), "memory", build={"version": "1", "python": "3"})  # type: ignore[arg-type]
    measures._sinks = [Names()]
    for number in range(names.LABEL_VALUES_MAX + 5):
        measures._add(names.STEP_ATTEMPTS, 1, engine=f"e{number}", outcome="committed")
    assert taken[-1] == names.OTHER
    assert len(set(taken)) == names.LABEL_VALUES_MAX + 1


# --- logs and the guide ---


@in_virtual_time
async def test_a_line_of_a_session_says_whose_it_is() -> None:
    records: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(self.format(record))

    handler = Kept()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("roost")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        world = World(Life())
        work_id = await world.client.enqueue("demo", {"do": "fail"})
        await world.client.enqueue("demo", {})
        await world.works(5)
        await world.client.change_resource("r", Close(world.clock.now() + 60.0))
        await world.client.enqueue("demo", {}, resources=("r",))
        await world.works(5)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    lines = {line["event"]: line for line in map(json.loads, records)}
    assert lines["step.committed"]["bytes"] > 0
    assert lines["claims.blocked"]["resource"] == "r"
    line = lines["step.failed"]
    assert line.keys() <= set(names.LOG_FIELDS)
    assert (line["work_id"], line["engine"], line["token"], line["attempt"]) == (work_id, "demo", 1, 1)
    assert line["error_type"] == "FailWork"
    [row] = (await world.client.list(IndexQuery(state=State.FAILED))).rows
    assert line["error_fingerprint"] == fingerprint(row.engine, row.step, row.reason), "the console's group"
    step = world.found("step")[0]
    assert line["trace_id"] == f"{step.context.trace_id:032x}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])


def _events_in_the_source() -> set[str]:
    """Every text that stands for `event` in the `extra` of a log call."""
    found: set[str] = set()
    texts = [path.read_text() for path in (ROOT / "roost").rglob("*.py")]
    for text in (text for text in texts if '"event": "' in text):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                found |= {
                    str(value.value)
                    for key, value in pairs
                    if isinstance(key, ast.Constant)
                    and key.value == "event"
                    and isinstance(value, ast.Constant)
                }
    return found


def test_each_mark_of_a_budget_is_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    """Of the work's own, also by attempts that fail; of its family's; and that work parks at the limit."""

    def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
        current_step().spend(usd=0.3)
        if item.payload.get("fails"):
            raise ValueError("paid for nothing")
        return snapshot.next()

    async def main() -> World:
        world = World(step)
        await world.client.enqueue("demo", {}, budget={"usd": 1.0})
        await world.client.enqueue("demo", {"fails": True}, budget={"usd": 1.0})
        await world.client.enqueue("demo", {}, family_budget={"usd": 1.0})
        await world.works(600.0)
        return world

    world = run(main)
    marks = {
        (whose, mark): world.value("roost.budget.marks", engine="demo", whose=whose, mark=mark)
        for whose in ("item", "family", "day")
        for mark in ("low", "used_up")
    }
    assert marks == {
        ("item", "low"): 2.0,
        ("item", "used_up"): 2.0,
        ("family", "low"): 1.0,
        ("family", "used_up"): 1.0,
        ("day", "low"): 0.0,
        ("day", "used_up"): 0.0,
    }
    events = [getattr(record, "event", "") for record in caplog.records]
    assert (events.count("budget.low"), events.count("budget.used_up")) == (3, 3)


def test_every_log_event_is_listed_and_none_is_listed_that_is_not_there() -> None:
    by_name = {"budget.low", "budget.used_up"}  # their call has them from a loop
    assert _events_in_the_source() | by_name == set(names.LOG_EVENTS)


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Metrics", set(names.METRICS)),
        ("Spans", set(names.SPANS)),
        ("Log events", set(names.LOG_EVENTS)),
        ("Log fields", set(names.LOG_FIELDS)),
    ],
)
def test_the_guide_lists_every_name_and_no_other(heading: str, expected: set[str]) -> None:
    section = GUIDE.split(f"## {heading}\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)) == expected


def test_the_guide_has_the_right_labels_and_attributes() -> None:
    for metric in names.METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
        assert f"| `{metric.name}` | {metric.instrument}, {metric.unit} | {labels} |" in GUIDE
    for span in names.SPANS.values():
        attributes = ", ".join(f"`{name}`" for name in span.attributes)
        assert f"| {attributes} |" in GUIDE
