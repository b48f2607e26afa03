"""The AWS backend: SQS deliveries, DynamoDB journal, index and claims, S3 artifacts."""

from __future__ import annotations

from typing import Protocol

from roost.clock import Clock
from roost.config import AwsSettings, WorkerSettings
from roost.errors import SettingsError
from roost.storage.ports import Backend

__all__ = ["open_aws", "open_url"]

_SPARE_CONNECTIONS = 16  # for the heartbeat, the sweeper and the polls, beside one for each lane


class HasAws(Protocol):
    """What this backend needs of the settings."""

    aws: AwsSettings
    worker: WorkerSettings


async def open_aws(settings: AwsSettings, *, clock: Clock | None = None, connections: int = 50) -> Backend:
    """Open a stack; see `backend.open_aws`."""
    try:
        from roost.storage.aws.backend import open_aws as open_it
    except ModuleNotFoundError as error:
        if error.name not in ("aioboto3", "botocore"):
            raise
        raise SettingsError(
            "storage `aws` needs the AWS SDK, which is not installed",
            hint="pip install 'roost-runtime[aws]'",
        ) from None
    return await open_it(settings, clock=clock, connections=connections)


async def open_url(url: str, settings: HasAws, clock: Clock) -> Backend:
    """The entry point of scheme `aws`: `aws` is the stack of the settings, `aws:NAME` another one."""
    stack = url.partition(":")[2]
    chosen = settings.aws
    if stack:
        chosen = AwsSettings.model_validate({**chosen.model_dump(), "stack": stack})
    return await open_aws(chosen, clock=clock, connections=settings.worker.concurrency + _SPARE_CONNECTIONS)
