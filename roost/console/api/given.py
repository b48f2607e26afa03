"""What the API gives. Instants are UTC epoch seconds; names are those of the journal."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import to_builtins
from pydantic import BaseModel, ConfigDict, Field

from roost.console.api.asked import Message
from roost.journal.accounts import Balance
from roost.journal.claims import ResourceView
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

    `is_cut`: older work was not looked at, and so is not sorted in (`updated`, `since`, `failures`).
    """

    rows: list[Row]
    next: str | None
    looked_at: int
    is_cut: bool
    as_of: float


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
    """What a work item cost so far: what its journal takes, how long its steps took, and what AWS
    charged (null elsewhere)."""

    entries: int
    bytes: int
    seconds: float
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
    """Entries of all journals, newest first; `next` is the `after` that gives only newer ones."""

    entries: list[EntryOut]
    next: str


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
    """Signals in the order in which they came."""

    signals: list[SignalOut]


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


class SwitchOut(Out):
    """An engine (`engine:NAMESPACE/ID`) or a lane (`lane:NAME`) that is paused, or a worker
    (`worker:ID`) that is asked to stop: since when and why."""

    target: str
    reason: str
    at: float
    by: str


class Switches(Out):
    """All that is paused."""

    switches: list[SwitchOut]


class Thrown(Out):
    """Whether a switch was thrown, or stood so before; and how many work items were woken."""

    is_new: bool
    woken: int


class Messages(Out):
    """Messages that the queue set aside."""

    messages: list[Message]


class MessagesEnded(Out):
    """How many messages were taken out."""

    ended: int


class Acted(Out):
    """What an action led to."""

    work_id: str
    state: State
    position: int


class OperationOut(Out):
    """An operation as it stands: the work item `work_id`, which is paused, resumed and cancelled as such.

    `expected` is how many matched when it began; None: more than were looked at. `skips` are
    the first that it could not act on, with why.
    """

    work_id: str
    action: str
    where: str
    ids: list[str]
    reason: str
    actor: str
    state: State
    state_reason: str
    created_at: float
    since: float
    expected: int | None
    looked_at: int
    done: int
    skipped: int
    skips: list[tuple[str, str]]


class Operations(Out):
    """Operations, newest first."""

    operations: list[OperationOut]


class OperationBegun(Out):
    """What an action on many will do, or would: `operation` is null in a dry run.

    `more`: there are more than the `matched` that were looked at.
    """

    dry_run: bool
    matched: int
    more: bool
    sample: list[Row]
    operation: OperationOut | None


class GroupOut(Out):
    """Failed work with like errors."""

    fingerprint: str
    engine: str
    step: str
    sample: str
    count: int
    first_at: float
    last_at: float
    work_ids: list[str]


class Groups(Out):
    """Failed work by engine, step and like error."""

    groups: list[GroupOut]


class ResourceOut(Out):
    """A resource that is held, waited for or limited; waiters first in line first."""

    resource: str
    owners: list[dict[str, Any]]
    waiters: list[dict[str, Any]]
    limits: dict[str, Any]


class Resources(Out):
    """Resources by name."""

    resources: list[ResourceOut]


def resource_out(view: ResourceView) -> ResourceOut:
    """A resource as the API gives it."""
    return ResourceOut.model_validate(to_builtins(view))


class BalanceOut(Out):
    """What a family (`root`, the work item that it is of) or a day has used up, and may, by name.

    `day` counts from 1970-01-01, UTC.
    """

    root: str
    day: int | None
    spent: dict[str, float]
    limits: dict[str, float]


class Balances(Out):
    """The accounts that a work item is charged to."""

    balances: list[BalanceOut]


def balance_out(balance: Balance) -> BalanceOut:
    """An account as the API gives it."""
    account = balance.account
    return BalanceOut(
        root=account.root, day=account.day, spent=dict(balance.spent), limits=dict(balance.allowed or ())
    )


class WorkerOut(Out):
    """A worker: `busy`, `silent` (a lease of it ran out) or `idle`."""

    worker_id: str
    state: str
    holds: list[str]
    lease_until: float | None
    engines: list[str]
    commits: int
    failures: int
    last_at: float | None
    is_draining: bool


class Workers(Out):
    """Workers that hold work or did something lately."""

    workers: list[WorkerOut]


class EngineOut(Out):
    """An engine; `payload_schema` where it is installed beside the console and has one."""

    engine_id: str
    is_installed: bool
    version: str | None
    payload_schema: dict[str, Any] | None
    versions_last_hour: list[tuple[str, int]]
    steps_last_hour: int
    failures_last_hour: int


class Engines(Out):
    """Engines that are installed here or had work in the last hour."""

    engines: list[EngineOut]


class ScheduleOut(Out):
    """A schedule; it is the work item `work_id`, and is paused and resumed as that."""

    name: str
    work_id: str
    state: State
    reason: str
    rule: dict[str, Any]
    next_at: float | None
    last_at: float | None
    count: int


class Schedules(Out):
    """Schedules that have not been removed, by name."""

    schedules: list[ScheduleOut]


class AttentionOut(Out):
    """Something that changed for the worse."""

    text: str
    more: str
    href: str
    is_bad: bool


class Overview(Out):
    """What the first page says."""

    attention: list[AttentionOut]
    counts: dict[State, int]
    series: dict[str, list[int]]
    backlog: int


class Setting(Out):
    """A setting as it counts; secrets are hidden."""

    name: str
    value: str
    source: str


class SettingsOut(Out):
    """All settings."""

    settings: list[Setting]


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
