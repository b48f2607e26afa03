"""The table: every operation of the API."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from starlette.routing import BaseRoute

from roost.console.api import acting, asked, fleet_acts, given, given_fleet, openapi, reading, talking
from roost.console.api.table import Operation, Run, endpoint
from roost.console.roles import Deed
from roost.console.routing import Door

PREFIX = "/api/v1"

_ON_OWN = "On Roost's own work, such as schedules: the role admin."
_MISSING = (HTTPStatus.NOT_FOUND,)
_WRITE = (HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def _look(path: str, summary: str, run: Run, gives: type[BaseModel], **more: Any) -> Operation:
    """One that reads."""
    return Operation("GET", path, summary, run, gives, more.pop("deed", Deed.LOOK), **more)


def _look_at(path: str, summary: str, run: Run, gives: type[BaseModel], **more: Any) -> Operation:
    """One that reads something of one work item."""
    return _look(f"/work/{{work_id}}{path}", summary, run, gives, problems=_MISSING, **more)


def _act(
    path: str, summary: str, run: Run, gives: type[BaseModel], deed: Deed, also: str = "", **more: Any
) -> Operation:
    """One that writes."""
    problems = (*_MISSING, *_WRITE, *more.pop("problems", ()))
    return Operation("POST", path, summary, run, gives, deed, also, problems=problems, **more)


def _act_on(
    verb: str,
    summary: str,
    run: Run,
    body: type[BaseModel],
    deed: Deed = Deed.ACT,
    gives: type[BaseModel] = given.Acted,
) -> Operation:
    """One that acts on one work item."""
    return _act(f"/work/{{work_id}}/{verb}", summary, run, gives, deed, _ON_OWN, body=body)


OPERATIONS: tuple[Operation, ...] = (
    _look(
        "/overview",
        "What changed for the worse, and the last hour",
        reading.get_overview,
        given_fleet.Overview,
    ),
    _look("/counts", "How much work is in each state", reading.count_work, given.Counts),
    # --- work ---------------------------------------------------------------
    _look("/work", "List work, newest first", reading.list_work, given.Page, query=asked.ListQuery),
    _act(
        "/work",
        "Enqueue work",
        acting.enqueue_work,
        given.Enqueued,
        Deed.ENQUEUE,
        "For an engine of Roost's own, the role admin.",
        body=asked.NewWork,
        status=HTTPStatus.CREATED,
        problems=(HTTPStatus.OK,),
        is_keyed=True,
    ),
    _look_at("", "One work item", reading.get_work, given.Work),
    _look_at("/cost", "What it cost so far", reading.get_cost, given.Cost),
    _look_at(
        "/balances", "What it is charged to, and how that stands", reading.list_balances, given_fleet.Balances
    ),
    _look_at("/payload", "Its payload", reading.get_payload, given.Payload),
    _look_at(
        "/journal",
        "Its journal, newest first",
        reading.get_journal,
        given.Entries,
        query=asked.JournalQuery,
    ),
    _look_at("/snapshots/{version}", "One of its versions", reading.get_snapshot, given.SnapshotOut),
    _look_at(
        "/snapshots/{version}/changes",
        "What changed between two of its versions",
        reading.get_changes,
        given.Changes,
        query=asked.ChangesQuery,
    ),
    _look_at("/tree", "It, its children, and theirs", talking.get_tree, given.KinOut),
    _look_at("/signals", "Its signals, seen or not", talking.list_signals, given.Signals),
    _look_at(
        "/approvals",
        "What it asks for, with the tokens that answer",
        talking.list_approvals,
        given.Approvals,
        deed=Deed.ANSWER,
    ),
    _act_on("cancel", "Ask it to end", acting.cancel_work, asked.Cancel),
    _act_on("signal", "Tell it something", acting.signal_work, asked.SignalIn, gives=given.Sent),
    _act_on("pause", "Put it on hold", acting.pause_work, asked.Pause),
    _act_on("resume", "Let it go on", acting.resume_work, asked.Act),
    _act_on("retry", "Put it back to life", acting.retry_work, asked.Retry),
    _act_on("fork", "Start new work from one of its versions", acting.fork_work, asked.ForkIn),
    _act_on("budget", "Set its budget", acting.set_budget, asked.BudgetIn, Deed.BUDGET),
    _act_on("purge", "Delete it with its history", acting.purge_work, asked.Act, Deed.DROP, given.Purged),
    _act(
        "/approve",
        "Answer an approval by its token",
        talking.approve,
        given.Sent,
        Deed.ANSWER,
        body=asked.Reply,
    ),
    # --- many ---------------------------------------------------------------
    _act(
        "/operations",
        "Act on many, or see what would happen",
        acting.begin_operation,
        given_fleet.OperationBegun,
        Deed.ACT,
        "To purge, on Roost's own work, or on more than is counted in advance: the role admin.",
        body=asked.OperationIn,
        status=HTTPStatus.ACCEPTED,
        problems=(HTTPStatus.OK,),
    ),
    _look("/operations", "What is done to many", reading.list_operations, given_fleet.Operations),
    _look(
        "/operations/{work_id}",
        "How far an operation is",
        reading.get_operation,
        given_fleet.OperationOut,
        problems=_MISSING,
    ),
    _look("/failed/groups", "Failed work by like error", reading.list_failed, given_fleet.Groups),
    _look("/failed/messages", "What the queue set aside", fleet_acts.list_messages, given_fleet.Messages),
    _act(
        "/failed/messages",
        "Send such messages again, or drop them",
        fleet_acts.end_messages,
        given_fleet.MessagesEnded,
        Deed.SEND_AGAIN,
        "To drop them, or for those that name no work: the role admin.",
        body=asked.EndMessages,
    ),
    # --- the fleet ----------------------------------------------------------
    _look(
        "/events",
        "The newest entries of all journals",
        reading.list_events,
        given.Events,
        query=asked.EventsQuery,
    ),
    _look(
        "/resources",
        "What is held, by whom, and who waits",
        reading.list_resources,
        given_fleet.Resources,
        query=asked.ResourcesQuery,
    ),
    _act(
        "/resources/evict",
        "Take a resource away from a work item",
        acting.evict_owner,
        given.Acted,
        Deed.EVICT,
        body=asked.EvictIn,
    ),
    _act(
        "/resources/limits",
        "Set a limit of a resource, close or open it",
        fleet_acts.set_limit,
        given_fleet.Resources,
        Deed.LIMIT,
        body=asked.LimitIn,
    ),
    _look(
        "/artifacts",
        "Artifacts by their hash, and who uses each",
        reading.list_blobs,
        given.Blobs,
        query=asked.BlobsQuery,
    ),
    _look(
        "/conversations",
        "Conversations, and who is in line",
        reading.list_conversations,
        given.Conversations,
    ),
    _look("/switches", "Engines and lanes that are paused", fleet_acts.list_switches, given_fleet.Switches),
    _act(
        "/switches",
        "Pause or resume an engine or a lane",
        fleet_acts.throw_switch,
        given_fleet.Thrown,
        Deed.SWITCH,
        body=asked.SwitchIn,
    ),
    _look("/budget", "What the day has used up, and may", reading.get_daily, given_fleet.BalanceOut),
    _act(
        "/budget",
        "Set what each day may use up",
        fleet_acts.set_daily,
        given_fleet.BalanceOut,
        Deed.BUDGET,
        body=asked.DailyIn,
    ),
    _look("/workers", "Workers, and what they hold", reading.list_workers, given_fleet.Workers),
    _look("/schedules", "Schedules", reading.list_schedules, given_fleet.Schedules),
    _look("/engines", "Engines, and what they take", reading.list_engines, given_fleet.Engines),
    _look("/settings", "Settings, secrets hidden", reading.list_settings, given_fleet.SettingsOut),
)

_CONVERTORS = {"{work_id}": "{work_id:work}", "{version}": "{version:version}"}


def routes() -> list[BaseRoute]:
    """Routes for all operations, and for the document that describes them."""
    document = openapi.serve(OPERATIONS, PREFIX)
    made: list[BaseRoute] = [Door(f"{PREFIX}/openapi.json", document, Deed.LOOK, ["GET"])]
    for operation in OPERATIONS:
        path = operation.path
        for plain, converted in _CONVERTORS.items():
            path = path.replace(plain, converted)
        made.append(Door(f"{PREFIX}{path}", endpoint(operation), operation.deed, [operation.method]))
    return made
