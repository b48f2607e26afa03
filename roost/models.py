"""What users touch: work items, snapshots, artifacts and the states of work."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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
    "Artifact",
    "EngineId",
    "Lane",
    "Resource",
    "Scope",
    "Snapshot",
    "State",
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


class WorkItem(BaseModel):
    """A durable unit of work, as it was enqueued. It never changes.

    Attributes:
        work_id: its id; one of a namespace is `NAMESPACE/ID`.
        engine: the id of the engine that runs it.
        payload: a JSON object; the engine gives it meaning.
        priority: above 0 the `high` lane, 0 `normal`, below 0 `low`.
        resources: held, all or none, while it runs; exclusively, unless `capacities` or an
            operator says otherwise.
        capacities: how many work items may hold a resource at a time, by its name.
        resource_scope: whether the resources are given up when it sleeps, waits or is
            blocked, or only when it ends.
        created_at: epoch seconds.
        deadline_at: epoch seconds after which it ends as failed; None: never.
        idempotency_key: what it was enqueued under, if anything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    size_bytes: int
    content_type: str = "application/octet-stream"
    created_at: float = 0.0
    metadata: dict[str, Any] = Field(default_factory=dict)


class Snapshot(BaseModel):
    """The state of a work item between two steps.

    An engine fills `status`, `step`, `data`, `history`, `artifacts` and the directives
    `is_finished` and `next_step_delay_seconds`; Roost fills the rest at the commit.

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
        created_at, updated_at: epoch seconds.
        finished_at, failed_at: epoch seconds, once it is so.
    """

    model_config = ConfigDict(extra="forbid")

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
        note: str | None = None,
    ) -> Snapshot:
        """A copy that goes on with `step` after `delay` seconds; keys of `data` are merged in."""
        return self.model_copy(
            update={
                "step": self.step if step is None else step,
                "data": {**self.data, **(data or {})},
                "next_step_delay_seconds": delay,
                "history": [*self.history, note] if note else self.history,
                "is_finished": False,
            }
        )

    def finish(
        self, *, data: dict[str, Any] | None = None, status: str = "done", note: str | None = None
    ) -> Snapshot:
        """A copy that ends the work item; keys of `data` are merged in."""
        return self.next("done", data=data, note=note).model_copy(
            update={"is_finished": True, "status": status}
        )
