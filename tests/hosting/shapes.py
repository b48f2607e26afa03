"""Events as AWS sends them, by the samples of its developer guides, and a context as Lambda gives it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from roost.models import Lane
from roost.storage.aws.messages import BODY_VERSION
from roost.storage.ports import Delivery

_ACCOUNT = "123456789012"
_REGION = "us-east-1"
_numbers = count(1)


@dataclass
class Context:
    """What Lambda gives a handler.

    Attributes:
        remaining: gives the seconds that are left.
    """

    remaining: Callable[[], float]
    aws_request_id: str = field(default_factory=lambda: f"c6af9ac6-7b61-11e6-9a41-{next(_numbers):012x}")
    function_name: str = "roost-worker"
    memory_limit_in_mb: str = "512"
    invoked_function_arn: str = f"arn:aws:lambda:{_REGION}:{_ACCOUNT}:function:roost-worker"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int(self.remaining() * 1000))


def queue_arn(lane: Lane, stack: str = "roost") -> str:
    return f"arn:aws:sqs:{_REGION}:{_ACCOUNT}:{stack}-{lane.value}"


def sqs_record(
    body: str, *, receipt: str, lane: Lane = Lane.NORMAL, received_count: int = 1
) -> dict[str, Any]:
    """Lambda Developer Guide, "Using Lambda with Amazon SQS", standard queue message event."""
    return {
        "messageId": f"059f36b4-87a3-44ab-83d2-{next(_numbers):012x}",
        "receiptHandle": receipt,
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": str(received_count),
            "SentTimestamp": "1545082649183",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1545082649185",
            "MessageGroupId": "default",
        },
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(body.encode()).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn(lane),
        "awsRegion": _REGION,
    }


def sqs_event(deliveries: Sequence[Delivery]) -> dict[str, Any]:
    """The event of a batch of deliveries."""
    return {
        "Records": [
            sqs_record(
                json.dumps({"v": BODY_VERSION, "work": one.work_id, "cause": one.cause}),
                receipt=one.receipt,
                lane=one.lane,
                received_count=one.received_count,
            )
            for one in deliveries
        ]
    }


def schedule_event() -> dict[str, Any]:
    """EventBridge Scheduler User Guide: the default payload of a schedule with a Lambda target."""
    return {
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": _ACCOUNT,
        "time": "2026-10-08T16:53:06Z",
        "region": _REGION,
        "resources": [f"arn:aws:scheduler:{_REGION}:{_ACCOUNT}:schedule/default/roost-sweeper"],
        "detail": "{}",
    }


def http_event(
    method: str = "GET",
    path: str = "/",
    *,
    query: str = "",
    headers: dict[str, str] | None = None,
    cookies: Sequence[str] = (),
    body: str | None = None,
    is_base64: bool = False,
    stage: str = "$default",
    authorizer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """API Gateway Developer Guide, "Working with AWS Lambda proxy integrations", payload format 2.0."""
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            "host": "id.execute-api.us-east-1.amazonaws.com",
            "x-forwarded-for": "192.0.2.1",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
            **(headers or {}),
        },
        "requestContext": {
            "accountId": _ACCOUNT,
            "apiId": "api-id",
            "domainName": "id.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "id",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "agent",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": stage,
            "time": "12/Mar/2026:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "isBase64Encoded": is_base64,
    }
    if cookies:
        event["cookies"] = list(cookies)
    if body is not None:
        event["body"] = body
    if authorizer is not None:
        event["requestContext"]["authorizer"] = authorizer
    return event
