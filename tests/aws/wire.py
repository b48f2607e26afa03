"""What goes over the wire between a port and an AWS service: recorded, counted, and made to fail.

Hooks of the SDK's own event system, so the calls are those that the product makes.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from roost.clock import SystemClock, SystemIds
from roost.storage.aws.clients import Aws, Clients
from roost.storage.aws.faults import Patience
from roost.storage.aws.names import Names
from roost.testing.standins import StandIn
from tests.standins.harness import make_stack, point_sdk_at

_numbers = count(1)


@dataclass(frozen=True)
class Fail:
    """The call fails with this error and has no effect."""

    code: str
    status: int = 400
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoseReply:
    """The call has its effect, and the caller is told of a server error."""


@dataclass(frozen=True)
class Answer:
    """The call is answered with this and has no effect."""

    reply: dict[str, Any]


@dataclass(frozen=True)
class First:
    """Something else happens right before the call."""

    act: Callable[[], Awaitable[Any]]


Event = Fail | LoseReply | Answer | First


@dataclass
class _Http:
    status_code: int


class Wire:
    """The calls of one client.

    Attributes:
        calls: (operation, arguments) in the order in which they were made, repeated ones too.
    """

    def __init__(self, client: Any, service: str = "dynamodb") -> None:
        self.calls: list[tuple[str, dict[str, Any]]] | deque[tuple[str, dict[str, Any]]] = []
        self._events: dict[str, deque[Event]] = defaultdict(deque)
        self._lost: Counter[str] = Counter()
        events = client.meta.events
        events.register(f"provide-client-params.{service}", self._record)
        events.register(f"before-call.{service}", self._before)
        events.register(f"after-call.{service}", self._after)

    def script(self, operation: str, *events: Event) -> None:
        """What happens to the next calls of an operation, one event each."""
        self._events[operation].extend(events)

    def taken(self) -> dict[str, int]:
        """How many calls of each operation there were since this was asked last."""
        counts = Counter(operation for operation, _ in self.calls)
        self.calls.clear()
        return dict(counts)

    def _record(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.calls.append((model.name, params))

    async def _before(self, model: Any, **_: Any) -> tuple[_Http, dict[str, Any]] | None:
        events = self._events[model.name]
        match events.popleft() if events else None:
            case Fail(code, status, more):
                metadata = {"HTTPStatusCode": status}
                return _Http(status), {
                    "Error": {"Code": code, "Message": "made up"},
                    "ResponseMetadata": metadata,
                    **more,
                }
            case Answer(reply):
                return _Http(200), {"ResponseMetadata": {"HTTPStatusCode": 200}, **reply}
            case First(act):
                await act()
            case LoseReply():
                self._lost[model.name] += 1
        return None

    def _after(self, http_response: Any, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        if self._lost[model.name]:
            self._lost[model.name] -= 1
            http_response.status_code = 500
            parsed.clear()
            parsed["Error"] = {"Code": "InternalServerError", "Message": "made up"}
            parsed["ResponseMetadata"] = {"HTTPStatusCode": 500}


class Stack:
    """A stack on a stand-in, and what opens it, as several processes would."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self._clients: list[Clients] = []

    async def open(self, *, shards: int | None = None) -> tuple[Aws, Wire]:
        """What a port is made of, and the wire of its DynamoDB client."""
        names = self.names if shards is None else Names(self.names.stack, self.names.bucket, shards)
        clients, clock, ids = Clients(32), SystemClock(), SystemIds()
        self._clients.append(clients)
        aws = Aws(clients, names, Patience(clock, ids), clock, ids)
        return aws, Wire(await clients.get("dynamodb"))

    async def close(self) -> None:
        """Close all that was opened."""
        for clients in self._clients:
            await clients.close()


async def new_stack(standin: StandIn, monkeypatch: pytest.MonkeyPatch, *, shards: int = 4) -> Stack:
    """A new and empty stack."""
    point_sdk_at(standin, monkeypatch)
    settings = await make_stack(f"wire{next(_numbers)}")
    assert settings.bucket is not None
    return Stack(Names(settings.stack, settings.bucket, shards))


async def everything(aws: Aws, table: str, *, but: str = "") -> list[dict[str, Any]]:
    """All items of a table, save those of one work id."""
    dynamodb = await aws.clients.get("dynamodb")
    page = await dynamodb.scan(TableName=table, ConsistentRead=True)
    assert "LastEvaluatedKey" not in page
    return [item for item in page["Items"] if item.get("work") != {"S": but}]
