"""What Lambda does around a function: containers, time limits, and the event source of a queue."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from roost.models import Lane
from roost.storage.aws.clients import Clients
from roost.storage.aws.names import Names
from tests.hosting.shapes import sqs_record

ROOT = Path(__file__).parents[2]
_INIT_SECONDS = 60.0  # on a loaded machine; 1 to 2 s else


class FunctionDied(Exception):
    """The process ended, or took longer than it may and was ended."""


class Container:
    """A process with a function in it; invoked again and again, as a warm one is."""

    def __init__(self, process: asyncio.subprocess.Process, init: dict[str, Any]) -> None:
        self.init = init
        self._process = process

    @classmethod
    async def start(cls, module: str, environ: Mapping[str, str]) -> Container:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.hosting.function",
            module,
            cwd=ROOT,
            env=environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        made = cls(process, {})
        made.init = await made._read(_INIT_SECONDS)
        return made

    async def invoke(self, event: dict[str, Any], *, seconds: float) -> dict[str, Any]:
        """One invocation.

        Raises:
            FunctionDied: no reply came within `seconds`.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"event": event, "seconds": seconds}).encode() + b"\n")
        return await self._read(seconds)

    async def _read(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            await self.kill()
            raise FunctionDied
        found: dict[str, Any] = json.loads(line)
        return found

    async def kill(self) -> None:
        """End it with signal 9; idempotent."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._process._transport.close()  # type: ignore[attr-defined]  # else it warns at the loop's end


@asynccontextmanager
async def container(module: str, environ: Mapping[str, str]) -> AsyncIterator[Container]:
    made = await Container.start(module, environ)
    try:
        yield made
    finally:
        await made.kill()


class EventSource:
    """Polls the queues of a stack for a function, and deletes what it did not refuse.

    Args:
        visibility_seconds: of the queues.
    """

    def __init__(self, clients: Clients, names: Names, *, visibility_seconds: int) -> None:
        self._clients = clients
        self._names = names
        self._visibility_seconds = visibility_seconds

    async def batch(self, lane: Lane = Lane.NORMAL) -> dict[str, Any]:
        """The event of what is visible now; no records where there is nothing."""
        sqs = await self._clients.get("sqs")
        url = (await sqs.get_queue_url(QueueName=self._names.queue(lane)))["QueueUrl"]
        answer = await sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=self._visibility_seconds,
            WaitTimeSeconds=0,
            AttributeNames=["All"],
        )
        records = [
            sqs_record(
                message["Body"],
                receipt=message["ReceiptHandle"],
                lane=lane,
                received_count=int(message["Attributes"]["ApproximateReceiveCount"]),
            )
            for message in answer.get("Messages", [])
        ]
        return {"Records": records}

    async def delete(self, event: dict[str, Any], reply: dict[str, Any], lane: Lane = Lane.NORMAL) -> None:
        """Delete what a reply does not name (`ReportBatchItemFailures`)."""
        refused = {failure["itemIdentifier"] for failure in reply["batchItemFailures"]}
        known = {record["messageId"] for record in event["Records"]}
        assert refused <= known, "Lambda takes an unknown id for a failure of the whole batch"
        sqs = await self._clients.get("sqs")
        url = (await sqs.get_queue_url(QueueName=self._names.queue(lane)))["QueueUrl"]
        for record in event["Records"]:
            if record["messageId"] not in refused:
                await sqs.delete_message(QueueUrl=url, ReceiptHandle=record["receiptHandle"])

    async def drive(self, function: Container, *, seconds: float) -> int:
        """One batch through the function; how many records it had.

        Raises:
            FunctionDied: it did. Nothing is deleted then.
        """
        event = await self.batch()
        if event["Records"]:
            answer = await function.invoke(event, seconds=seconds)
            await self.delete(event, answer["reply"])
        return len(event["Records"])
