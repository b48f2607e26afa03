"""All ports of one stack, opened together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from roost.clock import Clock, SystemClock, SystemIds
from roost.config import AwsSettings
from roost.errors import StorageError
from roost.storage.aws.accounts import AwsAccounts
from roost.storage.aws.admin import default_bucket
from roost.storage.aws.artifacts import AwsArtifacts
from roost.storage.aws.claims import AwsClaims
from roost.storage.aws.clients import Aws, Clients
from roost.storage.aws.doctor import check_stack
from roost.storage.aws.faults import Met, Patience
from roost.storage.aws.index import AwsIndex
from roost.storage.aws.journal import AwsJournal
from roost.storage.aws.limits import INLINE_MAX_BYTES, SWEEP_SECONDS
from roost.storage.aws.names import Names
from roost.storage.aws.queue import AwsQueue
from roost.storage.ports import Finding


class AwsBackend:
    """`ports.Backend`; made by `open_aws`."""

    projects_on_append = False
    inline_max_bytes = INLINE_MAX_BYTES
    sweep_seconds = SWEEP_SECONDS

    def __init__(self, aws: Aws, *, appends_in_flight: int) -> None:
        self.aws = aws
        self.url = f"aws:{aws.names.stack}"
        self.index = AwsIndex(aws)
        self.accounts = AwsAccounts(aws)
        self.journal = AwsJournal(aws, self.index, self.accounts, in_flight=appends_in_flight)
        self.claims = AwsClaims(aws)
        self.queue = AwsQueue(aws)
        self.artifacts = AwsArtifacts(aws, partial(default_bucket, aws.clients, aws.names.stack))

    async def check(self) -> Sequence[Finding]:
        """What `roost doctor` shows of this stack."""
        with suppress(StorageError):  # no credentials: that is what it finds
            names = replace(self.aws.names, bucket=await self.artifacts.bucket())
            return await check_stack(replace(self.aws, names=names), self.artifacts)
        return await check_stack(self.aws, self.artifacts)

    def tell_faults(self, told: Callable[[str], None]) -> None:
        """See `ports.TellsFaults`."""
        self.aws.patience.met.told = told

    async def close(self) -> None:
        """Give back what was received and not yet handed over, then close the connections."""
        await self.journal.close()
        await self.queue.close()
        await self.aws.clients.close()


async def open_aws(settings: AwsSettings, *, clock: Clock | None = None, connections: int = 50) -> AwsBackend:
    """Open a stack. No call is made.

    Args:
        connections: that each service's client may hold at a time.
    """
    met = Met()
    clients = Clients(connections, met)
    clock, ids = clock or SystemClock(), SystemIds()
    names = Names(settings.stack, settings.bucket or "", settings.shards)
    aws = Aws(clients, names, Patience(clock, ids, met), clock, ids)
    return AwsBackend(aws, appends_in_flight=settings.appends_in_flight)
