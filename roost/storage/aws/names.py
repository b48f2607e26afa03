"""Names and keys: what a stack's resources are called, and how namespaces and shards are spelled.

One stack serves many namespaces. A namespace is the part of a work id before the `/`;
every key of a work item begins with its work id, so IAM's `dynamodb:LeadingKeys` can
fence a tenant in with the pattern `NAMESPACE/*`. Many stacks live in one account: their
name is the prefix of all that they own.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from roost.models import NAMESPACE_MARK, Lane, State, namespace_of

__all__ = [
    "EXPIRES_AT",
    "NAMESPACE_MARK",
    "Names",
    "blob_key",
    "definition",
    "due_key",
    "namespace_of",
    "roles",
    "shard_of",
    "state_key",
]

_SHARD_MARK = "#"
EXPIRES_AT = "expires_at"
"""The attribute that DynamoDB's time to live goes by (`stack.json`): epoch seconds, whole ones.

An item that has it says nothing any more, whether it is still there or not. Live work has none.
"""


@cache
def definition() -> dict[str, Any]:
    """The stack's definition: tables, queues and bucket, as Terraform reads it, too."""
    text = resources.files("roost.storage.aws").joinpath("stack.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def roles() -> dict[str, Any]:
    """What each role may do on which part of a stack, as Terraform grants it."""
    text = resources.files("roost.storage.aws").joinpath("roles.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@dataclass(frozen=True, slots=True)
class Names:
    """What the resources of one stack are called.

    Attributes:
        stack: prefix of all names.
        bucket: global in S3, so it is not made of the stack's name alone.
        shards: over how many keys a hot index partition is spread. Rows that were written
            under another count stay where they are, so it may be raised, never lowered.
    """

    stack: str
    bucket: str
    shards: int

    @property
    def journal(self) -> str:
        """The journal table."""
        return f"{self.stack}-journal"

    @property
    def index(self) -> str:
        """The index table."""
        return f"{self.stack}-index"

    @property
    def claims(self) -> str:
        """The claims table."""
        return f"{self.stack}-claims"

    def queue(self, lane: Lane) -> str:
        """The queue of a lane."""
        return f"{self.stack}-{lane.value}"

    @property
    def dead_letters(self) -> str:
        """The dead-letter queue of all lanes."""
        return f"{self.stack}-{definition()['queues']['dead_letter']}"


def shard_of(work_id: str, shards: int) -> int:
    """The shard of a work id: the same in every process and for ever."""
    return zlib.crc32(work_id.encode()) % shards


def state_key(namespace: str, state: State, shard: int) -> str:
    """Partition key of the index `state`: rows of one namespace in one state."""
    return f"{namespace}{NAMESPACE_MARK}{state.value}{_SHARD_MARK}{shard}"


def due_key(shard: int) -> str:
    """Partition key of the index `due`: all namespaces, since any worker sweeps for all."""
    return f"due{_SHARD_MARK}{shard}"


def blob_key(digest: str) -> str:
    """Key of a blob in the bucket."""
    return f"{definition()['bucket']['blob_prefix']}{digest[:2]}/{digest}"
