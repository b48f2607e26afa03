"""The operations that act."""

from __future__ import annotations

from http import HTTPStatus

from roost.console.api import asked, given, given_fleet
from roost.console.api.reading import operation_out, row_out
from roost.console.api.table import Answer, Call
from roost.console.pages import bulk
from roost.console.problems import Problem
from roost.console.roles import on_work
from roost.core import operating
from roost.core.bulk import Action, How


async def enqueue_work(call: Call) -> Answer:
    body = call.body(asked.NewWork)
    if call.key is not None and body.work_id is not None:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "two_keys",
            "Both an Idempotency-Key and a work_id are given.",
            "Give one.",
        )
    call.check(on_work(body.engine, "enqueue"))
    before = call.desk.now
    work_id = await call.client.enqueue(
        body.engine,
        body.payload,
        resources=body.resources,
        delay_seconds=body.delay_seconds,
        priority=body.priority,
        deadline_at=body.deadline_at,
        idempotency_key=call.key,
        work_id=body.work_id,
        labels=body.labels,
        budget=body.budget,
        family_budget=body.family_budget,
        capacities=body.capacities,
        resource_scope=body.resource_scope,
        idempotency_seconds=body.idempotency_seconds,
        conversation=body.conversation,
        if_busy=body.if_busy,
    )
    is_known = False
    if call.key is not None or body.work_id is not None:
        is_known = (await call.desk.reads.view(work_id)).item.created_at < before
    status = HTTPStatus.OK if is_known else HTTPStatus.CREATED
    return Answer(given.Enqueued(work_id=work_id, deduplicated=is_known), status)


async def cancel_work(call: Call) -> Answer:
    await call.check_on_work("cancel")
    body = call.body(asked.Cancel)
    await call.client.cancel(call.work_id, body.reason, by_seconds=body.by_seconds)
    return await _stands(call)


async def retry_work(call: Call) -> Answer:
    await call.check_on_work("retry")
    body = call.body(asked.Retry)
    await call.client.retry(call.work_id, body.reason, version=body.version)
    return await _stands(call)


async def signal_work(call: Call) -> Answer:
    await call.check_on_work("signal")
    body = call.body(asked.SignalIn)
    sent = await call.client.signal(
        call.work_id, body.name, body.data, signal_id=body.signal_id or call.digest
    )
    return Answer(given.Sent(signal_id=sent.signal_id, position=sent.position, is_new=sent.is_new))


async def pause_work(call: Call) -> Answer:
    await call.check_on_work("pause")
    body = call.body(asked.Pause)
    await call.client.pause(call.work_id, body.reason, for_seconds=body.for_seconds)
    return await _stands(call)


async def resume_work(call: Call) -> Answer:
    await call.check_on_work("resume")
    reason = call.body(asked.Act).reason
    await call.client.resume(call.work_id, reason)
    return await _stands(call)


async def fork_work(call: Call) -> Answer:
    await call.check_on_work("fork")
    body = call.body(asked.ForkIn)
    reason = body.reason
    work_id = body.work_id or (f"fork-{call.digest}" if call.digest else None)
    others = {"engine": body.engine, "priority": body.priority, "budget": body.budget}
    chosen = {name: value for name, value in others.items() if value is not None}
    call.check(on_work(body.engine, "fork") if body.engine is not None else None)
    forked = await call.client.fork(
        call.work_id, body.version, reason, changes=body.changes, work_id=work_id, **chosen
    )
    return await _stands(call, forked)


async def set_budget(call: Call) -> Answer:
    body = call.body(asked.BudgetIn)
    set_it = call.client.set_family_budget if body.is_family else call.client.set_budget
    await set_it(call.work_id, body.limits, body.reason)
    return await _stands(call)


async def evict_owner(call: Call) -> Answer:
    body = call.body(asked.EvictIn)
    await call.client.evict(body.resource, body.work_id, body.reason)
    return await _stands(call, body.work_id)


async def purge_work(call: Call) -> Answer:
    await call.client.purge(call.work_id, call.body(asked.Act).reason)
    return Answer(given.Purged(work_id=call.work_id))


async def _stands(call: Call, work_id: str | None = None) -> Answer:
    view = await call.desk.reads.view(work_id or call.work_id)
    return Answer(
        given.Acted(work_id=view.item.work_id, state=view.control.state, position=view.control.position)
    )


async def begin_operation(call: Call) -> Answer:
    body = call.body(asked.OperationIn)
    how = How(body.by_seconds, body.for_seconds, body.version)
    target = bulk.Target(Action(body.action), body.ids, body.where, body.reason, how)
    matched = await bulk.look(call.desk, target)
    begun = None
    if not body.dry_run:
        work_id = await bulk.begin(call.desk, call.principal, target, key=call.digest)
        begun = operation_out(await operating.look(call.desk.runtime.client, work_id))
    return Answer(
        given_fleet.OperationBegun(
            dry_run=body.dry_run,
            matched=matched.count,
            more=matched.more,
            sample=[row_out(row) for row in matched.sample],
            operation=begun,
        ),
        HTTPStatus.OK if body.dry_run else HTTPStatus.ACCEPTED,
    )
