"""The short way of a call to DynamoDB does as the SDK's: answers, errors, retries and signature."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import pytest
import pytest_asyncio
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError
from botocore.parsers import ResponseParserError

from roost.storage.aws.clients import Clients
from roost.storage.aws.signing import Pattern, pattern_of, signed_headers
from roost.testing.standins import StandIn
from tests.standins.harness import point_sdk_at

pytestmark = pytest.mark.slow

ITEM = {
    "work": {"S": "wörk \u2028 \U0001f426"},
    "position": {"N": "7"},
    "entry": {"S": 'quote " and \\'},
    "body": {"B": bytes(range(256))},
    "map": {"M": {"B": {"S": "b"}, "list": {"L": [{"BOOL": True}, {"NULL": True}, {"B": b""}]}}},
}
TABLE = "shortcut-journal"  # of no stack: its key is not that of a journal
PUT: dict[str, Any] = {
    "TableName": TABLE,
    "Item": ITEM,
    "ConditionExpression": "attribute_not_exists(#work)",
    "ExpressionAttributeNames": {"#work": "work"},
}


@dataclass
class Http:
    """A response as the SDK's HTTP session gives it."""

    status_code: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    async def content(self) -> bytes:
        return self.body


def says(status: int, document: Any, **headers: str) -> Http:
    return Http(status, json.dumps(document).encode(), {k.replace("_", "-"): v for k, v in headers.items()})


class Line:
    """In the place of the SDK's HTTP session: what was sent, and what is answered next."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.next: deque[Http | Exception] = deque()

    async def send(self, request: Any) -> Http:
        self.sent.append(request)
        answer = self.next.popleft() if self.next else says(200, {})
        if isinstance(answer, Exception):
            raise answer
        return answer

    def header(self, name: str) -> list[str]:
        """A header of all that was sent."""
        found = [{key.lower(): value for key, value in one.headers.items()} for one in self.sent]
        return [str(one.get(name, "")) for one in found]


@pytest_asyncio.fixture
async def clients(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clients]:
    for name, value in {
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    opened = Clients(1)
    yield opened
    await opened.close()


async def on_the_line(clients: Clients) -> tuple[Any, Line]:
    """A client that reaches nobody."""
    client, line = await clients.get("dynamodb"), Line()
    client._endpoint.http_session.send = line.send
    return client, line


# --- what is sent ------------------------------------------------------------


async def test_what_is_sent_is_what_the_sdk_sends(clients: Clients) -> None:
    """The same URL, the same JSON, and the same headers but for those that no two requests share."""
    client, line = await on_the_line(clients)
    await client._make_api_call.__self__._long_way("PutItem", PUT)
    await client.put_item(**PUT)
    first, second = line.sent
    assert (second.url, second.method) == (first.url, first.method)
    assert json.loads(second.body) == json.loads(first.body)
    each = {"authorization", "x-amz-date", "content-length", "amz-sdk-invocation-id", "amz-sdk-request"}
    theirs, ours = (
        {
            name.lower(): value if isinstance(value, str) else value.decode()
            for name, value in one.headers.items()
            if name.lower() not in each
        }
        for one in (first, second)
    )
    assert ours == theirs
    assert ours["user-agent"].startswith("roost/")


@pytest.mark.parametrize("token", [None, "a session's token"])
def test_the_signature_is_that_of_the_sdk(token: str | None) -> None:
    keys = ReadOnlyCredentials("AKID", "secret", token)
    pattern = Pattern(
        "https://dynamodb-fips.us-east-1.amazonaws.com/",
        "dynamodb-fips.us-east-1.amazonaws.com",
        "us-east-1",
        "dynamodb",
        "DynamoDB_20120810.",
        "application/x-amz-json-1.0",
        {"Content-Type": "application/x-amz-json-1.0", "User-Agent": "roost"},
    )
    made = signed_headers(pattern, "PutItem", b'{"a": 1}', keys, 1_764_000_000.0)
    request = AWSRequest("POST", pattern.url, data=b'{"a": 1}', headers={**made})
    request.context["timestamp"] = made["X-Amz-Date"]
    del request.headers["Authorization"]
    sdk = SigV4Auth(keys, "dynamodb", "us-east-1")
    signature = sdk.signature(sdk.string_to_sign(request, sdk.canonical_request(request)), request)
    sdk._inject_signature_to_request(request, signature)
    assert made["Authorization"] == request.headers["Authorization"]


async def test_credentials_that_were_renewed_sign_the_next_call(clients: Clients) -> None:
    """As those of a role do, hourly."""
    client, line = await on_the_line(clients)
    session = clients._session._session
    await client.put_item(**PUT)
    session._credentials.access_key, session._credentials.token = "NEWID", "token"
    await client.put_item(**PUT)
    assert ["NEWID" in one for one in line.header("authorization")] == [False, True]
    assert line.header("x-amz-security-token")[-1] == "token"


async def test_a_retry_is_signed_anew(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    client, line = await on_the_line(clients)
    line.next += [says(500, {"__type": "x#InternalServerError"}), says(200, {})]
    at = iter((1_764_000_000.0, 1_764_000_001.0))
    shortcut = client._make_api_call.__self__
    monkeypatch.setattr(shortcut._clock, "now", lambda: next(at))
    await client.put_item(**PUT)
    assert len({*line.header("authorization")}) == len({*line.header("x-amz-date")}) == 2


SIGNED = "content-type;host;x-amz-date;x-amz-target"


def shown(url: str = "https://x/", **changed: str) -> Pattern | None:
    """The pattern of a request of the SDK with some of its headers changed."""
    signed = f"SignedHeaders={changed.pop('signed', SIGNED)}, Signature={'0' * 64}"
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": "DynamoDB_20120810.PutItem",
        "Authorization": f"AWS4-HMAC-SHA256 Credential=A/20261125/eu-west-1/dynamodb/aws4_request, {signed}",
    }
    return pattern_of(url, {**headers, **changed}.items())


def test_a_request_shows_where_it_goes_and_what_it_is_signed_for() -> None:
    pattern = shown("https://x:8443/")
    assert pattern is not None
    assert (pattern.host, pattern.region, pattern.service) == ("x:8443", "eu-west-1", "dynamodb")


@pytest.mark.parametrize(
    "seen",
    [
        shown(Authorization="Bearer token"),
        shown(**{"X-Amz-Target": ""}),
        shown("https://x/a/path"),
        shown("https://x/?a=query"),
        shown(signed=f"{SIGNED};x-of-a-proxy"),
        shown(signed="host;x-amz-date"),
    ],
    ids=["a token", "another protocol", "a path", "a query", "one header more", "fewer headers"],
)
def test_requests_of_an_unknown_kind_give_no_pattern(seen: Pattern | None) -> None:
    assert seen is None


async def test_a_client_without_a_pattern_goes_the_sdks_way(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.storage.aws.shortcut.pattern_of", lambda *_: None)
    client, line = await on_the_line(clients)
    for _ in range(2):
        await client.put_item(**PUT)
    assert all(line.header("amz-sdk-invocation-id"))


# --- what comes back ---------------------------------------------------------


async def test_answers_and_errors_are_those_of_the_sdk(
    ministack: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same calls on both ways: what is found, bytes included, and what stands where a condition fails."""
    point_sdk_at(ministack, monkeypatch)
    clients = Clients(2)
    client = await clients.get("dynamodb")
    try:
        await client.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "work", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "work", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        await client.put_item(**PUT)
        key = {"work": ITEM["work"]}
        calls: list[tuple[str, dict[str, Any]]] = [
            ("GetItem", {"TableName": TABLE, "Key": key, "ReturnConsumedCapacity": "TOTAL"}),
            ("BatchGetItem", {"RequestItems": {TABLE: {"Keys": [key]}}}),
            ("Scan", {"TableName": TABLE}),
            ("PutItem", {**PUT, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}),
            (
                "TransactWriteItems",
                {
                    "TransactItems": [{"Put": {**PUT, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}}],
                    "ClientRequestToken": "once",
                },
            ),
            ("PutItem", {"TableName": "none", "Item": ITEM}),
        ]
        for operation, params in calls:
            short, long = [
                await said(way, operation, params)
                for way in (client._make_api_call, client._make_api_call.__self__._long_way)
            ]
            assert short == long, operation
        await client.delete_table(TableName=TABLE)
    finally:
        await clients.close()


async def said(way: Any, operation: str, params: dict[str, Any]) -> dict[str, Any]:
    """An answer, or an error's, less what differs between two calls."""
    try:
        found = await way(operation, params)
    except ClientError as error:
        found = {**error.response, "type": type(error).__name__}
        found.pop("message", None)  # the SDK has it here, too
        found.pop("Message", None)
    status = found.pop("ResponseMetadata")["HTTPStatusCode"]
    return {**found, "status": status}


async def test_bytes_come_out_of_base64_where_an_attribute_is_of_bytes(clients: Clients) -> None:
    client, line = await on_the_line(clients)
    encoded = base64.b64encode(b"\x00\xff").decode()
    line.next += [says(200, {"Item": {"body": {"B": encoded}, "B": {"S": encoded}}})]
    found = await client.get_item(TableName="t", Key={"work": {"S": "w"}})
    assert found["Item"] == {"body": {"B": b"\x00\xff"}, "B": {"S": encoded}}


# --- what goes wrong ---------------------------------------------------------


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries at once; what the SDK's policy would have waited."""
    pauses: list[float] = []

    async def sleep(_: object, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("roost.storage.aws.shortcut.SystemClock.sleep", sleep)
    return pauses


async def test_what_may_pass_is_tried_as_often_as_the_sdk_does(
    clients: Clients, no_pauses: list[float]
) -> None:
    """Standard mode: three times in all, with pauses that it draws."""
    client, line = await on_the_line(clients)
    line.next += [says(400, {"__type": "x#ThrottlingException", "message": "slow"})] * 3
    with pytest.raises(ClientError, match=r"ThrottlingException.*slow"):
        await client.put_item(**PUT)
    assert (len(line.sent), len(no_pauses)) == (3, 2)
    assert clients._met.counts == {"ThrottlingException": 2}, "the last one is its caller's"
    assert all(0.0 <= pause <= 2.0 for pause in no_pauses)


@pytest.mark.parametrize(
    "failure",
    [
        says(500, {"__type": "x#InternalServerError"}),
        Http(503, b"<html>a load balancer</html>"),
        ConnectionClosedError(endpoint_url="http://x"),
        EndpointConnectionError(endpoint_url="http://x"),
        says(200, {"a": "damaged"}, x_amz_crc32="1"),
    ],
    ids=["500", "503", "closed", "not reached", "damaged"],
)
async def test_a_failure_that_passes_is_not_heard_of(
    clients: Clients, no_pauses: list[float], failure: Http | Exception
) -> None:
    client, line = await on_the_line(clients)
    good = json.dumps({"Attributes": {}}).encode()
    line.next += [failure, Http(200, good, {"x-amz-crc32": str(crc32(good))})]
    assert (await client.put_item(**PUT))["Attributes"] == {}
    assert len(no_pauses) == 1


async def test_a_refused_condition_is_no_retry(clients: Clients, no_pauses: list[float]) -> None:
    client, line = await on_the_line(clients)
    line.next += [says(400, {"__type": "x#ConditionalCheckFailedException", "Item": {"work": {"S": "w"}}})]
    with pytest.raises(client.exceptions.ConditionalCheckFailedException) as caught:
        await client.put_item(**PUT)
    assert caught.value.response["Item"] == {"work": {"S": "w"}}
    assert no_pauses == []
    assert not clients._met.counts


@pytest.mark.parametrize("body", [b'{"Item": {"wor', b"[]"])
async def test_an_answer_that_was_cut_off_is_a_lost_one(
    clients: Clients, no_pauses: list[float], body: bytes
) -> None:
    """The SDK takes it for an empty one."""
    client, line = await on_the_line(clients)
    line.next += [Http(200, body)] * 3
    with pytest.raises(ResponseParserError):
        await client.get_item(TableName="t", Key={"work": {"S": "w"}})
