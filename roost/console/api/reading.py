"""The operations that look."""

from __future__ import annotations

from typing import Any

from msgspec import structs, to_builtins

from roost import clock, times
from roost.console.api import asked, given, given_fleet
from roost.console.api.table import Answer, Call
from roost.console.attention import needs_attention
from roost.console.pages import blobs, events, fleet, lines
from roost.console.pages import operations as operations_page
from roost.console.pages import overview as first_page
from roost.console.pages import settings as settings_page
from roost.console.pages.schedules import all_schedules
from roost.console.pulse import KEPT_MAX
from roost.core import operating
from roost.core import where as filters
from roost.core.client import WorkView
from roost.diff import changes
from roost.errors import StorageDenied
from roost.journal.entries import Entry, IndexRow
from roost.models import Snapshot, State

FEED = clock.SystemIds().unique()  # tells cursors of this process from those of another
GROUP_IDS_MAX = 50


async def list_work(call: Call) -> Answer:
    query = call.query(asked.ListQuery)
    where = filters.parse(query.where, call.desk.now)
    where = where.sorted(query.sort)
    page = await call.desk.reads.rows(where, cursor=query.cursor, limit=query.limit)
    await call.desk.pulse.refresh()
    fresh = await call.desk.looks.of(where, page, query.cursor)
    return Answer(
        given.Page(
            rows=[row_out(row) for row in page.rows],
            next=page.cursor,
            looked_at=page.looked_at,
            is_cut=page.is_cut,
            as_of=page.as_of,
            index_lag_ms=None if fresh is None else fresh.lag_ms,
            looked_up=0 if fresh is None else fresh.looked_up,
        )
    )


async def count_work(call: Call) -> Answer:
    counts = await call.desk.reads.counts()
    return Answer(given.Counts(counts=dict(counts.of), as_of=counts.as_of))


async def get_work(call: Call) -> Answer:
    view = await call.desk.reads.view(call.work_id)
    told = await call.desk.explain(view)
    return Answer(
        given.Work(
            item=view.item.model_dump(mode="json", exclude={"payload"}),
            control=control_out(view),
            explain=told.text,
            if_worker_dies=told.if_worker_dies,
            cause=told.cause.value,
            next_at=told.next_at,
            artifacts=list(view.artifacts),
            row=None if view.row is None else row_out(view.row),
        )
    )


def control_out(view: WorkView) -> dict[str, Any]:
    """The control state, each field of it."""
    return {name: to_builtins(value) for name, value in structs.asdict(view.control).items()}


async def get_cost(call: Call) -> Answer:
    return Answer(given.Cost.model_validate(await call.desk.reads.cost(call.work_id)))


async def get_payload(call: Call) -> Answer:
    item = (await call.desk.reads.view(call.work_id)).item
    return Answer(given.Payload(payload=call.desk.redaction.apply(item.engine, item.payload)))


async def get_journal(call: Call) -> Answer:
    query = call.query(asked.JournalQuery)
    view = await call.desk.reads.view(call.work_id)
    entries = await call.desk.reads.journal(view.item.work_id, before=query.before, limit=query.limit)
    is_first = not entries or entries[-1].position == 0
    return Answer(
        given.Entries(
            entries=[entry_out(entry) for entry in entries], next=None if is_first else entries[-1].position
        )
    )


async def get_snapshot(call: Call) -> Answer:
    view = await call.desk.reads.view(call.work_id)
    return Answer(snapshot_out(call, await call.desk.reads.snapshot(view, call.path["version"])))


def snapshot_out(call: Call, snapshot: Snapshot) -> given.SnapshotOut:
    """A version without what is redacted."""
    hidden = {
        name: call.desk.redaction.apply(snapshot.engine, getattr(snapshot, name))
        for name in ("data", "result")
    }
    return given.SnapshotOut.model_validate(snapshot.model_copy(update=hidden))


async def get_changes(call: Call) -> Answer:
    version = call.path["version"]
    base = call.query(asked.ChangesQuery).base or max(version - 1, 1)
    view = await call.desk.reads.view(call.work_id)
    left, right = [
        snapshot_out(call, await call.desk.reads.snapshot(view, number)).model_dump(mode="json")
        for number in (base, version)
    ]
    return Answer(given.Changes(base=base, version=version, changes=changes(left, right)))


async def list_events(call: Call) -> Answer:
    query = call.query(asked.EventsQuery)
    pulse = call.desk.pulse
    await pulse.refresh()
    if query.by == "people":
        acts = (await events.acts(call.desk))[: query.limit]
        return Answer(
            given.Events(
                entries=[entry_out(one.entry) for one in acts],
                next=f"{FEED}-{pulse.count}",
                read_up_to=pulse.read_up_to,
            )
        )
    feed, _, number = (query.after or "").partition("-")
    after = int(number) if feed == FEED and number.isdecimal() else 0
    found = pulse.newest(query.limit if not after else KEPT_MAX, after=after)
    if after:
        found = found[-query.limit :]  # the oldest of the new ones first, so that none is passed over
    newest = found[0].number if found else after or pulse.count
    entries = [entry_out(numbered.entry) for numbered in found]
    return Answer(given.Events(entries=entries, next=f"{FEED}-{newest}", read_up_to=pulse.read_up_to))


async def list_blobs(call: Call) -> Answer:
    await call.desk.pulse.refresh()
    rows = await blobs.matching(call.desk, call.query(asked.BlobsQuery).q)
    return Answer(
        given.Blobs(
            artifacts=[
                given.BlobOut(
                    digest=row.digest,
                    name=row.artifact.name if row.artifact else None,
                    content_type=row.artifact.content_type if row.artifact else None,
                    size_bytes=row.artifact.size_bytes if row.artifact else None,
                    uses=[given.UseOut.model_validate(use) for use in row.uses],
                )
                for row in rows
            ],
            covers_from=call.desk.pulse.covers_from,
        )
    )


async def list_conversations(call: Call) -> Answer:
    found = await lines.all_open(call.desk)
    return Answer(
        given.Conversations(
            conversations=[
                given.ConversationOut(key=one.key, line=list(one.line), since=one.since) for one in found
            ]
        )
    )


async def list_failed(call: Call) -> Answer:
    groups = [
        given_fleet.GroupOut(
            fingerprint=group.fingerprint,
            engine=group.engine,
            step=group.step,
            sample=group.sample,
            count=len(group.rows),
            first_at=group.first_at,
            last_at=group.last_at,
            work_ids=[row.work_id for row in group.rows[:GROUP_IDS_MAX]],
        )
        for group in await call.desk.reads.groups()
    ]
    return Answer(given_fleet.Groups(groups=groups))


async def list_resources(call: Call) -> Answer:
    name, reads = call.query(asked.ResourcesQuery).resource, call.desk.reads
    found = await reads.resources() if name is None else await reads.resource(name)
    if found is None:
        raise StorageDenied("the rights of this console reach no list of resources", hint="Name one.")
    return Answer(given_fleet.Resources(resources=[given_fleet.resource_out(view) for view in found]))


async def list_workers(call: Call) -> Answer:
    workers = [
        given_fleet.WorkerOut(
            worker_id=worker.worker_id,
            state=worker.state,
            holds=[row.work_id for row in worker.rows],
            lease_until=worker.lease_until,
            engines=sorted(worker.seen.engines) if worker.seen else [],
            engine_versions=worker.seen.engines if worker.seen else {},
            commits=worker.seen.commits if worker.seen else 0,
            failures=worker.seen.failures if worker.seen else 0,
            last_at=worker.seen.last_at if worker.seen else None,
            is_draining=worker.is_draining,
        )
        for worker in await fleet.all_workers(call.desk)
    ]
    return Answer(given_fleet.Workers(workers=workers))


async def list_schedules(call: Call) -> Answer:
    schedules = [
        given_fleet.ScheduleOut(
            name=one.name,
            work_id=one.work_id,
            state=one.state,
            reason=one.reason,
            rule=one.rule.model_dump(mode="json"),
            next_at=one.next_at,
            last_at=one.last_at,
            count=one.count,
        )
        for one in await all_schedules(call.desk)
    ]
    return Answer(given_fleet.Schedules(schedules=schedules))


async def list_engines(call: Call) -> Answer:
    await call.desk.pulse.refresh()
    engines = []
    for engine in fleet.all_engines(call.desk):
        model = engine.spec.payload_model if engine.spec else None
        engines.append(
            given_fleet.EngineOut(
                engine_id=engine.engine_id,
                is_installed=engine.spec is not None,
                version=engine.spec.engine_version if engine.spec else None,
                payload_schema=model.model_json_schema() if model else None,
                versions_last_hour=list(engine.versions),
                steps_last_hour=sum(engine.commits),
                failures_last_hour=sum(engine.failures),
            )
        )
    return Answer(given_fleet.Engines(engines=engines))


async def get_overview(call: Call) -> Answer:
    desk = call.desk
    workers = await fleet.all_workers(desk)
    queued = await desk.reads.some(State.QUEUED, first_page.QUEUED_MAX)
    found = await needs_attention(desk, workers, await desk.reads.resources() or (), queued)
    kinds = ("enqueued", "committed", "done", "attempt_failed", "failed", "cancelled")
    counts = await desk.reads.counts()
    return Answer(
        given_fleet.Overview(
            attention=[given_fleet.AttentionOut.model_validate(one) for one in found],
            counts=dict(counts.of),
            series={kind: desk.pulse.series(kind) for kind in kinds},
            backlog=await desk.reads.backlog(),
            as_of=counts.as_of,
            read_up_to=desk.pulse.read_up_to,
        )
    )


async def get_daily(call: Call) -> Answer:
    return Answer(given_fleet.balance_out(await call.desk.reads.today()))


async def list_balances(call: Call) -> Answer:
    found = await call.desk.runtime.client.balances(call.work_id)
    return Answer(given_fleet.Balances(balances=[given_fleet.balance_out(one) for one in found]))


async def list_operations(call: Call) -> Answer:
    found = await operations_page.newest(call.desk)
    return Answer(given_fleet.Operations(operations=[operation_out(view) for view in found]))


async def get_operation(call: Call) -> Answer:
    view = await operating.look(call.desk.runtime.client, call.work_id)
    if not view.state.is_terminal:
        call.desk.take_up(view.work_id)
    return Answer(operation_out(view))


def operation_out(view: operating.OperationView) -> given_fleet.OperationOut:
    """An operation as the API gives it."""
    operation = view.operation
    return given_fleet.OperationOut(
        work_id=view.work_id,
        action=operation.action.value,
        where=operation.where,
        ids=list(operation.ids),
        reason=operation.reason,
        actor=operation.actor,
        state=view.state,
        state_reason=view.reason,
        created_at=view.created_at,
        since=view.since,
        expected=len(operation.ids) or operation.expected,
        looked_at=view.looked_at,
        done=view.done,
        skipped=view.skipped,
        skips=list(view.skips),
    )


async def list_settings(call: Call) -> Answer:
    rows = [
        given_fleet.Setting(name=name, value=value, source=source)
        for name, value, source in settings_page.shown(call.desk.settings)
    ]
    return Answer(given_fleet.SettingsOut(settings=rows))


def row_out(row: IndexRow) -> given.Row:
    """An index row as the API gives it."""
    return given.Row.model_validate(row)


def entry_out(entry: Entry) -> given.EntryOut:
    """An entry as the API gives it; bodies are had by their own addresses."""
    return given.EntryOut(
        work_id=entry.work_id,
        position=entry.position,
        kind=entry.event.kind.value,
        version=entry.control.version,
        time=times.clock(entry.at),
        at=entry.at,
        actor=entry.actor,
        state=entry.control.state,
        engine=entry.control.engine,
        has_body=entry.body is not None,
        detail={name: to_builtins(value) for name, value in structs.asdict(entry.event).items()},
    )
