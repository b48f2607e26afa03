"""What is wrong with a stack, one thing at a time: `roost doctor` finds it, and says what to change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

from roost.config import AwsSettings
from roost.storage.aws.admin import PUBLIC_ACCESS_BLOCK, create_stack, table_arguments
from roost.storage.aws.artifacts import AwsArtifacts
from roost.storage.aws.backend import AwsBackend, open_aws
from roost.storage.aws.doctor import check_stack
from roost.storage.aws.names import Names, roles
from roost.storage.ports import Finding
from roost.testing.standins import StandIn
from tests.infra.actions import Recorder, Use
from tests.standins.harness import SHARDS, StandInClock, point_sdk_at

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

_numbers = count(1)
OPEN = {"Sid": "Hole", "Effect": "Allow", "Principal": "*", "Action": "*"}
MADE_BY_ALL = {
    ("lanes", "sqs:GetQueueUrl"),
    ("dead_letters", "sqs:GetQueueUrl"),
}  # without it nothing is found


class Patient:
    """A stack on a stand-in, what it is broken with, and what is found then.

    Args:
        backend: shared by all tests of this module, since the SDK takes its time to make clients.
    """

    def __init__(self, backend: AwsBackend, names: Names) -> None:
        self.backend = backend
        self.names = names
        self._undo: list[Callable[[], None]] = []

    async def client(self, service: Any) -> Any:
        return await self.backend.aws.clients.get(service)

    async def findings(self) -> Sequence[Finding]:
        aws = replace(self.backend.aws, names=self.names)
        return await check_stack(aws, AwsArtifacts(aws))

    async def wrong(self) -> list[Finding]:
        return [finding for finding in await self.findings() if not finding.is_ok]

    async def hook(self, service: Any, event: str, handler: Callable[..., Any]) -> None:
        """See the calls of a service, until the test is over."""
        events = (await self.client(service)).meta.events
        events.register(event, handler)
        self._undo.append(lambda: events.unregister(event, handler))

    def close(self) -> None:
        for undo in self._undo:
            undo()

    # --- ways to break it ---

    async def drop_table(self, which: str) -> None:
        await (await self.client("dynamodb")).delete_table(TableName=getattr(self.names, which))

    async def make_table(self, which: str, change: Callable[[dict[str, Any]], None]) -> None:
        """In place of a table another that is not quite it."""
        await self.drop_table(which)
        arguments = table_arguments(self.names, which)
        change(arguments)
        await (await self.client("dynamodb")).create_table(**arguments)

    async def set_queue(self, name: str, attributes: Mapping[str, str]) -> None:
        sqs = await self.client("sqs")
        url = (await sqs.get_queue_url(QueueName=f"{self.names.stack}-{name}"))["QueueUrl"]
        await sqs.set_queue_attributes(QueueUrl=url, Attributes=dict(attributes))

    async def drop_queue(self, name: str) -> None:
        sqs = await self.client("sqs")
        url = (await sqs.get_queue_url(QueueName=f"{self.names.stack}-{name}"))["QueueUrl"]
        await sqs.delete_queue(QueueUrl=url)

    async def answers(self, service: Any, operation: str, change: Callable[[dict[str, Any]], None]) -> None:
        """From now on the stand-in says something else."""

        def changed(parsed: dict[str, Any], **_: Any) -> None:
            change(parsed)

        await self.hook(service, f"after-call.{service}.{operation}", changed)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend(ministack: StandIn) -> AsyncIterator[AwsBackend]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        point_sdk_at(ministack, monkeypatch)
        backend = await open_aws(AwsSettings(stack="doctor"), clock=StandInClock(ministack))
        yield backend
        await backend.close()


@pytest_asyncio.fixture(loop_scope="module")
async def patient(backend: AwsBackend) -> AsyncIterator[Patient]:
    stack = f"doctor{next(_numbers)}"
    names = Names(stack, f"{stack}-blobs", SHARDS)
    await create_stack(backend.aws.clients, names)
    patient = Patient(backend, names)
    yield patient
    patient.close()


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(arguments: dict[str, Any]) -> None:
        indexes = arguments["GlobalSecondaryIndexes"]
        arguments["GlobalSecondaryIndexes"] = [one for one in indexes if one["IndexName"] != name]
        used = {
            part["AttributeName"] for one in arguments["GlobalSecondaryIndexes"] for part in one["KeySchema"]
        }
        used |= {part["AttributeName"] for part in arguments["KeySchema"]}
        definitions = arguments["AttributeDefinitions"]
        arguments["AttributeDefinitions"] = [one for one in definitions if one["AttributeName"] in used]

    return change


def _other_index_key(arguments: dict[str, Any]) -> None:
    arguments["GlobalSecondaryIndexes"][0]["KeySchema"] = arguments["GlobalSecondaryIndexes"][1]["KeySchema"]
    arguments["AttributeDefinitions"] = [
        one
        for one in arguments["AttributeDefinitions"]
        if one["AttributeName"] in ("work", "due_key", "due_at")
    ]


def _other_key(arguments: dict[str, Any]) -> None:
    arguments["KeySchema"] = arguments["KeySchema"][:1]
    definitions = arguments["AttributeDefinitions"]
    arguments["AttributeDefinitions"] = [one for one in definitions if one["AttributeName"] != "position"]


def _keys_only(arguments: dict[str, Any]) -> None:
    arguments["GlobalSecondaryIndexes"][0]["Projection"] = {"ProjectionType": "KEYS_ONLY"}


def _old_images(arguments: dict[str, Any]) -> None:
    arguments["StreamSpecification"]["StreamViewType"] = "OLD_IMAGE"


async def _stream_off(patient: Patient) -> None:
    await patient.make_table("journal", lambda arguments: arguments.pop("StreamSpecification"))


Break = Callable[[Patient], Awaitable[None]]


def time_to_live(which: str, *attributes: str | None) -> Break:
    """Turned on by an attribute, or off (None), one after the other."""

    async def change(patient: Patient) -> None:
        for attribute in attributes:
            specification = {"Enabled": attribute is not None, "AttributeName": attribute or "expires_at"}
            await (await patient.client("dynamodb")).update_time_to_live(
                TableName=getattr(patient.names, which), TimeToLiveSpecification=specification
            )

    return change


def _redrive(names: Names, **change: Any) -> str:
    arn = f"arn:aws:sqs:us-east-1:000000000000:{names.dead_letters}"
    return json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 100} | change)


def _policy(**more: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [OPEN | more]})


async def _bucket_policy(patient: Patient) -> None:
    bucket = patient.names.bucket
    s3 = await patient.client("s3")
    await s3.delete_public_access_block(Bucket=bucket)  # which would not let it come to this
    await s3.put_bucket_policy(Bucket=bucket, Policy=_policy(Resource=f"arn:aws:s3:::{bucket}/*"))
    await s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=PUBLIC_ACCESS_BLOCK)


async def _rule(patient: Patient) -> None:
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": "bl"}, "Expiration": {"Days": 30}}
    await (await patient.client("s3")).put_bucket_lifecycle_configuration(
        Bucket=patient.names.bucket, LifecycleConfiguration={"Rules": [rule]}
    )


async def _no_block(patient: Patient) -> None:
    await (await patient.client("s3")).delete_public_access_block(Bucket=patient.names.bucket)


async def _half_a_block(patient: Patient) -> None:
    block = {"BlockPublicAcls": True, "IgnorePublicAcls": True}
    await (await patient.client("s3")).put_public_access_block(
        Bucket=patient.names.bucket, PublicAccessBlockConfiguration=block
    )


async def _no_bucket(patient: Patient) -> None:
    await (await patient.client("s3")).delete_bucket(Bucket=patient.names.bucket)


async def _being_made(patient: Patient) -> None:
    def change(parsed: dict[str, Any]) -> None:
        if parsed["Table"]["TableName"] == patient.names.claims:
            parsed["Table"]["TableStatus"] = "CREATING"

    await patient.answers("dynamodb", "DescribeTable", change)


async def _index_being_made(patient: Patient) -> None:
    def change(parsed: dict[str, Any]) -> None:
        for index in parsed["Table"].get("GlobalSecondaryIndexes", []):
            if index["IndexName"] == "due":
                index["IndexStatus"] = "CREATING"

    await patient.answers("dynamodb", "DescribeTable", change)


async def _late(patient: Patient) -> None:
    def change(parsed: dict[str, Any]) -> None:
        parsed["ResponseMetadata"]["HTTPHeaders"]["date"] = "Mon, 23 Nov 2026 00:00:00 GMT"

    await patient.answers("sts", "GetCallerIdentity", change)


async def _expired_credentials(patient: Patient) -> None:
    async def refused(**_: Any) -> Any:
        answer = {"Error": {"Code": "ExpiredToken", "Message": "expired"}, "ResponseMetadata": {}}
        return type("Http", (), {"status_code": 403}), answer

    await patient.hook("sts", "before-call.sts", refused)


# Of each kind one runs with the quick tests; the others make a stack for themselves, too, and take longer.
QUICK = {
    "its stream of NEW_IMAGE is off",
    "its time to live is off: what has ended stays there, by 'expires_at' it would go",
    "it has no redrive policy",
    "public access is not blocked",
}


def table(which: str, change: Callable[[dict[str, Any]], None]) -> Break:
    return lambda patient: patient.make_table(which, change)


def queue(name: str, attribute: str, value: Callable[[Names], str]) -> Break:
    return lambda patient: patient.set_queue(name, {attribute: value(patient.names)})


@pytest.mark.parametrize(
    ("breaks", "where", "found", "advice"),
    [
        pytest.param(
            breaks, where, found, advice, id=found, marks=[] if found in QUICK else [pytest.mark.soak]
        )
        for breaks, where, found, advice in [
            (_expired_credentials, "credentials", "ExpiredToken", "get new ones"),
            (_late, "clock", "s from that of AWS", "Set the clock"),
            (lambda p: p.drop_table("claims"), "table T-claims", "ResourceNotFound", "`roost aws create`"),
            (_being_made, "table T-claims", "it is creating", "Wait until it is active"),
            (table("journal", _other_key), "table T-journal", "its key is another", "move to a new stack"),
            (
                table("index", _without("due")),
                "table T-index",
                "index `due` is missing",
                "Add index `due` to T-index by due_key and due_at, projecting ALL",
            ),
            (
                table("index", _other_index_key),
                "table T-index",
                "index `state` has another key",
                "Delete index `state` of T-index, and add it again by state_key and created",
            ),
            (
                table("index", _keys_only),
                "table T-index",
                "index `state` does not project ALL",
                "projecting ALL",
            ),
            (_index_being_made, "table T-index", "index `due` is creating", "Wait until it is active"),
            (
                _stream_off,
                "table T-journal",
                "its stream of NEW_IMAGE is off",
                "`roost aws create` turns it on",
            ),
            (
                table("journal", _old_images),
                "table T-journal",
                "its stream is of OLD_IMAGE, not NEW_IMAGE",
                "--stream-specification StreamEnabled=false",
            ),
            (
                time_to_live("index", None),
                "table T-index",
                "its time to live is off: what has ended stays there, by 'expires_at' it would go",
                "`roost aws create` turns it on",
            ),
            (
                time_to_live("claims", None, "ends"),
                "table T-claims",
                "its time to live is on, by 'ends'",
                "AttributeName=ends; an hour later `roost aws create` turns it on by expires_at",
            ),
            (
                time_to_live("journal", "expires_at"),
                "table T-journal",
                "its time to live is on, by 'expires_at': that may delete live work",
                "--table-name T-journal --time-to-live-specification Enabled=false,AttributeName=expires_at",
            ),
            (lambda p: p.drop_queue("low"), "queue T-low", "NonExistentQueue", "`roost aws create`"),
            (
                queue("low", "MessageRetentionPeriod", lambda _: "600"),
                "queue T-low",
                "MessageRetentionPeriod is 600, not 1209600",
                '{"MessageRetentionPeriod": "1209600"}',
            ),
            (
                queue("low", "ReceiveMessageWaitTimeSeconds", lambda _: "0"),
                "queue T-low",
                "ReceiveMessageWaitTimeSeconds is 0, not 20",
                '{"ReceiveMessageWaitTimeSeconds": "20"}',
            ),
            (
                queue("low", "VisibilityTimeout", lambda _: "7"),
                "queue T-low",
                "VisibilityTimeout is 7, below 30",
                '{"VisibilityTimeout": "30"}',
            ),
            (
                queue("high", "RedrivePolicy", lambda _: ""),
                "queue T-high",
                "it has no redrive policy",
                "T-dead",
            ),
            (
                queue(
                    "high",
                    "RedrivePolicy",
                    lambda names: _redrive(
                        names, deadLetterTargetArn=f"arn:aws:sqs:us-east-1:000000000000:{names.stack}-low"
                    ),
                ),
                "queue T-high",
                "its dead letters go to arn:aws:sqs:us-east-1:000000000000:T-low",
                "T-dead",
            ),
            (
                queue("high", "RedrivePolicy", lambda names: _redrive(names, maxReceiveCount=3)),
                "queue T-high",
                "maxReceiveCount is 3, below 100",
                'maxReceiveCount\\":100',
            ),
            (
                queue("normal", "Policy", lambda _: _policy()),
                "queue T-normal",
                "lets everybody in, by 'Hole'",
                "Take 'Hole' out of the policy of queue T-normal",
            ),
            (lambda p: p.drop_queue("dead"), "queue T-dead", "NonExistentQueue", "`roost aws create`"),
            (
                queue("dead", "MessageRetentionPeriod", lambda _: "60"),
                "queue T-dead",
                "MessageRetentionPeriod is 60, not 1209600",
                '{"MessageRetentionPeriod": "1209600"}',
            ),
            (
                queue("dead", "RedriveAllowPolicy", lambda _: '{"redrivePermission": "denyAll"}'),
                "queue T-dead",
                "it takes no dead letters of T-high, T-normal, T-low",
                "byQueue",
            ),
            (
                queue(
                    "dead",
                    "RedriveAllowPolicy",
                    lambda names: json.dumps(
                        {
                            "redrivePermission": "byQueue",
                            "sourceQueueArns": [
                                f"arn:aws:sqs:us-east-1:000000000000:{names.stack}-{lane}"
                                for lane in ("high", "low")
                            ],
                        }
                    ),
                ),
                "queue T-dead",
                "it takes no dead letters of T-normal",
                "T-normal",
            ),
            (_no_bucket, "bucket T-blobs", "it is missing", "`roost aws create`"),
            (_no_block, "bucket T-blobs", "public access is not blocked", "`roost aws create` blocks it"),
            (
                _half_a_block,
                "bucket T-blobs",
                "public access is not fully blocked",
                "`roost aws create` blocks it",
            ),
            (
                _bucket_policy,
                "bucket T-blobs",
                "lets everybody in, by 'Hole'",
                "Take 'Hole' out of the policy of bucket T-blobs",
            ),
            (_rule, "bucket T-blobs", "life-cycle rule 'tidy' deletes blobs", "leaves out `blobs/`"),
        ]
    ],
)
async def test_one_thing_that_is_wrong_is_found_and_the_advice_is_about_it(
    patient: Patient, breaks: Break, where: str, found: str, advice: str
) -> None:
    stack = patient.names.stack
    await breaks(patient)
    wrong = await patient.wrong()
    assert [finding.name for finding in wrong] == [where.replace("T-", f"{stack}-")], wrong
    assert found.replace("T-", f"{stack}-") in wrong[0].detail
    assert advice.replace("T-", f"{stack}-") in wrong[0].hint


# --- permissions -------------------------------------------------------------

WORKER: list[Use] = [
    (part, action) for part, actions in roles()["roles"]["worker"].items() for action in actions
]


async def _let(patient: Patient, is_allowed: Callable[[Use], bool]) -> set[Use]:
    """From now on refuse calls, as IAM would; gives what was refused, as it comes."""
    recorder = Recorder(patient.names)
    refused: set[Use] = set()

    def seen(params: Mapping[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        context["needs"] = {use for use in recorder.uses(params, model) if not is_allowed(use)}

    def refuse(context: dict[str, Any], **_: Any) -> Any:
        if not context.get("needs"):
            return None
        refused.update(context["needs"])
        error = {"Code": "AccessDeniedException", "Message": "not authorized to perform that"}
        return type("Http", (), {"status_code": 400}), {"Error": error, "ResponseMetadata": {}}

    for service in ("dynamodb", "sqs", "s3"):
        await patient.hook(service, f"provide-client-params.{service}", seen)
        await patient.hook(service, f"before-call.{service}", refuse)
    return refused


def _resource(names: Names, part: str) -> str:
    """What a policy names for a part of the stack."""
    table, _, index = part.partition("/")
    return {
        "lanes": f"{names.stack}-low",
        "dead_letters": names.dead_letters,
        "blobs": f"{names.bucket}/blobs/*",
        "bucket": names.bucket,
    }.get(part, f"table/{names.stack}-{table}" + (f"/index/{index}" if index else ""))


async def test_a_worker_s_own_role_finds_that_it_has_all_it_needs(patient: Patient) -> None:
    """What it may not look at, such as a table's definition, is none of its business."""
    refused = await _let(patient, lambda use: use in WORKER)
    assert await patient.wrong() == []
    assert ("journal", "dynamodb:DescribeTable") in refused
    found = {finding.name: finding.detail for finding in await patient.findings()}
    assert "takes dynamodb:DescribeTable" in found[f"table {patient.names.journal}"]


async def test_every_permission_of_a_worker_that_is_missing_is_named(patient: Patient) -> None:
    """All at once; for one at a time see below."""
    await _let(patient, lambda use: use not in WORKER or use in MADE_BY_ALL)
    text = "; ".join(f"{finding.detail} {finding.hint}" for finding in await patient.wrong())
    for part, action in set(WORKER) - MADE_BY_ALL - {("lanes", "sqs:GetQueueAttributes")}:
        assert f"{action} on {_resource(patient.names, part)}" in text


@pytest.mark.soak
async def test_one_permission_that_is_missing_is_the_only_thing_wrong(patient: Patient) -> None:
    """One after the other, all that a worker needs."""
    missing: list[Use] = []
    await _let(patient, lambda use: use not in missing)
    for part, action in sorted(set(WORKER) - {("lanes", "sqs:GetQueueAttributes")}):
        missing[:] = [(part, action)]
        wrong = await patient.wrong()
        assert {finding.detail for finding in wrong} != set(), (part, action)
        if (part, action) in MADE_BY_ALL:
            assert all("AccessDenied" in finding.detail for finding in wrong), wrong
            continue
        what = f"{action} on {_resource(patient.names, part)}"
        assert what in "; ".join(finding.detail for finding in wrong), (part, action)
        assert all(finding.hint.startswith("Allow in the role's policy") for finding in wrong), wrong
        assert all(action in finding.detail and "," not in finding.detail for finding in wrong), wrong
