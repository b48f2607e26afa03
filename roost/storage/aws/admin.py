"""Make, describe and destroy a stack's tables, queues and bucket, from the definition in `stack.json`.

For development and tests. In production Terraform makes the same from the same file.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from roost.clock import SystemClock
from roost.config import AwsSettings
from roost.models import Lane
from roost.storage.aws.clients import Clients
from roost.storage.aws.faults import code_of, storage_errors
from roost.storage.aws.names import Names, definition

_GONE = frozenset(
    {
        "ResourceNotFoundException",
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "NoSuchBucket",
        "404",
    }
)
_STANDS = frozenset({"ResourceInUseException", "BucketAlreadyOwnedByYou"})
PUBLIC_ACCESS_BLOCK = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)
_CONNECTIONS = 16
# "After you create a queue, you must wait at least one second after the queue is created to be
# able to use the queue" (SQS API reference, "CreateQueue")
_NEW_TRIES = 10
_NEW_PAUSE_SECONDS = 0.5
_DELETE_BATCH = 1000  # S3 API reference, "DeleteObjects": up to 1,000 keys a call


@dataclass(frozen=True, slots=True)
class Resource:
    """One part of a stack.

    Attributes:
        kind: `table`, `queue` or `bucket`.
        address: its ARN, or its URL for a queue.
    """

    kind: str
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a stack as it is found; `address` None: it is not there."""

    kind: str
    name: str
    address: str | None
    detail: str = "missing"


@asynccontextmanager
async def opened_stack(settings: AwsSettings) -> AsyncIterator[tuple[Clients, Names]]:
    """Clients and names for the stack of the settings, which need not be there yet.

    Raises:
        StorageError: no region, no credentials.
    """
    clients = Clients(_CONNECTIONS)
    try:
        bucket = settings.bucket or await default_bucket(clients, settings.stack)
        yield clients, Names(settings.stack, bucket, settings.shards)
    finally:
        await clients.close()


async def default_bucket(clients: Clients, stack: str) -> str:
    """The bucket's name where none is set: unique by account and region.

    Raises:
        StorageError: the account can't be found out.
    """
    sts = await clients.get("sts")
    with storage_errors("GetCallerIdentity"):
        account = (await sts.get_caller_identity())["Account"]
    return f"{stack}-{account}-{clients.region or 'us-east-1'}"


def table_arguments(names: Names, which: str) -> dict[str, Any]:
    """The arguments of `CreateTable` for `journal`, `index` or `claims`."""
    table = definition()["tables"][which]
    keys = [table["key"], *(index["key"] for index in table["indexes"].values())]
    types = {part["name"]: part["type"] for key in keys for part in key}
    arguments: dict[str, Any] = {
        "TableName": getattr(names, which),
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind} for name, kind in types.items()
        ],
        "KeySchema": _key_schema(table["key"]),
    }
    if table["indexes"]:
        arguments["GlobalSecondaryIndexes"] = [
            {
                "IndexName": name,
                "KeySchema": _key_schema(index["key"]),
                "Projection": {"ProjectionType": index["projection"]},
            }
            for name, index in table["indexes"].items()
        ]
    if stream := table["stream"]:
        arguments["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": stream}
    return arguments


def _key_schema(key: list[dict[str, str]]) -> list[dict[str, str]]:
    kinds = ("HASH", "RANGE")
    return [{"AttributeName": part["name"], "KeyType": kind} for part, kind in zip(key, kinds, strict=False)]


def queue_attributes(dead_letter_arn: str | None) -> dict[str, str]:
    """The attributes of a lane's queue, or of the dead-letter queue (None)."""
    queues = definition()["queues"]
    if dead_letter_arn is None:
        return {"MessageRetentionPeriod": str(queues["dead_letter_retention_seconds"])}
    redrive = {"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": queues["max_receive_count"]}
    return {
        "MessageRetentionPeriod": str(queues["retention_seconds"]),
        "VisibilityTimeout": str(queues["visibility_seconds"]),
        "ReceiveMessageWaitTimeSeconds": str(queues["receive_wait_seconds"]),
        "RedrivePolicy": json.dumps(redrive, separators=(",", ":")),
    }


async def create_stack(clients: Clients, names: Names) -> Sequence[Resource]:
    """Make what is not there yet; idempotent.

    Raises:
        StorageError: a permission is missing, or a name is taken by somebody else.
    """
    tables = [_create_table(clients, names, which) for which in definition()["tables"]]
    made = await asyncio.gather(*tables, _create_queues(clients, names), _create_bucket(clients, names))
    return [resource for part in made for resource in part]


async def _create_table(clients: Clients, names: Names, which: str) -> Sequence[Resource]:
    dynamodb = await clients.get("dynamodb")
    arguments = table_arguments(names, which)
    name = arguments["TableName"]
    with storage_errors(f"CreateTable {name}"):
        is_new = True
        try:
            await dynamodb.create_table(**arguments)
        except ClientError as error:
            if code_of(error) not in _STANDS:
                raise
            is_new = False
        described = await _wait_for_table(dynamodb, name)
        wanted = arguments.get("StreamSpecification")
        if wanted and not described.get("StreamSpecification", {}).get("StreamEnabled"):
            await dynamodb.update_table(TableName=name, StreamSpecification=wanted)  # a restored one has none
            await _wait_for_table(dynamodb, name)
        attribute = definition()["tables"][which]["time_to_live"]
        if attribute is not None and (is_new or await _has_no_time_to_live(dynamodb, name)):
            specification = {"Enabled": True, "AttributeName": attribute}
            await dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=specification)
    return [Resource("table", name, described["TableArn"])]


async def _has_no_time_to_live(dynamodb: Any, table: str) -> bool:
    """As a restored table. What is on by another attribute is left: `roost doctor` says what to do."""
    found = await dynamodb.describe_time_to_live(TableName=table)
    return bool(found["TimeToLiveDescription"]["TimeToLiveStatus"] == "DISABLED")


async def _wait_for_table(dynamodb: Any, name: str) -> dict[str, Any]:
    """The table's description once it is active; "DescribeTable" may not know a new one yet."""
    try:
        described = await _described(dynamodb, name)
        if described["TableStatus"] == "ACTIVE":
            return described
    except ClientError as error:
        _raise_unless_gone(error)
    await dynamodb.get_waiter("table_exists").wait(
        TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    return await _described(dynamodb, name)


async def _described(dynamodb: Any, name: str) -> dict[str, Any]:
    described: dict[str, Any] = (await dynamodb.describe_table(TableName=name))["Table"]
    return described


async def _create_queues(clients: Clients, names: Names) -> Sequence[Resource]:
    """The dead-letter queue first: the others name it."""
    sqs = await clients.get("sqs")

    async def create(name: str, dead_letter_arn: str | None) -> Resource:
        with storage_errors(f"CreateQueue {name}"):
            made = await sqs.create_queue(QueueName=name, Attributes=queue_attributes(dead_letter_arn))
        return Resource("queue", name, made["QueueUrl"])

    dead = await create(names.dead_letters, None)
    with storage_errors(f"GetQueueAttributes {names.dead_letters}"):
        found = await _when_known(
            lambda: sqs.get_queue_attributes(QueueUrl=dead.address, AttributeNames=["QueueArn"])
        )
    arn = found["Attributes"]["QueueArn"]
    return [dead, *await asyncio.gather(*(create(names.queue(lane), arn) for lane in Lane))]


async def _when_known(call: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """The answer about what was just made, once the service knows of it."""
    clock = SystemClock()
    for _ in range(_NEW_TRIES - 1):
        try:
            return await call()
        except ClientError as error:
            _raise_unless_gone(error)
        await clock.sleep(_NEW_PAUSE_SECONDS)
    return await call()


async def _create_bucket(clients: Clients, names: Names) -> Sequence[Resource]:
    s3 = await clients.get("s3")
    arguments: dict[str, Any] = {"Bucket": names.bucket}
    region = clients.region or "us-east-1"
    if region != "us-east-1":  # S3 API reference, "CreateBucket": the one region that must not be named
        arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
    with storage_errors(f"CreateBucket {names.bucket}"):
        try:
            await s3.create_bucket(**arguments)
        except ClientError as error:
            if code_of(error) not in _STANDS:
                raise
        await s3.put_public_access_block(
            Bucket=names.bucket,
            PublicAccessBlockConfiguration=PUBLIC_ACCESS_BLOCK,
        )
        rules = await _life_cycle(s3, names.bucket)
        if not any("AbortIncompleteMultipartUpload" in rule for rule in rules):
            await s3.put_bucket_lifecycle_configuration(
                Bucket=names.bucket, LifecycleConfiguration={"Rules": [*rules, _abort_rule()]}
            )
    return [Resource("bucket", names.bucket, _bucket_arn(names.bucket))]


async def _life_cycle(s3: Any, bucket: str) -> list[dict[str, Any]]:
    """The rules that stand: a new configuration takes the place of all of them."""
    try:
        found = await s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    except ClientError as error:
        if code_of(error) != "NoSuchLifecycleConfiguration":
            raise
        return []
    return list(found.get("Rules", []))


def _bucket_arn(name: str) -> str:
    return f"arn:aws:s3:::{name}"


def _abort_rule() -> dict[str, Any]:
    days = definition()["bucket"]["abort_incomplete_uploads_days"]
    return {
        "ID": "abort-incomplete-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
    }


async def describe_stack(clients: Clients, names: Names) -> Sequence[Part]:
    """Every part that a stack should have, and what is there of it."""
    parts = [_describe_table(clients, getattr(names, which)) for which in definition()["tables"]]
    queues = [names.queue(lane) for lane in Lane] + [names.dead_letters]
    parts += [_describe_queue(clients, name) for name in queues]
    parts.append(_describe_bucket(clients, names.bucket))
    return await asyncio.gather(*parts)


async def _describe_table(clients: Clients, name: str) -> Part:
    dynamodb = await clients.get("dynamodb")
    with storage_errors(f"DescribeTable {name}"):
        try:
            found = await _described(dynamodb, name)
        except ClientError as error:
            _raise_unless_gone(error)
            return Part("table", name, None)
    size = f"about {found.get('ItemCount', 0)} items, {found.get('TableSizeBytes', 0)} bytes"
    return Part("table", name, found["TableArn"], f"{found['TableStatus'].lower()}, {size}")


async def _describe_queue(clients: Clients, name: str) -> Part:
    sqs = await clients.get("sqs")
    with storage_errors(f"GetQueueAttributes {name}"):
        try:
            url = (await sqs.get_queue_url(QueueName=name))["QueueUrl"]
            answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        except ClientError as error:
            _raise_unless_gone(error)
            return Part("queue", name, None)
    number = {
        word: answer["Attributes"].get(f"ApproximateNumberOfMessages{attribute}", "0")
        for word, attribute in (("waiting", ""), ("in hand", "NotVisible"), ("delayed", "Delayed"))
    }
    return Part("queue", name, url, "about " + ", ".join(f"{count} {word}" for word, count in number.items()))


async def _describe_bucket(clients: Clients, name: str) -> Part:
    s3 = await clients.get("s3")
    with storage_errors(f"HeadBucket {name}"):
        try:
            await s3.head_bucket(Bucket=name)
        except ClientError as error:
            _raise_unless_gone(error)
            return Part("bucket", name, None)
    return Part("bucket", name, _bucket_arn(name), "there")


async def destroy_stack(clients: Clients, names: Names) -> Sequence[str]:
    """Delete all that belongs to a stack, with what is in it; idempotent.

    Returns:
        The names of what was there.
    """
    parts = [_delete_table(clients, getattr(names, which)) for which in definition()["tables"]]
    queues = [names.queue(lane) for lane in Lane] + [names.dead_letters]
    parts += [_delete_queue(clients, name) for name in queues]
    parts.append(_delete_bucket(clients, names.bucket))
    return [name for name in await asyncio.gather(*parts) if name is not None]


async def _delete_table(clients: Clients, name: str) -> str | None:
    dynamodb = await clients.get("dynamodb")
    with storage_errors(f"DeleteTable {name}"):
        try:
            await dynamodb.delete_table(TableName=name)
        except ClientError as error:
            _raise_unless_gone(error)
            return None
    return name


async def _delete_queue(clients: Clients, name: str) -> str | None:
    sqs = await clients.get("sqs")
    with storage_errors(f"DeleteQueue {name}"):
        try:
            await sqs.delete_queue(QueueUrl=(await sqs.get_queue_url(QueueName=name))["QueueUrl"])
        except ClientError as error:
            _raise_unless_gone(error)
            return None
    return name


async def _delete_bucket(clients: Clients, name: str) -> str | None:
    s3 = await clients.get("s3")
    with storage_errors(f"DeleteBucket {name}"):
        try:
            await _empty_bucket(s3, name)
            await s3.delete_bucket(Bucket=name)
        except ClientError as error:
            _raise_unless_gone(error)
            return None
    return name


async def _empty_bucket(s3: Any, name: str) -> None:
    async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        for start in range(0, len(keys), _DELETE_BATCH):
            batch = keys[start : start + _DELETE_BATCH]
            await s3.delete_objects(Bucket=name, Delete={"Objects": batch, "Quiet": True})


def _raise_unless_gone(error: ClientError) -> None:
    """Nothing for what is not there; other errors go on."""
    if code_of(error) not in _GONE:
        raise error
