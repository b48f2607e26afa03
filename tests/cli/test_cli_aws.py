"""`roost aws` makes, shows and removes a stack, and `roost doctor` says what is wrong with one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from roost.config import AwsSettings
from roost.models import Lane
from roost.storage.aws.admin import opened_stack
from roost.testing.standins import StandIn
from tests.cli.conftest import Roost
from tests.standins.harness import point_sdk_at

pytestmark = pytest.mark.slow
PARTS = {
    ("table", "t-journal"),
    ("table", "t-index"),
    ("table", "t-claims"),
    ("queue", "t-high"),
    ("queue", "t-normal"),
    ("queue", "t-low"),
    ("queue", "t-dead"),
}


@pytest.fixture(params=["moto", "ministack"])
def aws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, roost: Roost) -> Iterator[StandIn]:
    standin: StandIn = request.getfixturevalue(request.param)
    point_sdk_at(standin, monkeypatch)
    monkeypatch.setenv("ROOST_AWS__STACK", "t")
    monkeypatch.setenv("ROOST_TESTING", "1")  # other tests may have moved the stand-in's clock on
    monkeypatch.setenv("ROOST_CLOCK_OFFSET_SECONDS", str(standin.ahead_seconds))
    yield standin
    roost("aws", "destroy", "--yes").ok()


def parts_of(document: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(part["kind"], part["name"]) for part in document if part["kind"] != "bucket"}


def test_a_stack_is_made_shown_and_removed(aws: StandIn, roost: Roost) -> None:
    missing = roost("aws", "describe", "--json")
    assert missing.code == 1
    assert all(part["address"] is None for part in missing.document)
    made = roost("aws", "create", "--json").ok().document
    assert parts_of(made) == PARTS
    [bucket] = [part["name"] for part in made if part["kind"] == "bucket"]
    assert bucket.startswith("t-")
    assert bucket.endswith("-us-east-1")
    assert roost("aws", "create", "--json").ok().document == made
    shown = roost("aws", "describe", "--json").ok().document
    assert [(part["name"], part["address"]) for part in shown] != []
    assert {(part["name"], part["address"]) for part in shown} == {
        (part["name"], part["address"]) for part in made
    }
    gone = roost("aws", "destroy", "--yes", "--json").ok().document
    assert set(gone) == {part["name"] for part in made}
    assert roost("aws", "destroy", "--yes", "--json").ok().document == []


def test_stacks_live_beside_each_other(aws: StandIn, roost: Roost) -> None:
    roost("aws", "create").ok()
    roost("aws", "create", "--stack", "other").ok()
    assert len(roost("aws", "destroy", "--stack", "other", "--yes", "--json").ok().document) == 8
    roost("aws", "describe").ok()


def test_nothing_is_destroyed_unasked(aws: StandIn, roost: Roost) -> None:
    roost("aws", "create").ok()
    refused = roost("aws", "destroy")
    assert refused.code == 2
    assert "--yes" in refused.err
    roost("aws", "describe").ok()


def test_who_destroys_a_stack_types_its_name(
    aws: StandIn, roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    roost("aws", "create").ok()
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("roost.cli.aws.sys", terminal)
    for typed in ("other", ""):
        refused = roost("aws", "destroy", stdin=f"{typed}\n".encode())
        assert refused.code == 2
        assert "will be gone for good" in refused.err
        roost("aws", "describe").ok()
    assert len(roost("aws", "destroy", "--json", stdin=b"t\n").ok().document) == 8
    assert roost("aws", "describe").code == 1


def test_the_doctor_finds_a_good_stack_good(aws: StandIn, roost: Roost) -> None:
    roost("aws", "create").ok()
    result = roost("doctor", "--storage", "aws", "--json").ok()
    names = {finding["name"] for finding in result.document}
    assert {"credentials", "clock", "table t-journal", "queue t-low", "queue t-low rights"} <= names
    assert all(finding["is_ok"] for finding in result.document)
    assert roost("list", "--storage", "aws", "--json").ok().document["rows"] == []
    dead = [finding for finding in result.document if finding["name"] == "queue t-dead"]
    assert dead[0]["detail"] == "0 dead deliveries"  # no probe left a message


def test_the_doctor_finds_a_clock_that_is_off(
    aws: StandIn, roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    roost("aws", "create").ok()
    monkeypatch.setenv("ROOST_CLOCK_OFFSET_SECONDS", str(aws.ahead_seconds - 200))
    result = roost("doctor", "--storage", "aws", "--json")
    assert result.code == 1
    [wrong] = [finding for finding in result.document if not finding["is_ok"]]
    assert wrong["name"] == "clock"
    assert wrong["detail"].startswith(("-200 s", "-199 s", "-201 s"))


def test_the_doctor_finds_what_is_wrong(aws: StandIn, roost: Roost) -> None:
    roost("aws", "create").ok()
    asyncio.run(_spoil())
    result = roost("doctor", "--storage", "aws", "--json")
    assert result.code == 1
    wrong = {finding["name"]: finding for finding in result.document if not finding["is_ok"]}
    assert set(wrong) == {
        "table t-claims",
        "table t-index",
        "table t-journal",
        "queue t-low",
        "queue t-dead",
        "bucket " + _bucket(wrong),
    }
    assert "roost aws create" in wrong["table t-claims"]["hint"]
    assert "index `due` is missing" in wrong["table t-index"]["detail"]
    assert "time to live is on, by 'tidied_at'" in wrong["table t-journal"]["detail"]
    assert "VisibilityTimeout is 7" in wrong["queue t-low"]["detail"]
    assert "no redrive policy" in wrong["queue t-low"]["detail"]
    assert "MessageRetentionPeriod is 60" in wrong["queue t-dead"]["detail"]
    assert "life-cycle rule 'tidy' deletes blobs" in wrong["bucket " + _bucket(wrong)]["detail"]


def _bucket(findings: dict[str, dict[str, str]]) -> str:
    return next(name.removeprefix("bucket ") for name in findings if name.startswith("bucket "))


async def _spoil() -> None:
    """A stack as a careless hand leaves it."""
    async with opened_stack(AwsSettings(stack="t")) as (clients, names):
        dynamodb, sqs, s3 = [await clients.get(service) for service in ("dynamodb", "sqs", "s3")]
        await dynamodb.delete_table(TableName=names.claims)
        await dynamodb.delete_table(TableName=names.index)
        await dynamodb.create_table(
            TableName=names.index,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "work", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "work", "KeyType": "HASH"}],
        )
        await dynamodb.update_time_to_live(
            TableName=names.journal,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": "tidied_at"},
        )
        low = (await sqs.get_queue_url(QueueName="t-low"))["QueueUrl"]
        await sqs.delete_queue(QueueUrl=low)
        await sqs.create_queue(QueueName="t-low", Attributes={"VisibilityTimeout": "7"})
        dead = (await sqs.get_queue_url(QueueName="t-dead"))["QueueUrl"]
        await sqs.set_queue_attributes(QueueUrl=dead, Attributes={"MessageRetentionPeriod": "60"})
        rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
        await s3.put_bucket_lifecycle_configuration(
            Bucket=names.bucket, LifecycleConfiguration={"Rules": [rule]}
        )


def test_without_credentials_or_a_region_the_error_says_what_to_do(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    refused = roost("aws", "describe")
    assert refused.code == 1
    assert "AWS_PROFILE" in refused.err


def test_status_says_what_work_cost(aws: StandIn, roost: Roost) -> None:
    roost("aws", "create").ok()
    work_id = (
        roost("enqueue", "--engine", "demo", "--payload", '{"count": 2}', "--storage", "aws").ok().out.strip()
    )
    cost = roost("status", work_id, "--json", "--storage", "aws").ok().document["cost"]
    # Two tables, an entry and a row, in one transaction: 2 units each, and the row's indexes; one send.
    assert (cost["entries"], cost["aws"]["calls"], cost["aws"]["sqs_requests"]) == (1, 2, 1)
    assert cost["aws"]["write_units"] >= 4
    assert 0 < cost["aws"]["usd"] < 1e-4
    assert "write units" in roost("status", work_id, "--storage", "aws").ok().out


def test_the_storage_says_which_stack(aws: StandIn, roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_STORAGE", "aws:elsewhere")
    assert parts_of(roost("aws", "create", "--json").ok().document) == {
        (kind, name.replace("t-", "elsewhere-", 1)) for kind, name in PARTS
    }
    roost("aws", "describe").ok()
    assert roost("aws", "describe", "--stack", "t").code == 1
    monkeypatch.setenv("ROOST_STORAGE", "local")
    assert roost("aws", "describe").code == 1  # t again
    monkeypatch.setenv("ROOST_STORAGE", "aws:elsewhere")
    assert len(roost("aws", "destroy", "--yes", "--json").ok().document) == 8


def test_a_name_that_no_stack_can_have_is_refused(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_STORAGE", "aws:Not_A_Stack")
    for command in (("list",), ("aws", "create")):
        refused = roost(*command)
        assert refused.code == 2
        assert "no stack can be called 'Not_A_Stack'" in refused.err


@pytest.mark.parametrize("left", [(), ("tables",)])
def test_a_worker_on_a_stack_that_is_not_there_ends_at_once(
    aws: StandIn, roost: Roost, left: tuple[str, ...]
) -> None:
    """Also where the tables are there and the queues are not, as in the midst of a restore."""
    if left:
        roost("aws", "create").ok()
        asyncio.run(_delete_queues())
    refused = roost("worker", "--engines", "demo", "--until-idle", "--storage", "aws")
    assert refused.code == 1
    missing = ("t-high", "t-normal", "t-low") if left else ("t-journal",)  # whichever is asked for first
    assert any(name in refused.err for name in missing)
    assert "`roost aws create` makes what is missing" in refused.err


async def _delete_queues() -> None:
    async with opened_stack(AwsSettings(stack="t")) as (clients, names):
        sqs = await clients.get("sqs")
        for lane in Lane:
            found = await sqs.get_queue_url(QueueName=names.queue(lane))
            await sqs.delete_queue(QueueUrl=found["QueueUrl"])
