"""What `roost doctor` says of a stack: is it there, is it as defined, may we use it.

Nothing is changed but one small blob. A permission is tried by a call that can't
succeed: a refusal for lack of rights says otherwise than one for a wrong argument.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from roost.errors import RoostError, StorageError
from roost.models import Lane
from roost.storage.aws.admin import queue_attributes, table_arguments
from roost.storage.aws.clients import Aws
from roost.storage.aws.faults import DENIED, code_of, storage_errors
from roost.storage.aws.names import definition
from roost.storage.ports import ArtifactStore, Finding

SKEW_MAX_SECONDS = 60.0  # AWS refuses signatures that are five minutes off (IAM User Guide, "Signature V4")
_KEY = "roost-doctor"


@dataclass(frozen=True, slots=True)
class _Probe:
    """A call that needs a permission and changes nothing."""

    action: str
    call: Callable[[], Awaitable[Any]]


async def check_stack(aws: Aws, artifacts: ArtifactStore) -> Sequence[Finding]:
    """All findings; none of them raises."""
    identity = await _guarded("credentials", lambda: _identity(aws))
    if not identity[0].is_ok:
        return identity
    tables = [
        _guarded(f"table {getattr(aws.names, which)}", partial(_table, aws, which))
        for which in definition()["tables"]
    ]
    queues = [_guarded(f"queue {aws.names.queue(lane)}", partial(_queue, aws, lane)) for lane in Lane]
    dead = _guarded(f"queue {aws.names.dead_letters}", lambda: _dead_letters(aws))
    bucket = _guarded(f"bucket {aws.names.bucket}", lambda: _bucket(aws, artifacts))
    found = await asyncio.gather(*tables, *queues, dead, bucket)
    return [*identity, *(finding for part in found for finding in part)]


async def _guarded(name: str, check: Callable[[], Awaitable[Sequence[Finding]]]) -> Sequence[Finding]:
    """What `check` finds; an error is a finding, too."""
    try:
        with storage_errors(name):
            return await check()
    except RoostError as error:
        return [Finding(name, False, str(error), error.hint)]


async def _identity(aws: Aws) -> Sequence[Finding]:
    sts = await aws.clients.get("sts")
    answer = await sts.get_caller_identity()
    found = [Finding("credentials", True, f"{answer['Arn']} in {aws.clients.region}")]
    date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    if date is not None:
        skew = aws.clock.now() - parsedate_to_datetime(date).timestamp()
        is_ok = abs(skew) <= SKEW_MAX_SECONDS
        hint = "" if is_ok else "Set the clock, for example with chrony; AWS refuses signatures that are off."
        found.append(Finding("clock", is_ok, f"{skew:+.0f} s from that of AWS", hint))
    return found


# --- tables ------------------------------------------------------------------


async def _table(aws: Aws, which: str) -> Sequence[Finding]:
    dynamodb = await aws.clients.get("dynamodb")
    wanted = table_arguments(aws.names, which)
    name = f"table {wanted['TableName']}"
    found = (await dynamodb.describe_table(TableName=wanted["TableName"]))["Table"]
    faults = _table_faults(wanted, found) + await _time_to_live(dynamodb, wanted["TableName"])
    return [
        _finding(name, faults, f"{found['TableStatus'].lower()}, about {found.get('ItemCount', 0)} items"),
        await _allowed(name, _table_probes(dynamodb, wanted)),
    ]


async def _time_to_live(dynamodb: Any, table: str) -> list[str]:
    """A fault if DynamoDB deletes items by itself: work ends by a sweep, see `expiry.py`."""
    try:
        answer = await dynamodb.describe_time_to_live(TableName=table)
    except ClientError as error:
        if code_of(error) in DENIED:  # a worker does not need that right
            return []
        raise
    described = answer.get("TimeToLiveDescription", {})
    if described.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
        return []
    return [f"its time to live is on, by {described.get('AttributeName')!r}: that may delete live work"]


def _table_faults(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """How a table differs from its definition."""
    faults = []
    if found["TableStatus"] not in ("ACTIVE", "UPDATING"):
        faults.append(f"it is {found['TableStatus'].lower()}")
    if found["KeySchema"] != wanted["KeySchema"]:
        faults.append("its key is another")
    indexes = {index["IndexName"]: index for index in found.get("GlobalSecondaryIndexes", [])}
    for index in wanted.get("GlobalSecondaryIndexes", []):
        name = index["IndexName"]
        standing = indexes.get(name)
        if standing is None:
            faults.append(f"index `{name}` is missing")
        elif standing["KeySchema"] != index["KeySchema"]:
            faults.append(f"index `{name}` has another key")
        elif standing["Projection"]["ProjectionType"] != index["Projection"]["ProjectionType"]:
            faults.append(f"index `{name}` does not project {index['Projection']['ProjectionType']}")
        elif standing.get("IndexStatus", "ACTIVE") != "ACTIVE":
            faults.append(f"index `{name}` is {standing['IndexStatus'].lower()}")
    stream = found.get("StreamSpecification", {})
    view = wanted.get("StreamSpecification", {}).get("StreamViewType")
    if view is not None and (not stream.get("StreamEnabled") or stream.get("StreamViewType") != view):
        faults.append(f"its stream of {view} is off")
    return faults


def _table_probes(dynamodb: Any, wanted: Mapping[str, Any]) -> list[_Probe]:
    name = wanted["TableName"]
    types = {item["AttributeName"]: item["AttributeType"] for item in wanted["AttributeDefinitions"]}
    values = {"S": {"S": _KEY}, "N": {"N": "0"}}
    key = {part["AttributeName"]: values[types[part["AttributeName"]]] for part in wanted["KeySchema"]}
    hash_name = wanted["KeySchema"][0]["AttributeName"]
    never = {
        "ConditionExpression": "attribute_exists(#never)",
        "ExpressionAttributeNames": {"#never": "never"},
    }
    query = {
        "TableName": name,
        "KeyConditionExpression": "#hash = :hash",
        "ExpressionAttributeNames": {"#hash": hash_name},
        "ExpressionAttributeValues": {":hash": key[hash_name]},
        "Limit": 1,
    }
    return [
        _Probe("dynamodb:GetItem", lambda: dynamodb.get_item(TableName=name, Key=key)),
        _Probe("dynamodb:Query", lambda: dynamodb.query(**query)),
        _Probe("dynamodb:PutItem", lambda: dynamodb.put_item(TableName=name, Item=key, **never)),
        _Probe("dynamodb:UpdateItem", lambda: dynamodb.update_item(TableName=name, Key=key, **never)),
        _Probe("dynamodb:DeleteItem", lambda: dynamodb.delete_item(TableName=name, Key=key, **never)),
    ]


# --- queues ------------------------------------------------------------------


async def _queue(aws: Aws, lane: Lane) -> Sequence[Finding]:
    sqs = await aws.clients.get("sqs")
    queue = aws.names.queue(lane)
    url = (await sqs.get_queue_url(QueueName=queue))["QueueUrl"]
    found = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
    arn = json.loads(found.get("RedrivePolicy", "{}")).get("deadLetterTargetArn", "")
    wanted = queue_attributes(arn)
    faults = [
        f"{name} is {found.get(name)}, not {value}"
        for name, value in wanted.items()
        if name not in ("RedrivePolicy", "VisibilityTimeout") and found.get(name) != value
    ]
    if int(found["VisibilityTimeout"]) < int(wanted["VisibilityTimeout"]):  # Lambda needs a longer one
        faults.append(
            f"VisibilityTimeout is {found['VisibilityTimeout']}, below {wanted['VisibilityTimeout']}"
        )
    faults += _redrive_faults(json.loads(found.get("RedrivePolicy", "{}")), aws.names.dead_letters)
    waiting = found.get("ApproximateNumberOfMessages", "0")
    return [
        _finding(f"queue {queue}", faults, f"about {waiting} messages wait"),
        await _allowed(f"queue {queue}", _queue_probes(sqs, url)),
    ]


def _redrive_faults(policy: Mapping[str, Any], dead_letters: str) -> list[str]:
    wanted = definition()["queues"]["max_receive_count"]
    if not policy:
        return ["it has no redrive policy: what is not ours comes back for ever"]
    faults = []
    if not str(policy.get("deadLetterTargetArn", "")).endswith(f":{dead_letters}"):
        faults.append(f"its dead letters go to {policy.get('deadLetterTargetArn')}, not {dead_letters}")
    if int(policy.get("maxReceiveCount", 0)) < wanted:
        faults.append(
            f"maxReceiveCount is {policy.get('maxReceiveCount')}, below {wanted}: "
            "work that meets busy leases would end as a dead letter"
        )
    return faults


def _queue_probes(sqs: Any, url: str) -> list[_Probe]:
    handle = {"QueueUrl": url, "ReceiptHandle": _KEY}
    return [
        _Probe("sqs:DeleteMessage", lambda: sqs.delete_message(**handle)),
        _Probe(
            "sqs:ChangeMessageVisibility",
            lambda: sqs.change_message_visibility(**handle, VisibilityTimeout=0),
        ),
        _Probe("sqs:SendMessage", lambda: sqs.send_message(QueueUrl=url, MessageBody="")),
    ]


async def _dead_letters(aws: Aws) -> Sequence[Finding]:
    sqs = await aws.clients.get("sqs")
    queue = aws.names.dead_letters
    url = (await sqs.get_queue_url(QueueName=queue))["QueueUrl"]
    found = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
    name, value = "MessageRetentionPeriod", queue_attributes(None)["MessageRetentionPeriod"]
    faults = [] if found.get(name) == value else [f"{name} is {found.get(name)}, not {value}"]
    dead = int(found.get("ApproximateNumberOfMessages", "0"))
    return [_finding(f"queue {queue}", faults, f"{dead} dead deliveries")]


# --- bucket ------------------------------------------------------------------


async def _bucket(aws: Aws, artifacts: ArtifactStore) -> Sequence[Finding]:
    s3 = await aws.clients.get("s3")
    bucket = aws.names.bucket
    await s3.head_bucket(Bucket=bucket)
    faults = [*await _public_faults(s3, bucket), *await _life_cycle_faults(s3, bucket)]
    blob = await artifacts.put([b"roost doctor\n"])
    async for _ in artifacts.read(blob.digest):
        pass
    return [_finding(f"bucket {bucket}", faults, "a blob was written, read back and verified")]


async def _public_faults(s3: Any, bucket: str) -> list[str]:
    try:
        answer = await s3.get_public_access_block(Bucket=bucket)
    except ClientError as error:
        if code_of(error) in DENIED:
            return []  # a worker need not see it
        return ["public access is not blocked"]
    block = answer["PublicAccessBlockConfiguration"]
    return [] if block and all(block.values()) else ["public access is not fully blocked"]


async def _life_cycle_faults(s3: Any, bucket: str) -> list[str]:
    """A rule that deletes blobs would take snapshots of live work with it."""
    try:
        rules = (await s3.get_bucket_lifecycle_configuration(Bucket=bucket)).get("Rules", [])
    except ClientError:
        return []  # none is set, or a worker need not see it
    prefix = definition()["bucket"]["blob_prefix"]
    return [
        f"life-cycle rule {rule.get('ID', '?')!r} deletes blobs, also those of live work"
        for rule in rules
        if rule.get("Status") == "Enabled" and "Expiration" in rule and _reaches(rule, prefix)
    ]


def _reaches(rule: Mapping[str, Any], prefix: str) -> bool:
    """Whether a rule is about keys that begin with `prefix`, tags apart."""
    criteria = rule.get("Filter", {})
    criteria = criteria.get("And", criteria)
    if "Tag" in criteria or criteria.get("Tags"):
        return False
    given = str(criteria.get("Prefix", rule.get("Prefix", "")))
    return prefix.startswith(given) or given.startswith(prefix)


# --- findings ----------------------------------------------------------------


def _finding(name: str, faults: Sequence[str], detail: str) -> Finding:
    hint = (
        "`roost aws create` makes what is missing; change the rest, or let Terraform do it." if faults else ""
    )
    return Finding(name, not faults, "; ".join(faults) or detail, hint)


async def _allowed(name: str, probes: Sequence[_Probe]) -> Finding:
    """Which of the permissions are missing."""
    answers = await asyncio.gather(*(_is_denied(probe) for probe in probes))
    denied = [probe.action for probe, is_denied in zip(probes, answers, strict=True) if is_denied]
    if denied:
        return Finding(
            f"{name} rights", False, f"denied: {', '.join(denied)}", "Add them to the role's policy."
        )
    return Finding(f"{name} rights", True, ", ".join(probe.action.partition(":")[2] for probe in probes))


async def _is_denied(probe: _Probe) -> bool:
    try:
        with storage_errors(probe.action):
            try:
                await probe.call()
            except ClientError as error:
                return code_of(error) in DENIED
    except StorageError:
        return False  # another fault; the call itself was let in
    return False
