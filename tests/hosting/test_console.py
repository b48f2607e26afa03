"""The console's own tests, once more with API Gateway and the function's adapter before it.

And what is only so there: who called is in the event, downloads are links, named stages.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from roost.config import AwsSettings, ConsoleSettings, Settings
from roost.console.app import create_app
from roost.console.links import LINK_SECONDS, link_of
from roost.hosting import lambda_console
from roost.hosting.gateway import Gateway
from roost.hosting.lambda_console import console_of
from roost.models import Artifact
from roost.testing.standins import StandIn
from roost.wiring import open_runtime
from tests.console import test_api, test_guard, test_page_acts, test_pages
from tests.console.conftest import Desk, Front, Make
from tests.hosting.api import ApiGateway
from tests.hosting.shapes import Context, http_event
from tests.standins.harness import SHARDS, make_stack, point_sdk_at

pytestmark = pytest.mark.soak  # what they test runs by itself, too


@pytest.fixture
def front() -> Front:
    """An HTTP API before the app."""
    return lambda app: ApiGateway(Gateway(app))


NOT_HERE = {"test_names_of_this_machine_are_ours"}  # an API is never asked for by these

for module in (test_api, test_guard, test_page_acts, test_pages):
    tests = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    globals().update({name: test for name, test in tests.items() if name not in NOT_HERE})


# --- what is only so behind API Gateway --------------------------------------


def test_a_page_does_not_stream(desk: Desk) -> None:
    """The page's script polls then: `EventSource` gives up for good at a 204, without a complaint."""
    answer = desk.web.get("/stream", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.content) == (204, b"")


CLAIMS = {"sub": "ann", "roost_role": "operator"}


def ask(make: Make, authorizer: dict[str, Any] | None, **request: Any) -> dict[str, Any]:
    """The reply to an event with what an authorizer said in it."""
    desk = make(auth="gateway", hosts=("id.execute-api.us-east-1.amazonaws.com",))
    event = http_event(authorizer=authorizer, **request)
    return desk.run(Gateway(desk.app).answer(event, Context(lambda: 30.0)))


def test_who_called_is_what_the_authorizer_says(make: Make) -> None:
    assert ask(make, {"jwt": {"claims": CLAIMS, "scopes": None}})["statusCode"] == 200
    assert "ann" in ask(make, {"jwt": {"claims": CLAIMS}}, path="/", headers={"accept": "text/html"})["body"]


def test_without_an_authorizer_nobody_is_known(make: Make) -> None:
    assert ask(make, None)["statusCode"] == 401


def test_a_header_that_claims_to_be_somebody_is_worth_nothing(make: Make) -> None:
    headers = {"x-forwarded-user": "ann", "x-forwarded-groups": "operator", "x-amzn-oidc-identity": "ann"}
    assert ask(make, None, headers=headers)["statusCode"] == 401


def test_a_role_that_is_no_operators_only_looks(make: Make) -> None:
    viewer = {"jwt": {"claims": {"sub": "ben", "roost_role": "reader"}}}
    request = {"method": "POST", "path": "/api/v1/work", "body": '{"engine": "demo"}'}
    headers = {"content-type": "application/json"}
    assert ask(make, viewer, headers=headers, **request)["statusCode"] == 403
    assert ask(make, {"jwt": {"claims": CLAIMS}}, headers=headers, **request)["statusCode"] == 201


def test_groups_make_admins_and_operators(make: Make) -> None:
    """A claim is a list where a Lambda authorizer gives one, and a text where API Gateway made it of one."""
    request = {"method": "POST", "path": "/api/v1/budget", "body": '{"limits": {}}'}
    headers = {"content-type": "application/json"}
    for groups, status in (("[staff admin]", 200), ("operator", 403), ("", 403), ("administrator", 403)):
        claims = {"jwt": {"claims": {"sub": "ann", "roost_role": groups}}}
        assert ask(make, claims, headers=headers, **request)["statusCode"] == status, groups
    context = {"lambda": {"sub": "ann", "roost_role": ["staff", "admin"]}}
    assert ask(make, context, headers=headers, **request)["statusCode"] == 200


def signed(arn: str) -> dict[str, Any]:
    """What API Gateway says of a request that was signed with AWS's keys."""
    return {"iam": {"accessKey": "AKIA", "accountId": "123456789012", "userArn": arn, "userId": "AIDA"}}


@pytest.mark.parametrize(
    ("arn", "name", "role"),
    [
        ("arn:aws:sts::123456789012:assumed-role/platform/ann", "platform/ann", "admin"),
        ("arn:aws:iam::123456789012:user/team/ben", "team/ben", "operator"),
        ("arn:aws:sts::123456789012:assumed-role/other/platform", "other/platform", "viewer"),
        ("arn:aws:sts::210987654321:assumed-role/platform/ann", "platform/ann", "viewer"),
        ("arn:aws:iam::123456789012:root", "root", "viewer"),
    ],
)
def test_who_signs_with_keys_of_aws_is_known_by_their_arn(make: Make, arn: str, name: str, role: str) -> None:
    desk = make(
        auth="gateway",
        hosts=("id.execute-api.us-east-1.amazonaws.com",),
        admin_roles=("arn:aws:iam::123456789012:role/platform",),
        operator_roles=("arn:aws:iam::123456789012:user/team/ben",),
    )
    event = http_event(authorizer=signed(arn), path="/", headers={"accept": "text/html"})
    page = desk.run(Gateway(desk.app).answer(event, Context(lambda: 30.0)))["body"]
    assert f'{name} <span class="tag">{role}</span>' in page


def test_a_signature_without_an_arn_is_nobodys(make: Make) -> None:
    assert ask(make, signed(""))["statusCode"] == 401


def test_links_of_a_named_stage_begin_with_it(make: Make) -> None:
    desk = make(auth="gateway", hosts=("id.execute-api.us-east-1.amazonaws.com",))
    event = http_event(path="/prod/work", stage="prod", authorizer={"jwt": {"claims": CLAIMS}})
    event["headers"]["accept"] = "text/html"
    gateway = Gateway(desk.app, base_path="/prod")
    reply = desk.run(gateway.answer(event, Context(lambda: 30.0)))
    assert reply["statusCode"] == 200
    assert 'href="/prod/failed' in reply["body"]


# --- the handler -------------------------------------------------------------


@pytest.fixture
def settings(ministack: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Of a stack on a stand-in, and in the environment, as the function has them."""
    point_sdk_at(ministack, monkeypatch)
    made = asyncio.run(make_stack("lambdaconsole"))
    monkeypatch.setenv("ROOST_STORAGE", f"aws:{made.stack}")
    monkeypatch.setenv("ROOST_AWS__BUCKET", str(made.bucket))
    monkeypatch.setenv("ROOST_AWS__SHARDS", str(SHARDS))
    monkeypatch.setenv("ROOST_CONSOLE__AUTH", "gateway")
    lambda_console.container.cache_clear()
    yield Settings(
        storage=f"aws:{made.stack}",
        aws=AwsSettings(stack=made.stack, bucket=made.bucket, shards=SHARDS),
        console=ConsoleSettings(auth="gateway"),
    )
    lambda_console.container().close()
    lambda_console.container.cache_clear()


def call(path: str, *, method: str = "GET", body: str | None = None) -> dict[str, Any]:
    event = http_event(
        method,
        path,
        body=body,
        headers={"accept": "application/json", "content-type": "application/json"},
        authorizer={"jwt": {"claims": CLAIMS}},
    )
    return lambda_console.handler(event, Context(lambda: 30.0))


@pytest.mark.slow
def test_the_handler_opens_the_stack_and_stays_warm(settings: Settings) -> None:
    made = call("/api/v1/work", method="POST", body='{"engine": "demo", "payload": {"count": 1}}')
    assert made["statusCode"] == 201
    work_id = json.loads(made["body"])["work_id"]
    shown = call(f"/api/v1/work/{work_id}")
    assert json.loads(shown["body"])["control"]["state"] == "queued"


@pytest.mark.slow
async def test_a_download_is_a_link_to_the_blob_that_needs_no_sign_in(
    ministack: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the bytes behind it are those that were stored."""
    point_sdk_at(ministack, monkeypatch)
    made = await make_stack("lambdalinks")
    settings = Settings(
        storage=f"aws:{made.stack}", aws=AwsSettings(stack=made.stack, bucket=made.bucket, shards=SHARDS)
    )
    content = bytes(range(256)) * 100
    async with open_runtime(settings) as runtime:
        blob = await runtime.backend.artifacts.put([content])
        artifact = Artifact(
            name="out/päge.bin", digest=blob.digest, size_bytes=blob.size_bytes, created_at=0.0
        )
        link = link_of(runtime)
        assert link is not None
        address = await link(artifact)
        async with httpx2.AsyncClient() as web:
            answer = await web.get(address)
    assert answer.content == content
    assert answer.headers["content-disposition"] == 'attachment; filename="p_ge.bin"'
    assert f"X-Amz-Expires={LINK_SECONDS}" in address


def test_downloads_are_led_to_the_link(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = make()
    steps = [{"artifacts": [["report.txt", "hello", "text/plain"]]}]
    work_id = desk.enqueue(*steps)
    desk.work()

    async def link(artifact: Artifact) -> str:
        return f"https://bucket.example/blobs/{artifact.digest}?X-Amz-Signature=1"

    app = create_app(desk.runtime, desk.settings, link=link)
    linked = Desk(desk.runtime, app, desk.loop, desk.settings, desk.front)
    answer = linked.web.get(f"/work/{work_id}/artifacts/0/download")
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("https://bucket.example/blobs/")
    assert answer.headers["cache-control"] == "no-store"


def test_storage_without_links_sends_the_bytes_itself(desk: Desk) -> None:
    assert link_of(desk.runtime) is None
    assert isinstance(console_of(desk.runtime, desk.settings), Gateway)
