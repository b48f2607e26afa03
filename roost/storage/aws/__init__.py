"""The AWS backend: SQS deliveries, DynamoDB journal, index and claims, S3 artifacts."""

from __future__ import annotations

from typing import Protocol

from pydantic import ValidationError

from roost.clock import Clock
from roost.config import AwsSettings, WorkerSettings
from roost.errors import SettingsError
from roost.storage.ports import Backend

__all__ = ["of_storage", "open_aws", "open_url"]

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


def of_storage(url: str, settings: AwsSettings) -> AwsSettings:
    """The settings of the stack that a storage's URL names: `aws` is theirs, `aws:NAME` another one.

    Raises:
        SettingsError: no stack can have that name.
    """
    scheme, _, stack = url.partition(":")
    if scheme != "aws" or not stack:
        return settings
    try:
        return AwsSettings.model_validate({**settings.model_dump(), "stack": stack})
    except ValidationError:
        raise SettingsError(
            f"no stack can be called {stack!r} (from {url!r})",
            hint="A stack's name has 1 to 40 of the characters a-z 0-9 -, and does not begin with -.",
        ) from None


async def open_url(url: str, settings: HasAws, clock: Clock) -> Backend:
    """The entry point of scheme `aws`."""
    connections = settings.worker.concurrency + _SPARE_CONNECTIONS
    return await open_aws(of_storage(url, settings.aws), clock=clock, connections=connections)
