"""The SDK's clients: where their region comes from, and what they send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from roost.clock import SystemClock
from roost.config import AwsSettings
from roost.observe.measures import Measures
from roost.storage.aws.backend import open_aws
from roost.storage.aws.clients import Clients
from roost.storage.aws.table import Table
from roost.storage.instrument import InstrumentedBackend
from roost.testing.standins import StandIn
from tests.aws.test_shortcut import Http, Line, says
from tests.standins.harness import make_stack, point_sdk_at


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

    async def stop_on_the_short_way(request: Any) -> None:
        stop(request)

    try:
        for service, operation, arguments in (
            ("dynamodb", "put_item", {"TableName": "t", "Item": {"work": {"S": "w"}}}),
            ("sqs", "get_queue_url", {"QueueName": "q"}),
        ):
            client = await clients.get(service)  # type: ignore[arg-type]
            client.meta.events.register_last(f"before-send.{service}", stop)
            client._endpoint.http_session.send = stop_on_the_short_way
            for _ in range(2):  # the first is the SDK's own
                with pytest.raises(Exception, match="it would go there"):
                    await getattr(client, operation)(**arguments)
    finally:
        await clients.close()
    assert sent[0] == dynamodb
    assert sent[-1] == sqs
    assert {*sent} == {dynamodb, sqs}


async def test_faults_that_pass_are_told_to_who_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the SDK tries again, and those that Roost does."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    told: list[str] = []
    backend = await open_aws(AwsSettings(stack="told", bucket="told"))
    watch = Measures([], SystemClock(), "aws", build={"version": "1", "python": "3"})
    monkeypatch.setattr(watch, "met", told.append)
    InstrumentedBackend(backend, None, watch)
    answers = iter([ConnectionClosedError(endpoint_url="http://x"), _throttled(), None, *[_throttled()] * 3])

    async def send(request: Any) -> Any:
        answer = next(answers, None)
        if isinstance(answer, Exception):
            raise answer
        return answer or Http(200, b"{}")

    async def at_once(_: object, seconds: float) -> None: ...

    monkeypatch.setattr(SystemClock, "sleep", at_once)
    client = await backend.aws.clients.get("dynamodb")
    client._endpoint.http_session.send = send
    try:
        table = Table(backend.aws, "told-index")
        for _ in range(2):
            await table.call("put_item", Item={"work": {"S": "w"}})
    finally:
        await backend.close()
    assert told == ["ConnectionClosedError", *["ThrottlingException"] * 4]


def _throttled() -> Http:
    return says(400, {"__type": "x#ThrottlingException"})


@pytest.mark.slow
async def test_a_profile_may_name_a_role_to_assume(
    moto: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`AWS_PROFILE` as everywhere: its region, and calls signed with what STS gave for its role."""
    config = tmp_path / "config"
    config.write_text(
        "[profile base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = secret\n"
        "[profile agents]\nrole_arn = arn:aws:iam::123456789012:role/agents\nsource_profile = base\n"
        "region = eu-west-1\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "agents")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    clients, line = Clients(1), Line()
    try:
        client = await clients.get("dynamodb")
        client._endpoint.http_session.send = line.send
        await client.put_item(TableName="t", Item={"work": {"S": "w"}})
    finally:
        await clients.close()
    assert clients.region == "eu-west-1"
    [authorization], [token] = line.header("authorization"), line.header("x-amz-security-token")
    assert "Credential=ASIA" in authorization
    assert "/eu-west-1/dynamodb/aws4_request" in authorization
    assert token


@pytest.mark.slow
async def test_nobody_asks_for_the_account_before_the_bucket_is_needed(
    moto: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name has the account in it; most commands never come to it."""
    point_sdk_at(moto, monkeypatch)
    settings = AwsSettings(stack="lazy", shards=1)
    backend = await open_aws(settings)
    try:
        made = await make_stack("lazy")
        assert await backend.index.get("w") is None
        assert "sts" not in backend.aws.clients._clients
        assert [await backend.artifacts.bucket() for _ in range(2)] == ["lazy-123456789012-us-east-1"] * 2
        findings = {finding.name: finding for finding in await backend.check()}
        assert findings[f"table {made.stack}-index"].is_ok
        assert "bucket lazy-123456789012-us-east-1" in findings
    finally:
        await backend.close()
