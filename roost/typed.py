"""Typed engines: payload and state as pydantic models, on top of the two methods.

    class Poem(BaseModel):
        topic: str

    class Draft(BaseModel):
        lines: list[str] = []

    class Poet(TypedEngine[Poem, Draft]):
        engine_id = "poet"

        async def begin(self, payload: Poem) -> Draft:
            return Draft()

        async def advance(self, state: Draft, payload: Poem) -> Go[Draft] | Finish[Draft]:
            state.lines.append(f"a line about {payload.topic}")
            return Finish(state) if len(state.lines) == 4 else Go(state, delay=1.0)

It stays a step machine: each `advance` is one step, and what it returns is committed. The
state is the snapshot's `data`, so history, diffs and the console show it as always.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from roost.errors import EngineContractError
from roost.models import Child, Snapshot, WaitFor, WorkItem

P = TypeVar("P", bound=BaseModel)
S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Go(Generic[S]):
    """Go on with this state.

    Attributes:
        step: the name of the next step; the same again where empty.
        delay: seconds before it.
        wait_for: what to wait for before it; a text is the name of a signal.
        spawn: work to start with the commit.
        note: a line for the history.
    """

    state: S
    step: str = ""
    delay: float = 0.0
    wait_for: WaitFor | str | None = None
    spawn: Sequence[Child] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Finish(Generic[S]):
    """The work is done, with this state.

    Attributes:
        result: for whoever spawned the work; JSON of at most 16 kB.
        status: a word of your own about how it ended.
        note: a line for the history.
    """

    state: S
    result: Any = None
    status: str = "done"
    note: str | None = None


class TypedEngine(Generic[P, S]):
    """An engine whose payload and state are pydantic models.

    Subclass it with the two models, and give it `engine_id`, `begin` and `advance`. All
    optional attributes of an engine work as ever; `payload_model` is set for you.
    """

    engine_id: str
    payload_model: ClassVar[type[BaseModel]]
    state_model: ClassVar[type[BaseModel]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in getattr(cls, "__orig_bases__", ()):
            models = typing.get_args(base)
            if typing.get_origin(base) is TypedEngine and all(isinstance(model, type) for model in models):
                cls.payload_model, cls.state_model = models

    async def begin(self, payload: P) -> S:
        """The state that the first step starts from."""
        raise EngineContractError(f"engine {self.engine_id!r} has no method `begin`")

    async def advance(self, state: S, payload: P) -> Go[S] | Finish[S]:
        """Do one step. `roost.current_step()` gives its context; it must be safe to retry.

        Args:
            state: a copy of its own, which the step may change.
        """
        raise EngineContractError(f"engine {self.engine_id!r} has no method `advance`")

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        """What Roost calls; see `begin`."""
        return Snapshot.of(item, data=_dump(await self.begin(self._payload(item))))

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        """What Roost calls; see `advance`."""
        match await self.advance(self._state(snapshot), self._payload(item)):
            case Go(state, step, delay, wait_for, spawn, note):
                after = snapshot.next(step or None, delay=delay, wait_for=wait_for, spawn=spawn, note=note)
            case Finish(state, result, status, note):
                after = snapshot.finish(result=result, status=status, note=note)
            case other:
                raise EngineContractError(
                    f"engine {self.engine_id!r} returned {type(other).__name__}",
                    hint="`advance` returns Go(state, …) or Finish(state, …).",
                )
        after.data = _dump(state)
        return after

    def _payload(self, item: WorkItem) -> P:
        return typing.cast("P", self.payload_model.model_validate(item.payload))

    def _state(self, snapshot: Snapshot) -> S:
        """The state that a snapshot holds.

        Raises:
            EngineContractError: it holds another; a `migrate` of the engine can make it fit.
        """
        try:
            return typing.cast("S", self.state_model.model_validate(snapshot.data))
        except ValidationError as error:
            raise EngineContractError(
                f"version {snapshot.version} does not fit {self.state_model.__name__}: "
                f"{error.error_count()} faults, the first: {error.errors()[0]['msg']}",
                hint="Give the engine a `migrate(snapshot)` for older states.",
            ) from None


def _dump(state: BaseModel) -> dict[str, Any]:
    return state.model_dump(mode="json")
