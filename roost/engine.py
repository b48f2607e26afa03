"""What a user writes: engines; and what a step is given: its context.

An engine is any object with `engine_id`, `init_snapshot` and `step`. The optional
attributes are read once, by `EngineSpec.of`.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from msgspec import Struct, field
from msgspec.structs import replace
from pydantic import BaseModel

from roost import shapes
from roost.errors import EngineContractError
from roost.models import Approval, Artifact, ChildResult, Signal, Snapshot, WorkItem, check_id

VERSION_MAX_CHARS = 100
_VERSION_PART = re.compile(r"[0-9]+|[^0-9.]+")

T = TypeVar("T")


@runtime_checkable
class Engine(Protocol):
    """A durable step machine.

    Both methods may be plain functions; those run in a thread. `step` can run more
    than once from the same snapshot (after a crash, say), so it must be safe to retry.

    Optional attributes: `payload_model` (a pydantic model that every payload must fit),
    `signal_models` (the shape of a signal's data by the signal's name: pydantic models, or JSON Schemas),
    `step_timeout_seconds`, `retry` (a `RetryPolicy`), `engine_version` (free text; of two,
    the later is the one whose numbers are higher, part by part), and the method
    `migrate(snapshot) -> Snapshot`, which makes of an earlier version's snapshot
    (`snapshot.engine_version`) one that this version goes on from. Without it, work that
    another version began is left to workers that have that version.
    """

    engine_id: str

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        """The snapshot that the first step starts from; stored with that step's commit."""

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        """Do one step and return the snapshot after it.

        What a step changes in `snapshot.data` is kept only by returning it. `item` is only to be read:
        a change to its payload is gone with the lease, so later steps may or may not see it.
        """


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed step is tried again, and when its work item is dead-lettered.

    Attributes:
        max_attempts: failed attempts at one step before the work item fails.
        max_interruptions: workers that may die in one step before the work item fails;
            a separate count, since a deployment that kills workers is no fault of the step.
        first_delay_seconds: wait after the first failed attempt; doubles with each.
        max_delay_seconds: the wait never grows beyond this.
    """

    max_attempts: int = 5
    max_interruptions: int = 10
    first_delay_seconds: float = 1.0
    max_delay_seconds: float = 300.0

    def delay_seconds(self, failures: int, spread: float) -> float:
        """The wait after `failures` failed attempts.

        Args:
            failures: how many there were, at least 1.
            spread: a random number in 0 to 1; the wait is 50 % to 100 % of the full one,
                so that items which failed together don't come back together.
        """
        doubled: float = self.first_delay_seconds * 2.0 ** min(failures - 1, 30)
        return min(doubled, self.max_delay_seconds) * (0.5 + 0.5 * spread)

    def faults(self) -> list[str]:
        """What is wrong with it, in words."""
        least = {"max_attempts": 1, "max_interruptions": 1, "first_delay_seconds": 0, "max_delay_seconds": 0}
        return [
            f"{name} {value!r}, not {'a whole number' if low else 'a number of seconds'}, {low} or more"
            for name, low in least.items()
            if not (
                isinstance(value := getattr(self, name), int if low else int | float) and low <= value < inf
            )
        ]


class EngineSpec(Struct, frozen=True):
    """An engine with its optional attributes read and checked."""

    engine: Engine
    engine_id: str
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    step_timeout_seconds: float | None = None
    payload_model: type[BaseModel] | None = None
    engine_version: str | None = None
    step_is_async: bool = True
    init_is_async: bool = True
    migrate: Callable[[Snapshot], Any] | None = None
    signal_shapes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, engine: Any) -> EngineSpec:
        """Read an engine's attributes.

        Raises:
            EngineContractError: a method is missing or an attribute has a wrong type.
        """
        name = type(engine).__name__
        engine_id = getattr(engine, "engine_id", None)
        if not isinstance(engine_id, str):
            raise EngineContractError(
                f"engine {name} has no `engine_id`", hint="Give it a class attribute of type str."
            )
        for method in ("init_snapshot", "step"):
            if not callable(getattr(engine, method, None)):
                raise EngineContractError(f"engine {engine_id!r} has no method `{method}`")
        spec = cls(
            engine=engine,
            engine_id=check_id(engine_id, "engine id"),
            retry=getattr(engine, "retry", None) or RetryPolicy(),
            step_timeout_seconds=getattr(engine, "step_timeout_seconds", None),
            payload_model=shapes.payload_model(engine_id, getattr(engine, "payload_model", None)),
            engine_version=getattr(engine, "engine_version", None),
            step_is_async=inspect.iscoroutinefunction(engine.step),
            init_is_async=inspect.iscoroutinefunction(engine.init_snapshot),
            migrate=getattr(engine, "migrate", None),
            signal_shapes=shapes.signal_shapes(engine_id, getattr(engine, "signal_models", None)),
        )
        spec._check()
        return spec

    def _check(self) -> None:
        if not isinstance(self.retry, RetryPolicy):
            raise EngineContractError(f"engine {self.engine_id!r}: `retry` is not a RetryPolicy")
        if faults := self.retry.faults():
            raise EngineContractError(f"engine {self.engine_id!r}: `retry` has {'; '.join(faults)}")
        limit = self.step_timeout_seconds
        if limit is not None and (limit is True or not (isinstance(limit, int | float) and limit > 0)):
            raise EngineContractError(
                f"engine {self.engine_id!r}: `step_timeout_seconds` is not a positive number"
            )
        version = self.engine_version
        if version is not None and not (isinstance(version, str) and 0 < len(version) <= VERSION_MAX_CHARS):
            raise EngineContractError(
                f"engine {self.engine_id!r}: `engine_version` is {version!r:.100}, not text of 1 to "
                f"{VERSION_MAX_CHARS} characters"
            )
        if self.migrate is not None and (version is None or not callable(self.migrate)):
            raise EngineContractError(
                f"engine {self.engine_id!r} has a `migrate` that is no method, or no `engine_version`",
                hint="`migrate(snapshot)` makes the snapshots of earlier versions ones of `engine_version`.",
            )

    @property
    def name(self) -> str:
        """The engine's id, with its version if it has one."""
        return f"{self.engine_id} {self.engine_version}" if self.engine_version else self.engine_id

    def goes_on_from(self, version: str | None) -> bool:
        """Whether it can run a step from a snapshot that `version` made (None: it had no version).

        It can from its own, and from one without a version, since nobody told them apart
        then; with `migrate` also from earlier ones.
        """
        if version is None or version == self.engine_version:
            return True
        own = self.engine_version
        return self.migrate is not None and own is not None and version_key(version) < version_key(own)

    def check_payload(self, payload: dict[str, Any]) -> None:
        """Check a payload against `payload_model`, if the engine has one.

        Raises:
            PayloadError: it does not fit; the message names each wrong field.
        """
        if self.payload_model is not None:
            shapes.check_payload(self.engine_id, self.payload_model, payload)


def version_key(version: str | None) -> tuple[tuple[int, int, str], ...]:
    """Sorts versions: part by part, numbers as numbers; no version comes first."""
    parts = _VERSION_PART.findall(version or "")
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


class ArtifactWriter(Protocol):
    """How a step stores what it produced."""

    async def put(
        self,
        name: str,
        content: bytes | str | Path,
        *,
        content_type: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Artifact:
        """Store `content` durably and add it to the snapshot that this step commits.

        Args:
            name: free text up to 1 kB.
            content: bytes, text (stored as UTF-8), or the path of a file to read.
            content_type: a media type; guessed from the name where not given.
            metadata: a small JSON object.
        """


class StepContext(Protocol):
    """What a running step can ask of Roost; `current_step()` returns it.

    Attributes:
        work_id: the work item.
        token: the fencing token of this lease; outside systems that compare it can
            refuse a worker that lost its lease.
        attempt: 1, and one more with each attempt at this step that failed. Tries that were
            lost with their worker, parked or put off are none.
        idempotency_key: the same over all tries of this step; hand it to services
            that deduplicate.
    """

    work_id: str
    token: int
    attempt: int
    idempotency_key: str

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that adds work id, engine, version, token and attempt to each line."""

    @property
    def artifacts(self) -> ArtifactWriter:
        """Stores artifacts; what was stored goes with the snapshot that this step commits."""

    @property
    def cancel_requested(self) -> bool:
        """Whether someone asked for this work to be cancelled, or the worker is draining."""

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The signals that the wait before this step named, in order; its commit consumes them."""

    @property
    def pending_signals(self) -> tuple[Signal, ...]:
        """All other signals that no committed step has seen; they stay."""

    def take(self, name: str) -> tuple[Signal, ...]:
        """Pending signals of a name, in order; this step's commit consumes them."""

    @property
    def children(self) -> tuple[ChildResult, ...]:
        """What came of the children that the wait before this step was for, by ordinal."""

    @property
    def join_is_met(self) -> bool | None:
        """Whether enough of them are done, and not too many failed; None without such a wait."""

    @property
    def timed_out(self) -> bool:
        """Whether the wait before this step ended without what it waited for."""

    def ask(
        self, name: str = "approval", *, reply: type[BaseModel] | Mapping[str, Any] | None = None
    ) -> Approval:
        """Ask somebody for an approval: gives a signed token, and what to wait for.

        Send `link` to whoever is to decide and return `snapshot.next(wait_for=ask.wait(…))`. The
        token is the same over all tries of this step. It answers once, while the work waits for it,
        and what it answers is in `signals` of the next step, with who and when.

        Args:
            name: unique within this step; up to 200 bytes.
            reply: the shape of the answer: a pydantic model, or a JSON Schema; None: any JSON.

        Raises:
            SettingsError: there is no secret to sign with (`approvals.signing_secret`).
        """

    def spend(self, *, provider: str = "", model: str = "", **amounts: float) -> None:
        """Report what this step has used up, as `spend(tokens=1200, usd=0.01)`; adds up.

        It is recorded with the commit, and held against the budgets of the work item.

        Args:
            provider: whose language model it was (`openai`, `aws.bedrock`), and
            model: which; labels of the metric of `input_tokens` and `output_tokens`, recorded nowhere.
            amounts: by name; not negative.

        Raises:
            InputError: an amount is no number, or negative.
        """

    async def once(
        self, key: str, fn: Callable[[], Awaitable[Any] | Any], *, at_most_once: bool = False
    ) -> Any:
        """Do a side effect whose result is recorded, so that a retry of the step skips it.

        The result is durable when `once` returns; it costs one append. A crash between the
        effect and its record repeats the effect: pass `idempotency_key` on where that matters,
        or use `at_most_once`.

        Args:
            key: names the effect within this step; up to 1 kB. At most 1,000 in one step.
            fn: does the effect; returns JSON of at most 1 MiB; may be a coroutine function.
            at_most_once: it is never begun twice. That costs one append more, before it.

        Raises:
            OutcomeUnknown: with `at_most_once`, it began before and has no result; the engine
                asks the service itself. Uncaught, it fails the work.
            EngineContractError: the result is no JSON that can be recorded, or there are too
                many; uncaught, it fails the work, for trying again would repeat the effect.
        """

    async def close_key(self, resource: str, seconds: float) -> None:
        """Close a resource for all work of this namespace, as after a 429 of the service behind it.

        Work that needs it parks until then; it burns no attempts and holds no worker's lane.
        As many come back as there is room for, and those call the others. This step goes on:
        it may commit, or raise `RetryLater(seconds)` to be tried again. Steps of other leases
        that are under way, or later in their burst, may still start for `burst_seconds`. Of
        several closings the latest instant stands; `roost resources open` ends it early.

        Args:
            resource: its name; need not be one that this work holds.
            seconds: from now, above 0.
        """

    async def workspace(self, *, source: str | None = None, ref: str | None = None) -> Path:
        """The git working tree of this work item, made at the first call; the same path from then on.

        Where the settings save workspaces, it is kept with the commit of each step that
        called this, and brought back on any host as the last commit left it. What a step
        that failed has changed in it is still there for the next try on the same host.

        Args:
            source: a repository on this host, or a URL; None: that of the settings.
            ref: the branch, tag or commit to start from; None: that of the settings.

        Raises:
            InputError: source or ref is not well-formed.
            WorkspaceError: git failed; the step may be tried again.
        """

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        """For a step that is a plain function: `wait(context.once(…))` from its thread."""

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the step is (0 to 1); shown by `roost status` within about two seconds.

        A step that never calls it shows the last line that it logged, with the next heartbeat.
        """


_current: ContextVar[StepContext] = ContextVar("roost_step")


def current_step() -> StepContext:
    """The context of the step that is running here.

    Raises:
        RuntimeError: no step is running in this task or thread.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("current_step() is only to be had inside a step") from None


def enter_step(context: StepContext) -> None:
    """Make `context` what `current_step()` returns in this task; for the runtime."""
    _current.set(context)


class EngineRegistry:
    """The engines that a process can run, by id; of one id there may be several versions."""

    def __init__(self, engines: Iterable[Any] = ()) -> None:
        self._specs: dict[str, list[EngineSpec]] = {}  # of one id, the newest version first
        self._unmade: dict[str, Callable[[], Any]] = {}
        for engine in engines:
            self.add(engine)

    def add(self, engine: Any) -> EngineSpec:
        """Add an engine.

        Raises:
            EngineContractError: it breaks the contract, or its id and version are taken.
        """
        spec = EngineSpec.of(engine)
        versions = self._specs.get(spec.engine_id, [])
        if spec.engine_id in self._unmade:
            raise EngineContractError(f"the engine id {spec.engine_id!r} is Roost's own")
        if any(other.engine_version == spec.engine_version for other in versions):
            raise EngineContractError(
                f"two engines have the id {spec.engine_id!r} and the same version",
                hint="Versions that run side by side need an `engine_version` each.",
            )
        by_age = sorted([*versions, spec], key=lambda one: version_key(one.engine_version), reverse=True)
        self._specs[spec.engine_id] = by_age
        return spec

    def add_own(self, engine_id: str, make: Callable[[], Any]) -> None:
        """Add one of Roost's own engines, which is made, and imported, when there is work for it.

        Raises:
            EngineContractError: its id is taken.
        """
        if engine_id in self._specs:
            raise EngineContractError(f"the engine id {engine_id!r} is Roost's own")
        self._unmade[engine_id] = make

    def names(self) -> Sequence[str]:
        """What the engines are called; none is made for it."""
        made = [spec.name for versions in self._specs.values() for spec in versions]
        return [*made, *self._unmade]

    def _versions(self, engine_id: str) -> Sequence[EngineSpec]:
        make = self._unmade.pop(engine_id, None)
        if make is not None:
            self.add(make())
        return self._specs.get(engine_id, ())

    def limited(self, step_seconds: float) -> EngineRegistry:
        """The same engines, none of whose steps may take longer than `step_seconds`."""
        found = EngineRegistry()
        for spec in self:
            seconds = min(step_seconds, spec.step_timeout_seconds or step_seconds)
            limited = replace(spec, step_timeout_seconds=seconds)
            found._specs.setdefault(spec.engine_id, []).append(limited)  # newest first, as they come
        return found

    def get(self, engine_id: str) -> EngineSpec | None:
        """The newest version of an engine, which new work begins with; or None."""
        versions = self._versions(engine_id)
        return versions[0] if versions else None

    def get_for(self, engine_id: str, version: str | None) -> EngineSpec | None:
        """Who goes on from a snapshot that `version` made: that very version, else the newest that can."""
        versions = self._versions(engine_id)
        able = [spec for spec in versions if spec.goes_on_from(version)]
        return next((spec for spec in able if spec.engine_version == version), able[0] if able else None)

    def __iter__(self) -> Iterator[EngineSpec]:
        for engine_id in list(self._unmade):
            self._versions(engine_id)
        return (spec for versions in self._specs.values() for spec in versions)

    def __len__(self) -> int:
        return sum(len(versions) for versions in self._specs.values()) + len(self._unmade)
