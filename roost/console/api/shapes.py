"""What the API takes and gives. Instants are UTC epoch seconds; names are those of the journal."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from roost.core.attempt import DELAY_MAX_SECONDS
from roost.models import Artifact, Lane, State
from roost.names import REASON_MAX_CHARS, RESOURCES_MAX

LIMIT_MAX = 200
WORK_ID = r"^([a-z0-9-]{1,63}/)?[A-Za-z0-9._:-]{1,128}$"

WorkId = Annotated[str, Field(pattern=WORK_ID)]
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX, description="At most so many.")]
Reason = Annotated[str, Field(max_length=REASON_MAX_CHARS, description="Kept in the journal.")]


class In(BaseModel):
    """What is taken: nothing that is not named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Out(BaseModel):
    """What is given."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


# --- taken -------------------------------------------------------------------


class ListQuery(In):
    """Which work to list."""

    where: Annotated[str, Field(max_length=1000, description="Such as `state:failed engine:demo`.")] = ""
    cursor: Annotated[str | None, Field(max_length=2000, description="The `next` of a page.")] = None
    limit: Limit = 50
    sort: Annotated[str, Field(pattern="^(newest|oldest)$", description="Which work first.")] = "newest"


class JournalQuery(In):
    """Which entries to read."""

    before: Annotated[int, Field(ge=-1, lt=2**53, description="Below this position; -1: the newest.")] = -1
    limit: Limit = 50


class ChangesQuery(In):
    """With which version to compare."""

    base: Annotated[int | None, Field(ge=1, lt=2**53, description="By default the version before.")] = None


class EventsQuery(In):
    """Which events to read."""

    after: Annotated[str | None, Field(max_length=100, description="The `next` of a page.")] = None
    limit: Limit = 100


class NoQuery(In):
    """Nothing is asked beside the path."""


class Nothing(In):
    """No body is taken."""


class NewWork(In):
    """Work to enqueue; the `Idempotency-Key` header becomes its key."""

    engine: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
    payload: Annotated[dict[str, Any], Field(description="At most 1 MiB of JSON.")] = {}
    resources: Annotated[tuple[str, ...], Field(max_length=RESOURCES_MAX)] = ()
    delay_seconds: Annotated[float, Field(ge=0, le=DELAY_MAX_SECONDS, allow_inf_nan=False)] = 0.0
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    labels: Annotated[dict[str, str], Field(max_length=10)] = {}
    budget: Annotated[
        dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(max_length=20)
    ] = {}
    deadline_at: Annotated[float | None, Field(allow_inf_nan=False)] = None
    work_id: WorkId | None = None


class Act(In):
    """Why something is done."""

    reason: Reason = ""


class Cancel(Act):
    """Why, and when a step that still runs is interrupted (null: never)."""

    by_seconds: Annotated[float | None, Field(ge=0, le=DELAY_MAX_SECONDS, allow_inf_nan=False)] = None


class Pause(Act):
    """Why, and for how long (null: until it is resumed)."""

    for_seconds: Annotated[float | None, Field(ge=0, le=DELAY_MAX_SECONDS, allow_inf_nan=False)] = None


class Retry(Act):
    """Why, and from which version (null: the last; 0: the beginning)."""

    version: Annotated[int | None, Field(ge=0, lt=10**9)] = None


class BudgetIn(Act):
    """Limits by name; those that are not named stay."""

    limits: Annotated[
        dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1, max_length=20)
    ]


class ForkIn(Act):
    """From which version, and what to change: `data.NAME` or `payload.NAME` to JSON."""

    version: Annotated[int, Field(ge=1, lt=10**9)]
    changes: Annotated[dict[str, Any], Field(max_length=50)] = {}


class EvictIn(In):
    """From whom to take which resource."""

    resource: Annotated[str, Field(min_length=1, max_length=1024)]
    work_id: WorkId


class SignalIn(In):
    """A signal; with an `Idempotency-Key` it is known by that, and sent again it is one."""

    name: Annotated[str, Field(min_length=1, max_length=1024)]
    data: Any = None


class OperationIn(In):
    """An action on many: ids, or all that a filter matches. An empty filter is not taken."""

    action: Annotated[str, Field(pattern="^(retry|cancel|pause|resume|purge)$")]
    ids: Annotated[tuple[WorkId, ...], Field(max_length=LIMIT_MAX)] = ()
    where: Annotated[str, Field(max_length=1000)] = ""
    reason: Reason = ""
    by_seconds: Annotated[float | None, Field(ge=0, le=DELAY_MAX_SECONDS, allow_inf_nan=False)] = None
    dry_run: bool = True


# --- given -------------------------------------------------------------------


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
    deadline_at: float | None
    failures: int
    interruptions: int
    reason: str
    progress: tuple[float, str] | None
    labels: tuple[tuple[str, str], ...]
    parent_id: str | None


class Page(Out):
    """Rows, newest work first; `next` goes on after them, None: there is no more."""

    rows: list[Row]
    next: str | None
    looked_at: int
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
    detail: dict[str, Any]


class Entries(Out):
    """Entries, newest first; `next` is the `before` of the next page, None: that was the first."""

    entries: list[EntryOut]
    next: int | None


class Events(Out):
    """Entries of all journals, newest first; `next` is the `after` that gives only newer ones."""

    entries: list[EntryOut]
    next: str


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


class Changes(Out):
    """What turns one version into another, in the manner of JSON Patch (RFC 6902), with `old`."""

    base: int
    version: int
    changes: list[dict[str, Any]]


class Enqueued(Out):
    """The id of the work; `deduplicated`: it stood under this key already."""

    work_id: str
    deduplicated: bool


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


class Workers(Out):
    """Workers that hold work or did something lately."""

    workers: list[WorkerOut]


class EngineOut(Out):
    """An engine; `payload_schema` where it is installed beside the console and has one."""

    engine_id: str
    is_installed: bool
    version: str | None
    payload_schema: dict[str, Any] | None
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
