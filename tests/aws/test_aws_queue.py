"""What the contract suite does not show of the queue on SQS: its calls, receipts, and what is not ours."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from roost.errors import StorageDenied, StorageError, StorageUnavailable
from roost.models import Lane
from roost.storage.aws.clients import Aws
from roost.storage.aws.names import definition
from roost.storage.aws.queue import AwsQueue
from roost.storage.ports import Delivery, Message
from roost.testing.standins import StandIn
from tests.aws.wire import Answer, Fail, First, LoseReply, Stack, Wire, new_stack

pytestmark = pytest.mark.slow
LANES = (Lane.HIGH, Lane.NORMAL, Lane.LOW)


@dataclass
class Opened:
    """A queue, its calls, and the stand-in behind it."""

    aws: Aws
    queue: AwsQueue
    wire: Wire
    standin: StandIn
    sqs: Any

    async def receive(
        self, limit: int = 10, *, wait_seconds: float = 0, lanes: Any = LANES
    ) -> list[Delivery]:
        found = await self.queue.receive(limit, visibility_seconds=30, wait_seconds=wait_seconds, lanes=lanes)
        return list(found)

    async def receive_all(self, count: int) -> list[Delivery]:
        found: list[Delivery] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                found += await self.receive(wait_seconds=1)
        return found

    async def url(self, name: str) -> str:
        return str((await self.sqs.get_queue_url(QueueName=name))["QueueUrl"])

    async def raw(self, body: str, lane: Lane = Lane.NORMAL) -> None:
        """Send a message that is not Roost's."""
        url = await self.url(self.aws.names.queue(lane))
        await self.sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="x")

    async def dead(self) -> list[str]:
        answer = await self.sqs.receive_message(
            QueueUrl=await self.url(self.aws.names.dead_letters), MaxNumberOfMessages=10
        )
        return [message["Body"] for message in answer.get("Messages", [])]


@pytest_asyncio.fixture(params=["ministack", "moto"])
async def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    standin: StandIn = request.getfixturevalue(request.param)
    stack: Stack = await new_stack(standin, monkeypatch)
    aws, _ = await stack.open()
    sqs = await aws.clients.get("sqs")
    queue = AwsQueue(aws)
    await queue.backlog()  # asks for the URLs
    wire = Wire(sqs, "sqs")
    yield Opened(aws, queue, wire, standin, sqs)
    await queue.close()
    await stack.close()


# --- calls -------------------------------------------------------------------


async def test_calls_are_shared_by_ten(opened: Opened) -> None:
    await opened.queue.send([Message(f"w{number}", 0) for number in range(25)])
    assert opened.wire.taken() == {"SendMessageBatch": 3}
    found = await opened.receive_all(25)
    opened.wire.taken()
    assert all(await opened.queue.extend(found, 60))
    assert opened.wire.taken() == {"ChangeMessageVisibilityBatch": 3}
    await asyncio.gather(*(opened.queue.acknowledge([delivery]) for delivery in found))
    assert opened.wire.taken() == {"DeleteMessageBatch": 3}
    assert await opened.queue.backlog() == 0


async def test_one_alone_waits_for_nobody(opened: Opened) -> None:
    await opened.queue.send([Message("w", 0)])
    [delivery] = await opened.receive()
    await opened.queue.acknowledge([delivery])
    assert opened.wire.taken() == {"SendMessageBatch": 1, "ReceiveMessage": 2, "DeleteMessageBatch": 1}


async def test_an_idle_receiver_makes_one_long_poll_a_lane(opened: Opened) -> None:
    assert await opened.receive(wait_seconds=1) == []
    opened.wire.taken()
    assert await opened.receive(wait_seconds=1) == []
    polls = [arguments for name, arguments in opened.wire.calls if name == "ReceiveMessage"]
    assert {poll["QueueUrl"].rpartition("-")[2] for poll in polls} == {"high", "normal", "low"}
    assert all(poll["WaitTimeSeconds"] == 1 for poll in polls)
    assert len(polls) <= 6  # a stand-in may answer a moment early


async def test_after_a_delivery_to_an_idle_receiver_one_more_poll_is_made(opened: Opened) -> None:
    """The other lanes' polls go on; a look before it would be a request for nothing."""
    assert await opened.receive() == []
    waiting = asyncio.create_task(opened.receive(wait_seconds=15))
    while len(opened.wire.calls) < 2 * len(LANES):
        await asyncio.sleep(0.01)
    await opened.queue.send([Message("w", 0)])
    assert [one.work_id for one in await waiting] == ["w"]
    opened.wire.taken()
    assert await opened.receive(wait_seconds=0.3) == []
    assert opened.wire.taken() == {"ReceiveMessage": 1}


async def test_what_arrives_while_a_long_poll_waits_is_handed_over_at_once(opened: Opened) -> None:
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(opened.receive(wait_seconds=15))
    while len(opened.wire.calls) < len(LANES):
        await asyncio.sleep(0.01)
    sent = loop.time()
    await opened.queue.send([Message("w", 0)])
    assert [delivery.work_id for delivery in await waiting] == ["w"]
    assert loop.time() - sent < 10  # moto looks once a second; the poll would wait for 15


async def test_the_message_group_is_the_namespace(opened: Opened) -> None:
    await opened.queue.send([Message("team-a/w", 0), Message("w", 0)])
    [(_, arguments)] = opened.wire.calls
    assert [entry["MessageGroupId"] for entry in arguments["Entries"]] == ["team-a", "default"]
    assert {delivery.work_id for delivery in await opened.receive_all(2)} == {"team-a/w", "w"}


# --- faults ------------------------------------------------------------------


async def test_an_entry_that_failed_alone_is_sent_again(opened: Opened) -> None:
    failed = {"Id": "1", "Code": "InternalError", "SenderFault": False}
    sent = {"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"}
    opened.wire.script("SendMessageBatch", Answer({"Successful": [sent], "Failed": [failed]}))
    await opened.queue.send([Message("a", 0), Message("b", 0)])
    assert [len(arguments["Entries"]) for _, arguments in opened.wire.calls] == [2, 1]
    assert [delivery.work_id for delivery in await opened.receive_all(1)] == ["b"]


async def test_a_throttled_entry_passes_though_it_counts_as_its_senders_fault(opened: Opened) -> None:
    """Taken for malformed, it ended the commit that sent it, and a lease that was to be extended."""
    failed = [
        Answer({"Successful": [], "Failed": [{"Id": "0", "Code": code, "SenderFault": True}]})
        for code in ("RequestThrottled", "KmsThrottled", "KMS.ThrottlingException")
    ]
    for operation in ("SendMessageBatch", "ChangeMessageVisibilityBatch", "DeleteMessageBatch"):
        opened.wire.script(operation, *failed)
    await opened.queue.send([Message("w", 0)])
    [delivery] = await opened.receive_all(1)
    assert await opened.queue.extend([delivery], 30) == [True]
    await opened.queue.acknowledge([delivery])
    assert opened.wire.taken()["DeleteMessageBatch"] == len(failed) + 1


async def test_a_throttled_call_is_made_again_and_counted(opened: Opened) -> None:
    opened.wire.script("SendMessageBatch", Fail("RequestThrottled"), Fail("RequestThrottled"))
    await opened.queue.send([Message("w", 0)])
    assert [delivery.work_id for delivery in await opened.receive_all(1)] == ["w"]
    assert opened.aws.patience.met.counts["RequestThrottled"] >= 1


async def test_a_reply_that_was_cut_off_is_asked_for_again(opened: Opened) -> None:
    """The SDK takes it for a reply without members; a sweep that met one ended the worker."""
    await opened.queue.send([Message("w", 0)])
    opened.wire.script("GetQueueAttributes", *[Answer({})] * 3)
    assert await opened.queue.backlog() >= 0
    opened.wire.script("GetQueueUrl", Answer({}))
    other = AwsQueue(opened.aws)
    assert await other.backlog() >= 0
    await other.close()


async def test_a_lost_reply_sends_twice_at_most(opened: Opened) -> None:
    opened.wire.script("SendMessageBatch", LoseReply())
    await opened.queue.send([Message("w", 0)])
    found = await opened.receive_all(1)
    assert {delivery.work_id for delivery in found} == {"w"}


async def test_a_call_that_hangs_is_given_up_long_before_a_long_poll_would_be(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client has to wait 28 s, for long polls; a lease is lost by then."""
    for module in ("queue", "lanes", "replies"):
        monkeypatch.setattr(f"roost.storage.aws.{module}.SQS_ANSWER_SECONDS", 0.2)
    for operation in (
        "SendMessageBatch",
        "ReceiveMessage",
        "ChangeMessageVisibilityBatch",
        "GetQueueAttributes",
    ):
        opened.wire.script(operation, First(asyncio.Event().wait))
    started = asyncio.get_running_loop().time()
    await opened.queue.send([Message("w", 0)])
    [delivery] = await opened.receive_all(1)
    assert await opened.queue.extend([delivery], 60) == [True]
    await opened.queue.backlog()
    assert asyncio.get_running_loop().time() - started < 15
    assert opened.aws.patience.met.counts["TimeoutError"] == 4


async def test_a_call_that_is_denied_is_an_error_with_a_hint(opened: Opened) -> None:
    opened.wire.script("SendMessageBatch", Fail("AccessDenied", 403))
    with pytest.raises(StorageError) as caught:
        await opened.queue.send([Message("w", 0)])
    assert "permission" in caught.value.hint
    assert not isinstance(caught.value, StorageUnavailable)


async def test_the_error_of_a_shared_call_reaches_all_and_the_next_goes_through(opened: Opened) -> None:
    opened.wire.script("SendMessageBatch", Fail("AccessDenied", 403))
    outcomes = await asyncio.gather(
        *(opened.queue.send([Message(name, 0)]) for name in "ab"), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [StorageDenied, StorageDenied]
    await opened.queue.send([Message("c", 0)])
    assert [delivery.work_id for delivery in await opened.receive_all(1)] == ["c"]


# --- receipts ----------------------------------------------------------------


@pytest.mark.parametrize("code", ["ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"])
async def test_a_receipt_that_is_gone_is_no_error(opened: Opened, code: str) -> None:
    await opened.queue.send([Message("w", 0)])
    [delivery] = await opened.receive_all(1)
    failed = {"Successful": [], "Failed": [{"Id": "0", "Code": code, "SenderFault": True}]}
    for operation in ("DeleteMessageBatch", "ChangeMessageVisibilityBatch", "ChangeMessageVisibilityBatch"):
        opened.wire.script(operation, Answer(failed))
    await opened.queue.acknowledge([delivery])
    assert await opened.queue.extend([delivery], 30) == [False]
    await opened.queue.put_back(delivery, 0)


async def test_receipts_of_elsewhere_are_gone(opened: Opened) -> None:
    stray = Delivery("w", 0, Lane.NORMAL, "not a receipt of any queue")
    assert await opened.queue.extend([stray], 30) == [False]
    await opened.queue.acknowledge([stray])
    await opened.queue.put_back(stray, 5)


async def test_one_that_is_gone_does_not_stop_the_others(opened: Opened) -> None:
    await opened.queue.send([Message(name, 0) for name in "ab"])
    a, b = await opened.receive_all(2)
    stray = replace(a, receipt="gone")
    assert await opened.queue.extend([a, stray, b], 30) == [True, False, True]


async def test_a_purged_queue_loses_deliveries_only(opened: Opened) -> None:
    await opened.queue.send([Message("w", 0), Message("v", 0)])
    [one] = (await opened.receive(1))[:1]
    await opened.sqs.purge_queue(QueueUrl=await opened.url(opened.aws.names.queue(Lane.NORMAL)))
    await opened.queue.acknowledge([one])
    assert await opened.receive() == []
    assert await opened.queue.backlog() == 0


async def test_a_visibility_beyond_twelve_hours_is_shortened(opened: Opened) -> None:
    """SQS API reference, "ChangeMessageVisibility": 0 to 43,200 seconds."""
    await opened.queue.send([Message("w", 0)])
    [delivery] = await opened.receive_all(1)
    with suppress(StorageError):  # moto counts from the receive, as AWS does, but fails the whole call
        await opened.queue.extend([delivery], 90_000)
    _, arguments = opened.wire.calls[-1]
    assert arguments["Entries"][0]["VisibilityTimeout"] == 43_200


# --- receiving ---------------------------------------------------------------


async def test_a_receiver_that_goes_away_swallows_nothing(opened: Opened) -> None:
    waiting = asyncio.create_task(opened.receive(wait_seconds=10))
    await asyncio.sleep(0.2)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await opened.queue.send([Message(f"w{number}", 0) for number in range(3)])
    other = AwsQueue(opened.aws)
    try:
        found: set[str] = set()
        async with asyncio.timeout(15):  # far below the visibility timeout of 30 s
            while len(found) < 3:
                got = await other.receive(10, visibility_seconds=30, wait_seconds=1, lanes=LANES)
                found |= {delivery.work_id for delivery in got}
    finally:
        await other.close()


async def test_more_than_was_asked_for_is_given_back(opened: Opened) -> None:
    polling = asyncio.create_task(opened.receive(10, wait_seconds=5))
    await asyncio.sleep(0.2)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    waiting = asyncio.create_task(opened.receive(1, wait_seconds=5))
    await opened.queue.send([Message(f"w{number}", 0) for number in range(4)])
    first = await waiting
    assert len(first) == 1
    rest = await opened.receive_all(3)
    assert len({delivery.work_id for delivery in [*first, *rest]}) == 4


async def test_what_can_t_be_given_back_takes_nothing_with_it(opened: Opened) -> None:
    """What was asked for would have been out of sight for a lease, with nobody at work on it."""
    polling = asyncio.create_task(opened.receive(10, wait_seconds=5))
    await asyncio.sleep(0.2)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    opened.wire.script("ChangeMessageVisibilityBatch", Fail("AccessDenied", 403))
    waiting = asyncio.create_task(opened.receive(1, wait_seconds=5))
    await opened.queue.send([Message("a", 0), Message("b", 0)])
    assert len(await waiting) == 1


async def test_dead_letters_are_looked_for_on_all_servers(opened: Opened) -> None:
    await opened.queue.dead_letters(10)
    assert opened.wire.calls[-1][1]["WaitTimeSeconds"] > 0


async def test_dead_letters_that_come_again_meanwhile_end_the_look(opened: Opened) -> None:
    """Of thousands the first are visible again before the last are received."""
    body = json.dumps({"v": 1, "work": "w", "cause": 0})
    again = Answer({"Messages": [{"MessageId": "m", "ReceiptHandle": "r", "Body": body}]})
    opened.wire.script("ReceiveMessage", *[again] * 9)
    assert [letter.work_id for letter in await opened.queue.dead_letters(100)] == ["w"]
    assert opened.wire.taken()["ReceiveMessage"] == 2


# --- what is not ours --------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "hello",
        "[]",
        "{}",
        json.dumps({"v": 99, "work": "w", "cause": 0}),
        json.dumps({"v": 1, "work": "not an id!", "cause": 0}),
        json.dumps({"v": 1, "work": "w", "cause": "x"}),
        json.dumps({"v": 1, "work": None, "cause": 0}),
        "[" * 9999,
    ],
    ids=["text", "list", "empty", "version", "id", "cause", "null", "deep"],
)
async def test_a_foreign_body_is_reported_once_and_hides_nothing(
    opened: Opened, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    await opened.raw(body)
    await opened.queue.send([Message("ours", 0)])
    with caplog.at_level(logging.WARNING, "roost.queue"):
        assert [delivery.work_id for delivery in await opened.receive_all(1)] == ["ours"]
        for _ in range(3):
            opened.standin.advance(31)
            await opened.receive()
    assert caplog.text.count("is not one of Roost's") == 1
    assert opened.aws.names.dead_letters in caplog.text


async def test_a_foreign_body_ends_in_the_dead_letter_queue_by_redrive(opened: Opened) -> None:
    await opened.raw("hello", Lane.LOW)
    for _ in range(definition()["queues"]["max_receive_count"] + 1):
        assert await opened.receive(lanes=[Lane.LOW]) == []
        opened.standin.advance(31)
    assert await opened.receive(lanes=[Lane.LOW]) == []
    assert await opened.dead() == ["hello"]


async def test_what_is_rejected_goes_to_the_dead_letter_queue_with_the_reason(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    await opened.queue.send([Message("team/w", 7)])
    [delivery] = await opened.receive_all(1)
    await opened.queue.reject(delivery, "unknown work id")
    [body] = await opened.dead()
    told = {"v": 1, "work": "team/w", "cause": 7, "lane": "normal", "reason": "unknown work id"}
    assert json.loads(body) == told
    assert "team/w" in caplog.text
    opened.standin.advance(60)
    assert await opened.receive() == []
