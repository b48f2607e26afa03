"""Calls whose replies are looked at before they are believed."""

from __future__ import annotations

from typing import Any

from botocore.parsers import ResponseParserError

from roost.storage.aws.clients import SQS_ANSWER_SECONDS, Aws, Service
from roost.storage.aws.faults import storage_errors


async def ask(aws: Aws, service: Service, operation: str, has: str, **arguments: Any) -> dict[str, Any]:
    """Make a call whose every whole reply has the member `has`; may be made twice.

    The SDK takes a reply that is no JSON, such as one that was cut off, for one without
    members (botocore, `BaseJSONParser._parse_body_as_json`), so a query would seem to have
    found nothing. Here that is a lost reply, and the call is made again.

    Args:
        operation: the client's method, such as `query`.

    Raises:
        StorageError: it failed; its cause is the SDK's error.
    """

    async def call() -> dict[str, Any]:
        method = getattr(await aws.clients.get(service), operation)
        reply: dict[str, Any] = await method(**arguments)
        if has not in reply:
            raise ResponseParserError(f"the reply has no {has}")
        return reply

    about = arguments.get("TableName") or arguments.get("QueueName") or service
    what = f"{operation} of {about}"
    with storage_errors(what):
        within = SQS_ANSWER_SECONDS if service == "sqs" else None
        return await aws.patience.call(what, call, within_seconds=within)
