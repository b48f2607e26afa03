"""Receiving from the lanes of a stack: long polls that outlive their callers.

Lanes are looked at in the order given. While all are empty, each has one long poll under
way. A poll that is begun is never given up for another: SQS may hand a message to a poll
whose caller has gone. What arrives for nobody is made visible again.

After some long polls in a row that brought nothing, a lane rests for a moment between two of
them, which takes an idle poller below 0.05 USD a month. A message that comes just then waits
for the rest to end: half a second in one case of 21, 1.5 seconds at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from roost.errors import InputError, StorageError
from roost.models import Lane
from roost.storage.aws.clients import SQS_ANSWER_SECONDS, SQS_WAIT_MAX_SECONDS, Aws
from roost.storage.aws.faults import storage_errors
from roost.storage.aws.messages import delivery_of
from roost.storage.ports import DELIVERY_BATCH_MAX, Delivery

log = logging.getLogger("roost.queue")

_LOOK_SECONDS = 0.05
_FOREIGN_SEEN_MAX = 1000
EMPTY_POLLS = 3  # long ones in a row, of one lane; then it rests between two
REST_SECONDS = 1.0  # mean


class Lanes:
    """Receives deliveries.

    Args:
        url: gives the URL of a lane's queue.
        give_back: makes deliveries visible again.
    """

    def __init__(
        self,
        aws: Aws,
        url: Callable[[Lane], Awaitable[str]],
        give_back: Callable[[Sequence[Delivery]], Awaitable[None]],
    ) -> None:
        self._aws = aws
        self._url = url
        self._give_back = give_back
        self._polls: dict[Lane, asyncio.Task[list[Delivery]]] = {}
        self._foreign: deque[str] = deque(maxlen=_FOREIGN_SEEN_MAX)
        self._keepers: set[asyncio.Task[None]] = set()
        self._receivers = 0  # that are waiting now
        self._is_idle = False
        self._empty_polls: dict[Lane, int] = {}

    async def receive(
        self, limit: int, *, visibility_seconds: int, wait_seconds: float, lanes: Sequence[Lane]
    ) -> Sequence[Delivery]:
        """See `ports.WorkQueue.receive`."""
        self._receivers += 1
        try:
            end = self._aws.clock.monotonic() + wait_seconds
            found = await self._take(limit, lanes)
            if not found and not (wait_seconds > 0 and (self._is_idle or self._polls_others(lanes))):
                found = await self._look(limit, visibility_seconds, lanes)
            while not found and (left := end - self._aws.clock.monotonic()) > 0:
                for lane in lanes:
                    if lane not in self._polls:
                        seconds = min(SQS_WAIT_MAX_SECONDS, max(1, round(wait_seconds)))  # may outlive it
                        self._begin(lane, limit, visibility_seconds, seconds)
                polls = [self._polls[lane] for lane in lanes]
                await asyncio.wait(polls, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                found = await self._take(limit, lanes)
            self._is_idle = not found  # then the next call begins with the long polls
            return found
        finally:
            self._receivers -= 1

    def _polls_others(self, lanes: Sequence[Lane]) -> bool:
        """Whether all lanes but one have a long poll under way: then one more beats a look and a poll."""
        return len(lanes) > 1 and sum(lane not in self._polls for lane in lanes) <= 1

    async def _look(self, limit: int, visibility_seconds: int, lanes: Sequence[Lane]) -> list[Delivery]:
        """What is there now in the first lane that has anything."""
        for lane in lanes:
            if lane not in self._polls:
                await asyncio.wait([self._begin(lane, limit, visibility_seconds, 0)])
                if found := await self._take(limit, [lane]):
                    return found
        return []

    def _begin(
        self, lane: Lane, limit: int, visibility_seconds: int, wait_seconds: int
    ) -> asyncio.Task[list[Delivery]]:
        """Begin a poll, whose result the next `_take` finds, or is given back."""
        task = asyncio.create_task(self._poll(lane, limit, visibility_seconds, wait_seconds))
        self._polls[lane] = task
        keeper = asyncio.create_task(self._keep(lane, task))
        self._keepers.add(keeper)
        keeper.add_done_callback(self._keepers.discard)
        return task

    async def _keep(self, lane: Lane, task: asyncio.Task[list[Delivery]]) -> None:
        """Give back what a poll brought, if nobody is there to take it."""
        await asyncio.wait([task])
        while self._receivers and self._polls.get(lane) is task:
            await self._aws.clock.sleep(_LOOK_SECONDS)  # one that waits for other lanes
        if self._polls.get(lane) is task:
            del self._polls[lane]
            with suppress(StorageError):  # the visibility timeout must do
                await self._give_back(_result(task))

    async def _take(self, limit: int, lanes: Sequence[Lane]) -> list[Delivery]:
        """What finished polls brought, up to `limit`; the rest is given back.

        Raises:
            StorageError: a poll failed, and none brought anything.
        """
        found: list[Delivery] = []
        failed: BaseException | None = None
        for lane in lanes:
            task = self._polls.get(lane)
            if task is not None and task.done():
                del self._polls[lane]
                failed = task.exception() or failed
                found += _result(task)
        if not found and failed is not None:
            raise failed
        if len(found) > limit:
            with suppress(StorageError):  # the visibility timeout must do; the others are not lost by it
                await self._give_back(found[limit:])
        return found[:limit]

    async def _poll(
        self, lane: Lane, limit: int, visibility_seconds: int, wait_seconds: int
    ) -> list[Delivery]:
        if self._empty_polls.get(lane, 0) >= EMPTY_POLLS:
            await self._aws.clock.sleep(self._aws.ids.uniform(0.5, 1.5) * REST_SECONDS)
        sqs = await self._aws.clients.get("sqs")
        url = await self._url(lane)
        what = f"ReceiveMessage from {self._aws.names.queue(lane)}"
        with storage_errors(what):
            answer = await self._aws.patience.call(
                what,
                lambda: sqs.receive_message(
                    QueueUrl=url,
                    MaxNumberOfMessages=min(limit, DELIVERY_BATCH_MAX),
                    VisibilityTimeout=visibility_seconds,
                    WaitTimeSeconds=wait_seconds,
                    MessageSystemAttributeNames=["ApproximateReceiveCount"],
                ),
                within_seconds=wait_seconds + SQS_ANSWER_SECONDS,
            )
        messages = answer.get("Messages", [])
        if messages:
            self._empty_polls.clear()
        elif wait_seconds == SQS_WAIT_MAX_SECONDS:
            self._empty_polls[lane] = self._empty_polls.get(lane, 0) + 1
        deliveries = [self._delivery(message, lane) for message in messages]
        return [delivery for delivery in deliveries if delivery is not None]

    def _delivery(self, message: dict[str, Any], lane: Lane) -> Delivery | None:
        """The delivery of a message; None if it is not one of ours."""
        count = int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))
        try:
            return delivery_of(message["Body"], lane, receipt=message["ReceiptHandle"], received_count=count)
        except InputError as error:
            self._report(message, lane, error)
            return None

    def _report(self, message: dict[str, Any], lane: Lane, error: InputError) -> None:
        """Say once of a message that it is not ours. It comes again until redrive takes it."""
        message_id = str(message.get("MessageId"))
        self._aws.patience.met("foreign_message")
        if message_id in self._foreign:
            return
        self._foreign.append(message_id)
        log.warning(
            "message %s in %s is not one of Roost's (%s); it goes to %s by redrive",
            message_id,
            self._aws.names.queue(lane),
            error,
            self._aws.names.dead_letters,
            extra={"event": "message.foreign", "message_id": message_id},
        )

    async def close(self) -> None:
        """End the polls, and give back what they brought."""
        polls, self._polls = self._polls, {}
        for task in [*polls.values(), *self._keepers]:
            task.cancel()
        await asyncio.gather(*polls.values(), *self._keepers, return_exceptions=True)
        with suppress(StorageError):
            await self._give_back([delivery for task in polls.values() for delivery in _result(task)])


def _result(task: asyncio.Task[list[Delivery]]) -> list[Delivery]:
    return [] if task.cancelled() or task.exception() is not None else task.result()
