"""Which of a worker's permissions on a stack its caller lacks.

Each is tried by a call that changes nothing: it names an item that no work item can have, a
condition that never holds, or an argument that is refused. A refusal for lack of rights says
otherwise than one for a wrong argument. What a worker needs is listed in `roles.json`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from roost.errors import ArtifactNotFound, StorageError
from roost.storage.aws.admin import table_arguments
from roost.storage.aws.clients import Aws
from roost.storage.aws.faults import DENIED, code_of, storage_errors
from roost.storage.aws.names import blob_key, definition, roles
from roost.storage.ports import ArtifactStore, Finding

_KEY = "#roost-doctor"  # no work id has the mark
_MADE = ("sqs:GetQueueUrl", "sqs:GetQueueAttributes")
_VALUES = {"S": {"S": _KEY}, "N": {"N": "0"}}
_NEVER = {
    "ConditionExpression": "attribute_exists(#never)",
    "ExpressionAttributeNames": {"#never": "never"},
}
_CONTENT = b"roost doctor\n"
_DIGEST = hashlib.sha256(_CONTENT).hexdigest()

Calls = Mapping[str, Callable[[], Awaitable[Any]]]
"""A call for each action."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A call that needs a permission and changes nothing.

    Attributes:
        part: of the stack, as `roles.json` calls it.
        resource: what a policy has to name, the end of its ARN.
    """

    part: str
    action: str
    resource: str
    call: Callable[[], Awaitable[Any]]


async def allowed(name: str, probes: Sequence[Probe]) -> Finding:
    """Which of the permissions are missing."""
    answers = await asyncio.gather(*(_is_denied(probe) for probe in probes))
    denied = [probe for probe, is_denied in zip(probes, answers, strict=True) if is_denied]
    if not denied:
        actions = dict.fromkeys(probe.action.partition(":")[2] for probe in probes)
        return Finding(f"{name} rights", True, ", ".join(actions))
    missing = ", ".join(f"{probe.action} on {probe.resource}" for probe in denied)
    advice = f"Allow in the role's policy, and let no other policy deny: {missing}. Workers need it."
    return Finding(f"{name} rights", False, f"denied: {missing}", advice)


def is_denial(error: BaseException | None) -> bool:
    """Whether it says that a right is missing."""
    if isinstance(error, StorageError):
        error = error.__cause__
    return isinstance(error, ClientError) and code_of(error) in DENIED


async def _is_denied(probe: Probe) -> bool:
    try:
        with storage_errors(probe.action):
            await probe.call()
    except (StorageError, ArtifactNotFound) as error:
        return is_denial(error)  # with another fault the call itself was let in
    return False


def _probes(part: str, resource: str, calls: Calls) -> list[Probe]:
    """One for each of a worker's actions on a part, save those that the doctor itself has made by then."""
    actions = roles()["roles"]["worker"][part]
    return [Probe(part, action, resource, calls[action]) for action in actions if action not in _MADE]


def of_table(aws: Aws, dynamodb: Any, which: str) -> list[Probe]:
    """Those on a table and its indexes."""
    wanted = table_arguments(aws.names, which)
    table = wanted["TableName"]
    types = {item["AttributeName"]: item["AttributeType"] for item in wanted["AttributeDefinitions"]}
    key = {part["AttributeName"]: _VALUES[types[part["AttributeName"]]] for part in wanted["KeySchema"]}
    delete = {table: [{"DeleteRequest": {"Key": key}}]}
    calls: Calls = {
        "dynamodb:BatchGetItem": partial(dynamodb.batch_get_item, RequestItems={table: {"Keys": [key]}}),
        "dynamodb:BatchWriteItem": partial(dynamodb.batch_write_item, RequestItems=delete),
        "dynamodb:DeleteItem": partial(dynamodb.delete_item, TableName=table, Key=key, **_NEVER),
        "dynamodb:GetItem": partial(dynamodb.get_item, TableName=table, Key=key),
        "dynamodb:PartiQLInsert": partial(_insert, dynamodb, table),
        "dynamodb:PutItem": partial(dynamodb.put_item, TableName=table, Item=key, **_NEVER),
        "dynamodb:Query": partial(_query, dynamodb, table, None, wanted["KeySchema"]),
        "dynamodb:UpdateItem": partial(dynamodb.update_item, TableName=table, Key=key, **_NEVER),
    }
    probes = _probes(which, f"table/{table}", calls)
    for index in wanted.get("GlobalSecondaryIndexes", []):
        name = index["IndexName"]
        call = partial(_query, dynamodb, table, name, index["KeySchema"])
        probes += _probes(f"{which}/{name}", f"table/{table}/index/{name}", {"dynamodb:Query": call})
    return probes


async def _query(dynamodb: Any, table: str, index: str | None, schema: Sequence[dict[str, str]]) -> None:
    await dynamodb.query(
        TableName=table,
        KeyConditionExpression="#hash = :hash",
        ExpressionAttributeNames={"#hash": schema[0]["AttributeName"]},
        ExpressionAttributeValues={":hash": {"S": _KEY}},
        Limit=1,
        **({} if index is None else {"IndexName": index}),
    )


async def _insert(dynamodb: Any, table: str) -> None:
    """Refused, as it lacks the half of its key."""
    statement = f"INSERT INTO \"{table}\" VALUE {{'work': ?}}"
    await dynamodb.execute_statement(Statement=statement, Parameters=[{"S": _KEY}])


def of_queue(sqs: Any, part: str, queue: str, url: str) -> list[Probe]:
    """Those on a queue. A message that is there is received, and is visible again at once.

    Args:
        part: `lanes` or `dead_letters`.
    """
    handle = {"QueueUrl": url, "ReceiptHandle": _KEY}
    one_at_once = {"MaxNumberOfMessages": 1, "VisibilityTimeout": 0, "WaitTimeSeconds": 0}
    calls: Calls = {
        "sqs:ChangeMessageVisibility": partial(sqs.change_message_visibility, **handle, VisibilityTimeout=0),
        "sqs:DeleteMessage": partial(sqs.delete_message, **handle),
        "sqs:ReceiveMessage": partial(sqs.receive_message, QueueUrl=url, **one_at_once),
        "sqs:SendMessage": partial(sqs.send_message, QueueUrl=url, MessageBody=""),
    }
    return _probes(part, queue, calls)


def of_bucket(aws: Aws, s3: Any, artifacts: ArtifactStore) -> list[Probe]:
    """Those on the bucket."""
    bucket = aws.names.bucket
    prefix = definition()["bucket"]["blob_prefix"]
    abort = partial(s3.abort_multipart_upload, Bucket=bucket, Key=f"{prefix}{_KEY}", UploadId=_KEY)
    blobs: Calls = {
        "s3:AbortMultipartUpload": abort,
        "s3:GetObject": partial(_read_blob, artifacts),
        "s3:PutObject": partial(
            s3.put_object, Bucket=bucket, Key=blob_key(_DIGEST), Body=_CONTENT, IfNoneMatch="*"
        ),
    }
    listing = {"s3:ListBucket": partial(s3.list_objects_v2, Bucket=bucket, MaxKeys=1)}
    return [*_probes("blobs", f"{bucket}/{prefix}*", blobs), *_probes("bucket", bucket, listing)]


async def put_and_read_blob(artifacts: ArtifactStore) -> None:
    """Write the one small blob, once for all, and read it back; its digest is verified."""
    await artifacts.put([_CONTENT])
    await _read_blob(artifacts)


async def _read_blob(artifacts: ArtifactStore) -> None:
    async for _ in artifacts.read(_DIGEST):
        pass
