"""The operations that talk to work: signals, approvals, families."""

from __future__ import annotations

from roost.console.api import asked, given
from roost.console.api.table import Answer, Call
from roost.console.pages.actions import shapes
from roost.core.kin import Kin

TREE_MAX = 500  # work items of one answer


async def get_tree(call: Call) -> Answer:
    return Answer(_kin_out(await call.desk.runtime.client.tree(call.work_id, limit=TREE_MAX)))


def _kin_out(top: Kin) -> given.KinOut:
    """A family, the last generation first: as deep as it is."""
    made: dict[int, given.KinOut] = {}
    order, pending = [], [top]
    while pending:
        kin = pending.pop()
        order.append(kin)
        pending += kin.children
    for kin in reversed(order):
        made[id(kin)] = given.KinOut(
            work_id=kin.work_id,
            key=kin.key,
            engine=kin.engine,
            state=kin.state,
            version=kin.version,
            reason=kin.reason,
            child_count=kin.child_count,
            children=[made[id(child)] for child in kin.children],
        )
    return made[id(top)]


async def list_signals(call: Call) -> Answer:
    view = await call.desk.reads.view(call.work_id)
    item = view.item
    received = await call.desk.runtime.client.signals(call.work_id)
    return Answer(
        given.Signals(
            signals=[
                given.SignalOut(
                    signal_id=one.signal.signal_id,
                    name=one.signal.name,
                    data=call.desk.redaction.apply(item.engine, one.signal.data),
                    at=one.signal.at,
                    actor=one.signal.actor,
                    position=one.position,
                    seen_by_version=one.seen_by_version,
                )
                for one in received
            ],
            shapes={name: dict(shape) for name, shape in shapes(view).items()},
        )
    )


async def list_approvals(call: Call) -> Answer:
    found = await call.desk.runtime.client.approvals(call.work_id)
    return Answer(
        given.Approvals(
            approvals=[
                given.ApprovalOut(
                    work_id=one.work_id,
                    version=one.version,
                    name=one.name,
                    token=one.token,
                    link=one.link,
                    reply_schema=dict(one.schema),
                    until=one.until,
                    fails=one.fails,
                )
                for one in found
            ]
        )
    )


async def approve(call: Call) -> Answer:
    body = call.body(asked.Reply)
    who = f"{body.by} by {call.principal.actor}" if body.by else call.principal.actor
    sent = await call.client.approve(body.token, body.data, who)
    return Answer(given.Sent(signal_id=sent.signal_id, position=sent.position, is_new=sent.is_new))
