"""What `roost doctor` says of a stack: is it there, is it as defined, may we use it.

Nothing is changed but one small blob. Whoever may not look at a definition, as a worker may
not, is told so, and of its own permissions (`permissions.py`). Every fault comes with what to
change.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from roost.errors import RoostError, StorageError
from roost.models import Lane
from roost.storage.aws import permissions
from roost.storage.aws.admin import PUBLIC_ACCESS_BLOCK, queue_attributes, table_arguments
from roost.storage.aws.clients import Aws
from roost.storage.aws.faults import DENIED, code_of, storage_errors
from roost.storage.aws.names import Names, definition
from roost.storage.ports import ArtifactStore, Finding

SKEW_MAX_SECONDS = 60.0  # AWS refuses signatures that are five minutes off (IAM User Guide, "Signature V4")
_TERRAFORM = "or let Terraform do it"


@dataclass(frozen=True, slots=True)
class Fault:
    """How a part of the stack differs from its definition, and what to change."""

    what: str
    advice: str


async def check_stack(aws: Aws, artifacts: ArtifactStore) -> Sequence[Finding]:
    """All findings; none of them raises."""
    identity = await _guarded("credentials", lambda: _identity(aws))
    if not identity[0].is_ok:
        return identity
    tables = [
        _guarded(f"table {getattr(aws.names, which)}", partial(_table, aws, which))
        for which in definition()["tables"]
    ]
    queues = [_guarded(f"queue {aws.names.queue(lane)}", partial(_lane, aws, lane)) for lane in Lane]
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


async def _unless_denied(call: Awaitable[Any]) -> Any:
    """The answer; None if the caller may not ask that, as a worker need not."""
    try:
        return await call
    except ClientError as error:
        if code_of(error) in DENIED:
            return None
        raise


def _finding(name: str, faults: Sequence[Fault], detail: str) -> Finding:
    advice = " ".join(dict.fromkeys(fault.advice for fault in faults))
    return Finding(name, not faults, "; ".join(fault.what for fault in faults) or detail, advice)


def _unseen(name: str, action: str) -> Finding:
    """What is found of a part whose definition the caller may not see."""
    return Finding(name, True, f"not compared with its definition: that takes {action}, which workers lack")


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
    described = await _unless_denied(dynamodb.describe_table(TableName=wanted["TableName"]))
    if described is None:
        finding = _unseen(name, "dynamodb:DescribeTable")
    else:
        found = described["Table"]
        faults = [
            *_table_faults(wanted, found),
            *await _time_to_live_faults(dynamodb, wanted["TableName"], which),
        ]
        detail = f"{found['TableStatus'].lower()}, about {found.get('ItemCount', 0)} items"
        finding = _finding(name, faults, detail)
    return [finding, await permissions.allowed(name, permissions.of_table(aws, dynamodb, which))]


async def _time_to_live_faults(dynamodb: Any, table: str, which: str) -> list[Fault]:
    """How a table's time to live differs from its definition; see `deletion.py`."""
    wanted = definition()["tables"][which]["time_to_live"]
    answer = await _unless_denied(dynamodb.describe_time_to_live(TableName=table))
    if answer is None:
        return []
    described = answer["TimeToLiveDescription"]
    is_on = described["TimeToLiveStatus"] in ("ENABLED", "ENABLING")
    attribute = described.get("AttributeName") if is_on else None
    if attribute == wanted:
        return []
    if attribute is None:
        what = f"its time to live is off: what has ended stays there, by {wanted!r} it would go"
        return [Fault(what, f"`roost aws create` turns it on, {_TERRAFORM}.")]
    turns_off = (
        f"Turn it off: aws dynamodb update-time-to-live --table-name {table} "
        f"--time-to-live-specification Enabled=false,AttributeName={attribute}"
    )
    what = f"its time to live is on, by {attribute!r}: that may delete live work"
    then = (
        "" if wanted is None else f"; an hour later `roost aws create` turns it on by {wanted}, {_TERRAFORM}."
    )
    return [Fault(what, turns_off + then)]


def _table_faults(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Fault]:
    """How a table differs from its definition."""
    name = wanted["TableName"]
    if found["TableStatus"] not in ("ACTIVE", "UPDATING"):
        yield Fault(f"it is {found['TableStatus'].lower()}", "Wait until it is active, or restore it.")
    if found["KeySchema"] != wanted["KeySchema"]:
        advice = (
            f"A key can't be changed: move to a new stack, or delete {name}, and `roost aws create` makes it"
        )
        yield Fault("its key is another", f"{advice}, {_TERRAFORM}.")
    indexes = {index["IndexName"]: index for index in found.get("GlobalSecondaryIndexes", [])}
    for index in wanted.get("GlobalSecondaryIndexes", []):
        yield from _index_faults(name, index, indexes.get(index["IndexName"]))
    stream = found.get("StreamSpecification", {})
    view = wanted.get("StreamSpecification", {}).get("StreamViewType")
    if view is not None and not stream.get("StreamEnabled"):
        yield Fault(f"its stream of {view} is off", f"`roost aws create` turns it on, {_TERRAFORM}.")
    elif view is not None and stream.get("StreamViewType") != view:
        advice = f"Turn it off (aws dynamodb update-table --table-name {name} --stream-specification "
        advice += f"StreamEnabled=false), then `roost aws create` turns it on as {view}, {_TERRAFORM}."
        yield Fault(f"its stream is of {stream.get('StreamViewType')}, not {view}", advice)


def _index_faults(
    table: str, wanted: Mapping[str, Any], standing: Mapping[str, Any] | None
) -> Iterator[Fault]:
    name, projection = wanted["IndexName"], wanted["Projection"]["ProjectionType"]
    keys = " and ".join(part["AttributeName"] for part in wanted["KeySchema"])
    again = f"Delete index `{name}` of {table}, and add it again by {keys}, projecting {projection}"
    if standing is None:
        advice = (
            f"Add index `{name}` to {table} by {keys}, projecting {projection} (UpdateTable), {_TERRAFORM}."
        )
        yield Fault(f"index `{name}` is missing", advice)
    elif standing["KeySchema"] != wanted["KeySchema"]:
        yield Fault(f"index `{name}` has another key", f"{again}, {_TERRAFORM}.")
    elif standing["Projection"]["ProjectionType"] != projection:
        yield Fault(f"index `{name}` does not project {projection}", f"{again}, {_TERRAFORM}.")
    elif standing.get("IndexStatus", "ACTIVE") != "ACTIVE":
        yield Fault(f"index `{name}` is {standing['IndexStatus'].lower()}", "Wait until it is active.")


# --- queues ------------------------------------------------------------------


async def _lane(aws: Aws, lane: Lane) -> Sequence[Finding]:
    queue = aws.names.queue(lane)
    return await _queue(aws, "lanes", queue, partial(_lane_faults, aws.names))


async def _dead_letters(aws: Aws) -> Sequence[Finding]:
    return await _queue(aws, "dead_letters", aws.names.dead_letters, partial(_dead_letter_faults, aws.names))


async def _queue(
    aws: Aws, part: str, queue: str, faults: Callable[[str, Mapping[str, str]], Iterator[Fault]]
) -> Sequence[Finding]:
    sqs = await aws.clients.get("sqs")
    name, url = f"queue {queue}", (await sqs.get_queue_url(QueueName=queue))["QueueUrl"]
    answer = await _unless_denied(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))
    if answer is None:
        finding = _unseen(name, "sqs:GetQueueAttributes")
    else:
        found = answer["Attributes"]
        waiting = found.get("ApproximateNumberOfMessages", "0")
        detail = f"{waiting} dead deliveries" if part == "dead_letters" else f"about {waiting} messages wait"
        open_to_all = _policy_faults(found.get("Policy"), f"the policy of queue {queue}")
        finding = _finding(name, [*faults(url, found), *open_to_all], detail)
    return [finding, await permissions.allowed(name, permissions.of_queue(sqs, part, queue, url))]


def _lane_faults(names: Names, url: str, found: Mapping[str, str]) -> Iterator[Fault]:
    """How a lane's queue differs from its definition; Lambda needs a longer visibility timeout."""
    redrive = json.loads(found.get("RedrivePolicy", "{}"))
    wanted = queue_attributes(redrive.get("deadLetterTargetArn", ""))
    del wanted["RedrivePolicy"]
    shortest = wanted.pop("VisibilityTimeout")
    yield from _attribute_faults(url, wanted, found)
    if int(found["VisibilityTimeout"]) < int(shortest):
        what = f"VisibilityTimeout is {found['VisibilityTimeout']}, below {shortest}"
        yield Fault(what, _set(url, "VisibilityTimeout", shortest))
    own_arn = found.get("QueueArn", "")
    yield from _redrive_faults(url, redrive, f"{own_arn.rpartition(':')[0]}:{names.dead_letters}")


def _redrive_faults(url: str, policy: Mapping[str, Any], dead_letters_arn: str) -> Iterator[Fault]:
    most = definition()["queues"]["max_receive_count"]
    wanted = json.loads(queue_attributes(dead_letters_arn)["RedrivePolicy"])
    advice = _set(url, "RedrivePolicy", json.dumps(wanted, separators=(",", ":")))
    if not policy:
        yield Fault("it has no redrive policy: what is not ours comes back for ever", advice)
        return
    if policy.get("deadLetterTargetArn") != dead_letters_arn:
        what = f"its dead letters go to {policy.get('deadLetterTargetArn')}, not {dead_letters_arn}"
        yield Fault(what, advice)
    if int(policy.get("maxReceiveCount", 0)) < most:
        what = f"maxReceiveCount is {policy.get('maxReceiveCount')}, below {most}: "
        yield Fault(f"{what}work that meets busy leases would end as a dead letter", advice)


def _dead_letter_faults(names: Names, url: str, found: Mapping[str, str]) -> Iterator[Fault]:
    yield from _attribute_faults(url, queue_attributes(None), found)
    allows = json.loads(found.get("RedriveAllowPolicy", "{}"))
    prefix = found.get("QueueArn", "").rpartition(":")[0]
    lanes = [f"{prefix}:{names.queue(lane)}" for lane in Lane]
    refused = {
        "denyAll": lanes,
        "byQueue": [arn for arn in lanes if arn not in allows.get("sourceQueueArns", [])],
    }
    if closed_to := refused.get(allows.get("redrivePermission", "")):
        wanted = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": lanes}, separators=(",", ":"))
        which = ", ".join(arn.rpartition(":")[2] for arn in closed_to)
        yield Fault(f"it takes no dead letters of {which}", _set(url, "RedriveAllowPolicy", wanted))


def _attribute_faults(url: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Fault]:
    for name, value in wanted.items():
        if found.get(name) != value:
            yield Fault(f"{name} is {found.get(name)}, not {value}", _set(url, name, value))


def _set(url: str, name: str, value: str) -> str:
    """The command that sets an attribute of a queue."""
    attributes = json.dumps({name: value})
    return f"Set it, {_TERRAFORM}: aws sqs set-queue-attributes --queue-url {url} --attributes '{attributes}'"


# --- bucket ------------------------------------------------------------------


async def _bucket(aws: Aws, artifacts: ArtifactStore) -> Sequence[Finding]:
    s3 = await aws.clients.get("s3")
    bucket = aws.names.bucket
    name = f"bucket {bucket}"
    if not await _is_there(s3, bucket):
        return [_finding(name, [Fault("it is missing", f"`roost aws create` makes it, {_TERRAFORM}.")], "")]
    policy = await _policy(s3, bucket)
    faults = [
        *await _public_faults(s3, bucket),
        *await _life_cycle_faults(s3, bucket),
        *_policy_faults(policy, f"the policy of bucket {bucket}"),
    ]
    detail = "a blob was written, read back and verified"
    try:
        await permissions.put_and_read_blob(artifacts)
    except StorageError as error:
        if not permissions.is_denial(error):
            raise
        detail = "there"  # what is denied is found beside it
    rights = await permissions.allowed(name, permissions.of_bucket(aws, s3, artifacts))
    return [_finding(name, faults, detail), rights]


async def _is_there(s3: Any, bucket: str) -> bool:
    try:
        await _unless_denied(s3.head_bucket(Bucket=bucket))
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchBucket"):
            return False
        raise
    return True


async def _policy(s3: Any, bucket: str) -> str | None:
    """The bucket's policy; None if there is none, or it may not be seen."""
    try:
        answer = await _unless_denied(s3.get_bucket_policy(Bucket=bucket))
    except ClientError as error:
        if code_of(error) == "NoSuchBucketPolicy":
            return None
        raise
    return answer and str(answer["Policy"])


def _policy_faults(policy: str | None, what: str) -> Iterator[Fault]:
    """Statements that let anybody in."""
    statements = json.loads(policy or "{}").get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        named = principal.get("AWS", []) if isinstance(principal, dict) else principal
        everybody = "*" in ([named] if isinstance(named, str) else named)
        if statement.get("Effect") == "Allow" and everybody and not statement.get("Condition"):
            sid = statement.get("Sid", "?")
            yield Fault(f"{what} lets everybody in, by {sid!r}", f"Take {sid!r} out of {what}.")


async def _public_faults(s3: Any, bucket: str) -> list[Fault]:
    try:
        answer = await _unless_denied(s3.get_public_access_block(Bucket=bucket))
        if answer is None:
            return []
        block = answer["PublicAccessBlockConfiguration"]
    except ClientError:
        block = {}  # none is set
    if all(block.get(name) for name in PUBLIC_ACCESS_BLOCK):
        return []
    what = "public access is not fully blocked" if any(block.values()) else "public access is not blocked"
    return [Fault(what, f"`roost aws create` blocks it, {_TERRAFORM}.")]


async def _life_cycle_faults(s3: Any, bucket: str) -> list[Fault]:
    """A rule that deletes blobs would take snapshots of live work with it."""
    try:
        rules = (await s3.get_bucket_lifecycle_configuration(Bucket=bucket)).get("Rules", [])
    except ClientError:
        return []  # none is set, or a worker need not see it
    prefix = definition()["bucket"]["blob_prefix"]
    reaching = [
        rule.get("ID", "?")
        for rule in rules
        if rule.get("Status") == "Enabled" and "Expiration" in rule and _reaches(rule, prefix)
    ]
    return [
        Fault(
            f"life-cycle rule {rule!r} deletes blobs, also those of live work",
            f"Take out rule {rule!r}, or give it a filter that leaves out `{prefix}`.",
        )
        for rule in reaching
    ]


def _reaches(rule: Mapping[str, Any], prefix: str) -> bool:
    """Whether a rule is about keys that begin with `prefix`, tags apart."""
    criteria = rule.get("Filter", {})
    criteria = criteria.get("And", criteria)
    if "Tag" in criteria or criteria.get("Tags"):
        return False
    given = str(criteria.get("Prefix", rule.get("Prefix", "")))
    return prefix.startswith(given) or given.startswith(prefix)
