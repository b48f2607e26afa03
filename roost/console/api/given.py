"""What the API gives of work items. Instants are UTC epoch seconds; names are those of the journal."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from roost.console.roles import Role
from roost.models import Artifact, Child, Lane, State, WaitFor


class Out(BaseModel):
    """What is given."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Row(Out):
    """A work item as lists show it."""

    work_id: str
    engine: str
    state: State
    lane: Lane
    position: int
    version: int
    step: str
    created_at: float
    updated_at: float
    since: float
    token: int | None
    worker_id: str | None
    lease_until: float | None
    wake_at: float | None
    due_at: float | None
    deadline_at: float | None
    failures: int
    interruptions: int
    reason: str
    progress: tuple[float, str] | None
    labels: tuple[tuple[str, str], ...]
    parent_id: str | None


class Page(Out):
    """Rows in the order asked for; `next` goes on after them, None: there is no more.

    `is_cut`: older work was not looked at, and so is not sorted in (by `updated`, `since`, `failures`
    on DynamoDB). `index_lag_ms`: how long ago the first was written of what some rows don't show, of
    `looked_up` that were held against their journals; 0 where rows are written with the journal, null
    where there is nothing to look up.
    """

    rows: list[Row]
    next: str | None
    looked_at: int
    is_cut: bool
    as_of: float
    index_lag_ms: int | None
    looked_up: int


class Counts(Out):
    """How much work is in each state."""

    counts: dict[State, int]
    as_of: float


class Work(Out):
    """A work item as it stands: `control` is what its journal says."""

    item: Annotated[dict[str, Any], Field(description="As it was enqueued, its payload apart.")]
    control: dict[str, Any]
    row: Row | None
    explain: str
    if_worker_dies: str
    cause: str
    next_at: float | None
    artifacts: list[Artifact]


class Cost(Out):
    """What a work item cost so far: what its journal takes, how long its steps took and what CPU their
    code used, and what AWS charged (null elsewhere)."""

    entries: int
    bytes: int
    seconds: float
    cpu_seconds: float
    is_whole: bool
    aws: dict[str, Any] | None


class Payload(Out):
    """What a work item was enqueued with."""

    payload: dict[str, Any]


class EntryOut(Out):
    """An entry of a journal; `detail` has the fields of its kind."""

    work_id: str
    position: int
    kind: str
    version: int
    time: str
    at: float
    actor: str
    state: State
    engine: str
    has_body: bool
    detail: dict[str, Any]


class Entries(Out):
    """Entries, newest first; `next` is the `before` of the next page, None: that was the first."""

    entries: list[EntryOut]
    next: int | None


class Events(Out):
    """Entries of all journals, newest first; `next` is the `after` that gives only newer ones, and
    `read_up_to` when the newest was written that the feed has given."""

    entries: list[EntryOut]
    next: str
    read_up_to: float | None


class UseOut(Out):
    """A version that names an artifact."""

    work_id: str
    version: int
    engine: str
    at: float


class BlobOut(Out):
    """An artifact by its hash, as its latest user calls it; `name` is null if that work is gone."""

    digest: str
    name: str | None
    content_type: str | None
    size_bytes: int | None
    uses: list[UseOut]


class Blobs(Out):
    """Artifacts that were committed since `covers_from` (0: ever), newest first."""

    artifacts: list[BlobOut]
    covers_from: float


class ConversationOut(Out):
    """A conversation in which somebody has the turn: the first in `line`."""

    key: str
    line: list[str]
    since: float


class Conversations(Out):
    """Conversations that go on."""

    conversations: list[ConversationOut]


class SnapshotOut(Out):
    """A committed version."""

    work_id: str
    engine: str
    version: int
    status: str
    step: str
    data: dict[str, Any]
    history: list[str]
    artifacts: list[Artifact]
    is_finished: bool
    result: Any = None
    created_at: float
    updated_at: float
    finished_at: float | None = None
    failed_at: float | None = None
    engine_version: str | None = None
    next_step_delay_seconds: float = 0.0
    wait_for: WaitFor | None = None
    spawn: list[Child] = []


class Changes(Out):
    """What turns one version into another, in the manner of JSON Patch (RFC 6902), with `old`."""

    base: int
    version: int
    changes: list[dict[str, Any]]


class Enqueued(Out):
    """The id of the work; `deduplicated`: it stood under this key already."""

    work_id: str
    deduplicated: bool


class Purged(Out):
    """What is gone."""

    work_id: str


class KinOut(Out):
    """A work item in its family; `children` are fewer than `child_count` where the tree is cut."""

    work_id: str
    key: str
    engine: str
    state: State | None
    version: int
    reason: str
    child_count: int
    children: list[KinOut]


class SignalOut(Out):
    """A signal; `seen_by_version` is that of the step that saw it, null: none has."""

    signal_id: str
    name: str
    data: Any
    at: float
    actor: str
    position: int
    seen_by_version: int | None


class Signals(Out):
    """Signals as they came; `shapes` are JSON Schemas of those that it waits for now, by name."""

    signals: list[SignalOut]
    shapes: dict[str, dict[str, Any]] = {}


class ApprovalOut(Out):
    """An ask that can be answered now: `token` does it, with a reply of the shape of `reply_schema`."""

    work_id: str
    version: int
    name: str
    token: str
    link: str
    reply_schema: dict[str, Any]
    until: float | None
    fails: bool


class Approvals(Out):
    """Asks that can be answered now."""

    approvals: list[ApprovalOut]


class Sent(Out):
    """Where a signal stands; `is_new`: this call put it there."""

    signal_id: str
    position: int
    is_new: bool


class Acted(Out):
    """What an action led to."""

    work_id: str
    state: State
    position: int


class Fault(Out):
    """One thing that is wrong with a request."""

    where: str
    what: str


class ProblemOut(Out):
    """An error (RFC 9457); `code` is stable."""

    type: str
    status: int
    code: str
    title: str
    detail: str
    hint: str
    errors: list[Fault] = []
    needs: Role | None = None
