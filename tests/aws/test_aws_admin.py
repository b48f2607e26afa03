"""What `roost aws create` does where AWS is slower than a stand-in, or others have been there before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from roost.errors import StorageError
from roost.storage.aws import admin
from roost.storage.aws.admin import create_stack
from roost.storage.aws.clients import Aws
from roost.testing.standins import StandIn
from tests.aws.wire import Fail, Wire, new_stack

pytestmark = pytest.mark.slow

_UNKNOWN_QUEUE = Fail("AWS.SimpleQueueService.NonExistentQueue")


@pytest_asyncio.fixture(params=["ministack", "moto"])
async def opened(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Aws, Wire]]:
    standin: StandIn = request.getfixturevalue(request.param)
    monkeypatch.setattr(admin, "_NEW_PAUSE_SECONDS", 0.001)
    stack = await new_stack(standin, monkeypatch)
    yield await stack.open()
    await stack.close()


async def test_what_was_just_made_may_not_be_known_yet(opened: tuple[Aws, Wire]) -> None:
    """DynamoDB API reference, "DescribeTable", and SQS API reference, "CreateQueue": wait, then ask again."""
    aws, wire = opened
    names = replace(aws.names, stack=f"{aws.names.stack}-new", bucket=f"{aws.names.stack}-new")
    wire.script("DescribeTable", *[Fail("ResourceNotFoundException")] * 3)
    sqs = Wire(await aws.clients.get("sqs"), "sqs")
    sqs.script("GetQueueAttributes", _UNKNOWN_QUEUE, _UNKNOWN_QUEUE)
    assert len(await create_stack(aws.clients, names)) == 8
    sqs.script("GetQueueAttributes", *[_UNKNOWN_QUEUE] * 99)  # it never was
    with pytest.raises(StorageError):
        await create_stack(aws.clients, names)


async def test_the_rules_of_a_bucket_that_stands_are_kept(opened: tuple[Aws, Wire]) -> None:
    aws, _ = opened
    s3 = await aws.clients.get("s3")
    mine = {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": "mine/"}, "Expiration": {"Days": 30}}
    await s3.put_bucket_lifecycle_configuration(
        Bucket=aws.names.bucket, LifecycleConfiguration={"Rules": [mine]}
    )
    for _ in range(2):
        await create_stack(aws.clients, aws.names)
        found = await s3.get_bucket_lifecycle_configuration(Bucket=aws.names.bucket)
        assert [rule["ID"] for rule in found["Rules"]] == ["mine", "abort-incomplete-uploads"]
    theirs = {**found["Rules"][1], "ID": "theirs"}
    await s3.put_bucket_lifecycle_configuration(
        Bucket=aws.names.bucket, LifecycleConfiguration={"Rules": [theirs]}
    )
    await create_stack(aws.clients, aws.names)
    found = await s3.get_bucket_lifecycle_configuration(Bucket=aws.names.bucket)
    assert [rule["ID"] for rule in found["Rules"]] == ["theirs"]


async def test_a_queue_that_was_just_deleted_has_a_hint(opened: tuple[Aws, Wire]) -> None:
    aws, _ = opened
    sqs = Wire(await aws.clients.get("sqs"), "sqs")
    sqs.script("CreateQueue", Fail("AWS.SimpleQueueService.QueueDeletedRecently"))
    with pytest.raises(StorageError) as caught:
        await create_stack(aws.clients, aws.names)
    assert "minute" in caught.value.hint
