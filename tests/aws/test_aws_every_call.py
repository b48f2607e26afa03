"""Each call that a port makes to AWS is throttled, then done and not heard of; or is done once more later.

The contract of each port holds all the same. What fails is not drawn: of every call with
arguments of its own the first tries do, whichever it is, so none is left out by chance. The
faults come through the SDK's own events, where its retries do not see them.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from roost.storage.ports import Backend
from roost.testing.contract import (
    AccountsContract,
    ArtifactsContract,
    BackendHarness,
    ClaimsContract,
    EndlessContract,
    IndexContract,
    JournalContract,
    QueueContract,
)
from roost.testing.standins import StandIn
from tests.aws.wire import _Http
from tests.standins.harness import AwsHarness, point_sdk_at

pytestmark = [pytest.mark.slow, pytest.mark.soak]

SERVICES = ("dynamodb", "dynamodbstreams", "sqs", "s3")
LATE_CALLS = 3  # after how many other calls one that was done is done once more
_THROTTLES = {"s3": ("SlowDown", 503), "sqs": ("RequestThrottled", 403)}
# What becomes of these is no secret: a message comes twice, or is hidden for a while.
_AT_LEAST_ONCE = frozenset({"SendMessageBatch", "ReceiveMessage"})
_WRITES = frozenset(
    {
        "BatchExecuteStatement",
        "BatchWriteItem",
        "DeleteItem",
        "PutItem",
        "PutObject",
        "TransactWriteItems",
        "UpdateItem",
    }
)
_FIRST_ERROR_STATUS = 300

_repeats: ContextVar[bool] = ContextVar("_repeats", default=False)


class Faults:
    """Faults on the calls of a client.

    Args:
        is_late: what was done is done once more later. Else each call is throttled first, and the
            reply to the next try is lost.
    """

    def __init__(self, client: Any, service: str, *, is_late: bool) -> None:
        self._client, self._service, self._is_late = client, service, is_late
        self._tries: Counter[str] = Counter()
        self._late: deque[tuple[int, Callable[[], Awaitable[Any]]]] = deque()
        self._calls = 0
        events = client.meta.events
        events.register(f"provide-client-params.{service}", self._note)
        events.register(f"before-call.{service}", self._before)
        events.register(f"after-call.{service}", self._after)

    def _note(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        asked = dict(params)
        key = model.name + json.dumps(asked, sort_keys=True, default=repr)
        self._tries[key] += 1
        context["asked"], context["try"] = asked, self._tries[key]

    async def _before(self, context: dict[str, Any], **_: Any) -> Any:
        if _repeats.get():
            return None
        self._calls += 1
        while self._late and self._late[0][0] <= self._calls:
            await _repeat(self._late.popleft()[1])
        if not self._is_late and context["try"] == 1:
            return _failed(*_THROTTLES.get(self._service, ("ThrottlingException", 400)))
        return None

    def _after(self, http_response: Any, parsed: dict[str, Any], model: Any, context: Any, **_: Any) -> None:
        if model.name in _AT_LEAST_ONCE or http_response.status_code >= _FIRST_ERROR_STATUS or _repeats.get():
            return
        if not self._is_late and context["try"] == 2:
            if "Body" in parsed:
                parsed["Body"].close()
            http_response.status_code = 500
            parsed.clear()
            parsed.update(_failed("InternalServerError", 500)[1])
        if self._is_late and model.name in _WRITES:
            call = partial(self._client._make_api_call, model.name, context["asked"])
            self._late.append((self._calls + LATE_CALLS, call))


async def _repeat(call: Callable[[], Awaitable[Any]]) -> None:
    token = _repeats.set(True)
    try:
        with suppress(ClientError):  # a condition that does not hold any more
            await call()
    finally:
        _repeats.reset(token)


def _failed(code: str, status: int) -> tuple[_Http, dict[str, Any]]:
    error = {"Code": code, "Message": "made up"}
    return _Http(status), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}


class FaultyHarness(AwsHarness):
    """Every backend that it opens meets faults, see `Faults`."""

    def __init__(self, standin: StandIn, *, is_late: bool) -> None:
        super().__init__(standin)
        self._is_late = is_late

    async def reopen(self) -> Backend:
        backend: Any = await super().reopen()
        for service in SERVICES:
            Faults(await backend.aws.clients.get(service), service, is_late=self._is_late)
        return backend


@pytest.fixture
def is_late() -> bool:
    return False


@pytest.fixture
def harness(is_late: bool, ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> BackendHarness:
    point_sdk_at(ministack, monkeypatch)
    monkeypatch.setattr("roost.storage.aws.expiry.DAYS_MAX", 16)  # 400 take seconds on a stand-in
    monkeypatch.setattr("roost.storage.aws.faults._FIRST_PAUSE_SECONDS", 0.002)
    return FaultyHarness(ministack, is_late=is_late)


either = pytest.mark.parametrize("is_late", [False, True], ids=["lost", "late"])


@either
class TestJournal(JournalContract):
    pass


@either
class TestClaims(ClaimsContract):
    pass


@either
class TestAccounts(AccountsContract):
    """See `AccountsContract`."""


class TestArtifacts(ArtifactsContract):
    pass


class TestEndless(EndlessContract):
    pass


class TestIndex(IndexContract):
    """A row that is put once more later is behind, as rows may be: no contract is kept then."""


class TestQueue(QueueContract):
    pass
