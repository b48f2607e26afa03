"""How tests open the AWS backend on a stand-in: quickly, and with time that need not pass."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from functools import lru_cache
from itertools import count
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from aiobotocore import httpsession
from botocore import hooks

from roost.config import AwsSettings
from roost.storage.aws import open_aws
from roost.storage.aws.admin import create_stack
from roost.storage.aws.clients import Clients
from roost.storage.aws.index import EXPIRING
from roost.storage.aws.names import EXPIRES_AT, Names, definition
from roost.storage.ports import Backend
from roost.testing.contract import BackendHarness
from roost.testing.standins import REGION, StandIn

from .bare import BareClients

SHARDS = 2
_CONNECTIONS = 32
_numbers = count(1)


class StandInClock:
    """The clock of a stand-in: the real time and what its clock was moved on; `advance` moves both."""

    def __init__(self, standin: StandIn) -> None:
        self._standin = standin
        self._sleepers: list[asyncio.Future[None]] = []

    def now(self) -> float:
        return time.time() + self._standin.ahead_seconds

    def monotonic(self) -> float:
        return time.monotonic() + self._standin.ahead_seconds

    async def sleep(self, seconds: float) -> None:
        end = self.monotonic() + seconds
        if seconds <= 0:
            await asyncio.sleep(0)
        while (left := end - self.monotonic()) > 0:
            moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append(moved)
            await asyncio.wait([moved], timeout=left)

    def advance(self, seconds: float) -> None:
        """Move on, and let who sleeps look at the clock again."""
        self._standin.advance(seconds)
        sleepers, self._sleepers = self._sleepers, []
        for moved in sleepers:
            if not moved.done() and not moved.get_loop().is_closed():
                moved.set_result(None)


class _NoCertificates(ssl.SSLContext):
    """A context that loads none: a stand-in is spoken to in plain HTTP."""

    def load_verify_locations(self, *args: Any, **kwargs: Any) -> None:
        """50 ms for each client."""


_loader = botocore.loaders.Loader()
_alias = lru_cache(4096)(hooks.EventAliaser(hooks.HierarchicalEmitter())._alias_event_name)


def point_sdk_at(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the AWS SDK of this process find the stand-in and nothing else, and open clients quickly.

    A process of a user opens its clients once, a test opens some each time: what the SDK
    reads of its own data files is kept here (0.2 s a session), and so are the events that its
    120 handlers are for; certificates are not read (50 ms a client), nor are the handlers'
    signatures (8 ms a backend).
    """
    for name, value in standin.environ.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setattr(botocore.session, "create_loader", lambda *_: _loader)
    monkeypatch.setattr(hooks.EventAliaser, "_alias_event_name", lambda _, event_name: _alias(event_name))
    monkeypatch.setattr(hooks, "accepts_kwargs", lambda _: True)
    monkeypatch.setattr(
        httpsession, "create_urllib3_context", lambda: _NoCertificates(ssl.PROTOCOL_TLS_CLIENT)
    )


def nothing_alive_expires(params: dict[str, Any], **_: Any) -> None:
    """Refuse a write by which DynamoDB's time to live could delete anything that means something.

    That is each one with an instant to go by, save where it ends what was marked as deleted, or
    is in the sums of a day.
    """
    actions = [one for action in params.get("TransactItems", []) for one in action.values()]
    actions += params.get("Statements", [])
    for requests in params.get("RequestItems", {}).values():
        actions += [one for request in requests if isinstance(request, dict) for one in request.values()]
    for write in actions or [params]:
        if EXPIRES_AT not in str({**write, "ConditionExpression": "", "Key": ""}):
            continue
        condition = write.get("ConditionExpression", "")
        asks = f"attribute_exists(#{EXPIRES_AT})" in condition and EXPIRES_AT not in write.get("Item", {})
        ends = "#position = :position" in condition and f"attribute_exists(#{EXPIRING})" in condition
        subject = {**write.get("Item", {}), **write.get("Key", {})}.get("subject", {"S": ""})["S"]
        is_of_a_day = subject.rpartition("/")[2].startswith("d#")
        assert asks or ends or is_of_a_day, f"this could expire: {write}"


async def make_stack(stack: str) -> AwsSettings:
    """A new, empty stack on the stand-in that the SDK points at."""
    settings = AwsSettings(stack=stack, bucket=f"{stack}-blobs", shards=SHARDS)
    assert settings.bucket is not None
    with BareClients(os.environ["AWS_ENDPOINT_URL"], REGION) as clients:
        await create_stack(clients, Names(settings.stack, settings.bucket, settings.shards))  # type: ignore[arg-type]  # in its place
    return settings


class AwsHarness(BackendHarness):
    """A stack of its own for each store; a second backend on it is what another process opens.

    Attributes:
        appends_in_flight: as in `AwsSettings`.
    """

    time_step_seconds = 5.0  # passes in no time; long against what a test takes in real time
    shortest_delay_seconds = 1.0  # SQS API reference, "SendMessage": DelaySeconds is an integer
    is_fifo = False
    feed_is_global = False
    backlog_is_exact = False
    detects_stale_receipts = False
    appends_in_flight = AwsSettings().appends_in_flight

    def __init__(self, standin: StandIn) -> None:
        super().__init__()
        self.aws_clock = StandInClock(standin)
        self.clock = self.aws_clock
        self._settings = AwsSettings()

    async def open(self) -> Backend:
        made = await make_stack(f"t{next(_numbers)}")
        self._settings = made.model_copy(update={"appends_in_flight": self.appends_in_flight})
        return await self.reopen()

    async def reopen(self) -> Backend:
        backend = await open_aws(self._settings, clock=self.clock, connections=_CONNECTIONS)
        events = (await backend.aws.clients.get("dynamodb")).meta.events
        events.register("provide-client-params.dynamodb", nothing_alive_expires)
        return self.keep(backend)

    async def advance(self, seconds: float) -> None:
        self.aws_clock.advance(seconds)
        await asyncio.sleep(0)

    async def damage(self, digest: str) -> None:
        clients = Clients(1)
        try:
            s3 = await clients.get("s3")
            key = f"{definition()['bucket']['blob_prefix']}{digest[:2]}/{digest}"
            found = await s3.get_object(Bucket=self._settings.bucket, Key=key)
            content = bytearray(await found["Body"].read())
            content[len(content) // 2] ^= 1
            await s3.put_object(Bucket=self._settings.bucket, Key=key, Body=bytes(content))
        finally:
            await clients.close()
