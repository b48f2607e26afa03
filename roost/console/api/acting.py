"""The operations that act."""

from __future__ import annotations

from http import HTTPStatus

from roost.console.api import shapes
from roost.console.api.reading import operation_out, row_out
from roost.console.api.table import Answer, Call
from roost.console.pages import bulk
from roost.console.problems import Problem
from roost.core import operating
from roost.core.bulk import Action


async def enqueue_work(call: Call) -> Answer:
    body = call.body(shapes.NewWork)
    if call.key is not None and body.work_id is not None:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "two_keys",
            "Both an Idempotency-Key and a work_id are given.",
            "Give one.",
        )
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
    )
    is_known = False
    if call.key is not None or body.work_id is not None:
        is_known = (await call.desk.reads.view(work_id)).item.created_at < before
    status = HTTPStatus.OK if is_known else HTTPStatus.CREATED
    return Answer(shapes.Enqueued(work_id=work_id, deduplicated=is_known), status)


async def cancel_work(call: Call) -> Answer:
    body = call.body(shapes.Cancel)
    await call.client.cancel(call.work_id, body.reason or "over the API", by_seconds=body.by_seconds)
    return await _stands(call)


async def retry_work(call: Call) -> Answer:
    body = call.body(shapes.Retry)
    await call.client.retry(call.work_id, body.reason or "over the API", version=body.version)
    return await _stands(call)


async def signal_work(call: Call) -> Answer:
    body = call.body(shapes.SignalIn)
    await call.client.signal(call.work_id, body.name, body.data, signal_id=call.digest)
    return await _stands(call)


async def pause_work(call: Call) -> Answer:
    body = call.body(shapes.Pause)
    await call.client.pause(call.work_id, body.reason or "over the API", for_seconds=body.for_seconds)
    return await _stands(call)


async def resume_work(call: Call) -> Answer:
    reason = call.body(shapes.Act).reason or "over the API"
    await call.client.resume(call.work_id, reason)
    return await _stands(call)


async def fork_work(call: Call) -> Answer:
    body = call.body(shapes.ForkIn)
    reason = body.reason or "over the API"
    work_id = f"fork-{call.digest}" if call.digest else None
    forked = await call.client.fork(call.work_id, body.version, reason, changes=body.changes, work_id=work_id)
    return await _stands(call, forked)


async def set_budget(call: Call) -> Answer:
    body = call.body(shapes.BudgetIn)
    await call.client.set_budget(call.work_id, body.limits, body.reason or "over the API")
    return await _stands(call)


async def evict_owner(call: Call) -> Answer:
    body = call.body(shapes.EvictIn)
    await call.client.evict(body.resource, body.work_id)
    return await _stands(call, body.work_id)


async def _stands(call: Call, work_id: str | None = None) -> Answer:
    view = await call.desk.reads.view(work_id or call.work_id)
    return Answer(
        shapes.Acted(work_id=view.item.work_id, state=view.control.state, position=view.control.position)
    )


async def begin_operation(call: Call) -> Answer:
    body = call.body(shapes.OperationIn)
    target = bulk.Target(Action(body.action), body.ids, body.where, body.reason, body.by_seconds)
    matched = await bulk.look(call.desk, target)
    begun = None
    if not body.dry_run:
        work_id = await bulk.begin(call.desk, call.principal, target, key=call.digest)
        begun = operation_out(await operating.look(call.desk.runtime.client, work_id))
    return Answer(
        shapes.OperationBegun(
            dry_run=body.dry_run,
            matched=matched.count,
            more=matched.more,
            sample=[row_out(row) for row in matched.sample],
            operation=begun,
        ),
        HTTPStatus.OK if body.dry_run else HTTPStatus.ACCEPTED,
    )
