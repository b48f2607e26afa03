"""The table: every operation of the API."""

from __future__ import annotations

from http import HTTPStatus

from starlette.routing import BaseRoute, Route

from roost.console.api import acting, openapi, reading, shapes
from roost.console.api.table import Operation, endpoint

PREFIX = "/api/v1"

_MISSING = (HTTPStatus.NOT_FOUND,)
_WRITE = (HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/overview",
        "What changed for the worse, and the last hour",
        reading.get_overview,
        shapes.Overview,
    ),
    Operation("GET", "/counts", "How much work is in each state", reading.count_work, shapes.Counts),
    Operation(
        "GET", "/work", "List work, newest first", reading.list_work, shapes.Page, query=shapes.ListQuery
    ),
    Operation(
        "POST",
        "/work",
        "Enqueue work",
        acting.enqueue_work,
        shapes.Enqueued,
        body=shapes.NewWork,
        status=HTTPStatus.CREATED,
        problems=(*_WRITE, HTTPStatus.OK),
        is_keyed=True,
    ),
    Operation("GET", "/work/{work_id}", "One work item", reading.get_work, shapes.Work, problems=_MISSING),
    Operation(
        "GET",
        "/work/{work_id}/payload",
        "Its payload",
        reading.get_payload,
        shapes.Payload,
        problems=_MISSING,
    ),
    Operation(
        "GET",
        "/work/{work_id}/journal",
        "Its journal, newest first",
        reading.get_journal,
        shapes.Entries,
        query=shapes.JournalQuery,
        problems=_MISSING,
    ),
    Operation(
        "GET",
        "/work/{work_id}/snapshots/{version}",
        "One of its versions",
        reading.get_snapshot,
        shapes.SnapshotOut,
        problems=_MISSING,
    ),
    Operation(
        "GET",
        "/work/{work_id}/snapshots/{version}/changes",
        "What changed between two of its versions",
        reading.get_changes,
        shapes.Changes,
        query=shapes.ChangesQuery,
        problems=_MISSING,
    ),
    Operation(
        "POST",
        "/work/{work_id}/cancel",
        "Ask it to end",
        acting.cancel_work,
        shapes.Acted,
        body=shapes.Cancel,
        problems=(*_MISSING, *_WRITE),
    ),
    Operation(
        "POST",
        "/work/{work_id}/signal",
        "Tell it something",
        acting.signal_work,
        shapes.Acted,
        body=shapes.SignalIn,
        problems=(*_MISSING, *_WRITE),
    ),
    Operation(
        "POST",
        "/work/{work_id}/pause",
        "Put it on hold",
        acting.pause_work,
        shapes.Acted,
        body=shapes.Pause,
        problems=(*_MISSING, *_WRITE),
    ),
    Operation(
        "POST",
        "/work/{work_id}/resume",
        "Let it go on",
        acting.resume_work,
        shapes.Acted,
        body=shapes.Act,
        problems=(*_MISSING, *_WRITE),
    ),
    Operation(
        "POST",
        "/work/{work_id}/retry",
        "Put it back to life",
        acting.retry_work,
        shapes.Acted,
        body=shapes.Retry,
        problems=(*_MISSING, *_WRITE),
    ),
    Operation(
        "POST",
        "/work/{work_id}/fork",
        "Start new work from one of its versions",
        acting.fork_work,
        shapes.Acted,
        body=shapes.ForkIn,
        problems=(*_MISSING, *_WRITE),
    ),
    Operation(
        "POST",
        "/work/{work_id}/budget",
        "Set its budget",
        acting.set_budget,
        shapes.Acted,
        body=shapes.BudgetIn,
        problems=(*_MISSING, *_WRITE),
    ),
    Operation(
        "POST",
        "/resources/evict",
        "Take a resource away from a work item",
        acting.evict_owner,
        shapes.Acted,
        body=shapes.EvictIn,
        problems=(*_MISSING, *_WRITE),
    ),
    Operation(
        "POST",
        "/operations",
        "Act on many, or see what would happen",
        acting.begin_operation,
        shapes.OperationBegun,
        body=shapes.OperationIn,
        status=HTTPStatus.ACCEPTED,
        problems=(*_WRITE, HTTPStatus.OK),
    ),
    Operation("GET", "/operations", "What is done to many", reading.list_operations, shapes.Operations),
    Operation(
        "GET",
        "/operations/{work_id}",
        "How far an operation is",
        reading.get_operation,
        shapes.OperationOut,
        problems=_MISSING,
    ),
    Operation("GET", "/failed/groups", "Failed work by like error", reading.list_failed, shapes.Groups),
    Operation(
        "GET",
        "/events",
        "The newest entries of all journals",
        reading.list_events,
        shapes.Events,
        query=shapes.EventsQuery,
    ),
    Operation(
        "GET", "/resources", "What is held, by whom, and who waits", reading.list_resources, shapes.Resources
    ),
    Operation("GET", "/workers", "Workers, and what they hold", reading.list_workers, shapes.Workers),
    Operation("GET", "/schedules", "Schedules", reading.list_schedules, shapes.Schedules),
    Operation("GET", "/engines", "Engines, and what they take", reading.list_engines, shapes.Engines),
    Operation("GET", "/settings", "Settings, secrets hidden", reading.list_settings, shapes.SettingsOut),
)

_CONVERTORS = {"{work_id}": "{work_id:work}", "{version}": "{version:version}"}


def routes() -> list[BaseRoute]:
    """Routes for all operations, and for the document that describes them."""
    made: list[BaseRoute] = [Route(f"{PREFIX}/openapi.json", openapi.serve(OPERATIONS, PREFIX))]
    for operation in OPERATIONS:
        path = operation.path
        for plain, converted in _CONVERTORS.items():
            path = path.replace(plain, converted)
        made.append(Route(f"{PREFIX}{path}", endpoint(operation), methods=[operation.method]))
    return made
