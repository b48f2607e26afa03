"""What the API takes. Instants are UTC epoch seconds; names are those of the journal."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from roost.core.contract import DELAY_MAX_SECONDS
from roost.models import Lane, Scope
from roost.names import PRIORITY_MAX, REASON_MAX_CHARS, RESOURCES_MAX, IfBusy, Order

LIMIT_MAX = 200
WORK_ID = r"^([a-z0-9-]{1,63}/)?[A-Za-z0-9._:-]{1,128}$"

WorkId = Annotated[str, Field(pattern=WORK_ID)]
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX, description="At most so many.")]
Reason = Annotated[str, Field(max_length=REASON_MAX_CHARS, description="Kept in the journal.")]


class In(BaseModel):
    """What is taken: nothing that is not named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListQuery(In):
    """Which work to list."""

    where: Annotated[str, Field(max_length=1000, description="Such as `state:failed engine:demo`.")] = ""
    cursor: Annotated[str | None, Field(max_length=2000, description="The `next` of a page.")] = None
    limit: Limit = 50
    sort: Annotated[
        Order,
        Field(
            description="Which work first: what was enqueued last or first, is due next, changed last "
            "(`updated`), has been longest in its state (`since`), or failed most often."
        ),
    ] = Order.NEWEST


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
    by: Annotated[str, Field(pattern="^(all|people)$", description="`people`: who did what.")] = "all"


class BlobsQuery(In):
    """Which artifacts."""

    q: Annotated[str, Field(max_length=200, description="The beginning of a hash, or a piece of a name.")] = (
        ""
    )


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
    priority: Annotated[int, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] = 0
    labels: Annotated[dict[str, str], Field(max_length=10)] = {}
    budget: Annotated[
        dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(max_length=20)
    ] = {}
    family_budget: Annotated[
        dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(max_length=20)
    ] = {}
    deadline_at: Annotated[float | None, Field(allow_inf_nan=False)] = None
    work_id: WorkId | None = None
    capacities: Annotated[
        dict[str, Annotated[int, Field(ge=1, lt=2**31)]], Field(max_length=RESOURCES_MAX)
    ] = {}
    resource_scope: Scope = Scope.STEP
    idempotency_seconds: Annotated[
        float | None, Field(gt=0, allow_inf_nan=False, description="How long the key stands for it.")
    ] = None
    conversation: Annotated[
        str | None, Field(min_length=1, max_length=1024, description="Of which one item runs at a time.")
    ] = None
    if_busy: IfBusy = IfBusy.QUEUE


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
    is_family: Annotated[bool, Field(description="They are those of its whole family.")] = False


class DailyIn(Act):
    """What the namespace may use up each day, all of it; none: what the settings say."""

    limits: Annotated[dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(max_length=20)]


class ForkIn(Act):
    """From which version, and what to change: `data.NAME` or `payload.NAME` to JSON."""

    version: Annotated[int, Field(ge=1, lt=10**9)]
    changes: Annotated[dict[str, Any], Field(max_length=50)] = {}
    engine: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] = None
    priority: Annotated[int | None, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] = None
    budget: Annotated[
        dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None, Field(max_length=20)
    ] = None
    work_id: WorkId | None = None


class EvictIn(Act):
    """From whom to take which resource."""

    resource: Annotated[str, Field(min_length=1, max_length=1024)]
    work_id: WorkId


class SignalIn(In):
    """A signal; sent again under the same `signal_id` or `Idempotency-Key` it is one."""

    name: Annotated[str, Field(min_length=1, max_length=1024)]
    data: Any = None
    signal_id: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] = None


class Reply(In):
    """What answers an approval; `by` says who it is that the caller speaks for."""

    token: Annotated[str, Field(min_length=1, max_length=2048)]
    data: Any = None
    by: Annotated[str | None, Field(min_length=1, max_length=200)] = None


class ResourcesQuery(In):
    """Which resources."""

    resource: Annotated[str | None, Field(min_length=1, max_length=1024, description="Only this one.")] = None


class RateIn(In):
    """So many starts in so long a time."""

    count: Annotated[int, Field(ge=1, lt=2**31)]
    period_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class LimitIn(Act):
    """One change of a resource's limits; `capacity` and `rate` null take the limit away."""

    resource: Annotated[str, Field(min_length=1, max_length=1024)]
    change: Annotated[str, Field(pattern="^(capacity|rate|close|open)$")]
    capacity: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    rate: RateIn | None = None
    until: Annotated[float | None, Field(allow_inf_nan=False, description="Of `close`: when it opens.")] = (
        None
    )


class SwitchIn(Act):
    """An engine or a lane, to be paused or resumed; or a worker, to be asked to stop or no more."""

    engine: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] = None
    lane: Lane | None = None
    worker: Annotated[str | None, Field(min_length=1, max_length=1024)] = None
    is_paused: bool


class Message(In):
    """A message that the queue set aside; `work_id` is empty where it names none.

    It is ended as it was listed, or not at all: its receipt is signed with what it names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)

    work_id: Annotated[str, Field(pattern=f"^$|{WORK_ID}")]
    cause: Annotated[int, Field(ge=-1, lt=2**53)]
    lane: Lane
    reason: str
    text: str
    receipt: Annotated[str, Field(max_length=4096)]


class EndMessages(In):
    """Messages as `/failed/messages` gives them, to be sent again or dropped."""

    messages: Annotated[tuple[Message, ...], Field(max_length=100)]
    send_again: bool
    reason: Reason = ""


class OperationIn(In):
    """An action on many: ids, or all that a filter matches. An empty filter is not taken.

    `by_seconds` is for `cancel`, `for_seconds` for `pause`, `version` for `retry`, as for one.
    """

    action: Annotated[str, Field(pattern="^(retry|cancel|pause|resume|purge)$")]
    ids: Annotated[tuple[WorkId, ...], Field(max_length=LIMIT_MAX)] = ()
    where: Annotated[str, Field(max_length=1000)] = ""
    reason: Reason = ""
    by_seconds: Annotated[float | None, Field(ge=0, le=DELAY_MAX_SECONDS, allow_inf_nan=False)] = None
    for_seconds: Annotated[float | None, Field(ge=0, le=DELAY_MAX_SECONDS, allow_inf_nan=False)] = None
    version: Annotated[int | None, Field(ge=0, lt=10**9)] = None
    dry_run: bool = True
