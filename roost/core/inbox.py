"""What a step is given from outside: signals, and what came of its children.

A commit that waits names what the step after it is given. What a step was given, and
what it takes besides, is consumed by its commit; a step that fails gives it all back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from roost import jsonio
from roost.core import bodies
from roost.core.parts import Parts
from roost.errors import StorageCorrupt
from roost.journal import family
from roost.journal.entries import Control, Entry
from roost.journal.events import ChildEnded, Signaled
from roost.models import Artifact, ChildResult, Signal, read_known

_PAGE = 100  # entries of one read


class Given(Struct):
    """What one attempt at a step is given.

    Attributes:
        signals: those that its wait named, in the order in which they came.
        pending: (position, signal) of the others that no step has seen.
        children: results that its wait was for, by ordinal.
        timed_out: it waited, and nothing of what it waited for came in time.
        join_is_met: whether enough children are done; None: it did not wait for any.
        consumed: positions of all that the commit of this attempt consumes.
    """

    signals: tuple[Signal, ...] = ()
    pending: tuple[tuple[int, Signal], ...] = ()
    children: tuple[ChildResult, ...] = ()
    timed_out: bool = False
    join_is_met: bool | None = None
    consumed: set[int] = field(default_factory=set)

    def take(self, name: str) -> tuple[Signal, ...]:
        """The pending signals of a name; consumed by this attempt's commit from now on."""
        taken = [(position, signal) for position, signal in self.pending if signal.name == name]
        self.consumed.update(position for position, _ in taken)
        self.pending = tuple(pair for pair in self.pending if pair[1].name != name)
        return tuple(signal for _, signal in taken)


class Inbox:
    """Reads signals and reports of one work item, each once.

    Args:
        work_id: the work item.
    """

    def __init__(self, parts: Parts, work_id: str) -> None:
        self._parts = parts
        self._work_id = work_id
        self._known: dict[int, Signal | ChildResult] = {}

    def may_give(self, control: Control) -> bool:
        """Whether there may be something for a step that runs now, under `control`."""
        return control.waits is not None or bool(control.signals)

    async def read(self, control: Control) -> Given:
        """What a step that runs now, under `control`, is given."""
        if not self.may_give(control):
            return Given()
        waits = control.waits
        join = waits.join if waits is not None else None
        reported = control.family.reported if control.family is not None and join is not None else ()
        await self._load([*(position for position, _ in control.signals), *map(abs, reported)])
        names = waits.names if waits is not None else ()
        matching = [(position, name in names) for position, name in control.signals]
        given = Given(
            signals=tuple(self._signal(position) for position, is_given in matching if is_given),
            pending=tuple((p, self._signal(p)) for p, is_given in matching if not is_given),
            children=tuple(sorted((self._child(abs(p)) for p in reported), key=lambda child: child.ordinal)),
            join_is_met=family.is_met(join, control.family) if join is not None else None,
            consumed={p for p, is_given in matching if is_given} | set(map(abs, reported)),
        )
        came = bool(given.signals) or (join is not None and family.is_satisfied(join, control.family))
        given.timed_out = waits is not None and not came
        return given

    def _signal(self, position: int) -> Signal:
        found = self._known[position]
        assert isinstance(found, Signal)
        return found

    def _child(self, position: int) -> ChildResult:
        found = self._known[position]
        assert isinstance(found, ChildResult)
        return found

    async def _load(self, positions: Sequence[int]) -> None:
        """Read what is not known yet, in pages: what came together lies together."""
        missing = sorted(position for position in set(positions) if position not in self._known)
        while missing:
            page = await self._parts.backend.journal.read(
                self._work_id, after=missing[0] - 1, limit=min(_PAGE, missing[-1] - missing[0] + 1)
            )
            wanted = set(missing)
            for entry in page:
                if entry.position in wanted:
                    self._known[entry.position] = await read_news(self._parts, entry)
            left = [position for position in missing if position not in self._known]
            if len(left) == len(missing):
                raise StorageCorrupt(f"entry {missing[0]} of {self._work_id} is missing")
            missing = left


async def read_news(parts: Parts, entry: Entry) -> Signal | ChildResult:
    """The signal or the report that an entry holds."""
    body: Any = jsonio.load(await bodies.load(parts.backend, entry))
    match entry.event:
        case Signaled(signal_id=signal_id, name=name):
            return Signal.model_construct(
                signal_id=signal_id, name=name, data=body, at=entry.at, actor=entry.actor
            )
        case ChildEnded(child_id=child_id, ordinal=ordinal, state=state):
            return ChildResult.model_construct(
                work_id=child_id,
                key=body.get("key", ""),
                ordinal=ordinal,
                state=state,
                result=body["result"],
                artifacts=tuple(read_known(Artifact, artifact) for artifact in body["artifacts"]),
                error=body["error"],
            )
    raise StorageCorrupt(f"entry {entry.position} of {entry.work_id} is neither a signal nor a report")
