"""Every name that traces, metrics and logs of Roost have; a test holds that there are no others.

The names under `roost.` are a stable contract. Beside them stand those of OpenTelemetry's
semantic conventions for messaging and, if asked for, for generative AI (repositories
`semantic-conventions`, docs/messaging, and `semantic-conventions-genai`, docs/gen-ai, as of
2026-08). Both are in development there; should they change, they change here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OTHER = "other"
"""The value of a label that has too many values."""
LABEL_VALUES_MAX = 100
"""How many values a label may have that engines choose, in one process; then it is `other`."""

# --- spans -------------------------------------------------------------------

ENQUEUE = "enqueue"
SESSION = "session"
STEP = "step"
APPEND = "journal.append"
ACQUIRE = "claims.acquire"
ARTIFACT_PUT = "artifact.put"
ONCE = "once"

WORK_ID = "roost.work.id"
ENGINE = "roost.engine"
ENGINE_VERSION = "roost.engine.version"
LANE = "roost.lane"
WORKER = "roost.worker.id"
TOKEN = "roost.lease.token"  # noqa: S105  the name of an attribute
SESSION_END = "roost.session.end"
STEP_NAME = "roost.step"
VERSION = "roost.version"
ATTEMPT = "roost.attempt"
OUTCOME = "roost.step.outcome"
POSITION = "roost.journal.position"
KIND = "roost.journal.kind"
CONFLICT = "roost.conflict"
BYTES = "roost.bytes"
ONCE_KEY = "roost.once.key"
ERROR_TYPE = "error.type"
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION = "messaging.operation.type"
MESSAGING_DESTINATION = "messaging.destination.name"
MESSAGING_NAME = "messaging.operation.name"
_MESSAGING = (MESSAGING_SYSTEM, MESSAGING_NAME, MESSAGING_OPERATION, MESSAGING_DESTINATION)
GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_AGENT = "gen_ai.agent.name"
GEN_AI_WORKFLOW = "gen_ai.workflow.name"
GEN_AI_PROVIDER = "gen_ai.provider.name"
GEN_AI_MODEL = "gen_ai.request.model"
GEN_AI_TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  the name of an attribute
INVOKE_WORKFLOW = "invoke_workflow"
"""What a work item is there; calls of models are `chat` and the like, and not Roost's to count."""
GEN_AI_USAGE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
}
"""Amounts that an engine reports with `spend`, and what they are called there."""


@dataclass(frozen=True, slots=True)
class Span:
    """A kind of span.

    Attributes:
        name: what its name begins with; all but storage's go on: `step ENGINE STEP`, `once KEY`.
        kind: as OpenTelemetry calls it.
        attributes: all that it may have.
    """

    name: str
    kind: Literal["producer", "consumer", "internal"]
    about: str
    attributes: tuple[str, ...]


SPANS: dict[str, Span] = {
    span.name: span
    for span in (
        Span(
            ENQUEUE,
            "producer",
            "a work item is stored",
            (WORK_ID, ENGINE, LANE, *_MESSAGING, CONFLICT),
        ),
        Span(
            SESSION,
            "consumer",
            "one lease, from claim to settling; a trace of its own, linked to the enqueueing and "
            "to the session before",
            (
                WORK_ID,
                ENGINE,
                ENGINE_VERSION,
                LANE,
                WORKER,
                TOKEN,
                SESSION_END,
                *_MESSAGING,
            ),
        ),
        Span(
            STEP,
            "internal",
            "one attempt at a step, with its commit",
            (
                *(WORK_ID, ENGINE, TOKEN, STEP_NAME, VERSION, ATTEMPT, OUTCOME, POSITION, ERROR_TYPE),
                *(GEN_AI_OPERATION, GEN_AI_AGENT, *GEN_AI_USAGE.values()),
            ),
        ),
        Span(
            APPEND,
            "internal",
            "an append to a journal",
            (WORK_ID, POSITION, KIND, CONFLICT, BYTES, ERROR_TYPE),
        ),
        Span(ACQUIRE, "internal", "resources are asked for", (WORK_ID, TOKEN, CONFLICT, ERROR_TYPE)),
        Span(ARTIFACT_PUT, "internal", "an artifact or a large body is stored", (BYTES, ERROR_TYPE)),
        Span(ONCE, "internal", "a side effect that is done once", (WORK_ID, ONCE_KEY, POSITION)),
    )
}

# --- metrics -----------------------------------------------------------------

Instrument = Literal["counter", "histogram", "gauge"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
LONG_SECONDS = (0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
TOKENS = tuple(4.0**power for power in range(14))
WORKFLOW_SECONDS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
"""These two as the conventions for generative AI say (docs/gen-ai/gen-ai-metrics.md)."""
SIZES = (256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: as OpenTelemetry has it; `prometheus_name` is made of it.
        unit: UCUM's: `s`, `By`, or a `{thing}`.
        labels: all of them, always given.
        buckets: upper bounds, of a histogram.
    """

    name: str
    instrument: Instrument
    unit: str
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """With underscores and the unit, as are its labels; the client adds `_total` to counters."""
        name = self.name.replace(".", "_")
        unit = {"s": "_seconds", "By": "_bytes"}.get(self.unit, "")
        return name if name.endswith(unit) else name + unit


def _counter(name: str, unit: str, about: str, *labels: str) -> Metric:
    return Metric(name, "counter", unit, about, labels)


def _gauge(name: str, unit: str, about: str, *labels: str) -> Metric:
    return Metric(name, "gauge", unit, about, labels)


def _histogram(name: str, unit: str, buckets: tuple[float, ...], about: str, *labels: str) -> Metric:
    return Metric(name, "histogram", unit, about, labels, buckets)


WORK_ENQUEUED = _counter(
    "roost.work.enqueued",
    "{item}",
    "Work items enqueued: `new`, or `known` by id or key.",
    "engine",
    "outcome",
)
WORK_FINISHED = _counter(
    "roost.work.finished",
    "{item}",
    "Work items that ended: `done`, `failed`, `cancelled`.",
    "engine",
    "outcome",
)
WORK_DURATION = _histogram(
    "roost.work.duration",
    "s",
    LONG_SECONDS,
    "From enqueued to ended, all waits included.",
    "engine",
    "outcome",
)
WORK_SPENT = _counter(
    "roost.work.spent",
    "1",
    "What engines report with `spend`, by the name of the amount: `tokens`, `usd` …",
    "engine",
    "amount",
)
WORK_COUNT = _gauge(
    "roost.work.count", "{item}", "Work items by state and lane, counted now and then.", "state", "lane"
)
WORK_OLDEST = _gauge(
    "roost.work.age.oldest",
    "s",
    "Since the oldest work item of a lane, in a state that is no end, was enqueued.",
    "state",
    "lane",
)
STEP_DURATION = _histogram(
    "roost.step.duration", "s", SECONDS, "What an engine took for a step.", "engine", "step", "outcome"
)
STEP_ATTEMPTS = _counter("roost.step.attempts", "{attempt}", "Attempts at steps.", "engine", "outcome")
SCHEDULE_DELAY = _histogram(
    "roost.schedule.delay", "s", LONG_SECONDS, "From ready until the engine is entered.", "lane"
)
LOOP_BLOCKED = _histogram(
    "roost.worker.blocked", "s", SECONDS, "How long a worker's event loop stood still, by a step that blocks."
)
BUDGET_MARKS = _counter(
    "roost.budget.marks",
    "{mark}",
    "Budgets, of an `item`, a `family` or a `day`, that came near their limit (`low`, at 80 %) or reached "
    "it (`used_up`: the work parks).",
    "engine",
    "whose",
    "mark",
)
LEASE_TAKEOVERS = _counter(
    "roost.lease.takeovers",
    "{lease}",
    "Leases taken from workers that went silent: `claim`, `evict`.",
    "reason",
)
LEASE_LOST = _counter(
    "roost.lease.lost", "{lease}", "Leases this worker lost: `taken`, `silent`, `storage`.", "reason"
)
LEASE_RENEWALS = _counter(
    "roost.lease.renewals",
    "{lease}",
    "Leases that heartbeats renewed: they were `due`, or a step told of its `progress`.",
    "reason",
)
APPEND_DURATION = _histogram(
    "roost.journal.append.duration", "s", SECONDS, "An append to a journal.", "backend", "kind"
)
CONFLICTS = _counter(
    "roost.journal.conflicts", "{append}", "Appends whose position was taken.", "backend", "kind"
)
CLAIMS_WAIT = _histogram(
    "roost.claims.wait", "s", LONG_SECONDS, "How long blocked work had waited when it was claimed again."
)
CLAIMS_HELD = _gauge("roost.claims.held", "{session}", "Sessions of this worker that hold resources.")
SWEEPER_LAG = _gauge("roost.sweeper.due.lag", "s", "How late the last sweep was for the row due first.")
SWEEPER_REPAIRED = _counter(
    "roost.sweeper.repaired",
    "{row}",
    "Due rows: `sent`, `settled`, `failed`, `cancelled`, `evicted` (on hold, and its worker went silent), "
    "`looked` (nothing to do yet).",
    "cause",
)
INDEX_LAG = _histogram(
    "roost.index.lag", "s", SECONDS, "Age of what an index row reflects, when it is written.", "backend"
)
WORKER_LANES = _gauge("roost.worker.lanes", "{session}", "Work items this worker can run at a time.")
WORKER_BUSY = _gauge("roost.worker.lanes.busy", "{session}", "Work items this worker runs now.")
STORAGE_CALLS = _counter("roost.storage.calls", "{call}", "Calls of the storage's ports.", "backend", "op")
STORAGE_BYTES = _counter(
    "roost.storage.bytes", "By", "Bodies appended, and artifacts written and read.", "backend", "op"
)
STORAGE_THROTTLES = _counter(
    "roost.storage.throttles",
    "{call}",
    "Calls that the storage could not answer then: throttled, locked or unreachable.",
    "backend",
    "op",
)
STORAGE_FAULTS = _counter(
    "roost.storage.faults",
    "{fault}",
    "Passing faults of the service behind the storage, each tried again: throttling, transaction "
    "conflicts, lost replies, by the service's code; and foreign messages.",
    "backend",
    "code",
)
SNAPSHOT_SIZE = _histogram("roost.snapshot.size", "By", SIZES, "A committed snapshot, as JSON.", "engine")
SNAPSHOT_STORED = _histogram("roost.snapshot.stored", "By", SIZES, "The same, as stored.", "engine")
MESSAGING_DURATION = _histogram(
    "messaging.client.operation.duration",
    "s",
    SECONDS,
    "A call of the queue: `send`, `receive` (waiting included), `acknowledge`, `put_back`, `reject`.",
    MESSAGING_SYSTEM,
    MESSAGING_NAME,
    MESSAGING_OPERATION,
    ERROR_TYPE,
)
MESSAGING_SENT = _counter(
    "messaging.client.sent.messages",
    "{message}",
    "Deliveries that were sent, or tried to.",
    MESSAGING_SYSTEM,
    MESSAGING_NAME,
    MESSAGING_DESTINATION,
    ERROR_TYPE,
)
MESSAGING_CONSUMED = _counter(
    "messaging.client.consumed.messages",
    "{message}",
    "Deliveries that were received from a queue that is asked for them; not those that Lambda is handed.",
    MESSAGING_SYSTEM,
    MESSAGING_NAME,
    MESSAGING_DESTINATION,
)
MESSAGING_PROCESS = _histogram(
    "messaging.process.duration",
    "s",
    SECONDS,
    "A session, from claim to settling; failed if it ended as `failed`, `retry`, `lost` or `error`.",
    MESSAGING_SYSTEM,
    MESSAGING_NAME,
    MESSAGING_DESTINATION,
    ERROR_TYPE,
)
TOKEN_USAGE = _histogram(
    "gen_ai.client.token.usage",
    "{token}",
    TOKENS,
    "Tokens that an engine reports with one `spend`, of `gen_ai.token.type` `input` or `output`.",
    GEN_AI_OPERATION,
    GEN_AI_PROVIDER,
    GEN_AI_MODEL,
    GEN_AI_TOKEN_TYPE,
)
WORKFLOW_DURATION = _histogram(
    "gen_ai.workflow.duration",
    "s",
    WORKFLOW_SECONDS,
    "From enqueued to ended, all waits included; the workflow is the engine.",
    GEN_AI_WORKFLOW,
    ERROR_TYPE,
)
BUILD_INFO = _gauge("roost.build.info", "1", "1; the labels say which Roost and Python.", "version", "python")

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)
}
CAPPED_LABELS = frozenset(
    {"engine", "step", "code", "amount", ERROR_TYPE, GEN_AI_WORKFLOW, GEN_AI_PROVIDER, GEN_AI_MODEL}
)
"""Labels whose values engines choose, or a service."""
QUEUE_OPERATIONS = {
    "send": "send",
    "receive": "receive",
    "acknowledge": "settle",
    "put_back": "settle",
    "reject": "settle",
}
"""Calls of the queue, and the type of operation that each is. (To extend one is none of them.)"""


def messaging_system(scheme: str) -> str:
    """`messaging.system` of the queue of a storage."""
    return "aws_sqs" if scheme == "aws" else f"roost_{scheme}"


EMF_NAMESPACE = "Roost"
EMF_METRICS = (
    WORK_ENQUEUED,
    WORK_FINISHED,
    STEP_DURATION,
    STEP_ATTEMPTS,
    SCHEDULE_DELAY,
    LEASE_TAKEOVERS,
    LEASE_LOST,
    CONFLICTS,
    CLAIMS_WAIT,
    SWEEPER_LAG,
    SWEEPER_REPAIRED,
    STORAGE_THROTTLES,
    STORAGE_FAULTS,
    SNAPSHOT_STORED,
)
"""What functions on Lambda write: each is billed as a metric of its own."""

# --- logs --------------------------------------------------------------------

LOG_FIELDS = (
    "ts",
    "level",
    "event",
    "msg",
    "work_id",
    "engine",
    "engine_version",
    "step",
    "version",
    "attempt",
    "token",
    "position",
    "worker_id",
    "lane",
    "resource",
    "duration_ms",
    "bytes",
    "error_type",
    "error_fingerprint",
    "trace_id",
    "span_id",
    "stack",
    "roost_version",
)
"""Fields of a log line; an event may add its own. `msg` is for people and may change."""

LOG_EVENTS = {
    "budget.low": "a budget is nearly used up",
    "budget.used_up": "a budget is used up; the work is parked",
    "child.failed": "a child could not be started, as other work has its id",
    "claims.blocked": "work waits for resources (level debug)",
    "console.engine": "an engine of the console could not be loaded",
    "claims.unreadable": "a work item that wants or holds a resource can't be read; others go on without it",
    "console.failed": "a request to the console met a bug",
    "delivery.rejected": "a delivery went to the dead letters",
    "feed.unreadable": "an entry is left out of what follows all events: damaged, or of a newer Roost",
    "health.listening": "where probes are answered",
    "heartbeat.failed": "the storage did not take a heartbeat; it is tried again",
    "lease.lost": "a session ended without a trace, since its lease was gone",
    "loop.blocked": "the event loop stood still for more than a second, as a step blocks it",
    "lease.takeover": "work was taken over from a worker that went silent",
    "message.foreign": "a message in the queue is not one of Roost's",
    "metrics.listening": "where metrics are served",
    "observe.count_failed": "work could not be counted for the metrics",
    "observe.flush_failed": "the collector did not take traces and metrics before a function ended",
    "operation.rests": "an operation could not go on in this process; another takes it up",
    "python.unraisable": "an error where nobody can catch it, as in a finalizer of an engine",
    "python.warning": "a warning of Python (`warnings.warn`)",
    "receive.failed": "the storage did not give deliveries; it is tried again",
    "room.needed": "a worker takes nothing new, to have room for work that is to run beside few others",
    "schedule.ended": "a schedule ended while its rule was being set",
    "session.bug": "a bug in Roost ended a session; it counts as a failed attempt",
    "session.failed": "a session ended early; its delivery comes again",
    "step.cancelled": "what a step left behind cancelled its task after it; it counts as a failed attempt",
    "step.committed": "a step was committed (level debug)",
    "step.deaf": "a step does not end though it was stopped; its lease is given back",
    "step.failed": "an attempt failed; it is tried again, or the work has failed",
    "step.thread_failed": "a thread that an engine started ended by an error, which no step sees",
    "sweep.failed": "the storage failed a sweep; it is tried again",
    "sweep.unreadable": "a due work item can't be read; the others are looked at",
    "switches.failed": "what is paused could not be read at the start; the next sweep tries again",
    "trigger.failed": "a trigger could not enqueue what it was to",
    "work.expired": "work was deleted whose retention time is over",
    "work.purged": "an operator deleted work, with its journal",
    "work.newer": "a work item is left to workers of a newer Roost; said once for each",
    "work.replaced": "what deleted work had spawned or triggered was deleted, for that of new work",
    "worker.asked_to_stop": "an operator asked this worker to stop: `roost drain`",
    "worker.count_failed": "with --until-idle: what is left could not be counted",
    "worker.drain": "the worker was told to stop",
    "worker.ended_thread": "a step that does not end was ended with the process",
    "worker.started": "a worker serves, and what",
    "workspace.stays": "a workspace could not be removed; the next look tries again",
}
"""What `event` may be; a line without one has the name of its logger."""
