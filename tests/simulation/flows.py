"""Conversations, triggers, a schedule and several engine versions, in the same world of faults.

13. Turns. Of one conversation at most one work item that has not ended has the turn, and no
    step begins to run of work that has not. Turns are given in the order of the places taken
    in line. Work that was enqueued under `reject` found all that came before it ended. In
    the end the line is empty.
14. Ticks. The commits of a schedule go on from tick to tick: each tick is enqueued by one
    commit, once, none is left out where `missed` is `all`, and each one's work exists.
    Its journal is trimmed after every other commit here, to its last entries; nothing that
    was trimmed is missed, and nobody appends there again.
15. Triggers. For each end of work that meets a rule there is exactly one work item that names
    this end and rule as its cause, and no other work names a cause; its payload is of that end.
17. Versions. A step is given a snapshot of its own version, or one that it migrated itself
    (the engine checks it at each step).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from roost import jsonio
from roost.core import bodies, schedules
from roost.core.triggers import triggered_id
from roost.engines.schedule import ScheduleEngine
from roost.journal import family, lines, retention
from roost.journal.entries import Control, Entry
from roost.journal.events import Committed, Enqueued, TurnTaken
from roost.models import Snapshot, WorkItem
from roost.names import IfBusy, State
from roost.rules import Missed, Schedule, Trigger

from . import invariants, operator_invariants
from .engines import SimEngine
from .histories import Past
from .invariants import Appended, Began, Record, Violation
from .plan import Faults, Operation, Plan, PlannedWork, Strike, draw_alone
from .world import EXPECTED_ERRORS, Process, Report, World, simulate

RULE = Schedule(cron="*/5 * * * *", engine="flow", missed=Missed.ALL)
TICK = "schedule:tick"
ENDS = (State.DONE, State.FAILED, State.CANCELLED)
TRIGGER = Trigger(engine="sim", on=ENDS, enqueue="flow", payload={"at": "snapshot.version", "how": "state"})
CALLS = (
    "turn_taken",
    "turn_given",
    "turn_ended",
    "settled",
    "append_many",
    "send",
    "committed",
    "append",
    "trim",
)


def draw_flows(seed: int) -> Plan:
    """The plan of a seed: work in conversations, struck where turns, ticks and triggers are made."""
    source, plan = random.Random(f"flows {seed}"), draw_alone(seed)
    works = tuple(
        PlannedWork(
            work_id=f"work-{number}",
            engine="sim",
            steps=tuple(_plain(step) for step in source.choice(plan.works).steps[:3]),
            enqueue_after_seconds=source.uniform(0.0, plan.chaos_seconds * 0.7),
            delay_seconds=source.choice((0.0, 0.0, source.uniform(0.0, 60.0))),
            cancel_after_seconds=source.uniform(0.0, plan.chaos_seconds) if source.random() < 0.2 else None,
            retry_after_seconds=source.uniform(0.0, plan.chaos_seconds) if source.random() < 0.3 else None,
        )
        for number in range(source.randint(3, 7))
    )
    strikes = tuple(
        Strike(
            source.choice(("kill", "freeze")),
            source.choice(("before", "after")),
            source.choice(CALLS),
            number,
        )
        for number in (source.randint(1, 6) for _ in range(source.randint(0, 5)))
    )
    faults: Faults = replace(plan.faults, strikes=(*plan.faults.strikes, *strikes))
    return replace(plan, works=works, faults=faults)


def _strike(source: random.Random, number: int) -> Strike:
    when = source.choice(("before", "after"))
    return Strike(source.choice(("kill", "freeze")), when, source.choice(CALLS), number)


def _plain(step: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Without delays of hours, which keep a conversation waiting."""
    return tuple(
        (what, min(number, 300.0) if what == "delay" else number, text) for what, number, text in step
    )


class FlowEngine(SimEngine):
    """Runs what triggers and schedules enqueue: one step."""

    engine_id = "flow"


class Versioned(SimEngine):
    """The usual work, in two versions whose snapshots differ."""

    def __init__(self, process: Process, version: str) -> None:
        super().__init__(process)
        self.engine_version = version
        if version != "1":
            self.migrate = self._migrate

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return (await super().init_snapshot(item)).next(data={"made_by": self.engine_version})

    def _migrate(self, snapshot: Snapshot) -> Snapshot:
        assert snapshot.data["made_by"] == snapshot.engine_version == "1"
        return snapshot.next(data={"made_by": self.engine_version})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        assert snapshot.data["made_by"] == self.engine_version, "17: a snapshot of another version"
        return await super().step(snapshot, item)


class FlowProcess(Process):
    """A process with triggers, and with one or two versions of the engine."""

    def __init__(self, world: World, slot: int, generation: int) -> None:
        super().__init__(world, slot, generation)
        settings = replace(self.parts.settings, triggers={"after": TRIGGER})
        self.parts = replace(self.parts, settings=settings)
        self._client._parts = self.parts

    def engines(self) -> list[Any]:
        versions = ["1", "2"] if self.slot == 0 else self.world.random.choice([["1"], ["1", "2"], ["2"]])
        found = [Versioned(self, version) for version in versions]
        return [*found, FlowEngine(self), ScheduleEngine(self.clock)]

    def options_of(self, work: PlannedWork) -> dict[str, Any]:
        conversation, if_busy = asks_of(self.world.report.seed, work.work_id)
        return {"conversation": conversation, "if_busy": if_busy}

    async def keep_schedule(self) -> None:
        """Have the schedule run, and remove it once the faults have stopped."""
        for _ in range(5):
            if not await self.attempt(lambda: schedules.keep(self._client, {"tick": RULE})):
                break
            await asyncio.sleep(1.0)
        while self.world.is_chaos:
            await asyncio.sleep(self.world.plan.lease_seconds)
        await asyncio.sleep(700.0)
        while await self.attempt(lambda: self._client.cancel(TICK, "enough")):
            await asyncio.sleep(1.0)


def asks_of(seed: int, work_id: str) -> tuple[str, IfBusy]:
    """The conversation that work is of, and what it does if that is busy."""
    source = random.Random(f"asks {seed} {work_id}")
    return source.choice(("one", "one", "two")), source.choice(tuple(IfBusy))


class FlowWorld(World):
    """One run of such a plan."""

    process_class = FlowProcess

    def _start_outsiders(self) -> list[asyncio.Task[None]]:
        outsider = FlowProcess(self, -1, 0)
        return [*super()._start_outsiders(), self._group.create_task(outsider.keep_schedule())]

    def script_of(self, item: WorkItem) -> tuple[tuple[Operation, ...], ...]:
        if item.work_id in self.works:
            return self.works[item.work_id].steps
        self.step_counts[item.work_id] = 1
        return ((),)

    async def _check(self) -> None:
        tails = list(self.tails.values())
        work = [tail for tail in tails if tail.control.engine in ("sim", "flow")]
        of_work = [record for record in self.history if not _is_of_line(record)]
        snapshots = await self._snapshots()
        self.report.violations = [
            *invariants.check_history(of_work, are_clocks_steady=self.plan.are_clocks_steady),
            *_check_lines(self.history),
            *invariants.check_ended(tails),
            *invariants.check_done(work, self.step_counts),
            *invariants.check_index(tails, self._rows()),
            *invariants.check_snapshots(
                {key: data["trail"] for key, data in snapshots.items() if "trail" in data},
                operator_invariants.bases(of_work),
            ),
            *invariants.check_reasons(self.history, EXPECTED_ERRORS),
            *check_turns(self.history, self.report.seed),
            *check_ticks({key[1]: data for key, data in snapshots.items() if key[0] == TICK}, tails),
            *check_triggers(self.history, await self._payloads(work)),
            *self._check_trimmed(await self.shared.journal.read(TICK, limit=10_000)),
        ]
        self.report.counts["trimmed"] += self.shared.journal.trimmed_count
        self.report.ended_seconds = self.now()

    def _check_trimmed(self, left: Sequence[Entry]) -> list[Violation]:
        """Of a journal there are the first entry and the newest, as they were appended."""
        entries = [r.entry for r in self.history if isinstance(r, Appended) and r.entry.work_id == TICK]
        kept = [entries[0], *entries[1:][len(entries) - len(left) :]] if left else []
        return [] if list(left) == kept else [Violation(1, TICK, f"has kept {left} of {entries}")]

    async def _snapshots(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The data of each committed snapshot, with what it spawned."""
        found = {}
        past: Any = Past(self.history, self.shared)
        for record in self.history:
            if isinstance(record, Appended) and isinstance(record.entry.event, Committed):
                fields = jsonio.load(await bodies.load(past, record.entry))
                key = record.entry.work_id, record.entry.event.version
                found[key] = {**fields["data"], "spawned": fields.get("spawn", [])}
        return found

    async def _payloads(self, tails: Iterable[Entry]) -> dict[str, dict[str, Any]]:
        found = {}
        for tail in tails:
            first = await self.shared.journal.get(tail.work_id, 0)
            assert first is not None
            found[tail.work_id] = (await bodies.load_item(self.shared, first)).payload
        return found


def _is_of_line(record: Record) -> bool:
    return isinstance(record, Appended) and record.entry.control.engine in lines.ENGINES


def _check_lines(history: Sequence[Record]) -> list[Violation]:
    """1 and 3 of the journals of conversations: contiguous, and each entry follows from the one before."""
    found: list[Violation] = []
    for entries in invariants.journals(record for record in history if _is_of_line(record)).values():
        found += invariants.check_positions(entries) + invariants.check_fencing(entries)
    return found


def check_turns(history: Sequence[Record], seed: int) -> list[Violation]:
    """13, over the records in the order in which they came."""
    found: list[Violation] = []
    controls: dict[str, Control] = {}
    given: dict[str, list[tuple[str, int]]] = {}
    places: dict[str, list[tuple[str, int]]] = {}
    for record in history:
        if isinstance(record, Began):
            turn = controls[record.work_id].turn
            if turn is not None and not turn.is_given:
                found.append(Violation(13, record.work_id, "runs a step, and it is not its turn"))
        if not isinstance(record, Appended):
            continue
        entry = record.entry
        before, controls[entry.work_id] = controls.get(entry.work_id), entry.control
        if isinstance(entry.event, TurnTaken):
            places.setdefault(entry.work_id, []).append((entry.event.work_id, entry.event.asked_at))
            found += _check_rejected(entry, controls, seed)
        turn = entry.control.turn
        if turn is not None and turn.is_given and not (before and before.turn and before.turn.is_given):
            given.setdefault(turn.conversation, []).append((entry.work_id, turn.asked_at))
            found += _check_alone(entry, turn.conversation, controls)
    for conversation, turns in given.items():
        order = [place for place in places[conversation] if place in turns]
        if order != turns:
            found.append(Violation(13, conversation, f"gave turns to {turns}, places were taken by {order}"))
    return found


def _check_alone(entry: Entry, conversation: str, controls: Mapping[str, Control]) -> list[Violation]:
    others = [
        work_id
        for work_id, control in controls.items()
        if work_id != entry.work_id
        and control.turn is not None
        and control.turn.conversation == conversation
        and control.turn.is_given
        and not control.state.is_terminal
    ]
    return [Violation(13, entry.work_id, f"is given a turn that {other} has") for other in others]


def _check_rejected(entry: Entry, controls: Mapping[str, Control], seed: int) -> list[Violation]:
    assert isinstance(entry.event, TurnTaken)
    if entry.event.work is None or asks_of(seed, entry.event.work_id)[1] is not IfBusy.REJECT:
        return []
    alive = [
        place.work_id
        for place in entry.control.line[:-1]
        if (control := controls.get(place.work_id)) is not None
        and not control.state.is_terminal
        and control.turn is not None
        and control.turn.asked_at == place.asked_at
    ]
    return [
        Violation(13, entry.event.work_id, f"was taken under `reject`, while {one} goes on") for one in alive
    ]


def check_ticks(commits: Mapping[int, Mapping[str, Any]], tails: Iterable[Entry]) -> list[Violation]:
    """14, over the data of the schedule's snapshots, by version."""
    found: list[Violation] = []
    enqueued: list[str] = []
    children: dict[str, str] = {}
    for version in sorted(commits):
        for number, child in enumerate(commits[version]["spawned"]):
            enqueued.append(child["labels"]["tick"])
            children[family.child_id(TICK, version, number, is_detached=True)] = child["labels"]["tick"]
    expected: list[str] = []
    if enqueued:
        at = _epoch(enqueued[0])
        while len(expected) < len(enqueued):
            expected.append(_iso(at))
            after = RULE.next_tick(at)
            assert after is not None
            at = after
    if enqueued != expected:
        found.append(Violation(14, TICK, f"enqueued {enqueued}, its ticks were {expected}"))
    there = {tail.work_id for tail in tails if tail.control.engine == "flow" and tail.control.labels}
    if there != set(children):
        found.append(Violation(14, TICK, f"asked for {sorted(children)}, there is {sorted(there)}"))
    return found


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_triggers(history: Sequence[Record], payloads: Mapping[str, Mapping[str, Any]]) -> list[Violation]:
    """15, over all ends of work and all work that names a cause."""
    expected: dict[str, tuple[int | None, str]] = {}
    made: Counter[str] = Counter()
    before: dict[str, Control] = {}
    for record in history:
        if not isinstance(record, Appended):
            continue
        entry = record.entry
        was, before[entry.work_id] = before.get(entry.work_id), entry.control
        has_ended = entry.control.state.is_terminal and not (was and was.state.is_terminal)
        if has_ended and entry.control.engine == "sim":
            at = entry.control.version if entry.control.snapshot_position is not None else None
            expected[triggered_id(entry.work_id, entry.position, "after")] = (at, entry.control.state.value)
        if isinstance(entry.event, Enqueued) and entry.event.cause is not None:
            made[entry.work_id] += 1
    found = [
        Violation(15, work_id, f"is there {made[work_id]} times")
        for work_id in expected
        if made[work_id] != 1
    ]
    found += [Violation(15, work_id, "is no work of an end") for work_id in made if work_id not in expected]
    found += [
        Violation(15, work_id, f"has the payload {payloads[work_id]}, not {(at, how)}")
        for work_id, (at, how) in expected.items()
        if work_id in payloads and payloads[work_id] != {"at": at, "how": how}
    ]
    return found


def simulate_flows(seed: int, *, plan: Plan | None = None, is_traced: bool = False) -> Report:
    """Run one seed of these plans."""
    with patch.multiple(retention, TRIM_EVERY=2, ENTRIES_KEPT=2):
        return simulate(seed, plan=plan or draw_flows(seed), is_traced=is_traced, world=FlowWorld)
