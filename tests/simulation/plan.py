"""What one seed makes happen: sizes, work, faults. Drawn once, before the run, so that it can be read."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from roost.journal.limits import Change

RESOURCES = ("db", "gpu", "mailbox")
HOUR_SECONDS = 3600.0
CHILDREN_MAX = 4  # of one spawn

Operation = tuple[str, float, str]
"""What a step does, in order: (what, a number, a text); see `engines.SimEngine`."""


@dataclass(frozen=True, slots=True)
class PlannedWork:
    """A work item of the plan: when it is enqueued, and what each of its steps does."""

    work_id: str
    engine: str
    steps: tuple[tuple[Operation, ...], ...]
    enqueue_after_seconds: float
    resources: tuple[str, ...] = ()
    delay_seconds: float = 0.0
    deadline_after_seconds: float | None = None
    priority: int = 0
    capacities: tuple[tuple[str, int], ...] = ()
    holds_for_life: bool = False
    cancel_after_seconds: float | None = None
    retry_after_seconds: float | None = None
    family_steps: int = 0


@dataclass(frozen=True, slots=True)
class PlannedSignal:
    """A signal of the plan: who gets it, when it is sent, and how often again under the same id."""

    work_id: str
    name: str
    signal_id: str
    after_seconds: float
    again_count: int = 0


@dataclass(frozen=True, slots=True)
class PlannedDeed:
    """Something that an operator does to a work item of the plan; see `operators`."""

    what: str
    work_id: str
    after_seconds: float
    number: float = 0.0


@dataclass(frozen=True, slots=True)
class Strike:
    """A heavy fault that strikes the worker which makes a certain call, and when it makes it.

    Attributes:
        fault: `kill`, `freeze` (longer than a lease, then it goes on), `outage` (all its calls
            fail for a while), `jump` (its wall clock is set anew) or `drain`.
        when: `before` or `after` the call.
        call: its name, or the kind of an appended entry; "" counts calls of any name.
        number: strikes at so many such calls, all workers counted together.
    """

    fault: str
    when: str
    call: str
    number: int


FAULTS = (*("kill", "freeze") * 3, "outage", "outage", "drain")

STRIKE_CALLS = (
    *("", "", "", "", "", "", "tail", "tail", "index_get", "receive", "acknowledge", "put_back", "extend"),
    *(
        "acquire",
        "acquire",
        "acquire",
        "acquire",
        "leave",
        "release",
        "is_called",
        "send",
        "index_put",
        "take_due",
        "due",
        "append",
        "renew",
    ),
    *("claimed", "claimed", "committed", "committed", "recorded", "attempt_failed", "deferred", "blocked"),
    *("released", "evicted", "failed", "cancelled", "artifact_put", "artifact_size"),
    *("append_many", "cancel_requested", "retried", "retried"),
)
"""What a strike may wait for; rare calls are named, so that each is struck often enough."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each fault is, per call, while chaos lasts; and where the heavy ones strike.

    Attributes:
        kill_after_seconds: virtual instants at which some worker is killed, wherever it is.
    """

    yields: float = 0.0
    slow: float = 0.0
    unavailable: float = 0.0
    ambiguous: float = 0.0
    heartbeat_fails: float = 0.0
    lost: float = 0.0
    duplicated: float = 0.0
    late: float = 0.0
    undeleted: float = 0.0
    early: float = 0.0
    strikes: tuple[Strike, ...] = ()
    kill_after_seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about one run that is decided before it starts.

    Attributes:
        skew_seconds: how far a worker's wall clock may be off, in either direction.
        drift: by which part its clocks may run faster or slower than they should.
        scripts: what the steps of children do; a child is told the number of its script,
            and spawns children of later scripts only.
        limits: what operators change of resources, and after how many seconds.
        keep_versions: see `CoreSettings`.
        retention_seconds: see `CoreSettings`.
    """

    lease_seconds: float
    worker_count: int
    concurrency: int
    burst_steps: int
    skew_seconds: float
    drift: float
    projects_on_append: bool
    inline_max_bytes: int
    sweep_seconds: tuple[float, ...]
    chaos_seconds: float
    works: tuple[PlannedWork, ...]
    faults: Faults = field(default_factory=Faults)
    scripts: tuple[tuple[tuple[Operation, ...], ...], ...] = ()
    signals: tuple[PlannedSignal, ...] = ()
    deeds: tuple[PlannedDeed, ...] = ()
    limits: tuple[tuple[float, str, Change], ...] = ()
    keep_versions: int | None = None
    retention_seconds: float | None = None

    @property
    def are_clocks_steady(self) -> bool:
        """Whether no wall clock is ever set anew."""
        return all(strike.fault != "jump" for strike in self.faults.strikes)

    @property
    def calm_seconds(self) -> float:
        """Virtual time within which all must have ended, once the faults have stopped."""
        steps = [step for work in self.works for step in work.steps]
        steps += [step for script in self.scripts for step in script] * CHILDREN_MAX
        asked = sum(number for step in steps for _, number, _ in step)
        return 6 * HOUR_SECONDS + 4 * self.skew_seconds + 100 * self.lease_seconds + 3 * asked


def draw_alone(seed: int) -> Plan:
    """The plan of a seed without families and signals."""
    source = random.Random(f"plan {seed}")
    lease_seconds = source.choice((30.0, 30.0, 300.0, 900.0, 1800.0))
    chaos_seconds = lease_seconds * source.uniform(3.0, 8.0)
    worker_count = source.choice((1, 2, 2, 3, 3))
    return Plan(
        lease_seconds=lease_seconds,
        worker_count=worker_count,
        concurrency=source.choice((1, 2, 4)),
        burst_steps=source.choice((1, 2, 200, 200)),
        skew_seconds=source.choice(
            (0.0, 1.0, lease_seconds, 3 * lease_seconds, HOUR_SECONDS if lease_seconds > 60 else 300.0)
        ),
        drift=source.choice((0.0, 0.0, 0.01, 0.2)),
        projects_on_append=source.random() < 0.4,
        inline_max_bytes=source.choice((1 << 20, 1 << 20, 150)),
        sweep_seconds=tuple(lease_seconds * source.uniform(0.2, 1.5) for _ in range(worker_count)),
        chaos_seconds=chaos_seconds,
        works=tuple(
            _draw_work(source, number, lease_seconds, chaos_seconds) for number in range(source.randint(1, 5))
        ),
        faults=_draw_faults(source, chaos_seconds),
    )


def _draw_work(source: random.Random, number: int, lease_seconds: float, chaos_seconds: float) -> PlannedWork:
    def maybe(chance: float, high: float) -> float | None:
        return source.uniform(0.0, high) if source.random() < chance else None

    engine = "sim" if source.random() < 0.8 else "timed"
    resource_count = source.choice((0, 0, 1, 1, 1, 2))
    wanted = RESOURCES[: max(1, resource_count)] if source.random() < 0.5 else RESOURCES
    return PlannedWork(
        work_id=f"work-{number}",
        engine=engine,
        steps=tuple(draw_step(source, lease_seconds) for _ in range(source.randint(1, 6))),
        enqueue_after_seconds=source.choice((0.0, 0.0, source.uniform(0.0, chaos_seconds))),
        resources=tuple(source.sample(wanted, resource_count)),
        delay_seconds=source.choice((0.0, 0.0, 0.0, draw_delay(source, lease_seconds))),
        deadline_after_seconds=source.uniform(1.0, 20 * lease_seconds) if source.random() < 0.1 else None,
        priority=source.choice((0, 0, 1, -1)),
        cancel_after_seconds=maybe(0.15, chaos_seconds),
        retry_after_seconds=maybe(0.3, chaos_seconds),
    )


def draw_delay(source: random.Random, lease_seconds: float) -> float:
    """Seconds to hours; long ones only where a lease is long too, as idle time costs real time."""
    if lease_seconds < 60:
        return source.choice(
            (*(source.uniform(0.0, high) for high in (5.0, 10.0, 30.0, 30.0, 120.0)), 1000.0)
        )
    return source.choice(
        (source.uniform(0.0, 60.0), lease_seconds, lease_seconds * source.uniform(0.0, 10.0))
    )


def draw_step(source: random.Random, lease_seconds: float) -> tuple[Operation, ...]:
    """What a step does: work, trouble, and perhaps a delay at its end."""
    operations: list[Operation] = []
    for _ in range(source.choice((0, 1, 1, 2, 3))):
        what = source.choice(("sleep", "sleep", "yield", "once", "once", "artifact", "progress"))
        number = 0.0
        if what == "sleep":
            number = lease_seconds * source.choice((0.001, 0.1, 0.4, 1.2))
        operations.append((what, number, source.choice("abc")))
    if source.random() < 0.25:
        trouble = source.choice(("fail", "fail", "later", "later", "raise", "refuse"))
        position = source.randint(0, len(operations))
        operations.insert(position, (trouble, source.choice((1, 1, 2)), ""))
    if source.random() < 0.2:
        operations.append(("delay", draw_delay(source, lease_seconds), ""))
    return tuple(operations)


def _draw_faults(source: random.Random, chaos_seconds: float) -> Faults:
    def chance(*of: float) -> float:
        return source.choice((0.0, *of))

    return Faults(
        yields=source.choice((0.1, 0.3, 0.7)),
        slow=chance(0.02, 0.1),
        unavailable=chance(0.02, 0.1),
        ambiguous=chance(0.02, 0.1),
        heartbeat_fails=chance(0.5),
        lost=chance(0.1, 0.5),
        duplicated=chance(0.1, 0.5),
        late=chance(0.1, 0.5),
        undeleted=chance(0.2),
        early=chance(0.2),
        strikes=_draw_strikes(source),
        kill_after_seconds=tuple(
            source.uniform(0.0, chaos_seconds) for _ in range(source.choice((0, 0, 1, 2)))
        ),
    )


def _draw_strikes(source: random.Random) -> tuple[Strike, ...]:
    """Some, of which many strike at the same call, so that rare moments are met often enough."""
    focus, may_jump = source.choice(STRIKE_CALLS), source.random() < 0.2
    return tuple(
        draw_strike(source, focus if source.random() < 0.5 else source.choice(STRIKE_CALLS), may_jump)
        for _ in range(source.randint(0, 9))
    )


def draw_strike(source: random.Random, call: str, may_jump: bool) -> Strike:
    """A heavy fault at some call of that name."""
    return Strike(
        fault=source.choice((*FAULTS, "jump" if may_jump else "kill")),
        when=source.choice(("before", "after")),
        call=call,
        number=source.randint(1, 5 if call else 150),
    )
