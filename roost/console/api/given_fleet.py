"""What the API gives of the fleet: what runs the work, what many items share, what is done to many."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from roost.console.api.asked import Message
from roost.console.api.given import Out, Row
from roost.journal.accounts import Balance
from roost.journal.claims import ResourceView
from roost.models import State


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
    """A worker: `busy`, `silent` (a lease of it ran out) or `idle`.

    `engine_versions`: by engine, the one that committed last there; empty: it has none.
    """

    worker_id: str
    state: str
    holds: list[str]
    lease_until: float | None
    engines: list[str]
    engine_versions: dict[str, str]
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
    """What the first page says: counts as of `as_of`, the last hour as the feed was read, `read_up_to`."""

    attention: list[AttentionOut]
    counts: dict[State, int]
    series: dict[str, list[int]]
    backlog: int
    as_of: float
    read_up_to: float | None


class Setting(Out):
    """A setting as it counts; secrets are hidden."""

    name: str
    value: str
    source: str


class SettingsOut(Out):
    """All settings."""

    settings: list[Setting]
