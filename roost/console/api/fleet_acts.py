"""The operations on what is not work: engines and lanes, limits of resources, messages set aside."""

from __future__ import annotations

from roost.console.api import asked, given_fleet
from roost.console.api.table import Answer, Call
from roost.console.roles import Deed
from roost.errors import InputError
from roost.journal.limits import Change, Close, Open, Rate, SetCapacity, SetRate
from roost.names import Lane
from roost.storage.ports import DeadLetter

MESSAGES_MAX = 100


async def list_switches(call: Call) -> Answer:
    found = await call.desk.runtime.client.switches()
    switches = [
        given_fleet.SwitchOut(target=one.target, reason=one.reason, at=one.at, by=one.by) for one in found
    ]
    return Answer(given_fleet.Switches(switches=switches))


async def throw_switch(call: Call) -> Answer:
    body, client = call.body(asked.SwitchIn), call.client
    if sum(one is not None for one in (body.engine, body.lane, body.worker)) != 1:
        raise InputError("a switch names an engine, a lane or a worker, and one of them")
    if body.worker is not None:
        drains = client.drain_worker if body.is_paused else client.keep_worker
        return _thrown(await drains(body.worker, body.reason))
    if body.engine is not None and body.is_paused:
        return _thrown(await client.pause_engine(body.engine, body.reason))
    if body.engine is not None:
        return _thrown(True, woken=await client.resume_engine(body.engine, body.reason))
    lane = Lane(body.lane or Lane.NORMAL)
    return _thrown(await (client.pause_lane if body.is_paused else client.resume_lane)(lane, body.reason))


def _thrown(is_new: bool, woken: int = 0) -> Answer:
    return Answer(given_fleet.Thrown(is_new=is_new, woken=woken))


async def set_daily(call: Call) -> Answer:
    body = call.body(asked.DailyIn)
    await call.client.set_daily_budget(body.limits, body.reason)
    return Answer(given_fleet.balance_out((await call.desk.runtime.client.balances())[0]))


async def set_limit(call: Call) -> Answer:
    body = call.body(asked.LimitIn)
    await call.client.change_resource(body.resource, _change(body, call.principal.actor), body.reason)
    found = await call.client.resources(body.resource)
    return Answer(given_fleet.Resources(resources=[given_fleet.resource_out(view) for view in found]))


def _change(body: asked.LimitIn, actor: str) -> Change:
    match body.change:
        case "capacity":
            return SetCapacity(body.capacity)
        case "rate":
            rate = body.rate
            return SetRate(None if rate is None else Rate(rate.count, rate.period_seconds))
        case "open":
            return Open()
        case _:
            if body.until is None:
                raise InputError("until says when a closed resource opens again")
            return Close(body.until, actor)


async def list_messages(call: Call) -> Answer:
    letters = await call.desk.runtime.client.dead_letters(limit=MESSAGES_MAX)
    sealed = map(call.desk.seals.seal, letters)
    return Answer(given_fleet.Messages(messages=[asked.Message.model_validate(letter) for letter in sealed]))


async def end_messages(call: Call) -> Answer:
    body = call.body(asked.EndMessages)
    if not body.send_again or not all(one.work_id for one in body.messages):
        call.check(Deed.DROP_MESSAGES)
    letters = [
        call.desk.seals.open(DeadLetter(one.work_id, one.cause, one.lane, one.reason, one.text, one.receipt))
        for one in body.messages
    ]
    await call.client.end_dead_letters(letters, is_sent_again=body.send_again, reason=body.reason)
    return Answer(given_fleet.MessagesEnded(ended=len(body.messages)))
