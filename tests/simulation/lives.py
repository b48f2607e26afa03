"""Work is deleted while others go on, and its id is enqueued anew, in the same world of faults.

28. Lives. What is deleted has ended, has told its parent, and has nothing left behind in the index or
    in a line for a resource; nothing is written to it after that, be it by who slept through it all,
    nor to new work of its id by who meant the old. All other invariants hold of each life by itself:
    a life's children, signals and reports are its own.

Each life has a name in the history: the work id, and from the second on its number. Children are
named after the life that spawned them. What a life's own child finds in its way, since a child of a
former life still runs under its id, is told to the parent as failed.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from msgspec import structs

from roost.core.bulk import Action
from roost.core.where import parse
from roost.journal import family
from roost.journal.claims import Owner
from roost.journal.entries import Entry, IndexRow
from roost.journal.events import ChildEnded, Enqueued, Noted
from roost.journal.lines import OPERATOR_ENGINE, SWITCH_ENGINE
from roost.models import WorkItem
from roost.testing.virtual_time import START_AT

from . import family_invariants as families
from . import invariants, operator_invariants, readings
from .families import with_families
from .invariants import Appended, Began, Dropped, Ended, Record, Sent, Stepped, Violation, at_entry
from .operators import with_operators
from .plan import Operation, Plan, PlannedDeed, draw_alone, draw_strike
from .world import EXPECTED_ERRORS, Process, Report, World, simulate

if TYPE_CHECKING:
    import asyncio as asyncio_

STRIKE_CALLS = (
    *("purge", "purge", "purge", "expire", "append_many", "append_many", "enqueued", "acquire", "leave"),
    *("index_put", "index_put", "acknowledge", "committed", "committed", "claimed", "child_ended", "tail"),
    *("cancelled", "failed", "send", "extend"),
)
DEEDS = ("purge", "purge", "purge", "again", "again", "anew", "anew", "anew", "purge all")
OWN = frozenset(DEEDS)
_IN_THE_WAY = "other work has its id"  # logged as an error
_LOOKS = 40  # at most, of a deed that waits for an end

_life: ContextVar[tuple[str, float] | None] = ContextVar("life", default=None)


def draw_lives(seed: int) -> Plan:
    """The plan of a seed: work that is deleted by operators, or when its time is over, and comes again."""
    source, plan = random.Random(f"lives {seed}"), draw_alone(seed)
    plan = with_operators(plan if seed % 3 == 1 else with_families(plan, source), seed)
    deeds = tuple(_draw_deed(source, plan) for _ in range(source.randint(2, 10)))
    strikes = tuple(
        draw_strike(source, source.choice(STRIKE_CALLS), may_jump=False) for _ in range(source.randint(0, 6))
    )
    return replace(
        plan,
        works=tuple(replace(work, deadline_after_seconds=None) for work in plan.works),
        deeds=tuple(deed for deed in plan.deeds if deed.what != "fork") + deeds,
        faults=replace(plan.faults, strikes=plan.faults.strikes + strikes),
        retention_seconds=source.choice((None, None, 0.0, plan.lease_seconds, 5 * plan.lease_seconds)),
    )


def _draw_deed(source: random.Random, plan: Plan) -> PlannedDeed:
    work_id = source.choice(plan.works).work_id
    what = source.choice(DEEDS)
    if what == "purge" and source.random() < 0.4:
        work_id = f"{work_id}.{source.randint(1, 3)}{source.choice('--d')}{source.randint(0, 1)}"
    return PlannedDeed(what, work_id, source.uniform(0.0, plan.chaos_seconds))


class LifeProcess(Process):
    """A worker, or the program outside, which deletes and enqueues again, too."""

    world: LifeWorld

    async def do(self, deed: PlannedDeed) -> None:
        if deed.what not in OWN:
            await super().do(deed)
            return
        await asyncio.sleep(deed.after_seconds)
        if deed.what in ("purge", "anew"):
            await self._until_it_ended(deed.work_id)
            await self.attempt(lambda: self.client.purge(deed.work_id, "old"))
        if deed.what == "purge all":
            await self.attempt(self._purge_all)
        if deed.what in ("again", "anew"):
            work = self.world.works[deed.work_id]
            await self.enqueue(replace(work, enqueue_after_seconds=0.0, delay_seconds=0.0))

    async def _until_it_ended(self, work_id: str) -> None:
        """Wait for it to end, for some time."""
        for _ in range(_LOOKS):
            tail = self.world.standing(work_id)
            if not self.world.is_chaos or (tail is not None and tail.control.state.is_terminal):
                return
            await asyncio.sleep(self.world.plan.lease_seconds / 10)

    async def _purge_all(self) -> None:
        where = parse("id:work-*", START_AT + self.world.now())
        async for _ in self.client.bulk(Action.PURGE, where, "all that is old"):
            pass


class _Named(list[Record]):
    """A history in which each life has a name of its own."""

    def __init__(self, world: LifeWorld) -> None:
        super().__init__()
        self._world = world

    def append(self, record: Record) -> None:
        super().append(self._world.named(record))

    def extend(self, records: Iterable[Record]) -> None:
        for record in records:
            self.append(record)


class LifeWorld(World):
    """One run of such a plan."""

    process_class = LifeProcess

    def __init__(self, report: Report, is_traced: bool = False) -> None:
        super().__init__(report, is_traced)
        self.history = report.history = _Named(self)
        self._names: dict[tuple[str, float], str] = {}
        self._lives: Counter[str] = Counter()
        self._now: dict[str, str] = {}  # the name of the life that each work id is in, or was
        self._signals: dict[tuple[str, str, int], str] = {}  # name, by raw id, signal and position
        self._gone: set[str] = set()
        self._in_the_way: set[str] = set()
        self._flaws: list[Violation] = []

    # --- names -----------------------------------------------------------------

    def standing(self, work_id: str) -> Entry | None:
        """The tail of the life that a work id is in."""
        return self.tails.get(self._now.get(work_id, work_id))

    def id_of(self, name: str) -> str:
        return re.sub("~[0-9]+", "", name)

    def meet(self, item: WorkItem) -> None:
        _life.set((item.work_id, item.created_at))

    def script_of(self, item: WorkItem) -> tuple[tuple[Operation, ...], ...]:
        script = super().script_of(item)
        self.step_counts[self._names[item.work_id, item.created_at]] = len(script)
        return script

    def _name(self, entry: Entry) -> str:
        """The name of the life that an entry is of."""
        key = (entry.work_id, entry.control.created_at)
        if key not in self._names:
            self._names[key] = self._new_name(entry)
        return self._names[key]

    def _new_name(self, entry: Entry) -> str:
        event, raw = entry.event, entry.work_id
        origin_at = event.origin_at if isinstance(event, Enqueued) else None
        parent = entry.control.parent
        parent_id = parent.work_id if parent is not None else raw.rpartition(".")[0]
        origin = self._names.get((parent_id, (parent.origin_at if parent is not None else origin_at) or 0.0))
        name = raw if origin is None else origin + raw[len(parent_id) :]
        self._lives[name] += 1
        if self._lives[name] > 1 and origin is not None:
            self.report.counts["spawned again"] += 1
        if raw in self.step_counts:
            self.step_counts.setdefault(f"{name}~{self._lives[name]}", self.step_counts[raw])
        return name if self._lives[name] == 1 else f"{name}~{self._lives[name]}"

    def _renamed(self, entry: Entry) -> Entry:
        name, event, control = self._name(entry), entry.event, entry.control
        parent = control.parent
        if parent is not None:
            parent = structs.replace(
                parent, work_id=self._names.get((parent.work_id, parent.origin_at or 0.0), parent.work_id)
            )
            control = structs.replace(control, parent=parent)
        if isinstance(event, Enqueued) and event.parent is not None:
            event = structs.replace(event, parent=parent)
        if isinstance(event, ChildEnded):
            event = structs.replace(event, child_id=name + event.child_id[len(entry.work_id) :])
        return structs.replace(entry, work_id=name, event=event, control=control)

    def named(self, record: Record) -> Record:
        """A record under the name of the life that it is about."""
        match record:
            case Sent(work_id, signal_id, position):
                name = self._signals.get((work_id, signal_id, position), self._now.get(work_id, work_id))
                return replace(record, work_id=name)
            case Dropped(work_id):
                return replace(record, work_id=self._now.get(work_id, work_id))
            case Appended():
                return record
            case Ended():
                return replace(record, owners=self._owned(record.owners))
            case _:
                return self._of_step(record)

    def _of_step(self, record: Any) -> Record:
        raw = record.work_id
        name = self._names[_life.get() or (raw, 0.0)]
        if isinstance(record, Stepped):
            children = tuple(
                (ordinal, state, name + str(result)[len(raw) :] if result else result)
                for ordinal, state, result in record.children
            )
            record = replace(record, children=children)
        if isinstance(record, Began):
            record = replace(record, owners=self._owned(record.owners))
        renamed: Record = replace(record, work_id=name)
        return renamed

    def _owned(self, owners: tuple[tuple[str, Owner | None], ...]) -> tuple[tuple[str, Owner | None], ...]:
        """Owners under the name of the life whose step asks, where it is the same id; else of now."""
        life = _life.get()
        own = {} if life is None else {life[0]: self._names[life]}
        names = {**self._now, **own}
        return tuple(
            (resource, owner and structs.replace(owner, work_id=names.get(owner.work_id, owner.work_id)))
            for resource, owner in owners
        )

    # --- what happens ------------------------------------------------------------

    def _open_storage(self, loop: asyncio_.AbstractEventLoop) -> None:
        super()._open_storage(loop)
        journal = self.shared.journal
        forget = journal._forget

        def forgets(work_id: str) -> None:
            tail = journal._entries[work_id][-1]
            if tail.control.engine not in (SWITCH_ENGINE, OPERATOR_ENGINE):
                self._deletes(self._renamed(tail))
            forget(work_id)

        journal._forget = forgets  # type: ignore[method-assign]  # of this one

    def _deletes(self, tail: Entry) -> None:
        self.report.counts["deleted"] += 1
        self.note(f"{tail.work_id}@{tail.position} is deleted")
        if not tail.control.state.is_terminal:
            self._flaws.append(Violation(28, at_entry(tail), "is deleted, and has not ended"))
        parent = tail.control.parent
        of = self.tails.get(parent.work_id) if parent is not None else None
        if parent is not None and of is not None:
            known = of.control.family
            if known is None or not family.has_ended(known, parent.ordinal):
                self._flaws.append(Violation(28, at_entry(tail), "is deleted, and its parent was not told"))
        self._gone.add(tail.work_id)
        self.tails.pop(tail.work_id, None)

    def _appended(self, entry: Entry) -> None:
        if entry.control.engine in (SWITCH_ENGINE, OPERATOR_ENGINE):
            super()._appended(entry)
            return
        renamed = self._renamed(entry)
        name = renamed.work_id
        if entry.position == 0:
            self._now[entry.work_id] = name
            self.report.counts["lives again"] += name != entry.work_id
        if name in self._gone or self._now.get(entry.work_id) != name:
            self._flaws.append(Violation(28, at_entry(renamed), "is written after its work was deleted"))
        if entry.event.kind == "signaled":
            self._signals[entry.work_id, getattr(entry.event, "signal_id", ""), entry.position] = name
        if isinstance(renamed.event, ChildEnded) and renamed.event.child_id not in self._lives:
            self._in_the_way.add(renamed.event.child_id)
            self.report.counts["in the way"] += 1
        if isinstance(entry.event, Noted):  # detached children that found others in their way
            found = re.findall(rf"{re.escape(entry.work_id)}(\.[0-9]+d[0-9]+)", entry.event.text)
            self._in_the_way |= {name + one for one in found}
        super()._appended(renamed)

    def _rows(self) -> dict[str, IndexRow]:
        found = {}
        for work_id, row in super()._rows().items():
            name = self._now.get(work_id, work_id)
            tail = self.tails.get(name)
            parent = tail.control.parent if tail is not None else None
            row = structs.replace(row, work_id=name, parent_id=parent.work_id if parent else row.parent_id)
            found[name] = row
        return found

    # --- checks ------------------------------------------------------------------

    def _check_left(self) -> list[Violation]:
        """28: nothing is left of what was deleted."""
        own = (SWITCH_ENGINE, OPERATOR_ENGINE)
        rows = [row for row in self.shared.index._rows.values() if row.engine not in own]
        found = [
            Violation(28, row.work_id, "has a row, and no journal")
            for row in rows
            if row.work_id not in self.shared.journal._entries
        ]
        for (_, resource), standing in self.shared.claims._standing.items():
            waiting = [waiter.work_id for waiter in standing.waiters]
            found += [
                Violation(28, work_id, f"is in line for {resource}, and was deleted")
                for work_id in waiting
                if work_id not in self.shared.journal._entries
            ]
        return found

    async def _check(self) -> None:
        tails = self.tails.values()
        trails = await readings.trails(self.history, self.shared)
        is_steady = self.plan.are_clocks_steady
        found = [
            *self._flaws,
            *self._check_left(),
            *invariants.check_history(self.history, are_clocks_steady=is_steady),
            *invariants.check_ended(tails),
            *invariants.check_done(tails, self.step_counts),
            *families.check_families(self.history, are_clocks_steady=is_steady),
            *invariants.check_index(tails, self._rows()),
            *invariants.check_snapshots(trails, operator_invariants.bases(self.history)),
            *operator_invariants.check_operators(self.history, are_clocks_right=self.are_clocks_right),
            *invariants.check_artifacts(self.put, await readings.artifacts(self.put, self.shared)),
            *invariants.check_reasons(self.history, EXPECTED_ERRORS),
        ]
        self.report.violations = [one for one in found if not self._is_excused(one)]
        if self._in_the_way:
            self.report.bugs[:] = [text for text in self.report.bugs if _IN_THE_WAY not in text]
        self.report.ended_seconds = self.now()
        self.report.digest = readings.digest(self.history)

    def _is_excused(self, found: Violation) -> bool:
        """A parent that was deleted need not be told; nor is a child that found another in its way."""
        if found.invariant not in (8, 11):
            return False
        work_id = found.where.partition("@")[0]
        is_orphan = "NotifyParent" in found.what and any(
            work_id.startswith(f"{name}.") for name in self._gone
        )
        return is_orphan or any(name in f"{found.where} {found.what}" for name in self._in_the_way)


def simulate_lives(seed: int, *, plan: Plan | None = None, is_traced: bool = False) -> Report:
    """Run one seed of these plans."""
    return simulate(seed, plan=plan or draw_lives(seed), is_traced=is_traced, world=LifeWorld)
