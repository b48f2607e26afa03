"""The SDK's clients: where their region comes from, and what they send."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from roost.storage.aws.clients import Clients
from tests.bench.aws import load_target


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")


@pytest.mark.parametrize(
    ("environ", "region"),
    [
        ({"AWS_REGION": "eu-west-3"}, "eu-west-3"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({}, None),
    ],
)
async def test_the_region_is_that_of_either_variable(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], region: str | None
) -> None:
    """The SDK for Python reads `AWS_DEFAULT_REGION` only; those for other languages the shorter one."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Clients(1).region == region


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environ", "dynamodb", "sqs"),
    [
        (
            {"AWS_REGION": "us-gov-west-1", "AWS_USE_FIPS_ENDPOINT": "true"},
            "https://dynamodb.us-gov-west-1.amazonaws.com",
            "https://sqs.us-gov-west-1.amazonaws.com",
        ),
        (
            {"AWS_REGION": "us-east-1", "AWS_USE_FIPS_ENDPOINT": "true"},
            "https://dynamodb-fips.us-east-1.amazonaws.com",
            "https://sqs-fips.us-east-1.amazonaws.com",
        ),
        (
            {"AWS_REGION": "us-east-1", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "https://dynamodb.us-east-1.api.aws",
            "https://sqs.us-east-1.api.aws",
        ),
        (
            {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1"},
            "https://dynamodb.us-east-1.amazonaws.com",
            "http://127.0.0.1:1",
        ),
    ],
    ids=["government", "fips", "dual stack", "one service elsewhere"],
)
async def test_calls_go_where_the_sdk_says(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], dynamodb: str, sqs: str
) -> None:
    """Nothing of Roost builds a URL, and what is sent is signed for where it goes."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    clients = Clients(1)
    sent: list[str] = []

    def stop(request: Any, **_: Any) -> None:
        sent.append(request.url.rstrip("/"))
        raise ConnectionAbortedError("it would go there")

    try:
        for service, operation, arguments in (
            ("dynamodb", "put_item", {"TableName": "t", "Item": {"work": {"S": "w"}}}),
            ("sqs", "get_queue_url", {"QueueName": "q"}),
        ):
            client = await clients.get(service)  # type: ignore[arg-type]
            client.meta.events.register_last(f"before-send.{service}", stop)
            with pytest.raises(Exception, match="it would go there"):
                await getattr(client, operation)(**arguments)
    finally:
        await clients.close()
    assert sent[0] == dynamodb
    assert sent[-1] == sqs


@pytest.mark.slow
async def test_what_is_sent_is_what_the_sdk_would_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body that is written at once equals the serializer's; the signature is over it."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    arguments: dict[str, Any] = {
        "TableName": "t-journal",
        "Item": {
            "work": {"S": "wörk \u2028 \U0001f426"},
            "position": {"N": "7"},
            "entry": {"S": 'quote " and \\'},
            "body": {"B": bytes(range(256))},
            "map": {"M": {"list": {"L": [{"BOOL": True}, {"NULL": True}]}}},
        },
        "ExpressionAttributeNames": {"#work": "work"},
        "ConditionExpression": "attribute_not_exists(#work)",
    }
    with load_target(0.0) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        ours = Clients(1)
        try:
            client = await ours.get("dynamodb")
            sent: list[Any] = []
            client.meta.events.register_last(
                "before-sign.dynamodb", lambda request, **_: sent.append(request.data)
            )
            await client.put_item(**arguments)
            other_item = {**arguments["Item"], "position": {"N": "8"}}
            await client.transact_write_items(TransactItems=[{"Put": {**arguments, "Item": other_item}}])
            item = arguments["Item"] | {"body": {"B": base64.b64encode(bytes(range(256))).decode()}}
            assert json.loads(sent[0]) == {**arguments, "Item": item}
            other = json.loads(
                client._serializer.serialize_to_request(
                    arguments, client.meta.service_model.operation_model("PutItem")
                )["body"]
            )
            assert json.loads(sent[0]) == other
            assert json.loads(sent[1]).keys() == {"TransactItems", "ClientRequestToken"}, "the SDK adds one"
        finally:
            await ours.close()
