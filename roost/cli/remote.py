"""Commands that talk to a console over its JSON API, where only its address is known.

`open_remote` gives what commands use of a runtime: a client with the methods of
`core.client.Client`, a clock, and artifacts. What the API can't do says so.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NoReturn, cast

import httpx2

from roost import errors
from roost.cli.remote_client import RemoteClient, only_near
from roost.clock import SystemClock, SystemIds
from roost.errors import SettingsError
from roost.wiring import Runtime

TIMEOUT_SECONDS = 30.0


def _check_address(url: str) -> None:
    try:
        address = httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError):
        address = httpx2.URL("")
    if address.scheme not in ("http", "https") or not address.host or address.query or address.fragment:
        raise SettingsError(f"--url: {url!r} is no address", hint="Such as http://127.0.0.1:8319")


@asynccontextmanager
async def open_remote(url: str) -> AsyncIterator[Runtime]:
    """What commands use of a runtime, over a console's address.

    `ROOST_TOKEN` is sent as the bearer token, if it is set.

    Raises:
        SettingsError: this is no address.
    """
    _check_address(url)
    token = os.environ.get("ROOST_TOKEN")
    headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    async with httpx2.AsyncClient(
        base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=False
    ) as web:
        client = RemoteClient(web)
        runtime = RemoteRuntime(client, RemoteBackend(client), RemoteParts())
        yield cast(Runtime, runtime)  # all that commands ask of it


@dataclass(frozen=True, slots=True)
class RemoteParts:
    """The surroundings of a command."""

    clock: SystemClock = field(default_factory=SystemClock)
    ids: SystemIds = field(default_factory=SystemIds)


@dataclass(frozen=True, slots=True)
class RemoteRuntime:
    """See the module."""

    client: RemoteClient
    backend: RemoteBackend
    parts: RemoteParts
    engines: None = None


class RemoteBackend:
    """The artifacts of work that was looked at; nothing else of a storage is to be had."""

    def __init__(self, client: RemoteClient) -> None:
        self.artifacts = RemoteArtifacts(client)

    def __getattr__(self, name: str) -> NoReturn:
        raise only_near(name)


class RemoteArtifacts:
    """Artifacts of work items that were looked at before."""

    def __init__(self, client: RemoteClient) -> None:
        self._client = client

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes; compared with their digest once all are there."""
        import hashlib

        seen = hashlib.sha256()
        async with self._answer(self._client.places[digest]) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise errors.ArtifactNotFound(f"no artifact {digest}")
            last = b""
            async for chunk in answer.aiter_bytes():
                seen.update(chunk)
                if last:
                    yield last
                last = chunk
        if seen.hexdigest() != digest:
            raise errors.StorageCorrupt(f"artifact {digest} came with other bytes")
        yield last

    @asynccontextmanager
    async def _answer(self, place: str) -> AsyncIterator[httpx2.Response]:
        """The console's answer, or that of the store that it leads to, which is told no token."""
        async with self._client.web.stream("GET", place) as answer:
            if answer.status_code != HTTPStatus.FOUND:
                yield answer
                return
            address = answer.headers["location"]
        async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as web, web.stream("GET", address) as found:
            yield found
