"""Downloads from the artifact store itself, where it gives links that a browser can follow."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, runtime_checkable

from roost.console.desk import Link
from roost.models import Artifact
from roost.wiring import Runtime

LINK_SECONDS = 300


@runtime_checkable
class Links(Protocol):
    """An artifact store that gives links to its blobs."""

    def link(self, digest: str, *, seconds: int, file_name: str = "") -> Awaitable[str]:
        """See `storage.aws.artifacts`."""


def link_of(runtime: Runtime) -> Link | None:
    """Links to artifacts, where their store gives some."""
    store = runtime.backend.artifacts
    if not isinstance(store, Links):
        return None
    links = store

    async def link(artifact: Artifact) -> str:
        name = artifact.name.rpartition("/")[2]
        return await links.link(artifact.digest, seconds=LINK_SECONDS, file_name=name)

    return link
