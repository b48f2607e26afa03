"""The worker as a function behind SQS: `roost.hosting.lambda_worker.handler`.

An invocation is given a batch of deliveries. For each it runs the session that a worker
process would run: claim, step on and on, settle. When the function's time is nearly over,
sessions hand over at their next commit, and steps that still run are abandoned; another
invocation goes on from the last commit. A heartbeat keeps the leases meanwhile, so a
function that dies is followed after a lease and not after the queue's visibility timeout.

A step that had (nearly) a whole invocation and did not end fails with a timeout, since the
next one would give it no more.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from roost.core.parts import CoreSettings
from roost.core.worker import ABANDON_SECONDS, Worker
from roost.errors import InputError
from roost.hosting.container import Container, LambdaContext, remaining_seconds
from roost.hosting.handed import HandedBackend
from roost.storage.aws import backend as _preloaded  # noqa: F401  while a cold start has a whole CPU
from roost.storage.aws.messages import delivery_of, lane_of
from roost.storage.ports import Delivery
from roost.wiring import Runtime

log = logging.getLogger("roost.lambda")

REPLY_SECONDS = 1.0  # kept back for what follows the sessions
GRACE_SHARE = 0.2  # of an invocation: how long before its end sessions are told to hand over, at most
STEP_SHARE = 0.9  # of what an invocation has for its steps: how long one may take
BATCH_MAX = 10  # Lambda Developer Guide, "Using Lambda with Amazon SQS": beyond it a window is needed


@dataclass(frozen=True, slots=True)
class Handed:
    """A record of the event: `delivery` is None where the message is not one of Roost's."""

    message_id: str
    delivery: Delivery | None


@cache
def container() -> Container[Runtime]:
    """That of this process."""
    return Container(lambda runtime: runtime, actor="lambda-worker", has_engines=True)


@cache
def _threads() -> ThreadPoolExecutor:
    """For engines that are plain functions; one thread for each delivery of a batch."""
    return ThreadPoolExecutor(BATCH_MAX, thread_name_prefix="roost-step")


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run a batch.

    Args:
        event: of an SQS event source (Lambda Developer Guide, "Using Lambda with Amazon SQS").

    Returns:
        `batchItemFailures`: the messages that Lambda is to leave in the queue. The event
        source needs `ReportBatchItemFailures`, else these would be deleted, and the sweeper
        would have to send them again.
    """
    handed = [*_records(event)]

    async def use(runtime: Runtime) -> list[str]:
        return await run_batch(runtime, handed, context)

    failures = container().run(use)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failures]}


async def run_batch(runtime: Runtime, handed: Sequence[Handed], context: LambdaContext) -> list[str]:
    """Run the sessions of a batch within the time that the invocation has.

    Returns:
        The ids of messages that are not done.
    """
    backend = HandedBackend(runtime.backend)
    seconds = max(0.0, remaining_seconds(context) - REPLY_SECONDS)
    settings = _settings(runtime.parts.settings, seconds)
    step_seconds = round(STEP_SHARE * max(1.0, seconds - ABANDON_SECONDS), 1)
    assert runtime.engines is not None
    worker = Worker(
        replace(runtime.parts, backend=backend, settings=settings),
        runtime.engines.limited(step_seconds),
        _worker_id(context),
        executor=_threads(),
    )
    deliveries = [record.delivery for record in handed if record.delivery is not None]
    await worker.run_batch(deliveries, seconds=seconds)
    done = backend.handed.done
    return [
        record.message_id
        for record in handed
        if record.delivery is None or record.delivery.receipt not in done
    ]


def _settings(settings: CoreSettings, seconds: float) -> CoreSettings:
    """A grace period that leaves short invocations time to work."""
    return replace(settings, grace_seconds=min(settings.grace_seconds, GRACE_SHARE * seconds))


def _worker_id(context: LambdaContext) -> str:
    """Of one invocation: two never hold leases under one name."""
    return f"{os.environ.get('AWS_LAMBDA_FUNCTION_NAME', 'lambda')[:60]}-{context.aws_request_id}"


def _records(event: dict[str, Any]) -> Iterator[Handed]:
    for record in event["Records"]:
        message_id = str(record["messageId"])
        try:
            yield Handed(message_id, _delivery(record))
        except InputError as error:
            log.warning(
                "message %s from %s is not one of Roost's (%s); it goes to the dead letters by redrive",
                message_id,
                record.get("eventSourceARN"),
                error,
                extra={"event": "message.foreign", "message_id": message_id},
            )
            yield Handed(message_id, None)


def _delivery(record: dict[str, Any]) -> Delivery:
    """The delivery of a record.

    Raises:
        InputError: the message is not one of Roost's.
    """
    return delivery_of(
        record["body"],
        lane_of(record["eventSourceARN"]),
        receipt=record["receiptHandle"],
        received_count=int(record.get("attributes", {}).get("ApproximateReceiveCount", "1")),
    )
