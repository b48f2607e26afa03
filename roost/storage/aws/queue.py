"""The work queue port on SQS: a standard queue for each lane, and one for dead letters.

The visibility timeout of a message is the lease. Calls are batched by ten across work
items (`batching.py`); receiving is in `lanes.py`. A receipt that SQS does not know any more
means that the delivery is gone, never that something is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import ceil
from typing import Any

from roost.errors import StorageError, StorageUnavailable
from roost.journal.projection import MESSAGE_DELAY_MAX_SECONDS
from roost.models import Lane
from roost.storage.aws.batching import Batcher
from roost.storage.aws.clients import SQS_ANSWER_SECONDS, Aws
from roost.storage.aws.faults import passes, storage_errors
from roost.storage.aws.lanes import Lanes
from roost.storage.aws.messages import dead_letter_of, message_entry
from roost.storage.aws.replies import ask
from roost.storage.ports import DELIVERY_BATCH_MAX, DeadLetter, Delivery, Message

log = logging.getLogger("roost.queue")

VISIBILITY_MAX_SECONDS = 43_200  # SQS API reference, "ChangeMessageVisibility": 12 hours
_ENTRY_TRIES = 5
_LOOK_SECONDS = 60  # for which a dead letter that was looked at is hidden
# SQS API reference, "DeleteMessage", "ChangeMessageVisibility": errors about a receipt
_GONE = frozenset(
    {
        "ReceiptHandleIsInvalid",
        "MessageNotInflight",
        "InvalidParameterValue",
        "AWS.SimpleQueueService.MessageNotInflight",
        "InvalidParameterValueException",
    }
)


class AwsQueue:
    """`ports.WorkQueue`."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._urls: dict[str, str] = {}
        self._in_hand: dict[str, tuple[Lane, float]] = {}  # receipt -> until when, monotonic
        self._sends = Batcher(lambda url, entries: self._batch("send_message_batch", url, entries))
        self._deletes = Batcher(
            lambda url, entries: self._batch("delete_message_batch", url, entries), self._has_in_hand
        )
        self._changes = Batcher(
            lambda url, entries: self._batch("change_message_visibility_batch", url, entries)
        )
        self._lanes = Lanes(aws, self._lane_url, self._give_back)

    async def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if not 0 <= message.delay_seconds <= MESSAGE_DELAY_MAX_SECONDS:
                raise StorageError(f"a message can't be delayed by {message.delay_seconds} s")
        sent = await asyncio.gather(
            *[
                self._sends.submit(await self._lane_url(message.lane), message_entry(message))
                for message in messages
            ]
        )
        if not all(sent):
            raise StorageError("SQS refused a message as malformed")

    async def receive(
        self, limit: int, *, visibility_seconds: float, wait_seconds: float, lanes: Sequence[Lane]
    ) -> Sequence[Delivery]:
        received = await self._lanes.receive(
            limit,
            visibility_seconds=_whole(visibility_seconds),
            wait_seconds=wait_seconds,
            lanes=lanes,
        )
        self._hold(received, visibility_seconds)
        return received

    def _hold(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Remember what is in hand; what nobody gives back is forgotten when its time is over."""
        now = self._aws.clock.monotonic()
        if any(until <= now for _, until in self._in_hand.values()):
            self._in_hand = {receipt: held for receipt, held in self._in_hand.items() if held[1] > now}
        self._in_hand |= {one.receipt: (one.lane, now + seconds) for one in deliveries}

    def _has_in_hand(self, url: str) -> bool:
        """Whether more deliveries of a queue are in hand, which may be acknowledged in a moment."""
        return any(self._urls.get(self._aws.names.queue(lane)) == url for lane, _ in self._in_hand.values())

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        for one in deliveries:
            self._in_hand.pop(one.receipt, None)
        await asyncio.gather(
            *[
                self._deletes.submit(await self._lane_url(one.lane), {"ReceiptHandle": one.receipt})
                for one in deliveries
            ]
        )

    async def extend(self, deliveries: Sequence[Delivery], visibility_seconds: float) -> Sequence[bool]:
        self._hold([one for one in deliveries if one.receipt in self._in_hand], visibility_seconds)
        return await self._change(deliveries, _whole(visibility_seconds))

    async def put_back(self, delivery: Delivery, delay_seconds: float) -> None:
        self._in_hand.pop(delivery.receipt, None)
        await self._change([delivery], _whole(delay_seconds) if delay_seconds > 0 else 0)

    async def reject(self, delivery: Delivery, reason: str) -> None:
        """Send it to the dead-letter queue, then delete it; a crash in between leaves both."""
        log.warning(
            "a delivery of %s is not for us: %s; it goes to %s",
            delivery.work_id,
            reason,
            self._aws.names.dead_letters,
            extra={"event": "delivery.rejected", "work_id": delivery.work_id},
        )
        message = Message(delivery.work_id, delivery.cause, delivery.lane)
        entry = message_entry(message, reason=reason, lane=delivery.lane.value)
        await self._sends.submit(await self._url(self._aws.names.dead_letters), entry)
        await self.acknowledge([delivery])

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        """See `ports.WorkQueue.dead_letters`. Received, so hidden for `_LOOK_SECONDS`.

        By long polls: a short one asks some of the servers only, and finds nothing where a few
        messages lie on others (SQS Developer Guide, "Amazon SQS short and long polling").
        """
        sqs = await self._aws.clients.get("sqs")
        url = await self._url(self._aws.names.dead_letters)
        found: dict[str, DeadLetter] = {}
        while (left := limit - len(found)) > 0:
            call = partial(
                sqs.receive_message,
                QueueUrl=url,
                MaxNumberOfMessages=min(DELIVERY_BATCH_MAX, left),
                VisibilityTimeout=_LOOK_SECONDS,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["DeadLetterQueueSourceArn"],
            )
            answer = await self._call("ReceiveMessage of dead letters", call)
            found |= {message["MessageId"]: dead_letter_of(message) for message in answer.get("Messages", [])}
            if len(found) <= limit - left:  # none, or those that were hidden are coming again
                break
        return list(found.values())

    async def end_dead_letter(self, letter: DeadLetter, *, is_sent_again: bool) -> None:
        """Send it, then delete it; a crash in between leaves both."""
        if is_sent_again and letter.work_id:
            await self.send([Message(letter.work_id, letter.cause, letter.lane)])
        url = await self._url(self._aws.names.dead_letters)
        await self._deletes.submit(url, {"ReceiptHandle": letter.receipt})

    async def backlog(self) -> int:
        async def waiting(lane: Lane) -> int:
            url = await self._lane_url(lane)
            wanted = "ApproximateNumberOfMessages"
            answer = await ask(
                self._aws, "sqs", "get_queue_attributes", "Attributes", QueueUrl=url, AttributeNames=[wanted]
            )
            return int(answer["Attributes"][wanted])

        return sum(await asyncio.gather(*map(waiting, Lane)))

    async def close(self) -> None:
        """Stop receiving, and wait for calls that are under way."""
        await self._lanes.close()
        for batcher in (self._sends, self._deletes, self._changes):
            await batcher.close()

    async def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Make messages visible again that nobody took."""
        await self._change(deliveries, 0)

    async def _change(self, deliveries: Sequence[Delivery], seconds: int) -> Sequence[bool]:
        return await asyncio.gather(
            *[
                self._changes.submit(
                    await self._lane_url(one.lane),
                    {"ReceiptHandle": one.receipt, "VisibilityTimeout": seconds},
                )
                for one in deliveries
            ]
        )

    async def _lane_url(self, lane: Lane) -> str:
        return await self._url(self._aws.names.queue(lane))

    async def _url(self, name: str) -> str:
        """The URL of a queue; asked for once."""
        if name not in self._urls:
            answer = await ask(self._aws, "sqs", "get_queue_url", "QueueUrl", QueueName=name)
            self._urls[name] = answer["QueueUrl"]
        return self._urls[name]

    async def _call(self, what: str, call: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """A call that waits for nothing; one that hangs must not hold up those that come after it.

        Raises:
            StorageError: it failed.
        """
        with storage_errors(what):
            return await self._aws.patience.call(what, call, within_seconds=SQS_ANSWER_SECONDS)

    async def _batch(self, operation: str, url: str, entries: Sequence[dict[str, Any]]) -> Sequence[bool]:
        """One batch call; what failed for a passing reason is tried again.

        Returns:
            For each whether it was done; False: the delivery is gone, or the entry is refused.

        Raises:
            StorageError: the call failed.
        """
        sqs = await self._aws.clients.get("sqs")
        done: dict[int, bool] = {}
        left = dict(enumerate(entries))
        for _ in range(_ENTRY_TRIES):
            listed = [{"Id": str(number), **entry} for number, entry in left.items()]
            call = partial(getattr(sqs, operation), QueueUrl=url, Entries=listed)
            answer = await self._call(operation, call)
            for success in answer.get("Successful", []):
                done[int(success["Id"])] = True
            for failure in answer.get("Failed", []):
                code = str(failure.get("Code", ""))
                # Throttling of one entry, by SQS or by KMS, counts as its sender's fault, and passes.
                if code in _GONE or (failure.get("SenderFault") and not passes(code)):
                    done[int(failure["Id"])] = False
            left = {number: entry for number, entry in left.items() if number not in done}
            if not left:
                return [done[number] for number in range(len(entries))]
            await self._aws.clock.sleep(self._aws.ids.uniform(0.02, 0.2))
        raise StorageUnavailable(f"{operation}: {len(left)} entries keep failing")


def _whole(seconds: float) -> int:
    """Seconds as SQS takes them: whole, at least one."""
    return min(max(1, ceil(seconds)), VISIBILITY_MAX_SECONDS)
