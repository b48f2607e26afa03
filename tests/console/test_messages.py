"""Messages that were set aside are ended as they were listed, whatever a caller says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace
from pydantic import SecretStr

from roost.config import ApprovalSettings, ConsoleSettings, Settings
from roost.console.app import create_app
from roost.console.sealed import Seals
from roost.errors import InputError
from roost.names import Lane
from roost.storage.aws.backend import AwsBackend
from roost.storage.ports import DeadLetter, Message
from roost.testing.standins import StandIn
from roost.wiring import Runtime, open_runtime
from tests.standins.harness import make_stack, point_sdk_at

OURS = DeadLetter("w-1", 3, Lane.LOW, "unknown work id", "", "receipt.1")
TOKENS = {f"{role}_token": SecretStr(f"the token of the {role}") for role in ("admin", "operator")}
PATH = "/api/v1/failed/messages"


def settings(**console: Any) -> Settings:
    return Settings(console=ConsoleSettings(**console))


@pytest.mark.parametrize(
    "other", [{"work_id": "w-2"}, {"work_id": ""}, {"cause": 4}, {"lane": Lane.HIGH}, {"receipt": "r"}]
)
def test_what_is_said_otherwise_is_not_as_it_was_listed(other: Mapping[str, Any]) -> None:
    seals = Seals(settings())
    sealed = seals.seal(OURS)
    assert seals.open(sealed) == OURS
    assert seals.open(replace(sealed, reason="cut", text="cut")) == replace(OURS, reason="cut", text="cut")
    for forged in (replace(sealed, **other), replace(OURS, **other), replace(sealed, receipt="é.r")):
        with pytest.raises(InputError):
            seals.open(forged)


def test_processes_with_the_same_secrets_know_each_others() -> None:
    for same in (
        settings(auth="token", **TOKENS),
        settings(auth="headers", proxy_secret=SecretStr("s" * 20)),
        Settings(approvals=ApprovalSettings(signing_secret=SecretStr("s" * 20))),
    ):
        assert Seals(same).open(Seals(same).seal(OURS)) == OURS
    with pytest.raises(InputError):
        Seals(settings()).open(Seals(settings()).seal(OURS))


async def set_aside(runtime: Runtime, work_id: str) -> None:
    """Two messages: one of ours, and on SQS one that is not."""
    queue = runtime.backend.queue
    await queue.send([Message(work_id, 7, Lane.LOW)])
    found = await queue.receive(1, visibility_seconds=60, wait_seconds=2, lanes=[Lane.LOW])
    await queue.reject(found[0], "nobody knows it")
    if isinstance(runtime.backend, AwsBackend):
        aws = runtime.backend.aws
        sqs = await aws.clients.get("sqs")
        url = (await sqs.get_queue_url(QueueName=aws.names.dead_letters))["QueueUrl"]
        await sqs.send_message(QueueUrl=url, MessageBody='{"not": "ours"}')


def web(runtime: Runtime, known: Settings, role: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(create_app(runtime, known), client=("127.0.0.1", 1))
    headers = {"Authorization": f"Bearer {TOKENS[f'{role}_token'].get_secret_value()}"}
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)


async def end(client: httpx2.AsyncClient, messages: list[Any], *, send_again: bool = True) -> int:
    answer = await client.post(PATH, json={"messages": messages, "send_again": send_again})
    return int(answer.status_code)


async def resent(runtime: Runtime) -> list[tuple[str, int, Lane]]:
    found = await runtime.backend.queue.receive(10, visibility_seconds=60, wait_seconds=1, lanes=[*Lane])
    return [(one.work_id, one.cause, one.lane) for one in found]


async def test_a_wrong_name_ends_nothing() -> None:
    known = Settings(storage="memory:", console=ConsoleSettings(auth="token", **TOKENS))
    async with open_runtime(known) as runtime, web(runtime, known, "operator") as operator:
        await set_aside(runtime, "w-1")
        [listed] = (await operator.get(PATH)).json()["messages"]
        assert listed["work_id"] == "w-1"
        assert await end(operator, [{**listed, "work_id": "w-2"}]) == 400
        assert await end(operator, [{**listed, "receipt": listed["receipt"].partition(".")[2]}]) == 400
        assert len(await runtime.backend.queue.dead_letters(10)) == 1
        assert await runtime.client.deeds() == [], "nothing was done, and nothing is on record"
        assert await end(operator, [listed]) == 200
        assert await resent(runtime) == [("w-1", 7, Lane.LOW)]


@pytest.mark.slow
@pytest.mark.parametrize("standin", ["ministack", pytest.param("moto", marks=pytest.mark.soak)])
async def test_a_message_of_no_work_is_not_dropped_under_the_name_of_some(
    standin: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To send it again is to drop it, which takes an admin; and what was listed a moment ago can be ended."""
    there: StandIn = request.getfixturevalue(standin)
    point_sdk_at(there, monkeypatch)
    known = Settings(
        storage="aws", aws=await make_stack("messages"), console=ConsoleSettings(auth="token", **TOKENS)
    )
    async with open_runtime(known) as runtime, web(runtime, known, "operator") as operator:
        await set_aside(runtime, "w-1")
        listed = {one["work_id"]: one for one in (await operator.get(PATH)).json()["messages"]}
        assert listed.keys() == {"", "w-1"}
        assert await end(operator, [listed[""]]) == 403
        assert await end(operator, [{**listed[""], "work_id": "w-1"}]) == 400
        assert await end(operator, [{**listed["w-1"], "receipt": listed[""]["receipt"]}]) == 400
        assert await end(operator, [listed["w-1"]]) == 200
        assert await resent(runtime) == [("w-1", 7, Lane.LOW)]
        async with web(runtime, known, "admin") as admin:
            assert await end(admin, [listed[""]], send_again=False) == 200
        assert await waiting(runtime) == 0


@pytest.mark.slow
async def test_messages_of_a_page_that_was_just_seen_are_ended(
    ministack: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look at them hides them from the next look for a minute."""
    point_sdk_at(ministack, monkeypatch)
    known = Settings(
        storage="aws", aws=await make_stack("page-messages"), console=ConsoleSettings(auth="token", **TOKENS)
    )
    async with open_runtime(known) as runtime, web(runtime, known, "operator") as operator:
        await set_aside(runtime, "w-1")
        assert "nobody knows it" in (await operator.get("/failed")).text
        form = {"action": "send"}
        assert "Send 1 messages again?" in (await operator.post("/failed/messages", data=form)).text
        assert (await operator.post("/failed/messages/do", data=form)).status_code == 303
        assert await resent(runtime) == [("w-1", 7, Lane.LOW)]


async def waiting(runtime: Runtime) -> int:
    """How many messages there are in the dead-letter queue, hidden ones too."""
    assert isinstance(runtime.backend, AwsBackend)
    aws = runtime.backend.aws
    sqs = await aws.clients.get("sqs")
    url = (await sqs.get_queue_url(QueueName=aws.names.dead_letters))["QueueUrl"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return sum(int(value) for value in found["Attributes"].values())
