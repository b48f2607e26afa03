"""Where the stand-ins differ from AWS: each difference is shown here, with what AWS documents.

The product follows AWS. A test that fails says that a stand-in has come nearer to it, or
has been replaced; look then whether the contract's harness still has to declare it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from roost.testing.standins import StandIn

pytestmark = pytest.mark.slow

LONG_AGO_SECONDS = 60
_numbers = count(1)
_ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1})


@dataclass(frozen=True)
class Aws:
    """Plain clients on a stand-in, which try once, and a table, a queue and a bucket of the test's own."""

    standin: StandIn
    dynamodb: Any
    sqs: Any
    s3: Any
    table: str
    queue: str
    bucket: str

    def receive(self, **arguments: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.sqs.receive_message(QueueUrl=self.queue, **arguments).get(
            "Messages", []
        )
        return found

    def receipt(self, *, visibility_seconds: int = 30) -> str:
        """Of a message that is sent and received."""
        self.sqs.send_message(QueueUrl=self.queue, MessageBody="message")
        [message] = self.receive(VisibilityTimeout=visibility_seconds)
        return str(message["ReceiptHandle"])

    def stale_receipt(self) -> str:
        """Of a message that has been received again since, and is in flight."""
        stale = self.receipt(visibility_seconds=1)
        self.standin.advance(2)
        assert self.receive(VisibilityTimeout=30)
        return stale


Open = Callable[[StandIn], Aws]


@pytest.fixture(scope="module")
def clients() -> Callable[[StandIn], tuple[Any, Any, Any]]:
    """The clients of each stand-in, made once."""
    session = botocore.session.Session()
    made: dict[str, tuple[Any, Any, Any]] = {}

    def get(standin: StandIn) -> tuple[Any, Any, Any]:
        if standin.url not in made:
            environ = standin.environ
            dynamodb, sqs, s3 = (
                session.create_client(
                    service,
                    region_name=environ["AWS_REGION"],
                    endpoint_url=standin.url,
                    aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
                    config=_ONCE,
                )
                for service in ("dynamodb", "sqs", "s3")
            )
            made[standin.url] = dynamodb, sqs, s3
        return made[standin.url]

    return get


@pytest.fixture
def open_aws(clients: Callable[[StandIn], tuple[Any, Any, Any]]) -> Open:
    def open_it(standin: StandIn) -> Aws:
        dynamodb, sqs, s3 = clients(standin)
        name = f"differences-{next(_numbers)}"
        dynamodb.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        queue = sqs.create_queue(QueueName=name)["QueueUrl"]
        s3.create_bucket(Bucket=name)
        return Aws(standin, dynamodb, sqs, s3, name, queue, name)

    return open_it


@pytest.fixture
def on_ministack(ministack: StandIn, open_aws: Open) -> Aws:
    return open_aws(ministack)


@pytest.fixture
def on_moto(moto: StandIn, open_aws: Open) -> Aws:
    return open_aws(moto)


@pytest.fixture(params=["ministack", "moto"])
def on_both(request: pytest.FixtureRequest, open_aws: Open) -> Aws:
    return open_aws(request.getfixturevalue(request.param))


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


# --- both --------------------------------------------------------------------


def test_both_extend_a_delivery_whose_timeout_is_over(on_both: Aws) -> None:
    """AWS: `MessageNotInflight` (SQS API reference, "ChangeMessageVisibility", Errors)."""
    receipt = on_both.receipt(visibility_seconds=1)
    on_both.standin.advance(2)
    on_both.sqs.change_message_visibility(QueueUrl=on_both.queue, ReceiptHandle=receipt, VisibilityTimeout=10)
    assert on_both.receive() == []  # so it took effect


def test_both_serve_message_groups_in_order_of_arrival(on_both: Aws) -> None:
    """AWS: quiet tenants come first (SQS Developer Guide, "Amazon SQS fair queues")."""
    for number in range(6):
        on_both.sqs.send_message(QueueUrl=on_both.queue, MessageBody=f"{number}", MessageGroupId="noisy")
    on_both.receive(MaxNumberOfMessages=5)
    on_both.sqs.send_message(QueueUrl=on_both.queue, MessageBody="quiet", MessageGroupId="quiet")
    assert [message["Body"] for message in on_both.receive()] == ["5"]


def test_neither_moves_dead_letters(on_both: Aws) -> None:
    """AWS: a task that redrives a dead-letter queue (SQS API reference, "StartMessageMoveTask")."""
    asked = on_both.sqs.get_queue_attributes(QueueUrl=on_both.queue, AttributeNames=["QueueArn"])
    with pytest.raises(ClientError) as caught:
        on_both.sqs.start_message_move_task(SourceArn=asked["Attributes"]["QueueArn"])
    assert code_of(caught) in ("InvalidAction", "500")


# --- ministack ---------------------------------------------------------------


def test_ministack_takes_a_delay_above_the_most(on_ministack: Aws) -> None:
    """AWS: 0 to 900 seconds (SQS API reference, "SendMessage", DelaySeconds)."""
    on_ministack.sqs.send_message(QueueUrl=on_ministack.queue, MessageBody="late", DelaySeconds=901)


def test_ministack_takes_a_visibility_above_the_most(on_ministack: Aws) -> None:
    """AWS: 12 hours from the receive (SQS API reference, "ChangeMessageVisibility")."""
    on_ministack.sqs.change_message_visibility(
        QueueUrl=on_ministack.queue, ReceiptHandle=on_ministack.receipt(), VisibilityTimeout=12 * 3600 + 1
    )


def test_ministack_refuses_to_delete_twice(on_ministack: Aws) -> None:
    """AWS: success ("Amazon SQS FAQs", a DeleteMessage request on a previously deleted message)."""
    receipt = on_ministack.receipt()
    on_ministack.sqs.delete_message(QueueUrl=on_ministack.queue, ReceiptHandle=receipt)
    with pytest.raises(ClientError) as caught:
        on_ministack.sqs.delete_message(QueueUrl=on_ministack.queue, ReceiptHandle=receipt)
    assert code_of(caught) == "ReceiptHandleIsInvalid"


def test_ministack_refuses_a_receipt_that_is_stale(on_ministack: Aws) -> None:
    """AWS may take it: the message just might not be deleted (SQS API reference, "DeleteMessage")."""
    with pytest.raises(ClientError) as caught:
        on_ministack.sqs.delete_message(
            QueueUrl=on_ministack.queue, ReceiptHandle=on_ministack.stale_receipt()
        )
    assert code_of(caught) == "ReceiptHandleIsInvalid"


def test_ministack_purges_as_often_as_it_is_told(on_ministack: Aws) -> None:
    """AWS: `PurgeQueueInProgress` within 60 seconds (SQS API reference, "PurgeQueue")."""
    for _ in range(2):
        on_ministack.sqs.purge_queue(QueueUrl=on_ministack.queue)


def test_ministack_has_no_stream_records_of_statements(on_ministack: Aws) -> None:
    """AWS: of every change of an item (DynamoDB Developer Guide, "Change data capture with Amazon DynamoDB").

    So what group commit wrote is missing in the feed of all journals there, though not in a journal.
    """
    session = botocore.session.Session()
    streams = session.create_client(
        "dynamodbstreams",
        region_name=on_ministack.standin.environ["AWS_REGION"],
        endpoint_url=on_ministack.standin.url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    specification = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    table = on_ministack.dynamodb.update_table(
        TableName=on_ministack.table, StreamSpecification=specification
    )
    arn = table["TableDescription"]["LatestStreamArn"]
    on_ministack.dynamodb.put_item(TableName=on_ministack.table, Item={"id": {"S": "put"}})
    statement = f"INSERT INTO \"{on_ministack.table}\" VALUE {{'id': ?}}"
    on_ministack.dynamodb.batch_execute_statement(
        Statements=[{"Statement": statement, "Parameters": [{"S": "inserted"}]}]
    )
    [shard] = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = streams.get_records(ShardIterator=iterator)["Records"]
    assert [record["dynamodb"]["Keys"]["id"]["S"] for record in records] == ["put"]


def test_ministack_joins_parts_that_are_too_small(on_ministack: Aws) -> None:
    """AWS: 5 MiB at least, but for the last (S3 User Guide, "Amazon S3 multipart upload limits")."""
    s3, where = on_ministack.s3, {"Bucket": on_ministack.bucket, "Key": "small"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=b"x")["ETag"]}
        for number in (1, 2)
    ]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


# --- moto --------------------------------------------------------------------


def test_moto_deletes_the_new_holders_message_for_a_stale_receipt(on_moto: Aws) -> None:
    """AWS: the most recent receipt is needed (SQS API reference, "DeleteMessage")."""
    on_moto.sqs.delete_message(QueueUrl=on_moto.queue, ReceiptHandle=on_moto.stale_receipt())
    on_moto.standin.advance(LONG_AGO_SECONDS)
    assert on_moto.receive() == []


def test_moto_releases_the_new_holders_message_for_a_stale_receipt(on_moto: Aws) -> None:
    """AWS: the receipt is that of one receive (SQS Developer Guide, "Queue and message identifiers")."""
    stale = on_moto.stale_receipt()
    on_moto.sqs.change_message_visibility(QueueUrl=on_moto.queue, ReceiptHandle=stale, VisibilityTimeout=0)
    assert on_moto.receive()


def test_moto_takes_characters_that_no_message_may_have(on_moto: Aws) -> None:
    """AWS: `InvalidMessageContents` (SQS API reference, "SendMessage")."""
    on_moto.sqs.send_message(QueueUrl=on_moto.queue, MessageBody="\x01")


def test_moto_knows_no_token_of_a_transaction(on_moto: Aws) -> None:
    """AWS: the same request again succeeds (DynamoDB API reference, "TransactWriteItems")."""
    put = {"TableName": on_moto.table, "Item": {"id": {"S": "a"}}}
    request = {
        "TransactItems": [{"Put": {**put, "ConditionExpression": "attribute_not_exists(id)"}}],
        "ClientRequestToken": "token",
    }
    on_moto.dynamodb.transact_write_items(**request)
    with pytest.raises(ClientError) as caught:
        on_moto.dynamodb.transact_write_items(**request)
    assert code_of(caught) == "TransactionCanceledException"


def test_moto_fails_at_statements_with_parameters(on_moto: Aws) -> None:
    """AWS: inserted, or `DuplicateItem` (DynamoDB API reference, "BatchExecuteStatement").

    So group commit can be tried on ministack alone; on moto each append is a call.
    """
    statement = f"INSERT INTO \"{on_moto.table}\" VALUE {{'id': ?}}"
    with pytest.raises(ClientError) as caught:
        on_moto.dynamodb.batch_execute_statement(
            Statements=[{"Statement": statement, "Parameters": [{"S": "a"}]}]
        )
    assert code_of(caught) == "500"


@pytest.mark.parametrize("what", ["digits", "levels"])
def test_moto_takes_values_beyond_the_limits(on_moto: Aws, what: str) -> None:
    """AWS: 38 digits, 32 levels (DynamoDB Developer Guide, "Quotas in Amazon DynamoDB")."""
    value: dict[str, Any] = {"N": "1" * 39}
    if what == "levels":
        for _ in range(33):
            value = {"L": [value if "L" in value else {"S": "deep"}]}
    on_moto.dynamodb.put_item(TableName=on_moto.table, Item={"id": {"S": "a"}, "value": value})


def test_moto_takes_content_that_is_not_what_the_checksum_says(on_moto: Aws) -> None:
    """AWS: `BadDigest` (S3 User Guide, "Checking object integrity in Amazon S3")."""
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    on_moto.s3.put_object(Bucket=on_moto.bucket, Key="a", Body=b"content", ChecksumSHA256=wrong)
