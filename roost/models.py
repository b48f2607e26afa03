"""What users touch: work items, snapshots, artifacts and the states of work."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from roost.names import (
    NAMESPACE_MARK,
    REASON_MAX_CHARS,
    RESOURCES_MAX,
    Lane,
    Scope,
    State,
    check_id,
    check_name,
    check_namespace,
    check_work_id,
    namespace_of,
)

__all__ = [
    "NAMESPACE_MARK",
    "REASON_MAX_CHARS",
    "RESOURCES_MAX",
    "Approval",
    "Artifact",
    "Child",
    "ChildResult",
    "EngineId",
    "Join",
    "Lane",
    "OnTimeout",
    "Resource",
    "Scope",
    "Signal",
    "Snapshot",
    "State",
    "WaitFor",
    "WorkId",
    "WorkItem",
    "check_id",
    "check_name",
    "check_namespace",
    "check_work_id",
    "namespace_of",
]


def _resource(value: str) -> str:
    return check_name(value, "resource")


def _engine_id(value: str) -> str:
    return check_id(value, "engine id")


WorkId = Annotated[str, AfterValidator(check_work_id)]
EngineId = Annotated[str, AfterValidator(_engine_id)]
Resource = Annotated[str, AfterValidator(_resource)]

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class WorkItem(BaseModel):
    """A durable unit of work, as it was enqueued. It never changes.

    Attributes:
        work_id: its id; one of a namespace is `NAMESPACE/ID`.
        engine: the id of the engine that runs it.
        payload: a JSON object; the engine gives it meaning.
        priority: above 0 the `high` lane, 0 `normal`, below 0 `low`; at most 1,000 from 0.
        resources: held, all or none, while it runs; exclusively, unless `capacities` or an
            operator says otherwise.
        capacities: how many work items may hold a resource at a time, by its name.
        resource_scope: whether the resources are given up when it sleeps, waits or is
            blocked, or only when it ends.
        created_at: epoch seconds.
        deadline_at: epoch seconds after which it ends as failed; None: never.
        idempotency_key: what it was enqueued under, if anything.
        labels: names and values of the user's own, for finding it.
        parent_id: the work item that spawned it; None: it was enqueued.
        child_key: what its parent calls it.
        forked_from: (work id, version) that it began from, if it is a fork.
        budget: what it may use up, by name: `steps`, `attempts`, `seconds`, and amounts
            that the engine reports with `spend`.
    """

    model_config: ClassVar[ConfigDict] = _FROZEN

    work_id: WorkId
    engine: EngineId
    payload: dict[str, Any] = Field(default_factory=dict)
    priority: int = 0
    resources: tuple[Resource, ...] = ()
    capacities: dict[Resource, int] = Field(default_factory=dict)
    resource_scope: Scope = Scope.STEP
    created_at: float = 0.0
    deadline_at: float | None = None
    idempotency_key: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    parent_id: str | None = None
    child_key: str = ""
    forked_from: tuple[str, int] | None = None
    triggered_by: tuple[str, str] | None = None
    conversation: str | None = None
    budget: dict[str, float] = Field(default_factory=dict)

    @property
    def lane(self) -> Lane:
        """The priority lane that its deliveries travel in."""
        return Lane.of(self.priority)


class Artifact(BaseModel):
    """Something that an engine produced: a name and the digest of its bytes.

    Attributes:
        name: free text up to 1 kB; metadata only, never a path.
        digest: SHA-256 of the content, 64 hexadecimal digits.
        size_bytes: length of the content.
        content_type: a media type.
        created_at: epoch seconds.
        metadata: a JSON object.
    """

    model_config: ClassVar[ConfigDict] = _FROZEN

    name: str
    digest: str
    size_bytes: int
    content_type: str = "application/octet-stream"
    created_at: float = 0.0
    metadata: dict[str, Any] = Field(default_factory=dict)


class Signal(BaseModel):
    """Something that somebody outside told a work item.

    Attributes:
        signal_id: unique; the same signal sent twice is one.
        name: what a wait names.
        data: JSON.
        at: epoch seconds at which it was stored.
        actor: who sent it.
    """

    model_config: ClassVar[ConfigDict] = _FROZEN

    signal_id: str
    name: str
    data: Any = None
    at: float = 0.0
    actor: str = ""


class ChildResult(BaseModel):
    """What came of a child.

    Attributes:
        work_id: the child.
        key: what its parent called it.
        ordinal: its number among all attached children of its parent, from 0.
        state: `done`, `failed` or `cancelled`.
        result: the `result` of its last snapshot; None if it has not finished.
        artifacts: of its last snapshot.
        error: why it failed or was cancelled; empty if it is done.
    """

    model_config: ClassVar[ConfigDict] = _FROZEN

    work_id: str
    key: str = ""
    ordinal: int
    state: State
    result: Any = None
    artifacts: tuple[Artifact, ...] = ()
    error: str = ""

    @property
    def is_done(self) -> bool:
        """Whether it ended well."""
        return self.state is State.DONE


class Child(BaseModel):
    """Work to be started by the commit that asks for it; see `Snapshot.spawn`.

    Its other attributes are those of a new work item.

    Attributes:
        key: what the parent calls it; need not be unique.
        ends_with_parent: it is asked to end when its parent is done or has failed, too. When that
            is cancelled, all its children are.
        is_detached: it is nobody's child: no report comes, and it is not cancelled along.
    """

    model_config: ClassVar[ConfigDict] = _FROZEN

    engine: EngineId
    payload: dict[str, Any] = Field(default_factory=dict)
    key: str = ""
    priority: int = 0
    resources: tuple[Resource, ...] = ()
    capacities: dict[Resource, int] = Field(default_factory=dict)
    resource_scope: Scope = Scope.STEP
    delay_seconds: float = 0.0
    deadline_at: float | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    budget: dict[str, float] = Field(default_factory=dict)
    ends_with_parent: bool = False
    is_detached: bool = False


class OnTimeout(StrEnum):
    """What becomes of work whose wait is over without what it waited for."""

    GO_ON = "go_on"
    FAIL = "fail"


class Join(BaseModel):
    """How many of its children work waits for; as it stands, for all of them, however they end.

    The children are those that have not ended, and those whose results no step has seen.

    Attributes:
        need_done: go on once so many are done, or can no longer be. 1: the first.
        max_failed: go on once more than so many have failed or were cancelled.
        max_failed_percent: the same, as a percentage of the children.
        cancels_rest: what is still open when the work goes on is cancelled.
    """

    model_config: ClassVar[ConfigDict] = _FROZEN

    need_done: int | None = Field(default=None, ge=0)
    max_failed: int | None = Field(default=None, ge=0)
    max_failed_percent: float | None = Field(default=None, ge=0, le=100)
    cancels_rest: bool = True


class WaitFor(BaseModel):
    """What comes before the next step: a signal, or results of children, or the timeout.

    Attributes:
        signals: any one of these names.
        children: how many children; None: it does not wait for them.
        timeout_seconds: how long; None: for ever.
        on_timeout: whether the next step runs then (`current_step().timed_out`), or the
            work fails.
        replies: JSON Schema by signal, of those that answer approvals (`current_step().ask`), and of
            plain ones; Roost adds those of the engine's `signal_models`.
    """

    model_config: ClassVar[ConfigDict] = _FROZEN

    signals: tuple[str, ...] = ()
    children: Join | None = None
    timeout_seconds: float | None = None
    on_timeout: OnTimeout = OnTimeout.GO_ON
    replies: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Approval(BaseModel):
    """An approval that a step asks for; `wait` makes the step after it wait for the answer.

    Attributes:
        name: what the engine calls it.
        signal: the name of the signal that answers it.
        token: lets whoever has it answer, once, while the work waits.
        link: the token behind `approvals.url` of the settings; the token where that is not set.
        reply: JSON Schema of the answer; empty: any JSON.
    """

    model_config: ClassVar[ConfigDict] = _FROZEN

    name: str
    signal: str
    token: str = Field(repr=False)
    link: str = Field(repr=False)
    reply: dict[str, Any] = Field(default_factory=dict)

    def wait(
        self, *, timeout_seconds: float | None = None, on_timeout: OnTimeout = OnTimeout.GO_ON
    ) -> WaitFor:
        """What makes the work wait for the answer; when it expires, and what then."""
        return WaitFor(
            signals=(self.signal,),
            timeout_seconds=timeout_seconds,
            on_timeout=on_timeout,
            replies={self.signal: self.reply} if self.reply else {},
        )


class Snapshot(BaseModel):
    """The state of a work item between two steps.

    An engine fills `status`, `step`, `data`, `history`, `artifacts`, `result` and the
    directives `is_finished`, `next_step_delay_seconds`, `wait_for` and `spawn`; Roost
    fills the rest at the commit. Directives are for one commit: the next step finds none.

    Attributes:
        work_id: the work item.
        engine: its engine.
        status: a word of the engine's own about how things stand.
        version: 0 from `init_snapshot`, then one more with every committed step.
        step: the name of the step that comes next (or of the last, when finished).
        data: a JSON object.
        history: short notes that the engine keeps for people.
        artifacts: what was produced so far.
        is_finished: the work item is done with this snapshot.
        next_step_delay_seconds: how long to wait before the next step.
        wait_for: what to wait for before the next step.
        spawn: work to start with this commit.
        result: a small JSON value for whoever spawned this work; at most 16 kB.
        engine_version: of the engine that made it, if it has one.
        created_at, updated_at: epoch seconds.
        finished_at, failed_at: epoch seconds, once it is so.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    work_id: str
    engine: str
    status: str = "running"
    version: int = 0
    step: str = "start"
    data: dict[str, Any] = Field(default_factory=dict)
    history: list[str] = Field(default_factory=list)
    artifacts: list[Artifact] = Field(default_factory=list)
    is_finished: bool = False
    next_step_delay_seconds: float = 0.0
    wait_for: WaitFor | None = None
    spawn: list[Child] = Field(default_factory=list)
    result: Any = None
    engine_version: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    finished_at: float | None = None
    failed_at: float | None = None

    @classmethod
    def of(cls, item: WorkItem, *, step: str = "start", data: dict[str, Any] | None = None) -> Snapshot:
        """The first snapshot of `item`, for use in `init_snapshot`."""
        return cls(work_id=item.work_id, engine=item.engine, step=step, data=data or {})

    def next(
        self,
        step: str | None = None,
        *,
        data: dict[str, Any] | None = None,
        delay: float = 0.0,
        wait_for: WaitFor | str | None = None,
        spawn: Sequence[Child] = (),
        note: str | None = None,
    ) -> Snapshot:
        """A copy that goes on with `step`; keys of `data` are merged in.

        Args:
            delay: seconds before that step.
            wait_for: what to wait for before it; a text is the name of a signal.
            spawn: work to start with the commit.
        """
        if isinstance(wait_for, str):
            wait_for = WaitFor(signals=(wait_for,))
        return self.model_copy(
            update={
                "step": self.step if step is None else step,
                "data": {**self.data, **(data or {})},
                "next_step_delay_seconds": delay,
                "wait_for": wait_for,
                "spawn": list(spawn),
                "history": [*self.history, note] if note else self.history,
                "is_finished": False,
            }
        )

    def finish(
        self,
        *,
        data: dict[str, Any] | None = None,
        result: Any = None,
        status: str = "done",
        note: str | None = None,
    ) -> Snapshot:
        """A copy that ends the work item; keys of `data` are merged in.

        Args:
            result: for whoever spawned this work; JSON of at most 16 kB.
        """
        return self.next("done", data=data, note=note).model_copy(
            update={"is_finished": True, "status": status, "result": result}
        )


_M = TypeVar("_M", bound=BaseModel)


def read_known(model: type[_M], fields: dict[str, Any]) -> _M:
    """A value of one of these models that another process wrote, maybe one of a newer Roost.

    Fields that are not known here are taken out of `fields`, at any depth. An engine that gives
    a field that is none is told so; what is stored was right when it was written.

    Raises:
        ValidationError: something else is wrong with it.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        if any(fault["type"] != "extra_forbidden" for fault in faults):
            raise
    for fault in faults:
        within: Any = fields
        for part in fault["loc"][:-1]:
            within = within[part]
        del within[fault["loc"][-1]]
    return model.model_validate(fields)
