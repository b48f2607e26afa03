"""A load target in the place of DynamoDB and SQS: `python -m tests.bench.load_target PORT LATENCY_MS`.

It keeps what a journal needs (a key is taken once, the newest entry of a work item, the item
that stands) and a queue, and answers each call after a latency. It is no stand-in: it knows
only the calls that work makes on its way, checks no signature, and forgets visibility timeouts.
`GET /calls` gives how often each operation was called, and the CPU seconds it took in all.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable
from contextlib import suppress
from functools import lru_cache
from itertools import count
from typing import Any

import msgspec

Document = dict[str, Any]

_CONDITION_FAILED = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"


class Refused(Exception):
    """A call that fails with an error of DynamoDB."""

    def __init__(self, kind: str, **members: Any) -> None:
        super().__init__(kind)
        self.document = {"__type": kind, "message": kind, **members}


class Tables:
    """What the tables hold: journals by work item and position, rows by work item."""

    def __init__(self) -> None:
        self._journals: dict[str, dict[int, Document]] = defaultdict(dict)
        self._rows: dict[tuple[str, str], Document] = {}

    def answer(self, operation: str, request: Document) -> Document:
        return getattr(self, f"_{operation}")(request)  # type: ignore[no-any-return]

    def _insert(self, item: Document) -> Document | None:
        """The item that stands, if the key is taken."""
        journal, position = self._journals[item["work"]["S"]], int(item["position"]["N"])
        return journal.setdefault(position, item) if position in journal else journal.update({position: item})

    def _PutItem(self, request: Document) -> Document:
        item = request["Item"]
        if "position" in item and "entry" in item:
            if (standing := self._insert(item)) is not None:
                raise Refused(_CONDITION_FAILED, Item=standing)
        else:
            self._rows[request["TableName"], item["work"]["S"]] = item
        return {}

    def _UpdateItem(self, request: Document) -> Document:
        return {}

    def _GetItem(self, request: Document) -> Document:
        found = self._rows.get((request["TableName"], request["Key"]["work"]["S"]))
        return {"ConsumedCapacity": {}, **({} if found is None else {"Item": found})}

    def _TransactWriteItems(self, request: Document) -> Document:
        for action in request["TransactItems"]:
            self._PutItem(action["Put"])
        return {}

    def _BatchExecuteStatement(self, request: Document) -> Document:
        responses: list[Document] = []
        for one in request["Statements"]:
            item = dict(zip(_inserted(one["Statement"]), one["Parameters"], strict=True))
            standing = self._insert(item)
            error = {"Code": "DuplicateItem", "Item": standing}
            responses.append({} if standing is None else {"Error": error})
        return {"Responses": responses}

    def _Query(self, request: Document) -> Document:
        values = request["ExpressionAttributeValues"]
        if ":work" not in values:  # due rows, marks: none
            return {"Items": [], "Count": 0}
        journal, at = self._journals[values[":work"]["S"]], int(values[":position"]["N"])
        if "#position = :position" in request["KeyConditionExpression"]:
            items = [journal[at]] if at in journal else []
        elif request["ScanIndexForward"]:
            items = [
                journal[position]
                for position in range(at + 1, at + 1 + request["Limit"])
                if position in journal
            ]
        else:
            items = [journal[len(journal) - 1]] if journal else []
        return {"Items": items, "Count": len(items)}


@lru_cache
def _inserted(statement: str) -> list[str]:
    """The attributes that an INSERT names."""
    return [part.partition("'")[0] for part in statement.partition("{'")[2].split(", '")]


class Queues:
    """Messages by queue."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[str]] = defaultdict(deque)
        self._came: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._numbers = count()

    async def answer(self, operation: str, request: Document) -> Document:
        found: Document = await getattr(self, f"_{operation}")(request)
        return found

    async def _GetQueueUrl(self, request: Document) -> Document:
        return {"QueueUrl": f"http://127.0.0.1/1/{request['QueueName']}"}

    async def _GetQueueAttributes(self, request: Document) -> Document:
        return {"Attributes": {"ApproximateNumberOfMessages": str(len(self._waiting[request["QueueUrl"]]))}}

    async def _SendMessageBatch(self, request: Document) -> Document:
        url = request["QueueUrl"]
        self._waiting[url].extend(entry["MessageBody"] for entry in request["Entries"])
        self._came[url].set()
        return self._all(request)

    async def _ReceiveMessage(self, request: Document) -> Document:
        url, taken = request["QueueUrl"], []
        if not self._waiting[url] and request["WaitTimeSeconds"]:
            self._came[url].clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._came[url].wait(), request["WaitTimeSeconds"])
        while self._waiting[url] and len(taken) < request["MaxNumberOfMessages"]:
            number = str(next(self._numbers))
            taken.append({"MessageId": number, "ReceiptHandle": number, "Body": self._waiting[url].popleft()})
        return {"Messages": taken}

    async def _DeleteMessageBatch(self, request: Document) -> Document:
        return self._all(request)

    async def _ChangeMessageVisibilityBatch(self, request: Document) -> Document:
        return self._all(request)

    def _all(self, request: Document) -> Document:
        return {"Successful": [{"Id": entry["Id"]} for entry in request["Entries"]], "Failed": []}


class Server:
    """Answers HTTP calls of the JSON protocol after a latency; as little as it can for each.

    Attributes:
        calls: by operation.
        latency_seconds: of each call.
    """

    def __init__(self, latency_seconds: float) -> None:
        self.calls: Counter[str] = Counter()
        self.latency_seconds = latency_seconds
        self._tables, self._queues = Tables(), Queues()

    def answer(self, target: str, body: bytes) -> bytes | Awaitable[Document]:
        """The response; of a long poll, what it will say."""
        if not target:
            spent = {"calls": self.calls, "cpu_seconds": time.process_time()}
            return response(200, spent)
        service, _, operation = target.partition(".")
        self.calls[operation] += 1
        request = msgspec.json.decode(body)
        if service == "AmazonSQS":
            return self._queues.answer(operation, request)
        try:
            return response(200, self._tables.answer(operation, request))
        except Refused as refused:
            return response(400, refused.document)


class Connection(asyncio.Protocol):
    """One connection, whose client waits for each answer before it calls again."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen = data = self._seen + data if self._seen else data
        end = data.find(b"\r\n\r\n")
        found = _LENGTH.search(data, 0, end)
        length = int(found[1]) if found else 0
        if end < 0 or len(data) < end + 4 + length:
            return
        self._seen = b""
        target = _TARGET.search(data, 0, end)
        answer = self._server.answer(target[1].decode() if target else "", data[end + 4 :])
        if isinstance(answer, bytes):
            self._loop.call_later(self._server.latency_seconds if target else 0.0, self._write, answer)
        else:
            task = self._loop.create_task(self._later(answer))
            _LATER.add(task)
            task.add_done_callback(_LATER.discard)

    async def _later(self, answer: Awaitable[Document]) -> None:
        await asyncio.sleep(self._server.latency_seconds)
        self._write(response(200, await answer))

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


_LATER: set[asyncio.Task[None]] = set()
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_TARGET = re.compile(rb"(?i)\r\nx-amz-target: *([A-Za-z0-9_.]+)")


def response(status: int, document: Any) -> bytes:
    """An HTTP response that says this."""
    data = msgspec.json.encode(document)
    return b"HTTP/1.1 %d X\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(data),
        data,
    )


async def _main() -> None:
    """Serve until who started it is gone."""
    port, latency_ms = int(sys.argv[1]), float(sys.argv[2])
    server = Server(latency_ms / 1000)
    listening = await asyncio.get_running_loop().create_server(
        lambda: Connection(server), "127.0.0.1", port, backlog=1024
    )
    print("ready", flush=True)
    async with listening:
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)


if __name__ == "__main__":
    asyncio.run(_main())
