"""One session and one SDK client per service and process.

Credentials, region, profile, role assumption and endpoints are found as the SDK finds
them (`AWS_PROFILE`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_<SERVICE>`, …);
nothing here builds a URL, so FIPS and dual-stack endpoints work, too.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Literal

import aioboto3
from botocore.config import Config

from roost.clock import Clock, Ids
from roost.storage.aws.faults import SDK_ATTEMPTS, Met, Patience, storage_errors
from roost.storage.aws.names import Names
from roost.storage.aws.shortcut import Shortcut

Service = Literal["dynamodb", "dynamodbstreams", "sqs", "s3", "sts", "iam"]

SQS_WAIT_MAX_SECONDS = 20  # SQS Developer Guide, "Amazon SQS short and long polling"
SQS_ANSWER_SECONDS = 8  # for a call beyond what it was told to wait; a lease has time for three
_CONNECT_TIMEOUT_SECONDS = 3
_READ_TIMEOUTS_SECONDS: dict[str, int] = {
    "dynamodb": 6,
    "sqs": SQS_WAIT_MAX_SECONDS + SQS_ANSWER_SECONDS,
    "s3": 60,
}
_OTHER_READ_TIMEOUT_SECONDS = 15


@cache
def _user_agent() -> str:
    return f"roost/{metadata.version('roost-runtime')} aioboto3/{metadata.version('aioboto3')}"


def _region() -> str | None:
    """The region where only `AWS_REGION` names it, which other SDKs read and this one does not."""
    return None if "AWS_DEFAULT_REGION" in os.environ else os.environ.get("AWS_REGION")


class Clients:
    """Makes clients when they are first asked for, and closes them together.

    Args:
        connections: that one client may hold at a time; calls beyond them wait their turn.
        met: is told of what the SDK tries again by itself.
    """

    def __init__(self, connections: int, met: Met | None = None) -> None:
        self._met = met or Met()
        self._session = aioboto3.Session(region_name=_region())
        self._connections = connections
        self._clients: dict[str, Any] = {}
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()

    @property
    def region(self) -> str | None:
        """The region that the SDK found, if any."""
        found: str | None = self._session.region_name
        return found

    async def get(self, service: Service) -> Any:
        """The client of a service; always the same.

        Raises:
            StorageError: there is no region, or no such profile.
        """
        found = self._clients.get(service)
        if found is not None:
            return found
        async with self._lock:
            if service not in self._clients:
                with storage_errors(f"a client for {service}"):
                    made = self._session.client(service, config=self._config(service))
                    client = await self._stack.enter_async_context(made)
                self._met.watch(client)
                if service == "dynamodb":
                    await Shortcut(client, self._session.get_credentials).install()
                self._clients[service] = client
            return self._clients[service]

    def _config(self, service: Service) -> Config:
        return Config(
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            read_timeout=_READ_TIMEOUTS_SECONDS.get(service, _OTHER_READ_TIMEOUT_SECONDS),
            max_pool_connections=self._connections,
            retries={"mode": "standard", "total_max_attempts": SDK_ATTEMPTS},
            tcp_keepalive=True,
            user_agent=_user_agent(),  # the SDK's own is put together twice for each call
            parameter_validation=False,  # a third of the client's time for a batch of appends
            account_id_endpoint_mode="disabled",
            s3={"addressing_style": "auto"},
            signature_version="s3v4" if service == "s3" else None,  # else links are signed the old way
        )

    async def close(self) -> None:
        """Close all connections; idempotent."""
        self._clients.clear()
        await self._stack.aclose()


@dataclass(frozen=True, slots=True)
class Aws:
    """What every port of this backend is given."""

    clients: Clients
    names: Names
    patience: Patience
    clock: Clock
    ids: Ids
